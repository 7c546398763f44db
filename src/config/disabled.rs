//! Settings of a disabled collector.

use std::time::Duration;

use crate::buffer::PAGE_BYTES;
use crate::config::checks::clamp_sizes;
use crate::config::options::{Config, Overflow};
use crate::config::settings::{Settings, copy, envelope, leases};
use crate::span::limits::SpanLimits;

/// Room for a name and the longest trace state, which is propagated.
const OPEN_SPAN_BYTES: usize = 1024;
/// Room for 85 spans; further ones take memory from the heap.
const OPEN_SPAN_BYTES_TOTAL: usize = 64 << 10;

impl Settings {
    /// Creates settings without a buffer and destinations. No value is an error: sizes are clamped to
    /// their range, others are not checked.
    pub(super) fn disabled(config: &Config) -> Self {
        let mut config = Config {
            destinations: Vec::new(),
            metrics: None,
            tail_sampling: None,
            span_limits: SpanLimits::default(),
            overflow: Overflow::Refuse,
            network_core: None,
            open_span_bytes: OPEN_SPAN_BYTES,
            open_span_bytes_total: config.open_span_bytes_total.min(OPEN_SPAN_BYTES_TOTAL),
            ..copy(config)
        };
        clamp_sizes(&mut config);
        config.slab_bytes = PAGE_BYTES;
        config.buffer_capacity = 0;
        Self {
            config,
            destinations: Vec::new(),
            metrics: None,
            envelope: envelope(Vec::new(), ""),
            batch_timeout: Duration::MAX,
            shutdown_timeout: Duration::ZERO,
            slabs: 0,
            few_slabs: 1,
            spans_per_slab: 1,
            leases: leases(),
            request_bytes_max: usize::MAX,
        }
    }
}
