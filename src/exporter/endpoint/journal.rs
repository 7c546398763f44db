//! The journal of one endpoint: its state, its numbers, and the events that are reported of it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::config::EndpointSettings;
use crate::exporter::connection::Activity;
use crate::exporter::context::Context;
use crate::exporter::endpoint::silence::{STALLED, Silence, Silent};
use crate::exporter::http::reason;
use crate::exporter::notices::incident::Cause;
use crate::exporter::notices::reporter::Report;
use crate::stats::EndpointStats;
use crate::stats::health::{EndpointHealth, EndpointState};
use crate::stats::notice::{NoticeKind, span_count};

pub(crate) struct Journal {
    settings: Arc<EndpointSettings>,
    pub(crate) stats: EndpointStats,
    silence: Silence,
    /// A warning about bodies that cannot be read was reported.
    has_warned_unreadable: bool,
}

impl Journal {
    pub(crate) fn new(settings: Arc<EndpointSettings>) -> Self {
        let target = &settings.target;
        let stats = EndpointStats::new(target.url.clone(), target.host.clone(), target.port);
        Self {
            silence: Silence::new(settings.request_timeout),
            stats,
            settings,
            has_warned_unreadable: false,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.settings.target.url
    }

    // ---- State ----

    /// The numbers, with the health as of now.
    pub(crate) fn snapshot(
        &self,
        now: Instant,
        silent: Option<Silent>,
        oldest_request: Option<Instant>,
        next_request: Option<Instant>,
    ) -> EndpointStats {
        let mut stats = self.stats.clone();
        let age = |since| now.saturating_duration_since(since);
        stats.health.oldest_request_age = oldest_request.map(age);
        let pause = next_request.map(|at| at.saturating_duration_since(now));
        let pause = pause.filter(|pause| !pause.is_zero());
        stats.health.next_request_at = pause.map(|pause| SystemTime::now() + pause);
        add_stall(&mut stats.health, now, silent);
        stats
    }

    /// Keeps a stall for the time after the connections.
    pub(crate) fn keep_stall(&mut self, now: Instant, silent: Option<Silent>) {
        add_stall(&mut self.stats.health, now, silent);
    }

    /// Notes the state. Returns whether it is another one.
    pub(crate) fn enter(&mut self, state: EndpointState, reason: Option<&str>) -> bool {
        let reason = reason.map(|reason| reason::whole(reason, &self.settings));
        self.stats.health.enter(state, reason)
    }

    /// A response came, in so many microseconds.
    pub(crate) fn answered(&mut self, status: u16, us: u64, now: Instant) {
        self.stats.add_response(status, us);
        self.silence.answered(now);
    }

    /// A response shows that the endpoint works.
    pub(crate) fn works_again(&mut self, silent: Option<Silent>, context: &mut Context<'_>) {
        let before = self.stats.health.state;
        let is_new = self.enter(EndpointState::Connected, None) && before != EndpointState::Unused;
        let was_silent = self.silence.end();
        if is_new || was_silent {
            let (kind, cause) = (NoticeKind::Recovered, Cause::Other);
            self.report(kind, cause, ("works again", 0), silent, context);
        }
    }

    // ---- Silence ----

    /// The present silence, by the activity of all connections.
    pub(crate) fn silence(&self, connections: impl Iterator<Item = Activity>) -> Option<Silent> {
        self.silence.present(connections)
    }

    pub(crate) fn silence_report_at(&self, silent: Option<Silent>) -> Option<Instant> {
        self.silence.report_at(silent)
    }

    /// Reports the silence of an endpoint that otherwise works.
    pub(crate) fn report_silence(&mut self, silent: Option<Silent>, context: &mut Context<'_>) {
        let now = context.now;
        let is_due = (self.silence.report_at(silent)).is_some_and(|at| at <= now);
        let Some(present) = silent.filter(|_| is_due) else {
            return;
        };
        self.silence.reported();
        if self.stats.health.state.works() {
            let what = present.in_words(now);
            let (kind, cause) = (NoticeKind::Stalled, Cause::Silence);
            self.note(kind, cause, &what, silent, context);
        }
    }

    // ---- Events ----

    /// Reports an event, and keeps it as the last error.
    pub(crate) fn note(
        &self,
        kind: NoticeKind,
        cause: Cause,
        what: &str,
        silent: Option<Silent>,
        context: &mut Context<'_>,
    ) {
        self.report(kind, cause, (what, 0), silent, context);
        self.note_error(what, context);
    }

    /// Reports rejected spans.
    pub(crate) fn note_rejected(
        &self,
        cause: Cause,
        what: &str,
        spans: u64,
        silent: Option<Silent>,
        context: &mut Context<'_>,
    ) {
        let kind = NoticeKind::Rejected;
        self.report(kind, cause, (what, spans), silent, context);
        let what = format!("{what}: {} rejected", span_count(spans));
        self.note_error(&what, context);
    }

    /// A success whose body cannot be read. Some endpoints always answer so.
    pub(crate) fn warn_unreadable(
        &mut self,
        status: u16,
        why: &str,
        silent: Option<Silent>,
        context: &mut Context<'_>,
    ) {
        let what = format!(
            "answered {status}, but {why}: whether it rejected spans is unknown (reported once)"
        );
        if std::mem::replace(&mut self.has_warned_unreadable, true) {
            self.note_error(&what, context);
        } else {
            let cause = Cause::Status(status);
            self.note(NoticeKind::Warned, cause, &what, silent, context);
        }
    }

    /// Keeps an error as the last one.
    pub(crate) fn note_error(&self, what: &str, context: &mut Context<'_>) {
        let what = reason::whole(what, &self.settings);
        context.stats.last_error = Some(format!("{}: {what}", self.url()));
        context.stats.errors += 1;
    }

    fn report(
        &self,
        kind: NoticeKind,
        cause: Cause,
        (what, spans): (&str, u64),
        silent: Option<Silent>,
        context: &mut Context<'_>,
    ) {
        let now = context.now;
        let report = Report {
            kind,
            cause,
            endpoint: Some(self.url()),
            message: &reason::whole(what, &self.settings),
            spans,
            since: silent.map_or(now, |silent| silent.since),
        };
        context.reporter.report(now, &report);
    }
}

/// An endpoint that works otherwise and from which nothing comes is stalled.
fn add_stall(health: &mut EndpointHealth, now: Instant, silent: Option<Silent>) {
    if let Some(silent) = silent.filter(|silent| silent.lasts(now) >= STALLED) {
        health.stall(silent.lasts(now), silent.in_words(now));
    }
}
