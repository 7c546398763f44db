//! What a response says in words, made fit for people and logs.

use prost::Message;

use crate::exporter::response::Response;
use crate::otlp::PartialSuccess;

/// What is kept of a server's message.
const MESSAGE_CHARS_MAX: usize = 300;

/// `google.rpc.Status`, which OTLP puts into the bodies of errors; its code is to be ignored.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

/// An error response in words: its status, and the message in its body if that can be read.
pub(crate) fn of_error(response: &Response) -> String {
    let status = response.status;
    match message(response) {
        Some(message) => format!("answered {status} ({message})"),
        None => format!("answered {status}"),
    }
}

/// What a success says of the spans; or why that cannot be read.
pub(crate) fn partial_success(response: &Response) -> Result<PartialSuccess, String> {
    if let Some(why) = unreadable(response) {
        return Err(why);
    }
    PartialSuccess::decode(&response.body).ok_or_else(|| {
        let kind = response.content_type.as_deref().map(readable);
        format!(
            "its body is no ExportTraceServiceResponse ({})",
            kind.as_deref().unwrap_or("without a Content-Type")
        )
    })
}

/// Why the body of a response cannot be read; `None` if it can.
pub(crate) fn unreadable(response: &Response) -> Option<String> {
    if let Some(broken) = &response.broken {
        return Some(broken.to_string());
    }
    let encoding = response.content_encoding.as_deref()?;
    let is_plain = encoding.is_empty() || encoding.eq_ignore_ascii_case("identity");
    let encoding = readable(encoding);
    (!is_plain).then(|| format!("its body has the encoding {encoding:?}, which was not asked for"))
}

/// The message in the body of an error response.
pub(crate) fn message(response: &Response) -> Option<String> {
    if unreadable(response).is_some() || response.body.is_empty() {
        return None;
    }
    let content_type = response.content_type.as_deref().unwrap_or_default();
    let message = if content_type.starts_with("application/x-protobuf") {
        Status::decode(&*response.body).ok()?.message
    } else {
        String::from_utf8(response.body.clone()).ok()?
    };
    Some(readable(&message)).filter(|message| !message.is_empty())
}

/// The beginning of a text that comes from outside, on one line.
pub(crate) fn readable(text: &str) -> String {
    let text = text.trim().chars().take(MESSAGE_CHARS_MAX);
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::exporter::response::{ResponseError, ResponseParser};

    fn response(headers: &str, body: &[u8]) -> Response {
        let length = body.len();
        let head = format!("HTTP/1.1 400 Bad\r\nContent-Length: {length}\r\n{headers}\r\n");
        let bytes = [head.as_bytes(), body].concat();
        ResponseParser::default().receive(&bytes).unwrap().unwrap()
    }

    #[test]
    fn errors_tell_what_their_body_says() {
        let status = Status {
            message: "span 3 has\nno name".to_string(),
        };
        let body = [&[8, 3][..], &status.encode_to_vec()].concat();
        let protobuf = response("Content-Type: application/x-protobuf\r\n", &body);
        assert_eq!(of_error(&protobuf), "answered 400 (span 3 has no name)");
        let text = response("Content-Type: text/plain\r\n", b"no such tenant\n");
        assert_eq!(of_error(&text), "answered 400 (no such tenant)");
        let long = response("", "ä".repeat(1000).as_bytes());
        assert_eq!(of_error(&long).chars().count(), 300 + 15);
        for nothing in [
            response("", b""),
            response("", &[0xff, 0xfe]),
            response("Content-Type: application/x-protobuf\r\n", b"<html>"),
            response("Content-Encoding: gzip\r\n", b"\x1f\x8b"),
        ] {
            assert_eq!(of_error(&nothing), "answered 400");
        }
    }

    #[test]
    fn bodies_that_cannot_be_read_say_why() {
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
