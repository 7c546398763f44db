//! The state of a connection with a request in flight.

use std::fmt::Display;
use std::io::{self, IoSlice};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::exporter::connection::event::{ConnectionEvent, ConnectionLoss, Reply};
use crate::exporter::connection::idle::Idle;
use crate::exporter::connection::outgoing::Outgoing;
use crate::exporter::http::exchange::{Exchange, PARTS_MAX};
use crate::exporter::http::response::{Response, ResponseError};
use crate::exporter::transport::Transport;

/// Reads of one turn: with the buffer's size half a megabyte. A server that sends without end must not
/// keep the thread from other connections.
const READS_MAX: u32 = 64;
const READ_BYTES: usize = 8192;

/// A connection with a request in flight.
pub(super) struct Busy {
    transport: Transport,
    exchange: Exchange<Outgoing>,
    /// Requests were served over the connection before.
    has_served: bool,
    since: Instant,
    /// The last time at which bytes of the request could be written.
    sent_at: Instant,
}

/// The end of an exchange: its event, and the connection if it can serve another request.
type ExchangeEnd = (ConnectionEvent, Option<Idle>);

impl Busy {
    pub(super) fn new(
        idle: Idle,
        head: Bytes,
        outgoing: Outgoing,
        response_bytes_max: usize,
        now: Instant,
    ) -> Self {
        let (transport, has_served) = idle.into_parts();
        Self {
            transport,
            exchange: Exchange::new(head, outgoing, response_bytes_max),
            has_served,
            since: now,
            sent_at: now,
        }
    }

    /// Returns the time at which the request was begun.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn sent_at(&self) -> Instant {
        self.sent_at
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(super) fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Sends, then receives, then checks the time.
    pub(super) fn advance(
        mut self: Box<Self>,
        now: Instant,
        timeout: Duration,
    ) -> ControlFlow<ExchangeEnd, Box<Self>> {
        let sent = self.send(now);
        if sent.is_err() {
            // The server may have responded before it closed the connection.
            self.transport.assume_readable();
        }
        match (self.receive(sent.is_err()), sent) {
            (Ok(Some(response)), sent) => {
                ControlFlow::Break(self.served(response, sent.is_ok(), now))
            }
            (_, Err(error)) => ControlFlow::Break(self.broken(&error, now)),
            (Err(error), Ok(())) => ControlFlow::Break(self.broken(&error, now)),
            (Ok(None), Ok(())) if now < self.since + timeout => ControlFlow::Continue(self),
            (Ok(None), Ok(())) => ControlFlow::Break(self.timed_out(timeout, now)),
        }
    }

    fn send(&mut self, now: Instant) -> io::Result<()> {
        loop {
            let mut slices = [IoSlice::new(&[]); PARTS_MAX];
            let filled = self.exchange.unsent(&mut slices);
            if filled == 0 {
                return self.transport.flush();
            }
            let Some(bytes) = self.transport.write(&slices[..filled])? else {
                return Ok(());
            };
            self.exchange.sent(bytes);
            self.sent_at = now;
        }
    }

    /// Reads until the response is complete, nothing can be read, or the limit of one turn is reached.
    fn receive(&mut self, has_failed: bool) -> Result<Option<Response>, String> {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..READS_MAX {
            let read = self.transport.read(&mut buffer);
            let received = match read.map_err(|error| error.to_string())? {
                None => return Ok(None),
                // After a failed write the end of the stream is not that of a body.
                Some(0) if has_failed => return Ok(None),
                Some(0) => self.exchange.end_of_stream().map(Some),
                Some(bytes) => self.exchange.receive(&buffer[..bytes]),
            };
            match received {
                Ok(None) => {}
                result => return result.map_err(|error| error.to_string()),
            }
        }
        Ok(None)
    }

    fn served(self, response: Response, can_be_kept: bool, now: Instant) -> ExchangeEnd {
        let is_kept = response.keep_alive && can_be_kept;
        let outgoing = self.exchange.into_body();
        let reply = Reply {
            started: self.since,
            compression: outgoing.compression(),
            request: outgoing.into_request(),
            response,
        };
        let idle = is_kept.then(|| Idle::kept(self.transport, now));
        (ConnectionEvent::Replied(reply), idle)
    }

    // ---- Failures ----

    fn broken(mut self, error: &dyn Display, now: Instant) -> ExchangeEnd {
        if let Some(response) = self.exchange.salvage(ResponseError::Truncated) {
            return self.served(response, false, now);
        }
        if self.has_served && !self.exchange.has_received() {
            let reason = format!("a kept connection was broken: {error}");
            self.lost(ConnectionLoss::Stale, reason)
        } else {
            let reason = format!("the connection was broken: {error}");
            self.lost(ConnectionLoss::Broken, reason)
        }
    }

    fn timed_out(mut self, timeout: Duration, now: Instant) -> ExchangeEnd {
        if let Some(response) = self.exchange.salvage(ResponseError::Late) {
            return self.served(response, false, now);
        }
        let reason = format!("no response within {timeout:?}");
        self.lost(ConnectionLoss::TimedOut, reason)
    }

    fn lost(self, kind: ConnectionLoss, reason: String) -> ExchangeEnd {
        self.transport.abort();
        let request = Some(self.exchange.into_body().into_request());
        let event = ConnectionEvent::Lost {
            request,
            kind,
            reason,
        };
        (event, None)
    }
}
