//! The requests of one destination that have no outcome yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exporter::operation::{OperationId, Operations};
use crate::exporter::request::Request;
use crate::otlp::Envelope;
use crate::stats::counters::DestinationCounters;
use crate::stats::{Export, Exports};

/// The end of an operation that was given up during an attempt.
const ABORTED: Export = Export {
    endpoint: 0,
    status: None,
    error: Some("aborted"),
};

/// The requests without an outcome, oldest first, and the export operations that they belong to.
///
/// A request also stays here while it is in flight, so that the ledger closes and no span is lost if
/// the connection breaks.
pub(super) struct Requests {
    queue: VecDeque<Pending>,
    operations: Operations,
    counters: Arc<DestinationCounters>,
}

/// A request without an outcome.
struct Pending {
    request: Arc<Request>,
    /// Its distance from the beginning, as the backlog measures.
    weight: u64,
    /// Its share of the buffer, in the same measure.
    share: u64,
    in_flight: bool,
    /// The export operation, from the first attempt on.
    operation: Option<OperationId>,
    /// The end of the last attempt; `None` before it.
    last: Option<Export>,
    failing_since: Option<Instant>,
}

impl Requests {
    pub(super) fn new(counters: Arc<DestinationCounters>) -> Self {
        Self {
            queue: VecDeque::new(),
            operations: Operations::default(),
            counters,
        }
    }

    // ---- Queries ----

    pub(super) fn get(&self, index: usize) -> &Arc<Request> {
        &self.queue[index].request
    }

    pub(super) fn oldest(&self) -> Option<&Request> {
        self.queue.front().map(|pending| &*pending.request)
    }

    pub(super) fn position(&self, request: &Arc<Request>) -> Option<usize> {
        let is_it = |pending: &Pending| Arc::ptr_eq(&pending.request, request);
        self.queue.iter().position(is_it)
    }

    /// Returns the oldest request that is not in flight.
    pub(super) fn first_waiting(&self) -> Option<usize> {
        self.queue.iter().position(|pending| !pending.in_flight)
    }

    /// Returns the distance of the oldest request that is not in flight from the beginning.
    pub(super) fn weight_before_waiting(&self) -> Option<u64> {
        self.first_waiting().map(|index| self.queue[index].weight)
    }

    /// Returns whether the requests in flight leave no room for another one of `share_max`.
    pub(super) fn is_full(&self, share_max: u64) -> bool {
        let in_flight = self.queue.iter().filter(|pending| pending.in_flight);
        let (all, largest) = in_flight.fold((0, 0), |(all, largest), pending| {
            (all + pending.share, pending.share.max(largest))
        });
        all > 0 && all + largest > share_max
    }

    /// Returns whether the request has failed for as long as `budget`, from its first failure on.
    pub(super) fn is_budget_over(&self, index: usize, budget: Duration, now: Instant) -> bool {
        let since = self.queue[index].failing_since;
        since.is_some_and(|since| now.saturating_duration_since(since) >= budget)
    }

    /// Returns the export operations that have ended.
    pub(super) fn exports(&self) -> &Exports {
        self.operations.ended()
    }

    // ---- Changes ----

    /// Adds a request. Returns its index.
    pub(super) fn push(&mut self, request: Arc<Request>, weight: u64, share: u64) -> usize {
        self.queue.push_back(Pending {
            request,
            weight,
            share,
            in_flight: false,
            operation: None,
            last: None,
            failing_since: None,
        });
        self.queue.len() - 1
    }

    /// Begins an attempt.
    pub(super) fn begin(&mut self, index: usize, now: Instant) {
        let pending = &mut self.queue[index];
        pending.in_flight = true;
        pending.last = None;
        if pending.operation.is_none() {
            pending.operation = Some(self.operations.begin(now));
            self.counters.begun.add(pending.request.spans);
        }
        self.count_in_flight();
    }

    /// Records the end of an attempt.
    pub(super) fn record_attempt(&mut self, index: usize, export: Export) {
        self.queue[index].last = Some(export);
    }

    /// Notes that an attempt has failed.
    pub(super) fn note_failure(&mut self, index: usize, now: Instant) {
        self.queue[index].failing_since.get_or_insert(now);
    }

    /// Makes the request wait for the next attempt.
    pub(super) fn put_back(&mut self, index: usize) {
        self.queue[index].in_flight = false;
        self.count_in_flight();
    }

    /// Splits a request that is larger than the limit. Its parts keep its operation and its failures.
    pub(super) fn split(&mut self, index: usize, bytes_max: usize, envelope: &Envelope) {
        let pending = &self.queue[index];
        let request = &pending.request;
        if request.body_bytes <= bytes_max || request.spans <= 1 {
            return;
        }
        let parts = request.split(bytes_max, envelope);
        if parts.len() == 1 {
            return;
        }
        let share_of_byte = pending.share as f64 / request.body_bytes as f64;
        let Some(whole) = self.queue.remove(index) else {
            return;
        };
        if let Some(operation) = whole.operation {
            self.operations.split(operation, parts.len());
        }
        for (offset, request) in parts.into_iter().enumerate() {
            let part = Pending {
                share: (request.body_bytes as f64 * share_of_byte) as u64,
                request: Arc::new(request),
                in_flight: false,
                ..whole
            };
            self.queue.insert(index + offset, part);
        }
    }

    /// Removes a request that has its outcome, with the number of its spans that were not delivered.
    /// The caller counts the spans afterwards, so that the ledger never counts one twice.
    pub(super) fn settle(&mut self, index: usize, failed_spans: u64, now: Instant) {
        if let Some(pending) = self.queue.remove(index) {
            self.end_operation(&pending, failed_spans, now);
        }
        self.count_in_flight();
    }

    /// Drops the oldest request that is not in flight. Returns whether there is one.
    pub(super) fn drop_waiting(&mut self, now: Instant) -> bool {
        let waiting = self.first_waiting();
        let Some(pending) = waiting.and_then(|index| self.queue.remove(index)) else {
            return false;
        };
        let spans = pending.request.spans;
        match pending.operation {
            Some(_) => self.counters.begun_dropped_overflow.add(spans),
            None => self.counters.waiting_dropped_overflow.add(spans),
        }
        self.end_operation(&pending, spans, now);
        true
    }

    /// Drops all requests at a shutdown.
    pub(super) fn give_up(&mut self, now: Instant) {
        let (mut begun, mut waiting) = (0, 0);
        for pending in std::mem::take(&mut self.queue) {
            let spans = pending.request.spans;
            match pending.operation {
                Some(_) => begun += spans,
                None => waiting += spans,
            }
            self.end_operation(&pending, spans, now);
        }
        self.count_in_flight();
        self.counters.begun_dropped_shut_down.add(begun);
        self.counters.waiting_dropped_shut_down.add(waiting);
    }

    /// Takes all requests back whose connections are gone.
    pub(super) fn recover(&mut self) {
        for pending in &mut self.queue {
            pending.in_flight = false;
        }
        self.count_in_flight();
    }

    fn end_operation(&mut self, pending: &Pending, failed_spans: u64, now: Instant) {
        if let Some(operation) = pending.operation {
            let export = pending.last.unwrap_or(ABORTED);
            (self.operations).end_part(operation, export, failed_spans, now);
        }
    }

    fn count_in_flight(&self) {
        let in_flight = self.queue.iter().filter(|pending| pending.in_flight);
        let spans = in_flight.map(|pending| pending.request.spans).sum();
        self.counters.in_flight.set(spans);
    }
}

#[cfg(all(test, not(loom)))]
impl Requests {
    pub(super) fn waiting_spans(&self) -> u64 {
        let waiting = self.queue.iter().filter(|pending| !pending.in_flight);
        waiting.map(|pending| pending.request.spans).sum()
    }
}
