//! The target of an endpoint's requests: its own URL, or the one that it has moved to permanently.

use std::sync::Arc;
use std::time::Instant;

use crate::config::Target;
use crate::exporter::connection::ConnectionLoss;
use crate::exporter::outcome::{Outcome, REMEMBERED_FOR};

/// The target of one endpoint's requests.
pub(crate) struct Location {
    own: Arc<Target>,
    /// A target that has accepted requests, and the time until which it is remembered.
    moved: Option<(Arc<Target>, Instant)>,
}

impl Location {
    pub(crate) fn new(own: Arc<Target>) -> Self {
        Self { own, moved: None }
    }

    pub(crate) fn current(&self, now: Instant) -> &Arc<Target> {
        match &self.moved {
            Some((target, until)) if now < *until => target,
            _ => &self.own,
        }
    }

    /// Adapts to an outcome at `moved`, the target that permanent redirects have led to, if there is
    /// one. Returns whether that is remembered from now on.
    pub(crate) fn adapt(
        &mut self,
        outcome: &Outcome,
        moved: Option<&Arc<Target>>,
        now: Instant,
    ) -> bool {
        match outcome {
            Outcome::Accepted { .. } => moved.is_some_and(|target| self.remember(target, now)),
            // The endpoint's own URL may redirect to another target now.
            Outcome::Rejected { .. }
            | Outcome::RetryAfter { .. }
            | Outcome::TooLarge { .. }
            | Outcome::NotDecoded { .. }
            | Outcome::ProxyDenied
            | Outcome::Lost {
                kind: ConnectionLoss::Unreachable,
                ..
            } => {
                self.moved = None;
                false
            }
            Outcome::Redirected { .. } | Outcome::Lost { .. } => false,
        }
    }

    fn remember(&mut self, target: &Arc<Target>, now: Instant) -> bool {
        let is_new = self.current(now) != target;
        self.moved = Some((Arc::clone(target), now + REMEMBERED_FOR));
        is_new
    }
}
