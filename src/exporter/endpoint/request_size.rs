//! How large an endpoint's requests may be, as its answers teach.

use std::time::{Duration, Instant};

use crate::exporter::request::{Request, SPANS_BYTES_MIN};
use crate::otlp::Envelope;

/// After this what was found too large is tried again: the endpoint may have been set up anew.
const FORGET: Duration = Duration::from_secs(600);

/// In bytes.
pub(crate) struct RequestSize {
    /// As configured.
    most: usize,
    /// How much more is tried after a success.
    step: usize,
    /// Now: less after a request that was not answered in time, so that a slow line is not offered
    /// the same too large request for ever.
    max: usize,
    /// What it may become again: less after a request that was found too large.
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

    /// A request has come through in good time.
    pub(crate) fn raise(&mut self, now: Instant) {
        if self.limited_until.is_some_and(|until| now >= until) {
            self.limit = self.most;
            self.limited_until = None;
        }
        self.max = (self.max + self.step).min(self.limit);
    }

    /// Forgets the limit: the size was not the reason for the refusal.
    pub(crate) fn forget_limit(&mut self) {
        if self.limited_until.take().is_some() {
            self.limit = self.most;
            self.max = self.most;
        }
    }

    /// A request was not answered in time: half of its spans are tried next. Several that share a
    /// line are late together, and count once.
    pub(crate) fn too_slow(&mut self, request: &Request, envelope: &Envelope) -> usize {
        self.max = self.max.min(half(request, envelope));
        self.max
    }

    /// A request was found too large: half of its spans are tried next, and no more for some time.
    pub(crate) fn too_large(
        &mut self,
        request: &Request,
        envelope: &Envelope,
        now: Instant,
    ) -> usize {
        let half = half(request, envelope);
        self.limit = self.limit.min(half);
        self.limited_until = Some(now + FORGET);
        self.max = self.max.min(self.limit);
        half
    }
}

/// Whether there can be smaller requests of the same spans.
pub(crate) fn can_split(request: &Request, envelope: &Envelope) -> bool {
    request.spans > 1 && request.body_bytes > request.overhead(envelope) + SPANS_BYTES_MIN
}

/// The size of a request of half the spans: what stands around them stays.
fn half(request: &Request, envelope: &Envelope) -> usize {
    let overhead = request.overhead(envelope);
    let spans = request.body_bytes.saturating_sub(overhead);
    overhead + (spans / 2).max(SPANS_BYTES_MIN)
}
