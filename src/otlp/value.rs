//! Encodes attributes: `KeyValue` and `AnyValue` with the limits that apply.

use crate::attribute::{AnyValueRef, ArrayRef, AsKeyValue, Key, KeyValueListRef, KeyValueRef};
use crate::limits::{DEPTH_MAX, LOOKED_AT_MAX, SpanLimits};
use crate::otlp::wire::{Cursor, delimited_len, non_empty_len, tag, varint_len};

/// The attributes of a span, event or link, as many of them as will be written.
pub(super) struct Attributes<'a, K> {
    items: &'a [K],
    /// How many are written of those that are looked at, unless it is all of them.
    chosen: Option<usize>,
    /// Beyond the limit.
    pub(super) dropped: u32,
}

impl<'a, K: AsKeyValue> Attributes<'a, K> {
    #[inline]
    pub(super) fn new(items: &'a [K], count_max: u32) -> Self {
        if items.len() > count_max as usize
            || may_repeat(
                items
                    .iter()
                    .map(|item| item.with(|attribute| attribute.key.fingerprint())),
            )
        {
            return Self::choose(items, count_max as usize);
        }
        Self {
            items,
            chosen: None,
            dropped: 0,
        }
    }

    #[cold]
    fn choose(all: &'a [K], count_max: usize) -> Self {
        let items = &all[..all.len().min(count_max.max(LOOKED_AT_MAX))];
        let different = (0..items.len())
            .filter(|&at| !stands_later(items, at))
            .count();
        let kept = different.min(count_max);
        let beyond = different - kept + all.len() - items.len();
        Self {
            items,
            chosen: Some(kept),
            dropped: u32::try_from(beyond).unwrap_or(u32::MAX),
        }
    }

    /// Length of them all as a repeated field whose tag is one byte.
    #[inline]
    pub(super) fn len(&self, limits: &SpanLimits) -> usize {
        let lens = |item: &K| item.with(|attribute| attribute_len(attribute, limits));
        match self.chosen {
            None => self.items.iter().map(lens).sum(),
            Some(kept) => self.chosen(kept).map(lens).sum(),
        }
    }

    #[inline]
    pub(super) fn encode(&self, tag: u8, limits: &SpanLimits, out: &mut Cursor<'_>) {
        if let Some(kept) = self.chosen {
            return self.encode_chosen(kept, tag, limits, out);
        }
        for item in self.items {
            item.with(|attribute| encode_attribute(tag, attribute, limits, out));
        }
    }

    #[cold]
    fn encode_chosen(&self, kept: usize, tag: u8, limits: &SpanLimits, out: &mut Cursor<'_>) {
        for item in self.chosen(kept) {
            item.with(|attribute| encode_attribute(tag, attribute, limits, out));
        }
    }

    /// Of several with the same key the last.
    fn chosen(&self, kept: usize) -> impl Iterator<Item = &K> {
        let last = |(at, _): &(usize, &K)| !stands_later(self.items, *at);
        let items = self.items.iter().enumerate().filter(last);
        items.take(kept).map(|(_, item)| item)
    }
}

/// Whether two keys are perhaps the same; if not, surely none are.
#[inline]
fn may_repeat(fingerprints: impl Iterator<Item = u64>) -> bool {
    let mut seen = 0;
    for bit in fingerprints {
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
#[inline(always)]
pub(super) fn attribute_len(attribute: &KeyValueRef<'_>, limits: &SpanLimits) -> usize {
    delimited_len(key_value_len(attribute, limits, 0))
}

#[inline(always)]
pub(super) fn encode_attribute(
    tag: u8,
    attribute: &KeyValueRef<'_>,
    limits: &SpanLimits,
    out: &mut Cursor<'_>,
) {
    encode_key_value(tag, attribute, limits, 0, out);
}

#[inline(always)]
fn key_value_len(attribute: &KeyValueRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    key_value_len_with(attribute.key, value_len(&attribute.value, limits, depth))
}

#[inline(always)]
fn key_value_len_with(key: Key<'_>, value_len: usize) -> usize {
    match key.wire() {
        Some(wire) => wire.len() + varint_len(value_len as u64) + value_len,
        None => non_empty_len(key.text().as_bytes()) + delimited_len(value_len),
    }
}

/// A member of a oneof is written even if it has its type's default value.
#[inline(always)]
fn value_len(value: &AnyValueRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    match *value {
        AnyValueRef::Empty => 0,
        AnyValueRef::String(text) => delimited_len(limits.text(text).len()),
        AnyValueRef::Bool(_) => 2,
        AnyValueRef::Int(number) => 1 + varint_len(number as u64),
        AnyValueRef::Double(_) => 9,
        AnyValueRef::Bytes(bytes) => delimited_len(limits.bytes(bytes).len()),
        AnyValueRef::Array(_) | AnyValueRef::KeyValueList(_) => nested_len(value, limits, depth),
    }
}

/// Apart from the above, which is made part of its callers.
#[inline(never)]
fn nested_len(value: &AnyValueRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    match *value {
        _ if depth == DEPTH_MAX => 0,
        AnyValueRef::Array(array) => delimited_len(array_len(array, limits, depth + 1)),
        AnyValueRef::KeyValueList(list) => delimited_len(list_len(list, limits, depth + 1)),
        _ => 0,
    }
}

fn array_len(array: ArrayRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    array
        .iter()
        .map(|value| delimited_len(value_len(&value, limits, depth)))
        .sum()
}

fn list_len(list: KeyValueListRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    different(list)
        .map(|value| delimited_len(key_value_len(&value, limits, depth)))
        .sum()
}

/// The values of a list; of several with the same key the last, as long as the list is not so
/// long that looking for them would take more time than can be had.
fn different<'a>(list: KeyValueListRef<'a>) -> impl Iterator<Item = KeyValueRef<'a>> {
    let repeats =
        list.len() <= LOOKED_AT_MAX && may_repeat(list.iter().map(|value| value.key.fingerprint()));
    (list.iter().enumerate())
        .filter(move |(at, value)| {
            !repeats || !list.iter().skip(at + 1).any(|later| later.key == value.key)
        })
        .map(|(_, value)| value)
}

#[inline(always)]
fn encode_key_value(
    tag: u8,
    attribute: &KeyValueRef<'_>,
    limits: &SpanLimits,
    depth: u32,
    out: &mut Cursor<'_>,
) {
    let value_len = value_len(&attribute.value, limits, depth);
    out.header(tag, key_value_len_with(attribute.key, value_len));
    if let Some(wire) = attribute.key.wire() {
        out.bytes(wire);
        out.varint(value_len as u64);
    } else {
        out.non_empty(tag::KEY, attribute.key.text().as_bytes());
        out.header(tag::VALUE, value_len);
    }
    encode_value(&attribute.value, limits, depth, out);
}

#[inline(always)]
fn encode_value(value: &AnyValueRef<'_>, limits: &SpanLimits, depth: u32, out: &mut Cursor<'_>) {
    match *value {
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
        AnyValueRef::Array(_) | AnyValueRef::KeyValueList(_) => {
            encode_nested(value, limits, depth, out);
        }
    }
}

#[inline(never)]
fn encode_nested(value: &AnyValueRef<'_>, limits: &SpanLimits, depth: u32, out: &mut Cursor<'_>) {
    match *value {
        _ if depth == DEPTH_MAX => {}
        AnyValueRef::Array(array) => encode_array(array, limits, depth + 1, out),
        AnyValueRef::KeyValueList(list) => encode_list(list, limits, depth + 1, out),
        _ => {}
    }
}

fn encode_array(array: ArrayRef<'_>, limits: &SpanLimits, depth: u32, out: &mut Cursor<'_>) {
    out.header(tag::ARRAY_VALUE, array_len(array, limits, depth));
    for value in array.iter() {
        out.header(tag::VALUES, value_len(&value, limits, depth));
        encode_value(&value, limits, depth, out);
    }
}

fn encode_list(list: KeyValueListRef<'_>, limits: &SpanLimits, depth: u32, out: &mut Cursor<'_>) {
    out.header(tag::KVLIST_VALUE, list_len(list, limits, depth));
    for value in different(list) {
        encode_key_value(tag::VALUES, &value, limits, depth, out);
    }
}
