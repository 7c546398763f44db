//! Ids of traces and spans.

use std::cmp::Ordering;
use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

/// Characters of an invalid id that its error keeps.
const SHOWN_MAX: usize = 40;

/// Declares an id. The ids differ in length alone. The number inside holds the bytes in the order in
/// which they are sent, so that encoding copies them.
macro_rules! id {
    (
        $(#[$attribute:meta])*
        $id:ident($nonzero:ident): $bytes:literal bytes, $number:ident by $from:ident and $to:ident,
        $name:literal
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $id($nonzero);

        impl $id {
            /// Creates an id from its bytes, as they are sent; `None` if all are zero.
            #[inline]
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Option<Self> {
                match $nonzero::new($number::from_ne_bytes(bytes)) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }

            /// Returns the bytes as they are sent.
            #[inline]
            #[must_use]
            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0.get().to_ne_bytes()
            }

            /// Creates an id from a number, whose big-endian bytes are sent; `None` for 0.
            #[inline]
            #[must_use]
            pub const fn $from(number: $number) -> Option<Self> {
                Self::from_bytes(number.to_be_bytes())
            }

            /// Returns the id as a number, whose big-endian bytes are sent.
            #[inline]
            #[must_use]
            pub const fn $to(self) -> $number {
                $number::from_be(self.0.get())
            }

            /// The lowest id, of which the last bit alone is set.
            pub(crate) const MIN: Self = Self::$from(1).unwrap();

            fn invalid(value: &str) -> InvalidId {
                InvalidId::new($name, 2 * $bytes, value)
            }
        }

        impl Ord for $id {
            #[inline]
            fn cmp(&self, other: &Self) -> Ordering {
                self.$to().cmp(&other.$to())
            }
        }

        impl PartialOrd for $id {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl TryFrom<[u8; $bytes]> for $id {
            type Error = InvalidId;

            #[inline]
            fn try_from(bytes: [u8; $bytes]) -> Result<Self, InvalidId> {
                Self::from_bytes(bytes).ok_or_else(|| Self::invalid(&"00".repeat($bytes)))
            }
        }

        impl From<$id> for [u8; $bytes] {
            #[inline]
            fn from(id: $id) -> Self {
                id.to_bytes()
            }
        }

        /// Reads hexadecimal digits of either case, exactly two a byte.
        impl FromStr for $id {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let has_digits_alone = text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let number = (text.len() == 2 * $bytes && has_digits_alone)
                    .then(|| $number::from_str_radix(text, 16).ok())
                    .flatten();
                number.and_then(Self::$from).ok_or_else(|| Self::invalid(text))
            }
        }

        /// Writes lower-case hexadecimal digits, two a byte.
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:0digits$x}", self.$to(), digits = 2 * $bytes)
            }
        }

        /// Writes the same digits as `Display`, after `0x` if `#` is given.
        impl fmt::LowerHex for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let prefix = if f.alternate() { "0x" } else { "" };
                write!(f, "{prefix}{self}")
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($id), "({})"), self)
            }
        }
    };
}

id! {
    /// The id of a trace: 16 bytes, of which at least one is not zero (W3C Trace Context,
    /// section 3.2.2.3).
    ///
    /// `Option<TraceId>` takes no more memory than the id.
    ///
    /// ```
    /// use otlp_collector::TraceId;
    ///
    /// let id: TraceId = "0af7651916cd43dd8448eb211c80319c".parse()?;
    /// assert_eq!(id.to_bytes()[..2], [0x0a, 0xf7]);
    /// assert_eq!(TraceId::from_bytes(id.to_bytes()), Some(id));
    /// assert_eq!(id.to_string(), "0af7651916cd43dd8448eb211c80319c");
    /// assert_eq!(TraceId::from_bytes([0; 16]), None);
    /// # Ok::<(), otlp_collector::span::InvalidId>(())
    /// ```
    TraceId(NonZeroU128): 16 bytes, u128 by from_u128 and to_u128, "trace id"
}

id! {
    /// The id of a span: 8 bytes, of which at least one is not zero (W3C Trace Context, section
    /// 3.2.2.4).
    ///
    /// `Option<SpanId>` takes no more memory than the id.
    ///
    /// ```
    /// use otlp_collector::SpanId;
    ///
    /// let id: SpanId = "b7ad6b7169203331".parse()?;
    /// assert_eq!(SpanId::from_u64(0xb7ad_6b71_6920_3331), Some(id));
    /// assert_eq!(format!("{id:?}"), "SpanId(b7ad6b7169203331)");
    /// # Ok::<(), otlp_collector::span::InvalidId>(())
    /// ```
    SpanId(NonZeroU64): 8 bytes, u64 by from_u64 and to_u64, "span id"
}

/// The error of a value that is not a valid [`TraceId`] or [`SpanId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidId {
    name: &'static str,
    digits: usize,
    /// The value, truncated to [`SHOWN_MAX`] characters.
    value: String,
}

impl InvalidId {
    #[cold]
    fn new(name: &'static str, digits: usize, value: &str) -> Self {
        let mut shown: String = value.chars().take(SHOWN_MAX).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Self {
            name,
            digits,
            value: shown,
        }
    }
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            digits,
            value,
        } = self;
        write!(
            f,
            "invalid {name} {value:?}: expected {digits} hexadecimal digits that are not all 0"
        )
    }
}

impl std::error::Error for InvalidId {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_id_equals_itself_as_bytes_number_and_text() {
        let text = "00f067aa0ba902b7";
        let id: SpanId = text.parse().unwrap();
        assert_eq!(id.to_bytes(), [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!(SpanId::try_from(id.to_bytes()), Ok(id));
        assert_eq!(SpanId::from_u64(id.to_u64()), Some(id));
        assert_eq!(
            (id.to_string(), format!("{id:x}")),
            (text.into(), text.into())
        );
        assert_eq!(format!("{id:#x}"), format!("0x{text}"));
        assert_eq!(text.to_uppercase().parse(), Ok(id));

        let text = "000000000000000000000000000000ff";
        let id: TraceId = text.parse().unwrap();
        assert_eq!(TraceId::from_u128(255), Some(id));
        assert_eq!(format!("{id:?}"), format!("TraceId({text})"));
    }

    #[test]
    fn ids_are_ordered_by_their_bytes() {
        let ids = [
            [0, 0, 0, 0, 0, 0, 0, 1],
            [0, 0, 0, 0, 0, 0, 1, 0],
            [1, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert!(
            ids.map(|bytes| SpanId::from_bytes(bytes).unwrap())
                .is_sorted()
        );
    }

    #[test]
    fn an_optional_id_is_as_large_as_the_id() {
        assert_eq!(size_of::<Option<TraceId>>(), 16);
        assert_eq!(size_of::<Option<SpanId>>(), 8);
    }

    #[test]
    fn errors_name_the_invalid_value() {
        for (text, shown) in [
            ("", ""),
            ("b7ad6b716920333", "b7ad6b716920333"),
            ("b7ad6b71692033311", "b7ad6b71692033311"),
            ("+7ad6b7169203331", "+7ad6b7169203331"),
            ("0000000000000000", "0000000000000000"),
            ("ä\n", "ä\\n"),
        ] {
            let error = text.parse::<SpanId>().unwrap_err().to_string();
            let expected = format!(
                "invalid span id \"{shown}\": expected 16 hexadecimal digits that are not all 0"
            );
            assert_eq!(error, expected);
        }
        let error = "x".repeat(1000).parse::<TraceId>().unwrap_err().to_string();
        let shown = format!("\"{}…\": expected 32 ", "x".repeat(40));
        assert!(error.contains(&shown), "{error}");
        let zeros = TraceId::try_from([0; 16]).unwrap_err();
        assert_eq!(Err(zeros), "0".repeat(32).parse::<TraceId>());
    }
}
