//! Settings of a disabled collector.

use std::time::Duration;

use crate::buffer::PAGE_BYTES;
use crate::config::checks::clamp_sizes;
use crate::config::options::{Config, Overflow};
use crate::config::settings::{Settings, envelope, leases, own};
use crate::span::limits::SpanLimits;

/// Room for the longest trace state, which is passed on, and a name.
const OPEN_SPAN_BYTES: usize = 1024;

impl Settings {
    /// Settings without a buffer and destinations. Sizes are brought into their range, other values
    /// are not checked: none of them is an error.
    pub(super) fn disabled(config: &Config) -> Self {
        let mut config = Config {
            destinations: Vec::new(),
            metrics: None,
            tail_sampling: None,
            span_limits: SpanLimits::default(),
            overflow: Overflow::Refuse,
            network_core: None,
            open_span_bytes: OPEN_SPAN_BYTES,
            ..own(config)
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
