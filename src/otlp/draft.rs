//! A span that has not ended: what it says is encoded as it is said, so that its end is a copy.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};

use crate::attribute::{Key, KeyValueRef, Name};
use crate::context::{SpanContext, TraceFlags, TraceState};
use crate::id::TraceId;
use crate::limits::SpanLimits;
use crate::otlp::encode::{self, Dropped, SpanLen};
use crate::otlp::value;
use crate::otlp::wire::{Cursor, delimited_len, non_empty_len, tag};
use crate::span::{AsEvent, AsLink, EventRef, LinkRef, SpanKind, StatusRef};

/// What an open span writes to: of a fixed size, and never another's.
///
/// It holds fields of `Span` that are length-delimited, one after the other: the trace state if
/// there is one, the name, then attributes, events, links and a described status as they came.
pub(crate) struct Scratch(Box<Page>);

/// Behind one pointer, so that a span is small enough to be moved about.
pub(crate) struct Page {
    len: usize,
    /// The fingerprints of all keys that were used.
    keys: u64,
    attributes: u32,
    events: u32,
    links: u32,
    /// The status is among the fields, with its description.
    described: bool,
    bytes: Box<[u8]>,
}

impl Scratch {
    /// Touched, so that no span meets a page fault.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Box::new(Page {
            len: 0,
            keys: 0,
            attributes: 0,
            events: 0,
            links: 0,
            described: false,
            bytes: vec![1; bytes].into_boxed_slice(),
        }))
    }

    #[inline]
    fn clear(&mut self) {
        let page = &mut *self.0;
        page.len = 0;
        page.keys = 0;
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
    fn written(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn room(&self) -> usize {
        self.bytes.len() - self.len
    }

    /// Adds a field of `len` bytes, if there is room.
    #[inline(always)]
    fn append(&mut self, len: usize, write: impl FnOnce(&mut Cursor<'_>)) -> bool {
        let Some(room) = self.bytes.get_mut(self.len..self.len + len) else {
            return false;
        };
        let mut cursor = Cursor::new(room);
        write(&mut cursor);
        debug_assert_eq!(cursor.written(), len);
        self.len += len;
        true
    }

    /// Puts a field of `len` bytes where another is, or nothing if there is no room for it.
    fn replace(
        &mut self,
        old: Range<usize>,
        len: usize,
        write: impl FnOnce(&mut Cursor<'_>),
    ) -> bool {
        let fits = self.len - old.len() + len <= self.bytes.len();
        let len = if fits { len } else { 0 };
        let new = old.start..old.start + len;
        self.bytes.copy_within(old.end..self.len, new.end);
        self.len = self.len - old.len() + len;
        if fits {
            write(&mut Cursor::new(&mut self.bytes[new]));
        }
        fits
    }

    /// The fields, as tag and place.
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

    /// `Span.trace_state`, which stands first.
    #[cold]
    fn trace_state(&self) -> &str {
        let field = self.field(tag::TRACE_STATE).unwrap_or_default();
        std::str::from_utf8(self.content(field)).unwrap_or_default()
    }

    fn field(&self, wanted: u8) -> Option<Range<usize>> {
        self.fields()
            .find(|(tag, _)| *tag == wanted)
            .map(|(_, place)| place)
    }

    /// What the field at this place holds.
    fn content(&self, field: Range<usize>) -> &[u8] {
        let (_, content) = varint(&self.bytes, field.start + 1);
        &self.bytes[content..field.end]
    }

    #[cold]
    fn has_attribute(&self, key: Key<'_>) -> bool {
        self.attribute(key).is_some()
    }

    fn attribute(&self, key: Key<'_>) -> Option<Range<usize>> {
        let mut attributes = self.fields().filter(|(tag, _)| *tag == tag::ATTRIBUTES);
        let found = attributes.find(|(_, place)| {
            let key_value = self.content(place.clone());
            key_of(key_value) == key.text().as_bytes()
        });
        found.map(|(_, place)| place)
    }

    /// Formats a text where it is in nobody's way; gives it with the room that is left, which is
    /// enough for the text and what goes with it.
    fn format(&mut self, text: &dyn fmt::Display, with_it: usize) -> (&mut [u8], &str) {
        let free = &mut self.bytes[self.len..];
        let buffer = free.len().saturating_sub(with_it) / 2;
        let (room, buffer) = free.split_at_mut(free.len() - buffer);
        let mut writer = TextWriter { buffer, len: 0 };
        // Fails when the buffer is full: then the text is cut.
        let _ = fmt::write(&mut writer, format_args!("{text}"));
        let TextWriter { buffer, len } = writer;
        (
            room,
            std::str::from_utf8(&buffer[..len]).unwrap_or_default(),
        )
    }

    /// Replaces the attribute with this key; without room for the new value it goes.
    #[cold]
    fn replace_attribute(&mut self, attribute: &KeyValueRef<'_>, limits: &SpanLimits) -> bool {
        let len = value::attribute_len(attribute, limits);
        let Some(old) = self.attribute(attribute.key) else {
            return false;
        };
        let replaced = self.replace(old, len, |out| encode_attribute(attribute, limits, out));
        self.attributes -= u32::from(!replaced);
        replaced
    }

    fn add_display(&mut self, key: Key<'_>, text: &dyn fmt::Display, limits: &SpanLimits) -> bool {
        if let Some(old) = self.attribute(key) {
            self.replace(old, 0, |_| {});
            self.attributes -= 1;
        }
        if self.attributes == limits.attribute_count {
            return false;
        }
        let headers = 16;
        let (room, text) = self.format(text, headers + key.text().len());
        let attribute = &KeyValueRef::new(key, text);
        let len = value::attribute_len(attribute, limits);
        let Some(room) = room.get_mut(..len) else {
            return false;
        };
        encode_attribute(attribute, limits, &mut Cursor::new(room));
        self.len += len;
        self.keys |= key.fingerprint();
        self.attributes += 1;
        true
    }

    #[inline(never)]
    fn add_event(&mut self, event: &EventRef<'_>, limits: &SpanLimits) -> bool {
        let event = event.as_event();
        let len = encode::event_len(&event, limits);
        let added = self.events < limits.event_count
            && self.append(len, |out| encode::encode_event(&event, limits, out));
        self.events += u32::from(added);
        added
    }

    fn add_exception(&mut self, error: &dyn fmt::Display, time: u64, limits: &SpanLimits) -> bool {
        if self.events == limits.event_count {
            return false;
        }
        let time_and_names_and_headers = 64;
        let (room, message) = self.format(error, time_and_names_and_headers);
        let attributes = [KeyValueRef::new(crate::key!("exception.message"), message)];
        let event = EventRef {
            attributes: &attributes,
            ..EventRef::new("exception", time)
        };
        let event = event.as_event();
        let len = encode::event_len(&event, limits);
        let Some(room) = room.get_mut(..len) else {
            return false;
        };
        encode::encode_event(&event, limits, &mut Cursor::new(room));
        self.len += len;
        self.events += 1;
        true
    }

    #[inline(never)]
    fn add_link(&mut self, link: &LinkRef<'_>, limits: &SpanLimits) -> bool {
        let link = link.as_link();
        let len = encode::link_len(&link, limits);
        let added = self.links < limits.link_count
            && self.append(len, |out| encode::encode_link(&link, limits, out));
        self.links += u32::from(added);
        added
    }

    /// Holds a status with a description, if there is room, and no other any more.
    fn describe(&mut self, status: StatusRef<'_>) {
        if self.described
            && let Some(old) = self.field(tag::STATUS)
        {
            self.replace(old, 0, |_| {});
        }
        self.described = matches!(status, StatusRef::Error(description) if !description.is_empty())
            && self.append(encode::status_len(status), |out| {
                encode::encode_status(status, out);
            });
    }
}

/// A varint that was written here, and where it ends.
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

/// `KeyValue.key` of an encoded attribute.
fn key_of(key_value: &[u8]) -> &[u8] {
    match key_value {
        [tag::KEY, ..] => {
            let (len, start) = varint(key_value, 1);
            &key_value[start..start + len]
        }
        _ => &[],
    }
}

/// Writes text into a fixed room, as many whole characters as fit.
struct TextWriter<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl fmt::Write for TextWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = floor_char_boundary(text, self.buffer.len() - self.len);
        self.buffer[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

/// The longest beginning of `text` in whole characters that has at most `max` bytes.
fn floor_char_boundary(text: &str, max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    (0..=max)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

/// The name of a span that got no scratch memory.
#[derive(Clone, Copy)]
struct ShortName {
    len: u8,
    bytes: [u8; SHORT_NAME_MAX],
}

const SHORT_NAME_MAX: usize = 31;

impl ShortName {
    const EMPTY: Self = Self {
        len: 0,
        bytes: [0; SHORT_NAME_MAX],
    };

    fn new(name: &str) -> Self {
        let len = floor_char_boundary(name, SHORT_NAME_MAX);
        let mut bytes = [0; SHORT_NAME_MAX];
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        Self {
            len: len as u8,
            bytes,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// How far the status of a span has come: it only ever goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StatusCode {
    Unset,
    Error,
    Ok,
}

/// Where an open span is in its trace. Numbers, since these stay in registers while the span is
/// started; ids are their big-endian bytes.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: u64,
    /// 0 for a root.
    pub(crate) parent_span_id: u64,
    pub(crate) parent_is_remote: bool,
    pub(crate) trace_flags: TraceFlags,
}

/// An open span's fields.
pub(crate) struct Draft {
    pub(crate) place: Place,
    pub(crate) kind: SpanKind,
    pub(crate) start_time: u64,
    pub(crate) said: Said,
}

/// What has been said about an open span.
pub(crate) struct Said {
    status: StatusCode,
    dropped: Dropped,
    scratch: Option<Scratch>,
    /// Only without scratch memory.
    short_name: ShortName,
}

impl Said {
    /// Nothing, and without memory.
    pub(crate) const NOTHING: Self = Self {
        status: StatusCode::Unset,
        dropped: Dropped {
            attributes: 0,
            events: 0,
            links: 0,
        },
        scratch: None,
        short_name: ShortName::EMPTY,
    };

    /// The name, and a trace state for those who are told of it.
    #[inline(always)]
    pub(crate) fn begin(scratch: Option<Scratch>, trace_state: &str, name: Name<'_>) -> Self {
        let Some(mut scratch) = scratch else {
            return Self {
                short_name: ShortName::new(name.text()),
                ..Self::NOTHING
            };
        };
        scratch.clear();
        if !trace_state.is_empty() {
            append_trace_state(&mut scratch, trace_state);
        }
        append_name(&mut scratch, name);
        Self {
            scratch: Some(scratch),
            ..Self::NOTHING
        }
    }

    #[inline]
    pub(crate) fn has_scratch(&self) -> bool {
        self.scratch.is_some()
    }

    /// What it wrote to, to be used again.
    #[inline]
    pub(crate) fn take_scratch(&mut self) -> Option<Scratch> {
        self.scratch.take()
    }

    #[inline]
    pub(crate) fn trace_state(&self) -> &str {
        match &self.scratch {
            Some(page) if page.written().first() == Some(&tag::TRACE_STATE) => page.trace_state(),
            _ => "",
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.status == StatusCode::Error
    }

    #[cold]
    pub(crate) fn set_name(&mut self, name: Name<'_>) {
        let Some(scratch) = &mut self.scratch else {
            self.short_name = ShortName::new(name.text());
            return;
        };
        if let Some(old) = scratch.field(tag::NAME) {
            scratch.replace(old, 0, |_| {});
        }
        append_name(scratch, name);
    }

    /// Sets an attribute; the last one with a key wins.
    #[inline(always)]
    pub(crate) fn attribute(&mut self, attribute: &KeyValueRef<'_>, limits: &SpanLimits) {
        let Some(scratch) = self.scratch.as_deref_mut() else {
            self.dropped.attributes += 1;
            return;
        };
        let bit = attribute.key.fingerprint();
        if scratch.keys & bit != 0 && scratch.has_attribute(attribute.key) {
            self.dropped.attributes += u32::from(!scratch.replace_attribute(attribute, limits));
            return;
        }
        let len = value::attribute_len(attribute, limits);
        if scratch.attributes < limits.attribute_count
            && scratch.append(len, |out| encode_attribute(attribute, limits, out))
        {
            scratch.keys |= bit;
            scratch.attributes += 1;
        } else {
            self.dropped.attributes += 1;
        }
    }

    /// As [`attribute`](Self::attribute), with a value that is formatted in place.
    #[cold]
    pub(crate) fn attribute_display(
        &mut self,
        key: Key<'_>,
        text: &dyn fmt::Display,
        limits: &SpanLimits,
    ) {
        let scratch = self.scratch.as_deref_mut();
        let added = scratch.is_some_and(|page| page.add_display(key, text, limits));
        self.dropped.attributes += u32::from(!added);
    }

    #[inline(always)]
    pub(crate) fn event(&mut self, event: &EventRef<'_>, limits: &SpanLimits) {
        let scratch = self.scratch.as_deref_mut();
        let added = scratch.is_some_and(|page| page.add_event(event, limits));
        self.dropped.events += u32::from(!added);
    }

    /// An event `exception` with the error's message, as much of it as has room.
    #[cold]
    pub(crate) fn exception(&mut self, error: &dyn fmt::Display, time: u64, limits: &SpanLimits) {
        let scratch = self.scratch.as_deref_mut();
        let added = scratch.is_some_and(|page| page.add_exception(error, time, limits));
        self.dropped.events += u32::from(!added);
    }

    #[inline(always)]
    pub(crate) fn link(&mut self, link: &LinkRef<'_>, limits: &SpanLimits) {
        let scratch = self.scratch.as_deref_mut();
        let added = scratch.is_some_and(|page| page.add_link(link, limits));
        self.dropped.links += u32::from(!added);
    }

    /// Ok beats Error beats Unset; of several errors the last counts.
    pub(crate) fn set_status(&mut self, status: StatusRef<'_>) {
        let code = match status {
            StatusRef::Unset => StatusCode::Unset,
            StatusRef::Error(_) => StatusCode::Error,
            StatusRef::Ok => StatusCode::Ok,
        };
        if code == StatusCode::Unset || code < self.status || self.status == StatusCode::Ok {
            return;
        }
        self.status = code;
        if let Some(scratch) = &mut self.scratch {
            scratch.describe(status);
        }
    }

    // ---- How it is sent ----

    #[inline]
    fn len(&self) -> usize {
        let fields = match &self.scratch {
            Some(scratch) => scratch.len,
            None => non_empty_len(self.short_name.as_bytes()),
        };
        fields + encode::dropped_len(self.dropped) + encode::status_len(self.bare_status())
    }

    #[inline]
    fn encode(&self, out: &mut Cursor<'_>) {
        match &self.scratch {
            Some(scratch) => out.bytes(scratch.written()),
            None => out.non_empty(tag::NAME, self.short_name.as_bytes()),
        }
        out.count(tag::DROPPED_ATTRIBUTES, self.dropped.attributes);
        out.count(tag::DROPPED_EVENTS, self.dropped.events);
        out.count(tag::DROPPED_LINKS, self.dropped.links);
        encode::encode_status(self.bare_status(), out);
    }

    /// The status, unless it is in the scratch memory.
    #[inline]
    fn bare_status(&self) -> StatusRef<'static> {
        match self.status {
            StatusCode::Ok => StatusRef::Ok,
            StatusCode::Error if !self.is_described() => StatusRef::Error(""),
            StatusCode::Error | StatusCode::Unset => StatusRef::Unset,
        }
    }

    #[inline]
    fn is_described(&self) -> bool {
        (self.scratch.as_ref()).is_some_and(|scratch| scratch.described)
    }
}

impl Draft {
    /// The span, leaving behind one of which only its place in the trace is known.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            said: std::mem::replace(&mut self.said, Said::NOTHING),
            ..*self
        }
    }

    #[inline]
    pub(crate) fn context(&self) -> SpanContext<'_> {
        SpanContext {
            trace_id: self.place.trace_id.to_bytes(),
            span_id: self.place.span_id.to_be_bytes(),
            trace_flags: self.place.trace_flags,
            is_remote: false,
            trace_state: TraceState::checked(self.said.trace_state()),
        }
    }

    #[inline]
    pub(crate) fn measure(&self, end_time: u64) -> SpanLen {
        let has_parent = self.place.parent_span_id != 0;
        SpanLen::of_body(
            encode::fixed_len(has_parent, self.start_time, end_time)
                + self.said.len()
                + encode::flags_len(self.flags()),
        )
    }

    /// Writes the span into `out`, which is exactly `len.element` bytes long.
    #[inline]
    pub(crate) fn encode(&self, len: SpanLen, end_time: u64, out: &mut [u8]) {
        let mut out = Cursor::new(out);
        out.header(tag::SPANS, len.body);
        out.trace_id(tag::TRACE_ID, self.place.trace_id);
        out.span_id(tag::SPAN_ID, self.place.span_id);
        if self.place.parent_span_id != 0 {
            out.span_id(tag::PARENT_SPAN_ID, self.place.parent_span_id);
        }
        encode::encode_kind_and_times(self.kind, self.start_time, end_time, &mut out);
        self.said.encode(&mut out);
        encode::encode_flags(self.flags(), &mut out);
        debug_assert_eq!(out.written(), len.element);
    }

    #[inline]
    fn flags(&self) -> u32 {
        encode::span_flags(self.place.trace_flags, Some(self.place.parent_is_remote))
    }
}

#[inline(always)]
fn encode_attribute(attribute: &KeyValueRef<'_>, limits: &SpanLimits, out: &mut Cursor<'_>) {
    value::encode_attribute(tag::ATTRIBUTES, attribute, limits, out);
}

/// One that takes more than half is not worth what it would leave.
#[cold]
fn append_trace_state(page: &mut Page, trace_state: &str) {
    let state = trace_state.as_bytes();
    if state.len() < page.bytes.len() / 2 {
        page.append(delimited_len(state.len()), |out| {
            out.delimited(tag::TRACE_STATE, state);
        });
    }
}

#[inline]
fn append_name(page: &mut Page, name: Name<'_>) {
    let len = name
        .wire()
        .map_or_else(|| non_empty_len(name.text().as_bytes()), <[u8]>::len);
    if !page.append(len, |out| encode::encode_name(name, out)) {
        append_long_name(page, name.text());
    }
}

/// As much of the name as leaves room for other things.
#[cold]
fn append_long_name(page: &mut Page, name: &str) {
    let cut = &name[..floor_char_boundary(name, page.room() / 2)];
    let cut = Name::from(cut);
    page.append(non_empty_len(cut.text().as_bytes()), |out| {
        encode::encode_name(cut, out)
    });
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::attribute::{AnyValueRef, AsKeyValue, KeyValue};
    use crate::key;
    use crate::otlp::oracle::{
        any_event, any_key, any_kind, any_limits, any_link, any_status, any_text, any_trace_state,
        any_value, event_message, key_value, link_message, status,
    };
    use crate::otlp::proto;
    use crate::span::{Event, Link, Status};

    /// One thing that is said of an open span.
    #[derive(Clone, Debug)]
    enum Saying {
        Attribute(KeyValue),
        Display(KeyValue),
        Event(Event),
        Link(Link),
        Status(Status),
        Name(Cow<'static, str>),
    }

    fn any_saying() -> impl Strategy<Value = Saying> {
        prop_oneof![
            6 => (any_key(), any_value())
                .prop_map(|(key, value)| Saying::Attribute(KeyValue { key, value })),
            1 => (any_key(), any_text())
                .prop_map(|(key, text)| Saying::Display(KeyValue::new(key, text))),
            2 => any_event().prop_map(Saying::Event),
            2 => any_link().prop_map(Saying::Link),
            1 => any_status().prop_map(Saying::Status),
            1 => any_text().prop_map(Saying::Name),
        ]
    }

    fn say(draft: &mut Draft, saying: &Saying, limits: &SpanLimits) {
        fn references(attributes: &[KeyValue]) -> Vec<KeyValueRef<'_>> {
            attributes.iter().map(AsKeyValue::as_key_value).collect()
        }
        match saying {
            Saying::Attribute(attribute) => draft.said.attribute(&attribute.as_key_value(), limits),
            Saying::Display(attribute) => {
                let AnyValueRef::String(text) = attribute.as_key_value().value else {
                    panic!("a text expected");
                };
                draft
                    .said
                    .attribute_display(Key::from(&*attribute.key), &text, limits);
            }
            Saying::Event(event) => draft.said.event(
                &EventRef {
                    attributes: &references(&event.attributes),
                    dropped_attributes_count: event.dropped_attributes_count,
                    ..EventRef::new(&event.name, event.time)
                },
                limits,
            ),
            Saying::Link(link) => draft.said.link(
                &LinkRef {
                    attributes: &references(&link.attributes),
                    dropped_attributes_count: link.dropped_attributes_count,
                    ..LinkRef::new(&link.context)
                },
                limits,
            ),
            Saying::Status(status) => draft.said.set_status(status.as_ref()),
            Saying::Name(name) => draft.said.set_name(Name::from(&**name)),
        }
    }

    /// The naive way: change prost's message as it is said.
    fn say_to_message(span: &mut proto::Span, saying: &Saying, limits: &SpanLimits) {
        match saying {
            Saying::Attribute(attribute) | Saying::Display(attribute) => {
                let message = key_value(attribute, limits, 64);
                let known = span
                    .attributes
                    .iter()
                    .position(|known| known.key == message.key);
                match (known, saying) {
                    (Some(at), Saying::Attribute(_)) => span.attributes[at] = message,
                    (Some(at), _) => {
                        span.attributes.remove(at);
                        span.attributes.push(message);
                    }
                    (None, _) if span.attributes.len() < limits.attribute_count as usize => {
                        span.attributes.push(message);
                    }
                    _ => span.dropped_attributes_count += 1,
                }
            }
            Saying::Event(_) if span.events.len() == limits.event_count as usize => {
                span.dropped_events_count += 1;
            }
            Saying::Event(event) => span.events.push(event_message(event, limits)),
            Saying::Link(_) if span.links.len() == limits.link_count as usize => {
                span.dropped_links_count += 1;
            }
            Saying::Link(link) => span.links.push(link_message(link, limits)),
            Saying::Status(new) => {
                let code = |status: &Option<proto::Status>| status.as_ref().map_or(0, |s| s.code);
                let new = status(new);
                // Error is 2 and Ok is 1, but Ok is final.
                if new.is_some() && code(&span.status) != 1 {
                    span.status = new;
                }
            }
            Saying::Name(name) => span.name = name.to_string(),
        }
    }

    fn draft(scratch_bytes: usize, trace_state: &str, name: &str) -> Draft {
        let scratch = Some(Scratch::new(scratch_bytes));
        with(Said::begin(scratch, trace_state, Name::from(name)))
    }

    fn with(said: Said) -> Draft {
        Draft {
            place: Place {
                trace_id: TraceId::from_bytes([1; 16]),
                span_id: u64::from_be_bytes([2; 8]),
                parent_span_id: 0,
                parent_is_remote: false,
                trace_flags: TraceFlags::SAMPLED,
            },
            kind: SpanKind::Internal,
            start_time: 3,
            said,
        }
    }

    fn decode(draft: &Draft) -> proto::Span {
        let len = draft.measure(9);
        let mut out = vec![0; len.element];
        draft.encode(len, 9, &mut out);
        let spans = proto::ScopeSpans::decode(&*out).unwrap().spans;
        let [span] = <[_; 1]>::try_from(spans).unwrap();
        span
    }

    proptest! {
        #[test]
        fn what_was_said_is_what_is_sent(
            trace_state in any_trace_state(),
            name in any_text(),
            kind in any_kind(),
            limits in any_limits(),
            sayings in prop::collection::vec(any_saying(), 0..30),
        ) {
            let mut draft = draft(1 << 21, trace_state, &name);
            draft.kind = kind;
            let mut expected = proto::Span {
                trace_id: vec![1; 16],
                span_id: vec![2; 8],
                trace_state: trace_state.to_string(),
                name: name.to_string(),
                kind: kind as i32,
                start_time_unix_nano: 3,
                end_time_unix_nano: 9,
                flags: 0x101,
                ..Default::default()
            };
            for saying in &sayings {
                say(&mut draft, saying, &limits);
                say_to_message(&mut expected, saying, &limits);
            }
            prop_assert_eq!(draft.said.trace_state(), trace_state);
            prop_assert_eq!(decode(&draft), expected);
        }

        #[test]
        fn what_has_no_room_is_counted(
            scratch_bytes in 64..600_usize,
            sayings in prop::collection::vec(any_saying(), 0..40),
        ) {
            let limits = SpanLimits::default();
            let mut draft = draft(scratch_bytes, "", "name");
            let mut status_code = 0;
            for saying in &sayings {
                say(&mut draft, saying, &limits);
                match saying {
                    Saying::Status(Status::Ok) => status_code = 1,
                    Saying::Status(Status::Error(_)) if status_code != 1 => status_code = 2,
                    _ => {}
                }
            }
            let span = decode(&draft);
            prop_assert_eq!(span.trace_id, vec![1; 16]);
            prop_assert_eq!(span.status.map_or(0, |status| status.code), status_code);
            let said = |wanted: fn(&Saying) -> bool| {
                sayings.iter().filter(|saying| wanted(saying)).count() as u32
            };
            let events = said(|saying| matches!(saying, Saying::Event(_)));
            prop_assert_eq!(span.events.len() as u32 + span.dropped_events_count, events);
            let links = said(|saying| matches!(saying, Saying::Link(_)));
            prop_assert_eq!(span.links.len() as u32 + span.dropped_links_count, links);
            let mut keys: Vec<_> = span.attributes.iter().map(|attribute| &attribute.key).collect();
            keys.sort();
            keys.dedup();
            prop_assert_eq!(keys.len(), span.attributes.len());
        }
    }

    #[test]
    fn without_memory_a_span_says_the_least() {
        let mut draft = with(Said::begin(None, "a=b", Name::from(&"é".repeat(40))));
        let limits = SpanLimits::default();
        draft.said.attribute(&KeyValueRef::new("key", 1), &limits);
        draft.said.attribute_display(key!("key"), &"text", &limits);
        draft.said.event(&EventRef::new("event", 1), &limits);
        draft
            .said
            .link(&LinkRef::new(&SpanContext::new([1; 16], [1; 8])), &limits);
        draft.said.set_status(StatusRef::Error("description"));
        let span = decode(&draft);
        assert_eq!(span.name, "é".repeat(15));
        assert_eq!(span.status.unwrap().code, 2);
        let dropped = (
            span.dropped_attributes_count,
            span.dropped_events_count,
            span.dropped_links_count,
        );
        assert_eq!((dropped, draft.said.trace_state()), ((2, 1, 1), ""));
    }

    #[test]
    fn an_attribute_that_outgrows_its_room_goes_and_the_others_stay() {
        let mut draft = draft(64, "", "name");
        let limits = SpanLimits::default();
        let large = "x".repeat(50);
        draft.said.attribute(&KeyValueRef::new("a", 1), &limits);
        draft.said.attribute(&KeyValueRef::new("b", 2), &limits);
        draft
            .said
            .attribute(&KeyValueRef::new("a", &large), &limits);
        let span = decode(&draft);
        assert_eq!((&*span.attributes[0].key, span.attributes.len()), ("b", 1));
        assert_eq!(span.dropped_attributes_count, 1);
        draft.said.attribute(&KeyValueRef::new("a", 3), &limits);
        assert_eq!(decode(&draft).attributes.len(), 2);
    }

    #[test]
    fn long_names_and_messages_are_cut_between_characters() {
        let mut draft = draft(64, "", &"ü".repeat(200));
        assert_eq!(decode(&draft).name, "ü".repeat(16));
        draft
            .said
            .exception(&"ß".repeat(500), 7, &SpanLimits::default());
        let span = decode(&draft);
        assert_eq!((span.events.len(), span.dropped_events_count), (0, 1));
        let mut draft = self::draft(400, "", "name");
        draft
            .said
            .exception(&"ß".repeat(500), 7, &SpanLimits::default());
        let span = decode(&draft);
        assert_eq!(
            (&*span.events[0].name, span.dropped_events_count),
            ("exception", 0)
        );
    }
}
