//! The reasons for which a span is not accepted.

use std::fmt;

/// Reason for which a span was not accepted. The span is counted in the [`Ledger`](crate::Ledger).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The buffer is full: see [`Config::buffer_capacity`](crate::Config::buffer_capacity). Takes
    /// precedence over [`TooLarge`](Self::TooLarge).
    BufferFull,
    /// The encoded span is larger than a slab.
    TooLarge {
        /// Encoded bytes of the span.
        bytes: usize,
        /// Bytes of the largest span, by [`Config::slab_bytes`](crate::Config::slab_bytes).
        bytes_max: usize,
    },
    /// The span's scope belongs to another collector.
    UnknownScope,
    /// The collector was shut down or dropped.
    ShutDown,
    /// Every shared recorder was in use for 100 ms, or the time of
    /// [`Overflow::Block`](crate::Overflow::Block). Recorders are shared by
    /// [`Collector::collect`](crate::Collector::collect), and by threads that end their first span or find
    /// [`Config::recorders_max`](crate::Config::recorders_max) in use.
    NoRecorder,
    /// The span's scope needs one more slab on its recorder than
    /// [`Config::recorders_max`](crate::Config::recorders_max) allows.
    NoSlab,
    /// This process is a fork of the collector's process and has no network thread. A fork that bypasses the C
    /// library (a bare `clone` system call) is detected at the next call of the
    /// [`Collector`](crate::Collector) other than `collect`.
    Forked,
}

impl Refused {
    /// Number of reasons.
    pub(crate) const REASONS: usize = 7;

    /// Returns a number below [`REASONS`](Self::REASONS), in the order of the fields of
    /// [`RefusedSpans`](crate::stats::RefusedSpans).
    pub(crate) fn index(self) -> usize {
        match self {
            Self::BufferFull => 0,
            Self::TooLarge { .. } => 1,
            Self::UnknownScope => 2,
            Self::ShutDown => 3,
            Self::NoRecorder => 4,
            Self::NoSlab => 5,
            Self::Forked => 6,
        }
    }
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
            Self::UnknownScope => f.write_str(
                "span refused: its scope belongs to another collector; register it with this one's \
                 register_scope()",
            ),
            Self::ShutDown => f.write_str("span refused: the collector was shut down"),
            Self::NoRecorder => f.write_str(
                "span refused: every shared recorder was in use; give busy threads a recorder() \
                 of their own",
            ),
            Self::NoSlab => f.write_str(
                "span refused: no slab is left for spans of one more scope; raise recorders_max",
            ),
            Self::Forked => f.write_str(
                "span refused: this process is a fork of the collector's process; create a collector after \
                 the fork",
            ),
        }
    }
}

impl std::error::Error for Refused {}
