//! A response to a request with the message in its body, and the reasons why received bytes are none.

use std::fmt;

use prost::Message;

use crate::config::EndpointSettings;
use crate::exporter::http::reason;
use crate::otlp::PartialSuccess;

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

/// `google.rpc.Status`, the body of OTLP errors. Its code is to be ignored.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(string, tag = "2")]
    message: String,
}

/// The reason why received bytes are not a usable response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseError {
    MalformedHead,
    /// The server uses TLS.
    Tls,
    /// The server uses HTTP/2, as for gRPC.
    Http2,
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

impl Response {
    /// Returns the description of an error response: its status, and the message in its body if that is
    /// readable.
    pub(crate) fn description(&self, settings: &EndpointSettings) -> String {
        let status = self.status;
        let remedy = match status {
            401 | 403 => "; check the endpoint's headers",
            _ => "",
        };
        match self.message(settings) {
            Some(message) => format!("responded with {status} ({message}){remedy}"),
            None => format!("responded with {status}{remedy}"),
        }
    }

    /// Returns the partial success in the body of a 2xx response, or the reason why it is unreadable.
    pub(crate) fn partial_success(
        &self,
        settings: &EndpointSettings,
    ) -> Result<PartialSuccess, String> {
        if let Some(why) = self.unreadable(settings) {
            return Err(why);
        }
        PartialSuccess::decode(&self.body).ok_or_else(|| {
            let kind = self.content_type.as_deref();
            let kind = kind.map(|kind| reason::readable(kind, settings));
            format!(
                "its body is not an ExportTraceServiceResponse ({})",
                kind.as_deref().unwrap_or("without a Content-Type")
            )
        })
    }

    /// Returns the reason why the body of a response is unreadable, or `None` if it is not.
    pub(crate) fn unreadable(&self, settings: &EndpointSettings) -> Option<String> {
        if let Some(broken) = &self.broken {
            return Some(broken.to_string());
        }
        let encoding = self.content_encoding.as_deref()?;
        let is_plain = encoding.is_empty() || encoding.eq_ignore_ascii_case("identity");
        // Not with `{:?}`, whose escapes would make it several times as long.
        let encoding = reason::readable(encoding, settings);
        (!is_plain)
            .then(|| format!("its body has the encoding \"{encoding}\", which was not requested"))
    }

    /// Returns the message in the body of an error self.
    pub(crate) fn message(&self, settings: &EndpointSettings) -> Option<String> {
        if self.unreadable(settings).is_some() || self.body.is_empty() {
            return None;
        }
        let content_type = self.content_type.as_deref().unwrap_or_default();
        let message = if content_type.starts_with("application/x-protobuf") {
            RpcStatus::decode(&*self.body).ok()?.message
        } else {
            String::from_utf8(self.body.clone()).ok()?
        };
        Some(reason::readable(&message, settings)).filter(|message| !message.is_empty())
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MalformedHead => "the response is not HTTP/1.1",
            Self::Tls => "the response is TLS and not HTTP/1.1; write https:// instead of http://",
            Self::Http2 => {
                "the response is HTTP/2 and not HTTP/1.1, as from a port for gRPC; the port of \
                 OTLP/HTTP is usually 4318"
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, Settings};
    use crate::exporter::http::response_parser::ResponseParser;

    fn settings() -> Arc<EndpointSettings> {
        let settings = Settings::new(&Config::default()).unwrap();
        Arc::clone(&settings.destinations[0].endpoints[0])
    }

    fn description(response: &Response) -> String {
        response.description(&settings())
    }

    fn unreadable(response: &Response) -> Option<String> {
        response.unreadable(&settings())
    }

    fn response(headers: &str, body: &[u8]) -> Response {
        let length = body.len();
        let head = format!("HTTP/1.1 400 Bad\r\nContent-Length: {length}\r\n{headers}\r\n");
        let bytes = [head.as_bytes(), body].concat();
        ResponseParser::default().receive(&bytes).unwrap().unwrap()
    }

    #[test]
    fn errors_contain_the_message_of_their_body() {
        let status = RpcStatus {
            message: "span 3 has\nno name".to_string(),
        };
        let body = [&[8, 3][..], &status.encode_to_vec()].concat();
        let protobuf = response("Content-Type: application/x-protobuf\r\n", &body);
        assert_eq!(
            description(&protobuf),
            "responded with 400 (span 3 has no name)"
        );
        let text = response("Content-Type: text/plain\r\n", b"no such tenant\n");
        assert_eq!(description(&text), "responded with 400 (no such tenant)");
        let long = response("", "ä".repeat(1000).as_bytes());
        assert_eq!(description(&long).chars().count(), 300 + 21);
        for nothing in [
            response("", b""),
            response("", &[0xff, 0xfe]),
            response("Content-Type: application/x-protobuf\r\n", b"<html>"),
            response("Content-Encoding: gzip\r\n", b"\x1f\x8b"),
        ] {
            assert_eq!(description(&nothing), "responded with 400");
        }
    }

    #[test]
    fn unreadable_bodies_have_a_reason() {
        assert_eq!(unreadable(&response("", b"x")), None);
        let identity = response("Content-Encoding: identity\r\n", b"x");
        assert_eq!(unreadable(&identity), None);
        let encoded = unreadable(&response("Content-Encoding: br\r\n", b"x")).unwrap();
        assert!(encoded.contains("\"br\""), "{encoded}");
        let broken = Response {
            broken: Some(ResponseError::Truncated),
            ..response("", b"x")
        };
        assert!(unreadable(&broken).unwrap().contains("closed"));
    }
}
