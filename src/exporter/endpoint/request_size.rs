//! The size of an endpoint's requests, adapted to their outcomes.

use std::time::Instant;

use crate::exporter::outcome::{Outcome, REMEMBERED_FOR, RefusalCause};
use crate::exporter::request::{Request, SPANS_BYTES_MIN};
use crate::otlp::Envelope;

/// The limit of one endpoint's request bodies, in bytes.
pub(crate) struct RequestSize {
    /// The configured maximum.
    most: usize,
    /// Growth after each success.
    step: usize,
    /// The present maximum. It falls after a request without response in time: a slow line must not get
    /// the same request, too large for it, for ever.
    max: usize,
    /// The maximum that growth leads to. It falls after a request that was refused for its size.
    limit: usize,
    limited_until: Option<Instant>,
}

impl RequestSize {
    pub(crate) fn new(most: usize, step: usize) -> Self {
        Self {
            most,
            step,
            max: most,
            limit: most,
            limited_until: None,
        }
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Adapts to the outcome of a request. With `is_slow` it took most of the time it had.
    pub(crate) fn adapt(
        &mut self,
        outcome: &Outcome,
        request: &Request,
        is_slow: bool,
        envelope: &Envelope,
        now: Instant,
    ) {
        match outcome {
            Outcome::Accepted { .. } if !is_slow => self.raise(now),
            // The smallest request is refused with the same words: size is not the reason.
            Outcome::Rejected { status, cause, .. }
                if *cause == RefusalCause::TooLarge && *status != 413 =>
            {
                self.forget_limit()
            }
            Outcome::TooLarge { .. } => self.lower_limit(half(request, envelope), now),
            // Several that share a line are late together, and count once.
            _ if outcome.needs_split() => self.max = self.max.min(half(request, envelope)),
            _ => {}
        }
    }

    fn raise(&mut self, now: Instant) {
        if self.limited_until.is_some_and(|until| now >= until) {
            self.limit = self.most;
            self.limited_until = None;
        }
        self.max = (self.max + self.step).min(self.limit);
    }

    fn forget_limit(&mut self) {
        if self.limited_until.take().is_some() {
            self.limit = self.most;
            self.max = self.most;
        }
    }

    fn lower_limit(&mut self, bytes: usize, now: Instant) {
        self.limit = self.limit.min(bytes);
        self.limited_until = Some(now + REMEMBERED_FOR);
        self.max = self.max.min(self.limit);
    }
}

/// Returns whether the spans of a request fit into smaller ones.
pub(crate) fn can_split(request: &Request, envelope: &Envelope) -> bool {
    request.spans > 1 && request.body_bytes > request.overhead(envelope) + SPANS_BYTES_MIN
}

/// Returns the size of a request with half of the spans. The overhead around them stays.
fn half(request: &Request, envelope: &Envelope) -> usize {
    let overhead = request.overhead(envelope);
    let spans = request.body_bytes.saturating_sub(overhead);
    overhead + (spans / 2).max(SPANS_BYTES_MIN)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::span::InstrumentationScope;

    const MOST: usize = 100_000;

    fn rejected(status: u16, cause: RefusalCause) -> Outcome {
        Outcome::Rejected {
            status,
            cause,
            reason: String::new(),
        }
    }

    #[test]
    fn a_limit_is_forgotten_if_the_smallest_request_is_refused_as_too_large_but_not_with_413() {
        let envelope = Envelope::new(Vec::new(), "", &InstrumentationScope::default());
        let request = Request::of_body(Bytes::from(vec![0; 40_000]));
        let now = Instant::now();
        let mut size = RequestSize::new(MOST, 1000);
        let mut max_after = |outcome: &Outcome| {
            size.adapt(outcome, &request, false, &envelope, now);
            size.max()
        };
        let too_large = Outcome::TooLarge {
            status: 400,
            reason: String::new(),
        };
        let limit = half(&request, &envelope);
        assert_eq!(max_after(&too_large), limit);
        assert_eq!(max_after(&rejected(413, RefusalCause::TooLarge)), limit);
        assert_eq!(max_after(&rejected(400, RefusalCause::Malformed)), limit);
        assert_eq!(max_after(&rejected(400, RefusalCause::TooLarge)), MOST);
    }
    #[test]
    fn requests_grow_by_a_step_with_each_success() {
        let mut size = RequestSize::new(MOST, 1000);
        size.max = 20_000;
        for expected in [21_000, 22_000] {
            size.raise(Instant::now());
            assert_eq!(size.max(), expected);
        }
    }
}
