//! The tunnel that a proxy opens to a server: `CONNECT` (RFC 9110, 9.3.6).

use std::io::{self, IoSlice};

use super::tracked_stream::TrackedStream;
use crate::config::{Proxy, Target};

const RESPONSE_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

/// Returns the request that opens a tunnel.
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

/// A tunnel that is being opened.
pub(super) struct Tunnel {
    request: Vec<u8>,
    sent: usize,
    /// Received and not yet parsed.
    response: Vec<u8>,
    /// Received in all, including interim responses.
    received: usize,
}

impl Tunnel {
    pub(super) fn new(proxy: &Proxy, target: &Target) -> Self {
        Self {
            request: head(proxy, target),
            sent: 0,
            response: Vec::new(),
            received: 0,
        }
    }

    /// Returns whether the proxy is connected to the server.
    pub(super) fn is_open(&mut self, stream: &mut TrackedStream) -> io::Result<bool> {
        while self.sent < self.request.len() {
            match stream.write(&[IoSlice::new(&self.request[self.sent..])])? {
                None => return Ok(false),
                Some(bytes) => self.sent += bytes,
            }
        }
        // A server sends nothing before a TLS client, so all bytes are the proxy's response.
        let mut buffer = [0; 1024];
        while let Some(bytes) = stream.read(&mut buffer)? {
            if bytes == 0 {
                return Err(failed("closed the connection without a response"));
            }
            self.response.extend_from_slice(&buffer[..bytes]);
            self.received += bytes;
            // Parsed at most once per line, however slowly it arrives.
            if buffer[..bytes].contains(&b'\n') && self.is_accepted()? {
                return Ok(true);
            }
            if self.received > RESPONSE_BYTES_MAX {
                return Err(failed("sent a response of more than 64 KiB"));
            }
        }
        Ok(false)
    }

    /// Returns whether the final response is complete and a success.
    fn is_accepted(&mut self) -> io::Result<bool> {
        loop {
            let is_break = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            let breaks = self.response.iter().take_while(is_break).count();
            self.response.drain(..breaks);
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut response = httparse::Response::new(&mut headers);
            let end = match response.parse(&self.response) {
                Ok(httparse::Status::Complete(end)) => end,
                Ok(httparse::Status::Partial) => return Ok(false),
                Err(_) => return Err(failed("sent a response that is not HTTP/1.1")),
            };
            match response.code.unwrap_or_default() {
                // The final response follows.
                100..=199 => drop(self.response.drain(..end)),
                200..=299 if end == self.response.len() => return Ok(true),
                200..=299 => return Err(failed("sent bytes behind its response")),
                407 => {
                    return Err(failed(
                        "responded with 407: check the user and password of proxy",
                    ));
                }
                status => return Err(failed(&format!("responded with {status}"))),
            }
        }
    }
}

fn failed(failure: &str) -> io::Error {
    io::Error::other(format!("the proxy {failure}"))
}
