//! The journal of one endpoint: its state, its statistics, and the events that are reported.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::EndpointSettings;
use crate::exporter::connection::Activity;
use crate::exporter::context::Context;
use crate::exporter::endpoint::silence::{STALLED, Silence, Silent};
use crate::exporter::http::reason;
use crate::exporter::moment::Moment;
use crate::exporter::notices::incident::Cause;
use crate::exporter::notices::reporter::Report;
use crate::stats::EndpointStats;
use crate::stats::health::{EndpointHealth, EndpointState};
use crate::stats::notice::NoticeKind;

pub(super) struct Journal {
    pub(super) settings: Arc<EndpointSettings>,
    pub(super) stats: EndpointStats,
    silence: Silence,
    /// A warning about unreadable bodies was reported.
    pub(super) has_warned_unreadable: bool,
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

    /// Returns the numbers with the present health.
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

    /// Keeps a stall for the time after the connections.
    pub(super) fn keep_stall(&mut self, moment: Moment, silent: Option<Silent>) {
        add_stall(&mut self.stats.health, moment, silent);
    }

    /// Enters the state. Returns whether it is another one.
    pub(super) fn enter(
        &mut self,
        state: EndpointState,
        reason: Option<&str>,
        moment: Moment,
    ) -> bool {
        let reason = reason.map(|reason| reason::whole(reason, &self.settings));
        (self.stats.health).enter(state, reason, moment.system_time())
    }

    /// Counts a response, which took this many microseconds.
    pub(super) fn count_response(&mut self, status: u16, us: u64, now: Instant) {
        self.stats.add_response(status, us);
        self.silence.note_response(now);
    }

    /// Ends the silence. Returns whether it was reported.
    pub(super) fn end_silence(&mut self) -> bool {
        self.silence.end()
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
            let text = present.in_words(now);
            self.note(NoticeKind::Stalled, Cause::Silence, &text, silent, context);
        }
    }

    // ---- Events ----

    /// Reports an event, and keeps it as the last error.
    pub(super) fn note(
        &self,
        kind: NoticeKind,
        cause: Cause,
        text: &str,
        silent: Option<Silent>,
        context: &mut Context<'_>,
    ) {
        self.report(kind, cause, (text, 0), silent, context);
        self.note_error(text, context);
    }

    /// Keeps an error as the last one.
    pub(super) fn note_error(&self, text: &str, context: &mut Context<'_>) {
        let text = reason::whole(text, &self.settings);
        context.stats.last_error = Some(format!("{}: {text}", self.url()));
        context.stats.errors += 1;
    }

    /// Reports an event about some spans.
    pub(super) fn report(
        &self,
        kind: NoticeKind,
        cause: Cause,
        (text, spans): (&str, u64),
        silent: Option<Silent>,
        context: &mut Context<'_>,
    ) {
        let now = context.moment.now;
        let report = Report {
            kind,
            cause,
            endpoint: Some(self.url()),
            message: &reason::whole(text, &self.settings),
            spans,
            since: silent.map_or(now, |silent| silent.since),
        };
        context.reporter.report(context.moment, &report);
    }
}

/// An endpoint that otherwise works and that nothing comes from is stalled.
fn add_stall(health: &mut EndpointHealth, moment: Moment, silent: Option<Silent>) {
    let now = moment.now;
    if let Some(silent) = silent.filter(|silent| silent.lasts(now) >= STALLED) {
        health.stall(
            silent.lasts(now),
            silent.in_words(now),
            moment.system_time(),
        );
    }
}
