//! Sends trace spans to any OTLP/HTTP backend from services that cannot afford to be disturbed.
//!
//! No async runtime: recording a span writes its final wire bytes into memory that belongs to
//! the recording thread, and one network thread, driven by `mio`, sends them.
//! This is not the OpenTelemetry Collector, a program that receives spans, but a library that a service
//! links and that can send to one.
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
//! [`Collector::collect`] takes owned spans from any thread, and [`Collector::start`] opens one that any
//! thread can end. A [`Recorder`], from [`Collector::recorder`] or [`Collector::spawn_pinned`], belongs to
//! one thread, borrows its data and costs less:
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
//!     .span_builder(name!("GET /orders")) // encoded at compile time
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
//! [`Collector::install`] makes a collector the process's. Then [`span!`] starts spans anywhere, as children of
//! the current one:
//!
//! ```
//! # use otlp_collector::{Collector, Config, span};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let receiver = otlp_collector::testing::Receiver::start()?;
//! # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
//! fn look_up(id: u64) {
//!     let _query = span!("SELECT orders", "order.id" = id);
//! }
//!
//! let installed = collector.install()?;
//! {
//!     let _request = span!("GET /orders", kind: Server).entered();
//!     look_up(7);
//! }
//! installed.shutdown()?;
//! # receiver.span("SELECT orders").assert_child_of(&receiver.span("GET /orders"));
//! # Ok(())
//! # }
//! ```
//!
//! Futures get a span by [`Instrument`], functions by the attribute [`instrument`].
//!
//! # Path of a span
//!
//! ```text
//!  application thread               network thread (one)
//! ┌───────────────────────┐        ┌───────────────────────────────────────┐
//! │ Recorder              │        │ Processor           Exporter          │
//! │  span ─encode─▶ slab  │══ring═▶│  batches ─merge─▶ request ─▶ HTTP/1.1 │─▶ destination
//! │        commit = store │        │  (no copy)        request ─▶ HTTP/1.1 │─▶ destination
//! └──────────▲────────────┘        └──────────────────┬────────────────────┘
//!            └────────── free slabs ◀─────────────────┘ when the last holder is dropped
//! ```
//!
//! 1. An open span's data is encoded into a cell as it is added. At the span's end, or when a finished
//!    span is recorded, the recorder of the thread appends OTLP's bytes to its open slab and commits them
//!    with one release store.
//! 2. The network thread reads the committed spans of every slab, full or not, as a batch: when
//!    [`Config::batch_size`] spans wait, after [`Config::batch_timeout_ms`], or at a flush.
//! 3. Each destination merges the next batches into a request: an OTLP envelope before the slabs' own
//!    bytes, written with `writev`. Only compression and TLS copy the bytes.
//! 4. The response decides: the spans are delivered, rejected, or retried after a backoff. A slab is
//!    reused when all of its batches have an outcome at every destination.
//!
//! `ARCHITECTURE.md` in the repository names the files and the invariants.
//!
//! # Guarantees
//!
//! * `record`, `record_with`, all calls of an open span, [`span!`], entering and exiting, polls of an
//!   instrumented future, and [`current`] make no heap allocation, take no lock and make no system call, on
//!   any thread that has recorded before. Exceptions: spans started while
//!   [`Config::open_span_bytes_total`] are in use, the wake-up of the network thread if that sleeps while a
//!   batch is complete or slabs are running out, [`Overflow::Block`], and rare ones that the
//!   [manual](manual::recording) lists.
//! * In a fork of the process spans are refused, no call waits for a lock for more than 100 ms, and random ids
//!   differ from the parent's.
//! * Memory is bounded by [`Config::buffer_capacity`], [`Config::recorders_max`] and
//!   [`Config::open_span_bytes_total`]; each span that is open beyond the latter takes 225 bytes.
//! * An open span is never refused for its size: attributes, events and links that do not fit or exceed a
//!   limit are dropped and counted in it.
//! * The [`Ledger`] counts every span, at any moment:
//!   `accepted = delivered + rejected + dropped + in flight + buffered`.
//! * A span arrives once, except after a broken connection, a timeout, a retryable status or a panic of the
//!   network thread: then its request is retried, and it may arrive twice.
//! * No behaviour of an endpoint affects recording threads until the buffer is full; then spans are
//!   refused.
//!
//! # Where names are
//!
//! | module | names |
//! | --- | --- |
//! | the root | those that most programs need |
//! | [`collector`] | pinned threads, [`pin_current_thread`](collector::pin_current_thread) |
//! | [`config`] | [`Endpoint`](config::Endpoint) and groups of them, redirects, TLS, metrics |
//! | [`recorder`] | [`SpanBuilder`](recorder::SpanBuilder), guards of entered spans, recorders of a scope |
//! | [`span`](mod@span) | owned and borrowed forms of a span's parts, trace context, samplers, limits, scopes, ids |
//! | [`stats`] | [`Health`](stats::Health), [`Notice`](stats::Notice) and [`OnNotice`](stats::OnNotice), [`Stats`](stats::Stats), parts of the ledger |
//! | `testing` | a receiver for tests (feature `testing`) |
//! | `tracing` | a layer for `tracing`, and access to its spans (feature `tracing`) |
//!
//! A name that ends with `Ref` is the borrowed form of the one without, such as [`SpanRef`] of [`Span`].
//!
//! # Manual
//!
//! [Recording](manual::recording), [tracing](manual::tracing), [configuration](manual::configuration), [delivery](manual::delivery),
//! [observing the pipeline](manual::observing), [benchmarks](manual::benchmarks).
//!
//! # Compatibility
//!
//! * Structs that a program fills, such as [`Config`] and [`Span`], are exhaustive. Write them with
//!   struct update syntax, as in `Config { batch_size: 1000, ..Config::default() }`: a minor release may
//!   add fields.
//! * Structs that a program only reads, such as [`Ledger`] and [`Stats`](stats::Stats), and enums are
//!   `non_exhaustive`: a minor release may add fields and variants. Exceptions are enums that OTLP
//!   closes, such as [`SpanKind`].
//! * The API has no type of another crate, except in the module `tracing`, which implements traits of `tracing` and
//!   `tracing-subscriber`.
//!
//! # Features
//!
//! * `gzip`, `zstd`: compressed bodies ([`Compression`]).
//! * `tls`: `https` endpoints ([`TlsOptions`](config::TlsOptions)).
//! * `macros`: the attribute [`instrument`], which records calls of a function.
//! * `tracing`: spans and events of the crate `tracing`, in the module `tracing`.
//! * `testing`: a small OTLP/HTTP receiver for tests, in the module `testing`.
//!
//! None is enabled by default, and none changes the behaviour of others.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod buffer;
pub mod collector;
pub mod config;
mod error;
mod exporter;
#[cfg(feature = "internals")]
#[doc(hidden)]
#[allow(missing_docs, reason = "for the benches alone")]
pub mod internals;
#[cfg(any(doc, doctest))]
#[path = "../docs/manual.rs"]
pub mod manual;
mod metrics;
mod otlp;
mod platform;
mod processor;
pub mod recorder;
mod shared;
pub mod span;
pub mod stats;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tracing")]
pub mod tracing;

#[doc(inline)]
pub use self::collector::Collector;
#[doc(inline)]
pub use self::collector::installed::{Installed, InstalledForThread};
#[doc(inline)]
pub use self::config::{Compression, Config, Destination, EndpointOptions, Overflow};
pub use self::error::Error;
pub use self::platform::clock::unix_nanos;
#[doc(hidden)]
pub use self::recorder::__call_once;
#[doc(inline)]
pub use self::recorder::{Instrument, OpenSpan, Recorder, current, span_builder};
#[doc(hidden)]
pub use self::span::attribute::{UseAttributes, VisitAttributes, prepare};
#[doc(inline)]
pub use self::span::{
    AnyValue, EventRef, Key, KeyValue, KeyValueRef, LinkRef, Name, Span, SpanContext, SpanId,
    SpanKind, SpanRef, Status, TraceId,
};
#[doc(inline)]
pub use self::stats::{Ledger, Refused};

/// Records each call of a function or method as a span of the installed collector, a child of the current
/// span. An `async fn` is instrumented as by [`Instrument`]: its span starts at the first poll, as a child of
/// the span that is current there.
///
/// The span has the function's name, and its parameters as attributes: numbers, booleans and texts as they
/// are, others as `Debug` formats them. `self` and parameters whose name begins with `_` are omitted.
///
/// | option | effect |
/// | --- | --- |
/// | `name = "…"` | the span's name, a constant |
/// | `kind = "server"` | its kind: `internal`, `server`, `client`, `producer` or `consumer` |
/// | `parent = …` | its parent, as in [`span!`]; the parameters can be used |
/// | `skip(a, b)`, `skip_all` | parameters that do not become attributes |
/// | `fields(…)` | more attributes, in the syntax of [`span!`]; they replace parameters of the same name |
/// | `err`, `err(Debug)` | for a `Result`: an error gives the status error and is recorded as by [`OpenSpan::record_error`] |
/// | `ret`, `ret(Display)` | the attribute `return` with what the function returned; with `err`, with what is in `Ok` |
///
/// A function that ends with `async move { … }` or `Box::pin(async move { … })` is instrumented as an `async fn`:
/// such are methods with `#[async_trait]`. The future then uses the parameters: `skip` those that are moved
/// before, or that the future may outlive. Other functions that return a future end their span when they return
/// it: instrument the future instead.
///
/// ```
/// # use otlp_collector::{Collector, Config};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
/// # let installed = collector.install_for_thread();
/// use otlp_collector::instrument;
///
/// #[instrument(name = "SELECT orders", kind = "client", skip(password), err)]
/// fn load(id: u64, password: &str) -> Result<String, std::num::ParseIntError> {
///     Ok(format!("order {}", "12".parse::<u64>()? + id))
/// }
///
/// load(1, "secret")?;
/// # drop(installed);
/// # collector.shutdown()?;
/// # assert_eq!(receiver.span("SELECT orders").attribute("id"), Some(1.into()));
/// # assert_eq!(receiver.span("SELECT orders").attributes.len(), 1);
/// # Ok(())
/// # }
/// ```
///
/// ```compile_fail
/// #[otlp_collector::instrument(skip(unknown))]
/// fn load(id: u64) {}
/// ```
///
/// ```compile_fail
/// #[otlp_collector::instrument(level = "info")]
/// fn load(id: u64) {}
/// ```
///
/// ```compile_fail
/// #[otlp_collector::instrument(kind = "sever")]
/// fn load(id: u64) {}
/// ```
///
/// ```compile_fail
/// #[otlp_collector::instrument]
/// const fn load(id: u64) {}
/// ```
#[cfg(feature = "macros")]
pub use otlp_collector_macros::instrument;

/// Compiles the README's programs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
