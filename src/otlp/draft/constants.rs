//! Attributes that are the same in all spans or events of a call site.

use crate::otlp::draft::draft_fields::DraftFields;
use crate::otlp::output::{Count, SPILL};
use crate::otlp::{tag, value};
use crate::span::attribute::{AnyValueRef, KeyValueRef, Keys};
use crate::span::limits::SpanLimits;

/// Attributes that were encoded in advance.
pub(crate) struct ConstantAttributes {
    pub(crate) attributes: Box<[KeyValueRef<'static>]>,
    /// As attributes of a span, unless they are cut by its limits.
    pub(super) in_span: Box<[u8]>,
    /// As attributes of an event.
    pub(super) in_event: Box<[u8]>,
    /// Fingerprints of the keys.
    pub(super) keys: Keys,
    /// Bytes of the longest value.
    pub(super) value_max: usize,
}

impl ConstantAttributes {
    pub(crate) fn new(attributes: Vec<KeyValueRef<'static>>) -> Self {
        let mut keys = Keys::NONE;
        let mut value_max = 0;
        for attribute in &attributes {
            keys.insert(&attribute.key);
            if let AnyValueRef::String(text) = attribute.value {
                value_max = value_max.max(text.len());
            }
        }
        Self {
            in_span: encode(tag::ATTRIBUTES, &attributes),
            in_event: encode(tag::EVENT_ATTRIBUTES, &attributes),
            attributes: attributes.into_boxed_slice(),
            keys,
            value_max,
        }
    }

    /// Returns whether the limits change no value.
    #[inline]
    pub(super) fn are_within(&self, limits: &SpanLimits) -> bool {
        self.value_max <= limits.attribute_value_length.unwrap_or(u32::MAX) as usize
    }

    /// Returns the number of attributes.
    #[inline]
    pub(super) fn len(&self) -> u16 {
        self.attributes.len() as u16
    }
}

fn encode(tag: u8, attributes: &[KeyValueRef<'_>]) -> Box<[u8]> {
    let limits = SpanLimits::default();
    let len_of = |attribute: &KeyValueRef<'_>| {
        Count::of(|out| value::encode_attribute(tag, attribute, &limits, out))
    };
    let bytes: usize = attributes.iter().map(len_of).sum();
    let (mut room, mut len) = (vec![0; bytes + SPILL], 0);
    let mut fields = DraftFields::new(&mut room, &mut len);
    for attribute in attributes {
        fields.append(|out| value::encode_attribute(tag, attribute, &limits, out));
    }
    room.truncate(len as usize);
    room.into_boxed_slice()
}
