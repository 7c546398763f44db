//! Loading a cache line before it is used.

#![allow(unsafe_code, reason = "calls an instruction that takes an address")]

/// Starts to load the cache line of `place`, which will be written. Has no effect except on speed.
#[inline(always)]
pub(super) fn prefetch<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the instruction neither reads nor writes as far as the program can see, and it does
    // not fault at any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}
