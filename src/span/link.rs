//! Links to other spans.

use crate::span::attribute::{AsKeyValue, KeyValue, KeyValueRef};
use crate::span::context::SpanContext;

/// A link to a related span (OTLP's `Span.Link`).
///
/// Build it with struct update syntax, `..Link::new(context)`: a minor release may add fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Context of the linked span.
    pub context: SpanContext<'static>,
    /// Attributes of the relation. If a key occurs more than once, the last value is sent.
    pub attributes: Vec<KeyValue>,
    /// Number of attributes dropped before this link was built.
    pub dropped_attributes_count: u32,
}

impl Link {
    /// Creates a link without attributes.
    #[must_use]
    pub fn new(context: SpanContext<'static>) -> Self {
        Self {
            context,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
        }
    }
}

/// A borrowed [`Link`].
///
/// Build it with struct update syntax, `..LinkRef::new(context)`: a minor release may add fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkRef<'a> {
    /// Context of the linked span.
    pub context: &'a SpanContext<'a>,
    /// Attributes of the relation. If a key occurs more than once, the last value is sent.
    pub attributes: &'a [KeyValueRef<'a>],
    /// Number of attributes dropped before this link was built.
    pub dropped_attributes_count: u32,
}

impl<'a> LinkRef<'a> {
    /// Creates a link without attributes.
    #[must_use]
    pub const fn new(context: &'a SpanContext<'a>) -> Self {
        Self {
            context,
            attributes: &[],
            dropped_attributes_count: 0,
        }
    }
}

/// A link, owned or borrowed, as the encoder reads it.
pub(crate) trait AsLink {
    type Attribute: AsKeyValue;

    fn as_link(&self) -> LinkFields<'_, Self::Attribute>;
}

/// Fields of a link, whether it is owned or borrowed.
pub(crate) struct LinkFields<'a, K> {
    pub(crate) context: &'a SpanContext<'a>,
    pub(crate) attributes: &'a [K],
    pub(crate) dropped_attributes_count: u32,
}

macro_rules! as_link {
    ($link:ty, $attribute:ty $(, $lifetime:lifetime)?) => {
        impl$(<$lifetime>)? AsLink for $link {
            type Attribute = $attribute;

            fn as_link(&self) -> LinkFields<'_, $attribute> {
                LinkFields {
                    context: &self.context,
                    attributes: &self.attributes,
                    dropped_attributes_count: self.dropped_attributes_count,
                }
            }
        }
    };
}

as_link!(Link, KeyValue);
as_link!(LinkRef<'l>, KeyValueRef<'l>, 'l);
