//! The exporter's side of one receiver: the choice of a connection for each request, and its outcome.

mod adaptation;
mod connection_pool;
mod content_coding;
mod journal;
mod location;
mod rate_limit;
mod request_size;
mod send_schedule;
pub(crate) mod silence;

use std::sync::Arc;
use std::time::Instant;

use crate::config::{Compression, EndpointSettings};
use crate::exporter::connection::{ConnectionEvent, Reply};
use crate::exporter::context::Context;
use crate::exporter::endpoint::adaptation::Adaptation;
use crate::exporter::endpoint::connection_pool::ConnectionPool;
use crate::exporter::endpoint::journal::JournalEntry;
use crate::exporter::endpoint::silence::Silent;
use crate::exporter::http::reason;
use crate::exporter::moment::Moment;
use crate::exporter::network::{ConnectionId, Readiness};
use crate::exporter::outcome::Outcome;
use crate::exporter::request::Request;
use crate::span::id_generator::RandomSource;
use crate::stats::EndpointStats;
use crate::stats::health::EndpointState;

/// A request and the outcome of the attempt to send it.
pub(crate) type Settled = (Arc<Request>, Outcome);

/// Whether a request can be sent to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Yes, over the connection at this index.
    Ready(usize),
    /// Soon: a connection is being made.
    Opening,
    /// All connections carry requests.
    Busy,
    /// Not before a wait has ended.
    BackingOff,
}

/// The exporter's side of one endpoint.
pub(crate) struct EndpointClient {
    settings: Arc<EndpointSettings>,
    pool: ConnectionPool,
    adaptation: Adaptation,
}

impl EndpointClient {
    /// Creates a client. Its connections have the ids from `first_id` on. Its requests grow by `request_bytes_step` after
    /// each success. Its waits are drawn from `random`.
    pub(crate) fn new(
        settings: Arc<EndpointSettings>,
        request_bytes_step: usize,
        first_id: ConnectionId,
        moment: Moment,
        random: RandomSource,
    ) -> Self {
        Self {
            pool: ConnectionPool::new(&settings, first_id),
            adaptation: Adaptation::new(&settings, request_bytes_step, moment, random),
            settings,
        }
    }

    // ---- Queries ----

    pub(crate) fn settings(&self) -> &EndpointSettings {
        &self.settings
    }

    /// Returns the statistics with the present health.
    pub(crate) fn stats(&self, moment: Moment) -> EndpointStats {
        self.adaptation.journal.snapshot(
            moment,
            self.silent(),
            self.pool.oldest_request(),
            self.adaptation.schedule.until(),
        )
    }

    /// Returns the statistics of an endpoint that is not needed, because one before it works. A failure
    /// does not determine its state any longer than the wait after it.
    pub(crate) fn stats_on_stand_by(&self, moment: Moment) -> EndpointStats {
        let mut stats = self.stats(moment);
        let is_idle = !self.pool.is_busy() && !self.pool.is_opening();
        if let Some(end) = self.adaptation.schedule.until()
            && is_idle
            && end <= moment.now
        {
            let since = moment.system_time() - moment.now.duration_since(end);
            stats.health.stand_by(since);
        }
        stats
    }

    /// Returns the compression of the next request.
    pub(crate) fn compression(&self, now: Instant) -> Compression {
        self.adaptation.coding.current(now)
    }

    /// Returns the largest body of the next request, in bytes.
    pub(crate) fn request_bytes_max(&self) -> usize {
        self.adaptation.size.max()
    }

    /// Returns whether nothing was accepted since the last failure.
    pub(crate) fn has_failed(&self) -> bool {
        self.adaptation.schedule.has_failed()
    }

    /// Returns whether the requests in flight are slow enough that another endpoint should be tried.
    pub(crate) fn has_stalled(&self, now: Instant) -> bool {
        self.pool.stalled_at().is_some_and(|at| at <= now)
    }

    /// Returns whether another request could be sent, perhaps after connecting.
    pub(crate) fn has_room(&self, now: Instant) -> bool {
        let has_connection = self.pool.idle().or(self.pool.closed()).is_some();
        has_connection && !self.is_backing_off(now) && self.may_send(now)
    }

    pub(crate) fn is_backing_off(&self, now: Instant) -> bool {
        self.adaptation.schedule.is_waiting(now)
    }

    /// Returns the time at which [`Self::advance`] has something to do even if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        // Also without a request to send: from then on batches can be taken.
        let wait = self.adaptation.schedule.until();
        let silence = self.adaptation.journal.silence_report_at(self.silent());
        let later = wait.into_iter().chain(silence).filter(|at| now < *at);
        later.chain(self.pool.deadline(now)).min()
    }

    /// Returns whether nothing is in flight, or only slow requests. After a failure one request has to be accepted before
    /// there are several at a time, and on a slow line they would only share it.
    fn may_send(&self, now: Instant) -> bool {
        match self.pool.slow_at() {
            None => true,
            Some(at) => at <= now && !self.has_failed() && !self.adaptation.is_slow,
        }
    }

    fn silent(&self) -> Option<Silent> {
        self.adaptation.journal.silence(self.pool.activities())
    }

    // ---- Commands ----

    /// Chooses a connection for a request. Opens one if needed; a further one only if there is `much` to
    /// be sent.
    pub(crate) fn offer(&mut self, much: bool, context: &mut Context<'_>) -> Offer {
        if self.is_backing_off(context.moment.now) {
            return Offer::BackingOff;
        }
        if !self.may_send(context.moment.now) {
            return Offer::Busy;
        }
        self.pool
            .close_except_to(self.adaptation.target(context.moment.now));
        if let Some(index) = self.pool.idle() {
            return Offer::Ready(index);
        }
        if self.pool.is_opening() {
            return Offer::Opening;
        }
        let is_busy = self.pool.is_busy();
        match self.pool.closed().filter(|_| much || !is_busy) {
            None => Offer::Busy,
            Some(index) => self.open(index, context),
        }
    }

    fn open(&mut self, index: usize, context: &mut Context<'_>) -> Offer {
        let target = self.adaptation.target(context.moment.now);
        match self.pool.open(index, target, context) {
            // The connection carries no request that could have an outcome.
            Some(event) => {
                self.handle(index, event, context);
                Offer::BackingOff
            }
            None => Offer::Opening,
        }
    }

    /// Begins to send a request over the connection that was offered.
    pub(crate) fn start(&mut self, index: usize, request: Arc<Request>, now: Instant) {
        let compression = self.compression(now);
        self.adaptation.schedule.sent(request.body_bytes, now);
        self.pool.get(index).start(request, compression, now);
    }

    /// Ends the backoff, but not waits that the endpoint has requested.
    pub(crate) fn skip_backoff(&mut self) {
        self.adaptation.schedule.skip_wait();
    }

    /// Closes all connections for good. Keeps the health as it is.
    pub(crate) fn give_up(&mut self, moment: Moment) {
        let silent = self.silent();
        self.adaptation.journal.keep_stall(moment, silent);
        self.pool.close_all(self.adaptation.target(moment.now));
    }

    /// Closes all connections after a panic.
    pub(crate) fn recover(&mut self, moment: Moment) {
        self.pool.close_all(self.adaptation.target(moment.now));
        self.adaptation.schedule.failed(moment.now);
        let reason = "the network thread panicked and continues";
        (self.adaptation.journal).enter(EndpointState::BackingOff, Some(reason), moment);
    }

    /// Notes a change of a connection's readiness.
    pub(crate) fn ready(&mut self, index: usize, readiness: Readiness) {
        self.pool.get(index).add_readiness(readiness);
    }

    // ---- Outcomes ----

    /// Advances all connections as far as possible without waiting, until a request has an outcome. To
    /// be called until there is none.
    pub(crate) fn advance(&mut self, context: &mut Context<'_>) -> Option<Settled> {
        for index in self.pool.indices() {
            while let Some(event) = self
                .pool
                .get(index)
                .advance(context.moment.now, context.network)
            {
                let settled = self.handle(index, event, context);
                if settled.is_some() {
                    return settled;
                }
            }
        }
        let silent = self.silent();
        self.adaptation.journal.report_silence(silent, context);
        None
    }

    fn handle(
        &mut self,
        index: usize,
        event: ConnectionEvent,
        context: &mut Context<'_>,
    ) -> Option<Settled> {
        match event {
            ConnectionEvent::Connected => {
                self.adaptation.journal.count_connection(context);
                None
            }
            ConnectionEvent::Replied(reply) => self.handle_reply(index, reply, context),
            ConnectionEvent::Lost {
                request,
                kind,
                reason,
            } => {
                let reason = reason::readable(&reason, &self.settings);
                let outcome = Outcome::Lost { kind, reason };
                self.handle_loss(index, request, outcome, context)
            }
        }
    }

    fn handle_reply(
        &mut self,
        index: usize,
        reply: Reply,
        context: &mut Context<'_>,
    ) -> Option<Settled> {
        self.adaptation.count(&reply, context);
        let silent = self.silent();
        let connection = self.pool.get(index);
        let outcome = self.adaptation.outcome(&reply, connection, context);
        let entry = JournalEntry {
            outcome: &outcome,
            sent: Some((&reply.request, reply.compression)),
            moved: connection.has_moved().then(|| connection.target()),
            silent,
        };
        self.adaptation.adapt(&entry, context);
        let request = reply.request;
        if let Outcome::Redirected {
            target,
            is_permanent,
            ..
        } = outcome
        {
            let now = context.moment.now;
            let event = connection.follow(target, is_permanent, request, now, context.network);
            return self.handle(index, event?, context);
        }
        // After an error another connection may meet a healthier server.
        let target = self.adaptation.target(context.moment.now);
        if !matches!(outcome, Outcome::Accepted { .. }) || connection.target() != target {
            connection.close(target);
        }
        Some((request, outcome))
    }

    fn handle_loss(
        &mut self,
        index: usize,
        request: Option<Arc<Request>>,
        outcome: Outcome,
        context: &mut Context<'_>,
    ) -> Option<Settled> {
        let sent = request.as_deref();
        let entry = JournalEntry {
            outcome: &outcome,
            sent: sent.map(|request| (request, Compression::None)),
            moved: None,
            silent: self.silent(),
        };
        self.adaptation.adapt(&entry, context);
        let target = self.adaptation.target(context.moment.now);
        self.pool.get(index).close(target);
        if outcome.is_stale() {
            // Other idle connections are as old.
            self.pool.close_idle(target);
        }
        Some((request?, outcome))
    }
}

#[cfg(all(test, not(loom)))]
impl EndpointClient {
    /// Returns whether any connection is busy, and whether any is being opened.
    pub(crate) fn activity(&self) -> (bool, bool) {
        (self.pool.is_busy(), self.pool.is_opening())
    }
}
