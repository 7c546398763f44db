//! The numbers: counters of both sides, the [`Ledger`] made from them, and [`Stats`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::health::{DestinationHealth, EndpointHealth};
use crate::refused::Refused;

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

/// What one recorder counts.
#[derive(Debug, Default)]
pub(crate) struct RecorderCounters {
    accepted: Counter,
    refused_buffer_full: Counter,
    refused_too_large: Counter,
    refused_invalid_id: Counter,
    refused_unknown_scope: Counter,
    refused_shut_down: Counter,
    /// Spans that the sampler has chosen, and those it has not, by [`Origin`].
    started: [Counter; 3],
    sampled_out_at_start: [Counter; 3],
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
        match why {
            Refused::BufferFull => &self.refused_buffer_full,
            Refused::TooLarge { .. } => &self.refused_too_large,
            Refused::InvalidId => &self.refused_invalid_id,
            Refused::UnknownScope => &self.refused_unknown_scope,
            Refused::ShutDown => &self.refused_shut_down,
        }
        .add(1);
    }

    /// A span was started, and the sampler has chosen it.
    #[inline]
    pub(crate) fn start(&self, origin: Origin) {
        self.started[origin as usize].add(1);
    }

    /// The sampler did not choose a span.
    #[inline]
    pub(crate) fn leave_out(&self, origin: Origin) {
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

    /// There was no memory for what a span says.
    #[cold]
    pub(crate) fn miss_memory(&self) {
        self.without_memory.add(1);
    }

    fn add_to(&self, ledger: &mut Intake) {
        ledger.accepted += self.accepted.get();
        ledger.refused.buffer_full += self.refused_buffer_full.get();
        ledger.refused.too_large += self.refused_too_large.get();
        ledger.refused.invalid_id += self.refused_invalid_id.get();
        ledger.refused.unknown_scope += self.refused_unknown_scope.get();
        ledger.refused.shut_down += self.refused_shut_down.get();
        for origin in 0..self.started.len() {
            let unsampled = self.sampled_out_at_start[origin].get();
            ledger.sampled_out.at_start += unsampled;
            ledger.started.unsampled[origin] += unsampled;
            ledger.started.sampled[origin] += self.started[origin].get();
        }
        ledger.sampled_out.at_end += self.sampled_out_at_end.get();
        ledger.held += self.held.get();
        ledger.without_memory += self.without_memory.get();
    }
}

/// What the recorders' counters sum up to.
#[derive(Clone, Copy, Debug, Default)]
struct Intake {
    accepted: u64,
    refused: RefusedSpans,
    sampled_out: SampledOutSpans,
    held: u64,
    without_memory: u64,
    started: StartedSpans,
}

/// Where the parent of a started span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// There is none.
    None,
    Local,
    Remote,
}

/// Open spans that were started, by where their parent is: nowhere, in this process, in another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StartedSpans {
    pub(crate) sampled: [u64; 3],
    pub(crate) unsampled: [u64; 3],
}

/// What the network thread counts for one destination; it is the only writer.
#[derive(Debug, Default)]
pub(crate) struct DestinationCounters {
    pub(crate) destination: String,
    pub(crate) delivered: Counter,
    pub(crate) rejected: Counter,
    pub(crate) dropped_overflow: Counter,
    pub(crate) dropped_retries: Counter,
    pub(crate) dropped_shut_down: Counter,
    pub(crate) in_flight: Counter,
}

impl DestinationCounters {
    /// The ledger's side of one destination, but for what is buffered.
    ///
    /// Outcomes are read before what is in flight, and the writer moves spans the other way
    /// round, so that no span is ever counted twice.
    fn snapshot(&self) -> DestinationLedger {
        DestinationLedger {
            destination: self.destination.clone(),
            delivered: self.delivered.get(),
            rejected: self.rejected.get(),
            dropped: DroppedSpans {
                overflow: self.dropped_overflow.get(),
                retries: self.dropped_retries.get(),
                shut_down: self.dropped_shut_down.get(),
            },
            in_flight: self.in_flight.get(),
            buffered: 0,
        }
    }
}

/// All counters of a collector.
#[derive(Debug)]
pub(crate) struct Counters {
    recorders: Mutex<Recorders>,
    pub(crate) destinations: Vec<Arc<DestinationCounters>>,
    /// The network thread is gone: whatever still waits will not be delivered.
    ended: AtomicBool,
}

/// The counters of living recorders, and the sum of those that are gone.
#[derive(Debug, Default)]
struct Recorders {
    living: Vec<Arc<CachePadded<RecorderCounters>>>,
    gone: Intake,
}

impl Counters {
    pub(crate) fn new(destinations: Vec<Arc<DestinationCounters>>) -> Self {
        Self {
            recorders: Mutex::default(),
            destinations,
            ended: AtomicBool::new(false),
        }
    }

    /// Counters for a new recorder, or `None` if there are `max` already.
    pub(crate) fn register(&self, max: usize) -> Option<Arc<CachePadded<RecorderCounters>>> {
        let mut recorders = self.recorders.lock();
        if recorders.living.len() >= max {
            return None;
        }
        let counters = Arc::default();
        recorders.living.push(Arc::clone(&counters));
        Some(counters)
    }

    /// Keeps a recorder's numbers beyond its end.
    pub(crate) fn retire(&self, counters: &Arc<CachePadded<RecorderCounters>>) {
        let mut recorders = self.recorders.lock();
        counters.add_to(&mut recorders.gone);
        recorders
            .living
            .retain(|other| !Arc::ptr_eq(other, counters));
    }

    /// Counts a refusal where no recorder could be had.
    #[cold]
    pub(crate) fn refuse_without_recorder(&self, why: Refused) {
        let counters = RecorderCounters::default();
        counters.refuse(why);
        counters.add_to(&mut self.recorders.lock().gone);
    }

    /// Nothing more will be delivered.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let (ledger, _) = self
            .close(|| Some(self.intake()))
            .expect("it is waited for");
        ledger
    }

    /// The ledger and what was started, unless somebody else is at the counters right now.
    pub(crate) fn try_ledger(&self) -> Option<(Ledger, StartedSpans)> {
        let intake = || Some(self.recorders.try_lock()?.intake());
        let (ledger, intake) = self.close(intake)?;
        Some((ledger, intake.started))
    }

    fn close(&self, intake: impl FnOnce() -> Option<Intake>) -> Option<(Ledger, Intake)> {
        let ended = self.ended.load(Ordering::Acquire);
        let destinations: Vec<_> = self.destinations.iter().map(|c| c.snapshot()).collect();
        // Last, so that it covers every span that has an outcome above.
        let intake = intake()?;
        let ledger = Ledger {
            accepted: intake.accepted,
            refused: intake.refused,
            sampled_out: intake.sampled_out,
            held: intake.held,
            destinations: destinations
                .into_iter()
                .map(|destination| destination.close(intake.accepted, ended))
                .collect(),
        };
        Some((ledger, intake))
    }

    /// Spans that there was no memory for to say anything in.
    pub(crate) fn spans_without_memory(&self) -> u64 {
        self.intake().without_memory
    }

    pub(crate) fn started(&self) -> StartedSpans {
        self.intake().started
    }

    /// Spans refused so far, unless somebody else is at the counters right now.
    pub(crate) fn refused_now(&self) -> Option<u64> {
        let recorders = self.recorders.try_lock()?;
        Some(recorders.intake().refused.total())
    }

    fn intake(&self) -> Intake {
        self.recorders.lock().intake()
    }
}

impl Recorders {
    fn intake(&self) -> Intake {
        let mut intake = self.gone;
        let living = self.living.iter();
        living.for_each(|counters| counters.add_to(&mut intake));
        intake
    }
}

/// Where every span is: `accepted = delivered + rejected + dropped + in flight + buffered`, for
/// each destination, at any moment.
///
/// ```
/// # use otlp_collector::{DestinationLedger, Ledger};
/// # fn example(ledger: &Ledger) {
/// println!("{ledger}");
/// for destination in &ledger.destinations {
///     let DestinationLedger { in_flight, buffered, .. } = *destination;
///     assert_eq!(ledger.accepted, destination.settled() + in_flight + buffered);
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Spans for which recording returned `Ok`, but for those that are held or sampled out.
    pub accepted: u64,
    /// Spans for which recording returned [`Refused`](crate::Refused); not among the accepted.
    pub refused: RefusedSpans,
    /// Spans that were not to be sent; not among the accepted either.
    pub sampled_out: SampledOutSpans,
    /// Spans that ended and wait for their local root to decide about them
    /// ([`TailSampling`](crate::TailSampling)); not among the accepted yet.
    pub held: u64,
    /// What became of the accepted spans, for each destination.
    pub destinations: Vec<DestinationLedger>,
}

impl Ledger {
    /// Spans acknowledged, over all destinations.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.destinations.iter().map(|e| e.delivered).sum()
    }

    /// Spans refused by endpoints, over all destinations.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.destinations.iter().map(|e| e.rejected).sum()
    }

    /// Spans given up, over all destinations.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.destinations.iter().map(|e| e.dropped.total()).sum()
    }

    /// Spans on the way or waiting, over all destinations.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.destinations
            .iter()
            .map(|e| e.in_flight + e.buffered)
            .sum()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RefusedSpans {
            buffer_full,
            too_large,
            invalid_id,
            unknown_scope,
            shut_down,
        } = self.refused;
        let SampledOutSpans { at_start, at_end } = self.sampled_out;
        write!(
            f,
            "accepted {}, refused {} (buffer full {buffer_full}, too large {too_large}, \
             invalid id {invalid_id}, unknown scope {unknown_scope}, shut down {shut_down}), \
             sampled out {} (at start {at_start}, at end {at_end}), held {}",
            self.accepted,
            self.refused.total(),
            self.sampled_out.total(),
            self.held,
        )?;
        for destination in &self.destinations {
            write!(f, "; {destination}")?;
        }
        Ok(())
    }
}

/// Refused spans by reason: see [`Refused`](crate::Refused).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedSpans {
    /// The buffer was full.
    pub buffer_full: u64,
    /// Larger than a slab.
    pub too_large: u64,
    /// An id was all zeros.
    pub invalid_id: u64,
    /// The scope was another collector's.
    pub unknown_scope: u64,
    /// The collector was shut down.
    pub shut_down: u64,
}

impl RefusedSpans {
    /// The sum of all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.buffer_full + self.too_large + self.invalid_id + self.unknown_scope + self.shut_down
    }
}

/// Open spans that were not to be sent, by whose decision it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampledOutSpans {
    /// The sampler's, when they started.
    pub at_start: u64,
    /// Their local root's, by [`TailSampling`](crate::TailSampling).
    pub at_end: u64,
}

impl SampledOutSpans {
    /// The sum of both.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.at_start + self.at_end
    }
}

/// What became of the accepted spans at one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationLedger {
    /// The URLs of its endpoints, with commas between them.
    pub destination: String,
    /// Acknowledged with a success.
    pub delivered: u64,
    /// Refused by the endpoint: by a final error status, or in a partial success.
    pub rejected: u64,
    /// Given up by this side.
    pub dropped: DroppedSpans,
    /// In a request whose response is awaited.
    pub in_flight: u64,
    /// Waiting: in a recorder's slab, or for a connection, or to be sent again.
    pub buffered: u64,
}

impl DestinationLedger {
    /// Spans with a final outcome.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.delivered + self.rejected + self.dropped.total()
    }

    /// What was accepted and is nowhere else is buffered, or lost once the network thread ended.
    fn close(mut self, accepted: u64, ended: bool) -> Self {
        let waiting = accepted - self.settled() - self.in_flight;
        if ended {
            self.dropped.shut_down += waiting;
        } else {
            self.buffered = waiting;
        }
        self
    }
}

impl fmt::Display for DestinationLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: delivered {}, rejected {}, dropped {} (overflow {}, retries {}, shut down {}), \
             in flight {}, buffered {}",
            self.destination,
            self.delivered,
            self.rejected,
            self.dropped.total(),
            self.dropped.overflow,
            self.dropped.retries,
            self.dropped.shut_down,
            self.in_flight,
            self.buffered,
        )
    }
}

/// Spans given up, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedSpans {
    /// The oldest made room for the newest: with [`Overflow::DropOldest`](crate::Overflow), or at
    /// a destination that is behind the others ([`Destination`](crate::Destination)).
    pub overflow: u64,
    /// Their request failed for as long as
    /// [`retry_budget_ms`](crate::EndpointOptions::retry_budget_ms) says.
    pub retries: u64,
    /// Not delivered when the shutdown's deadline passed.
    pub shut_down: u64,
}

impl DroppedSpans {
    /// The sum of all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.overflow + self.retries + self.shut_down
    }
}

/// What the pipeline did so far: see [`Collector::stats`](crate::Collector::stats).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Where every span is.
    pub ledger: Ledger,
    /// The network thread's own numbers.
    pub network: NetworkStats,
    /// Open spans that began when [`Config::open_spans_max`](crate::Config::open_spans_max) were
    /// open on their recorder, and so lost nearly all that was said about them: raise it.
    pub spans_without_memory: u64,
    /// Spans that the buffer holds: see [`Config::buffer_capacity`](crate::Config::buffer_capacity).
    pub buffer_capacity: u64,
    pub(crate) started: StartedSpans,
}

/// What the network thread counts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NetworkStats {
    /// Requests that got a response.
    pub requests: u64,
    /// Requests that were put back to be sent again.
    pub retries: u64,
    /// Bytes of the bodies of answered requests.
    pub body_bytes: u64,
    /// When the last success was received, in Unix nanoseconds; 0 if there was none.
    pub last_success_time: u64,
    /// Bodies compressed: one for all endpoints that ask for the same and keep up with each other.
    pub compressed: u64,
    /// Connections established.
    pub connections: u64,
    /// Times the network thread was woken by a recorder.
    pub wake_ups: u64,
    /// Times the network thread panicked and went on, without losing a span: a bug in this
    /// library, please report it.
    pub panics: u64,
    /// The last error of a connection or response, in words.
    pub last_error: Option<String>,
    /// Of each destination.
    pub destinations: Vec<DestinationStats>,
    /// From a span's end to its acknowledgement, in microseconds, at most an hour. Of each request
    /// the spans of one batch are counted, of another in turn; spans without an end time are not.
    pub delivery_us: Histogram<u64>,
}

impl Default for NetworkStats {
    fn default() -> Self {
        Self {
            requests: 0,
            retries: 0,
            body_bytes: 0,
            last_success_time: 0,
            compressed: 0,
            connections: 0,
            wake_ups: 0,
            panics: 0,
            last_error: None,
            destinations: Vec::new(),
            delivery_us: delivery_histogram(),
        }
    }
}

/// What the network thread counts for one destination.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DestinationStats {
    /// The URLs of its endpoints, with commas between them.
    pub destination: String,
    /// Of each endpoint.
    pub endpoints: Vec<EndpointStats>,
}

impl DestinationStats {
    pub(crate) fn health(self) -> DestinationHealth {
        let endpoints = self.endpoints.into_iter();
        DestinationHealth {
            destination: self.destination,
            endpoints: endpoints.map(|endpoint| endpoint.health).collect(),
        }
    }
}

/// What the network thread counts for one endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointStats {
    /// The host of its URL.
    pub server_address: String,
    /// The port of its URL, or the default one.
    pub server_port: u16,
    /// How it is doing.
    pub health: EndpointHealth,
    /// Responses by status.
    pub responses: BTreeMap<u16, Responses>,
    /// Requests that got no response: the connection was broken or the time was over.
    pub unanswered: u64,
    /// Responses that led elsewhere and were followed.
    pub redirects: u64,
    /// Partial successes, which rejected spans or had something to say.
    pub partial_successes: u64,
    /// Bytes of the bodies of answered requests, before compression.
    pub body_bytes: u64,
    /// Connections established.
    pub connections: u64,
    /// When the last success was received, in Unix nanoseconds; 0 if there was none.
    pub last_success_time: u64,
    /// From a request's first byte to the end of its response, in microseconds, at most an hour.
    pub duration_us: Histogram<u64>,
}

/// Responses with the same status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Responses {
    /// How many there were.
    pub count: u64,
    /// From the first byte of their requests to the end of them, in microseconds, summed up.
    pub duration_us: u64,
    /// The shortest of these times.
    pub duration_us_min: u64,
    /// The longest.
    pub duration_us_max: u64,
}

impl Responses {
    pub(crate) fn add(&mut self, us: u64) {
        let min = if self.count == 0 {
            us
        } else {
            self.duration_us_min
        };
        self.count += 1;
        self.duration_us += us;
        self.duration_us_min = min.min(us);
        self.duration_us_max = self.duration_us_max.max(us);
    }
}

impl EndpointStats {
    pub(crate) fn new(endpoint: String, server_address: String, server_port: u16) -> Self {
        Self {
            server_address,
            server_port,
            health: EndpointHealth::new(endpoint),
            responses: BTreeMap::new(),
            unanswered: 0,
            redirects: 0,
            partial_successes: 0,
            body_bytes: 0,
            connections: 0,
            last_success_time: 0,
            duration_us: delivery_histogram(),
        }
    }
}

/// From 1 µs to an hour at two significant digits: fixed in size (about 40 KB).
fn delivery_histogram() -> Histogram<u64> {
    const HOUR_US: u64 = 3_600_000_000;
    Histogram::new_with_bounds(1, HOUR_US, 2).expect("the bounds are constants and valid")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_closes_while_spans_are_under_way_and_after_the_end() {
        let endpoint = Arc::new(DestinationCounters::default());
        let counters = Counters::new(vec![Arc::clone(&endpoint)]);
        let recorder = counters.register(1).unwrap();
        assert!(counters.register(1).is_none());
        (0..10).for_each(|_| recorder.accept());
        recorder.refuse(Refused::InvalidId);
        endpoint.delivered.add(3);
        endpoint.in_flight.set(2);

        let ledger = counters.ledger();
        assert_eq!((ledger.accepted, ledger.refused.invalid_id), (10, 1));
        assert_eq!((ledger.delivered(), ledger.pending()), (3, 7));
        assert_eq!(ledger.destinations[0].buffered, 5);

        counters.retire(&recorder);
        endpoint.in_flight.set(0);
        counters.end();
        let ledger = counters.ledger();
        assert_eq!((ledger.accepted, ledger.refused.invalid_id), (10, 1));
        assert_eq!((ledger.dropped(), ledger.pending()), (7, 0));
    }
}
