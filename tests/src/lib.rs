//! Servers, certificates and other helpers that several tests share.

#![allow(
    missing_docs,
    clippy::new_without_default,
    reason = "helpers for these tests alone"
)]

pub mod agent;
pub mod any_script;
pub mod certificates;
pub mod exposition;
pub mod relay;
pub mod script;
pub mod tls_flood;
pub mod tls_server;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, EndpointOptions, SpanId, TraceId};

/// Time after which a wait fails. No test that passes waits this long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Returns the directory of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Returns the default configuration for this receiver.
pub fn config(receiver: &Receiver) -> Config {
    Config {
        endpoint: receiver.endpoint(),
        ..Config::default()
    }
}

/// Returns the default options with the shortest waits between attempts.
pub fn retry_at_once() -> EndpointOptions {
    EndpointOptions {
        retry_initial_ms: 1,
        retry_max_ms: 5,
        ..EndpointOptions::default()
    }
}

/// Returns a trace id that consists of this byte, which is not 0.
pub fn trace_id(byte: u8) -> TraceId {
    TraceId::from_bytes([byte; 16]).unwrap()
}

/// Returns a span id that consists of this byte, which is not 0.
pub fn span_id(byte: u8) -> SpanId {
    SpanId::from_bytes([byte; 8]).unwrap()
}

/// Starts a receiver that keeps all spans, and a collector that sends to it. `change` receives the
/// default configuration.
pub fn start(change: impl FnOnce(&mut Config)) -> (Receiver, Collector) {
    let receiver = Receiver::start().unwrap();
    let mut config = config(&receiver);
    change(&mut config);
    let collector = Collector::new(config).unwrap();
    (receiver, collector)
}

/// An address that refuses connections for as long as this is kept.
pub struct ClosedPort(socket2::Socket);

impl ClosedPort {
    pub fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        // Bound but not listening.
        socket.bind(&address.into()).unwrap();
        Self(socket)
    }

    pub fn endpoint(&self) -> String {
        let address = self.0.local_addr().unwrap().as_socket().unwrap();
        format!("http://{address}")
    }
}
