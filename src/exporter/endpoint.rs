//! One receiver: its connections, what its answers mean, and when it may be asked again.

mod content_coding;
mod journal;
mod location;
mod pace;
mod pacing;
mod request_size;
pub(crate) mod silence;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::{Compression, EndpointSettings, Target};
use crate::exporter::connection::{Connection, ConnectionEvent, Loss, LossKind, Reply};
use crate::exporter::context::Context;
use crate::exporter::endpoint::content_coding::ContentCoding;
use crate::exporter::endpoint::journal::Journal;
use crate::exporter::endpoint::location::Location;
use crate::exporter::endpoint::pacing::Pacing;
use crate::exporter::endpoint::request_size::{RequestSize, can_split};
use crate::exporter::endpoint::silence::{STALLED, Silent};
use crate::exporter::http::complaint::Complaint;
use crate::exporter::http::reason;
use crate::exporter::http::response::Response;
use crate::exporter::http::verdict::Verdict;
use crate::exporter::network::{ConnectionId, Readiness};
use crate::exporter::notices::incident::Cause;
use crate::exporter::request::Request;
use crate::exporter::resolve::Resolver;
use crate::otlp::PartialSuccess;
use crate::platform::clock::unix_nanos;
use crate::stats::health::EndpointState;
use crate::stats::notice::NoticeKind;
use crate::stats::{EndpointStats, micros};

/// What became of a request.
pub(crate) struct Done {
    pub(crate) request: Arc<Request>,
    pub(crate) outcome: Outcome,
    pub(crate) attempt: Attempt,
    /// How long it may be sent again.
    pub(crate) retry_budget: Duration,
}

/// How the last attempt to send it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) status: Option<u16>,
    /// Why it was no full success, if the status does not say so.
    pub(crate) error: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Taken, but for so many spans.
    Accepted { rejected: u64 },
    /// Refused for good.
    Rejected,
    /// To be sent again, and it was nobody's fault.
    Again,
    /// It failed, and can be sent again.
    Failed,
    /// It took too long, and can be sent again in parts of so many bytes.
    TooSlow { bytes_max: usize },
    /// It was too large, and is to be sent in parts of so many bytes.
    TooLarge { bytes_max: usize },
}

/// Whether an endpoint can be given a request.
pub(crate) enum Offer {
    /// Over the connection at this index.
    Ready(usize),
    /// Soon: a connection is being made.
    Opening,
    /// Its connections are all busy.
    Busy,
    /// Not before some time has passed.
    BackingOff,
}

/// A request that takes longer than this is not waited for before the next is sent. One connection
/// at a time is better for all caches on the way, as long as it carries what there is.
const SLOW: Duration = Duration::from_millis(10);
/// How often one request is redirected.
const REDIRECTS_MAX: u32 = 5;

pub(crate) struct Endpoint {
    settings: Arc<EndpointSettings>,
    location: Location,
    connections: Vec<Connection>,
    resolver: Resolver,
    size: RequestSize,
    coding: ContentCoding,
    pacing: Pacing,
    /// The last request took more than half of the time it had.
    is_slow: bool,
    journal: Journal,
}

impl Endpoint {
    /// Its connections have the ids from `first_id` on.
    pub(crate) fn new(
        settings: Arc<EndpointSettings>,
        request_bytes_step: usize,
        first_id: ConnectionId,
    ) -> Self {
        let journal = Journal::new(Arc::clone(&settings));
        let ids = (first_id.0..).take(settings.connections_max);
        Self {
            connections: ids
                .map(|id| Connection::new(ConnectionId(id), &settings))
                .collect(),
            location: Location::new(Arc::clone(&settings.target)),
            resolver: Resolver::new(settings.connections_max),
            size: RequestSize::new(settings.request_bytes_max, request_bytes_step),
            coding: ContentCoding::new(settings.compression),
            pacing: Pacing::new(settings.retry_initial, settings.retry_max),
            settings,
            is_slow: false,
            journal,
        }
    }

    // ---- What its destination asks ----

    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn url(&self) -> &str {
        self.journal.url()
    }

    /// Its numbers, with its health as of now.
    pub(crate) fn stats(&self, now: Instant) -> EndpointStats {
        let oldest_request = self.busy_since().min();
        let next_request = self.pacing.until();
        (self.journal).snapshot(now, self.silent(), oldest_request, next_request)
    }

    /// The compression of the next request.
    pub(crate) fn compression(&self, now: Instant) -> Compression {
        self.coding.current(now)
    }

    pub(crate) fn request_bytes_max(&self) -> usize {
        self.size.max()
    }

    /// It has not worked since it was last tried.
    pub(crate) fn has_failed(&self) -> bool {
        self.pacing.has_failed()
    }

    /// What is on the way takes so long that something else should be tried.
    pub(crate) fn has_stalled(&self, now: Instant) -> bool {
        self.stalled_at().is_some_and(|at| at <= now)
    }

    fn stalled_at(&self) -> Option<Instant> {
        self.slow_at().map(|at| at - SLOW + STALLED)
    }

    /// It could send something more, perhaps after connecting.
    pub(crate) fn has_room(&self, now: Instant) -> bool {
        !self.is_backing_off(now)
            && self.may_send(now)
            && (self.connections.iter()).any(|c| c.is_ready() || c.is_closed())
    }

    /// When it wants to be advanced even if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        // Also when nothing is to be sent: from then on batches are wanted.
        let wait = self.pacing.until().filter(|at| now < *at);
        let slow_at = self.slow_at().filter(|at| now < *at && !self.is_full());
        let stalled_at = self.stalled_at().filter(|at| now < *at);
        let connections = self.connections.iter().filter_map(|c| c.deadline(now));
        let silence = self.journal.silence_report_at(self.silent());
        let silence = silence.filter(|at| now < *at);
        (connections.chain(wait).chain(slow_at).chain(stalled_at))
            .chain(silence)
            .min()
    }

    // ---- What its destination does to it ----

    /// Whether it can be given a request now; opens a connection if one is needed, a further one
    /// only if there is `much` to be sent.
    pub(crate) fn offer(&mut self, much: bool, context: &mut Context<'_>) -> Offer {
        if self.is_backing_off(context.now) {
            return Offer::BackingOff;
        }
        if !self.may_send(context.now) {
            return Offer::Busy;
        }
        self.leave_old_target(context.now);
        if let Some(index) = self.connections.iter().position(Connection::is_ready) {
            return Offer::Ready(index);
        }
        if self.connections.iter().any(Connection::is_opening) {
            return Offer::Opening;
        }
        let closed = self.connections.iter().position(Connection::is_closed);
        match closed.filter(|_| much || !self.is_busy()) {
            None => Offer::Busy,
            Some(index) => self.open(index, context),
        }
    }

    fn open(&mut self, index: usize, context: &mut Context<'_>) -> Offer {
        let connection = &mut self.connections[index];
        connection.close(self.location.current(context.now));
        match connection.open(&self.resolver, context.now, context.network) {
            // Without a request on it there is nothing that could come of it.
            Some(event) => {
                self.happened(index, event, context, &mut Vec::new());
                Offer::BackingOff
            }
            None => Offer::Opening,
        }
    }

    /// Sends a request over a ready connection.
    pub(crate) fn start(&mut self, index: usize, request: Arc<Request>, now: Instant) {
        let compression = self.compression(now);
        self.pacing.sent(request.body_bytes, now);
        self.connections[index].start(request, compression, now);
    }

    /// Tries again now what waits for its backoff, unless the endpoint has asked for the wait.
    pub(crate) fn hurry(&mut self) {
        self.pacing.skip_wait();
    }

    /// Keeps its health for the time after its connections.
    pub(crate) fn keep_health(&mut self, now: Instant) {
        let silent = self.silent();
        self.journal.keep_stall(now, silent);
    }

    /// Breaks all connections.
    pub(crate) fn close(&mut self, now: Instant) {
        for connection in &mut self.connections {
            connection.close(self.location.current(now));
        }
    }

    /// Starts anew after something went wrong that should not.
    pub(crate) fn recover(&mut self, now: Instant) {
        self.close(now);
        self.pacing.failed(now);
        let reason = "the network thread panicked and goes on";
        (self.journal).enter(EndpointState::BackingOff, Some(reason));
    }

    pub(crate) fn ready(&mut self, connection: usize, readiness: Readiness) {
        self.connections[connection].add_readiness(readiness);
    }

    /// Does all that can be done without waiting; tells what came of requests.
    pub(crate) fn advance(&mut self, context: &mut Context<'_>, done: &mut Vec<Done>) {
        for index in 0..self.connections.len() {
            while let Some(event) = self.connections[index].advance(context.now, context.network) {
                self.happened(index, event, context, done);
            }
        }
        let silent = self.silent();
        self.journal.report_silence(silent, context);
    }

    // ---- What happened ----

    fn happened(
        &mut self,
        index: usize,
        event: ConnectionEvent,
        context: &mut Context<'_>,
        done: &mut Vec<Done>,
    ) {
        match event {
            ConnectionEvent::Connected => {
                context.stats.connections += 1;
                self.journal.stats.connections += 1;
            }
            ConnectionEvent::Replied(reply) => self.answered(index, reply, context, done),
            ConnectionEvent::Lost(loss) => self.lost(index, loss, context, done),
        }
    }

    fn answered(
        &mut self,
        index: usize,
        reply: Reply,
        context: &mut Context<'_>,
        done: &mut Vec<Done>,
    ) {
        self.count(&reply, context);
        let status = reply.response.status;
        let verdict = Verdict::of(&reply.response, &self.settings, SystemTime::now());
        let outcome = match verdict {
            Verdict::Redirected { is_permanent } => {
                return self.redirected(index, is_permanent, reply, context, done);
            }
            Verdict::Accepted(partial) => self.accepted(index, &reply, partial, context),
            Verdict::Retry {
                wait,
                is_rate_limit,
            } => self.throttle(&reply, wait, is_rate_limit, context),
            Verdict::ProxyDenied => self.proxy_refused(context),
            Verdict::Refused(complaint) => self.refused(&reply, complaint, context),
        };
        self.close_after(index, &reply.response, context.now);
        done.push(self.answered_with(reply.request, outcome, status));
    }

    /// After an error another connection may meet a healthier server, and another place is asked for
    /// the redirect again.
    fn close_after(&mut self, index: usize, response: &Response, now: Instant) {
        if !response.is_success() {
            self.location.forget();
        }
        let connection = &mut self.connections[index];
        let target = self.location.current(now);
        if !response.is_success() || connection.target() != target {
            connection.close(target);
        }
    }

    fn count(&mut self, reply: &Reply, context: &mut Context<'_>) {
        let body_bytes = reply.request.body_bytes as u64;
        context.stats.requests += 1;
        context.stats.body_bytes += body_bytes;
        self.journal.stats.body_bytes += body_bytes;
        let duration = context.now.saturating_duration_since(reply.started);
        self.is_slow = duration > self.settings.request_timeout / 2;
        let us = micros(duration);
        (self.journal).answered(reply.response.status, us, context.now);
    }

    fn accepted(
        &mut self,
        index: usize,
        reply: &Reply,
        partial: Result<PartialSuccess, String>,
        context: &mut Context<'_>,
    ) -> Outcome {
        let (request, response) = (&reply.request, &reply.response);
        self.answers(context);
        self.pacing.accepted(request.body_bytes, context.now);
        self.coding.accepted(reply.compression);
        // As long as there is time to spare, and slowly.
        if !self.is_slow {
            self.size.raise(context.now);
        }
        self.note_move(index, response.status, context);
        self.journal.stats.last_success_time = unix_nanos();
        let partial = partial.unwrap_or_else(|why| {
            let silent = self.silent();
            (self.journal).warn_unreadable(response.status, &why, silent, context);
            PartialSuccess::default()
        });
        self.note_partial_success(response.status, &partial, context);
        Outcome::Accepted {
            rejected: partial.rejected.min(request.spans),
        }
    }

    /// Remembers where permanent redirects have led to.
    fn note_move(&mut self, index: usize, status: u16, context: &mut Context<'_>) {
        let connection = &self.connections[index];
        if !connection.has_moved() {
            return;
        }
        let target = Arc::clone(connection.target());
        if self.location.moved_to(Arc::clone(&target), context.now) {
            let url = reason::readable(&target.url, &self.settings);
            let what = format!("moved permanently to {url:?}: use that as the endpoint");
            self.note(NoticeKind::Warned, Cause::Status(status), &what, context);
        }
    }

    fn note_partial_success(
        &mut self,
        status: u16,
        partial: &PartialSuccess,
        context: &mut Context<'_>,
    ) {
        if partial.rejected == 0 && partial.message.is_empty() {
            return;
        }
        self.journal.stats.partial_successes += 1;
        let message = reason::readable(&partial.message, &self.settings);
        let cause = Cause::Status(status);
        if partial.rejected == 0 {
            let what = format!("accepted with a warning: {message}");
            self.note(NoticeKind::Warned, cause, &what, context);
        } else {
            let what = format!("partial success ({message})");
            self.note_rejected(cause, &what, partial.rejected, context);
        }
    }

    /// The endpoint refused the request as it is: it may accept the spans in another form.
    fn refused(
        &mut self,
        reply: &Reply,
        complaint: Complaint,
        context: &mut Context<'_>,
    ) -> Outcome {
        let Reply {
            request,
            response,
            compression,
            ..
        } = reply;
        if complaint == Complaint::TooLarge && can_split(request, context.envelope) {
            return self.too_large(request, response, context);
        }
        if (self.coding).refused(*compression, complaint, context.now) {
            return self.not_decoded(*compression, response, context);
        }
        if complaint == Complaint::TooLarge && response.status != 413 {
            // The smallest request is refused with the same words, so size is not the reason.
            self.size.forget_limit();
        }
        self.rejected(
            request,
            response.status,
            &reason::of_error(response, &self.settings),
            context,
        )
    }

    /// The spans are lost.
    fn rejected(
        &mut self,
        request: &Request,
        status: u16,
        what: &str,
        context: &mut Context<'_>,
    ) -> Outcome {
        self.pacing.rejected(context.now);
        self.journal.enter(EndpointState::Failing, Some(what));
        let cause = Cause::Status(status);
        match request.spans {
            0 => {
                let what = format!("{what}: metrics rejected");
                self.note(NoticeKind::Rejected, cause, &what, context);
            }
            spans => self.note_rejected(cause, what, spans, context),
        }
        Outcome::Rejected
    }

    /// The endpoint may not know the compression: the same request is sent without.
    fn not_decoded(
        &mut self,
        compression: Compression,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Outcome {
        let what = reason::of_error(response, &self.settings);
        let name = compression.name();
        let what = format!("{what}: sent again without {name}");
        let cause = Cause::Status(response.status);
        self.note(NoticeKind::Warned, cause, &what, context);
        Outcome::Again
    }

    /// Only a proxy answers so: the endpoint has not been asked.
    fn proxy_refused(&mut self, context: &mut Context<'_>) -> Outcome {
        let what = "the proxy answered 407: check the user and password of proxy";
        self.pacing.failed(context.now);
        self.journal.enter(EndpointState::BackingOff, Some(what));
        self.note(NoticeKind::BackingOff, Cause::Status(407), what, context);
        Outcome::Failed
    }

    /// The endpoint finds the request too large. That is final for this one, and nothing of it was
    /// taken: its spans go into smaller ones, as do those that come after it.
    fn too_large(
        &mut self,
        request: &Request,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Outcome {
        if !self.pacing.has_rejected() {
            self.answers(context);
        }
        let bytes_max = (self.size).too_large(request, context.envelope, context.now);
        let what = reason::of_error(response, &self.settings);
        let what = format!(
            "{what}: {} bytes are sent as smaller requests; lower request_bytes_max",
            request.body_bytes
        );
        let cause = Cause::Status(response.status);
        self.note(NoticeKind::Warned, cause, &what, context);
        Outcome::TooLarge { bytes_max }
    }

    /// The endpoint asks for the same request later.
    fn throttle(
        &mut self,
        reply: &Reply,
        wait: Option<Duration>,
        is_rate_limit: bool,
        context: &mut Context<'_>,
    ) -> Outcome {
        let (request, response) = (&reply.request, &reply.response);
        self.pacing.failed(context.now);
        if let Some(wait) = wait {
            self.pacing.wait_for(wait, context.now);
        }
        let is_stuck = is_rate_limit && self.pacing.throttled(context.now);
        let what = reason::of_error(response, &self.settings);
        let cause = Cause::Status(response.status);
        let (state, kind) = if wait.is_some() || is_rate_limit {
            (EndpointState::Throttled, NoticeKind::Throttled)
        } else {
            (EndpointState::BackingOff, NoticeKind::BackingOff)
        };
        if is_stuck && can_split(request, context.envelope) {
            let bytes_max = self.size.too_slow(request, context.envelope);
            let what = format!("{what}: to be sent again in smaller requests");
            self.journal.enter(state, Some(&what));
            self.note(kind, cause, &what, context);
            return Outcome::TooSlow { bytes_max };
        }
        let what = format!("{what}: to be sent again");
        self.journal.enter(state, Some(&what));
        self.note(kind, cause, &what, context);
        Outcome::Failed
    }

    /// Sends the request where the answer says, with method and body as they are (RFC 9110,
    /// 15.4.8 and 15.4.9). Other redirects would make it a GET, and are errors.
    fn redirected(
        &mut self,
        index: usize,
        is_permanent: bool,
        reply: Reply,
        context: &mut Context<'_>,
        done: &mut Vec<Done>,
    ) {
        let Reply {
            request, response, ..
        } = reply;
        let status = response.status;
        let location = response.location.as_deref().unwrap_or_default();
        let target = match self.redirect_target(index, location) {
            Ok(target) => Arc::new(target),
            Err(why) => {
                let why = reason::readable(&why, &self.settings);
                let what = format!("answered {status}, but its Location {why}");
                let outcome = self.rejected(&request, status, &what, context);
                self.close_after(index, &response, context.now);
                done.push(self.answered_with(request, outcome, status));
                return;
            }
        };
        self.journal.stats.redirects += 1;
        let event = self.connections[index].follow(
            target,
            is_permanent,
            request,
            &self.resolver,
            context.now,
            context.network,
        );
        if let Some(event) = event {
            self.happened(index, event, context, done);
        }
    }

    /// Where a connection is redirected to; the error says why that is not followed.
    fn redirect_target(&self, index: usize, location: &str) -> Result<Target, String> {
        let connection = &self.connections[index];
        let target = connection.target().redirect(location)?;
        if connection.redirects() >= REDIRECTS_MAX {
            return Err(format!("is one more after {REDIRECTS_MAX} in a row"));
        }
        if let Some(why) = (self.settings.redirects).objection(&self.settings.target, &target) {
            return Err(why);
        }
        if target.is_https && !self.settings.can_secure() {
            return Err("leads to https: use an https URL, with the feature `tls`".to_string());
        }
        Ok(target)
    }

    fn lost(&mut self, index: usize, loss: Loss, context: &mut Context<'_>, done: &mut Vec<Done>) {
        let reason = reason::readable(&loss.reason, &self.settings);
        if loss.kind == LossKind::Unreachable {
            // Where it has moved to may be gone: its own place knows.
            self.location.forget();
        }
        let target = self.location.current(context.now);
        self.connections[index].close(target);
        let outcome = match loss.kind {
            LossKind::Stale => {
                // What else was kept is as old.
                let kept = self.connections.iter_mut().filter(|c| c.is_ready());
                kept.for_each(|connection| connection.close(target));
                Outcome::Again
            }
            LossKind::TimedOut => {
                self.is_slow = true;
                let size = &mut self.size;
                let request = loss.request.as_deref();
                Outcome::TooSlow {
                    bytes_max: request.map_or(size.max(), |r| size.too_slow(r, context.envelope)),
                }
            }
            LossKind::Unreachable | LossKind::Broken => Outcome::Failed,
        };
        self.journal.stats.unanswered += u64::from(loss.request.is_some());
        self.journal.stats.failed_connects += u64::from(loss.kind == LossKind::Unreachable);
        if loss.kind == LossKind::Stale {
            self.journal.note_error(&reason, context);
        } else {
            self.pacing.failed(context.now);
            self.journal.enter(EndpointState::BackingOff, Some(&reason));
            let cause = match loss.kind {
                LossKind::Unreachable => Cause::NoConnection,
                LossKind::TimedOut => Cause::TimedOut,
                LossKind::Stale | LossKind::Broken => Cause::Broken,
            };
            self.note(NoticeKind::BackingOff, cause, &reason, context);
        }
        let error = match loss.kind {
            LossKind::TimedOut => "timeout",
            LossKind::Unreachable | LossKind::Stale | LossKind::Broken => "connection_lost",
        };
        let attempt = Attempt {
            status: None,
            error: Some(error),
        };
        done.extend((loss.request).map(|request| self.done(request, outcome, attempt)));
    }

    fn answered_with(&self, request: Arc<Request>, outcome: Outcome, status: u16) -> Done {
        let is_partial = matches!(outcome, Outcome::Accepted { rejected } if rejected > 0);
        let attempt = Attempt {
            status: Some(status),
            error: is_partial.then_some("rejected"),
        };
        self.done(request, outcome, attempt)
    }

    fn done(&self, request: Arc<Request>, outcome: Outcome, attempt: Attempt) -> Done {
        Done {
            request,
            outcome,
            attempt,
            retry_budget: self.settings.retry_budget,
        }
    }

    // ---- Whether it works ----

    /// It has answered, and can be sent the next request at once.
    fn answers(&mut self, context: &mut Context<'_>) {
        let silent = self.silent();
        self.journal.works_again(silent, context);
        self.pacing.answered();
    }

    pub(crate) fn is_backing_off(&self, now: Instant) -> bool {
        self.pacing.is_waiting(now)
    }

    /// Nothing is on the way, or only what takes its time. After a failure one request has to come
    /// through before there are several at a time, and on a slow line they would only share it.
    fn may_send(&self, now: Instant) -> bool {
        match self.slow_at() {
            None => true,
            Some(at) => at <= now && !self.pacing.has_failed() && !self.is_slow,
        }
    }

    /// From when on all that is on the way is slow.
    fn slow_at(&self) -> Option<Instant> {
        self.busy_since().max().map(|since| since + SLOW)
    }

    fn busy_since(&self) -> impl Iterator<Item = Instant> {
        self.connections.iter().filter_map(Connection::busy_since)
    }

    fn is_busy(&self) -> bool {
        self.connections.iter().any(Connection::is_busy)
    }

    fn is_full(&self) -> bool {
        self.connections.iter().all(Connection::is_busy)
    }

    /// Closes kept connections to where requests no longer go.
    fn leave_old_target(&mut self, now: Instant) {
        let target = self.location.current(now);
        for connection in self.connections.iter_mut().filter(|c| c.is_ready()) {
            if connection.target() != target {
                connection.close(target);
            }
        }
    }

    fn note(&self, kind: NoticeKind, cause: Cause, what: &str, context: &mut Context<'_>) {
        self.journal.note(kind, cause, what, self.silent(), context);
    }

    fn note_rejected(&self, cause: Cause, what: &str, spans: u64, context: &mut Context<'_>) {
        (self.journal).note_rejected(cause, what, spans, self.silent(), context);
    }

    fn silent(&self) -> Option<Silent> {
        (self.journal).silence(self.connections.iter().filter_map(Connection::activity))
    }
}
