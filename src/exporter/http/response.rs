//! Parses HTTP/1.1 responses from bytes as they come.

use std::fmt;

use crate::config::RESPONSE_BYTES_DEFAULT;

/// Longest response head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// The most digits of a chunk's size.
const SIZE_DIGITS_MAX: usize = 16;
/// Longest value of a header that is kept: URIs of 8,000 bytes are to be supported (RFC 9110, 4.1).
const VALUE_BYTES_MAX: usize = 8 * 1024;
/// Interim responses before a final one.
const INTERIM_MAX: u32 = 100;
/// Bytes around the body of one response: interim responses, chunk sizes, trailers.
const AROUND_BYTES_MAX: usize = 12 << 20;

/// A final response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) body: Vec<u8>,
    /// What of it did not come or could not be used: the body from some point on.
    pub(crate) broken: Option<ResponseError>,
    /// The connection can serve another request.
    pub(crate) keep_alive: bool,
}

/// Why bytes are no response that can be used.
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
    /// Bytes came that no request asked for.
    Unexpected,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MalformedHead => {
                "the response is no HTTP/1.1 (a gRPC port? OTLP/HTTP is usually 4318)"
            }
            Self::HeadTooLong => "the response head is longer than 64 KiB",
            Self::MalformedBody => "the response body is framed wrongly",
            Self::BodyTooLong => "the response body is longer than response_bytes_max",
            Self::TooLong => "the response has more than 12 MiB around its body, or more than 100 interim ones before it",
            Self::Truncated => "the connection was closed before the response was complete",
            Self::Late => "the response was not complete in time",
            Self::Unexpected => "a response came that no request asked for",
        })
    }
}

/// Parses one response, with the interim responses before it, from bytes as they are received.
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
    /// The response under way, from the end of its head on.
    current: Option<(Response, Framing)>,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length { left: usize },
    Chunked(Chunk),
    UntilClose,
}

/// The next thing to come in a chunked body. A line is searched for its end once, however slowly
/// it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size { searched: usize },
    Data { left: usize },
    DataEnd,
    Trailer { searched: usize },
}

impl Chunk {
    const SIZE: Self = Self::Size { searched: 0 };
    const TRAILER: Self = Self::Trailer { searched: 0 };
}

impl Default for ResponseParser {
    fn default() -> Self {
        Self::new(RESPONSE_BYTES_DEFAULT)
    }
}

impl ResponseParser {
    /// A parser of responses whose body has at most so many bytes.
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

    /// Whether a byte was received.
    pub(crate) fn has_received(&self) -> bool {
        self.received > 0
    }

    /// Takes received bytes; gives the response when they complete it.
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

    /// The connection ended: completes a body that lasts until then.
    pub(crate) fn end(&mut self) -> Result<Response, ResponseError> {
        match self.current {
            Some((_, Framing::UntilClose)) => self.finish().ok_or(ResponseError::Truncated),
            _ => Err(ResponseError::Truncated),
        }
    }

    /// The connection is given up: if the head of a final response has come, then that says what
    /// became of the request, whatever became of the body.
    pub(crate) fn salvage(&mut self, error: ResponseError) -> Option<Response> {
        let mut response = self.finish()?;
        response.keep_alive = false;
        response.broken = Some(error);
        Some(response)
    }

    fn finish(&mut self) -> Option<Response> {
        let (mut response, _) = self.current.take()?;
        // What stands behind a response belongs to nothing.
        response.keep_alive &= self.input.is_empty();
        Some(response)
    }

    fn parse_head(&mut self) -> Result<Option<(Response, Framing)>, ResponseError> {
        self.skip_empty_lines();
        if !begins_like_http(&self.input) {
            // It might never end a line.
            return Err(ResponseError::MalformedHead);
        }
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

    /// The length of the complete lines, if one was completed since the last call. A head is parsed
    /// once a line at most, and has no more lines than [`HEADERS_MAX`] allows.
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

    /// Moves body bytes out of the input; true when the body is complete.
    fn parse_body(&mut self) -> Result<bool, ResponseError> {
        let Some((response, framing)) = &mut self.current else {
            return Ok(false);
        };
        let bytes_max = self.body_bytes_max;
        let body = &mut response.body;
        let mut rest = &self.input[..];
        let complete = match framing {
            Framing::Length { left } if body.len().saturating_add(*left) > bytes_max => {
                return Err(ResponseError::BodyTooLong);
            }
            Framing::Length { left } => {
                move_bytes(&mut rest, left, body);
                *left == 0
            }
            Framing::UntilClose => {
                body.extend_from_slice(rest);
                rest = &[];
                false
            }
            Framing::Chunked(chunk) => parse_chunks(&mut rest, chunk, body, bytes_max)?,
        };
        if body.len() > bytes_max {
            return Err(ResponseError::BodyTooLong);
        }
        let parsed = self.input.len() - rest.len();
        self.input.drain(..parsed);
        Ok(complete)
    }
}

/// Whether it can become a response.
fn begins_like_http(input: &[u8]) -> bool {
    const BEGIN: &[u8] = b"HTTP/1.";
    let length = input.len().min(BEGIN.len());
    input[..length] == BEGIN[..length]
}

fn read_head(head: &httparse::Response<'_, '_>) -> Result<(Response, Framing), ResponseError> {
    let status = head.code.ok_or(ResponseError::MalformedHead)?;
    let mut response = Response {
        status,
        retry_after: None,
        location: None,
        content_type: None,
        content_encoding: None,
        body: Vec::new(),
        broken: None,
        keep_alive: head.version == Some(1),
    };
    let mut framing = Framing::UntilClose;
    let mut has_transfer_encoding = false;
    for header in head.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") && !has_transfer_encoding {
            framing = content_length(value, framing)?;
        } else if is("transfer-encoding") {
            if let Some((ends, coding)) = transfer_encoding(value) {
                has_transfer_encoding = true;
                framing = ends;
                response.content_encoding =
                    (response.content_encoding).or(coding.map(|coding| kept(&coding)));
            }
        } else if is("connection") {
            if has_token(value, "close") {
                response.keep_alive = false;
            } else if has_token(value, "keep-alive") {
                response.keep_alive = true;
            }
        } else if is("retry-after") {
            response.retry_after = Some(kept(value));
        } else if is("location") {
            response.location = Some(kept(value));
        } else if is("content-type") {
            response.content_type = Some(kept(value));
        } else if is("content-encoding") {
            response.content_encoding = Some(kept(value));
        }
    }
    if status < 200 || matches!(status, 204 | 304) {
        framing = Framing::Length { left: 0 };
    }
    response.keep_alive &= framing != Framing::UntilClose;
    Ok((response, framing))
}

/// A header's value, unless it is too long to be of use. A part of it would be another value.
fn kept(value: &str) -> String {
    if value.len() > VALUE_BYTES_MAX {
        return "(longer than 8 KiB)".to_string();
    }
    value.to_string()
}

/// Several lengths are fine only if they agree. One that is too long is found with the body, so
/// that the head still counts.
fn content_length(value: &str, before: Framing) -> Result<Framing, ResponseError> {
    // `parse` would also take a sign, which HTTP does not allow.
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ResponseError::MalformedHead);
    }
    let left = value.parse().unwrap_or(usize::MAX);
    match before {
        Framing::Length { left: other } if other != left => Err(ResponseError::MalformedHead),
        _ => Ok(Framing::Length { left }),
    }
}

/// The body is chunked, or has no end but the connection's (RFC 9112, 6.3); and what else was done to
/// it, which is not undone here. `None` if nothing was done.
fn transfer_encoding(value: &str) -> Option<(Framing, Option<String>)> {
    let codings = value.split(',').map(str::trim);
    // Empty elements of a list count for nothing (RFC 9110, 5.6.1.2).
    let is_one = |coding: &&str| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity");
    let mut codings: Vec<_> = codings.filter(is_one).collect();
    let is_chunked = codings.last()?.eq_ignore_ascii_case("chunked");
    let framing = if is_chunked {
        codings.pop();
        Framing::Chunked(Chunk::SIZE)
    } else {
        Framing::UntilClose
    };
    Some((framing, (!codings.is_empty()).then(|| codings.join(", "))))
}

fn has_token(value: &str, token: &str) -> bool {
    value
        .split(',')
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Decodes chunks from `rest` into `body`; true after the last one and its trailer.
fn parse_chunks(
    rest: &mut &[u8],
    chunk: &mut Chunk,
    body: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<bool, ResponseError> {
    loop {
        match chunk {
            Chunk::Size { searched } => {
                // A size that is none is found before its line ends.
                let begin = &rest[..rest.len().min(SIZE_DIGITS_MAX)];
                if httparse::parse_chunk_size(begin).is_err() {
                    return Err(ResponseError::MalformedBody);
                }
                let Some(end) = line_end(rest, searched)? else {
                    return Ok(false);
                };
                let Ok(httparse::Status::Complete((line, size))) =
                    httparse::parse_chunk_size(&rest[..=end])
                else {
                    return Err(ResponseError::MalformedBody);
                };
                let left = usize::try_from(size).unwrap_or(usize::MAX);
                if body.len().saturating_add(left) > bytes_max {
                    return Err(ResponseError::BodyTooLong);
                }
                *rest = &rest[line..];
                *chunk = if left == 0 {
                    Chunk::TRAILER
                } else {
                    Chunk::Data { left }
                };
            }
            Chunk::Data { left } => {
                move_bytes(rest, left, body);
                if *left > 0 {
                    return Ok(false);
                }
                *chunk = Chunk::DataEnd;
            }
            Chunk::DataEnd => match rest.split_at_checked(2) {
                None => return Ok(false),
                Some((b"\r\n", after)) => {
                    *rest = after;
                    *chunk = Chunk::SIZE;
                }
                Some(_) => return Err(ResponseError::MalformedBody),
            },
            Chunk::Trailer { searched } => {
                let Some(end) = line_end(rest, searched)? else {
                    return Ok(false);
                };
                let is_last = matches!(&rest[..end], b"" | b"\r");
                *rest = &rest[end + 1..];
                *chunk = Chunk::TRAILER;
                if is_last {
                    return Ok(true);
                }
            }
        }
    }
}

/// Where the line ends that `rest` begins with; `None` if it is incomplete. The first `searched`
/// bytes are known to have no end.
fn line_end(rest: &[u8], searched: &mut usize) -> Result<Option<usize>, ResponseError> {
    let new = &rest[*searched..];
    let end = new.iter().position(|byte| *byte == b'\n');
    count_work(end.unwrap_or(new.len()));
    let length = end.map_or(rest.len(), |end| *searched + end);
    if length > HEAD_BYTES_MAX {
        return Err(ResponseError::MalformedBody);
    }
    *searched = length;
    Ok(end.map(|_| length))
}

#[cfg(not(test))]
fn count_work(_bytes: usize) {}

#[cfg(test)]
use self::work::count_work;

/// Counts the bytes that are looked at.
#[cfg(test)]
mod work {
    use std::cell::Cell;

    thread_local!(static BYTES: Cell<usize> = const { Cell::new(0) });

    pub(super) fn count_work(bytes: usize) {
        BYTES.set(BYTES.get() + bytes);
    }

    /// Bytes that this thread has looked at while `run` ran.
    pub(super) fn of(run: impl FnOnce()) -> usize {
        let before = BYTES.get();
        run();
        BYTES.get() - before
    }
}

/// Moves up to `left` bytes from the front of `rest` to `body`.
fn move_bytes(rest: &mut &[u8], left: &mut usize, body: &mut Vec<u8>) {
    let (moved, after) = rest.split_at(rest.len().min(*left));
    body.extend_from_slice(moved);
    *left -= moved.len();
    *rest = after;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Feeds `bytes` whole and byte by byte; both must come to the same.
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
    fn bodies_by_length() {
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
    fn chunked_bodies() {
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
    fn interim_responses_are_passed_over() {
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
        let response = parser.end().unwrap();
        assert_eq!((response.status, &*response.body), (503, &b"wait"[..]));
        assert_eq!(response.retry_after.as_deref(), Some("7"));
        assert!(!response.keep_alive);
        assert_eq!(parser.end(), Err(ResponseError::Truncated));
    }

    #[test]
    fn a_final_head_counts_whatever_becomes_of_the_body() {
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
    fn what_stands_behind_a_response_ends_the_connection() {
        assert_eq!(
            parse(b"HTTP/1.1 204 No Content\r\n\r\nHTTP"),
            response(204, b"", false)
        );
    }

    #[test]
    fn empty_transfer_codings_count_for_nothing() {
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

    /// What is behind other codings cannot be read, but the status, and mostly its end.
    #[test]
    fn other_transfer_codings_are_not_undone() {
        let head = "HTTP/1.1 400 No\r\nTransfer-Encoding: ";
        let chunked = format!("{head}gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
        let answer = parse(chunked.as_bytes()).unwrap().unwrap();
        assert_eq!((answer.status, answer.keep_alive), (400, true));
        assert_eq!(answer.content_encoding.as_deref(), Some("gzip"));
        let mut parser = ResponseParser::default();
        let endless = format!("{head}gzip\r\nContent-Length: 1\r\n\r\nxyz");
        assert_eq!(parser.receive(endless.as_bytes()), Ok(None));
        let answer = parser.end().unwrap();
        assert_eq!((answer.status, &*answer.body), (400, &b"xyz"[..]));
        assert_eq!(answer.content_encoding.as_deref(), Some("gzip"));
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
    fn what_is_no_http_is_recognized_at_its_first_bytes() {
        // An HTTP/2 settings frame, as a gRPC port sends it, and a TLS alert: neither ends a line.
        for bytes in [
            &b"\0\0\x12\x04\0\0\0\0\0"[..],
            b"\x15\x03\x01\0\x02\x02\x46",
            b"H2",
        ] {
            let received = ResponseParser::default().receive(bytes);
            assert_eq!(received, Err(ResponseError::MalformedHead));
        }
        for bytes in [&b""[..], b"\r\n", b"H", b"\r\nHTTP/1.1 2"] {
            assert_eq!(ResponseParser::default().receive(bytes), Ok(None));
        }
    }

    #[test]
    fn interim_responses_and_trailers_have_an_end() {
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

    /// Fed byte by byte, each byte is looked at a bounded number of times.
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
            // Once a line, of which there are not many.
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
