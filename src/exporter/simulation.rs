//! Deliveries in simulated time, against simulated servers: no socket, no thread, no sleep.
//!
//! A simulation jumps from one event to the next: a deadline of the deliveries, or an event of a server. At
//! each it passes readiness on, advances both sides until nothing more happens, and checks what must always
//! hold. The same seed makes the same simulation.

mod server;
mod spans;
mod tests;

use std::cell::{RefCell, RefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use crossbeam_utils::CachePadded;

use crate::config::{
    Compression, Config, Destination, Endpoint, EndpointOptions, MetricsOptions, Selection,
    Settings,
};
use crate::exporter::compress::{CompressionQueue, Compressor};
use crate::exporter::context::Context;
use crate::exporter::deliveries::Deliveries;
use crate::exporter::metrics_sender::MetricsSender;
use crate::exporter::moment::Moment;
use crate::exporter::network::simulated::SimulatedNetwork;
use crate::exporter::notices::callback::Callback;
use crate::exporter::notices::reporter::Reporter;
use crate::span::id_generator::RandomSource;
use crate::stats::counters::{Counters, RecorderCounters};
use crate::stats::notice::Notice;
use crate::stats::{BufferUse, DestinationStats, NetworkStats, Stats};

use self::server::Server;
use self::spans::SpanSource;

/// Turns at one moment, and turns in a row that are due but change nothing.
const TURNS_MAX: u32 = 2000;
const IDLE_TURNS_MAX: u32 = 3;
/// The beginning of each simulation, by the wall clock.
const EPOCH_NANOS: u64 = 1_700_000_000_000_000_000;

pub(crate) struct Simulation {
    start: Instant,
    now: Instant,
    settings: Settings,
    network: SimulatedNetwork,
    deliveries: Deliveries,
    metrics: Option<MetricsSender>,
    metrics_stats: NetworkStats,
    compressor: Compressor,
    compression_queue: CompressionQueue,
    counters: Counters,
    recorder: Arc<CachePadded<RecorderCounters>>,
    stats: NetworkStats,
    reporter: Reporter,
    notices: Receiver<Notice>,
    source: SpanSource,
    recorded: u64,
    servers: Vec<RefCell<Server>>,
}

/// One destination of a simulation with its servers.
struct Plan {
    selection: Selection,
    options: EndpointOptions,
    servers: Vec<Server>,
}

impl Plan {
    fn new(servers: impl IntoIterator<Item = Server>) -> Self {
        Self {
            selection: Selection::FailOver,
            options: EndpointOptions::default(),
            servers: servers.into_iter().collect(),
        }
    }

    fn options(self, change: impl FnOnce(&mut EndpointOptions)) -> Self {
        let mut options = self.options;
        change(&mut options);
        Self { options, ..self }
    }

    fn round_robin(self) -> Self {
        Self {
            selection: Selection::RoundRobin,
            ..self
        }
    }
}

impl Simulation {
    fn new(seed: u64, plans: impl IntoIterator<Item = Plan>) -> Self {
        let (config, servers) = configure(plans, None);
        Self::build(seed, Settings::new(&config).unwrap(), servers)
    }

    /// With metrics every ten seconds, which go to a server of their own, the last one.
    fn with_metrics(plans: impl IntoIterator<Item = Plan>, server: Server) -> Self {
        let (config, servers) = configure(plans, Some(server));
        Self::build(1, Settings::new(&config).unwrap(), servers)
    }

    /// Like [`Self::with_metrics`], with bodies that are sent when [`Self::compress`] has finished them.
    fn with_compression(plans: impl IntoIterator<Item = Plan>, metrics_server: Server) -> Self {
        let (config, servers) = configure(plans, Some(metrics_server));
        let mut settings = Settings::new(&config).unwrap();
        let destinations = settings.destinations.iter_mut();
        let endpoints = destinations.flat_map(|destination| &mut destination.endpoints);
        let metrics = settings.metrics.iter_mut().map(|m| &mut m.endpoint);
        for endpoint in endpoints.chain(metrics) {
            // Set after the checks: the feature is not needed, because nothing is really compressed.
            Arc::get_mut(endpoint).unwrap().options.compression = Compression::Gzip;
        }
        Self::build(1, settings, servers)
    }

    fn build(seed: u64, settings: Settings, servers: Vec<RefCell<Server>>) -> Self {
        let destinations = settings.destinations.iter().map(|_| Arc::default());
        let counters = Counters::new(destinations.collect(), 1);
        let mut seeds = seed * 1000..;
        let start = Instant::now();
        let moment = Moment {
            now: start,
            unix_nanos: EPOCH_NANOS,
        };
        let deliveries = Deliveries::new(&settings, &counters.destinations, moment, || {
            RandomSource::seeded(seeds.next().unwrap())
        });
        let (queue, notices) = unbounded();
        let (compressor, compression_queue) = Compressor::without_thread();
        let next_id = deliveries.next_id();
        let metrics = settings.metrics.as_ref();
        Self {
            metrics: metrics.map(|metrics| MetricsSender::new(metrics, next_id, moment)),
            metrics_stats: NetworkStats::default(),
            start,
            now: start,
            network: SimulatedNetwork::new(),
            deliveries,
            compressor,
            compression_queue,
            recorder: counters.register(0).unwrap(),
            counters,
            stats: NetworkStats::default(),
            reporter: Reporter::with_callback(Callback::to(queue)),
            notices,
            source: SpanSource::new(&settings),
            recorded: 0,
            servers,
            settings,
        }
    }

    // ---- Queries ----

    fn server(&self, index: usize) -> RefMut<'_, Server> {
        self.servers[index].borrow_mut()
    }

    /// Milliseconds since the start.
    fn ms(&self, at: Instant) -> u64 {
        (at - self.start).as_millis() as u64
    }

    /// Returns the times at which a server received requests, in milliseconds since the start.
    fn times(&self, server: usize) -> Vec<u64> {
        let server = self.server(server);
        server.received.iter().map(|r| self.ms(r.at)).collect()
    }

    fn unix_nanos(&self) -> u64 {
        EPOCH_NANOS + (self.now - self.start).as_nanos() as u64
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.now,
            unix_nanos: self.unix_nanos(),
        }
    }

    fn destination(&self, index: usize) -> DestinationStats {
        let mut stats = self.deliveries.stats(self.moment());
        stats.nth(index).unwrap()
    }

    /// Returns the counts of delivered, rejected and dropped spans.
    fn outcomes(&self, destination: usize) -> (u64, u64, u64) {
        let counters = &self.counters.destinations[destination];
        let (delivered, rejected) = (counters.delivered.get(), counters.rejected.get());
        (delivered, rejected, counters.dropped().total())
    }

    /// Returns whether more batches could be sent at once.
    fn has_room(&self) -> bool {
        self.deliveries.has_room(self.now)
    }

    fn is_settled(&self) -> bool {
        self.deliveries.are_settled(self.deliveries.next_number())
    }

    // ---- Commands ----

    /// Records `spans` spans of `bytes` bytes each, and passes them to the deliveries.
    fn record(&mut self, spans: u32, bytes: usize) {
        for _ in 0..spans {
            let end_time = self.unix_nanos();
            if self.source.record(bytes, end_time) {
                self.recorder.accept();
                self.recorded += 1;
            }
        }
        self.source.drain(&mut self.deliveries);
        self.turn();
    }

    /// Finishes the compression of all queued bodies. Returns their number.
    fn compress(&mut self) -> usize {
        let bodies = self.compression_queue.finish();
        self.turn();
        bodies
    }

    /// Ends all waits that no server has requested.
    fn expedite(&mut self) {
        self.deliveries.expedite();
        self.turn();
    }

    /// Makes the next metrics the last.
    fn finish_metrics(&mut self) {
        self.metrics.as_mut().unwrap().finish(self.now);
        self.turn();
    }

    fn are_metrics_finished(&self) -> bool {
        self.metrics.as_ref().unwrap().is_finished(self.now)
    }

    fn limit_lag(&mut self, slabs: usize) {
        self.deliveries.limit_lag(slabs, self.now);
        self.turn();
    }

    fn drop_oldest(&mut self) {
        self.deliveries.drop_oldest(self.now);
        self.turn();
    }

    /// Takes everything back as after a panic.
    fn recover(&mut self) {
        self.deliveries.recover(self.moment());
        self.turn();
    }

    /// Drops everything without an outcome.
    fn give_up(&mut self) {
        self.deliveries.give_up(self.moment());
        self.check();
    }

    fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms), |_| false);
    }

    /// Runs until all spans have an outcome. Returns whether that was within the time.
    fn settle(&mut self, within: Duration) -> bool {
        self.run(within, Self::is_settled)
    }

    /// Runs for some time, or until something has happened. Returns whether it has.
    fn run(&mut self, duration: Duration, has_happened: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + duration;
        self.turn();
        while !has_happened(self) {
            let servers = self.servers.iter();
            let events = servers.filter_map(|server| server.borrow().next_event());
            let next = events.chain(self.deadline()).min();
            match next.filter(|next| *next <= end) {
                None => {
                    self.now = end;
                    self.turn();
                    return has_happened(self);
                }
                Some(next) => self.now = self.now.max(next),
            }
            self.turn();
        }
        true
    }

    /// Advances both sides until nothing more happens at this moment.
    fn turn(&mut self) {
        let mut idle_turns = 0;
        for turns in 0.. {
            assert!(turns < TURNS_MAX, "the same moment never ends");
            let mut has_changed = self.pass_readiness();
            self.advance();
            self.advance_metrics();
            has_changed |= self.connect();
            let now = self.now;
            for server in &self.servers {
                has_changed |= server.borrow_mut().advance(now);
            }
            self.check();
            let is_due = self.deadline().is_some_and(|at| at <= now);
            if !has_changed && !is_due {
                break;
            }
            idle_turns = if has_changed { 0 } else { idle_turns + 1 };
            assert!(idle_turns <= IDLE_TURNS_MAX, "a deadline stays in the past");
        }
    }

    fn advance(&mut self) {
        let moment = self.moment();
        self.deliveries.advance(&mut Context {
            moment,
            network: &self.network,
            envelope: &self.settings.envelope,
            compressor: Some(&self.compressor),
            stats: &mut self.stats,
            reporter: &mut self.reporter,
        });
    }

    fn deadline(&self) -> Option<Instant> {
        let metrics = self.metrics.as_ref();
        let metrics = metrics.and_then(|metrics| metrics.deadline(self.now));
        let deliveries = self.deliveries.deadline(self.now);
        deliveries.into_iter().chain(metrics).min()
    }

    fn advance_metrics(&mut self) {
        let moment = self.moment();
        let Some(metrics) = &mut self.metrics else {
            return;
        };
        let context = &mut Context {
            moment,
            network: &self.network,
            envelope: &self.settings.envelope,
            compressor: Some(&self.compressor),
            stats: &mut self.metrics_stats,
            reporter: &mut self.reporter,
        };
        metrics.advance(None, context);
        if metrics.is_due(self.now) {
            let stats = Stats::new(
                self.counters.account(),
                self.stats.clone(),
                BufferUse::default(),
            );
            metrics.advance(Some(&stats), context);
        }
    }

    fn pass_readiness(&mut self) -> bool {
        let changes = self.network.take_readiness();
        for (id, readiness) in &changes {
            if !self.deliveries.ready(*id, *readiness) {
                self.metrics.as_mut().unwrap().ready(*id, *readiness);
            }
        }
        !changes.is_empty()
    }

    fn connect(&mut self) -> bool {
        let peers = self.network.take_connections();
        let is_any = !peers.is_empty();
        for peer in peers {
            let server = usize::from(peer.address.port() - port(0));
            self.server(server).connect(peer, self.now);
        }
        is_any
    }

    // ---- Invariants ----

    fn check(&self) {
        for (index, counters) in self.counters.destinations.iter().enumerate() {
            let in_flight = counters.in_flight.get();
            let (delivered, rejected, dropped) = self.outcomes(index);
            let waiting = self.deliveries.waiting_spans(index);
            let all = waiting + in_flight + delivered + rejected + dropped;
            assert_eq!(all, self.recorded, "each span is in one place");
            let (is_busy, is_opening) = self.deliveries.activity(index);
            assert!(
                in_flight == 0 || is_busy || is_opening,
                "nothing is in flight"
            );
            assert!(in_flight > 0 || !is_busy, "something is in flight");
        }
        let endpoints = self.settings.destinations.iter();
        let endpoints = endpoints.flat_map(|destination| &destination.endpoints);
        for (endpoint, server) in endpoints.zip(&self.servers) {
            if let Some(last) = server.borrow().received.last() {
                assert!(
                    last.body_bytes <= endpoint.options.request_bytes_max,
                    "too large"
                );
            }
        }
    }

    /// After the end: servers have accepted exactly the spans that were counted, except those whose
    /// response the client did not receive.
    fn check_end(&self) {
        assert!(self.is_settled());
        let mut servers = self.servers.iter();
        let destinations = self.settings.destinations.iter().enumerate();
        for (index, destination) in destinations {
            let (delivered, rejected, _) = self.outcomes(index);
            let (mut confirmed, mut accepted, mut unconfirmed) = (0, 0, 0);
            let mut partially_rejected = 0;
            for server in servers.by_ref().take(destination.endpoints.len()) {
                let server = server.borrow();
                confirmed += server.confirmed;
                unconfirmed += server.unconfirmed;
                partially_rejected += server.rejected;
                accepted += server
                    .accepted
                    .values()
                    .map(|times| u64::from(*times))
                    .sum::<u64>();
            }
            assert_eq!(delivered, confirmed, "delivered as confirmed");
            assert!(rejected >= partially_rejected);
            assert_eq!(accepted, confirmed + partially_rejected + unconfirmed);
        }
    }
}

/// Returns the options for the plans, and their servers, in order.
fn configure(
    plans: impl IntoIterator<Item = Plan>,
    metrics_server: Option<Server>,
) -> (Config, Vec<RefCell<Server>>) {
    let mut servers = Vec::new();
    let mut destinations = Vec::new();
    for plan in plans {
        let mut endpoints = Vec::new();
        for server in plan.servers {
            endpoints.push(Endpoint {
                url: format!("http://127.0.0.1:{}", port(servers.len())),
                options: plan.options.clone(),
            });
            servers.push(RefCell::new(server));
        }
        destinations.push(Destination {
            endpoints,
            selection: plan.selection,
        });
    }
    let metrics = metrics_server.map(|server| {
        let url = format!("http://127.0.0.1:{}", port(servers.len()));
        servers.push(RefCell::new(server));
        MetricsOptions {
            interval_ms: 10_000,
            ..MetricsOptions::new(url)
        }
    });
    let config = Config {
        destinations,
        metrics,
        slab_bytes: 4096,
        buffer_capacity: 4096,
        ..Config::default()
    };
    (config, servers)
}

fn port(server: usize) -> u16 {
    20_000 + server as u16
}
