//! The way through a proxy to a server: `CONNECT` (RFC 9110, 9.3.6).

use std::io::{self, IoSlice};

use super::tracked_stream::TrackedStream;
use crate::config::{Proxy, Target};

const ANSWER_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

/// The request that opens a tunnel.
pub(in crate::exporter) fn head(proxy: &Proxy, target: &Target) -> Vec<u8> {
    let authority = target.host_and_port();
    let authorization = proxy.authorization_line();
    let head = format!(
        "CONNECT {authority} HTTP/1.1\r\n\
         Host: {authority}\r\n\
         {authorization}\
         \r\n"
    );
    head.into_bytes()
}

/// A tunnel that is being made.
pub(super) struct Tunnel {
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
    /// Interim answers, which are not kept, are among them.
    answer_bytes: usize,
}

impl Tunnel {
    pub(super) fn new(proxy: &Proxy, target: &Target) -> Self {
        Self {
            request: head(proxy, target),
            sent: 0,
            answer: Vec::new(),
            answer_bytes: 0,
        }
    }

    /// True once the proxy is connected to the server.
    pub(super) fn is_open(&mut self, stream: &mut TrackedStream) -> io::Result<bool> {
        while self.sent < self.request.len() {
            match stream.write(&[IoSlice::new(&self.request[self.sent..])])? {
                None => return Ok(false),
                Some(bytes) => self.sent += bytes,
            }
        }
        // The server does not speak before it is spoken to: what comes is the proxy's answer.
        let mut buffer = [0; 1024];
        while let Some(bytes) = stream.read(&mut buffer)? {
            if bytes == 0 {
                return Err(failed("closed the connection without an answer"));
            }
            self.answer.extend_from_slice(&buffer[..bytes]);
            self.answer_bytes += bytes;
            // Parsed once a line at most, however slowly it comes.
            if buffer[..bytes].contains(&b'\n') && self.has_answered()? {
                return Ok(true);
            }
            if self.answer_bytes > ANSWER_BYTES_MAX {
                return Err(failed("answered more than 64 KiB"));
            }
        }
        Ok(false)
    }

    /// Whether there is a final answer, which is a success.
    fn has_answered(&mut self) -> io::Result<bool> {
        loop {
            let is_break = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            let breaks = self.answer.iter().take_while(is_break).count();
            self.answer.drain(..breaks);
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut response = httparse::Response::new(&mut headers);
            let end = match response.parse(&self.answer) {
                Ok(httparse::Status::Complete(end)) => end,
                Ok(httparse::Status::Partial) => return Ok(false),
                Err(_) => return Err(failed("answered what is no HTTP/1.1")),
            };
            match response.code.unwrap_or_default() {
                // The final answer follows.
                100..=199 => drop(self.answer.drain(..end)),
                200..=299 if end == self.answer.len() => return Ok(true),
                200..=299 => return Err(failed("said more than its answer")),
                407 => return Err(failed("answered 407: check the user and password of proxy")),
                status => return Err(failed(&format!("answered {status}"))),
            }
        }
    }
}

fn failed(what: &str) -> io::Error {
    io::Error::other(format!("the proxy {what}"))
}
