//! The open spans of a door, found by the ids that `tracing` gives them.

use std::iter;
use std::mem;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::recorder::{OpenSpan, SharedRef, SharedSpan};
use crate::tracing::timings::Timings;

/// Ids of a bucket, which are a cache line.
const BUCKET: usize = 8;
/// Buckets that are looked at, from a span's own on.
const BUCKETS_LOOKED_AT: usize = 4;
/// Bits of an id that a `Registry` reuses with the memory of a span. The others are a generation, so
/// the next span of a thread usually finds its place in the cache.
const ADDRESS: u64 = (1 << 36) - 1;
/// Longest wait for the lock of the idle tables, which is never held for long except in the parent of
/// a fork.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// Open spans by id. Finding, adding and removing one takes no lock and does not wait.
///
/// An id has its place from the start of its span to its end. An entered span may be referred to by a
/// thread's stack for longer, so tables are not freed; the next door uses them again.
pub(super) struct SpanTable {
    buckets: Box<[Bucket]>,
    spans: Box<[SharedSpan]>,
    timings: Box<[Timings]>,
    owner: u32,
}

/// Ids of spans; 0 where there is none.
#[repr(align(64))]
struct Bucket([AtomicU64; BUCKET]);

/// Index of a span in its table.
#[derive(Clone, Copy)]
pub(super) struct SpanPlace(usize);

/// Tables without a door.
static IDLE: Mutex<Vec<&'static SpanTable>> = Mutex::new(Vec::new());

impl SpanTable {
    /// Takes or allocates a table with places for at least this many spans.
    pub(super) fn take(spans_max: usize, has_timings: bool) -> &'static Self {
        let buckets = (spans_max / BUCKET).next_power_of_two();
        let is_usable = |table: &&'static Self| {
            table.buckets.len() == buckets && table.timings.is_empty() != has_timings
        };
        let mut idle = IDLE.try_lock_for(LOCK_TIMEOUT);
        let found = idle.as_mut().and_then(|idle| {
            let index = idle.iter().position(is_usable)?;
            Some(idle.swap_remove(index))
        });
        found.unwrap_or_else(|| Box::leak(Box::new(Self::new(buckets, has_timings))))
    }

    fn new(buckets: usize, has_timings: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let owner = NUMBER.fetch_add(1, Ordering::Relaxed);
        let spans = buckets * BUCKET;
        let timings = if has_timings { spans } else { 0 };
        Self {
            buckets: iter::repeat_with(Bucket::new).take(buckets).collect(),
            spans: (0..spans).map(|_| SharedSpan::new(owner)).collect(),
            timings: iter::repeat_with(Timings::default).take(timings).collect(),
            owner,
        }
    }

    pub(super) fn owner(&self) -> u32 {
        self.owner
    }

    /// Ends all spans, and keeps the table for the next door.
    pub(super) fn give_back(&'static self) {
        let ids = self.buckets.iter().flat_map(|bucket| &bucket.0);
        for (index, id) in ids.enumerate() {
            if id.load(Ordering::Acquire) != 0 {
                drop(self.remove(SpanPlace(index)));
            }
        }
        if let Some(mut idle) = IDLE.try_lock_for(LOCK_TIMEOUT) {
            idle.push(self);
        }
    }

    #[inline(always)]
    fn first_bucket(&self, id: u64) -> usize {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = (id & ADDRESS).wrapping_mul(ODD);
        (mixed >> 40) as usize & (self.buckets.len() - 1)
    }

    #[inline(always)]
    fn find_in(&self, bucket: usize, id: u64) -> Option<SpanPlace> {
        let ids = &self.buckets[bucket].0;
        let index = ids.iter().position(|at| at.load(Ordering::Acquire) == id)?;
        Some(SpanPlace(bucket * BUCKET + index))
    }

    /// Returns the place of an open span.
    #[inline(always)]
    pub(super) fn find(&self, id: u64) -> Option<SpanPlace> {
        let first = self.first_bucket(id);
        match self.find_in(first, id) {
            Some(place) => Some(place),
            None => self.find_further(first, id),
        }
    }

    #[cold]
    #[inline(never)]
    fn find_further(&self, first: usize, id: u64) -> Option<SpanPlace> {
        self.further(first)
            .find_map(|bucket| self.find_in(bucket, id))
    }

    fn further(&self, first: usize) -> impl Iterator<Item = usize> {
        let last = self.buckets.len() - 1;
        (1..BUCKETS_LOOKED_AT).map(move |offset| (first + offset) & last)
    }

    /// Takes a place for a span that starts; `None` if there is none.
    #[inline(always)]
    pub(super) fn claim(&'static self, id: u64) -> Option<ClaimedPlace> {
        let first = self.first_bucket(id);
        let place = match self.claim_in(first, id) {
            Some(place) => place,
            None => self.claim_further(first, id)?,
        };
        Some(ClaimedPlace { table: self, place })
    }

    #[cold]
    #[inline(never)]
    fn claim_further(&self, first: usize, id: u64) -> Option<SpanPlace> {
        self.further(first)
            .find_map(|bucket| self.claim_in(bucket, id))
    }

    #[inline(always)]
    fn claim_in(&self, bucket: usize, id: u64) -> Option<SpanPlace> {
        let ids = &self.buckets[bucket].0;
        let index = ids.iter().position(|at| {
            at.load(Ordering::Relaxed) == 0
                && at
                    .compare_exchange(0, id, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
        })?;
        Some(SpanPlace(bucket * BUCKET + index))
    }

    /// Returns the span in a place.
    #[inline(always)]
    pub(super) fn span(&'static self, place: SpanPlace) -> SharedRef {
        self.spans[place.0].current()
    }

    /// Returns the span with this id.
    #[inline(always)]
    pub(super) fn span_by_id(&'static self, id: u64) -> Option<SharedRef> {
        self.find(id).map(|place| self.span(place))
    }

    /// Returns the times of a span, if they are measured.
    #[inline(always)]
    pub(super) fn timings(&self, place: SpanPlace) -> Option<&Timings> {
        self.timings.get(place.0)
    }

    /// Takes a span out of its place, which becomes free.
    #[inline(always)]
    pub(super) fn remove(&'static self, place: SpanPlace) -> OpenSpan {
        let span = self.span(place).take();
        self.release(place);
        span
    }

    #[inline(always)]
    fn release(&self, SpanPlace(index): SpanPlace) {
        self.buckets[index / BUCKET].0[index % BUCKET].store(0, Ordering::Release);
    }
}

/// A place that a span gets when it has started. Without a span it becomes free again.
pub(super) struct ClaimedPlace {
    table: &'static SpanTable,
    place: SpanPlace,
}

impl ClaimedPlace {
    pub(super) fn place(&self) -> SpanPlace {
        self.place
    }

    #[inline(always)]
    pub(super) fn put(self, span: OpenSpan) {
        if !span.is_none() {
            self.table.spans[self.place.0].put(span);
            mem::forget(self);
        }
    }
}

impl Drop for ClaimedPlace {
    fn drop(&mut self) {
        self.table.release(self.place);
    }
}

impl Bucket {
    fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKET])
    }
}
