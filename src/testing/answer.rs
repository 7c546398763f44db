//! Responses that tests choose.

use prost::Message;

use crate::otlp::proto;

/// A receiver's response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `None` closes the connection without a response.
    pub(super) status: Option<u16>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether the request's spans are accepted, except the rejected ones.
    pub(super) accepts: bool,
    pub(super) rejected: u64,
}

impl Answer {
    /// Creates a success.
    #[must_use]
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// Creates a response with this status, which accepts the spans if it is a success.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            headers: Vec::new(),
            body: Vec::new(),
            accepts: (200..300).contains(&status),
            rejected: 0,
        }
    }

    /// Creates a success that accepts all except `rejected` spans.
    #[must_use]
    pub fn partial_success(rejected: u64, message: impl Into<String>) -> Self {
        let response = proto::ExportTraceServiceResponse {
            partial_success: Some(proto::ExportTracePartialSuccess {
                rejected_spans: rejected as i64,
                error_message: message.into(),
            }),
        };
        Self {
            rejected,
            ..Self::ok().body(response.encode_to_vec())
        }
    }

    /// Creates an answer that reads the request and closes the connection without accepting the spans.
    #[must_use]
    pub fn disconnect() -> Self {
        Self {
            status: None,
            accepts: false,
            ..Self::ok()
        }
    }

    /// Creates an answer that accepts the spans and closes the connection without a response.
    #[must_use]
    pub fn accept_and_disconnect() -> Self {
        Self {
            status: None,
            ..Self::ok()
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}
