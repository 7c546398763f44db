//! All slabs of a collector: one block of memory, allocated and touched at start.

#![allow(
    unsafe_code,
    reason = "allocates one block and hands out its slabs by address"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::buffer::room::Room;
use crate::buffer::slab::{self, HEADER_BYTES, Header, OVERHEAD_BYTES, SlabReader, SlabWriter};
use crate::platform::sync::{Arc, AtomicU32, AtomicU64, Ordering, RaceProbe};

/// A page; each slab starts on one.
pub(crate) const PAGE_BYTES: usize = 4096;

/// The slabs and which of them are free.
///
/// Some are shared by all recorders: as many sealed slabs may wait for delivery. Besides, each
/// recorder has one of its own, so that the open slab of a recorder that has fallen quiet takes
/// nothing from the others.
pub(crate) struct Pool {
    /// Where the first slab begins.
    memory: NonNull<u8>,
    slabs: u32,
    allocation: NonNull<u8>,
    layout: Layout,
    slab_bytes: usize,
    spans_per_slab: u32,
    shared: u32,
    /// Sealed and not yet freed; at times more than `shared` by what recorders seal at once.
    sealed: CachePadded<atomic::AtomicU32>,
    recorders: atomic::AtomicU32,
    /// The most recorders there ever were: so many slabs of their own are in circulation.
    recorders_most: atomic::AtomicU32,
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
    /// `shared` slabs, and one for each of up to `recorders_max` recorders, of `slab_bytes` bytes
    /// (a multiple of the page size), each for at most `spans_per_slab` spans. `None` if there
    /// is no such memory. With no slabs at all any number of recorders can join, and none can write.
    pub(crate) fn new(
        shared: usize,
        recorders_max: usize,
        slab_bytes: usize,
        spans_per_slab: u32,
    ) -> Option<Arc<Self>> {
        let slabs = shared + recorders_max;
        assert!(slab_bytes.is_multiple_of(PAGE_BYTES) && slab_bytes > OVERHEAD_BYTES);
        assert!(slabs < u32::MAX as usize && slab_bytes <= u32::MAX as usize);
        // Aligned by hand: for an alignment beyond the usual one the system's allocator would
        // write the zeros itself, and so touch what recorders to come may never need.
        let bytes = slabs.checked_mul(slab_bytes)?.checked_add(PAGE_BYTES)?;
        let layout = Layout::from_size_align(bytes, align_of::<usize>()).ok()?;
        // SAFETY: the layout's size is not zero.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let padding = allocation.align_offset(PAGE_BYTES);
        let pool = Self {
            // SAFETY: the allocation has a page more than the slabs need.
            memory: unsafe { allocation.add(padding) },
            slabs: slabs as u32,
            allocation,
            layout,
            slab_bytes,
            spans_per_slab,
            shared: shared as u32,
            sealed: CachePadded::default(),
            recorders: atomic::AtomicU32::new(0),
            recorders_most: atomic::AtomicU32::new(0),
            free: FreeList::new(slabs),
            room: Room::default(),
            probes: (0..slabs)
                .map(|_| RaceProbe::new(slab_bytes - HEADER_BYTES))
                .collect(),
        };
        pool.circulate(0..shared as u32);
        Some(Arc::new(pool))
    }

    /// One more recorder (or scope of a recorder): brings a slab for it, if there never were so
    /// many; false if there are as many as there can be.
    pub(crate) fn join(&self) -> bool {
        if self.is_empty() {
            return true;
        }
        let recorders = self.recorders.fetch_add(1, Ordering::Relaxed) + 1;
        if recorders > self.slabs - self.shared {
            self.leave();
            return false;
        }
        let most = self.recorders_most.fetch_max(recorders, Ordering::Relaxed);
        // Empty unless `recorders` is a new record; never the same slab for two callers.
        self.circulate(self.shared + most..self.shared + recorders);
        true
    }

    /// One recorder less.
    pub(crate) fn leave(&self) {
        if self.is_empty() {
            return;
        }
        self.recorders.fetch_sub(1, Ordering::Relaxed);
    }

    /// Opens a free slab for spans of `scope` from `first_time` (Unix nanoseconds) on, or `None`
    /// if too many wait for delivery.
    pub(crate) fn open(
        pool: &Arc<Self>,
        scope: u32,
        first_time: u64,
    ) -> Option<(SlabWriter, SlabReader)> {
        if pool.slabs_left() == 0 {
            return None;
        }
        let index = pool.free.pop()?;
        Some(slab::open(pool, index, scope, first_time))
    }

    /// How many more slabs can wait for delivery before recorders are refused new ones.
    pub(crate) fn slabs_left(&self) -> usize {
        self.shared
            .saturating_sub(self.sealed.load(Ordering::Relaxed)) as usize
    }

    /// There is no memory for spans: they are discarded.
    pub(crate) fn is_empty(&self) -> bool {
        self.slabs == 0
    }

    /// Bytes of spans that fit into one slab.
    pub(crate) fn room_per_slab(&self) -> usize {
        self.slab_bytes - OVERHEAD_BYTES
    }

    /// Spans that one slab holds at most.
    pub(crate) fn spans_per_slab(&self) -> u32 {
        self.spans_per_slab
    }

    /// Bytes of memory in circulation.
    pub(crate) fn bytes(&self) -> usize {
        let recorders = self.recorders_most.load(Ordering::Relaxed);
        (self.shared + recorders) as usize * self.slab_bytes
    }

    /// As [`open`](Self::open), but waits for a slab until `deadline`, or until `give_up`.
    pub(crate) fn open_by(
        pool: &Arc<Self>,
        scope: u32,
        first_time: u64,
        deadline: Instant,
        give_up: impl Fn() -> bool,
    ) -> Option<(SlabWriter, SlabReader)> {
        pool.room
            .wait(deadline, || match Self::open(pool, scope, first_time) {
                None if give_up() => Some(None),
                None => None,
                opened => Some(opened),
            })
            .flatten()
    }

    /// A writer is about to seal its slab.
    pub(super) fn seal(&self) {
        self.sealed.fetch_add(1, Ordering::Relaxed);
    }

    /// A sealed slab has no holder any more.
    pub(super) fn free(&self, index: u32) {
        self.free.push(index);
        self.sealed.fetch_sub(1, Ordering::Relaxed);
        let enough = (self.shared / 4) as usize;
        self.room.notify(|| self.slabs_left() >= enough);
    }

    pub(super) fn header(&self, index: u32) -> &Header {
        // SAFETY: `circulate` wrote a header at the slab's start; its fields that change are
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
        debug_assert!(index < self.slabs);
        // SAFETY: indices come from the free list, which holds only those of this pool's slabs.
        unsafe { self.memory.add(index as usize * self.slab_bytes) }
    }

    /// Makes these slabs ready and free.
    fn circulate(&self, slabs: Range<u32>) {
        for index in slabs {
            self.touch(index);
            // SAFETY: the slab's start is in bounds and aligned to a page, and nobody else
            // knows the slab yet.
            unsafe { self.slab(index).cast::<Header>().write(Header::new()) };
            self.free.push(index);
        }
    }

    /// Makes the kernel give the slab's memory now, so that no recorder meets a page fault.
    fn touch(&self, index: u32) {
        for offset in (0..self.slab_bytes).step_by(PAGE_BYTES) {
            // SAFETY: in bounds, and nobody else knows the slab yet; volatile, since writing
            // zeros to zeroed memory could be optimised away.
            unsafe { self.slab(index).add(offset).write_volatile(0) };
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let recorders = self.recorders_most.load(Ordering::Relaxed);
        for index in 0..(self.shared + recorders).min(self.slabs) {
            // SAFETY: each header was written by `circulate`, and no holder of a slab is left,
            // since each keeps the pool alive. (A no-op but for loom's atomics.)
            unsafe { self.slab(index).cast::<Header>().drop_in_place() };
        }
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.allocation.as_ptr(), self.layout) };
    }
}

/// A lock-free stack of slab indices.
///
/// Last in, first out: the slab that was freed last is the one most likely still in cache.
/// The head carries a tag that changes with every operation, so that a pop which was held up
/// between its read and its exchange cannot succeed on a list that changed meanwhile.
pub(super) struct FreeList {
    /// Tag in the high half, index + 1 of the first free slab in the low half (0: none).
    head: CachePadded<AtomicU64>,
    /// For each slab: index + 1 of the next free one (0: none).
    next: Box<[AtomicU32]>,
}

impl FreeList {
    pub(super) fn new(slabs: usize) -> Self {
        Self {
            head: CachePadded::new(AtomicU64::new(0)),
            next: (0..slabs).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    pub(super) fn pop(&self) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let next = self.next[index as usize].load(Ordering::Relaxed);
            match self.exchange(head, next) {
                Ok(_) => return Some(index),
                Err(seen) => head = seen,
            }
        }
    }

    pub(super) fn push(&self, index: u32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.next[index as usize].store(head as u32, Ordering::Relaxed);
            match self.exchange(head, index + 1) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
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
