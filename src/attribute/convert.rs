//! What converts to an attribute's value.

use std::borrow::Cow;

use crate::attribute::{
    AnyValue, AnyValueRef, Array, ArrayRef, KeyValue, KeyValueListRef, KeyValueRef, List,
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

impl<'a> From<&'a [u8]> for AnyValueRef<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a [KeyValueRef<'a>]> for AnyValueRef<'a> {
    fn from(values: &'a [KeyValueRef<'a>]) -> Self {
        Self::KeyValueList(KeyValueListRef(List::Borrowed(values)))
    }
}

impl<'a> From<&'a [KeyValue]> for AnyValueRef<'a> {
    fn from(values: &'a [KeyValue]) -> Self {
        Self::KeyValueList(KeyValueListRef(List::Owned(values)))
    }
}

macro_rules! from_slice {
    ($($item:ty => $variant:ident),*) => {$(
        impl<'a> From<&'a [$item]> for AnyValueRef<'a> {
            fn from(values: &'a [$item]) -> Self {
                Self::Array(ArrayRef(Array::$variant(values)))
            }
        }
    )*};
}

from_slice!(
    AnyValueRef<'a> => Values, AnyValue => Owned, &'a str => Texts, String => Strings,
    bool => Bools, i64 => Ints, f64 => Doubles
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

/// The conversions that the owned and the borrowed value share.
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

/// Numbers that may not fit into OTLP's `i64`: larger ones become its largest.
macro_rules! from_large_number {
    ($($from:ty),*) => {$(
        impl From<$from> for AnyValue {
            fn from(value: $from) -> Self {
                Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
            }
        }

        impl From<$from> for AnyValueRef<'_> {
            #[inline]
            fn from(value: $from) -> Self {
                Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
            }
        }
    )*};
}

from_large_number!(u64, usize);
