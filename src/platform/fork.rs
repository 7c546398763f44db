//! Detects without a system call that this process is a fork.
//!
//! A fork gets a copy of all memory but only one thread. So values that must not exist in two
//! processes, or that another thread may have been changing, keep the [`Process`] in which they
//! were created.

#![allow(
    unsafe_code,
    reason = "registers a handler for forks with the C library"
)]

use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Number of forks between the first process that called [`watch`] and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// The process id that belongs to the generation; 0 before the first [`watch`].
static PROCESS_ID: AtomicU32 = AtomicU32::new(0);

/// Identifies a process among its ancestors and descendants by fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// Returns the calling process, and counts its forks from now on.
    pub(crate) fn current() -> Self {
        watch();
        Self(generation())
    }

    /// Returns whether the calling process is this one, not a fork of it.
    #[inline(always)]
    pub(crate) fn is_current(self) -> bool {
        self.0 == generation()
    }

    /// Returns the process's [`generation`].
    pub(crate) fn generation(self) -> u32 {
        self.0
    }
}

/// Returns the number of forks that led to the calling process; never `u32::MAX`.
#[inline(always)]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Counts forks from now on. A fork by the C library is counted at once, one by a bare system call
/// at the next call of this function.
pub(crate) fn watch() {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    // Two threads may both register a handler. Counting each fork twice is harmless. A lock
    // instead could be held by a thread that does not exist in a fork.
    if !IS_WATCHED.load(Ordering::Acquire) {
        PROCESS_ID.store(process::id(), Ordering::Relaxed);
        call_after_fork();
        IS_WATCHED.store(true, Ordering::Release);
    }
    let (known, id) = (PROCESS_ID.load(Ordering::Relaxed), process::id());
    // Only one of several threads counts the fork.
    let exchange =
        |known| PROCESS_ID.compare_exchange(known, id, Ordering::Relaxed, Ordering::Relaxed);
    if known != id && exchange(known).is_ok() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a fork. Runs in the child before `fork` returns, where only async-signal-safe operations are
/// allowed.
#[cfg(all(unix, not(miri)))]
extern "C" fn count_fork() {
    PROCESS_ID.store(process::id(), Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

#[cfg(all(unix, not(miri)))]
fn call_after_fork() {
    // SAFETY: the handler is a function of this program that takes no arguments and cannot unwind.
    // It runs in a process with one thread and performs only operations that are allowed there: it
    // stores to atomics and calls getpid. If registration fails, `watch` still compares process
    // ids.
    let _ = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
}

/// Does nothing on platforms without `fork`.
#[cfg(not(all(unix, not(miri))))]
fn call_after_fork() {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_process_differs_from_its_parent() {
        let here = Process::current();
        assert!(here.is_current());
        assert_eq!(here, Process::current());
        let parent = Process(here.generation().wrapping_sub(1));
        assert!(!parent.is_current());
    }
}
