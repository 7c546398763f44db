//! The start of an open span: parent, sampler's decision, ids.

use crate::otlp::draft::{Content, Draft, SpanIds};
use crate::platform::clock::unix_nanos;
use crate::recorder::{OpenSpan, Recorder};
use crate::span::attribute::{AsKeyValue, KeyValue, KeyValueRef, Name};
use crate::span::context::{SpanContext, TraceFlags};
use crate::span::id::{SpanId, TraceId};
use crate::span::sampler::{KeepIf, ParentKind, Sample, SamplingInput, SamplingResult};
use crate::span::{LinkRef, SpanKind};
use crate::stats::ParentOrigin;

/// A builder of an open span, from [`Recorder::span_builder`].
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
/// assert_eq!(Some(span.context().trace_id), caller.as_ref().map(|caller| caller.trace_id));
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

    /// Sets the role in a call between services. Default: internal.
    #[inline]
    pub const fn kind(mut self, kind: SpanKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the parent by its context: a span of another process or thread, or a detached one. Default:
    /// none. The span is a local root for tail sampling; for a parent that is open on this recorder use
    /// [`child_of`](Self::child_of).
    #[inline]
    pub fn parent(mut self, context: Option<&'b SpanContext<'_>>) -> Self {
        self.parent = context.map_or(Parent::None, Parent::Elsewhere);
        self
    }

    /// Sets the parent to an open span.
    #[inline]
    pub fn child_of(mut self, parent: &'b OpenSpan<'_>) -> Self {
        self.parent = Parent::Open(parent);
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
    #[inline]
    pub fn start(self) -> OpenSpan<'r> {
        let parent = self.parent.as_place();
        let recorder = self.recorder;
        let (trace_id, span_id, random) = recorder.new_ids(parent.map(|parent| parent.trace_id));
        let kind = parent.map(|parent| parent.kind());
        let sampler = &recorder.shared.settings.config.sampler;
        let decision = sampler.decide(trace_id, kind, |custom| self.ask(custom, trace_id));
        let inherited = parent.map_or(random, |parent| parent.trace_flags);
        let ids = SpanIds {
            trace_id,
            span_id,
            parent_span_id: parent.map(|parent| parent.span_id),
            parent_is_remote: parent.is_some_and(|parent| parent.is_remote),
            trace_flags: inherited.with_sampled(decision.is_sampled),
        };
        let origin = match parent {
            None => ParentOrigin::None,
            Some(parent) if parent.is_remote => ParentOrigin::Remote,
            Some(_) => ParentOrigin::Local,
        };
        if decision.is_sampled {
            recorder.counters.start(origin);
            self.start_sampled(ids, trace_state(parent, &decision), decision.attributes)
        } else {
            recorder.counters.count_unsampled(origin);
            self.start_unsampled(ids, trace_state(parent, &decision))
        }
    }

    #[inline(always)]
    fn start_sampled(
        self,
        ids: SpanIds,
        trace_state: &str,
        more_attributes: &[KeyValue],
    ) -> OpenSpan<'r> {
        let recorder = self.recorder;
        let (scratch, hold) = recorder.prepare(|held| match self.parent {
            Parent::Open(span) if span.records_on(recorder) => {
                span.hold().map(|hold| held.join(hold))
            }
            _ => held.begin(self.keep_if),
        });
        if scratch.is_none() {
            recorder.counters.count_without_memory();
        }
        let mut content = Content::begin(scratch, trace_state, self.name);
        let limits = recorder.limits();
        for attribute in self.attributes {
            content.attribute(attribute, limits);
        }
        for attribute in more_attributes {
            content.attribute(&attribute.as_key_value(), limits);
        }
        for link in self.links {
            content.link(link, limits);
        }
        let draft = Draft {
            ids,
            kind: self.kind,
            // Read last, so that the span does not include the work above.
            start_time: self.start_time.unwrap_or_else(unix_nanos),
            content,
        };
        OpenSpan::new(recorder, draft, self.lane, true, hold)
    }

    /// Starts a span that passes its context on and records nothing.
    #[inline(always)]
    fn start_unsampled(self, ids: SpanIds, trace_state: &str) -> OpenSpan<'r> {
        let content = if trace_state.is_empty() {
            Content::EMPTY
        } else {
            let (scratch, _) = self.recorder.prepare(|_| None);
            Content::begin(scratch, trace_state, Name::from(""))
        };
        let draft = Draft {
            ids,
            kind: self.kind,
            start_time: 0,
            content,
        };
        OpenSpan::new(self.recorder, draft, self.lane, false, None)
    }

    /// Asks a custom sampler.
    #[cold]
    fn ask<'s>(&self, sampler: &'s dyn Sample, trace_id: TraceId) -> SamplingResult<'s> {
        let of_open;
        let parent = match self.parent {
            Parent::None => None,
            Parent::Elsewhere(context) => Some(context),
            Parent::Open(span) => {
                of_open = span.context();
                Some(&of_open)
            }
        };
        sampler.sample(&SamplingInput {
            parent,
            trace_id,
            name: self.name.text(),
            kind: self.kind,
            attributes: self.attributes,
            links: self.links,
        })
    }
}

/// The data that a span inherits from its parent.
#[derive(Clone, Copy)]
struct ParentPlace<'p> {
    trace_id: TraceId,
    span_id: SpanId,
    trace_flags: TraceFlags,
    is_remote: bool,
    trace_state: &'p str,
}

impl ParentPlace<'_> {
    #[inline]
    fn kind(&self) -> ParentKind {
        ParentKind {
            is_remote: self.is_remote,
            is_sampled: self.trace_flags.is_sampled(),
        }
    }
}

impl<'b> Parent<'b> {
    #[inline]
    fn as_place(self) -> Option<ParentPlace<'b>> {
        match self {
            Self::None => None,
            Self::Elsewhere(context) => Some(ParentPlace {
                trace_id: context.trace_id,
                span_id: context.span_id,
                trace_flags: context.trace_flags,
                is_remote: context.is_remote,
                trace_state: context.trace_state.as_str(),
            }),
            Self::Open(span) => {
                let draft = span.draft();
                Some(ParentPlace {
                    trace_id: draft.ids.trace_id,
                    span_id: draft.ids.span_id,
                    trace_flags: draft.ids.trace_flags,
                    is_remote: false,
                    trace_state: draft.content.trace_state(),
                })
            }
        }
    }
}

#[inline]
fn trace_state<'s>(parent: Option<ParentPlace<'s>>, decision: &'s SamplingResult<'_>) -> &'s str {
    match &decision.trace_state {
        Some(state) => state.as_str(),
        None => parent.map_or("", |parent| parent.trace_state),
    }
}
