//! Decodes the body of a request into spans.

use std::sync::Arc;

use prost::Message;

use crate::otlp::proto;
use crate::span::attribute::{AnyValue, KeyValue};
use crate::span::id::{SpanId, TraceId};
use crate::span::scope::InstrumentationScope;
use crate::span::{SpanKind, Status};
use crate::testing::received::{ReceivedEvent, ReceivedLink, ReceivedResource, ReceivedSpan};

/// Returns the spans of an encoded `ExportTraceServiceRequest`; `None` if it is malformed.
pub(super) fn spans(body: &[u8]) -> Option<Vec<ReceivedSpan>> {
    let request = proto::ExportTraceServiceRequest::decode(body).ok()?;
    let mut spans = Vec::new();
    for group in request.resource_spans {
        let resource = Arc::new(ReceivedResource {
            attributes: attributes(group.resource.unwrap_or_default().attributes),
            schema_url: group.schema_url,
        });
        for group in group.scope_spans {
            let own = group.scope.unwrap_or_default();
            let scope = Arc::new(InstrumentationScope {
                name: own.name,
                version: own.version,
                attributes: attributes(own.attributes),
                schema_url: group.schema_url,
            });
            for sent in group.spans {
                spans.push(span(sent, &resource, &scope)?);
            }
        }
    }
    Some(spans)
}

fn span(
    span: proto::Span,
    resource: &Arc<ReceivedResource>,
    scope: &Arc<InstrumentationScope>,
) -> Option<ReceivedSpan> {
    Some(ReceivedSpan {
        resource: Arc::clone(resource),
        scope: Arc::clone(scope),
        trace_id: trace_id(&span.trace_id)?,
        span_id: span_id(&span.span_id)?,
        // Some senders write zeros instead of nothing.
        parent_span_id: span_id(&span.parent_span_id),
        flags: span.flags,
        trace_state: span.trace_state,
        name: span.name,
        kind: kind(span.kind)?,
        start_time: span.start_time_unix_nano,
        end_time: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events: span.events.into_iter().map(event).collect(),
        dropped_events_count: span.dropped_events_count,
        links: (span.links.into_iter()).map(link).collect::<Option<_>>()?,
        dropped_links_count: span.dropped_links_count,
        status: status(span.status)?,
    })
}

fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    TraceId::from_bytes(bytes.try_into().ok()?)
}

fn span_id(bytes: &[u8]) -> Option<SpanId> {
    SpanId::from_bytes(bytes.try_into().ok()?)
}

fn kind(number: i32) -> Option<SpanKind> {
    Some(match number {
        // An unspecified kind counts as internal, by OTLP.
        0 | 1 => SpanKind::Internal,
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => return None,
    })
}

fn status(status: Option<proto::Status>) -> Option<Status> {
    let proto::Status { code, message } = status.unwrap_or_default();
    Some(match code {
        0 => Status::Unset,
        1 => Status::Ok,
        2 => Status::Error(message.into()),
        _ => return None,
    })
}

fn event(event: proto::span::Event) -> ReceivedEvent {
    ReceivedEvent {
        name: event.name,
        time: event.time_unix_nano,
        attributes: attributes(event.attributes),
        dropped_attributes_count: event.dropped_attributes_count,
    }
}

fn link(link: proto::span::Link) -> Option<ReceivedLink> {
    Some(ReceivedLink {
        trace_id: trace_id(&link.trace_id)?,
        span_id: span_id(&link.span_id)?,
        flags: link.flags,
        trace_state: link.trace_state,
        attributes: attributes(link.attributes),
        dropped_attributes_count: link.dropped_attributes_count,
    })
}

fn attributes(attributes: Vec<proto::KeyValue>) -> Vec<KeyValue> {
    let decoded = |attribute: proto::KeyValue| KeyValue::new(attribute.key, any(attribute.value));
    attributes.into_iter().map(decoded).collect()
}

fn any(value: Option<proto::AnyValue>) -> AnyValue {
    use proto::any_value::Value;
    match value.and_then(|value| value.value) {
        None => AnyValue::Empty,
        Some(Value::StringValue(text)) => AnyValue::String(text.into()),
        Some(Value::BoolValue(value)) => AnyValue::Bool(value),
        Some(Value::IntValue(number)) => AnyValue::Int(number),
        Some(Value::DoubleValue(number)) => AnyValue::Double(number),
        Some(Value::BytesValue(bytes)) => AnyValue::Bytes(bytes),
        Some(Value::ArrayValue(array)) => {
            let values = array.values.into_iter();
            AnyValue::Array(values.map(|value| any(Some(value))).collect())
        }
        Some(Value::KvlistValue(list)) => AnyValue::KeyValueList(attributes(list.values)),
    }
}
