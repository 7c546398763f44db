//! Where the pipeline's own metrics go.

use std::sync::Arc;
use std::time::Duration;

use crate::config::endpoint::{self, Endpoint, EndpointOptions, EndpointSettings, RequestBytes};
use crate::config::range::{DAY_MS, in_range};
use crate::error::Error;

/// Where the pipeline's own metrics go: those of OpenTelemetry's semantic conventions (`otel.sdk.…`, in
/// development), and this library's (`otlp_collector.…`), the same as on the page of
/// [`Stats::to_prometheus`](crate::Stats::to_prometheus).
///
/// ```
/// use otlp_collector::{Config, MetricsOptions};
///
/// let config = Config {
///     metrics: Some(MetricsOptions::new("http://localhost:4318")),
///     ..Config::default()
/// };
/// # drop(config);
/// ```
///
/// They are sent by the network thread, with the same resource as the spans. What cannot be sent
/// before the next are due is replaced by those. At a shutdown they are sent once more when all
/// spans have an outcome; that is tried once, for a second at most.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsOptions {
    /// The receiver. Its [`path`](EndpointOptions::path) is to be `/v1/metrics`.
    pub endpoint: Endpoint,
    /// Milliseconds from one time to the next. Default 60,000.
    pub interval_ms: u64,
}

impl MetricsOptions {
    /// To `/v1/metrics` of a receiver, with the other options' defaults.
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
    let endpoint = endpoint::check(&options.endpoint, 1, bytes)?;
    if endpoint.target.path.contains("/v1/traces") {
        return Err(Error::config(format!(
            "the endpoint of metrics is {:?}, which is for traces: give the base URL",
            endpoint.target.url
        )));
    }
    Ok(MetricsSettings {
        endpoint: Arc::new(endpoint),
        interval: Duration::from_millis(options.interval_ms),
    })
}
