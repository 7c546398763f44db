//! The times at which more batches could be sent at once, and the number of requests in flight.

use std::time::Duration;

use crate::exporter::simulation::server::{Reaction, Server};
use crate::exporter::simulation::{Plan, Simulation};

#[test]
fn there_is_no_room_while_the_request_in_flight_may_soon_end() {
    let server = Server::new(|_| Reaction::status(200).later(Duration::from_millis(50)));
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    assert!(simulation.has_room());
    simulation.record(1, 100);
    // Connected after a millisecond, slow ten milliseconds later.
    simulation.run_ms(5);
    assert!(!simulation.has_room());
    simulation.run_ms(10);
    assert!(simulation.has_room());
    simulation.run_ms(100);
    assert_eq!(simulation.outcomes(0), (1, 0, 0));
    assert!(simulation.has_room());
}

#[test]
fn there_is_no_room_during_a_wait_even_if_no_request_waits() {
    let server = Server::new(|_| Reaction::with(503, "Retry-After: 5\r\n", b""));
    let plan = Plan::new([server]).options(|options| options.retry_budget_ms = 0);
    let mut simulation = Simulation::new(1, [plan]);
    simulation.record(1, 100);
    simulation.run_ms(1000);
    assert_eq!(simulation.outcomes(0), (0, 0, 1));
    assert!(!simulation.has_room());
    simulation.run_ms(5000);
    assert!(simulation.has_room());
}

#[test]
fn there_is_room_as_long_as_one_destination_has_some() {
    for (status, has_room) in [(None, false), (Some(200), true)] {
        let plans = [None, status].map(|status| {
            let reaction = status.map_or(Reaction::Hang, Reaction::status);
            let server = Server::new(move |_| reaction.clone());
            Plan::new([server]).options(|options| options.connections_max = 1)
        });
        let mut simulation = Simulation::new(1, plans);
        simulation.record(1, 100);
        simulation.run_ms(100);
        assert_eq!(simulation.has_room(), has_room);
    }
}

#[test]
fn after_a_slow_response_requests_are_sent_one_at_a_time() {
    for (seconds, connections) in [(4, 2), (6, 1)] {
        let delay = Duration::from_secs(seconds);
        let server = Server::new(move |_| Reaction::status(200).later(delay));
        let plan = Plan::new([server]).options(|options| {
            options.request_timeout_ms = 10_000;
            options.request_bytes_max = 6000;
            options.connections_max = 2;
        });
        let mut simulation = Simulation::new(1, [plan]);
        simulation.record(1, 100);
        simulation.run_ms(7000);
        assert_eq!(simulation.outcomes(0), (1, 0, 0));
        simulation.record(40, 500);
        simulation.run_ms(1000);
        let server = simulation.server(0);
        assert_eq!(
            (server.attempts, server.received.len()),
            (connections, 1 + connections)
        );
    }
}

#[test]
fn after_a_timeout_requests_are_sent_one_at_a_time() {
    let reactions = [
        Reaction::with(503, "Retry-After: 20\r\n", b"").later(Duration::from_millis(100)),
        // The endpoint works, so that the timeout during the wait is not counted as a failure.
        Reaction::status(400).later(Duration::from_millis(200)),
        Reaction::Hang,
    ];
    let mut reactions = reactions.into_iter();
    let slow = || Reaction::status(200).later(Duration::from_secs(1));
    let server = Server::new(move |_| reactions.next().unwrap_or_else(slow));
    let plan = Plan::new([server]).options(|options| {
        options.request_timeout_ms = 10_000;
        options.request_bytes_max = 6000;
    });
    let mut simulation = Simulation::new(1, [plan]);
    simulation.record(30, 500);
    simulation.run_ms(1000);
    assert_eq!(simulation.times(0).len(), 3);
    simulation.run_ms(19_500);
    assert_eq!(simulation.times(0).len(), 4);
    assert!(simulation.settle(Duration::from_secs(10)));
}
