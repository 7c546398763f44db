//! Encodes one span in place, as an element of `ScopeSpans.spans`.
//!
//! Two passes over the same data: the first sums up lengths, since protobuf writes each length
//! before what it measures; the second writes. The bytes equal those of prost for the same span.

use prost::encoding::encoded_len_varint;

use crate::span::{AnyValueRef, KeyValue, KeyValueRef, Span, SpanKind, SpanRef, StatusRef};

/// Field numbers and wire types of the messages written here, as single-byte tags.
mod tag {
    const fn len(field: u8) -> u8 {
        field << 3 | 2
    }

    const fn varint(field: u8) -> u8 {
        field << 3
    }

    const fn fixed64(field: u8) -> u8 {
        field << 3 | 1
    }

    /// `ScopeSpans.spans`
    pub(super) const SPANS: u8 = len(2);

    pub(super) const TRACE_ID: u8 = len(1);
    pub(super) const SPAN_ID: u8 = len(2);
    pub(super) const PARENT_SPAN_ID: u8 = len(4);
    pub(super) const NAME: u8 = len(5);
    pub(super) const KIND: u8 = varint(6);
    pub(super) const START_TIME: u8 = fixed64(7);
    pub(super) const END_TIME: u8 = fixed64(8);
    pub(super) const ATTRIBUTES: u8 = len(9);
    pub(super) const STATUS: u8 = len(15);

    pub(super) const STATUS_MESSAGE: u8 = len(2);
    pub(super) const STATUS_CODE: u8 = varint(3);

    pub(super) const KEY: u8 = len(1);
    pub(super) const VALUE: u8 = len(2);

    pub(super) const STRING_VALUE: u8 = len(1);
    pub(super) const BOOL_VALUE: u8 = varint(2);
    pub(super) const INT_VALUE: u8 = varint(3);
    pub(super) const DOUBLE_VALUE: u8 = fixed64(4);
}

/// The fields of a span, wherever they are kept.
pub(crate) struct SpanFields<'a, A> {
    pub(crate) trace_id: &'a [u8; 16],
    pub(crate) span_id: &'a [u8; 8],
    parent_span_id: &'a [u8; 8],
    name: &'a str,
    kind: SpanKind,
    start_time: u64,
    pub(crate) end_time: u64,
    attributes: A,
    status: StatusRef<'a>,
}

/// The fields of a borrowed span.
pub(crate) fn borrowed<'a>(
    span: &'a SpanRef<'a>,
) -> SpanFields<'a, impl Iterator<Item = KeyValueRef<'a>> + Clone> {
    SpanFields {
        trace_id: &span.trace_id,
        span_id: &span.span_id,
        parent_span_id: &span.parent_span_id,
        name: span.name,
        kind: span.kind,
        start_time: span.start_time,
        end_time: span.end_time,
        attributes: span.attributes.iter().copied(),
        status: span.status,
    }
}

/// The fields of an owned span.
pub(crate) fn owned(span: &Span) -> SpanFields<'_, impl Iterator<Item = KeyValueRef<'_>> + Clone> {
    SpanFields {
        trace_id: &span.trace_id,
        span_id: &span.span_id,
        parent_span_id: &span.parent_span_id,
        name: &span.name,
        kind: span.kind,
        start_time: span.start_time,
        end_time: span.end_time,
        attributes: span.attributes.iter().map(KeyValue::as_ref),
        status: span.status.as_ref(),
    }
}

impl<'a, A: Iterator<Item = KeyValueRef<'a>> + Clone> SpanFields<'a, A> {
    /// How long the span is, measured once so that it can be written at once.
    #[inline]
    pub(crate) fn measure(&self) -> SpanLen {
        let body = self.body_len();
        SpanLen {
            body,
            element: delimited_len(body),
        }
    }

    /// Writes the span into `out`, which is exactly `len.element` bytes long.
    #[inline]
    pub(crate) fn encode(&self, len: SpanLen, out: &mut [u8]) {
        let mut out = Cursor { out, at: 0 };
        out.header(tag::SPANS, len.body);
        out.delimited(tag::TRACE_ID, self.trace_id);
        out.delimited(tag::SPAN_ID, self.span_id);
        if has_parent(self.parent_span_id) {
            out.delimited(tag::PARENT_SPAN_ID, self.parent_span_id);
        }
        if !self.name.is_empty() {
            out.delimited(tag::NAME, self.name.as_bytes());
        }
        out.bytes(&[tag::KIND, self.kind as u8]);
        out.fixed64(tag::START_TIME, self.start_time);
        out.fixed64(tag::END_TIME, self.end_time);
        for attribute in self.attributes.clone() {
            encode_key_value(attribute, &mut out);
        }
        encode_status(self.status, &mut out);
        debug_assert_eq!(out.at, len.element);
    }

    #[inline]
    fn body_len(&self) -> usize {
        let attributes: usize = self
            .attributes
            .clone()
            .map(|attribute| delimited_len(key_value_len(attribute)))
            .sum();
        let parent = if has_parent(self.parent_span_id) {
            10
        } else {
            0
        };
        let ids_and_kind = 18 + 10 + parent + 2;
        ids_and_kind
            + non_empty_len(self.name)
            + fixed64_len(self.start_time)
            + fixed64_len(self.end_time)
            + attributes
            + status_len(self.status)
    }
}

/// Length of a span's own fields, and of the whole element with its tag and length.
#[derive(Clone, Copy)]
pub(crate) struct SpanLen {
    body: usize,
    pub(crate) element: usize,
}

#[inline]
fn has_parent(parent_span_id: &[u8; 8]) -> bool {
    u64::from_ne_bytes(*parent_span_id) != 0
}

/// Tag, length and content of a length-delimited field whose tag is one byte.
#[inline]
fn delimited_len(content: usize) -> usize {
    1 + encoded_len_varint(content as u64) + content
}

/// A text field that is left out when empty, as proto3 does.
#[inline]
fn non_empty_len(text: &str) -> usize {
    if text.is_empty() {
        0
    } else {
        delimited_len(text.len())
    }
}

#[inline]
fn fixed64_len(value: u64) -> usize {
    if value == 0 { 0 } else { 9 }
}

#[inline]
fn key_value_len(attribute: KeyValueRef<'_>) -> usize {
    non_empty_len(attribute.key) + delimited_len(value_len(attribute.value))
}

/// A member of a oneof is written even if it has its type's default value.
#[inline]
fn value_len(value: AnyValueRef<'_>) -> usize {
    match value {
        AnyValueRef::String(text) => delimited_len(text.len()),
        AnyValueRef::Bool(_) => 2,
        AnyValueRef::Int(number) => 1 + encoded_len_varint(number as u64),
        AnyValueRef::Double(_) => 9,
    }
}

#[inline]
fn status_len(status: StatusRef<'_>) -> usize {
    match status {
        StatusRef::Unset => 0,
        StatusRef::Ok => delimited_len(2),
        StatusRef::Error(description) => delimited_len(2 + non_empty_len(description)),
    }
}

#[inline]
fn encode_key_value(attribute: KeyValueRef<'_>, out: &mut Cursor<'_>) {
    out.header(tag::ATTRIBUTES, key_value_len(attribute));
    if !attribute.key.is_empty() {
        out.delimited(tag::KEY, attribute.key.as_bytes());
    }
    out.header(tag::VALUE, value_len(attribute.value));
    match attribute.value {
        AnyValueRef::String(text) => out.delimited(tag::STRING_VALUE, text.as_bytes()),
        AnyValueRef::Bool(truth) => out.bytes(&[tag::BOOL_VALUE, u8::from(truth)]),
        AnyValueRef::Int(number) => {
            out.bytes(&[tag::INT_VALUE]);
            out.varint(number as u64);
        }
        AnyValueRef::Double(number) => {
            out.bytes(&[tag::DOUBLE_VALUE]);
            out.bytes(&number.to_le_bytes());
        }
    }
}

#[inline]
fn encode_status(status: StatusRef<'_>, out: &mut Cursor<'_>) {
    const OK: u8 = 1;
    const ERROR: u8 = 2;
    match status {
        StatusRef::Unset => {}
        StatusRef::Ok => out.bytes(&[tag::STATUS, 2, tag::STATUS_CODE, OK]),
        StatusRef::Error(description) => {
            out.header(tag::STATUS, 2 + non_empty_len(description));
            if !description.is_empty() {
                out.delimited(tag::STATUS_MESSAGE, description.as_bytes());
            }
            out.bytes(&[tag::STATUS_CODE, ERROR]);
        }
    }
}

/// Writes protobuf from the front of a slice that was measured to be long enough.
///
/// Nearly all lengths fit into one byte: that case is written with one check of the bounds.
struct Cursor<'b> {
    out: &'b mut [u8],
    at: usize,
}

impl Cursor<'_> {
    /// The next `len` bytes, to be written.
    #[inline(always)]
    fn next(&mut self, len: usize) -> &mut [u8] {
        let next = &mut self.out[self.at..self.at + len];
        self.at += len;
        next
    }

    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) {
        self.next(bytes.len()).copy_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.bytes(&[value as u8]);
    }

    /// Tag and length of a field whose content follows.
    #[inline(always)]
    fn header(&mut self, tag: u8, len: usize) {
        if len < 0x80 {
            self.bytes(&[tag, len as u8]);
        } else {
            self.bytes(&[tag]);
            self.varint(len as u64);
        }
    }

    #[inline(always)]
    fn delimited(&mut self, tag: u8, content: &[u8]) {
        if content.len() < 0x80 {
            let field = self.next(2 + content.len());
            field[0] = tag;
            field[1] = content.len() as u8;
            field[2..].copy_from_slice(content);
        } else {
            self.header(tag, content.len());
            self.bytes(content);
        }
    }

    #[inline(always)]
    fn fixed64(&mut self, tag: u8, value: u64) {
        if value != 0 {
            let field = self.next(9);
            field[0] = tag;
            field[1..].copy_from_slice(&value.to_le_bytes());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::otlp::{proto, span_end_time};
    use crate::span::{AnyValue, Status};

    /// The naive way to the same bytes: build prost's message and let it encode.
    fn oracle(span: &Span) -> proto::Span {
        let status = match &span.status {
            Status::Unset => None,
            Status::Ok => Some((1, String::new())),
            Status::Error(description) => Some((2, description.to_string())),
        };
        proto::Span {
            trace_id: span.trace_id.to_vec(),
            span_id: span.span_id.to_vec(),
            parent_span_id: if span.parent_span_id == [0; 8] {
                Vec::new()
            } else {
                span.parent_span_id.to_vec()
            },
            name: span.name.to_string(),
            kind: span.kind as i32,
            start_time_unix_nano: span.start_time,
            end_time_unix_nano: span.end_time,
            attributes: span.attributes.iter().cloned().map(Into::into).collect(),
            status: status.map(|(code, message)| proto::Status { message, code }),
            ..proto::Span::default()
        }
    }

    fn encode(span: &Span) -> Vec<u8> {
        let fields = owned(span);
        let len = fields.measure();
        let mut out = vec![0; len.element];
        fields.encode(len, &mut out);
        out
    }

    fn encode_borrowed(span: &Span) -> Vec<u8> {
        let attributes: Vec<_> = span.attributes.iter().map(KeyValue::as_ref).collect();
        let span = SpanRef {
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_span_id: span.parent_span_id,
            name: &span.name,
            kind: span.kind,
            start_time: span.start_time,
            end_time: span.end_time,
            attributes: &attributes,
            status: span.status.as_ref(),
        };
        let fields = borrowed(&span);
        let len = fields.measure();
        let mut out = vec![0; len.element];
        fields.encode(len, &mut out);
        out
    }

    fn any_text() -> impl Strategy<Value = Cow<'static, str>> {
        prop_oneof![
            "\\PC{0,40}".prop_map(Cow::from),
            // Around the places where a length takes one more byte.
            (120_usize..135).prop_map(|len| Cow::from("x".repeat(len))),
            (16_370_usize..16_400).prop_map(|len| Cow::from("y".repeat(len))),
        ]
    }

    fn any_value() -> impl Strategy<Value = AnyValue> {
        prop_oneof![
            any_text().prop_map(AnyValue::String),
            any::<bool>().prop_map(AnyValue::Bool),
            any::<i64>().prop_map(AnyValue::Int),
            (-300_i64..300).prop_map(AnyValue::Int),
            any::<f64>().prop_map(AnyValue::Double),
            Just(AnyValue::Double(0.0)),
        ]
    }

    fn any_status() -> impl Strategy<Value = Status> {
        prop_oneof![
            Just(Status::Unset),
            Just(Status::Ok),
            any_text().prop_map(Status::Error),
        ]
    }

    fn any_kind() -> impl Strategy<Value = SpanKind> {
        prop_oneof![
            Just(SpanKind::Internal),
            Just(SpanKind::Server),
            Just(SpanKind::Client),
            Just(SpanKind::Producer),
            Just(SpanKind::Consumer),
        ]
    }

    prop_compose! {
        fn any_span()(
            ids in any::<([u8; 16], [u8; 8])>(),
            parent_span_id in prop_oneof![Just([0; 8]), any::<[u8; 8]>()],
            name in any_text(),
            kind in any_kind(),
            times in prop_oneof![Just((0, 0)), any::<(u64, u64)>()],
            attributes in prop::collection::vec((any_text(), any_value()), 0..12),
            status in any_status(),
        ) -> Span {
            Span {
                trace_id: ids.0,
                span_id: ids.1,
                parent_span_id,
                name,
                kind,
                start_time: times.0,
                end_time: times.1,
                attributes: attributes
                    .into_iter()
                    .map(|(key, value)| KeyValue { key, value })
                    .collect(),
                status,
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_equal_prosts(span in any_span()) {
            let message = proto::ScopeSpans { spans: vec![oracle(&span)], ..Default::default() };
            let expected = message.encode_to_vec();
            prop_assert_eq!(&encode(&span), &expected);
            prop_assert_eq!(&encode_borrowed(&span), &expected);
        }

        #[test]
        fn the_official_types_read_the_same_span(span in any_span()) {
            use opentelemetry_proto::tonic::trace::v1 as official;
            // Their bytes for what they read are ours again, and so no field was lost.
            let ours = encode(&span);
            let theirs = official::ScopeSpans::decode(&*ours).unwrap();
            prop_assert_eq!(theirs.encode_to_vec(), ours);
            let read = &theirs.spans[0];
            prop_assert_eq!(&read.trace_id[..], &span.trace_id[..]);
            prop_assert_eq!(&read.span_id[..], &span.span_id[..]);
            prop_assert_eq!(&*read.name, &*span.name);
            prop_assert_eq!(read.kind, span.kind as i32);
            prop_assert_eq!(read.start_time_unix_nano, span.start_time);
            prop_assert_eq!(read.end_time_unix_nano, span.end_time);
            prop_assert_eq!(read.attributes.len(), span.attributes.len());
            for (read, written) in read.attributes.iter().zip(&span.attributes) {
                prop_assert_eq!(&*read.key, &*written.key);
            }
            prop_assert_eq!(read.status.as_ref().map_or(0, |status| status.code), match span.status {
                Status::Unset => 0,
                Status::Ok => 1,
                Status::Error(_) => 2,
            });
        }

        #[test]
        fn the_end_time_is_found_without_decoding(span in any_span()) {
            let bytes = encode(&span);
            let element = crate::otlp::Fields::new(&bytes).next().unwrap().unwrap();
            prop_assert_eq!(span_end_time(element.bytes().unwrap()), span.end_time);
        }
    }
}
