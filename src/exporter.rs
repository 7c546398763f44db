//! The network thread: an event loop over the destinations.
//!
//! Each turn takes batches if they are due, advances every destination as far as possible without
//! waiting, and sleeps until the next deadline, event or wake-up.

pub(crate) mod backlog;
mod batch_forecast;
mod command;
mod compress;
pub(crate) mod connection;
mod context;
mod deliveries;
mod delivery;
mod endpoint;
mod flushes;
#[cfg(all(test, not(loom)))]
mod head_fuzz;
pub(crate) mod http;
mod metrics_sender;
mod moment;
mod network;
mod notices;
mod operation;
mod outcome;
pub(crate) mod request;
mod resolver;
mod shutdown;
#[cfg(all(test, not(loom)))]
mod simulation;
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
use crate::platform::clock::unix_nanos;
use crate::processor::Processor;
use crate::shared::Shared;
use crate::span::id_generator::RandomSource;
use crate::stats::notice::NoticeKind;
use crate::stats::{DestinationStats, NetworkStats, Stats};

use self::batch_forecast::BatchForecast;
pub(crate) use self::command::Command;
use self::compress::Compressor;
use self::context::Context;
use self::deliveries::Deliveries;
use self::flushes::Flushes;
use self::metrics_sender::MetricsSender;
use self::moment::Moment;
pub(crate) use self::network::system::SystemNetwork;
use self::notices::incident::Cause;
use self::notices::losses::{LossMonitor, LostSpans};
use self::notices::reporter::Report;
pub(crate) use self::notices::reporter::Reporter;
use self::shutdown::Shutdown;

/// Turns that may panic one after the other before the thread gives up.
const PANICS_MAX: u32 = 100;
/// The pause after a panic: its cause may make the next turn panic too.
const PANIC_PAUSE: Duration = Duration::from_millis(5);

/// The network thread's state: destinations, metrics, notices, flushes and the shutdown.
pub(crate) struct Exporter {
    shared: Arc<Shared>,
    network: SystemNetwork,
    commands: Receiver<Command>,
    processor: Processor,
    deliveries: Deliveries,
    compressor: Option<Compressor>,
    reporter: Reporter,
    losses: LossMonitor,
    metrics: Option<MetricsSender>,
    /// The statistics of the metrics' own requests, which metrics do not contain.
    metrics_stats: NetworkStats,
    stats: NetworkStats,
    /// Errors of which the last one is shared with recorders.
    errors_shared: u64,
    /// The time at which spans are taken next, even if there are few.
    next_take: Instant,
    forecast: BatchForecast,
    flushes: Flushes,
    shutdown: Option<Shutdown>,
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
            .any(|endpoint| endpoint.options.compression != Compression::None)
            .then(|| Compressor::start(settings.config.network_core, network.waker()))
            .transpose()?;
        let moment = moment();
        let destinations = &shared.counters.destinations;
        let deliveries = Deliveries::new(settings, destinations, moment, RandomSource::new);
        let metrics = (settings.metrics.as_ref())
            .map(|metrics| MetricsSender::new(metrics, deliveries.next_id(), moment));
        let open_span_bytes_total = settings.config.open_span_bytes_total;
        let (batch_size, timeout) = (settings.config.batch_size, settings.batch_timeout);
        Ok(Self {
            next_take: moment.now + timeout,
            forecast: BatchForecast::new(batch_size as u64, timeout, moment.now),
            shared,
            network,
            commands,
            processor,
            deliveries,
            compressor,
            reporter,
            losses: LossMonitor::new(open_span_bytes_total),
            metrics,
            metrics_stats: NetworkStats::default(),
            stats: NetworkStats::default(),
            errors_shared: 0,
            flushes: Flushes::default(),
            shutdown: None,
        })
    }

    /// Runs until shut down. Returns the last statistics, as an error if it had to give up.
    pub(crate) fn run(mut self) -> Result<NetworkStats, Box<NetworkStats>> {
        let mut panics_in_a_row = 0;
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(ControlFlow::Continue(())) => panics_in_a_row = 0,
                Ok(ControlFlow::Break(())) => {
                    self.finish();
                    return Ok(self.snapshot());
                }
                Err(_) if panics_in_a_row == PANICS_MAX => {
                    // The cause of the panics may make this panic too.
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
        let moment = moment();
        let now = moment.now;
        self.handle_commands(now);
        self.deliveries.note_unused(self.processor.reap());
        self.take_batches(now);
        self.advance_deliveries(moment);
        self.share_last_error();
        self.give_up_late(moment);
        self.send_metrics(moment);
        self.make_room(now);
        self.report_losses(moment);
        self.reporter.deliver_due(now);
        (self.flushes).finish(now, |end| self.deliveries.are_settled(end));
        if self.is_done(now) {
            return ControlFlow::Break(());
        }
        self.sleep(now);
        ControlFlow::Continue(())
    }

    /// Recovers from a panic: closes all connections and requeues the requests in flight.
    fn recover(&mut self) {
        let moment = moment();
        self.stats.panics += 1;
        self.report_panic(
            moment,
            "the network thread panicked and continues; please report it",
        );
        self.deliveries.recover(moment);
        if let Some(metrics) = &mut self.metrics {
            metrics.recover(moment);
        }
        thread::sleep(PANIC_PAUSE);
    }

    fn handle_commands(&mut self, now: Instant) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Flush { deadline, done } => self.begin_flush(deadline, done, now),
                Command::Stats { reply } => {
                    // Fails if the caller's own wait has ended.
                    let _ = reply.send(self.snapshot());
                }
                Command::ShutDown { deadline } => {
                    let has_metrics = self.metrics.is_some();
                    let shutdown = Shutdown::new(deadline, has_metrics, Instant::now());
                    self.shutdown = Some(shutdown.or(self.shutdown));
                    self.deliveries.expedite();
                }
                #[cfg(feature = "internals")]
                Command::Panic => panic!("commanded by a test"),
            }
        }
    }

    // ---- Taking batches ----

    fn take_batches(&mut self, now: Instant) {
        if self.deliveries.has_room(now) && self.is_due(now) {
            self.drain(now);
            self.next_take = now + self.shared.settings.batch_timeout;
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let waiting = self.processor.spans_waiting();
        let is_enough = match self.shutdown {
            None => self.forecast.is_complete(waiting, now),
            Some(_) => waiting > 0,
        };
        is_enough
            || now >= self.next_take
            || (self.has_few_slabs() && self.processor.has_sealed_slab())
    }

    fn has_few_slabs(&self) -> bool {
        self.shared.pool.slabs_left() < self.shared.settings.few_slabs
    }

    /// Takes all committed spans.
    fn drain(&mut self, now: Instant) {
        let deliveries = &mut self.deliveries;
        let mut spans = 0;
        let unused = (self.processor).drain(|batch, weight| {
            spans += batch.spans();
            deliveries.push(batch, weight);
        });
        deliveries.note_unused(unused);
        self.forecast.note_taken(spans, now);
    }

    // ---- Making room ----

    fn make_room(&mut self, now: Instant) {
        if self.may_drop() && self.has_few_slabs() {
            // Spans that no destination has room for now occupy slabs too.
            self.drain(now);
        }
        // Half of the buffer is for destinations that keep up; most of it if there are few slabs left.
        let lag_max = self.shared.settings.slabs / if self.has_few_slabs() { 8 } else { 2 };
        self.deliveries.limit_lag(lag_max, now);
        self.deliveries.release();
        if self.shared.settings.config.overflow == Overflow::DropOldest && self.has_few_slabs() {
            self.drop_oldest(now);
        }
    }

    /// Returns whether spans can be dropped to make room for new ones.
    fn may_drop(&self) -> bool {
        self.shared.settings.config.overflow == Overflow::DropOldest || self.deliveries.len() > 1
    }

    /// Makes room by dropping the oldest spans, with [`Overflow::DropOldest`].
    fn drop_oldest(&mut self, now: Instant) {
        // More than needed now, so that the next spans find room too.
        let enough = 2 * self.shared.settings.few_slabs;
        while self.shared.pool.slabs_left() < enough && self.deliveries.drop_oldest(now) {}
    }

    fn report_losses(&mut self, moment: Moment) {
        if self.losses.is_due(moment.now) {
            let lost = self.lost();
            self.losses.look(moment, lost, &mut self.reporter);
        }
    }

    /// Returns the spans lost so far.
    fn lost(&self) -> LostSpans {
        let (refused, without_memory, kept_early) = self.shared.counters.lost();
        LostSpans {
            refused,
            without_memory,
            kept_early,
            destinations: self.deliveries.lost(),
        }
    }

    // ---- Sending ----

    fn advance_deliveries(&mut self, moment: Moment) {
        self.deliveries.advance(&mut Context {
            moment,
            network: &self.network,
            envelope: &self.shared.settings.envelope,
            compressor: self.compressor.as_ref(),
            stats: &mut self.stats,
            reporter: &mut self.reporter,
        });
    }

    /// Shares the last error, so that the error of a call that times out can contain it.
    fn share_last_error(&mut self) {
        if self.errors_shared != self.stats.errors {
            self.errors_shared = self.stats.errors;
            (*self.shared.last_error.lock()).clone_from(&self.stats.last_error);
        }
    }

    fn send_metrics(&mut self, moment: Moment) {
        let now = moment.now;
        if self.shutdown.is_some()
            && self.is_settled()
            && let Some(metrics) = &mut self.metrics
        {
            metrics.finish(now);
        }
        // Earlier metrics are sent, if possible, before newer ones replace them.
        self.advance_metrics(moment, None);
        if self.metrics.as_ref().is_some_and(|m| m.is_due(now)) {
            let stats = self.stats();
            self.advance_metrics(moment, Some(&stats));
        }
    }

    fn advance_metrics(&mut self, moment: Moment, stats: Option<&Stats>) {
        let Some(metrics) = &mut self.metrics else {
            return;
        };
        let context = &mut Context {
            moment,
            network: &self.network,
            envelope: &self.shared.settings.envelope,
            compressor: self.compressor.as_ref(),
            stats: &mut self.metrics_stats,
            reporter: &mut self.reporter,
        };
        metrics.advance(stats, context);
    }

    /// Returns the statistics of the whole pipeline.
    fn stats(&self) -> Stats {
        let account = self.shared.counters.account();
        let buffer = self.shared.buffer_use();
        Stats::new(account, self.snapshot(), buffer)
    }

    // ---- Flush and shutdown ----

    fn begin_flush(&mut self, deadline: Instant, done: Sender<()>, now: Instant) {
        self.drain(now);
        self.deliveries.expedite();
        self.flushes
            .begin(self.deliveries.next_number(), deadline, done);
    }

    /// Drops the spans without an outcome when their part of a shutdown's time is over.
    fn give_up_late(&mut self, moment: Moment) {
        if (self.shutdown).is_some_and(|shutdown| shutdown.is_over_for_spans(moment.now)) {
            self.give_up(moment);
        }
    }

    fn is_done(&mut self, now: Instant) -> bool {
        let Some(shutdown) = self.shutdown else {
            return false;
        };
        shutdown.is_over(now) || (self.is_settled() && self.are_metrics_sent(now))
    }

    /// Returns whether all spans have an outcome.
    fn is_settled(&mut self) -> bool {
        self.processor.spans_waiting() == 0
            && self.deliveries.are_settled(self.deliveries.next_number())
    }

    /// Returns whether the last metrics were sent, or there are none.
    fn are_metrics_sent(&self, now: Instant) -> bool {
        self.metrics.as_ref().is_none_or(|m| m.is_finished(now))
    }

    /// Drops the spans that are left, so that every span has an outcome, and delivers notices that were
    /// held back.
    fn finish(&mut self) {
        let moment = moment();
        self.give_up(moment);
        self.reporter.lift_limits();
        let lost = self.lost();
        self.losses.finish(moment, lost, &mut self.reporter);
        self.reporter.finish(moment.now);
    }

    fn fail(&mut self) {
        self.stats.panics += 1;
        let message = "the network thread panicked repeatedly and was stopped; please report it";
        self.report_panic(moment(), message);
        self.finish();
    }

    fn report_panic(&mut self, moment: Moment, message: &str) {
        let report = Report {
            kind: NoticeKind::Panicked,
            cause: Cause::Other,
            endpoint: None,
            message,
            spans: 0,
            since: moment.now,
        };
        self.reporter.report(moment, &report);
    }

    fn give_up(&mut self, moment: Moment) {
        self.drain(moment.now);
        self.deliveries.give_up(moment);
    }

    fn snapshot(&self) -> NetworkStats {
        let moment = moment();
        let (refused_recently, lost_recently) = self.losses.recent(moment.now, &self.lost());
        let destinations = self.deliveries.stats(moment);
        let destinations = destinations.zip(lost_recently);
        let destinations =
            destinations.map(|(stats, recently)| DestinationStats { recently, ..stats });
        NetworkStats {
            refused_recently,
            destinations: destinations.collect(),
            ..self.stats.clone()
        }
    }

    // ---- Sleeping ----

    /// Waits for the next event. `now` is the time of the whole turn, so that deadlines that have passed
    /// since its start are met at once.
    fn sleep(&mut self, now: Instant) {
        let has_room = self.deliveries.has_room(now);
        let event = if !has_room {
            // Recorders that have ended may have left slabs that can be freed.
            WakeOn::FewSlabs
        } else if self.forecast.next_at(now).is_some() {
            // The thread wakes up by itself when the batch is due.
            WakeOn::TwoBatches
        } else {
            WakeOn::Batch
        };
        self.shared.signal.wake_on(event);
        // After `wake_on`: spans published before it are seen here, later ones wake the thread.
        let due = match event {
            WakeOn::Batch | WakeOn::TwoBatches => self.is_due(now),
            WakeOn::FewSlabs => {
                self.may_drop() && self.has_few_slabs() && self.processor.has_sealed_slab()
            }
            WakeOn::Nothing => false,
        };
        // Events of sockets are polled in any case.
        let at_once = due || !self.commands.is_empty();
        let deadline = if at_once {
            Some(now)
        } else {
            self.next_deadline(now, has_room)
        };
        self.poll(deadline.map(|at| at.saturating_duration_since(Instant::now())));
        if self.shared.signal.wake_on(WakeOn::Nothing) {
            self.stats.wake_ups += 1;
        }
    }

    fn next_deadline(&mut self, now: Instant, has_room: bool) -> Option<Instant> {
        let takes = has_room && self.processor.has_recorders();
        let metrics = self.metrics.as_ref().and_then(|m| m.deadline(now));
        (self.deliveries.deadline(now).into_iter())
            .chain(metrics)
            .chain(takes.then_some(self.next_take))
            .chain(self.forecast.next_at(now).filter(|_| takes))
            .chain(self.reporter.deadline(now))
            .chain(self.losses.deadline(has_room))
            .chain(self.shutdown.map(|shutdown| shutdown.next_deadline(now)))
            .min()
    }

    fn poll(&mut self, timeout: Option<Duration>) {
        self.network.poll(timeout, |id, readiness| {
            let is_known = self.deliveries.ready(id, readiness);
            if let Some(metrics) = self.metrics.as_mut().filter(|_| !is_known) {
                metrics.ready(id, readiness);
            }
        });
    }
}

/// Reads both clocks.
fn moment() -> Moment {
    Moment {
        now: Instant::now(),
        unix_nanos: unix_nanos(),
    }
}
