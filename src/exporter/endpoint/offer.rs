//! The answer of an endpoint to the question for a connection.

/// Whether a request can be sent to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Yes, over the connection at this index.
    Ready(usize),
    /// Soon: a connection is being made.
    Opening,
    /// All connections carry requests.
    Busy,
    /// Not before a wait has ended.
    BackingOff,
}
