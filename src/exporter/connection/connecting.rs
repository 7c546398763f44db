//! The state in which the server's addresses are tried, one after the other.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use std::vec;

use crate::exporter::transport::Transport;

/// Each address gets at least this long to answer before the next is tried.
const ADDRESS_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Function that begins to connect to an address.
type Dial<'a> = &'a dyn Fn(SocketAddr) -> io::Result<Transport>;

/// A connection to the first address that answers.
pub(super) struct Connecting {
    transport: Transport,
    next_address_at: Instant,
    other_addresses: vec::IntoIter<SocketAddr>,
    deadline: Instant,
}

impl Connecting {
    /// Begins with the first address. The error is that of the last one if none can be tried.
    pub(super) fn new(
        addresses: Vec<SocketAddr>,
        deadline: Instant,
        now: Instant,
        dial: Dial<'_>,
    ) -> io::Result<Self> {
        let error = if addresses.is_empty() {
            io::Error::other("the name has no address")
        } else {
            timed_out()
        };
        Self::try_next(addresses.into_iter(), error, deadline, now, dial)
    }

    /// Begins to connect to the first address at which that does not fail at once. It gets an equal
    /// share of the time left.
    fn try_next(
        mut addresses: vec::IntoIter<SocketAddr>,
        mut error: io::Error,
        deadline: Instant,
        now: Instant,
        dial: Dial<'_>,
    ) -> io::Result<Self> {
        while now < deadline
            && let Some(address) = addresses.next()
        {
            match dial(address) {
                Ok(transport) => {
                    let left = deadline - now;
                    let share = left / (addresses.len() as u32 + 1);
                    return Ok(Self {
                        transport,
                        next_address_at: now + share.max(ADDRESS_TIMEOUT_MIN.min(left)),
                        other_addresses: addresses,
                        deadline,
                    });
                }
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(super) fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Returns the time at which the present address is given up.
    pub(super) fn next_address_at(&self) -> Instant {
        self.next_address_at
    }

    /// Returns the deadline of connecting as a whole.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn advance(
        mut self,
        now: Instant,
        dial: Dial<'_>,
    ) -> io::Result<ControlFlow<Transport, Self>> {
        loop {
            let error = match self.transport.is_connected() {
                Ok(true) => return Ok(ControlFlow::Break(self.transport)),
                Ok(false) if now < self.next_address_at => return Ok(ControlFlow::Continue(self)),
                Ok(false) => timed_out(),
                Err(error) => error,
            };
            // Readiness is reported by the connection's id, so there is one stream at a time.
            drop(self.transport);
            self = Self::try_next(self.other_addresses, error, self.deadline, now, dial)?;
        }
    }
}

fn timed_out() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "not connected in time: check the address, or raise connect_timeout_ms",
    )
}
