//! What a span says: owned ([`Span`]) for convenience, borrowed ([`SpanRef`]) for speed.

use std::borrow::Cow;

use crate::clock::unix_nanos;
use crate::id::with_thread_ids;

/// The parent id of a span that has no parent.
pub const NO_PARENT: [u8; 8] = [0; 8];

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
    /// Which trace it belongs to; all zeros is refused.
    pub trace_id: [u8; 16],
    /// Its own id; all zeros is refused.
    pub span_id: [u8; 8],
    /// The parent's id, [`NO_PARENT`] for a root.
    pub parent_span_id: [u8; 8],
    /// What was done, in few words.
    pub name: Cow<'static, str>,
    /// Its role between services.
    pub kind: SpanKind,
    /// When it began, in nanoseconds since the Unix epoch.
    pub start_time: u64,
    /// When it ended, in nanoseconds since the Unix epoch; 0 means when it is collected.
    pub end_time: u64,
    /// What is known about it. Keys should be unique.
    pub attributes: Vec<KeyValue>,
    /// How it ended.
    pub status: Status,
}

impl Span {
    /// A root span with random ids that starts now and has not ended.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        let (trace_id, span_id) = with_thread_ids(|ids| (ids.trace_id(), ids.span_id()));
        Self {
            trace_id,
            span_id,
            parent_span_id: NO_PARENT,
            name: name.into(),
            kind: SpanKind::default(),
            start_time: unix_nanos(),
            end_time: 0,
            attributes: Vec::new(),
            status: Status::default(),
        }
    }

    /// A span within `parent`'s trace that starts now and has not ended.
    #[must_use]
    pub fn child_of(parent: &Self, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            trace_id: parent.trace_id,
            parent_span_id: parent.span_id,
            ..Self::new(name)
        }
    }
}

/// A span that borrows its data, for [`Recorder::record`](crate::Recorder::record).
///
/// ```
/// use otlp_collector::{KeyValueRef, SpanKind, SpanRef, unix_nanos};
///
/// let attributes = [KeyValueRef::new("db.system.name", "postgresql")];
/// let span = SpanRef {
///     kind: SpanKind::Client,
///     start_time: unix_nanos(),
///     end_time: unix_nanos(),
///     attributes: &attributes,
///     ..SpanRef::new([1; 16], [2; 8], "SELECT orders")
/// };
/// assert_eq!(span.name, "SELECT orders");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanRef<'a> {
    /// Which trace it belongs to; all zeros is refused.
    pub trace_id: [u8; 16],
    /// Its own id; all zeros is refused.
    pub span_id: [u8; 8],
    /// The parent's id, [`NO_PARENT`] for a root.
    pub parent_span_id: [u8; 8],
    /// What was done, in few words.
    pub name: &'a str,
    /// Its role between services.
    pub kind: SpanKind,
    /// When it began, in nanoseconds since the Unix epoch; 0 is sent as unknown.
    pub start_time: u64,
    /// When it ended, in nanoseconds since the Unix epoch; 0 is sent as unknown.
    pub end_time: u64,
    /// What is known about it. Keys should be unique.
    pub attributes: &'a [KeyValueRef<'a>],
    /// How it ended.
    pub status: StatusRef<'a>,
}

impl<'a> SpanRef<'a> {
    /// A root span with these ids, without times, attributes or status.
    #[must_use]
    pub const fn new(trace_id: [u8; 16], span_id: [u8; 8], name: &'a str) -> Self {
        Self {
            trace_id,
            span_id,
            parent_span_id: NO_PARENT,
            name,
            kind: SpanKind::Internal,
            start_time: 0,
            end_time: 0,
            attributes: &[],
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

/// An attribute: a key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyValue {
    /// The attribute's name.
    pub key: Cow<'static, str>,
    /// Its value.
    pub value: AnyValue,
}

impl KeyValue {
    /// An attribute from anything that converts to a key and a value.
    #[must_use]
    pub fn new(key: impl Into<Cow<'static, str>>, value: impl Into<AnyValue>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }

    pub(crate) fn as_ref(&self) -> KeyValueRef<'_> {
        KeyValueRef {
            key: &self.key,
            value: self.value.as_ref(),
        }
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AnyValue {
    /// Text.
    String(Cow<'static, str>),
    /// Truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
}

impl AnyValue {
    fn as_ref(&self) -> AnyValueRef<'_> {
        match self {
            Self::String(text) => AnyValueRef::String(text),
            Self::Bool(truth) => AnyValueRef::Bool(*truth),
            Self::Int(number) => AnyValueRef::Int(*number),
            Self::Double(number) => AnyValueRef::Double(*number),
        }
    }
}

/// A borrowed [`KeyValue`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyValueRef<'a> {
    /// The attribute's name.
    pub key: &'a str,
    /// Its value.
    pub value: AnyValueRef<'a>,
}

impl<'a> KeyValueRef<'a> {
    /// An attribute from anything that converts to a value.
    #[must_use]
    pub fn new(key: &'a str, value: impl Into<AnyValueRef<'a>>) -> Self {
        Self {
            key,
            value: value.into(),
        }
    }
}

/// A borrowed [`AnyValue`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum AnyValueRef<'a> {
    /// Text.
    String(&'a str),
    /// Truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
}

impl<'a> From<&'a str> for AnyValueRef<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(text)
    }
}

impl From<&'static str> for AnyValue {
    fn from(text: &'static str) -> Self {
        Self::String(Cow::Borrowed(text))
    }
}

impl From<String> for AnyValue {
    fn from(text: String) -> Self {
        Self::String(Cow::Owned(text))
    }
}

/// The conversions that the owned and the borrowed value share.
macro_rules! from_number {
    ($($from:ty => $variant:ident),*) => {$(
        impl From<$from> for AnyValue {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }

        impl From<$from> for AnyValueRef<'_> {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

from_number!(
    bool => Bool,
    i64 => Int, i32 => Int, i16 => Int, i8 => Int, u32 => Int, u16 => Int, u8 => Int,
    f64 => Double, f32 => Double
);

/// Numbers that may not fit into OTLP's `i64`: larger ones become its largest.
macro_rules! from_large_number {
    ($($from:ty),*) => {$(
        impl From<$from> for AnyValue {
            fn from(value: $from) -> Self {
                Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
            }
        }

        impl From<$from> for AnyValueRef<'_> {
            fn from(value: $from) -> Self {
                Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
            }
        }
    )*};
}

from_large_number!(u64, usize);
