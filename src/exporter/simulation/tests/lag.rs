//! Destinations that lag, and the spans that are dropped for their sake.

use std::time::Duration;

use crate::exporter::simulation::server::{Reaction, Server};
use crate::exporter::simulation::{Plan, Simulation};

fn always(status: u16) -> Plan {
    Plan::new([Server::new(move |_| Reaction::status(status))])
}

#[test]
fn a_destination_that_lags_loses_its_oldest_spans_and_keeps_the_request_in_flight() {
    let hanging = Plan::new([Server::new(|_| Reaction::Hang)]);
    let hanging = hanging.options(|options| options.request_bytes_max = 6000);
    let mut simulation = Simulation::new(1, [hanging, always(200)]);
    for _ in 0..20 {
        simulation.record(7, 500);
        simulation.run_ms(5);
    }
    let in_flight = simulation.counters.destinations[0].in_flight.get();
    simulation.limit_lag(5);
    let (delivered, _, dropped) = simulation.outcomes(0);
    assert_eq!(delivered, 0);
    // A slab has room for seven of these spans.
    assert!((60..=105).contains(&dropped), "{dropped}");
    let destination = &simulation.counters.destinations[0];
    assert_eq!(destination.in_flight.get(), in_flight);
    assert_eq!(simulation.outcomes(1), (140, 0, 0));
}

#[test]
fn after_a_common_outage_destinations_have_a_second_to_catch_up() {
    let mut simulation = Simulation::new(1, [always(503), always(503)]);
    simulation.record(100, 500);
    simulation.run_ms(5000);
    simulation.limit_lag(0);
    assert_eq!((simulation.outcomes(0).2, simulation.outcomes(1).2), (0, 0));

    simulation.server(0).follow(|_| Reaction::status(200));
    simulation.expedite();
    simulation.run_ms(100);
    assert_eq!(simulation.outcomes(0), (100, 0, 0));
    simulation.limit_lag(0);
    simulation.run_ms(800);
    simulation.limit_lag(0);
    assert_eq!(simulation.outcomes(1), (0, 0, 0));
    // The request in flight, if there is one, cannot be dropped.
    let is_waiting = |s: &Simulation| s.deliveries.waiting_spans(1) > 0;
    simulation.run_ms(300);
    assert!(simulation.run(Duration::from_secs(5), is_waiting));
    simulation.limit_lag(0);
    let (delivered, _, dropped) = simulation.outcomes(1);
    assert!(delivered == 0 && dropped > 0, "{dropped}");
}

#[test]
fn dropping_the_oldest_makes_room_at_the_destination_that_lags_most() {
    let mut simulation = Simulation::new(1, [always(503), always(200)]);
    simulation.record(100, 500);
    simulation.run_ms(100);
    let free = simulation.source.pool.slabs_left();
    while simulation.deliveries.waiting_spans(0) > 0 {
        simulation.drop_oldest();
    }
    assert_eq!(simulation.outcomes(1), (100, 0, 0));
    assert_eq!(simulation.outcomes(0), (0, 0, 100));
    assert!(simulation.source.pool.slabs_left() > free);
    // Nothing is left to be dropped.
    simulation.drop_oldest();
    simulation.check_end();
}
