//! The machine: its clock, its cores, forks of the process, and atomics that loom can watch.

pub(crate) mod affinity;
pub(crate) mod clock;
pub(crate) mod fork;
pub(crate) mod sync;
