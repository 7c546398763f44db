//! Which cores there are, and pinning a thread to one.

use core_affinity::CoreId;

use crate::error::Error;

/// The cores the calling thread, and so the threads it starts, may run on.
pub(crate) fn cores() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.into_iter().map(|core| core.id).collect()
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

/// Pins the calling thread and reads back that it took effect.
pub(crate) fn pin(core: usize) -> Result<(), Error> {
    let set = core_affinity::set_for_current(CoreId { id: core });
    if set && (cores() == [core] || !cfg!(target_os = "linux")) {
        return Ok(());
    }
    Err(Error::core(format!(
        "the operating system refused to pin a thread to core {core}; the thread may use the \
         cores {:?}",
        cores()
    )))
}
