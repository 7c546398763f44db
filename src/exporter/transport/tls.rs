//! TLS over a byte stream.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConnection, ConnectionCommon, InvalidMessage};

use super::tracked_stream::TrackedStream;
use crate::config::{EndpointSettings, Target};

/// Limit of encrypted bytes that wait for the stream; a larger buffer only costs memory.
const BUFFER_BYTES: usize = 128 * 1024;
/// Reads of the stream in one call. A server can send session tickets, which carry no data, without end,
/// so the network thread serves other connections in between.
const FILLS_MAX: u32 = 4;
/// Limit of bytes received since the last data. A handshake with a long certificate chain takes tens of
/// KiB, session tickets and key updates a few hundred bytes, the largest record 16 KiB.
const BYTES_WITHOUT_DATA_MAX: usize = 128 * 1024;

/// The TLS session of one connection.
pub(super) struct Session {
    connection: ClientConnection,
    bytes_without_data: usize,
}

impl Session {
    /// Creates a session with `target`. The client certificate, the session tickets and the configured
    /// server name are used only for the endpoint's own origin.
    pub(super) fn new(target: &Target, settings: &EndpointSettings) -> io::Result<Self> {
        let tls =
            (settings.tls.as_ref()).ok_or_else(|| io::Error::other("TLS is not configured"))?;
        let is_own = target.has_origin_of(&settings.target);
        let config = if is_own { &tls.own } else { &tls.elsewhere };
        let name = match tls.server_name.as_ref().filter(|_| is_own) {
            Some(name) => name.clone(),
            None => ServerName::try_from(target.host.clone()).map_err(io::Error::other)?,
        };
        let mut connection =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(BUFFER_BYTES));
        Ok(Self {
            connection,
            bytes_without_data: 0,
        })
    }

    /// Advances the handshake as far as possible without waiting. Returns whether it is complete.
    pub(super) fn handshake(&mut self, stream: &mut TrackedStream) -> io::Result<bool> {
        for _ in 0..FILLS_MAX {
            self.flush(stream)?;
            if !self.connection.is_handshaking() {
                self.bytes_without_data = 0;
                return Ok(true);
            }
            if !self.fill(stream)? {
                return Ok(false);
            }
        }
        Ok(false)
    }

    pub(super) fn write(
        &mut self,
        stream: &mut TrackedStream,
        slices: &[IoSlice<'_>],
    ) -> io::Result<Option<usize>> {
        self.flush(stream)?;
        let taken = self.connection.writer().write_vectored(slices)?;
        self.flush(stream)?;
        Ok((taken > 0).then_some(taken))
    }

    /// Sends encrypted bytes, as many as the stream accepts now.
    pub(super) fn flush(&mut self, stream: &mut TrackedStream) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Io(stream)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn read(
        &mut self,
        stream: &mut TrackedStream,
        buffer: &mut [u8],
    ) -> io::Result<Option<usize>> {
        for _ in 0..FILLS_MAX {
            match self.connection.reader().read(buffer) {
                Ok(bytes) => {
                    self.bytes_without_data = 0;
                    return Ok(Some(bytes));
                }
                // The stream ended without a close_notify: HTTP finds out whether bytes are missing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if !self.fill(stream)? {
                return Ok(None);
            }
        }
        // The stream is still readable, so the connection reads again in the next turn.
        Ok(None)
    }

    /// Reads from the stream. Returns false if nothing can be read now.
    fn fill(&mut self, stream: &mut TrackedStream) -> io::Result<bool> {
        match self.connection.read_tls(&mut Io(stream)) {
            Ok(0) if self.connection.is_handshaking() => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection in the TLS handshake",
            )),
            Ok(bytes) => {
                self.bytes_without_data += bytes;
                if self.bytes_without_data > BYTES_WITHOUT_DATA_MAX {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the server sent more than 128 KiB of TLS records without data",
                    ));
                }
                self.process(stream).map(|()| true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn process(&mut self, stream: &mut TrackedStream) -> io::Result<()> {
        let connection: &mut ConnectionCommon<_> = &mut self.connection;
        if let Err(error) = connection.process_new_packets() {
            // Sends the alert, if possible. The error itself is already known.
            let _ = self.flush(stream);
            return Err(io::Error::new(io::ErrorKind::InvalidData, explain(&error)));
        }
        Ok(())
    }
}

/// Returns the error's description, with advice.
fn explain(error: &rustls::Error) -> String {
    let advice = match error {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired: renew it"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet: check both clocks"
            }
            // An authority of the same name with another key is another authority.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the server's certificate is from an authority that is not trusted: set ca_file to \
                 the authority's certificate"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for another name: use that name in the URL, or set \
                 server_name to it"
            }
            CertificateError::Other(_) => {
                "the server's certificate cannot be used for a server (is it an authority's own? \
                 issue one with CA:FALSE)"
            }
            _ => "the server's certificate is not usable",
        },
        rustls::Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => {
            "the server's certificate chain is too long: remove certificates that are not needed"
        }
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS: is this an http port?",
        rustls::Error::AlertReceived(_) => "the server refused the TLS session",
        _ => "TLS failed",
    };
    format!("{advice} ({error})")
}

/// The stream with the traits that rustls uses.
struct Io<'a>(&'a mut TrackedStream);

impl Read for Io<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        would_block(self.0.read(buffer))
    }
}

impl Write for Io<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        would_block(self.0.write(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn would_block(result: io::Result<Option<usize>>) -> io::Result<usize> {
    result.and_then(|bytes| bytes.ok_or_else(|| io::ErrorKind::WouldBlock.into()))
}
