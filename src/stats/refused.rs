//! Why a single span is not accepted.

use std::fmt;

/// Why a span was not accepted. It is counted in the [`Ledger`](crate::Ledger); nothing else is
/// affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// As many spans wait for delivery as [`Config::buffer_capacity`](crate::Config) allows. It is
    /// then not checked whether the span is [too large](Self::TooLarge).
    BufferFull,
    /// The encoded span is larger than a slab.
    TooLarge {
        /// Its encoded size in bytes.
        bytes: usize,
        /// The most that fits, by [`Config::slab_bytes`](crate::Config::slab_bytes).
        bytes_max: usize,
    },
    /// The span's scope is another collector's.
    UnknownScope,
    /// The collector was shut down or dropped.
    ShutDown,
    /// Every recorder that threads share was in use: for 100 ms, or for as long as
    /// [`Overflow::Block`](crate::Overflow::Block) allows. Only
    /// [`Collector::collect`](crate::Collector::collect) and the end of a
    /// [`DetachedSpan`](crate::DetachedSpan) share recorders.
    NoRecorder,
    /// The span's scope needs one more slab on its recorder than
    /// [`Config::recorders_max`](crate::Config::recorders_max) allows.
    NoSlab,
    /// This process is a fork of the one that made the collector; a fork has no network thread.
    /// A fork that bypasses the C library (a bare `clone` system call) is noticed only at the next
    /// call of the [`Collector`](crate::Collector) other than `collect`.
    Forked,
}

impl Refused {
    /// How many reasons there are.
    pub(crate) const REASONS: usize = 7;

    /// The reason as a number below [`REASONS`](Self::REASONS), in the order of the fields of
    /// [`RefusedSpans`](crate::RefusedSpans).
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
                "span refused: its scope is another collector's; make it with this one's \
                 register_scope()",
            ),
            Self::ShutDown => f.write_str("span refused: the collector was shut down"),
            Self::NoRecorder => f.write_str(
                "span refused: every shared recorder was in use; give busy threads a recorder() \
                 of their own",
            ),
            Self::NoSlab => f.write_str(
                "span refused: no slab for the spans of one more scope; raise recorders_max",
            ),
            Self::Forked => f.write_str(
                "span refused: this process is a fork of the one that made the collector; make a \
                 collector after the fork",
            ),
        }
    }
}

impl std::error::Error for Refused {}
