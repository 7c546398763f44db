//! One HTTP/1.1 request and its response, without a socket: which bytes to send next, and how to
//! read those received.
//!
//! ```text
//!  request is being sent ──▶ all sent, response awaited ──▶ response complete
//!           │                                                  ▲
//!           └──── response comes early: no further exchange ───┘
//! ```

use std::io::IoSlice;

use bytes::Bytes;

use crate::exporter::http::response::{Response, ResponseError};
use crate::exporter::http::response_parser::ResponseParser;

/// Parts passed to one vectored write; more would only make the array larger.
pub(crate) const PARTS_MAX: usize = 64;

/// The body of a request, in parts that are sent one after the other without being copied.
pub(crate) trait Body {
    /// Returns the part at `index`, or `None` after the last one.
    fn part(&self, index: usize) -> Option<&[u8]>;
}

/// A request in flight.
pub(crate) struct Exchange<B> {
    head: Bytes,
    body: B,
    /// The part to be sent next (0 is the head), and how much of it was sent.
    next_part: usize,
    part_sent: usize,
    parser: ResponseParser,
}

impl<B: Body> Exchange<B> {
    /// Creates an exchange whose response has a body of at most `response_bytes_max`.
    pub(crate) fn new(head: Bytes, body: B, response_bytes_max: usize) -> Self {
        Self {
            head,
            body,
            next_part: 0,
            part_sent: 0,
            parser: ResponseParser::new(response_bytes_max),
        }
    }

    pub(crate) fn into_body(self) -> B {
        self.body
    }

    /// Returns whether a byte of the response was received.
    pub(crate) fn has_received(&self) -> bool {
        self.parser.has_received()
    }

    fn part(&self, index: usize) -> Option<&[u8]> {
        match index.checked_sub(1) {
            None => Some(&self.head),
            Some(index) => self.body.part(index),
        }
    }

    /// Fills `slices` with the next bytes to be sent. Returns the number of slices filled.
    pub(crate) fn unsent<'a>(&'a self, slices: &mut [IoSlice<'a>; PARTS_MAX]) -> usize {
        let mut skip = self.part_sent;
        let parts = (self.next_part..).map_while(|index| self.part(index));
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(&part[skip..]);
            skip = 0;
            filled += 1;
        }
        filled
    }

    /// Notes that the next `bytes` bytes were sent.
    pub(crate) fn sent(&mut self, mut bytes: usize) {
        while let Some(part) = self.part(self.next_part) {
            let left = part.len() - self.part_sent;
            if bytes < left {
                self.part_sent += bytes;
                return;
            }
            bytes -= left;
            self.part_sent = 0;
            self.next_part += 1;
        }
    }

    /// Parses received bytes. Returns the response when it is complete, or when it is known to remain
    /// incomplete but its status is final.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Option<Response>, ResponseError> {
        match self.parser.receive(bytes) {
            Ok(response) => Ok(response.map(|response| self.checked(response))),
            Err(error) => self.salvage(error).map(Some).ok_or(error),
        }
    }

    /// Returns the response if the end of the stream completes it or its status is final.
    pub(crate) fn end_of_stream(&mut self) -> Result<Response, ResponseError> {
        match self.parser.end_of_stream() {
            Ok(response) => Ok(self.checked(response)),
            Err(error) => self.salvage(error).ok_or(error),
        }
    }

    /// Returns the response if its status is final, though it remains incomplete because of `error`.
    pub(crate) fn salvage(&mut self, error: ResponseError) -> Option<Response> {
        self.parser.salvage(error)
    }

    /// Notes in a response that its connection cannot be kept if it came before its request was sent.
    fn checked(&self, mut response: Response) -> Response {
        response.keep_alive &= self.part(self.next_part).is_none();
        response
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    struct Texts(&'static [&'static str]);

    impl Body for Texts {
        fn part(&self, index: usize) -> Option<&[u8]> {
            self.0.get(index).map(|text| text.as_bytes())
        }
    }

    fn exchange() -> Exchange<Texts> {
        Exchange::new(Bytes::from_static(b"head "), Texts(&["one ", "two"]), 1000)
    }

    fn unsent(exchange: &Exchange<Texts>) -> String {
        let mut slices = [IoSlice::new(&[]); PARTS_MAX];
        let filled = exchange.unsent(&mut slices);
        slices[..filled]
            .iter()
            .map(|slice| String::from_utf8_lossy(slice).into_owned())
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn a_request_is_sent_in_any_steps() {
        for step in 1..=12 {
            let mut exchange = exchange();
            let mut sent = String::new();
            while !unsent(&exchange).is_empty() {
                let rest = unsent(&exchange).replace('|', "");
                let part = &rest[..step.min(rest.len())];
                sent += part;
                exchange.sent(part.len());
            }
            assert_eq!(sent, "head one two");
        }
    }

    #[test]
    fn parts_are_not_copied_together() {
        let mut exchange = exchange();
        assert_eq!(unsent(&exchange), "head |one |two");
        exchange.sent(6);
        assert_eq!(unsent(&exchange), "ne |two");
    }

    #[test]
    fn a_response_after_the_request_keeps_the_connection() {
        let mut exchange = exchange();
        exchange.sent(12);
        assert!(!exchange.has_received());
        let response = exchange.receive(OK).unwrap().unwrap();
        assert_eq!((response.status, response.keep_alive), (200, true));
    }

    #[test]
    fn an_early_response_ends_the_connection() {
        for sent in 0..12 {
            let mut exchange = exchange();
            exchange.sent(sent);
            let early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
            let response = exchange.receive(early).unwrap().unwrap();
            assert_eq!((response.status, response.keep_alive), (413, false));
        }
    }

    #[test]
    fn the_first_byte_of_a_response_is_noticed() {
        let mut exchange = exchange();
        assert_eq!(exchange.receive(&OK[..1]), Ok(None));
        assert!(exchange.has_received());
        assert_eq!(exchange.end_of_stream(), Err(ResponseError::Truncated));
    }

    #[test]
    fn a_final_status_is_a_response_even_if_the_rest_is_missing() {
        let mut exchange = exchange();
        exchange.sent(12);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(exchange.receive(head), Ok(None));
        let response = exchange.end_of_stream().unwrap();
        assert_eq!(response.broken, Some(ResponseError::Truncated));
        assert_eq!(exchange.salvage(ResponseError::Late), None);
    }
}
