//! Attributes that own their data.

use std::borrow::Cow;

/// An attribute: a key and its value.
///
/// Build it with [`new`](Self::new): a minor release may add fields.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyValue {
    /// Key. An attribute with an empty key is dropped and counted.
    pub key: Cow<'static, str>,
    /// Value.
    pub value: AnyValue,
}

impl KeyValue {
    /// Creates an attribute from a key and a value, or from types that convert to them.
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
    /// A text.
    String(Cow<'static, str>),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// A byte array.
    Bytes(Vec<u8>),
    /// An array of values, of one type or several.
    Array(Vec<AnyValue>),
    /// A list of keys and values. If a key occurs more than once, the last value is sent.
    KeyValueList(Vec<KeyValue>),
}

impl AnyValue {
    /// Returns the nesting depth in protobuf messages.
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

/// Returns the last attribute of each key.
pub(crate) fn last_of_each_key(attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    let mut kept: Vec<KeyValue> = Vec::with_capacity(attributes.len());
    for attribute in attributes {
        kept.retain(|other| other.key != attribute.key);
        kept.push(attribute);
    }
    kept
}
