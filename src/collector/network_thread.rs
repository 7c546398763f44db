//! Starts the network thread, sends it commands, and waits for it.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use parking_lot::Mutex;

use crate::error::Error;
use crate::exporter::{Command, Exporter};
use crate::platform::affinity;
use crate::shared::Shared;
use crate::stats::NetworkStats;
use crate::stats::health::ThreadState;
use crate::stats::ledger::Ledger;

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long after its deadline the thread may take to end.
pub(super) const GRACE: Duration = Duration::from_millis(500);

type LastStats = Result<NetworkStats, Box<NetworkStats>>;

pub(super) struct NetworkThread {
    pub(super) shared: Arc<Shared>,
    commands: Sender<Command>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    /// Its last numbers, as an error if it had to give up; `None` before its end.
    last_stats: Arc<Mutex<Option<LastStats>>>,
    /// Disconnected when it has ended and all notices were passed on.
    notices_told: Receiver<()>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

/// The result of a question to the network thread.
enum CommandReply<T> {
    Is(T),
    /// Not before the deadline.
    Late,
    /// The thread has ended, or will right now.
    Gone,
}

impl NetworkThread {
    /// Starts it, on this core if one is given.
    pub(super) fn start(
        exporter: Exporter,
        commands: Sender<Command>,
        notices_told: Receiver<()>,
        shared: Arc<Shared>,
        core: Option<usize>,
    ) -> Result<Self, Error> {
        let (end, ended) = bounded(0);
        let (pinned, outcome) = bounded(1);
        let last_stats = Arc::new(Mutex::new(None));
        let handle = thread::Builder::new()
            .name("otlp-network".to_string())
            .spawn({
                let last_stats = Arc::clone(&last_stats);
                let shared = Arc::clone(&shared);
                move || {
                    let result = core.map_or(Ok(()), affinity::pin);
                    let is_pinned = result.is_ok();
                    // The starting thread waits for it.
                    let _ = pinned.send(result);
                    if is_pinned {
                        *last_stats.lock() = Some(run(exporter, &shared));
                    }
                    drop(end);
                }
            })
            .map_err(|error| Error::resources("cannot start the network thread", Some(error)))?;
        outcome.recv().unwrap_or(Ok(()))?;
        Ok(Self {
            shared,
            commands,
            ended,
            last_stats,
            notices_told,
            handle: Mutex::new(Some(handle)),
        })
    }

    pub(super) fn command(&self, command: Command) {
        // Fails only if the network thread is gone; the caller sees that by the answer.
        let _ = self.commands.send(command);
        self.shared.signal.wake();
    }

    /// Waits until all that was accepted before has an outcome.
    pub(super) fn flush(&self, deadline: Instant) -> Result<Ledger, Error> {
        self.shared.check_process()?;
        match self.ask(deadline, |done| Command::Flush { deadline, done }) {
            CommandReply::Is(()) => return Ok(self.ledger()),
            CommandReply::Gone => return Err(Error::ended(self.final_ledger()?)),
            CommandReply::Late => {}
        }
        let ledger = self.ledger();
        if ledger.pending() == 0 {
            return Ok(ledger);
        }
        Err(self.timed_out(ledger))
    }

    /// Ends it, and waits for that.
    pub(super) fn shut_down(&self, deadline: Instant) -> Result<Ledger, Error> {
        self.shared.check_process()?;
        self.shared.signal.close();
        self.command(Command::ShutDown { deadline });
        match self.ended.recv_deadline(deadline + GRACE) {
            Err(RecvTimeoutError::Timeout) => Err(self.timed_out(self.ledger())),
            _ => self.final_ledger(),
        }
    }

    /// How it is doing, and its numbers as far as they are known.
    pub(super) fn stats(&self) -> (ThreadState, NetworkStats) {
        if self.shared.is_forked() {
            return (ThreadState::Forked, NetworkStats::default());
        }
        match self.ask(Instant::now() + PATIENCE, |reply| Command::Stats { reply }) {
            CommandReply::Is(stats) => (ThreadState::Running, stats),
            CommandReply::Late => (ThreadState::NotResponding, NetworkStats::default()),
            CommandReply::Gone => {
                self.join();
                match self.last_stats.lock().clone() {
                    Some(Ok(stats)) => (ThreadState::Ended, stats),
                    Some(Err(stats)) => (ThreadState::Failed, *stats),
                    None => (ThreadState::Failed, NetworkStats::default()),
                }
            }
        }
    }

    /// Sends it a command and waits for the answer.
    fn ask<T>(&self, deadline: Instant, command: impl Fn(Sender<T>) -> Command) -> CommandReply<T> {
        loop {
            let (reply, answer) = bounded(1);
            if self.commands.send(command(reply)).is_err() {
                return CommandReply::Gone;
            }
            self.shared.signal.wake();
            match answer.recv_deadline(deadline) {
                Ok(answer) => return CommandReply::Is(answer),
                Err(_) if self.has_ended() => return CommandReply::Gone,
                Err(_) if Instant::now() >= deadline => return CommandReply::Late,
                // It let go of the question: by a panic that it has survived, or since it ends.
                Err(_) => {}
            }
        }
    }

    fn timed_out(&self, ledger: Ledger) -> Error {
        Error::timed_out(ledger, self.shared.last_error.lock().clone())
    }

    fn ledger(&self) -> Ledger {
        self.shared.counters.ledger()
    }

    /// The ledger once the thread has ended, or will right now.
    fn final_ledger(&self) -> Result<Ledger, Error> {
        self.join();
        let ledger = self.ledger();
        match &*self.last_stats.lock() {
            Some(Ok(_)) => Ok(ledger),
            Some(Err(_)) | None => Err(Error::network_thread_failed(ledger)),
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Waits for its end.
    fn join(&self) {
        let _ = self.ended.recv();
        if let Some(handle) = self.handle.lock().take() {
            // Whoever listens may take his time, but not for ever, and only once.
            let _ = self.notices_told.recv_timeout(GRACE);
            // Panics of the exporter are caught in `run`.
            let _ = handle.join();
        }
    }
}

impl Drop for NetworkThread {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            // It names a thread that is not there to be let go.
            mem::forget(self.handle.get_mut().take());
            // To disconnect a channel takes its lock, which another thread may have held at the
            // fork.
            mem::forget(self.commands.clone());
            mem::forget((self.ended.clone(), self.notices_told.clone()));
        }
    }
}

/// Runs the exporter; whatever ends it, recorders refuse spans afterwards and the ledger counts the
/// rest as dropped.
fn run(exporter: Exporter, shared: &Shared) -> LastStats {
    let result = catch_unwind(AssertUnwindSafe(|| exporter.run()));
    shared.signal.close();
    shared.counters.end();
    result.unwrap_or_else(|_| Err(Box::default()))
}
