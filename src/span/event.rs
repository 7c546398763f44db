//! Events of a span.

use std::borrow::Cow;

use crate::platform::clock::unix_nanos;
use crate::span::attribute::{AsKeyValue, KeyValue, KeyValueRef};

/// An event at a point in time of a span (OTLP's `Span.Event`).
///
/// Build it with struct update syntax, `..Event::new(name)`: a minor release may add fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Name of the event.
    pub name: Cow<'static, str>,
    /// Time in nanoseconds since the Unix epoch. Default: now.
    pub time: u64,
    /// Attributes. If a key occurs more than once, the last value is sent.
    pub attributes: Vec<KeyValue>,
    /// Number of attributes dropped before this event was built.
    pub dropped_attributes_count: u32,
}

impl Event {
    /// Creates an event that happens now, without attributes.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            time: unix_nanos(),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
        }
    }
}

/// A borrowed [`Event`].
///
/// Build it with struct update syntax, `..EventRef::new(name, time)`: a minor release may add fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventRef<'a> {
    /// Name of the event.
    pub name: &'a str,
    /// Time in nanoseconds since the Unix epoch; 0 is sent as unknown.
    pub time: u64,
    /// Attributes. If a key occurs more than once, the last value is sent.
    pub attributes: &'a [KeyValueRef<'a>],
    /// Number of attributes dropped before this event was built.
    pub dropped_attributes_count: u32,
}

impl<'a> EventRef<'a> {
    /// Creates an event at `time`, in nanoseconds since the Unix epoch, without attributes.
    #[must_use]
    pub const fn new(name: &'a str, time: u64) -> Self {
        Self {
            name,
            time,
            attributes: &[],
            dropped_attributes_count: 0,
        }
    }
}

/// An event, owned or borrowed, as the encoder reads it.
pub(crate) trait AsEvent {
    type Attribute: AsKeyValue;

    fn as_event(&self) -> EventFields<'_, Self::Attribute>;
}

/// Fields of an event, whether it is owned or borrowed.
pub(crate) struct EventFields<'a, K> {
    pub(crate) name: &'a str,
    pub(crate) time: u64,
    pub(crate) attributes: &'a [K],
    pub(crate) dropped_attributes_count: u32,
}

macro_rules! as_event {
    ($event:ty, $attribute:ty $(, $lifetime:lifetime)?) => {
        impl$(<$lifetime>)? AsEvent for $event {
            type Attribute = $attribute;

            fn as_event(&self) -> EventFields<'_, $attribute> {
                EventFields {
                    name: &self.name,
                    time: self.time,
                    attributes: &self.attributes,
                    dropped_attributes_count: self.dropped_attributes_count,
                }
            }
        }
    };
}

as_event!(Event, KeyValue);
as_event!(EventRef<'e>, KeyValueRef<'e>, 'e);
