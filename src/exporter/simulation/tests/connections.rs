//! Kept connections, and the requests on them.

use std::time::Duration;

use crate::exporter::simulation::server::{Reaction, Server};
use crate::exporter::simulation::{Plan, Simulation};

/// Returns a simulation with four idle connections.
fn with_four_connections() -> Simulation {
    let slow = || Reaction::status(200).later(Duration::from_millis(100));
    let plan = Plan::new([Server::new(move |_| slow())])
        .options(|options| options.request_bytes_max = 8000);
    let mut simulation = Simulation::new(1, [plan]);
    simulation.record(100, 500);
    assert!(simulation.settle(Duration::from_secs(5)));
    assert_eq!(simulation.server(0).attempts, 4);
    simulation
}

#[test]
fn stale_connections_cost_one_retry_together_and_no_wait() {
    let mut simulation = with_four_connections();
    simulation.server(0).follow(|_| Reaction::status(200));
    simulation.server(0).is_stale = true;
    simulation.record(1, 100);
    assert!(simulation.settle(Duration::from_millis(5)));
    assert_eq!(simulation.stats.retries, 1);
    assert_eq!(simulation.server(0).attempts, 5);
    simulation.check_end();
}

#[test]
fn a_retry_after_a_stale_connection_needs_no_budget() {
    let server = Server::new(|_| Reaction::status(200));
    let plan = Plan::new([server]).options(|options| options.retry_budget_ms = 0);
    let mut simulation = Simulation::new(1, [plan]);
    simulation.record(1, 100);
    simulation.run_ms(10);
    simulation.server(0).is_stale = true;
    simulation.record(1, 100);
    assert!(simulation.settle(Duration::from_millis(5)));
    assert_eq!(simulation.outcomes(0), (2, 0, 0));
}

#[test]
fn connections_that_the_server_closes_while_idle_cost_no_retry() {
    let mut simulation = with_four_connections();
    simulation.server(0).close_idle();
    simulation.run_ms(1);
    simulation.record(1, 100);
    assert!(simulation.settle(Duration::from_secs(1)));
    assert_eq!(simulation.stats.retries, 0);
    assert_eq!(simulation.server(0).attempts, 5);
}

#[test]
fn idle_connections_are_closed_after_their_timeout() {
    let mut simulation = with_four_connections();
    simulation.run_ms(44_000);
    simulation.record(1, 100);
    simulation.run_ms(200);
    assert_eq!(simulation.server(0).attempts, 4);
    simulation.run_ms(46_000);
    simulation.record(1, 100);
    simulation.run_ms(200);
    assert_eq!(simulation.server(0).attempts, 5);
}

#[test]
fn a_permanent_redirect_is_remembered_until_its_target_fails() {
    let mut is_gone = false;
    let server = Server::new(move |received| match &*received.path {
        "/v1/traces" if is_gone => Reaction::status(200),
        "/v1/traces" => Reaction::with(308, "Location: /moved\r\n", b""),
        // The fourth request and those after it.
        _ if received.spans[0] >= 4 => {
            is_gone = true;
            Reaction::status(503)
        }
        _ => Reaction::status(200),
    });
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    for _ in 0..5 {
        simulation.record(1, 100);
        assert!(simulation.settle(Duration::from_secs(1)));
    }
    let server = simulation.server(0);
    let paths: Vec<_> = server.received.iter().map(|r| &*r.path).collect();
    let (own, moved) = ("/v1/traces", "/moved");
    assert_eq!(paths, [own, moved, moved, moved, moved, own, own]);
}

#[test]
fn an_unconfirmed_request_is_sent_again() {
    let mut first = Some(Reaction::Break {
        after: Duration::from_millis(1),
        is_reset: true,
        has_accepted: true,
    });
    let server = Server::new(move |_| first.take().unwrap_or(Reaction::status(200)));
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    simulation.record(10, 100);
    assert!(simulation.settle(Duration::from_secs(1)));
    assert_eq!(simulation.outcomes(0), (10, 0, 0));
    assert!(
        simulation
            .server(0)
            .accepted
            .values()
            .all(|times| *times == 2)
    );
    simulation.check_end();
}
