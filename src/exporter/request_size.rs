//! How large an endpoint's requests may be, as its answers teach.

use crate::config::EndpointSettings;
use crate::exporter::request::Request;

/// In bytes.
pub(crate) struct RequestSize {
    /// Now: less after a request that was not answered in time, so that a slow line is not offered
    /// the same too large request for ever.
    max: usize,
    /// What it may become again: less after a request that was found too large.
    limit: usize,
    bounds: SizeBounds,
}

#[derive(Clone, Copy)]
pub(crate) struct SizeBounds {
    /// Nothing smaller is made smaller still.
    pub(crate) min: usize,
    /// How much more is tried after a success.
    pub(crate) step: usize,
}

impl RequestSize {
    pub(crate) fn new(settings: &EndpointSettings, bounds: SizeBounds) -> Self {
        Self {
            max: settings.request_bytes_max,
            limit: settings.request_bytes_max,
            bounds,
        }
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// A request has come through in good time.
    pub(crate) fn raise(&mut self) {
        self.max = (self.max + self.bounds.step).min(self.limit);
    }

    /// A request of so many bytes was not answered in time: half of that is tried next. Several
    /// that share a line are late together, and count once.
    pub(crate) fn too_slow(&mut self, bytes: usize) -> usize {
        let min = self.bounds.min.min(self.limit);
        self.max = self.max.min(bytes / 2).max(min);
        self.max
    }

    /// Whether there can be smaller requests of the same spans.
    pub(crate) fn can_split(&self, request: &Request) -> bool {
        request.spans > 1 && request.body_bytes > self.bounds.min
    }

    /// A request of so many bytes was found too large: half of that is tried next, and no more
    /// after that.
    pub(crate) fn too_large(&mut self, bytes: usize) -> usize {
        let half = (bytes / 2).max(self.bounds.min);
        self.limit = self.limit.min(half);
        self.max = self.max.min(self.limit);
        half
    }
}
