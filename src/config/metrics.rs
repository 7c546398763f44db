//! Options of the pipeline's own metrics.

use std::sync::Arc;
use std::time::Duration;

use crate::config::endpoint::{Endpoint, EndpointOptions};
use crate::config::endpoint_settings::{self, EndpointSettings, RequestBytes};
use crate::config::range::{DAY_MS, in_range};
use crate::config::redaction::without_secrets;
use crate::error::Error;

/// Options of the pipeline's own metrics: those of OpenTelemetry's semantic conventions (`otel.sdk.…`, in
/// development) and this library's (`otlp_collector.…`), the same as in
/// [`Stats::to_prometheus`](crate::stats::Stats::to_prometheus).
///
/// ```
/// use otlp_collector::config::MetricsOptions;
/// use otlp_collector::Config;
///
/// let config = Config {
///     metrics: Some(MetricsOptions::new("http://localhost:4318")),
///     ..Config::default()
/// };
/// # drop(config);
/// ```
///
/// The network thread sends them with the resource of the spans. Metrics that were not delivered when the
/// next ones are due are replaced by those. At shutdown they are sent once more after all spans have an
/// outcome, in one attempt of at most a second.
///
/// Write them with struct update syntax, `..MetricsOptions::new(url)`: a minor release may add fields.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsOptions {
    /// The receiver. [`MetricsOptions::new`] sets its [`path`](EndpointOptions::path) to `/v1/metrics`; a
    /// path for traces is an error.
    pub endpoint: Endpoint,
    /// Milliseconds between exports. Default 60,000, at least 1, at most a day.
    pub interval_ms: u64,
}

impl MetricsOptions {
    /// Creates options for `/v1/metrics` of a receiver, with default options otherwise.
    pub fn new(url: impl Into<String>) -> Self {
        let options = EndpointOptions {
            path: "/v1/metrics".to_string(),
            ..EndpointOptions::default()
        };
        Self {
            endpoint: Endpoint {
                url: url.into(),
                options,
            },
            interval_ms: 60_000,
        }
    }
}

/// Checked [`MetricsOptions`].
pub(crate) struct MetricsSettings {
    pub(crate) endpoint: Arc<EndpointSettings>,
    pub(crate) interval: Duration,
}

pub(super) fn check(
    options: &MetricsOptions,
    bytes: &RequestBytes,
) -> Result<MetricsSettings, Error> {
    in_range("interval_ms of metrics", options.interval_ms, 1, DAY_MS)?;
    let endpoint = endpoint_settings::check(&options.endpoint, 1, bytes)?;
    if endpoint.target.path.contains("/v1/traces") {
        return Err(Error::config(format!(
            "the endpoint of metrics is {:?}, which is for traces; write the base URL",
            without_secrets(&options.endpoint.url)
        )));
    }
    Ok(MetricsSettings {
        endpoint: Arc::new(endpoint),
        interval: Duration::from_millis(options.interval_ms),
    })
}
