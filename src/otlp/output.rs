//! Writes or counts fields in one pass.
//!
//! A message is preceded by its length, which is known only at its end. So room for a length of
//! the expected size is reserved, and the message is moved if its length takes another size. Short
//! content is copied by moves of a fixed size, which may write past its end. The excess bytes are
//! overwritten by the next field or end in the spill.

use prost::encoding::encoded_len_varint;

use crate::otlp::tag;
use crate::span::attribute::{Key, Wire};
use crate::span::limits::BYTES_MAX;

/// Bytes past the end of the encoded data that may be overwritten.
pub(crate) const SPILL: usize = 64;

/// The largest unit that is written at once.
pub(crate) type Block = [u8; SPILL];

/// The longest text that is copied by two moves.
pub(super) const SHORT_MAX: usize = 32;

/// A destination that fields are written to or counted in.
///
/// Each method returns the output positioned after the field it wrote, or `None` if there was no
/// room. Outputs are passed by value, so that they stay in registers.
pub(crate) trait Output: Sized {
    /// Returns the next [`SPILL`] bytes to write to; `None` without room.
    fn block(&mut self) -> Option<&mut Block>;

    /// Advances past the first `bytes` bytes of the block, which makes them part of the output.
    fn advance(self, bytes: usize) -> Self;

    /// Appends bytes of any length.
    fn bytes(self, bytes: &[u8]) -> Option<Self>;

    /// Starts content with a length prefix and reserves `EXPECTED` bytes for the prefix. Returns
    /// the content's start, for [`close`](Self::close).
    fn open<const EXPECTED: usize>(self) -> (Self, usize);

    /// Writes the length prefix of the content that started at `start`.
    fn close<const EXPECTED: usize>(self, start: usize) -> Option<Self>;

    /// Writes the content that `write` adds, preceded by its length, which is expected to take
    /// `EXPECTED` bytes.
    #[inline(always)]
    fn length_prefixed<const EXPECTED: usize>(
        self,
        write: impl FnOnce(Self) -> Option<Self>,
    ) -> Option<Self> {
        let (out, start) = self.open::<EXPECTED>();
        write(out)?.close::<EXPECTED>(start)
    }

    /// Appends a small array.
    #[inline(always)]
    fn array<const N: usize>(mut self, bytes: [u8; N]) -> Option<Self> {
        self.block()?[..N].copy_from_slice(&bytes);
        Some(self.advance(N))
    }

    #[inline(always)]
    fn varint(self, value: u64) -> Option<Self> {
        if value < 0x80 {
            self.array([value as u8])
        } else {
            self.long_varint(value)
        }
    }

    fn long_varint(mut self, value: u64) -> Option<Self> {
        let len = put_varint(value, self.block()?);
        Some(self.advance(len))
    }

    /// Appends a message with the fields that `write` adds.
    #[inline]
    fn message(self, tag: u8, write: impl FnOnce(Self) -> Option<Self>) -> Option<Self> {
        self.array([tag])?.length_prefixed::<1>(write)
    }

    /// Appends a `string` or `bytes` field.
    #[inline(always)]
    fn delimited(mut self, tag: u8, content: &[u8]) -> Option<Self> {
        if content.len() > SHORT_MAX {
            return self.long_delimited(tag, content);
        }
        let block = self.block()?;
        block[0] = tag;
        block[1] = content.len() as u8;
        copy_short(content, &mut block[2..]);
        Some(self.advance(2 + content.len()))
    }

    #[inline(never)]
    fn long_delimited(self, tag: u8, content: &[u8]) -> Option<Self> {
        self.array([tag])?
            .varint(content.len() as u64)?
            .bytes(content)
    }

    /// Appends a length-delimited field; omitted when empty, as in proto3.
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
        Some(self.advance(9))
    }

    /// Appends a `uint32` field; omitted when zero, as in proto3.
    #[inline(always)]
    fn count(self, tag: u8, count: u32) -> Option<Self> {
        if count == 0 {
            return Some(self);
        }
        self.array([tag])?.varint(count.into())
    }

    #[inline(always)]
    fn prepared(mut self, wire: &Wire) -> Option<Self> {
        let Some(only) = wire.only_block() else {
            return self.bytes(wire.as_bytes());
        };
        self.block()?[..SHORT_MAX].copy_from_slice(only);
        Some(self.advance(wire.len()))
    }

    /// Appends a `KeyValue` up to and including the value's length. The caller appends the value,
    /// which is no longer than a short text.
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
            return Some(self.advance(2 + key_len + 1));
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
        Some(self.advance(6 + text.len()))
    }

    /// Writes what [`short_key_value`](Self::short_key_value) writes, for keys and values of any
    /// length.
    #[inline(never)]
    fn long_key_value(self, tag: u8, key: Key<'_>, value_len: usize) -> Option<Self> {
        self.array([tag])?
            .varint(key_value_len(key, value_len) as u64)?
            .key(key)?
            .varint(value_len as u64)
    }

    /// Appends a key and the tag of its value.
    fn key(self, key: Key<'_>) -> Option<Self> {
        match key.wire() {
            Some(wire) => self.prepared(wire),
            None => self
                .non_empty(tag::KEY, key.text().as_bytes())?
                .array([tag::VALUE]),
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

/// Returns the encoded length of a varint. The inlined branch covers nearly all.
#[inline(always)]
pub(super) fn varint_len(value: u64) -> usize {
    if value < 0x80 {
        1
    } else {
        encoded_len_varint(value)
    }
}

/// Returns the encoded length of a length-delimited field with a one-byte tag.
#[inline(always)]
pub(super) fn delimited_len(content: usize) -> usize {
    1 + varint_len(content as u64) + content
}

/// Writes a varint and returns its length.
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

/// Copies up to [`SHORT_MAX`] bytes. From four bytes on by two moves of a fixed size, which may
/// overlap.
#[inline(always)]
fn copy_short(from: &[u8], to: &mut [u8]) {
    /// Copies the first and the last bytes as integers of one type, if there are enough.
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

/// Output into a slice. Its last [`SPILL`] bytes never become part of the encoded data.
pub(super) struct Cursor<'b> {
    out: &'b mut [u8],
    /// Position of the next byte. Always fits into 32 bits.
    at: usize,
}

impl<'b> Cursor<'b> {
    #[inline(always)]
    pub(super) fn new(out: &'b mut [u8]) -> Self {
        Self::append_to(out, 0)
    }

    /// Creates a cursor after the first `len` bytes, which are kept.
    #[inline(always)]
    pub(super) fn append_to(out: &'b mut [u8], len: usize) -> Self {
        debug_assert!(out.len() < u32::MAX as usize);
        Self { out, at: len }
    }

    /// Returns the length of the output; `None` if it reaches into the spill.
    #[inline(always)]
    pub(super) fn finish(self) -> Option<usize> {
        (self.at() + SPILL <= self.out.len()).then_some(self.at)
    }

    /// Returns the position, cut to 32 bits. Then the compiler can prove that additions do not overflow,
    /// and one comparison suffices as a bounds check.
    #[inline(always)]
    fn at(&self) -> usize {
        self.at as u32 as usize
    }

    /// Writes the length of the content that starts at `start`, where the length takes another
    /// number of bytes than the `free` ones reserved for it. Moves the content accordingly.
    #[cold]
    fn close_moved(mut self, start: usize, free: usize) -> Option<Self> {
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
    fn advance(self, bytes: usize) -> Self {
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
            _ => return self.close_moved(start, EXPECTED),
        }
        Some(self)
    }
}

/// Output that only counts bytes. It ends above the size of any slab: values whose parts are shared
/// can have exponential length.
pub(super) struct Count {
    len: usize,
    block: Block,
}

impl Count {
    /// Returns the number of bytes that `write` writes. Above the size of any slab, a lower bound.
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

    fn advance(self, bytes: usize) -> Self {
        Self {
            len: self.len + bytes,
            ..self
        }
    }

    fn bytes(self, bytes: &[u8]) -> Option<Self> {
        Some(self.advance(bytes.len()))
    }

    fn open<const EXPECTED: usize>(self) -> (Self, usize) {
        let start = self.len;
        (self, start)
    }

    fn close<const EXPECTED: usize>(self, start: usize) -> Option<Self> {
        let len = varint_len((self.len - start) as u64);
        Some(self.advance(len))
    }
}
