//! Random trace and span ids.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A source of random ids, one for each thread that makes them.
///
/// Its 256 bits of state are seeded by the operating system: with a generator of 64 bits a large
/// fleet would meet the same sequence twice.
#[derive(Debug)]
pub(crate) struct IdGenerator(Xoshiro256PlusPlus);

impl IdGenerator {
    pub(crate) fn new() -> Self {
        let mut seed = [0; 32];
        if getrandom::fill(&mut seed).is_err() {
            fill_from_hasher(&mut seed);
        }
        Self(Xoshiro256PlusPlus::from_seed(seed))
    }

    /// Never all zeros: OTLP calls such an id invalid.
    pub(crate) fn trace_id(&mut self) -> [u8; 16] {
        let id = u128::from(self.number()) << 64 | u128::from(self.number());
        id.max(1).to_be_bytes()
    }

    /// Never all zeros: OTLP calls such an id invalid.
    pub(crate) fn span_id(&mut self) -> [u8; 8] {
        self.number().max(1).to_be_bytes()
    }

    /// A random number, uniform over all values.
    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// The seed where the operating system refuses one: std's own random hash keys.
fn fill_from_hasher(seed: &mut [u8; 32]) {
    for (round, chunk) in seed.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&RandomState::new().hash_one(round).to_ne_bytes());
    }
}

thread_local! {
    static IDS: RefCell<IdGenerator> = RefCell::new(IdGenerator::new());
}

/// Runs `make` with this thread's generator.
pub(crate) fn with_thread_ids<R>(make: impl Fn(&mut IdGenerator) -> R) -> R {
    IDS.try_with(|ids| make(&mut ids.borrow_mut()))
        // The thread is ending and its generator is gone already.
        .unwrap_or_else(|_| make(&mut IdGenerator::new()))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_are_never_zero() {
        let mut ids = IdGenerator::new();
        let spans: HashSet<_> = (0..1000).map(|_| ids.span_id()).collect();
        let traces: HashSet<_> = (0..1000).map(|_| ids.trace_id()).collect();
        assert_eq!((spans.len(), traces.len()), (1000, 1000));
        assert!(!spans.contains(&[0; 8]) && !traces.contains(&[0; 16]));
    }

    #[test]
    fn the_fallback_seed_is_random_too() {
        let (mut one, mut other) = ([0; 32], [0; 32]);
        fill_from_hasher(&mut one);
        fill_from_hasher(&mut other);
        assert_ne!(one, other);
    }
}
