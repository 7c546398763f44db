//! Makes trace and span ids: random ones, or by the user's generator.

use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::platform::fork::Process;
use crate::span::id::{SpanId, TraceId};

/// The source of a recorder's ids.
///
/// Random ids also differ between a process and its forks, because each fork seeds its generators anew. The
/// other sources continue in a fork as they do in the parent.
///
/// ```
/// use otlp_collector::span::IdGenerator;
/// use otlp_collector::Config;
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
    /// Random ids. The operating system seeds each recorder's generator.
    #[default]
    Random,
    /// The same ids in every run, for tests: derived from this seed and the number of the recorder, in
    /// the order of their creation.
    Seeded(u64),
    /// A function that creates a generator for each recorder. In a process that forks, create the
    /// collector after the fork, so that the function runs and seeds there.
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

/// A generator of ids for one recorder, for [`IdGenerator::Custom`].
///
/// If a generator starts spans on the recorder that it makes ids for, or asks that recorder for ids,
/// those ids are random.
pub trait GenerateIds: Send {
    /// Makes the id of a new trace.
    fn new_trace_id(&mut self) -> TraceId;

    /// Makes the id of a new span.
    fn new_span_id(&mut self) -> SpanId;

    /// Returns whether the rightmost seven bytes of its trace ids are random. Then root spans have the
    /// flag [`TraceFlags::RANDOM`](crate::span::TraceFlags::RANDOM). Default: no.
    fn is_random(&self) -> bool {
        false
    }
}

/// The ids of one recorder.
pub(crate) struct Ids {
    random: RandomSource,
    custom: Option<Box<dyn GenerateIds>>,
}

impl Ids {
    /// Creates the ids of the recorder with this number.
    pub(crate) fn new(generator: &IdGenerator, recorder: u64) -> Self {
        let (random, custom) = match generator {
            IdGenerator::Random => return Self::random(),
            IdGenerator::Seeded(seed) => (RandomSource::seeded(seed.wrapping_add(recorder)), None),
            IdGenerator::Custom(make) => (RandomSource::new(), Some(make())),
        };
        Self { random, custom }
    }

    /// Creates ids for a recorder that starts no spans.
    pub(crate) fn unused() -> Self {
        Self {
            random: RandomSource::seeded(0),
            custom: None,
        }
    }

    /// Creates random ids, seeded by the operating system.
    pub(crate) fn random() -> Self {
        Self {
            random: RandomSource::new(),
            custom: None,
        }
    }

    #[inline]
    pub(crate) fn new_trace_id(&mut self) -> TraceId {
        match &mut self.custom {
            None => self.random.new_trace_id(),
            Some(custom) => custom.new_trace_id(),
        }
    }

    #[inline]
    pub(crate) fn new_span_id(&mut self) -> SpanId {
        match &mut self.custom {
            None => self.random.new_span_id(),
            Some(custom) => custom.new_span_id(),
        }
    }

    /// Makes the id of a new span, and the id of its trace unless that is given. Returns also whether
    /// its trace ids are random.
    #[inline(always)]
    pub(crate) fn for_span(&mut self, trace_id: Option<TraceId>) -> (TraceId, SpanId, bool) {
        match &mut self.custom {
            None => {
                let (trace_id, span_id) = self.random.for_span(trace_id);
                (trace_id, span_id, true)
            }
            Some(custom) => for_span_by_custom(&mut **custom, trace_id),
        }
    }
}

#[cold]
#[inline(never)]
fn for_span_by_custom(
    custom: &mut dyn GenerateIds,
    trace_id: Option<TraceId>,
) -> (TraceId, SpanId, bool) {
    let trace_id = trace_id.unwrap_or_else(|| custom.new_trace_id());
    (trace_id, custom.new_span_id(), custom.is_random())
}

/// A source of random numbers and ids, used by one thread at a time.
///
/// The operating system seeds its 256 bits of state. With 64 bits, two processes of a large fleet would
/// get the same sequence. A fork has a copy of the state, so it seeds anew.
#[derive(Debug)]
pub(crate) struct RandomSource {
    generator: Xoshiro256PlusPlus,
    seeded_in: Process,
    /// The seed was configured, and forks keep it.
    is_fixed: bool,
}

impl RandomSource {
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

    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            generator: Xoshiro256PlusPlus::seed_from_u64(seed),
            seeded_in: Process::current(),
            is_fixed: true,
        }
    }

    /// Continues in a fork of the process that seeded the generator.
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
    pub(crate) fn new_trace_id(&mut self) -> TraceId {
        new_trace_id(self.generator())
    }

    #[inline]
    pub(crate) fn new_span_id(&mut self) -> SpanId {
        new_span_id(self.generator())
    }

    #[inline(always)]
    fn for_span(&mut self, of_trace: Option<TraceId>) -> (TraceId, SpanId) {
        let generator = self.generator();
        let trace_id = of_trace.unwrap_or_else(|| new_trace_id(generator));
        (trace_id, new_span_id(generator))
    }

    /// Returns a random number, uniform over all values.
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

#[inline(always)]
fn new_trace_id(generator: &mut Xoshiro256PlusPlus) -> TraceId {
    let (high, low) = (generator.next_u64(), generator.next_u64());
    let number = u128::from(high) << 64 | u128::from(low);
    TraceId::from_bytes(number.to_ne_bytes()).unwrap_or(TraceId::MIN)
}

#[inline(always)]
fn new_span_id(generator: &mut Xoshiro256PlusPlus) -> SpanId {
    SpanId::from_bytes(generator.next_u64().to_ne_bytes()).unwrap_or(SpanId::MIN)
}

/// Seeds from std's random hash keys, for a system that returns an error instead of random bytes.
fn fill_from_hasher(seed: &mut [u8; 32]) {
    for (round, chunk) in seed.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&RandomState::new().hash_one(round).to_ne_bytes());
    }
}

thread_local! {
    static IDS: RefCell<RandomSource> = RefCell::new(RandomSource::new());
}

/// Calls `make` with this thread's generator.
pub(crate) fn with_thread_ids<R>(make: impl Fn(&mut RandomSource) -> R) -> R {
    IDS.try_with(|ids| make(&mut ids.borrow_mut()))
        // The thread is ending and its generator is dropped already.
        .unwrap_or_else(|_| make(&mut RandomSource::new()))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn random_ids_differ() {
        let mut ids = RandomSource::new();
        let spans: HashSet<_> = (0..1000).map(|_| ids.new_span_id()).collect();
        let traces: HashSet<_> = (0..1000).map(|_| ids.new_trace_id()).collect();
        assert_eq!((spans.len(), traces.len()), (1000, 1000));
    }

    #[test]
    fn the_fallback_seed_is_random() {
        let (mut one, mut other) = ([0; 32], [0; 32]);
        fill_from_hasher(&mut one);
        fill_from_hasher(&mut other);
        assert_ne!(one, other);
    }

    #[test]
    fn seeded_ids_repeat_and_differ_between_recorders() {
        let seeded = IdGenerator::Seeded(7);
        let first = |recorder| Ids::new(&seeded, recorder).new_trace_id();
        assert_eq!(first(0), first(0));
        assert_ne!(first(0), first(1));
    }
}
