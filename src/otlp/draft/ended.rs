//! An open span with its end time, to be encoded into a slab.

use crate::otlp::draft::draft_head::DraftHead;
use crate::otlp::encode::{self, EncodeSpan};
use crate::otlp::output::Output;
use crate::otlp::tag;
use crate::span::id::SpanId;

/// Below this many bytes of fields, the length of a span takes at most three bytes.
const PLAIN_MAX: usize = 1 << 20;

/// An open span with its end time.
#[derive(Clone, Copy)]
pub(crate) struct Ended<'d> {
    pub(super) head: &'d DraftHead,
    pub(super) fields: &'d [u8],
    pub(super) end_time: u64,
}

impl EncodeSpan for Ended<'_> {
    #[inline(always)]
    fn end_time(&self) -> u64 {
        self.end_time
    }

    #[inline(always)]
    fn encode_to<O: Output>(&self, out: O) -> Option<O> {
        let is_plain = self.head.dropped.is_none()
            && self.head.start_time != 0
            && self.end_time != 0
            && self.fields.len() < PLAIN_MAX;
        if is_plain {
            self.encode_plain(out)
        } else {
            self.encode_any(out)
        }
    }
}

impl Ended<'_> {
    /// Encodes a span without dropped counts, whose length follows from that of its fields.
    #[inline(always)]
    fn encode_plain<O: Output>(&self, mut out: O) -> Option<O> {
        const IDS: usize = 28;
        const KIND_AND_TIMES: usize = 20;
        let head = self.head;
        let ids = head.ids();
        let parent = if ids.parent_span_id.is_some() { 10 } else { 0 };
        let status = head.status_bytes();
        let flags = 6;
        let len = IDS + parent + KIND_AND_TIMES + self.fields.len() + status.len() + flags;
        // Prefix, ids, kind and times take at most 62 bytes, and so one block.
        let block = out.block()?;
        block[0] = tag::SPANS;
        let prefix = 1 + put_short_varint(len, block.get_mut(1..4)?)?;
        let fixed = block.get_mut(prefix..)?.first_chunk_mut::<60>()?;
        fixed[..2].copy_from_slice(&[tag::TRACE_ID, 16]);
        fixed[2..18].copy_from_slice(&head.trace_id);
        fixed[18..20].copy_from_slice(&[tag::SPAN_ID, 8]);
        fixed[20..IDS].copy_from_slice(&head.span_id);
        fixed[28..30].copy_from_slice(&[tag::PARENT_SPAN_ID, 8]);
        let parent_id = ids.parent_span_id.map_or([0; 8], SpanId::to_bytes);
        fixed[30..38].copy_from_slice(&parent_id);
        // Over the parent, if there is none.
        let times = fixed[IDS + parent..].first_chunk_mut::<KIND_AND_TIMES>()?;
        times[..3].copy_from_slice(&[tag::KIND, head.kind, tag::START_TIME]);
        times[3..11].copy_from_slice(&head.start_time.to_le_bytes());
        times[11] = tag::END_TIME;
        times[12..].copy_from_slice(&self.end_time.to_le_bytes());
        let mut out = out
            .advance(prefix + IDS + parent + KIND_AND_TIMES)
            .bytes(self.fields)?;
        if !status.is_empty() {
            out = out.bytes(status)?;
        }
        // Never zero, so never omitted.
        encode::encode_flags(head.flags(), out)
    }

    #[cold]
    #[inline(never)]
    fn encode_any<O: Output>(&self, out: O) -> Option<O> {
        let (head, fields) = (self.head, self.fields);
        let ids = head.ids();
        encode::encode_span(out, |out| {
            let out = encode::encode_ids(ids.trace_id, ids.span_id, out)?;
            let out = encode::encode_parent(ids.parent_span_id, out)?;
            let (start_time, end_time) = (head.start_time, self.end_time);
            let out = encode::encode_kind_and_times(head.kind, start_time, end_time, out)?;
            let out = head.dropped.encode_to(out.bytes(fields)?)?;
            let out = out.bytes(head.status_bytes())?;
            encode::encode_flags(head.flags(), out)
        })
    }
}

/// Writes a varint of at most three bytes and returns its length; `None` for larger numbers.
#[inline(always)]
fn put_short_varint(value: usize, out: &mut [u8]) -> Option<usize> {
    let (low, middle, high) = (value as u8 | 0x80, (value >> 7) as u8, (value >> 14) as u8);
    if value < 1 << 7 {
        out[0] = value as u8;
        Some(1)
    } else if value < 1 << 14 {
        out[..2].copy_from_slice(&[low, middle]);
        Some(2)
    } else if value < 1 << 21 {
        out[..3].copy_from_slice(&[low, middle | 0x80, high]);
        Some(3)
    } else {
        None
    }
}
