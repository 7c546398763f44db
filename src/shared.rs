//! What the recorders and the network thread share.

use std::sync::Arc;

use crate::buffer::{Pool, Signal};
use crate::config::{Overflow, Settings};
use crate::error::Error;
use crate::stats::{Counters, EndpointCounters};
use crate::sync;

pub(crate) struct Shared {
    pub(crate) pool: sync::Arc<Pool>,
    pub(crate) signal: Signal,
    pub(crate) counters: Counters,
    pub(crate) overflow: Overflow,
    pub(crate) batch_size: u32,
    /// With fewer slabs left than this the network thread is called.
    pub(crate) few_slabs: usize,
}

impl Shared {
    /// Allocates the buffer.
    pub(crate) fn new(settings: &Settings, signal: Signal) -> Result<Self, Error> {
        let endpoint = EndpointCounters {
            endpoint: settings.target.url.clone(),
            ..EndpointCounters::default()
        };
        Ok(Self {
            pool: pool(settings)?,
            signal,
            counters: Counters::new(vec![Arc::new(endpoint)]),
            overflow: settings.overflow,
            batch_size: settings.batch_size,
            few_slabs: (settings.slabs / 8).max(1),
        })
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
    Pool::new(slabs, recorders_max + leases, slab_bytes, spans_per_slab).ok_or_else(|| {
        Error::resources(
            format!(
                "no memory for a buffer of {} MiB: lower buffer_capacity, slab_bytes or \
                 recorders_max",
                ((slabs + recorders_max + leases) * slab_bytes) >> 20
            ),
            None,
        )
    })
}
