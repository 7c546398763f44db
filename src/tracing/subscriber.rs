//! A subscriber without a registry.

use std::fmt;

use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Event, LevelFilter, Metadata, Subscriber};

use crate::collector::Collector;
use crate::recorder::innermost_shared;
use crate::tracing::call_site::CallSite;
use crate::tracing::door::Door;
use crate::tracing::options::option_methods;

/// A subscriber that sends spans of `tracing`, and their events, to a collector: see [`subscriber`].
pub struct OtlpSubscriber {
    /// None if the collector is disabled.
    door: Option<Door<true>>,
    max_level: LevelFilter,
}

/// Creates a subscriber that sends spans of `tracing`, and their events, to a collector, in place of a
/// `tracing_subscriber::Registry` with a [`layer`](super::layer()).
///
/// A span costs a third less. A span ends with its last handle, and not with its last child. There may be more than
/// 4,096 threads, and spans may be used by destructors of thread-local values. Layers
/// that do not look into spans work with it, as `EnvFilter` and `LevelFilter` for all spans and events do;
/// `fmt` and per-layer filters need a `Registry`.
///
/// Memory: as a layer, and 12 bytes more for each place.
///
/// ```
/// use otlp_collector::{Collector, Config};
/// use tracing_subscriber::EnvFilter;
/// use tracing_subscriber::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let config = Config { endpoint: receiver.endpoint(), ..Config::default() };
/// let collector = Collector::new(config)?;
/// let subscriber = otlp_collector::tracing::subscriber(&collector).with(EnvFilter::new("info"));
///
/// tracing::subscriber::with_default(subscriber, || {
///     let _request = tracing::info_span!("GET /orders").entered();
///     tracing::debug_span!("too detailed").in_scope(|| tracing::info!("loaded"));
/// });
/// assert_eq!(collector.shutdown()?.delivered(), 1);
/// # assert_eq!(receiver.span("GET /orders").events.len(), 1);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn subscriber(collector: &Collector) -> OtlpSubscriber {
    OtlpSubscriber {
        door: Door::new(collector),
        max_level: LevelFilter::TRACE,
    }
}

impl OtlpSubscriber {
    option_methods!();

    /// Sets the most detailed level of spans and events that are recorded. Default: TRACE, which is all.
    #[must_use]
    pub fn with_max_level(mut self, level: impl Into<LevelFilter>) -> Self {
        self.max_level = level.into();
        self
    }

    pub(super) fn door(&self) -> Option<&Door<true>> {
        self.door.as_ref()
    }

    fn is_enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.door.is_some() && *metadata.level() <= self.max_level
    }
}

impl Subscriber for OtlpSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if !self.is_enabled(metadata) {
            return Interest::never();
        }
        let _ = CallSite::of(metadata);
        Interest::always()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.is_enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(if self.door.is_some() {
            self.max_level
        } else {
            LevelFilter::OFF
        })
    }

    #[inline]
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let door = self.door.as_ref();
        Id::from_u64(door.map_or(u64::MAX, |door| door.start_new(attributes)))
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        if let Some(door) = &self.door {
            door.record(id.into_u64(), values);
        }
    }

    fn record_follows_from(&self, id: &Id, follows: &Id) {
        if let Some(door) = &self.door {
            door.follow(id.into_u64(), follows.into_u64());
        }
    }

    #[inline]
    fn event(&self, event: &Event<'_>) {
        if let Some(door) = &self.door {
            door.event(event);
        }
    }

    #[inline]
    fn enter(&self, id: &Id) {
        if let Some(door) = &self.door {
            door.enter(id.into_u64());
        }
    }

    #[inline]
    fn exit(&self, id: &Id) {
        if let Some(door) = &self.door {
            door.exit(id.into_u64());
        }
    }

    #[inline]
    fn clone_span(&self, id: &Id) -> Id {
        if let Some(door) = &self.door
            && let Some(place) = door.find(id.into_u64())
        {
            door.table().add_handle(place);
        }
        id.clone()
    }

    #[inline]
    fn try_close(&self, id: Id) -> bool {
        let Some(door) = &self.door else {
            return false;
        };
        let Some(place) = door.find(id.into_u64()) else {
            return false;
        };
        let is_last = door.table().remove_handle(place);
        if is_last {
            door.close_place(place);
        }
        is_last
    }

    fn current_span(&self) -> Current {
        let current = self.door.as_ref().and_then(|door| {
            let table = door.table();
            table.id_and_site(innermost_shared(table.owner())?)
        });
        current.map_or_else(Current::none, |(id, site)| {
            Current::new(Id::from_u64(id), site.metadata)
        })
    }
}

impl fmt::Debug for OtlpSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.door.as_ref().map(Door::options);
        f.debug_struct("OtlpSubscriber")
            .field("options", &options)
            .field("max_level", &self.max_level)
            .finish_non_exhaustive()
    }
}
