//! The part of a collector that its open spans reach, wherever they are.

use std::any::Any;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::buffer::{Cell, CellPool, CellSizes, Magazine};
use crate::config::Settings;
use crate::error::Error;
use crate::otlp::draft::Ended;
use crate::platform::fork::Process;
use crate::span::limits::SpanLimits;
use crate::stats::refused::Refused;

/// Cell of an open span.
pub(super) type SpanCell = Cell<Home>;
/// Cells of a collector's open spans.
pub(super) type SpanCells = CellPool<Home>;
/// Free cells of a thread.
pub(super) type SpanMagazine = Magazine<Home>;

/// The part of a collector that all its cells refer to.
pub(super) struct Home {
    pub(super) options: SpanOptions,
    place: RwLock<Option<HostPlace>>,
}

/// The collector, and the process that it runs in.
struct HostPlace {
    host: Weak<dyn Host>,
    process: Process,
}

/// Options that apply to open spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpanOptions {
    pub(super) limits: SpanLimits,
    /// Encoded bytes of finished spans that a trace can have held.
    pub(super) held_trace_bytes: usize,
}

/// A running collector, as open spans see it.
pub(super) trait Host: Any + Send + Sync {
    /// Writes an ended span from a thread that cannot do it itself.
    fn write(&self, scope: u16, span: &Ended<'_>) -> Result<(), Refused>;
}

impl Home {
    /// Returns the running collector; fails if it is gone.
    #[cold]
    pub(super) fn host(&self) -> Result<Arc<dyn Host>, Refused> {
        // Locked elsewhere only while a collector is made, or in the parent of a fork.
        let place = self.place.try_read_for(LOCK_TIMEOUT);
        let place = place.as_ref().and_then(|place| place.as_ref());
        let place = place.ok_or(Refused::ShutDown)?;
        match place.host.upgrade() {
            Some(host) => Ok(host),
            None if place.process.is_current() => Err(Refused::ShutDown),
            None => Err(Refused::Forked),
        }
    }
}

/// Longest wait for a lock that is never held for long, except in the parent of a fork.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// The cells without owner.
static IDLE: Mutex<Vec<IdleCells>> = Mutex::new(Vec::new());

/// Cells without owner, and the process that had one. In a fork they stay idle, since another thread may
/// have held their lock.
struct IdleCells {
    cells: &'static SpanCells,
    process: Process,
}

/// The owner of a collector's cells, shared by its recorders.
///
/// An open span may outlive its collector. So cells are never freed: once all of them are back, the
/// next collector with the same options uses them again.
pub(super) struct CellsOwner {
    cells: &'static SpanCells,
    process: Process,
}

impl CellsOwner {
    /// Takes or allocates the cells of a new collector.
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        let config = &settings.config;
        let sampling = config.tail_sampling.as_ref();
        let sizes = CellSizes {
            traces: sampling.map_or(0, |sampling| sampling.held_traces_max as u32),
            is_touched: !config.disabled,
            ..CellSizes::divide(config.open_span_bytes_total, config.open_span_bytes)
        };
        let options = SpanOptions {
            limits: config.span_limits,
            held_trace_bytes: sampling.map_or(0, |sampling| sampling.held_trace_bytes),
        };
        let cells = match idle(sizes, options) {
            Some(cells) => cells,
            None => allocate(sizes, options)?,
        };
        Ok(Self {
            cells,
            process: Process::current(),
        })
    }

    pub(super) fn cells(&self) -> &'static SpanCells {
        self.cells
    }

    /// Makes the collector known to spans that outlive their recorder.
    pub(super) fn set_host(&self, host: Weak<dyn Host>) {
        *self.cells.owner.place.write() = Some(HostPlace {
            host,
            process: self.process,
        });
    }
}

/// Returns cells without owner of which none is in use.
fn idle(sizes: CellSizes, options: SpanOptions) -> Option<&'static SpanCells> {
    let mut idle = IDLE.try_lock_for(LOCK_TIMEOUT)?;
    let is_usable = |idle: &IdleCells| {
        let cells = idle.cells;
        idle.process.is_current()
            && cells.sizes() == sizes
            && cells.owner.options == options
            && cells.is_complete()
    };
    let index = idle.iter().position(is_usable)?;
    Some(idle.swap_remove(index).cells)
}

fn allocate(sizes: CellSizes, options: SpanOptions) -> Result<&'static SpanCells, Error> {
    let home = Home {
        options,
        place: RwLock::new(None),
    };
    let cells = CellPool::new(sizes, home).ok_or_else(|| {
        Error::resources(
            "no memory for open spans: lower open_span_bytes_total",
            None,
        )
    })?;
    Ok(Box::leak(Box::new(cells)))
}

impl Drop for CellsOwner {
    fn drop(&mut self) {
        // In a fork, cells that other threads of the parent used never come back.
        if !self.process.is_current() {
            return;
        }
        // Without the lock the memory is lost, which is better than to wait for ever.
        if let Some(mut idle) = IDLE.try_lock_for(LOCK_TIMEOUT) {
            idle.push(IdleCells {
                cells: self.cells,
                process: self.process,
            });
        }
    }
}
