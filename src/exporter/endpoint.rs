//! One destination: its backlog, its connection, its retries, its side of the ledger.
//!
//! ```text
//!  Down ──▶ Resolving ──▶ Connecting ──▶ Up: request, response, request, …
//!   ▲            │             │          │
//!   └─ backoff ──┴─────────────┴──────────┘
//! ```

use std::collections::VecDeque;
use std::io;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, TryRecvError};
use mio::event::Event;
use mio::{Registry, Token, Waker};

use crate::buffer::Batch;
use crate::clock::unix_nanos;
use crate::config::{Settings, Target};
use crate::exporter::connection::{Connection, Exchange, PARTS_MAX};
use crate::exporter::request::{Queued, Request};
use crate::exporter::resolve;
use crate::exporter::response::Response;
use crate::exporter::retry::{self, Backoff};
use crate::exporter::transport::Transport;
use crate::id::RandomIds;
use crate::otlp::{Fields, PartialSuccess, span_end_time};
use crate::stats::{EndpointCounters, NetworkStats};

/// What an endpoint needs of the network thread to do its work.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) registry: &'a Registry,
    pub(crate) stats: &'a mut NetworkStats,
}

/// Reads of one turn: with the buffer's size half a megabyte.
const READS_MAX: u32 = 64;
/// What is kept of a server's message.
const MESSAGE_CHARS_MAX: usize = 300;

pub(crate) struct Endpoint {
    target: Target,
    settings: Arc<Settings>,
    token: Token,
    waker: Arc<Waker>,
    counters: Arc<EndpointCounters>,
    /// Batches to be sent, oldest first.
    backlog: VecDeque<Queued>,
    /// How many batches were ever enqueued; the next one's number.
    enqueued: u64,
    /// The number of the first batch in flight.
    in_flight: Option<u64>,
    /// How large requests may be: less after one that was not answered in time, so that a slow
    /// link is not offered the same too large request for ever.
    request_bytes_max: usize,
    link: Link,
    backoff: Backoff,
    /// Nothing is tried before.
    retry_at: Option<Instant>,
    /// The endpoint itself has asked for the wait.
    throttled: bool,
    random: RandomIds,
}

enum Link {
    Down,
    Resolving(Receiver<io::Result<Vec<SocketAddr>>>),
    Connecting {
        transport: Transport,
        deadline: Instant,
        /// To be tried if this one fails.
        others: Vec<SocketAddr>,
    },
    Up {
        transport: Transport,
        connection: Connection,
        /// Of the request on the way.
        deadline: Instant,
    },
}

impl Endpoint {
    pub(crate) fn new(
        target: Target,
        settings: Arc<Settings>,
        token: Token,
        waker: Arc<Waker>,
        counters: Arc<EndpointCounters>,
    ) -> Self {
        Self {
            target,
            backoff: Backoff::new(settings.retry_initial, settings.retry_max),
            request_bytes_max: settings.request_bytes_max,
            settings,
            token,
            waker,
            counters,
            backlog: VecDeque::new(),
            enqueued: 0,
            in_flight: None,
            link: Link::Down,
            retry_at: None,
            throttled: false,
            random: RandomIds::new(),
        }
    }

    // ---- What the network thread asks ----

    /// It has sent all it had and can send more at once.
    pub(crate) fn wants_batches(&self, now: Instant) -> bool {
        self.backlog.is_empty() && self.in_flight.is_none() && !self.is_backing_off(now)
    }

    /// The number of the oldest batch without an outcome: all before it are settled.
    pub(crate) fn oldest(&self) -> u64 {
        let waiting = self.backlog.front().map(|queued| queued.number);
        self.in_flight.or(waiting).unwrap_or(self.enqueued)
    }

    /// How many batches were ever enqueued.
    pub(crate) fn enqueued(&self) -> u64 {
        self.enqueued
    }

    /// When it wants to be advanced even if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        match &self.link {
            Link::Resolving(_) => None,
            Link::Connecting { deadline, .. } => Some(*deadline),
            Link::Up { transport, .. } if transport.is_readable() => Some(now),
            Link::Up { deadline, .. } if self.in_flight.is_some() => Some(*deadline),
            // Also without a backlog: from then on it wants batches.
            Link::Down | Link::Up { .. } => self.retry_at.filter(|at| now < *at),
        }
    }

    // ---- What the network thread does to it ----

    pub(crate) fn enqueue(&mut self, batch: Batch) {
        let number = self.enqueued;
        self.enqueued += 1;
        self.backlog.push_back(Queued { number, batch });
    }

    /// Drops the oldest batch that is not in flight; false if there is none.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        let Some(queued) = self.backlog.pop_front() else {
            return false;
        };
        self.counters.dropped_overflow.add(queued.batch.spans());
        true
    }

    /// Tries again now what waits for its backoff, unless the endpoint has asked for the wait.
    pub(crate) fn hurry(&mut self) {
        if !self.throttled {
            self.backoff.reset();
            self.retry_at = None;
        }
    }

    /// Gives up all that has no outcome yet.
    pub(crate) fn give_up(&mut self) {
        self.take_back();
        let backlog = self.backlog.drain(..);
        let spans = backlog.map(|queued| queued.batch.spans()).sum();
        self.counters.dropped_shut_down.add(spans);
        self.link = Link::Down;
    }

    pub(crate) fn ready(&mut self, event: &Event) {
        match &mut self.link {
            Link::Connecting { transport, .. } | Link::Up { transport, .. } => {
                transport.ready(event);
            }
            Link::Down | Link::Resolving(_) => {}
        }
    }

    /// Does all that can be done without waiting.
    pub(crate) fn advance(&mut self, context: &mut Context<'_>) {
        if let Link::Up { .. } = self.link {
            self.receive(context);
        }
        while match &self.link {
            Link::Down => self.open(context),
            Link::Resolving(answers) => match answers.try_recv() {
                Err(TryRecvError::Empty) => false,
                answer => self.resolved(answer.unwrap_or_else(|lost| Err(other(lost))), context),
            },
            Link::Connecting { .. } => self.connected(context),
            Link::Up { .. } => self.exchange(context),
        } {}
    }

    // ---- Getting connected ----

    fn open(&mut self, context: &mut Context<'_>) -> bool {
        if self.backlog.is_empty() || self.is_backing_off(context.now) {
            return false;
        }
        let target = &self.target;
        if let Some(address) = resolve::literal(&target.host, target.port) {
            return self.connect(vec![address], None, context);
        }
        match resolve::resolve(&target.host, target.port, Arc::clone(&self.waker)) {
            Ok(answers) => self.link = Link::Resolving(answers),
            Err(error) => self.failed(&format!("no resolver thread: {error}"), context),
        }
        true
    }

    fn resolved(&mut self, answer: io::Result<Vec<SocketAddr>>, context: &mut Context<'_>) -> bool {
        match answer {
            Ok(mut addresses) => {
                addresses.reverse();
                self.connect(addresses, None, context)
            }
            Err(error) => {
                let host = &self.target.host;
                self.failed(&format!("cannot resolve {host:?}: {error}"), context);
                true
            }
        }
    }

    /// Tries the addresses from the last to the first.
    fn connect(
        &mut self,
        mut addresses: Vec<SocketAddr>,
        mut error: Option<io::Error>,
        context: &mut Context<'_>,
    ) -> bool {
        while let Some(address) = addresses.pop() {
            match Transport::connect(address, context.registry, self.token) {
                Ok(transport) => {
                    self.link = Link::Connecting {
                        transport,
                        deadline: context.now + self.settings.connect_timeout,
                        others: addresses,
                    };
                    return true;
                }
                Err(failed) => error = Some(failed),
            }
        }
        let reason = error.map_or("the name has no address".to_string(), |e| e.to_string());
        self.failed(&format!("cannot connect: {reason}"), context);
        true
    }

    fn connected(&mut self, context: &mut Context<'_>) -> bool {
        let Link::Connecting {
            transport,
            deadline,
            ..
        } = &mut self.link
        else {
            return false;
        };
        let connected = match transport.is_connected() {
            Ok(false) if context.now < *deadline => return false,
            Ok(false) => Err(io::ErrorKind::TimedOut.into()),
            result => result,
        };
        let Link::Connecting {
            transport, others, ..
        } = std::mem::replace(&mut self.link, Link::Down)
        else {
            return false;
        };
        if let Err(error) = connected {
            drop(transport);
            return self.connect(others, Some(error), context);
        }
        context.stats.connections += 1;
        self.link = Link::Up {
            transport,
            connection: Connection::default(),
            deadline: context.now,
        };
        true
    }

    // ---- Requests and responses ----

    /// Sends, then receives; true if that may have made room for more.
    fn exchange(&mut self, context: &mut Context<'_>) -> bool {
        self.start_request(context);
        self.send(context);
        let progress = self.receive(context);
        self.check_deadline(context) || progress
    }

    fn start_request(&mut self, context: &Context<'_>) {
        let backing_off = self.is_backing_off(context.now);
        let Link::Up {
            connection,
            deadline,
            ..
        } = &mut self.link
        else {
            return;
        };
        let Some(oldest) = self.backlog.front() else {
            return;
        };
        if backing_off || !connection.is_idle() {
            return;
        }
        self.in_flight = Some(oldest.number);
        let request = Request::merge(
            &mut self.backlog,
            self.request_bytes_max,
            &self.target,
            &self.settings.envelope,
        );
        self.counters.in_flight.set(request.spans());
        connection.start(request);
        *deadline = context.now + self.settings.request_timeout;
    }

    fn send(&mut self, context: &mut Context<'_>) {
        let Link::Up {
            transport,
            connection,
            ..
        } = &mut self.link
        else {
            return;
        };
        loop {
            let mut slices = [IoSlice::new(&[]); PARTS_MAX];
            let filled = connection.unsent(&mut slices);
            if filled == 0 {
                return;
            }
            match transport.write(&slices[..filled]) {
                Ok(None) => return,
                Ok(Some(sent)) => connection.sent(sent),
                // The other side may have answered before it closed: read that first.
                Err(error) => {
                    transport.assume_readable();
                    if !self.receive(context) {
                        self.broken(&error.to_string(), context);
                    }
                    return;
                }
            }
        }
    }

    /// Reads what there is, within reason; true if a request came to its end.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        let mut buffer = [0; 8192];
        // A server that never stops must not keep the thread from everything else.
        for _ in 0..READS_MAX {
            let Link::Up {
                transport,
                connection,
                ..
            } = &mut self.link
            else {
                return true;
            };
            let received = match transport.read(&mut buffer) {
                Ok(None) => return false,
                Ok(Some(0)) if connection.is_idle() => {
                    self.link = Link::Down;
                    return true;
                }
                Ok(Some(0)) => connection.end(),
                Ok(Some(bytes)) => connection.receive(&buffer[..bytes]),
                Err(error) => {
                    self.broken(&error.to_string(), context);
                    return true;
                }
            };
            match received {
                Ok(None) => {}
                Ok(Some(exchange)) => {
                    self.answered(exchange, context);
                    return true;
                }
                Err(error) => {
                    self.broken(&error.to_string(), context);
                    return true;
                }
            }
        }
        false
    }

    fn check_deadline(&mut self, context: &mut Context<'_>) -> bool {
        let Link::Up { deadline, .. } = &self.link else {
            return true;
        };
        if self.in_flight.is_none() || context.now < *deadline {
            return false;
        }
        let timeout = self.settings.request_timeout;
        self.request_bytes_max = (self.request_bytes_max / 2).max(self.settings.slab_bytes);
        context.stats.retries += u64::from(self.take_back());
        self.failed(&format!("no response within {timeout:?}"), context);
        true
    }

    // ---- Outcomes ----

    fn answered(&mut self, exchange: Exchange, context: &mut Context<'_>) {
        let Exchange { request, response } = exchange;
        context.stats.requests += 1;
        context.stats.body_bytes += request.body_bytes as u64;
        if retry::is_retryable(response.status) {
            self.put_back(request);
            context.stats.retries += 1;
            self.throttle(&response, context);
        } else {
            self.settle(&request, &response, context);
        }
        // After an error another connection may meet a healthier server.
        if !response.keep_alive || !response.is_success() {
            self.link = Link::Down;
        }
    }

    /// A final answer: the request's spans are delivered or rejected.
    fn settle(&mut self, request: &Request, response: &Response, context: &mut Context<'_>) {
        let spans = request.spans();
        let rejected = if response.is_success() {
            record_success(request, context.stats);
            let partial = PartialSuccess::decode(&response.body);
            if !partial.message.is_empty() {
                let message: String = partial.message.chars().take(MESSAGE_CHARS_MAX).collect();
                self.note(&format!("partial success: {message}"), context);
            }
            partial.rejected.min(spans)
        } else {
            let status = response.status;
            self.note(
                &format!("answered {status}: {spans} spans rejected"),
                context,
            );
            spans
        };
        self.backoff.reset();
        self.retry_at = None;
        self.throttled = false;
        // Slowly, or every second request of a slow link would come to nothing.
        self.request_bytes_max = (self.request_bytes_max + self.settings.slab_bytes)
            .min(self.settings.request_bytes_max);
        // In this order: the ledger must not count a span twice.
        self.in_flight = None;
        self.counters.in_flight.set(0);
        self.counters.rejected.add(rejected);
        self.counters.delivered.add(spans - rejected);
    }

    /// The endpoint wants the same request later.
    fn throttle(&mut self, response: &Response, context: &mut Context<'_>) {
        let backoff = self.backoff.next(self.random.number());
        let asked = response.retry_after.as_deref().and_then(retry::retry_after);
        self.throttled = asked.is_some();
        self.retry_at = Some(context.now + asked.unwrap_or_default().max(backoff));
        let status = response.status;
        self.note(&format!("answered {status}: to be sent again"), context);
    }

    /// The connection is of no use any more; what was on it is sent again.
    fn broken(&mut self, reason: &str, context: &mut Context<'_>) {
        let stale = matches!(&self.link, Link::Up { connection, .. } if connection.may_be_stale());
        let had_request = self.take_back();
        context.stats.retries += u64::from(had_request);
        self.link = Link::Down;
        if !had_request {
            // It was idle: nothing failed, the next request gets a fresh connection.
            self.note(&format!("idle connection broken: {reason}"), context);
        } else if stale {
            // Most likely closed while idle: worth one immediate attempt on a fresh connection.
            self.note(&format!("stale connection: {reason}"), context);
        } else {
            self.failed(&format!("connection broken: {reason}"), context);
        }
    }

    fn failed(&mut self, reason: &str, context: &mut Context<'_>) {
        self.link = Link::Down;
        self.throttled = false;
        self.retry_at = Some(context.now + self.backoff.next(self.random.number()));
        self.note(reason, context);
    }

    fn note(&self, what: &str, context: &mut Context<'_>) {
        let url = &self.target.url;
        context.stats.last_error = Some(format!("{url}: {what}"));
    }

    /// Takes the request that is on the way back into the backlog.
    fn take_back(&mut self) -> bool {
        let Link::Up { connection, .. } = &mut self.link else {
            return false;
        };
        let Some(request) = connection.take_request() else {
            return false;
        };
        self.put_back(request);
        true
    }

    /// Its batches are the oldest again.
    fn put_back(&mut self, request: Request) {
        for queued in request.batches.into_iter().rev() {
            self.backlog.push_front(queued);
        }
        self.in_flight = None;
        self.counters.in_flight.set(0);
    }

    fn is_backing_off(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|at| now < at)
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
    for span in Fields::new(&request.batches[turn as usize].batch).map_while(Result::ok) {
        let end_time = span.bytes().map_or(0, span_end_time);
        if end_time > 0 {
            let us = now.saturating_sub(end_time) / 1000;
            stats.delivery_us.saturating_record(us);
        }
    }
}

fn other(error: TryRecvError) -> io::Error {
    io::Error::other(error)
}
