//! The loss of a connection.

use std::sync::Arc;

use crate::exporter::request::Request;

/// A connection that was lost, or could not be made.
pub(crate) struct Loss {
    /// The request that was in flight or waited for the connection.
    pub(crate) request: Option<Arc<Request>>,
    pub(crate) kind: LossKind,
    /// The reason in words.
    pub(crate) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LossKind {
    /// No connection could be made.
    Unreachable,
    /// It broke after it had served requests, without a byte of a response to the present one. Most
    /// likely the server closed it while it was idle.
    Stale,
    Broken,
    /// The response was not complete in time.
    TimedOut,
}
