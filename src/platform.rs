//! The machine: clock, core affinity, fork detection, and atomics that loom can model.

pub(crate) mod affinity;
pub(crate) mod clock;
pub(crate) mod fork;
pub(crate) mod sync;
