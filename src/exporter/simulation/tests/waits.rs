//! The time of the next attempt, and the end of attempts.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::exporter::simulation::server::{Reaction, Server};
use crate::exporter::simulation::{Plan, Simulation};

/// A connection and a response take a millisecond each.
const ROUND_TRIP_MS: u64 = 2;

fn always(status: u16) -> Server {
    Server::new(move |_| Reaction::status(status))
}

/// Returns a server that responds once with these headers, then accepts everything.
fn once(status: u16, headers: &'static str) -> Server {
    let mut first = Some(Reaction::with(status, headers, b""));
    Server::new(move |_| first.take().unwrap_or(Reaction::status(200)))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn spans_reach_a_healthy_server() {
    let mut simulation = Simulation::new(1, [Plan::new([always(200)])]);
    simulation.record(100, 300);
    assert!(simulation.settle(seconds(1)));
    assert_eq!(simulation.outcomes(0), (100, 0, 0));
    simulation.check_end();
}

#[test]
fn a_success_is_counted_with_its_time_and_the_ages_of_its_spans() {
    let mut simulation = Simulation::new(1, [Plan::new([always(200)])]);
    simulation.run_ms(1000);
    let recorded_at = simulation.unix_nanos();
    simulation.record(5, 100);
    assert_eq!(simulation.stats.last_success_time, 0);
    assert!(simulation.settle(seconds(1)));
    let age = ROUND_TRIP_MS * 1_000_000;
    assert_eq!(simulation.stats.last_success_time, recorded_at + age);
    let ages = &simulation.stats.delivery;
    assert_eq!(ages.count(), 5);
    // Rounded up by the histogram.
    let rounded = ages.min().unwrap().as_micros();
    assert!((1990..=2020).contains(&rounded), "{rounded}");
}

#[test]
fn spans_that_a_partial_success_rejects_are_not_delivered() {
    // Two rejected spans, with the message "no".
    let server = Server::new(|_| Reaction::with(200, "", b"\n\x06\x08\x02\x12\x02no"));
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    simulation.record(10, 100);
    assert!(simulation.settle(seconds(1)));
    assert_eq!(simulation.outcomes(0), (8, 2, 0));
    // A request has no more spans to reject.
    simulation.record(1, 100);
    assert!(simulation.settle(seconds(1)));
    assert_eq!(simulation.outcomes(0), (8, 3, 0));
    simulation.check_end();
}

#[test]
fn waits_after_failures_are_random_below_a_limit_that_doubles() {
    let mut first_waits = BTreeSet::new();
    for seed in 0..20 {
        let mut simulation = Simulation::new(seed, [Plan::new([always(503)])]);
        simulation.record(1, 100);
        simulation.run_ms(60_000);
        let times = simulation.times(0);
        let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (failures, wait) in waits.iter().enumerate() {
            let limit = (100 << failures.min(5)).min(2000);
            assert!(*wait <= limit + ROUND_TRIP_MS + 1, "{failures}: {wait}");
        }
        // A mean wait of a second.
        assert!((30..120).contains(&waits.len()), "{}", waits.len());
        first_waits.insert(waits[0]);
    }
    assert!(first_waits.len() > 10, "{first_waits:?}");
}

#[test]
fn a_success_ends_the_backoff() {
    // Ten failures, a success, a failure, then only successes.
    let mut requests = 0;
    let server = Server::new(move |_| {
        requests += 1;
        Reaction::status(if matches!(requests, 1..=10 | 12) {
            503
        } else {
            200
        })
    });
    let plan = Plan::new([server]).options(|options| options.request_bytes_max = 8000);
    let mut simulation = Simulation::new(2, [plan]);
    simulation.record(1, 100);
    assert!(simulation.settle(seconds(30)));
    simulation.record(1, 100);
    assert!(simulation.settle(seconds(1)));
    let times = simulation.times(0);
    assert!(
        times[12] - times[11] <= 100 + ROUND_TRIP_MS + 1,
        "{times:?}"
    );

    // There can be several requests at a time again.
    let slow = || Reaction::status(200).later(seconds(1));
    simulation.server(0).follow(move |_| slow());
    simulation.record(100, 500);
    simulation.run_ms(100);
    assert_eq!(simulation.server(0).attempts - 11, 4);
}

#[test]
fn a_success_of_another_request_ends_the_wait() {
    let mut requests = 0;
    let server = Server::new(move |_| {
        requests += 1;
        match requests {
            1 => Reaction::status(200).later(Duration::from_millis(30)),
            2 => Reaction::status(503),
            _ => Reaction::status(200),
        }
    });
    let plan = Plan::new([server]).options(|options| {
        options.request_bytes_max = 8000;
        options.connections_max = 2;
        options.retry_initial_ms = 60_000;
        options.retry_max_ms = 60_000;
    });
    let mut simulation = Simulation::new(2, [plan]);
    simulation.record(40, 500);
    assert!(simulation.settle(seconds(1)), "{:?}", simulation.times(0));
}

#[test]
fn a_request_is_given_up_when_its_budget_ends() {
    let plan = Plan::new([always(503)]).options(|options| options.retry_budget_ms = 5000);
    let mut simulation = Simulation::new(1, [plan]);
    simulation.record(10, 100);
    assert!(!simulation.settle(seconds(5)));
    assert!(simulation.settle(seconds(3)));
    assert_eq!(simulation.outcomes(0), (0, 0, 10));
}

#[test]
fn a_success_in_between_does_not_extend_the_budget_of_another_request() {
    // Large requests fail, small ones succeed.
    let server = Server::new(|received| match received.body_bytes {
        0..1000 => Reaction::status(200),
        _ => Reaction::status(503),
    });
    let plan = Plan::new([server]).options(|options| options.retry_budget_ms = 5000);
    let mut simulation = Simulation::new(1, [plan]);
    simulation.record(10, 200);
    simulation.run_ms(10);
    for _ in 0..80 {
        simulation.record(1, 50);
        simulation.run_ms(100);
    }
    let (_, _, dropped) = simulation.outcomes(0);
    assert_eq!(dropped, 10);
}

#[test]
fn the_parts_of_a_request_inherit_its_budget() {
    let mut began = None;
    let server = Server::new(move |received| {
        let age = received.at - *began.get_or_insert(received.at);
        match age < seconds(3) || received.body_bytes <= 6000 {
            true => Reaction::status(503),
            false => Reaction::status(413),
        }
    });
    let plan = Plan::new([server]).options(|options| {
        options.retry_budget_ms = 5000;
        options.retry_max_ms = 200;
    });
    let mut simulation = Simulation::new(1, [plan]);
    simulation.record(30, 500);
    assert!(!simulation.settle(seconds(5)));
    assert!(
        simulation
            .server(0)
            .received
            .iter()
            .any(|r| r.spans.len() < 30)
    );
    assert!(simulation.settle(seconds(2)), "the budget began again");
    assert_eq!(simulation.outcomes(0), (0, 0, 30));
}

#[test]
fn spans_that_were_never_sent_wait_without_a_budget() {
    let plan = Plan::new([always(503)]).options(|options| {
        options.retry_budget_ms = 1000;
        options.request_bytes_max = 6000;
    });
    let mut simulation = Simulation::new(1, [plan]);
    simulation.record(100, 500);
    simulation.run_ms(10_000);
    let (_, _, dropped) = simulation.outcomes(0);
    assert!(dropped < 100, "{dropped}");
}

#[test]
fn the_next_request_comes_when_the_retry_after_has_ended() {
    for (headers, wait_ms) in [
        ("Retry-After: 3\r\n", 3000),
        // The simulation begins at 22:13:20.
        ("Retry-After: Tue, 14 Nov 2023 22:13:24 GMT\r\n", 4000),
    ] {
        for status in [429, 503] {
            let mut simulation = Simulation::new(1, [Plan::new([once(status, headers)])]);
            simulation.record(1, 100);
            simulation.run_ms(1000);
            simulation.expedite();
            assert!(simulation.settle(seconds(5)));
            let times = simulation.times(0);
            let wait = times[1] - times[0];
            let around = wait_ms - 5..=wait_ms + ROUND_TRIP_MS;
            assert!(around.contains(&wait), "{status} {headers}: {wait}");
        }
    }
}

#[test]
fn a_flush_ends_a_backoff() {
    let plan = Plan::new([once(503, "")]).options(|options| {
        options.retry_initial_ms = 60_000;
        options.retry_max_ms = 60_000;
    });
    let mut simulation = Simulation::new(3, [plan]);
    simulation.record(1, 100);
    simulation.run_ms(50);
    assert!(!simulation.is_settled());
    simulation.expedite();
    assert!(simulation.settle(Duration::from_millis(10)));
}

#[test]
fn the_second_rejection_in_a_row_backs_off() {
    let mut simulation = Simulation::new(1, [Plan::new([always(400)])]);
    for _ in 0..100 {
        simulation.record(1, 100);
        simulation.run_ms(100);
    }
    let requests = simulation.times(0).len();
    assert!(requests < 40, "{requests}");
}
