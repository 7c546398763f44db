//! A recorder for one instrumentation scope.

use crate::recorder::{OpenSpan, Recorder, SpanBuilder};
use crate::span::SpanRef;
use crate::span::attribute::{Attributes, Name};
use crate::stats::refused::Refused;

/// A [`Recorder`] for spans of an instrumentation scope, from [`Recorder::with_scope`].
#[derive(Clone, Copy, Debug)]
pub struct ScopedRecorder<'r> {
    pub(super) recorder: &'r Recorder,
    pub(super) lane: usize,
}

impl<'r> ScopedRecorder<'r> {
    /// Starts a root span now. See [`Recorder::start`].
    pub fn start<'n>(&self, name: impl Into<Name<'n>>) -> OpenSpan<'r> {
        self.span_builder(name).start()
    }

    /// Starts a child of `parent` now. The parent can have another scope.
    pub fn start_child<'n>(
        &self,
        parent: &OpenSpan<'_>,
        name: impl Into<Name<'n>>,
    ) -> OpenSpan<'r> {
        self.span_builder(name).child_of(parent).start()
    }

    /// Creates a builder for a span that starts with more than a name.
    pub fn span_builder<'b>(&self, name: impl Into<Name<'b>>) -> SpanBuilder<'r, 'b> {
        SpanBuilder::new(self.recorder, self.lane, name.into())
    }

    /// Records a finished span. See [`Recorder::record`].
    ///
    /// # Errors
    /// The span was refused. The reason is counted in the [`Ledger`](crate::Ledger) too.
    pub fn record(&self, span: &SpanRef<'_>) -> Result<(), Refused> {
        self.recorder.record_in(self.lane, span)
    }

    /// Records a finished span with a tuple of attributes. See [`Recorder::record_with`].
    ///
    /// # Errors
    /// The span was refused. The reason is counted in the [`Ledger`](crate::Ledger) too.
    #[inline(always)]
    pub fn record_with(
        &self,
        span: &SpanRef<'_>,
        attributes: impl Attributes,
    ) -> Result<(), Refused> {
        self.recorder.record_with_in(self.lane, span, attributes)
    }
}
