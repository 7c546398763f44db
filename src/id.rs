//! Trace and span ids: random, or from a generator of the user's.

use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Where a recorder's ids come from.
///
/// ```
/// use otlp_collector::{Config, IdGenerator};
///
/// // The same ids in every run, for tests.
/// let config = Config {
///     id_generator: IdGenerator::Seeded(42),
///     ..Config::default()
/// };
/// # drop(config);
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum IdGenerator {
    /// Random, seeded for each recorder by the operating system.
    #[default]
    Random,
    /// The same sequence in every run: by this number and that of the recorder, in the order they
    /// are made.
    Seeded(u64),
    /// Your own: called once for each recorder.
    Custom(Arc<dyn Fn() -> Box<dyn GenerateIds> + Send + Sync>),
}

impl PartialEq for IdGenerator {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Random, Self::Random) => true,
            (Self::Seeded(one), Self::Seeded(other)) => one == other,
            (Self::Custom(one), Self::Custom(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl fmt::Debug for IdGenerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("Random"),
            Self::Seeded(seed) => write!(f, "Seeded({seed})"),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// A source of ids for one recorder: see [`IdGenerator::Custom`].
///
/// An id that is all zeros is not valid; a random one is used in its place.
pub trait GenerateIds: Send {
    /// The id of a new trace.
    fn trace_id(&mut self) -> [u8; 16];

    /// The id of a new span.
    fn span_id(&mut self) -> [u8; 8];

    /// Whether the right-most seven bytes of its trace ids are random, which is told to other
    /// services ([`TraceFlags::RANDOM`](crate::TraceFlags::RANDOM)).
    fn is_random(&self) -> bool {
        false
    }
}

/// What one recorder takes its ids from.
pub(crate) struct Ids {
    random: RandomIds,
    custom: Option<Box<dyn GenerateIds>>,
}

impl Ids {
    /// For the recorder with this number.
    pub(crate) fn new(generator: &IdGenerator, recorder: u64) -> Self {
        let (random, custom) = match generator {
            IdGenerator::Random => (RandomIds::new(), None),
            IdGenerator::Seeded(seed) => (RandomIds::seeded(seed.wrapping_add(recorder)), None),
            IdGenerator::Custom(make) => (RandomIds::new(), Some(make())),
        };
        Self { random, custom }
    }

    #[inline]
    pub(crate) fn trace_id(&mut self) -> [u8; 16] {
        let custom = self.custom.as_mut().map(|custom| custom.trace_id());
        custom
            .filter(|id| *id != [0; 16])
            .unwrap_or_else(|| self.random.trace_id())
    }

    #[inline]
    pub(crate) fn span_id(&mut self) -> [u8; 8] {
        let custom = self.custom.as_mut().map(|custom| custom.span_id());
        custom
            .filter(|id| *id != [0; 8])
            .unwrap_or_else(|| self.random.span_id())
    }

    #[inline]
    pub(crate) fn are_random(&self) -> bool {
        self.custom.as_ref().is_none_or(|custom| custom.is_random())
    }
}

/// A source of random ids, one for each thread that makes them.
///
/// Its 256 bits of state are seeded by the operating system: with a generator of 64 bits a large
/// fleet would meet the same sequence twice.
#[derive(Debug)]
pub(crate) struct RandomIds(Xoshiro256PlusPlus);

impl RandomIds {
    pub(crate) fn new() -> Self {
        let mut seed = [0; 32];
        if getrandom::fill(&mut seed).is_err() {
            fill_from_hasher(&mut seed);
        }
        Self(Xoshiro256PlusPlus::from_seed(seed))
    }

    fn seeded(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Never all zeros: OTLP calls such an id invalid.
    #[inline]
    pub(crate) fn trace_id(&mut self) -> [u8; 16] {
        let id = u128::from(self.number()) << 64 | u128::from(self.number());
        id.max(1).to_be_bytes()
    }

    /// Never all zeros: OTLP calls such an id invalid.
    #[inline]
    pub(crate) fn span_id(&mut self) -> [u8; 8] {
        self.number().max(1).to_be_bytes()
    }

    /// A random number, uniform over all values.
    #[inline]
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
    static IDS: RefCell<RandomIds> = RefCell::new(RandomIds::new());
}

/// Runs `make` with this thread's generator.
pub(crate) fn with_thread_ids<R>(make: impl Fn(&mut RandomIds) -> R) -> R {
    IDS.try_with(|ids| make(&mut ids.borrow_mut()))
        // The thread is ending and its generator is gone already.
        .unwrap_or_else(|_| make(&mut RandomIds::new()))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_are_never_zero() {
        let mut ids = RandomIds::new();
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

    #[test]
    fn seeded_ids_repeat_and_differ_between_recorders() {
        let seeded = IdGenerator::Seeded(7);
        let first = |recorder| Ids::new(&seeded, recorder).trace_id();
        assert_eq!(first(0), first(0));
        assert_ne!(first(0), first(1));
    }

    #[test]
    fn zeros_of_a_custom_generator_are_replaced() {
        struct Zeros;

        impl GenerateIds for Zeros {
            fn trace_id(&mut self) -> [u8; 16] {
                [0; 16]
            }

            fn span_id(&mut self) -> [u8; 8] {
                [0; 8]
            }
        }

        let generator = IdGenerator::Custom(Arc::new(|| Box::new(Zeros)));
        let mut ids = Ids::new(&generator, 0);
        assert!(!ids.are_random());
        assert_ne!(ids.trace_id(), [0; 16]);
        assert_ne!(ids.span_id(), [0; 8]);
    }
}
