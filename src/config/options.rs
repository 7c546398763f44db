//! The options of a collector.

use std::path::PathBuf;

use crate::config::declare::options;
use crate::config::destination::Destination;
use crate::config::endpoint::EndpointOptions;
use crate::config::metrics::MetricsOptions;
use crate::config::resource::default_service_name;
use crate::config::variables::Variables;
use crate::span::attribute::KeyValue;
use crate::span::id_generator::IdGenerator;
use crate::span::limits::SpanLimits;
use crate::span::sampler::{Sampler, TailSampling};
use crate::stats::notice::OnNotice;

options! {
    /// Options of a collector.
    ///
    /// Write them with struct update syntax; a minor release may add fields:
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
    /// [`Collector::new`](crate::Collector::new) checks all values, unless the collector is
    /// [`disabled`](Self::disabled). `Debug` and `Display` hide secrets.
    #[derive(Clone, PartialEq)]
    pub struct Config {
        /// Base URL of the OTLP/HTTP receiver. Default `http://localhost:4318`. `/v1/traces` is appended
        /// unless the URL ends with it (OTLP, "OTLP/HTTP Request").
        pub endpoint: String = DEFAULT_ENDPOINT.to_string(),
        /// Options of requests to [`endpoint`](Self::endpoint).
        pub endpoint_options: EndpointOptions = EndpointOptions::default(),
        /// Destinations, instead of the one [`endpoint`](Self::endpoint); each gets every span. Default
        /// empty: `endpoint` is the only destination. At most 64.
        ///
        /// It is an error if `endpoint` or `endpoint_options` differ from their defaults at the same
        /// time, whether set in code or by the environment.
        pub destinations: Vec<Destination> = Vec::new(),
        /// Whether spans are accepted and discarded. Default false.
        ///
        /// Nothing is sent: there is no buffer and no network thread, and `tail_sampling` holds no
        /// spans. `sampler` still decides, contexts are still propagated, and threads are still pinned.
        /// Spans count as accepted or sampled out, without a destination. `health` reports
        /// [`ThreadState::Disabled`](crate::stats::ThreadState::Disabled).
        ///
        /// No value is an error then: sizes are clamped to their range, other values are ignored, so that
        /// a service whose tracing is disabled starts.
        ///
        /// Memory: at most 64 KiB of `open_span_bytes_total`; more than 85 open spans take theirs from the
        /// heap.
        pub disabled: bool = false,
        /// Path of an OpenTelemetry configuration file. Default none. Any path is an error: such files
        /// are not supported yet.
        pub config_file: Option<PathBuf> = None,
        /// The resource's `service.name`. Default, also if empty: `unknown_service:` and the executable's
        /// name. An attribute `service.name` in [`resource_attributes`](Self::resource_attributes) takes
        /// precedence. A name of blanks is an error.
        pub service_name: String = default_service_name(),
        /// More attributes of the resource. Default none. `telemetry.sdk.*`, `process.pid`,
        /// `process.executable.name`, `host.name`, `host.arch` and `os.type` are added unless set here. If
        /// a key occurs more than once, the last value is sent.
        pub resource_attributes: Vec<KeyValue> = Vec::new(),
        /// Schema URL of the resource's attributes. Default none.
        pub resource_schema_url: String = String::new(),
        /// Sampler of open spans. Default: the parent's decision; spans without a parent are sampled.
        /// Finished spans, as in [`Recorder::record`](crate::Recorder::record), are not sampled.
        pub sampler: Sampler = Sampler::default(),
        /// Tail sampling: spans are held until their local root ends, which decides whether they are
        /// kept. Default none: spans are sent as they end.
        pub tail_sampling: Option<TailSampling> = None,
        /// Limits of a span's data. Default: those of the specification ("Span Limits").
        pub span_limits: SpanLimits = SpanLimits::default(),
        /// Source of recorders' new ids. Default [`IdGenerator::Random`]. Ids of
        /// [`Span::new`](crate::Span::new) are always random.
        pub id_generator: IdGenerator = IdGenerator::Random,
        /// Bytes of memory for all open spans of the collector. Default 8 MiB, at least 512, at most 16 GiB.
        ///
        /// Two thirds are divided into cells of 512 bytes, of which each open span takes one; the rest into
        /// pages of [`open_span_bytes`](Self::open_span_bytes) for spans that outgrow theirs. By default
        /// 10,924 spans can be open at a time, of which 672 can be large. Ended spans that
        /// [`tail_sampling`](Self::tail_sampling) holds keep their cells.
        ///
        /// Memory: as given, allocated and touched at start. It is not freed when the collector is dropped,
        /// since open spans may outlive it, but used by the next collector with the same options.
        ///
        /// Spans opened beyond the limit keep only the data listed at [`OpenSpan`](crate::OpenSpan), and
        /// are counted in [`Stats::spans_without_memory`](crate::stats::Stats::spans_without_memory).
        pub open_span_bytes_total: usize = 8 << 20,
        /// Maximum encoded bytes of an open span's name, trace state, attributes, events, links and status
        /// description together. Default 4,096, at least 64, at most 16 MiB. A larger value than
        /// [`slab_bytes`](Self::slab_bytes) less 256 is lowered to that. Data that does not fit, or for which
        /// no page of [`open_span_bytes_total`](Self::open_span_bytes_total) is free, is dropped or truncated
        /// ([`OpenSpan`](crate::OpenSpan)).
        pub open_span_bytes: usize = 4096,
        /// Spans of one recorder that are sent without waiting for
        /// [`batch_timeout_ms`](Self::batch_timeout_ms). Default 4,096, at least 1, at most
        /// `buffer_capacity`. A request contains the ready spans of all recorders: more than this under
        /// load, fewer when the timeout comes first. At a steady rate it may be up to a quarter less: the
        /// network thread then wakes up in time by itself, without a system call of a recorder.
        pub batch_size: usize = 4096,
        /// Milliseconds until a finished span is sent, unless requests to the endpoint have to wait.
        /// Default 200, at least 1, at most a day.
        pub batch_timeout_ms: u64 = 200,
        /// Spans that can wait for delivery. Default 100,000, at least 1, at most 67,108,864.
        ///
        /// Memory: 256 bytes for each, rounded up to whole slabs, and one more slab for every 32: 26.5 MB
        /// by default, allocated and touched at start. Larger spans fill it before this number is
        /// reached; of smaller ones slightly more may fit. Each recorder has two slabs of its own besides.
        ///
        /// [`overflow`](Self::overflow) defines what happens when the buffer is full.
        pub buffer_capacity: usize = 100_000,
        /// Bytes of a slab, the unit of the buffer: the largest span is 128 bytes smaller. Default 64 KiB,
        /// at least 4 KiB, at most 16 MiB, rounded up to whole pages.
        ///
        /// Memory: two slabs for each recorder besides the buffer.
        ///
        /// A larger span is refused as [`Refused::TooLarge`](crate::Refused::TooLarge).
        pub slab_bytes: usize = 64 * 1024,
        /// Destination of the pipeline's own metrics. Default none.
        pub metrics: Option<MetricsOptions> = None,
        /// Callback for rare events, besides the `log` facade. Default none.
        pub on_notice: Option<OnNotice> = None,
        /// Handling of spans when the buffer is full. Default [`Overflow::Refuse`].
        pub overflow: Overflow = Overflow::Refuse,
        /// Core that the network thread is pinned to. Default none: it may use the cores of the thread
        /// that calls [`Collector::new`](crate::Collector::new), so call that before pinning the thread.
        pub network_core: Option<usize> = None,
        /// Cores that [`spawn_pinned`](crate::Collector::spawn_pinned) may use. Default empty: any core of
        /// the process.
        pub pinned_cores: Vec<usize> = Vec::new(),
        /// Recorders that can exist at a time, except the shared ones that `collect` uses. Default 1,024,
        /// at least 1, at most 1,048,576. Each further instrumentation scope of a recorder counts as one more. While at least half of the
        /// number is free, a new recorder keeps the scopes of a dropped one.
        ///
        /// Memory for each: two slabs, 1 KiB, and 4 bytes for each slab of the buffer (rounded up to a
        /// power of two), touched when the recorder is created and kept for the next one.
        ///
        /// Beyond the limit [`Collector::recorder`](crate::Collector::recorder) fails.
        pub recorders_max: usize = 1024,
        /// Milliseconds in which [`shutdown`](crate::Collector::shutdown) delivers the remaining spans.
        /// Default 5,000, at least 0, which drops them, at most a day.
        pub shutdown_timeout_ms: u64 = 5000,
        /// Descriptions of variables that [`from_env`](Self::from_env) could not use. Default none.
        ///
        /// [`Collector::new`](crate::Collector::new) reports each to `on_notice`, as
        /// [`NoticeKind::Misconfigured`](crate::stats::NoticeKind::Misconfigured), and to the `log` facade;
        /// without both, to standard error. Clear the list to suppress these reports.
        pub warnings: Vec<String> = Vec::new(),
        /// Variables that [`from_env`](Self::from_env) used for `endpoint` and its options. Default none.
        /// Errors and warnings of [`Collector::new`](crate::Collector::new) name them.
        pub variables: Variables = Variables::default(),
    }
}

/// Handling of spans when the buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// Refuses the newest span: recording returns
    /// [`Refused::BufferFull`](crate::Refused::BufferFull).
    #[default]
    Refuse,
    /// Drops the oldest spans that are not in flight, several slabs at a time, once the buffer is seven
    /// eighths full. A burst that fills the buffer faster than the network thread runs is refused as
    /// with [`Refuse`](Self::Refuse).
    DropOldest,
    /// Waits for room for up to `timeout_ms`, then refuses the span. After a wait that timed out, a
    /// recorder refuses without waiting until there is room again: an outage blocks a thread once, not
    /// at every span.
    Block {
        /// Longest wait in milliseconds, at most a day.
        timeout_ms: u64,
    },
}

const DEFAULT_ENDPOINT: &str = "http://localhost:4318";
