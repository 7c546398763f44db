//! What the recorders and the network thread share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::buffer::{Pool, Signal};
use crate::config::{Overflow, Settings};
use crate::error::Error;
use crate::otlp::{SCOPES_MAX, Scopes};
use crate::platform::fork;
use crate::platform::sync;
use crate::span::id::{IdGenerator, Ids};
use crate::span::limits::SpanLimits;
use crate::span::sampler::{Sampler, TailSampling};
use crate::stats::BufferUse;
use crate::stats::counters::{Counters, DestinationCounters};
use crate::stats::refused::Refused;

pub(crate) struct Shared {
    pub(crate) pool: sync::Arc<Pool>,
    pub(crate) signal: Signal,
    pub(crate) counters: Counters,
    pub(crate) scopes: Arc<Scopes>,
    pub(crate) tracing: Tracing,
    pub(crate) overflow: Overflow,
    pub(crate) batch_size: u32,
    /// Slabs for the lanes of recorders that are not to be lent.
    pub(crate) own_lanes: Quota,
    /// Sealed slabs that can wait at a time.
    pub(crate) slabs: usize,
    /// With fewer slabs left than this the network thread is called.
    pub(crate) few_slabs: usize,
    buffer_capacity: u64,
    /// Of a connection or a response, in words.
    pub(crate) last_error: Mutex<Option<String>>,
}

/// How spans are made.
pub(crate) struct Tracing {
    pub(crate) sampler: Sampler,
    pub(crate) tail_sampling: Option<TailSampling>,
    pub(crate) limits: SpanLimits,
    pub(crate) open_spans_max: usize,
    pub(crate) open_span_bytes: usize,
    id_generator: IdGenerator,
    /// How many recorders had ids of their own so far.
    recorders: AtomicU64,
}

/// So many may be taken, and some are.
pub(crate) struct Quota {
    taken: AtomicUsize,
    max: usize,
}

impl Quota {
    fn new(max: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            max,
        }
    }

    /// False if all are taken.
    pub(crate) fn take(&self) -> bool {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok()
    }

    /// Whether more than half is taken.
    pub(crate) fn is_scarce(&self) -> bool {
        self.taken.load(Ordering::Relaxed) * 2 > self.max
    }

    pub(crate) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tracing {
    fn new(settings: &Settings) -> Self {
        Self {
            sampler: settings.sampler.clone(),
            tail_sampling: settings.tail_sampling.clone(),
            limits: settings.span_limits,
            open_spans_max: settings.open_spans_max,
            open_span_bytes: settings.open_span_bytes,
            id_generator: settings.id_generator.clone(),
            recorders: AtomicU64::new(0),
        }
    }

    /// Ids for a new recorder. One that only takes finished spans needs none: it must not change
    /// what the others get.
    pub(crate) fn ids(&self, starts_spans: bool) -> Ids {
        if !starts_spans {
            return Ids::new(&IdGenerator::Seeded(0), 0);
        }
        let number = self.recorders.fetch_add(1, Ordering::Relaxed);
        Ids::new(&self.id_generator, number)
    }
}

impl Shared {
    /// Allocates the buffer.
    pub(crate) fn new(settings: &Settings, signal: Signal) -> Result<Self, Error> {
        let destinations = settings.destinations.iter().map(|destination| {
            Arc::new(DestinationCounters {
                destination: destination.name.clone(),
                ..DestinationCounters::default()
            })
        });
        Ok(Self {
            pool: pool(settings)?,
            last_error: Mutex::default(),
            signal,
            counters: Counters::new(
                destinations.collect(),
                settings.recorders_max + settings.leases,
            ),
            scopes: Arc::clone(settings.envelope.scopes()),
            tracing: Tracing::new(settings),
            overflow: settings.overflow,
            batch_size: settings.batch_size,
            own_lanes: Quota::new(settings.recorders_max),
            slabs: settings.slabs,
            few_slabs: (settings.slabs / 8).max(1),
            buffer_capacity: settings.buffer_capacity,
        })
    }

    pub(crate) fn buffer_use(&self) -> BufferUse {
        BufferUse {
            capacity: self.buffer_capacity,
            slabs: self.slabs as u64,
            slabs_used: (self.slabs - self.pool.slabs_left()) as u64,
        }
    }

    /// Fails in a fork of the process that made this: that has the memory of its parent, but none of
    /// its threads.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        if self.is_forked() {
            return Err(Error::forked(self.counters.ledger()));
        }
        Ok(())
    }

    /// Whether this is such a fork, made by whatever system call.
    pub(crate) fn is_forked(&self) -> bool {
        fork::watch();
        self.signal.is_forked()
    }

    /// Counts a span for which there is no recorder.
    pub(crate) fn refuse(&self, why: Refused) -> Refused {
        self.counters.refuse_without_recorder(why);
        why
    }
}

fn pool(settings: &Settings) -> Result<sync::Arc<Pool>, Error> {
    let Settings {
        slabs,
        leases,
        recorders_max,
        slab_bytes,
        spans_per_slab,
        ..
    } = *settings;
    let lanes = match settings.disabled {
        true => 0,
        // Each scope is written to by one recorder to be lent.
        false => recorders_max + leases + SCOPES_MAX,
    };
    Pool::new(slabs, lanes, slab_bytes, spans_per_slab).ok_or_else(|| {
        Error::resources(
            format!(
                "no memory for a buffer of {} MiB: lower buffer_capacity, slab_bytes or \
                 recorders_max",
                ((slabs + lanes) * slab_bytes) >> 20
            ),
            None,
        )
    })
}
