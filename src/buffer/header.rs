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
    /// End time of the first span, in Unix nanoseconds.
    pub(super) first_time: AtomicU64,
    /// End time of the last span, in Unix nanoseconds; 0 until sealed.
    pub(super) last_time: AtomicU64,
    /// Number of spans, their bytes, and whether the slab is sealed: see `Committed` in `slab`.
    pub(super) committed: AtomicU64,
    /// Number of holders: the writer, the reader and each batch. The last one frees the slab.
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
