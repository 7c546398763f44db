//! The only socket I/O: a non-blocking stream that remembers whether it is ready, under TLS if
//! that is wanted.

#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tunnel;

use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::config::{EndpointSettings, Target};

#[cfg(all(test, not(loom), feature = "tls"))]
pub(in crate::exporter) use self::tunnel::head as connect_head;

/// A connection, perhaps still being established.
pub(crate) struct Transport {
    socket: Socket,
    layer: Layer,
}

/// What is between HTTP and the socket.
enum Layer {
    Plain,
    #[cfg(feature = "tls")]
    Tls(Box<Secure>),
}

/// TLS, perhaps through a tunnel that a proxy makes first.
#[cfg(feature = "tls")]
struct Secure {
    tunnel: Option<tunnel::Tunnel>,
    session: tls::Session,
}

impl Transport {
    /// Begins to connect to the target's address, or to the proxy's.
    pub(crate) fn connect(
        address: SocketAddr,
        target: &Target,
        settings: &EndpointSettings,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let layer = Layer::new(target, settings)?;
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            socket: Socket {
                stream,
                readable: false,
                writable: false,
                connected: false,
            },
            layer,
        })
    }

    /// Notes what the operating system said about the stream.
    pub(crate) fn ready(&mut self, event: &Event) {
        self.socket.ready(event);
    }

    /// Whether the connection stands; the error if it failed.
    pub(crate) fn is_connected(&mut self) -> io::Result<bool> {
        if !self.socket.is_connected()? {
            return Ok(false);
        }
        match &mut self.layer {
            Layer::Plain => Ok(true),
            #[cfg(feature = "tls")]
            Layer::Tls(secure) => secure.is_agreed(&mut self.socket),
        }
    }

    /// Something may be left to read.
    pub(crate) fn is_readable(&self) -> bool {
        self.socket.connected && self.socket.readable
    }

    /// A write failed: what can be read now may not have been announced yet.
    pub(crate) fn assume_readable(&mut self) {
        self.socket.readable = true;
    }

    /// Gives the connection up together with what the operating system has still to send of it: on a
    /// slow line that would stand in the way of what comes next.
    pub(crate) fn abort(self) {
        abort(&self.socket.stream);
    }

    /// Writes what it can; `None` if nothing can be written now.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        match &mut self.layer {
            Layer::Plain => self.socket.write(slices),
            #[cfg(feature = "tls")]
            Layer::Tls(secure) => secure.session.write(&mut self.socket, slices),
        }
    }

    /// Passes on what was written and is held back in between, as far as that can be done now.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain => Ok(()),
            #[cfg(feature = "tls")]
            Layer::Tls(secure) => secure.session.flush(&mut self.socket),
        }
    }

    /// Reads what there is, 0 at the end; `None` if nothing can be read now.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match &mut self.layer {
            Layer::Plain => self.socket.read(buffer),
            #[cfg(feature = "tls")]
            Layer::Tls(secure) => secure.session.read(&mut self.socket, buffer),
        }
    }
}

impl Layer {
    #[cfg(feature = "tls")]
    fn new(target: &Target, settings: &EndpointSettings) -> io::Result<Self> {
        if !target.is_https {
            return Ok(Self::Plain);
        }
        let proxy = settings.proxy.as_ref();
        Ok(Self::Tls(Box::new(Secure {
            tunnel: proxy.map(|proxy| tunnel::Tunnel::new(proxy, target)),
            session: tls::Session::new(target, settings)?,
        })))
    }

    #[cfg(not(feature = "tls"))]
    fn new(target: &Target, _: &EndpointSettings) -> io::Result<Self> {
        if target.is_https {
            return Err(io::Error::other("https needs the feature `tls`"));
        }
        Ok(Self::Plain)
    }
}

#[cfg(feature = "tls")]
impl Secure {
    /// The tunnel is there, if there is to be one, and so is the session.
    fn is_agreed(&mut self, socket: &mut Socket) -> io::Result<bool> {
        if let Some(tunnel) = &mut self.tunnel {
            if !tunnel.is_open(socket)? {
                return Ok(false);
            }
            self.tunnel = None;
        }
        self.session.handshake(socket)
    }
}

/// The stream itself.
struct Socket {
    stream: TcpStream,
    readable: bool,
    writable: bool,
    connected: bool,
}

impl Socket {
    fn ready(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    fn is_connected(&mut self) -> io::Result<bool> {
        if self.connected || !self.writable {
            return Ok(self.connected);
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.stream.set_nodelay(true)?;
                self.connected = true;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        attempt(&mut self.writable, || send(&self.stream, slices))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        attempt(&mut self.readable, || self.stream.read(buffer))
    }
}

impl Drop for Socket {
    /// Ends the connection even if a fork of this process has a copy of the socket, which would
    /// keep it open, and events coming, after a close.
    fn drop(&mut self) {
        // Fails only if there is no connection.
        let _ = self.stream.shutdown(Shutdown::Both);
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

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abort(stream: &TcpStream) {
    // If it fails, then it is closed in the ordinary way.
    let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abort(_: &TcpStream) {}

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
