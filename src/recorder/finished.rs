//! Finished spans: encoded in one pass.

use crate::otlp::finished::Finished;
use crate::recorder::thread_recorder::ThreadRecorder;
use crate::span::SpanRef;
use crate::span::attribute::{Attributes, UseAttributes};
use crate::stats::refused::Refused;

/// Records a finished span in the scope of a lane.
#[inline(always)]
pub(super) fn record(
    recorder: &ThreadRecorder,
    lane: usize,
    span: &SpanRef<'_>,
) -> Result<(), Refused> {
    let span = Finished {
        span,
        tuple: (),
        limits: recorder.limits(),
    };
    recorder.write_to(lane, &span)
}

/// Records a finished span with more attributes in the scope of a lane.
#[inline(always)]
pub(super) fn record_with(
    recorder: &ThreadRecorder,
    lane: usize,
    span: &SpanRef<'_>,
    attributes: impl Attributes,
) -> Result<(), Refused> {
    // Before anything is borrowed: a user's conversion may record on this recorder.
    attributes.convert(RecordWith {
        recorder,
        lane,
        // A copy, so that fields that are constant at the call site are constant here.
        span: *span,
    })
}

/// A finished span that is recorded with the attributes that it is given.
struct RecordWith<'r, 's> {
    recorder: &'r ThreadRecorder,
    lane: usize,
    span: SpanRef<'s>,
}

impl UseAttributes for RecordWith<'_, '_> {
    type Output = Result<(), Refused>;

    #[inline(always)]
    fn call(self, attributes: impl Attributes) -> Result<(), Refused> {
        let span = Finished {
            span: self.span,
            tuple: attributes,
            limits: self.recorder.limits(),
        };
        self.recorder.write_to(self.lane, &span)
    }
}
