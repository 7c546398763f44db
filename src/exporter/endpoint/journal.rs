//! The journal of one endpoint: its state and statistics, which outcomes change, and the events that are
//! reported.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Compression, EndpointSettings, Target};
use crate::exporter::connection::{Activity, ConnectionLoss, Reply};
use crate::exporter::context::Context;
use crate::exporter::endpoint::silence::{STALLED, Silence, Silent};
use crate::exporter::http::reason;
use crate::exporter::moment::Moment;
use crate::exporter::notices::incident::Cause;
use crate::exporter::notices::reporter::Report;
use crate::exporter::outcome::Outcome;
use crate::exporter::request::Request;
use crate::otlp::PartialSuccess;
use crate::stats::health::{EndpointHealth, EndpointState};
use crate::stats::notice::{NoticeKind, span_count};
use crate::stats::{EndpointStats, micros};

/// The state and the statistics of one endpoint, as its outcomes change them.
pub(super) struct Journal {
    settings: Arc<EndpointSettings>,
    stats: EndpointStats,
    silence: Silence,
    /// A warning about unreadable bodies was reported.
    has_warned_unreadable: bool,
}

/// An outcome in its circumstances.
pub(super) struct JournalEntry<'a> {
    pub(super) outcome: &'a Outcome,
    /// The request and its compression; `None` if a connection was lost that carried none.
    pub(super) sent: Option<(&'a Request, Compression)>,
    /// The target that permanent redirects alone have led the request to.
    pub(super) moved: Option<&'a Arc<Target>>,
    pub(super) silent: Option<Silent>,
}

/// An event of the endpoint: the state that it enters, the notice of it, and the last error.
struct EndpointEvent {
    state: Option<EndpointState>,
    /// The kind of its notice; `None` if it is only kept as the last error.
    notice: Option<NoticeKind>,
    cause: Cause,
    text: String,
    /// The number of spans that were rejected.
    rejected: u64,
}

impl Journal {
    pub(super) fn new(settings: Arc<EndpointSettings>, moment: Moment) -> Self {
        let target = &settings.target;
        let health = EndpointHealth::new(target.url.clone(), moment.system_time());
        let stats = EndpointStats::new(health, target.host.clone(), target.port);
        Self {
            silence: Silence::new(settings.request_timeout),
            stats,
            settings,
            has_warned_unreadable: false,
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.settings.target.url
    }

    // ---- State ----

    /// Returns the statistics with the present health.
    pub(super) fn snapshot(
        &self,
        moment: Moment,
        silent: Option<Silent>,
        oldest_request: Option<Instant>,
        next_request: Option<Instant>,
    ) -> EndpointStats {
        let mut stats = self.stats.clone();
        let (now, wall) = (moment.now, moment.system_time());
        stats.health.observed_at = wall;
        let age = |since| now.saturating_duration_since(since);
        stats.health.oldest_request_age = oldest_request.map(age);
        let wait = next_request.map(|at| at.saturating_duration_since(now));
        let wait = wait.filter(|wait| *wait > Duration::ZERO);
        stats.health.next_request_at = wait.map(|wait| wall + wait);
        add_stall(&mut stats.health, moment, silent);
        stats
    }

    /// Keeps a stall after the connections are closed.
    pub(super) fn keep_stall(&mut self, moment: Moment, silent: Option<Silent>) {
        add_stall(&mut self.stats.health, moment, silent);
    }

    /// Enters the state. Returns whether it differs from the last one.
    pub(super) fn enter(
        &mut self,
        state: EndpointState,
        reason: Option<&str>,
        moment: Moment,
    ) -> bool {
        let reason = reason.map(|reason| reason::whole(reason, &self.settings));
        (self.stats.health).enter(state, reason, moment.system_time())
    }

    /// Counts a response and its request.
    pub(super) fn count_reply(
        &mut self,
        reply: &Reply,
        duration: Duration,
        context: &mut Context<'_>,
    ) {
        let body_bytes = reply.request.body_bytes as u64;
        context.stats.requests += 1;
        context.stats.body_bytes += body_bytes;
        self.stats.body_bytes += body_bytes;
        (self.stats).add_response(reply.response.status, micros(duration));
        self.silence.note_response(context.moment.now);
    }

    // ---- Silence ----

    /// Returns the present silence, by the activity of all connections.
    pub(super) fn silence(&self, connections: impl Iterator<Item = Activity>) -> Option<Silent> {
        self.silence.present(connections)
    }

    pub(super) fn silence_report_at(&self, silent: Option<Silent>) -> Option<Instant> {
        self.silence.report_at(silent)
    }

    /// Reports the silence of an endpoint that otherwise works.
    pub(super) fn report_silence(&mut self, silent: Option<Silent>, context: &mut Context<'_>) {
        let now = context.moment.now;
        let is_due = (self.silence.report_at(silent)).is_some_and(|at| at <= now);
        let Some(present) = silent.filter(|_| is_due) else {
            return;
        };
        self.silence.reported();
        if self.stats.health.state.works() {
            let text = present.description(now);
            let event = EndpointEvent::new(NoticeKind::Stalled, Cause::Silence, text);
            self.report(&event, silent, context);
            self.note_error(&event.text, context);
        }
    }

    // ---- Outcomes ----

    /// Counts a connection that was established.
    pub(super) fn count_connection(&mut self, context: &mut Context<'_>) {
        context.stats.connections += 1;
        self.stats.connections += 1;
    }

    /// Enters an outcome: adapts state and statistics, and reports it. With `works` it shows that the
    /// endpoint works, with `has_moved` that it has moved.
    pub(super) fn record(
        &mut self,
        entry: &JournalEntry<'_>,
        works: bool,
        has_moved: bool,
        context: &mut Context<'_>,
    ) {
        if works {
            self.record_working(entry.silent, context);
        }
        self.count(entry, context.moment);
        let moved = entry.moved.filter(|_| has_moved);
        let moved = moved.map(|target| self.moved(entry.outcome, target));
        for event in moved.into_iter().chain(self.event(entry)) {
            if let Some(state) = event.state {
                self.enter(state, Some(&event.text), context.moment);
            }
            self.report(&event, entry.silent, context);
            self.note_error(&event.whole_text(), context);
        }
    }

    fn record_working(&mut self, silent: Option<Silent>, context: &mut Context<'_>) {
        let before = self.stats.health.state;
        let is_new = self.enter(EndpointState::Connected, None, context.moment)
            && before != EndpointState::Unused;
        let was_silent = self.silence.finish();
        if is_new || was_silent {
            let event = EndpointEvent::new(NoticeKind::Recovered, Cause::Other, "works again");
            self.report(&event, silent, context);
        }
    }

    fn count(&mut self, entry: &JournalEntry<'_>, moment: Moment) {
        match entry.outcome {
            Outcome::Accepted { partial, .. } => {
                self.stats.last_success_time = moment.unix_nanos;
                let is_partial =
                    (partial.as_ref()).is_ok_and(|partial| *partial != PartialSuccess::default());
                self.stats.partial_successes += u64::from(is_partial);
            }
            Outcome::Redirected { .. } => self.stats.redirects += 1,
            Outcome::Lost { kind, .. } => {
                self.stats.unanswered += u64::from(entry.sent.is_some());
                self.stats.failed_connects += u64::from(*kind == ConnectionLoss::Unreachable);
            }
            Outcome::Rejected { .. }
            | Outcome::RetryAfter { .. }
            | Outcome::TooLarge { .. }
            | Outcome::NotDecoded { .. }
            | Outcome::ProxyDenied => {}
        }
    }

    fn moved(&self, outcome: &Outcome, target: &Target) -> EndpointEvent {
        let url = reason::readable(&target.url, &self.settings);
        let text = format!("moved permanently to {url:?}: use that as the endpoint");
        EndpointEvent::new(NoticeKind::Warned, cause(outcome), text)
    }

    /// Returns the event that an outcome is, if it is to be reported.
    fn event(&mut self, entry: &JournalEntry<'_>) -> Option<EndpointEvent> {
        let cause = cause(entry.outcome);
        let warning = |text: String| Some(EndpointEvent::new(NoticeKind::Warned, cause, text));
        match entry.outcome {
            Outcome::Accepted { status, partial } => match partial {
                Ok(partial) => self.partial_success(partial, cause),
                Err(why) => Some(self.unreadable(*status, why)),
            },
            Outcome::Rejected { reason, .. } => {
                let rejected = entry.sent.map_or(0, |(request, _)| request.spans);
                let text = match rejected {
                    0 => format!("{reason}: metrics rejected"),
                    _ => reason.clone(),
                };
                let event = EndpointEvent::new(NoticeKind::Rejected, cause, text);
                Some(EndpointEvent { rejected, ..event }.with_state(EndpointState::Failing))
            }
            Outcome::RetryAfter {
                status,
                wait,
                should_split,
                reason,
            } => {
                let how = if *should_split {
                    " in smaller requests"
                } else {
                    ""
                };
                let text = format!("{reason}: to be sent again{how}");
                Some(match wait.is_none() && *status != 429 {
                    true => EndpointEvent::backing_off(cause, text),
                    false => EndpointEvent::new(NoticeKind::Throttled, cause, text)
                        .with_state(EndpointState::Throttled),
                })
            }
            Outcome::TooLarge { reason, .. } => {
                let bytes = entry.sent.map_or(0, |(request, _)| request.body_bytes);
                warning(format!(
                    "{reason}: {bytes} bytes are sent as smaller requests; lower request_bytes_max"
                ))
            }
            Outcome::NotDecoded { reason, .. } => {
                let name = (entry.sent).map_or("compression", |(_, coding)| coding.name());
                warning(format!("{reason}: sent again without {name}"))
            }
            Outcome::Redirected { .. } => None,
            Outcome::ProxyDenied => {
                let text = "the proxy responded with 407: check the user and password of proxy";
                Some(EndpointEvent::backing_off(cause, text))
            }
            Outcome::Lost { reason, .. } if entry.outcome.is_stale() => {
                Some(EndpointEvent::new(None, cause, reason))
            }
            Outcome::Lost { reason, .. } => Some(EndpointEvent::backing_off(cause, reason)),
        }
    }

    /// Returns the event of an unreadable body, which is reported once: some endpoints return one with
    /// every success.
    fn unreadable(&mut self, status: u16, why: &str) -> EndpointEvent {
        let text = format!(
            "responded with {status}, but {why}: whether it rejected spans is unknown (reported once)"
        );
        let is_reported = std::mem::replace(&mut self.has_warned_unreadable, true);
        let notice = (!is_reported).then_some(NoticeKind::Warned);
        EndpointEvent::new(notice, Cause::Status(status), text)
    }

    fn partial_success(&self, partial: &PartialSuccess, cause: Cause) -> Option<EndpointEvent> {
        let PartialSuccess { rejected, .. } = *partial;
        if *partial == PartialSuccess::default() {
            return None;
        }
        let message = reason::readable(&partial.message, &self.settings);
        if rejected == 0 {
            let text = format!("accepted with a warning: {message}");
            return Some(EndpointEvent::new(NoticeKind::Warned, cause, text));
        }
        let text = format!("partial success ({message})");
        let event = EndpointEvent::new(NoticeKind::Rejected, cause, text);
        Some(EndpointEvent { rejected, ..event })
    }

    // ---- Reports ----

    /// Keeps an error as the last one.
    pub(super) fn note_error(&self, text: &str, context: &mut Context<'_>) {
        let text = reason::whole(text, &self.settings);
        context.stats.last_error = Some(format!("{}: {text}", self.url()));
        context.stats.errors += 1;
    }

    /// Reports an event if it is more than an error.
    fn report(&self, event: &EndpointEvent, silent: Option<Silent>, context: &mut Context<'_>) {
        let Some(kind) = event.notice else {
            return;
        };
        let moment = context.moment;
        let report = Report {
            kind,
            cause: event.cause,
            endpoint: Some(self.url()),
            message: &reason::whole(&event.text, &self.settings),
            spans: event.rejected,
            since: silent.map_or(moment.now, |silent| silent.since),
        };
        context.reporter.report(moment, &report);
    }
}

impl EndpointEvent {
    fn new(notice: impl Into<Option<NoticeKind>>, cause: Cause, text: impl Into<String>) -> Self {
        Self {
            state: None,
            notice: notice.into(),
            cause,
            text: text.into(),
            rejected: 0,
        }
    }

    fn backing_off(cause: Cause, text: impl Into<String>) -> Self {
        Self::new(NoticeKind::BackingOff, cause, text).with_state(EndpointState::BackingOff)
    }

    fn with_state(self, state: EndpointState) -> Self {
        Self {
            state: Some(state),
            ..self
        }
    }

    /// Returns the text with the number of rejected spans.
    fn whole_text(&self) -> String {
        match self.rejected {
            0 => self.text.clone(),
            spans => format!("{}: {} rejected", self.text, span_count(spans)),
        }
    }
}

/// Returns the cause under which an incident counts an outcome.
fn cause(outcome: &Outcome) -> Cause {
    match outcome {
        Outcome::Lost { kind, .. } => match kind {
            ConnectionLoss::Unreachable => Cause::NoConnection,
            ConnectionLoss::TimedOut => Cause::TimedOut,
            ConnectionLoss::Stale | ConnectionLoss::Broken => Cause::Broken,
        },
        _ => outcome.status().map_or(Cause::Other, Cause::Status),
    }
}

/// Adds a stall to the health of an endpoint that otherwise works, if it has been silent for long enough.
fn add_stall(health: &mut EndpointHealth, moment: Moment, silent: Option<Silent>) {
    let now = moment.now;
    if let Some(silent) = silent.filter(|silent| silent.lasts(now) >= STALLED) {
        health.stall(
            silent.lasts(now),
            silent.description(now),
            moment.system_time(),
        );
    }
}
