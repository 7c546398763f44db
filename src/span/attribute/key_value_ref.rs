//! Attributes that borrow their data, and owned ones in borrowed form.

use std::fmt;

use crate::span::attribute::key_value::{AnyValue, KeyValue};
use crate::span::attribute::prepared::Key;

/// A borrowed [`KeyValue`].
///
/// Build it with [`new`](Self::new): a minor release may add fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyValueRef<'a> {
    /// Key: a text, or prepared by [`key!`](crate::key). An attribute with an empty key is dropped and
    /// counted.
    pub key: Key<'a>,
    /// Value.
    pub value: AnyValueRef<'a>,
}

impl<'a> KeyValueRef<'a> {
    /// Creates an attribute from a key and a value, or from types that convert to them.
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
/// `From` converts these types, also in calls that take `impl Into<AnyValueRef>`:
///
/// * `&str`, `&String`, `&Cow<str>`
/// * `bool`, `f32`, `f64`, integers of up to 64 bits; one above `i64::MAX` is sent as a text
/// * `&[u8]` as a byte array
/// * `&[T]`, `&[T; N]` and `&Vec<T>` as arrays, where `T` is `&str`, `String`, `bool`, `i64`, `f64`,
///   [`AnyValue`] or [`AnyValueRef`]
/// * `&[KeyValue]` and `&[KeyValueRef]` as lists of keys and values
/// * `&AnyValue`
///
/// ```
/// use otlp_collector::span::{AnyValueRef, KeyValueRef};
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
    /// A text.
    String(&'a str),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An unsigned integer. Above `i64::MAX`, the largest of OTLP's integers, it is sent as a decimal
    /// text.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// A byte array.
    Bytes(&'a [u8]),
    /// An array of values, of one type or several.
    Array(ArrayRef<'a>),
    /// A list of keys and values. If a key occurs more than once, the last value is sent.
    KeyValueList(KeyValueListRef<'a>),
}

/// A borrowed array of values. [`AnyValueRef`]'s `From` implementations create it from slices.
#[derive(Clone, Copy)]
pub struct ArrayRef<'a>(pub(super) Array<'a>);

/// Items of an array, by the type of their slice.
#[derive(Clone, Copy)]
pub(super) enum Array<'a> {
    Values(&'a [AnyValueRef<'a>]),
    Owned(&'a [AnyValue]),
    Texts(&'a [&'a str]),
    Strings(&'a [String]),
    Bools(&'a [bool]),
    Ints(&'a [i64]),
    Doubles(&'a [f64]),
}

impl<'a> ArrayRef<'a> {
    /// Returns the number of values.
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

    /// Returns whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the values in order.
    pub fn iter(&self) -> impl Iterator<Item = AnyValueRef<'a>> + use<'a> {
        let array = *self;
        (0..self.len()).map(move |index| array.at(index))
    }

    /// Returns the value at an index, which must be in bounds.
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

/// A borrowed list of keys and values. [`AnyValueRef`]'s `From` implementations create it from slices.
#[derive(Clone, Copy)]
pub struct KeyValueListRef<'a>(pub(crate) List<'a>);

/// Entries of a list, borrowed or owned ones.
#[derive(Clone, Copy)]
pub(crate) enum List<'a> {
    Borrowed(&'a [KeyValueRef<'a>]),
    Owned(&'a [KeyValue]),
}

impl<'a> KeyValueListRef<'a> {
    /// Returns the number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            List::Borrowed(items) => items.len(),
            List::Owned(items) => items.len(),
        }
    }

    /// Returns whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the values in order.
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

/// An attribute, owned or borrowed, as the encoder reads it.
pub(crate) trait AsKeyValue {
    fn as_key_value(&self) -> KeyValueRef<'_>;

    /// Calls `look` with the borrowed form, without a copy of one that is borrowed already.
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
