//! Conversions to attribute values.

use std::borrow::Cow;

use crate::span::attribute::key_value::{AnyValue, KeyValue};
use crate::span::attribute::key_value_ref::{
    AnyValueRef, Array, ArrayRef, KeyValueListRef, KeyValueRef, List,
};

impl<'a> From<&'a AnyValue> for AnyValueRef<'a> {
    #[inline]
    fn from(value: &'a AnyValue) -> Self {
        match value {
            AnyValue::Empty => Self::Empty,
            AnyValue::String(text) => Self::String(text),
            AnyValue::Bool(truth) => Self::Bool(*truth),
            AnyValue::Int(number) => Self::Int(*number),
            AnyValue::Double(number) => Self::Double(*number),
            AnyValue::Bytes(bytes) => Self::Bytes(bytes),
            AnyValue::Array(values) => Self::Array(ArrayRef(Array::Owned(values))),
            AnyValue::KeyValueList(values) => Self::from(&values[..]),
        }
    }
}

impl<'a> From<&'a str> for AnyValueRef<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self::String(text)
    }
}

impl<'a> From<&'a String> for AnyValueRef<'a> {
    #[inline]
    fn from(text: &'a String) -> Self {
        Self::String(text)
    }
}

impl<'a> From<&'a Cow<'_, str>> for AnyValueRef<'a> {
    #[inline]
    fn from(text: &'a Cow<'_, str>) -> Self {
        Self::String(text)
    }
}

/// Conversions of slices, arrays and vectors of a type.
macro_rules! from_slice {
    ($($item:ty => $make:expr),* $(,)?) => {$(
        impl<'a> From<&'a [$item]> for AnyValueRef<'a> {
            fn from(items: &'a [$item]) -> Self {
                let make: fn(&'a [$item]) -> Self = $make;
                make(items)
            }
        }

        impl<'a, const N: usize> From<&'a [$item; N]> for AnyValueRef<'a> {
            fn from(items: &'a [$item; N]) -> Self {
                Self::from(&items[..])
            }
        }

        impl<'a> From<&'a Vec<$item>> for AnyValueRef<'a> {
            fn from(items: &'a Vec<$item>) -> Self {
                Self::from(&items[..])
            }
        }
    )*};
}

from_slice!(
    u8 => Self::Bytes,
    KeyValueRef<'a> => |items| Self::KeyValueList(KeyValueListRef(List::Borrowed(items))),
    KeyValue => |items| Self::KeyValueList(KeyValueListRef(List::Owned(items))),
    AnyValueRef<'a> => |items| Self::Array(ArrayRef(Array::Values(items))),
    AnyValue => |items| Self::Array(ArrayRef(Array::Owned(items))),
    &'a str => |items| Self::Array(ArrayRef(Array::Texts(items))),
    String => |items| Self::Array(ArrayRef(Array::Strings(items))),
    bool => |items| Self::Array(ArrayRef(Array::Bools(items))),
    i64 => |items| Self::Array(ArrayRef(Array::Ints(items))),
    f64 => |items| Self::Array(ArrayRef(Array::Doubles(items))),
);

impl From<&'static str> for AnyValue {
    fn from(text: &'static str) -> Self {
        Self::String(Cow::Borrowed(text))
    }
}

impl From<String> for AnyValue {
    fn from(text: String) -> Self {
        Self::String(Cow::Owned(text))
    }
}

impl From<Cow<'static, str>> for AnyValue {
    fn from(text: Cow<'static, str>) -> Self {
        Self::String(text)
    }
}

impl From<Vec<u8>> for AnyValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<KeyValue>> for AnyValue {
    fn from(values: Vec<KeyValue>) -> Self {
        Self::KeyValueList(values)
    }
}

impl From<Vec<AnyValue>> for AnyValue {
    fn from(values: Vec<AnyValue>) -> Self {
        Self::Array(values)
    }
}

macro_rules! from_vec {
    ($($item:ty),*) => {$(
        impl From<Vec<$item>> for AnyValue {
            fn from(values: Vec<$item>) -> Self {
                Self::Array(values.into_iter().map(AnyValue::from).collect())
            }
        }
    )*};
}

from_vec!(bool, i64, f64, String, &'static str);

/// Conversions to the owned and to the borrowed value.
macro_rules! from_number {
    ($($from:ty => $variant:ident),*) => {$(
        impl From<$from> for AnyValue {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }

        impl From<$from> for AnyValueRef<'_> {
            #[inline]
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

from_number!(
    bool => Bool,
    i64 => Int, i32 => Int, i16 => Int, i8 => Int, u32 => Int, u16 => Int, u8 => Int,
    f64 => Double, f32 => Double
);

/// Conversions of integers that may exceed OTLP's `i64`.
macro_rules! from_large_number {
    ($($from:ty),*) => {$(
        impl From<$from> for AnyValue {
            fn from(value: $from) -> Self {
                i64::try_from(value).map_or_else(|_| value.to_string().into(), Self::Int)
            }
        }

        impl From<$from> for AnyValueRef<'_> {
            #[inline]
            fn from(value: $from) -> Self {
                i64::try_from(value).map_or(Self::Uint(value as u64), Self::Int)
            }
        }
    )*};
}

from_large_number!(u64, usize);

impl From<isize> for AnyValue {
    fn from(value: isize) -> Self {
        Self::Int(value as i64)
    }
}

impl From<isize> for AnyValueRef<'_> {
    #[inline]
    fn from(value: isize) -> Self {
        Self::Int(value as i64)
    }
}
