//! The state in which a name is looked up.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Instant;

use crossbeam_channel::TryRecvError;

use crate::exporter::resolver::Lookup;

/// A look-up of the server's name.
pub(super) struct Resolving {
    lookup: Lookup,
    deadline: Instant,
}

impl Resolving {
    /// Creates the state. `deadline` is that of connecting as a whole.
    pub(super) fn new(lookup: Lookup, deadline: Instant) -> Self {
        Self { lookup, deadline }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn advance(self, now: Instant) -> io::Result<ControlFlow<Vec<SocketAddr>, Self>> {
        match self.lookup.try_recv() {
            Ok(addresses) => addresses.map(ControlFlow::Break),
            Err(TryRecvError::Empty) if now < self.deadline => Ok(ControlFlow::Continue(self)),
            Err(TryRecvError::Empty) => Err(io::ErrorKind::TimedOut.into()),
            Err(lost @ TryRecvError::Disconnected) => Err(io::Error::other(lost)),
        }
    }
}
