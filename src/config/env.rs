//! Configuration from the `OTEL_*` variables of the OpenTelemetry specification.
//!
//! As the specification demands, an unusable value causes a warning and does not keep a service from
//! starting. [`Config::from_env`] documents the exceptions.

mod vars;

use std::path::PathBuf;

use crate::config::checks::BUFFER_CAPACITY_MAX;
use crate::config::endpoint::Compression;
use crate::config::env::vars::{Vars, decode};
use crate::config::options::Config;
use crate::config::range::DAY_MS;
use crate::config::target::Target;
use crate::span::attribute::{AnyValue, KeyValue};
use crate::span::limits::LOOKED_AT_MAX;
use crate::span::sampler::{ParentBased, Sampler};

impl Config {
    /// Creates a configuration from the process's environment: the default, changed by these variables of
    /// the [OpenTelemetry specification]. Values in code take precedence, each field for itself:
    ///
    /// ```
    /// use otlp_collector::Config;
    ///
    /// let config = Config {
    ///     service_name: "checkout".to_string(),
    ///     ..Config::from_env()
    /// };
    /// println!("{config}"); // all options, without secrets
    /// ```
    ///
    /// So an `endpoint` in code still gets the environment's headers, path and TLS settings. To send
    /// elsewhere, set `endpoint_options` too:
    ///
    /// ```
    /// use otlp_collector::{Config, EndpointOptions};
    ///
    /// let config = Config {
    ///     endpoint: "http://localhost:4318".to_string(),
    ///     endpoint_options: EndpointOptions::default(), // no headers of the environment
    ///     ..Config::from_env()
    /// };
    /// # drop(config);
    /// ```
    ///
    /// | variable | changes |
    /// | --- | --- |
    /// | `OTEL_EXPORTER_OTLP_ENDPOINT` | `endpoint`: a base URL, to which `/v1/traces` is always appended |
    /// | `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | `endpoint`, used as it is: `path` becomes empty unless the URL ends with it |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]HEADERS` | `headers`: `name=value,…`, values percent-encoded |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]TIMEOUT` | `request_timeout_ms`; 0 is a day |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]COMPRESSION` | `compression`: `none`, `gzip`, `zstd`; `none` without the feature |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]CERTIFICATE` | `tls.ca_file` |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]CLIENT_CERTIFICATE`, `…_CLIENT_KEY` | `tls.client_certificate_file`, `tls.client_key_file` |
    /// | `OTEL_EXPORTER_OTLP_[TRACES_]PROTOCOL` | nothing: only `http/protobuf` is supported |
    /// | `OTEL_BSP_SCHEDULE_DELAY` | `batch_timeout_ms`; 0 is 1 |
    /// | `OTEL_BSP_EXPORT_TIMEOUT` | `retry_budget_ms`; 0 is a day |
    /// | `OTEL_BSP_MAX_QUEUE_SIZE` | `buffer_capacity` |
    /// | `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` | `batch_size`, at most `buffer_capacity` |
    /// | `OTEL_TRACES_SAMPLER`, `…_ARG` | `sampler`: `always_on`, `always_off`, `traceidratio`, each also after `parentbased_` |
    /// | `OTEL_[SPAN_]ATTRIBUTE_VALUE_LENGTH_LIMIT`, `OTEL_[SPAN_]ATTRIBUTE_COUNT_LIMIT`, `OTEL_{EVENT,LINK}_ATTRIBUTE_COUNT_LIMIT`, `OTEL_SPAN_{EVENT,LINK}_COUNT_LIMIT` | `span_limits` |
    /// | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | `service_name`, `resource_attributes`: `key=value,…`, percent-encoded |
    /// | `OTEL_TRACES_EXPORTER` | `disabled`, if `none`; the other value is `otlp` |
    /// | `OTEL_SDK_DISABLED` | `disabled`, and `sampler` to `AlwaysOff` |
    /// | `OTEL_CONFIG_FILE` | `config_file`; all others are ignored |
    ///
    /// Variables for traces take precedence over those for all signals. An empty variable counts as unset.
    /// An unusable value is ignored and described in [`warnings`](Self::warnings), except where ignoring it
    /// would send spans elsewhere or without the requested protection. These are errors of
    /// [`Collector::new`](crate::Collector::new):
    ///
    /// * an endpoint that is not a URL;
    /// * for an `https` endpoint, a file that cannot be read, or without the feature `tls`;
    /// * `OTEL_CONFIG_FILE`, even if destinations are set in code, because the file replaces all other
    ///   settings. To start without it, unset the variable, or set [`config_file`](Self::config_file) to
    ///   `None` and configure the rest in code.
    ///
    /// [`destinations`](Self::destinations) in code conflict with variables that change `endpoint` or
    /// `endpoint_options`. To ignore those variables, set both to their defaults in code:
    ///
    /// ```
    /// use otlp_collector::config::Endpoint;
    /// use otlp_collector::{Config, Destination, EndpointOptions};
    ///
    /// let config = Config {
    ///     destinations: vec![Destination::from(Endpoint::new("http://10.0.0.1:4318"))],
    ///     endpoint: Config::default().endpoint,
    ///     endpoint_options: EndpointOptions::default(),
    ///     ..Config::from_env()
    /// };
    /// # drop(config);
    /// ```
    ///
    /// Defaults of this library take precedence over the specification's. `OTEL_PROPAGATORS`,
    /// `OTEL_LOG_LEVEL`, `OTEL_ENTITIES`, `OTEL_EXPORTER_OTLP_[TRACES_]INSECURE` (for gRPC), `HTTP_PROXY` and
    /// the like have no effect.
    ///
    /// [OpenTelemetry specification]: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    #[must_use]
    pub fn from_env() -> Self {
        // A value that is not Unicode counts as set, so that it causes a warning.
        let lookup = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
        Self::from_lookup(lookup)
    }

    /// Creates a configuration as [`from_env`](Self::from_env) does, from the variables that `lookup` returns.
    ///
    /// ```
    /// use otlp_collector::Config;
    ///
    /// let config = Config::from_lookup(|name| match name {
    ///     "OTEL_SERVICE_NAME" => Some("checkout".to_string()),
    ///     "OTEL_BSP_SCHEDULE_DELAY" => Some("soon".to_string()),
    ///     _ => None,
    /// });
    /// assert_eq!(config.service_name, "checkout");
    /// assert_eq!(config.warnings.len(), 1);
    /// ```
    #[must_use]
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        config(&lookup)
    }
}

/// Reads the configuration, with its warnings.
fn config(lookup: &dyn Fn(&str) -> Option<String>) -> Config {
    let mut vars = Vars::new(lookup);
    let mut config = Config {
        config_file: vars.text("OTEL_CONFIG_FILE").map(PathBuf::from),
        ..Config::default()
    };
    if config.config_file.is_some() {
        // All other variables must be ignored (Environment Variable Specification, "Declarative configuration").
        return config;
    }
    read_exporter(&mut vars, &mut config);
    read_propagators(&mut vars);
    read_endpoint(&mut vars, &mut config);
    read_endpoint_options(&mut vars, &mut config);
    read_batching(&mut vars, &mut config);
    read_limits(&mut vars, &mut config);
    read_sampler(&mut vars, &mut config);
    read_resource(&mut vars, &mut config);
    config.warnings = vars.into_warnings();
    config
}

fn read_exporter(vars: &mut Vars<'_>, config: &mut Config) {
    if vars.boolean("OTEL_SDK_DISABLED") {
        config.disabled = true;
        config.sampler = Sampler::AlwaysOff;
    }
    const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
    match vars.word(EXPORTER).as_deref() {
        None | Some("otlp") => {}
        Some("none") => config.disabled = true,
        Some(other) => vars.unknown(EXPORTER, other, "otlp or none"),
    }
    let protocol = vars.first_of(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    );
    if let Some((name, protocol)) = protocol
        && !protocol.eq_ignore_ascii_case("http/protobuf")
    {
        vars.unknown(name, &protocol, "http/protobuf");
    }
}

/// Warns about propagators other than W3C's: this library supports `tracecontext`, and baggage is not
/// about spans.
fn read_propagators(vars: &mut Vars<'_>) {
    const PROPAGATORS: &str = "OTEL_PROPAGATORS";
    let list = vars.word(PROPAGATORS).unwrap_or_default();
    for name in list.split(',').map(str::trim) {
        if !matches!(name, "" | "tracecontext" | "baggage") {
            vars.unknown(PROPAGATORS, name, "tracecontext");
        }
    }
}

fn read_endpoint(vars: &mut Vars<'_>, config: &mut Config) {
    const USUAL_PATH: &str = "/v1/traces";
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let (name, given, url) = if let Some(url) = vars.text(TRACES) {
        (TRACES, url.clone(), url)
    } else if let Some(base) = vars.text(BASE) {
        // Always appended: a base URL that ends with the path gets it twice (OTLP exporter, "Endpoint URLs
        // for OTLP/HTTP").
        let (path, query) = match base.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (&*base, String::new()),
        };
        let url = format!("{}{USUAL_PATH}{query}", path.trim_end_matches('/'));
        (BASE, base, url)
    } else {
        return;
    };
    let Ok(target) = Target::parse(&url, "") else {
        // `Collector::new` reports the error: not to start is better than to send elsewhere.
        config.endpoint = given.clone();
        config.variables.endpoint = Some((name, given));
        return;
    };
    config.variables.endpoint = Some((name, url.clone()));
    let path = target.path.split('?').next().unwrap_or_default();
    if !path.ends_with(USUAL_PATH) {
        config.endpoint_options.path = String::new();
    }
    config.endpoint = url;
}

fn read_endpoint_options(vars: &mut Vars<'_>, config: &mut Config) {
    let options = &mut config.endpoint_options;
    let headers = vars.first_of(
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_HEADERS",
    );
    if let Some((name, headers)) = headers {
        options.headers = vars.headers(name, &headers);
        config.variables.headers = Some((name, options.headers.clone()));
    }
    let compression = vars.first_of(
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
    );
    if let Some((name, compression)) = compression {
        match &*compression.to_ascii_lowercase() {
            "none" => options.compression = Compression::None,
            "gzip" => options.compression = vars.compiled_in(name, Compression::Gzip),
            "zstd" => options.compression = vars.compiled_in(name, Compression::Zstd),
            other => vars.unknown(name, other, "none, gzip or zstd"),
        }
    }
    let timeout = vars.first_of(
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
    );
    if let Some((name, timeout)) = timeout {
        vars.set_timeout(name, &timeout, &mut options.request_timeout_ms);
    }
    read_tls(vars, config);
}

fn read_tls(vars: &Vars<'_>, config: &mut Config) {
    let tls = &mut config.endpoint_options.tls;
    let mut names = Vec::new();
    for (traces, general, file) in [
        (
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            &mut tls.ca_file,
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            &mut tls.client_certificate_file,
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
            &mut tls.client_key_file,
        ),
    ] {
        if let Some((name, value)) = vars.first_of(traces, general) {
            *file = Some(value.into());
            names.push(name);
        }
    }
    if !names.is_empty() {
        config.variables.tls = Some((names, tls.clone()));
    }
}

fn read_batching(vars: &mut Vars<'_>, config: &mut Config) {
    const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
    const EXPORT: &str = "OTEL_BSP_EXPORT_TIMEOUT";
    let delay_ms = &mut config.batch_timeout_ms;
    vars.set_number("OTEL_BSP_SCHEDULE_DELAY", 0, DAY_MS, delay_ms);
    // The shortest delay is a millisecond.
    *delay_ms = (*delay_ms).max(1);
    if let Some(timeout) = vars.text(EXPORT) {
        let retry_budget_ms = &mut config.endpoint_options.retry_budget_ms;
        vars.set_timeout(EXPORT, &timeout, retry_budget_ms);
    }
    let capacity = &mut config.buffer_capacity;
    vars.set_number("OTEL_BSP_MAX_QUEUE_SIZE", 1, BUFFER_CAPACITY_MAX, capacity);
    vars.set_number(BATCH, 1, BUFFER_CAPACITY_MAX, &mut config.batch_size);
    if config.batch_size > config.buffer_capacity {
        if vars.text(BATCH).is_some() {
            vars.warn(format!(
                "{BATCH} is larger than the queue; it is lowered to the queue's size"
            ));
        }
        config.batch_size = config.buffer_capacity;
    }
}

fn read_limits(vars: &mut Vars<'_>, config: &mut Config) {
    const MANY: u32 = u32::MAX;
    const LOOKED_AT: u32 = LOOKED_AT_MAX as u32;
    let limits = &mut config.span_limits;
    // The variable for spans takes precedence, so it is read last.
    for name in [
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    ] {
        let mut length = limits.attribute_value_length.unwrap_or(MANY);
        vars.set_number(name, 0, MANY, &mut length);
        limits.attribute_value_length = Some(length).filter(|length| *length < MANY);
    }
    for (name, max, limit) in [
        (
            "OTEL_ATTRIBUTE_COUNT_LIMIT",
            LOOKED_AT,
            &mut limits.attribute_count,
        ),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", MANY, &mut limits.event_count),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", MANY, &mut limits.link_count),
    ] {
        vars.set_number(name, 0, max, limit);
    }
    limits.event_attribute_count = limits.attribute_count;
    limits.link_attribute_count = limits.attribute_count;
    for (name, limit) in [
        (
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
            &mut limits.attribute_count,
        ),
        (
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
            &mut limits.event_attribute_count,
        ),
        (
            "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
            &mut limits.link_attribute_count,
        ),
    ] {
        vars.set_number(name, 0, LOOKED_AT, limit);
    }
}

fn read_sampler(vars: &mut Vars<'_>, config: &mut Config) {
    const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
    const KNOWN: &str = "always_on, always_off, traceidratio, or one of these after parentbased_";
    if config.sampler == Sampler::AlwaysOff {
        // By `OTEL_SDK_DISABLED`.
        return;
    }
    let Some(name) = vars.word(SAMPLER) else {
        return;
    };
    let root_name = name.strip_prefix("parentbased_");
    let root = match root_name.unwrap_or(&name) {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatio(vars.ratio("OTEL_TRACES_SAMPLER_ARG")),
        _ => return vars.unknown(SAMPLER, &name, KNOWN),
    };
    config.sampler = match root_name {
        Some(_) => ParentBased::new(root).into(),
        None => root,
    };
}

fn read_resource(vars: &mut Vars<'_>, config: &mut Config) {
    const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
    if let Some(list) = vars.text(ATTRIBUTES) {
        match attributes(&list) {
            Some(attributes) => config.resource_attributes = attributes,
            None => vars.warn(format!(
                "{ATTRIBUTES} is ignored; write key=value pairs with commas between them, \
                 percent-encoded where needed"
            )),
        }
    }
    let is_name = |attribute: &KeyValue| attribute.key == "service.name";
    let named = config.resource_attributes.iter().rfind(|a| is_name(a));
    let named = named.and_then(|attribute| match &attribute.value {
        AnyValue::String(name) => Some(name.to_string()),
        _ => None,
    });
    config.resource_attributes.retain(|a| !is_name(a));
    if let Some(name) = vars.text("OTEL_SERVICE_NAME").or(named) {
        config.service_name = name;
    }
}

/// Parses all attributes; `None` if any is malformed.
fn attributes(list: &str) -> Option<Vec<KeyValue>> {
    let pairs = list.split(',').filter(|pair| !pair.trim().is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let (key, value) = (decode(key.trim())?, decode(value.trim())?);
            (!key.is_empty()).then(|| KeyValue::new(key, value))
        })
        .collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Returns the configuration from these variables, after asserting the number of warnings.
    fn read(vars: &[(&str, &str)], warnings: usize) -> Config {
        let lookup = |name: &str| {
            let found = vars.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| value.to_string())
        };
        let mut config = config(&lookup);
        let found = std::mem::take(&mut config.warnings);
        assert_eq!(found.len(), warnings, "{found:?}");
        config
    }

    #[test]
    fn without_variables_or_with_empty_ones_the_default_applies() {
        assert_eq!(read(&[], 0), Config::default());
        let empty = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
            ("OTEL_BSP_SCHEDULE_DELAY", " "),
            ("OTEL_SDK_DISABLED", ""),
            ("OTEL_TRACES_SAMPLER", ""),
        ];
        assert_eq!(read(&empty, 0), Config::default());
    }

    #[test]
    fn a_base_is_extended_and_a_traces_endpoint_is_used_as_it_is() {
        const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        for (name, given, url) in [
            (BASE, "http://h:1", "http://h:1/v1/traces"),
            (BASE, "http://h:1/", "http://h:1/v1/traces"),
            (BASE, "http://h/in", "http://h/in/v1/traces"),
            (BASE, "http://h/v1/traces", "http://h/v1/traces/v1/traces"),
            (BASE, "http://h/in?a=b", "http://h/in/v1/traces?(not shown)"),
            (TRACES, "http://h:1/v1/traces", "http://h:1/v1/traces"),
            (TRACES, "http://h:1", "http://h:1/"),
            (TRACES, "http://h:1/in/", "http://h:1/in/"),
            (TRACES, "http://v1/traces", "http://v1/traces"),
        ] {
            let config = read(&[(name, given)], 0);
            let path = &config.endpoint_options.path;
            let target = crate::config::Target::parse(&config.endpoint, path);
            assert_eq!(target.unwrap().url, url, "{name} {given}");
        }
        let both = read(
            &[(BASE, "http://base"), (TRACES, "http://traces/v1/traces")],
            0,
        );
        assert_eq!(both.endpoint, "http://traces/v1/traces");
        for wrong in [
            "localhost:4318",
            "ftp://h",
            "http://user:secret@h",
            "http://",
        ] {
            for name in [BASE, TRACES] {
                let config = read(&[(name, wrong)], 0);
                // `Collector::new` refuses it.
                let path = &config.endpoint_options.path;
                assert_eq!(config.endpoint, wrong);
                assert!(crate::config::Target::parse(wrong, path).is_err());
            }
        }
    }

    #[test]
    fn headers_are_decoded_and_malformed_ones_are_ignored() {
        const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
        let headers = |list, warnings| {
            let config = read(&[(HEADERS, list)], warnings);
            config.endpoint_options.headers
        };
        let pairs = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string()));
            owned.collect::<Vec<_>>()
        };
        assert_eq!(
            headers("api-key=a%20b+c%3D , x = y=z,,", 0),
            pairs(&[("api-key", "a b+c="), ("x", "y=z")])
        );
        assert_eq!(
            headers(
                "no-value,=v,a b=c,bad=%zz,cut=%2,utf=%ff,line=%0d%0aInjected:1,host=h,ok=1",
                8
            ),
            pairs(&[("ok", "1")])
        );
        let both = read(
            &[
                (HEADERS, "a=1"),
                ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "b=2"),
            ],
            0,
        );
        assert_eq!(both.endpoint_options.headers, pairs(&[("b", "2")]));
    }

    #[test]
    fn compression_without_its_feature_is_a_warning() {
        for (value, compression) in [("GZIP", Compression::Gzip), ("zstd", Compression::Zstd)] {
            let name = "OTEL_EXPORTER_OTLP_COMPRESSION";
            let lookup = |other: &str| (other == name).then(|| value.to_string());
            let config = config(&lookup);
            let expected = if compression.is_compiled_in() {
                assert_eq!(config.warnings, [""; 0]);
                compression
            } else {
                let feature = compression.name();
                assert_eq!(
                    config.warnings,
                    [format!(
                        "{name} is \"{feature}\" and is ignored; enable the feature `{feature}` of \
                         otlp-collector; until then requests are not compressed"
                    )]
                );
                Compression::None
            };
            assert_eq!(config.endpoint_options.compression, expected);
        }
    }

    #[test]
    fn numbers_out_of_range_are_ignored() {
        let config = read(
            &[
                ("OTEL_BSP_SCHEDULE_DELAY", "5000"),
                ("OTEL_BSP_EXPORT_TIMEOUT", "30000"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "2048"),
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ],
            0,
        );
        assert_eq!(
            (config.batch_timeout_ms, config.buffer_capacity),
            (5000, 2048)
        );
        assert_eq!(config.batch_size, 512);
        let options = config.endpoint_options;
        assert_eq!(
            (options.retry_budget_ms, options.request_timeout_ms),
            (30_000, DAY_MS)
        );

        let wrong = [
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "soon"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1e3"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "99999999999999999999"),
            ("OTEL_SPAN_EVENT_COUNT_LIMIT", "-5"),
        ];
        assert_eq!(read(&wrong, wrong.len()), Config::default());

        let clamped = [
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512"),
        ];
        assert_eq!(read(&clamped, 1).batch_size, 100);
        assert_eq!(read(&clamped[..1], 0).batch_size, 100);
    }

    #[test]
    fn limits_of_spans_take_precedence_over_general_ones() {
        let limits = read(
            &[
                ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "100"),
                ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "50"),
                ("OTEL_ATTRIBUTE_COUNT_LIMIT", "10"),
                ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "20"),
                ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "30"),
                ("OTEL_SPAN_LINK_COUNT_LIMIT", "7"),
            ],
            0,
        )
        .span_limits;
        assert_eq!(limits.attribute_value_length, Some(50));
        assert_eq!(limits.attribute_count, 20);
        assert_eq!(limits.event_attribute_count, 30);
        assert_eq!(limits.link_attribute_count, 10);
        assert_eq!((limits.event_count, limits.link_count), (128, 7));
    }

    #[test]
    fn samplers_are_read_by_name_and_ratio() {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        const ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
        let sampler = |name, arg, warnings| read(&[(NAME, name), (ARG, arg)], warnings).sampler;
        assert_eq!(sampler("ALWAYS_OFF", "", 0), Sampler::AlwaysOff);
        assert_eq!(
            sampler("traceidratio", "0.25", 0),
            Sampler::TraceIdRatio(0.25)
        );
        assert_eq!(sampler("traceidratio", "", 0), Sampler::TraceIdRatio(1.0));
        for wrong in ["1.5", "-0.1", "NaN", "half"] {
            assert_eq!(
                sampler("traceidratio", wrong, 1),
                Sampler::TraceIdRatio(1.0)
            );
        }
        assert_eq!(
            sampler("parentbased_traceidratio", "0.5", 0),
            ParentBased::new(Sampler::TraceIdRatio(0.5)).into()
        );
        assert_eq!(sampler("jaeger_remote", "", 1), Sampler::default());
    }

    #[test]
    fn malformed_resource_attributes_are_ignored_as_a_whole() {
        const NAME: &str = "OTEL_SERVICE_NAME";
        const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let config = read(
            &[(
                ATTRIBUTES,
                "service.name=shop, zone = a%2Cb%3D ,service.version=1",
            )],
            0,
        );
        assert_eq!(config.service_name, "shop");
        assert_eq!(
            config.resource_attributes,
            [
                KeyValue::new("zone", "a,b="),
                KeyValue::new("service.version", "1")
            ]
        );
        let both = [(ATTRIBUTES, "service.name=shop"), (NAME, "checkout")];
        assert_eq!(read(&both, 0).service_name, "checkout");
        for wrong in ["a=b,c", "=b,c=d", "a=b,c=%x", "a=%ff"] {
            assert_eq!(
                read(&[(ATTRIBUTES, wrong)], 1),
                Config::default(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn values_disable_tracing_or_are_unknown() {
        let off = read(
            &[
                ("OTEL_SDK_DISABLED", "TRUE"),
                ("OTEL_TRACES_SAMPLER", "always_on"),
            ],
            0,
        );
        assert!(off.disabled && off.sampler == Sampler::AlwaysOff);
        assert!(!read(&[("OTEL_SDK_DISABLED", "1")], 1).disabled);
        let none = read(
            &[
                ("OTEL_TRACES_EXPORTER", "none"),
                ("OTEL_TRACES_SAMPLER", "always_off"),
            ],
            0,
        );
        assert!(none.disabled && none.sampler == Sampler::AlwaysOff);
        for (name, value) in [
            ("OTEL_TRACES_EXPORTER", "console"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
            ("OTEL_PROPAGATORS", "tracecontext,b3"),
        ] {
            assert_eq!(read(&[(name, value)], 1), Config::default());
        }
        let usual = [("OTEL_PROPAGATORS", "tracecontext, baggage")];
        assert_eq!(read(&usual, 0), Config::default());
        let file = [
            ("OTEL_CONFIG_FILE", "otel.yaml"),
            ("OTEL_SERVICE_NAME", "x"),
        ];
        let with_file = Config {
            config_file: Some("otel.yaml".into()),
            ..Config::default()
        };
        assert_eq!(read(&file, 0), with_file);
        let empty = [("OTEL_CONFIG_FILE", " "), ("OTEL_SERVICE_NAME", "x")];
        assert_eq!(read(&empty, 0).service_name, "x");
    }
}
