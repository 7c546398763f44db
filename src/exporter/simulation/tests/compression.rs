//! Bodies that are compressed before they are sent.

use std::time::Duration;

use crate::exporter::simulation::server::{Reaction, Server};
use crate::exporter::simulation::{Plan, Simulation};

fn healthy() -> Server {
    Server::new(|_| Reaction::status(200))
}

#[test]
fn destinations_share_a_body_that_is_compressed_once() {
    let plans = [Plan::new([healthy()]), Plan::new([healthy()])];
    let mut simulation = Simulation::with_compression(plans, healthy());
    for body in 1..=3 {
        simulation.record(5, 100);
        simulation.run_ms(100);
        assert_eq!(simulation.times(0).len() + 1, body);
        assert_eq!(simulation.compress(), 1);
        assert!(simulation.settle(Duration::from_millis(5)));
        assert_eq!(simulation.stats.compressed, body as u64);
    }
    assert_eq!(simulation.outcomes(0), (15, 0, 0));
    assert_eq!(simulation.outcomes(1), (15, 0, 0));
    simulation.check_end();
}

#[test]
fn metrics_that_are_being_compressed_are_not_replaced_by_newer_ones() {
    let mut simulation = Simulation::with_compression([], healthy());
    simulation.run_ms(10_000);
    assert_eq!(simulation.compress(), 1);
    simulation.run_ms(100);
    assert_eq!(simulation.times(0), [10_001]);
    // The third metrics become due while the second are being compressed.
    simulation.run_ms(24_900);
    assert_eq!(simulation.compress(), 1);
    assert_eq!(simulation.times(0), [10_001, 35_000]);
    simulation.run_ms(100);
    assert_eq!(simulation.compress(), 1);
    assert_eq!(simulation.times(0), [10_001, 35_000, 35_100]);
}
