//! Memory of open spans: cells of a fixed size, and pages for spans that outgrow theirs.
//!
//! ```text
//!   starting thread              ending thread
//!   ───────────────              ─────────────
//!   Magazine::take ──▶ Cell ──▶ … ──▶ Magazine::give
//!        ▲  runs of cells                 │
//!        └─────────── CellPool ◀──────────┘
//! ```
//!
//! A cell belongs to one [`Cell`], to one thread's [`Magazine`](crate::buffer::Magazine), to the list
//! of a held trace or to the pool. So its memory needs no synchronisation, and a thread that ends the
//! spans that it starts touches no memory of others.

#![allow(
    unsafe_code,
    reason = "allocates one block and hands out its cells by address"
)]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::mem;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::panicking;

use crate::buffer::free_list::FreeList;
use crate::buffer::pool::PAGE_BYTES;
use crate::buffer::traces::Traces;
use crate::otlp::SPILL;
use crate::otlp::draft::{DraftHead, DraftMemory, ROOM_MIN};
use crate::platform::sync::RaceProbe;

/// Bytes of a cell, its head included.
pub(crate) const CELL_BYTES: usize = 512;
const HEAD_BYTES: usize = size_of::<CellHead>();
const CELL_ROOM: usize = CELL_BYTES - HEAD_BYTES;

/// Start of a cell. All bytes zero is a valid value.
#[repr(C)]
#[derive(Default)]
pub(crate) struct CellHead {
    draft: DraftHead,
    /// Number of the page that has the span's fields, from 1 on; 0 if the cell has them, and
    /// [`IS_EXTRA`] if it does and is in no pool.
    page: u32,
    /// Number of the held trace that the span belongs to, from 1 on; 0 if there is none.
    trace: u32,
    /// End time of a span that waits for the decision about its trace.
    pub(crate) end_time: u64,
    /// Number of the span's scope.
    pub(crate) scope: u16,
    /// Sampled, and not ended.
    pub(crate) is_recording: bool,
    /// Whether the thread was panicking already when the span began.
    pub(crate) in_panic: bool,
    /// Whether the span is the local root, at whose end its held trace is decided.
    pub(crate) is_local_root: bool,
    /// Whether someone may have seen the span's context.
    is_shown: AtomicBool,
}

/// Marks a cell that is in no pool.
const IS_EXTRA: u32 = u32::MAX;

const _: () = assert!(HEAD_BYTES == 128 && CELL_BYTES == 4 * HEAD_BYTES);

/// The cells and pages of one collector, what it keeps about its held traces, and `T`.
pub(crate) struct CellPool<T: 'static> {
    sizes: CellSizes,
    /// Bytes of a cell's room that are used.
    cell_room: usize,
    first_cell: NonNull<u8>,
    pub(super) free_cells: FreeList,
    first_page: NonNull<u8>,
    page_stride: usize,
    free_pages: FreeList,
    /// Cells in use that are not in the block.
    extra_cells: AtomicUsize,
    allocation: NonNull<u8>,
    layout: Layout,
    pub(super) traces: Traces,
    probes: Box<[RaceProbe]>,
    pub(crate) owner: T,
}

/// Sizes of a [`CellPool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellSizes {
    pub(crate) cells: u32,
    pub(crate) pages: u32,
    /// Most bytes of a span's fields.
    pub(crate) span_bytes: usize,
    pub(crate) traces: u32,
    /// Whether all memory is touched at the start.
    pub(crate) is_touched: bool,
}

impl CellSizes {
    /// Divides `bytes` into cells and pages, for spans of at most `span_bytes` bytes of fields. Two
    /// thirds are cells, unless all spans fit into cells.
    pub(crate) fn divide(bytes: usize, span_bytes: usize) -> Self {
        let page = page_stride(span_bytes);
        let needs_pages = span_bytes + SPILL > CELL_ROOM;
        let for_pages = if needs_pages { bytes / 3 } else { 0 };
        let pages = for_pages / page;
        Self {
            cells: ((bytes - pages * page) / CELL_BYTES) as u32,
            pages: pages as u32,
            span_bytes,
            traces: 0,
            is_touched: true,
        }
    }
}

/// Pages begin at a cache line.
fn page_stride(span_bytes: usize) -> usize {
    (span_bytes + SPILL).next_multiple_of(64)
}

// SAFETY: each cell and each page belongs to the one that took it from a free list, until it is
// given back. Everything else is atomic or never changes.
unsafe impl<T: Send + Sync> Send for CellPool<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for CellPool<T> {}

impl<T> CellPool<T> {
    /// Allocates the memory; `None` if there is none.
    pub(crate) fn new(sizes: CellSizes, owner: T) -> Option<Self> {
        let (cells, pages) = (sizes.cells as usize, sizes.pages as usize);
        let page_stride = page_stride(sizes.span_bytes);
        let cells_bytes = cells.checked_mul(CELL_BYTES)?;
        let bytes = pages
            .checked_mul(page_stride)?
            .checked_add(cells_bytes)?
            .checked_add(PAGE_BYTES)?;
        // Aligned here, as the slabs are: so memory that is not touched costs nothing.
        let layout = Layout::from_size_align(bytes, align_of::<usize>()).ok()?;
        // SAFETY: the layout's size is not zero.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        // SAFETY: the allocation has a page more than cells and pages need.
        let first_cell = unsafe { allocation.add(allocation.align_offset(PAGE_BYTES)) };
        let pool = Self {
            sizes,
            cell_room: CELL_ROOM.min(sizes.span_bytes + SPILL),
            first_cell,
            free_cells: FreeList::full(cells),
            // SAFETY: as above.
            first_page: unsafe { first_cell.add(cells_bytes) },
            page_stride,
            free_pages: FreeList::full(pages),
            extra_cells: AtomicUsize::new(0),
            allocation,
            layout,
            traces: Traces::new(sizes.traces),
            probes: (0..cells).map(|_| RaceProbe::new(1)).collect(),
            owner,
        };
        if sizes.is_touched {
            pool.touch(bytes - PAGE_BYTES);
        }
        Some(pool)
    }

    /// Writes to each page of memory, so that no span causes a page fault.
    fn touch(&self, bytes: usize) {
        for offset in (0..bytes).step_by(PAGE_BYTES) {
            // SAFETY: in bounds, and no one has a cell yet. Volatile, since writing zeros to zeroed
            // memory could be optimised away.
            unsafe { self.first_cell.add(offset).write_volatile(0) };
        }
    }

    pub(crate) fn sizes(&self) -> CellSizes {
        self.sizes
    }

    /// Returns whether no cell is in use. To be called while no one takes cells.
    pub(crate) fn is_complete(&self) -> bool {
        // Acquire: what their users did comes before the next use of this pool.
        self.extra_cells.load(Ordering::Acquire) == 0
            && self.free_cells.len() == self.sizes.cells as usize
    }

    /// Returns the cell with this index, which the caller has taken from a list.
    #[inline(always)]
    pub(super) fn cell(&'static self, index: u32) -> Cell<T> {
        debug_assert!(index < self.sizes.cells);
        Cell {
            // SAFETY: indices come from lists that hold only those of this pool's cells.
            memory: unsafe { self.first_cell.add(index as usize * CELL_BYTES) },
            pool: self,
        }
    }

    /// Allocates a small cell that is not part of the pool, for a span that finds no other memory.
    #[cold]
    #[inline(never)]
    pub(crate) fn allocate_extra(&'static self) -> Cell<T> {
        // SAFETY: the layout's size is not zero.
        let memory = NonNull::new(unsafe { alloc(EXTRA) });
        let Some(memory) = memory else {
            handle_alloc_error(EXTRA)
        };
        // SAFETY: the allocation is of this size, and belongs to no one else.
        unsafe { memory.write_bytes(0, EXTRA.size()) };
        self.extra_cells.fetch_add(1, Ordering::Relaxed);
        let mut cell = Cell { memory, pool: self };
        cell.state_mut().page = IS_EXTRA;
        cell
    }

    fn page(&self, number: u32) -> NonNull<u8> {
        let index = number as usize - 1;
        debug_assert!(index < self.sizes.pages as usize);
        // SAFETY: numbers are those of this pool's pages.
        unsafe { self.first_page.add(index * self.page_stride) }
    }
}

impl<T> Drop for CellPool<T> {
    fn drop(&mut self) {
        // Cells borrow their pool for ever, so none is left.
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.allocation.as_ptr(), self.layout) };
    }
}

/// Layout of a cell that is in no pool.
const EXTRA: Layout = match Layout::from_size_align(HEAD_BYTES + ROOM_MIN, align_of::<CellHead>()) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

/// A cell that is in use. Dropping it gives it back to the pool.
pub(crate) struct Cell<T: 'static> {
    memory: NonNull<u8>,
    pool: &'static CellPool<T>,
}

// SAFETY: the memory belongs to this value alone.
unsafe impl<T: Send + Sync> Send for Cell<T> {}
// SAFETY: shared references only read it, except for an atomic.
unsafe impl<T: Send + Sync> Sync for Cell<T> {}

impl<T> Cell<T> {
    #[inline(always)]
    pub(crate) fn pool(&self) -> &'static CellPool<T> {
        self.pool
    }

    /// Reports an access to the cell's memory to loom.
    #[inline(always)]
    fn probe(&self, report: impl FnOnce(&RaceProbe, Range<usize>)) {
        if cfg!(loom) && !self.is_elsewhere() {
            report(&self.pool.probes[self.index() as usize], 0..1);
        }
    }

    /// Returns whether the memory is not in the pool's block.
    fn is_elsewhere(&self) -> bool {
        let first = self.pool.first_cell.addr().get();
        let end = first + self.pool.sizes.cells as usize * CELL_BYTES;
        !(first..end).contains(&self.memory.addr().get())
    }

    #[inline(always)]
    pub(crate) fn state(&self) -> &CellHead {
        self.probe(RaceProbe::reads);
        // SAFETY: the head is initialised, zeroed at first, and belongs to this value, whose shared
        // references only read.
        unsafe { self.memory.cast().as_ref() }
    }

    #[inline(always)]
    pub(crate) fn state_mut(&mut self) -> &mut CellHead {
        self.probe(RaceProbe::writes);
        // SAFETY: as above, and this is the only reference.
        unsafe { self.memory.cast().as_mut() }
    }

    /// Clears all that a former span has left, except in the draft's head and what
    /// [`set_recording`](Self::set_recording) sets.
    #[inline(always)]
    pub(crate) fn reset(&mut self, scope: u16) {
        let head = self.state_mut();
        head.trace = 0;
        head.scope = scope;
        head.is_local_root = false;
        *head.is_shown.get_mut() = false;
    }

    /// Makes the span record its data, or not.
    #[inline(always)]
    pub(crate) fn set_recording(&mut self, is_recording: bool) {
        let head = self.state_mut();
        head.is_recording = is_recording;
        head.in_panic = is_recording && panicking();
    }

    /// Notes that someone sees the span's context.
    #[inline(always)]
    pub(crate) fn show(&self) {
        self.state().is_shown.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_shown(&self) -> bool {
        self.state().is_shown.load(Ordering::Relaxed)
    }

    /// Returns whether the cell is in no pool, since all were in use.
    pub(crate) fn is_extra(&self) -> bool {
        self.state().page == IS_EXTRA
    }

    /// Returns whether the cell is in the pool and has its own fields.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        self.state().page == 0
    }

    /// Returns the number of the held trace.
    #[inline(always)]
    pub(super) fn trace(&self) -> u32 {
        self.state().trace
    }

    #[inline(always)]
    pub(super) fn set_trace(&mut self, number: u32) {
        self.state_mut().trace = number;
    }

    /// Returns roughly the encoded bytes of the span.
    pub(super) fn encoded_bytes(&self) -> usize {
        64 + self.written().len()
    }

    /// Returns the cell's index, and forgets the cell, which now belongs to the caller.
    #[inline(always)]
    pub(super) fn into_index(self) -> u32 {
        debug_assert!(!self.is_extra());
        let index = self.index();
        mem::forget(self);
        index
    }

    #[inline(always)]
    fn index(&self) -> u32 {
        // SAFETY: both are in the pool's block, since the cell is not extra.
        let offset = unsafe { self.memory.offset_from_unsigned(self.pool.first_cell) };
        (offset / CELL_BYTES) as u32
    }

    /// Returns start and length of the room.
    #[inline(always)]
    fn room_parts(&self) -> (NonNull<u8>, usize) {
        if self.is_plain() {
            // SAFETY: a cell is larger than its head.
            return (unsafe { self.memory.add(HEAD_BYTES) }, self.pool.cell_room);
        }
        self.room_elsewhere()
    }

    #[cold]
    #[inline(never)]
    fn room_elsewhere(&self) -> (NonNull<u8>, usize) {
        if self.is_extra() {
            // SAFETY: a cell is larger than its head.
            return (unsafe { self.memory.add(HEAD_BYTES) }, ROOM_MIN);
        }
        let page = self.pool.page(self.state().page);
        (page, self.pool.sizes.span_bytes + SPILL)
    }

    /// Gives the page back, if the span has one.
    #[cold]
    pub(super) fn shrink(&mut self) {
        if !self.is_plain() && !self.is_extra() {
            let page = mem::take(&mut self.state_mut().page);
            self.pool.free_pages.push(page - 1);
        }
    }
}

impl<T> DraftMemory for Cell<T> {
    #[inline(always)]
    fn head(&self) -> &DraftHead {
        &self.state().draft
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut DraftHead {
        &mut self.state_mut().draft
    }

    #[inline(always)]
    fn room(&self) -> &[u8] {
        let (start, len) = self.room_parts();
        // SAFETY: the room is initialised, zeroed at first, and belongs to this value, whose shared
        // references only read.
        unsafe { slice::from_raw_parts(start.as_ptr(), len) }
    }

    #[inline(always)]
    fn parts(&mut self) -> (&mut DraftHead, &mut [u8]) {
        let (start, len) = self.room_parts();
        // SAFETY: head and room do not overlap, are initialised and belong to this value, to which
        // this is the only reference.
        unsafe {
            let head: &mut CellHead = self.memory.cast().as_mut();
            let room = slice::from_raw_parts_mut(start.as_ptr(), len);
            (&mut head.draft, room)
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> bool {
        if !self.is_plain() {
            return false;
        }
        let Some(page) = self.pool.free_pages.pop() else {
            return false;
        };
        let written = self.written().len();
        let from = self.room().as_ptr();
        let to = self.pool.page(page + 1);
        // SAFETY: a page has more room than a cell, was just taken and so belongs to this value.
        unsafe { to.as_ptr().copy_from_nonoverlapping(from, written) };
        self.state_mut().page = page + 1;
        true
    }
}

impl<T> Drop for Cell<T> {
    #[cold]
    fn drop(&mut self) {
        self.shrink();
        if self.is_extra() {
            // SAFETY: allocated by `allocate_extra` with this layout, for this value.
            unsafe { dealloc(self.memory.as_ptr(), EXTRA) };
            self.pool.extra_cells.fetch_sub(1, Ordering::Release);
            return;
        }
        self.pool.free_cells.push(self.index());
    }
}

impl<T> fmt::Debug for Cell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::buffer::Magazine;
    use crate::otlp::draft::{Draft, SpanIds};
    use crate::span::SpanKind;
    use crate::span::attribute::{KeyValueRef, Name};
    use crate::span::context::TraceFlags;
    use crate::span::id::{SpanId, TraceId};
    use crate::span::limits::SpanLimits;

    /// Keeps the pools reachable, so that Miri reports no leaks.
    static POOLS: Mutex<Vec<&'static CellPool<()>>> = Mutex::new(Vec::new());

    fn pool(cells: u32, pages: u32, span_bytes: usize) -> &'static CellPool<()> {
        let sizes = CellSizes {
            cells,
            pages,
            span_bytes,
            traces: 0,
            is_touched: true,
        };
        let pool = Box::leak(Box::new(CellPool::new(sizes, ()).unwrap()));
        POOLS.lock().unwrap().push(pool);
        pool
    }

    fn begin(cell: &mut Cell<()>, name: &str) {
        let ids = SpanIds {
            trace_id: TraceId::MIN,
            span_id: SpanId::MIN,
            parent_span_id: None,
            parent_is_remote: false,
            trace_flags: TraceFlags::SAMPLED,
        };
        cell.reset(0);
        Draft::begin(cell, ids, SpanKind::Client, "", Name::from(name));
    }

    fn set(cell: &mut Cell<()>, key: &str, value: &str) {
        let attribute = KeyValueRef::new(key, value);
        Draft::of(cell).set_attribute(&attribute, &SpanLimits::default());
    }

    #[test]
    fn memory_is_divided_into_cells_and_pages() {
        let default = CellSizes::divide(8 << 20, 4096);
        assert_eq!((default.cells, default.pages), (10_924, 672));
        let small = CellSizes::divide(1024, 256);
        assert_eq!((small.cells, small.pages), (2, 0));
        let only_cells = CellSizes::divide(1024, 4096);
        assert_eq!((only_cells.cells, only_cells.pages), (2, 0));
    }

    #[test]
    fn a_span_that_outgrows_its_cell_keeps_its_fields_in_a_page() {
        let pool = pool(3, 1, 1000);
        let mut magazine = Magazine::new(pool);
        let mut spans: Vec<_> = (0..3).map(|_| magazine.take().unwrap()).collect();
        assert!(magazine.take().is_none());
        let value = "x".repeat(200);
        for cell in &mut spans {
            begin(cell, "name");
            set(cell, "first", &value);
            set(cell, "second", &value);
        }
        // One page, for the span that asked first.
        let written: Vec<_> = spans.iter().map(|cell| cell.written().len()).collect();
        assert!(
            written[0] > 400 && written[1] < 320 && written[1] == written[2],
            "{written:?}"
        );
        assert!(spans.iter().all(|cell| cell.name() == "name"));
        spans.into_iter().for_each(|cell| magazine.give(cell));
        // It is free again, and so are all cells.
        let mut cell = magazine.take().unwrap();
        begin(&mut cell, "again");
        set(&mut cell, "first", &value);
        set(&mut cell, "second", &value);
        assert!(cell.written().len() > 400);
        drop(cell);
        drop(magazine);
        assert!(pool.is_complete());
        assert_eq!(pool.free_pages.len(), 1);
    }

    #[test]
    fn a_cell_from_the_heap_holds_a_short_name() {
        let pool = pool(0, 0, 4096);
        let mut magazine = Magazine::new(pool);
        assert!(magazine.take().is_none());
        let mut cell = pool.allocate_extra();
        begin(&mut cell, &"n".repeat(100));
        set(&mut cell, "key", "value");
        assert_eq!(cell.name(), "n".repeat(31));
        assert!(cell.is_extra() && !cell.grow());
        assert!(!pool.is_complete());
        magazine.give(cell);
        assert!(magazine.take().is_none());
        drop(pool.allocate_extra());
        assert!(pool.is_complete());
    }

    #[test]
    fn cells_that_are_given_back_elsewhere_are_used_again() {
        const CELLS: u32 = 40;
        let pool = pool(CELLS, 2, 1000);
        for _ in 0..5 {
            let mut magazine = Magazine::new(pool);
            let cells: Vec<_> = std::iter::from_fn(|| magazine.take()).collect();
            assert_eq!(cells.len(), CELLS as usize);
            let ending = thread::spawn(move || {
                let mut magazine = Magazine::new(pool);
                for mut cell in cells {
                    begin(&mut cell, "elsewhere");
                    set(&mut cell, "long", &"x".repeat(500));
                    magazine.give(cell);
                }
            });
            ending.join().unwrap();
            assert!(pool.is_complete());
        }
        assert_eq!(pool.free_pages.len(), 2);
    }

    #[test]
    fn a_cell_given_to_the_magazine_of_another_pool_goes_home() {
        let (one, other) = (pool(1, 0, 100), pool(1, 0, 100));
        let (mut of_one, mut of_other) = (Magazine::new(one), Magazine::new(other));
        let cell = of_one.take().unwrap();
        of_other.give(cell);
        assert!(one.is_complete());
        assert!(of_other.take().is_some() && of_one.take().is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 200 }))]

        /// Cells that are taken and given back in any order by several magazines: none is in two places,
        /// and none is lost.
        #[test]
        fn no_cell_is_in_two_places(steps in prop::collection::vec((0..3_usize, any::<bool>(), any::<usize>()), 0..200)) {
            const CELLS: u32 = 50;
            let pool = pool(CELLS, 0, 100);
            let mut magazines: Vec<_> = (0..3).map(|_| Magazine::new(pool)).collect();
            let mut taken: Vec<Cell<()>> = Vec::new();
            for (number, (magazine, takes, which)) in steps.into_iter().enumerate() {
                if takes && let Some(mut cell) = magazines[magazine].take() {
                    begin(&mut cell, &number.to_string());
                    taken.push(cell);
                } else if !taken.is_empty() {
                    let cell = taken.swap_remove(which % taken.len());
                    magazines[magazine].give(cell);
                }
                let mut names: Vec<_> = taken.iter().map(|cell| cell.name()).collect();
                names.sort_unstable();
                names.dedup();
                prop_assert_eq!(names.len(), taken.len());
            }
            drop(taken);
            drop(magazines);
            prop_assert!(pool.is_complete());
        }
    }
}
