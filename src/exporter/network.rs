//! The boundary between the exporter and the operating system's network.
//!
//! Everything above it works with [`Network`] and [`ByteStream`] alone. The event loop implements them with
//! sockets (`network/system.rs`), unit tests in memory (`network/simulated.rs`).

#[cfg(all(test, not(loom)))]
pub(crate) mod simulated;
pub(crate) mod system;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::Sender;

/// The identifier of one of the exporter's connections, by which its readiness is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(pub(crate) usize);

/// A change of a stream's readiness. It is reported once, when it occurs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// Bytes, the end of the stream or an error can be read.
    pub(crate) readable: bool,
    /// Bytes can be written, or the attempt to connect has ended.
    pub(crate) writable: bool,
}

/// The operating system's network, without blocking.
pub(crate) trait Network {
    /// Begins to connect. Readiness of the stream is reported with `id`.
    fn connect(&self, address: SocketAddr, id: ConnectionId) -> io::Result<Box<dyn ByteStream>>;

    /// Begins to look up the addresses of a name. They are sent to `reply`.
    fn look_up(&self, host: &str, port: u16, reply: LookupReply) -> io::Result<()>;
}

/// A non-blocking byte stream to a server. Dropping it closes it.
pub(crate) trait ByteStream: Send {
    /// Returns whether the connection is established, or the error with which the attempt failed.
    fn is_connected(&mut self) -> io::Result<bool>;

    /// Reads some bytes; 0 at the end of the stream. `WouldBlock` if there are none now.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes some bytes. `WouldBlock` if none can be written now.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Makes the close discard bytes that were written but not sent yet.
    fn discard_unsent(&mut self);
}

/// The addresses of a name.
pub(crate) type Addresses = io::Result<Vec<SocketAddr>>;

/// The receiving end of one look-up. It holds one of its endpoint's permits for look-ups until it is used or
/// dropped.
pub(crate) struct LookupReply {
    addresses: Sender<Addresses>,
    permit: Arc<()>,
}

impl LookupReply {
    /// Creates a reply that holds a clone of `permit`.
    pub(crate) fn new(addresses: Sender<Addresses>, permit: &Arc<()>) -> Self {
        Self {
            addresses,
            permit: Arc::clone(permit),
        }
    }

    /// Returns the permit, then sends the addresses.
    pub(crate) fn send(self, addresses: Addresses) {
        drop(self.permit);
        // Fails if the look-up was given up because it took too long.
        let _ = self.addresses.send(addresses);
    }
}
