//! The memory that holds an open span's encoded fields.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};

use crate::otlp::output::{Cursor, Output, SPILL};
use crate::otlp::tag;
use crate::otlp::{encode, value};
use crate::span::attribute::{Key, KeyValueRef, Keys, Name};
use crate::span::limits::SpanLimits;
use crate::span::{AsEvent, AsLink, EventRef, LinkRef, StatusRef};

/// Memory of a fixed size that one open span is encoded into.
///
/// It holds the length-delimited fields of `Span` one after another: the trace state if there is
/// one, the name, then attributes, events, links and a status with description in the order in
/// which they were set. [`set_name`](Page::set_name) moves the name to the end.
pub(crate) struct Scratch(Box<Page>);

/// Bytes of the attribute `exception.type` in addition to its value.
const TYPE_KEY_AND_HEADERS: usize = 32;

/// The content of a [`Scratch`]. Boxed, so that moving a span is cheap.
pub(crate) struct Page {
    len: usize,
    /// Fingerprints of all keys that were set.
    keys: Keys,
    attributes: u32,
    events: u32,
    links: u32,
    /// Whether the fields contain a status with description.
    described: bool,
    /// The fields, free room, and the spill.
    bytes: Box<[u8]>,
}

impl Scratch {
    /// Allocates room for `bytes` bytes of fields and touches it, so that no span causes a page
    /// fault.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Box::new(Page {
            len: 0,
            keys: Keys::NONE,
            attributes: 0,
            events: 0,
            links: 0,
            described: false,
            bytes: vec![1; bytes + SPILL].into_boxed_slice(),
        }))
    }

    /// Clears the memory and adds the trace state to propagate and the name.
    #[inline]
    pub(super) fn begin(&mut self, trace_state: &str, name: Name<'_>) {
        self.clear();
        if !trace_state.is_empty() {
            self.append_trace_state(trace_state);
        }
        self.append_name(name);
    }

    #[inline]
    fn clear(&mut self) {
        let page = &mut *self.0;
        page.len = 0;
        page.keys = Keys::NONE;
        page.attributes = 0;
        page.events = 0;
        page.links = 0;
        page.described = false;
    }
}

impl Deref for Scratch {
    type Target = Page;

    #[inline]
    fn deref(&self) -> &Page {
        &self.0
    }
}

impl DerefMut for Scratch {
    #[inline]
    fn deref_mut(&mut self) -> &mut Page {
        &mut self.0
    }
}

impl Page {
    /// Returns the encoded fields.
    #[inline]
    pub(super) fn written(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Returns the maximum bytes of fields.
    fn capacity(&self) -> usize {
        self.bytes.len() - SPILL
    }

    fn room(&self) -> usize {
        self.capacity() - self.len
    }

    /// Returns a cursor after the last field.
    #[inline(always)]
    fn out(&mut self) -> Cursor<'_> {
        Cursor::append_to(&mut self.bytes, self.len)
    }

    /// Adds the field that was written to [`out`](Self::out). Returns false if there was no room.
    #[inline(always)]
    fn add(&mut self, end: Option<usize>) -> bool {
        self.len = end.unwrap_or(self.len);
        end.is_some()
    }

    /// Adds a field. Returns false if there is no room.
    fn append(&mut self, write: impl for<'o> FnOnce(Cursor<'o>) -> Option<Cursor<'o>>) -> bool {
        let end = write(self.out()).and_then(Cursor::finish);
        self.add(end)
    }

    /// Replaces a field. Without room for the new one, the old one is removed and false returned.
    fn replace(
        &mut self,
        old: Range<usize>,
        write: impl for<'o> FnOnce(Cursor<'o>) -> Option<Cursor<'o>>,
    ) -> bool {
        replace(&mut self.bytes, &mut self.len, old, write)
    }

    fn remove(&mut self, field: Range<usize>) {
        remove(&mut self.bytes, &mut self.len, field);
    }

    /// Iterates over the fields as tag and range.
    fn fields(&self) -> impl Iterator<Item = (u8, Range<usize>)> {
        let written = self.written();
        let mut at = 0;
        std::iter::from_fn(move || {
            let tag = *written.get(at)?;
            let start = at;
            let (len, content) = varint(written, at + 1);
            at = content + len;
            Some((tag, start..at))
        })
    }

    /// Returns `Span.trace_state`, which is always the first field.
    #[inline]
    pub(super) fn trace_state(&self) -> &str {
        if self.written().first() == Some(&tag::TRACE_STATE) {
            self.read_trace_state()
        } else {
            ""
        }
    }

    #[cold]
    fn read_trace_state(&self) -> &str {
        let field = self.field(tag::TRACE_STATE).unwrap_or_default();
        std::str::from_utf8(self.content(field)).unwrap_or_default()
    }

    fn field(&self, wanted: u8) -> Option<Range<usize>> {
        self.fields()
            .find(|(tag, _)| *tag == wanted)
            .map(|(_, place)| place)
    }

    /// Returns the content of the field in this range.
    fn content(&self, field: Range<usize>) -> &[u8] {
        let (_, content) = varint(&self.bytes, field.start + 1);
        &self.bytes[content..field.end]
    }

    /// Sets an attribute. Returns false if it has no room, no key, or exceeds the limit.
    #[inline(always)]
    pub(super) fn attribute(&mut self, attribute: &KeyValueRef<'_>, limits: &SpanLimits) -> bool {
        if self.keys.may_contain(&attribute.key)
            && let Some(old) = self.find(attribute.key)
        {
            return self.replace_attribute(old, *attribute, limits);
        }
        if self.attributes >= limits.attribute_count || attribute.key.text().is_empty() {
            return false;
        }
        let end = encode_attribute(attribute, limits, self.out()).and_then(Cursor::finish);
        if end.is_some() {
            self.keys.insert(&attribute.key);
            self.attributes += 1;
        }
        self.add(end)
    }

    #[cold]
    fn find(&self, key: Key<'_>) -> Option<Range<usize>> {
        let mut attributes = self.fields().filter(|(tag, _)| *tag == tag::ATTRIBUTES);
        let found = attributes.find(|(_, place)| {
            let key_value = self.content(place.clone());
            key_of(key_value) == key.text().as_bytes()
        });
        found.map(|(_, place)| place)
    }

    /// Formats a text into the end of the free room and passes it to `then`, together with the
    /// fields. The room left between them suffices for the text and `with_it` more bytes.
    /// Returns false if not even a part of the text has room.
    fn format(
        &mut self,
        text: &dyn fmt::Display,
        with_it: usize,
        then: impl FnOnce(&mut FieldsBeforeText<'_>, &str) -> bool,
    ) -> bool {
        let end = self.bytes.len() - self.room().saturating_sub(with_it) / 2;
        let (bytes, buffer) = self.bytes.split_at_mut(end);
        let mut writer = TextWriter {
            buffer,
            len: 0,
            is_cut: false,
        };
        // An error means that the text was cut.
        let _ = fmt::write(&mut writer, format_args!("{text}"));
        if writer.is_cut && writer.len == 0 {
            return false;
        }
        let text = std::str::from_utf8(&writer.buffer[..writer.len]).unwrap_or_default();
        let mut fields = FieldsBeforeText {
            bytes,
            len: &mut self.len,
        };
        then(&mut fields, text)
    }

    /// Replaces an attribute, or removes it if the new value has no room.
    #[cold]
    fn replace_attribute(
        &mut self,
        old: Range<usize>,
        attribute: KeyValueRef<'_>,
        limits: &SpanLimits,
    ) -> bool {
        let replaced = self.replace(old, |out| encode_attribute(&attribute, limits, out));
        self.attributes -= u32::from(!replaced);
        replaced
    }

    /// Adds an attribute as [`attribute`](Self::attribute) does, with a value that is formatted in
    /// place.
    #[cold]
    pub(super) fn add_display(
        &mut self,
        key: Key<'_>,
        text: &dyn fmt::Display,
        limits: &SpanLimits,
    ) -> bool {
        let old = self.find(key);
        let has_place = old.is_some() || self.attributes < limits.attribute_count;
        if !has_place || key.text().is_empty() {
            return false;
        }
        let headers = 24;
        let is_new = old.is_none();
        let added = self.format(text, headers + key.text().len(), |fields, text| {
            let attribute = &KeyValueRef::new(key, text);
            let at = old.unwrap_or(*fields.len..*fields.len);
            fields.replace(at, |out| encode_attribute(attribute, limits, out))
        });
        if added {
            self.keys.insert(&key);
            self.attributes += u32::from(is_new);
        } else if !is_new {
            // The old value is outdated.
            if let Some(old) = self.find(key) {
                self.remove(old);
            }
            self.attributes -= 1;
        }
        added
    }

    #[inline(never)]
    pub(super) fn add_event(&mut self, event: &EventRef<'_>, limits: &SpanLimits) -> bool {
        let event = event.as_event();
        let added = self.events < limits.event_count
            && self.append(|out| encode::encode_event(&event, limits, out));
        self.events += u32::from(added);
        added
    }

    /// Adds an event `exception` with the error's message, cut to the free room, and its type, if
    /// that takes less than a quarter of the room.
    #[cold]
    pub(super) fn add_exception(
        &mut self,
        error: &dyn fmt::Display,
        type_name: &str,
        time: u64,
        limits: &SpanLimits,
    ) -> bool {
        if self.events == limits.event_count {
            return false;
        }
        let has_type = type_name.len() + TYPE_KEY_AND_HEADERS < self.room() / 4;
        let type_bytes = if has_type {
            type_name.len() + TYPE_KEY_AND_HEADERS
        } else {
            0
        };
        let time_and_names_and_headers = 64;
        let with_it = time_and_names_and_headers + type_bytes;
        let added = self.format(error, with_it, |fields, message| {
            let attributes = [
                KeyValueRef::new(crate::key!("exception.message"), message),
                KeyValueRef::new(crate::key!("exception.type"), type_name),
            ];
            let event = EventRef {
                attributes: &attributes[..1 + usize::from(has_type)],
                ..EventRef::new("exception", time)
            };
            fields.append(|out| encode::encode_event(&event.as_event(), limits, out))
        });
        self.events += u32::from(added);
        added
    }

    #[inline(never)]
    pub(super) fn add_link(&mut self, link: &LinkRef<'_>, limits: &SpanLimits) -> bool {
        let link = link.as_link();
        let added = self.links < limits.link_count
            && self.append(|out| encode::encode_link(&link, limits, out));
        self.links += u32::from(added);
        added
    }

    pub(super) fn set_name(&mut self, name: Name<'_>) {
        if let Some(old) = self.field(tag::NAME) {
            self.remove(old);
        }
        if !self.append(|out| encode::encode_name(name, out)) {
            let headers = 6;
            self.append_part_of_name(name.text(), self.room().saturating_sub(headers));
        }
    }

    #[inline(always)]
    fn append_name(&mut self, name: Name<'_>) {
        let end = encode::encode_name(name, self.out()).and_then(Cursor::finish);
        if !self.add(end) {
            // At most half, to leave room for attributes.
            self.append_part_of_name(name.text(), self.room() / 2);
        }
    }

    #[cold]
    fn append_part_of_name(&mut self, name: &str, bytes_max: usize) {
        let cut = Name::from(&name[..floor_char_boundary(name, bytes_max)]);
        self.append(|out| encode::encode_name(cut, out));
    }

    /// Adds the trace state. If it exceeds half of the memory, members are dropped from its end, as
    /// W3C Trace Context recommends.
    #[cold]
    fn append_trace_state(&mut self, trace_state: &str) {
        let state = leading_members(trace_state, self.capacity() / 2).as_bytes();
        self.append(|out| out.non_empty(tag::TRACE_STATE, state));
    }

    #[inline]
    pub(super) fn is_described(&self) -> bool {
        self.described
    }

    /// Adds a status if it has a description and there is room, and removes any earlier one.
    pub(super) fn describe(&mut self, status: StatusRef<'_>) {
        if self.described
            && let Some(old) = self.field(tag::STATUS)
        {
            self.remove(old);
        }
        self.described = matches!(status, StatusRef::Error(description) if !description.is_empty())
            && self.append(|out| encode::encode_status(status, out));
    }
}

/// Returns the leading members of a trace state that fit into `bytes_max`.
fn leading_members(trace_state: &str, bytes_max: usize) -> &str {
    if trace_state.len() <= bytes_max {
        return trace_state;
    }
    let end = trace_state.as_bytes()[..=bytes_max]
        .iter()
        .rposition(|byte| *byte == b',');
    &trace_state[..end.unwrap_or(0)]
}

/// Reads a varint. Returns its value and the position after it. The bytes are this crate's own,
/// so they are not validated.
fn varint(bytes: &[u8], mut at: usize) -> (usize, usize) {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[at];
        value |= usize::from(byte & 0x7f) << shift;
        at += 1;
        if byte < 0x80 {
            return (value, at);
        }
        shift += 7;
    }
}

/// Returns `KeyValue.key` of an encoded attribute.
fn key_of(key_value: &[u8]) -> &[u8] {
    match key_value {
        [tag::KEY, ..] => {
            let (len, start) = varint(key_value, 1);
            &key_value[start..start + len]
        }
        _ => &[],
    }
}

/// A page's fields without the end of its free room, which holds a formatted text.
struct FieldsBeforeText<'p> {
    bytes: &'p mut [u8],
    len: &'p mut usize,
}

impl FieldsBeforeText<'_> {
    fn append(&mut self, write: impl for<'o> FnOnce(Cursor<'o>) -> Option<Cursor<'o>>) -> bool {
        append(self.bytes, self.len, write)
    }

    fn replace(
        &mut self,
        old: Range<usize>,
        write: impl for<'o> FnOnce(Cursor<'o>) -> Option<Cursor<'o>>,
    ) -> bool {
        replace(self.bytes, self.len, old, write)
    }
}

/// Adds a field after the first `len` bytes. Returns false if there is no room.
fn append(
    bytes: &mut [u8],
    len: &mut usize,
    write: impl for<'o> FnOnce(Cursor<'o>) -> Option<Cursor<'o>>,
) -> bool {
    let end = write(Cursor::append_to(bytes, *len)).and_then(Cursor::finish);
    *len = end.unwrap_or(*len);
    end.is_some()
}

/// Replaces a field among the first `len` bytes. Without room for the new one, the old one is
/// removed and false returned.
fn replace(
    bytes: &mut [u8],
    len: &mut usize,
    old: Range<usize>,
    write: impl for<'o> FnOnce(Cursor<'o>) -> Option<Cursor<'o>>,
) -> bool {
    let place = old.start;
    remove(bytes, len, old);
    let len_without = *len;
    let added = append(bytes, len, write);
    bytes[place..*len].rotate_right(*len - len_without);
    added
}

fn remove(bytes: &mut [u8], len: &mut usize, field: Range<usize>) {
    bytes.copy_within(field.end..*len, field.start);
    *len -= field.len();
}

/// Writer of text that stops before the first character that does not fit into its buffer.
struct TextWriter<'b> {
    buffer: &'b mut [u8],
    len: usize,
    is_cut: bool,
}

impl fmt::Write for TextWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = if self.is_cut {
            0
        } else {
            self.buffer.len() - self.len
        };
        let fits = floor_char_boundary(text, room);
        self.buffer[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        self.is_cut |= fits < text.len();
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Returns the length of the longest prefix of `text` with at most `max` bytes that ends between
/// characters.
pub(super) fn floor_char_boundary(text: &str, max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    (0..=max)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

#[inline(always)]
fn encode_attribute<'o>(
    attribute: &KeyValueRef<'_>,
    limits: &SpanLimits,
    out: Cursor<'o>,
) -> Option<Cursor<'o>> {
    value::encode_attribute(tag::ATTRIBUTES, attribute, limits, out)
}
