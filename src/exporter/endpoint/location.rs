//! Where an endpoint's requests go: to its own URL, or where that has moved permanently.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Target;

/// How long a permanent redirect is remembered.
const FORGET: Duration = Duration::from_secs(600);

pub(crate) struct Location {
    own: Arc<Target>,
    /// A place that has accepted requests, and until when it is remembered.
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

    /// The place that permanent redirects lead to has accepted a request. Returns whether it was not
    /// known.
    pub(crate) fn moved_to(&mut self, target: Arc<Target>, now: Instant) -> bool {
        let is_new = *self.current(now) != target;
        self.moved = Some((target, now + FORGET));
        is_new
    }

    /// The place did not accept a request, or cannot be reached.
    pub(crate) fn forget(&mut self) {
        self.moved = None;
    }
}
