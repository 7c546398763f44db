//! What a span starts with: its parent, the sampler's decision, its ids.

use crate::attribute::{AsKeyValue, KeyValueRef, Name};
use crate::clock::unix_nanos;
use crate::context::{SpanContext, TraceFlags};
use crate::otlp::draft::Draft;
use crate::recorder::{OpenSpan, Recorder};
use crate::sampler::{KeepIf, SamplingInput, SamplingResult};
use crate::span::{LinkRef, SpanKind};

/// A span to be started: see [`Recorder::span_builder`].
///
/// ```
/// use otlp_collector::{Collector, Config, KeyValueRef, SpanContext, SpanKind};
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
/// assert_eq!(span.context().trace_id[..2], [0x0a, 0xf7]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a span builder does nothing until it is started"]
pub struct SpanBuilder<'r, 'b> {
    recorder: &'r Recorder,
    lane: usize,
    name: Name<'b>,
    kind: SpanKind,
    parent: Parent<'b>,
    start_time: Option<u64>,
    attributes: &'b [KeyValueRef<'b>],
    links: &'b [LinkRef<'b>],
    keep_if: Option<KeepIf>,
}

#[derive(Clone, Copy, Debug)]
enum Parent<'b> {
    None,
    Elsewhere(&'b SpanContext<'b>),
    Open(&'b OpenSpan<'b>),
}

impl<'r, 'b> SpanBuilder<'r, 'b> {
    #[inline]
    pub(super) fn new(recorder: &'r Recorder, lane: usize, name: Name<'b>) -> Self {
        Self {
            recorder,
            lane,
            name,
            kind: SpanKind::Internal,
            parent: Parent::None,
            start_time: None,
            attributes: &[],
            links: &[],
            keep_if: None,
        }
    }

    /// Its role between services. Default: internal.
    #[inline]
    pub const fn kind(mut self, kind: SpanKind) -> Self {
        self.kind = kind;
        self
    }

    /// The span's parent, by its context: one of another process or thread. Default: none, as for
    /// a context that is not valid.
    #[inline]
    pub fn parent(mut self, context: Option<&'b SpanContext<'_>>) -> Self {
        let valid = context.filter(|context| context.is_valid());
        self.parent = valid.map_or(Parent::None, Parent::Elsewhere);
        self
    }

    /// The span's parent, open on this thread.
    #[inline]
    pub fn child_of(mut self, parent: &'b OpenSpan<'_>) -> Self {
        self.parent = Parent::Open(parent);
        self
    }

    /// When it began, in nanoseconds since the Unix epoch. Default: when it is started.
    #[inline]
    pub const fn start_time(mut self, unix_nanos: u64) -> Self {
        self.start_time = Some(unix_nanos);
        self
    }

    /// Attributes it starts with, which the sampler sees.
    #[inline]
    pub const fn attributes(mut self, attributes: &'b [KeyValueRef<'b>]) -> Self {
        self.attributes = attributes;
        self
    }

    /// Links it starts with, which the sampler sees.
    #[inline]
    pub const fn links(mut self, links: &'b [LinkRef<'b>]) -> Self {
        self.links = links;
        self
    }

    /// When its trace is kept, instead of the rule of [`Config::tail_sampling`]. Means something
    /// for local roots alone, and if that is configured.
    ///
    /// [`Config::tail_sampling`]: crate::Config::tail_sampling
    #[inline]
    pub const fn keep_if(mut self, rule: KeepIf) -> Self {
        self.keep_if = Some(rule);
        self
    }

    /// Starts the span.
    #[inline]
    pub fn start(self) -> OpenSpan<'r> {
        let open_parent;
        let parent = match self.parent {
            Parent::None => None,
            Parent::Elsewhere(context) => Some(context),
            Parent::Open(span) => {
                open_parent = span.context();
                Some(&open_parent)
            }
        };
        let (trace_id, span_id, random) = self.ids(parent);
        let decision = self.recorder.shared.tracing.sampler.decide(&SamplingInput {
            parent,
            trace_id,
            name: self.name.text(),
            kind: self.kind,
            attributes: self.attributes,
            links: self.links,
        });
        let inherited = parent.map_or(random, |parent| parent.trace_flags);
        let flags = inherited.with_sampled(decision.is_sampled);
        let mut draft = Draft::new(trace_id, span_id, flags);
        if let Some(parent) = parent {
            draft.parent_span_id = parent.span_id;
            draft.parent_is_remote = Some(parent.is_remote);
        }
        if decision.is_sampled {
            self.start_sampled(draft, parent, &decision)
        } else {
            self.start_unsampled(draft, parent, &decision)
        }
    }

    #[inline]
    fn ids(&self, parent: Option<&SpanContext<'_>>) -> ([u8; 16], [u8; 8], TraceFlags) {
        let ids = &mut self.recorder.state.borrow_mut().ids;
        let random = if ids.are_random() {
            TraceFlags::RANDOM
        } else {
            TraceFlags::NONE
        };
        let trace_id = parent.map_or_else(|| ids.trace_id(), |parent| parent.trace_id);
        (trace_id, ids.span_id(), random)
    }

    #[inline]
    fn start_sampled(
        self,
        mut draft: Draft,
        parent: Option<&SpanContext<'_>>,
        decision: &SamplingResult<'_>,
    ) -> OpenSpan<'r> {
        draft.kind = self.kind;
        draft.start_time = self.start_time.unwrap_or_else(unix_nanos);
        let (scratch, hold) = {
            let state = &mut *self.recorder.state.borrow_mut();
            let hold = match self.parent {
                Parent::Open(span) => {
                    (span.hold_on(self.recorder)).map(|hold| state.held.join(hold))
                }
                Parent::None | Parent::Elsewhere(_) => state.held.begin(self.keep_if),
            };
            (state.scratch.take(), hold)
        };
        draft.open(scratch, trace_state(parent, decision), self.name);
        let limits = &self.recorder.shared.tracing.limits;
        for attribute in self.attributes {
            draft.attribute(*attribute, limits);
        }
        for attribute in decision.attributes {
            draft.attribute(attribute.as_key_value(), limits);
        }
        for link in self.links {
            draft.link(link, limits);
        }
        OpenSpan::new(self.recorder, draft, self.lane, true, hold)
    }

    /// The span is there to be a parent and to tell others, and records nothing.
    #[inline]
    fn start_unsampled(
        self,
        mut draft: Draft,
        parent: Option<&SpanContext<'_>>,
        decision: &SamplingResult<'_>,
    ) -> OpenSpan<'r> {
        let state = &mut *self.recorder.state.borrow_mut();
        state.writer.counters.leave_out();
        let trace_state = trace_state(parent, decision);
        if !trace_state.is_empty() {
            draft.open(state.scratch.take(), trace_state, Name::from(""));
        }
        OpenSpan::new(self.recorder, draft, self.lane, false, None)
    }
}

fn trace_state<'s>(
    parent: Option<&'s SpanContext<'_>>,
    decision: &'s SamplingResult<'_>,
) -> &'s str {
    let inherited = parent.map(|parent| &parent.trace_state);
    let state = decision.trace_state.as_ref().or(inherited);
    state.map_or("", |state| state.as_str())
}
