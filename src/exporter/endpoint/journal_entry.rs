//! The journal's entry of an outcome: the endpoint's state after it, and its texts.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Compression, Target};
use crate::exporter::connection::LossKind;
use crate::exporter::context::Context;
use crate::exporter::endpoint::journal::Journal;
use crate::exporter::endpoint::silence::Silent;
use crate::exporter::http::reason;
use crate::exporter::notices::incident::Cause;
use crate::exporter::outcome::Outcome;
use crate::exporter::request::Request;
use crate::otlp::PartialSuccess;
use crate::stats::health::EndpointState;
use crate::stats::notice::{NoticeKind, span_count};

/// An outcome in its circumstances.
pub(super) struct JournalEntry<'a> {
    pub(super) outcome: &'a Outcome,
    /// The request and its compression; `None` if a connection was lost that carried none.
    pub(super) sent: Option<(&'a Request, Compression)>,
    /// The target that permanent redirects alone have led the request to.
    pub(super) moved: Option<&'a Arc<Target>>,
    pub(super) silent: Option<Silent>,
}

impl Journal {
    /// Enters an outcome: adapts the state, and reports it. With `works` it shows that the endpoint
    /// works, with `has_moved` that it has moved.
    pub(super) fn record(
        &mut self,
        entry: &JournalEntry<'_>,
        works: bool,
        has_moved: bool,
        context: &mut Context<'_>,
    ) {
        if works {
            self.record_working(entry, context);
        }
        match entry.outcome {
            Outcome::Accepted { status, partial } => {
                self.stats.last_success_time = context.moment.unix_nanos;
                if has_moved {
                    self.warn_move(*status, entry, context);
                }
                match partial {
                    Ok(partial) => self.record_partial_success(*status, partial, entry, context),
                    Err(why) => self.warn_unreadable(*status, why, entry, context),
                }
            }
            Outcome::Rejected { status, reason, .. } => {
                self.record_rejected(*status, reason, entry, context);
            }
            Outcome::RetryAfter {
                status,
                wait,
                is_stuck,
                reason,
            } => self.record_retry(*status, *wait, (*is_stuck, reason), entry, context),
            Outcome::TooLarge { status, reason } => {
                let bytes = entry.sent.map_or(0, |(request, _)| request.body_bytes);
                let text = format!(
                    "{reason}: {bytes} bytes are sent as smaller requests; lower request_bytes_max"
                );
                self.warn(*status, &text, entry, context);
            }
            Outcome::NotDecoded { status, reason } => {
                let name = entry
                    .sent
                    .map_or("compression", |(_, compression)| compression.name());
                let text = format!("{reason}: sent again without {name}");
                self.warn(*status, &text, entry, context);
            }
            Outcome::Redirected { .. } => self.stats.redirects += 1,
            Outcome::ProxyDenied => {
                let text = "the proxy responded with 407: check the user and password of proxy";
                self.back_off(Cause::Status(407), text, entry, context);
            }
            Outcome::Lost { kind, reason } => self.record_lost(*kind, reason, entry, context),
        }
    }

    fn warn_move(&self, status: u16, entry: &JournalEntry<'_>, context: &mut Context<'_>) {
        if let Some(target) = entry.moved {
            let url = reason::readable(&target.url, &self.settings);
            let text = format!("moved permanently to {url:?}: use that as the endpoint");
            self.warn(status, &text, entry, context);
        }
    }

    fn record_working(&mut self, entry: &JournalEntry<'_>, context: &mut Context<'_>) {
        let before = self.stats.health.state;
        let is_new = self.enter(EndpointState::Connected, None, context.moment)
            && before != EndpointState::Unused;
        let was_silent = self.end_silence();
        if is_new || was_silent {
            let kind = NoticeKind::Recovered;
            self.report(
                kind,
                Cause::Other,
                ("works again", 0),
                entry.silent,
                context,
            );
        }
    }

    fn record_partial_success(
        &mut self,
        status: u16,
        partial: &PartialSuccess,
        entry: &JournalEntry<'_>,
        context: &mut Context<'_>,
    ) {
        if *partial == PartialSuccess::default() {
            return;
        }
        self.stats.partial_successes += 1;
        let message = reason::readable(&partial.message, &self.settings);
        if partial.rejected == 0 {
            let text = format!("accepted with a warning: {message}");
            self.warn(status, &text, entry, context);
        } else {
            let text = format!("partial success ({message})");
            self.note_rejected(status, &text, partial.rejected, entry, context);
        }
    }

    /// Some endpoints return unreadable bodies with every success.
    fn warn_unreadable(
        &mut self,
        status: u16,
        why: &str,
        entry: &JournalEntry<'_>,
        context: &mut Context<'_>,
    ) {
        let text = format!(
            "responded with {status}, but {why}: whether it rejected spans is unknown (reported once)"
        );
        if std::mem::replace(&mut self.has_warned_unreadable, true) {
            self.note_error(&text, context);
        } else {
            self.warn(status, &text, entry, context);
        }
    }

    fn record_rejected(
        &mut self,
        status: u16,
        reason: &str,
        entry: &JournalEntry<'_>,
        context: &mut Context<'_>,
    ) {
        self.enter(EndpointState::Failing, Some(reason), context.moment);
        match entry.sent.map_or(0, |(request, _)| request.spans) {
            0 => {
                let text = format!("{reason}: metrics rejected");
                let (kind, cause) = (NoticeKind::Rejected, Cause::Status(status));
                self.note(kind, cause, &text, entry.silent, context);
            }
            spans => self.note_rejected(status, reason, spans, entry, context),
        }
    }

    fn record_retry(
        &mut self,
        status: u16,
        wait: Option<Duration>,
        (is_stuck, reason): (bool, &str),
        entry: &JournalEntry<'_>,
        context: &mut Context<'_>,
    ) {
        let how = if is_stuck { " in smaller requests" } else { "" };
        let text = format!("{reason}: to be sent again{how}");
        let cause = Cause::Status(status);
        if wait.is_none() && status != 429 {
            return self.back_off(cause, &text, entry, context);
        }
        self.enter(EndpointState::Throttled, Some(&text), context.moment);
        self.note(NoticeKind::Throttled, cause, &text, entry.silent, context);
    }

    fn record_lost(
        &mut self,
        kind: LossKind,
        reason: &str,
        entry: &JournalEntry<'_>,
        context: &mut Context<'_>,
    ) {
        self.stats.unanswered += u64::from(entry.sent.is_some());
        self.stats.failed_connects += u64::from(kind == LossKind::Unreachable);
        let cause = match kind {
            LossKind::Stale => return self.note_error(reason, context),
            LossKind::Unreachable => Cause::NoConnection,
            LossKind::TimedOut => Cause::TimedOut,
            LossKind::Broken => Cause::Broken,
        };
        self.back_off(cause, reason, entry, context);
    }

    fn back_off(
        &mut self,
        cause: Cause,
        text: &str,
        entry: &JournalEntry<'_>,
        context: &mut Context<'_>,
    ) {
        self.enter(EndpointState::BackingOff, Some(text), context.moment);
        self.note(NoticeKind::BackingOff, cause, text, entry.silent, context);
    }

    fn warn(&self, status: u16, text: &str, entry: &JournalEntry<'_>, context: &mut Context<'_>) {
        let cause = Cause::Status(status);
        self.note(NoticeKind::Warned, cause, text, entry.silent, context);
    }

    fn note_rejected(
        &self,
        status: u16,
        text: &str,
        spans: u64,
        entry: &JournalEntry<'_>,
        context: &mut Context<'_>,
    ) {
        let (kind, cause) = (NoticeKind::Rejected, Cause::Status(status));
        self.report(kind, cause, (text, spans), entry.silent, context);
        let text = format!("{text}: {} rejected", span_count(spans));
        self.note_error(&text, context);
    }
}
