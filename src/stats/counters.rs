//! Counters of recorders and of the network thread, from which the [`Ledger`] is computed.

use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use crate::stats::ledger::{
    DestinationLedger, DroppedSpans, Ledger, RefusedSpans, SampledOutSpans,
};
use crate::stats::refused::Refused;
use crate::stats::{Account, ExportedSpans, OpenSpanCounts, ParentOrigin};

/// A counter with one writer.
///
/// With a single writer, a release store replaces an atomic addition.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.set(self.0.load(Ordering::Relaxed).wrapping_add(more));
    }

    /// Subtracts what was added to another counter of the same sum; so this one may wrap around.
    #[inline]
    fn subtract(&self, fewer: u64) {
        self.set(self.0.load(Ordering::Relaxed).wrapping_sub(fewer));
    }

    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Adds another counter to one that several threads write.
    fn absorb(&self, other: &Self) {
        self.0.fetch_add(other.get(), Ordering::Release);
    }
}

/// Counters of one recorder. Those that every span counts are in the first cache line.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct RecorderCounters {
    accepted: Counter,
    /// Sampled spans, and unsampled ones, by [`ParentOrigin`].
    started: [Counter; 3],
    sampled_out_at_start: [Counter; 3],
    ended: Counter,
    /// By [`Refused::index`].
    refused: [Counter; Refused::REASONS],
    sampled_out_at_end: Counter,
    held: Counter,
    spans_kept_early: Counter,
    without_memory: Counter,
    /// Accepted spans that the network thread has read. The network thread is the only writer.
    pub(crate) taken: CachePadded<Counter>,
}

const _: () = assert!(offset_of!(RecorderCounters, refused) == 64);

impl RecorderCounters {
    /// Returns the accepted spans that the network thread has not read.
    pub(crate) fn waiting(&self) -> u64 {
        // Read first, so that it is at most `accepted`.
        let taken = self.taken.get();
        self.accepted.get() - taken
    }

    /// Counts a span before it is committed, so that it is never delivered before it is accepted.
    #[inline]
    pub(crate) fn accept(&self) {
        self.accepted.add(1);
    }

    #[cold]
    pub(crate) fn refuse(&self, why: Refused) {
        self.refused[why.index()].add(1);
    }

    /// Counts the start of a sampled span.
    #[inline]
    pub(crate) fn start(&self, origin: ParentOrigin) {
        self.started[origin as usize].add(1);
    }

    /// Counts the end of a sampled span, which may have started on another recorder.
    #[inline]
    pub(crate) fn end(&self) {
        self.ended.add(1);
    }

    /// Counts the start of an unsampled span.
    #[inline]
    pub(crate) fn count_unsampled(&self, origin: ParentOrigin) {
        self.sampled_out_at_start[origin as usize].add(1);
    }

    /// Counts spans of a held trace that is not kept.
    pub(crate) fn sample_out(&self, spans: u64) {
        self.sampled_out_at_end.add(spans);
    }

    /// Counts spans that are held from now on.
    pub(crate) fn hold(&self, spans: u64) {
        self.held.add(spans);
    }

    /// Counts spans that are no longer held.
    pub(crate) fn release(&self, spans: u64) {
        self.held.subtract(spans);
    }

    /// Counts spans of a held trace that was kept before its local root ended, for lack of memory.
    #[cold]
    pub(crate) fn keep_early(&self, spans: u64) {
        self.spans_kept_early.add(spans);
    }

    /// Takes back that a span was started, whose parent changed.
    #[cold]
    pub(crate) fn take_back_start(&self, origin: ParentOrigin, is_sampled: bool) {
        let counters = if is_sampled {
            &self.started
        } else {
            &self.sampled_out_at_start
        };
        counters[origin as usize].subtract(1);
    }

    /// Counts a span without memory for its data.
    #[cold]
    pub(crate) fn count_without_memory(&self) {
        self.without_memory.add(1);
    }

    /// Adds the counters of a recorder that has read and delivered nothing.
    fn absorb(&self, other: &Self) {
        let groups = [
            (&self.refused[..], &other.refused[..]),
            (&self.started, &other.started),
            (&self.sampled_out_at_start, &other.sampled_out_at_start),
        ];
        for (sums, others) in groups {
            let counters = sums.iter().zip(others);
            counters.for_each(|(sum, other)| sum.absorb(other));
        }
        // After the starts, as they are read.
        self.ended.absorb(&other.ended);
        self.accepted.absorb(&other.accepted);
        self.sampled_out_at_end.absorb(&other.sampled_out_at_end);
        self.held.absorb(&other.held);
        self.spans_kept_early.absorb(&other.spans_kept_early);
        self.without_memory.absorb(&other.without_memory);
    }

    fn add_to(&self, sum: &mut Intake) {
        sum.accepted += self.accepted.get();
        for (sum, refused) in sum.refused.iter_mut().zip(&self.refused) {
            *sum += refused.get();
        }
        // Read before the starts, so that no span ends before it starts.
        sum.open_spans.ended += self.ended.get();
        for origin in 0..self.started.len() {
            let unsampled = self.sampled_out_at_start[origin].get();
            // Each counter alone may wrap around, see `Counter::subtract`.
            let unsampled_sum = &mut sum.open_spans.unsampled[origin];
            *unsampled_sum = unsampled_sum.wrapping_add(unsampled);
            let sampled_sum = &mut sum.open_spans.sampled[origin];
            *sampled_sum = sampled_sum.wrapping_add(self.started[origin].get());
        }
        sum.sampled_out.at_end += self.sampled_out_at_end.get();
        sum.held = sum.held.wrapping_add(self.held.get());
        sum.spans_kept_early += self.spans_kept_early.get();
        sum.without_memory += self.without_memory.get();
    }
}

/// Sums of the recorders' counters.
#[derive(Clone, Copy, Debug, Default)]
struct Intake {
    accepted: u64,
    /// By [`Refused::index`].
    refused: [u64; Refused::REASONS],
    sampled_out: SampledOutSpans,
    held: u64,
    spans_kept_early: u64,
    without_memory: u64,
    open_spans: OpenSpanCounts,
}

impl Intake {
    /// Completes the sums of counters that may wrap around. A difference may be read before the number
    /// that it belongs to; then the sum is 0.
    fn settle(&mut self) {
        let settle = |sum: &mut u64| *sum = (*sum).cast_signed().max(0).cast_unsigned();
        self.open_spans.sampled.iter_mut().for_each(settle);
        self.open_spans.unsampled.iter_mut().for_each(settle);
        settle(&mut self.held);
        self.sampled_out.at_start = self.open_spans.unsampled.iter().sum();
    }
}

/// Counters of one destination. The network thread is the only writer.
#[derive(Debug, Default)]
pub(crate) struct DestinationCounters {
    pub(crate) destination: String,
    pub(crate) delivered: Counter,
    pub(crate) rejected: Counter,
    pub(crate) dropped_retries: Counter,
    /// Dropped spans that were never part of a request.
    pub(crate) waiting_dropped_overflow: Counter,
    pub(crate) waiting_dropped_shut_down: Counter,
    pub(crate) in_flight: Counter,
    /// Spans that were part of a request at least once, and the dropped ones of these.
    pub(crate) begun: Counter,
    pub(crate) begun_dropped_overflow: Counter,
    pub(crate) begun_dropped_shut_down: Counter,
}

impl DestinationCounters {
    pub(crate) fn dropped(&self) -> DroppedSpans {
        self.snapshot().0.dropped
    }

    /// Returns the ledger of one destination, except its buffered spans, and its exports.
    ///
    /// Each counter is read once. Outcomes are read before spans in flight and begun ones, and the writer
    /// moves spans in the opposite order, so that no span is counted twice.
    fn snapshot(&self) -> (DestinationLedger, ExportedSpans) {
        let dropped_begun = DroppedSpans {
            overflow: self.begun_dropped_overflow.get(),
            retries: self.dropped_retries.get(),
            shut_down: self.begun_dropped_shut_down.get(),
        };
        let ledger = DestinationLedger {
            destination: self.destination.clone(),
            delivered: self.delivered.get(),
            rejected: self.rejected.get(),
            dropped: DroppedSpans {
                overflow: dropped_begun.overflow + self.waiting_dropped_overflow.get(),
                retries: dropped_begun.retries,
                shut_down: dropped_begun.shut_down + self.waiting_dropped_shut_down.get(),
            },
            in_flight: self.in_flight.get(),
            buffered: 0,
        };
        let exports = ExportedSpans {
            begun: self.begun.get(),
            dropped: dropped_begun,
        };
        (ledger, exports)
    }
}

/// All counters of a collector. They need no lock, which another thread could have held at a fork, so a
/// fork can read them.
#[derive(Debug)]
pub(crate) struct Counters {
    /// One place for each possible recorder, filled in order. A new recorder continues the counters of a
    /// dropped one, so that the sums only grow.
    places: Box<[OnceLock<Place>]>,
    /// Sums of recorders that had no place.
    without_place: RecorderCounters,
    /// Places in use or about to be.
    recorders: AtomicUsize,
    pub(crate) destinations: Vec<Arc<DestinationCounters>>,
    /// Spans refused without a recorder, by [`Refused::index`].
    refused_without_recorder: [AtomicU64; Refused::REASONS],
    /// Whether the network thread has ended, so that waiting spans are lost.
    closed: AtomicBool,
}

/// The counters of one recorder at a time.
#[derive(Debug, Default)]
struct Place {
    is_taken: AtomicBool,
    counters: Arc<CachePadded<RecorderCounters>>,
}

impl Place {
    fn take(&self) -> bool {
        // Acquire: the counts of the recorder before are visible.
        !self.is_taken.load(Ordering::Relaxed) && !self.is_taken.swap(true, Ordering::Acquire)
    }
}

impl Counters {
    /// Creates counters for at most `recorders_max` recorders.
    pub(crate) fn new(destinations: Vec<Arc<DestinationCounters>>, recorders_max: usize) -> Self {
        Self {
            places: (0..recorders_max).map(|_| OnceLock::new()).collect(),
            without_place: RecorderCounters::default(),
            recorders: AtomicUsize::new(0),
            destinations,
            refused_without_recorder: Default::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Returns counters for a new recorder; `None` if all but that many `reserved` ones are in use.
    pub(crate) fn register(&self, reserved: usize) -> Option<Arc<CachePadded<RecorderCounters>>> {
        let max = self.places.len().saturating_sub(reserved);
        let one_more = |recorders| (recorders < max).then_some(recorders + 1);
        let taken = (self.recorders).fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok()?;
        // A place is free, because fewer were counted than exist, but the search may have passed it.
        loop {
            let mut places = self
                .places
                .iter()
                .map(|place| place.get_or_init(Place::default));
            if let Some(place) = places.find(|place| place.take()) {
                return Some(Arc::clone(&place.counters));
            }
        }
    }

    /// Keeps the counts of a dropped recorder.
    pub(crate) fn retire(&self, counters: &Arc<CachePadded<RecorderCounters>>) {
        let of_recorder = |place: &&Place| Arc::ptr_eq(&place.counters, counters);
        if let Some(place) = self.places().find(of_recorder) {
            place.is_taken.store(false, Ordering::Release);
            self.recorders.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Keeps the counts of a dropped recorder that had no place.
    pub(crate) fn absorb(&self, counters: &RecorderCounters) {
        self.without_place.absorb(counters);
    }

    /// Returns the places that were ever used.
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().map_while(OnceLock::get)
    }

    /// Counts a span refused without a recorder.
    #[cold]
    pub(crate) fn refuse_without_recorder(&self, why: Refused) {
        self.refused_without_recorder[why.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts spans without outcome as dropped from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.account().ledger
    }

    /// Returns the sums of all counters.
    pub(crate) fn account(&self) -> Account {
        let closed = self.closed.load(Ordering::Acquire);
        let (destinations, mut exports): (Vec<_>, Vec<_>) =
            self.destinations.iter().map(|c| c.snapshot()).unzip();
        if closed {
            let pairs = exports.iter_mut().zip(&destinations);
            pairs.for_each(|(exports, destination)| exports.close(destination));
        }
        // Read last, so that it includes every span with an outcome above.
        let intake = self.intake();
        let ledger = Ledger {
            accepted: intake.accepted,
            refused: RefusedSpans::from_counts(intake.refused),
            sampled_out: intake.sampled_out,
            held: intake.held,
            destinations: destinations
                .into_iter()
                .map(|destination| destination.close(intake.accepted, closed))
                .collect(),
        };
        Account {
            ledger,
            exports,
            open_spans: intake.open_spans,
            spans_without_memory: intake.without_memory,
            spans_kept_early: intake.spans_kept_early,
        }
    }

    /// Returns the refused spans, the spans without memory, and those kept early.
    pub(crate) fn lost(&self) -> (RefusedSpans, u64, u64) {
        let intake = self.intake();
        (
            RefusedSpans::from_counts(intake.refused),
            intake.without_memory,
            intake.spans_kept_early,
        )
    }

    fn intake(&self) -> Intake {
        let mut intake = Intake::default();
        let others = intake
            .refused
            .iter_mut()
            .zip(&self.refused_without_recorder);
        others.for_each(|(sum, refused)| *sum += refused.load(Ordering::Relaxed));
        self.without_place.add_to(&mut intake);
        (self.places()).for_each(|place| place.counters.add_to(&mut intake));
        intake.settle();
        intake
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_closes_with_spans_in_flight_and_after_the_end() {
        let endpoint = Arc::new(DestinationCounters::default());
        let counters = Counters::new(vec![Arc::clone(&endpoint)], 1);
        let recorder = counters.register(0).unwrap();
        (0..10).for_each(|_| recorder.accept());
        recorder.refuse(Refused::UnknownScope);
        endpoint.delivered.add(3);
        endpoint.in_flight.set(2);

        let ledger = counters.ledger();
        assert_eq!((ledger.accepted, ledger.refused.unknown_scope), (10, 1));
        assert_eq!((ledger.delivered(), ledger.pending()), (3, 7));
        assert_eq!(ledger.destinations[0].buffered, 5);

        counters.retire(&recorder);
        endpoint.in_flight.set(0);
        counters.close();
        let ledger = counters.ledger();
        assert_eq!((ledger.accepted, ledger.refused.unknown_scope), (10, 1));
        assert_eq!((ledger.dropped(), ledger.pending()), (7, 0));
    }

    #[test]
    fn a_new_recorder_continues_the_counters_of_a_dropped_one() {
        let counters = Counters::new(Vec::new(), 2);
        let (first, second) = (counters.register(0).unwrap(), counters.register(0).unwrap());
        assert!(counters.register(0).is_none());
        first.accept();
        second.refuse(Refused::NoSlab);
        counters.retire(&first);
        let third = counters.register(0).unwrap();
        assert!(counters.register(0).is_none());
        third.accept();
        counters.refuse_without_recorder(Refused::NoRecorder);
        let ledger = counters.ledger();
        assert_eq!((ledger.accepted, ledger.refused.total()), (2, 2));
        assert_eq!((ledger.refused.no_slab, ledger.refused.no_recorder), (1, 1));
    }
}
