//! The choice of a share of all traces by their ids.

use crate::span::id::TraceId;

/// Returns whether the trace is in this share of all traces: bits 1 to 63 of its id, as a number, are
/// below the share of 2^63. No specification defines this, but SDKs agree on it.
#[inline]
pub(super) fn is_chosen(trace_id: TraceId, ratio: f64) -> bool {
    const ALL: f64 = (1_u64 << 63) as f64;
    ratio >= 1.0 || trace_id.to_u128() as u64 >> 1 < (ratio * ALL) as u64
}
