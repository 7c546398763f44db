//! Encodes attributes: `KeyValue` and `AnyValue` with the limits that apply.

use crate::attribute::{AnyValueRef, ArrayRef, AsKeyValue, Key, KeyValueListRef, KeyValueRef};
use crate::limits::{DEPTH_MAX, LOOKED_AT_MAX, SpanLimits};
use crate::otlp::wire::{Cursor, delimited_len, encoded_len_varint, non_empty_len, tag};

/// The attributes of a span, event or link, as many of them as will be written.
pub(super) struct Attributes<'a, K> {
    items: &'a [K],
    /// Some key stands more than once.
    repeats: bool,
    kept: usize,
    /// Beyond the limit.
    pub(super) dropped: u32,
}

impl<'a, K: AsKeyValue> Attributes<'a, K> {
    #[inline]
    pub(super) fn new(items: &'a [K], count_max: u32) -> Self {
        let count_max = count_max as usize;
        if may_repeat(items.iter().map(|item| item.as_key_value().key)) || items.len() > count_max {
            return Self::chosen(items, count_max);
        }
        Self {
            items,
            repeats: false,
            kept: items.len(),
            dropped: 0,
        }
    }

    #[cold]
    fn chosen(all: &'a [K], count_max: usize) -> Self {
        let items = &all[..all.len().min(count_max.max(LOOKED_AT_MAX))];
        let different = (0..items.len())
            .filter(|&at| !stands_later(items, at))
            .count();
        let kept = different.min(count_max);
        let beyond = different - kept + all.len() - items.len();
        Self {
            items,
            repeats: different < items.len(),
            kept,
            dropped: u32::try_from(beyond).unwrap_or(u32::MAX),
        }
    }

    /// The attributes; of several with the same key the last.
    #[inline]
    fn iter(&self) -> impl Iterator<Item = KeyValueRef<'_>> {
        (self.items.iter().enumerate())
            .filter(|(at, _)| !self.repeats || !stands_later(self.items, *at))
            .take(self.kept)
            .map(|(_, item)| item.as_key_value())
    }

    /// Length of them all as a repeated field whose tag is one byte.
    #[inline]
    pub(super) fn len(&self, limits: &SpanLimits) -> usize {
        self.iter()
            .map(|attribute| attribute_len(attribute, limits))
            .sum()
    }

    #[inline]
    pub(super) fn encode(&self, tag: u8, limits: &SpanLimits, out: &mut Cursor<'_>) {
        for attribute in self.iter() {
            encode_attribute(tag, attribute, limits, out);
        }
    }
}

/// Whether two keys are perhaps the same; if not, surely none are.
#[inline]
fn may_repeat<'k>(keys: impl Iterator<Item = Key<'k>>) -> bool {
    let mut seen = 0;
    for key in keys {
        let bit = key.fingerprint();
        if seen & bit != 0 {
            return true;
        }
        seen |= bit;
    }
    false
}

fn stands_later<K: AsKeyValue>(items: &[K], at: usize) -> bool {
    let key = items[at].as_key_value().key;
    items[at + 1..]
        .iter()
        .any(|later| later.as_key_value().key == key)
}

/// Length of one attribute as an element of a repeated field whose tag is one byte.
#[inline]
pub(super) fn attribute_len(attribute: KeyValueRef<'_>, limits: &SpanLimits) -> usize {
    delimited_len(key_value_len(attribute, limits, 0))
}

#[inline]
pub(super) fn encode_attribute(
    tag: u8,
    attribute: KeyValueRef<'_>,
    limits: &SpanLimits,
    out: &mut Cursor<'_>,
) {
    encode_key_value(tag, attribute, limits, 0, out);
}

#[inline]
fn key_value_len(attribute: KeyValueRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    let value = value_len(attribute.value, limits, depth);
    match attribute.key.wire() {
        Some(wire) => wire.len() + encoded_len_varint(value as u64) + value,
        None => non_empty_len(attribute.key.text().as_bytes()) + delimited_len(value),
    }
}

/// A member of a oneof is written even if it has its type's default value.
#[inline]
fn value_len(value: AnyValueRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    match value {
        AnyValueRef::Empty => 0,
        AnyValueRef::String(text) => delimited_len(limits.text(text).len()),
        AnyValueRef::Bool(_) => 2,
        AnyValueRef::Int(number) => 1 + encoded_len_varint(number as u64),
        AnyValueRef::Double(_) => 9,
        AnyValueRef::Bytes(bytes) => delimited_len(limits.bytes(bytes).len()),
        AnyValueRef::Array(_) | AnyValueRef::KeyValueList(_) if depth == DEPTH_MAX => 0,
        AnyValueRef::Array(array) => delimited_len(array_len(array, limits, depth + 1)),
        AnyValueRef::KeyValueList(list) => delimited_len(list_len(list, limits, depth + 1)),
    }
}

fn array_len(array: ArrayRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    array
        .iter()
        .map(|value| delimited_len(value_len(value, limits, depth)))
        .sum()
}

fn list_len(list: KeyValueListRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    different(list)
        .map(|value| delimited_len(key_value_len(value, limits, depth)))
        .sum()
}

/// The values of a list; of several with the same key the last, as long as the list is not so
/// long that looking for them would take more time than can be had.
fn different<'a>(list: KeyValueListRef<'a>) -> impl Iterator<Item = KeyValueRef<'a>> {
    let repeats = list.len() <= LOOKED_AT_MAX && may_repeat(list.iter().map(|value| value.key));
    (list.iter().enumerate())
        .filter(move |(at, value)| {
            !repeats || !list.iter().skip(at + 1).any(|later| later.key == value.key)
        })
        .map(|(_, value)| value)
}

#[inline]
fn encode_key_value(
    tag: u8,
    attribute: KeyValueRef<'_>,
    limits: &SpanLimits,
    depth: u32,
    out: &mut Cursor<'_>,
) {
    out.header(tag, key_value_len(attribute, limits, depth));
    let value_len = value_len(attribute.value, limits, depth);
    if let Some(wire) = attribute.key.wire() {
        out.bytes(wire);
        out.varint(value_len as u64);
    } else {
        out.non_empty(tag::KEY, attribute.key.text().as_bytes());
        out.header(tag::VALUE, value_len);
    }
    encode_value(attribute.value, limits, depth, out);
}

#[inline]
fn encode_value(value: AnyValueRef<'_>, limits: &SpanLimits, depth: u32, out: &mut Cursor<'_>) {
    match value {
        AnyValueRef::Empty => {}
        AnyValueRef::String(text) => {
            out.delimited(tag::STRING_VALUE, limits.text(text).as_bytes());
        }
        AnyValueRef::Bool(truth) => out.bytes(&[tag::BOOL_VALUE, u8::from(truth)]),
        AnyValueRef::Int(number) => {
            out.bytes(&[tag::INT_VALUE]);
            out.varint(number as u64);
        }
        AnyValueRef::Double(number) => {
            out.bytes(&[tag::DOUBLE_VALUE]);
            out.bytes(&number.to_le_bytes());
        }
        AnyValueRef::Bytes(bytes) => out.delimited(tag::BYTES_VALUE, limits.bytes(bytes)),
        AnyValueRef::Array(_) | AnyValueRef::KeyValueList(_) if depth == DEPTH_MAX => {}
        AnyValueRef::Array(array) => encode_array(array, limits, depth + 1, out),
        AnyValueRef::KeyValueList(list) => encode_list(list, limits, depth + 1, out),
    }
}

fn encode_array(array: ArrayRef<'_>, limits: &SpanLimits, depth: u32, out: &mut Cursor<'_>) {
    out.header(tag::ARRAY_VALUE, array_len(array, limits, depth));
    for value in array.iter() {
        out.header(tag::VALUES, value_len(value, limits, depth));
        encode_value(value, limits, depth, out);
    }
}

fn encode_list(list: KeyValueListRef<'_>, limits: &SpanLimits, depth: u32, out: &mut Cursor<'_>) {
    out.header(tag::KVLIST_VALUE, list_len(list, limits, depth));
    for value in different(list) {
        encode_key_value(tag::VALUES, value, limits, depth, out);
    }
}
