//! How much a span may say: see [`SpanLimits`].

/// Limits of a span, by the specification's section "Span Limits" and with its defaults.
///
/// What is beyond is left out and counted in the span's `dropped_*_count` fields, as are attributes
/// without a key. Resource and scope attributes are exempt.
///
/// Whatever the limits: of one slice of attributes at most 1,024 are looked at; lists within values
/// that are longer are sent as they are, even if keys stand twice; and a value nested deeper than 45
/// arrays or 30 lists is replaced by an empty one. (The specification allows 64, but receivers read
/// no more than 100 protobuf messages one in the other, and would refuse the whole request.)
///
/// Recording works in a time that grows with the number of attributes, whatever their keys are, and
/// within 48 KiB of stack, however deep values are nested; within 384 KiB without optimisation.
///
/// ```
/// use otlp_collector::{Config, SpanLimits};
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
    /// Attributes of a span. Default 128, at most 1,024.
    pub attribute_count: u32,
    /// Characters of each text and bytes of each byte array in a value, nested ones too; longer
    /// ones are cut. Default none.
    pub attribute_value_length: Option<u32>,
    /// Events of a span. Default 128.
    pub event_count: u32,
    /// Links of a span. Default 128.
    pub link_count: u32,
    /// Attributes of an event. Default 128, at most 1,024.
    pub event_attribute_count: u32,
    /// Attributes of a link. Default 128, at most 1,024.
    pub link_attribute_count: u32,
}

/// How many protobuf messages one in the other a value may be.
///
/// Receivers read no more than 100, and a request with more is lost to them as a whole. Seven stand
/// around the value of an event's attribute, and some are left for them to wrap a request in. The
/// specification's limit of 64 arrays or lists would be up to 192 messages, so it is never reached.
pub(crate) const MESSAGES_MAX: u32 = 90;
/// So many attributes of one slice are looked at.
pub(crate) const LOOKED_AT_MAX: usize = 1024;
/// What is longer is not measured to its end: it fits into no slab.
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
    /// The text, cut to the limit between two characters.
    #[inline]
    pub(crate) fn text<'a>(&self, text: &'a str) -> &'a str {
        match self.attribute_value_length {
            // As many bytes as characters at least.
            Some(max) if text.len() > max as usize => cut(text, max as usize),
            _ => text,
        }
    }

    /// The bytes, cut to the limit.
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
