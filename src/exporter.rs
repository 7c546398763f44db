//! The network thread: an event loop over the endpoints.
//!
//! Each turn takes batches if they are due, lets every endpoint do what it can without waiting,
//! and sleeps until the next deadline, event or wake-up.

mod connection;
mod endpoint;
pub(crate) mod request;
mod resolve;
pub(crate) mod response;
mod retry;
mod transport;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Poll, Token, Waker};

use crate::buffer::Wanted;
use crate::config::{Overflow, Settings};
use crate::processor::Processor;
use crate::shared::Shared;
use crate::stats::NetworkStats;

use self::endpoint::{Context, Endpoint};

/// The waker's token; endpoints have those after it.
const WAKER: Token = Token(0);
const EVENTS_MAX: usize = 64;

/// What other threads ask of the network thread.
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
}

/// The poll and its waker, made before the thread starts so that errors reach the user.
pub(crate) fn poll() -> io::Result<(Poll, Arc<Waker>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    Ok((poll, Arc::new(waker)))
}

pub(crate) struct Exporter {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    poll: Poll,
    events: Events,
    commands: Receiver<Command>,
    processor: Processor,
    endpoints: Vec<Endpoint>,
    stats: NetworkStats,
    /// When spans are taken next, however few they are.
    next_take: Instant,
    flushes: Vec<Flush>,
    /// The deadline of the shutdown that was asked for.
    stop: Option<Instant>,
}

/// A flush under way.
struct Flush {
    /// For each endpoint: the batches before this number must be settled.
    marks: Vec<u64>,
    deadline: Instant,
    done: Sender<()>,
}

impl Exporter {
    pub(crate) fn new(
        settings: Arc<Settings>,
        shared: Arc<Shared>,
        (poll, waker): (Poll, Arc<Waker>),
        commands: Receiver<Command>,
        processor: Processor,
    ) -> Self {
        let counters = shared.counters.endpoints.iter();
        let endpoints = (settings.targets.iter().zip(counters))
            .enumerate()
            .map(|(index, (target, counters))| {
                Endpoint::new(
                    target.clone(),
                    Arc::clone(&settings),
                    Token(WAKER.0 + 1 + index),
                    Arc::clone(&waker),
                    Arc::clone(counters),
                )
            })
            .collect();
        Self {
            next_take: Instant::now() + settings.batch_timeout,
            settings,
            shared,
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            commands,
            processor,
            endpoints,
            stats: NetworkStats::default(),
            flushes: Vec::new(),
            stop: None,
        }
    }

    /// Runs until shut down; gives its last numbers.
    pub(crate) fn run(mut self) -> NetworkStats {
        loop {
            let now = Instant::now();
            self.obey_commands();
            self.processor.forget_gone();
            self.take_batches(now);
            self.advance_endpoints(now);
            self.shed();
            self.finish_flushes(now);
            if self.is_done(now) {
                return self.finish();
            }
            self.sleep();
        }
    }

    fn obey_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Flush { deadline, done } => self.begin_flush(deadline, done),
                Command::Stats { reply } => {
                    // Who asked may have gone.
                    let _ = reply.send(self.stats.clone());
                }
                Command::ShutDown { deadline } => {
                    self.stop = Some(self.stop.map_or(deadline, |other| other.min(deadline)));
                    self.endpoints.iter_mut().for_each(Endpoint::hurry);
                }
            }
        }
    }

    // ---- Taking batches ----

    fn take_batches(&mut self, now: Instant) {
        if self.wants_batches(now) && self.is_due(now) {
            self.drain();
            self.next_take = now + self.settings.batch_timeout;
        }
    }

    fn wants_batches(&self, now: Instant) -> bool {
        self.endpoints.iter().any(|e| e.wants_batches(now))
    }

    fn is_due(&mut self, now: Instant) -> bool {
        now >= self.next_take
            || self.stop.is_some()
            || self.processor.spans_waiting() >= u64::from(self.settings.batch_size)
            || (self.has_few_slabs() && self.processor.has_sealed_slab())
    }

    fn has_few_slabs(&self) -> bool {
        self.shared.pool.slabs_left() < self.shared.few_slabs
    }

    /// Takes all that is committed, for every endpoint.
    fn drain(&mut self) {
        let endpoints = &mut self.endpoints;
        self.processor.drain(|batch| {
            let (last, others) = endpoints.split_last_mut().expect("there is an endpoint");
            others.iter_mut().for_each(|e| e.enqueue(batch.clone()));
            last.enqueue(batch);
        });
    }

    /// Makes room by dropping the oldest, if the user has chosen that.
    fn shed(&mut self) {
        if self.settings.overflow != Overflow::DropOldest || !self.has_few_slabs() {
            return;
        }
        self.drain();
        // Somewhat more than asked for, so that it is not needed again at once.
        let enough = 2 * self.shared.few_slabs;
        while self.shared.pool.slabs_left() < enough {
            let dropped = self
                .endpoints
                .iter_mut()
                .filter_map(|e| e.drop_oldest().then_some(()));
            if dropped.count() == 0 {
                return;
            }
        }
    }

    // ---- Endpoints ----

    fn advance_endpoints(&mut self, now: Instant) {
        for endpoint in &mut self.endpoints {
            endpoint.advance(&mut Context {
                now,
                registry: self.poll.registry(),
                stats: &mut self.stats,
            });
        }
    }

    // ---- Flush and shutdown ----

    fn begin_flush(&mut self, deadline: Instant, done: Sender<()>) {
        self.drain();
        self.endpoints.iter_mut().for_each(Endpoint::hurry);
        self.flushes.push(Flush {
            marks: self.endpoints.iter().map(Endpoint::enqueued).collect(),
            deadline,
            done,
        });
    }

    fn finish_flushes(&mut self, now: Instant) {
        let endpoints = &self.endpoints;
        self.flushes.retain(|flush| {
            let mut pairs = flush.marks.iter().zip(endpoints);
            if pairs.all(|(mark, endpoint)| endpoint.oldest() >= *mark) {
                // Who asked may have gone.
                let _ = flush.done.send(());
                return false;
            }
            now < flush.deadline
        });
    }

    fn is_done(&mut self, now: Instant) -> bool {
        self.stop.is_some_and(|deadline| {
            now >= deadline
                || (self.processor.spans_waiting() == 0
                    && self.endpoints.iter().all(|e| e.oldest() == e.enqueued()))
        })
    }

    /// Gives up what is left, so that every span has an outcome.
    fn finish(mut self) -> NetworkStats {
        self.drain();
        self.endpoints.iter_mut().for_each(Endpoint::give_up);
        self.stats
    }

    // ---- Sleeping ----

    fn sleep(&mut self) {
        let now = Instant::now();
        let ready = self.wants_batches(now);
        let wanted = if ready {
            Wanted::Batch
        } else if self.settings.overflow == Overflow::DropOldest {
            Wanted::FewSlabs
        } else {
            // Nothing can be done about new spans before an endpoint is ready.
            Wanted::Nothing
        };
        self.shared.signal.want(wanted);
        // After `want`: what was published before it is seen here, the rest makes a wake-up.
        let due = match wanted {
            Wanted::Batch => self.is_due(now),
            Wanted::FewSlabs => self.has_few_slabs() && self.processor.has_sealed_slab(),
            Wanted::Nothing => false,
        };
        let awake = due || !self.commands.is_empty();
        if !awake {
            self.poll(now, ready);
        }
        if self.shared.signal.want(Wanted::Nothing) && wanted != Wanted::Nothing {
            self.stats.wake_ups += 1;
        }
    }

    fn poll(&mut self, now: Instant, ready: bool) {
        let takes = ready && self.processor.has_recorders();
        let deadline = (self.endpoints.iter().filter_map(|e| e.deadline(now)))
            .chain(takes.then_some(self.next_take))
            .chain(self.stop)
            .min();
        let timeout = deadline.map(|at| at.saturating_duration_since(now));
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "poll: {error}");
        }
        for event in &self.events {
            if let Some(index) = event.token().0.checked_sub(WAKER.0 + 1) {
                self.endpoints[index].ready(event);
            }
        }
    }
}
