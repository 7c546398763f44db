//! The subset of HTTP/1.1 that the service needs.

use std::fmt::Write;

use otlp_collector::TraceId;

/// Requests above these limits are rejected.
const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A request, borrowed from the connection's buffer.
pub struct Request<'b> {
    pub method: &'b str,
    pub path: &'b str,
    headers: Vec<httparse::Header<'b>>,
    pub keep_alive: bool,
    /// Length of head and body.
    pub len: usize,
}

/// The result of parsing a connection's buffer.
pub enum Parsed<'b> {
    Complete(Request<'b>),
    /// The request is incomplete.
    Partial,
    /// The connection must be closed after this response.
    Invalid(Response),
}

pub fn parse(buffer: &[u8]) -> Parsed<'_> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(buffer) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if buffer.len() <= HEAD_BYTES_MAX => return Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Invalid(Response::text(431, "the request head is too large\n"));
        }
        Err(error) => return Parsed::Invalid(Response::text(400, &format!("{error}\n"))),
    };
    let header = |name: &str| {
        let found = request
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    if header("transfer-encoding").is_some() {
        return Parsed::Invalid(Response::text(
            501,
            "transfer encodings are not supported\n",
        ));
    }
    let body = match header("content-length").map_or(Ok(0), str::parse) {
        Ok(body) if body <= BODY_BYTES_MAX => body,
        Ok(_) => return Parsed::Invalid(Response::text(413, "the request body is too large\n")),
        Err(_) => return Parsed::Invalid(Response::text(400, "content-length is not a number\n")),
    };
    if buffer.len() < head + body {
        return Parsed::Partial;
    }
    let connection = header("connection").unwrap_or("");
    let keep_alive = match request.version {
        Some(1) => !connection.eq_ignore_ascii_case("close"),
        _ => connection.eq_ignore_ascii_case("keep-alive"),
    };
    Parsed::Complete(Request {
        method: request.method.unwrap_or(""),
        path: request.path.unwrap_or(""),
        keep_alive,
        len: head + body,
        headers: request.headers.to_vec(),
    })
}

impl<'b> Request<'b> {
    /// Returns the headers' names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + '_ {
        self.headers
            .iter()
            .map(|header| (header.name, header.value))
    }
}

pub struct Response {
    pub status: u16,
    content_type: &'static str,
    body: String,
}

impl Response {
    pub fn text(status: u16, body: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.to_string(),
        }
    }

    pub fn json(status: u16, body: String) -> Self {
        Self {
            status,
            content_type: "application/json",
            body,
        }
    }

    /// Writes the response. The trace id, if there is one, is sent in a header, so that the caller
    /// can look up the trace.
    pub fn write(
        &self,
        head_only: bool,
        keep_alive: bool,
        trace_id: Option<TraceId>,
        out: &mut Vec<u8>,
    ) {
        let mut head = String::with_capacity(160);
        let _ = write!(
            head,
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len(),
        );
        if let Some(trace_id) = trace_id {
            let _ = write!(head, "X-Trace-Id: {trace_id}\r\n");
        }
        if !keep_alive {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        if !head_only {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        _ => "",
    }
}
