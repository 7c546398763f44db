//! Settings of a collector that throws spans away.

use std::time::Duration;

use crate::buffer::PAGE_BYTES;
use crate::config::{
    Config, OPEN_SPANS_LIMIT, Overflow, RECORDERS_LIMIT, Settings, envelope, leases,
};
use crate::span::limits::SpanLimits;

/// Room for the longest trace state, which is passed on, and a name.
const OPEN_SPAN_BYTES: usize = 1024;

impl Settings {
    /// Settings without a buffer and destinations. Values that decide about contexts and threads are
    /// taken over, the others are not looked at: none of them is an error.
    pub(super) fn disabled(config: &Config) -> Self {
        Self {
            disabled: true,
            destinations: Vec::new(),
            envelope: envelope(Vec::new(), ""),
            sampler: config.sampler.clone(),
            tail_sampling: None,
            span_limits: SpanLimits::default(),
            id_generator: config.id_generator.clone(),
            open_spans_max: config.open_spans_max.min(OPEN_SPANS_LIMIT),
            open_span_bytes: OPEN_SPAN_BYTES,
            batch_size: 1,
            batch_timeout: Duration::MAX,
            slabs: 0,
            leases: leases(),
            buffer_capacity: 0,
            slab_bytes: PAGE_BYTES,
            spans_per_slab: 1,
            request_bytes_max: usize::MAX,
            metrics: None,
            overflow: Overflow::Refuse,
            network_core: None,
            worker_cores: config.worker_cores.clone(),
            recorders_max: config.recorders_max.clamp(1, RECORDERS_LIMIT),
            shutdown_timeout: Duration::ZERO,
        }
    }
}
