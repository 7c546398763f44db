//! The checked configuration.

use std::thread::available_parallelism;
use std::time::Duration;

use crate::buffer::{OVERHEAD_BYTES, PAGE_BYTES};
use crate::config::checks::{check_attributes, check_plain_values};
use crate::config::destination::{self, Destination, DestinationSettings};
use crate::config::endpoint::Endpoint;
use crate::config::endpoint_settings::RequestBytes;
use crate::config::metrics::{self, MetricsSettings};
use crate::config::options::Config;
use crate::config::resource;
use crate::config::tls::TlsOptions;
use crate::error::Error;
use crate::otlp::Envelope;
use crate::span::attribute::KeyValue;
use crate::span::scope::InstrumentationScope;

/// Estimated bytes of a span, for the memory of [`Config::buffer_capacity`].
const SPAN_BYTES: usize = 256;
/// Enough for slabs in recorders, in flight and free at the same time, however small the buffer is.
const SLABS_MIN: usize = 8;
/// One more slab for this many, because dropped recorders leave their slabs partly filled.
const SLABS_PER_SPARE: usize = 32;
/// Most bytes of an open span's ids, times, kind, flags, dropped counts and status code.
const SPAN_FIXED_BYTES_MAX: usize = 128;

/// A checked [`Config`] and the values derived from it.
pub(crate) struct Settings {
    /// The options, checked. An option that needs no conversion is read here. `slab_bytes` and
    /// `open_span_bytes` are the effective values.
    pub(crate) config: Config,
    /// The checked form of `config.destinations`, or of the one endpoint.
    pub(crate) destinations: Vec<DestinationSettings>,
    /// The checked form of `config.metrics`.
    pub(crate) metrics: Option<MetricsSettings>,
    /// The resource and the scopes.
    pub(crate) envelope: Envelope,
    pub(crate) batch_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    /// Sealed slabs that can wait at a time; each lane has two more slabs.
    pub(crate) slabs: usize,
    /// With fewer slabs left than this the network thread is called.
    pub(crate) few_slabs: usize,
    pub(crate) spans_per_slab: u32,
    /// Number of shared recorders, which `collect` uses.
    pub(crate) leases: usize,
    /// The smallest limit of a request over all endpoints.
    pub(crate) request_bytes_max: usize,
}

impl Settings {
    /// Checks all values; the error names the first unusable one.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        if config.disabled {
            return Ok(Self::disabled(config));
        }
        let mut config = copy(config);
        check_plain_values(&mut config)?;
        config.check_source_of_endpoint()?;
        if config.needless_tls().is_some() {
            // A warning, since a variable must not keep a service from starting.
            config.endpoint_options.tls = TlsOptions::default();
        }
        config.slab_bytes = config.slab_bytes.next_multiple_of(PAGE_BYTES);
        let room_per_slab = config.slab_bytes - OVERHEAD_BYTES;
        config.open_span_bytes = (config.open_span_bytes).min(room_per_slab - SPAN_FIXED_BYTES_MAX);

        let full_slabs = (config.buffer_capacity * SPAN_BYTES)
            .div_ceil(config.slab_bytes)
            .max(SLABS_MIN);
        let slabs = full_slabs + full_slabs.div_ceil(SLABS_PER_SPARE);
        let envelope = envelope(
            resource::attributes(&config.service_name, &config.resource_attributes),
            &config.resource_schema_url,
        );
        let request_bytes = RequestBytes {
            min: room_per_slab + envelope.resource_bytes_max() + envelope.scope_bytes_max(0),
            buffer: slabs * config.slab_bytes,
            slab: config.slab_bytes,
        };
        let destinations = destination::check(&destinations(&config), &request_bytes)?;
        let metrics = (config.metrics.as_ref())
            .map(|metrics| metrics::check(metrics, &request_bytes))
            .transpose()?;
        let endpoints = destinations.iter().flat_map(|d| &d.endpoints);
        let request_bytes_max = endpoints.map(|e| e.options.request_bytes_max).min();
        Ok(Self {
            destinations,
            metrics,
            envelope,
            batch_timeout: Duration::from_millis(config.batch_timeout_ms),
            shutdown_timeout: Duration::from_millis(config.shutdown_timeout_ms),
            slabs,
            few_slabs: (slabs / 8).max(1),
            spans_per_slab: config.buffer_capacity.div_ceil(full_slabs) as u32,
            leases: leases(),
            request_bytes_max: request_bytes_max.unwrap_or(request_bytes.min),
            config,
        })
    }

    /// Checks that a request has room for a slab together with this scope.
    pub(crate) fn check_scope(&self, scope: &InstrumentationScope) -> Result<(), Error> {
        check_attributes(&format!("the scope {:?}", scope.name), &scope.attributes)?;
        let bytes = self.config.slab_bytes + self.envelope.bytes_with(scope);
        if bytes > self.request_bytes_max {
            return Err(Error::config(format!(
                "a request with scope {:?} and one slab takes {bytes} bytes, of {} at most \
                 (request_bytes_max, or its share of the buffer): raise request_bytes_max or \
                 buffer_capacity, or shorten the scope",
                scope.name, self.request_bytes_max
            )));
        }
        Ok(())
    }
}

/// Copies the options that settings keep: the callback and the warnings belong to the reporter.
pub(super) fn copy(config: &Config) -> Config {
    Config {
        on_notice: None,
        warnings: Vec::new(),
        ..config.clone()
    }
}

/// Returns the configured destinations, or the one endpoint as a destination.
pub(super) fn destinations(config: &Config) -> Vec<Destination> {
    if config.destinations.is_empty() {
        let endpoint = Endpoint {
            url: config.endpoint.clone(),
            options: config.endpoint_options.clone(),
        };
        return vec![endpoint.into()];
    }
    config.destinations.clone()
}

/// Returns the number of recorders that `collect` shares: many more than cores, since a thread that is
/// preempted during a call keeps its recorder until it runs again.
pub(super) fn leases() -> usize {
    let cores = available_parallelism().map_or(1, usize::from);
    (32 * cores).min(256)
}

/// Creates the envelope with the resource and the scope of spans without one.
pub(super) fn envelope(resource: Vec<KeyValue>, schema_url: &str) -> Envelope {
    let own_scope = InstrumentationScope {
        version: env!("CARGO_PKG_VERSION").to_string(),
        ..InstrumentationScope::new(env!("CARGO_PKG_NAME"))
    };
    Envelope::new(resource, schema_url, &own_scope)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

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
}
