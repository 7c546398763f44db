//! The deliveries to all destinations, and the backlog that they share.

use std::sync::Arc;
use std::time::Instant;

use crate::buffer::Batch;
use crate::config::Settings;
use crate::exporter::backlog::Backlog;
use crate::exporter::context::Context;
use crate::exporter::delivery::Delivery;
use crate::exporter::endpoint::EndpointClient;
use crate::exporter::moment::Moment;
use crate::exporter::network::{ConnectionId, Readiness};
use crate::exporter::notices::losses::DestinationLosses;
use crate::exporter::request::BatchNumber;
use crate::span::id_generator::RandomSource;
use crate::stats::DestinationStats;
use crate::stats::counters::DestinationCounters;

/// The deliveries to all destinations.
pub(crate) struct Deliveries {
    all: Vec<Delivery>,
    backlog: Backlog,
    /// The routes of the connections, by [`ConnectionId`].
    routes: Vec<Route>,
}

/// The destination, endpoint and connection of a [`ConnectionId`], as indices.
#[derive(Clone, Copy)]
struct Route {
    destination: usize,
    endpoint: usize,
    connection: usize,
}

impl Deliveries {
    /// Creates a delivery for each destination. Each endpoint draws its waits from one of the generators.
    pub(crate) fn new(
        settings: &Settings,
        counters: &[Arc<DestinationCounters>],
        moment: Moment,
        mut generator: impl FnMut() -> RandomSource,
    ) -> Self {
        // The requests in flight of several destinations leave half of the buffer free.
        let share_max = match settings.destinations.len() as u64 {
            0 | 1 => Backlog::weight_of(settings.slabs) / 8 * 7,
            several => Backlog::weight_of(settings.slabs) / 2 / several,
        };
        let mut routes = Vec::new();
        let mut all = Vec::new();
        for (destination, counters) in settings.destinations.iter().zip(counters) {
            let mut endpoints = Vec::new();
            for (index, endpoint) in destination.endpoints.iter().enumerate() {
                let id = ConnectionId(routes.len());
                let connections = 0..endpoint.options.connections_max;
                let step = settings.config.slab_bytes;
                routes.extend(connections.map(|connection| Route {
                    destination: all.len(),
                    endpoint: index,
                    connection,
                }));
                let endpoint = Arc::clone(endpoint);
                endpoints.push(EndpointClient::new(endpoint, step, id, moment, generator()));
            }
            let counters = Arc::clone(counters);
            all.push(Delivery::new(
                endpoints,
                destination.selection,
                counters,
                share_max,
            ));
        }
        Self {
            all,
            backlog: Backlog::new(),
            routes,
        }
    }

    // ---- Queries ----

    /// Returns the first id after those of its connections.
    pub(crate) fn next_id(&self) -> ConnectionId {
        ConnectionId(self.routes.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the number that the next batch will have.
    pub(crate) fn next_number(&self) -> BatchNumber {
        self.backlog.next_number()
    }

    /// Returns whether all batches before this number have an outcome.
    pub(crate) fn are_settled(&self, end: BatchNumber) -> bool {
        self.all.iter().all(|delivery| delivery.oldest() >= end)
    }

    /// Returns whether more batches could be sent at once.
    pub(crate) fn has_room(&self, now: Instant) -> bool {
        // Without a destination they are accepted as well, and released.
        let mut deliveries = self.all.iter();
        self.all.is_empty() || deliveries.any(|delivery| delivery.has_room(&self.backlog, now))
    }

    /// Returns the time at which [`Self::advance`] has something to do even if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let deliveries = self.all.iter();
        deliveries
            .filter_map(|delivery| delivery.deadline(now))
            .min()
    }

    /// Returns the statistics of each destination, in the configured order.
    pub(crate) fn stats(&self, moment: Moment) -> impl Iterator<Item = DestinationStats> {
        let deliveries = self.all.iter();
        deliveries.map(move |delivery| delivery.stats(&self.backlog, moment))
    }

    /// Returns the spans lost so far, by destination.
    pub(crate) fn lost(&self) -> Vec<DestinationLosses> {
        self.all.iter().map(Delivery::lost).collect()
    }

    // ---- Commands ----

    pub(crate) fn push(&mut self, batch: Batch, weight: u64) {
        self.backlog.push(batch, weight);
    }

    /// Adds the weight of slabs that stay unused after the batches that were pushed.
    pub(crate) fn note_unused(&mut self, weight: u64) {
        self.backlog.note_unused(weight);
    }

    /// Notes a change of a connection's readiness. Returns false if the connection is another's.
    pub(crate) fn ready(&mut self, id: ConnectionId, readiness: Readiness) -> bool {
        let Some(route) = self.routes.get(id.0) else {
            return false;
        };
        let endpoint = self.all[route.destination].endpoint(route.endpoint);
        endpoint.ready(route.connection, readiness);
        true
    }

    /// Settles and sends as far as possible without waiting.
    pub(crate) fn advance(&mut self, context: &mut Context<'_>) {
        for delivery in &mut self.all {
            delivery.advance(&mut self.backlog, context);
        }
        self.release();
    }

    /// Sends everything now, as far as the endpoints allow.
    pub(crate) fn expedite(&mut self) {
        self.all.iter_mut().for_each(Delivery::expedite);
    }

    /// Drops everything without an outcome.
    pub(crate) fn give_up(&mut self, moment: Moment) {
        for delivery in &mut self.all {
            delivery.give_up(&self.backlog, moment);
        }
        self.release();
    }

    /// Closes all connections after a panic, and takes the requests back that were in flight.
    pub(crate) fn recover(&mut self, moment: Moment) {
        for delivery in &mut self.all {
            delivery.recover(moment);
        }
    }

    // ---- Making room ----

    /// Drops the oldest batches of destinations that lag the foremost by more than `slabs`.
    pub(crate) fn limit_lag(&mut self, slabs: usize, now: Instant) {
        let backlog = &self.backlog;
        let foremost = (self.all.iter()).max_by_key(|delivery| delivery.weight_before(backlog));
        let Some(foremost) = foremost.filter(|delivery| delivery.sets_the_pace(now)) else {
            return;
        };
        let last = (foremost.weight_before(backlog)).saturating_sub(Backlog::weight_of(slabs));
        for delivery in &mut self.all {
            while delivery.weight_before(backlog) < last {
                delivery.drop_oldest(backlog, now);
            }
        }
    }

    /// Drops the oldest batch or request of the destination that lags most. Returns whether there is
    /// one that is not in flight.
    pub(crate) fn drop_oldest(&mut self, now: Instant) -> bool {
        let backlog = &self.backlog;
        let last = (self.all.iter_mut()).min_by_key(|delivery| delivery.weight_before(backlog));
        let has_dropped = last.is_some_and(|delivery| delivery.drop_oldest(backlog, now));
        self.release();
        has_dropped
    }

    /// Releases batches that all destinations have sent or dropped.
    pub(crate) fn release(&mut self) {
        let last = self.all.iter().map(Delivery::position).min();
        self.backlog
            .release(last.unwrap_or(self.backlog.next_number()));
    }
}

#[cfg(all(test, not(loom)))]
impl Deliveries {
    /// Returns the spans of a destination without an outcome that are not in flight.
    pub(crate) fn waiting_spans(&self, destination: usize) -> u64 {
        self.all[destination].waiting_spans(&self.backlog)
    }

    /// Returns whether any connection of a destination is busy, and whether any is being opened.
    pub(crate) fn activity(&self, destination: usize) -> (bool, bool) {
        self.all[destination].activity()
    }
}
