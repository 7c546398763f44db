//! Encodes attributes: `KeyValue` and `AnyValue` with the limits that apply.

use crate::attribute::{
    AnyValueRef, ArrayRef, AsKeyValue, Key, KeyValueListRef, KeyValueRef, Keys, List,
};
use crate::limits::{BYTES_MAX, LOOKED_AT_MAX, MESSAGES_MAX, SpanLimits};
use crate::otlp::repeats::for_each_different;
use crate::otlp::wire::{Cursor, delimited_len, non_empty_len, tag, varint_len};

/// The attributes of a span, event or link, as many of them as will be written.
pub(super) struct Attributes<'a, K> {
    items: &'a [K],
    /// How many are written, if it may be fewer than there are.
    chosen: Option<usize>,
    /// Those that were dropped before, are beyond the limit, or have no key.
    pub(super) dropped: u32,
}

impl<'a, K: AsKeyValue> Attributes<'a, K> {
    #[inline]
    pub(super) fn new(items: &'a [K], count_max: u32, dropped: u32) -> Self {
        if items.len() > count_max as usize || may_repeat(items) {
            return Self::choose(items, count_max as usize, dropped);
        }
        Self {
            items,
            chosen: None,
            dropped,
        }
    }

    #[cold]
    fn choose(all: &'a [K], count_max: usize, dropped: u32) -> Self {
        let items = &all[..all.len().min(LOOKED_AT_MAX)];
        let (mut different, mut repeated) = (0, 0);
        for_each_different(items, |_, repeats| {
            different += 1;
            repeated += repeats;
        });
        let kept = different.min(count_max);
        let beyond = all.len() - repeated - kept;
        Self {
            items,
            chosen: Some(kept),
            dropped: dropped.saturating_add(u32::try_from(beyond).unwrap_or(u32::MAX)),
        }
    }

    /// Length of them all as a repeated field whose tag is one byte.
    #[inline]
    pub(super) fn len(&self, limits: &SpanLimits) -> usize {
        if let Some(kept) = self.chosen {
            return self.chosen_len(kept, limits);
        }
        let len = |item: &K| item.with(|attribute| attribute_len(attribute, limits));
        self.items.iter().map(len).sum()
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
    fn chosen_len(&self, kept: usize, limits: &SpanLimits) -> usize {
        let mut len = 0;
        self.for_each_chosen(kept, |attribute| {
            if len <= BYTES_MAX {
                len += attribute_len(attribute, limits);
            }
        });
        len
    }

    #[cold]
    fn encode_chosen(&self, kept: usize, tag: u8, limits: &SpanLimits, out: &mut Cursor<'_>) {
        self.for_each_chosen(kept, |attribute| {
            encode_attribute(tag, attribute, limits, out)
        });
    }

    fn for_each_chosen(&self, kept: usize, mut give: impl FnMut(&KeyValueRef<'_>)) {
        let mut left = kept;
        for_each_different(self.items, |item, _| {
            if left > 0 {
                left -= 1;
                item.with(&mut give);
            }
        });
    }
}

/// Whether a key perhaps stands twice, or is missing; if not, surely neither is so.
#[inline]
fn may_repeat<K: AsKeyValue>(items: &[K]) -> bool {
    if items.len() > 8 {
        return may_repeat_among_many(items);
    }
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = ONES << 7;
    // The fingerprints so far, a byte each. One that is looked for is 0 in the difference; one that
    // is 0 itself, for want of a key, is found among the bytes that are free.
    let mut seen = 0_u64;
    for item in items {
        let fingerprint = u64::from(item.with(|attribute| attribute.key.fingerprint()));
        let difference = seen ^ fingerprint.wrapping_mul(ONES);
        if difference.wrapping_sub(ONES) & !difference & TOPS != 0 {
            return true;
        }
        seen = seen << 8 | fingerprint;
    }
    false
}

#[inline(never)]
fn may_repeat_among_many<K: AsKeyValue>(items: &[K]) -> bool {
    let mut keys = Keys::NONE;
    items.iter().any(|item| {
        item.with(|KeyValueRef { key, .. }| {
            let is_suspect = keys.may_contain(key) || key.fingerprint() == 0;
            keys.insert(key);
            is_suspect
        })
    })
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
        AnyValueRef::Uint(number) => uint_len(number),
        AnyValueRef::Double(_) => 9,
        AnyValueRef::Bytes(bytes) => delimited_len(limits.bytes(bytes).len()),
        AnyValueRef::Array(_) | AnyValueRef::KeyValueList(_) => nested_len(value, limits, depth),
    }
}

/// As an integer, or as text if it is larger than OTLP's.
#[cold]
fn uint_len(number: u64) -> usize {
    match i64::try_from(number) {
        Ok(number) => 1 + varint_len(number as u64),
        Err(_) => delimited_len(decimal(number, &mut [0; DECIMAL_MAX]).len()),
    }
}

#[cold]
fn encode_uint(number: u64, out: &mut Cursor<'_>) {
    match i64::try_from(number) {
        Ok(number) => {
            out.bytes(&[tag::INT_VALUE]);
            out.varint(number as u64);
        }
        Err(_) => out.delimited(tag::STRING_VALUE, decimal(number, &mut [0; DECIMAL_MAX])),
    }
}

/// Digits of the largest `u64`.
const DECIMAL_MAX: usize = 20;

fn decimal(mut number: u64, digits: &mut [u8; DECIMAL_MAX]) -> &[u8] {
    let mut at = DECIMAL_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// Apart from the above, which is made part of its callers.
#[inline(never)]
fn nested_len(value: &AnyValueRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    match *value {
        AnyValueRef::Array(array) if depth + ARRAY_DEPTH <= MESSAGES_MAX => {
            delimited_len(array_len(array, limits, depth + ARRAY_DEPTH))
        }
        AnyValueRef::KeyValueList(list) if depth + LIST_DEPTH <= MESSAGES_MAX => {
            delimited_len(list_len(list, limits, depth + LIST_DEPTH))
        }
        _ => 0,
    }
}

/// `ArrayValue`, `AnyValue`
const ARRAY_DEPTH: u32 = 2;
/// `KeyValueList`, `KeyValue`, `AnyValue`
const LIST_DEPTH: u32 = 3;

/// Ends once it is too long for any slab: values that share their parts can be longer than time.
#[inline]
pub(super) fn sum_of(lens: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0;
    for len in lens {
        sum += len;
        if sum > BYTES_MAX {
            break;
        }
    }
    sum
}

fn array_len(array: ArrayRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    sum_of((array.iter()).map(|value| delimited_len(value_len(&value, limits, depth))))
}

fn list_len(list: KeyValueListRef<'_>, limits: &SpanLimits, depth: u32) -> usize {
    let mut len = 0;
    for_each_value(list, |value| {
        if len <= BYTES_MAX {
            len += delimited_len(key_value_len(value, limits, depth));
        }
    });
    len
}

/// The values of a list, each key once, unless there are too many to look for that.
fn for_each_value(list: KeyValueListRef<'_>, give: impl FnMut(&KeyValueRef<'_>)) {
    match list.0 {
        List::Borrowed(items) => for_each_item(items, give),
        List::Owned(items) => for_each_item(items, give),
    }
}

fn for_each_item<K: AsKeyValue>(items: &[K], mut give: impl FnMut(&KeyValueRef<'_>)) {
    if items.len() <= LOOKED_AT_MAX && may_repeat(items) {
        for_each_different(items, |item, _| item.with(&mut give));
    } else {
        items.iter().for_each(|item| item.with(&mut give));
    }
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
        AnyValueRef::Uint(number) => encode_uint(number, out),
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
        AnyValueRef::Array(array) if depth + ARRAY_DEPTH <= MESSAGES_MAX => {
            encode_array(array, limits, depth + ARRAY_DEPTH, out);
        }
        AnyValueRef::KeyValueList(list) if depth + LIST_DEPTH <= MESSAGES_MAX => {
            encode_list(list, limits, depth + LIST_DEPTH, out);
        }
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
    for_each_value(list, |value| {
        encode_key_value(tag::VALUES, value, limits, depth, out);
    });
}
