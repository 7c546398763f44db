//! A stream that remembers its readiness.

use std::io::{self, IoSlice};

use crate::exporter::network::{ByteStream, Readiness};

/// A stream whose readiness is reported once, when it changes. It is ready until an operation would block.
pub(super) struct TrackedStream {
    stream: Box<dyn ByteStream>,
    ready: Readiness,
    connected: bool,
}

impl TrackedStream {
    pub(super) fn new(stream: Box<dyn ByteStream>) -> Self {
        Self {
            stream,
            ready: Readiness::default(),
            connected: false,
        }
    }

    pub(super) fn add_readiness(&mut self, readiness: Readiness) {
        self.ready.readable |= readiness.readable;
        self.ready.writable |= readiness.writable;
    }

    /// Returns whether the connection is established, or the error with which the attempt failed.
    pub(super) fn is_connected(&mut self) -> io::Result<bool> {
        if !self.connected && self.ready.writable {
            self.connected = self.stream.is_connected()?;
        }
        Ok(self.connected)
    }

    /// Returns whether something may be left to read.
    pub(super) fn is_readable(&self) -> bool {
        self.connected && self.ready.readable
    }

    /// Writes some bytes; `None` if none can be written now.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        attempt(&mut self.ready.writable, || self.stream.write(slices))
    }

    /// Reads some bytes, 0 at the end; `None` if none can be read now.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        attempt(&mut self.ready.readable, || self.stream.read(buffer))
    }

    pub(super) fn discard_unsent(&mut self) {
        self.stream.discard_unsent();
    }
}

/// Tries as long as `ready` is set, and clears it when the operation would block.
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
