//! Encodes one finished span in place, as an element of `ScopeSpans.spans`.
//!
//! Two passes over the same data: the first sums up lengths, since protobuf writes each length
//! before what it measures; the second writes. The bytes equal those of prost for the same span.

use crate::attribute::{AsKeyValue, Name};
use crate::context::{SpanContext, TraceFlags};
use crate::id::TraceId;
use crate::limits::SpanLimits;
use crate::otlp::value::{Attributes, sum_of};
use crate::otlp::wire::{Cursor, count_len, delimited_len, fixed64_len, non_empty_len, tag};
use crate::span::{AsEvent, AsLink, EventFields, LinkFields, Span, SpanKind, SpanRef, StatusRef};

/// The fields of a span, wherever they are kept, as many as the limits let through.
pub(crate) struct SpanFields<'a, K, E, L> {
    trace_id: TraceId,
    span_id: u64,
    parent_span_id: u64,
    pub(crate) end_time: u64,
    trace_state: &'a str,
    name: Name<'a>,
    kind: SpanKind,
    start_time: u64,
    attributes: Attributes<'a, K>,
    events: &'a [E],
    links: &'a [L],
    dropped: Dropped,
    status: StatusRef<'a>,
    flags: u32,
    limits: &'a SpanLimits,
}

/// What a span does not say any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) attributes: u32,
    pub(crate) events: u32,
    pub(crate) links: u32,
}

/// The fields of an owned or borrowed span; a macro, since these differ in the types of all that
/// they hold.
macro_rules! fields {
    ($span:expr, $limits:expr, $name:expr, $status:expr) => {{
        let (span, limits) = ($span, $limits);
        let (event_count, link_count) = (limits.event_count as usize, limits.link_count as usize);
        let attributes = Attributes::new(
            &span.attributes,
            limits.attribute_count,
            span.dropped_attributes_count,
        );
        let events = &span.events[..span.events.len().min(event_count)];
        let links = &span.links[..span.links.len().min(link_count)];
        SpanFields {
            trace_id: TraceId::from_bytes(span.trace_id),
            span_id: u64::from_be_bytes(span.span_id),
            parent_span_id: u64::from_be_bytes(span.parent_span_id),
            end_time: span.end_time,
            trace_state: &span.trace_state,
            name: $name,
            kind: span.kind,
            start_time: span.start_time,
            dropped: Dropped {
                attributes: attributes.dropped,
                events: beyond(span.dropped_events_count, span.events.len(), events.len()),
                links: beyond(span.dropped_links_count, span.links.len(), links.len()),
            },
            attributes,
            events,
            links,
            status: $status,
            flags: span_flags(span.trace_flags, span.parent_is_remote),
            limits,
        }
    }};
}

/// The fields of a borrowed span.
#[inline]
pub(crate) fn borrowed<'a>(
    span: &'a SpanRef<'a>,
    limits: &'a SpanLimits,
) -> SpanFields<'a, impl AsKeyValue, impl AsEvent, impl AsLink> {
    fields!(span, limits, span.name, span.status)
}

/// The fields of an owned span.
pub(crate) fn owned<'a>(
    span: &'a Span,
    limits: &'a SpanLimits,
) -> SpanFields<'a, impl AsKeyValue, impl AsEvent, impl AsLink> {
    fields!(span, limits, Name::from(&*span.name), span.status.as_ref())
}

/// How many were dropped, if of `all` only `kept` are left.
#[inline]
fn beyond(dropped: u32, all: usize, kept: usize) -> u32 {
    dropped.saturating_add(u32::try_from(all - kept).unwrap_or(u32::MAX))
}

/// Length of a span's own fields, and of the whole element with its tag and length.
#[derive(Clone, Copy)]
pub(crate) struct SpanLen {
    pub(super) body: usize,
    pub(crate) element: usize,
}

impl SpanLen {
    #[inline]
    pub(super) fn of_body(body: usize) -> Self {
        Self {
            body,
            element: delimited_len(body),
        }
    }
}

impl<K: AsKeyValue, E: AsEvent, L: AsLink> SpanFields<'_, K, E, L> {
    /// Whether neither id is all zeros.
    #[inline]
    pub(crate) fn has_valid_ids(&self) -> bool {
        self.trace_id.high | self.trace_id.low != 0 && self.span_id != 0
    }

    /// How long the span is, measured once so that it can be written at once.
    #[inline]
    pub(crate) fn measure(&self) -> SpanLen {
        let limits = self.limits;
        let body = fixed_len(self.parent_span_id != 0, self.start_time, self.end_time)
            + non_empty_len(self.trace_state.as_bytes())
            + name_len(self.name)
            + self.attributes.len(limits)
            + sum_of((self.events.iter()).map(|event| event_len(&event.as_event(), limits)))
            + sum_of((self.links.iter()).map(|link| link_len(&link.as_link(), limits)))
            + dropped_len(self.dropped)
            + status_len(self.status)
            + flags_len(self.flags);
        SpanLen::of_body(body)
    }

    /// Writes the span into `out`, which is exactly `len.element` bytes long.
    #[inline]
    pub(crate) fn encode(&self, len: SpanLen, out: &mut [u8]) {
        let limits = self.limits;
        let mut out = Cursor::new(out);
        out.header(tag::SPANS, len.body);
        out.trace_id(tag::TRACE_ID, self.trace_id);
        out.span_id(tag::SPAN_ID, self.span_id);
        out.non_empty(tag::TRACE_STATE, self.trace_state.as_bytes());
        if self.parent_span_id != 0 {
            out.span_id(tag::PARENT_SPAN_ID, self.parent_span_id);
        }
        encode_name(self.name, &mut out);
        encode_kind_and_times(self.kind, self.start_time, self.end_time, &mut out);
        self.attributes.encode(tag::ATTRIBUTES, limits, &mut out);
        out.count(tag::DROPPED_ATTRIBUTES, self.dropped.attributes);
        for event in self.events {
            encode_event(&event.as_event(), limits, &mut out);
        }
        out.count(tag::DROPPED_EVENTS, self.dropped.events);
        for link in self.links {
            encode_link(&link.as_link(), limits, &mut out);
        }
        out.count(tag::DROPPED_LINKS, self.dropped.links);
        encode_status(self.status, &mut out);
        encode_flags(self.flags, &mut out);
        debug_assert_eq!(out.written(), len.element);
    }
}

/// `Span.flags`: the W3C flags, and what is known of the parent's place.
#[inline]
pub(super) fn span_flags(trace_flags: TraceFlags, parent_is_remote: Option<bool>) -> u32 {
    const HAS_IS_REMOTE: u32 = 0x100;
    const IS_REMOTE: u32 = 0x200;
    let remoteness = match parent_is_remote {
        None => 0,
        Some(false) => HAS_IS_REMOTE,
        Some(true) => HAS_IS_REMOTE | IS_REMOTE,
    };
    u32::from(trace_flags.bits()) | remoteness
}

/// Length of what nearly every span has: ids, kind and times.
#[inline]
pub(super) fn fixed_len(has_parent: bool, start_time: u64, end_time: u64) -> usize {
    const TRACE_ID_SPAN_ID_KIND: usize = 18 + 10 + 2;
    let parent = if has_parent { 10 } else { 0 };
    TRACE_ID_SPAN_ID_KIND + parent + fixed64_len(start_time) + fixed64_len(end_time)
}

#[inline]
pub(super) fn name_len(name: Name<'_>) -> usize {
    match name.wire() {
        Some(wire) => wire.len(),
        None => non_empty_len(name.text().as_bytes()),
    }
}

#[inline]
pub(super) fn encode_name(name: Name<'_>, out: &mut Cursor<'_>) {
    match name.wire() {
        Some(wire) => out.bytes(wire),
        None => out.non_empty(tag::NAME, name.text().as_bytes()),
    }
}

#[inline]
pub(super) fn encode_kind_and_times(
    kind: SpanKind,
    start_time: u64,
    end_time: u64,
    out: &mut Cursor<'_>,
) {
    out.bytes(&[tag::KIND, kind as u8]);
    out.fixed64(tag::START_TIME, start_time);
    out.fixed64(tag::END_TIME, end_time);
}

#[inline]
pub(super) fn dropped_len(dropped: Dropped) -> usize {
    count_len(dropped.attributes) + count_len(dropped.events) + count_len(dropped.links)
}

#[inline]
pub(super) fn status_len(status: StatusRef<'_>) -> usize {
    match status {
        StatusRef::Unset => 0,
        StatusRef::Ok => delimited_len(2),
        StatusRef::Error(description) => delimited_len(2 + non_empty_len(description.as_bytes())),
    }
}

#[inline]
pub(super) fn encode_status(status: StatusRef<'_>, out: &mut Cursor<'_>) {
    const OK: u8 = 1;
    const ERROR: u8 = 2;
    match status {
        StatusRef::Unset => {}
        StatusRef::Ok => out.bytes(&[tag::STATUS, 2, tag::STATUS_CODE, OK]),
        StatusRef::Error(description) => {
            let description = description.as_bytes();
            out.header(tag::STATUS, 2 + non_empty_len(description));
            out.non_empty(tag::STATUS_MESSAGE, description);
            out.bytes(&[tag::STATUS_CODE, ERROR]);
        }
    }
}

#[inline]
pub(super) fn flags_len(flags: u32) -> usize {
    if flags == 0 { 0 } else { 6 }
}

#[inline]
pub(super) fn encode_flags(flags: u32, out: &mut Cursor<'_>) {
    if flags != 0 {
        out.bytes(&tag::FLAGS);
        out.bytes(&flags.to_le_bytes());
    }
}

/// Length of one event as an element of `Span.events`.
pub(super) fn event_len<K: AsKeyValue>(event: &EventFields<'_, K>, limits: &SpanLimits) -> usize {
    delimited_len(event_body_len(event, limits))
}

fn event_attributes<'e, K: AsKeyValue>(
    event: &EventFields<'e, K>,
    limits: &SpanLimits,
) -> Attributes<'e, K> {
    Attributes::new(
        event.attributes,
        limits.event_attribute_count,
        event.dropped_attributes_count,
    )
}

fn event_body_len<K: AsKeyValue>(event: &EventFields<'_, K>, limits: &SpanLimits) -> usize {
    let attributes = event_attributes(event, limits);
    fixed64_len(event.time)
        + non_empty_len(event.name.as_bytes())
        + attributes.len(limits)
        + count_len(attributes.dropped)
}

pub(super) fn encode_event<K: AsKeyValue>(
    event: &EventFields<'_, K>,
    limits: &SpanLimits,
    out: &mut Cursor<'_>,
) {
    let attributes = event_attributes(event, limits);
    out.header(tag::EVENTS, event_body_len(event, limits));
    out.fixed64(tag::EVENT_TIME, event.time);
    out.non_empty(tag::EVENT_NAME, event.name.as_bytes());
    attributes.encode(tag::EVENT_ATTRIBUTES, limits, out);
    out.count(tag::EVENT_DROPPED_ATTRIBUTES, attributes.dropped);
}

/// Length of one link as an element of `Span.links`.
pub(super) fn link_len<K: AsKeyValue>(link: &LinkFields<'_, K>, limits: &SpanLimits) -> usize {
    delimited_len(link_body_len(link, limits))
}

fn link_attributes<'e, K: AsKeyValue>(
    link: &LinkFields<'e, K>,
    limits: &SpanLimits,
) -> Attributes<'e, K> {
    Attributes::new(
        link.attributes,
        limits.link_attribute_count,
        link.dropped_attributes_count,
    )
}

fn link_body_len<K: AsKeyValue>(link: &LinkFields<'_, K>, limits: &SpanLimits) -> usize {
    let SpanContext {
        trace_id,
        span_id,
        trace_state,
        ..
    } = link.context;
    let attributes = link_attributes(link, limits);
    delimited_len(trace_id.len())
        + delimited_len(span_id.len())
        + non_empty_len(trace_state.as_str().as_bytes())
        + attributes.len(limits)
        + count_len(attributes.dropped)
        + 5
}

pub(super) fn encode_link<K: AsKeyValue>(
    link: &LinkFields<'_, K>,
    limits: &SpanLimits,
    out: &mut Cursor<'_>,
) {
    let SpanContext {
        trace_id,
        span_id,
        trace_state,
        ..
    } = link.context;
    let attributes = link_attributes(link, limits);
    out.header(tag::LINKS, link_body_len(link, limits));
    out.delimited(tag::LINK_TRACE_ID, trace_id);
    out.delimited(tag::LINK_SPAN_ID, span_id);
    out.non_empty(tag::LINK_TRACE_STATE, trace_state.as_str().as_bytes());
    attributes.encode(tag::LINK_ATTRIBUTES, limits, out);
    out.count(tag::LINK_DROPPED_ATTRIBUTES, attributes.dropped);
    // Never zero: that the other span's place is known is always said.
    let flags = span_flags(link.context.trace_flags, Some(link.context.is_remote));
    out.bytes(&[tag::LINK_FLAGS]);
    out.bytes(&flags.to_le_bytes());
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::attribute::{AnyValue, AnyValueRef, KeyValue, KeyValueRef};
    use crate::otlp::oracle::{any_limits, any_span, message};
    use crate::otlp::{Fields, proto, span_end_time};
    use crate::span::{EventRef, LinkRef};

    fn encode(span: &Span, limits: &SpanLimits) -> Vec<u8> {
        let fields = owned(span, limits);
        let len = fields.measure();
        let mut out = vec![0; len.element];
        fields.encode(len, &mut out);
        out
    }

    fn references(attributes: &[KeyValue]) -> Vec<KeyValueRef<'_>> {
        attributes.iter().map(AsKeyValue::as_key_value).collect()
    }

    fn encode_borrowed(span: &Span, limits: &SpanLimits) -> Vec<u8> {
        let attributes = references(&span.attributes);
        let of_events: Vec<_> = span
            .events
            .iter()
            .map(|e| references(&e.attributes))
            .collect();
        let events: Vec<_> = (span.events.iter().zip(&of_events))
            .map(|(event, attributes)| EventRef {
                attributes,
                dropped_attributes_count: event.dropped_attributes_count,
                ..EventRef::new(&event.name, event.time)
            })
            .collect();
        let of_links: Vec<_> = span
            .links
            .iter()
            .map(|l| references(&l.attributes))
            .collect();
        let links: Vec<_> = (span.links.iter().zip(&of_links))
            .map(|(link, attributes)| LinkRef {
                attributes,
                dropped_attributes_count: link.dropped_attributes_count,
                ..LinkRef::new(&link.context)
            })
            .collect();
        let span = SpanRef {
            parent_span_id: span.parent_span_id,
            parent_is_remote: span.parent_is_remote,
            trace_flags: span.trace_flags,
            trace_state: &span.trace_state,
            kind: span.kind,
            start_time: span.start_time,
            end_time: span.end_time,
            attributes: &attributes,
            dropped_attributes_count: span.dropped_attributes_count,
            events: &events,
            dropped_events_count: span.dropped_events_count,
            links: &links,
            dropped_links_count: span.dropped_links_count,
            status: span.status.as_ref(),
            ..SpanRef::new(span.trace_id, span.span_id, &*span.name)
        };
        let fields = borrowed(&span, limits);
        let len = fields.measure();
        let mut out = vec![0; len.element];
        fields.encode(len, &mut out);
        out
    }

    fn element(span: proto::Span) -> Vec<u8> {
        let message = proto::ScopeSpans {
            spans: vec![span],
            ..Default::default()
        };
        message.encode_to_vec()
    }

    proptest! {
        #[test]
        fn bytes_equal_prosts(span in any_span(), limits in any_limits()) {
            let expected = element(message(&span, &limits));
            prop_assert_eq!(&encode(&span, &limits), &expected);
            prop_assert_eq!(&encode_borrowed(&span, &limits), &expected);
        }

        #[test]
        fn the_official_types_read_the_same_span(span in any_span()) {
            use opentelemetry_proto::tonic::trace::v1 as official;
            // Their bytes for what they read are ours again, and so no field was lost.
            let ours = encode(&span, &SpanLimits::default());
            let theirs = official::ScopeSpans::decode(&*ours).unwrap();
            prop_assert_eq!(theirs.encode_to_vec(), ours);
            let read = &theirs.spans[0];
            prop_assert_eq!(&read.trace_id[..], &span.trace_id[..]);
            prop_assert_eq!(&read.span_id[..], &span.span_id[..]);
            prop_assert_eq!(&*read.name, &*span.name);
            prop_assert_eq!(read.kind, span.kind as i32);
            prop_assert_eq!(read.start_time_unix_nano, span.start_time);
            prop_assert_eq!(read.end_time_unix_nano, span.end_time);
            prop_assert_eq!(&*read.trace_state, &*span.trace_state);
            prop_assert_eq!(read.flags & 0xff, u32::from(span.trace_flags.bits()));
            let known = official::SpanFlags::ContextHasIsRemoteMask as u32;
            prop_assert_eq!(read.flags & known != 0, span.parent_is_remote.is_some());
            let remote = official::SpanFlags::ContextIsRemoteMask as u32;
            prop_assert_eq!(read.flags & remote != 0, span.parent_is_remote == Some(true));
            prop_assert_eq!(read.events.len(), span.events.len());
            for (read, written) in read.events.iter().zip(&span.events) {
                prop_assert_eq!((&*read.name, read.time_unix_nano), (&*written.name, written.time));
            }
            prop_assert_eq!(read.links.len(), span.links.len());
            for (read, written) in read.links.iter().zip(&span.links) {
                prop_assert_eq!(&read.trace_id[..], &written.context.trace_id[..]);
                prop_assert_eq!(&*read.trace_state, written.context.trace_state.as_str());
            }
            prop_assert_eq!(read.status.as_ref().map_or(0, |status| status.code), match span.status {
                crate::span::Status::Unset => 0,
                crate::span::Status::Ok => 1,
                crate::span::Status::Error(_) => 2,
            });
        }

        #[test]
        fn the_end_time_is_found_without_decoding(span in any_span()) {
            let bytes = encode(&span, &SpanLimits::default());
            let element = Fields::new(&bytes).next().unwrap().unwrap();
            prop_assert_eq!(span_end_time(element.bytes().unwrap()), span.end_time);
        }
    }

    /// Of one text in each form that a caller may have.
    #[test]
    fn homogeneous_slices_are_arrays() {
        let texts = [String::from("a"), String::from("b")];
        let values = [
            (
                AnyValueRef::from(&["a", "b"][..]),
                AnyValue::from(vec!["a", "b"]),
            ),
            (
                AnyValueRef::from(&texts[..]),
                AnyValue::from(texts.to_vec()),
            ),
            (
                AnyValueRef::from(&[1_i64, -2][..]),
                AnyValue::from(vec![1_i64, -2]),
            ),
            (
                AnyValueRef::from(&[0.5, 1e300][..]),
                AnyValue::from(vec![0.5, 1e300]),
            ),
            (
                AnyValueRef::from(&[true, false][..]),
                AnyValue::from(vec![true, false]),
            ),
            (
                AnyValueRef::from(&b"\x00\xff"[..]),
                AnyValue::from(vec![0_u8, 0xff]),
            ),
            (
                AnyValueRef::from(&[AnyValueRef::Empty, AnyValueRef::Int(1)][..]),
                AnyValue::from(vec![AnyValue::Empty, AnyValue::Int(1)]),
            ),
        ];
        for (borrowed, owned) in values {
            assert_eq!(borrowed, AnyValueRef::from(&owned));
        }
    }

    #[test]
    fn integers_beyond_otlps_are_texts() {
        for number in [0, 7, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
            let limits = SpanLimits::default();
            let mut span = Span::new("span");
            span.attributes.push(KeyValue::new("number", number));
            let expected = element(message(&span, &limits));
            let attributes = [KeyValueRef::new("number", AnyValueRef::Uint(number))];
            let span = SpanRef {
                start_time: span.start_time,
                trace_flags: span.trace_flags,
                attributes: &attributes,
                ..SpanRef::new(span.trace_id, span.span_id, "span")
            };
            let fields = borrowed(&span, &limits);
            let len = fields.measure();
            let mut out = vec![0; len.element];
            fields.encode(len, &mut out);
            assert_eq!(out, expected, "{number}");
        }
    }

    #[test]
    fn values_nested_too_deep_are_empty_and_receivers_read_the_rest() {
        let array = |inner| AnyValue::Array(vec![inner]);
        let list = |inner| AnyValue::KeyValueList(vec![KeyValue::new("inner", inner)]);
        let limits = SpanLimits::default();
        for levels in [29, 30, 31, 45, 46, 200] {
            for nested in [
                (0..levels).fold(AnyValue::Int(7), |inner, _| array(inner)),
                (0..levels).fold(AnyValue::Int(7), |inner, _| list(inner)),
                (0..levels).fold(AnyValue::Int(7), |inner, _| list(array(inner))),
            ] {
                let mut event = crate::span::Event::new("deep");
                event.attributes.push(KeyValue::new("nested", nested));
                let mut span = Span::new("deep");
                span.attributes.push(KeyValue::new("flat", true));
                span.attributes.push(event.attributes[0].clone());
                span.events.push(event);
                let spans = encode(&span, &limits);
                assert_eq!(spans, element(message(&span, &limits)), "{levels} levels");
                // `ScopeSpans` and `ResourceSpans` stand around it in a request.
                let mut request = spans;
                for tag in [0x12, 0x0a] {
                    let mut message = vec![tag];
                    prost::encoding::encode_varint(request.len() as u64, &mut message);
                    message.extend(request);
                    request = message;
                }
                assert!(proto::ExportTraceServiceRequest::decode(&*request).is_ok());
            }
        }
    }

    /// Each level holds the one below twice: written out it would be longer than memory.
    fn with_doubled(levels: u32, value: AnyValueRef<'_>, then: &mut dyn FnMut(AnyValueRef<'_>)) {
        if levels == 0 {
            return then(value);
        }
        with_doubled(levels - 1, AnyValueRef::from(&[value, value]), then);
    }

    #[test]
    fn values_that_share_their_parts_are_found_too_long() {
        with_doubled(44, AnyValueRef::Int(1), &mut |value| {
            let attributes = [KeyValueRef::new("shared", value)];
            let span = SpanRef {
                attributes: &attributes,
                ..SpanRef::new([1; 16], [1; 8], "span")
            };
            let limits = SpanLimits::default();
            assert!(borrowed(&span, &limits).measure().element > 1 << 24);
        });
    }

    #[test]
    fn of_very_many_attributes_some_are_looked_at_and_all_counted() {
        let mut span = Span::new("many");
        let numbered = |number: usize| KeyValue::new(format!("key.{number}"), number);
        span.attributes = (0..5000).map(numbered).collect();
        let limits = SpanLimits::default();
        let read = proto::ScopeSpans::decode(&*encode(&span, &limits)).unwrap();
        assert_eq!(read.spans[0].attributes.len(), 128);
        assert_eq!(read.spans[0].dropped_attributes_count, 5000 - 128);
    }
}
