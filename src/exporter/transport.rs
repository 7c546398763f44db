//! A byte stream to an endpoint: plain, or TLS, which may go through a proxy's tunnel.

#[cfg(feature = "tls")]
mod tls;
mod tracked_stream;
#[cfg(feature = "tls")]
mod tunnel;

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use crate::config::{EndpointSettings, Target};
use crate::exporter::network::{ConnectionId, Network, Readiness};

use self::tracked_stream::TrackedStream;

#[cfg(all(test, not(loom), feature = "tls"))]
pub(in crate::exporter) use self::tunnel::head as connect_head;

/// A connection, perhaps still being established.
pub(crate) struct Transport {
    stream: TrackedStream,
    layer: Layer,
}

/// The protocol between HTTP and the stream.
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
    /// Begins to connect to an address of the target or, if there is one, of the proxy.
    pub(crate) fn connect(
        address: SocketAddr,
        target: &Target,
        settings: &EndpointSettings,
        network: &dyn Network,
        id: ConnectionId,
    ) -> io::Result<Self> {
        let layer = Layer::new(target, settings)?;
        let stream = TrackedStream::new(network.connect(address, id)?);
        Ok(Self { stream, layer })
    }

    /// Notes a change of readiness.
    pub(crate) fn add_readiness(&mut self, readiness: Readiness) {
        self.stream.add_readiness(readiness);
    }

    /// Returns whether the connection is established with all its layers, or the error with which the
    /// attempt failed.
    pub(crate) fn is_connected(&mut self) -> io::Result<bool> {
        if !self.stream.is_connected()? {
            return Ok(false);
        }
        match &mut self.layer {
            Layer::Plain => Ok(true),
            #[cfg(feature = "tls")]
            Layer::Tls(secure) => secure.advance_handshake(&mut self.stream),
        }
    }

    /// Returns whether something may be left to read.
    pub(crate) fn is_readable(&self) -> bool {
        self.stream.is_readable()
    }

    /// Makes the next read try, as after a failed write: bytes may have arrived whose readiness is not
    /// reported yet.
    pub(crate) fn assume_readable(&mut self) {
        self.stream.add_readiness(Readiness {
            readable: true,
            writable: false,
        });
    }

    /// Closes the connection and discards unsent bytes: on a slow line they would delay those of the
    /// next connection.
    pub(crate) fn abort(mut self) {
        self.stream.discard_unsent();
    }

    /// Writes some bytes; `None` if none can be written now.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        match &mut self.layer {
            Layer::Plain => self.stream.write(slices),
            #[cfg(feature = "tls")]
            Layer::Tls(secure) => secure.session.write(&mut self.stream, slices),
        }
    }

    /// Passes written bytes that a layer holds back on to the stream, as many as it accepts now.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain => Ok(()),
            #[cfg(feature = "tls")]
            Layer::Tls(secure) => secure.session.flush(&mut self.stream),
        }
    }

    /// Reads some bytes, 0 at the end; `None` if none can be read now.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match &mut self.layer {
            Layer::Plain => self.stream.read(buffer),
            #[cfg(feature = "tls")]
            Layer::Tls(secure) => secure.session.read(&mut self.stream, buffer),
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
    /// Advances the tunnel, if there is one, and then the TLS handshake. Returns whether both are
    /// complete.
    fn advance_handshake(&mut self, stream: &mut TrackedStream) -> io::Result<bool> {
        if let Some(tunnel) = &mut self.tunnel {
            if !tunnel.is_open(stream)? {
                return Ok(false);
            }
            self.tunnel = None;
        }
        self.session.handshake(stream)
    }
}
