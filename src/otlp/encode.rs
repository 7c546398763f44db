//! Encoding that finished spans and ended open spans share.
//!
//! A span is encoded in one pass, before its length is known. If it does not fit, the caller
//! encodes it again into another slab.

use crate::otlp::attributes::{AttributeFields, encode_attributes};
use crate::otlp::output::{Count, Cursor, Output};
use crate::otlp::tag;
use crate::span::attribute::{AsKeyValue, Name};
use crate::span::context::TraceFlags;
use crate::span::id::{SpanId, TraceId};
use crate::span::limits::SpanLimits;
use crate::span::{EventFields, LinkFields, StatusRef};

/// A span that can be encoded, any number of times.
pub(crate) trait EncodeSpan: Copy {
    /// Returns the end time in Unix nanoseconds.
    fn end_time(&self) -> u64;

    /// Writes the span as an element of `ScopeSpans.spans`.
    fn encode_to<O: Output>(&self, out: O) -> Option<O>;

    /// Writes the span to the beginning of `room` and returns its length; `None` if it does not
    /// fit. The last [`SPILL`](crate::otlp::SPILL) bytes of `room` are scratch and never count.
    #[inline(always)]
    fn encode(&self, room: &mut [u8]) -> Option<usize> {
        encode_at(self, room)
    }

    /// As [`encode`](Self::encode), where speed matters less than the size of the code.
    #[inline(always)]
    fn encode_again(&self, room: &mut [u8]) -> Option<usize> {
        encode_out_of_line(self, room)
    }

    /// Returns the encoded length in bytes. Counting stops early above the size of any slab, so
    /// larger results are only a lower bound.
    #[cold]
    fn encoded_len(&self) -> usize {
        Count::of(|count| self.encode_to(count))
    }
}

#[inline(always)]
pub(super) fn encode_at(span: &impl EncodeSpan, room: &mut [u8]) -> Option<usize> {
    span.encode_to(Cursor::new(room))?.finish()
}

#[inline(never)]
pub(super) fn encode_out_of_line(span: &impl EncodeSpan, room: &mut [u8]) -> Option<usize> {
    encode_at(span, room)
}

/// Writes an element of `ScopeSpans.spans` with the fields that `write` adds.
#[inline(always)]
pub(super) fn encode_span<O: Output>(out: O, write: impl FnOnce(O) -> Option<O>) -> Option<O> {
    out.array([tag::SPANS])?.length_prefixed::<2>(write)
}

#[inline(always)]
pub(super) fn encode_ids<O: Output>(trace_id: TraceId, span_id: SpanId, mut out: O) -> Option<O> {
    let block = out.block()?;
    block[..2].copy_from_slice(&[tag::TRACE_ID, 16]);
    block[2..18].copy_from_slice(&trace_id.to_bytes());
    block[18..20].copy_from_slice(&[tag::SPAN_ID, 8]);
    block[20..28].copy_from_slice(&span_id.to_bytes());
    Some(out.advance(28))
}

/// Writes the parent's id, or nothing for a root span.
#[inline(always)]
pub(super) fn encode_parent<O: Output>(parent_span_id: Option<SpanId>, mut out: O) -> Option<O> {
    let id = parent_span_id.map_or([0; 8], SpanId::to_bytes);
    let block = out.block()?;
    block[..2].copy_from_slice(&[tag::PARENT_SPAN_ID, 8]);
    block[2..10].copy_from_slice(&id);
    // Always written and skipped by the length: a branch would be mispredicted for root spans.
    Some(out.advance(if parent_span_id.is_none() { 0 } else { 10 }))
}

/// Returns `Span.flags`: the W3C trace flags and, if known, whether the parent is remote.
#[inline]
pub(super) fn span_flags(trace_flags: TraceFlags, parent_is_remote: Option<bool>) -> u32 {
    const HAS_IS_REMOTE: u32 = 0x100;
    const IS_REMOTE: u32 = 0x200;
    let remoteness = match parent_is_remote {
        None => 0,
        Some(false) => HAS_IS_REMOTE,
        Some(true) => HAS_IS_REMOTE | IS_REMOTE,
    };
    u32::from(trace_flags.bits()) | remoteness
}

#[inline(always)]
pub(super) fn encode_name<O: Output>(name: Name<'_>, out: O) -> Option<O> {
    match name.wire() {
        Some(wire) => out.prepared(wire),
        None => out.non_empty(tag::NAME, name.text().as_bytes()),
    }
}

#[inline(always)]
pub(super) fn encode_kind_and_times<O: Output>(
    kind: u8,
    start_time: u64,
    end_time: u64,
    mut out: O,
) -> Option<O> {
    if start_time == 0 || end_time == 0 {
        return out
            .array([tag::KIND, kind])?
            .fixed64(tag::START_TIME, start_time)?
            .fixed64(tag::END_TIME, end_time);
    }
    let block = out.block()?;
    block[..3].copy_from_slice(&[tag::KIND, kind, tag::START_TIME]);
    block[3..11].copy_from_slice(&start_time.to_le_bytes());
    block[11] = tag::END_TIME;
    block[12..20].copy_from_slice(&end_time.to_le_bytes());
    Some(out.advance(20))
}

#[inline(always)]
pub(super) fn encode_status<O: Output>(status: StatusRef<'_>, out: O) -> Option<O> {
    match status {
        StatusRef::Unset => Some(out),
        StatusRef::Ok => out.array([tag::STATUS, 2, tag::STATUS_CODE, 1]),
        StatusRef::Error(description) => encode_error(description, out),
    }
}

#[inline(never)]
fn encode_error<O: Output>(description: &str, out: O) -> Option<O> {
    out.message(tag::STATUS, |out| {
        out.non_empty(tag::STATUS_MESSAGE, description.as_bytes())?
            .array([tag::STATUS_CODE, 2])
    })
}

#[inline(always)]
pub(super) fn encode_flags<O: Output>(flags: u32, mut out: O) -> Option<O> {
    let block = out.block()?;
    block[..2].copy_from_slice(&tag::FLAGS);
    block[2..6].copy_from_slice(&flags.to_le_bytes());
    Some(out.advance(if flags == 0 { 0 } else { 6 }))
}

#[inline(never)]
pub(super) fn encode_event<K: AsKeyValue, O: Output>(
    event: &EventFields<'_, K>,
    limits: &SpanLimits,
    out: O,
) -> Option<O> {
    let fields = AttributeFields {
        count_max: limits.event_attribute_count,
        tag: tag::EVENT_ATTRIBUTES,
        dropped_tag: tag::EVENT_DROPPED_ATTRIBUTES,
    };
    out.message(tag::EVENTS, |out| {
        let out = out.fixed64(tag::EVENT_TIME, event.time)?;
        let out = out.non_empty(tag::EVENT_NAME, event.name.as_bytes())?;
        let dropped = event.dropped_attributes_count;
        encode_attributes(&(), event.attributes, dropped, fields, limits, out)
    })
}

#[inline(never)]
pub(super) fn encode_link<K: AsKeyValue, O: Output>(
    link: &LinkFields<'_, K>,
    limits: &SpanLimits,
    out: O,
) -> Option<O> {
    let context = link.context;
    let fields = AttributeFields {
        count_max: limits.link_attribute_count,
        tag: tag::LINK_ATTRIBUTES,
        dropped_tag: tag::LINK_DROPPED_ATTRIBUTES,
    };
    out.message(tag::LINKS, |out| {
        let out = out.delimited(tag::LINK_TRACE_ID, &context.trace_id.to_bytes())?;
        let out = out.delimited(tag::LINK_SPAN_ID, &context.span_id.to_bytes())?;
        let trace_state = context.trace_state.as_str();
        let out = out.non_empty(tag::LINK_TRACE_STATE, trace_state.as_bytes())?;
        let dropped = link.dropped_attributes_count;
        let out = encode_attributes(&(), link.attributes, dropped, fields, limits, out)?;
        // Never zero, so never omitted: "has is_remote" is always set.
        let flags = span_flags(context.trace_flags, Some(context.is_remote));
        out.array([tag::LINK_FLAGS])?.array(flags.to_le_bytes())
    })
}
