//! The one place that chooses between `std`'s atomics and loom's.
//!
//! [`crate::buffer`] and [`crate::platform::clock`] use it for their protocols. Outside of it are single
//! counters, the pool's counts, the wait for room and the number of the fork.

#[cfg(not(loom))]
pub(crate) use self::native::*;

#[cfg(loom)]
pub(crate) use self::modelled::*;

#[cfg(not(loom))]
mod native {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

    /// `std::cell::UnsafeCell` behind the closure interface that loom needs.
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

    /// Says which bytes of a slab are read and written, for loom to check; costs nothing here.
    #[derive(Debug)]
    pub(crate) struct RaceProbe;

    impl RaceProbe {
        pub(crate) fn new(_bytes: usize) -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn writes(&self, _range: std::ops::Range<usize>) {}

        #[inline(always)]
        pub(crate) fn reads(&self, _range: std::ops::Range<usize>) {}
    }
}

#[cfg(loom)]
mod modelled {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

    /// One loom cell for each of a slab's first bytes: loom fails a model that races on one.
    #[derive(Debug)]
    pub(crate) struct RaceProbe(Box<[UnsafeCell<()>]>);

    impl RaceProbe {
        /// Bytes that models write; more cells would only make each run slower.
        const WATCHED: usize = 16;

        pub(crate) fn new(bytes: usize) -> Self {
            let watched = bytes.min(Self::WATCHED);
            Self((0..watched).map(|_| UnsafeCell::new(())).collect())
        }

        pub(crate) fn writes(&self, range: std::ops::Range<usize>) {
            self.0[range].iter().for_each(|byte| byte.with_mut(|_| ()));
        }

        pub(crate) fn reads(&self, range: std::ops::Range<usize>) {
            self.0[range].iter().for_each(|byte| byte.with(|_| ()));
        }
    }
}
