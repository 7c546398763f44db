//! Spans for simulations: recorded into slabs, taken as batches.

use std::sync::Arc;

use crossbeam_channel::unbounded;
use prost::Message;

use crate::buffer::{LaneWriter, Pool, lane};
use crate::config::Settings;
use crate::exporter::deliveries::Deliveries;
use crate::otlp::proto;
use crate::processor::{NewLane, Processor};

/// A recorder and the processor that takes its batches.
pub(super) struct SpanSource {
    pub(super) pool: Arc<Pool>,
    writer: LaneWriter,
    processor: Processor,
    /// The number of the next span.
    next: u64,
}

impl SpanSource {
    pub(super) fn new(settings: &Settings) -> Self {
        let (slabs, bytes) = (settings.slabs, settings.config.slab_bytes);
        let pool = Pool::new(slabs, 1, bytes, settings.spans_per_slab).unwrap();
        let (recorders, arrivals) = unbounded();
        assert!(pool.join());
        let (writer, slabs) = lane(&pool, 0);
        let arrival = NewLane {
            slabs,
            counters: Arc::default(),
        };
        recorders.send(arrival).ok().unwrap();
        Self {
            pool,
            writer,
            processor: Processor::new(arrivals),
            next: 1,
        }
    }

    /// Records a span of about this many bytes. Returns false if there is no slab for it.
    pub(super) fn record(&mut self, bytes: usize, end_time: u64) -> bool {
        let span = proto::Span {
            span_id: self.next.to_be_bytes().to_vec(),
            name: "x".repeat(bytes),
            end_time_unix_nano: end_time,
            ..proto::Span::default()
        };
        // One field of `ScopeSpans`.
        let scope_spans = proto::ScopeSpans {
            spans: vec![span],
            ..proto::ScopeSpans::default()
        };
        let encoded = scope_spans.encode_to_vec();
        if !self.writer.try_write(&encoded) {
            self.writer.seal();
            if !self.writer.open(0) {
                return false;
            }
            self.writer.write(&encoded);
        }
        self.next += 1;
        true
    }

    /// Takes all recorded spans as batches.
    pub(super) fn drain(&mut self, deliveries: &mut Deliveries) {
        deliveries.note_unused(self.processor.reap());
        let unused = (self.processor).drain(|batch, weight| deliveries.push(batch, weight));
        deliveries.note_unused(unused);
    }
}

/// Returns the numbers of the spans in the body of a request.
pub(super) fn numbers(body: &[u8]) -> Vec<u64> {
    let request = proto::ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter();
    let scopes = scopes.flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    spans
        .map(|span| u64::from_be_bytes(span.span_id.try_into().unwrap()))
        .collect()
}
