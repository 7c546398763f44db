//! x
mod affinity;
mod buffer;
mod clock;
mod collector;
mod config;
mod error;
mod exporter;
mod id;
mod otlp;
mod processor;
mod recorder;
mod span;
mod stats;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;

pub use self::clock::unix_nanos;
pub use self::collector::{Collector, PinnedWorker, Pinning, Worker};
pub use self::config::{Config, Overflow};
pub use self::error::{Error, Refused};
pub use self::recorder::Recorder;
pub use self::span::{
    AnyValue, AnyValueRef, KeyValue, KeyValueRef, NO_PARENT, Span, SpanKind, SpanRef, Status,
    StatusRef,
};
pub use self::stats::{DroppedSpans, EndpointLedger, Ledger, NetworkStats, RefusedSpans, Stats};
