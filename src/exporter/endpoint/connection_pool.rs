//! The connections of one endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{EndpointSettings, Target};
use crate::exporter::connection::{Activity, Connection, ConnectionEvent};
use crate::exporter::context::Context;
use crate::exporter::endpoint::silence::STALLED;
use crate::exporter::network::ConnectionId;
use crate::exporter::resolver::Resolver;

/// A request that takes longer than this does not delay the next one. One connection at a time uses
/// all caches best, as long as it is fast enough.
const SLOW: Duration = Duration::from_millis(10);

/// The connections of one endpoint, open or closed.
pub(super) struct ConnectionPool {
    connections: Vec<Connection>,
}

impl ConnectionPool {
    /// Creates closed connections, which have the ids from `first_id` on.
    pub(super) fn new(settings: &Arc<EndpointSettings>, first_id: ConnectionId) -> Self {
        let ids = (first_id.0..).map(ConnectionId);
        let ids = ids.take(settings.options.connections_max);
        let resolver = Arc::new(Resolver::new(settings.options.connections_max));
        let connections = ids.map(|id| Connection::new(id, settings, &resolver));
        Self {
            connections: connections.collect(),
        }
    }

    pub(super) fn get(&mut self, index: usize) -> &mut Connection {
        &mut self.connections[index]
    }

    pub(super) fn indices(&self) -> std::ops::Range<usize> {
        0..self.connections.len()
    }

    // ---- Queries ----

    /// Returns a connection that is established and idle.
    pub(super) fn idle(&self) -> Option<usize> {
        self.connections.iter().position(Connection::is_ready)
    }

    /// Returns a connection that could be opened.
    pub(super) fn closed(&self) -> Option<usize> {
        self.connections.iter().position(Connection::is_closed)
    }

    pub(super) fn is_opening(&self) -> bool {
        self.connections.iter().any(Connection::is_opening)
    }

    /// Returns whether a request is in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.connections.iter().any(Connection::is_busy)
    }

    /// Returns the start of the oldest request in flight.
    pub(super) fn oldest_request(&self) -> Option<Instant> {
        self.requests_since().min()
    }

    /// Returns the time from which on all requests in flight are slow.
    pub(super) fn slow_at(&self) -> Option<Instant> {
        self.requests_since().max().map(|since| since + SLOW)
    }

    /// Returns the time from which on all requests in flight have stalled.
    pub(super) fn stalled_at(&self) -> Option<Instant> {
        self.requests_since().max().map(|since| since + STALLED)
    }

    pub(super) fn activities(&self) -> impl Iterator<Item = Activity> {
        self.connections.iter().filter_map(Connection::activity)
    }

    /// Returns the earliest time at which something is due even if nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        // A connection for the next request is only chosen if there is one left.
        let is_full = self.connections.iter().all(Connection::is_busy);
        let slow_at = self.slow_at().filter(|at| now < *at && !is_full);
        let stalled_at = self.stalled_at().filter(|at| now < *at);
        let connections = self
            .connections
            .iter()
            .filter_map(|connection| connection.deadline(now));
        connections.chain(slow_at).chain(stalled_at).min()
    }

    fn requests_since(&self) -> impl Iterator<Item = Instant> {
        self.connections.iter().filter_map(Connection::busy_since)
    }

    // ---- Commands ----

    /// Opens a connection. Returns the event if it fails at once.
    pub(super) fn open(
        &mut self,
        index: usize,
        target: &Arc<Target>,
        context: &Context<'_>,
    ) -> Option<ConnectionEvent> {
        let connection = &mut self.connections[index];
        connection.close(target);
        connection.open(context.moment.now, context.network)
    }

    /// Closes idle connections that lead elsewhere.
    pub(super) fn close_except_to(&mut self, target: &Arc<Target>) {
        let idle = self
            .connections
            .iter_mut()
            .filter(|connection| connection.is_ready());
        idle.filter(|connection| connection.target() != target)
            .for_each(|connection| connection.close(target));
    }

    pub(super) fn close_idle(&mut self, target: &Arc<Target>) {
        let idle = self
            .connections
            .iter_mut()
            .filter(|connection| connection.is_ready());
        idle.for_each(|connection| connection.close(target));
    }

    pub(super) fn close_all(&mut self, target: &Arc<Target>) {
        self.connections
            .iter_mut()
            .for_each(|connection| connection.close(target));
    }
}
