//! Events that a connection reports to its endpoint, and its present activity.

use std::sync::Arc;
use std::time::Instant;

use crate::config::Compression;
use crate::exporter::http::response::Response;
use crate::exporter::request::Request;

/// An event on a connection.
pub(crate) enum ConnectionEvent {
    /// The connection is established.
    Connected,
    /// A response has arrived.
    Replied(Reply),
    /// The connection is closed, or none could be made.
    Lost {
        /// The request that was in flight or waited for the connection.
        request: Option<Arc<Request>>,
        kind: ConnectionLoss,
        reason: String,
    },
}

/// A request and the response to it.
pub(crate) struct Reply {
    pub(crate) request: Arc<Request>,
    /// The time at which the connection began to send the request.
    pub(crate) started: Instant,
    /// The compression of the request's body.
    pub(crate) compression: Compression,
    pub(crate) response: Response,
}

/// The manner in which a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionLoss {
    /// No connection could be made.
    Unreachable,
    /// It broke after it had served requests, without a byte of a response to the present one. Most
    /// likely the server closed it while it was idle.
    Stale,
    /// It broke otherwise.
    Broken,
    /// The response was not complete in time.
    TimedOut,
}

/// The activity of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Resolving or connecting since then.
    Connecting(Instant),
    /// A request is in flight. Its bytes could last be written then: a slow line is not a silent server.
    Busy(Instant),
    /// Established, without a request.
    Idle,
}
