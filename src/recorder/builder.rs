//! Data that a span starts with.

use std::fmt;

use crate::otlp::draft::{Draft, SpanIds};
use crate::platform::clock::unix_nanos;
use crate::recorder::current;
use crate::recorder::home::SpanCell;
use crate::recorder::installed;
use crate::recorder::lease::Recorders;
use crate::recorder::local;
use crate::recorder::open_span::OpenSpan;
use crate::recorder::placement::{Parent, ParentPlace, ask, choose, count_start, new_ids};
use crate::recorder::thread_recorder::ThreadRecorder;
use crate::span::attribute::{AsKeyValue, KeyValueRef, Name};
use crate::span::context::{SpanContext, TraceState};
use crate::span::sampler::{KeepIf, Sample, SamplingInput};
use crate::span::scope::Scope;
use crate::span::{LinkRef, SpanKind};

/// A builder of an open span, from [`Recorder::span_builder`](crate::Recorder::span_builder) or
/// [`Collector::span_builder`](crate::Collector::span_builder).
///
/// ```
/// use otlp_collector::span::KeyValueRef;
/// use otlp_collector::{Collector, Config, SpanContext, SpanKind};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
/// # let recorder = collector.recorder()?;
/// let headers = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
/// let caller = SpanContext::extract(headers);
/// let span = recorder
///     .span_builder("GET /orders")
///     .kind(SpanKind::Server)
///     .parent(caller.as_ref())
///     .attributes(&[KeyValueRef::new("url.path", "/orders")])
///     .start();
/// assert_eq!(span.context().map(|context| context.trace_id), caller.as_ref().map(|caller| caller.trace_id));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a span builder does nothing until it is started"]
pub struct SpanBuilder<'r, 'b> {
    starter: Starter<'r>,
    scope: u16,
    /// Replaces `scope` if it is the collector's.
    given_scope: Option<&'b Scope>,
    name: Name<'b>,
    kind: SpanKind,
    parent: Parent<'b>,
    start_time: Option<u64>,
    attributes: &'b [KeyValueRef<'b>],
    links: &'b [LinkRef<'b>],
    keep_if: Option<KeepIf>,
}

/// Recorder that starts a span.
#[derive(Clone, Copy)]
pub(super) enum Starter<'r> {
    Recorder(&'r ThreadRecorder),
    /// The recorder of the calling thread.
    OfThread(&'r Recorders),
    /// The calling thread's recorder of the installed collector.
    Installed,
}

/// Returns a builder of a span of the installed collector, a child of the current span unless another
/// [`parent`](SpanBuilder::parent) is given: what [`span!`](crate::span!) is made of.
///
/// Without an installed collector, or with a disabled one, the span is [`OpenSpan::none`].
#[inline]
pub fn span_builder<'b>(name: impl Into<Name<'b>>) -> SpanBuilder<'static, 'b> {
    SpanBuilder {
        parent: Parent::Current,
        ..SpanBuilder::new(Starter::Installed, 0, name.into())
    }
}

/// The parent of a span that is started: an [`OpenSpan`], a [`SpanContext`], or none.
#[derive(Clone, Copy, Debug)]
pub struct ParentRef<'b>(Parent<'b>);

impl<'b> From<&'b OpenSpan> for ParentRef<'b> {
    #[inline]
    fn from(span: &'b OpenSpan) -> Self {
        Self(span.as_parent())
    }
}

impl<'b> From<&'b SpanContext<'_>> for ParentRef<'b> {
    #[inline]
    fn from(context: &'b SpanContext<'_>) -> Self {
        Self(Parent::Context(context))
    }
}

impl<'b> From<Option<&'b SpanContext<'_>>> for ParentRef<'b> {
    #[inline]
    fn from(context: Option<&'b SpanContext<'_>>) -> Self {
        Self(context.map_or(Parent::None, Parent::Context))
    }
}

impl fmt::Debug for Starter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Starter")
    }
}

impl<'r, 'b> SpanBuilder<'r, 'b> {
    #[inline]
    pub(super) fn new(starter: Starter<'r>, scope: u16, name: Name<'b>) -> Self {
        Self {
            starter,
            scope,
            given_scope: None,
            name,
            kind: SpanKind::Internal,
            parent: Parent::None,
            start_time: None,
            attributes: &[],
            links: &[],
            keep_if: None,
        }
    }

    /// Returns a builder of a span that the calling thread's recorder starts.
    #[inline]
    pub(crate) fn of_thread(recorders: &'r Recorders, name: Name<'b>) -> Self {
        Self::new(Starter::OfThread(recorders), 0, name)
    }

    /// Sets the role in a call between services. Default: internal.
    #[inline]
    pub const fn kind(mut self, kind: SpanKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the parent: an open span, a context (of another process, or [`OpenSpan::context`]), or `None`.
    /// Default: none, or the current span for [`span_builder`]. With a context the span is a local root for
    /// tail sampling; if the parent is at hand, pass the span itself.
    #[inline]
    pub fn parent(mut self, parent: impl Into<ParentRef<'b>>) -> Self {
        self.parent = parent.into().0;
        self
    }

    /// Sets the parent to an open span, started on this or another thread.
    #[inline]
    pub fn child_of(mut self, parent: &'b OpenSpan) -> Self {
        self.parent = parent.as_parent();
        self
    }

    /// Sets the start, in nanoseconds since the Unix epoch. Default: the time of [`start`](Self::start).
    #[inline]
    pub const fn start_time(mut self, unix_nanos: u64) -> Self {
        self.start_time = Some(unix_nanos);
        self
    }

    /// Sets attributes before the start, so that the sampler sees them.
    #[inline]
    pub const fn attributes(mut self, attributes: &'b [KeyValueRef<'b>]) -> Self {
        self.attributes = attributes;
        self
    }

    /// Adds links before the start, so that the sampler sees them.
    #[inline]
    pub const fn links(mut self, links: &'b [LinkRef<'b>]) -> Self {
        self.links = links;
        self
    }

    /// Sets the instrumentation scope. Default: that of the recorder, or the collector's own. A span with
    /// another collector's scope is refused at its end ([`Refused::UnknownScope`]).
    ///
    /// [`Refused::UnknownScope`]: crate::Refused::UnknownScope
    #[inline]
    pub const fn scope(mut self, scope: &'b Scope) -> Self {
        self.given_scope = Some(scope);
        self
    }

    /// Sets the rule by which the trace is kept. Default: the rule of [`Config::tail_sampling`]. Has no
    /// effect on spans that are not local roots, or without tail sampling.
    ///
    /// [`Config::tail_sampling`]: crate::Config::tail_sampling
    #[inline]
    pub const fn keep_if(mut self, rule: KeepIf) -> Self {
        self.keep_if = Some(rule);
        self
    }

    /// Starts the span.
    // The starter is known at the call site, which so has one of these ways.
    #[inline(always)]
    pub fn start(self) -> OpenSpan {
        match self.starter {
            Starter::Recorder(recorder) => self.start_below(self.parent, recorder),
            Starter::OfThread(recorders) => self.start_on_thread(recorders),
            Starter::Installed if !installed::is_any() => OpenSpan::none(),
            // Known at the call site too. Then the builder needs no memory.
            Starter::Installed if self.is_plain() => {
                start_plain(self.name, self.kind, self.start_time)
            }
            Starter::Installed => self.start_installed(),
        }
    }

    /// Returns whether name, kind and start time are all that was set.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        matches!(self.parent, Parent::Current)
            && self.attributes.is_empty()
            && self.links.is_empty()
            && self.given_scope.is_none()
            && self.keep_if.is_none()
    }

    /// Starts the span with the installed collector, below the current span if that is its parent.
    #[inline(never)]
    fn start_installed(&self) -> OpenSpan {
        let Some(recorder) = installed::recorder() else {
            return OpenSpan::none();
        };
        match self.parent {
            Parent::Current => current::with_parent(|parent| self.start_below(parent, &recorder)),
            parent => self.start_below(parent, &recorder),
        }
    }

    #[inline(never)]
    fn start_on_thread(&self, recorders: &Recorders) -> OpenSpan {
        self.start_below(self.parent, &local::recorder_of(recorders))
    }

    #[inline(always)]
    fn start_below(&self, parent: Parent<'_>, recorder: &ThreadRecorder) -> OpenSpan {
        let place = parent.as_place();
        let ids = new_ids(recorder, place);
        let trace_state = ParentPlace::trace_state(place);
        match choose(recorder, place, &ids) {
            Ok(is_sampled) => {
                let ids = ids.with_sampled(is_sampled);
                OpenSpan::new(self.begin(parent, recorder, ids, trace_state))
            }
            // A copy, so that the original is not borrowed and stays in registers.
            Err(sampler) => {
                let copy = *self;
                copy.start_by_custom(parent, recorder, sampler, ids, trace_state)
            }
        }
    }

    /// Starts the span if a custom sampler chooses it.
    #[cold]
    #[inline(never)]
    fn start_by_custom(
        &self,
        parent: Parent<'_>,
        recorder: &ThreadRecorder,
        sampler: &dyn Sample,
        ids: SpanIds,
        trace_state: &str,
    ) -> OpenSpan {
        let input = SamplingInput {
            kind: self.kind,
            attributes: self.attributes,
            links: self.links,
            ..SamplingInput::new(ids.trace_id, self.name.text())
        };
        let result = ask(sampler, parent, input);
        let own_state = result.trace_state.as_ref().map(TraceState::as_str);
        let ids = ids.with_sampled(result.is_sampled);
        let mut cell = self.begin(parent, recorder, ids, own_state.unwrap_or(trace_state));
        let mut draft = Draft::of(&mut cell);
        for attribute in result.attributes {
            draft.set_attribute(&attribute.as_key_value(), recorder.limits());
        }
        OpenSpan::new(cell)
    }

    #[inline(always)]
    fn begin(
        &self,
        parent: Parent<'_>,
        recorder: &ThreadRecorder,
        ids: SpanIds,
        trace_state: &str,
    ) -> SpanCell {
        count_start(recorder, &ids);
        let is_sampled = ids.trace_flags.is_sampled();
        let mut cell = match recorder.take_cell() {
            Some(cell) => cell,
            None => take_rare_cell(recorder, parent, is_sampled),
        };
        cell.reset(match self.given_scope {
            None => self.scope,
            Some(scope) => scope_in(recorder, scope),
        });
        cell.set_recording(is_sampled);
        if is_sampled {
            self.join_trace(parent, recorder, &mut cell);
        }
        let mut draft = Draft::begin(&mut cell, ids, self.kind, trace_state, self.name);
        for attribute in self.attributes {
            draft.set_attribute(attribute, recorder.limits());
        }
        for link in self.links {
            draft.add_link(link, recorder.limits());
        }
        if let Some(start_time) = self.start_time {
            draft.set_start_time(start_time);
        } else if is_sampled {
            // Read last, so that the span does not include the work above.
            draft.set_start_time(unix_nanos());
        }
        cell
    }

    #[inline(always)]
    fn join_trace(&self, parent: Parent<'_>, recorder: &ThreadRecorder, cell: &mut SpanCell) {
        match parent {
            Parent::Open(parent)
                if parent.state().is_recording && std::ptr::eq(parent.pool(), cell.pool()) =>
            {
                cell.join_trace(parent);
            }
            _ => recorder.begin_trace(cell, self.keep_if),
        }
    }
}

/// Starts a span below a parent.
#[cfg(feature = "tracing")]
#[inline(never)]
pub(super) fn begin_below(
    recorder: &ThreadRecorder,
    name: Name<'_>,
    parent: Parent<'_>,
) -> OpenSpan {
    span_builder(name).start_below(parent, recorder)
}

/// Starts a span of the installed collector below the current span.
#[inline(never)]
fn start_plain(name: Name<'_>, kind: SpanKind, start_time: Option<u64>) -> OpenSpan {
    let Some(recorder) = installed::recorder() else {
        return OpenSpan::none();
    };
    current::with_parent(
        #[inline(always)]
        |parent| {
            let builder = SpanBuilder {
                kind,
                start_time,
                ..span_builder(name)
            };
            builder.start_below(parent, &recorder)
        },
    )
}

/// Takes a cell where none is free. A held trace gives up the memory of its ended spans; otherwise
/// the span gets a small cell from the heap.
#[cold]
#[inline(never)]
fn take_rare_cell(recorder: &ThreadRecorder, parent: Parent<'_>, is_sampled: bool) -> SpanCell {
    if let Parent::Open(parent) = parent
        && std::ptr::eq(parent.pool(), recorder.cells())
    {
        recorder.keep_early(parent);
    }
    recorder.take_cell().unwrap_or_else(|| {
        if is_sampled {
            recorder.counters().count_without_memory();
        }
        recorder.take_extra_cell()
    })
}

/// Returns the number of a scope, or one that no scope has if it is another collector's.
#[cold]
fn scope_in(recorder: &ThreadRecorder, scope: &Scope) -> u16 {
    if recorder.shared().scopes.contains(scope) {
        // There are few scopes.
        scope.id() as u16
    } else {
        u16::MAX
    }
}
