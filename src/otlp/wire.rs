//! Protobuf's primitives: tags, lengths, and writing into a slice that was measured before.

use prost::encoding::encoded_len_varint;

use crate::id::TraceId;

/// Field numbers and wire types of the messages written here, as single-byte tags.
pub(super) mod tag {
    const fn len(field: u8) -> u8 {
        field << 3 | 2
    }

    const fn varint(field: u8) -> u8 {
        field << 3
    }

    const fn fixed64(field: u8) -> u8 {
        field << 3 | 1
    }

    const fn fixed32(field: u8) -> u8 {
        field << 3 | 5
    }

    /// `ScopeSpans.spans`
    pub(crate) const SPANS: u8 = len(2);

    pub(crate) const TRACE_ID: u8 = len(1);
    pub(crate) const SPAN_ID: u8 = len(2);
    pub(crate) const TRACE_STATE: u8 = len(3);
    pub(crate) const PARENT_SPAN_ID: u8 = len(4);
    pub(crate) const NAME: u8 = len(5);
    pub(crate) const KIND: u8 = varint(6);
    pub(crate) const START_TIME: u8 = fixed64(7);
    pub(crate) const END_TIME: u8 = fixed64(8);
    pub(crate) const ATTRIBUTES: u8 = len(9);
    pub(crate) const DROPPED_ATTRIBUTES: u8 = varint(10);
    pub(crate) const EVENTS: u8 = len(11);
    pub(crate) const DROPPED_EVENTS: u8 = varint(12);
    pub(crate) const LINKS: u8 = len(13);
    pub(crate) const DROPPED_LINKS: u8 = varint(14);
    pub(crate) const STATUS: u8 = len(15);
    /// `fixed32(16)`: takes two bytes.
    pub(crate) const FLAGS: [u8; 2] = [0x85, 1];

    pub(crate) const EVENT_TIME: u8 = fixed64(1);
    pub(crate) const EVENT_NAME: u8 = len(2);
    pub(crate) const EVENT_ATTRIBUTES: u8 = len(3);
    pub(crate) const EVENT_DROPPED_ATTRIBUTES: u8 = varint(4);

    pub(crate) const LINK_TRACE_ID: u8 = len(1);
    pub(crate) const LINK_SPAN_ID: u8 = len(2);
    pub(crate) const LINK_TRACE_STATE: u8 = len(3);
    pub(crate) const LINK_ATTRIBUTES: u8 = len(4);
    pub(crate) const LINK_DROPPED_ATTRIBUTES: u8 = varint(5);
    pub(crate) const LINK_FLAGS: u8 = fixed32(6);

    pub(crate) const STATUS_MESSAGE: u8 = len(2);
    pub(crate) const STATUS_CODE: u8 = varint(3);

    pub(crate) const KEY: u8 = len(1);
    pub(crate) const VALUE: u8 = len(2);

    pub(crate) const STRING_VALUE: u8 = len(1);
    pub(crate) const BOOL_VALUE: u8 = varint(2);
    pub(crate) const INT_VALUE: u8 = varint(3);
    pub(crate) const DOUBLE_VALUE: u8 = fixed64(4);
    pub(crate) const ARRAY_VALUE: u8 = len(5);
    pub(crate) const KVLIST_VALUE: u8 = len(6);
    pub(crate) const BYTES_VALUE: u8 = len(7);

    /// `ArrayValue.values` and `KeyValueList.values`
    pub(crate) const VALUES: u8 = len(1);
}

/// Nearly all are one byte.
#[inline(always)]
pub(super) fn varint_len(value: u64) -> usize {
    if value < 0x80 {
        1
    } else {
        encoded_len_varint(value)
    }
}

/// Tag, length and content of a length-delimited field whose tag is one byte.
#[inline]
pub(super) fn delimited_len(content: usize) -> usize {
    1 + varint_len(content as u64) + content
}

/// A field that is left out when empty, as proto3 does.
#[inline]
pub(super) fn non_empty_len(content: &[u8]) -> usize {
    if content.is_empty() {
        0
    } else {
        delimited_len(content.len())
    }
}

#[inline]
pub(super) fn fixed64_len(value: u64) -> usize {
    if value == 0 { 0 } else { 9 }
}

/// A count that is left out when zero.
#[inline]
pub(super) fn count_len(count: u32) -> usize {
    if count == 0 {
        0
    } else {
        1 + varint_len(count.into())
    }
}

/// Writes protobuf from the front of a slice that was measured to be long enough.
///
/// Nearly all lengths fit into one byte: that case is written with one check of the bounds.
pub(super) struct Cursor<'b> {
    out: &'b mut [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    #[inline]
    pub(super) fn new(out: &'b mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    /// How much is written.
    #[inline]
    pub(super) fn written(&self) -> usize {
        self.at
    }

    /// The next `len` bytes, to be written.
    #[inline(always)]
    fn next(&mut self, len: usize) -> &mut [u8] {
        let next = &mut self.out[self.at..self.at + len];
        self.at += len;
        next
    }

    #[inline(always)]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.next(bytes.len()).copy_from_slice(bytes);
    }

    #[inline(always)]
    pub(super) fn varint(&mut self, value: u64) {
        if value < 0x80 {
            self.bytes(&[value as u8]);
        } else {
            self.long_varint(value);
        }
    }

    fn long_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.bytes(&[value as u8]);
    }

    /// Tag and length of a field whose content follows.
    #[inline(always)]
    pub(super) fn header(&mut self, tag: u8, len: usize) {
        if len < 0x80 {
            self.bytes(&[tag, len as u8]);
        } else {
            self.bytes(&[tag]);
            self.long_varint(len as u64);
        }
    }

    #[inline(always)]
    pub(super) fn delimited(&mut self, tag: u8, content: &[u8]) {
        if content.len() < 0x80 {
            let field = self.next(2 + content.len());
            field[0] = tag;
            field[1] = content.len() as u8;
            field[2..].copy_from_slice(content);
        } else {
            self.header(tag, content.len());
            self.bytes(content);
        }
    }

    #[inline(always)]
    pub(super) fn trace_id(&mut self, tag: u8, id: TraceId) {
        let field = self.next(18);
        field[0] = tag;
        field[1] = 16;
        field[2..10].copy_from_slice(&id.high.to_be_bytes());
        field[10..].copy_from_slice(&id.low.to_be_bytes());
    }

    /// The id as a number.
    #[inline(always)]
    pub(super) fn span_id(&mut self, tag: u8, id: u64) {
        let field = self.next(10);
        field[0] = tag;
        field[1] = 8;
        field[2..].copy_from_slice(&id.to_be_bytes());
    }

    #[inline(always)]
    pub(super) fn non_empty(&mut self, tag: u8, content: &[u8]) {
        if !content.is_empty() {
            self.delimited(tag, content);
        }
    }

    #[inline(always)]
    pub(super) fn fixed64(&mut self, tag: u8, value: u64) {
        if value != 0 {
            let field = self.next(9);
            field[0] = tag;
            field[1..].copy_from_slice(&value.to_le_bytes());
        }
    }

    #[inline(always)]
    pub(super) fn count(&mut self, tag: u8, count: u32) {
        if count != 0 {
            self.bytes(&[tag]);
            self.varint(count.into());
        }
    }
}
