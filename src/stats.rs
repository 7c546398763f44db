//! Counters and histograms of the pipeline so far, as a snapshot.

mod buckets;
pub(crate) mod counters;
pub(crate) mod health;
mod histogram;
pub(crate) mod ledger;
pub(crate) mod notice;
pub(crate) mod refused;

use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use self::buckets::Buckets;
pub use self::histogram::DurationHistogram;

use crate::stats::health::{DestinationHealth, EndpointHealth};
use crate::stats::ledger::{DestinationLedger, DroppedSpans, Ledger, RefusedSpans};

/// Counters and histograms of the pipeline so far: see [`Collector::stats`](crate::Collector::stats).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Where every span is.
    pub ledger: Ledger,
    /// The network thread's own numbers.
    pub network: NetworkStats,
    /// Open spans that began when [`Config::open_spans_max`](crate::Config::open_spans_max) were
    /// open on their recorder, and so kept no attributes, events or links: raise it.
    pub spans_without_memory: u64,
    /// Spans that the buffer holds: see [`Config::buffer_capacity`](crate::Config::buffer_capacity).
    pub buffer_capacity: u64,
    /// Slabs of the buffer. While all of them are used, spans are refused as
    /// [`BufferFull`](crate::Refused::BufferFull).
    pub buffer_slabs: u64,
    /// Slabs in use: filled with spans of which at least one waits, at any destination, for its
    /// request to be made, sent or answered, or to be sent again. Excludes the slab that each
    /// recorder is filling, which is not part of the buffer.
    pub buffer_slabs_used: u64,
    pub(crate) open_spans: OpenSpanCounts,
    /// Of each destination.
    pub(crate) exports: Vec<ExportCounts>,
}

/// How much of the buffer is used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BufferUse {
    pub(crate) capacity: u64,
    pub(crate) slabs: u64,
    pub(crate) slabs_used: u64,
}

impl Stats {
    /// Share of the buffer in use, from 0 to 1: [`buffer_slabs_used`](Self::buffer_slabs_used) of
    /// [`buffer_slabs`](Self::buffer_slabs).
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
        } = account;
        Self {
            ledger,
            network,
            spans_without_memory,
            buffer_capacity: buffer.capacity,
            buffer_slabs: buffer.slabs,
            buffer_slabs_used: buffer.slabs_used,
            open_spans,
            exports,
        }
    }
}

/// The sums of all counters.
pub(crate) struct Account {
    pub(crate) ledger: Ledger,
    /// Of each destination.
    pub(crate) exports: Vec<ExportCounts>,
    pub(crate) open_spans: OpenSpanCounts,
    /// Spans without memory for their data.
    pub(crate) spans_without_memory: u64,
}

/// Spans of one destination that were handed to endpoints at least once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportCounts {
    pub(crate) begun: u64,
    /// Of these.
    pub(crate) dropped: DroppedSpans,
}

impl ExportCounts {
    /// Spans without outcome are lost once the network thread has ended.
    pub(crate) fn close(&mut self, ledger: &DestinationLedger) {
        let settled = ledger.delivered + ledger.rejected + self.dropped.total();
        self.dropped.shut_down += self.begun.saturating_sub(settled);
    }
}

/// Where the parent of a started span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParentOrigin {
    /// There is none.
    None,
    Local,
    Remote,
}

/// Open spans, by [`ParentOrigin`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenSpanCounts {
    pub(crate) sampled: [u64; 3],
    pub(crate) unsampled: [u64; 3],
    /// Of the sampled ones.
    pub(crate) ended: u64,
}

impl OpenSpanCounts {
    /// Sampled spans that have not ended.
    pub(crate) fn live(&self) -> u64 {
        // One that ends on another thread may be seen to end before it is seen to start.
        self.sampled.iter().sum::<u64>().saturating_sub(self.ended)
    }
}

/// Counters of the network thread.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NetworkStats {
    /// Requests that got a response.
    pub requests: u64,
    /// Requests that were put back to be sent again.
    pub retries: u64,
    /// Bytes of the bodies of answered requests.
    pub body_bytes: u64,
    /// When the last success was received, in Unix nanoseconds; 0 if there was none.
    pub last_success_time: u64,
    /// Bodies compressed: one for all endpoints that ask for the same and keep up with each other.
    pub compressed: u64,
    /// Connections established.
    pub connections: u64,
    /// Times the network thread was woken by a recorder.
    pub wake_ups: u64,
    /// Times the network thread panicked and went on, without losing a span: a bug in this
    /// library, please report it.
    pub panics: u64,
    /// The last error of a connection or response, in words.
    pub last_error: Option<String>,
    /// How many there were.
    pub(crate) errors: u64,
    pub(crate) refused_recently: RefusedSpans,
    /// Of each destination.
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
    /// The URLs of its endpoints, with commas between them.
    pub destination: String,
    /// Of each endpoint.
    pub endpoints: Vec<EndpointStats>,
    /// Requests that were put back to be sent again.
    pub retries: u64,
    pub(crate) exports: Exports,
    pub(crate) recently: LostRecently,
    pub(crate) oldest_span_age: Option<Duration>,
}

/// Spans that one destination lost in the last ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LostRecently {
    pub(crate) dropped: DroppedSpans,
    pub(crate) rejected: u64,
}

/// How an export ended: by its last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Export {
    pub(crate) endpoint: usize,
    pub(crate) status: Option<u16>,
    /// Why it was no full success.
    pub(crate) error: Option<&'static str>,
}

impl Export {
    /// The status, unless the export was a full success or has another reason.
    pub(crate) fn failure_status(&self) -> Option<u16> {
        let status = self.status.filter(|status| !(200..300).contains(status));
        status.filter(|_| self.error.is_none())
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.error.is_some() || self.failure_status().is_some()
    }
}

/// Export operations by how they ended.
pub(crate) type Exports = BTreeMap<Export, ExportTotals>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportTotals {
    /// From the first attempt to the outcome.
    pub(crate) durations: Buckets,
    /// Spans that were not delivered for this reason.
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
    /// The host of its URL.
    pub server_address: String,
    /// The port of its URL, or the default one.
    pub server_port: u16,
    /// How it is doing.
    pub health: EndpointHealth,
    /// Responses by status, from the first byte of the request to the end of the response. Beyond 32
    /// different ones, further statuses are counted as the first of their class, as 500.
    pub responses: BTreeMap<u16, Durations>,
    /// Requests that got no response: the connection was broken or the time was over.
    pub unanswered: u64,
    /// Connections that could not be made: the name has no address, the port is closed, TLS failed.
    pub failed_connects: u64,
    /// Responses that led elsewhere and were followed.
    pub redirects: u64,
    /// Partial successes, which rejected spans or contained a message.
    pub partial_successes: u64,
    /// Bytes of the bodies of answered requests, before compression.
    pub body_bytes: u64,
    /// Connections established.
    pub connections: u64,
    /// When the last success was received, in Unix nanoseconds; 0 if there was none.
    pub last_success_time: u64,
    /// Time from a request's first byte to the end of its response.
    pub response_time: DurationHistogram,
}

/// How long things of one kind took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Durations {
    /// How many there were.
    pub count: u64,
    /// All of them together, in microseconds.
    pub sum_us: u64,
    /// The shortest.
    pub min_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Durations {
    pub(crate) fn add(&mut self, us: u64) {
        self.min_us = if self.count == 0 {
            us
        } else {
            self.min_us.min(us)
        };
        self.max_us = self.max_us.max(us);
        self.sum_us = self.sum_us.saturating_add(us);
        self.count += 1;
    }

    fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.min_us = match self.count {
            0 => other.min_us,
            _ => self.min_us.min(other.min_us),
        };
        self.max_us = self.max_us.max(other.max_us);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.count += other.count;
    }
}

/// Different statuses that are counted separately.
const STATUSES_MAX: usize = 32;

/// The status to count a response under, so that a server that invents statuses takes no more
/// memory and makes no more time series: the status itself while there are few, then its class.
pub(crate) fn bounded_status(status: u16, is_known: bool, known: usize) -> u16 {
    if is_known || known < STATUSES_MAX {
        status
    } else {
        status / 100 * 100
    }
}

/// The duration as histograms here have it.
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

    pub(crate) fn new(endpoint: String, server_address: String, server_port: u16) -> Self {
        Self {
            server_address,
            server_port,
            health: EndpointHealth::new(endpoint),
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
