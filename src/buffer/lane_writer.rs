//! The writing side of a lane: its open slab, the spare that follows it, and the ring to the network
//! thread.

#![allow(
    unsafe_code,
    reason = "writes the part of a block that no reader reads yet"
)]

use std::ptr::NonNull;

use crate::buffer::header::{Committed, Header};
use crate::buffer::pool::Pool;
use crate::buffer::ring::{Consumer, Producer, ring};
use crate::buffer::slab::SlabReader;
use crate::otlp::SPILL;
use crate::platform::sync::{Arc, Ordering};

/// Creates both ends of a lane for spans of `scope`. To be called after [`Pool::join`].
pub(crate) fn lane(pool: &Arc<Pool>, scope: u32) -> (LaneWriter, SlabQueue) {
    let (producer, consumer) = ring(pool.ring_slots());
    let writer = LaneWriter {
        tail: NonNull::dangling(),
        free: 0,
        committed: Committed::default(),
        header: NonNull::dangling(),
        last_time: 0,
        countdown: 0,
        index: 0,
        spans_per_slab: pool.spans_per_slab(),
        // Large, so that soon the average of the open slab is used.
        bytes_per_span: pool.room_per_slab() as u32 / (SPARE_STEPS + AVERAGED_SPANS),
        spare: Spare::None,
        is_published: false,
        scope,
        ring: producer,
        pool: Arc::clone(pool),
    };
    let queue = SlabQueue {
        pool: Arc::clone(pool),
        ring: consumer,
    };
    (writer, queue)
}

/// Number of spans before the predicted end of a slab at which the steps towards its spare begin.
const SPARE_STEPS: u32 = 30;
/// Number of spans from which on their average predicts the end of a slab.
const AVERAGED_SPANS: u32 = 8;

/// The writing side of a lane. Dropping it seals its open slab and gives its spare back.
///
/// It alone writes to its open slab, from which nothing of it remains after the seal: neither a
/// count of holders nor one of references to the pool, which it holds once for all its slabs.
///
/// The slab after the open one is taken ahead, in steps that [`advance`](Self::advance) makes after
/// some of the last spans. Each step starts to load the cache lines that the next one needs, so the
/// caller's own work hides the time that takes. A slab enters the ring with its first span.
#[repr(C, align(64))] // The first cache line is all that most spans need.
pub(crate) struct LaneWriter {
    /// Address of the next span; dangling without an open slab.
    tail: NonNull<u8>,
    /// Free bytes from `tail` on, with the spill; 0 without an open slab.
    free: usize,
    committed: Committed,
    /// Address of the open slab's header; dangling without one.
    header: NonNull<Header>,
    /// End time of the last span.
    last_time: u64,
    /// Number of spans until the next call of [`advance`](Self::advance).
    countdown: u32,
    /// The open slab.
    index: u32,
    spans_per_slab: u32,
    /// Average of the last slab, to predict when the open one is full.
    bytes_per_span: u32,
    spare: Spare,
    /// Whether the open slab is in the ring.
    is_published: bool,
    scope: u32,
    ring: Producer<u32>,
    pool: Arc<Pool>,
}

/// The steps towards the slab after the open one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    None,
    /// The pool's counters are being loaded.
    CountersLoading,
    /// So is the header of the slab that is free next.
    HeaderLoading,
    /// A slab is taken.
    Taken(u32),
    /// The cache lines that opening it writes are being loaded again.
    Ready(u32),
}

impl Spare {
    /// Returns at how many spans before the end of the open slab the next step is due; `None` after
    /// the last one.
    fn next_due(self) -> Option<u32> {
        match self {
            Self::None => Some(SPARE_STEPS),
            Self::CountersLoading => Some(24),
            Self::HeaderLoading => Some(18),
            Self::Taken(_) => Some(3),
            Self::Ready(_) => None,
        }
    }

    fn index(self) -> Option<u32> {
        match self {
            Self::Taken(index) | Self::Ready(index) => Some(index),
            Self::None | Self::CountersLoading | Self::HeaderLoading => None,
        }
    }
}

// SAFETY: only the writer writes to its open slab's free room, on whichever thread it is. `tail` and
// `header` point into memory that `pool` keeps alive.
unsafe impl Send for LaneWriter {}

impl LaneWriter {
    /// Appends a span that ended at `end_time`: `encode` writes it to the beginning of the free room,
    /// whose last [`SPILL`] bytes never count, and returns its length. Returns false if `encode`
    /// returns `None`, as it does without an open slab, for lack of room.
    ///
    /// # Panics
    /// If the length reaches into the spill.
    #[inline(always)]
    pub(crate) fn append(
        &mut self,
        end_time: u64,
        encode: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let free = self.free;
        // SAFETY: `tail..tail + free` is empty or lies within the open slab, was initialised when the
        // pool was created, and is used by this writer alone: `commit` removes the committed bytes
        // from this range before a reader can see them.
        let room = unsafe { std::slice::from_raw_parts_mut(self.tail.as_ptr(), free) };
        let Some(bytes) = encode(room) else {
            return false;
        };
        assert!(bytes as u32 as usize + SPILL <= free);
        self.commit(bytes as u32 as usize, end_time);
        true
    }

    /// Publishes one span: the first `bytes` bytes of the free room, which has that many and the
    /// spill.
    #[inline(always)]
    fn commit(&mut self, bytes: usize, end_time: u64) {
        let start = self.committed.bytes();
        self.pool.probe(self.index).writes(start..start + bytes);
        self.committed = self.committed.with_span(bytes);
        // SAFETY: `bytes` is less than `free`, so the new tail is within the slab.
        self.tail = unsafe { self.tail.add(bytes) };
        self.free -= bytes;
        self.last_time = end_time;
        self.countdown -= 1;
        let committed = self.committed.0;
        self.header().committed.store(committed, Ordering::Release);
    }

    /// Returns whether [`advance`](Self::advance) is to be called, after a span was appended.
    #[inline(always)]
    pub(crate) fn is_due(&self) -> bool {
        self.countdown == 0
    }

    /// Makes the next step. After the first span of a slab, passes it to the network thread. After the
    /// last one, seals it, and opens the next slab if there is one. Before that, makes the steps towards
    /// a spare. Returns whether a slab was opened and has its first span.
    #[cold]
    #[inline(never)]
    pub(crate) fn advance(&mut self) -> bool {
        let is_new = !self.is_published;
        if is_new {
            self.publish();
        }
        if self.is_full() {
            self.seal();
            self.open(self.last_time);
            return is_new;
        }
        let left = self.spans_left();
        if !is_new && self.spare.next_due().is_some_and(|due| left <= due) {
            self.prepare();
        }
        self.set_countdown(left);
        is_new
    }

    /// Passes the open slab, which has spans, to the network thread.
    fn publish(&mut self) {
        let pushed = self.ring.push(self.index);
        debug_assert_eq!(pushed, Ok(()), "`open` checks that there is room");
        self.is_published = true;
    }

    /// Makes one step towards a spare slab.
    fn prepare(&mut self) {
        self.spare = match self.spare {
            Spare::None => {
                self.pool.prefetch_counters();
                self.ring.prefetch();
                Spare::CountersLoading
            }
            Spare::CountersLoading => {
                self.pool.prefetch_next();
                Spare::HeaderLoading
            }
            Spare::HeaderLoading => self.pool.take().map_or(Spare::None, Spare::Taken),
            Spare::Taken(index) | Spare::Ready(index) => {
                self.pool.prefetch_slab(index);
                self.ring.prefetch_next();
                Spare::Ready(index)
            }
        };
    }

    /// Sets the number of spans until the next step, where `left` more are predicted to fit.
    fn set_countdown(&mut self, left: u32) {
        let to_end = self.spans_left_by_count();
        let to_step = match self.spare.next_due() {
            Some(due) => left.saturating_sub(due).max(1),
            None if left < to_end => left.saturating_sub(1).max(1),
            None => to_end,
        };
        self.countdown = to_step.min(to_end);
    }

    /// Returns whether the open slab is to be sealed: if it has its maximum number of spans, or probably
    /// has no room for the next one.
    fn is_full(&self) -> bool {
        let by_count = self.spans_left_by_count();
        if by_count == 0 {
            return true;
        }
        // Before a span does not fit, which would be encoded twice. Not with large spans, which would
        // waste much room, and not where that could cost one of the maximum number of spans.
        let (average, room) = (self.average_bytes(), self.room());
        matches!(self.spare, Spare::Ready(_))
            && room < average + average / 2
            && u64::from(room) < u64::from(average) * u64::from(by_count)
            && average <= self.pool.room_per_slab() as u32 / 64
    }

    /// Predicts the number of further spans in the open slab.
    fn spans_left(&self) -> u32 {
        let by_bytes = self.room() / self.average_bytes();
        by_bytes.min(self.spans_left_by_count())
    }

    fn spans_left_by_count(&self) -> u32 {
        (self.spans_per_slab).saturating_sub(self.committed.spans())
    }

    /// Returns the average bytes of a span, at least 1.
    fn average_bytes(&self) -> u32 {
        let (spans, bytes) = (self.committed.spans(), self.committed.bytes() as u32);
        let average = match spans {
            AVERAGED_SPANS.. => bytes / spans,
            _ => self.bytes_per_span,
        };
        average.max(1)
    }

    /// Returns the free bytes of the open slab.
    fn room(&self) -> u32 {
        (self.free - SPILL) as u32
    }

    /// Returns whether there is an open slab.
    pub(crate) fn is_open(&self) -> bool {
        self.free > 0
    }

    /// Returns whether the open slab has no spans.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_open() && self.committed == Committed::default()
    }

    /// Returns whether the open slab has room for all except large spans.
    pub(crate) fn has_much_room(&self) -> bool {
        self.free > self.pool.room_per_slab() / 8 + SPILL
    }

    /// Opens a slab whose first span ends not before `first_time` (Unix nanoseconds). There must be
    /// no open one. Returns false if too many slabs wait for delivery.
    pub(crate) fn open(&mut self, first_time: u64) -> bool {
        debug_assert!(!self.is_open());
        // The spare gives this lane nothing that other lanes would not have.
        if self.pool.slabs_left() == 0 || !self.ring.has_room() {
            return false;
        }
        let Some(index) = self.spare.index().or_else(|| self.pool.take()) else {
            return false;
        };
        let header = self.pool.header(index);
        debug_assert!(header.is_known());
        header.scope.store(self.scope, Ordering::Relaxed);
        header.first_time.store(first_time, Ordering::Relaxed);
        header.last_time.store(0, Ordering::Relaxed);
        header.committed.store(0, Ordering::Relaxed);
        header.holders.store(1, Ordering::Relaxed);
        self.header = NonNull::from(header);
        self.index = index;
        self.tail = self.pool.spans(index);
        self.free = self.pool.room_per_slab() + SPILL;
        self.committed = Committed::default();
        self.spare = Spare::None;
        self.is_published = false;
        // The first span publishes the slab.
        self.countdown = 1;
        true
    }

    /// Seals the open slab, if there is one. Nothing of it is used afterwards, because its last
    /// holder frees it. One without spans becomes the spare.
    pub(crate) fn seal(&mut self) {
        if !self.is_open() {
            return;
        }
        let (spans, header) = (self.committed.spans(), self.header);
        self.free = 0;
        self.tail = NonNull::dangling();
        self.header = NonNull::dangling();
        if let Some(average) = (self.committed.bytes() as u32).checked_div(spans) {
            self.bytes_per_span = average;
            if !self.is_published {
                self.publish();
            }
        } else if !self.is_published {
            self.spare = Spare::Taken(self.index);
            return;
        }
        // Counted before the store: after it the slab may be freed, which decrements the count.
        self.pool.seal();
        // SAFETY: this was the address of the open slab's header, and the slab is still open.
        let header = unsafe { header.as_ref() };
        header.last_time.store(self.last_time, Ordering::Relaxed);
        let sealed = self.committed.sealed().0;
        header.committed.store(sealed, Ordering::Release);
    }

    /// Seals the open slab and continues with spans of another scope.
    pub(crate) fn set_scope(&mut self, scope: u32) {
        self.seal();
        self.scope = scope;
    }

    fn header(&self) -> &Header {
        // SAFETY: callers have an open slab, whose header `circulate` wrote; its mutable fields are
        // atomics.
        unsafe { self.header.as_ref() }
    }
}

#[cfg(any(test, feature = "internals"))]
impl Pool {
    /// Opens a slab of a new lane, and returns both ends of it.
    pub(crate) fn open(pool: &Arc<Self>) -> Option<(LaneWriter, SlabReader)> {
        let (mut writer, mut queue) = lane(pool, 0);
        if !writer.open(0) {
            return None;
        }
        writer.publish();
        queue.pop().map(|reader| (writer, reader))
    }
}

#[cfg(any(test, feature = "internals"))]
impl LaneWriter {
    /// Writes and publishes a span.
    pub(crate) fn write(&mut self, span: &[u8]) {
        assert!(self.try_write(span), "no room");
    }

    /// Writes and publishes a span. Returns false if there is no room for it.
    pub(crate) fn try_write(&mut self, span: &[u8]) -> bool {
        let is_written = self.append(0, |room| {
            let room = room.get_mut(..span.len() + SPILL)?;
            room[..span.len()].copy_from_slice(span);
            Some(span.len())
        });
        if is_written && self.is_due() {
            self.advance();
        }
        is_written
    }

    /// Writes bytes that are not committed, as an encoder does that finds no room.
    #[cfg(loom)]
    pub(crate) fn scribble(&mut self, bytes: usize) {
        let start = self.committed.bytes();
        self.pool.probe(self.index).writes(start..start + bytes);
    }
}

impl Drop for LaneWriter {
    fn drop(&mut self) {
        self.seal();
        if let Some(index) = self.spare.index() {
            self.pool.give_back(index);
        }
    }
}

/// The reading side of a lane: its slabs in the order in which they were opened.
///
/// Slabs that were not popped when it is dropped are not used again.
pub(crate) struct SlabQueue {
    pool: Arc<Pool>,
    ring: Consumer<u32>,
}

impl SlabQueue {
    /// Removes and returns the oldest slab; `None` if there is none.
    pub(crate) fn pop(&mut self) -> Option<SlabReader> {
        let index = self.ring.pop()?;
        Some(SlabReader::new(&self.pool, index))
    }

    /// Returns whether the writing side was dropped. If so, slabs popped from now on are the last
    /// ones.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const SLAB_BYTES: usize = 4096;
    const SPAN: [u8; 10] = [7; 10];

    /// Creates a lane of a pool with this many shared slabs for this many spans.
    fn setup(shared: usize, spans_per_slab: u32) -> (Arc<Pool>, LaneWriter, SlabQueue) {
        let pool = Pool::new(shared, 4, SLAB_BYTES, spans_per_slab).unwrap();
        assert!(pool.join());
        let (writer, queue) = lane(&pool, 0);
        (pool, writer, queue)
    }

    /// Writes spans, and opens slabs when needed, until none can be opened. Returns the number of spans.
    fn fill(writer: &mut LaneWriter, span: &[u8]) -> usize {
        let mut spans = 0;
        while writer.try_write(span) || {
            writer.seal();
            writer.open(0) && writer.try_write(span)
        } {
            spans += 1;
        }
        spans
    }

    /// Reads and drops all sealed slabs; returns their numbers of spans.
    fn drain(queue: &mut SlabQueue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop())
            .map(|mut reader| {
                let spans = reader.take().map_or(0, |batch| batch.spans());
                assert!(reader.is_exhausted());
                spans
            })
            .collect()
    }

    #[test]
    fn without_an_open_slab_there_is_no_room() {
        let (_pool, mut writer, _queue) = setup(2, 5);
        assert!(!writer.try_write(&[]));
        assert!(writer.open(0));
        assert!(writer.is_empty() && writer.has_much_room());
        writer.write(&SPAN);
        assert!(!writer.is_empty());
        writer.seal();
        assert!(!writer.is_open() && !writer.is_empty() && !writer.has_much_room());
        assert!(!writer.try_write(&[]));
    }

    #[test]
    #[should_panic = "bytes as u32"]
    fn a_length_that_reaches_into_the_spill_panics() {
        let (_pool, mut writer, _queue) = setup(2, 5);
        assert!(writer.open(0));
        writer.append(0, |room| Some(room.len() - SPILL + 1));
    }

    #[test]
    fn a_slab_that_is_full_by_count_is_followed_by_the_spare() {
        for spans_per_slab in [1, 2, 3, 4, 5, 13, 30, 31, 100] {
            let (pool, mut writer, mut queue) = setup(3, spans_per_slab);
            assert!(writer.open(0));
            for _ in 1..spans_per_slab {
                writer.write(&SPAN);
            }
            let taken = writer.spare.index();
            assert_eq!(taken.is_some(), spans_per_slab > 4, "{spans_per_slab}");
            assert_eq!(pool.slabs_left(), 3);
            // A spare is not in the ring.
            let reader = queue.pop();
            assert!(queue.pop().is_none());
            writer.write(&SPAN);
            let mut reader = reader.or_else(|| queue.pop()).unwrap();
            assert_eq!(taken.unwrap_or(writer.index), writer.index);
            assert!(writer.is_empty() && writer.spare == Spare::None);
            assert_eq!(pool.slabs_left(), 2);
            assert_eq!(reader.take().unwrap().spans(), u64::from(spans_per_slab));
            assert!(reader.is_exhausted());
            // A slab without spans is not in the ring either.
            drop((writer, reader));
            assert_eq!(drain(&mut queue), []);
            assert!(pool.is_complete());
        }
    }

    #[test]
    fn a_slab_that_is_full_by_bytes_is_followed_by_the_spare() {
        let (pool, mut writer, mut queue) = setup(3, 1000);
        let span = [1; 100];
        let per_slab = pool.room_per_slab() / span.len();
        assert!(writer.open(0));
        for round in 0..3 {
            for _ in 0..per_slab {
                writer.write(&span);
            }
            assert!(!writer.try_write(&span));
            // The first time too, because the average of the open slab is used after some spans.
            assert!(matches!(writer.spare, Spare::Ready(_)), "{round}");
            writer.seal();
            let taken = writer.spare.index().unwrap();
            assert_eq!(writer.open(0), round < 2);
            assert_eq!(writer.index == taken, round < 2);
        }
        drop(writer);
        assert_eq!(drain(&mut queue), [per_slab as u64; 3]);
        assert!(pool.is_complete());
    }

    #[test]
    fn small_spans_of_similar_sizes_are_never_refused_for_lack_of_bytes() {
        let (pool, mut writer, mut queue) = setup(8, 1000);
        assert!(writer.open(0));
        let sizes = (0..500).map(|number| 45 + number * 7 % 13);
        for size in sizes.clone() {
            assert!(writer.try_write(&vec![1; size]));
        }
        drop(writer);
        let bytes: usize = sizes.sum();
        let slabs = drain(&mut queue);
        assert_eq!(slabs.iter().sum::<u64>(), 500);
        // Little room is wasted.
        assert_eq!(slabs.len(), bytes.div_ceil(pool.room_per_slab() - 100));
        assert!(pool.is_complete());
    }

    #[test]
    fn a_slab_has_its_maximum_number_of_spans_if_these_have_room() {
        let pool = Pool::new(2, 1, SLAB_BYTES, 71).unwrap();
        assert!(pool.join());
        let (mut writer, mut queue) = lane(&pool, 0);
        let span = vec![1; pool.room_per_slab() / 71];
        assert_eq!(fill(&mut writer, &span), 2 * 71);
        drop(writer);
        assert_eq!(drain(&mut queue), [71, 71]);
    }

    #[test]
    fn all_shared_slabs_and_no_others_can_be_filled() {
        for shared in [1, 2, 3, 8] {
            for (spans_per_slab, bytes) in [(1, 10), (2, 10), (40, 10), (1000, 100), (1000, 3000)] {
                let (pool, mut writer, mut queue) = setup(shared, spans_per_slab);
                let span = vec![1; bytes];
                let per_slab = (pool.room_per_slab() / bytes).min(spans_per_slab as usize);
                for _ in 0..3 {
                    assert_eq!(fill(&mut writer, &span), shared * per_slab);
                    assert_eq!(pool.slabs_left(), 0);
                    assert_eq!(drain(&mut queue), vec![per_slab as u64; shared]);
                }
                drop(writer);
                assert!(pool.is_complete());
            }
        }
    }

    #[test]
    fn spares_of_idle_lanes_take_no_shared_slabs() {
        let pool = Pool::new(1, 4, SLAB_BYTES, 10).unwrap();
        assert_eq!(pool.bytes(), SLAB_BYTES);
        let mut lanes: Vec<_> = (0..4)
            .map(|_| {
                assert!(pool.join());
                let (mut writer, queue) = lane(&pool, 0);
                assert!(writer.open(0));
                (0..9).for_each(|_| writer.write(&SPAN));
                assert!(writer.spare.index().is_some());
                (writer, queue)
            })
            .collect();
        assert!(!pool.join());
        assert_eq!((pool.slabs_left(), pool.bytes()), (1, 9 * SLAB_BYTES));
        for (writer, queue) in &mut lanes {
            // The slab is sealed, and its spare waits until another one can be sealed.
            writer.write(&SPAN);
            assert!(!writer.is_open());
            let spare = writer.spare.index();
            assert!(spare.is_some() && !writer.open(0));
            assert_eq!(drain(queue), [10]);
            assert!(writer.open(0));
            assert_eq!(spare, Some(writer.index));
        }
        drop(lanes);
        // A lane that replaces another one needs no more memory.
        pool.leave();
        assert!(pool.join());
        assert_eq!(pool.bytes(), 9 * SLAB_BYTES);
    }

    #[test]
    fn without_a_free_slab_the_next_one_is_taken_when_there_is_one() {
        let pool = Pool::new(2, 0, SLAB_BYTES, 40).unwrap();
        let (mut writer, mut queue) = lane(&pool, 0);
        assert!(writer.open(0));
        let other = pool.take().unwrap();
        (0..39).for_each(|_| writer.write(&SPAN));
        assert_eq!(writer.spare.index(), None);
        writer.write(&SPAN);
        assert!(!writer.is_open() && !writer.open(0));
        pool.give_back(other);
        assert!(writer.open(0));
        drop(writer);
        assert_eq!(drain(&mut queue), [40]);
        assert!(pool.is_complete());
    }

    #[test]
    fn spans_of_mixed_sizes_fill_slabs_and_arrive() {
        let (pool, mut writer, mut queue) = setup(3, 50);
        let (mut expected, mut arrived) = (Vec::new(), Vec::new());
        for number in 0..2000_usize {
            let span = vec![number as u8; number * number % 701];
            if !writer.try_write(&span) {
                writer.seal();
                if !writer.open(0) {
                    take_all(&mut queue, &mut arrived);
                    assert!(writer.open(0));
                }
                writer.write(&span);
            }
            expected.extend(span);
        }
        drop(writer);
        take_all(&mut queue, &mut arrived);
        assert_eq!(arrived, expected);
        assert!(pool.is_complete());
    }

    fn take_all(queue: &mut SlabQueue, arrived: &mut Vec<u8>) {
        while let Some(mut reader) = queue.pop() {
            arrived.extend_from_slice(&reader.take().unwrap());
        }
    }

    #[test]
    fn a_lane_dropped_at_any_step_frees_its_slabs() {
        for spans in 0..=100 {
            let (pool, mut writer, mut queue) = setup(2, 50);
            assert!(writer.open(0));
            for _ in 0..spans {
                if !writer.try_write(&SPAN) {
                    assert!(!writer.is_open());
                }
            }
            drop(writer);
            assert!(queue.is_abandoned());
            assert_eq!(drain(&mut queue).iter().sum::<u64>(), spans);
            assert!(pool.is_complete(), "{spans}");
        }
    }

    #[test]
    fn a_lane_changes_its_scope_and_keeps_its_spare() {
        let (pool, mut writer, mut queue) = setup(2, 10);
        assert!(writer.open(0));
        (0..9).for_each(|_| writer.write(&SPAN));
        let spare = writer.spare.index();
        writer.set_scope(3);
        assert!(!writer.is_open() && spare.is_some());
        assert!(writer.open(0));
        assert_eq!(Some(writer.index), spare);
        writer.write(&SPAN);
        drop(writer);
        let scopes = std::iter::from_fn(|| queue.pop());
        let scopes: Vec<_> = scopes
            .map(|mut reader| reader.take().unwrap().scope())
            .collect();
        assert_eq!(scopes, [0, 3]);
        assert!(pool.is_complete());
    }

    #[test]
    fn slabs_without_a_reader_are_not_used_again() {
        let (pool, mut writer, queue) = setup(2, 2);
        assert!(writer.open(0));
        drop(queue);
        assert_eq!(fill(&mut writer, &SPAN), 4);
        assert!(!writer.open(0));
        drop(writer);
        assert_eq!(pool.slabs_left(), 0);
    }
}
