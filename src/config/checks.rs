//! Checks of a [`Config`]'s values.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use crate::buffer::{CELL_BYTES, PAGE_BYTES};
use crate::config::endpoint::EndpointOptions;
use crate::config::options::{Config, Overflow};
use crate::config::range::{DAY_MS, in_range};
use crate::config::redaction::without_secrets;
use crate::error::Error;
use crate::platform::affinity;
use crate::span::attribute::KeyValue;
use crate::span::limits::{LOOKED_AT_MAX, MESSAGES_MAX, SpanLimits};

const SLAB_BYTES_MAX: usize = 16 << 20;
pub(super) const BUFFER_CAPACITY_MAX: usize = 1 << 26;
const RECORDERS_LIMIT: usize = 1 << 20;
const OPEN_SPAN_BYTES_TOTAL_MAX: usize = 16 << 30;
const OPEN_SPAN_BYTES_MIN: usize = 64;

pub(super) fn check_plain_values(config: &mut Config) -> Result<(), Error> {
    check_file(config)?;
    check_one_way_to_name_receivers(config)?;
    check_sizes(config)?;
    check_times(config)?;
    check_limits(&config.span_limits)?;
    check_sampling(config)?;
    check_attributes("resource_attributes", &config.resource_attributes)?;
    check_service_name(&config.service_name)?;
    check_cores(config)
}

fn check_cores(config: &Config) -> Result<(), Error> {
    if let Some(core) = config.network_core {
        affinity::check("network_core", core)?;
    }
    for (index, core) in config.pinned_cores.iter().enumerate() {
        affinity::check(&format!("pinned_cores[{index}]"), *core)?;
    }
    Ok(())
}

fn check_service_name(name: &str) -> Result<(), Error> {
    if !name.is_empty() && name.trim().is_empty() {
        return Err(Error::config(format!(
            "service_name is {name:?}; write a name, or leave it empty for the default"
        )));
    }
    Ok(())
}

/// Returns all sizes with their ranges.
fn sizes(config: &mut Config) -> [(&'static str, &mut usize, RangeInclusive<usize>); 6] {
    [
        (
            "buffer_capacity",
            &mut config.buffer_capacity,
            1..=BUFFER_CAPACITY_MAX,
        ),
        (
            "batch_size",
            &mut config.batch_size,
            1..=BUFFER_CAPACITY_MAX,
        ),
        (
            "slab_bytes",
            &mut config.slab_bytes,
            PAGE_BYTES..=SLAB_BYTES_MAX,
        ),
        (
            "recorders_max",
            &mut config.recorders_max,
            1..=RECORDERS_LIMIT,
        ),
        (
            "open_span_bytes_total",
            &mut config.open_span_bytes_total,
            CELL_BYTES..=OPEN_SPAN_BYTES_TOTAL_MAX,
        ),
        (
            "open_span_bytes",
            &mut config.open_span_bytes,
            OPEN_SPAN_BYTES_MIN..=SLAB_BYTES_MAX,
        ),
    ]
}

/// Clamps all sizes to their ranges.
pub(super) fn clamp_sizes(config: &mut Config) {
    for (_, value, range) in sizes(config) {
        *value = (*value).clamp(*range.start(), *range.end());
    }
}

fn check_sizes(config: &mut Config) -> Result<(), Error> {
    for (name, value, range) in sizes(config) {
        in_range(name, *value, *range.start(), *range.end())?;
    }
    let Config {
        batch_size,
        buffer_capacity,
        ..
    } = *config;
    if batch_size > buffer_capacity {
        return Err(Error::config(format!(
            "batch_size is {batch_size}, more than buffer_capacity ({buffer_capacity}); lower \
             batch_size or raise buffer_capacity"
        )));
    }
    Ok(())
}

fn check_file(config: &Config) -> Result<(), Error> {
    match &config.config_file {
        None => Ok(()),
        Some(file) => Err(Error::config(format!(
            "config_file (OTEL_CONFIG_FILE) is {file:?}, but such files are not supported: unset the \
             variable, or set config_file to None in code and configure the rest there"
        ))),
    }
}

/// Refuses options that [`Config::destinations`] would silently replace.
fn check_one_way_to_name_receivers(config: &Config) -> Result<(), Error> {
    if config.destinations.is_empty() {
        return Ok(());
    }
    let default = Config::default();
    if config.endpoint != default.endpoint {
        return Err(Error::config(format!(
            "endpoint is {:?}, but destinations are set too and replace it: remove endpoint, or \
             move it into destinations; if it is from the environment, unset \
             OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or set endpoint \
             to its default in code",
            without_secrets(&config.endpoint)
        )));
    }
    if config.endpoint_options != default.endpoint_options {
        let changed = changed_fields(&config.endpoint_options.fields());
        return Err(Error::config(format!(
            "endpoint_options are changed ({}), but destinations are set too and have options of \
             their own: remove endpoint_options, or move them to the endpoints in destinations; if \
             they are from the environment, set endpoint_options to their default in code",
            changed.join(", ")
        )));
    }
    Ok(())
}

/// Returns the names of the fields that differ from their defaults.
fn changed_fields(fields: &[(&'static str, &dyn Debug)]) -> Vec<&'static str> {
    let default = EndpointOptions::default();
    let pairs = fields.iter().zip(default.fields());
    pairs
        .filter(|((_, value), (_, default))| format!("{value:?}") != format!("{default:?}"))
        .map(|((name, _), _)| *name)
        .collect()
}

fn check_times(config: &Config) -> Result<(), Error> {
    in_range("batch_timeout_ms", config.batch_timeout_ms, 1, DAY_MS)?;
    in_range("shutdown_timeout_ms", config.shutdown_timeout_ms, 0, DAY_MS)?;
    if let Overflow::Block { timeout_ms } = config.overflow {
        in_range("timeout_ms of Overflow::Block", timeout_ms, 0, DAY_MS)?;
    }
    Ok(())
}

pub(super) fn check_attributes(of: &str, attributes: &[KeyValue]) -> Result<(), Error> {
    if attributes.iter().any(|attribute| attribute.key.is_empty()) {
        return Err(Error::config(format!(
            "{of} has an empty key; write a name"
        )));
    }
    match attributes
        .iter()
        .find(|attribute| attribute.value.messages() > MESSAGES_MAX)
    {
        None => Ok(()),
        Some(attribute) => Err(Error::config(format!(
            "{of} nests the value of {:?} deeper than receivers read; use at most 45 arrays or 30 \
             key-value lists",
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
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::{Endpoint, Settings};

    /// Returns the error's message after `change` of the default.
    fn error(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        let error = Settings::new(&config).err().expect("no error");
        assert!(error.is_config() || error.is_core());
        error.to_string()
    }

    #[test]
    fn errors_name_the_field_and_the_value() {
        assert_eq!(
            error(|c| c.batch_size = 0),
            "batch_size is 0: it must be from 1 to 67108864"
        );
        assert_eq!(
            error(|c| c.batch_size = 200_000),
            "batch_size is 200000, more than buffer_capacity (100000); lower batch_size or raise \
             buffer_capacity"
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
            (
                "service_name is \"  \"; write a name",
                error(|c| c.service_name = "  ".to_string()),
            ),
            (
                "network_core is 99999: this process may use",
                error(|c| c.network_core = Some(99_999)),
            ),
            (
                "pinned_cores[0] is 99999: this process may use",
                error(|c| c.pinned_cores = vec![99_999]),
            ),
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

    #[test]
    fn destinations_beside_an_endpoint_or_its_options_are_an_error() {
        let destinations = || vec![Endpoint::new("http://localhost:1").into()];
        let message = error(|c| {
            c.destinations = destinations();
            c.endpoint = "http://user:hidden@localhost:2".to_string();
        });
        assert!(
            message.starts_with("endpoint is \"http://(not shown)@localhost:2\", but destinations"),
            "{message}"
        );
        let message = error(|c| {
            c.destinations = destinations();
            c.endpoint_options.connections_max = 3;
            c.endpoint_options.headers = vec![("key".to_string(), "hidden".to_string())];
        });
        assert!(
            message.starts_with("endpoint_options are changed (headers, connections_max), but"),
            "{message}"
        );
        let alone = Config {
            destinations: destinations(),
            ..Config::default()
        };
        assert!(Settings::new(&alone).is_ok());
        let disabled = Config {
            endpoint: "http://localhost:2".to_string(),
            disabled: true,
            ..alone
        };
        assert!(Settings::new(&disabled).is_ok());
    }
}
