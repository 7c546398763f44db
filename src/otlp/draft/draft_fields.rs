//! The encoded fields of an open span: to be appended to, searched and replaced.

use std::fmt;
use std::ops::Range;

use crate::otlp::output::{Cursor, SPILL};
use crate::otlp::{encode, tag, value};
use crate::span::attribute::{Key, KeyValueRef, Name};
use crate::span::limits::SpanLimits;

/// Length-delimited fields of `Span`, one after another, and free room behind them.
///
/// The trace state comes first, if there is one, then the name, then attributes, events, links and a
/// status with description in the order in which they were set. A name that was replaced stands
/// among those.
pub(super) struct DraftFields<'m> {
    room: &'m mut [u8],
    len: &'m mut u32,
}

impl<'m> DraftFields<'m> {
    #[inline(always)]
    pub(super) fn new(room: &'m mut [u8], len: &'m mut u32) -> Self {
        Self { room, len }
    }

    /// Returns the maximum of bytes of fields.
    #[inline]
    pub(super) fn capacity(&self) -> usize {
        self.room.len() - SPILL
    }

    #[inline]
    fn len(&self) -> usize {
        *self.len as usize
    }

    /// Returns the bytes of free room.
    pub(super) fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Adds a field. Returns false if there is no room.
    #[inline(always)]
    pub(super) fn append(
        &mut self,
        write: impl for<'o> FnOnce(Cursor<'o>) -> Option<Cursor<'o>>,
    ) -> bool {
        let end = write(Cursor::append_to(self.room, self.len())).and_then(Cursor::finish);
        *self.len = end.map_or(*self.len, |end| end as u32);
        end.is_some()
    }

    /// Replaces a field. Without room for the new one, the old one stays and false is returned.
    pub(super) fn replace(
        &mut self,
        old: Range<usize>,
        write: impl for<'o> FnOnce(Cursor<'o>) -> Option<Cursor<'o>>,
    ) -> bool {
        let before = self.len();
        if !self.append(write) {
            return false;
        }
        let new_len = self.len() - before;
        self.room[old.start..before + new_len].rotate_right(new_len);
        self.remove(old.start + new_len..old.end + new_len);
        true
    }

    pub(super) fn remove(&mut self, field: Range<usize>) {
        self.room.copy_within(field.end..self.len(), field.start);
        *self.len -= field.len() as u32;
    }

    #[inline(always)]
    pub(super) fn append_name(&mut self, name: Name<'_>) -> bool {
        self.append(
            #[inline(always)]
            |out| encode::encode_name(name, out),
        )
    }

    #[inline(always)]
    pub(super) fn append_attribute(
        &mut self,
        attribute: &KeyValueRef<'_>,
        limits: &SpanLimits,
    ) -> bool {
        self.append(
            #[inline(always)]
            |out| value::encode_attribute(tag::ATTRIBUTES, attribute, limits, out),
        )
    }

    /// Returns the first field with this tag.
    pub(super) fn find(&self, wanted: u8) -> Option<Range<usize>> {
        let mut fields = fields(&self.room[..self.len()]);
        fields
            .find(|(tag, _)| *tag == wanted)
            .map(|(_, field)| field)
    }

    #[cold]
    pub(super) fn find_attribute(&self, key: Key<'_>) -> Option<Range<usize>> {
        let written = &self.room[..self.len()];
        let mut attributes = fields(written).filter(|(tag, _)| *tag == tag::ATTRIBUTES);
        let found = attributes.find(|(_, field)| {
            let key_value = content(written, field.clone());
            key_of(key_value) == key.text().as_bytes()
        });
        found.map(|(_, field)| field)
    }

    pub(super) fn replace_attribute(
        &mut self,
        old: Range<usize>,
        attribute: &KeyValueRef<'_>,
        limits: &SpanLimits,
    ) -> bool {
        self.replace(old, |out| {
            value::encode_attribute(tag::ATTRIBUTES, attribute, limits, out)
        })
    }

    /// Adds a field before all others. Returns false if there is no room.
    pub(super) fn insert_first(
        &mut self,
        write: impl for<'o> FnOnce(Cursor<'o>) -> Option<Cursor<'o>>,
    ) -> bool {
        self.replace(0..0, write)
    }

    /// Formats a text into the end of the free room. The room left before it suffices for the text
    /// and `with_it` more bytes.
    pub(super) fn format(&mut self, text: &dyn fmt::Display, with_it: usize) -> Formatted {
        let start = self.room.len() - self.free().saturating_sub(with_it) / 2;
        let mut writer = TextWriter {
            buffer: &mut self.room[start..],
            len: 0,
            is_cut: false,
        };
        // An error means that the text was cut.
        let _ = fmt::write(&mut writer, format_args!("{text}"));
        Formatted {
            start,
            len: writer.len,
            is_cut: writer.is_cut,
        }
    }

    /// Passes a text that was just formatted to `then`, together with the fields before it.
    pub(super) fn with_text(
        &mut self,
        formatted: &Formatted,
        then: impl FnOnce(&mut DraftFields<'_>, &str) -> bool,
    ) -> bool {
        let (room, text) = self.room.split_at_mut(formatted.start);
        let text = std::str::from_utf8(&text[..formatted.len]).unwrap_or_default();
        let mut fields = DraftFields {
            room,
            len: self.len,
        };
        then(&mut fields, text)
    }
}

/// Place of a formatted text at the end of the free room.
pub(super) struct Formatted {
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) is_cut: bool,
}

/// Iterates over encoded fields as tag and range.
fn fields(written: &[u8]) -> impl Iterator<Item = (u8, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let tag = *written.get(at)?;
        let start = at;
        let (len, content) = varint(written, at + 1);
        at = content + len;
        Some((tag, start..at))
    })
}

/// Returns the content of the field in this range.
fn content(written: &[u8], field: Range<usize>) -> &[u8] {
    let (_, content) = varint(written, field.start + 1);
    &written[content..field.end]
}

/// Returns `Span.trace_state`, which is always the first field.
#[inline]
pub(super) fn trace_state(written: &[u8]) -> &str {
    if written.first() != Some(&tag::TRACE_STATE) {
        return "";
    }
    read_trace_state(written)
}

#[cold]
fn read_trace_state(written: &[u8]) -> &str {
    let field = fields(written).next().map(|(_, field)| field);
    let content = content(written, field.unwrap_or_default());
    std::str::from_utf8(content).unwrap_or_default()
}

/// Returns `Span.name`.
pub(super) fn name(written: &[u8]) -> &str {
    let name = fields(written).find(|(tag, _)| *tag == tag::NAME);
    let content = name.map_or(&[][..], |(_, field)| content(written, field));
    std::str::from_utf8(content).unwrap_or_default()
}

/// Returns the leading members of a trace state that fit into `bytes_max`.
pub(super) fn leading_members(trace_state: &str, bytes_max: usize) -> &str {
    if trace_state.len() <= bytes_max {
        return trace_state;
    }
    let end = trace_state.as_bytes()[..=bytes_max]
        .iter()
        .rposition(|byte| *byte == b',');
    &trace_state[..end.unwrap_or(0)]
}

/// Reads a varint. Returns its value and the position behind it. The bytes are this crate's own,
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
pub(in crate::otlp) fn floor_char_boundary(text: &str, max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    (0..=max)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}
