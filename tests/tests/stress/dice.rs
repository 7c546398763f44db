//! Random decisions, repeatable by their seed.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A random number generator of one thread.
pub struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// Creates the generator of the thread with this number in the round with this seed.
    pub fn new(seed: u64, thread: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed << 16 | thread))
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    /// Returns true once in `times` on average.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Picks one of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Returns a seed for a generator of another kind.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }
}
