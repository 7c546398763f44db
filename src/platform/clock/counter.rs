//! The processor's time stamp counter.

#![allow(unsafe_code, reason = "reads the time stamp counter")]

/// Returns the counter; always 0 on targets where it is not used.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) fn ticks() -> u64 {
    // No fence: it would double the time. So the counter may be read before an earlier load, such
    // as that of a message from another thread.
    // SAFETY: every x86-64 processor has the instruction. An operating system can disable it in
    // user mode, but this is called only if the operating system uses the counter itself.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[inline(always)]
#[cfg(any(not(target_arch = "x86_64"), miri))]
pub(super) fn ticks() -> u64 {
    0
}

/// Returns whether the counter has a constant rate and is synchronised between cores. The kernel
/// monitors this: it uses the counter for its own clock only then.
pub(super) fn is_trusted() -> bool {
    const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    cfg!(all(target_arch = "x86_64", target_os = "linux", not(miri)))
        && std::fs::read_to_string(CLOCK_SOURCE).is_ok_and(|source| source.trim() == "tsc")
}
