//! Place of a span in a trace: its parent, the sampler's decision, its ids.

use crate::otlp::draft::{DraftMemory, SpanIds};
use crate::recorder::home::SpanCell;
use crate::recorder::thread_recorder::ThreadRecorder;
use crate::span::context::{SpanContext, TraceFlags};
use crate::span::id::{SpanId, TraceId};
use crate::span::sampler::{ParentKind, Sample, SamplingInput, SamplingResult};
use crate::stats::ParentOrigin;

/// Parent of a span that is started.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parent<'b> {
    None,
    Context(&'b SpanContext<'b>),
    Open(&'b SpanCell),
    /// The current span of the thread that starts the span.
    Current,
}

/// The data that a span takes over from its parent.
#[derive(Clone, Copy)]
pub(super) struct ParentPlace<'p> {
    trace_id: TraceId,
    span_id: SpanId,
    trace_flags: TraceFlags,
    is_remote: bool,
    trace_state: &'p str,
}

impl<'b> Parent<'b> {
    #[inline(always)]
    pub(super) fn as_place(self) -> Option<ParentPlace<'b>> {
        match self {
            Self::None | Self::Current => None,
            Self::Context(context) => Some(ParentPlace {
                trace_id: context.trace_id,
                span_id: context.span_id,
                trace_flags: context.trace_flags,
                is_remote: context.is_remote,
                trace_state: context.trace_state.as_str(),
            }),
            Self::Open(cell) => {
                cell.show();
                let ids = cell.head().ids();
                Some(ParentPlace {
                    trace_id: ids.trace_id,
                    span_id: ids.span_id,
                    trace_flags: ids.trace_flags,
                    is_remote: false,
                    trace_state: cell.trace_state(),
                })
            }
        }
    }

    /// Passes the parent's context to a custom sampler.
    #[cold]
    fn with_context<R>(self, ask: impl FnOnce(Option<&SpanContext<'_>>) -> R) -> R {
        match self {
            Self::None | Self::Current => ask(None),
            Self::Context(context) => ask(Some(context)),
            Self::Open(cell) => ask(Some(&cell.context())),
        }
    }
}

impl<'p> ParentPlace<'p> {
    #[inline(always)]
    fn kind(&self) -> ParentKind {
        ParentKind {
            is_remote: self.is_remote,
            is_sampled: self.trace_flags.is_sampled(),
        }
    }

    /// Returns the trace state that the parent passes on.
    #[inline(always)]
    pub(super) fn trace_state(place: Option<Self>) -> &'p str {
        place.map_or("", |place| place.trace_state)
    }
}

/// Makes ids for a span at this place.
#[inline(always)]
pub(super) fn new_ids(recorder: &ThreadRecorder, place: Option<ParentPlace<'_>>) -> SpanIds {
    let (trace_id, span_id, random) = recorder.new_ids(place.map(|place| place.trace_id));
    SpanIds {
        trace_id,
        span_id,
        parent_span_id: place.map(|place| place.span_id),
        parent_is_remote: place.is_some_and(|place| place.is_remote),
        trace_flags: place.map_or(random, |place| place.trace_flags),
    }
}

/// Returns whether the sampler chooses the span, or a custom sampler to be asked.
#[inline(always)]
pub(super) fn choose<'s>(
    recorder: &'s ThreadRecorder,
    place: Option<ParentPlace<'_>>,
    ids: &SpanIds,
) -> Result<bool, &'s dyn Sample> {
    let sampler = &recorder.shared().span_settings.sampler;
    sampler.choose(ids.trace_id, place.map(|place| place.kind()))
}

/// Asks a custom sampler about a span.
#[cold]
pub(super) fn ask<'s>(
    sampler: &'s dyn Sample,
    parent: Parent<'_>,
    input: SamplingInput<'_>,
) -> SamplingResult<'s> {
    parent.with_context(|parent| sampler.sample(&SamplingInput { parent, ..input }))
}

/// Counts a span that starts.
#[inline(always)]
pub(super) fn count_start(recorder: &ThreadRecorder, ids: &SpanIds) {
    let origin = origin_of(ids);
    if ids.trace_flags.is_sampled() {
        recorder.counters().start(origin);
    } else {
        recorder.counters().count_unsampled(origin);
    }
}

/// Returns where the parent of a span is.
#[inline(always)]
pub(super) fn origin_of(ids: &SpanIds) -> ParentOrigin {
    match ids.parent_span_id {
        None => ParentOrigin::None,
        Some(_) if ids.parent_is_remote => ParentOrigin::Remote,
        Some(_) => ParentOrigin::Local,
    }
}
