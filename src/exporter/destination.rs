//! One destination: its place in the backlog, its requests without outcome, its side of the
//! ledger, and the choice among its endpoints.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::buffer::Batch;
use crate::config::{Compression, Selection};
use crate::exporter::backlog::{Backlog, Number};
use crate::exporter::context::Context;
use crate::exporter::endpoint::{Attempt, Done, Endpoint, Offer, Outcome};
use crate::exporter::notices::losses::LostAt;
use crate::exporter::operation::{OperationId, Operations};
use crate::exporter::request::Request;
use crate::otlp::{Fields, span_end_time};
use crate::platform::clock::unix_nanos;
use crate::stats::counters::DestinationCounters;
use crate::stats::{DestinationStats, Export, LostRecently, NetworkStats};

pub(crate) struct Destination {
    endpoints: Vec<Endpoint>,
    selection: Selection,
    /// The endpoint whose turn it is.
    next: usize,
    counters: Arc<DestinationCounters>,
    operations: Operations,
    /// Requests that were put back to be sent again.
    retries: u64,
    /// How much of the buffer can be on the way: what is cannot be dropped for the others' sake.
    share_max: u64,
    /// How much of it one request can take, so that some that hang leave room for others.
    request_share_max: u64,
    /// The first batch that is in no request yet.
    place: Number,
    /// Requests without outcome, oldest first.
    requests: VecDeque<Pending>,
    /// All that waits is to be sent soon: somebody waits for it.
    is_urgent: bool,
    done: Vec<Done>,
    /// Since when none of its endpoints works.
    down_since: Option<Instant>,
    /// After an outage: until when others that had it too may catch up.
    recovering_until: Option<Instant>,
}

/// Outages shorter than this are ignored; after a longer one, lagging destinations get this long to
/// catch up.
const OUTAGE: Duration = Duration::from_secs(1);

/// A request without outcome. It stands here also while an endpoint has it, so that whatever
/// becomes of that, nothing is lost.
struct Pending {
    request: Arc<Request>,
    /// How far it is from the beginning, as the backlog measures.
    weight: u64,
    /// How much of the buffer it takes, in the same measure.
    share: u64,
    on_the_way: bool,
    /// The export operation, from the first attempt on.
    begun: Option<OperationId>,
    /// How the last attempt ended, and at which endpoint; `None` while there is none or it has not
    /// ended.
    last: Option<(usize, Attempt)>,
    failing_since: Option<Instant>,
}

impl Destination {
    pub(crate) fn new(
        endpoints: Vec<Endpoint>,
        selection: Selection,
        counters: Arc<DestinationCounters>,
        share_max: u64,
    ) -> Self {
        let requests = if endpoints.len() > 1 { 8 } else { 4 };
        Self {
            endpoints,
            selection,
            next: 0,
            counters,
            operations: Operations::default(),
            retries: 0,
            share_max,
            request_share_max: share_max / requests,
            place: 0,
            requests: VecDeque::new(),
            is_urgent: false,
            done: Vec::new(),
            down_since: None,
            recovering_until: None,
        }
    }

    // ---- Queries ----

    /// It has begun to send all it was given and could send more at once.
    pub(crate) fn wants_batches(&self, backlog: &Backlog, now: Instant) -> bool {
        // What has been taken while a request is slow has to become much before the next connection
        // is worth its while.
        self.first_waiting().is_none()
            && (self.endpoints.iter()).any(|e| e.has_room(now) && !self.fills_request(e, backlog))
    }

    /// The first batch that is in no request yet.
    pub(crate) fn place(&self) -> Number {
        self.place
    }

    /// The oldest batch without an outcome: all before it are settled.
    pub(crate) fn oldest(&self) -> Number {
        let oldest = self.requests.front();
        oldest.map_or(self.place, |pending| pending.request.number)
    }

    /// How far the oldest that is not on the way is from the beginning.
    pub(crate) fn weight_before(&self, backlog: &Backlog) -> u64 {
        match self.first_waiting() {
            Some(index) => self.requests[index].weight,
            None => backlog.weight_before(self.place),
        }
    }

    /// Others have to keep up with it: it works, and not only since a moment ago, when an outage
    /// that was perhaps theirs too has ended.
    pub(crate) fn sets_the_pace(&self, now: Instant) -> bool {
        let is_down = self.down_since.is_some_and(|since| now >= since + OUTAGE);
        !is_down && self.recovering_until.is_none_or(|until| now >= until)
    }

    /// When it wants to be advanced even if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.endpoints.iter().filter_map(|e| e.deadline(now)).min()
    }

    fn has_waiting(&self, backlog: &Backlog) -> bool {
        self.place < backlog.end() || self.first_waiting().is_some()
    }

    pub(crate) fn stats(&self, backlog: &Backlog, now: Instant) -> DestinationStats {
        let endpoints = self.endpoints.iter();
        DestinationStats {
            destination: self.counters.destination.clone(),
            endpoints: endpoints.map(|endpoint| endpoint.stats(now)).collect(),
            retries: self.retries,
            exports: self.operations.ended().clone(),
            recently: LostRecently::default(),
            oldest_span_age: self.oldest_span_age(backlog),
        }
    }

    /// Time since the end of the oldest span without outcome, if the network thread has taken it.
    fn oldest_span_age(&self, backlog: &Backlog) -> Option<Duration> {
        let pending = self.requests.front();
        let batch = pending.and_then(|pending| pending.request.batches.first());
        let batch = batch.or_else(|| backlog.from(self.place).next())?;
        let ended = end_times(batch).next()?;
        Some(Duration::from_nanos(unix_nanos().saturating_sub(ended)))
    }

    /// Spans lost so far.
    pub(crate) fn lost(&self) -> LostAt {
        LostAt {
            destination: self.counters.destination.clone(),
            dropped: self.counters.dropped(),
            rejected: self.counters.rejected.get(),
        }
    }

    // ---- Commands ----

    pub(crate) fn endpoint(&mut self, index: usize) -> &mut Endpoint {
        &mut self.endpoints[index]
    }

    /// Tries everything now that the endpoints allow.
    pub(crate) fn hurry(&mut self) {
        self.is_urgent = true;
        self.endpoints.iter_mut().for_each(Endpoint::hurry);
    }

    /// Drops the oldest that is not on the way; false if there is nothing.
    pub(crate) fn drop_oldest(&mut self, backlog: &Backlog, now: Instant) -> bool {
        let counters = Arc::clone(&self.counters);
        let waiting = self.requests.iter().position(|pending| !pending.on_the_way);
        if let Some(pending) = waiting.and_then(|at| self.requests.remove(at)) {
            let spans = pending.request.spans;
            match pending.begun {
                Some(_) => counters.begun_dropped_overflow.add(spans),
                None => counters.waiting_dropped_overflow.add(spans),
            }
            self.note_export(&pending, spans, now);
        } else if let Some(batch) = backlog.from(self.place).next() {
            self.place += 1;
            counters.waiting_dropped_overflow.add(batch.spans());
        } else {
            return false;
        }
        true
    }

    /// Gives up all that has no outcome yet.
    pub(crate) fn give_up(&mut self, backlog: &Backlog, now: Instant) {
        for endpoint in &mut self.endpoints {
            endpoint.keep_health(now);
            endpoint.close(now);
        }
        let mut waiting = backlog.from(self.place).map(|batch| batch.spans()).sum();
        self.place = backlog.end();
        let mut begun = 0;
        for pending in std::mem::take(&mut self.requests) {
            match pending.begun {
                Some(_) => begun += pending.request.spans,
                None => waiting += pending.request.spans,
            }
            self.note_export(&pending, pending.request.spans, now);
        }
        self.count_on_the_way();
        self.counters.begun_dropped_shut_down.add(begun);
        self.counters.waiting_dropped_shut_down.add(waiting);
    }

    /// Takes everything back after something went wrong that should not.
    pub(crate) fn recover(&mut self, now: Instant) {
        self.done.clear();
        for endpoint in &mut self.endpoints {
            endpoint.recover(now);
        }
        for pending in &mut self.requests {
            pending.on_the_way = false;
        }
        self.count_on_the_way();
    }

    /// Does all that can be done without waiting.
    pub(crate) fn advance(&mut self, backlog: &mut Backlog, context: &mut Context<'_>) {
        loop {
            for endpoint in 0..self.endpoints.len() {
                self.endpoints[endpoint].advance(context, &mut self.done);
                for done in std::mem::take(&mut self.done) {
                    self.settle(endpoint, &done, context);
                }
            }
            if !self.send(backlog, context) {
                break;
            }
        }
        self.note_outage(context.now);
    }

    fn note_outage(&mut self, now: Instant) {
        if self.endpoints.iter().all(Endpoint::has_failed) {
            self.down_since.get_or_insert(now);
        } else if let Some(since) = self.down_since.take()
            && now >= since + OUTAGE
        {
            self.recovering_until = Some(now + OUTAGE);
        }
    }

    // ---- Sending ----

    /// Gives the next request to an endpoint; false if there is none, or none that takes it now.
    fn send(&mut self, backlog: &mut Backlog, context: &mut Context<'_>) -> bool {
        if !self.has_waiting(backlog) {
            self.is_urgent = false;
            return false;
        }
        if self.is_full() {
            return false;
        }
        let count = self.endpoints.len();
        let first = match self.selection {
            Selection::FailOver => 0,
            Selection::RoundRobin => self.next,
        };
        for index in (0..count).map(|turn| (first + turn) % count) {
            let much = self.has_much(index, backlog);
            let endpoint = &mut self.endpoints[index];
            let offer = endpoint.offer(much, context);
            if let Offer::Ready(connection) = offer {
                let Some(request) = self.next_request(index, backlog, context) else {
                    return false;
                };
                self.endpoints[index].start(connection, request, context.now);
                self.next = (index + 1) % count;
                return true;
            }
            if self.selection == Selection::FailOver
                && self.is_worth_waiting_for(index, &offer, context.now)
            {
                return false;
            }
        }
        false
    }

    /// So much is on the way that another request might be too much.
    fn is_full(&self) -> bool {
        let on_the_way = self.requests.iter().filter(|pending| pending.on_the_way);
        let (all, largest) = on_the_way.fold((0, 0), |(all, largest), pending| {
            (all + pending.share, pending.share.max(largest))
        });
        all > 0 && all + largest > self.share_max
    }

    /// As long as nothing is wrong with an endpoint it is not passed over.
    fn is_worth_waiting_for(&self, index: usize, offer: &Offer, now: Instant) -> bool {
        let endpoint = &self.endpoints[index];
        match offer {
            Offer::Opening => !endpoint.has_failed(),
            Offer::Busy => !endpoint.has_failed() && !endpoint.has_stalled(now),
            Offer::Ready(_) | Offer::BackingOff => false,
        }
    }

    /// So much waits, or so urgently, that a further connection is worth its while.
    fn has_much(&self, endpoint: usize, backlog: &Backlog) -> bool {
        self.is_urgent
            || self.first_waiting().is_some()
            || self.fills_request(&self.endpoints[endpoint], backlog)
    }

    /// The batches that are in no request yet are enough for one, by their bytes or by what they
    /// occupy of the buffer.
    fn fills_request(&self, endpoint: &Endpoint, backlog: &Backlog) -> bool {
        backlog.bytes_from(self.place) >= endpoint.request_bytes_max() as u64
            || backlog.weight_from(self.place) >= self.request_share_max
    }

    /// The oldest that waits, as a request within the endpoint's limit, on its way; `None` as long
    /// as its body is being compressed.
    fn next_request(
        &mut self,
        endpoint: usize,
        backlog: &mut Backlog,
        context: &mut Context<'_>,
    ) -> Option<Arc<Request>> {
        let endpoint = &self.endpoints[endpoint];
        let (bytes_max, compression) = (
            endpoint.request_bytes_max(),
            endpoint.compression(context.now),
        );
        let oldest = self
            .first_waiting()
            .unwrap_or_else(|| self.merge(bytes_max, backlog, context));
        self.split(oldest, bytes_max, context);
        let request = &self.requests[oldest].request;
        if !request.is_ready(compression) {
            compress(request, compression, backlog, context);
            return None;
        }
        let request = Arc::clone(request);
        let pending = &mut self.requests[oldest];
        pending.on_the_way = true;
        pending.last = None;
        if pending.begun.is_none() {
            pending.begun = Some(self.operations.begin(context.now));
            self.counters.begun.add(request.spans);
        }
        self.count_on_the_way();
        if compression != Compression::None && self.first_waiting().is_none() {
            self.compress_ahead(bytes_max, compression, backlog, context);
        }
        Some(request)
    }

    /// The next request, if it is a large one, is compressed while the one before it is sent.
    fn compress_ahead(
        &mut self,
        bytes_max: usize,
        compression: Compression,
        backlog: &mut Backlog,
        context: &mut Context<'_>,
    ) {
        if backlog.bytes_from(self.place) >= bytes_max as u64 {
            let next = self.merge(bytes_max, backlog, context);
            compress(&self.requests[next].request, compression, backlog, context);
        }
    }

    fn first_waiting(&self) -> Option<usize> {
        self.requests.iter().position(|pending| !pending.on_the_way)
    }

    /// Makes a request of the batches from its place on, or takes the one that another destination
    /// has made of them.
    fn merge(&mut self, bytes_max: usize, backlog: &Backlog, context: &Context<'_>) -> usize {
        let request = backlog.shared(self.place, bytes_max).unwrap_or_else(|| {
            let count = (backlog.until_shared(self.place))
                .min(backlog.fitting(self.place, self.request_share_max));
            let batches = backlog.from(self.place).take(count);
            Arc::new(Request::merge(
                self.place,
                batches,
                bytes_max,
                context.envelope,
            ))
        });
        debug_assert!(!request.is_part);
        let weight = backlog.weight_before(self.place);
        self.place = request.end();
        self.requests.push_back(Pending {
            request,
            weight,
            share: backlog.weight_before(self.place) - weight,
            on_the_way: false,
            begun: None,
            last: None,
            failing_since: None,
        });
        self.requests.len() - 1
    }

    /// Makes several requests of one that is larger than the limit.
    fn split(&mut self, index: usize, bytes_max: usize, context: &Context<'_>) {
        let Pending {
            request,
            weight,
            share,
            begun,
            last,
            failing_since,
            ..
        } = &self.requests[index];
        if request.body_bytes <= bytes_max || request.spans <= 1 {
            return;
        }
        let (weight, begun, last) = (*weight, *begun, *last);
        let failing_since = *failing_since;
        let share_of_byte = *share as f64 / request.body_bytes as f64;
        let parts = request.split(bytes_max, context.envelope);
        if parts.len() == 1 {
            return;
        }
        if let Some(operation) = begun {
            self.operations.split(operation, parts.len());
        }
        self.requests.remove(index);
        for (offset, request) in parts.into_iter().enumerate() {
            let pending = Pending {
                weight,
                share: (request.body_bytes as f64 * share_of_byte) as u64,
                request: Arc::new(request),
                on_the_way: false,
                begun,
                last,
                failing_since,
            };
            self.requests.insert(index + offset, pending);
        }
    }

    // ---- Outcomes ----

    fn settle(&mut self, endpoint: usize, done: &Done, context: &mut Context<'_>) {
        let is_it = |pending: &Pending| Arc::ptr_eq(&pending.request, &done.request);
        let Some(index) = self.requests.iter().position(is_it) else {
            debug_assert!(false, "the request {} is not known", done.request.number);
            return;
        };
        self.requests[index].last = Some((endpoint, done.attempt));
        let spans = done.request.spans;
        match done.outcome {
            Outcome::Accepted { rejected } => {
                record_success(&done.request, context.stats);
                self.end(index, rejected, context.now);
                self.counters.rejected.add(rejected);
                self.counters.delivered.add(spans - rejected);
            }
            Outcome::Rejected => {
                self.end(index, spans, context.now);
                self.counters.rejected.add(spans);
            }
            Outcome::Failed | Outcome::TooSlow { .. }
                if self.is_hopeless(index, done, context.now) =>
            {
                self.end(index, spans, context.now);
                self.counters.dropped_retries.add(spans);
            }
            Outcome::Again | Outcome::Failed => self.put_back(index, endpoint, context),
            Outcome::TooSlow { bytes_max } | Outcome::TooLarge { bytes_max } => {
                self.put_back(index, endpoint, context);
                self.split(index, bytes_max, context);
            }
        }
    }

    /// The request has failed for as long as it may.
    fn is_hopeless(&mut self, index: usize, done: &Done, now: Instant) -> bool {
        let since = *self.requests[index].failing_since.get_or_insert(now);
        now.saturating_duration_since(since) >= done.retry_budget
    }

    /// The request has an outcome, which is counted afterwards: the ledger must not count a span
    /// twice. So many of its spans were not delivered.
    fn end(&mut self, index: usize, failed_spans: u64, now: Instant) {
        if let Some(pending) = self.requests.remove(index) {
            self.note_export(&pending, failed_spans, now);
        }
        self.count_on_the_way();
    }

    /// Notes how the request's last attempt ended. One that has not ended is aborted.
    fn note_export(&mut self, pending: &Pending, failed_spans: u64, now: Instant) {
        const ABORTED: Attempt = Attempt {
            status: None,
            error: Some("aborted"),
        };
        let Some(operation) = pending.begun else {
            return;
        };
        let (endpoint, attempt) = pending.last.unwrap_or((0, ABORTED));
        let Attempt { status, error } = attempt;
        let export = Export {
            endpoint,
            status,
            error,
        };
        (self.operations).end_part(operation, export, failed_spans, now);
    }

    fn put_back(&mut self, index: usize, endpoint: usize, context: &mut Context<'_>) {
        context.stats.retries += 1;
        self.retries += 1;
        let pending = &mut self.requests[index];
        pending.on_the_way = false;
        let url = self.endpoints[endpoint].url();
        (context.reporter).note_retry(url, pending.request.spans);
        self.count_on_the_way();
    }

    fn count_on_the_way(&self) {
        let on_the_way = self.requests.iter().filter(|pending| pending.on_the_way);
        let spans = on_the_way.map(|pending| pending.request.spans).sum();
        self.counters.in_flight.set(spans);
    }
}

/// Has the body compressed, once for all who want it so.
fn compress(
    request: &Arc<Request>,
    compression: Compression,
    backlog: &mut Backlog,
    context: &mut Context<'_>,
) {
    match context.compressor {
        Some(compressor) if compressor.compress(request, compression) => {
            context.stats.compressed += 1;
            // A part is not what another is looking for: all from a batch on.
            if !request.is_part {
                backlog.share(request);
            }
        }
        _ => {}
    }
}

/// Notes that the request was acknowledged now, and how long ago the spans of one of its batches
/// ended: of another one each time, since the walk costs some nanoseconds for each span.
fn record_success(request: &Request, stats: &mut NetworkStats) {
    let now = unix_nanos();
    stats.last_success_time = now;
    let batches = request.batches.len() as u64;
    let Some(turn) = stats.requests.checked_rem(batches) else {
        return;
    };
    for end_time in end_times(&request.batches[turn as usize]) {
        stats.add_delivery(now.saturating_sub(end_time) / 1000);
    }
}

/// When the spans ended, without those that have no end time.
fn end_times(batch: &Batch) -> impl Iterator<Item = u64> {
    let spans = Fields::new(batch).map_while(Result::ok);
    let end_times = spans.map(|span| span.bytes().map_or(0, span_end_time));
    end_times.filter(|end_time| *end_time > 0)
}
