//! Delivery by a network thread, or without one in a disabled collector.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, unbounded};

use crate::buffer::Signal;
use crate::collector::network_thread::{GRACE, NetworkThread};
use crate::config::Settings;
use crate::error::Error;
#[cfg(feature = "internals")]
use crate::exporter::Command;
use crate::exporter::{Exporter, Reporter, SystemNetwork};
use crate::processor::{NewLane, Processor};
use crate::shared::Shared;
use crate::stats::NetworkStats;
use crate::stats::health::ThreadState;
use crate::stats::ledger::Ledger;

/// Delivery of a collector: its network thread, or the replacement of it.
pub(super) enum NetworkHandle {
    Thread(NetworkThread),
    Disabled(Disabled),
}

impl NetworkHandle {
    /// Allocates the buffer and starts the network thread, unless the collector is disabled.
    pub(super) fn start(
        settings: Settings,
        recorders: Receiver<NewLane>,
        reporter: Reporter,
        notices_reported: Receiver<()>,
    ) -> Result<(Arc<Shared>, Self), Error> {
        if settings.config.disabled {
            let shared = Arc::new(Shared::new(settings, Signal::new(|| ()))?);
            let network = Disabled {
                shared: Arc::clone(&shared),
                notices_reported,
            };
            return Ok((shared, Self::Disabled(network)));
        }
        let sockets = SystemNetwork::new()
            .map_err(|error| Error::resources("cannot create the event loop", Some(error)))?;
        let waker = sockets.waker();
        // Fails only if the network thread is gone and needs no wake-up.
        let signal = Signal::new(move || drop(waker.wake()));
        let shared = Arc::new(Shared::new(settings, signal)?);
        let (commands, orders) = unbounded();
        let exporter = Exporter::new(
            Arc::clone(&shared),
            sockets,
            orders,
            Processor::new(recorders),
            reporter,
        )
        .map_err(|error| Error::resources("cannot start the thread otlp-compress", Some(error)))?;
        let network = NetworkThread::start(
            exporter,
            commands,
            notices_reported,
            Arc::clone(&shared),
            shared.settings.config.network_core,
        )?;
        Ok((shared, Self::Thread(network)))
    }

    #[cfg(feature = "internals")]
    pub(super) fn command(&self, command: Command) {
        match self {
            Self::Thread(thread) => thread.command(command),
            Self::Disabled(_) => {}
        }
    }

    /// Waits until all spans accepted before have an outcome.
    pub(super) fn flush(&self, deadline: Instant) -> Result<Ledger, Error> {
        match self {
            Self::Thread(thread) => thread.flush(deadline),
            Self::Disabled(disabled) => disabled.flush(),
        }
    }

    /// Ends delivery and waits for its end.
    pub(super) fn shut_down(&self, deadline: Instant) -> Result<Ledger, Error> {
        match self {
            Self::Thread(thread) => thread.shut_down(deadline),
            Self::Disabled(disabled) => disabled.shut_down(),
        }
    }

    /// Returns the state, and the counters if the thread responds.
    pub(super) fn stats(&self) -> (ThreadState, NetworkStats) {
        match self {
            Self::Thread(thread) => thread.stats(),
            Self::Disabled(disabled) => (disabled.state(), NetworkStats::default()),
        }
    }

    /// Fails in a fork of the process that made the collector.
    pub(super) fn check_process(&self) -> Result<(), Error> {
        let shared = match self {
            Self::Thread(thread) => &thread.shared,
            Self::Disabled(disabled) => &disabled.shared,
        };
        shared.check_process()
    }
}

/// Replacement of the network thread in a disabled collector: every span has its outcome at once.
pub(super) struct Disabled {
    shared: Arc<Shared>,
    /// Disconnected when all notices about the configuration were reported.
    notices_reported: Receiver<()>,
}

impl Disabled {
    fn flush(&self) -> Result<Ledger, Error> {
        self.shared.check_process()?;
        let ledger = self.shared.counters.ledger();
        match self.state() {
            ThreadState::ShutDown => Err(Error::shut_down(ledger)),
            _ => Ok(ledger),
        }
    }

    fn shut_down(&self) -> Result<Ledger, Error> {
        self.shared.check_process()?;
        self.shared.signal.close();
        self.shared.counters.close();
        let _ = self.notices_reported.recv_timeout(GRACE);
        Ok(self.shared.counters.ledger())
    }

    fn state(&self) -> ThreadState {
        if self.shared.is_forked() {
            return ThreadState::Forked;
        }
        match self.shared.signal.is_closed() {
            true => ThreadState::ShutDown,
            false => ThreadState::Disabled,
        }
    }
}

impl Drop for Disabled {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            // Another thread may have held the channel's lock at the fork.
            mem::forget(self.notices_reported.clone());
        }
    }
}
