//! Selects `std`'s atomics or loom's.
//!
//! The protocols of [`crate::buffer`] and [`crate::platform::clock`] use these types. Atomics that
//! are not modelled use `std` directly: counters, the pool's counts, the wait for a free slab and
//! the generation of forks.

#[cfg(not(loom))]
pub(crate) use self::native::*;

#[cfg(loom)]
pub(crate) use self::modelled::*;

#[cfg(not(loom))]
mod native {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

    /// `std::cell::UnsafeCell` with loom's interface of closures.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}

#[cfg(loom)]
mod modelled {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
}

/// Stand-in for a slab's bytes whose accesses loom sees, so that a model with a data race fails. Empty
/// without loom.
#[derive(Debug)]
pub(crate) struct RaceProbe {
    /// One cell for each of the slab's first bytes.
    #[cfg(loom)]
    cells: Box<[UnsafeCell<()>]>,
}

#[cfg(not(loom))]
impl RaceProbe {
    pub(crate) fn new(_bytes: usize) -> Self {
        Self {}
    }

    #[inline(always)]
    pub(crate) fn writes(&self, _range: std::ops::Range<usize>) {}

    #[inline(always)]
    pub(crate) fn reads(&self, _range: std::ops::Range<usize>) {}
}

#[cfg(loom)]
impl RaceProbe {
    /// Number of bytes that models write; more cells would only slow down the models.
    const CELLS_MAX: usize = 16;

    pub(crate) fn new(bytes: usize) -> Self {
        let cells = 0..bytes.min(Self::CELLS_MAX);
        Self {
            cells: cells.map(|_| UnsafeCell::new(())).collect(),
        }
    }

    pub(crate) fn writes(&self, range: std::ops::Range<usize>) {
        let cells = self.cells[range].iter();
        cells.for_each(|cell| cell.with_mut(|_| ()));
    }

    pub(crate) fn reads(&self, range: std::ops::Range<usize>) {
        let cells = self.cells[range].iter();
        cells.for_each(|cell| cell.with(|_| ()));
    }
}

/// Stand-ins for the bytes of several slabs.
#[derive(Debug)]
pub(crate) struct RaceProbes {
    #[cfg(loom)]
    slabs: Box<[RaceProbe]>,
}

#[cfg(not(loom))]
impl RaceProbes {
    pub(crate) fn new(_slabs: usize, _bytes: usize) -> Self {
        Self {}
    }

    #[inline(always)]
    pub(crate) fn slab(&self, _index: u32) -> &RaceProbe {
        &RaceProbe {}
    }
}

#[cfg(loom)]
impl RaceProbes {
    pub(crate) fn new(slabs: usize, bytes: usize) -> Self {
        Self {
            slabs: (0..slabs).map(|_| RaceProbe::new(bytes)).collect(),
        }
    }

    pub(crate) fn slab(&self, index: u32) -> &RaceProbe {
        &self.slabs[index as usize]
    }
}
