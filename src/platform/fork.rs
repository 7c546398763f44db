//! Tells a process from its forks, without a system call.
//!
//! A fork copies all memory and one thread. So everything that must not be used twice, or that
//! another thread may have been changing, keeps the [`Process`] that it was made in.

#![allow(
    unsafe_code,
    reason = "registers a handler for forks with the C library"
)]

use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How many forks lie between the first process that [`watch`]ed and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// The process id that belongs to the generation; 0 before the first [`watch`].
static PROCESS_ID: AtomicU32 = AtomicU32::new(0);

/// One process in a line of forks: the one in which something was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// The process that this runs in, which is watched from now on.
    pub(crate) fn current() -> Self {
        watch();
        Self(generation())
    }

    /// Whether this still runs there, and not in a fork of it.
    #[inline(always)]
    pub(crate) fn is_current(self) -> bool {
        self.0 == generation()
    }

    /// As a number that is never `u32::MAX`.
    pub(crate) fn generation(self) -> u32 {
        self.0
    }
}

/// The number of this process in its line of forks, never `u32::MAX`.
#[inline(always)]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Has forks counted from now on: those by the C library at once, others (a bare system call) at
/// the next call of this.
pub(crate) fn watch() {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    // Two threads may both come here first. To count each fork twice does no harm, while waiting
    // for the other thread could last for ever in a fork.
    if !IS_WATCHED.load(Ordering::Acquire) {
        PROCESS_ID.store(process::id(), Ordering::Relaxed);
        call_after_fork();
        IS_WATCHED.store(true, Ordering::Release);
    }
    let (known, id) = (PROCESS_ID.load(Ordering::Relaxed), process::id());
    // Of several threads one counts the fork.
    let exchange =
        |known| PROCESS_ID.compare_exchange(known, id, Ordering::Relaxed, Ordering::Relaxed);
    if known != id && exchange(known).is_ok() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs in the fork, between `fork` and its return; so it only stores numbers.
#[cfg(all(unix, not(miri)))]
extern "C" fn count_fork() {
    PROCESS_ID.store(process::id(), Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

#[cfg(all(unix, not(miri)))]
fn call_after_fork() {
    // SAFETY: the handler is a function of this program that takes nothing and cannot unwind. It
    // runs in a process with one thread and does only what is allowed there: it stores to atomics
    // and calls getpid. A failure leaves the check of the process id in `watch`.
    let _ = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
}

/// Platforms without fork.
#[cfg(not(all(unix, not(miri))))]
fn call_after_fork() {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_until_it_is_a_fork() {
        let here = Process::current();
        assert!(here.is_current());
        assert_eq!(here, Process::current());
        let parent = Process(here.generation().wrapping_sub(1));
        assert!(!parent.is_current());
    }
}
