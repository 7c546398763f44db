//! One HTTP/1.1 connection without its socket: what to send next, and what came back.
//!
//! ```text
//!        start                    sent (all)
//!  Idle ───────▶ request being sent ───────▶ response awaited ──▶ Idle, or closed
//!                      │                          ▲
//!                      └──── response comes early ┘  (then the connection is closed)
//! ```

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::config::Compression;
use crate::exporter::http::response::{Response, ResponseError, ResponseParser};
use crate::exporter::request::Request;

/// Parts handed to one `writev`; more would only make the array larger.
pub(crate) const PARTS_MAX: usize = 64;

/// An open connection.
#[derive(Default)]
pub(crate) struct Connection {
    outgoing: Option<Outgoing>,
    /// The part to be sent next, and how much of it was sent.
    next_part: usize,
    part_sent: usize,
    parser: ResponseParser,
    /// Responses it has given.
    served: u64,
}

/// A request that is on the way.
struct Outgoing {
    head: Bytes,
    compression: Compression,
    /// What is sent in place of the request's own parts.
    compressed: Option<Bytes>,
    request: Arc<Request>,
    started: Instant,
}

impl Outgoing {
    /// The head first, then the body's parts.
    fn part(&self, index: usize) -> Option<&[u8]> {
        match (index, &self.compressed) {
            (0, _) => Some(&self.head),
            (1, Some(body)) => Some(body),
            (_, Some(_)) => None,
            (_, None) => self.request.part(index - 1),
        }
    }
}

/// A request's end: the request itself, and the response to it.
pub(crate) struct Exchange {
    pub(crate) request: Arc<Request>,
    /// When that was begun.
    pub(crate) started: Instant,
    /// The compression of its body.
    pub(crate) compression: Compression,
    pub(crate) response: Response,
}

impl Connection {
    /// A connection over which bodies of responses have at most so many bytes.
    pub(crate) fn new(response_bytes_max: usize) -> Self {
        Self {
            parser: ResponseParser::new(response_bytes_max),
            ..Self::default()
        }
    }

    /// Nothing is on the way.
    pub(crate) fn is_idle(&self) -> bool {
        self.outgoing.is_none()
    }

    /// It was of use before.
    pub(crate) fn has_served(&self) -> bool {
        self.served > 0
    }

    /// Served a request before and has answered nothing to this one: if it breaks now, then most
    /// likely since the other side closed it while it was idle.
    pub(crate) fn may_be_stale(&self) -> bool {
        self.served > 0 && self.parser.is_empty()
    }

    /// Begins to send a request.
    pub(crate) fn start(
        &mut self,
        head: Bytes,
        compression: Compression,
        request: Arc<Request>,
        now: Instant,
    ) {
        debug_assert!(self.is_idle());
        let compressed = request.body(compression).cloned();
        self.outgoing = Some(Outgoing {
            head,
            // One that could not be compressed is sent as it is.
            compression: match compressed {
                Some(_) => compression,
                None => Compression::None,
            },
            compressed,
            request,
            started: now,
        });
        self.next_part = 0;
        self.part_sent = 0;
    }

    /// What is to be sent next: fills `slices` and tells how many.
    pub(crate) fn unsent<'a>(&'a self, slices: &mut [IoSlice<'a>; PARTS_MAX]) -> usize {
        let Some(outgoing) = &self.outgoing else {
            return 0;
        };
        let mut skip = self.part_sent;
        let parts = (self.next_part..).map_while(|index| outgoing.part(index));
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(&part[skip..]);
            skip = 0;
            filled += 1;
        }
        filled
    }

    /// So many bytes of it were sent.
    pub(crate) fn sent(&mut self, mut bytes: usize) {
        let Some(outgoing) = &self.outgoing else {
            return;
        };
        while let Some(part) = outgoing.part(self.next_part) {
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

    /// Bytes came. A response that comes before its request was sent ends the connection.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Option<Exchange>, ResponseError> {
        if self.is_idle() {
            return Err(ResponseError::Unexpected);
        }
        let response = match self.parser.receive(bytes) {
            Err(error) => Some(self.parser.salvage(error).ok_or(error)?),
            Ok(response) => response,
        };
        Ok(response.and_then(|response| self.finish(response)))
    }

    /// The other side closed the connection while a request was on the way.
    pub(crate) fn end(&mut self) -> Result<Option<Exchange>, ResponseError> {
        let response = match self.parser.end() {
            Err(error) => self.parser.salvage(error).ok_or(error)?,
            Ok(response) => response,
        };
        Ok(self.finish(response))
    }

    /// The connection is given up: the end of the request, if a final status is known.
    pub(crate) fn salvage(&mut self, error: ResponseError) -> Option<Exchange> {
        let response = self.parser.salvage(error)?;
        self.finish(response)
    }

    /// The request on the way, if the connection is given up.
    pub(crate) fn take_request(&mut self) -> Option<Arc<Request>> {
        self.outgoing.take().map(|outgoing| outgoing.request)
    }

    fn finish(&mut self, mut response: Response) -> Option<Exchange> {
        let outgoing = self.outgoing.take()?;
        response.keep_alive &= outgoing.part(self.next_part).is_none();
        self.served += 1;
        Some(Exchange {
            request: outgoing.request,
            started: outgoing.started,
            compression: outgoing.compression,
            response,
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use bytes::Bytes;

    use super::*;
    fn start(connection: &mut Connection) {
        let request = Request::of_texts(&["one ", "two"]);
        connection.start(
            Bytes::from_static(b"head "),
            Compression::None,
            Arc::new(request),
            Instant::now(),
        );
    }

    fn unsent(connection: &Connection) -> String {
        let mut slices = [IoSlice::new(&[]); PARTS_MAX];
        let filled = connection.unsent(&mut slices);
        slices[..filled]
            .iter()
            .map(|slice| String::from_utf8_lossy(slice).into_owned())
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn a_request_is_sent_in_any_steps() {
        for step in 1..=12 {
            let mut connection = Connection::default();
            start(&mut connection);
            let mut sent = String::new();
            while !unsent(&connection).is_empty() {
                let rest = unsent(&connection).replace('|', "");
                let part = &rest[..step.min(rest.len())];
                sent += part;
                connection.sent(part.len());
            }
            assert_eq!(sent, "head one two");
        }
    }

    #[test]
    fn parts_are_not_copied_together() {
        let mut connection = Connection::default();
        start(&mut connection);
        assert_eq!(unsent(&connection), "head |one |two");
        connection.sent(6);
        assert_eq!(unsent(&connection), "ne |two");
    }

    #[test]
    fn a_response_ends_the_request() {
        let mut connection = Connection::default();
        start(&mut connection);
        connection.sent(12);
        assert!(!connection.may_be_stale());
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let exchange = connection.receive(answer).unwrap().unwrap();
        assert_eq!((exchange.response.status, exchange.request.spans), (200, 2));
        assert!(exchange.response.keep_alive && connection.is_idle());
        assert!(connection.may_be_stale());
    }

    #[test]
    fn an_early_response_ends_the_connection() {
        let mut connection = Connection::default();
        start(&mut connection);
        connection.sent(7);
        let answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
        let exchange = connection.receive(answer).unwrap().unwrap();
        assert_eq!(exchange.response.status, 413);
        assert!(!exchange.response.keep_alive);
    }

    #[test]
    fn bytes_without_a_request_are_an_error() {
        let mut connection = Connection::default();
        assert_eq!(
            connection.receive(b"x").err(),
            Some(ResponseError::Unexpected)
        );
        start(&mut connection);
        assert_eq!(connection.end().err(), Some(ResponseError::Truncated));
        assert!(connection.take_request().is_some());
    }

    #[test]
    fn a_final_status_ends_the_request_though_the_response_is_broken() {
        let mut connection = Connection::default();
        start(&mut connection);
        connection.sent(12);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert!(connection.receive(head).unwrap().is_none());
        let exchange = connection.end().unwrap().unwrap();
        assert_eq!(exchange.response.broken, Some(ResponseError::Truncated));

        start(&mut connection);
        assert!(connection.salvage(ResponseError::Late).is_none());
        assert!(connection.take_request().is_some());
    }
}
