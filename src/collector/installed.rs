//! Installing a collector, and the guards of that.

use std::fmt;
use std::marker::PhantomData;

use crate::collector::Collector;
use crate::error::Error;
use crate::recorder::{
    InstallationNumber, install, install_for_thread, uninstall, uninstall_for_thread,
};
use crate::stats::ledger::Ledger;

impl Collector {
    /// Makes this the collector of the process: [`span!`](crate::span!) and
    /// [`span_builder`](crate::span_builder) start its spans, on all threads, until the guard is dropped.
    ///
    /// ```
    /// use otlp_collector::{Collector, Config, span};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let receiver = otlp_collector::testing::Receiver::start()?;
    /// # let config = Config { endpoint: receiver.endpoint(), ..Config::default() };
    /// let installed = Collector::new(config)?.install()?;
    /// {
    ///     let _request = span!("GET /orders").entered();
    ///     let _query = span!("SELECT orders"); // a child of the request
    /// }
    /// let ledger = installed.shutdown()?;
    /// # assert_eq!(ledger.delivered(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A collector is installed for the process already ([`Error::is_config`]). One of the parent process
    /// of a fork does not count.
    pub fn install(&self) -> Result<Installed, Error> {
        let number = install(&self.pipeline.recorders).ok_or_else(|| {
            Error::config(
                "a collector is installed for this process already: drop its guard first, or install \
                 this one by install_for_thread()",
            )
        })?;
        Ok(Installed {
            collector: self.clone(),
            number,
        })
    }

    /// Makes this the calling thread's collector, instead of the process's, until the guard is dropped:
    /// for tests, of which each can have its own. Of several, the thread uses the one that was installed
    /// last and whose guard exists, in whichever order the guards are dropped.
    pub fn install_for_thread(&self) -> InstalledForThread {
        InstalledForThread {
            number: install_for_thread(&self.pipeline.recorders),
            _collector: self.clone(),
            _not_send: PhantomData,
        }
    }
}

/// Guard of the collector that is installed for the process: see [`Collector::install`].
///
/// When it is dropped, the collector is no longer installed, and is shut down as by
/// [`Collector::shutdown`]. [`shutdown`](Self::shutdown) also returns the ledger.
#[must_use = "the collector is shut down when the guard is dropped"]
pub struct Installed {
    collector: Collector,
    number: InstallationNumber,
}

impl Installed {
    /// Returns the collector.
    #[must_use]
    pub fn collector(&self) -> &Collector {
        &self.collector
    }

    /// Delivers what is there and shuts the collector down.
    ///
    /// # Errors
    /// As [`Collector::shutdown`].
    pub fn shutdown(self) -> Result<Ledger, Error> {
        uninstall(self.number);
        // The guard's drop finds it shut down.
        self.collector.shutdown()
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        uninstall(self.number);
        // There is no caller to return the error or the ledger to.
        let _ = self.collector.shutdown();
    }
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Installed").field(&self.collector).finish()
    }
}

/// Guard of the collector that is installed for a thread: see [`Collector::install_for_thread`].
#[must_use = "the collector is installed until the guard is dropped"]
pub struct InstalledForThread {
    number: InstallationNumber,
    /// Running as long as it is installed.
    _collector: Collector,
    _not_send: PhantomData<*const ()>,
}

impl Drop for InstalledForThread {
    fn drop(&mut self) {
        uninstall_for_thread(self.number);
    }
}

impl fmt::Debug for InstalledForThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstalledForThread").finish_non_exhaustive()
    }
}
