//! Requests and spans as they were received, and questions that tests ask about them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use crate::span::attribute::{AnyValue, KeyValue};
use crate::span::id::{SpanId, TraceId};
use crate::span::scope::InstrumentationScope;
use crate::span::{SpanKind, Status};

/// A request as it was received.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedRequest {
    /// Path and query of the request line.
    pub path: String,
    /// Names of headers, in lower case, and their values.
    pub headers: Vec<(String, String)>,
    /// Uncompressed body: an encoded `ExportTraceServiceRequest` of OTLP.
    pub body: Vec<u8>,
    /// Spans of the body, in its order.
    pub spans: Vec<ReceivedSpan>,
    /// Whether the receiver accepted the spans.
    pub accepted: bool,
}

impl ReceivedRequest {
    /// Returns the value of the first header with this name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A span as it was received.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedSpan {
    /// Resource of the span.
    pub resource: Arc<ReceivedResource>,
    /// Instrumentation scope of the span.
    pub scope: Arc<InstrumentationScope>,
    /// Id of the span's trace.
    pub trace_id: TraceId,
    /// Id of the span.
    pub span_id: SpanId,
    /// Id of the parent; `None` for a root span.
    pub parent_span_id: Option<SpanId>,
    /// OTLP's flags: W3C trace flags in the lowest byte; bit 8 is set if it is known whether the parent
    /// is remote, bit 9 if it is.
    pub flags: u32,
    /// W3C trace state.
    pub trace_state: String,
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: SpanKind,
    /// Start in Unix nanoseconds.
    pub start_time: u64,
    /// End in Unix nanoseconds.
    pub end_time: u64,
    /// Attributes.
    pub attributes: Vec<KeyValue>,
    /// Number of attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    /// Events.
    pub events: Vec<ReceivedEvent>,
    /// Number of events that the sender dropped.
    pub dropped_events_count: u32,
    /// Links.
    pub links: Vec<ReceivedLink>,
    /// Number of links that the sender dropped.
    pub dropped_links_count: u32,
    /// Status.
    pub status: Status,
}

/// A resource as it was received.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReceivedResource {
    /// Attributes.
    pub attributes: Vec<KeyValue>,
    /// Schema URL; empty without one.
    pub schema_url: String,
}

/// An event of a span as it was received.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedEvent {
    /// Name.
    pub name: String,
    /// Time in Unix nanoseconds.
    pub time: u64,
    /// Attributes.
    pub attributes: Vec<KeyValue>,
    /// Number of attributes that the sender dropped.
    pub dropped_attributes_count: u32,
}

/// A link of a span as it was received.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedLink {
    /// Id of the linked span's trace.
    pub trace_id: TraceId,
    /// Id of the linked span.
    pub span_id: SpanId,
    /// OTLP's flags, as [`ReceivedSpan::flags`].
    pub flags: u32,
    /// W3C trace state.
    pub trace_state: String,
    /// Attributes.
    pub attributes: Vec<KeyValue>,
    /// Number of attributes that the sender dropped.
    pub dropped_attributes_count: u32,
}

impl ReceivedSpan {
    /// Returns the value of the attribute with this key, if there is one.
    ///
    /// ```
    /// # use otlp_collector::testing::ReceivedSpan;
    /// # fn example(span: &ReceivedSpan) {
    /// assert_eq!(span.attribute("http.response.status_code"), Some(200.into()));
    /// assert_eq!(span.attribute("error.type"), None);
    /// # }
    /// ```
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<AnyValue> {
        value(&self.attributes, key)
    }

    /// Asserts that `parent` is the parent of this span.
    ///
    /// # Panics
    /// The span has another parent or none, or `parent` is in another trace.
    #[track_caller]
    pub fn assert_child_of(&self, parent: &Self) {
        assert!(
            self.trace_id == parent.trace_id && self.parent_span_id == Some(parent.span_id),
            "span {:?} is not a child of {:?}: its parent is {} in trace {}, and that is {} in \
             trace {}",
            self.name,
            parent.name,
            shown(self.parent_span_id),
            self.trace_id,
            parent.span_id,
            parent.trace_id,
        );
    }

    /// Asserts that this span has no parent.
    ///
    /// # Panics
    /// The span has a parent.
    #[track_caller]
    pub fn assert_root(&self) {
        assert!(
            self.parent_span_id.is_none(),
            "span {:?} is not a root: its parent is {} in trace {}",
            self.name,
            shown(self.parent_span_id),
            self.trace_id,
        );
    }
}

impl ReceivedResource {
    /// Returns the value of the attribute with this key, if there is one.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<AnyValue> {
        value(&self.attributes, key)
    }
}

impl ReceivedEvent {
    /// Returns the value of the attribute with this key, if there is one.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<AnyValue> {
        value(&self.attributes, key)
    }
}

impl ReceivedLink {
    /// Returns the value of the attribute with this key, if there is one.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<AnyValue> {
        value(&self.attributes, key)
    }
}

fn value(attributes: &[KeyValue], key: &str) -> Option<AnyValue> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(attribute.value.clone())
}

fn shown(id: Option<impl Display>) -> String {
    id.map_or_else(|| "none".to_string(), |id| id.to_string())
}

/// Returns the only span with this name; panics with the received names if there is no such span.
#[track_caller]
pub(super) fn only<'s>(
    spans: impl Iterator<Item = &'s ReceivedSpan>,
    name: &str,
) -> &'s ReceivedSpan {
    let mut found = Vec::new();
    let mut names = BTreeMap::<_, usize>::new();
    for span in spans {
        *names.entry(&*span.name).or_default() += 1;
        found.extend((span.name == name).then_some(span));
    }
    match found[..] {
        [span] => span,
        [] => panic!("no span {name:?} was received, but {}", list(&names)),
        _ => panic!("{} spans {name:?} were received: use spans()", found.len()),
    }
}

fn list(names: &BTreeMap<&str, usize>) -> String {
    if names.is_empty() {
        return "none at all: flush or shut down before, and start the receiver with start()"
            .into();
    }
    let names = names.iter().map(|(name, count)| match count {
        1 => format!("{name:?}"),
        _ => format!("{name:?} ({count} times)"),
    });
    names.collect::<Vec<_>>().join(", ")
}
