//! What a span says: owned ([`Span`]) for convenience, borrowed ([`SpanRef`]) for speed.

pub(crate) mod attribute;
pub(crate) mod context;
pub(crate) mod id;
pub(crate) mod id_generator;
pub(crate) mod limits;
pub(crate) mod sampler;
pub(crate) mod scope;

use std::borrow::Cow;

use crate::platform::clock::unix_nanos;
use crate::span::attribute::{AsKeyValue, KeyValue, KeyValueRef, Name};
use crate::span::context::{SpanContext, TraceFlags};
use crate::span::id::{SpanId, TraceId};
use crate::span::id_generator::with_thread_ids;
use crate::span::scope::Scope;

/// A span that owns its data, for [`Collector::collect`](crate::Collector::collect).
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
    /// Whether the parent is in another process, if that is known.
    pub parent_is_remote: Option<bool>,
    /// W3C trace flags.
    pub trace_flags: TraceFlags,
    /// W3C trace state, sent as it is.
    pub trace_state: Cow<'static, str>,
    /// What was done, in few words.
    pub name: Cow<'static, str>,
    /// Its role between services.
    pub kind: SpanKind,
    /// When it began, in nanoseconds since the Unix epoch.
    pub start_time: u64,
    /// When it ended, in nanoseconds since the Unix epoch; 0 means when it is collected.
    pub end_time: u64,
    /// What is known about it; of several with the same key the last counts.
    pub attributes: Vec<KeyValue>,
    /// Attributes that are not here any more.
    pub dropped_attributes_count: u32,
    /// What happened meanwhile.
    pub events: Vec<Event>,
    /// Events that are not here any more.
    pub dropped_events_count: u32,
    /// Spans it has to do with, of this or other traces.
    pub links: Vec<Link>,
    /// Links that are not here any more.
    pub dropped_links_count: u32,
    /// How it ended.
    pub status: Status,
    /// The instrumentation scope it belongs to; `None` is the collector's own.
    pub scope: Option<Scope>,
}

impl Span {
    /// A root span with random ids that starts now and has not ended, sampled.
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

    /// A span within `parent`'s trace that starts now and has not ended.
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

    /// A span that continues a trace that came from elsewhere; starts now and has not ended.
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
/// ```
/// use otlp_collector::{KeyValueRef, SpanId, SpanKind, SpanRef, TraceId, unix_nanos};
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
/// # Ok::<(), otlp_collector::InvalidId>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanRef<'a> {
    /// Id of the span's trace.
    pub trace_id: TraceId,
    /// Id of the span.
    pub span_id: SpanId,
    /// Id of the parent; `None` for a root span.
    pub parent_span_id: Option<SpanId>,
    /// Whether the parent is in another process, if that is known.
    pub parent_is_remote: Option<bool>,
    /// W3C trace flags. Default none: then nothing is sent of them.
    pub trace_flags: TraceFlags,
    /// W3C trace state, sent as it is.
    pub trace_state: &'a str,
    /// What was done, in few words: a text, or prepared by [`name!`](crate::name).
    pub name: Name<'a>,
    /// Its role between services.
    pub kind: SpanKind,
    /// When it began, in nanoseconds since the Unix epoch; 0 is sent as unknown.
    pub start_time: u64,
    /// When it ended, in nanoseconds since the Unix epoch; 0 is sent as unknown.
    pub end_time: u64,
    /// What is known about it; of several with the same key the last counts.
    pub attributes: &'a [KeyValueRef<'a>],
    /// Attributes that are not here any more.
    pub dropped_attributes_count: u32,
    /// What happened meanwhile.
    pub events: &'a [EventRef<'a>],
    /// Events that are not here any more.
    pub dropped_events_count: u32,
    /// Spans it has to do with, of this or other traces.
    pub links: &'a [LinkRef<'a>],
    /// Links that are not here any more.
    pub dropped_links_count: u32,
    /// How it ended.
    pub status: StatusRef<'a>,
}

impl<'a> SpanRef<'a> {
    /// A root span with these ids, without times, attributes or status.
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

/// The role of a span between services (OTLP's `Span.SpanKind`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// Work within one service.
    #[default]
    Internal = 1,
    /// The handling of a request from outside.
    Server = 2,
    /// A request to another service.
    Client = 3,
    /// The sending of a message that is handled later.
    Producer = 4,
    /// The handling of such a message.
    Consumer = 5,
}

/// How a span ended (OTLP's `Status`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Nothing was said: the default.
    #[default]
    Unset,
    /// Declared a success by the application.
    Ok,
    /// Failed, with a description that may be empty.
    Error(Cow<'static, str>),
}

impl Status {
    pub(crate) fn as_ref(&self) -> StatusRef<'_> {
        match self {
            Self::Unset => StatusRef::Unset,
            Self::Ok => StatusRef::Ok,
            Self::Error(description) => StatusRef::Error(description),
        }
    }

    pub(crate) fn is_unset(&self) -> bool {
        matches!(self, Self::Unset)
    }
}

/// A borrowed [`Status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusRef<'a> {
    /// Nothing was said: the default.
    #[default]
    Unset,
    /// Declared a success by the application.
    Ok,
    /// Failed, with a description that may be empty.
    Error(&'a str),
}

impl StatusRef<'_> {
    #[inline(always)]
    pub(crate) fn is_unset(&self) -> bool {
        matches!(self, Self::Unset)
    }
}

/// Something that happened at a moment of a span (OTLP's `Span.Event`).
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub name: Cow<'static, str>,
    /// When, in nanoseconds since the Unix epoch.
    pub time: u64,
    /// What is known about it; of several with the same key the last counts.
    pub attributes: Vec<KeyValue>,
    /// Attributes that are not here any more.
    pub dropped_attributes_count: u32,
}

impl Event {
    /// An event that happens now.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            time: unix_nanos(),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
        }
    }
}

/// A borrowed [`Event`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventRef<'a> {
    /// What happened.
    pub name: &'a str,
    /// When, in nanoseconds since the Unix epoch; 0 is sent as unknown.
    pub time: u64,
    /// What is known about it; of several with the same key the last counts.
    pub attributes: &'a [KeyValueRef<'a>],
    /// Attributes that are not here any more.
    pub dropped_attributes_count: u32,
}

impl<'a> EventRef<'a> {
    /// An event at `time`, without attributes.
    #[must_use]
    pub const fn new(name: &'a str, time: u64) -> Self {
        Self {
            name,
            time,
            attributes: &[],
            dropped_attributes_count: 0,
        }
    }
}

/// Another span that this one has to do with (OTLP's `Span.Link`).
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The other span.
    pub context: SpanContext<'static>,
    /// What is known about the relation; of several with the same key the last counts.
    pub attributes: Vec<KeyValue>,
    /// Attributes that are not here any more.
    pub dropped_attributes_count: u32,
}

impl Link {
    /// A link to that span.
    #[must_use]
    pub fn new(context: SpanContext<'static>) -> Self {
        Self {
            context,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
        }
    }
}

/// A borrowed [`Link`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkRef<'a> {
    /// The other span.
    pub context: &'a SpanContext<'a>,
    /// What is known about the relation; of several with the same key the last counts.
    pub attributes: &'a [KeyValueRef<'a>],
    /// Attributes that are not here any more.
    pub dropped_attributes_count: u32,
}

impl<'a> LinkRef<'a> {
    /// A link to that span, without attributes.
    #[must_use]
    pub const fn new(context: &'a SpanContext<'a>) -> Self {
        Self {
            context,
            attributes: &[],
            dropped_attributes_count: 0,
        }
    }
}

/// What an owned and a borrowed event have in common.
pub(crate) trait AsEvent {
    type Attribute: AsKeyValue;

    fn as_event(&self) -> EventFields<'_, Self::Attribute>;
}

pub(crate) struct EventFields<'a, K> {
    pub(crate) name: &'a str,
    pub(crate) time: u64,
    pub(crate) attributes: &'a [K],
    pub(crate) dropped_attributes_count: u32,
}

/// What an owned and a borrowed link have in common.
pub(crate) trait AsLink {
    type Attribute: AsKeyValue;

    fn as_link(&self) -> LinkFields<'_, Self::Attribute>;
}

pub(crate) struct LinkFields<'a, K> {
    pub(crate) context: &'a SpanContext<'a>,
    pub(crate) attributes: &'a [K],
    pub(crate) dropped_attributes_count: u32,
}

macro_rules! as_event {
    ($event:ty, $attribute:ty $(, $lifetime:lifetime)?) => {
        impl$(<$lifetime>)? AsEvent for $event {
            type Attribute = $attribute;

            fn as_event(&self) -> EventFields<'_, $attribute> {
                EventFields {
                    name: &self.name,
                    time: self.time,
                    attributes: &self.attributes,
                    dropped_attributes_count: self.dropped_attributes_count,
                }
            }
        }
    };
}

as_event!(Event, KeyValue);
as_event!(EventRef<'e>, KeyValueRef<'e>, 'e);

macro_rules! as_link {
    ($link:ty, $attribute:ty $(, $lifetime:lifetime)?) => {
        impl$(<$lifetime>)? AsLink for $link {
            type Attribute = $attribute;

            fn as_link(&self) -> LinkFields<'_, $attribute> {
                LinkFields {
                    context: &self.context,
                    attributes: &self.attributes,
                    dropped_attributes_count: self.dropped_attributes_count,
                }
            }
        }
    };
}

as_link!(Link, KeyValue);
as_link!(LinkRef<'l>, KeyValueRef<'l>, 'l);
