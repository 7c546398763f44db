//! Sends the pipeline's own metrics, from time to time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use crate::config::MetricsSettings;
use crate::exporter::context::Context;
use crate::exporter::endpoint::{Endpoint, Offer, Outcome};
use crate::exporter::network::ConnectionId;
use crate::exporter::request::Request;
use crate::metrics;
use crate::otlp::{Envelope, Run};
use crate::platform::clock::unix_nanos;
use crate::stats::Stats;

const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// What the last metrics get.
const LAST_WAIT: Duration = Duration::from_secs(1);

pub(crate) struct MetricsSender {
    endpoint: Endpoint,
    interval: Duration,
    next_at: Instant,
    start_time: u64,
    /// What is to be sent; newer numbers take its place when it fails for too long.
    request: Option<Arc<Request>>,
    on_the_way: bool,
    /// The next metrics are the last, or the last ones are made: until when they are waited for.
    last_until: Option<Instant>,
    last_are_made: bool,
}

impl MetricsSender {
    /// Its connections have the ids from `first_id` on.
    pub(crate) fn new(settings: &MetricsSettings, first_id: ConnectionId) -> Self {
        Self {
            endpoint: Endpoint::new(Arc::clone(&settings.endpoint), 0, first_id),
            interval: settings.interval,
            next_at: Instant::now() + settings.interval,
            start_time: unix_nanos(),
            request: None,
            on_the_way: false,
            last_until: None,
            last_are_made: false,
        }
    }

    pub(crate) fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let endpoint = self.endpoint.deadline(now);
        // The numbers may not have been to be had when they were due.
        let next = (!self.on_the_way).then(|| self.next_at.max(now + LOOK_AGAIN));
        (endpoint.into_iter().chain(next))
            .chain(self.last_until)
            .min()
    }

    /// Starts anew after something went wrong that should not.
    pub(crate) fn recover(&mut self, now: Instant) {
        self.endpoint.recover(now);
        self.on_the_way = false;
    }

    /// Sends metrics once more, now that all spans have an outcome.
    pub(crate) fn finish(&mut self, now: Instant) {
        if self.last_until.is_none() {
            self.last_until = Some(now + LAST_WAIT);
            self.next_at = now;
            self.endpoint.hurry();
        }
    }

    /// Nothing is left to be sent, or its endpoint does not take it.
    pub(crate) fn is_finished(&self, now: Instant) -> bool {
        let is_settled = self.request.is_none() || self.endpoint.is_backing_off(now);
        self.last_until
            .is_some_and(|until| now >= until || (self.last_are_made && is_settled))
    }

    /// The next metrics are to be sent.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.next_at
            && !self.on_the_way
            && !self.is_being_compressed(now)
            && !self.last_are_made
    }

    fn is_being_compressed(&self, now: Instant) -> bool {
        let compression = self.endpoint.compression(now);
        (self.request.as_ref()).is_some_and(|request| !request.is_ready(compression))
    }

    /// Does all that can be done without waiting; begins to send these numbers, if there are any.
    pub(crate) fn advance(&mut self, stats: Option<&Stats>, context: &mut Context<'_>) {
        if let Some(stats) = stats {
            self.next_at = context.now + self.interval;
            self.last_are_made = self.last_until.is_some();
            self.request = Some(Arc::new(self.request(stats, context.envelope)));
        }
        self.settle(context);
        while self.send(context) {
            self.settle(context);
        }
    }

    fn request(&self, stats: &Stats, envelope: &Envelope) -> Request {
        let elements = metrics::elements(stats, self.start_time, unix_nanos()).encode_to_vec();
        let run = Run {
            scope: 0,
            bytes: elements.len(),
        };
        // Metrics stand in their envelope as spans do: the fields have the same numbers.
        let mut body = envelope.heads(&[run]).concat();
        body.extend(elements);
        Request::of_body(Bytes::from(body))
    }

    fn settle(&mut self, context: &mut Context<'_>) {
        let mut done = Vec::new();
        self.endpoint.advance(context, &mut done);
        for done in done {
            self.on_the_way = false;
            match done.outcome {
                Outcome::Accepted { .. } | Outcome::Rejected | Outcome::TooLarge { .. } => {
                    self.request = None;
                }
                Outcome::Again | Outcome::Failed | Outcome::TooSlow { .. } => {}
            }
        }
    }

    fn send(&mut self, context: &mut Context<'_>) -> bool {
        let Some(request) = self.request.as_ref().filter(|_| !self.on_the_way) else {
            return false;
        };
        let compression = self.endpoint.compression(context.now);
        if !request.is_ready(compression) {
            if let Some(compressor) = context.compressor {
                compressor.compress(request, compression);
            }
            return false;
        }
        let Offer::Ready(connection) = self.endpoint.offer(false, context) else {
            return false;
        };
        self.on_the_way = true;
        self.endpoint
            .start(connection, Arc::clone(request), context.now);
        true
    }
}
