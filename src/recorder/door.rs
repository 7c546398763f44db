//! Starts spans for a door whose spans have no owner.

use std::sync::Arc;

use crate::otlp::draft::{ConstantAttributes, DraftMemory};
use crate::recorder::builder::begin_below;
use crate::recorder::current::shared_entries;
use crate::recorder::home::CellsOwner;
use crate::recorder::lease::Recorders;
use crate::recorder::local;
use crate::recorder::open_span::OpenSpan;
use crate::recorder::placement::Parent;
use crate::recorder::shared_span::SharedRef;
use crate::span::StatusRef;
use crate::span::attribute::Name;
use crate::span::limits::SpanLimits;

/// Parent of a span that a door starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DoorParent {
    None,
    /// The thread's current span.
    Current,
    Shared(SharedRef),
}

/// A starter of spans of one collector, as long as that exists.
pub(crate) struct DoorStarter {
    cells: Arc<CellsOwner>,
}

impl DoorStarter {
    /// Returns `None` for a disabled collector.
    pub(crate) fn new(recorders: &Recorders) -> Option<Self> {
        (!recorders.is_disabled()).then(|| Self {
            cells: recorders.cells_owner(),
        })
    }

    /// Returns the number of spans that have memory at the same time.
    pub(crate) fn spans_max(&self) -> usize {
        self.cells.cells().sizes().cells as usize
    }

    #[inline]
    pub(crate) fn limits(&self) -> &'static SpanLimits {
        &self.cells.cells().owner.options.limits
    }

    /// Returns the most bytes that an open span's data can take.
    pub(crate) fn span_bytes(&self) -> usize {
        self.cells.cells().sizes().span_bytes
    }

    /// Starts a span now; one that is none if the collector is gone. The current span is that of this
    /// owner, or one that is entered with a guard.
    #[inline(always)]
    pub(crate) fn start(&self, owner: u32, name: Name<'_>, parent: DoorParent) -> OpenSpan {
        let Ok(recorder) = local::recorder_of_cells(self.cells.cells()) else {
            return OpenSpan::none();
        };
        let begin = |parent: Parent<'_>| begin_below(&recorder, name, parent);
        match parent {
            DoorParent::None => begin(Parent::None),
            DoorParent::Current => shared_entries::with_parent_of(owner, begin),
            DoorParent::Shared(span) => span.with_parent(&begin),
        }
    }

    /// Counts a span that was not started, since there is no place for it.
    #[cold]
    pub(crate) fn count_without_place(&self) {
        if let Ok(recorder) = local::recorder_of_cells(self.cells.cells()) {
            recorder.counters().count_without_memory();
        }
    }
}

/// The parts of an open span that only doors need.
impl OpenSpan {
    /// Adds data that a span starts with, also to one that is not sampled and has no parent: below
    /// another one it may be.
    #[inline(always)]
    pub(crate) fn with_early_data<R>(&mut self, add: impl FnOnce(&mut Self) -> R) -> Option<R> {
        if self.is_recording() {
            return Some(add(self));
        }
        self.add_early(add)
    }

    #[inline(never)]
    fn add_early<R>(&mut self, add: impl FnOnce(&mut Self) -> R) -> Option<R> {
        if self.ids().is_none_or(|ids| ids.parent_span_id.is_some()) {
            return None;
        }
        self.set_recording(true);
        let early = Early(self);
        let result = add(early.0);
        Some(result)
    }

    /// Sets attributes that were encoded in advance.
    #[inline(always)]
    pub(crate) fn set_constants(&mut self, constants: &ConstantAttributes) {
        if let Some((mut draft, limits)) = self.recording() {
            draft.set_constants(constants, limits);
        }
    }

    /// Adds an event that is encoded already.
    #[inline(always)]
    pub(crate) fn add_encoded_event(&mut self, event: &[u8]) {
        if let Some((mut draft, limits)) = self.recording() {
            draft.add_encoded_event(event, limits);
        }
    }

    /// Counts an event that was not added.
    pub(crate) fn count_dropped_event(&mut self) {
        if let Some((mut draft, _)) = self.recording() {
            draft.count_dropped_event();
        }
    }

    /// Sets the status error, without a description unless there is one.
    pub(crate) fn set_failed(&mut self) {
        if self.cell().is_some_and(|cell| !cell.head().has_failed()) {
            self.set_status(StatusRef::Error(""));
        }
    }
}

/// Guard that ends the time in which a span that is not sampled takes data.
struct Early<'s>(&'s mut OpenSpan);

impl Drop for Early<'_> {
    fn drop(&mut self) {
        self.0.set_recording(false);
    }
}
