//! Responses and errors in words, for people and logs.
//!
//! All text from outside passes [`readable`] before it is shown: bodies and headers of responses, names
//! in certificates, errors of resolvers and proxies.

use prost::Message;

use crate::config::EndpointSettings;
use crate::exporter::http::response::Response;
use crate::otlp::PartialSuccess;

/// Characters shown of a text from outside.
const TEXT_CHARS_MAX: usize = 300;
/// Characters of a whole message, which consists of own words and texts from outside.
const WHOLE_CHARS_MAX: usize = 1000;

/// `google.rpc.Status`, the body of OTLP errors. Its code is to be ignored.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(string, tag = "2")]
    message: String,
}

/// Returns an error response in words: its status, and the message in its body if that is readable.
pub(crate) fn of_error(response: &Response, settings: &EndpointSettings) -> String {
    let status = response.status;
    match message(response, settings) {
        Some(message) => format!("responded with {status} ({message})"),
        None => format!("responded with {status}"),
    }
}

/// Returns the partial success in the body of a 2xx response, or the reason why it is unreadable.
pub(crate) fn partial_success(
    response: &Response,
    settings: &EndpointSettings,
) -> Result<PartialSuccess, String> {
    if let Some(why) = unreadable(response, settings) {
        return Err(why);
    }
    PartialSuccess::decode(&response.body).ok_or_else(|| {
        let kind = response.content_type.as_deref();
        let kind = kind.map(|kind| readable(kind, settings));
        format!(
            "its body is not an ExportTraceServiceResponse ({})",
            kind.as_deref().unwrap_or("without a Content-Type")
        )
    })
}

/// Returns the reason why the body of a response is unreadable, or `None` if it is not.
pub(crate) fn unreadable(response: &Response, settings: &EndpointSettings) -> Option<String> {
    if let Some(broken) = &response.broken {
        return Some(broken.to_string());
    }
    let encoding = response.content_encoding.as_deref()?;
    let is_plain = encoding.is_empty() || encoding.eq_ignore_ascii_case("identity");
    // Not with `{:?}`, whose escapes would make it several times as long.
    let encoding = readable(encoding, settings);
    (!is_plain)
        .then(|| format!("its body has the encoding \"{encoding}\", which was not requested"))
}

/// Returns the message in the body of an error response.
pub(crate) fn message(response: &Response, settings: &EndpointSettings) -> Option<String> {
    if unreadable(response, settings).is_some() || response.body.is_empty() {
        return None;
    }
    let content_type = response.content_type.as_deref().unwrap_or_default();
    let message = if content_type.starts_with("application/x-protobuf") {
        RpcStatus::decode(&*response.body).ok()?.message
    } else {
        String::from_utf8(response.body.clone()).ok()?
    };
    Some(readable(&message, settings)).filter(|message| !message.is_empty())
}

/// Returns the beginning of a text from outside: at most 300 characters on one line, without the secrets
/// of the endpoint.
pub(crate) fn readable(text: &str, settings: &EndpointSettings) -> String {
    beginning(text, TEXT_CHARS_MAX, settings)
}

/// Returns a whole message about an endpoint, like [`readable`], but of up to 1,000 characters. Its parts
/// should be readable already; this is a second line of defence.
pub(crate) fn whole(text: &str, settings: &EndpointSettings) -> String {
    beginning(text, WHOLE_CHARS_MAX, settings)
}

/// Removes secrets before it shortens the text: a part of one would not be recognised.
fn beginning(text: &str, chars_max: usize, settings: &EndpointSettings) -> String {
    let text = settings.without_secrets(text.trim());
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = visible.take(chars_max).collect();
    if shown.len() < text.len() {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, Settings};
    use crate::exporter::http::response::ResponseError;
    use crate::exporter::http::response_parser::ResponseParser;

    fn settings() -> Arc<EndpointSettings> {
        let settings = Settings::new(&Config::default()).unwrap();
        Arc::clone(&settings.destinations[0].endpoints[0])
    }

    fn of_error(response: &Response) -> String {
        super::of_error(response, &settings())
    }

    fn unreadable(response: &Response) -> Option<String> {
        super::unreadable(response, &settings())
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
            of_error(&protobuf),
            "responded with 400 (span 3 has no name)"
        );
        let text = response("Content-Type: text/plain\r\n", b"no such tenant\n");
        assert_eq!(of_error(&text), "responded with 400 (no such tenant)");
        let long = response("", "ä".repeat(1000).as_bytes());
        assert_eq!(of_error(&long).chars().count(), 300 + 21);
        for nothing in [
            response("", b""),
            response("", &[0xff, 0xfe]),
            response("Content-Type: application/x-protobuf\r\n", b"<html>"),
            response("Content-Encoding: gzip\r\n", b"\x1f\x8b"),
        ] {
            assert_eq!(of_error(&nothing), "responded with 400");
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
