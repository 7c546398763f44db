//! The choice among the endpoints of a destination.

use std::time::Duration;

use crate::exporter::simulation::server::{Greeting, Reaction, Server};
use crate::exporter::simulation::{Plan, Simulation};

fn healthy() -> Server {
    Server::new(|_| Reaction::status(200))
}

/// Records a span every 100 ms.
fn record_for(simulation: &mut Simulation, seconds: u32) {
    for _ in 0..seconds * 10 {
        simulation.record(1, 100);
        simulation.run_ms(100);
    }
}

#[test]
fn fail_over_goes_back_when_the_wait_of_the_first_endpoint_has_ended() {
    let mut first = Some(Reaction::with(503, "Retry-After: 5\r\n", b""));
    let server = Server::new(move |_| first.take().unwrap_or(Reaction::status(200)));
    let mut simulation = Simulation::new(1, [Plan::new([server, healthy()])]);
    record_for(&mut simulation, 10);
    let (first, second) = (simulation.times(0), simulation.times(1));
    // The span after the wait opens a connection, the next one uses it.
    assert!((5100..=5210).contains(&first[1]), "{first:?}");
    assert!(second[0] < 10 && *second.last().unwrap() < 5110);
    assert_eq!((first.len(), second.len()), (1 + 48, 52));
    assert_eq!(simulation.outcomes(0), (100, 0, 0));
}

#[test]
fn fail_over_tries_a_failing_endpoint_as_often_as_its_backoff_allows() {
    let server = Server::new(|received| match received.spans[0] {
        0..100 => Reaction::status(503),
        _ => Reaction::status(200),
    });
    let mut simulation = Simulation::new(1, [Plan::new([server, healthy()])]);
    record_for(&mut simulation, 20);
    let (first, second) = (simulation.times(0), simulation.times(1));
    let tries = first.iter().filter(|at| **at < 10_000).count();
    assert!((5..60).contains(&tries), "{first:?}");
    // The longest backoff is two seconds.
    assert!(*second.last().unwrap() <= 12_200, "{second:?}");
    assert_eq!(simulation.outcomes(0), (200, 0, 0));
    simulation.check_end();
}

#[test]
fn fail_over_passes_an_endpoint_over_that_has_stalled_for_a_second() {
    let plan = Plan::new([Server::new(|_| Reaction::Hang), healthy()]);
    let mut simulation = Simulation::new(1, [plan]);
    record_for(&mut simulation, 5);
    let (first, second) = (simulation.times(0), simulation.times(1));
    assert_eq!(first.len(), 1);
    assert!((1000..=1110).contains(&second[0]), "{second:?}");
    // The hanging request is sent to the second endpoint after its timeout.
    record_for(&mut simulation, 10);
    assert!(simulation.settle(Duration::from_secs(10)));
    assert_eq!(simulation.outcomes(0), (150, 0, 0));
}

#[test]
fn fail_over_waits_for_the_first_connection_of_an_endpoint_without_failures() {
    let mut slow = healthy();
    slow.greeting = Greeting::Accept(Duration::from_millis(700));
    let mut simulation = Simulation::new(1, [Plan::new([slow, healthy()])]);
    simulation.record(10, 100);
    assert!(simulation.settle(Duration::from_secs(1)));
    assert_eq!(simulation.times(1), []);
}

#[test]
fn an_endpoint_that_refuses_connections_costs_no_delay() {
    let mut closed = healthy();
    closed.greeting = Greeting::Refuse(Duration::ZERO);
    let mut simulation = Simulation::new(1, [Plan::new([closed, healthy()])]);
    simulation.record(10, 100);
    assert!(simulation.settle(Duration::from_millis(10)));
    assert_eq!(simulation.outcomes(0), (10, 0, 0));
}

#[test]
fn round_robin_uses_endpoints_in_turn_and_passes_over_those_that_fail() {
    let servers = || [healthy(), healthy(), healthy()];
    let mut simulation = Simulation::new(1, [Plan::new(servers()).round_robin()]);
    record_for(&mut simulation, 3);
    let counts = [0, 1, 2].map(|server| simulation.times(server).len());
    assert_eq!(counts, [10, 10, 10]);

    (simulation.server(1)).follow(|_| Reaction::with(503, "Retry-After: 60\r\n", b""));
    record_for(&mut simulation, 3);
    let counts = [0, 1, 2].map(|server| simulation.times(server).len());
    assert_eq!((counts[1], counts[0] + counts[2]), (11, 50));
    assert_eq!(simulation.outcomes(0), (60, 0, 0));
}

#[test]
fn a_destination_that_is_down_changes_nothing_for_another() {
    let mut dead = healthy();
    dead.greeting = Greeting::Ignore;
    let mut simulation = Simulation::new(1, [Plan::new([dead]), Plan::new([healthy()])]);
    record_for(&mut simulation, 10);
    assert_eq!(simulation.outcomes(0), (0, 0, 0));
    assert_eq!(simulation.outcomes(1), (100, 0, 0));
    let delays = simulation.times(1);
    assert!(delays.iter().all(|at| at % 100 < 5), "{delays:?}");
}
