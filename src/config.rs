//! The user's choices, and their validation into [`Settings`] the pipeline can rely on.

mod destination;
mod disabled;
mod display;
mod endpoint;
mod env;
mod headers;
mod metrics;
mod proxy;
mod resource;
mod target;
mod tls;

use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::buffer::{OVERHEAD_BYTES, PAGE_BYTES};
use crate::error::Error;
use crate::otlp::Envelope;
use crate::platform::affinity;
use crate::span::attribute::KeyValue;
use crate::span::id::IdGenerator;
use crate::span::limits::{LOOKED_AT_MAX, MESSAGES_MAX, SpanLimits};
use crate::span::sampler::{Sampler, TailSampling};
use crate::span::scope::InstrumentationScope;
use crate::stats::notice::OnNotice;

use self::endpoint::RequestBytes;
use self::resource::default_service_name;

pub(crate) use self::destination::DestinationSettings;
pub use self::destination::{Destination, Selection};
pub use self::endpoint::{Compression, Endpoint, EndpointOptions, Redirects};
pub(crate) use self::endpoint::{EndpointSettings, RESPONSE_BYTES_DEFAULT};
pub use self::metrics::MetricsOptions;
pub(crate) use self::metrics::MetricsSettings;
pub(crate) use self::proxy::Proxy;
pub(crate) use self::target::Target;
pub use self::tls::TlsOptions;

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
    pub endpoint: String,
    /// How requests are made to [`endpoint`](Self::endpoint).
    pub endpoint_options: EndpointOptions,
    /// Where spans go, each of them to all, if that is more than one endpoint. Default empty: to
    /// [`endpoint`](Self::endpoint) alone. At most 64; if there are any, `endpoint` and
    /// `endpoint_options` do not count, whether they come from code or from the environment.
    pub destinations: Vec<Destination>,
    /// Whether spans are accepted and thrown away. Default false. Contexts are still made and passed
    /// on, by `sampler`; threads are still pinned.
    ///
    /// Nothing is sent, there is no buffer and no network thread, and `tail_sampling` holds nothing
    /// back. So all other values are ignored or brought into their range instead of being checked: a
    /// service in which tracing is disabled starts. Spans count as accepted or sampled out, and no
    /// destination counts them. `health` reports `ThreadState::Disabled`.
    ///
    /// Memory: 1 KiB for each of `open_spans_max` when a recorder is made.
    pub disabled: bool,
    /// An OpenTelemetry configuration file. Default none. Such files cannot be read yet, so
    /// [`Collector::new`](crate::Collector::new) fails if there is one.
    pub config_file: Option<PathBuf>,
    /// The resource's `service.name`. Default `unknown_service:` and the executable's name.
    pub service_name: String,
    /// More attributes of the resource. Default none. Unless given here, `telemetry.sdk.*`,
    /// `process.pid`, `process.executable.name`, `host.name`, `host.arch` and `os.type` are added;
    /// of several with the same key the last counts.
    pub resource_attributes: Vec<KeyValue>,
    /// The schema that the resource's attributes follow. Default none.
    pub resource_schema_url: String,
    /// Which open spans are recorded. Default: as their parent; all that have none. It does
    /// not apply to spans that are recorded in one go.
    pub sampler: Sampler,
    /// Whether a trace's spans wait for the end of their local root, which decides whether they
    /// are kept. Default no.
    pub tail_sampling: Option<TailSampling>,
    /// Limits on a span's data. Default: as the specification has it.
    pub span_limits: SpanLimits,
    /// Where recorders take new ids from. Default [`IdGenerator::Random`]. (Those of
    /// [`Span::new`](crate::Span::new) are random in any case.)
    pub id_generator: IdGenerator,
    /// Spans with memory for their data that can be open on one recorder at a time, detached ones
    /// included. Default 32, at most 65,536. Further ones lose the data that
    /// [`OpenSpan`](crate::OpenSpan) lists, and are counted in
    /// [`Stats::spans_without_memory`](crate::Stats::spans_without_memory).
    ///
    /// Memory, touched when a recorder is made: [`open_span_bytes`](Self::open_span_bytes) and 64
    /// bytes for each, 130 KiB by default.
    pub open_spans_max: usize,
    /// Bytes that the name, trace state, attributes, events, links and status description of an
    /// open span can take, encoded. Default 4,096. If it is larger than `slab_bytes` less 256, it is
    /// taken to be that.
    pub open_span_bytes: usize,
    /// Spans of one recorder that make a batch: they are sent without waiting for
    /// [`batch_timeout_ms`](Self::batch_timeout_ms). Default 4,096. A request holds whatever is
    /// ready on all threads: more under load, fewer when the timeout comes first.
    pub batch_size: usize,
    /// Milliseconds a finished span waits at most before it is sent, as long as the endpoint
    /// takes requests. Default 200.
    pub batch_timeout_ms: u64,
    /// Spans held while they wait for delivery. Default 100,000.
    ///
    /// Memory: 256 bytes for each, in whole slabs and one more for every 32, allocated and touched
    /// at start: 26.5 MB by default. So slightly more spans fit in the best case. Larger spans
    /// fill it before this number is reached. Besides, each recorder has a slab of its own.
    pub buffer_capacity: usize,
    /// Size of a slab: the largest span that can be recorded (less 128 bytes), and the memory
    /// that each recorder has for itself. Default 64 KiB, at most 16 MiB; rounded up to whole
    /// pages.
    pub slab_bytes: usize,
    /// Where the pipeline's own metrics go. Default nowhere.
    pub metrics: Option<MetricsOptions>,
    /// Callback for rare events, besides the `log` facade. Default none.
    pub on_notice: Option<OnNotice>,
    /// Handling of spans when the buffer is full. Default [`Overflow::Refuse`].
    pub overflow: Overflow,
    /// The core the network thread is pinned to. Default none: the scheduler decides, among the
    /// cores of the thread that calls [`Collector::new`](crate::Collector::new), so call that
    /// before pinning this one.
    pub network_core: Option<usize>,
    /// The cores [`spawn_pinned`](crate::Collector::spawn_pinned) may pin to. Default empty:
    /// any core the process may use.
    pub worker_cores: Vec<usize>,
    /// Recorders that can exist at a time, not counting those behind `collect`. Default 1,024.
    /// Each further instrumentation scope that one of them writes to counts as one more. While at
    /// least half of the number is free, a recorder goes on with the scopes of one that is gone.
    ///
    /// Memory, touched when a recorder is made: a slab, kept for the next one, and 24 bytes for
    /// each slab of the buffer (up to the next power of two), and 1 KiB. Besides, what open spans
    /// and held traces take: see [`open_spans_max`](Self::open_spans_max) and
    /// [`TailSampling`].
    pub recorders_max: usize,
    /// Milliseconds [`shutdown`](crate::Collector::shutdown) gives undelivered spans. Default
    /// 5,000; 0 drops what waits.
    pub shutdown_timeout_ms: u64,
    /// Descriptions of variables that [`from_env`](Self::from_env) could not use. Default none.
    ///
    /// [`Collector::new`](crate::Collector::new) passes each to `on_notice`
    /// ([`NoticeKind::Misconfigured`](crate::NoticeKind::Misconfigured)) and to the `log` facade, and
    /// if neither is set up, writes it to standard error. Clear it to have none reported.
    pub warnings: Vec<String>,
}

impl Config {
    /// The configuration that the environment asks for: the default, changed by these variables of
    /// the [OpenTelemetry specification]. Values set in code beat it:
    ///
    /// ```
    /// use otlp_collector::Config;
    ///
    /// let config = Config {
    ///     service_name: "checkout".to_string(),
    ///     ..Config::from_env()
    /// };
    /// println!("{config}"); // all that holds, without secrets
    /// ```
    ///
    /// | variable | changes |
    /// | --- | --- |
    /// | `OTEL_EXPORTER_OTLP_ENDPOINT` | `endpoint`: a base, `/v1/traces` is appended in any case |
    /// | `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | `endpoint`, as it is: `path` becomes empty if it ends differently (so set `endpoint_options` too if you set `endpoint`) |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]HEADERS` | `headers`: `name=value,…`, values percent-encoded |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]TIMEOUT` | `request_timeout_ms`; 0 is a day |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]COMPRESSION` | `compression`: `none`, `gzip`, `zstd` |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]CERTIFICATE` | `tls.ca_file` |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]CLIENT_CERTIFICATE`, `…_CLIENT_KEY` | `tls.client_certificate_file`, `tls.client_key_file` |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]PROTOCOL` | nothing: `http/protobuf` is the only one |
    /// | `OTEL_BSP_SCHEDULE_DELAY` | `batch_timeout_ms`; 0 is 1 |
    /// | `OTEL_BSP_EXPORT_TIMEOUT` | `retry_budget_ms`; 0 is a day |
    /// | `OTEL_BSP_MAX_QUEUE_SIZE` | `buffer_capacity` |
    /// | `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` | `batch_size`, at most `buffer_capacity` |
    /// | `OTEL_TRACES_SAMPLER`, `…_ARG` | `sampler`: `always_on`, `always_off`, `traceidratio`, each also after `parentbased_` |
    /// | `OTEL_[SPAN_]ATTRIBUTE_VALUE_LENGTH_LIMIT`, `OTEL_[SPAN_]ATTRIBUTE_COUNT_LIMIT`, `OTEL_{EVENT,LINK}_ATTRIBUTE_COUNT_LIMIT`, `OTEL_SPAN_{EVENT,LINK}_COUNT_LIMIT` | `span_limits` |
    /// | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | `service_name`, `resource_attributes`: `key=value,…`, percent-encoded |
    /// | `OTEL_TRACES_EXPORTER` | `disabled`, if it is `none` instead of `otlp` |
    /// | `OTEL_SDK_DISABLED` | `disabled`, and `sampler` to `AlwaysOff` |
    /// | `OTEL_CONFIG_FILE` | `config_file`; all others are ignored |
    ///
    /// Those for traces beat those for all signals. An empty variable is one that is not set. A value
    /// that cannot be used is ignored, and described in [`warnings`](Self::warnings); but an endpoint
    /// that is no URL, and for an `https` endpoint a file that cannot be read or a feature that is
    /// missing, are errors of [`Collector::new`](crate::Collector::new): to send elsewhere, or without
    /// what was asked for, would be worse. So is `OTEL_CONFIG_FILE`, even where destinations are set in
    /// code: the file stands for all other settings too. To start without it, unset the variable, or
    /// set [`config_file`](Self::config_file) to `None` in code and configure the rest there.
    ///
    /// Where [`destinations`](Self::destinations) are set in code, variables about the endpoint have
    /// no effect. Defaults that the specification gives are not taken over where this library has
    /// others. `OTEL_PROPAGATORS`, `OTEL_LOG_LEVEL`, `OTEL_ENTITIES` and
    /// `OTEL_EXPORTER_OTLP_[TRACES_]INSECURE`, which is for gRPC, change nothing; nor do `HTTP_PROXY`
    /// and its like.
    ///
    /// [OpenTelemetry specification]: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    #[must_use]
    pub fn from_env() -> Self {
        // One that is not Unicode counts as set, so that it gets a warning.
        let lookup = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
        Self::from_vars(lookup)
    }

    /// As [`from_env`](Self::from_env), with variables from elsewhere.
    ///
    /// ```
    /// use otlp_collector::Config;
    ///
    /// let config = Config::from_vars(|name| match name {
    ///     "OTEL_SERVICE_NAME" => Some("checkout".to_string()),
    ///     "OTEL_BSP_SCHEDULE_DELAY" => Some("soon".to_string()),
    ///     _ => None,
    /// });
    /// assert_eq!(config.service_name, "checkout");
    /// assert_eq!(config.warnings.len(), 1);
    /// ```
    #[must_use]
    pub fn from_vars(lookup: impl Fn(&str) -> Option<String>) -> Self {
        env::config(&lookup)
    }
}

/// Handling of spans when the buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_string(),
            endpoint_options: EndpointOptions::default(),
            destinations: Vec::new(),
            disabled: false,
            config_file: None,
            service_name: default_service_name(),
            resource_attributes: Vec::new(),
            resource_schema_url: String::new(),
            sampler: Sampler::default(),
            tail_sampling: None,
            span_limits: SpanLimits::default(),
            id_generator: IdGenerator::Random,
            open_spans_max: 32,
            open_span_bytes: 4096,
            batch_size: 4096,
            batch_timeout_ms: 200,
            buffer_capacity: 100_000,
            slab_bytes: 64 * 1024,
            metrics: None,
            on_notice: None,
            overflow: Overflow::Refuse,
            network_core: None,
            worker_cores: Vec::new(),
            recorders_max: 1024,
            shutdown_timeout_ms: 5000,
            warnings: Vec::new(),
        }
    }
}

const DEFAULT_ENDPOINT: &str = "http://localhost:4318";
/// Bytes a span is reckoned to take when [`Config::buffer_capacity`] becomes memory.
const SPAN_BYTES: usize = 256;
const SLAB_BYTES_MAX: usize = 16 << 20;
const BUFFER_CAPACITY_MAX: usize = 1 << 26;
/// So many that some are with recorders, some on the way and some free, however small the buffer.
const SLABS_MIN: usize = 8;
/// For so many slabs there is one more, since recorders that end leave theirs partly filled.
const SLABS_PER_SPARE: usize = 32;

const RECORDERS_LIMIT: usize = 1 << 20;
const OPEN_SPANS_LIMIT: usize = 1 << 16;
/// The most that ids, times, kind, flags, dropped counts and a status of an open span take.
const SPAN_FIXED_BYTES_MAX: usize = 128;
const OPEN_SPAN_BYTES_MIN: usize = 64;
/// The most that open spans, and held traces, of one recorder can be given.
const RECORDER_BYTES_MAX: usize = 1 << 30;

/// A checked [`Config`].
pub(crate) struct Settings {
    /// Spans are thrown away: there is neither a buffer nor a network thread.
    pub(crate) disabled: bool,
    /// Where spans go, each of them to all.
    pub(crate) destinations: Vec<DestinationSettings>,
    pub(crate) envelope: Envelope,
    pub(crate) sampler: Sampler,
    pub(crate) tail_sampling: Option<TailSampling>,
    pub(crate) span_limits: SpanLimits,
    pub(crate) id_generator: IdGenerator,
    pub(crate) open_spans_max: usize,
    pub(crate) open_span_bytes: usize,
    pub(crate) batch_size: u32,
    pub(crate) batch_timeout: Duration,
    /// Slabs for sealed spans that wait; each recorder has one more.
    pub(crate) slabs: usize,
    /// Recorders behind `collect`.
    pub(crate) leases: usize,
    pub(crate) buffer_capacity: u64,
    pub(crate) slab_bytes: usize,
    pub(crate) spans_per_slab: u32,
    /// The smallest limit of a request over all endpoints.
    pub(crate) request_bytes_max: usize,
    pub(crate) metrics: Option<MetricsSettings>,
    pub(crate) overflow: Overflow,
    pub(crate) network_core: Option<usize>,
    pub(crate) worker_cores: Vec<usize>,
    pub(crate) recorders_max: usize,
    pub(crate) shutdown_timeout: Duration,
}

impl Settings {
    /// Checks every value; the error names the first one that cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        if config.disabled {
            return Ok(Self::disabled(config));
        }
        check_file(config)?;
        check_sizes(config)?;
        check_times(config)?;
        check_limits(&config.span_limits)?;
        check_sampling(config)?;
        check_attributes("resource_attributes", &config.resource_attributes)?;
        affinity::check(config.network_core.iter().chain(&config.worker_cores))?;

        let slab_bytes = config.slab_bytes.next_multiple_of(PAGE_BYTES);
        let full_slabs = (config.buffer_capacity * SPAN_BYTES)
            .div_ceil(slab_bytes)
            .max(SLABS_MIN);
        let slabs = full_slabs + full_slabs.div_ceil(SLABS_PER_SPARE);
        let envelope = envelope(resource::attributes(config), &config.resource_schema_url);
        let room_per_slab = slab_bytes - OVERHEAD_BYTES;
        let request_bytes_min =
            room_per_slab + envelope.resource_bytes_max() + envelope.scope_bytes_max(0);
        let request_bytes = RequestBytes {
            min: request_bytes_min,
            buffer: slabs * slab_bytes,
            slab: config.slab_bytes,
        };
        let destinations = destination::check(&destinations(config), &request_bytes)?;
        let metrics = (config.metrics.as_ref())
            .map(|metrics| metrics::check(metrics, &request_bytes))
            .transpose()?;
        let endpoints = destinations.iter().flat_map(|d| &d.endpoints);
        let request_bytes_max = endpoints.map(|e| e.request_bytes_max).min();
        Ok(Self {
            disabled: false,
            destinations,
            envelope,
            sampler: config.sampler.clone(),
            tail_sampling: config.tail_sampling.clone(),
            span_limits: config.span_limits,
            id_generator: config.id_generator.clone(),
            open_spans_max: config.open_spans_max,
            open_span_bytes: config
                .open_span_bytes
                .min(room_per_slab - SPAN_FIXED_BYTES_MAX),
            batch_size: config.batch_size as u32,
            batch_timeout: Duration::from_millis(config.batch_timeout_ms),
            slabs,
            leases: leases(),
            buffer_capacity: config.buffer_capacity as u64,
            slab_bytes,
            spans_per_slab: config.buffer_capacity.div_ceil(full_slabs) as u32,
            request_bytes_max: request_bytes_max.unwrap_or(request_bytes_min),
            metrics,
            overflow: config.overflow,
            network_core: config.network_core,
            worker_cores: config.worker_cores.clone(),
            recorders_max: config.recorders_max,
            shutdown_timeout: Duration::from_millis(config.shutdown_timeout_ms),
        })
    }
}

impl Settings {
    /// Whether a scope leaves room for spans in a request.
    pub(crate) fn check_scope(&self, scope: &InstrumentationScope) -> Result<(), Error> {
        check_attributes(&format!("the scope {:?}", scope.name), &scope.attributes)?;
        let bytes = self.slab_bytes + self.envelope.bytes_with(scope);
        if bytes > self.request_bytes_max {
            return Err(Error::config(format!(
                "a request with the scope {:?} and one slab takes {bytes} bytes, and may take {} \
                 (request_bytes_max, or its share of the buffer): raise that or say less of the scope",
                scope.name, self.request_bytes_max
            )));
        }
        Ok(())
    }
}

/// All destinations: those given, or the one endpoint.
fn destinations(config: &Config) -> Vec<Destination> {
    if config.destinations.is_empty() {
        let endpoint = Endpoint {
            url: config.endpoint.clone(),
            options: config.endpoint_options.clone(),
        };
        return vec![endpoint.into()];
    }
    config.destinations.clone()
}

fn check_file(config: &Config) -> Result<(), Error> {
    match &config.config_file {
        None => Ok(()),
        Some(file) => Err(Error::config(format!(
            "config_file (OTEL_CONFIG_FILE) is {file:?}, and this library cannot read such files: \
             unset the variable, or set config_file to None in code and configure the rest there"
        ))),
    }
}

fn check_sizes(config: &Config) -> Result<(), Error> {
    let Config {
        batch_size,
        buffer_capacity,
        slab_bytes,
        recorders_max,
        ..
    } = *config;
    in_range("buffer_capacity", buffer_capacity, 1, BUFFER_CAPACITY_MAX)?;
    in_range("batch_size", batch_size, 1, BUFFER_CAPACITY_MAX)?;
    if batch_size > buffer_capacity {
        return Err(Error::config(format!(
            "batch_size is {batch_size}, more than buffer_capacity ({buffer_capacity}) can hold: \
             lower batch_size or raise buffer_capacity"
        )));
    }
    in_range("slab_bytes", slab_bytes, PAGE_BYTES, SLAB_BYTES_MAX)?;
    in_range("recorders_max", recorders_max, 1, RECORDERS_LIMIT)?;
    in_range("open_spans_max", config.open_spans_max, 0, OPEN_SPANS_LIMIT)?;
    let open_span_bytes = config.open_span_bytes;
    in_range(
        "open_span_bytes",
        open_span_bytes,
        OPEN_SPAN_BYTES_MIN,
        SLAB_BYTES_MAX,
    )?;
    let bytes = config.open_spans_max * open_span_bytes;
    in_range(
        "open_spans_max times open_span_bytes",
        bytes,
        0,
        RECORDER_BYTES_MAX,
    )
}

fn check_attributes(of: &str, attributes: &[KeyValue]) -> Result<(), Error> {
    if attributes.iter().any(|attribute| attribute.key.is_empty()) {
        return Err(Error::config(format!("{of} has an empty key: name it")));
    }
    match attributes
        .iter()
        .find(|attribute| attribute.value.messages() > MESSAGES_MAX)
    {
        None => Ok(()),
        Some(attribute) => Err(Error::config(format!(
            "{of} has values nested too deep for receivers in {:?}: 45 arrays or 30 lists at most",
            attribute.key
        ))),
    }
}

fn check_limits(limits: &SpanLimits) -> Result<(), Error> {
    for (name, count) in [
        ("attribute_count", limits.attribute_count),
        ("event_attribute_count", limits.event_attribute_count),
        ("link_attribute_count", limits.link_attribute_count),
    ] {
        let name = format!("{name} of span_limits");
        in_range(&name, count as usize, 0, LOOKED_AT_MAX)?;
    }
    Ok(())
}

fn check_sampling(config: &Config) -> Result<(), Error> {
    if let Some(ratio) = config.sampler.invalid_ratio() {
        return Err(Error::config(format!(
            "sampler has the ratio {ratio}: it must be from 0 to 1"
        )));
    }
    let Some(tail) = &config.tail_sampling else {
        return Ok(());
    };
    in_range(
        "held_traces_max of tail_sampling",
        tail.held_traces_max,
        1,
        1 << 16,
    )?;
    in_range(
        "held_trace_bytes of tail_sampling",
        tail.held_trace_bytes,
        256,
        SLAB_BYTES_MAX,
    )?;
    let bytes = tail.held_traces_max * tail.held_trace_bytes;
    in_range(
        "held_traces_max times held_trace_bytes",
        bytes,
        0,
        RECORDER_BYTES_MAX,
    )?;
    if tail.keep_if.one_in == Some(0) {
        return Err(Error::config(
            "one_in of tail_sampling is 0: one in no traces cannot be kept; use None",
        ));
    }
    Ok(())
}

/// The longest time that can be given.
const DAY_MS: u64 = 86_400_000;

fn check_times(config: &Config) -> Result<(), Error> {
    in_range("batch_timeout_ms", config.batch_timeout_ms, 1, DAY_MS)?;
    in_range("shutdown_timeout_ms", config.shutdown_timeout_ms, 0, DAY_MS)?;
    if let Overflow::Block { timeout_ms } = config.overflow {
        in_range("timeout_ms of Overflow::Block", timeout_ms, 0, DAY_MS)?;
    }
    Ok(())
}

fn in_range<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: T,
    min: T,
    max: T,
) -> Result<(), Error> {
    if value < min || value > max {
        return Err(Error::config(format!(
            "{name} is {value}: it must be from {min} to {max}"
        )));
    }
    Ok(())
}

/// How many recorders `collect` may use: many more than cores, since a thread that loses its core
/// in the middle of a call keeps its recorder until it runs again.
fn leases() -> usize {
    let cores = available_parallelism().map_or(1, usize::from);
    (32 * cores).min(256)
}

/// The resource, and the scope of spans that have no other.
fn envelope(resource: Vec<KeyValue>, schema_url: &str) -> Envelope {
    let own_scope = InstrumentationScope {
        version: env!("CARGO_PKG_VERSION").to_string(),
        ..InstrumentationScope::new(env!("CARGO_PKG_NAME"))
    };
    Envelope::new(resource, schema_url, &own_scope)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The message of the error that `change` of the default leads to.
    fn error(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        let error = Settings::new(&config).err().expect("no error");
        assert!(error.is_config() || error.is_core());
        error.to_string()
    }

    #[test]
    fn the_default_is_valid_and_holds_its_capacity() {
        let settings = Settings::new(&Config::default()).unwrap();
        assert_eq!((settings.slabs, settings.spans_per_slab), (391 + 13, 256));
    }

    #[test]
    fn small_buffers_have_several_slabs_and_hold_few_spans() {
        let config = Config {
            buffer_capacity: 100,
            batch_size: 10,
            ..Config::default()
        };
        let settings = Settings::new(&config).unwrap();
        assert_eq!((settings.slabs, settings.spans_per_slab), (8 + 1, 13));
    }

    #[test]
    fn errors_name_the_field_and_the_value() {
        assert_eq!(
            error(|c| c.batch_size = 0),
            "batch_size is 0: it must be from 1 to 67108864"
        );
        assert_eq!(
            error(|c| c.batch_size = 200_000),
            "batch_size is 200000, more than buffer_capacity (100000) can hold: \
             lower batch_size or raise buffer_capacity"
        );
        for (name, message) in [
            ("buffer_capacity is 0", error(|c| c.buffer_capacity = 0)),
            (
                "buffer_capacity is 1844",
                error(|c| c.buffer_capacity = usize::MAX),
            ),
            ("slab_bytes is 100", error(|c| c.slab_bytes = 100)),
            (
                "request_bytes_max is 0",
                error(|c| c.endpoint_options.request_bytes_max = 0),
            ),
            (
                "request_bytes_max is 5000",
                error(|c| c.endpoint_options.request_bytes_max = 5000),
            ),
            (
                "response_bytes_max is 67108865",
                error(|c| c.endpoint_options.response_bytes_max = (64 << 20) + 1),
            ),
            ("recorders_max is 0", error(|c| c.recorders_max = 0)),
            ("batch_timeout_ms is 0", error(|c| c.batch_timeout_ms = 0)),
            (
                "request_timeout_ms is 1844",
                error(|c| c.endpoint_options.request_timeout_ms = u64::MAX),
            ),
            (
                "retry_initial_ms is 6000",
                error(|c| c.endpoint_options.retry_initial_ms = 6000),
            ),
        ] {
            assert!(message.starts_with(name), "{message}");
        }
    }
}
