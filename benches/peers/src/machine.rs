//! Resources that this process uses.

use std::io;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use otlp_collector::Collector;
use rustix::time::{ClockId, clock_gettime};

/// Pins the current thread to the last core that the process may use.
pub fn pin_to_last_core() -> io::Result<()> {
    let cores = Collector::cores();
    let id = *cores.last().ok_or(io::ErrorKind::NotFound)?;
    if core_affinity::set_for_current(CoreId { id }) {
        return Ok(());
    }
    Err(io::Error::other(format!("cannot pin to core {id}")))
}

/// Returns the CPU time of all threads so far, including the kernel's work for them.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns the CPU time of the current thread so far.
pub fn cpu_time_of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns the peak resident memory; 0 without `/proc`.
pub fn peak_resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes
        .and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

/// Nanoseconds of one read of the clock that measures durations.
pub fn clock_ns() -> f64 {
    const READINGS: u32 = 1_000_000;
    let begun = Instant::now();
    for _ in 1..READINGS {
        std::hint::black_box(Instant::now());
    }
    begun.elapsed().as_nanos() as f64 / f64::from(READINGS)
}
