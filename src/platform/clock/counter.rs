//! The processor's counter.

#![allow(unsafe_code, reason = "reads the processor's counter")]

/// Ticks of the counter; always 0 where there is none to be used.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) fn ticks() -> u64 {
    // Without a fence, which would double what it takes: so it may be read ahead of a message from
    // another thread.
    // SAFETY: every x86-64 processor has the instruction. An operating system can forbid it; this
    // is called where it uses the counter itself.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[inline(always)]
#[cfg(any(not(target_arch = "x86_64"), miri))]
pub(super) fn ticks() -> u64 {
    0
}

/// Whether the counter ticks evenly and alike on all cores. Nobody knows that better than the
/// kernel, which watches it, and so uses it for its own clock or does not.
pub(super) fn is_trusted() -> bool {
    const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    cfg!(all(target_arch = "x86_64", target_os = "linux", not(miri)))
        && std::fs::read_to_string(CLOCK_SOURCE).is_ok_and(|source| source.trim() == "tsc")
}
