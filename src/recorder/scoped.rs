//! A recorder seen from one instrumentation scope.

use std::fmt;

use crate::recorder::builder::{SpanBuilder, Starter};
use crate::recorder::finished::{record, record_with};
use crate::recorder::open_span::OpenSpan;
use crate::recorder::thread_recorder::ThreadRecorder;
use crate::span::SpanRef;
use crate::span::attribute::{Attributes, Name};
use crate::stats::refused::Refused;

/// A [`Recorder`](crate::Recorder) for spans of an instrumentation scope, from
/// [`Recorder::with_scope`](crate::Recorder::with_scope).
#[derive(Clone, Copy)]
pub struct ScopedRecorder<'r> {
    recorder: &'r ThreadRecorder,
    lane: usize,
    /// Number of the scope.
    scope: u16,
}

impl<'r> ScopedRecorder<'r> {
    pub(super) fn new(recorder: &'r ThreadRecorder, lane: usize, scope: u16) -> Self {
        Self {
            recorder,
            lane,
            scope,
        }
    }

    /// Starts a root span now. See [`Recorder::start`](crate::Recorder::start).
    pub fn start<'n>(&self, name: impl Into<Name<'n>>) -> OpenSpan {
        self.span_builder(name).start()
    }

    /// Starts a child of `parent` now. The parent can have another scope.
    pub fn start_child<'n>(&self, parent: &OpenSpan, name: impl Into<Name<'n>>) -> OpenSpan {
        self.span_builder(name).child_of(parent).start()
    }

    /// Creates a builder for a span that starts with more than a name.
    pub fn span_builder<'b>(&self, name: impl Into<Name<'b>>) -> SpanBuilder<'r, 'b> {
        SpanBuilder::new(Starter::Recorder(self.recorder), self.scope, name.into())
    }

    /// Records a finished span. See [`Recorder::record`](crate::Recorder::record).
    ///
    /// # Errors
    /// The span was refused. The reason is counted in the [`Ledger`](crate::Ledger) too.
    pub fn record(&self, span: &SpanRef<'_>) -> Result<(), Refused> {
        record(self.recorder, self.lane, span)
    }

    /// Records a finished span with a tuple of attributes. See
    /// [`Recorder::record_with`](crate::Recorder::record_with).
    ///
    /// # Errors
    /// The span was refused. The reason is counted in the [`Ledger`](crate::Ledger) too.
    #[inline(always)]
    pub fn record_with(
        &self,
        span: &SpanRef<'_>,
        attributes: impl Attributes,
    ) -> Result<(), Refused> {
        record_with(self.recorder, self.lane, span, attributes)
    }
}

impl fmt::Debug for ScopedRecorder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedRecorder")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
