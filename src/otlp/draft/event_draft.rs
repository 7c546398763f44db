//! An event that is encoded part by part, while code of the user's formats its values.

use std::fmt;

use crate::otlp::draft::constants::ConstantAttributes;
use crate::otlp::draft::draft_fields::DraftFields;
use crate::otlp::output::{Output, SPILL};
use crate::otlp::{tag, value};
use crate::span::attribute::{Key, KeyValueRef};
use crate::span::limits::SpanLimits;

/// Memory for one event, which is added to its span as a whole.
pub(crate) struct EventDraft {
    /// The content of the message `Event`.
    room: Box<[u8]>,
    len: u32,
    attributes: u32,
    dropped: u32,
    has_name: bool,
}

impl EventDraft {
    /// Allocates room for events of this many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            room: vec![0; bytes + SPILL].into_boxed_slice(),
            len: 0,
            attributes: 0,
            dropped: 0,
            has_name: false,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.room.len() - SPILL
    }

    #[inline(always)]
    fn fields(&mut self) -> DraftFields<'_> {
        DraftFields::new(&mut self.room, &mut self.len)
    }

    /// Begins an event.
    #[inline(always)]
    pub(crate) fn begin(&mut self, time: u64) {
        self.len = 0;
        self.attributes = 0;
        self.dropped = 0;
        self.has_name = false;
        self.fields()
            .append(|out| out.fixed64(tag::EVENT_TIME, time));
    }

    #[inline]
    pub(crate) fn has_name(&self) -> bool {
        self.has_name
    }

    /// Sets the name, once.
    #[inline(always)]
    pub(crate) fn name(&mut self, name: &str) {
        self.has_name = self
            .fields()
            .append(|out| out.non_empty(tag::EVENT_NAME, name.as_bytes()));
    }

    /// Sets the name to a text that is formatted in place, and cut to half of the free room.
    #[inline]
    pub(crate) fn name_display(&mut self, name: &dyn fmt::Display) {
        self.has_name = self.format(name, |fields, name| {
            fields.append(|out| out.non_empty(tag::EVENT_NAME, name.as_bytes()))
        });
    }

    /// Adds an attribute. Its key differs from those of the others.
    #[inline(always)]
    pub(crate) fn attribute(&mut self, attribute: &KeyValueRef<'_>, limits: &SpanLimits) {
        let is_added = self.attributes < limits.event_attribute_count
            && self.fields().append(|out| {
                value::encode_attribute(tag::EVENT_ATTRIBUTES, attribute, limits, out)
            });
        self.note_attribute(is_added);
    }

    /// Adds attributes that were encoded in advance.
    #[inline(always)]
    pub(crate) fn constants(&mut self, constants: &ConstantAttributes, limits: &SpanLimits) {
        let count = u32::from(constants.len());
        if self.attributes + count <= limits.event_attribute_count
            && constants.are_within(limits)
            && self.fields().append(|out| out.bytes(&constants.in_event))
        {
            self.attributes += count;
            return;
        }
        for attribute in &constants.attributes {
            self.attribute(attribute, limits);
        }
    }

    /// Adds an attribute that is formatted in place, and cut to half of the free room.
    pub(crate) fn attribute_display(
        &mut self,
        key: Key<'_>,
        text: &dyn fmt::Display,
        limits: &SpanLimits,
    ) {
        let is_added = self.attributes < limits.event_attribute_count
            && self.format(text, |fields, text| {
                let attribute = KeyValueRef::new(key, text);
                fields.append(|out| {
                    value::encode_attribute(tag::EVENT_ATTRIBUTES, &attribute, limits, out)
                })
            });
        self.note_attribute(is_added);
    }

    #[inline(always)]
    fn note_attribute(&mut self, is_added: bool) {
        self.attributes += u32::from(is_added);
        self.dropped += u32::from(!is_added);
    }

    fn format(
        &mut self,
        text: &dyn fmt::Display,
        then: impl FnOnce(&mut DraftFields<'_>, &str) -> bool,
    ) -> bool {
        // Tags, lengths and the key, which are shorter than the least text that is worth it.
        let with_it = 64;
        let mut fields = self.fields();
        let formatted = fields.format(text, with_it);
        fields.with_text(&formatted, then)
    }

    /// Completes the event and returns it.
    #[inline(always)]
    pub(crate) fn finish(&mut self) -> &[u8] {
        if self.dropped != 0 {
            let dropped = self.dropped;
            self.fields()
                .append(|out| out.count(tag::EVENT_DROPPED_ATTRIBUTES, dropped));
        }
        &self.room[..self.len as usize]
    }
}
