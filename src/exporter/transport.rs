//! The only socket I/O: a non-blocking stream that remembers whether it is ready.

use std::io::{self, IoSlice, Read};
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// A TCP connection, perhaps still being established.
pub(crate) struct Transport {
    stream: TcpStream,
    readable: bool,
    writable: bool,
}

impl Transport {
    /// Begins to connect.
    pub(crate) fn connect(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            readable: false,
            writable: false,
        })
    }

    /// Notes what the operating system said about the stream.
    pub(crate) fn ready(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    /// Whether the connection stands; the error if it failed.
    pub(crate) fn is_connected(&mut self) -> io::Result<bool> {
        if !self.writable {
            return Ok(false);
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.stream.set_nodelay(true)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Something may be left to read.
    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }

    /// A write failed: what can be read now may not have been announced yet.
    pub(crate) fn assume_readable(&mut self) {
        self.readable = true;
    }

    /// Writes what it can; `None` if nothing can be written now.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        attempt(&mut self.writable, || send(&self.stream, slices))
    }

    /// Reads what there is, 0 at the end; `None` if nothing can be read now.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        attempt(&mut self.readable, || self.stream.read(buffer))
    }
}

/// Sends without the signal that a closed connection raises where it can be suppressed for one
/// call: in a host that is no Rust program SIGPIPE may end the process.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn send(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    socket2::SockRef::from(stream).send_vectored_with_flags(slices, libc::MSG_NOSIGNAL)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn send(mut stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    io::Write::write_vectored(&mut stream, slices)
}

/// Tries while the stream is ready; notes when it no longer is.
fn attempt(
    ready: &mut bool,
    mut operation: impl FnMut() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    while *ready {
        match operation() {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *ready = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
