//! How much a span may say: see [`SpanLimits`].

/// Limits of a span, by the specification's section "Span Limits" and with its defaults.
///
/// What is beyond is left out and counted in the span's `dropped_*_count` fields. Resource and
/// scope attributes are exempt. Whatever the limits, a value nested deeper than 64 arrays or lists
/// is replaced by an empty one, and of one slice of attributes at most 1,024 (or the limit, if
/// that is more) are looked at.
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
    /// Attributes of a span. Default 128.
    pub attribute_count: u32,
    /// Characters of each text and bytes of each byte array in a value, nested ones too; longer
    /// ones are cut. Default none.
    pub attribute_value_length: Option<u32>,
    /// Events of a span. Default 128.
    pub event_count: u32,
    /// Links of a span. Default 128.
    pub link_count: u32,
    /// Attributes of an event. Default 128.
    pub event_attribute_count: u32,
    /// Attributes of a link. Default 128.
    pub link_attribute_count: u32,
}

/// The specification's limit of nesting.
pub(crate) const DEPTH_MAX: u32 = 64;
/// So many attributes of one slice are looked at, unless the limit is higher: finding repeated
/// keys compares each with each.
pub(crate) const LOOKED_AT_MAX: usize = 1024;

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
