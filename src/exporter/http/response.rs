//! A response to a request, and the reasons why received bytes are none.

use std::fmt;

/// A final response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) body: Vec<u8>,
    /// The reason why the body is incomplete or unusable, if it is.
    pub(crate) broken: Option<ResponseError>,
    /// The connection can serve another request.
    pub(crate) keep_alive: bool,
}

/// The reason why received bytes are not a usable response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseError {
    MalformedHead,
    HeadTooLong,
    MalformedBody,
    BodyTooLong,
    /// Interim responses, chunk sizes or trailers without end.
    TooLong,
    /// The connection ended before the response did.
    Truncated,
    /// The response was not complete in time.
    Late,
    /// Bytes were received without a request.
    Unexpected,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MalformedHead => {
                "the response is not HTTP/1.1 (a gRPC port? OTLP/HTTP is usually 4318)"
            }
            Self::HeadTooLong => "the response head is longer than 64 KiB",
            Self::MalformedBody => "the response body has invalid framing",
            Self::BodyTooLong => "the response body is longer than response_bytes_max",
            Self::TooLong => {
                "the response has more than 12 MiB besides its body, or more than 100 interim \
                 responses before it"
            }
            Self::Truncated => "the connection was closed before the response was complete",
            Self::Late => "the response was not complete in time",
            Self::Unexpected => "the server sent a response without a request",
        })
    }
}
