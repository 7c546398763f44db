//! Sends trace spans to any OTLP/HTTP backend from services that cannot afford to be disturbed.
//!
//! No async runtime: recording a span writes its final wire bytes into memory that belongs to
//! the recording thread, and one network thread, driven by `mio`, sends them.
//!
//! ```
//! use otlp_collector::{Collector, Config, Span};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = "http://localhost:4318";
//! # let receiver = otlp_collector::testing::Receiver::start()?;
//! # let endpoint = receiver.endpoint();
//! let collector = Collector::new(Config {
//!     batch_size: 1000,
//!     batch_timeout_ms: 5000,
//!     buffer_capacity: 100_000,
//!     endpoint: endpoint.to_string(),
//!     ..Config::default()
//! })?;
//! for i in 0..10_000 {
//!     collector.collect(Span::new(format!("span-{i}")))?;
//! }
//! let ledger = collector.shutdown()?;
//! assert_eq!(ledger.delivered(), 10_000);
//! # Ok(())
//! # }
//! ```
//!
//! [`Collector::collect`] takes owned spans from any thread. A [`Recorder`], from
//! [`Collector::recorder`] or [`Collector::spawn_pinned`], belongs to one thread, takes borrowed
//! data and costs much less:
//!
//! ```
//! # use otlp_collector::{Collector, Config, SpanContext, SpanKind, key, name};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let receiver = otlp_collector::testing::Receiver::start()?;
//! # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
//! # let headers = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
//! let recorder = collector.recorder()?;
//! let caller = SpanContext::extract(headers); // W3C Trace Context
//! let mut request = recorder
//!     .span_builder(name!("GET /orders")) // wire form made at compile time
//!     .kind(SpanKind::Server)
//!     .parent(caller.as_ref())
//!     .start();
//! {
//!     let mut query = recorder.start_child(&request, "SELECT orders");
//!     query.set_attribute("db.system.name", "postgresql");
//! } // ends here
//! request.set_attribute(key!("http.response.status_code"), 200);
//! request.end();
//! # assert_eq!(collector.shutdown()?.delivered(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Path of a span
//!
//! ```text
//!  application thread              network thread (one)
//! ┌───────────────────────┐       ┌──────────────────────────────────────────────┐
//! │ Recorder              │       │ Processor            Exporter                │
//! │  span ─encode─▶ slab  │═ring═▶│  batches ──merge──▶ request ──▶ HTTP/1.1     │──▶ destination
//! │        commit = store │       │  (no copy)          request ──▶ HTTP/1.1     │──▶ destination
//! └──────────▲────────────┘       └─────────────────────┬────────────────────────┘
//!            └─────────── free slabs ◀──────────────────┘ when the last holder is dropped
//! ```
//!
//! 1. A span that is started (`recorder/builder.rs`) asks the sampler (`span/sampler.rs`) and takes a
//!    piece of the recorder's memory (`recorder/scratch.rs`), into which its data is encoded at
//!    once (`otlp/draft.rs`). At its end (`recorder/open_span.rs`) all that is left is
//!    a copy; if its trace is held back, not yet into a slab but beside the others
//!    (`recorder/hold.rs`). A finished span is encoded in one go (`otlp/finished.rs`).
//!    Either way its bytes are an element of OTLP's `ScopeSpans.spans` in the recorder's open slab
//!    (`recorder/writer.rs`, `buffer/slab.rs`), and one release store commits it.
//! 2. The slab entered the recorder's ring (`buffer/ring.rs`) when it was opened. So the network
//!    thread sees it all the time and takes what is committed as a batch (`processor.rs`),
//!    whether the slab is full or not: a quiet thread's spans are never stuck.
//! 3. When enough spans wait, or [`Config::batch_timeout_ms`] has passed, the exporter
//!    (`exporter.rs`) puts the batches into the backlog (`exporter/backlog.rs`), in which each
//!    destination has a place (`exporter/delivery.rs`). A destination makes a request of the next
//!    ones (`exporter/request.rs`): an OTLP envelope before them, which is sent with `writev`. The
//!    bytes are not touched again, except if they are to be compressed (`exporter/compress.rs`) or
//!    go over TLS.
//! 4. An endpoint (`exporter/endpoint.rs`) sends it over one of its connections
//!    (`exporter/connection.rs`), and its response decides: delivered, rejected, or again after the
//!    backoff. When the last batch of a slab has an outcome everywhere, the slab goes back to the pool
//!    (`buffer/pool.rs`).
//!
//! Files import only from those below them: `collector`, `recorder`, `exporter`, `processor`,
//! `shared`, `config`, `buffer`, `metrics`, `otlp`, `error`, `span`, `stats`, `platform`. Protocol
//! code (`exporter/http/`, `processor.rs`, `otlp/`) takes bytes and owns neither socket nor clock.
//! `unsafe` is in `buffer/`, in `platform/clock/` to read the processor's counter, and in
//! `platform/fork.rs` to detect forks.
//!
//! # Guarantees
//!
//! * Recording, from a span's start to its end, allocates nothing, takes no lock and makes no
//!   system call, except to wake the network thread when that sleeps and a batch is complete or
//!   slabs are getting few. It waits only with [`Overflow::Block`].
//! * In a fork of the process recording is refused, nothing waits for a lock, and random ids differ
//!   from the parent's.
//! * Memory is bounded: see [`Config::buffer_capacity`], [`Config::recorders_max`] and
//!   [`Config::open_spans_max`].
//! * A span that is recorded is sent. Attributes, events and links that do not fit or exceed a
//!   limit are dropped and counted in it.
//! * The [`Ledger`] closes to the span, at any moment:
//!   `accepted = delivered + rejected + dropped + in flight + buffered`.
//! * A request is sent again after a broken connection, a timeout, a status that allows it, or a
//!   panic of the network thread, so a span may arrive twice then; otherwise once.
//! * No behaviour of an endpoint affects recording threads until the buffer is full; then spans are
//!   refused.
//!
//! # Manual
//!
//! [Recording](manual::recording), [configuration](manual::configuration), [delivery](manual::delivery),
//! [observing the pipeline](manual::observing), [benchmarks](manual::benchmarks).
//!
//! # Compatibility
//!
//! * Structs that a program fills, such as [`Config`] and [`Span`], are exhaustive. Write them with
//!   struct update syntax, as in `Config { batch_size: 1000, ..Config::default() }`: a minor release may
//!   add fields.
//! * Structs that a program only reads, such as [`Ledger`] and [`Stats`], and enums are
//!   `non_exhaustive`: a minor release may add fields and variants. Exceptions are enums that OTLP
//!   closes, such as [`SpanKind`].
//! * The API has no type of another crate.
//!
//! # Features
//!
//! * `gzip`, `zstd`: compressed bodies ([`Compression`]).
//! * `tls`: `https` endpoints ([`TlsOptions`]).
//! * `testing`: a small OTLP/HTTP receiver for tests, in the module `testing`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod buffer;
mod collector;
mod config;
mod error;
mod exporter;
#[cfg(feature = "internals")]
#[doc(hidden)]
#[allow(missing_docs, reason = "for the benches alone")]
pub mod internals;
#[cfg(any(doc, doctest))]
pub mod manual;
mod metrics;
mod otlp;
mod platform;
mod processor;
mod recorder;
mod shared;
mod span;
mod stats;
#[cfg(feature = "testing")]
pub mod testing;

pub use self::collector::{Collector, PinnedJoinHandle, PinnedThread, Pinning, pin_current_thread};
pub use self::config::{
    Compression, Config, Destination, Endpoint, EndpointOptions, MetricsOptions, Overflow,
    Redirects, Selection, TlsOptions,
};
pub use self::error::Error;
pub use self::platform::clock::unix_nanos;
pub use self::recorder::{DetachedSpan, OpenSpan, Recorder, ScopedRecorder, SpanBuilder};
pub use self::span::attribute::{
    AnyValue, AnyValueRef, ArrayRef, Attributes, Key, KeyValue, KeyValueListRef, KeyValueRef, Name,
};
#[doc(hidden)]
pub use self::span::attribute::{UseAttributes, VisitAttributes, prepare};
pub use self::span::context::{
    InvalidHeader, SpanContext, TRACEPARENT, TRACESTATE, TraceFlags, TraceState, Traceparent,
};
pub use self::span::id::{InvalidId, SpanId, TraceId};
pub use self::span::id_generator::{GenerateIds, IdGenerator};
pub use self::span::limits::SpanLimits;
pub use self::span::sampler::{
    KeepIf, ParentBased, Sample, Sampler, SamplingInput, SamplingResult, TailSampling,
};
pub use self::span::scope::{InstrumentationScope, Scope};
pub use self::span::{Event, EventRef, Link, LinkRef, Span, SpanKind, SpanRef, Status, StatusRef};
pub use self::stats::health::{
    DestinationHealth, EndpointHealth, EndpointState, Health, ThreadState,
};
pub use self::stats::ledger::{
    DestinationLedger, DroppedSpans, Ledger, RefusedSpans, SampledOutSpans,
};
pub use self::stats::notice::{Notice, NoticeKind, OnNotice};
pub use self::stats::refused::Refused;
pub use self::stats::{
    DestinationStats, DurationHistogram, Durations, EndpointStats, NetworkStats, Stats,
};

/// The README's programs are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
