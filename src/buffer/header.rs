//! The header at the start of each slab.

use crate::otlp::SPILL;
use crate::platform::sync::{AtomicU32, AtomicU64};

/// `"OTLPSLAB"`, to find slabs in a memory dump or a shared file.
const MAGIC: u64 = u64::from_be_bytes(*b"OTLPSLAB");
/// Version of the header's layout and meaning.
const VERSION: u32 = 1;

/// The start of each slab. Contains no pointers.
#[repr(C, align(64))]
pub(super) struct Header {
    magic: u64,
    version: u32,
    /// Id of the spans' instrumentation scope; 0 is the collector's own.
    pub(super) scope: AtomicU32,
    /// End time of the lane's last span before this slab, or of the first one here, in Unix
    /// nanoseconds.
    pub(super) first_time: AtomicU64,
    /// End time of the last span, in Unix nanoseconds; 0 until sealed.
    pub(super) last_time: AtomicU64,
    /// Number of spans, their bytes, and whether the slab is sealed: see [`Committed`].
    pub(super) committed: AtomicU64,
    /// Number of holders: the reader and each batch. The last one frees the slab. The writer is
    /// not one: a slab is freed only after it was sealed.
    pub(super) holders: AtomicU32,
}

/// Bytes of the header at the start of a slab.
pub(super) const HEADER_BYTES: usize = size_of::<Header>();

/// Bytes of a slab that spans cannot use: the header and the spill after the last span.
pub(crate) const OVERHEAD_BYTES: usize = HEADER_BYTES + SPILL;

impl Header {
    pub(super) fn new() -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            scope: AtomicU32::new(0),
            first_time: AtomicU64::new(0),
            last_time: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            holders: AtomicU32::new(0),
        }
    }

    /// Returns whether the header is one of this layout.
    pub(super) fn is_known(&self) -> bool {
        (self.magic, self.version) == (MAGIC, VERSION)
    }
}

/// A slab's progress in one word, so that one store publishes it: bit 63 is set when the slab is
/// sealed, bits 32..63 are the number of spans, bits 0..32 their bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Committed(pub(super) u64);

impl Committed {
    const SEALED: u64 = 1 << 63;
    const ONE_SPAN: u64 = 1 << 32;

    pub(super) fn bytes(self) -> usize {
        self.0 as u32 as usize
    }

    pub(super) fn spans(self) -> u32 {
        (self.0 >> 32) as u32 & (u32::MAX >> 1)
    }

    pub(super) fn is_sealed(self) -> bool {
        self.0 & Self::SEALED != 0
    }

    #[inline(always)]
    pub(super) fn with_span(self, bytes: usize) -> Self {
        Self(self.0 + Self::ONE_SPAN + bytes as u64)
    }

    pub(super) fn sealed(self) -> Self {
        Self(self.0 | Self::SEALED)
    }
}
