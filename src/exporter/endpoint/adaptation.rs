//! The state of one endpoint that its outcomes change.

use std::sync::Arc;
use std::time::Instant;

use crate::config::{EndpointSettings, Target};
use crate::exporter::connection::{Connection, ConnectionLoss, Reply};
use crate::exporter::context::Context;
use crate::exporter::endpoint::content_coding::ContentCoding;
use crate::exporter::endpoint::journal::{Journal, JournalEntry};
use crate::exporter::endpoint::location::Location;
use crate::exporter::endpoint::request_size::{RequestSize, can_split};
use crate::exporter::endpoint::send_schedule::SendSchedule;
use crate::exporter::moment::Moment;
use crate::exporter::outcome::{Outcome, ResponseContext};
use crate::span::id_generator::RandomSource;

/// The state of one endpoint that its outcomes change.
pub(super) struct Adaptation {
    settings: Arc<EndpointSettings>,
    location: Location,
    pub(super) size: RequestSize,
    pub(super) coding: ContentCoding,
    pub(super) schedule: SendSchedule,
    /// The last request took more than half of the time it had.
    pub(super) is_slow: bool,
    pub(super) journal: Journal,
}

impl Adaptation {
    pub(super) fn new(
        settings: &Arc<EndpointSettings>,
        request_bytes_step: usize,
        moment: Moment,
        random: RandomSource,
    ) -> Self {
        Self {
            location: Location::new(Arc::clone(&settings.target)),
            size: RequestSize::new(settings.options.request_bytes_max, request_bytes_step),
            coding: ContentCoding::new(settings.options.compression),
            schedule: SendSchedule::new(settings.retry_initial, settings.retry_max, random),
            is_slow: false,
            journal: Journal::new(Arc::clone(settings), moment),
            settings: Arc::clone(settings),
        }
    }

    /// Returns the target of new connections.
    pub(super) fn target(&self, now: Instant) -> &Arc<Target> {
        self.location.current(now)
    }

    /// Counts a response, and notes how long it took.
    pub(super) fn count(&mut self, reply: &Reply, context: &mut Context<'_>) {
        let duration = context.moment.now.saturating_duration_since(reply.started);
        self.is_slow = duration > self.settings.request_timeout / 2;
        self.journal.count_reply(reply, duration, context);
    }

    /// Returns the meaning of a response that came over a connection.
    pub(super) fn outcome(
        &self,
        reply: &Reply,
        connection: &Connection,
        context: &Context<'_>,
    ) -> Outcome {
        let moment = context.moment;
        let response_context = ResponseContext {
            settings: &self.settings,
            target: connection.target(),
            redirects: connection.redirects(),
            can_split: can_split(&reply.request, context.envelope),
            is_coding_suspect: (self.coding).is_suspect(reply.compression, moment.now),
            has_coding_worked: self.coding.has_worked(),
            is_throttled_often: self.schedule.is_throttled_often(),
            now: moment.system_time(),
        };
        Outcome::of(&reply.response, &response_context)
    }

    /// Adapts to an outcome, and enters it in the journal.
    pub(super) fn adapt(&mut self, entry: &JournalEntry<'_>, context: &mut Context<'_>) {
        let JournalEntry { outcome, sent, .. } = *entry;
        let now = context.moment.now;
        let has_moved = self.location.adapt(outcome, entry.moved, now);
        let works = match outcome {
            Outcome::Accepted { .. } => true,
            // An endpoint that rejects everything does not work with any size.
            Outcome::TooLarge { .. } => !self.schedule.has_rejected(),
            _ => false,
        };
        self.journal.record(entry, works, has_moved, context);
        let bytes = sent.map_or(0, |(request, _)| request.body_bytes);
        self.schedule.adapt(outcome, bytes, now);
        self.is_slow |= matches!(
            outcome,
            Outcome::Lost {
                kind: ConnectionLoss::TimedOut,
                ..
            }
        );
        if let Some((request, compression)) = sent {
            self.coding.adapt(outcome, compression, now);
            (self.size).adapt(outcome, request, self.is_slow, context.envelope, now);
        }
    }
}
