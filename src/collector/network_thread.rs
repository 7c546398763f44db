//! The network thread as others see it: its start, commands to it, and its end.

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

/// Longest wait for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that the thread may take to end after its deadline.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// End of the network thread.
struct ThreadEnd {
    has_failed: bool,
    /// The last counters.
    stats: NetworkStats,
}

/// Handle of the network thread.
pub(super) struct NetworkThread {
    pub(super) shared: Arc<Shared>,
    commands: Sender<Command>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    /// `None` before the thread's end.
    end: Arc<Mutex<Option<ThreadEnd>>>,
    /// Disconnected when the thread has ended and all notices were reported.
    notices_reported: Receiver<()>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

/// The result of a command with a reply.
enum CommandReply<T> {
    Received(T),
    /// No reply before the deadline.
    TimedOut,
    /// The thread has ended or is about to.
    Ended,
}

impl NetworkThread {
    /// Starts the thread, pinned to `core` if there is one.
    pub(super) fn start(
        exporter: Exporter,
        commands: Sender<Command>,
        notices_reported: Receiver<()>,
        shared: Arc<Shared>,
        core: Option<usize>,
    ) -> Result<Self, Error> {
        let (running, ended) = bounded::<()>(0);
        let (pinned, outcome) = bounded(1);
        let end = Arc::new(Mutex::new(None));
        let handle = thread::Builder::new()
            .name("otlp-network".to_string())
            .spawn({
                let end = Arc::clone(&end);
                let shared = Arc::clone(&shared);
                move || {
                    let result = core.map_or(Ok(()), affinity::pin);
                    let is_pinned = result.is_ok();
                    // The starting thread waits for it.
                    let _ = pinned.send(result);
                    if is_pinned {
                        *end.lock() = Some(run(exporter, &shared));
                    }
                    drop(running);
                }
            })
            .map_err(|error| Error::resources("cannot start the network thread", Some(error)))?;
        outcome.recv().unwrap_or(Ok(()))?;
        Ok(Self {
            shared,
            commands,
            ended,
            end,
            notices_reported,
            handle: Mutex::new(Some(handle)),
        })
    }

    pub(super) fn command(&self, command: Command) {
        // Fails only if the network thread has ended, as the caller learns by the missing reply.
        let _ = self.commands.send(command);
        self.shared.signal.wake();
    }

    /// Waits until all spans accepted before have an outcome.
    pub(super) fn flush(&self, deadline: Instant) -> Result<Ledger, Error> {
        self.shared.check_process()?;
        match self.ask(deadline, |done| Command::Flush { deadline, done }) {
            CommandReply::Received(()) => return Ok(self.ledger()),
            CommandReply::Ended => return Err(Error::shut_down(self.final_ledger()?)),
            CommandReply::TimedOut => {}
        }
        let ledger = self.ledger();
        if ledger.pending() == 0 {
            return Ok(ledger);
        }
        Err(self.timed_out(ledger))
    }

    /// Ends the thread and waits for its end.
    pub(super) fn shut_down(&self, deadline: Instant) -> Result<Ledger, Error> {
        self.shared.check_process()?;
        self.shared.signal.close();
        self.command(Command::ShutDown { deadline });
        match self.ended.recv_deadline(deadline + GRACE) {
            Err(RecvTimeoutError::Timeout) => Err(self.timed_out(self.ledger())),
            _ => self.final_ledger(),
        }
    }

    /// Returns the thread's state, and its counters if it responds.
    pub(super) fn stats(&self) -> (ThreadState, NetworkStats) {
        if self.shared.is_forked() {
            return (ThreadState::Forked, NetworkStats::default());
        }
        match self.ask(Instant::now() + REPLY_TIMEOUT, |reply| Command::Stats {
            reply,
        }) {
            CommandReply::Received(stats) => (ThreadState::Running, stats),
            CommandReply::TimedOut => (ThreadState::NotResponding, NetworkStats::default()),
            CommandReply::Ended => {
                self.join();
                match &*self.end.lock() {
                    Some(end) if end.has_failed => (ThreadState::Failed, end.stats.clone()),
                    Some(end) => (ThreadState::ShutDown, end.stats.clone()),
                    None => (ThreadState::Failed, NetworkStats::default()),
                }
            }
        }
    }

    /// Sends a command and waits for the reply.
    fn ask<T>(&self, deadline: Instant, command: impl Fn(Sender<T>) -> Command) -> CommandReply<T> {
        loop {
            let (reply, answer) = bounded(1);
            if self.commands.send(command(reply)).is_err() {
                return CommandReply::Ended;
            }
            self.shared.signal.wake();
            match answer.recv_deadline(deadline) {
                Ok(answer) => return CommandReply::Received(answer),
                Err(_) if self.has_ended() => return CommandReply::Ended,
                Err(_) if Instant::now() >= deadline => return CommandReply::TimedOut,
                // The thread dropped the command: after a panic that it survived, or since it ends.
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

    /// Returns the ledger after the thread's end, which is due.
    fn final_ledger(&self) -> Result<Ledger, Error> {
        self.join();
        let ledger = self.ledger();
        match &*self.end.lock() {
            Some(end) if !end.has_failed => Ok(ledger),
            _ => Err(Error::network_thread_failed(ledger)),
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Waits for the thread's end.
    fn join(&self) {
        let _ = self.ended.recv();
        if let Some(handle) = self.handle.lock().take() {
            // Callbacks may block, so the wait is limited, and there is only one.
            let _ = self.notices_reported.recv_timeout(GRACE);
            // Panics of the exporter are caught in `run`.
            let _ = handle.join();
        }
    }
}

impl Drop for NetworkThread {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            // A fork does not have the thread.
            mem::forget(self.handle.get_mut().take());
            // Disconnecting a channel takes its lock, which another thread may have held at the fork.
            mem::forget(self.commands.clone());
            mem::forget((self.ended.clone(), self.notices_reported.clone()));
        }
    }
}

/// Runs the exporter. After its end, for any reason, recorders refuse spans and the ledger counts the rest
/// as dropped.
fn run(exporter: Exporter, shared: &Shared) -> ThreadEnd {
    let result = catch_unwind(AssertUnwindSafe(|| exporter.run()));
    shared.signal.close();
    shared.counters.close();
    let result = result.unwrap_or_else(|_| Err(Box::default()));
    ThreadEnd {
        has_failed: result.is_err(),
        stats: result.unwrap_or_else(|stats| *stats),
    }
}
