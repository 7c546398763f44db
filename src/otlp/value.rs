//! Encodes an attribute: `KeyValue` and `AnyValue`, within the limits.

use crate::attribute::{AnyValueRef, ArrayRef, AsKeyValue, KeyValueListRef, KeyValueRef, List};
use crate::limits::{LOOKED_AT_MAX, MESSAGES_MAX, SpanLimits};
use crate::otlp::output::{Output, SHORT_MAX, delimited_len, varint_len};
use crate::otlp::repeats::{may_repeat, survivors};
use crate::otlp::tag;

/// One attribute as an element of a repeated field whose tag is one byte.
#[inline(always)]
pub(super) fn encode_attribute<O: Output>(
    tag: u8,
    attribute: &KeyValueRef<'_>,
    limits: &SpanLimits,
    out: O,
) -> Option<O> {
    encode_key_value(tag, attribute, limits, 0, out)
}

#[inline(always)]
fn encode_key_value<O: Output>(
    tag: u8,
    attribute: &KeyValueRef<'_>,
    limits: &SpanLimits,
    depth: u32,
    out: O,
) -> Option<O> {
    let len = match attribute.value {
        AnyValueRef::String(text) if limits.text(text).len() <= SHORT_MAX => {
            2 + limits.text(text).len()
        }
        AnyValueRef::Int(number) => 1 + varint_len(number as u64),
        AnyValueRef::Bool(_) => 2,
        AnyValueRef::Double(_) => 9,
        // By value: what is only lent here stays in registers.
        _ => return encode_long_value(tag, *attribute, limits, depth, out),
    };
    let out = out.short_key_value(tag, &attribute.key, len)?;
    encode_short_value(&attribute.value, limits, out)
}

/// A member of a oneof is written even if it has its type's default value.
#[inline(always)]
fn encode_short_value<O: Output>(
    value: &AnyValueRef<'_>,
    limits: &SpanLimits,
    mut out: O,
) -> Option<O> {
    match *value {
        AnyValueRef::String(text) => out.delimited(tag::STRING_VALUE, limits.text(text).as_bytes()),
        AnyValueRef::Int(number) => encode_int(number, out),
        AnyValueRef::Bool(truth) => out.few([tag::BOOL_VALUE, u8::from(truth)]),
        AnyValueRef::Double(number) => {
            let block = out.block()?;
            block[0] = tag::DOUBLE_VALUE;
            block[1..9].copy_from_slice(&number.to_le_bytes());
            Some(out.behind(9))
        }
        _ => Some(out),
    }
}

#[inline(always)]
fn encode_int<O: Output>(number: i64, out: O) -> Option<O> {
    match number {
        0..0x80 => out.few([tag::INT_VALUE, number as u8]),
        _ => out.few([tag::INT_VALUE])?.varint(number as u64),
    }
}

/// An attribute whose value is long, or of a less common kind.
#[inline(never)]
fn encode_long_value<O: Output>(
    tag: u8,
    KeyValueRef { key, value }: KeyValueRef<'_>,
    limits: &SpanLimits,
    depth: u32,
    out: O,
) -> Option<O> {
    if let AnyValueRef::String(text) = value {
        let text = limits.text(text).as_bytes();
        return out
            .long_key_value(tag, key, delimited_len(text.len()))?
            .long_delimited(tag::STRING_VALUE, text);
    }
    out.message(tag, |out| {
        out.key(key)?
            .measured::<1>(|out| encode_value(&value, limits, depth, out))
    })
}

fn encode_value<O: Output>(
    value: &AnyValueRef<'_>,
    limits: &SpanLimits,
    depth: u32,
    out: O,
) -> Option<O> {
    match *value {
        AnyValueRef::Uint(number) => encode_uint(number, out),
        AnyValueRef::Bytes(bytes) => out.delimited(tag::BYTES_VALUE, limits.bytes(bytes)),
        AnyValueRef::Array(array) => encode_array(array, limits, depth + ARRAY_DEPTH, out),
        AnyValueRef::KeyValueList(list) => encode_list(list, limits, depth + LIST_DEPTH, out),
        _ => encode_leaf(value, limits, out),
    }
}

/// Apart, so that nested values need little of the stack.
#[inline(never)]
fn encode_leaf<O: Output>(value: &AnyValueRef<'_>, limits: &SpanLimits, out: O) -> Option<O> {
    encode_short_value(value, limits, out)
}

/// As an integer, or as text if it is larger than OTLP's.
fn encode_uint<O: Output>(number: u64, out: O) -> Option<O> {
    match i64::try_from(number) {
        Ok(number) => encode_int(number, out),
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

/// `ArrayValue`, `AnyValue`
const ARRAY_DEPTH: u32 = 2;
/// `KeyValueList`, `KeyValue`, `AnyValue`
const LIST_DEPTH: u32 = 3;

/// What would be nested too deep is left out.
fn encode_array<O: Output>(
    array: ArrayRef<'_>,
    limits: &SpanLimits,
    depth: u32,
    out: O,
) -> Option<O> {
    if depth > MESSAGES_MAX {
        return Some(out);
    }
    out.message(tag::ARRAY_VALUE, |mut out| {
        for value in array.iter() {
            out = out.message(tag::VALUES, |out| encode_value(&value, limits, depth, out))?;
        }
        Some(out)
    })
}

/// As [`encode_array`].
fn encode_list<O: Output>(
    list: KeyValueListRef<'_>,
    limits: &SpanLimits,
    depth: u32,
    out: O,
) -> Option<O> {
    if depth > MESSAGES_MAX {
        return Some(out);
    }
    out.message(tag::KVLIST_VALUE, |out| match list.0 {
        List::Borrowed(items) => encode_items(items, limits, depth, out),
        List::Owned(items) => encode_items(items, limits, depth, out),
    })
}

/// A key of a list and its value; apart, as [`encode_leaf`].
#[inline(never)]
fn encode_entry<O: Output>(
    entry: &KeyValueRef<'_>,
    limits: &SpanLimits,
    depth: u32,
    out: O,
) -> Option<O> {
    encode_key_value(tag::VALUES, entry, limits, depth, out)
}

/// The values of a list, each key once, unless there are too many to look for that.
fn encode_items<K: AsKeyValue, O: Output>(
    items: &[K],
    limits: &SpanLimits,
    depth: u32,
    out: O,
) -> Option<O> {
    let encode = |out, item: &K| item.with(|value| encode_entry(value, limits, depth, out));
    if items.len() <= LOOKED_AT_MAX && may_repeat(&(), items) {
        let survivors = survivors(items, usize::MAX);
        (survivors.iter()).try_fold(out, |out, at| encode(out, &items[at]))
    } else {
        items.iter().try_fold(out, encode)
    }
}
