//! A reference for the encoders: builds prost's messages the simple way. Also strategies that
//! generate spans to compare on.

use std::borrow::Cow;

use proptest::prelude::*;

use crate::otlp::proto;
use crate::span::attribute::{AnyValue, KeyValue};
use crate::span::context::{SpanContext, TraceFlags, TraceState};
use crate::span::id::{SpanId, TraceId};
use crate::span::limits::SpanLimits;
use crate::span::{Event, Link, Span, SpanKind, Status};

/// Returns a span as prost's message.
pub(super) fn message(span: &Span, limits: &SpanLimits) -> proto::Span {
    let (attributes, dropped) = attributes(&span.attributes, limits.attribute_count, limits);
    let events = &span.events[..span.events.len().min(limits.event_count as usize)];
    let links = &span.links[..span.links.len().min(limits.link_count as usize)];
    proto::Span {
        trace_id: span.trace_id.to_bytes().to_vec(),
        span_id: span.span_id.to_bytes().to_vec(),
        trace_state: span.trace_state.to_string(),
        parent_span_id: (span.parent_span_id).map_or(Vec::new(), |id| id.to_bytes().to_vec()),
        name: span.name.to_string(),
        kind: span.kind as i32,
        start_time_unix_nano: span.start_time,
        end_time_unix_nano: span.end_time,
        attributes,
        dropped_attributes_count: span.dropped_attributes_count + dropped,
        events: events
            .iter()
            .map(|event| event_message(event, limits))
            .collect(),
        dropped_events_count: span.dropped_events_count + (span.events.len() - events.len()) as u32,
        links: links
            .iter()
            .map(|link| link_message(link, limits))
            .collect(),
        dropped_links_count: span.dropped_links_count + (span.links.len() - links.len()) as u32,
        status: status(&span.status),
        flags: flags(span.trace_flags, span.parent_is_remote),
    }
}

fn flags(trace_flags: TraceFlags, is_remote: Option<bool>) -> u32 {
    let remote = is_remote.map_or(0, |is_remote| 0x100 + if is_remote { 0x200 } else { 0 });
    u32::from(trace_flags.bits()) + remote
}

pub(super) fn status(status: &Status) -> Option<proto::Status> {
    let (code, message) = match status {
        Status::Unset => return None,
        Status::Ok => (1, String::new()),
        Status::Error(description) => (2, description.to_string()),
    };
    Some(proto::Status { message, code })
}

pub(super) fn event_message(event: &Event, limits: &SpanLimits) -> proto::span::Event {
    let (attributes, dropped) = attributes(&event.attributes, limits.event_attribute_count, limits);
    proto::span::Event {
        time_unix_nano: event.time,
        name: event.name.to_string(),
        attributes,
        dropped_attributes_count: event.dropped_attributes_count + dropped,
    }
}

pub(super) fn link_message(link: &Link, limits: &SpanLimits) -> proto::span::Link {
    let (attributes, dropped) = attributes(&link.attributes, limits.link_attribute_count, limits);
    proto::span::Link {
        trace_id: link.context.trace_id.to_bytes().to_vec(),
        span_id: link.context.span_id.to_bytes().to_vec(),
        trace_state: link.context.trace_state.as_str().to_string(),
        attributes,
        dropped_attributes_count: link.dropped_attributes_count + dropped,
        flags: flags(link.context.trace_flags, Some(link.context.is_remote)),
    }
}

fn attributes(
    all: &[KeyValue],
    count_max: u32,
    limits: &SpanLimits,
) -> (Vec<proto::KeyValue>, u32) {
    let (kept, dropped) = different(all, count_max as usize);
    let kept = kept
        .into_iter()
        .map(|attribute| key_value(attribute, limits, 90));
    (kept.collect(), dropped)
}

/// Returns the last attribute of each of the first `count_max` distinct keys, and how many
/// attributes have another key or none.
fn different(all: &[KeyValue], count_max: usize) -> (Vec<&KeyValue>, u32) {
    let mut kept: Vec<&KeyValue> = Vec::new();
    let mut dropped = 0;
    for attribute in all {
        let known = kept.iter().position(|known| known.key == attribute.key);
        if let Some(known) = known {
            kept.remove(known);
        } else if attribute.key.is_empty() || kept.len() == count_max {
            dropped += 1;
            continue;
        }
        kept.push(attribute);
    }
    (kept, dropped)
}

pub(super) fn key_value(attribute: &KeyValue, limits: &SpanLimits, depth: u32) -> proto::KeyValue {
    proto::KeyValue {
        key: attribute.key.to_string(),
        value: Some(value(&attribute.value, limits, depth)),
    }
}

/// Converts a value that may contain at most `depth` levels of messages.
fn value(value_: &AnyValue, limits: &SpanLimits, depth: u32) -> proto::AnyValue {
    use proto::any_value::Value;
    let length_max = limits
        .attribute_value_length
        .map_or(usize::MAX, |max| max as usize);
    let value = match value_ {
        AnyValue::Array(_) if depth < 2 => None,
        AnyValue::KeyValueList(_) if depth < 3 => None,
        AnyValue::Empty => None,
        AnyValue::String(text) => Some(Value::StringValue(text.chars().take(length_max).collect())),
        AnyValue::Bool(truth) => Some(Value::BoolValue(*truth)),
        AnyValue::Int(number) => Some(Value::IntValue(*number)),
        AnyValue::Double(number) => Some(Value::DoubleValue(*number)),
        AnyValue::Bytes(bytes) => Some(Value::BytesValue(
            bytes.iter().copied().take(length_max).collect(),
        )),
        AnyValue::Array(values) => Some(Value::ArrayValue(proto::ArrayValue {
            values: values
                .iter()
                .map(|item| value(item, limits, depth - 2))
                .collect(),
        })),
        AnyValue::KeyValueList(values) => Some(Value::KvlistValue(proto::KeyValueList {
            values: (different(values, usize::MAX).0.into_iter())
                .map(|item| key_value(item, limits, depth - 3))
                .collect(),
        })),
    };
    proto::AnyValue { value }
}

// ---- Strategies ----

pub(super) fn any_text() -> impl Strategy<Value = Cow<'static, str>> {
    prop_oneof![
        8 => "\\PC{0,40}".prop_map(Cow::from),
        // Around the lengths that take one byte more to encode.
        2 => (120_usize..135).prop_map(|len| Cow::from("x".repeat(len))),
        1 => (16_370_usize..16_400).prop_map(|len| Cow::from("y".repeat(len))),
    ]
}

/// Generates keys from a small set, so that some are repeated.
pub(super) fn any_key() -> impl Strategy<Value = Cow<'static, str>> {
    prop_oneof![
        3 => (0..12_u32).prop_map(|number| Cow::from(format!("key.{number}"))),
        1 => any_text(),
    ]
}

pub(super) fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(AnyValue::Empty),
        any_text().prop_map(AnyValue::String),
        any::<bool>().prop_map(AnyValue::Bool),
        any::<i64>().prop_map(AnyValue::Int),
        (-300_i64..300).prop_map(AnyValue::Int),
        any::<f64>().prop_map(AnyValue::Double),
        Just(AnyValue::Double(0.0)),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(AnyValue::Bytes),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(AnyValue::Array),
            prop::collection::vec((any_key(), inner), 0..5)
                .prop_map(|values| AnyValue::KeyValueList(key_values(values))),
        ]
    })
}

fn key_values(values: Vec<(Cow<'static, str>, AnyValue)>) -> Vec<KeyValue> {
    values
        .into_iter()
        .map(|(key, value)| KeyValue { key, value })
        .collect()
}

pub(super) fn any_attributes(max: usize) -> impl Strategy<Value = Vec<KeyValue>> {
    prop::collection::vec((any_key(), any_value()), 0..max).prop_map(key_values)
}

pub(super) fn any_status() -> impl Strategy<Value = Status> {
    prop_oneof![
        Just(Status::Unset),
        Just(Status::Ok),
        any_text().prop_map(Status::Error),
    ]
}

pub(super) fn any_kind() -> impl Strategy<Value = SpanKind> {
    prop_oneof![
        Just(SpanKind::Internal),
        Just(SpanKind::Server),
        Just(SpanKind::Client),
        Just(SpanKind::Producer),
        Just(SpanKind::Consumer),
    ]
}

pub(super) fn any_limits() -> impl Strategy<Value = SpanLimits> {
    let limits = (
        0..10_u32,
        prop::option::of(0..150_u32),
        0..4_u32,
        0..4_u32,
        0..4_u32,
        0..4_u32,
    );
    prop_oneof![
        Just(SpanLimits::default()),
        limits.prop_map(|limits| SpanLimits {
            attribute_count: limits.0,
            attribute_value_length: limits.1,
            event_count: limits.2,
            link_count: limits.3,
            event_attribute_count: limits.4,
            link_attribute_count: limits.5,
        }),
    ]
}

pub(super) fn any_trace_state() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(""), Just("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")]
}

fn any_trace_id() -> impl Strategy<Value = TraceId> {
    any::<u128>().prop_map(|number| TraceId::from_u128(number).unwrap_or(TraceId::MIN))
}

fn any_span_id() -> impl Strategy<Value = SpanId> {
    any::<u64>().prop_map(|number| SpanId::from_u64(number).unwrap_or(SpanId::MIN))
}

prop_compose! {
    pub(super) fn any_event()(
        name in any_text(),
        time in any::<u64>(),
        attributes in any_attributes(6),
        dropped_attributes_count in 0..300_u32,
    ) -> Event {
        Event { name, time, attributes, dropped_attributes_count }
    }
}

prop_compose! {
    pub(super) fn any_link()(
        ids in (any_trace_id(), any_span_id()),
        flags in any::<u8>(),
        is_remote in any::<bool>(),
        trace_state in any_trace_state(),
        attributes in any_attributes(6),
        dropped_attributes_count in 0..300_u32,
    ) -> Link {
        Link {
            context: SpanContext {
                trace_flags: TraceFlags::new(flags),
                is_remote,
                trace_state: TraceState::checked(trace_state),
                ..SpanContext::new(ids.0, ids.1)
            },
            attributes,
            dropped_attributes_count,
        }
    }
}

prop_compose! {
    pub(super) fn any_span()(
        ids in (any_trace_id(), any_span_id()),
        parent_span_id in prop::option::of(any_span_id()),
        parent_is_remote in any::<Option<bool>>(),
        flags in any::<u8>(),
        trace_state in any_trace_state(),
        name in any_text(),
        kind in any_kind(),
        times in prop_oneof![Just((0, 0)), any::<(u64, u64)>()],
        attributes in any_attributes(14),
        events in prop::collection::vec(any_event(), 0..5),
        links in prop::collection::vec(any_link(), 0..5),
        dropped in prop_oneof![Just((0, 0, 0)), (0..300_u32, 0..300_u32, 0..300_u32)],
        status in any_status(),
    ) -> Span {
        Span {
            trace_id: ids.0,
            span_id: ids.1,
            parent_span_id,
            parent_is_remote,
            trace_flags: TraceFlags::new(flags),
            trace_state: Cow::Borrowed(trace_state),
            name,
            kind,
            start_time: times.0,
            end_time: times.1,
            attributes,
            dropped_attributes_count: dropped.0,
            events,
            dropped_events_count: dropped.1,
            links,
            dropped_links_count: dropped.2,
            status,
            scope: None,
        }
    }
}
