//! The counters of both sides, from which the [`Ledger`] is made.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use crate::stats::ledger::{
    DestinationLedger, DroppedSpans, Ledger, RefusedSpans, SampledOutSpans,
};
use crate::stats::refused::Refused;
use crate::stats::{Account, ExportCounts, OpenSpanCounts, ParentOrigin};

/// A number that one thread adds to and others read.
///
/// A release store instead of an atomic addition: the writer is alone, so nothing is lost.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.set(self.0.load(Ordering::Relaxed) + more);
    }

    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Counters of one recorder.
#[derive(Debug, Default)]
pub(crate) struct RecorderCounters {
    accepted: Counter,
    /// By [`Refused::index`].
    refused: [Counter; Refused::REASONS],
    /// Spans that the sampler has chosen, and those it has not, by [`Origin`].
    started: [Counter; 3],
    sampled_out_at_start: [Counter; 3],
    ended: Counter,
    sampled_out_at_end: Counter,
    held: Counter,
    without_memory: Counter,
    /// Of the accepted spans, those that the network thread took; it alone writes this.
    pub(crate) taken: CachePadded<Counter>,
}

impl RecorderCounters {
    /// Spans accepted and not yet taken.
    pub(crate) fn waiting(&self) -> u64 {
        // Read first: it never overtakes what is accepted.
        let taken = self.taken.get();
        self.accepted.get() - taken
    }

    /// Called before the span is committed, so that it is never delivered before it is accepted.
    #[inline]
    pub(crate) fn accept(&self) {
        self.accepted.add(1);
    }

    #[cold]
    pub(crate) fn refuse(&self, why: Refused) {
        self.refused[why.index()].add(1);
    }

    /// A span was started, and the sampler has chosen it.
    #[inline]
    pub(crate) fn start(&self, origin: ParentOrigin) {
        self.started[origin as usize].add(1);
    }

    /// A span that the sampler has chosen has ended here, wherever it was started.
    #[inline]
    pub(crate) fn end(&self) {
        self.ended.add(1);
    }

    /// The sampler did not choose a span.
    #[inline]
    pub(crate) fn leave_out(&self, origin: ParentOrigin) {
        self.sampled_out_at_start[origin as usize].add(1);
    }

    /// So many spans of a held trace were dropped.
    pub(crate) fn sample_out(&self, spans: u64) {
        self.sampled_out_at_end.add(spans);
    }

    /// So many spans are held back now.
    pub(crate) fn hold(&self, spans: u64) {
        self.held.set(spans);
    }

    /// There was no memory for a span's data.
    #[cold]
    pub(crate) fn miss_memory(&self) {
        self.without_memory.add(1);
    }

    fn add_to(&self, sum: &mut Intake) {
        sum.accepted += self.accepted.get();
        for (sum, refused) in sum.refused.iter_mut().zip(&self.refused) {
            *sum += refused.get();
        }
        // Before those that were started: none of them ends before.
        sum.open_spans.ended += self.ended.get();
        for origin in 0..self.started.len() {
            let unsampled = self.sampled_out_at_start[origin].get();
            sum.sampled_out.at_start += unsampled;
            sum.open_spans.unsampled[origin] += unsampled;
            sum.open_spans.sampled[origin] += self.started[origin].get();
        }
        sum.sampled_out.at_end += self.sampled_out_at_end.get();
        sum.held += self.held.get();
        sum.without_memory += self.without_memory.get();
    }
}

/// The sums of the recorders' counters.
#[derive(Clone, Copy, Debug, Default)]
struct Intake {
    accepted: u64,
    /// By [`Refused::index`].
    refused: [u64; Refused::REASONS],
    sampled_out: SampledOutSpans,
    held: u64,
    without_memory: u64,
    open_spans: OpenSpanCounts,
}

/// Counters of one destination; the network thread is the only writer.
#[derive(Debug, Default)]
pub(crate) struct DestinationCounters {
    pub(crate) destination: String,
    pub(crate) delivered: Counter,
    pub(crate) rejected: Counter,
    pub(crate) dropped_retries: Counter,
    /// Of spans that no endpoint was given.
    pub(crate) waiting_dropped_overflow: Counter,
    pub(crate) waiting_dropped_shut_down: Counter,
    pub(crate) in_flight: Counter,
    /// Spans that an endpoint was given at least once, and of these, what was dropped.
    pub(crate) begun: Counter,
    pub(crate) begun_dropped_overflow: Counter,
    pub(crate) begun_dropped_shut_down: Counter,
}

impl DestinationCounters {
    pub(crate) fn dropped(&self) -> DroppedSpans {
        self.snapshot().0.dropped
    }

    /// The ledger of one destination, except its buffered spans, and its exports.
    ///
    /// Each counter is read once. Outcomes are read before what is in flight or was begun, and the
    /// writer moves spans the other way round, so that no span is ever counted twice.
    fn snapshot(&self) -> (DestinationLedger, ExportCounts) {
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
        let exports = ExportCounts {
            begun: self.begun.get(),
            dropped: dropped_begun,
        };
        (ledger, exports)
    }
}

/// All counters of a collector, read and counted without a lock: so a fork, in which no other
/// thread lets go of one, has them too.
#[derive(Debug)]
pub(crate) struct Counters {
    /// For as many recorders as there can be, filled from the first on. A recorder goes on with the
    /// numbers of one that is gone, so that nothing is moved and the sums only grow.
    places: Box<[OnceLock<Place>]>,
    /// Places that are taken, or will be right now.
    recorders: AtomicUsize,
    pub(crate) destinations: Vec<Arc<DestinationCounters>>,
    /// Refused where no recorder could be had, by [`Refused::index`].
    refused_without_recorder: [AtomicU64; Refused::REASONS],
    ended_detached: AtomicU64,
    /// The network thread is gone: whatever still waits will not be delivered.
    ended: AtomicBool,
}

/// The counters of one recorder at a time.
#[derive(Debug, Default)]
struct Place {
    is_taken: AtomicBool,
    counters: Arc<CachePadded<RecorderCounters>>,
}

impl Place {
    fn take(&self) -> bool {
        // Acquire: what the recorder before has counted is seen.
        !self.is_taken.load(Ordering::Relaxed) && !self.is_taken.swap(true, Ordering::Acquire)
    }
}

impl Counters {
    /// For at most so many recorders.
    pub(crate) fn new(destinations: Vec<Arc<DestinationCounters>>, recorders_max: usize) -> Self {
        Self {
            places: (0..recorders_max).map(|_| OnceLock::new()).collect(),
            recorders: AtomicUsize::new(0),
            destinations,
            refused_without_recorder: Default::default(),
            ended_detached: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }

    /// Counters for a new recorder, or `None` if there are `max` already.
    pub(crate) fn register(&self, max: usize) -> Option<Arc<CachePadded<RecorderCounters>>> {
        let max = max.min(self.places.len());
        let one_more = |recorders| (recorders < max).then_some(recorders + 1);
        let taken = (self.recorders).fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok()?;
        // One is free, since fewer were counted than there are; it may just have been passed by.
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

    /// Keeps a recorder's numbers beyond its end.
    pub(crate) fn retire(&self, counters: &Arc<CachePadded<RecorderCounters>>) {
        let of_recorder = |place: &&Place| Arc::ptr_eq(&place.counters, counters);
        if let Some(place) = self.places().find(of_recorder) {
            place.is_taken.store(false, Ordering::Release);
            self.recorders.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Those that were ever taken.
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().map_while(OnceLock::get)
    }

    /// Counts a refusal where no recorder could be had.
    #[cold]
    pub(crate) fn refuse_without_recorder(&self, why: Refused) {
        self.refused_without_recorder[why.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// A sampled span has ended that belonged to no recorder.
    pub(crate) fn end_detached(&self) {
        self.ended_detached.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing more will be delivered.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.account().ledger
    }

    /// All numbers.
    pub(crate) fn account(&self) -> Account {
        let ended = self.ended.load(Ordering::Acquire);
        let ended_detached = self.ended_detached.load(Ordering::Relaxed);
        let (destinations, mut exports): (Vec<_>, Vec<_>) =
            self.destinations.iter().map(|c| c.snapshot()).unzip();
        if ended {
            let pairs = exports.iter_mut().zip(&destinations);
            pairs.for_each(|(exports, destination)| exports.close(destination));
        }
        // Last, so that it covers every span that has an outcome above.
        let mut intake = self.intake();
        intake.open_spans.ended += ended_detached;
        let ledger = Ledger {
            accepted: intake.accepted,
            refused: RefusedSpans::from_counts(intake.refused),
            sampled_out: intake.sampled_out,
            held: intake.held,
            destinations: destinations
                .into_iter()
                .map(|destination| destination.close(intake.accepted, ended))
                .collect(),
        };
        Account {
            ledger,
            exports,
            open_spans: intake.open_spans,
            spans_without_memory: intake.without_memory,
        }
    }

    /// Spans refused and spans without memory so far.
    pub(crate) fn lost(&self) -> (RefusedSpans, u64) {
        let intake = self.intake();
        (
            RefusedSpans::from_counts(intake.refused),
            intake.without_memory,
        )
    }

    fn intake(&self) -> Intake {
        let mut intake = Intake::default();
        let others = intake
            .refused
            .iter_mut()
            .zip(&self.refused_without_recorder);
        others.for_each(|(sum, refused)| *sum += refused.load(Ordering::Relaxed));
        (self.places()).for_each(|place| place.counters.add_to(&mut intake));
        intake
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_closes_while_spans_are_under_way_and_after_the_end() {
        let endpoint = Arc::new(DestinationCounters::default());
        let counters = Counters::new(vec![Arc::clone(&endpoint)], 2);
        let recorder = counters.register(1).unwrap();
        assert!(counters.register(1).is_none());
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
        counters.end();
        let ledger = counters.ledger();
        assert_eq!((ledger.accepted, ledger.refused.unknown_scope), (10, 1));
        assert_eq!((ledger.dropped(), ledger.pending()), (7, 0));
    }

    #[test]
    fn a_recorder_goes_on_with_the_numbers_of_one_that_is_gone() {
        let counters = Counters::new(Vec::new(), 2);
        let (first, second) = (counters.register(9).unwrap(), counters.register(9).unwrap());
        assert!(counters.register(9).is_none());
        first.accept();
        second.refuse(Refused::NoSlab);
        counters.retire(&first);
        let third = counters.register(2).unwrap();
        assert!(counters.register(9).is_none());
        third.accept();
        counters.refuse_without_recorder(Refused::NoRecorder);
        let ledger = counters.ledger();
        assert_eq!((ledger.accepted, ledger.refused.total()), (2, 2));
        assert_eq!((ledger.refused.no_slab, ledger.refused.no_recorder), (1, 1));
    }
}
