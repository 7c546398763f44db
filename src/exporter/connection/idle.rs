//! The state of an established connection without a request.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::exporter::connection::event::{ConnectionEvent, ConnectionLoss};
use crate::exporter::http::response::ResponseError;
use crate::exporter::transport::Transport;

/// An established connection without a request.
pub(super) struct Idle {
    transport: Transport,
    has_served: bool,
    since: Instant,
}

impl Idle {
    /// Creates the state of a new connection.
    pub(super) fn new(transport: Transport, now: Instant) -> Self {
        Self {
            transport,
            has_served: false,
            since: now,
        }
    }

    /// Creates the state of a connection that is kept after a response.
    pub(super) fn kept(transport: Transport, now: Instant) -> Self {
        Self {
            transport,
            has_served: true,
            since: now,
        }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(super) fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Returns the transport, and whether a request was served over it.
    pub(super) fn into_parts(self) -> (Transport, bool) {
        (self.transport, self.has_served)
    }

    /// Ends without an event if the server has closed the connection after a request, or after the
    /// timeout.
    pub(super) fn advance(
        mut self,
        now: Instant,
        timeout: Duration,
    ) -> ControlFlow<Option<ConnectionEvent>, Self> {
        let mut byte = [0];
        let flushed = self.transport.flush();
        let error = match flushed.and_then(|()| self.transport.read(&mut byte)) {
            Ok(None) if now < self.since + timeout => return ControlFlow::Continue(self),
            Ok(None) => return ControlFlow::Break(None),
            Ok(Some(0)) if self.has_served => return ControlFlow::Break(None),
            Ok(Some(0)) => {
                let reason = "the connection was closed before it was used".to_string();
                return ControlFlow::Break(Some(self.lost(ConnectionLoss::Broken, reason)));
            }
            Ok(Some(_)) => ResponseError::Unexpected.to_string(),
            Err(error) => error.to_string(),
        };
        ControlFlow::Break(Some(if self.has_served {
            let reason = format!("an unused connection was broken: {error}");
            self.lost(ConnectionLoss::Stale, reason)
        } else {
            let reason = format!("the connection was broken: {error}");
            self.lost(ConnectionLoss::Broken, reason)
        }))
    }

    fn lost(self, kind: ConnectionLoss, reason: String) -> ConnectionEvent {
        self.transport.abort();
        ConnectionEvent::Lost {
            request: None,
            kind,
            reason,
        }
    }
}
