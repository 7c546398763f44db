//! Destinations of spans: each is one endpoint or a group of them.

use std::sync::Arc;

use crate::config::endpoint::Endpoint;
use crate::config::endpoint_settings::{self, EndpointSettings, RequestBytes};
use crate::config::range::in_range;
use crate::error::Error;

/// A destination of every span: one receiver, or a group of receivers that replace each other.
///
/// Destinations do not affect each other: each has its own position in the buffer, its own entry in the
/// [`Ledger`](crate::Ledger) and its own retries. A destination that lags the foremost by more than
/// half the buffer loses its oldest spans, counted as
/// [`DroppedSpans::overflow`](crate::stats::DroppedSpans::overflow). After an outage of all destinations each
/// has at least a second to catch up.
///
/// Write it with struct update syntax, `..Destination::default()`: a minor release may add fields.
///
/// ```
/// use otlp_collector::config::{Endpoint, Selection};
/// use otlp_collector::{Config, Destination};
///
/// let config = Config {
///     destinations: vec![
///         // Two agents of which one gets each span …
///         Destination {
///             endpoints: vec![
///                 Endpoint::new("http://10.0.0.1:4318"),
///                 Endpoint::new("http://10.0.0.2:4318"),
///             ],
///             selection: Selection::RoundRobin,
///             ..Destination::default()
///         },
///         // … and an archive that gets them too.
///         Destination::from(Endpoint::new("http://archive.internal:4318")),
///     ],
///     ..Config::default()
/// };
/// # drop(config);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Destination {
    /// Receivers, at least one and at most 64.
    pub endpoints: Vec<Endpoint>,
    /// Choice of the endpoint for a request. Default [`Selection::FailOver`].
    pub selection: Selection,
}

impl From<Endpoint> for Destination {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            endpoints: vec![endpoint],
            selection: Selection::default(),
        }
    }
}

/// Choice of a destination's endpoint for a request. With either, a request that one endpoint cannot
/// accept is sent to the next that works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// The first working endpoint in the order of the list. An earlier one is used again when it works
    /// again.
    #[default]
    FailOver,
    /// All working endpoints in turn.
    RoundRobin,
}

const ENDPOINTS_LIMIT: usize = 64;
const DESTINATIONS_LIMIT: usize = 64;

/// A checked [`Destination`].
pub(crate) struct DestinationSettings {
    /// URLs of the endpoints with commas between them, for texts.
    pub(crate) name: String,
    pub(crate) endpoints: Vec<Arc<EndpointSettings>>,
    pub(crate) selection: Selection,
}

/// Checks all destinations; the error names the first unusable value.
pub(super) fn check(
    destinations: &[Destination],
    bytes: &RequestBytes,
) -> Result<Vec<DestinationSettings>, Error> {
    let count = destinations.len();
    in_range("the number of destinations", count, 0, DESTINATIONS_LIMIT)?;
    (destinations.iter())
        .map(|destination| check_destination(destination, count, bytes))
        .collect()
}

fn check_destination(
    destination: &Destination,
    destinations: usize,
    bytes: &RequestBytes,
) -> Result<DestinationSettings, Error> {
    let Destination {
        endpoints,
        selection,
    } = destination;
    let count = endpoints.len();
    in_range(
        "the number of a destination's endpoints",
        count,
        1,
        ENDPOINTS_LIMIT,
    )?;
    let endpoints = (endpoints.iter())
        .map(|endpoint| endpoint_settings::check(endpoint, destinations, bytes).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let urls: Vec<_> = endpoints.iter().map(|e| e.target.url.as_str()).collect();
    Ok(DestinationSettings {
        name: urls.join(", "),
        endpoints,
        selection: *selection,
    })
}
