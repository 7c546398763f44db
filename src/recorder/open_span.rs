//! A span between its start and its end.

use std::fmt;
use std::mem::ManuallyDrop;
use std::thread::panicking;

use crate::otlp::draft::{Draft, DraftMemory, SpanIds};
use crate::platform::clock::unix_nanos;
use crate::recorder::home::SpanCell;
use crate::recorder::local;
use crate::recorder::placement::{
    Parent, ParentPlace, ask, choose, count_start, new_ids, origin_of,
};
use crate::recorder::thread_recorder::ThreadRecorder;
use crate::span::attribute::{AnyValueRef, AsKeyValue, Key, KeyValueRef, Name};
use crate::span::context::{SpanContext, TraceState};
use crate::span::limits::SpanLimits;
use crate::span::sampler::{SamplingInput, SamplingResult};
use crate::span::{AsStatus, EventRef, LinkRef, SpanKind, StatusRef};
use crate::stats::refused::Refused;

/// A span that has not ended: an owned value of 16 bytes that can be kept anywhere, moved to other
/// threads, and ended there.
///
/// It ends with [`end`](Self::end) or when it is dropped. If a panic drops it, it gets the status error,
/// unless its status is Ok. The thread that ends it records it. Several spans can be open at once and end in
/// any order. A span that is not sampled passes its context on and records nothing. A span that outlives
/// the collector is refused.
///
/// Memory: a cell of 512 bytes, and [`Config::open_span_bytes`](crate::Config::open_span_bytes) in
/// addition for a span whose data needs more than 320 bytes. Both come from
/// [`Config::open_span_bytes_total`](crate::Config::open_span_bytes_total) bytes that all open spans of a
/// collector share. Data without room is dropped and counted in the span; a name without room is cut;
/// a trace state that takes more than half of the room loses its last members.
///
/// When no cell is free, a span gets 225 bytes from the heap: room for ids, times, kind, status code
/// and 31 bytes of name. See [`Stats::spans_without_memory`](crate::stats::Stats::spans_without_memory).
///
/// ```
/// # use otlp_collector::span::StatusRef;
/// # use otlp_collector::{Collector, Config};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
/// let mut job = collector.start("resize image");
/// let worker = std::thread::spawn(move || {
///     job.set_attribute("image.width", 640).set_status(StatusRef::Ok);
///     job.end();
/// });
/// worker.join().expect("no panic");
/// # assert_eq!(collector.shutdown()?.delivered(), 1);
/// # Ok(())
/// # }
/// ```
pub struct OpenSpan {
    /// `None` after its end, and in a span that was never started.
    cell: Option<SpanCell>,
}

const _: () = assert!(size_of::<OpenSpan>() == 16);

impl OpenSpan {
    /// Creates a span that was just started.
    #[inline(always)]
    pub(super) fn new(cell: SpanCell) -> Self {
        Self { cell: Some(cell) }
    }

    /// Creates a span that has no context and records nothing, as [`span!`](crate::span!) does while no
    /// collector is installed.
    #[inline]
    #[must_use]
    pub const fn none() -> Self {
        Self { cell: None }
    }

    /// Returns whether the span was never started: see [`none`](Self::none).
    #[inline]
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.cell.is_none()
    }

    #[inline(always)]
    pub(super) fn cell(&self) -> Option<&SpanCell> {
        self.cell.as_ref()
    }

    #[inline(always)]
    pub(super) fn as_parent(&self) -> Parent<'_> {
        self.cell().map_or(Parent::None, Parent::Open)
    }

    /// Returns the cell of a span that is recorded, to be changed.
    #[inline(always)]
    pub(super) fn recording(&mut self) -> Option<(Draft<'_, SpanCell>, &'static SpanLimits)> {
        let cell = self.cell.as_mut()?;
        if !cell.state().is_recording {
            return None;
        }
        let limits = &cell.pool().owner.options.limits;
        Some((Draft::of(cell), limits))
    }

    #[cfg(feature = "tracing")]
    pub(super) fn set_recording(&mut self, is_recording: bool) {
        if let Some(cell) = &mut self.cell {
            cell.set_recording(is_recording);
        }
    }

    /// Returns whether an event would be added and not only counted, if there is room.
    #[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "as shared spans"))]
    #[inline(always)]
    pub(crate) fn may_add_event(&self) -> bool {
        self.cell.as_ref().is_some_and(|cell| {
            let limits = &cell.pool().owner.options.limits;
            cell.may_add_event(limits)
        })
    }

    /// Returns the context, to be passed to other processes and as parent of other spans.
    ///
    /// From then on parent, kind, start time and sampling stay as they are. A span that was never
    /// started ([`none`](Self::none)) has no context; all others have one.
    #[inline]
    #[must_use]
    pub fn context(&self) -> Option<SpanContext<'_>> {
        let cell = self.cell.as_ref()?;
        cell.show();
        Some(cell.context())
    }

    /// Passes the headers of W3C Trace Context to `set`, as [`SpanContext::inject`] does.
    pub fn inject(&self, set: impl FnMut(&'static str, &str)) {
        if let Some(context) = self.context() {
            context.inject(set);
        }
    }

    /// Returns the ids without showing them.
    pub(super) fn ids(&self) -> Option<SpanIds> {
        self.cell.as_ref().map(|cell| cell.head().ids())
    }

    /// Returns whether the span is sampled. If not, its data is ignored.
    #[inline]
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.cell
            .as_ref()
            .is_some_and(|cell| cell.state().is_recording)
    }

    // ---- Data ----

    /// Sets an attribute, and replaces one with the same key.
    ///
    /// [`key!`](crate::key) prepares constant keys at compile time.
    /// [`AnyValueRef`](crate::span::AnyValueRef) lists the types of values.
    #[inline(always)]
    pub fn set_attribute<'a>(
        &mut self,
        key: impl Into<Key<'a>>,
        value: impl Into<AnyValueRef<'a>>,
    ) -> &mut Self {
        if let Some((mut draft, limits)) = self.recording() {
            draft.set_attribute(&KeyValueRef::new(key, value), limits);
        }
        self
    }

    /// Sets an attribute to a text that is formatted in place, without an allocation. The text is truncated
    /// to half of the memory that is left. It is formatted again if the span needs a page for it.
    pub fn set_attribute_display<'a>(
        &mut self,
        key: impl Into<Key<'a>>,
        value: &dyn fmt::Display,
    ) -> &mut Self {
        if let Some((mut draft, limits)) = self.recording() {
            draft.set_attribute_display(key.into(), value, limits);
        }
        self
    }

    /// Counts data that could not be added.
    #[cold]
    pub(super) fn count_dropped_attributes(&mut self, count: u32) {
        if let Some((mut draft, _)) = self.recording() {
            draft.count_dropped_attributes(count);
        }
    }

    /// Adds an event that happens now.
    pub fn add_event(&mut self, name: &str, attributes: &[KeyValueRef<'_>]) -> &mut Self {
        if self.is_recording() {
            self.add_event_at(&EventRef {
                attributes,
                ..EventRef::new(name, unix_nanos())
            });
        }
        self
    }

    /// Adds an event with a time.
    pub fn add_event_at(&mut self, event: &EventRef<'_>) -> &mut Self {
        if let Some((mut draft, limits)) = self.recording() {
            draft.add_event(event, limits);
        }
        self
    }

    /// Adds a link to a related span.
    pub fn add_link(&mut self, link: &LinkRef<'_>) -> &mut Self {
        if let Some((mut draft, limits)) = self.recording() {
            draft.add_link(link, limits);
        }
        self
    }

    /// Sets the status. Ok is final, Unset has no effect, and an error replaces an earlier one.
    pub fn set_status(&mut self, status: impl AsStatus) -> &mut Self {
        if let Some((mut draft, _)) = self.recording() {
            draft.set_status(status.as_status());
        }
        self
    }

    /// Replaces the name.
    pub fn set_name<'a>(&mut self, name: impl Into<Name<'a>>) -> &mut Self {
        if let Some((mut draft, _)) = self.recording() {
            draft.set_name(name.into());
        }
        self
    }

    /// Adds the event `exception` with the attributes `exception.message` and `exception.type`
    /// (OpenTelemetry's semantic conventions), for an error or any other type with `Display`. Leaves the
    /// status alone; see [`set_status`](Self::set_status).
    ///
    /// The type is that of the argument at compile time, as [`std::any::type_name`] spells it, such as
    /// `std::io::error::Error` or `alloc::boxed::Box<dyn core::error::Error>`. Pass the concrete error if
    /// there is one. The message is truncated to half of the memory that is left. The type is omitted if
    /// it takes more than a quarter.
    pub fn record_error<E>(&mut self, error: &E) -> &mut Self
    where
        E: fmt::Display + ?Sized,
    {
        if let Some((mut draft, limits)) = self.recording() {
            let type_name = std::any::type_name::<E>();
            draft.add_exception(&error, type_name, unix_nanos(), limits);
        }
        self
    }

    /// As [`record_error`](Self::record_error), with the message as `Debug` formats it.
    pub fn record_error_debug<E>(&mut self, error: &E) -> &mut Self
    where
        E: fmt::Debug + ?Sized,
    {
        if let Some((mut draft, limits)) = self.recording() {
            let type_name = std::any::type_name::<E>();
            draft.add_exception(&format_args!("{error:?}"), type_name, unix_nanos(), limits);
        }
        self
    }

    // ---- Until the context is shown ----

    /// Moves the span below another parent, if its context was not shown yet. Returns whether it did.
    ///
    /// The context is shown by [`context`](Self::context) and by starting a child. Until then the span
    /// keeps its id and gets the parent's trace. The sampler is asked again, with the span's name and
    /// kind but no attributes; a span may so begin or cease to be recorded. Data added while it was not
    /// recorded is missing. If its trace is held by [`TailSampling`](crate::span::TailSampling), it becomes a
    /// local root.
    pub fn set_parent(&mut self, parent: &SpanContext<'_>) -> bool {
        let Some(cell) = self.cell.as_mut().filter(|cell| !cell.is_shown()) else {
            return false;
        };
        let recorder = local::recorder_of_cells(cell.pool());
        recorder.is_ok_and(|recorder| {
            move_below(&recorder, cell, parent);
            true
        })
    }

    /// Sets the span's role between services, if its context was not shown yet. Returns whether it
    /// did.
    pub fn set_kind(&mut self, kind: SpanKind) -> bool {
        self.unshown(|mut draft| draft.set_kind(kind))
    }

    /// Sets the time at which the span began, in nanoseconds since the Unix epoch, if its context was
    /// not shown yet. Returns whether it did.
    pub fn set_start_time(&mut self, unix_nanos: u64) -> bool {
        self.unshown(|mut draft| draft.set_start_time(unix_nanos))
    }

    fn unshown(&mut self, change: impl FnOnce(Draft<'_, SpanCell>)) -> bool {
        let cell = self.cell.as_mut().filter(|cell| !cell.is_shown());
        cell.map(|cell| change(Draft::of(cell))).is_some()
    }

    /// Keeps or drops all spans of its trace when the local root ends, regardless of the rule of
    /// [`Config::tail_sampling`](crate::Config::tail_sampling). The last call before that end counts. Has
    /// no effect if the trace is not held.
    pub fn keep_trace(&mut self, keep: bool) {
        if let Some(cell) = &self.cell {
            cell.force_decision(keep);
        }
    }

    // ---- End ----

    /// Ends the span now. A refused span is counted in the [`Ledger`](crate::Ledger);
    /// [`try_end`](Self::try_end) also returns the reason.
    #[inline]
    pub fn end(self) {
        let _ = self.try_end();
    }

    /// Ends the span at a time in nanoseconds since the Unix epoch. A refused span is counted in the
    /// [`Ledger`](crate::Ledger); [`try_end_at`](Self::try_end_at) also returns the reason.
    #[inline]
    pub fn end_at(self, unix_nanos: u64) {
        let _ = self.try_end_at(unix_nanos);
    }

    /// Ends the span now.
    ///
    /// # Errors
    /// The span was refused. The reason is counted in the [`Ledger`](crate::Ledger) too. The result is
    /// `Ok` for a span whose trace is sampled out or still held.
    #[inline]
    pub fn try_end(self) -> Result<(), Refused> {
        let Some(cell) = self.into_cell() else {
            return Ok(());
        };
        let end_time = now(&cell);
        finish(cell, end_time)
    }

    /// Ends the span at a time in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// As [`try_end`](Self::try_end).
    #[inline]
    pub fn try_end_at(self, unix_nanos: u64) -> Result<(), Refused> {
        (self.into_cell()).map_or(Ok(()), |cell| finish(cell, unix_nanos))
    }

    #[inline(always)]
    fn into_cell(self) -> Option<SpanCell> {
        ManuallyDrop::new(self).cell.take()
    }
}

/// Returns the current time, or the span's start if the clock was set back meanwhile.
#[inline(always)]
fn now(cell: &SpanCell) -> u64 {
    if cell.state().is_recording {
        unix_nanos().max(cell.head().start_time())
    } else {
        0
    }
}

/// Ends a span on this thread.
#[inline(always)]
fn finish(cell: SpanCell, end_time: u64) -> Result<(), Refused> {
    if cell.state().is_recording {
        return local::end(cell, end_time);
    }
    local::give_back(cell);
    Ok(())
}

/// Moves a span below another parent, with all that follows from that.
#[cold]
fn move_below(recorder: &ThreadRecorder, cell: &mut SpanCell, parent: &SpanContext<'_>) {
    let parent = Parent::Context(parent);
    let place = parent.as_place();
    let before = cell.head().ids();
    let ids = SpanIds {
        span_id: before.span_id,
        ..new_ids(recorder, place)
    };
    let result = choose(recorder, place, &ids).map_or_else(
        |sampler| {
            let input = SamplingInput {
                kind: cell.head().kind(),
                ..SamplingInput::new(ids.trace_id, cell.name())
            };
            ask(sampler, parent, input)
        },
        SamplingResult::from,
    );
    let was_recording = cell.state().is_recording;
    (recorder.counters()).take_back_start(origin_of(&before), was_recording);
    let ids = ids.with_sampled(result.is_sampled);
    count_start(recorder, &ids);
    let own_state = result.trace_state.as_ref().map(TraceState::as_str);
    let mut draft = Draft::of(cell);
    draft.set_place(ids, own_state.unwrap_or(ParentPlace::trace_state(place)));
    for attribute in result.attributes {
        draft.set_attribute(&attribute.as_key_value(), recorder.limits());
    }
    if cell.head().start_time() == 0 {
        Draft::of(cell).set_start_time(unix_nanos());
    }
    // A local root has no children yet, so its trace can stay.
    if !(result.is_sampled && cell.state().is_local_root) {
        cell.leave_trace();
        cell.state_mut().is_local_root = false;
        cell.set_recording(result.is_sampled);
        if result.is_sampled {
            recorder.begin_trace(cell, None);
        }
    }
}

impl Default for OpenSpan {
    fn default() -> Self {
        Self::none()
    }
}

impl Drop for OpenSpan {
    #[inline]
    fn drop(&mut self) {
        let Some(mut cell) = self.cell.take() else {
            return;
        };
        let state = cell.state();
        if state.is_recording && panicking() && !state.in_panic {
            Draft::of(&mut cell).set_status(StatusRef::Error("panicked"));
        }
        let end_time = now(&cell);
        // A refused span is counted.
        let _ = finish(cell, end_time);
    }
}

impl fmt::Debug for OpenSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSpan")
            .field("context", &self.cell.as_ref().map(DraftMemory::context))
            .field("is_recording", &self.is_recording())
            .finish_non_exhaustive()
    }
}
