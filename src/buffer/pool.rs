//! All slabs of a collector: one allocation, made at start.

#![allow(
    unsafe_code,
    reason = "makes one allocation and hands out its slabs by address"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::buffer::free_list::FreeList;
use crate::buffer::header::{HEADER_BYTES, Header, OVERHEAD_BYTES};
use crate::buffer::prefetch::prefetch;
use crate::buffer::waiters::Waiters;
use crate::platform::sync::{Arc, Ordering, RaceProbe, RaceProbes};

/// Page size. Each slab starts on a page.
pub(crate) const PAGE_BYTES: usize = 4096;

/// The slabs, and which of them are free.
///
/// Shared slabs limit how many sealed slabs may wait for delivery. In addition, the pool has two
/// slabs for each lane, so that the open slab and the spare of an idle recorder do not reduce the
/// memory of the other recorders.
pub(crate) struct Pool {
    /// Address of the first slab.
    memory: NonNull<u8>,
    slabs: u32,
    allocation: NonNull<u8>,
    layout: Layout,
    slab_bytes: usize,
    spans_per_slab: u32,
    shared: u32,
    /// Number of slabs sealed and not yet freed. May briefly exceed `shared` when several recorders
    /// seal at the same time.
    sealed: CachePadded<atomic::AtomicU32>,
    /// Current number of lanes.
    lanes: atomic::AtomicU32,
    /// Highest number of lanes so far. Twice as many slabs are in circulation besides the shared
    /// ones.
    lanes_peak: atomic::AtomicU32,
    free: FreeList,
    waiters: Waiters,
    probes: RaceProbes,
}

// SAFETY: the pool hands each slab to one writer and one reader, whose protocol is in `slab`. All
// other state is atomic or immutable.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

/// Slabs of each lane besides the shared ones: the open one and the spare.
pub(crate) const SLABS_PER_LANE: usize = 2;

impl Pool {
    /// Allocates `shared` slabs, and [`SLABS_PER_LANE`] more for each of up to `lanes_max` lanes.
    /// Each has `slab_bytes` bytes (a multiple of the page size) and holds at most `spans_per_slab`
    /// spans. Touches the shared slabs. Returns `None` if the allocation fails. Without any slab,
    /// any number of lanes can join, and none can write.
    pub(crate) fn new(
        shared: usize,
        lanes_max: usize,
        slab_bytes: usize,
        spans_per_slab: u32,
    ) -> Option<Arc<Self>> {
        let slabs = shared + lanes_max * SLABS_PER_LANE;
        assert!(slab_bytes.is_multiple_of(PAGE_BYTES) && slab_bytes > OVERHEAD_BYTES);
        assert!(slabs < u32::MAX as usize && slab_bytes <= u32::MAX as usize);
        // Aligned here, because for larger alignments the system's allocator would write the zeros
        // itself, which would touch slabs of recorders that may never exist.
        let bytes = slabs.checked_mul(slab_bytes)?.checked_add(PAGE_BYTES)?;
        let layout = Layout::from_size_align(bytes, align_of::<usize>()).ok()?;
        // SAFETY: the layout's size is not zero.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let padding = allocation.align_offset(PAGE_BYTES);
        let pool = Self {
            // SAFETY: the allocation is one page larger than the slabs.
            memory: unsafe { allocation.add(padding) },
            slabs: slabs as u32,
            allocation,
            layout,
            slab_bytes,
            spans_per_slab,
            shared: shared as u32,
            sealed: CachePadded::default(),
            lanes: atomic::AtomicU32::new(0),
            lanes_peak: atomic::AtomicU32::new(0),
            free: FreeList::new(slabs),
            waiters: Waiters::default(),
            probes: RaceProbes::new(slabs, slab_bytes - HEADER_BYTES),
        };
        pool.circulate(0..shared as u32);
        Some(Arc::new(pool))
    }

    /// Adds a lane. Puts its slabs into circulation if this is a new peak. Returns false if there is
    /// the maximum number already.
    pub(crate) fn join(&self) -> bool {
        if self.is_empty() {
            return true;
        }
        let lanes = self.lanes.fetch_add(1, Ordering::Relaxed) + 1;
        if self.in_circulation(lanes) > self.slabs {
            self.leave();
            return false;
        }
        let peak = self.lanes_peak.fetch_max(lanes, Ordering::Relaxed);
        // An empty range unless `lanes` is a new peak. Two callers never get the same slab.
        self.circulate(self.in_circulation(peak)..self.in_circulation(lanes));
        true
    }

    /// Removes a lane.
    pub(crate) fn leave(&self) {
        if self.is_empty() {
            return;
        }
        self.lanes.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a free slab.
    ///
    /// There is one for each lane that has no spare, because [`SLABS_PER_LANE`] are in circulation
    /// for it besides the shared ones, and it opens a slab only while fewer than those are sealed.
    pub(super) fn take(&self) -> Option<u32> {
        self.free.pop()
    }

    /// Gives a slab back that was taken and not opened.
    pub(super) fn give_back(&self, index: u32) {
        self.free.push(index);
    }

    /// Starts to load the cache lines that [`take`](Self::take) and [`seal`](Self::seal) write, and
    /// those that [`prefetch_next`](Self::prefetch_next) reads.
    pub(super) fn prefetch_counters(&self) {
        self.free.prefetch();
        prefetch(&self.sealed);
        prefetch(&self.memory);
        prefetch(&self.slab_bytes);
    }

    /// Starts to load the cache lines of the slab that will be taken next.
    pub(super) fn prefetch_next(&self) {
        if let Some(index) = self.free.peek() {
            prefetch(self.free.link(index));
            prefetch(self.header(index));
        }
    }

    /// Starts to load the cache lines that opening this slab and sealing another one write.
    pub(super) fn prefetch_slab(&self, index: u32) {
        prefetch(self.header(index));
        prefetch(&self.sealed);
    }

    /// Calls `attempt`, again whenever slabs were freed, until it returns a value or `deadline` has
    /// passed.
    pub(crate) fn wait<T>(
        &self,
        deadline: Instant,
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.waiters.wait(deadline, attempt)
    }

    /// Returns the number of slabs that may still be sealed before no lane opens another one.
    pub(crate) fn slabs_left(&self) -> usize {
        self.shared
            .saturating_sub(self.sealed.load(Ordering::Relaxed)) as usize
    }

    /// Returns whether there are no slabs, so that all spans are discarded.
    pub(crate) fn is_empty(&self) -> bool {
        self.slabs == 0
    }

    /// Returns the maximum number of slabs of a lane that its reader has not popped: those that wait
    /// for delivery, and the open one.
    pub(super) fn ring_slots(&self) -> usize {
        self.shared as usize + 1
    }

    /// Returns the maximum bytes of spans in a slab.
    pub(crate) fn room_per_slab(&self) -> usize {
        self.slab_bytes - OVERHEAD_BYTES
    }

    /// Returns the maximum number of spans in a slab.
    pub(crate) fn spans_per_slab(&self) -> u32 {
        self.spans_per_slab
    }

    /// Returns the bytes of the slabs in circulation.
    pub(crate) fn bytes(&self) -> usize {
        let lanes = self.lanes_peak.load(Ordering::Relaxed);
        self.in_circulation(lanes) as usize * self.slab_bytes
    }

    /// Returns the number of slabs in circulation after a peak of that many lanes.
    fn in_circulation(&self, lanes: u32) -> u32 {
        self.shared + lanes * SLABS_PER_LANE as u32
    }

    /// Counts a slab that its writer is about to seal.
    pub(super) fn seal(&self) {
        self.sealed.fetch_add(1, Ordering::Relaxed);
    }

    /// Frees a sealed slab that has no holder left.
    pub(super) fn free(&self, index: u32) {
        self.free.push(index);
        self.sealed.fetch_sub(1, Ordering::Relaxed);
        let enough = (self.shared / 4) as usize;
        self.waiters.notify(|| self.slabs_left() >= enough);
    }

    pub(super) fn header(&self, index: u32) -> &Header {
        // SAFETY: `circulate` wrote a header at the slab's start; its mutable fields are atomics.
        unsafe { self.slab(index).cast::<Header>().as_ref() }
    }

    /// Returns the address of a slab's first span.
    pub(super) fn spans(&self, index: u32) -> NonNull<u8> {
        // SAFETY: a slab is larger than its header.
        unsafe { self.slab(index).add(HEADER_BYTES) }
    }

    #[inline(always)]
    pub(super) fn probe(&self, index: u32) -> &RaceProbe {
        self.probes.slab(index)
    }

    /// Returns whether all slabs in circulation are free. To be called while no one uses them.
    #[cfg(test)]
    pub(crate) fn is_complete(&self) -> bool {
        let lanes = self.lanes_peak.load(Ordering::Relaxed);
        self.free.len() == self.in_circulation(lanes) as usize
            && self.sealed.load(Ordering::Relaxed) == 0
    }

    fn slab(&self, index: u32) -> NonNull<u8> {
        debug_assert!(index < self.slabs);
        // SAFETY: callers pass indices below `slabs`: those of `circulate` and those from the free
        // list, which `circulate` fills.
        unsafe { self.memory.add(index as usize * self.slab_bytes) }
    }

    /// Puts slabs into circulation: touches them, writes their headers and marks them as free.
    fn circulate(&self, slabs: Range<u32>) {
        for index in slabs {
            self.touch(index);
            // SAFETY: the slab's start is in bounds and aligned to a page, and no other thread has
            // access to the slab yet.
            unsafe { self.slab(index).cast::<Header>().write(Header::new()) };
            self.free.push(index);
        }
    }

    /// Makes the kernel map the slab's pages now, so that no recorder causes a page fault.
    fn touch(&self, index: u32) {
        for offset in (0..self.slab_bytes).step_by(PAGE_BYTES) {
            // SAFETY: in bounds, and no other thread has access to the slab yet. Volatile, because
            // writing zeros to zeroed memory could be optimised away.
            unsafe { self.slab(index).add(offset).write_volatile(0) };
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let lanes = self.lanes_peak.load(Ordering::Relaxed);
        for index in 0..self.in_circulation(lanes) {
            // SAFETY: each header was written by `circulate`, and no writer or holder of a slab is
            // left, because each keeps the pool alive. (A no-op except for loom's atomics.)
            unsafe { self.slab(index).cast::<Header>().drop_in_place() };
        }
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.allocation.as_ptr(), self.layout) };
    }
}
