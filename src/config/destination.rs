//! Where spans go: destinations, each of one endpoint or a group of them.

use std::sync::Arc;

use crate::config::endpoint::{self, Endpoint, EndpointSettings, RequestBytes};
use crate::config::range::in_range;
use crate::error::Error;

/// One place that gets every span: a receiver, or a group of receivers of which one is enough.
///
/// Each destination has its own place in the buffer, its own line in the
/// [`Ledger`](crate::Ledger) and its own retries: what one of them does changes nothing for the others.
/// One that falls behind the foremost by more than half the buffer loses its oldest spans, counted as
/// dropped by overflow (after an outage of all, not before a second has passed).
///
/// ```
/// use otlp_collector::{Config, Destination, Endpoint, Selection};
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
    /// Its receivers, at least one and at most 64.
    pub endpoints: Vec<Endpoint>,
    /// Which of several gets a request. Default [`Selection::FailOver`].
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

/// Which endpoint of a destination gets a request. Either way, what one endpoint could not take
/// goes to the next that can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// The first that works, in the order they are given; back to an earlier one when that works
    /// again.
    #[default]
    FailOver,
    /// All that work, in turn.
    RoundRobin,
}

const ENDPOINTS_LIMIT: usize = 64;
const DESTINATIONS_LIMIT: usize = 64;

/// A checked [`Destination`].
pub(crate) struct DestinationSettings {
    /// The URLs of its endpoints, for people.
    pub(crate) name: String,
    pub(crate) endpoints: Vec<Arc<EndpointSettings>>,
    pub(crate) selection: Selection,
}

/// Checks all destinations; the error names the first value that cannot be used.
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
        .map(|endpoint| endpoint::check(endpoint, destinations, bytes).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let urls: Vec<_> = endpoints.iter().map(|e| e.target.url.as_str()).collect();
    Ok(DestinationSettings {
        name: urls.join(", "),
        endpoints,
        selection: *selection,
    })
}
