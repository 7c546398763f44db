//! Encodes the attributes of a span, event or link, up to the attribute limit.

use crate::otlp::output::Output;
use crate::otlp::repeats::{Items, last_per_key, may_repeat};
use crate::otlp::value::encode_attribute;
use crate::span::attribute::{AsKeyValue, Attributes, KeyValueRef, VisitAttributes};
use crate::span::limits::SpanLimits;

/// The attribute limit of a span, event or link, and the tags of its attribute fields.
#[derive(Clone, Copy)]
pub(super) struct AttributeFields {
    pub(super) count_max: u32,
    pub(super) tag: u8,
    pub(super) dropped_tag: u8,
}

/// Encodes the attributes of a span, event or link: those of a tuple, then `items`. The dropped
/// count is `dropped` plus the attributes that exceed the limit or have no key.
#[inline(always)]
pub(super) fn encode_attributes<T: Attributes, K: AsKeyValue, O: Output>(
    tuple: &T,
    items: &[K],
    dropped: u32,
    fields: AttributeFields,
    limits: &SpanLimits,
    out: O,
) -> Option<O> {
    let is_many = T::COUNT + items.len() > fields.count_max as usize;
    if is_many || may_repeat(tuple, items) {
        // A copy, so that the original is not borrowed by the call and stays in registers.
        let tuple = *tuple;
        return encode_last_per_key(
            &TupleThenSlice { tuple, items },
            dropped,
            fields,
            limits,
            out,
        );
    }
    let tag = fields.tag;
    let TupleEncoder { mut out, .. } = tuple.visit(TupleEncoder { tag, limits, out })?;
    for item in items {
        out = item.with(
            #[inline(always)]
            |attribute| encode_attribute(tag, attribute, limits, out),
        )?;
    }
    out.count(fields.dropped_tag, dropped)
}

/// Visitor that encodes the attributes of a tuple.
struct TupleEncoder<'l, O> {
    tag: u8,
    limits: &'l SpanLimits,
    out: O,
}

impl<O: Output> VisitAttributes for TupleEncoder<'_, O> {
    #[inline(always)]
    fn attribute(self, attribute: &KeyValueRef<'_>) -> Option<Self> {
        let out = encode_attribute(self.tag, attribute, self.limits, self.out)?;
        Some(Self { out, ..self })
    }
}

#[cold]
#[inline(never)]
fn encode_last_per_key<O: Output>(
    items: &impl Items,
    dropped: u32,
    fields: AttributeFields,
    limits: &SpanLimits,
    out: O,
) -> Option<O> {
    let last = last_per_key(items, fields.count_max as usize);
    let (mut out, mut from) = (out, 0);
    while let Some(at) = last.next(from) {
        out = items.with(at, |attribute| {
            encode_attribute(fields.tag, attribute, limits, out)
        })?;
        from = at + 1;
    }
    let all = items.len() - last.repeats();
    out.count(fields.dropped_tag, dropped_count(dropped, all, last.kept()))
}

/// The attributes of a tuple followed by those of a slice.
struct TupleThenSlice<'a, T, K> {
    tuple: T,
    items: &'a [K],
}

impl<T: Attributes, K: AsKeyValue> Items for TupleThenSlice<'_, T, K> {
    fn len(&self) -> usize {
        T::COUNT + self.items.len()
    }

    fn with<R>(&self, at: usize, look: impl FnOnce(&KeyValueRef<'_>) -> R) -> R {
        if let Some(at) = at.checked_sub(T::COUNT) {
            return self.items[at].with(look);
        }
        let visitor = AttributeAt {
            before: at,
            look: Some(look),
            seen: None,
        };
        let seen = self.tuple.visit(visitor).and_then(|visitor| visitor.seen);
        seen.expect("`at` is below the number of attributes")
    }
}

/// Visitor that passes one attribute of a tuple to `look`.
struct AttributeAt<F, R> {
    /// Number of attributes to skip.
    before: usize,
    look: Option<F>,
    seen: Option<R>,
}

impl<R, F: FnOnce(&KeyValueRef<'_>) -> R> VisitAttributes for AttributeAt<F, R> {
    fn attribute(mut self, attribute: &KeyValueRef<'_>) -> Option<Self> {
        match self.before.checked_sub(1) {
            Some(before) => self.before = before,
            None => {
                if let Some(look) = self.look.take() {
                    self.seen = Some(look(attribute));
                }
            }
        }
        Some(self)
    }
}

/// Returns the dropped count: `dropped` plus the items of `all` that were not kept.
#[inline(always)]
pub(super) fn dropped_count(dropped: u32, all: usize, kept: usize) -> u32 {
    dropped.saturating_add(u32::try_from(all - kept).unwrap_or(u32::MAX))
}
