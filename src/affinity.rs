//! Which cores there are, and pinning a thread to one.

use core_affinity::CoreId;

use crate::error::Error;

/// The cores this process may use.
///
/// On Linux those of its main thread, so that a thread that is pinned already still sees them
/// all; elsewhere those of the calling thread.
pub(crate) fn cores() -> Vec<usize> {
    cores_of_process().unwrap_or_else(cores_of_thread)
}

/// Fails if one of `wanted` is not among the cores there are.
pub(crate) fn check<'a>(wanted: impl Iterator<Item = &'a usize>) -> Result<(), Error> {
    let mut wanted = wanted.peekable();
    if wanted.peek().is_none() {
        return Ok(());
    }
    let cores = cores();
    match wanted.find(|core| !cores.contains(core)) {
        None => Ok(()),
        Some(core) => Err(Error::core(format!(
            "core {core} cannot be pinned to: this process may use the cores {cores:?}"
        ))),
    }
}

/// Pins the calling thread to a core, one of [`Collector::cores`](crate::Collector::cores), and reads
/// back that it took effect. Threads that it starts from then on run on that core too, unless they
/// are pinned elsewhere; so call [`Collector::new`](crate::Collector::new) before.
///
/// It needs no collector, so it works where tracing is disabled too.
///
/// # Errors
/// This process may not use the core, or the operating system refused
/// ([`Error::is_core`]).
///
/// ```
/// use otlp_collector::{Collector, pin_current_thread};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let core = Collector::cores()[0];
/// std::thread::spawn(move || {
///     pin_current_thread(core)?;
///     // … what is sensitive to latency …
///     Ok::<_, otlp_collector::Error>(())
/// })
/// .join()
/// .expect("the thread panicked")?;
/// # Ok(())
/// # }
/// ```
pub fn pin_current_thread(core: usize) -> Result<(), Error> {
    check(std::iter::once(&core))?;
    pin(core)
}

/// Pins the calling thread and reads back that it took effect.
pub(crate) fn pin(core: usize) -> Result<(), Error> {
    let set = core_affinity::set_for_current(CoreId { id: core });
    if set && (cores_of_thread() == [core] || !cfg!(target_os = "linux")) {
        return Ok(());
    }
    Err(Error::core(format!(
        "the operating system refused to pin a thread to core {core}; the thread may use the \
         cores {:?}",
        cores_of_thread()
    )))
}

fn cores_of_thread() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.into_iter().map(|core| core.id).collect()
}

fn cores_of_process() -> Option<Vec<usize>> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    parse_list(line.trim())
}

/// Reads a list such as `0-2,5`.
fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cores)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse_list("0"), Some(vec![0]));
        assert_eq!(parse_list("0-2,5,8-9"), Some(vec![0, 1, 2, 5, 8, 9]));
        assert_eq!(parse_list(""), None);
        assert_eq!(parse_list("0-x"), None);
    }
}
