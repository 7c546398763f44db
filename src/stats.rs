//! Counters, histograms, the ledger, health and notices of the pipeline.

mod buckets;
pub(crate) mod counters;
mod durations;
pub(crate) mod health;
mod histogram;
pub(crate) mod ledger;
pub(crate) mod notice;
pub(crate) mod refused;

use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use self::buckets::Buckets;
pub use self::durations::Durations;
pub use self::health::{DestinationHealth, EndpointHealth, EndpointState, Health, ThreadState};
pub use self::histogram::DurationHistogram;
pub use self::ledger::{DestinationLedger, DroppedSpans, Ledger, RefusedSpans, SampledOutSpans};
pub use self::notice::{Notice, NoticeKind, OnNotice};
pub use self::refused::Refused;

/// Snapshot of counters and histograms since the start: see [`Collector::stats`](crate::Collector::stats).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Counts of all spans by outcome.
    pub ledger: Ledger,
    /// Counters of the network thread.
    pub network: NetworkStats,
    /// Sampled spans that were started while [`Config::open_span_bytes_total`] were in use. They keep little
    /// more than ids, times and status; raise the option.
    ///
    /// [`Config::open_span_bytes_total`]: crate::Config::open_span_bytes_total
    pub spans_without_memory: u64,
    /// Spans held by [`TailSampling`](crate::span::TailSampling) whose trace was kept before its local root
    /// ended, since it outgrew [`held_trace_bytes`](crate::span::TailSampling::held_trace_bytes) or no memory
    /// for open spans was left.
    pub spans_kept_early: u64,
    /// Capacity of the buffer in spans: see [`Config::buffer_capacity`](crate::Config::buffer_capacity).
    pub buffer_capacity: u64,
    /// Slabs of the buffer. While all are in use, spans are refused as
    /// [`BufferFull`](crate::Refused::BufferFull).
    pub buffer_slabs: u64,
    /// Slabs with at least one span without outcome at any destination. Excludes the slab that each
    /// recorder fills, which is not part of the buffer.
    pub buffer_slabs_used: u64,
    pub(crate) open_spans: OpenSpanCounts,
    /// One entry for each destination.
    pub(crate) exports: Vec<ExportedSpans>,
}

/// Use of the buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BufferUse {
    pub(crate) capacity: u64,
    pub(crate) slabs: u64,
    pub(crate) slabs_used: u64,
}

impl Stats {
    /// Returns the share of the buffer in use, from 0 to 1: [`buffer_slabs_used`](Self::buffer_slabs_used)
    /// of [`buffer_slabs`](Self::buffer_slabs).
    #[must_use]
    pub fn buffer_utilization(&self) -> f64 {
        self.buffer_slabs_used as f64 / self.buffer_slabs.max(1) as f64
    }

    pub(crate) fn new(account: Account, network: NetworkStats, buffer: BufferUse) -> Self {
        let Account {
            ledger,
            exports,
            open_spans,
            spans_without_memory,
            spans_kept_early,
        } = account;
        Self {
            ledger,
            network,
            spans_without_memory,
            spans_kept_early,
            buffer_capacity: buffer.capacity,
            buffer_slabs: buffer.slabs,
            buffer_slabs_used: buffer.slabs_used,
            open_spans,
            exports,
        }
    }
}

/// Sums of all counters.
pub(crate) struct Account {
    pub(crate) ledger: Ledger,
    /// One entry for each destination.
    pub(crate) exports: Vec<ExportedSpans>,
    pub(crate) open_spans: OpenSpanCounts,
    /// Spans opened without memory for their data.
    pub(crate) spans_without_memory: u64,
    pub(crate) spans_kept_early: u64,
}

/// Spans of one destination that were part of a request at least once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportedSpans {
    pub(crate) begun: u64,
    /// Dropped ones of these.
    pub(crate) dropped: DroppedSpans,
}

impl ExportedSpans {
    /// Counts spans without outcome as dropped, once the network thread has ended.
    pub(crate) fn close(&mut self, ledger: &DestinationLedger) {
        let settled = ledger.delivered + ledger.rejected + self.dropped.total();
        self.dropped.shut_down += self.begun.saturating_sub(settled);
    }
}

/// Location of the parent of an open span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParentOrigin {
    /// The span has no parent.
    None,
    Local,
    Remote,
}

/// Open spans, by [`ParentOrigin`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenSpanCounts {
    pub(crate) sampled: [u64; 3],
    pub(crate) unsampled: [u64; 3],
    /// Ended ones of the sampled spans.
    pub(crate) ended: u64,
}

impl OpenSpanCounts {
    /// Returns the sampled spans that have not ended.
    pub(crate) fn live(&self) -> u64 {
        // The end on one thread may become visible before the start on another.
        self.sampled.iter().sum::<u64>().saturating_sub(self.ended)
    }
}

/// Counters of the network thread.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NetworkStats {
    /// Requests with a response.
    pub requests: u64,
    /// Requests that were queued for a retry.
    pub retries: u64,
    /// Body bytes of requests with a response.
    pub body_bytes: u64,
    /// Time of the last success in Unix nanoseconds; 0 without a success.
    pub last_success_time: u64,
    /// Bodies compressed. A body counts once for all endpoints that share it.
    pub compressed: u64,
    /// Connections established.
    pub connections: u64,
    /// Wake-ups of the network thread by recorders.
    pub wake_ups: u64,
    /// Panics that the network thread survived without losing a span. Each is a bug of this library;
    /// please report it.
    pub panics: u64,
    /// Text of the last error of a connection or response.
    pub last_error: Option<String>,
    /// Number of such errors.
    pub(crate) errors: u64,
    pub(crate) refused_recently: RefusedSpans,
    /// One entry for each destination.
    pub destinations: Vec<DestinationStats>,
    /// Time from a span's end to its acknowledgement, over the collector's lifetime. Samples the spans
    /// of one batch of each request, another one in turn; excludes spans without an end time. The
    /// metric `otlp_collector.delivery.duration` has the same in buckets, from which quantiles of any
    /// period can be computed.
    pub delivery: DurationHistogram,
    pub(crate) delivery_buckets: Buckets,
}

impl NetworkStats {
    pub(crate) fn add_delivery(&mut self, us: u64) {
        self.delivery.record_us(us);
        self.delivery_buckets.add(us);
    }
}

impl Default for NetworkStats {
    fn default() -> Self {
        Self {
            requests: 0,
            retries: 0,
            body_bytes: 0,
            last_success_time: 0,
            compressed: 0,
            connections: 0,
            wake_ups: 0,
            panics: 0,
            last_error: None,
            errors: 0,
            refused_recently: RefusedSpans::default(),
            destinations: Vec::new(),
            delivery: DurationHistogram::new(),
            delivery_buckets: Buckets::default(),
        }
    }
}

/// Counters of one destination.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DestinationStats {
    /// URLs of the endpoints with commas between them.
    pub destination: String,
    /// One entry for each endpoint.
    pub endpoints: Vec<EndpointStats>,
    /// Requests that were queued for a retry.
    pub retries: u64,
    pub(crate) exports: Exports,
    pub(crate) recently: LostRecently,
    pub(crate) oldest_span_age: Option<Duration>,
}

/// Spans that a destination lost in the last ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LostRecently {
    pub(crate) dropped: DroppedSpans,
    pub(crate) rejected: u64,
}

/// Result of an export, by its last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Export {
    pub(crate) endpoint: usize,
    pub(crate) status: Option<u16>,
    /// Reason for which it was not a full success.
    pub(crate) error: Option<&'static str>,
}

impl Export {
    /// Returns the status, unless the export was a full success or has another reason.
    pub(crate) fn failure_status(&self) -> Option<u16> {
        let status = self.status.filter(|status| !(200..300).contains(status));
        status.filter(|_| self.error.is_none())
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.error.is_some() || self.failure_status().is_some()
    }
}

/// Export operations by result.
pub(crate) type Exports = BTreeMap<Export, ExportTotals>;

/// Totals over the export operations with one result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportTotals {
    /// Times from the first attempt to the outcome.
    pub(crate) durations: Buckets,
    /// Spans that were not delivered.
    pub(crate) failed_spans: u64,
}

impl DestinationStats {
    pub(crate) fn health(self) -> DestinationHealth {
        let endpoints = self.endpoints.into_iter();
        DestinationHealth {
            destination: self.destination,
            endpoints: endpoints.map(|endpoint| endpoint.health).collect(),
            oldest_span_age: self.oldest_span_age,
            dropped_recently: self.recently.dropped,
            rejected_recently: self.recently.rejected,
        }
    }
}

/// Counters of one endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Host of the URL.
    pub server_address: String,
    /// Port of the URL, or the scheme's default port.
    pub server_port: u16,
    /// State.
    pub health: EndpointHealth,
    /// Responses by status, with the time from the request's first byte to the response's end. Beyond 32
    /// different statuses, further ones are counted under the first of their class, such as 500.
    pub responses: BTreeMap<u16, Durations>,
    /// Requests without a response: the connection broke or the request timed out.
    pub unanswered: u64,
    /// Connections that could not be established, for example because the name has no address, the port is
    /// closed, or TLS failed.
    pub failed_connects: u64,
    /// Redirects that were followed.
    pub redirects: u64,
    /// Partial successes, which reject spans or contain a message.
    pub partial_successes: u64,
    /// Body bytes of requests with a response, before compression.
    pub body_bytes: u64,
    /// Connections established.
    pub connections: u64,
    /// Time of the last success in Unix nanoseconds; 0 without a success.
    pub last_success_time: u64,
    /// Time from a request's first byte to the end of its response.
    pub response_time: DurationHistogram,
}

/// Number of statuses that are counted separately.
const STATUSES_MAX: usize = 32;

/// Returns the status under which a response is counted: the status itself while there are few, then its
/// class. So a server that invents statuses causes neither memory use nor time series.
pub(crate) fn bounded_status(status: u16, is_known: bool, known: usize) -> u16 {
    if is_known || known < STATUSES_MAX {
        status
    } else {
        status / 100 * 100
    }
}

/// Returns the duration in microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl EndpointStats {
    pub(crate) fn add_response(&mut self, status: u16, us: u64) {
        self.response_time.record_us(us);
        let is_known = self.responses.contains_key(&status);
        let status = bounded_status(status, is_known, self.responses.len());
        self.responses.entry(status).or_default().add(us);
    }

    pub(crate) fn new(health: EndpointHealth, server_address: String, server_port: u16) -> Self {
        Self {
            server_address,
            server_port,
            health,
            responses: BTreeMap::new(),
            unanswered: 0,
            failed_connects: 0,
            redirects: 0,
            partial_successes: 0,
            body_bytes: 0,
            connections: 0,
            last_success_time: 0,
            response_time: DurationHistogram::new(),
        }
    }
}
