//! Parts of the pipeline for the benches to measure alone: not for use, and changed at will.

use std::collections::VecDeque;

use crate::buffer::{self, Consumer, Pool, Producer};
use crate::collector::Collector;
use crate::config::{Config, Settings, Target};
use crate::error::Error;
use crate::exporter::request::{Queued, Request};
use crate::exporter::response::ResponseParser;
use crate::limits::SpanLimits;
use crate::otlp::SPILL;
use crate::otlp::encode::EncodeSpan;
use crate::otlp::finished::Finished;
use crate::span::SpanRef;

/// A collector that sends the same to several endpoints. They depend on each other so far: one
/// that does not take its share holds up all.
///
/// # Errors
/// As [`Collector::new`].
pub fn fan_out(config: &Config, more_endpoints: &[String]) -> Result<Collector, Error> {
    let mut settings = Settings::new(config)?;
    for endpoint in more_endpoints {
        settings.targets.push(Target::parse(endpoint)?);
    }
    Collector::start(settings)
}

/// Writes one span over the other.
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

    /// How long it is; 0 if it has no room.
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

/// The recorders' ring, of numbers.
#[must_use]
pub fn ring(capacity: usize) -> (RingProducer, RingConsumer) {
    let (producer, consumer) = buffer::ring(capacity);
    (RingProducer(producer), RingConsumer(consumer))
}

#[allow(missing_debug_implementations)]
pub struct RingProducer(Producer<u64>);

impl RingProducer {
    /// # Errors
    /// It is full.
    pub fn push(&mut self, item: u64) -> Result<(), u64> {
        self.0.push(item)
    }
}

#[allow(missing_debug_implementations)]
pub struct RingConsumer(Consumer<u64>);

impl RingConsumer {
    pub fn pop(&mut self) -> Option<u64> {
        self.0.pop()
    }
}

/// Makes the same request again and again.
#[allow(missing_debug_implementations)]
pub struct Merger {
    settings: Settings,
    backlog: VecDeque<Queued>,
}

impl Merger {
    /// Of so many batches, each of a full slab.
    #[must_use]
    pub fn new(batches: u64) -> Self {
        let settings = Settings::new(&Config::default()).expect("the defaults are valid");
        let pool = Pool::new(batches as usize, 0, settings.slab_bytes, 1).expect("memory");
        let backlog = (0..batches)
            .map(|number| {
                let (mut writer, mut reader) = Pool::open(&pool, 0, 0).expect("a slab");
                writer.commit(pool.room_per_slab());
                let batch = reader.take().expect("a batch");
                Queued { number, batch }
            })
            .collect();
        Self { settings, backlog }
    }

    /// How long its body is.
    #[inline(never)]
    pub fn merge(&mut self) -> usize {
        let bytes_max = self.settings.request_bytes_max;
        let Settings {
            targets, envelope, ..
        } = &self.settings;
        let request = Request::merge(&mut self.backlog, bytes_max, &targets[0], envelope);
        let bytes = request.body_bytes;
        for queued in request.batches.into_iter().rev() {
            self.backlog.push_front(queued);
        }
        bytes
    }
}

/// The status of a response; 0 if it is none.
#[inline(never)]
#[must_use]
pub fn status_of(response: &[u8]) -> u16 {
    let received = ResponseParser::default().receive(response);
    received
        .ok()
        .flatten()
        .map_or(0, |response| response.status)
}
