//! The options of a collector.

use std::path::PathBuf;

use crate::config::declare::options;
use crate::config::destination::Destination;
use crate::config::endpoint::EndpointOptions;
use crate::config::metrics::MetricsOptions;
use crate::config::resource::default_service_name;
use crate::span::attribute::KeyValue;
use crate::span::id_generator::IdGenerator;
use crate::span::limits::SpanLimits;
use crate::span::sampler::{Sampler, TailSampling};
use crate::stats::notice::OnNotice;

options! {
    /// How a collector is set up. Start from [`Config::default`]:
    ///
    /// ```
    /// use otlp_collector::{Config, Overflow};
    ///
    /// let config = Config {
    ///     endpoint: "http://localhost:4318".to_string(),
    ///     service_name: "checkout".to_string(),
    ///     buffer_capacity: 200_000,
    ///     overflow: Overflow::DropOldest,
    ///     ..Config::default()
    /// };
    /// # drop(config);
    /// ```
    ///
    /// All values are checked by [`Collector::new`](crate::Collector::new), unless the collector is
    /// [`disabled`](Self::disabled). Neither `Debug` nor `Display` shows what may be a secret.
    #[derive(Clone, PartialEq)]
    pub struct Config {
        /// Base URL of the OTLP/HTTP receiver; `/v1/traces` is appended unless it is there.
        /// Default `http://localhost:4318`.
        pub endpoint: String = DEFAULT_ENDPOINT.to_string(),
        /// How requests are made to [`endpoint`](Self::endpoint).
        pub endpoint_options: EndpointOptions = EndpointOptions::default(),
        /// The destinations of spans, instead of the one [`endpoint`](Self::endpoint): each gets every
        /// span. Default empty: `endpoint` is the only destination. At most 64.
        ///
        /// Together with an `endpoint` or `endpoint_options` that differ from their defaults, whether
        /// set in code or by the environment, it is an error.
        pub destinations: Vec<Destination> = Vec::new(),
        /// Whether spans are accepted and thrown away. Default false. Contexts are still made and passed
        /// on, by `sampler`; threads are still pinned.
        ///
        /// Nothing is sent, there is no buffer and no network thread, and `tail_sampling` holds nothing
        /// back. So all other values are ignored or brought into their range instead of being checked: a
        /// service in which tracing is disabled starts. Spans count as accepted or sampled out, and no
        /// destination counts them. `health` reports `ThreadState::Disabled`.
        ///
        /// Memory: 1 KiB for each of `open_spans_max` when a recorder is made.
        pub disabled: bool = false,
        /// An OpenTelemetry configuration file. Default none. Such files cannot be read yet, so
        /// [`Collector::new`](crate::Collector::new) fails if there is one.
        pub config_file: Option<PathBuf> = None,
        /// The resource's `service.name`. Default `unknown_service:` and the executable's name.
        pub service_name: String = default_service_name(),
        /// More attributes of the resource. Default none. Unless given here, `telemetry.sdk.*`,
        /// `process.pid`, `process.executable.name`, `host.name`, `host.arch` and `os.type` are added;
        /// of several with the same key the last counts.
        pub resource_attributes: Vec<KeyValue> = Vec::new(),
        /// The schema that the resource's attributes follow. Default none.
        pub resource_schema_url: String = String::new(),
        /// Which open spans are recorded. Default: as their parent; all that have none. It does
        /// not apply to spans that are recorded in one go.
        pub sampler: Sampler = Sampler::default(),
        /// Whether a trace's spans wait for the end of their local root, which decides whether they
        /// are kept. Default no.
        pub tail_sampling: Option<TailSampling> = None,
        /// Limits on a span's data. Default: as the specification has it.
        pub span_limits: SpanLimits = SpanLimits::default(),
        /// Where recorders take new ids from. Default [`IdGenerator::Random`]. (Those of
        /// [`Span::new`](crate::Span::new) are random in any case.)
        pub id_generator: IdGenerator = IdGenerator::Random,
        /// Spans with memory for their data that can be open on one recorder at a time, detached ones
        /// included. Default 32, at most 65,536. Further ones lose the data that
        /// [`OpenSpan`](crate::OpenSpan) lists, and are counted in
        /// [`Stats::spans_without_memory`](crate::Stats::spans_without_memory).
        ///
        /// Memory, touched when a recorder is made: [`open_span_bytes`](Self::open_span_bytes) and 64
        /// bytes for each, 130 KiB by default.
        pub open_spans_max: usize = 32,
        /// Bytes that the name, trace state, attributes, events, links and status description of an
        /// open span can take, encoded. Default 4,096. If it is larger than `slab_bytes` less 256, it is
        /// taken to be that.
        pub open_span_bytes: usize = 4096,
        /// Spans of one recorder that make a batch: they are sent without waiting for
        /// [`batch_timeout_ms`](Self::batch_timeout_ms). Default 4,096. A request holds whatever is
        /// ready on all threads: more under load, fewer when the timeout comes first.
        pub batch_size: usize = 4096,
        /// Milliseconds a finished span waits at most before it is sent, as long as the endpoint
        /// takes requests. Default 200.
        pub batch_timeout_ms: u64 = 200,
        /// Spans held while they wait for delivery. Default 100,000.
        ///
        /// Memory: 256 bytes for each, in whole slabs and one more for every 32, allocated and touched
        /// at start: 26.5 MB by default. So slightly more spans fit in the best case. Larger spans
        /// fill it before this number is reached. Besides, each recorder has a slab of its own.
        pub buffer_capacity: usize = 100_000,
        /// Size of a slab: the largest span that can be recorded (less 128 bytes), and the memory
        /// that each recorder has for itself. Default 64 KiB, at most 16 MiB; rounded up to whole
        /// pages.
        pub slab_bytes: usize = 64 * 1024,
        /// Where the pipeline's own metrics go. Default nowhere.
        pub metrics: Option<MetricsOptions> = None,
        /// Callback for rare events, besides the `log` facade. Default none.
        pub on_notice: Option<OnNotice> = None,
        /// Handling of spans when the buffer is full. Default [`Overflow::Refuse`].
        pub overflow: Overflow = Overflow::Refuse,
        /// The core the network thread is pinned to. Default none: the scheduler decides, among the
        /// cores of the thread that calls [`Collector::new`](crate::Collector::new), so call that
        /// before pinning this one.
        pub network_core: Option<usize> = None,
        /// The cores [`spawn_pinned`](crate::Collector::spawn_pinned) may pin to. Default empty:
        /// any core the process may use.
        pub pinned_cores: Vec<usize> = Vec::new(),
        /// Recorders that can exist at a time, not counting those behind `collect`. Default 1,024.
        /// Each further instrumentation scope that one of them writes to counts as one more. While at
        /// least half of the number is free, a recorder goes on with the scopes of one that is gone.
        ///
        /// Memory, touched when a recorder is made: a slab, kept for the next one, and 24 bytes for
        /// each slab of the buffer (up to the next power of two), and 1 KiB. Besides, what open spans
        /// and held traces take: see [`open_spans_max`](Self::open_spans_max) and
        /// [`TailSampling`].
        pub recorders_max: usize = 1024,
        /// Milliseconds [`shutdown`](crate::Collector::shutdown) gives undelivered spans. Default
        /// 5,000; 0 drops what waits.
        pub shutdown_timeout_ms: u64 = 5000,
        /// Descriptions of variables that [`from_env`](Self::from_env) could not use. Default none.
        ///
        /// [`Collector::new`](crate::Collector::new) passes each to `on_notice`
        /// ([`NoticeKind::Misconfigured`](crate::NoticeKind::Misconfigured)) and to the `log` facade, and
        /// if neither is set up, writes it to standard error. Clear it to have none reported.
        pub warnings: Vec<String> = Vec::new(),
    }
}

/// Handling of spans when the buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The newest span is refused: recording returns
    /// [`Refused::BufferFull`](crate::Refused::BufferFull).
    #[default]
    Refuse,
    /// The oldest spans that are not on the way are dropped, some slabs at a time, from seven
    /// eighths full on. A burst that fills the buffer faster than the network thread runs is
    /// refused as above.
    DropOldest,
    /// Recording waits for room, at most so many milliseconds, then refuses as above. After a
    /// wait in vain a recorder refuses without waiting until there has been room again, so that
    /// an outage stops a thread once, not at every span.
    Block {
        /// Milliseconds to wait, at most a day.
        timeout_ms: u64,
    },
}

const DEFAULT_ENDPOINT: &str = "http://localhost:4318";
