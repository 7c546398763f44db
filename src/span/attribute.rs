//! Attributes: keys and values, owned ([`KeyValue`]) and borrowed ([`KeyValueRef`]).

mod convert;
mod prepared;
mod tuple;

use std::borrow::Cow;
use std::fmt;

pub use prepared::{Key, Name, prepare};
pub(crate) use prepared::{Keys, Wire};
pub use tuple::{Attributes, UseAttributes, VisitAttributes};

/// An attribute: a key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyValue {
    /// The attribute's name.
    pub key: Cow<'static, str>,
    /// Its value.
    pub value: AnyValue,
}

impl KeyValue {
    /// An attribute from anything that converts to a key and a value.
    #[must_use]
    pub fn new(key: impl Into<Cow<'static, str>>, value: impl Into<AnyValue>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// The value of an attribute (OTLP's `AnyValue`).
///
/// ```
/// use otlp_collector::{AnyValue, KeyValue};
///
/// let headers = AnyValue::KeyValueList(vec![
///     KeyValue::new("accept", vec!["text/html", "text/plain"]),
///     KeyValue::new("dnt", true),
/// ]);
/// let attribute = KeyValue::new("http.request.header", headers);
/// # drop(attribute);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum AnyValue {
    /// No value.
    #[default]
    Empty,
    /// Text.
    String(Cow<'static, str>),
    /// Truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values, of one kind or mixed.
    Array(Vec<AnyValue>),
    /// Values by key; of several with the same key the last counts.
    KeyValueList(Vec<KeyValue>),
}

impl AnyValue {
    /// How many protobuf messages, one in the other, its arrays and lists are.
    pub(crate) fn messages(&self) -> u32 {
        match self {
            Self::Array(values) => 2 + values.iter().map(Self::messages).max().unwrap_or(0),
            Self::KeyValueList(values) => {
                let values = values.iter().map(|value| value.value.messages());
                3 + values.max().unwrap_or(0)
            }
            _ => 0,
        }
    }
}

/// The attributes without those whose key stands again later.
pub(crate) fn last_of_each_key(attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    let mut kept: Vec<KeyValue> = Vec::with_capacity(attributes.len());
    for attribute in attributes {
        kept.retain(|other| other.key != attribute.key);
        kept.push(attribute);
    }
    kept
}

/// A borrowed [`KeyValue`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyValueRef<'a> {
    /// The attribute's name: a text, or prepared by [`key!`](crate::key).
    pub key: Key<'a>,
    /// Its value.
    pub value: AnyValueRef<'a>,
}

impl<'a> KeyValueRef<'a> {
    /// An attribute from anything that converts to a key and a value.
    #[inline(always)]
    #[must_use]
    pub fn new(key: impl Into<Key<'a>>, value: impl Into<AnyValueRef<'a>>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// A borrowed [`AnyValue`].
///
/// Made by `From`, and so by what takes `impl Into<AnyValueRef>`, of: `&str`, `&String`, `bool`,
/// integers of up to 64 bits (those larger than OTLP's `i64` are sent as text), `f32`, `f64`; of
/// `&[u8]` as bytes; of `&[T]`, `&[T; N]` and `&Vec<T>` as arrays, where `T` is `&str`, `String`,
/// `bool`, `i64`, `f64` or a value; of `&[KeyValueRef]` and `&[KeyValue]` as lists; of `&AnyValue`.
///
/// ```
/// use otlp_collector::{AnyValueRef, KeyValueRef};
///
/// let shards = [3_i64, 5, 8];
/// let nested = [
///     KeyValueRef::new("shards", &shards),
///     KeyValueRef::new("digest", b"\x01\x02"),
/// ];
/// let attribute = KeyValueRef::new("db.plan", &nested);
/// # let _ = attribute;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum AnyValueRef<'a> {
    /// No value.
    #[default]
    Empty,
    /// Text.
    String(&'a str),
    /// Truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that may be larger than OTLP's integers: then it is sent as text, as the
    /// specification has it.
    Uint(u64),
    /// A number.
    Double(f64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Values, of one kind or mixed.
    Array(ArrayRef<'a>),
    /// Values by key; of several with the same key the last counts.
    KeyValueList(KeyValueListRef<'a>),
}

/// A borrowed array of values, in whatever form the caller has it; made by `From`.
#[derive(Clone, Copy)]
pub struct ArrayRef<'a>(Array<'a>);

#[derive(Clone, Copy)]
enum Array<'a> {
    Values(&'a [AnyValueRef<'a>]),
    Owned(&'a [AnyValue]),
    Texts(&'a [&'a str]),
    Strings(&'a [String]),
    Bools(&'a [bool]),
    Ints(&'a [i64]),
    Doubles(&'a [f64]),
}

impl<'a> ArrayRef<'a> {
    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            Array::Values(items) => items.len(),
            Array::Owned(items) => items.len(),
            Array::Texts(items) => items.len(),
            Array::Strings(items) => items.len(),
            Array::Bools(items) => items.len(),
            Array::Ints(items) => items.len(),
            Array::Doubles(items) => items.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = AnyValueRef<'a>> + use<'a> {
        let array = *self;
        (0..self.len()).map(move |index| array.at(index))
    }

    /// The value at a place that there is.
    pub(crate) fn at(&self, index: usize) -> AnyValueRef<'a> {
        match self.0 {
            Array::Values(items) => items[index],
            Array::Owned(items) => AnyValueRef::from(&items[index]),
            Array::Texts(items) => AnyValueRef::String(items[index]),
            Array::Strings(items) => AnyValueRef::String(&items[index]),
            Array::Bools(items) => AnyValueRef::Bool(items[index]),
            Array::Ints(items) => AnyValueRef::Int(items[index]),
            Array::Doubles(items) => AnyValueRef::Double(items[index]),
        }
    }
}

impl PartialEq for ArrayRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for ArrayRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Borrowed values by key, in whatever form the caller has them; made by `From`.
#[derive(Clone, Copy)]
pub struct KeyValueListRef<'a>(pub(crate) List<'a>);

#[derive(Clone, Copy)]
pub(crate) enum List<'a> {
    Borrowed(&'a [KeyValueRef<'a>]),
    Owned(&'a [KeyValue]),
}

impl<'a> KeyValueListRef<'a> {
    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            List::Borrowed(items) => items.len(),
            List::Owned(items) => items.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = KeyValueRef<'a>> + use<'a> {
        let list = self.0;
        (0..self.len()).map(move |index| match list {
            List::Borrowed(items) => items[index],
            List::Owned(items) => items[index].as_key_value(),
        })
    }
}

impl PartialEq for KeyValueListRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for KeyValueListRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What an owned and a borrowed attribute have in common.
pub(crate) trait AsKeyValue {
    fn as_key_value(&self) -> KeyValueRef<'_>;

    /// Looks at it where it is, if it is there.
    #[inline(always)]
    fn with<R>(&self, look: impl FnOnce(&KeyValueRef<'_>) -> R) -> R {
        look(&self.as_key_value())
    }
}

impl AsKeyValue for KeyValue {
    #[inline]
    fn as_key_value(&self) -> KeyValueRef<'_> {
        KeyValueRef {
            key: Key::from(&*self.key),
            value: AnyValueRef::from(&self.value),
        }
    }
}

impl AsKeyValue for KeyValueRef<'_> {
    #[inline]
    fn as_key_value(&self) -> KeyValueRef<'_> {
        *self
    }

    #[inline(always)]
    fn with<R>(&self, look: impl FnOnce(&KeyValueRef<'_>) -> R) -> R {
        look(self)
    }
}
