//! Writing or counting fields in one pass.
//!
//! A length stands before what it measures. So a message leaves room for the length it is expected
//! to have, and moves if that was wrong. Short things are written by moves of a fixed size, which
//! may write more than was asked for: what is behind is written later, or is spill.

use prost::encoding::encoded_len_varint;

use crate::otlp::tag;
use crate::span::attribute::{Key, Wire};
use crate::span::limits::BYTES_MAX;

/// So many bytes behind the last one that counts may be written to.
pub(crate) const SPILL: usize = 64;

/// What is written at once, at most.
pub(crate) type Block = [u8; SPILL];

/// The longest text that is copied by two moves.
pub(super) const SHORT_MAX: usize = 32;

/// Where fields are written to, or counted.
///
/// Each method gives back what goes on behind what it wrote, or `None` if there was no room: by
/// value, so that it stays in registers.
pub(crate) trait Output: Sized {
    /// The next bytes, if there is room.
    fn block(&mut self) -> Option<&mut Block>;

    /// Behind so many bytes of the block, which count.
    fn behind(self, bytes: usize) -> Self;

    /// Bytes of any length.
    fn bytes(self, bytes: &[u8]) -> Option<Self>;

    /// Begins something whose length, expected to take `EXPECTED` bytes, is written before it; and
    /// where that starts, for [`close`](Self::close).
    fn open<const EXPECTED: usize>(self) -> (Self, usize);

    /// Ends what began there.
    fn close<const EXPECTED: usize>(self, start: usize) -> Option<Self>;

    /// What `write` writes, behind its length, which is expected to take `EXPECTED` bytes.
    #[inline(always)]
    fn measured<const EXPECTED: usize>(
        self,
        write: impl FnOnce(Self) -> Option<Self>,
    ) -> Option<Self> {
        let (out, start) = self.open::<EXPECTED>();
        write(out)?.close::<EXPECTED>(start)
    }

    /// A few bytes.
    #[inline(always)]
    fn few<const N: usize>(mut self, bytes: [u8; N]) -> Option<Self> {
        self.block()?[..N].copy_from_slice(&bytes);
        Some(self.behind(N))
    }

    #[inline(always)]
    fn varint(self, value: u64) -> Option<Self> {
        if value < 0x80 {
            self.few([value as u8])
        } else {
            self.long_varint(value)
        }
    }

    fn long_varint(mut self, value: u64) -> Option<Self> {
        let len = put_varint(value, self.block()?);
        Some(self.behind(len))
    }

    /// A message whose fields `write` writes.
    #[inline]
    fn message(self, tag: u8, write: impl FnOnce(Self) -> Option<Self>) -> Option<Self> {
        self.few([tag])?.measured::<1>(write)
    }

    /// A text, or bytes.
    #[inline(always)]
    fn delimited(mut self, tag: u8, content: &[u8]) -> Option<Self> {
        if content.len() > SHORT_MAX {
            return self.long_delimited(tag, content);
        }
        let block = self.block()?;
        block[0] = tag;
        block[1] = content.len() as u8;
        copy_short(content, &mut block[2..]);
        Some(self.behind(2 + content.len()))
    }

    #[inline(never)]
    fn long_delimited(self, tag: u8, content: &[u8]) -> Option<Self> {
        self.few([tag])?
            .varint(content.len() as u64)?
            .bytes(content)
    }

    /// A field that is left out when empty, as proto3 does.
    #[inline(always)]
    fn non_empty(self, tag: u8, content: &[u8]) -> Option<Self> {
        if content.is_empty() {
            return Some(self);
        }
        self.delimited(tag, content)
    }

    #[inline(always)]
    fn fixed64(mut self, tag: u8, value: u64) -> Option<Self> {
        if value == 0 {
            return Some(self);
        }
        let block = self.block()?;
        block[0] = tag;
        block[1..9].copy_from_slice(&value.to_le_bytes());
        Some(self.behind(9))
    }

    /// A count that is left out when zero.
    #[inline(always)]
    fn count(self, tag: u8, count: u32) -> Option<Self> {
        if count == 0 {
            return Some(self);
        }
        self.few([tag])?.varint(count.into())
    }

    #[inline(always)]
    fn prepared(mut self, wire: &Wire) -> Option<Self> {
        let Some(only) = wire.only_block() else {
            return self.bytes(wire.as_bytes());
        };
        self.block()?[..SHORT_MAX].copy_from_slice(only);
        Some(self.behind(wire.len()))
    }

    /// A key and its value, of which only the length is written: the value itself follows, and is
    /// no longer than a short text.
    #[inline(always)]
    fn short_key_value(mut self, tag: u8, key: &Key<'_>, value_len: usize) -> Option<Self> {
        debug_assert!(value_len <= 2 + SHORT_MAX);
        if let Some(wire) = key.wire() {
            let Some(only) = wire.only_block() else {
                return self.long_key_value(tag, *key, value_len);
            };
            let key_len = wire.len().min(SHORT_MAX);
            let block = self.block()?;
            block[0] = tag;
            block[1] = (key_len + 1 + value_len) as u8;
            block[2..2 + SHORT_MAX].copy_from_slice(only);
            block[2 + key_len] = value_len as u8;
            return Some(self.behind(2 + key_len + 1));
        }
        let text = key.text().as_bytes();
        if text.is_empty() || text.len() > SHORT_MAX {
            return self.long_key_value(tag, *key, value_len);
        }
        let block = self.block()?;
        block[0] = tag;
        block[1] = (2 + text.len() + 2 + value_len) as u8;
        block[2] = tag::KEY;
        block[3] = text.len() as u8;
        copy_short(text, &mut block[4..]);
        block[4 + text.len()] = tag::VALUE;
        block[5 + text.len()] = value_len as u8;
        Some(self.behind(6 + text.len()))
    }

    /// As [`short_key_value`](Self::short_key_value), for any.
    #[inline(never)]
    fn long_key_value(self, tag: u8, key: Key<'_>, value_len: usize) -> Option<Self> {
        self.few([tag])?
            .varint(key_value_len(key, value_len) as u64)?
            .key(key)?
            .varint(value_len as u64)
    }

    /// A key, and the tag of its value.
    fn key(self, key: Key<'_>) -> Option<Self> {
        match key.wire() {
            Some(wire) => self.prepared(wire),
            None => self
                .non_empty(tag::KEY, key.text().as_bytes())?
                .few([tag::VALUE]),
        }
    }
}

fn key_value_len(key: Key<'_>, value_len: usize) -> usize {
    let key_len = match (key.wire(), key.text()) {
        (Some(wire), _) => wire.len(),
        (None, "") => 1,
        (None, text) => delimited_len(text.len()) + 1,
    };
    key_len + varint_len(value_len as u64) + value_len
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
#[inline(always)]
pub(super) fn delimited_len(content: usize) -> usize {
    1 + varint_len(content as u64) + content
}

/// Writes a varint, and tells how long it is.
fn put_varint(mut value: u64, out: &mut [u8]) -> usize {
    let mut len = 0;
    while value >= 0x80 {
        out[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    out[len] = value as u8;
    len + 1
}

/// Copies up to [`SHORT_MAX`] bytes, most of them by two moves of a fixed size that may overlap.
#[inline(always)]
fn copy_short(from: &[u8], to: &mut [u8]) {
    /// The first and the last bytes as numbers of one type, if there are so many.
    macro_rules! ends {
        ($number:ty) => {
            if let (Some(first), Some(last)) = (from.first_chunk(), from.last_chunk()) {
                const LEN: usize = size_of::<$number>();
                let (first, last) = (
                    <$number>::from_ne_bytes(*first),
                    <$number>::from_ne_bytes(*last),
                );
                let at = from.len() - LEN;
                to[..LEN].copy_from_slice(&first.to_ne_bytes());
                to[at..at + LEN].copy_from_slice(&last.to_ne_bytes());
                return;
            }
        };
    }
    ends!(u128);
    ends!(u64);
    ends!(u32);
    for (to, from) in to.iter_mut().zip(from).take(3) {
        *to = *from;
    }
}

/// Writes into a slice, of which the last [`SPILL`] bytes do not count.
pub(super) struct Cursor<'b> {
    out: &'b mut [u8],
    /// Fits into 32 bits.
    at: usize,
}

impl<'b> Cursor<'b> {
    #[inline(always)]
    pub(super) fn new(out: &'b mut [u8]) -> Self {
        Self::append_to(out, 0)
    }

    /// Behind so many bytes that are there.
    #[inline(always)]
    pub(super) fn append_to(out: &'b mut [u8], len: usize) -> Self {
        debug_assert!(out.len() < u32::MAX as usize);
        Self { out, at: len }
    }

    /// How much there is, if it had room.
    #[inline(always)]
    pub(super) fn finish(self) -> Option<usize> {
        (self.at() + SPILL <= self.out.len()).then_some(self.at)
    }

    /// So that adding to it is known never to overflow: then one comparison is a whole check.
    #[inline(always)]
    fn at(&self) -> usize {
        self.at as u32 as usize
    }

    /// Puts the length of what was written from `start` on there, where so many bytes are free for
    /// it, but other than it takes.
    #[cold]
    fn measure(mut self, start: usize, free: usize) -> Option<Self> {
        let len = self.at - start;
        let length_at = start - free;
        let moved_start = length_at + varint_len(len as u64);
        let moved_end = moved_start + len;
        if moved_end > self.out.len() {
            return None;
        }
        self.out.copy_within(start..start + len, moved_start);
        put_varint(len as u64, &mut self.out[length_at..]);
        self.at = moved_end;
        Some(self)
    }
}

impl Output for Cursor<'_> {
    #[inline(always)]
    fn block(&mut self) -> Option<&mut Block> {
        let at = self.at();
        self.out.get_mut(at..at + SPILL)?.first_chunk_mut()
    }

    #[inline(always)]
    fn behind(self, bytes: usize) -> Self {
        Self {
            at: self.at + bytes,
            ..self
        }
    }

    #[inline(always)]
    fn bytes(mut self, bytes: &[u8]) -> Option<Self> {
        let end = self.at.checked_add(bytes.len())?;
        self.out.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(self)
    }

    #[inline(always)]
    fn open<const EXPECTED: usize>(mut self) -> (Self, usize) {
        self.at += EXPECTED;
        let start = self.at;
        (self, start)
    }

    #[inline(always)]
    fn close<const EXPECTED: usize>(self, start: usize) -> Option<Self> {
        let len = self.at - start;
        let length = self.out.get_mut(start - EXPECTED..start)?;
        match EXPECTED {
            1 if len < 1 << 7 => length[0] = len as u8,
            2 if (1 << 7..1 << 14).contains(&len) => {
                length.copy_from_slice(&[len as u8 | 0x80, (len >> 7) as u8]);
            }
            _ => return self.measure(start, EXPECTED),
        }
        Some(self)
    }
}

/// Counts what would be written, until it is longer than any slab: values that share their parts
/// can be longer than time.
pub(super) struct Count {
    len: usize,
    block: Block,
}

impl Count {
    /// How much `write` writes, or some of it if that is too much for any slab.
    pub(super) fn of(write: impl FnOnce(Self) -> Option<Self>) -> usize {
        let nothing = Self {
            len: 0,
            block: [0; SPILL],
        };
        write(nothing).map_or(BYTES_MAX + 1, |count| count.len)
    }
}

impl Output for Count {
    fn block(&mut self) -> Option<&mut Block> {
        (self.len <= BYTES_MAX).then_some(&mut self.block)
    }

    fn behind(self, bytes: usize) -> Self {
        Self {
            len: self.len + bytes,
            ..self
        }
    }

    fn bytes(self, bytes: &[u8]) -> Option<Self> {
        Some(self.behind(bytes.len()))
    }

    fn open<const EXPECTED: usize>(self) -> (Self, usize) {
        let start = self.len;
        (self, start)
    }

    fn close<const EXPECTED: usize>(self, start: usize) -> Option<Self> {
        let len = varint_len((self.len - start) as u64);
        Some(self.behind(len))
    }
}
