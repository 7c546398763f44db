//! The size of requests, and their parts.

use std::time::Duration;

use crate::exporter::simulation::server::{Reaction, Received, Server};
use crate::exporter::simulation::{Plan, Simulation};

const LIMIT: usize = 9000;

fn limited(received: &Received) -> Reaction {
    match received.body_bytes > LIMIT {
        true => Reaction::status(413),
        false => Reaction::status(200),
    }
}

/// Records 30 KB every 20 s. Returns the largest request.
fn largest(simulation: &mut Simulation, minutes: u32) -> usize {
    simulation.server(0).received.clear();
    for _ in 0..minutes * 3 {
        simulation.record(60, 500);
        simulation.run_ms(20_000);
    }
    let server = simulation.server(0);
    server.received.iter().map(|r| r.body_bytes).max().unwrap()
}

#[test]
fn a_size_that_was_refused_is_tried_again_after_ten_minutes() {
    let mut simulation = Simulation::new(1, [Plan::new([Server::new(limited)])]);
    assert!(largest(&mut simulation, 1) > LIMIT);
    simulation.server(0).follow(|_| Reaction::status(200));
    assert!(largest(&mut simulation, 8) <= LIMIT);
    assert!(largest(&mut simulation, 5) > 25_000);
    let recorded = 14 * 3 * 60;
    assert_eq!(simulation.outcomes(0), (recorded, 0, 0));
    simulation.check_end();
}

#[test]
fn a_slow_line_gets_smaller_requests_until_it_is_fast_again() {
    let mut server = Server::new(|_| Reaction::status(200));
    // 10 KB a second.
    server.line = Some(500);
    let plan = Plan::new([server]).options(|options| options.request_timeout_ms = 1500);
    let mut simulation = Simulation::new(1, [plan]);
    let slow = largest(&mut simulation, 2);
    assert!(slow < 15_000, "{slow}");
    simulation.server(0).line = None;
    let fast = largest(&mut simulation, 2);
    assert!(fast > 25_000, "{fast}");
    assert!(simulation.settle(Duration::from_secs(1)));
    assert_eq!(simulation.outcomes(0), (4 * 3 * 60, 0, 0));
}

#[test]
fn a_request_that_is_refused_before_it_was_sent_is_split() {
    let mut server = Server::new(|_| Reaction::status(200));
    server.early_limit = Some(LIMIT);
    server.line = Some(2000);
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    simulation.record(60, 500);
    assert!(simulation.settle(Duration::from_secs(10)));
    assert_eq!(simulation.outcomes(0), (60, 0, 0));
    simulation.check_end();
}

#[test]
fn spans_of_the_smallest_request_are_rejected() {
    let server = Server::new(|_| Reaction::status(413));
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    simulation.record(60, 500);
    assert!(simulation.settle(Duration::from_secs(60)));
    assert_eq!(simulation.outcomes(0), (0, 60, 0));
}

#[test]
fn a_request_that_is_throttled_again_and_again_is_split() {
    let server = Server::new(|received| match received.body_bytes > LIMIT {
        true => Reaction::status(429),
        false => Reaction::status(200),
    });
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    simulation.record(60, 500);
    assert!(simulation.settle(Duration::from_secs(60)));
    assert_eq!(simulation.outcomes(0), (60, 0, 0));
}

#[test]
fn an_operation_is_counted_once_although_its_request_was_split() {
    let mut is_first = true;
    let server = Server::new(move |received| {
        if std::mem::take(&mut is_first) {
            return Reaction::status(503);
        }
        limited(received)
    });
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    simulation.record(60, 500);
    assert!(simulation.settle(Duration::from_secs(5)));
    assert!(simulation.times(0).len() > 4);
    let exports = simulation.destination(0).exports;
    let ended: Vec<_> = exports
        .iter()
        .map(|(export, totals)| (export.status, totals.durations.durations.count))
        .collect();
    assert_eq!(ended, [(Some(200), 1)]);
    assert!(exports.values().all(|totals| totals.failed_spans == 0));
}

#[test]
fn an_operation_has_failed_if_a_part_was_rejected() {
    let server = Server::new(|received| match received.spans.contains(&60) {
        true if received.body_bytes <= LIMIT => Reaction::status(400),
        _ => limited(received),
    });
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    simulation.record(60, 500);
    assert!(simulation.settle(Duration::from_secs(5)));
    let (delivered, rejected, _) = simulation.outcomes(0);
    let exports = simulation.destination(0).exports;
    let ended: Vec<_> = exports
        .iter()
        .map(|(export, totals)| (export.status, totals.durations.durations.count))
        .collect();
    assert_eq!(ended, [(Some(400), 1)]);
    assert_eq!(delivered + rejected, 60);
    assert_eq!(exports.values().next().unwrap().failed_spans, rejected);
}
