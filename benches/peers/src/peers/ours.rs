//! This library.

use otlp_collector::span::TraceFlags;
use otlp_collector::{
    Collector, Config, KeyValue, Span, SpanContext, SpanId, SpanKind, SpanRef, TraceId, key, name,
    unix_nanos,
};

use super::{Finished, Peer};
use crate::workload::{
    ADDRESS, CACHED, NAME, PARENT_ID, POSTGRESQL, ROWS, SERVICE, SYSTEM, TRACE_ID, Workload,
    address, cached, rows,
};

pub const NOTES: &str = "otlp-collector: tuned pins the network thread to the first core and gives \
    the buffer room for 400,000 spans.";

pub fn recording(endpoint: &str) -> Box<dyn Peer> {
    Box::new(Recording(start(config(endpoint))))
}

/// The network thread is pinned away from the producing one, and a burst finds more room.
pub fn recording_tuned(endpoint: &str) -> Box<dyn Peer> {
    Box::new(Recording(start(Config {
        network_core: Collector::cores().first().copied(),
        buffer_capacity: 400_000,
        ..config(endpoint)
    })))
}

pub fn open_spans(endpoint: &str) -> Box<dyn Peer> {
    Box::new(OpenSpans(start(config(endpoint))))
}

pub fn collecting(endpoint: &str) -> Box<dyn Peer> {
    Box::new(Collecting(start(config(endpoint))))
}

pub fn config(endpoint: &str) -> Config {
    Config {
        endpoint: endpoint.to_string(),
        service_name: SERVICE.to_string(),
        ..Config::default()
    }
}

pub fn start(config: Config) -> Collector {
    Collector::new(config).expect("a valid configuration")
}

pub fn finish(collector: &Collector) -> Finished {
    match collector.shutdown() {
        Ok(ledger) => Finished {
            lost: Some(ledger.refused.total() + ledger.dropped() + ledger.rejected()),
            complaint: None,
        },
        Err(error) => Finished::of(Err(error.to_string())),
    }
}

const TRACE: TraceId = TraceId::from_bytes(TRACE_ID).unwrap();
const PARENT: SpanId = SpanId::from_bytes(PARENT_ID).unwrap();

pub fn parent() -> SpanContext<'static> {
    SpanContext {
        is_remote: true,
        ..SpanContext::new(TRACE, PARENT)
    }
}

struct Recording(Collector);

impl Peer for Recording {
    fn produce(&self, workload: &mut Workload) {
        let recorder = self.0.recorder().expect("a recorder");
        let address = address();
        workload.run(|number| {
            let start_time = unix_nanos();
            let span = SpanRef {
                parent_span_id: Some(PARENT),
                parent_is_remote: Some(true),
                trace_flags: TraceFlags::SAMPLED,
                kind: SpanKind::Client,
                start_time,
                end_time: unix_nanos(),
                ..SpanRef::new(TRACE, recorder.new_span_id(), name!("SELECT shop.articles"))
            };
            let attributes = (
                (key!("db.system.name"), POSTGRESQL),
                (key!("server.address"), address.as_str()),
                (key!("db.response.returned_rows"), rows(number)),
                (key!("db.cached"), cached(number)),
            );
            // A refusal is counted.
            let _ = recorder.record_with(&span, attributes);
        });
    }

    fn finish(self: Box<Self>) -> Finished {
        finish(&self.0)
    }
}

struct OpenSpans(Collector);

impl Peer for OpenSpans {
    fn produce(&self, workload: &mut Workload) {
        let recorder = self.0.recorder().expect("a recorder");
        let (address, parent) = (address(), parent());
        workload.run(|number| {
            let mut span = recorder
                .span_builder(name!("SELECT shop.articles"))
                .kind(SpanKind::Client)
                .parent(Some(&parent))
                .start();
            span.set_attribute(key!("db.system.name"), POSTGRESQL)
                .set_attribute(key!("server.address"), address.as_str())
                .set_attribute(key!("db.response.returned_rows"), rows(number))
                .set_attribute(key!("db.cached"), cached(number));
            // A refusal is counted.
            span.end();
        });
    }

    fn finish(self: Box<Self>) -> Finished {
        finish(&self.0)
    }
}

struct Collecting(Collector);

impl Peer for Collecting {
    fn produce(&self, workload: &mut Workload) {
        let (address, parent) = (address(), parent());
        workload.run(|number| {
            let mut span = Span::with_parent(&parent, NAME);
            span.kind = SpanKind::Client;
            span.attributes = vec![
                KeyValue::new(SYSTEM, POSTGRESQL),
                KeyValue::new(ADDRESS, address.clone()),
                KeyValue::new(ROWS, rows(number)),
                KeyValue::new(CACHED, cached(number)),
            ];
            // A refusal is counted.
            let _ = self.0.collect(span);
        });
    }

    fn finish(self: Box<Self>) -> Finished {
        finish(&self.0)
    }
}
