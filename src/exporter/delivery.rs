//! The delivery to one destination: the way from the backlog through one of its endpoints to an outcome.

mod outage;
mod requests;
mod span_age;

use std::sync::Arc;
use std::time::Instant;

use crate::config::{Compression, Selection};
use crate::exporter::backlog::Backlog;
use crate::exporter::context::Context;
use crate::exporter::endpoint::{EndpointClient, Offer, Settled};
use crate::exporter::moment::Moment;
use crate::exporter::notices::losses::DestinationLosses;
use crate::exporter::outcome::Outcome;
use crate::exporter::request::{BatchNumber, Request};
use crate::stats::counters::DestinationCounters;
use crate::stats::{DestinationStats, EndpointStats, LostRecently};

use self::outage::Outage;
use self::requests::Requests;

/// One destination's position in the backlog, its requests and its endpoints.
pub(crate) struct Delivery {
    endpoints: Vec<EndpointClient>,
    selection: Selection,
    /// The endpoint whose turn it is.
    next: usize,
    counters: Arc<DestinationCounters>,
    /// Requests that were put back to be sent again.
    retries: u64,
    /// Share of the buffer that can be in flight, where nothing can be dropped for other destinations.
    share_max: u64,
    /// Share of the buffer that one request can take, so that some that hang leave room for others.
    request_share_max: u64,
    /// The first batch that is in no request.
    position: BatchNumber,
    requests: Requests,
    /// A flush or the shutdown waits for all that is to be sent.
    is_urgent: bool,
    outage: Outage,
}

impl Delivery {
    pub(crate) fn new(
        endpoints: Vec<EndpointClient>,
        selection: Selection,
        counters: Arc<DestinationCounters>,
        share_max: u64,
    ) -> Self {
        // Where other endpoints can stand in for one that hangs, more requests hang at a time.
        let requests = if endpoints.len() > 1 { 8 } else { 4 };
        Self {
            endpoints,
            selection,
            next: 0,
            requests: Requests::new(Arc::clone(&counters)),
            counters,
            retries: 0,
            share_max,
            request_share_max: share_max / requests,
            position: 0,
            is_urgent: false,
            outage: Outage::default(),
        }
    }

    // ---- Queries ----

    /// Returns whether everything it was given is in flight, and more could be sent at once.
    pub(crate) fn has_room(&self, backlog: &Backlog, now: Instant) -> bool {
        // Batches taken while a request is slow have to fill a request before the next connection is
        // opened for them.
        self.requests.first_waiting().is_none()
            && (self.endpoints.iter()).any(|e| e.has_room(now) && !self.fills_request(e, backlog))
    }

    /// Returns the first batch that is in no request.
    pub(crate) fn position(&self) -> BatchNumber {
        self.position
    }

    /// Returns the oldest batch without an outcome.
    pub(crate) fn oldest(&self) -> BatchNumber {
        let oldest = self.requests.oldest();
        oldest.map_or(self.position, |request| request.number)
    }

    /// Returns the distance of the oldest batch that is not in flight from the beginning.
    pub(crate) fn weight_before(&self, backlog: &Backlog) -> u64 {
        let waiting = self.requests.weight_before_waiting();
        waiting.unwrap_or_else(|| backlog.weight_before(self.position))
    }

    /// Returns whether others have to keep up with it: it works, and not only since a moment ago.
    pub(crate) fn sets_the_pace(&self, now: Instant) -> bool {
        self.outage.counts_as_up(now)
    }

    /// Returns the time at which [`Self::advance`] has something to do even if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.endpoints.iter().filter_map(|e| e.deadline(now)).min()
    }

    pub(crate) fn stats(&self, backlog: &Backlog, moment: Moment) -> DestinationStats {
        let in_request = self.requests.oldest();
        let oldest = in_request.and_then(|request| request.batches.first());
        let oldest = oldest.or_else(|| backlog.from(self.position).next());
        DestinationStats {
            destination: self.counters.destination.clone(),
            endpoints: self.endpoint_stats(moment),
            retries: self.retries,
            exports: self.requests.exports().clone(),
            recently: LostRecently::default(),
            oldest_span_age: oldest.and_then(|batch| span_age::of_first(batch, moment.unix_nanos)),
        }
    }

    /// Returns the spans lost so far.
    pub(crate) fn lost(&self) -> DestinationLosses {
        DestinationLosses {
            destination: self.counters.destination.clone(),
            dropped: self.counters.dropped(),
            rejected: self.counters.rejected.get(),
        }
    }

    fn endpoint_stats(&self, moment: Moment) -> Vec<EndpointStats> {
        let mut is_needed = true;
        let stats = self.endpoints.iter().map(|endpoint| {
            let stats = match is_needed {
                true => endpoint.stats(moment),
                false => endpoint.stats_on_stand_by(moment),
            };
            if self.selection == Selection::FailOver && stats.health.state.works() {
                is_needed = false;
            }
            stats
        });
        stats.collect()
    }

    // ---- Commands ----

    pub(crate) fn endpoint(&mut self, index: usize) -> &mut EndpointClient {
        &mut self.endpoints[index]
    }

    /// Sends everything now, as far as the endpoints allow.
    pub(crate) fn expedite(&mut self) {
        self.is_urgent = true;
        (self.endpoints.iter_mut()).for_each(EndpointClient::skip_backoff);
    }

    /// Drops the oldest request or batch that is not in flight. Returns whether there is one.
    pub(crate) fn drop_oldest(&mut self, backlog: &Backlog, now: Instant) -> bool {
        if self.requests.drop_waiting(now) {
            return true;
        }
        let Some(batch) = backlog.from(self.position).next() else {
            return false;
        };
        self.position += 1;
        (self.counters.waiting_dropped_overflow).add(batch.spans());
        true
    }

    /// Drops everything without an outcome.
    pub(crate) fn give_up(&mut self, backlog: &Backlog, moment: Moment) {
        for endpoint in &mut self.endpoints {
            endpoint.give_up(moment);
        }
        let waiting = backlog.from(self.position).map(|batch| batch.spans()).sum();
        self.position = backlog.next_number();
        self.requests.give_up(moment.now);
        self.counters.waiting_dropped_shut_down.add(waiting);
    }

    /// Closes all connections after a panic, and takes the requests back that were in flight.
    pub(crate) fn recover(&mut self, moment: Moment) {
        for endpoint in &mut self.endpoints {
            endpoint.recover(moment);
        }
        self.requests.recover();
    }

    /// Settles and sends as far as possible without waiting.
    pub(crate) fn advance(&mut self, backlog: &mut Backlog, context: &mut Context<'_>) {
        loop {
            for endpoint in 0..self.endpoints.len() {
                while let Some(settled) = self.endpoints[endpoint].advance(context) {
                    self.settle(endpoint, &settled, context);
                }
            }
            if !self.send(backlog, context) {
                break;
            }
        }
        let is_down = self.endpoints.iter().all(EndpointClient::has_failed);
        self.outage.note(is_down, context.moment.now);
    }

    // ---- Sending ----

    /// Sends the next request. Returns false if there is none, or no endpoint for it now.
    fn send(&mut self, backlog: &mut Backlog, context: &mut Context<'_>) -> bool {
        if self.position == backlog.next_number() && self.requests.first_waiting().is_none() {
            self.is_urgent = false;
            return false;
        }
        if self.requests.is_full(self.share_max) {
            return false;
        }
        let Some((endpoint, connection)) = self.choose(backlog, context) else {
            return false;
        };
        let Some(request) = self.next_request(endpoint, backlog, context) else {
            return false;
        };
        self.endpoints[endpoint].start(connection, request, context.moment.now);
        self.next = (endpoint + 1) % self.endpoints.len();
        true
    }

    /// Chooses an endpoint and one of its connections.
    fn choose(&mut self, backlog: &Backlog, context: &mut Context<'_>) -> Option<(usize, usize)> {
        let count = self.endpoints.len();
        let first = match self.selection {
            Selection::FailOver => 0,
            Selection::RoundRobin => self.next,
        };
        for index in (0..count).map(|turn| (first + turn) % count) {
            let much = self.has_much(index, backlog);
            match self.endpoints[index].offer(much, context) {
                Offer::Ready(connection) => return Some((index, connection)),
                offer if self.is_worth_waiting_for(index, offer, context.moment.now) => {
                    return None;
                }
                Offer::Opening | Offer::Busy | Offer::BackingOff => {}
            }
        }
        None
    }

    /// Returns whether the request is to wait for this endpoint: fail-over passes one over only if
    /// something is wrong with it.
    fn is_worth_waiting_for(&self, index: usize, offer: Offer, now: Instant) -> bool {
        let endpoint = &self.endpoints[index];
        let is_delayed = match offer {
            Offer::Opening => false,
            Offer::Busy => endpoint.has_stalled(now),
            Offer::Ready(_) | Offer::BackingOff => true,
        };
        self.selection == Selection::FailOver && !is_delayed && !endpoint.has_failed()
    }

    /// Returns whether enough spans wait, or urgently enough, to open another connection.
    fn has_much(&self, endpoint: usize, backlog: &Backlog) -> bool {
        self.is_urgent
            || self.requests.first_waiting().is_some()
            || self.fills_request(&self.endpoints[endpoint], backlog)
    }

    /// Returns whether the batches in no request fill one, by their bytes or by their share of the
    /// buffer.
    fn fills_request(&self, endpoint: &EndpointClient, backlog: &Backlog) -> bool {
        backlog.bytes_from(self.position) >= endpoint.request_bytes_max() as u64
            || backlog.weight_from(self.position) >= self.request_share_max
    }

    /// Returns the oldest request that waits, within the endpoint's limit, and begins an attempt; `None`
    /// as long as its body is being compressed.
    fn next_request(
        &mut self,
        endpoint: usize,
        backlog: &mut Backlog,
        context: &mut Context<'_>,
    ) -> Option<Arc<Request>> {
        let endpoint = &self.endpoints[endpoint];
        let bytes_max = endpoint.request_bytes_max();
        let compression = endpoint.compression(context.moment.now);
        let oldest = (self.requests.first_waiting())
            .unwrap_or_else(|| self.merge(bytes_max, backlog, context));
        self.requests.split(oldest, bytes_max, context.envelope);
        let request = self.requests.get(oldest);
        if !request.is_ready(compression) {
            compress(request, compression, backlog, context);
            return None;
        }
        let request = Arc::clone(request);
        self.requests.begin(oldest, context.moment.now);
        if compression != Compression::None && self.requests.first_waiting().is_none() {
            self.compress_ahead(bytes_max, compression, backlog, context);
        }
        Some(request)
    }

    /// Has the next request compressed while the one before it is sent, if it is a large one.
    fn compress_ahead(
        &mut self,
        bytes_max: usize,
        compression: Compression,
        backlog: &mut Backlog,
        context: &mut Context<'_>,
    ) {
        if backlog.bytes_from(self.position) >= bytes_max as u64 {
            let next = self.merge(bytes_max, backlog, context);
            compress(self.requests.get(next), compression, backlog, context);
        }
    }

    /// Makes a request of the batches from its position on, or takes the one that another destination
    /// has made of them. Returns its index.
    fn merge(&mut self, bytes_max: usize, backlog: &Backlog, context: &Context<'_>) -> usize {
        let request = backlog.shared(self.position, bytes_max).unwrap_or_else(|| {
            let count = (backlog.until_shared(self.position))
                .min(backlog.fitting(self.position, self.request_share_max));
            let batches = backlog.from(self.position).take(count);
            let request = Request::merge(self.position, batches, bytes_max, context.envelope);
            Arc::new(request)
        });
        debug_assert!(!request.is_part);
        let weight = backlog.weight_before(self.position);
        self.position = request.next_number();
        let share = backlog.weight_before(self.position) - weight;
        self.requests.push(request, weight, share)
    }

    // ---- Outcomes ----

    fn settle(&mut self, endpoint: usize, (request, outcome): &Settled, context: &mut Context<'_>) {
        let Some(index) = self.requests.position(request) else {
            debug_assert!(false, "the request {} is unknown", request.number);
            return;
        };
        let now = context.moment.now;
        let budget = self.endpoints[endpoint].settings().retry_budget;
        self.requests
            .record_attempt(index, outcome.export(endpoint));
        if outcome.has_failed() {
            self.requests.note_failure(index, now);
        }
        match outcome {
            Outcome::Accepted { partial, .. } => {
                let rejected = partial.as_ref().map_or(0, |partial| partial.rejected);
                let rejected = rejected.min(request.spans);
                span_age::record_success(request, context.moment.unix_nanos, context.stats);
                self.requests.settle(index, rejected, now);
                self.counters.rejected.add(rejected);
                self.counters.delivered.add(request.spans - rejected);
            }
            Outcome::Rejected { .. } => {
                self.requests.settle(index, request.spans, now);
                self.counters.rejected.add(request.spans);
            }
            _ if outcome.has_failed() && self.requests.is_budget_over(index, budget, now) => {
                self.requests.settle(index, request.spans, now);
                self.counters.dropped_retries.add(request.spans);
            }
            _ => {
                self.put_back(index, endpoint, context);
                if outcome.needs_split() {
                    let bytes_max = self.endpoints[endpoint].request_bytes_max();
                    self.requests.split(index, bytes_max, context.envelope);
                }
            }
        }
    }

    fn put_back(&mut self, index: usize, endpoint: usize, context: &mut Context<'_>) {
        context.stats.retries += 1;
        self.retries += 1;
        self.requests.put_back(index);
        let url = &self.endpoints[endpoint].settings().target.url;
        let spans = self.requests.get(index).spans;
        context.reporter.note_retry(url, spans);
    }
}

/// Has the body compressed, once for all destinations that use the same compression.
fn compress(
    request: &Arc<Request>,
    compression: Compression,
    backlog: &mut Backlog,
    context: &mut Context<'_>,
) {
    match context.compressor {
        Some(compressor) if compressor.compress(request, compression) => {
            context.stats.compressed += 1;
            // Other destinations look for requests of all batches from one on, which a part is not.
            if !request.is_part {
                backlog.share(request);
            }
        }
        _ => {}
    }
}

#[cfg(all(test, not(loom)))]
impl Delivery {
    pub(crate) fn waiting_spans(&self, backlog: &Backlog) -> u64 {
        let batches = backlog.from(self.position).map(|batch| batch.spans());
        self.requests.waiting_spans() + batches.sum::<u64>()
    }

    pub(crate) fn activity(&self) -> (bool, bool) {
        let endpoints = self.endpoints.iter().map(EndpointClient::activity);
        endpoints.fold((false, false), |(busy, opening), (is_busy, is_opening)| {
            (busy | is_busy, opening | is_opening)
        })
    }
}
