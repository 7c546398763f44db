//! One round: a collector, its destinations, and all threads that use it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use otlp_collector::config::MetricsOptions;
use otlp_collector::internals::panic_network_thread;
use otlp_collector::span::{InstrumentationScope, KeepIf, ParentBased, Sampler, TailSampling};
use otlp_collector::stats::OnNotice;
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, EndpointOptions, Ledger, Overflow, Span};

use crate::dice::Dice;
use crate::servers::{Manner, Place};
use crate::spans::{Common, LARGE_BYTES, OPEN_MAX, Source};
use crate::tally::{Audit, Tally};
use crate::watchdog::{Phase, Watchdog};

/// Threads that keep a recorder.
const RESIDENTS: u64 = 2;
/// Threads that call everything else.
const MEDDLERS: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(3600);

/// When the collector is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// When a flush has succeeded, after the last span.
    Flushed,
    /// While spans are recorded.
    Amid,
    /// After the last span, when all destinations except failing ones have received everything.
    Late,
}

pub struct Round {
    seed: u64,
    actions: u64,
    ending: Ending,
    overflow: Overflow,
    tail_sampling: Option<TailSampling>,
    dice: Dice,
}

/// State that the threads of a round share.
struct Stage<'a> {
    round: &'a Round,
    places: &'a [Place],
    common: &'a Common,
    watchdog: &'a Watchdog,
    /// Servers are no longer disturbed.
    is_calm: AtomicBool,
    /// No more spans are recorded.
    is_over: AtomicBool,
    network_panics: AtomicU64,
}

/// Ends the round for the other threads when dropped, by a return or a panic.
struct Over<'a>(&'a Stage<'a>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_calm.store(true, Ordering::Release);
        self.0.is_over.store(true, Ordering::Release);
    }
}

impl Round {
    /// Creates a round. Six consecutive seeds have all combinations of overflow and tail sampling,
    /// and all endings.
    pub fn new(seed: u64, actions: u64) -> Self {
        let overflow = [
            Overflow::Refuse,
            Overflow::DropOldest,
            Overflow::Block { timeout_ms: 2 },
        ];
        let endings = [Ending::Flushed, Ending::Amid, Ending::Late];
        let tail_sampling = TailSampling {
            held_traces_max: 3,
            held_trace_bytes: 1000,
            ..TailSampling::new(KeepIf {
                slower_than: Some(Duration::from_micros(200)),
                failed: true,
                one_in: Some(3),
            })
        };
        Self {
            seed,
            actions,
            ending: endings[(seed / 2 % 3) as usize],
            overflow: overflow[(seed % 3) as usize],
            tail_sampling: seed.is_multiple_of(2).then_some(tail_sampling),
            dice: Dice::new(seed, 0),
        }
    }

    pub fn run(mut self, watchdog: &Watchdog) {
        let phase = watchdog.watch("the round");
        phase.enter("starting servers");
        let places = self.places();
        let metrics = Receiver::start_counting().unwrap();
        phase.enter("starting the collector");
        let config = self.config(&places, &metrics);
        let common = self.common(config);
        let stage = Stage {
            round: &self,
            places: &places,
            common: &common,
            watchdog,
            is_calm: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            network_panics: AtomicU64::new(0),
        };
        let ledger = stage.perform(&phase);
        phase.enter("checking");
        stage.check(&ledger);
        phase.enter("dropping the collector");
        drop(common);
        phase.enter("stopping servers");
    }

    fn places(&mut self) -> Vec<Place> {
        let mut manners = vec![Manner::Good];
        if self.ending == Ending::Late {
            manners.push(Manner::Dead);
        }
        for _ in 0..1 + self.dice.below(3) {
            manners.push(match self.ending {
                Ending::Flushed => self.dice.pick(&Manner::LASTING),
                Ending::Amid | Ending::Late => self.dice.pick(&Manner::ALL),
            });
        }
        println!("{:?}, {:?}, {manners:?}", self.ending, self.overflow);
        let manners = manners.into_iter();
        manners
            .map(|manner| Place::start(manner, self.ending != Ending::Flushed, &mut self.dice))
            .collect()
    }

    fn config(&mut self, places: &[Place], metrics: &Receiver) -> Config {
        let sampler = self.dice.pick(&[1.0, 0.7]);
        let mut metrics = MetricsOptions::new(metrics.endpoint());
        metrics.interval_ms = 5;
        metrics.endpoint.options = EndpointOptions {
            request_timeout_ms: 50,
            ..metrics.endpoint.options
        };
        let notices = Mutex::new(0_u64);
        Config {
            destinations: places.iter().map(|p| p.destination.clone()).collect(),
            sampler: ParentBased::new(Sampler::TraceIdRatio(sampler)).into(),
            tail_sampling: self.tail_sampling.clone(),
            open_span_bytes_total: 512 * (OPEN_MAX as usize + self.dice.below(100) as usize),
            open_span_bytes: 600,
            batch_size: 1 + self.dice.below(100) as usize,
            batch_timeout_ms: 1 + self.dice.below(5),
            buffer_capacity: 500 + self.dice.below(2000) as usize,
            slab_bytes: self.dice.pick(&[4096, LARGE_BYTES / 2]),
            metrics: Some(metrics),
            on_notice: Some(OnNotice::new(move |notice| {
                *notices.lock().unwrap() += notice.suppressed + 1;
                assert!(!notice.to_string().is_empty());
            })),
            overflow: self.overflow,
            recorders_max: 12,
            shutdown_timeout_ms: self.dice.pick(&[0, 20, 100]),
            ..Config::default()
        }
    }

    fn common(&mut self, config: Config) -> Common {
        let collector = Collector::new(config).unwrap();
        let scope = |name: String| {
            collector
                .register_scope(InstrumentationScope::new(name))
                .unwrap()
        };
        let elsewhere = Collector::new(small()).unwrap();
        let foreign = elsewhere.register_scope(InstrumentationScope::new("foreign"));
        Common {
            scopes: (0..3).map(|n| scope(format!("scope {n}"))).collect(),
            foreign: foreign.unwrap(),
            collector,
            tally: Tally::default(),
            moving: Mutex::default(),
            may_leak: self.dice.one_in(8),
        }
    }
}

/// Returns a configuration with little memory and no receiver.
fn small() -> Config {
    Config {
        endpoint: "http://127.0.0.1:1".to_string(),
        buffer_capacity: 100,
        batch_size: 10,
        recorders_max: 2,
        shutdown_timeout_ms: 0,
        ..Config::default()
    }
}

impl Stage<'_> {
    /// Runs all threads, and returns the last ledger after all recording has ended.
    fn perform(&self, phase: &Phase) -> Ledger {
        thread::scope(|threads| {
            let over = Over(self);
            let mut recording = Vec::new();
            for resident in 0..RESIDENTS {
                recording.push(threads.spawn(move || self.reside(resident)));
            }
            recording.push(threads.spawn(|| self.pass_by()));
            recording.push(threads.spawn(|| self.collect()));
            threads.spawn(|| self.audit());
            let disturber = threads.spawn(|| self.disturb());
            for meddler in 0..MEDDLERS {
                threads.spawn(move || self.meddle(meddler));
            }
            phase.enter("waiting for the recording threads");
            for thread in recording {
                thread.join().expect("a recording thread has not panicked");
            }
            phase.enter("ending the moving spans that are left");
            self.end_moving();
            phase.enter("waiting for the disturber");
            self.is_calm.store(true, Ordering::Release);
            disturber.join().expect("the disturber has not panicked");
            self.settle(phase);
            phase.enter("shutting down");
            self.shut_down();
            drop(over);
            phase.enter("waiting for the other threads");
        });
        self.common.collector.ledger()
    }

    fn dice(&self, thread: u64) -> Dice {
        Dice::new(self.round.seed, 1 + thread)
    }

    // ---- Recording threads ----

    /// Runs a thread that keeps its recorder.
    fn reside(&self, number: u64) {
        let phase = self.watchdog.watch("a recording thread");
        let recorder = self.common.collector.recorder();
        // Another thread may have shut the collector down already.
        let Ok(recorder) = recorder else { return };
        let mut source = Source {
            common: self.common,
            recorder: &recorder,
            dice: self.dice(number),
        };
        for _ in 0..self.round.actions {
            phase.enter("recording");
            source.make();
        }
        phase.enter("dropping its recorder");
        drop(recorder);
    }

    /// Runs successive short-lived threads, each with its own recorder.
    fn pass_by(&self) {
        let phase = self.watchdog.watch("the thread with passing threads");
        let mut dice = self.dice(10);
        let cores = Collector::cores();
        let mut passing = 0;
        while passing < self.round.actions {
            let actions = 1 + dice.below(6);
            passing += actions;
            phase.enter("a passing thread");
            let dice_of_thread = Dice::new(self.round.seed, 1000 + passing);
            if dice.one_in(8) {
                self.spawn_pinned(dice.pick(&cores), actions);
            } else {
                thread::scope(|threads| {
                    threads.spawn(|| self.pass(dice_of_thread, actions));
                });
            }
        }
    }

    fn pass(&self, dice: Dice, actions: u64) {
        let recorder = self.common.collector.recorder();
        // There may be too many recorders, or the collector was shut down.
        let Ok(recorder) = recorder else { return };
        let mut source = Source {
            common: self.common,
            recorder: &recorder,
            dice,
        };
        (0..actions).for_each(|_| source.make());
    }

    fn spawn_pinned(&self, core: usize, spans: u64) {
        let counted = Arc::new(AtomicU64::new(0));
        let tally = &self.common.tally;
        tally.begin(spans);
        let worker = self.common.collector.spawn_pinned(core, "pinned", {
            let counted = Arc::clone(&counted);
            move |recorder| {
                for _ in 0..spans {
                    let mut span = recorder.start("pinned");
                    span.set_attribute("core", core as u64);
                    drop(span);
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        match worker {
            Ok(worker) => {
                worker.join().expect("a pinned thread has not panicked");
                assert_eq!(counted.load(Ordering::Relaxed), spans);
                tally.end(spans);
            }
            Err(_) => tally.retract(spans),
        }
    }

    /// Runs a thread that uses `collect`.
    fn collect(&self) {
        let phase = self.watchdog.watch("a collecting thread");
        // Only for ids.
        let recorder = self.common.collector.recorder();
        let Ok(recorder) = recorder else { return };
        let mut source = Source {
            common: self.common,
            recorder: &recorder,
            dice: self.dice(20),
        };
        for _ in 0..self.round.actions {
            phase.enter("collecting");
            source.collect();
        }
    }

    fn end_moving(&self) {
        let moving = std::mem::take(&mut *self.common.moving.lock().unwrap());
        for span in moving {
            self.common.tally.end_with(span.try_end());
        }
    }

    // ---- Other threads ----

    /// Checks the ledger continuously.
    fn audit(&self) {
        let phase = self.watchdog.watch("the auditor");
        let mut audit = self.new_audit();
        while !self.is_over.load(Ordering::Acquire) {
            phase.enter("auditing");
            audit.check(|| self.common.collector.ledger());
            thread::yield_now();
        }
    }

    fn new_audit(&self) -> Audit<'_> {
        Audit::new(&self.common.tally, self.round.tail_sampling.is_none())
    }

    /// Disturbs the servers at a pace that the recording threads set.
    fn disturb(&self) {
        let phase = self.watchdog.watch("the disturber");
        let mut dice = self.dice(30);
        let mut next = 0;
        while !self.is_calm.load(Ordering::Acquire) {
            phase.enter("disturbing");
            if self.common.tally.attempted() >= next {
                next += 1 + dice.below(200);
                self.places
                    .iter()
                    .for_each(|place| place.disturb(&mut dice));
            }
            thread::yield_now();
        }
    }

    /// Calls all methods of the collector at random.
    fn meddle(&self, number: u64) {
        let phase = self.watchdog.watch("a meddler");
        let mut dice = self.dice(40 + number);
        let mut audit = self.new_audit();
        let collector = &self.common.collector;
        let end = self.round.actions * (1 + dice.below(8));
        while !self.is_over.load(Ordering::Acquire) {
            if self.round.ending == Ending::Amid && self.common.tally.attempted() >= end {
                phase.enter("shutting down while spans are recorded");
                self.shut_down();
            }
            match dice.below(10) {
                0 => {
                    phase.enter("flush");
                    let timeout = Duration::from_millis(dice.below(10));
                    audit.check(|| match collector.flush(timeout) {
                        Ok(ledger) => ledger,
                        Err(error) => error.ledger().expect("a ledger").clone(),
                    });
                }
                1 => {
                    phase.enter("stats");
                    audit.check(|| collector.stats().ledger);
                }
                2 => {
                    phase.enter("stats as text");
                    assert!(!collector.stats().to_prometheus().is_empty());
                }
                3 | 4 => {
                    phase.enter("health");
                    let health = collector.health();
                    assert!(!health.to_string().is_empty());
                    let _ = health.is_healthy();
                }
                5 => {
                    phase.enter("debug");
                    let texts = format!("{collector:?} {:?}", collector.pinning());
                    assert!(!texts.is_empty() && collector.buffer_bytes() > 0);
                }
                6 => {
                    phase.enter("scope");
                    let name = format!("scope {}", dice.below(20));
                    let scope = || collector.register_scope(InstrumentationScope::new(&*name));
                    assert_eq!(scope().unwrap(), scope().unwrap());
                }
                7 => {
                    phase.enter("another collector");
                    let passing = Collector::new(small()).unwrap();
                    for _ in 0..dice.below(30) {
                        passing.collect(Span::new("passing")).unwrap();
                    }
                }
                8 if dice.one_in(40) && self.round.seed % 4 == 3 => {
                    phase.enter("a panic of the network thread");
                    self.panic_network_thread();
                }
                _ => {
                    phase.enter("ledger");
                    audit.check(|| collector.ledger());
                    audit.check(|| collector.clone().ledger());
                }
            }
        }
    }

    fn panic_network_thread(&self) {
        // The thread ends after too many panics.
        if self.network_panics.fetch_add(1, Ordering::Relaxed) < 2 {
            panic_network_thread(&self.common.collector);
        }
    }

    // ---- The end ----

    /// Waits until all destinations that can accept everything have done so.
    fn settle(&self, phase: &Phase) {
        let collector = &self.common.collector;
        match self.round.ending {
            Ending::Amid => {}
            Ending::Late => {
                phase.enter("waiting for the good destination");
                // The good destination is the first.
                let is_pending = |ledger: &Ledger| {
                    let good = &ledger.destinations[0];
                    good.in_flight + good.buffered > 0
                };
                while is_pending(&collector.ledger()) {
                    thread::yield_now();
                }
            }
            Ending::Flushed => {
                phase.enter("the last flush");
                self.places.iter().for_each(Place::restore);
                let ledger = collector.flush(PATIENCE).unwrap();
                assert_eq!(ledger.pending(), 0, "{ledger}");
                self.new_audit().check(|| ledger);
            }
        }
    }

    /// Shuts down. Several threads may do so at the same time.
    fn shut_down(&self) {
        loop {
            match self.common.collector.shutdown() {
                Ok(_) => return,
                // Possible on a busy machine.
                Err(error) if error.is_timed_out() => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn check(&self, ledger: &Ledger) {
        let collector = &self.common.collector;
        self.new_audit().check(|| ledger.clone());
        self.common.tally.check_final(ledger);
        let stats = collector.stats();
        assert_eq!(stats.ledger, *ledger);
        assert_eq!(collector.shutdown().unwrap(), *ledger);
        let injected = self.network_panics.load(Ordering::Relaxed);
        let panics = stats.network.panics;
        assert!(panics <= injected, "{panics} panics, {injected} on purpose");
        let of_places = ledger.destinations.iter().zip(&stats.network.destinations);
        for (place, (ledger, stats)) in self.places.iter().zip(of_places) {
            let unanswered = stats.endpoints.iter().map(|e| e.unanswered);
            place.check(ledger, unanswered.sum::<u64>() + panics);
            if self.round.ending == Ending::Flushed {
                assert_eq!(ledger.dropped.shut_down, 0, "{ledger}");
            }
        }
        println!("{ledger}");
    }
}
