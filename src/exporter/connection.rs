//! One HTTP/1.1 connection without its socket: what to send next, and what came back.
//!
//! ```text
//!        start                    sent (all)
//!  Idle ───────▶ request being sent ───────▶ response awaited ──▶ Idle, or closed
//!                      │                          ▲
//!                      └──── response comes early ┘  (then the connection is closed)
//! ```

use std::io::IoSlice;

use crate::exporter::request::Request;
use crate::exporter::response::{Response, ResponseError, ResponseParser};

/// Parts handed to one `writev`; more would only make the array larger.
pub(crate) const PARTS_MAX: usize = 64;

/// An open connection.
#[derive(Default)]
pub(crate) struct Connection {
    request: Option<Request>,
    /// The part to be sent next, and how much of it was sent.
    next_part: usize,
    part_sent: usize,
    parser: ResponseParser,
    /// Responses it has given.
    served: u64,
}

/// A request's end: the request itself, and the response to it.
pub(crate) struct Exchange {
    pub(crate) request: Request,
    pub(crate) response: Response,
}

impl Connection {
    /// Nothing is on the way.
    pub(crate) fn is_idle(&self) -> bool {
        self.request.is_none()
    }

    /// Served a request before and has answered nothing to this one: if it breaks now, then most
    /// likely since the other side closed it while it was idle.
    pub(crate) fn may_be_stale(&self) -> bool {
        self.served > 0 && self.parser.is_empty()
    }

    /// Begins to send a request.
    pub(crate) fn start(&mut self, request: Request) {
        debug_assert!(self.is_idle());
        self.request = Some(request);
        self.next_part = 0;
        self.part_sent = 0;
    }

    /// What is to be sent next: fills `slices` and tells how many.
    pub(crate) fn unsent<'a>(&'a self, slices: &mut [IoSlice<'a>; PARTS_MAX]) -> usize {
        let Some(request) = &self.request else {
            return 0;
        };
        let mut skip = self.part_sent;
        let parts = (self.next_part..).map_while(|index| request.part(index));
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
        let Some(request) = &self.request else { return };
        while let Some(part) = request.part(self.next_part) {
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
        let response = self.parser.receive(bytes)?;
        Ok(response.and_then(|response| self.finish(response)))
    }

    /// The other side closed the connection while a request was on the way.
    pub(crate) fn end(&mut self) -> Result<Option<Exchange>, ResponseError> {
        let response = self.parser.end()?;
        Ok(self.finish(response))
    }

    /// The request on the way, if the connection is given up.
    pub(crate) fn take_request(&mut self) -> Option<Request> {
        self.request.take()
    }

    fn finish(&mut self, mut response: Response) -> Option<Exchange> {
        let request = self.request.take()?;
        response.keep_alive &= request.part(self.next_part).is_none();
        self.served += 1;
        Some(Exchange { request, response })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::buffer::Pool;
    use crate::exporter::request::Part;
    use crate::exporter::request::Queued;

    fn queued(text: &[u8]) -> Queued {
        let pool = Pool::new(1, 0, 4096, 10).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool, 0, 0).unwrap();
        writer.write(text);
        Queued {
            number: 0,
            batch: reader.take().unwrap(),
        }
    }

    fn request() -> Request {
        Request {
            batches: vec![queued(b"one "), queued(b"two")],
            parts: vec![
                Part::Head(Bytes::from_static(b"head ")),
                Part::Batch(0),
                Part::Batch(1),
            ],
            body_bytes: 7,
        }
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
            connection.start(request());
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
        connection.start(request());
        assert_eq!(unsent(&connection), "head |one |two");
        connection.sent(6);
        assert_eq!(unsent(&connection), "ne |two");
    }

    #[test]
    fn a_response_ends_the_request() {
        let mut connection = Connection::default();
        connection.start(request());
        connection.sent(12);
        assert!(!connection.may_be_stale());
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let exchange = connection.receive(answer).unwrap().unwrap();
        assert_eq!(
            (exchange.response.status, exchange.request.spans()),
            (200, 2)
        );
        assert!(exchange.response.keep_alive && connection.is_idle());
        assert!(connection.may_be_stale());
    }

    #[test]
    fn an_early_response_ends_the_connection() {
        let mut connection = Connection::default();
        connection.start(request());
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
        connection.start(request());
        assert_eq!(connection.end().err(), Some(ResponseError::Truncated));
        assert!(connection.take_request().is_some());
    }
}
