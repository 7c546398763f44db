//! All slabs of a collector: one block of memory, allocated and touched at start.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::buffer::room::Room;
use crate::buffer::slab::{self, HEADER_BYTES, Header, SlabReader, SlabWriter};
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, RaceProbe};

/// A page; each slab starts on one.
pub(crate) const PAGE_BYTES: usize = 4096;

/// The slabs and which of them are free.
pub(crate) struct Pool {
    memory: NonNull<u8>,
    layout: Layout,
    slab_bytes: usize,
    spans_per_slab: u32,
    free: FreeList,
    room: Room,
    probes: Box<[RaceProbe]>,
}

// SAFETY: the pool hands each slab to one writer and one reader, whose protocol is in `slab`;
// everything else in it is atomic or never changes.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// `slabs` slabs of `slab_bytes` bytes (a multiple of the page size), each for at most
    /// `spans_per_slab` spans. `None` if there is no such memory.
    pub(crate) fn new(slabs: usize, slab_bytes: usize, spans_per_slab: u32) -> Option<Arc<Self>> {
        assert!(slab_bytes.is_multiple_of(PAGE_BYTES) && slab_bytes > HEADER_BYTES);
        assert!((1..u32::MAX as usize).contains(&slabs) && slab_bytes <= u32::MAX as usize);
        let bytes = slabs.checked_mul(slab_bytes)?;
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).ok()?;
        // SAFETY: the layout's size is not zero, since neither factor is.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let pool = Self {
            memory,
            layout,
            slab_bytes,
            spans_per_slab,
            free: FreeList::new(slabs),
            room: Room::default(),
            probes: (0..slabs)
                .map(|_| RaceProbe::new(slab_bytes - HEADER_BYTES))
                .collect(),
        };
        pool.touch();
        for index in 0..slabs {
            // SAFETY: the slab's start is in bounds and aligned to a page, and nobody else
            // knows the memory yet.
            unsafe {
                pool.slab(index as u32)
                    .cast::<Header>()
                    .write(Header::new())
            };
        }
        Some(Arc::new(pool))
    }

    /// Opens a free slab for spans from `first_time` (Unix nanoseconds) on, or `None` if all are
    /// in use.
    pub(crate) fn open(pool: &Arc<Self>, first_time: u64) -> Option<(SlabWriter, SlabReader)> {
        let index = pool.free.pop()?;
        Some(slab::open(pool, index, first_time))
    }

    /// Bytes of spans that fit into one slab.
    pub(crate) fn room_per_slab(&self) -> usize {
        self.slab_bytes - HEADER_BYTES
    }

    /// Spans that one slab holds at most.
    pub(crate) fn spans_per_slab(&self) -> u32 {
        self.spans_per_slab
    }

    /// How many slabs there are.
    pub(crate) fn slabs(&self) -> usize {
        self.layout.size() / self.slab_bytes
    }

    /// How many of them are free, at some moment during the call.
    pub(crate) fn slabs_free(&self) -> usize {
        self.free.len()
    }

    /// Bytes of memory in all slabs.
    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// As [`open`](Self::open), but waits for a slab until `deadline`, or until `give_up`.
    pub(crate) fn open_by(
        pool: &Arc<Self>,
        first_time: u64,
        deadline: Instant,
        give_up: impl Fn() -> bool,
    ) -> Option<(SlabWriter, SlabReader)> {
        pool.room
            .wait(deadline, || match Self::open(pool, first_time) {
                None if give_up() => Some(None),
                None => None,
                opened => Some(opened),
            })
            .flatten()
    }

    pub(super) fn free(&self, index: u32) {
        self.free.push(index);
        self.room.notify();
    }

    pub(super) fn header(&self, index: u32) -> &Header {
        // SAFETY: `new` wrote a header at the start of each slab; its fields that change are
        // atomics.
        unsafe { self.slab(index).cast::<Header>().as_ref() }
    }

    /// Where the spans of a slab begin.
    pub(super) fn spans(&self, index: u32) -> NonNull<u8> {
        // SAFETY: a slab is larger than its header.
        unsafe { self.slab(index).add(HEADER_BYTES) }
    }

    pub(super) fn probe(&self, index: u32) -> &RaceProbe {
        &self.probes[index as usize]
    }

    fn slab(&self, index: u32) -> NonNull<u8> {
        debug_assert!((index as usize) < self.slabs());
        // SAFETY: indices come from the free list, which holds only those of this pool's slabs.
        unsafe { self.memory.add(index as usize * self.slab_bytes) }
    }

    /// Makes the kernel give the memory now, so that no recorder meets a page fault.
    fn touch(&self) {
        for offset in (0..self.bytes()).step_by(PAGE_BYTES) {
            // SAFETY: in bounds; volatile, since writing zeros to zeroed memory could be
            // optimised away.
            unsafe { self.memory.add(offset).write_volatile(0) };
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for index in 0..self.slabs() {
            // SAFETY: each header was written by `new`, and no holder of a slab is left, since
            // each keeps the pool alive. (A no-op but for loom's atomics.)
            unsafe { self.slab(index as u32).cast::<Header>().drop_in_place() };
        }
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}

/// A lock-free stack of slab indices.
///
/// Last in, first out: the slab that was freed last is the one most likely still in cache.
/// The head carries a tag that changes with every operation, so that a pop which was held up
/// between its read and its exchange cannot succeed on a list that changed meanwhile.
struct FreeList {
    /// Tag in the high half, index + 1 of the first free slab in the low half (0: none).
    head: CachePadded<AtomicU64>,
    /// For each slab: index + 1 of the next free one (0: none).
    next: Box<[AtomicU32]>,
    len: CachePadded<AtomicU32>,
}

impl FreeList {
    fn new(slabs: usize) -> Self {
        let list = Self {
            head: CachePadded::new(AtomicU64::new(0)),
            next: (0..slabs).map(|_| AtomicU32::new(0)).collect(),
            len: CachePadded::new(AtomicU32::new(0)),
        };
        (0..slabs as u32).rev().for_each(|index| list.push(index));
        list
    }

    fn pop(&self) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let next = self.next[index as usize].load(Ordering::Relaxed);
            match self.exchange(head, next) {
                Ok(_) => {
                    self.len.fetch_sub(1, Ordering::Relaxed);
                    return Some(index);
                }
                Err(seen) => head = seen,
            }
        }
    }

    fn push(&self, index: u32) {
        // Before the exchange, so that no pop can take the count below zero.
        self.len.fetch_add(1, Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.next[index as usize].store(head as u32, Ordering::Relaxed);
            match self.exchange(head, index + 1) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// Replaces the head that was seen by one with the next tag that points to `first`.
    fn exchange(&self, seen: u64, first: u32) -> Result<u64, u64> {
        let tag = (seen >> 32).wrapping_add(1) << 32;
        self.head.compare_exchange_weak(
            seen,
            tag | u64::from(first),
            Ordering::AcqRel,
            Ordering::Acquire,
        )
    }
}
