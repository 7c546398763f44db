//! The open spans of a door, found by the ids that `tracing` gives them.

use std::cell::Cell;
use std::iter;
use std::mem;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use parking_lot::Mutex;

use crate::recorder::{OpenSpan, SharedRef, SharedSpan};
use crate::tracing::call_site::{CallSite, SiteNumber};
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
    handles: Box<[Handles]>,
    owner: u32,
}

/// Optional parts of a table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TableParts {
    pub(super) has_timings: bool,
    /// Whether the table makes the ids.
    pub(super) has_handles: bool,
}

/// Handles of a span, and its id.
#[derive(Default)]
struct Handles {
    count: AtomicU32,
    /// Makes the ids of a place differ.
    generation: AtomicU32,
    /// Number of the call site.
    site: AtomicU32,
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
    pub(super) fn take(spans_max: usize, parts: TableParts) -> &'static Self {
        let buckets = (spans_max / BUCKET).next_power_of_two();
        let is_usable = |table: &&'static Self| {
            table.buckets.len() == buckets
                && table.timings.is_empty() != parts.has_timings
                && table.handles.is_empty() != parts.has_handles
        };
        let mut idle = IDLE.try_lock_for(LOCK_TIMEOUT);
        let found = idle.as_mut().and_then(|idle| {
            let index = idle.iter().position(is_usable)?;
            Some(idle.swap_remove(index))
        });
        found.unwrap_or_else(|| Box::leak(Box::new(Self::new(buckets, parts))))
    }

    fn new(buckets: usize, parts: TableParts) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let owner = NUMBER.fetch_add(1, Ordering::Relaxed);
        let spans = buckets * BUCKET;
        let timings = if parts.has_timings { spans } else { 0 };
        let handles = if parts.has_handles { spans } else { 0 };
        Self {
            buckets: iter::repeat_with(Bucket::new).take(buckets).collect(),
            spans: (0..spans).map(|_| SharedSpan::new(owner)).collect(),
            timings: iter::repeat_with(Timings::default).take(timings).collect(),
            handles: iter::repeat_with(Handles::default).take(handles).collect(),
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

// ---- Ids of the table's own ----

/// Buckets that are looked at for a new span: some beside the last one's, then others anywhere, in case
/// that a long row is full.
const BUCKETS_BESIDE: usize = 4;
const BUCKETS_ANYWHERE: usize = 100;

/// Id of a span that has no place.
pub(super) const NOWHERE: u64 = u64::MAX;

thread_local! {
    /// The bucket that had room for this thread's last span; 0 at first. Has no destructor, so it can be used
    /// until the thread has ended.
    static BUCKET_OF_THREAD: Cell<usize> = const { Cell::new(0) };
}

impl SpanTable {
    /// Takes a place for a span that starts, with one handle, and makes its id.
    #[inline(always)]
    pub(super) fn claim_new(&'static self) -> Option<(ClaimedPlace, u64)> {
        let first = match BUCKET_OF_THREAD.get() {
            0 => first_bucket_of_thread(),
            bucket => bucket,
        };
        match self.claim_new_in(first) {
            Some(claimed) => Some(claimed),
            None => self.claim_new_elsewhere(first),
        }
    }

    #[cold]
    #[inline(never)]
    fn claim_new_elsewhere(&'static self, first: usize) -> Option<(ClaimedPlace, u64)> {
        let beside = (1..=BUCKETS_BESIDE).map(|offset| first.wrapping_add(offset));
        let mut random = first as u64;
        let anywhere = iter::repeat_with(|| {
            // A linear congruential generator, by Knuth.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize
        });
        let mut buckets = beside.chain(anywhere.take(BUCKETS_ANYWHERE));
        buckets.find_map(|bucket| {
            let claimed = self.claim_new_in(bucket)?;
            BUCKET_OF_THREAD.set(bucket.max(1));
            Some(claimed)
        })
    }

    #[inline(always)]
    fn claim_new_in(&'static self, bucket: usize) -> Option<(ClaimedPlace, u64)> {
        let bucket = bucket & (self.buckets.len() - 1);
        let ids = self.buckets[bucket].0.iter().enumerate();
        let mut free = ids.filter(|(_, id)| id.load(Ordering::Relaxed) == 0);
        free.find_map(|(index, place)| {
            let index = bucket * BUCKET + index;
            let handles = &self.handles[index];
            let generation = handles.generation.load(Ordering::Relaxed).wrapping_add(1);
            let id = u64::from(generation) << 32 | (index as u64 + 1);
            place
                .compare_exchange(0, id, Ordering::Acquire, Ordering::Relaxed)
                .ok()?;
            handles.generation.store(generation, Ordering::Relaxed);
            handles.count.store(1, Ordering::Relaxed);
            let place = SpanPlace(index);
            Some((ClaimedPlace { table: self, place }, id))
        })
    }

    /// Returns the place of an open span with an id of this table's.
    #[inline(always)]
    pub(super) fn find_own(&self, id: u64) -> Option<SpanPlace> {
        let index = (id as u32 as usize).wrapping_sub(1);
        let bucket = self.buckets.get(index / BUCKET)?;
        let is_open = bucket.0[index % BUCKET].load(Ordering::Acquire) == id;
        is_open.then_some(SpanPlace(index))
    }

    pub(super) fn set_site(&self, place: SpanPlace, site: &'static CallSite) {
        let number = site.number.to_bits();
        self.handles[place.0].site.store(number, Ordering::Relaxed);
    }

    /// Returns id and call site of an open span of this table.
    pub(super) fn id_and_site(&self, span: SharedRef) -> Option<(u64, &'static CallSite)> {
        let first = self.spans.as_ptr().addr();
        let offset = std::ptr::from_ref(span.place()).addr().checked_sub(first)?;
        let index = offset / size_of::<SharedSpan>();
        let number = self.handles.get(index)?.site.load(Ordering::Relaxed);
        let id = self.buckets[index / BUCKET].0[index % BUCKET].load(Ordering::Acquire);
        let site = CallSite::by_number(SiteNumber::from_bits(number))?;
        (id != 0 && span.is_open()).then_some((id, site))
    }

    /// Adds a handle.
    #[inline(always)]
    pub(super) fn add_handle(&self, place: SpanPlace) {
        self.handles[place.0].count.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes a handle. Returns whether it was the last.
    #[inline(always)]
    pub(super) fn remove_handle(&self, place: SpanPlace) -> bool {
        let is_last = self.handles[place.0].count.fetch_sub(1, Ordering::Release) == 1;
        if is_last {
            // Sees all that other threads did with the span.
            fence(Ordering::Acquire);
        }
        is_last
    }
}

#[cold]
fn first_bucket_of_thread() -> usize {
    const ODD: usize = 0x9e37_79b1;
    static THREADS: AtomicU32 = AtomicU32::new(1);
    let thread = THREADS.fetch_add(1, Ordering::Relaxed) as usize;
    // Never 0, and far from those of other threads.
    thread.wrapping_mul(ODD) >> 8 & 0xff_ffff | 1
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
