//! Encodes the attributes of a span, event or link, as many as are let through.

use crate::otlp::output::Output;
use crate::otlp::repeats::{Items, may_repeat, survivors};
use crate::otlp::value::encode_attribute;
use crate::span::attribute::{AsKeyValue, Attributes, KeyValueRef, VisitAttributes};
use crate::span::limits::SpanLimits;

/// How many attributes there may be, and where they and those that are left out are written.
#[derive(Clone, Copy)]
pub(super) struct AttributeFields {
    pub(super) count_max: u32,
    pub(super) tag: u8,
    pub(super) dropped_tag: u8,
}

/// The attributes of a span, event or link: those of a tuple, then `items`; and how many it has no
/// more: `dropped` before, and those that are beyond the limit or have no key.
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
        // A copy: what is not lent to a call stays in registers.
        let tuple = *tuple;
        return encode_chosen(&Both { tuple, items }, dropped, fields, limits, out);
    }
    let tag = fields.tag;
    let Encoder { mut out, .. } = tuple.visit(Encoder { tag, limits, out })?;
    for item in items {
        out = item.with(
            #[inline(always)]
            |attribute| encode_attribute(tag, attribute, limits, out),
        )?;
    }
    out.count(fields.dropped_tag, dropped)
}

/// Encodes the attributes of a tuple.
struct Encoder<'l, O> {
    tag: u8,
    limits: &'l SpanLimits,
    out: O,
}

impl<O: Output> VisitAttributes for Encoder<'_, O> {
    #[inline(always)]
    fn attribute(self, attribute: &KeyValueRef<'_>) -> Option<Self> {
        let out = encode_attribute(self.tag, attribute, self.limits, self.out)?;
        Some(Self { out, ..self })
    }
}

#[cold]
#[inline(never)]
fn encode_chosen<O: Output>(
    items: &impl Items,
    dropped: u32,
    fields: AttributeFields,
    limits: &SpanLimits,
    out: O,
) -> Option<O> {
    let survivors = survivors(items, fields.count_max as usize);
    let (mut out, mut from) = (out, 0);
    while let Some(at) = survivors.next(from) {
        out = items.with(at, |attribute| {
            encode_attribute(fields.tag, attribute, limits, out)
        })?;
        from = at + 1;
    }
    let all = items.len() - survivors.repeats();
    out.count(fields.dropped_tag, beyond(dropped, all, survivors.kept()))
}

/// The attributes of a tuple, and then some more.
struct Both<'a, T, K> {
    tuple: T,
    items: &'a [K],
}

impl<T: Attributes, K: AsKeyValue> Items for Both<'_, T, K> {
    fn len(&self) -> usize {
        T::COUNT + self.items.len()
    }

    fn with<R>(&self, at: usize, look: impl FnOnce(&KeyValueRef<'_>) -> R) -> R {
        if let Some(at) = at.checked_sub(T::COUNT) {
            return self.items[at].with(look);
        }
        let nth = Nth {
            before: at,
            look: Some(look),
            seen: None,
        };
        let seen = self.tuple.visit(nth).and_then(|nth| nth.seen);
        seen.expect("the tuple has so many")
    }
}

/// Looks at one attribute of a tuple.
struct Nth<F, R> {
    /// So many come before it.
    before: usize,
    look: Option<F>,
    seen: Option<R>,
}

impl<R, F: FnOnce(&KeyValueRef<'_>) -> R> VisitAttributes for Nth<F, R> {
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

/// How many were dropped, if of `all` only `kept` are left.
#[inline(always)]
pub(super) fn beyond(dropped: u32, all: usize, kept: usize) -> u32 {
    dropped.saturating_add(u32::try_from(all - kept).unwrap_or(u32::MAX))
}
