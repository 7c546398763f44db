//! Lists the usable cores and pins threads to them.

use core_affinity::CoreId;

/// The reason why a thread cannot be pinned to a core.
pub(crate) struct CoreError(pub(crate) String);

/// Returns the cores that this process may use.
///
/// On Linux these are the main thread's, so that a pinned thread still gets all of them; elsewhere
/// the calling thread's.
pub(crate) fn cores() -> Vec<usize> {
    cores_of_process().unwrap_or_else(cores_of_thread)
}

/// Fails if this process may not use the core. The error names it as `option`.
pub(crate) fn check(option: &str, core: usize) -> Result<(), CoreError> {
    let cores = cores();
    if cores.contains(&core) {
        return Ok(());
    }
    Err(CoreError(format!(
        "{option} is {core}: this process may use the cores {cores:?}"
    )))
}

/// Pins the calling thread to a core and, on Linux, verifies that this took effect.
pub(crate) fn pin(core: usize) -> Result<(), CoreError> {
    let set = core_affinity::set_for_current(CoreId { id: core });
    if set && (cores_of_thread() == [core] || !cfg!(target_os = "linux")) {
        return Ok(());
    }
    Err(CoreError(format!(
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

/// Parses a list such as `0-2,5`.
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
    fn lists_of_cores_are_parsed() {
        assert_eq!(parse_list("0"), Some(vec![0]));
        assert_eq!(parse_list("0-2,5,8-9"), Some(vec![0, 1, 2, 5, 8, 9]));
        assert_eq!(parse_list(""), None);
        assert_eq!(parse_list("0-x"), None);
    }
}
