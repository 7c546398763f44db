//! Encodes attributes: `KeyValue` and `AnyValue`, within the limits.

use crate::attribute::{
    AnyValueRef, ArrayRef, AsKeyValue, Attributes, KeyValueListRef, KeyValueRef, Keys, List,
    VisitAttributes,
};
use crate::limits::{LOOKED_AT_MAX, MESSAGES_MAX, SpanLimits};
use crate::otlp::repeats::{Items, for_each_different};
use crate::otlp::wire::{Output, SHORT_MAX, delimited_len, tag, varint_len};

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
    let (mut kept, mut repeated) = (0, 0);
    let mut out = Some(out);
    for_each_different(items, |at, repeats| {
        repeated += repeats;
        if kept < fields.count_max as usize {
            kept += 1;
            let encode = |out| {
                items.with(at, |attribute| {
                    encode_attribute(fields.tag, attribute, limits, out)
                })
            };
            out = out.take().and_then(encode);
        }
    });
    let beyond = beyond(dropped, items.len() - repeated, kept);
    out?.count(fields.dropped_tag, beyond)
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

/// Whether a key perhaps stands twice, or is missing; if not, surely neither is so.
#[inline(always)]
fn may_repeat<T: Attributes, K: AsKeyValue>(tuple: &T, items: &[K]) -> bool {
    let Some(Marks(mut seen)) = tuple.visit(Marks(0)) else {
        return true;
    };
    if items.len() > 8 {
        return T::COUNT > 0 || may_repeat_among_many(items);
    }
    for item in items {
        let mark = item.with(|attribute| attribute.key.mark());
        if seen & mark == mark {
            return true;
        }
        seen |= mark;
    }
    false
}

/// The marks of a tuple's keys, as long as they differ.
struct Marks(u64);

impl VisitAttributes for Marks {
    #[inline(always)]
    fn attribute(self, attribute: &KeyValueRef<'_>) -> Option<Self> {
        let mark = attribute.key.mark();
        (self.0 & mark != mark).then_some(Self(self.0 | mark))
    }
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
        _ => encode_short_value(value, limits, out),
    }
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

/// The values of a list, each key once, unless there are too many to look for that.
fn encode_items<K: AsKeyValue, O: Output>(
    items: &[K],
    limits: &SpanLimits,
    depth: u32,
    out: O,
) -> Option<O> {
    let mut out = Some(out);
    let mut encode = |item: &K| {
        let encode =
            |out| item.with(|value| encode_key_value(tag::VALUES, value, limits, depth, out));
        out = out.take().and_then(encode);
    };
    if items.len() <= LOOKED_AT_MAX && may_repeat(&(), items) {
        for_each_different(items, |at, _| encode(&items[at]));
    } else {
        items.iter().for_each(encode);
    }
    out
}
