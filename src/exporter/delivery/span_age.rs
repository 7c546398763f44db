//! Ages of spans, from their ends on.

use std::time::Duration;

use crate::buffer::Batch;
use crate::exporter::request::Request;
use crate::otlp::{Fields, span_end_time};
use crate::stats::NetworkStats;

/// Notes that a request was acknowledged now, and the age of the spans of one of its batches: another
/// one each time, because the walk costs some nanoseconds for each span.
pub(super) fn record_success(request: &Request, unix_nanos: u64, stats: &mut NetworkStats) {
    stats.last_success_time = unix_nanos;
    let batches = request.batches.len() as u64;
    let Some(turn) = stats.requests.checked_rem(batches) else {
        return;
    };
    for end_time in end_times(&request.batches[turn as usize]) {
        stats.add_delivery(unix_nanos.saturating_sub(end_time) / 1000);
    }
}

/// Returns the age of a batch's first span.
pub(super) fn of_first(batch: &Batch, unix_nanos: u64) -> Option<Duration> {
    let end_time = end_times(batch).next()?;
    Some(Duration::from_nanos(unix_nanos.saturating_sub(end_time)))
}

/// Returns the end times of the spans that have one.
fn end_times(batch: &Batch) -> impl Iterator<Item = u64> {
    let spans = Fields::new(batch).map_while(Result::ok);
    let end_times = spans.map(|span| span.bytes().map_or(0, span_end_time));
    end_times.filter(|end_time| *end_time > 0)
}
