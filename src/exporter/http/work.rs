//! Counts, in tests, the bytes that the parser examines.

#[cfg(not(test))]
pub(super) fn count_work(_bytes: usize) {}

#[cfg(test)]
thread_local!(static BYTES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

#[cfg(test)]
pub(super) fn count_work(bytes: usize) {
    BYTES.set(BYTES.get() + bytes);
}

/// Returns the number of bytes that this thread examines while `run` runs.
#[cfg(all(test, not(loom)))]
pub(super) fn of(run: impl FnOnce()) -> usize {
    let before = BYTES.get();
    run();
    BYTES.get() - before
}
