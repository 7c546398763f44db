//! Encodes an attribute (`KeyValue` with its `AnyValue`) within the span limits.

use crate::otlp::nested::{self, Container};
use crate::otlp::output::Output;
use crate::otlp::scalar::{encode_key_value, encode_long_scalar};
use crate::span::attribute::KeyValueRef;
use crate::span::limits::SpanLimits;

/// Encodes an attribute as an element of a repeated field with a one-byte tag.
#[inline(always)]
pub(super) fn encode_attribute<O: Output>(
    tag: u8,
    attribute: &KeyValueRef<'_>,
    limits: &SpanLimits,
    out: O,
) -> Option<O> {
    encode_key_value(tag, attribute, limits, out, encode_long)
}

/// Encodes an attribute whose value is long or of a less common kind.
#[inline(never)]
fn encode_long<O: Output>(
    tag: u8,
    attribute: KeyValueRef<'_>,
    limits: &SpanLimits,
    out: O,
) -> Option<O> {
    let KeyValueRef { key, value } = attribute;
    let Some(container) = Container::of(&value) else {
        return encode_long_scalar(tag, attribute, limits, out);
    };
    out.message(tag, |out| {
        out.key(key)?
            .length_prefixed::<1>(|out| nested::encode(container, limits, out))
    })
}
