//! Spans and their data: attributes, events, links, contexts, ids, samplers, limits and scopes.

pub(crate) mod attribute;
pub(crate) mod context;
mod event;
pub(crate) mod id;
pub(crate) mod id_generator;
mod kind;
pub(crate) mod limits;
mod link;
pub(crate) mod sampler;
pub(crate) mod scope;
mod status;

use std::borrow::Cow;

use crate::platform::clock::unix_nanos;
use crate::span::id_generator::with_thread_ids;

pub use self::attribute::{
    AnyValue, AnyValueRef, ArrayRef, Attributes, Key, KeyValue, KeyValueListRef, KeyValueRef, Name,
};
pub use self::context::{
    InvalidHeader, SpanContext, TRACEPARENT, TRACESTATE, TraceFlags, TraceState, Traceparent,
};
pub(crate) use self::event::{AsEvent, EventFields};
pub use self::event::{Event, EventRef};
pub use self::id::{InvalidId, SpanId, TraceId};
pub use self::id_generator::{GenerateIds, IdGenerator};
pub use self::kind::SpanKind;
pub use self::limits::SpanLimits;
pub(crate) use self::link::{AsLink, LinkFields};
pub use self::link::{Link, LinkRef};
pub use self::sampler::{
    KeepIf, ParentBased, Sample, Sampler, SamplingInput, SamplingResult, TailSampling,
};
pub use self::scope::{InstrumentationScope, Scope};
pub use self::status::{AsStatus, Status, StatusRef};

/// A span that owns its data, for [`Collector::collect`](crate::Collector::collect).
///
/// Build it with struct update syntax, `..Span::new(name)`: a minor release may add fields.
///
/// ```
/// use otlp_collector::{KeyValue, Span, SpanKind};
///
/// let mut span = Span::new("GET /orders");
/// span.kind = SpanKind::Server;
/// span.attributes.push(KeyValue::new("http.response.status_code", 200));
/// let mut child = Span::child_of(&span, "SELECT orders");
/// child.end_time = child.start_time + 1_000;
/// assert_eq!(child.trace_id, span.trace_id);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Id of the span's trace.
    pub trace_id: TraceId,
    /// Id of the span.
    pub span_id: SpanId,
    /// Id of the parent; `None` for a root span.
    pub parent_span_id: Option<SpanId>,
    /// Whether the parent is in another process; `None` if that is unknown.
    pub parent_is_remote: Option<bool>,
    /// W3C trace flags. Default: sampled and random.
    pub trace_flags: TraceFlags,
    /// W3C trace state, sent without a check. Default: empty.
    pub trace_state: Cow<'static, str>,
    /// Name of the operation, of low cardinality, such as `GET /orders/{id}`.
    pub name: Cow<'static, str>,
    /// Role in a call between services. Default: internal.
    pub kind: SpanKind,
    /// Start in nanoseconds since the Unix epoch. Default: now.
    pub start_time: u64,
    /// End in nanoseconds since the Unix epoch. Default: 0, the time at which the span is collected.
    pub end_time: u64,
    /// Attributes. If a key occurs more than once, the last value is sent.
    pub attributes: Vec<KeyValue>,
    /// Number of attributes dropped before this span was built.
    pub dropped_attributes_count: u32,
    /// Events. Default: none.
    pub events: Vec<Event>,
    /// Number of events dropped before this span was built.
    pub dropped_events_count: u32,
    /// Links to related spans of this or other traces. Default: none.
    pub links: Vec<Link>,
    /// Number of links dropped before this span was built.
    pub dropped_links_count: u32,
    /// Outcome. Default: unset.
    pub status: Status,
    /// Instrumentation scope; `None` is the collector's own scope.
    pub scope: Option<Scope>,
}

impl Span {
    /// Creates a sampled root span with random ids that starts now and has no end yet.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        let (trace_id, span_id) = with_thread_ids(|ids| (ids.new_trace_id(), ids.new_span_id()));
        Self {
            trace_id,
            span_id,
            parent_span_id: None,
            parent_is_remote: None,
            trace_flags: TraceFlags::SAMPLED | TraceFlags::RANDOM,
            trace_state: Cow::Borrowed(""),
            name: name.into(),
            kind: SpanKind::default(),
            start_time: unix_nanos(),
            end_time: 0,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: Vec::new(),
            dropped_events_count: 0,
            links: Vec::new(),
            dropped_links_count: 0,
            status: Status::default(),
            scope: None,
        }
    }

    /// Creates a child of `parent` that starts now and has no end yet. It has the trace flags, trace
    /// state and scope of `parent`.
    #[must_use]
    pub fn child_of(parent: &Self, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            trace_id: parent.trace_id,
            parent_span_id: Some(parent.span_id),
            parent_is_remote: Some(false),
            trace_flags: parent.trace_flags,
            trace_state: parent.trace_state.clone(),
            scope: parent.scope.clone(),
            ..Self::new(name)
        }
    }

    /// Creates a child of a span of which only the context is known, such as the caller's. It starts
    /// now and has no end yet.
    #[must_use]
    pub fn with_parent(parent: &SpanContext<'_>, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            trace_id: parent.trace_id,
            parent_span_id: Some(parent.span_id),
            parent_is_remote: Some(parent.is_remote),
            trace_flags: parent.trace_flags,
            trace_state: Cow::Owned(parent.trace_state.as_str().to_string()),
            ..Self::new(name)
        }
    }
}

/// A span that borrows its data, for [`Recorder::record`](crate::Recorder::record).
///
/// Build it with struct update syntax, `..SpanRef::new(trace_id, span_id, name)`: a minor release may
/// add fields.
///
/// ```
/// use otlp_collector::span::KeyValueRef;
/// use otlp_collector::{SpanId, SpanKind, SpanRef, TraceId, unix_nanos};
///
/// let trace_id: TraceId = "0af7651916cd43dd8448eb211c80319c".parse()?;
/// let span_id = SpanId::from_u64(0xb7ad_6b71_6920_3331).expect("not 0");
/// let attributes = [KeyValueRef::new("db.system.name", "postgresql")];
/// let span = SpanRef {
///     kind: SpanKind::Client,
///     start_time: unix_nanos(),
///     end_time: unix_nanos(),
///     attributes: &attributes,
///     ..SpanRef::new(trace_id, span_id, "SELECT orders")
/// };
/// assert_eq!(span.name, "SELECT orders");
/// # Ok::<(), otlp_collector::span::InvalidId>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanRef<'a> {
    /// Id of the span's trace.
    pub trace_id: TraceId,
    /// Id of the span.
    pub span_id: SpanId,
    /// Id of the parent; `None` for a root span.
    pub parent_span_id: Option<SpanId>,
    /// Whether the parent is in another process; `None` if that is unknown.
    pub parent_is_remote: Option<bool>,
    /// W3C trace flags. Default: none.
    pub trace_flags: TraceFlags,
    /// W3C trace state, sent without a check. Default: empty.
    pub trace_state: &'a str,
    /// Name of the operation, of low cardinality, such as `GET /orders/{id}`: a text, or prepared by
    /// [`name!`](crate::name).
    pub name: Name<'a>,
    /// Role in a call between services. Default: internal.
    pub kind: SpanKind,
    /// Start in nanoseconds since the Unix epoch. Default: 0, which is sent as unknown.
    pub start_time: u64,
    /// End in nanoseconds since the Unix epoch. Default: 0, which is sent as unknown.
    pub end_time: u64,
    /// Attributes. If a key occurs more than once, the last value is sent.
    pub attributes: &'a [KeyValueRef<'a>],
    /// Number of attributes dropped before this span was built.
    pub dropped_attributes_count: u32,
    /// Events. Default: none.
    pub events: &'a [EventRef<'a>],
    /// Number of events dropped before this span was built.
    pub dropped_events_count: u32,
    /// Links to related spans of this or other traces. Default: none.
    pub links: &'a [LinkRef<'a>],
    /// Number of links dropped before this span was built.
    pub dropped_links_count: u32,
    /// Outcome. Default: unset.
    pub status: StatusRef<'a>,
}

impl<'a> SpanRef<'a> {
    /// Creates a root span with these ids, and defaults for everything else.
    #[inline]
    #[must_use]
    pub fn new(trace_id: TraceId, span_id: SpanId, name: impl Into<Name<'a>>) -> Self {
        Self {
            trace_id,
            span_id,
            parent_span_id: None,
            parent_is_remote: None,
            trace_flags: TraceFlags::NONE,
            trace_state: "",
            name: name.into(),
            kind: SpanKind::Internal,
            start_time: 0,
            end_time: 0,
            attributes: &[],
            dropped_attributes_count: 0,
            events: &[],
            dropped_events_count: 0,
            links: &[],
            dropped_links_count: 0,
            status: StatusRef::Unset,
        }
    }
}
