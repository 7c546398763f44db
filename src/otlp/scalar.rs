//! Encodes an attribute whose value is neither an array nor a list, within the span limits.

use crate::otlp::output::{Output, SHORT_MAX, delimited_len, varint_len};
use crate::otlp::tag;
use crate::span::attribute::{AnyValueRef, KeyValueRef};
use crate::span::limits::SpanLimits;

/// Encodes an entry of a key-value list; its value is neither an array nor a list.
#[inline(never)]
pub(super) fn encode_entry<O: Output>(
    entry: &KeyValueRef<'_>,
    limits: &SpanLimits,
    out: O,
) -> Option<O> {
    encode_key_value(tag::VALUES, entry, limits, out, encode_long_scalar)
}

/// Encodes a key and its value: short values of the common kinds here, all others by
/// `encode_long`.
#[inline(always)]
pub(super) fn encode_key_value<O: Output>(
    tag: u8,
    attribute: &KeyValueRef<'_>,
    limits: &SpanLimits,
    out: O,
    encode_long: impl FnOnce(u8, KeyValueRef<'_>, &SpanLimits, O) -> Option<O>,
) -> Option<O> {
    let value = match attribute.value {
        AnyValueRef::String(text) => AnyValueRef::String(limits.text(text)),
        other => other,
    };
    let len = match value {
        AnyValueRef::String(text) if text.len() <= SHORT_MAX => 2 + text.len(),
        AnyValueRef::Int(number) => 1 + varint_len(number as u64),
        AnyValueRef::Bool(_) => 2,
        AnyValueRef::Double(_) => 9,
        // Passed by value, so that the caller's copy stays in registers.
        _ => return encode_long(tag, *attribute, limits, out),
    };
    let out = out.short_key_value(tag, &attribute.key, len)?;
    encode_short_value(&value, out)
}

/// Encodes a value of a common kind, whose text is cut already. Default values are written too: proto3 omits them only
/// outside of a oneof.
#[inline(always)]
fn encode_short_value<O: Output>(value: &AnyValueRef<'_>, mut out: O) -> Option<O> {
    match *value {
        AnyValueRef::String(text) => out.delimited(tag::STRING_VALUE, text.as_bytes()),
        AnyValueRef::Int(number) => encode_int(number, out),
        AnyValueRef::Bool(truth) => out.array([tag::BOOL_VALUE, u8::from(truth)]),
        AnyValueRef::Double(number) => {
            let block = out.block()?;
            block[0] = tag::DOUBLE_VALUE;
            block[1..9].copy_from_slice(&number.to_le_bytes());
            Some(out.advance(9))
        }
        _ => Some(out),
    }
}

#[inline(always)]
fn encode_int<O: Output>(number: i64, out: O) -> Option<O> {
    match number {
        0..0x80 => out.array([tag::INT_VALUE, number as u8]),
        _ => out.array([tag::INT_VALUE])?.varint(number as u64),
    }
}

/// Encodes an attribute whose value is long or of a less common kind, and neither an array nor a
/// list.
#[inline(never)]
pub(super) fn encode_long_scalar<O: Output>(
    tag: u8,
    KeyValueRef { key, value }: KeyValueRef<'_>,
    limits: &SpanLimits,
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
            .length_prefixed::<1>(|out| encode_scalar(&value, limits, out))
    })
}

/// Encodes a value that is neither an array nor a list. Writes nothing for those: they end up
/// here only beyond the nesting limit.
#[inline(never)]
pub(super) fn encode_scalar<O: Output>(
    value: &AnyValueRef<'_>,
    limits: &SpanLimits,
    out: O,
) -> Option<O> {
    match *value {
        AnyValueRef::Uint(number) => encode_uint(number, out),
        AnyValueRef::Bytes(bytes) => out.delimited(tag::BYTES_VALUE, limits.bytes(bytes)),
        AnyValueRef::String(text) => out.delimited(tag::STRING_VALUE, limits.text(text).as_bytes()),
        _ => encode_short_value(value, out),
    }
}

/// Encodes an integer, or decimal text if it exceeds OTLP's signed 64 bits.
fn encode_uint<O: Output>(number: u64, out: O) -> Option<O> {
    match i64::try_from(number) {
        Ok(number) => encode_int(number, out),
        Err(_) => out.delimited(tag::STRING_VALUE, decimal(number, &mut [0; DECIMAL_MAX])),
    }
}

/// Number of decimal digits of `u64::MAX`.
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
