//! Keys and names, as texts or with a wire form made at compile time.

use std::borrow::Cow;
use std::fmt;

use self::prepare::Prepared;

/// The key of an attribute: a text, or prepared by [`key!`](crate::key).
#[derive(Clone, Copy)]
pub struct Key<'a>(Form<'a>);

/// The name of a span: a text, or prepared by [`name!`](crate::name).
#[derive(Clone, Copy)]
pub struct Name<'a>(Form<'a>);

/// Form of a key or name: a text, or a text with its encoding.
#[derive(Clone, Copy)]
enum Form<'a> {
    Text(&'a str),
    Prepared(&'static Prepared),
}

impl<'a> Form<'a> {
    #[inline]
    const fn text(&self) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::Prepared(prepared) => prepared.text,
        }
    }

    #[inline(always)]
    fn wire(&self) -> Option<&'static Wire> {
        match self {
            Self::Text(_) => None,
            Self::Prepared(prepared) => Some(&prepared.wire),
        }
    }
}

impl Key<'_> {
    #[doc(hidden)]
    #[must_use]
    pub const fn prepared(key: &'static Prepared) -> Key<'static> {
        Key(Form::Prepared(key))
    }

    /// Returns `KeyValue.key` and the tag of `KeyValue.value` as sent, if prepared.
    #[inline(always)]
    pub(crate) fn wire(&self) -> Option<&'static Wire> {
        self.0.wire()
    }

    /// Returns a word with one or two bits set, or none for an empty key. Keys with different bits are
    /// different.
    #[inline(always)]
    pub(crate) fn mark(&self) -> u64 {
        match self.0 {
            Form::Text(text) => mark(text),
            Form::Prepared(key) => key.mark,
        }
    }

    /// Returns a hash of the key, which is 0 for the empty key alone.
    #[inline(always)]
    pub(crate) fn fingerprint(&self) -> u8 {
        match self.0 {
            Form::Text(text) => fingerprint(text),
            Form::Prepared(key) => key.fingerprint,
        }
    }
}

impl Name<'_> {
    #[doc(hidden)]
    #[must_use]
    pub const fn prepared(name: &'static Prepared) -> Name<'static> {
        Name(Form::Prepared(name))
    }

    /// Returns `Span.name` as sent, if prepared.
    #[inline(always)]
    pub(crate) fn wire(&self) -> Option<&'static Wire> {
        self.0.wire()
    }
}

/// Conversions and text of a key or a name.
macro_rules! text {
    ($what:ident, $called:literal) => {
        impl<'a> $what<'a> {
            #[doc = concat!("Returns the ", $called, " as a text.")]
            #[inline]
            #[must_use]
            pub const fn text(&self) -> &'a str {
                self.0.text()
            }
        }

        impl<'a> From<&'a str> for $what<'a> {
            #[inline]
            fn from(text: &'a str) -> Self {
                Self(Form::Text(text))
            }
        }

        impl<'a> From<&'a String> for $what<'a> {
            #[inline]
            fn from(text: &'a String) -> Self {
                Self(Form::Text(text))
            }
        }

        impl<'a> From<&'a Cow<'_, str>> for $what<'a> {
            #[inline]
            fn from(text: &'a Cow<'_, str>) -> Self {
                Self(Form::Text(text))
            }
        }

        impl PartialEq for $what<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.text() == other.text()
            }
        }

        impl fmt::Debug for $what<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.text().fmt(f)
            }
        }
    };
}

text!(Key, "key");
text!(Name, "name");

impl PartialEq<str> for Name<'_> {
    fn eq(&self, other: &str) -> bool {
        self.text() == other
    }
}

impl PartialEq<&str> for Name<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.text() == *other
    }
}

/// Keys and names that are known only when the program runs, and kept for ever.
#[cfg(feature = "tracing")]
impl Prepared {
    fn leak(tag: u8, text: &'static str, rest: &[u8]) -> &'static Self {
        let text_len = prepare::field_len(text);
        let blocks = prepare::blocks(text_len + rest.len());
        let mut bytes = vec![0; blocks * size_of::<WireBlock>()];
        if !text.is_empty() {
            let header = text_len - text.len();
            bytes[0] = tag;
            let mut len = text.len();
            for byte in &mut bytes[1..header] {
                *byte = len as u8 & 0x7f | 0x80;
                len >>= 7;
            }
            bytes[header - 1] &= 0x7f;
            bytes[header..text_len].copy_from_slice(text.as_bytes());
        }
        bytes[text_len..text_len + rest.len()].copy_from_slice(rest);
        let (blocks, _) = bytes.leak().as_chunks();
        Box::leak(Box::new(Self::new(text, blocks, text_len + rest.len())))
    }
}

#[cfg(feature = "tracing")]
impl Key<'static> {
    /// Prepares a key. Its wire form is never freed.
    pub(crate) fn leak(text: &'static str) -> Self {
        Self::prepared(Prepared::leak(prepare::KEY, text, &[prepare::VALUE]))
    }
}

#[cfg(feature = "tracing")]
impl Name<'static> {
    /// Prepares a name. Its wire form is never freed.
    pub(crate) fn leak(text: &'static str) -> Self {
        Self::prepared(Prepared::leak(prepare::NAME, text, &[]))
    }
}

/// Bytes known at compile time, in blocks of a fixed size, so that a copy needs neither loop nor call.
#[derive(Debug)]
pub(crate) struct Wire {
    blocks: &'static [WireBlock],
    len: usize,
}

/// Most keys fit into one block.
type WireBlock = [u8; 32];

impl Wire {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the block if there is one alone. The bytes after `len` are padding.
    #[inline(always)]
    pub(crate) fn only_block(&self) -> Option<&'static WireBlock> {
        match self.blocks {
            [only] => Some(only),
            _ => None,
        }
    }

    pub(crate) fn as_bytes(&self) -> &'static [u8] {
        &self.blocks.as_flattened()[..self.len]
    }
}

/// A set of keys by their fingerprints, with false positives and no false negatives.
#[derive(Clone, Copy, Default)]
pub(crate) struct Keys([u64; 4]);

impl Keys {
    pub(crate) const NONE: Self = Self([0; 4]);

    #[inline(always)]
    pub(crate) fn may_contain(&self, key: &Key<'_>) -> bool {
        let fingerprint = key.fingerprint();
        self.0[usize::from(fingerprint >> 6)] >> (fingerprint & 63) & 1 != 0
    }

    /// Returns false only if no key is in both sets.
    #[cfg(feature = "tracing")]
    #[inline(always)]
    pub(crate) fn may_contain_any(&self, others: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&others.0);
        pairs.any(|(own, other)| own & other != 0)
    }

    #[cfg(feature = "tracing")]
    #[inline(always)]
    pub(crate) fn insert_all(&mut self, others: &Self) {
        for (own, other) in self.0.iter_mut().zip(&others.0) {
            *own |= other;
        }
    }

    #[inline(always)]
    pub(crate) fn insert(&mut self, key: &Key<'_>) {
        let fingerprint = key.fingerprint();
        self.0[usize::from(fingerprint >> 6)] |= 1 << (fingerprint & 63);
    }
}

/// Mixes the key's length and two of its bytes.
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

#[inline(always)]
const fn mark(key: &str) -> u64 {
    let bytes = key.as_bytes();
    let len = bytes.len();
    if len == 0 {
        return 0;
    }
    let (middle, last) = (bytes[len / 2] as usize, bytes[len - 1] as usize);
    let mixed = len * 29 + middle * 7 + last * 37;
    1 << (mixed & 63) | 1 << ((mixed >> 6 ^ middle) & 63)
}

/// Support for the macros [`key!`](crate::key) and [`name!`](crate::name), not for direct use.
#[doc(hidden)]
pub mod prepare {
    use super::{Wire, WireBlock, fingerprint, mark};

    /// A text that was encoded at compile time.
    #[derive(Debug)]
    pub struct Prepared {
        pub(super) text: &'static str,
        pub(super) wire: Wire,
        pub(super) fingerprint: u8,
        pub(super) mark: u64,
    }

    impl Prepared {
        /// Creates a text whose wire form is the first `len` bytes of `blocks`.
        #[must_use]
        pub const fn new(text: &'static str, blocks: &'static [WireBlock], len: usize) -> Self {
            Self {
                text,
                wire: Wire { blocks, len },
                fingerprint: fingerprint(text),
                mark: mark(text),
            }
        }
    }

    /// `KeyValue.key`
    pub const KEY: u8 = 1 << 3 | 2;
    /// `KeyValue.value`
    pub const VALUE: u8 = 2 << 3 | 2;
    /// `Span.name`
    pub const NAME: u8 = 5 << 3 | 2;

    const BLOCK: usize = size_of::<WireBlock>();

    /// Returns the length of a text field; 0 for an empty text, which proto3 omits.
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

    /// Returns the number of blocks for this many bytes, at least 1.
    #[must_use]
    pub const fn blocks(bytes: usize) -> usize {
        if bytes == 0 { 1 } else { bytes.div_ceil(BLOCK) }
    }

    /// Returns a text field in blocks, padded with `rest`.
    #[must_use]
    pub const fn field<const BLOCKS: usize>(tag: u8, text: &str, rest: u8) -> [WireBlock; BLOCKS] {
        let mut out = [[rest; BLOCK]; BLOCKS];
        if text.is_empty() {
            return out;
        }
        let text_at = field_len(text) - text.len();
        out[0][0] = tag;
        let mut at = 1;
        let mut len = text.len();
        while at < text_at {
            let more = if at + 1 < text_at { 0x80 } else { 0 };
            out[0][at] = len as u8 & 0x7f | more;
            len >>= 7;
            at += 1;
        }
        let mut from = 0;
        while from < text.len() {
            out[(at + from) / BLOCK][(at + from) % BLOCK] = text.as_bytes()[from];
            from += 1;
        }
        out
    }
}

/// Creates a [`Key`](crate::Key) from a constant text. Its wire form is made at compile time, so that
/// recording copies it.
///
/// ```
/// use otlp_collector::span::KeyValueRef;
/// use otlp_collector::{Key, key};
///
/// const METHOD: Key<'static> = key!("http.request.method");
/// let attribute = KeyValueRef::new(METHOD, "GET");
/// assert_eq!(attribute.key.text(), "http.request.method");
/// ```
#[macro_export]
macro_rules! key {
    ($text:expr) => {
        const {
            // In an outer block, so that `$text` can be a constant of any name.
            const __OTLP_COLLECTOR_TEXT: &str = $text;
            {
                use $crate::prepare::{KEY, Prepared, VALUE, blocks, field, field_len};
                const TEXT: &str = __OTLP_COLLECTOR_TEXT;
                const LEN: usize = field_len(TEXT) + 1;
                const WIRE: &[[u8; 32]] = &field::<{ blocks(LEN) }>(KEY, TEXT, VALUE);
                const PREPARED: &Prepared = &Prepared::new(TEXT, WIRE, LEN);
                $crate::Key::prepared(PREPARED)
            }
        }
    };
}

/// Creates a [`Name`](crate::Name) from a constant text. Its wire form is made at compile time, so that
/// recording copies it.
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
            // In an outer block, so that `$text` can be a constant of any name.
            const __OTLP_COLLECTOR_TEXT: &str = $text;
            {
                use $crate::prepare::{NAME, Prepared, blocks, field, field_len};
                const TEXT: &str = __OTLP_COLLECTOR_TEXT;
                const LEN: usize = field_len(TEXT);
                const WIRE: &[[u8; 32]] = &field::<{ blocks(LEN) }>(NAME, TEXT, 0);
                const PREPARED: &Prepared = &Prepared::new(TEXT, WIRE, LEN);
                $crate::Name::prepared(PREPARED)
            }
        }
    };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_text_can_be_a_constant_of_any_name() {
        const NAME: &str = "GET /orders";
        const LEN: &str = "http.response.body.size";
        const TEXT: &str = "text";
        assert_eq!(name!(NAME), "GET /orders");
        assert_eq!(key!(LEN).text(), LEN);
        assert_eq!((key!(TEXT).text(), name!(TEXT).text()), (TEXT, TEXT));
    }

    #[test]
    fn prepared_forms_equal_the_wire_forms_of_empty_short_and_long_texts() {
        const LONG: &str = concat!(
            "a-key-that-is-longer-than-a-length-of-one-byte-can-say-",
            "so-that-the-length-before-it-takes-two-bytes-in-protobuf-",
            "which-is-so-from-one-hundred-and-twenty-eight-bytes-on"
        );
        let of_key = |key: Key<'static>| key.wire().unwrap().as_bytes();
        let of_name = |name: Name<'static>| name.wire().unwrap().as_bytes();
        assert_eq!(of_key(key!("db")), b"\x0a\x02db\x12");
        assert_eq!(of_key(key!("")), b"\x12");
        assert_eq!(of_name(name!("GET")), b"\x2a\x03GET");
        assert_eq!(of_name(name!("")), b"");
        let mut long = vec![0x0a, LONG.len() as u8 | 0x80, 1];
        long.extend_from_slice(LONG.as_bytes());
        long.push(0x12);
        assert_eq!(of_key(key!(LONG)), long);
        assert!(key!(LONG).wire().unwrap().only_block().is_none());
        assert_eq!(key!(LONG), Key::from(LONG));
        assert_eq!(key!(LONG).fingerprint(), Key::from(LONG).fingerprint());
    }
}
