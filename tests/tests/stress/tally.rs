//! Counts attempted spans independently of the library, and checks ledgers against these counts.

use std::sync::atomic::{AtomicU64, Ordering};

use otlp_collector::{Ledger, OpenSpan, Refused};

/// Spans attempted on all threads.
///
/// Only the auditor loads with acquire, so that the counters do not synchronise the recording threads
/// and hide no data race from a sanitizer.
#[derive(Default)]
pub struct Tally {
    /// Spans started, counted before they start.
    attempted: AtomicU64,
    /// Spans ended, counted after they end.
    ended: AtomicU64,
    /// Recording spans that are leaked and never end.
    forgotten: AtomicU64,
    /// Finished spans for which recording returned `Ok`.
    accepted: AtomicU64,
    /// Spans for which a call returned `Refused`.
    refused: AtomicU64,
}

impl Tally {
    /// Counts spans that are about to begin.
    pub fn begin(&self, spans: u64) {
        self.attempted.fetch_add(spans, Ordering::Relaxed);
    }

    /// Takes back spans that were not started after all.
    pub fn retract(&self, spans: u64) {
        self.attempted.fetch_sub(spans, Ordering::Relaxed);
    }

    /// Counts spans that have ended without a result.
    pub fn end(&self, spans: u64) {
        self.ended.fetch_add(spans, Ordering::Release);
    }

    /// Counts the end of an open span.
    pub fn end_with(&self, result: Result<(), Refused>) {
        if result.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.end(1);
    }

    /// Records a finished span and counts it.
    pub fn record(&self, record: impl FnOnce() -> Result<(), Refused>) {
        self.begin(1);
        let result = record();
        if result.is_ok() {
            self.accepted.fetch_add(1, Ordering::Relaxed);
        }
        self.end_with(result);
    }

    /// Leaks an open span, which never ends then.
    pub fn forget(&self, span: OpenSpan) {
        self.count_forgotten(span.is_recording());
        std::mem::forget(span);
    }

    /// Counts a span that is about to be leaked. A span that does not record is counted already.
    pub fn count_forgotten(&self, is_recording: bool) {
        let counter = if is_recording {
            &self.forgotten
        } else {
            &self.ended
        };
        counter.fetch_add(1, Ordering::Release);
    }

    pub fn attempted(&self) -> u64 {
        self.attempted.load(Ordering::Acquire)
    }

    /// Checks the ledger of a collector that was shut down, after all threads have stopped
    /// recording.
    pub fn check_final(&self, ledger: &Ledger) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let (attempted, forgotten) = (self.attempted(), load(&self.forgotten));
        assert_eq!(load(&self.ended) + forgotten, attempted, "the program");
        assert_eq!(
            counted(ledger) + forgotten,
            attempted,
            "each span is in exactly one count ({forgotten} forgotten): {ledger}"
        );
        assert_eq!(ledger.held, 0, "{ledger}");
        assert!(ledger.accepted >= load(&self.accepted), "{ledger}");
        assert!(ledger.refused.total() >= load(&self.refused), "{ledger}");
        for destination in &ledger.destinations {
            assert_eq!(destination.settled(), ledger.accepted, "{destination}");
            let pending = destination.in_flight + destination.buffered;
            assert_eq!(pending, 0, "{destination}");
        }
    }
}

/// Returns the number of spans in counts that never fall.
fn counted(ledger: &Ledger) -> u64 {
    ledger.accepted + ledger.refused.total() + ledger.sampled_out.total()
}

/// Checks the successive ledgers of one thread.
pub struct Audit<'t> {
    tally: &'t Tally,
    /// Whether there is no tail sampling, so that each ended span is in a count that never falls.
    holds_none: bool,
    last: Ledger,
}

impl<'t> Audit<'t> {
    pub fn new(tally: &'t Tally, holds_none: bool) -> Self {
        Self {
            tally,
            holds_none,
            last: Ledger::default(),
        }
    }

    /// Gets a ledger and checks it.
    pub fn check(&mut self, get: impl FnOnce() -> Ledger) {
        let ended = self.tally.ended.load(Ordering::Acquire);
        let ledger = get();
        let attempted = self.tally.attempted();
        assert_closes(&ledger);
        assert!(
            counted(&ledger) <= attempted,
            "{attempted} attempted: {ledger}"
        );
        if self.holds_none {
            assert!(ended <= counted(&ledger), "{ended} ended: {ledger}");
        }
        assert_grew(&self.last, &ledger);
        self.last = ledger;
    }
}

fn assert_closes(ledger: &Ledger) {
    for destination in &ledger.destinations {
        let parts = [
            destination.delivered,
            destination.rejected,
            destination.dropped.total(),
            destination.in_flight,
            destination.buffered,
        ];
        // A count that has wrapped around would be far above.
        let within = parts.iter().all(|part| *part <= ledger.accepted);
        let sum = parts
            .iter()
            .fold(0_u64, |sum, part| sum.wrapping_add(*part));
        assert!(within && sum == ledger.accepted, "{ledger}");
    }
}

fn assert_grew(before: &Ledger, after: &Ledger) {
    let counts = |ledger: &Ledger| {
        let mut counts = vec![
            ledger.accepted,
            ledger.refused.total(),
            ledger.sampled_out.at_start,
            ledger.sampled_out.at_end,
        ];
        for destination in &ledger.destinations {
            let dropped = destination.dropped.total();
            counts.extend([destination.delivered, destination.rejected, dropped]);
        }
        counts
    };
    let pairs = counts(before).into_iter().zip(counts(after));
    let shrunk = pairs.into_iter().any(|(before, after)| after < before);
    assert!(!shrunk, "a count has shrunk\n{before}\n{after}");
}
