//! The metrics' own endpoint.

use std::time::Duration;

use crate::exporter::simulation::server::{Reaction, Server};
use crate::exporter::simulation::{Plan, Simulation};

fn healthy() -> Server {
    Server::new(|_| Reaction::status(200))
}

#[test]
fn metrics_are_sent_at_their_interval_to_a_server_of_their_own() {
    let mut simulation = Simulation::with_metrics([Plan::new([healthy()])], healthy());
    simulation.record(10, 100);
    simulation.run_ms(35_000);
    let times = simulation.times(1);
    assert_eq!(times, [10_001, 20_000, 30_000]);
    assert!(
        simulation
            .server(1)
            .received
            .iter()
            .all(|r| r.path == "/v1/metrics")
    );
    // They are not among the pipeline's requests.
    assert_eq!(simulation.stats.requests, 1);
}

#[test]
fn failed_metrics_are_sent_again_until_newer_ones_replace_them() {
    let mut waits = ["Retry-After: 3\r\n", "Retry-After: 15\r\n"].into_iter();
    let failing = Server::new(move |_| match waits.next() {
        Some(headers) => Reaction::with(503, headers, b""),
        None => Reaction::status(200),
    });
    let mut simulation = Simulation::with_metrics([Plan::new([healthy()])], failing);
    simulation.run_ms(35_000);
    let seconds: Vec<_> = simulation.times(1).iter().map(|ms| ms / 1000).collect();
    // The metrics of the tenth second fail twice. Those of the twentieth replace them.
    assert_eq!(seconds, [10, 13, 28, 30]);
}

#[test]
fn metrics_that_are_rejected_are_not_sent_again() {
    let rejecting = Server::new(|_| Reaction::status(413));
    let mut simulation = Simulation::with_metrics([Plan::new([healthy()])], rejecting);
    simulation.run_ms(19_000);
    assert_eq!(simulation.times(1).len(), 1);
}

#[test]
fn the_last_metrics_are_sent_at_once_and_waited_for_a_second_at_most() {
    for (reaction, ms) in [(Reaction::status(200), 2), (Reaction::Hang, 1000)] {
        let mut simulation = Simulation::with_metrics([], Server::new(move |_| reaction.clone()));
        simulation.run_ms(500);
        simulation.finish_metrics();
        let within = Duration::from_millis(ms);
        assert!(!simulation.are_metrics_finished());
        assert!(simulation.run(within, Simulation::are_metrics_finished));
        assert_eq!(simulation.times(0), [501]);
    }
}
