//! Trace and span ids: random, or from a generator of the user's.

use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::platform::fork::Process;

/// Where a recorder's ids come from.
///
/// Random ids differ between a process and its forks too: each fork seeds its generators anew. The
/// other kinds go on where they were, in the parent and in each fork alike.
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
    /// The same sequence in every run, and in every fork of it: by this number and that of the
    /// recorder, in the order they are made.
    Seeded(u64),
    /// Your own: called once for each recorder. In a process that forks, let this function seed
    /// the generator, and make the collector in the fork: then it is called there.
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
/// An id that is all zeros is not valid; a random one is used in its place. If it starts spans on
/// the recorder that it makes ids for, or asks it for ids, those are random.
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

/// A trace id as two numbers, its bytes in big-endian order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId {
    pub(crate) high: u64,
    pub(crate) low: u64,
}

impl TraceId {
    #[inline]
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(bytes);
        Self {
            high: (number >> 64) as u64,
            low: number as u64,
        }
    }

    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_be_bytes()
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
            IdGenerator::Random => return Self::random(),
            IdGenerator::Seeded(seed) => (RandomIds::seeded(seed.wrapping_add(recorder)), None),
            IdGenerator::Custom(make) => (RandomIds::new(), Some(make())),
        };
        Self { random, custom }
    }

    /// Random ones, seeded by the operating system.
    pub(crate) fn random() -> Self {
        Self {
            random: RandomIds::new(),
            custom: None,
        }
    }

    #[inline]
    pub(crate) fn trace_id(&mut self) -> TraceId {
        match &mut self.custom {
            None => self.random.trace_id(),
            Some(custom) => match custom.trace_id() {
                id if id == [0; 16] => self.random.trace_id(),
                id => TraceId::from_bytes(id),
            },
        }
    }

    #[inline]
    pub(crate) fn span_id(&mut self) -> u64 {
        match &mut self.custom {
            None => self.random.span_id(),
            Some(custom) => match u64::from_be_bytes(custom.span_id()) {
                0 => self.random.span_id(),
                id => id,
            },
        }
    }

    /// The id of a new span, and of its trace if that has none.
    #[inline]
    pub(crate) fn for_span(&mut self, trace_id: Option<TraceId>) -> (TraceId, u64) {
        if self.custom.is_none() {
            return self.random.for_span(trace_id);
        }
        let trace_id = trace_id.unwrap_or_else(|| self.trace_id());
        (trace_id, self.span_id())
    }

    #[inline]
    pub(crate) fn are_random(&self) -> bool {
        self.custom.as_ref().is_none_or(|custom| custom.is_random())
    }
}

/// A source of random ids, one for each thread that makes them.
///
/// Its 256 bits of state are seeded by the operating system: with a generator of 64 bits a large
/// fleet would meet the same sequence twice. A fork has a copy of the state, so it seeds anew.
#[derive(Debug)]
pub(crate) struct RandomIds {
    generator: Xoshiro256PlusPlus,
    seeded_in: Process,
    /// The seed was given and is kept.
    is_fixed: bool,
}

impl RandomIds {
    pub(crate) fn new() -> Self {
        let mut seed = [0; 32];
        if getrandom::fill(&mut seed).is_err() {
            fill_from_hasher(&mut seed);
        }
        Self {
            generator: Xoshiro256PlusPlus::from_seed(seed),
            seeded_in: Process::current(),
            is_fixed: false,
        }
    }

    fn seeded(seed: u64) -> Self {
        Self {
            generator: Xoshiro256PlusPlus::seed_from_u64(seed),
            seeded_in: Process::current(),
            is_fixed: true,
        }
    }

    /// Goes on in a fork of the process that seeded it.
    #[cold]
    #[inline(never)]
    fn seed_again(&mut self) {
        if self.is_fixed {
            self.seeded_in = Process::current();
        } else {
            *self = Self::new();
        }
    }

    #[inline]
    pub(crate) fn trace_id(&mut self) -> TraceId {
        trace_id(self.generator())
    }

    #[inline]
    pub(crate) fn span_id(&mut self) -> u64 {
        span_id(self.generator())
    }

    #[inline]
    fn for_span(&mut self, of_trace: Option<TraceId>) -> (TraceId, u64) {
        let generator = self.generator();
        let trace_id = of_trace.unwrap_or_else(|| trace_id(generator));
        (trace_id, span_id(generator))
    }

    /// A random number, uniform over all values.
    #[inline]
    pub(crate) fn number(&mut self) -> u64 {
        self.generator().next_u64()
    }

    #[inline(always)]
    fn generator(&mut self) -> &mut Xoshiro256PlusPlus {
        if !self.seeded_in.is_current() {
            self.seed_again();
        }
        &mut self.generator
    }
}

/// Never all zeros: OTLP calls such an id invalid.
#[inline(always)]
fn trace_id(generator: &mut Xoshiro256PlusPlus) -> TraceId {
    let (high, low) = (generator.next_u64(), generator.next_u64());
    TraceId {
        high,
        low: if high == 0 { low.max(1) } else { low },
    }
}

/// Never all zeros: OTLP calls such an id invalid.
#[inline(always)]
fn span_id(generator: &mut Xoshiro256PlusPlus) -> u64 {
    generator.next_u64().max(1)
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
        let traces: HashSet<_> = (0..1000).map(|_| ids.trace_id().to_bytes()).collect();
        assert_eq!((spans.len(), traces.len()), (1000, 1000));
        assert!(!spans.contains(&0) && !traces.contains(&[0; 16]));
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
        assert_ne!(ids.trace_id().to_bytes(), [0; 16]);
        assert_ne!(ids.span_id(), 0);
    }
}
