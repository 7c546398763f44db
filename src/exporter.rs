//! The network thread: an event loop over the destinations.
//!
//! Each turn takes batches if they are due, lets every destination do what it can without waiting,
//! and sleeps until the next deadline, event or wake-up.

pub(crate) mod backlog;
mod compress;
mod connection;
mod context;
mod destination;
mod endpoint;
#[cfg(all(test, not(loom)))]
mod head_fuzz;
pub(crate) mod http;
mod metrics_sender;
mod network;
mod notices;
mod operation;
pub(crate) mod request;
mod resolve;
mod transport;

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::buffer::WakeOn;
use crate::config::{Compression, Overflow};
use crate::processor::Processor;
use crate::shared::Shared;
use crate::stats::notice::NoticeKind;
use crate::stats::{DestinationStats, NetworkStats, Stats};

use self::backlog::{Backlog, Number};
use self::compress::Compressor;
use self::context::Context;
use self::destination::Destination;
use self::endpoint::Endpoint;
use self::metrics_sender::MetricsSender;
use self::network::ConnectionId;
pub(crate) use self::network::system::SystemNetwork;
use self::notices::incident::Cause;
use self::notices::losses::{Losses, Lost};
use self::notices::reporter::Report;
pub(crate) use self::notices::reporter::Reporter;

/// Turns that may panic one after the other before the thread gives up.
const PANICS_MAX: u32 = 100;
/// Time of a shutdown that is kept for the last metrics, or a quarter of it if that is less.
const METRICS_SHARE: Duration = Duration::from_millis(200);
const PANIC_PAUSE: Duration = Duration::from_millis(5);

/// A request of another thread to the network thread.
pub(crate) enum Command {
    /// Tell when all spans committed before have an outcome.
    Flush {
        deadline: Instant,
        done: Sender<()>,
    },
    Stats {
        reply: Sender<NetworkStats>,
    },
    /// Deliver what there is until the deadline, then end.
    ShutDown {
        deadline: Instant,
    },
    /// Panic, to see what becomes of it.
    #[cfg(feature = "internals")]
    Panic,
}

pub(crate) struct Exporter {
    shared: Arc<Shared>,
    network: SystemNetwork,
    commands: Receiver<Command>,
    processor: Processor,
    backlog: Backlog,
    destinations: Vec<Destination>,
    compressor: Option<Compressor>,
    reporter: Reporter,
    losses: Losses,
    metrics: Option<MetricsSender>,
    /// The metrics' own requests are not among those that they tell of.
    metrics_stats: NetworkStats,
    /// The destination, endpoint and index of each connection's id. Those behind are the metrics'.
    routes: Vec<(usize, usize, usize)>,
    stats: NetworkStats,
    errors_shared: u64,
    /// When spans are taken next, however few they are.
    next_take: Instant,
    flushes: Vec<Flush>,
    stop: Option<Stop>,
}

/// The shutdown that was asked for.
#[derive(Clone, Copy)]
struct Stop {
    deadline: Instant,
    /// Spans without outcome are given up then, so that the last metrics can tell of them.
    spans_until: Instant,
}

/// A flush under way: the batches before this number must be settled everywhere.
struct Flush {
    mark: Number,
    deadline: Instant,
    done: Sender<()>,
}

impl Exporter {
    pub(crate) fn new(
        shared: Arc<Shared>,
        network: SystemNetwork,
        commands: Receiver<Command>,
        processor: Processor,
        reporter: Reporter,
    ) -> io::Result<Self> {
        let settings = &shared.settings;
        let mut endpoints = settings.destinations.iter().flat_map(|d| &d.endpoints);
        let metrics = settings.metrics.as_ref();
        let compressor = endpoints
            .by_ref()
            .chain(metrics.map(|metrics| &metrics.endpoint))
            .any(|endpoint| endpoint.compression != Compression::None)
            .then(|| Compressor::start(settings.config.network_core, network.waker()))
            .transpose()?;
        let (destinations, routes) = destinations(&shared);
        let metrics = settings
            .metrics
            .as_ref()
            .map(|metrics| MetricsSender::new(metrics, ConnectionId(routes.len())));
        let open_spans_max = settings.config.open_spans_max;
        Ok(Self {
            next_take: Instant::now() + settings.batch_timeout,
            shared,
            network,
            commands,
            processor,
            backlog: Backlog::new(),
            destinations,
            compressor,
            reporter,
            losses: Losses::new(open_spans_max),
            metrics,
            metrics_stats: NetworkStats::default(),
            routes,
            stats: NetworkStats::default(),
            errors_shared: 0,
            flushes: Vec::new(),
            stop: None,
        })
    }

    /// Runs until shut down; gives its last numbers, as an error if it had to give up.
    pub(crate) fn run(mut self) -> Result<NetworkStats, Box<NetworkStats>> {
        let mut panics_in_a_row = 0;
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(ControlFlow::Continue(())) => panics_in_a_row = 0,
                Ok(ControlFlow::Break(())) => {
                    self.wind_up();
                    return Ok(self.snapshot());
                }
                Err(_) if panics_in_a_row == PANICS_MAX => {
                    // In order, as far as that goes.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.fail()));
                    return Err(Box::new(self.snapshot()));
                }
                Err(_) => {
                    panics_in_a_row += 1;
                    self.recover();
                }
            }
        }
    }

    fn turn(&mut self) -> ControlFlow<()> {
        let now = Instant::now();
        self.obey_commands();
        self.backlog.note_unused(self.processor.reap());
        self.take_batches(now);
        self.advance_destinations(now);
        self.share_last_error();
        self.give_up_late(now);
        self.send_metrics(now);
        self.shed(now);
        if self.losses.is_due(now) {
            self.tell_losses(now);
        }
        self.reporter.tell_held_back(now);
        self.finish_flushes(now);
        if self.is_done(now) {
            return ControlFlow::Break(());
        }
        self.sleep(now);
        ControlFlow::Continue(())
    }

    /// Goes on after a panic: with fresh connections, and all that was on them taken back.
    fn recover(&mut self) {
        let now = Instant::now();
        self.stats.panics += 1;
        self.report_panic(
            now,
            "the network thread panicked and goes on; please report it",
        );
        for destination in &mut self.destinations {
            destination.recover(now);
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.recover(now);
        }
        // What has panicked may do so at once again.
        thread::sleep(PANIC_PAUSE);
    }

    fn obey_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Flush { deadline, done } => self.begin_flush(deadline, done),
                Command::Stats { reply } => {
                    // Who asked may have gone.
                    let _ = reply.send(self.snapshot());
                }
                Command::ShutDown { deadline } => {
                    self.stop_until(deadline);
                    self.destinations.iter_mut().for_each(Destination::hurry);
                }
                #[cfg(feature = "internals")]
                Command::Panic => panic!("as it was told"),
            }
        }
    }

    // ---- Taking batches ----

    fn take_batches(&mut self, now: Instant) {
        if self.wants_batches(now) && self.is_due(now) {
            self.drain();
            self.next_take = now + self.shared.settings.batch_timeout;
        }
    }

    fn wants_batches(&self, now: Instant) -> bool {
        // With nowhere to go they are taken as well, and let go of.
        self.destinations.is_empty()
            || (self.destinations.iter()).any(|d| d.wants_batches(&self.backlog, now))
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let enough = match self.stop {
            None => self.shared.settings.config.batch_size as u64,
            Some(_) => 1,
        };
        now >= self.next_take
            || self.processor.spans_waiting() >= enough
            || (self.has_few_slabs() && self.processor.has_sealed_slab())
    }

    fn has_few_slabs(&self) -> bool {
        self.shared.pool.slabs_left() < self.shared.settings.few_slabs
    }

    /// Takes all that is committed.
    fn drain(&mut self) {
        let backlog = &mut self.backlog;
        let unused = (self.processor).drain(|batch, weight| backlog.push(batch, weight));
        backlog.note_unused(unused);
    }

    // ---- Making room ----

    fn shed(&mut self, now: Instant) {
        if self.may_shed() && self.has_few_slabs() {
            // Spans that no destination has room for now occupy slabs too.
            self.drain();
        }
        self.keep_together(now);
        if self.shared.settings.config.overflow == Overflow::DropOldest && self.has_few_slabs() {
            self.drop_oldest(now);
        }
        self.release();
    }

    /// Whether spans can be dropped to make room for new ones.
    fn may_shed(&self) -> bool {
        self.shared.settings.config.overflow == Overflow::DropOldest || self.destinations.len() > 1
    }

    /// A destination that is behind the foremost by more than half the buffer loses its oldest:
    /// the other half is for those that keep up. When there are few slabs left, it is less.
    fn keep_together(&mut self, now: Instant) {
        let backlog = &self.backlog;
        let foremost = (self.destinations.iter()).max_by_key(|d| d.weight_before(backlog));
        let Some(foremost) = foremost.filter(|d| d.sets_the_pace(now)) else {
            return;
        };
        let slabs = self.shared.settings.slabs / if self.has_few_slabs() { 8 } else { 2 };
        let last = (foremost.weight_before(backlog)).saturating_sub(Backlog::weight_of(slabs));
        for destination in &mut self.destinations {
            while destination.weight_before(backlog) < last {
                destination.drop_oldest(backlog, now);
            }
        }
    }

    /// Makes room by dropping the oldest, as the user has chosen.
    fn drop_oldest(&mut self, now: Instant) {
        // Somewhat more than asked for, so that it is not needed again at once.
        let enough = 2 * self.shared.settings.few_slabs;
        while self.shared.pool.slabs_left() < enough {
            let backlog = &self.backlog;
            let last = (self.destinations.iter_mut()).min_by_key(|d| d.weight_before(backlog));
            let dropped = last.is_some_and(|destination| destination.drop_oldest(backlog, now));
            if !dropped {
                return;
            }
            self.release();
        }
    }

    /// Lets go of what all have sent or dropped.
    fn release(&mut self) {
        let last = self.destinations.iter().map(Destination::place).min();
        self.backlog.release(last.unwrap_or(self.backlog.end()));
    }

    fn tell_losses(&mut self, now: Instant) {
        let lost = self.lost();
        self.losses.look(now, lost, &mut self.reporter);
    }

    /// Spans lost so far.
    fn lost(&self) -> Lost {
        let (refused, without_memory) = self.shared.counters.lost();
        Lost {
            refused,
            without_memory,
            destinations: self.destinations.iter().map(Destination::lost).collect(),
        }
    }

    // ---- Destinations ----

    fn advance_destinations(&mut self, now: Instant) {
        for destination in &mut self.destinations {
            destination.advance(
                &mut self.backlog,
                &mut Context {
                    now,
                    network: &self.network,
                    envelope: &self.shared.settings.envelope,
                    compressor: self.compressor.as_ref(),
                    stats: &mut self.stats,
                    reporter: &mut self.reporter,
                },
            );
        }
        self.release();
    }

    /// So that the error of a call that timed out can contain it.
    fn share_last_error(&mut self) {
        if self.errors_shared != self.stats.errors {
            self.errors_shared = self.stats.errors;
            (*self.shared.last_error.lock()).clone_from(&self.stats.last_error);
        }
    }

    fn send_metrics(&mut self, now: Instant) {
        if self.stop.is_some()
            && self.is_settled()
            && let Some(metrics) = &mut self.metrics
        {
            metrics.finish(now);
        }
        // What can be sent is, before newer numbers take its place.
        self.advance_metrics(now, None);
        if self.metrics.as_ref().is_some_and(|m| m.is_due(now)) {
            let stats = self.stats();
            self.advance_metrics(now, Some(&stats));
        }
    }

    fn advance_metrics(&mut self, now: Instant, stats: Option<&Stats>) {
        let Some(metrics) = &mut self.metrics else {
            return;
        };
        let context = &mut Context {
            now,
            network: &self.network,
            envelope: &self.shared.settings.envelope,
            compressor: self.compressor.as_ref(),
            stats: &mut self.metrics_stats,
            reporter: &mut self.reporter,
        };
        metrics.advance(stats, context);
    }

    /// All numbers.
    fn stats(&self) -> Stats {
        let account = self.shared.counters.account();
        let buffer = self.shared.buffer_use();
        Stats::new(account, self.snapshot(), buffer)
    }

    // ---- Flush and shutdown ----

    fn begin_flush(&mut self, deadline: Instant, done: Sender<()>) {
        self.drain();
        self.destinations.iter_mut().for_each(Destination::hurry);
        self.flushes.push(Flush {
            mark: self.backlog.end(),
            deadline,
            done,
        });
    }

    fn finish_flushes(&mut self, now: Instant) {
        let destinations = &self.destinations;
        self.flushes.retain(|flush| {
            if destinations.iter().all(|d| d.oldest() >= flush.mark) {
                // Who asked may have gone.
                let _ = flush.done.send(());
                return false;
            }
            now < flush.deadline
        });
    }

    fn stop_until(&mut self, deadline: Instant) {
        if self.stop.is_some_and(|stop| stop.deadline <= deadline) {
            return;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let for_metrics = match self.metrics {
            Some(_) => METRICS_SHARE.min(left / 4),
            None => Duration::ZERO,
        };
        self.stop = Some(Stop {
            deadline,
            spans_until: deadline - for_metrics,
        });
    }

    /// Gives up spans whose time is over.
    fn give_up_late(&mut self, now: Instant) {
        if self.stop.is_some_and(|stop| now >= stop.spans_until) {
            self.give_up(now);
        }
    }

    fn is_done(&mut self, now: Instant) -> bool {
        let Some(stop) = self.stop else {
            return false;
        };
        now >= stop.deadline || (self.is_settled() && self.is_told(now))
    }

    /// All spans have an outcome.
    fn is_settled(&mut self) -> bool {
        let end = self.backlog.end();
        self.processor.spans_waiting() == 0 && self.destinations.iter().all(|d| d.oldest() == end)
    }

    /// The last metrics were sent, or there are none.
    fn is_told(&self, now: Instant) -> bool {
        self.metrics.as_ref().is_none_or(|m| m.is_finished(now))
    }

    /// Gives up what is left, so that every span has an outcome, and reports what was held back.
    fn wind_up(&mut self) {
        let now = Instant::now();
        self.give_up(now);
        self.reporter.lift_limits();
        let lost = self.lost();
        self.losses.finish(now, lost, &mut self.reporter);
        self.reporter.finish(now);
    }

    fn fail(&mut self) {
        self.stats.panics += 1;
        let message = "the network thread panicked repeatedly and was stopped; please report it";
        self.report_panic(Instant::now(), message);
        self.wind_up();
    }

    fn report_panic(&mut self, now: Instant, message: &str) {
        let report = Report {
            kind: NoticeKind::Panicked,
            cause: Cause::Other,
            endpoint: None,
            message,
            spans: 0,
            since: now,
        };
        self.reporter.report(now, &report);
    }

    fn give_up(&mut self, now: Instant) {
        self.drain();
        for destination in &mut self.destinations {
            destination.give_up(&self.backlog, now);
        }
        self.release();
    }

    fn snapshot(&self) -> NetworkStats {
        let now = Instant::now();
        let (refused_recently, lost_recently) = self.losses.recent(now, &self.lost());
        let destinations = self.destinations.iter().zip(lost_recently);
        let destinations = destinations.map(|(destination, recently)| DestinationStats {
            recently,
            ..destination.stats(&self.backlog, now)
        });
        NetworkStats {
            refused_recently,
            destinations: destinations.collect(),
            ..self.stats.clone()
        }
    }

    // ---- Sleeping ----

    /// `now` is what all others have seen of this turn: what has become due since then is not
    /// slept through.
    fn sleep(&mut self, now: Instant) {
        let ready = self.wants_batches(now);
        let event = if ready {
            WakeOn::Batch
        } else {
            // Recorders that are gone may have left slabs that can be freed.
            WakeOn::FewSlabs
        };
        self.shared.signal.wake_on(event);
        // After `wake_on`: spans published before it are seen here, later ones wake the thread.
        let due = match event {
            WakeOn::Batch => self.is_due(now),
            WakeOn::FewSlabs => {
                self.may_shed() && self.has_few_slabs() && self.processor.has_sealed_slab()
            }
            WakeOn::Nothing => false,
        };
        // Events of sockets are polled in any case.
        let at_once = due || !self.commands.is_empty();
        let deadline = if at_once {
            Some(now)
        } else {
            self.next_deadline(now, ready)
        };
        self.poll(deadline.map(|at| at.saturating_duration_since(Instant::now())));
        if self.shared.signal.wake_on(WakeOn::Nothing) {
            self.stats.wake_ups += 1;
        }
    }

    fn next_deadline(&mut self, now: Instant, ready: bool) -> Option<Instant> {
        let takes = ready && self.processor.has_recorders();
        let metrics = self.metrics.as_ref().and_then(|m| m.deadline(now));
        (self.destinations.iter().filter_map(|d| d.deadline(now)))
            .chain(metrics)
            .chain(takes.then_some(self.next_take))
            .chain(self.reporter.deadline(now))
            .chain(self.losses.deadline(ready))
            .chain(self.stop.map(|stop| {
                // Spans are given up once.
                if now < stop.spans_until {
                    stop.spans_until
                } else {
                    stop.deadline
                }
            }))
            .min()
    }

    fn poll(&mut self, timeout: Option<Duration>) {
        self.network.poll(timeout, |id, readiness| {
            if let Some(&(destination, endpoint, connection)) = self.routes.get(id.0) {
                let endpoint = self.destinations[destination].endpoint(endpoint);
                endpoint.ready(connection, readiness);
            } else if let Some(metrics) = &mut self.metrics {
                let connection = id.0 - self.routes.len();
                metrics.endpoint().ready(connection, readiness);
            }
        });
    }
}

/// All destinations, and the destination, endpoint and index of each connection's id.
fn destinations(shared: &Shared) -> (Vec<Destination>, Vec<(usize, usize, usize)>) {
    let settings = &shared.settings;
    let mut routes = Vec::new();
    let counters = shared.counters.destinations.iter();
    // What several destinations have on the way leaves half the buffer free.
    let share_max = match settings.destinations.len() as u64 {
        0 | 1 => Backlog::weight_of(settings.slabs) / 8 * 7,
        several => Backlog::weight_of(settings.slabs) / 2 / several,
    };
    let destinations = (settings.destinations.iter().zip(counters))
        .enumerate()
        .map(|(destination, (chosen, counters))| {
            let endpoints = chosen
                .endpoints
                .iter()
                .enumerate()
                .map(|(index, endpoint)| {
                    let first_id = ConnectionId(routes.len());
                    let endpoint =
                        Endpoint::new(Arc::clone(endpoint), settings.config.slab_bytes, first_id);
                    let connections = 0..endpoint.connections();
                    routes.extend(connections.map(|connection| (destination, index, connection)));
                    endpoint
                });
            let endpoints = endpoints.collect();
            Destination::new(endpoints, chosen.selection, Arc::clone(counters), share_max)
        })
        .collect();
    (destinations, routes)
}
