//! A layer beside others on a `tracing_subscriber::Registry`.

use std::fmt;

use tracing_core::span::{Attributes, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::collector::Collector;
use crate::tracing::call_site::CallSite;
use crate::tracing::door::Door;
use crate::tracing::options::option_methods;

/// A layer that sends spans of `tracing`, and their events, to a collector: see [`layer`].
pub struct OtlpLayer {
    /// None if the collector is disabled.
    door: Option<Door<false>>,
}

/// Creates a layer that sends spans of `tracing`, and their events, to a collector.
///
/// The collector need not be installed. The layer does not keep it: after the collector was shut down
/// or dropped, spans are refused or not recorded. Filters, per layer or for all, decide which spans and
/// events it sees.
///
/// Memory: places for half more spans than [`Config::open_span_bytes_total`] has cells for, of 72
/// bytes each: 1.2 MB by default. A span without a place is not recorded, and counted in
/// [`Stats::spans_without_memory`]. Each thread that emits events needs two times
/// [`Config::open_span_bytes`] twice in addition, 16 KiB by default, and each call site about 500 bytes.
///
/// [`Config::open_span_bytes_total`]: crate::Config::open_span_bytes_total
/// [`Config::open_span_bytes`]: crate::Config::open_span_bytes
/// [`Stats::spans_without_memory`]: crate::stats::Stats::spans_without_memory
///
/// ```
/// use otlp_collector::{Collector, Config};
/// use tracing_subscriber::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let config = Config { endpoint: receiver.endpoint(), ..Config::default() };
/// let collector = Collector::new(config)?;
/// let subscriber = tracing_subscriber::registry()
///     .with(otlp_collector::tracing::layer(&collector).with_location(true));
///
/// tracing::subscriber::with_default(subscriber, || {
///     let _request = tracing::info_span!("GET /orders", otel.kind = "server").entered();
///     tracing::info!(rows = 17, "loaded");
/// });
/// assert_eq!(collector.shutdown()?.delivered(), 1);
/// # assert_eq!(receiver.span("GET /orders").events[0].name, "loaded");
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn layer(collector: &Collector) -> OtlpLayer {
    OtlpLayer {
        door: Door::new(collector),
    }
}

impl OtlpLayer {
    option_methods!();

    pub(super) fn door(&self) -> Option<&Door<false>> {
        self.door.as_ref()
    }
}

impl<S: Subscriber> Layer<S> for OtlpLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.door.is_some() {
            let _ = CallSite::of(metadata);
        }
        Interest::always()
    }

    #[inline]
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if let Some(door) = &self.door {
            door.start(attributes, id.into_u64());
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        if let Some(door) = &self.door {
            door.record(id.into_u64(), values);
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        if let Some(door) = &self.door {
            door.follow(id.into_u64(), follows.into_u64());
        }
    }

    #[inline]
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if let Some(door) = &self.door {
            door.event(event);
        }
    }

    #[inline]
    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        if let Some(door) = &self.door {
            door.enter(id.into_u64());
        }
    }

    #[inline]
    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        if let Some(door) = &self.door {
            door.exit(id.into_u64());
        }
    }

    #[inline]
    fn on_close(&self, id: Id, _: Context<'_, S>) {
        if let Some(door) = &self.door {
            door.close(id.into_u64());
        }
    }
}

impl fmt::Debug for OtlpLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.door.as_ref().map(Door::options);
        f.debug_struct("OtlpLayer")
            .field("options", &options)
            .finish_non_exhaustive()
    }
}
