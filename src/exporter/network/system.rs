//! The operating system's network: the event loop's poll, TCP sockets, the resolver.

use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::exporter::network::{ByteStream, ConnectionId, LookupReply, Network, Readiness};

/// The waker's token. Connections have those after it.
const WAKER: Token = Token(0);
const EVENTS_MAX: usize = 64;

/// The poll of the network thread with its waker.
pub(crate) struct SystemNetwork {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
}

impl SystemNetwork {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            waker: Arc::new(waker),
        })
    }

    /// Wakes a thread that waits in [`Self::poll`].
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Waits for readiness or a wake-up, at most for `timeout`. Passes readiness to `ready`.
    pub(crate) fn poll(
        &mut self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(ConnectionId, Readiness),
    ) {
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "poll: {error}");
        }
        for event in &self.events {
            let Some(index) = event.token().0.checked_sub(WAKER.0 + 1) else {
                continue;
            };
            let readiness = Readiness {
                readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                writable: event.is_writable() || event.is_write_closed() || event.is_error(),
            };
            ready(ConnectionId(index), readiness);
        }
    }
}

impl Network for SystemNetwork {
    fn connect(&self, address: SocketAddr, id: ConnectionId) -> io::Result<Box<dyn ByteStream>> {
        let mut stream = TcpStream::connect(address)?;
        let token = Token(WAKER.0 + 1 + id.0);
        let interest = Interest::READABLE | Interest::WRITABLE;
        (self.poll.registry()).register(&mut stream, token, interest)?;
        Ok(Box::new(Socket(stream)))
    }

    /// Starts a thread for the look-up, because the system's resolver may block for seconds.
    fn look_up(&self, host: &str, port: u16, reply: LookupReply) -> io::Result<()> {
        let host = host.to_string();
        let waker = self.waker();
        thread::Builder::new()
            .name("otlp-resolve".to_string())
            .spawn(move || {
                let addresses = (host.as_str(), port).to_socket_addrs();
                reply.send(addresses.map(Iterator::collect));
                // Fails only if the network thread is gone.
                let _ = waker.wake();
            })?;
        Ok(())
    }
}

/// A TCP socket as a byte stream.
struct Socket(TcpStream);

impl ByteStream for Socket {
    fn is_connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.0.take_error()? {
            return Err(error);
        }
        match self.0.peer_addr() {
            Ok(_) => {
                self.0.set_nodelay(true)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        send(&self.0, slices)
    }

    fn discard_unsent(&mut self) {
        discard_unsent(&self.0);
    }
}

impl Drop for Socket {
    /// Ends the connection even if a fork of this process has a copy of the socket, which would
    /// keep it open, and events coming, after a close.
    fn drop(&mut self) {
        // Fails only if there is no connection.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Sends without the signal that a closed connection raises, where it can be suppressed for one call:
/// SIGPIPE may end a host process that is not a Rust program.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn send(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    socket2::SockRef::from(stream).send_vectored_with_flags(slices, libc::MSG_NOSIGNAL)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn send(mut stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    io::Write::write_vectored(&mut stream, slices)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn discard_unsent(stream: &TcpStream) {
    // If it fails, the system continues to send after the close.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn discard_unsent(_: &TcpStream) {}
