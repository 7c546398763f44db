//! A recorder seen from one instrumentation scope.

use crate::recorder::{OpenSpan, Recorder, SpanBuilder};
use crate::span::SpanRef;
use crate::span::attribute::{Attributes, Name};
use crate::stats::refused::Refused;

/// A [`Recorder`] for spans of another instrumentation scope than the collector's own: see
/// [`Recorder::with_scope`].
#[derive(Clone, Copy, Debug)]
pub struct ScopedRecorder<'r> {
    pub(super) recorder: &'r Recorder,
    pub(super) lane: usize,
}

impl<'r> ScopedRecorder<'r> {
    /// As [`Recorder::start`].
    pub fn start<'n>(&self, name: impl Into<Name<'n>>) -> OpenSpan<'r> {
        self.span_builder(name).start()
    }

    /// As [`Recorder::start_child`]; the parent may be of any scope.
    pub fn start_child<'n>(
        &self,
        parent: &OpenSpan<'_>,
        name: impl Into<Name<'n>>,
    ) -> OpenSpan<'r> {
        self.span_builder(name).child_of(parent).start()
    }

    /// As [`Recorder::span_builder`].
    pub fn span_builder<'b>(&self, name: impl Into<Name<'b>>) -> SpanBuilder<'r, 'b> {
        SpanBuilder::new(self.recorder, self.lane, name.into())
    }

    /// As [`Recorder::record`].
    ///
    /// # Errors
    /// The span was not accepted; the reason is counted in the [`Ledger`](crate::Ledger).
    pub fn record(&self, span: &SpanRef<'_>) -> Result<(), Refused> {
        self.recorder.record_in(self.lane, span)
    }

    /// As [`Recorder::record_with`].
    ///
    /// # Errors
    /// The span was not accepted; the reason is counted in the [`Ledger`](crate::Ledger).
    #[inline(always)]
    pub fn record_with(
        &self,
        span: &SpanRef<'_>,
        attributes: impl Attributes,
    ) -> Result<(), Refused> {
        self.recorder.record_with_in(self.lane, span, attributes)
    }
}
