//! Limits of a span's data.

/// Limits of a span's data (OpenTelemetry's trace SDK specification, section "Span Limits").
///
/// Data beyond a limit is dropped and counted in the span's `dropped_*_count` fields, and so are
/// attributes with an empty key. Resource and scope attributes have no limits. Build it with struct
/// update syntax, `..SpanLimits::default()`: a minor release may add fields.
///
/// These limits always apply:
///
/// * At most 1,024 attributes of a slice are read; the others are dropped and counted.
/// * A list of keys and values within a value is sent unchanged if it is longer than 1,024, even if keys
///   occur more than once.
/// * A value nested deeper than 45 arrays or 30 lists is replaced by an empty one. The specification
///   allows 64, but receivers read at most 100 nested protobuf messages and would reject the request.
///
/// The time to record a span is linear in the number of its attributes, for any keys. Recording takes
/// at most 48 KiB of stack, or 384 KiB without optimisation, for any nesting of values.
///
/// ```
/// use otlp_collector::span::SpanLimits;
/// use otlp_collector::Config;
///
/// let config = Config {
///     span_limits: SpanLimits {
///         attribute_value_length: Some(4096),
///         ..SpanLimits::default()
///     },
///     ..Config::default()
/// };
/// # drop(config);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanLimits {
    /// Number of attributes of a span. Default: 128. Maximum: 1,024.
    pub attribute_count: u32,
    /// Characters of each text and bytes of each byte array in a value, nested ones included. Longer
    /// ones are truncated. Default: none.
    pub attribute_value_length: Option<u32>,
    /// Number of events of a span. Default: 128.
    pub event_count: u32,
    /// Number of links of a span. Default: 128.
    pub link_count: u32,
    /// Number of attributes of an event. Default: 128. Maximum: 1,024.
    pub event_attribute_count: u32,
    /// Number of attributes of a link. Default: 128. Maximum: 1,024.
    pub link_attribute_count: u32,
}

/// Maximum nesting depth of a value in protobuf messages.
///
/// Receivers read at most 100 nested messages and reject the whole request otherwise. The value of an
/// event's attribute is within seven, and a few are left for receivers that wrap requests. The
/// specification's limit of 64 arrays or lists would be up to 192 messages, so it is never reached.
pub(crate) const MESSAGES_MAX: u32 = 90;
/// Maximum number of attributes of one slice that are read.
pub(crate) const LOOKED_AT_MAX: usize = 1024;
/// Encoded length at which measuring stops, because no slab is that large.
pub(crate) const BYTES_MAX: usize = 1 << 24;

impl Default for SpanLimits {
    fn default() -> Self {
        Self {
            attribute_count: 128,
            attribute_value_length: None,
            event_count: 128,
            link_count: 128,
            event_attribute_count: 128,
            link_attribute_count: 128,
        }
    }
}

impl SpanLimits {
    /// Truncates a text to the limit, between two characters.
    #[inline]
    pub(crate) fn text<'a>(&self, text: &'a str) -> &'a str {
        match self.attribute_value_length {
            // A character has at least one byte.
            Some(max) if text.len() > max as usize => cut(text, max as usize),
            _ => text,
        }
    }

    /// Truncates bytes to the limit.
    #[inline]
    pub(crate) fn bytes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let max = self
            .attribute_value_length
            .map_or(usize::MAX, |max| max as usize);
        &bytes[..bytes.len().min(max)]
    }
}

fn cut(text: &str, chars_max: usize) -> &str {
    let end = text.char_indices().nth(chars_max);
    end.map_or(text, |(end, _)| &text[..end])
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_characters_and_bytes_by_bytes() {
        let limits = SpanLimits {
            attribute_value_length: Some(3),
            ..SpanLimits::default()
        };
        for (text, cut) in [
            ("", ""),
            ("abc", "abc"),
            ("abcd", "abc"),
            ("äöüß", "äöü"),
            ("日本", "日本"),
        ] {
            assert_eq!(limits.text(text), cut);
        }
        assert_eq!(limits.bytes(&[1, 2, 3, 4]), [1, 2, 3]);
        assert_eq!(SpanLimits::default().text("abcd"), "abcd");
    }
}
