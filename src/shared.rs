//! State shared by recorders and the network thread.

mod quota;

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::buffer::{Pool, SLABS_PER_LANE, Signal};
use crate::config::Settings;
use crate::error::Error;
use crate::otlp::{EncodedScopes, SCOPES_MAX};
use crate::platform::fork;
use crate::platform::sync;
use crate::shared::quota::Quota;
use crate::span::id_generator::Ids;
use crate::span::{Sampler, SpanLimits};
use crate::stats::BufferUse;
use crate::stats::counters::{Counters, DestinationCounters};
use crate::stats::refused::Refused;

/// Settings, memory and counters of a pipeline. Every span reads the first cache line.
#[repr(C, align(64))]
pub(crate) struct Shared {
    pub(crate) signal: Signal,
    pub(crate) span_settings: SpanSettings,
    /// By value: recording reads them without one more indirection.
    pub(crate) settings: Settings,
    pub(crate) pool: sync::Arc<Pool>,
    pub(crate) counters: Counters,
    pub(crate) scopes: Arc<EncodedScopes>,
    /// Permits for lanes (two slabs each) of recorders that `collect` does not share.
    pub(crate) own_lanes: Quota,
    /// Number of recorders so far that got an id generator of their own.
    numbered: AtomicU64,
    /// Last error of a connection or a response.
    pub(crate) last_error: Mutex<Option<String>>,
}

/// Copies of the options that every span needs.
#[repr(C)]
pub(crate) struct SpanSettings {
    pub(crate) sampler: Sampler,
    /// Whether there is tail sampling.
    pub(crate) holds_traces: bool,
    pub(crate) limits: SpanLimits,
}

// The last fields of the limits are those of events and links.
#[cfg(not(loom))]
const _: () = assert!(offset_of!(Shared, span_settings.limits) <= 44);

impl Shared {
    /// Allocates the buffer.
    pub(crate) fn new(settings: Settings, signal: Signal) -> Result<Self, Error> {
        let destinations = settings.destinations.iter().map(|destination| {
            Arc::new(DestinationCounters {
                destination: destination.name.clone(),
                ..DestinationCounters::default()
            })
        });
        let recorders_max = settings.config.recorders_max;
        // Threads without a slab have counters too, and so do lanes that are idle.
        let counters_max = 2 * recorders_max + settings.leases;
        Ok(Self {
            pool: pool(&settings)?,
            last_error: Mutex::default(),
            signal,
            span_settings: SpanSettings {
                sampler: settings.config.sampler.clone(),
                holds_traces: settings.config.tail_sampling.is_some(),
                limits: settings.config.span_limits,
            },
            counters: Counters::new(destinations.collect(), counters_max),
            scopes: Arc::clone(settings.envelope.scopes()),
            own_lanes: Quota::new(recorders_max),
            numbered: AtomicU64::new(0),
            settings,
        })
    }

    /// Returns the id generator of a new recorder.
    pub(crate) fn ids(&self) -> Ids {
        let number = self.numbered.fetch_add(1, Ordering::Relaxed);
        Ids::new(&self.settings.config.id_generator, number)
    }

    pub(crate) fn buffer_use(&self) -> BufferUse {
        BufferUse {
            capacity: self.settings.config.buffer_capacity as u64,
            slabs: self.settings.slabs as u64,
            slabs_used: (self.settings.slabs - self.pool.slabs_left()) as u64,
        }
    }

    /// Fails in a fork of the process that created the collector: a fork has a copy of the memory,
    /// but no network thread.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        if self.is_forked() {
            return Err(Error::forked(self.counters.ledger()));
        }
        Ok(())
    }

    /// Returns whether this process is such a fork, whichever system call created it.
    pub(crate) fn is_forked(&self) -> bool {
        fork::watch();
        self.signal.is_forked()
    }

    /// Counts a span that was refused without a recorder.
    pub(crate) fn refuse(&self, why: Refused) -> Refused {
        self.counters.refuse_without_recorder(why);
        why
    }
}

fn pool(settings: &Settings) -> Result<sync::Arc<Pool>, Error> {
    let Settings {
        slabs,
        leases,
        spans_per_slab,
        ..
    } = *settings;
    let slab_bytes = settings.config.slab_bytes;
    let lanes = match settings.config.disabled {
        true => 0,
        // For each scope at most one lent recorder has a lane.
        false => settings.config.recorders_max + leases + SCOPES_MAX,
    };
    Pool::new(slabs, lanes, slab_bytes, spans_per_slab).ok_or_else(|| {
        Error::resources(
            format!(
                "no memory for a buffer of {} MiB: lower buffer_capacity, slab_bytes or \
                 recorders_max",
                ((slabs + lanes * SLABS_PER_LANE) * slab_bytes) >> 20
            ),
            None,
        )
    })
}
