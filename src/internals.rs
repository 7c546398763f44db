//! Access of benches and tests to single parts of the pipeline. Not part of the API; it changes
//! without notice.

use std::sync::Arc;

use crate::buffer::{self, Batch, Consumer, Pool, Producer};
use crate::collector::Collector;
use crate::config::{Config, Settings};
use crate::exporter::Command;
use crate::exporter::connection::outgoing::Outgoing;
use crate::exporter::http::response_parser::ResponseParser;
use crate::exporter::request::Request;
use crate::otlp::SPILL;
use crate::otlp::encode::EncodeSpan;
use crate::otlp::finished::Finished;
use crate::span::SpanRef;
use crate::span::limits::SpanLimits;

/// Makes the network thread panic once, to test the recovery.
pub fn panic_network_thread(collector: &Collector) {
    collector.command(Command::Panic);
}

/// Encoder of spans into one buffer, each over the previous one.
#[derive(Debug)]
pub struct Encoder {
    room: Vec<u8>,
    limits: SpanLimits,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    #[must_use]
    pub fn new() -> Self {
        Self {
            room: vec![0; (1 << 16) + SPILL],
            limits: SpanLimits::default(),
        }
    }

    /// Encodes a span and returns its length; 0 if it does not fit.
    #[inline(never)]
    pub fn encode(&mut self, span: &SpanRef<'_>) -> usize {
        let span = Finished {
            span,
            tuple: (),
            limits: &self.limits,
        };
        span.encode(&mut self.room).unwrap_or(0)
    }
}

/// Creates a ring like that of a recorder, but of integers.
#[must_use]
pub fn ring(capacity: usize) -> (RingProducer, RingConsumer) {
    let (producer, consumer) = buffer::ring(capacity);
    (RingProducer(producer), RingConsumer(consumer))
}

/// Writing end of a ring of integers.
pub struct RingProducer(Producer<u64>);

impl RingProducer {
    /// Appends an item.
    ///
    /// # Errors
    /// Returns the item if the ring is full.
    pub fn push(&mut self, item: u64) -> Result<(), u64> {
        self.0.push(item)
    }
}

/// Reading end of a ring of integers.
pub struct RingConsumer(Consumer<u64>);

impl RingConsumer {
    pub fn pop(&mut self) -> Option<u64> {
        self.0.pop()
    }
}

/// Builder of the same request, any number of times.
pub struct Merger {
    settings: Settings,
    batches: Vec<Batch>,
}

impl Merger {
    /// Creates a merger of that many batches, each a full slab.
    #[must_use]
    pub fn new(batches: u64) -> Self {
        let settings = Settings::new(&Config::default()).expect("the defaults are valid");
        let pool = Pool::new(batches as usize, 0, settings.config.slab_bytes, 1).expect("memory");
        let batches = (0..batches)
            .map(|_| {
                let (mut writer, mut reader) = Pool::open(&pool).expect("a slab");
                writer.write(&vec![0; pool.room_per_slab()]);
                reader.take().expect("a batch")
            })
            .collect();
        Self { settings, batches }
    }

    /// Builds the request and returns the length of its head and body.
    #[inline(never)]
    pub fn merge(&mut self) -> usize {
        let Settings {
            destinations,
            envelope,
            request_bytes_max,
            ..
        } = &self.settings;
        let endpoint = &destinations[0].endpoints[0];
        let request = Request::merge(0, self.batches.iter(), *request_bytes_max, envelope);
        let body_bytes = request.body_bytes;
        let outgoing = Outgoing::new(Arc::new(request), endpoint.options.compression);
        outgoing.head(&endpoint.target, endpoint).len() + body_bytes
    }
}

/// Parses a response and returns its status; 0 if it is malformed or incomplete.
#[inline(never)]
#[must_use]
pub fn status_of(response: &[u8]) -> u16 {
    let received = ResponseParser::default().receive(response);
    received
        .ok()
        .flatten()
        .map_or(0, |response| response.status)
}
