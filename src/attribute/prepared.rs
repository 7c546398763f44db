//! Keys and names, and those whose wire form is made when the program is compiled.

use std::borrow::Cow;
use std::fmt;

/// An attribute's key: a text, or one that [`key!`](crate::key) has prepared.
#[derive(Clone, Copy)]
pub struct Key<'a>(KeyForm<'a>);

#[derive(Clone, Copy)]
enum KeyForm<'a> {
    Text(&'a str),
    Prepared(&'static prepare::PreparedKey),
}

impl<'a> Key<'a> {
    #[doc(hidden)]
    #[must_use]
    pub const fn prepared(key: &'static prepare::PreparedKey) -> Key<'static> {
        Key(KeyForm::Prepared(key))
    }

    /// The key itself.
    #[inline]
    #[must_use]
    pub const fn text(&self) -> &'a str {
        match self.0 {
            KeyForm::Text(text) => text,
            KeyForm::Prepared(key) => key.text,
        }
    }

    /// `KeyValue.key` and the tag of `KeyValue.value`, if prepared.
    #[inline]
    pub(crate) fn wire(&self) -> Option<&'static [u8]> {
        match self.0 {
            KeyForm::Text(_) => None,
            KeyForm::Prepared(key) => Some(key.wire),
        }
    }

    /// The same for the same key, nearly always another for another; 0 if there is none.
    #[inline(always)]
    pub(crate) fn fingerprint(&self) -> u8 {
        match self.0 {
            KeyForm::Text(text) => fingerprint(text),
            KeyForm::Prepared(key) => key.fingerprint,
        }
    }
}

impl<'a> From<&'a str> for Key<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self(KeyForm::Text(text))
    }
}

impl<'a> From<&'a String> for Key<'a> {
    #[inline]
    fn from(text: &'a String) -> Self {
        Self(KeyForm::Text(text))
    }
}

impl<'a> From<&'a Cow<'_, str>> for Key<'a> {
    #[inline]
    fn from(text: &'a Cow<'_, str>) -> Self {
        Self(KeyForm::Text(text))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

/// A span's name: a text, or one that [`name!`](crate::name) has prepared.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    text: &'a str,
    /// `Span.name` with its tag and length; empty if not prepared.
    wire: &'static [u8],
}

impl<'a> Name<'a> {
    #[doc(hidden)]
    #[must_use]
    pub const fn prepared(text: &'static str, wire: &'static [u8]) -> Name<'static> {
        Name { text, wire }
    }

    /// The name itself.
    #[inline]
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// `Span.name`, if prepared.
    #[inline]
    pub(crate) fn wire(&self) -> Option<&'static [u8]> {
        (!self.wire.is_empty()).then_some(self.wire)
    }
}

impl<'a> From<&'a str> for Name<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self { text, wire: &[] }
    }
}

impl<'a> From<&'a String> for Name<'a> {
    #[inline]
    fn from(text: &'a String) -> Self {
        Self::from(&**text)
    }
}

impl<'a> From<&'a Cow<'_, str>> for Name<'a> {
    #[inline]
    fn from(text: &'a Cow<'_, str>) -> Self {
        Self::from(&**text)
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl PartialEq<str> for Name<'_> {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl PartialEq<&str> for Name<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// The fingerprints of some keys: what is not among them is surely none of these keys.
#[derive(Clone, Copy, Default)]
pub(crate) struct Keys([u64; 4]);

impl Keys {
    pub(crate) const NONE: Self = Self([0; 4]);

    #[inline(always)]
    pub(crate) fn may_contain(&self, key: &Key<'_>) -> bool {
        let fingerprint = key.fingerprint();
        self.0[usize::from(fingerprint >> 6)] >> (fingerprint & 63) & 1 != 0
    }

    #[inline(always)]
    pub(crate) fn insert(&mut self, key: &Key<'_>) {
        let fingerprint = key.fingerprint();
        self.0[usize::from(fingerprint >> 6)] |= 1 << (fingerprint & 63);
    }
}

/// By the key's length and two of its bytes.
#[inline(always)]
const fn fingerprint(key: &str) -> u8 {
    let bytes = key.as_bytes();
    let len = bytes.len();
    if len == 0 {
        return 0;
    }
    let (middle, last) = (bytes[len / 2] as usize, bytes[len - 1] as usize);
    let mixed = (len * 29 + middle * 7 + last * 37) as u8;
    if mixed == 0 { 1 } else { mixed }
}

/// What the macros [`key!`](crate::key) and [`name!`](crate::name) need in the crates that use
/// them; not for direct use.
#[doc(hidden)]
pub mod prepare {
    use super::fingerprint;

    #[derive(Debug)]
    pub struct PreparedKey {
        pub(super) text: &'static str,
        pub(super) wire: &'static [u8],
        pub(super) fingerprint: u8,
    }

    impl PreparedKey {
        #[must_use]
        pub const fn new(text: &'static str, wire: &'static [u8]) -> Self {
            Self {
                text,
                wire,
                fingerprint: fingerprint(text),
            }
        }
    }

    /// `KeyValue.key`
    pub const KEY: u8 = 1 << 3 | 2;
    /// `KeyValue.value`
    pub const VALUE: u8 = 2 << 3 | 2;
    /// `Span.name`
    pub const NAME: u8 = 5 << 3 | 2;

    /// How long a text field is; 0 if the text is empty, which proto3 leaves out.
    #[must_use]
    pub const fn field_len(text: &str) -> usize {
        let len = text.len();
        if len == 0 {
            return 0;
        }
        let mut varint = 1;
        while len >> (7 * varint) != 0 {
            varint += 1;
        }
        1 + varint + len
    }

    /// A text field in the first `field_len(text)` of `N` bytes; what is beyond is `rest`.
    #[must_use]
    pub const fn field<const N: usize>(tag: u8, text: &str, rest: u8) -> [u8; N] {
        let mut out = [rest; N];
        if text.is_empty() {
            return out;
        }
        out[0] = tag;
        let mut at = 1;
        let mut len = text.len();
        while len >= 0x80 {
            out[at] = len as u8 | 0x80;
            len >>= 7;
            at += 1;
        }
        out[at] = len as u8;
        at += 1;
        let mut from = 0;
        while from < text.len() {
            out[at + from] = text.as_bytes()[from];
            from += 1;
        }
        out
    }
}

/// An attribute's key whose wire form is made at compile time: recording copies it.
///
/// ```
/// use otlp_collector::{Key, KeyValueRef, key};
///
/// const METHOD: Key<'static> = key!("http.request.method");
/// let attribute = KeyValueRef::new(METHOD, "GET");
/// assert_eq!(attribute.key.text(), "http.request.method");
/// ```
#[macro_export]
macro_rules! key {
    ($text:expr) => {
        const {
            use $crate::prepare::{KEY, PreparedKey, VALUE, field, field_len};
            const TEXT: &str = $text;
            const WIRE: &[u8] = &field::<{ field_len(TEXT) + 1 }>(KEY, TEXT, VALUE);
            const PREPARED: &PreparedKey = &PreparedKey::new(TEXT, WIRE);
            $crate::Key::prepared(PREPARED)
        }
    };
}

/// A span's name whose wire form is made at compile time: recording copies it.
///
/// ```
/// use otlp_collector::{Name, name};
///
/// const GET_ORDERS: Name<'static> = name!("GET /orders");
/// assert_eq!(GET_ORDERS.text(), "GET /orders");
/// ```
#[macro_export]
macro_rules! name {
    ($text:expr) => {
        const {
            use $crate::prepare::{NAME, field, field_len};
            const TEXT: &str = $text;
            const WIRE: &[u8] = &field::<{ field_len(TEXT) }>(NAME, TEXT, 0);
            $crate::Name::prepared(TEXT, WIRE)
        }
    };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn prepared_forms_are_the_wire_forms_also_of_empty_and_long_texts() {
        const LONG: &str = concat!(
            "a-key-that-is-longer-than-a-length-of-one-byte-can-say-",
            "so-that-the-length-before-it-takes-two-bytes-in-protobuf-",
            "which-is-so-from-one-hundred-and-twenty-eight-bytes-on"
        );
        assert_eq!(key!("db").wire(), Some(&b"\x0a\x02db\x12"[..]));
        assert_eq!(key!("").wire(), Some(&b"\x12"[..]));
        assert_eq!(name!("GET").wire(), Some(&b"\x2a\x03GET"[..]));
        assert_eq!(name!("").wire(), None);
        let mut long = vec![0x0a, LONG.len() as u8 | 0x80, 1];
        long.extend_from_slice(LONG.as_bytes());
        long.push(0x12);
        assert_eq!(key!(LONG).wire(), Some(&long[..]));
        assert_eq!(key!(LONG), Key::from(LONG));
        assert_eq!(key!(LONG).fingerprint(), Key::from(LONG).fingerprint());
    }
}
