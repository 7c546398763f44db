//! The part of an open span that has a fixed size.

use crate::otlp::encode;
use crate::otlp::output::Output;
use crate::otlp::tag;
use crate::span::SpanKind;
use crate::span::attribute::Keys;
use crate::span::context::TraceFlags;
use crate::span::id::{SpanId, TraceId};

/// Data of an open span that has a fixed size. All bytes zero is a valid value.
///
/// The fields up to `context_attributes_len` have the layout of OpenTelemetry's thread context
/// record (OTEP 4947).
#[repr(C)]
#[derive(Clone, Default)]
pub(crate) struct DraftHead {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) is_valid: bool,
    pub(super) trace_flags: TraceFlags,
    pub(super) context_attributes_len: u16,
    pub(super) kind: u8,
    pub(super) status: StatusCode,
    /// Whether the fields contain a status with description.
    pub(super) is_described: bool,
    pub(super) parent_is_remote: bool,
    pub(super) parent_span_id: Option<SpanId>,
    pub(super) start_time: u64,
    /// Fingerprints of all keys that were set.
    pub(super) keys: Keys,
    /// Bytes of fields.
    pub(super) len: u32,
    pub(super) attributes: u16,
    pub(super) events: u16,
    pub(super) links: u16,
    pub(super) dropped: Dropped,
}

const _: () = assert!(size_of::<DraftHead>() == 104);

/// Status code of an open span, in the order in which it may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum StatusCode {
    #[default]
    Unset,
    Error,
    Ok,
}

/// Counts of the items that did not fit into a span or exceeded its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Dropped {
    pub(super) attributes: u32,
    pub(super) events: u32,
    pub(super) links: u32,
}

impl Dropped {
    #[inline(always)]
    pub(super) fn is_none(&self) -> bool {
        self.attributes | self.events | self.links == 0
    }

    #[cold]
    pub(super) fn encode_to<O: Output>(&self, out: O) -> Option<O> {
        out.count(tag::DROPPED_ATTRIBUTES, self.attributes)?
            .count(tag::DROPPED_EVENTS, self.events)?
            .count(tag::DROPPED_LINKS, self.links)
    }
}

/// Ids and trace flags of an open span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanIds {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent_span_id: Option<SpanId>,
    pub(crate) parent_is_remote: bool,
    pub(crate) trace_flags: TraceFlags,
}

impl SpanIds {
    #[inline(always)]
    pub(crate) fn with_sampled(self, is_sampled: bool) -> Self {
        Self {
            trace_flags: self.trace_flags.with_sampled(is_sampled),
            ..self
        }
    }
}

impl DraftHead {
    /// Creates the head of a span without fields.
    #[inline(always)]
    pub(super) fn new(ids: SpanIds, kind: SpanKind) -> Self {
        Self {
            trace_id: ids.trace_id.to_bytes(),
            span_id: ids.span_id.to_bytes(),
            is_valid: true,
            trace_flags: ids.trace_flags,
            parent_is_remote: ids.parent_is_remote,
            parent_span_id: ids.parent_span_id,
            kind: kind as u8,
            ..Self::default()
        }
    }

    #[inline(always)]
    pub(crate) fn ids(&self) -> SpanIds {
        SpanIds {
            trace_id: TraceId::from_bytes(self.trace_id).unwrap_or(TraceId::MIN),
            span_id: SpanId::from_bytes(self.span_id).unwrap_or(SpanId::MIN),
            parent_span_id: self.parent_span_id,
            parent_is_remote: self.parent_is_remote,
            trace_flags: self.trace_flags,
        }
    }

    #[inline(always)]
    pub(crate) fn start_time(&self) -> u64 {
        self.start_time
    }

    #[inline(always)]
    pub(crate) fn kind(&self) -> SpanKind {
        match self.kind {
            2 => SpanKind::Server,
            3 => SpanKind::Client,
            4 => SpanKind::Producer,
            5 => SpanKind::Consumer,
            _ => SpanKind::Internal,
        }
    }

    /// Returns the encoded status, unless it is among the fields.
    #[inline(always)]
    pub(super) fn status_bytes(&self) -> &'static [u8] {
        match self.status {
            StatusCode::Ok => &[tag::STATUS, 2, tag::STATUS_CODE, 1],
            StatusCode::Error if !self.is_described => &[tag::STATUS, 2, tag::STATUS_CODE, 2],
            StatusCode::Error | StatusCode::Unset => &[],
        }
    }

    #[inline(always)]
    pub(super) fn flags(&self) -> u32 {
        encode::span_flags(self.trace_flags, Some(self.parent_is_remote))
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.status == StatusCode::Error
    }
}
