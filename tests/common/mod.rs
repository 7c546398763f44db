//! What several tests begin with.

#![allow(dead_code, reason = "each test uses its own part of it")]

pub mod agent;
pub mod certificates;
pub mod relay;
pub mod script;
pub mod tls_server;

use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config};

/// A receiver that keeps all, and a collector that sends to it, with what `change` makes of the
/// default configuration.
pub fn start(change: impl FnOnce(&mut Config)) -> (Receiver, Collector) {
    let receiver = Receiver::start().unwrap();
    let mut config = Config {
        endpoint: receiver.endpoint(),
        ..Config::default()
    };
    change(&mut config);
    let collector = Collector::new(config).unwrap();
    (receiver, collector)
}
