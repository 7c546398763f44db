//! Why a single span is not accepted.

use std::fmt;

/// Why a span was not accepted. It is counted in the [`Ledger`](crate::Ledger); nothing else is affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// As many spans wait for delivery as [`Config::buffer_capacity`](crate::Config) allows. Then
    /// nobody looks whether the span would be [too large](Self::TooLarge).
    BufferFull,
    /// The encoded span is larger than a slab.
    TooLarge {
        /// Its encoded size in bytes.
        bytes: usize,
        /// The most that fits, by [`Config::slab_bytes`](crate::Config::slab_bytes).
        bytes_max: usize,
    },
    /// The trace id or the span id is all zeros, which OTLP forbids.
    InvalidId,
    /// The span's scope is another collector's.
    UnknownScope,
    /// The collector was shut down or dropped.
    ShutDown,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferFull => f.write_str(
                "span refused: the buffer is full; raise buffer_capacity or change overflow",
            ),
            Self::TooLarge { bytes, bytes_max } => write!(
                f,
                "span refused: {bytes} bytes encoded, at most {bytes_max} fit; raise slab_bytes",
            ),
            Self::InvalidId => {
                f.write_str("span refused: its trace_id or span_id is all zeros; set both")
            }
            Self::UnknownScope => f.write_str(
                "span refused: its scope is another collector's; make it with this one's scope()",
            ),
            Self::ShutDown => f.write_str("span refused: the collector was shut down"),
        }
    }
}

impl std::error::Error for Refused {}
