//! Parses HTTP/1.1 responses from bytes as they are received.

use crate::config::RESPONSE_BYTES_DEFAULT;
use crate::exporter::http::framing::Framing;
use crate::exporter::http::response::{Response, ResponseError};
use crate::exporter::http::response_head::read_head;
use crate::exporter::http::work::count_work;

/// The longest response head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// Interim responses before a final one.
const INTERIM_MAX: u32 = 100;
/// Bytes of one response besides its body: interim responses, chunk sizes, trailers.
const AROUND_BYTES_MAX: usize = 12 << 20;

/// The parser of one response and of the interim responses before it, from bytes as they are received.
pub(crate) struct ResponseParser {
    body_bytes_max: usize,
    /// Received and not yet parsed.
    input: Vec<u8>,
    /// Bytes of an incomplete head that were searched for the end of a line.
    searched: usize,
    /// Bytes received.
    received: usize,
    /// Interim responses received.
    interim: u32,
    /// The response whose head is complete.
    current: Option<(Response, Framing)>,
}

impl Default for ResponseParser {
    fn default() -> Self {
        Self::new(RESPONSE_BYTES_DEFAULT)
    }
}

impl ResponseParser {
    /// Creates a parser of a response whose body has at most `body_bytes_max`.
    pub(crate) fn new(body_bytes_max: usize) -> Self {
        Self {
            body_bytes_max,
            input: Vec::new(),
            searched: 0,
            received: 0,
            interim: 0,
            current: None,
        }
    }

    /// Returns whether a byte was received.
    pub(crate) fn has_received(&self) -> bool {
        self.received > 0
    }

    /// Parses received bytes. Returns the response when they complete it.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Option<Response>, ResponseError> {
        self.received += bytes.len();
        if self.received > self.body_bytes_max + AROUND_BYTES_MAX {
            return Err(ResponseError::TooLong);
        }
        self.input.extend_from_slice(bytes);
        while self.current.is_none() {
            match self.parse_head()? {
                None => return Ok(None),
                // An interim response: the final one follows.
                Some((response, _)) if response.status < 200 => {
                    self.interim += 1;
                    if self.interim > INTERIM_MAX {
                        return Err(ResponseError::TooLong);
                    }
                }
                head => self.current = head,
            }
        }
        if self.parse_body()? {
            return Ok(self.finish());
        }
        Ok(None)
    }

    /// Returns the response if the end of the connection completes its body.
    pub(crate) fn end_of_stream(&mut self) -> Result<Response, ResponseError> {
        match self.current {
            Some((_, Framing::UntilClose)) => self.finish().ok_or(ResponseError::Truncated),
            _ => Err(ResponseError::Truncated),
        }
    }

    /// Returns the response if its head is complete: a final status counts even if the body remains
    /// incomplete because of `error`.
    pub(crate) fn salvage(&mut self, error: ResponseError) -> Option<Response> {
        let mut response = self.finish()?;
        response.keep_alive = false;
        response.broken = Some(error);
        Some(response)
    }

    fn finish(&mut self) -> Option<Response> {
        let (mut response, _) = self.current.take()?;
        // Bytes after the response belong to no request.
        response.keep_alive &= self.input.is_empty();
        Some(response)
    }

    fn parse_head(&mut self) -> Result<Option<(Response, Framing)>, ResponseError> {
        self.skip_empty_lines();
        // Other protocols might never end a line.
        check_protocol(&self.input)?;
        let Some(lines) = self.new_lines() else {
            return self.incomplete_head();
        };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        count_work(lines);
        let status = head
            .parse(&self.input[..lines])
            .map_err(|_| ResponseError::MalformedHead)?;
        let httparse::Status::Complete(head_bytes) = status else {
            return self.incomplete_head();
        };
        let parsed = read_head(&head)?;
        self.input.drain(..head_bytes);
        self.searched = 0;
        Ok(Some(parsed))
    }

    /// Drops empty lines before a head (RFC 9112, 2.2).
    fn skip_empty_lines(&mut self) {
        let is_break = |byte: &&u8| matches!(byte, b'\r' | b'\n');
        let breaks = self.input.iter().take_while(is_break).count();
        if breaks > 0 {
            self.input.drain(..breaks);
            self.searched = self.searched.saturating_sub(breaks);
        }
    }

    /// Returns the length of the complete lines if one was completed since the last call. A head is
    /// parsed at most once per line, and has no more lines than [`HEADERS_MAX`] allows.
    fn new_lines(&mut self) -> Option<usize> {
        let new = &self.input[self.searched..];
        count_work(new.len());
        let end = new.iter().rposition(|byte| *byte == b'\n');
        let lines = end.map(|end| self.searched + end + 1);
        self.searched = self.input.len();
        lines
    }

    fn incomplete_head<T>(&self) -> Result<Option<T>, ResponseError> {
        if self.input.len() > HEAD_BYTES_MAX {
            return Err(ResponseError::HeadTooLong);
        }
        Ok(None)
    }

    /// Moves body bytes out of the input. Returns whether the body is complete.
    fn parse_body(&mut self) -> Result<bool, ResponseError> {
        let Some((response, framing)) = &mut self.current else {
            return Ok(false);
        };
        let mut rest = &self.input[..];
        let complete = framing.decode(&mut rest, &mut response.body, self.body_bytes_max)?;
        let parsed = self.input.len() - rest.len();
        self.input.drain(..parsed);
        Ok(complete)
    }
}

/// Checks that the bytes can become a response. The first byte identifies other protocols.
fn check_protocol(input: &[u8]) -> Result<(), ResponseError> {
    const START: &[u8] = b"HTTP/1.";
    const TLS_ALERT: u8 = 0x15;
    /// The length of a settings frame starts with it (RFC 9113, 4.1).
    const HTTP_2: u8 = 0;
    let length = input.len().min(START.len());
    match input.first() {
        _ if input[..length] == START[..length] => Ok(()),
        Some(&TLS_ALERT) => Err(ResponseError::Tls),
        Some(&HTTP_2) => Err(ResponseError::Http2),
        _ => Err(ResponseError::MalformedHead),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::exporter::http::work;

    /// Parses `bytes` as a whole and byte by byte. Both must give the same result.
    fn parse(bytes: &[u8]) -> Result<Option<Response>, ResponseError> {
        let whole = ResponseParser::default().receive(bytes);
        let mut parser = ResponseParser::default();
        for (at, byte) in bytes.iter().enumerate() {
            match parser.receive(&[*byte]) {
                Ok(None) => {}
                Ok(Some(mut response)) => {
                    response.keep_alive &= at + 1 == bytes.len();
                    assert_eq!(Ok(Some(response)), whole);
                    return whole;
                }
                Err(error) => {
                    assert_eq!(Err(error), whole);
                    return whole;
                }
            }
        }
        assert_eq!(whole, Ok(None));
        whole
    }

    fn response(
        status: u16,
        body: &[u8],
        keep_alive: bool,
    ) -> Result<Option<Response>, ResponseError> {
        Ok(Some(Response {
            status,
            retry_after: None,
            location: None,
            content_type: None,
            content_encoding: None,
            body: body.to_vec(),
            broken: None,
            keep_alive,
        }))
    }

    #[test]
    fn a_content_length_ends_the_body() {
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            response(200, b"ok", true)
        );
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: Close\r\n\r\n"),
            response(200, b"", false)
        );
        assert_eq!(
            parse(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
            response(200, b"", false)
        );
        assert_eq!(
            parse(b"HTTP/1.1 204 No Content\r\n\r\n"),
            response(204, b"", true)
        );
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"),
            Ok(None)
        );
    }

    #[test]
    fn a_connection_is_kept_unless_any_header_closes_it() {
        for (version, headers, is_kept) in [
            ("1.1", "", true),
            ("1.0", "", false),
            ("1.0", "Connection: keep-alive\r\n", true),
            ("1.1", "Connection: keep-alive, close\r\n", false),
            (
                "1.1",
                "Connection: close\r\nConnection: keep-alive\r\n",
                false,
            ),
            (
                "1.1",
                "Connection: keep-alive\r\nConnection: close\r\n",
                false,
            ),
            (
                "1.0",
                "Connection: close\r\nConnection: keep-alive\r\n",
                false,
            ),
        ] {
            let text = format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{headers}\r\n");
            assert_eq!(
                parse(text.as_bytes()),
                response(200, b"", is_kept),
                "{text}"
            );
        }
    }

    #[test]
    fn chunked_bodies_are_read_without_their_framing() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let whole = format!("{head}2\r\nok\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n");
        assert_eq!(
            parse(whole.as_bytes()),
            response(200, b"ok0123456789", true)
        );
        for wrong in ["x\r\n", "2\r\nokk\r\n"] {
            let wrong = format!("{head}{wrong}");
            assert_eq!(parse(wrong.as_bytes()), Err(ResponseError::MalformedBody));
        }
        let long = format!("{head}FFFFFFFF\r\n");
        assert_eq!(parse(long.as_bytes()), Err(ResponseError::BodyTooLong));
    }

    #[test]
    fn interim_responses_are_skipped() {
        assert_eq!(
            parse(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
            response(204, b"", true)
        );
    }

    #[test]
    fn a_body_without_length_ends_with_the_connection() {
        let mut parser = ResponseParser::default();
        assert_eq!(
            parser.receive(b"HTTP/1.1 503 No\r\nRetry-After: 7\r\n\r\nwa"),
            Ok(None)
        );
        assert_eq!(parser.receive(b"it"), Ok(None));
        let response = parser.end_of_stream().unwrap();
        assert_eq!((response.status, &*response.body), (503, &b"wait"[..]));
        assert_eq!(response.retry_after.as_deref(), Some("7"));
        assert!(!response.keep_alive);
        assert_eq!(parser.end_of_stream(), Err(ResponseError::Truncated));
    }

    #[test]
    fn a_final_head_counts_even_if_the_body_is_incomplete() {
        for rest in [
            "Content-Length: 9\r\n\r\nok",
            "Transfer-Encoding: chunked\r\n\r\nx",
        ] {
            let mut parser = ResponseParser::default();
            let head = format!("HTTP/1.1 400 No\r\nLocation: /x\r\n{rest}");
            let _ = parser.receive(head.as_bytes());
            let response = parser.salvage(ResponseError::Truncated).unwrap();
            assert_eq!((response.status, response.keep_alive), (400, false));
            assert_eq!(response.broken, Some(ResponseError::Truncated));
            assert_eq!(response.location.as_deref(), Some("/x"));
        }
        let mut parser = ResponseParser::default();
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n";
        assert_eq!(parser.receive(interim), Ok(None));
        assert_eq!(parser.salvage(ResponseError::Late), None);
    }

    #[test]
    fn bytes_after_a_response_end_the_connection() {
        assert_eq!(
            parse(b"HTTP/1.1 204 No Content\r\n\r\nHTTP"),
            response(204, b"", false)
        );
    }

    #[test]
    fn empty_transfer_codings_are_ignored() {
        for codings in ["", ",", "identity", " , identity,"] {
            let text = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: {codings}\r\nContent-Length: 1\r\n\r\nx"
            );
            assert_eq!(
                parse(text.as_bytes()),
                response(200, b"x", true),
                "{codings:?}"
            );
        }
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n";
        assert_eq!(parse(chunked), response(200, b"", true));
    }

    /// A body with other codings cannot be read, but its status can, and mostly its end.
    #[test]
    fn other_transfer_codings_are_not_decoded() {
        let head = "HTTP/1.1 400 No\r\nTransfer-Encoding: ";
        let chunked = format!("{head}gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
        let response = parse(chunked.as_bytes()).unwrap().unwrap();
        assert_eq!((response.status, response.keep_alive), (400, true));
        assert_eq!(response.content_encoding.as_deref(), Some("gzip"));
        let mut parser = ResponseParser::default();
        let endless = format!("{head}gzip\r\nContent-Length: 1\r\n\r\nxyz");
        assert_eq!(parser.receive(endless.as_bytes()), Ok(None));
        let response = parser.end_of_stream().unwrap();
        assert_eq!((response.status, &*response.body), (400, &b"xyz"[..]));
        assert_eq!(response.content_encoding.as_deref(), Some("gzip"));
    }

    #[test]
    fn malformed_heads_are_errors() {
        for head in [
            "220 smtp ready\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ] {
            assert_eq!(
                parse(head.as_bytes()),
                Err(ResponseError::MalformedHead),
                "{head}"
            );
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(70_000));
        let mut parser = ResponseParser::default();
        assert_eq!(
            parser.receive(long.as_bytes()),
            Err(ResponseError::HeadTooLong)
        );
        let huge = "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
        assert_eq!(parse(huge.as_bytes()), Err(ResponseError::BodyTooLong));
    }

    #[test]
    fn a_body_has_at_most_the_configured_length() {
        for (framing, end) in [
            ("Content-Length: 10\r\n\r\n0123456789", true),
            (
                "Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
                true,
            ),
            ("\r\n0123456789", false),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{framing}");
            let mut parser = ResponseParser::new(10);
            let response = parser.receive(text.as_bytes()).unwrap();
            assert_eq!(response.is_some(), end, "{framing}");
            let received = ResponseParser::new(9).receive(text.as_bytes());
            assert_eq!(received, Err(ResponseError::BodyTooLong), "{framing}");
        }
    }

    #[test]
    fn other_protocols_are_recognised_by_their_first_bytes() {
        // An HTTP/2 settings frame, as a gRPC port sends it, and a TLS alert: neither ends a line.
        for (bytes, error) in [
            (&b"\0\0\x12\x04\0\0\0\0\0"[..], ResponseError::Http2),
            (b"\x15\x03\x01\0\x02\x02\x46", ResponseError::Tls),
            (b"H2", ResponseError::MalformedHead),
        ] {
            assert_eq!(parse(bytes), Err(error));
        }
        for bytes in [&b""[..], b"\r\n", b"H", b"\r\nHTTP/1.1 2"] {
            assert_eq!(ResponseParser::default().receive(bytes), Ok(None));
        }
    }

    #[test]
    fn interim_responses_and_trailers_are_limited() {
        let mut parser = ResponseParser::default();
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        for _ in 0..INTERIM_MAX {
            assert_eq!(parser.receive(interim), Ok(None));
        }
        assert_eq!(parser.receive(interim), Err(ResponseError::TooLong));

        let mut parser = ResponseParser::default();
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        assert_eq!(parser.receive(head), Ok(None));
        let trailer = b"x: y\r\n".repeat(10_000);
        let mut results = (0..1000).map(|_| parser.receive(&trailer));
        assert!(results.any(|result| result == Err(ResponseError::TooLong)));
    }

    /// Byte by byte, each byte is examined a bounded number of times.
    #[test]
    fn a_response_that_drips_costs_linear_work() {
        const LENGTH: usize = 60_000;
        let long = "x".repeat(LENGTH);
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let headers = "a:\r\n".repeat(90);
        for (what, response, factor) in [
            ("a header", format!("HTTP/1.1 200 OK\r\nA: {long}"), 2),
            ("empty lines", "\r\n".repeat(LENGTH / 2), 2),
            ("an extension", format!("{chunked}1;{long}"), 2),
            (
                "extensions",
                format!("{chunked}1;{long}\r\nx\r\n2;{long}"),
                2,
            ),
            ("a trailer", format!("{chunked}0\r\nA: {long}"), 2),
            (
                "trailers",
                format!("{chunked}0\r\n{}", "a:\r\n".repeat(LENGTH / 4)),
                2,
            ),
            // Once per line, of which there are few.
            (
                "headers",
                format!("HTTP/1.1 200 OK\r\n{headers}A: {long}"),
                3,
            ),
        ] {
            let mut parser = ResponseParser::default();
            let work = work::of(|| {
                for byte in response.as_bytes() {
                    assert_eq!(parser.receive(&[*byte]), Ok(None), "{what}");
                }
            });
            let bytes = response.len();
            assert!(work < factor * bytes, "{what}: {work} for {bytes} bytes");
        }
    }
}
