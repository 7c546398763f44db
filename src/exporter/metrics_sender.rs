//! Sends the pipeline's own metrics at an interval.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use crate::config::MetricsSettings;
use crate::exporter::context::Context;
use crate::exporter::endpoint::{EndpointClient, Offer};
use crate::exporter::moment::Moment;
use crate::exporter::network::{ConnectionId, Readiness};
use crate::exporter::outcome::Outcome;
use crate::exporter::request::Request;
use crate::metrics;
use crate::otlp::{Envelope, Run};
use crate::span::id_generator::RandomSource;
use crate::stats::Stats;

/// The interval of attempts to collect metrics that are due.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// The time for the last metrics.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The metrics' endpoint, and the metrics that are to be sent to it.
pub(crate) struct MetricsSender {
    endpoint: EndpointClient,
    /// The id of its first connection.
    first_id: ConnectionId,
    interval: Duration,
    next_at: Instant,
    start_time: u64,
    /// The metrics to be sent. Newer ones replace them when they fail for too long.
    request: Option<Arc<Request>>,
    in_flight: bool,
    /// The end of the time for the last metrics, from the moment on in which the next ones are the last.
    last_until: Option<Instant>,
    has_last: bool,
}

impl MetricsSender {
    /// Creates a sender whose connections have the ids from `first_id` on.
    pub(crate) fn new(settings: &MetricsSettings, first_id: ConnectionId, moment: Moment) -> Self {
        Self {
            endpoint: EndpointClient::new(
                Arc::clone(&settings.endpoint),
                0,
                first_id,
                moment,
                RandomSource::new(),
            ),
            first_id,
            interval: settings.interval,
            next_at: moment.now + settings.interval,
            start_time: moment.unix_nanos,
            request: None,
            in_flight: false,
            last_until: None,
            has_last: false,
        }
    }

    /// Notes a change of a connection's readiness.
    pub(crate) fn ready(&mut self, id: ConnectionId, readiness: Readiness) {
        self.endpoint.ready(id.0 - self.first_id.0, readiness);
    }

    /// Returns the time at which [`Self::advance`] has something to do even if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let endpoint = self.endpoint.deadline(now);
        // The last request may still be compressed when the next metrics are due.
        let next = (!self.in_flight).then(|| self.next_at.max(now + RETRY_INTERVAL));
        let last = self.last_until.filter(|until| now < *until);
        endpoint.into_iter().chain(next).chain(last).min()
    }

    /// Closes all connections after a panic. The request in flight is sent again.
    pub(crate) fn recover(&mut self, moment: Moment) {
        self.endpoint.recover(moment);
        self.in_flight = false;
    }

    /// Makes the next metrics the last: all spans have an outcome.
    pub(crate) fn finish(&mut self, now: Instant) {
        if self.last_until.is_none() {
            self.last_until = Some(now + LAST_WAIT);
            self.next_at = now;
            self.endpoint.skip_backoff();
        }
    }

    /// Returns whether the last metrics were sent, or are not accepted in time.
    pub(crate) fn is_finished(&self, now: Instant) -> bool {
        let is_settled = self.request.is_none() || self.endpoint.is_backing_off(now);
        self.last_until
            .is_some_and(|until| now >= until || (self.has_last && is_settled))
    }

    /// Returns whether the next metrics are to be collected.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.next_at && !self.in_flight && !self.is_being_compressed(now) && !self.has_last
    }

    fn is_being_compressed(&self, now: Instant) -> bool {
        let compression = self.endpoint.compression(now);
        (self.request.as_ref()).is_some_and(|request| !request.is_ready(compression))
    }

    /// Settles and sends as far as possible without waiting. `stats` are the metrics that are due.
    pub(crate) fn advance(&mut self, stats: Option<&Stats>, context: &mut Context<'_>) {
        if let Some(stats) = stats {
            self.next_at = context.moment.now + self.interval;
            self.has_last = self.last_until.is_some();
            let request = self.request(stats, context.moment.unix_nanos, context.envelope);
            self.request = Some(Arc::new(request));
        }
        self.settle(context);
        while self.send(context) {
            self.settle(context);
        }
    }

    fn request(&self, stats: &Stats, unix_nanos: u64, envelope: &Envelope) -> Request {
        let elements = metrics::elements(stats, self.start_time, unix_nanos).encode_to_vec();
        let run = Run {
            scope: 0,
            bytes: elements.len(),
        };
        // The envelope of metrics is that of spans: the fields have the same numbers.
        let mut body = envelope.heads(&[run]).concat();
        body.extend(elements);
        Request::of_body(Bytes::from(body))
    }

    fn settle(&mut self, context: &mut Context<'_>) {
        while let Some((_, outcome)) = self.endpoint.advance(context) {
            self.in_flight = false;
            match outcome {
                Outcome::Accepted { .. } | Outcome::Rejected { .. } | Outcome::TooLarge { .. } => {
                    self.request = None;
                }
                Outcome::RetryAfter { .. }
                | Outcome::NotDecoded { .. }
                | Outcome::Redirected { .. }
                | Outcome::ProxyDenied
                | Outcome::Lost { .. } => {}
            }
        }
    }

    fn send(&mut self, context: &mut Context<'_>) -> bool {
        let Some(request) = self.request.as_ref().filter(|_| !self.in_flight) else {
            return false;
        };
        let compression = self.endpoint.compression(context.moment.now);
        if !request.is_ready(compression) {
            if let Some(compressor) = context.compressor {
                compressor.compress(request, compression);
            }
            return false;
        }
        let Offer::Ready(link) = self.endpoint.offer(false, context) else {
            return false;
        };
        self.in_flight = true;
        self.endpoint
            .start(link, Arc::clone(request), context.moment.now);
        true
    }
}
