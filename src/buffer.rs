//! Memory that recorders share with the network thread: slabs, the pool they come from, and the
//! ring that orders them.
//!
//! ```text
//!   recorder                                  network thread
//!   ────────                                  ──────────────
//!   LaneWriter::open ──▶ ring of indices ──▶ SlabQueue::pop ──▶ SlabReader
//!      │ append                                                   │ take ──▶ Batch, Batch, …
//!      ▼                                                          ▼
//!    [ header │ committed spans │ free room ]
//!      ▲ sealed, and last of reader and batches gone: back to the pool
//! ```
//!
//! A slab enters the ring when it is *opened*, not when it is full. So the network thread can take
//! the committed prefix of each recorder's open slab at any time, without the recorder's help.

mod cells;
mod free_list;
mod header;
mod held_cells;
mod lane_writer;
mod magazine;
mod pool;
mod prefetch;
mod ring;
mod signal;
mod slab;
mod traces;
mod waiters;

#[cfg(all(test, loom))]
mod models;

pub(crate) use cells::{CELL_BYTES, Cell, CellPool, CellSizes};
pub(crate) use header::OVERHEAD_BYTES;
pub(crate) use lane_writer::{LaneWriter, SlabQueue, lane};
pub(crate) use magazine::Magazine;
pub(crate) use pool::{PAGE_BYTES, Pool, SLABS_PER_LANE};
#[cfg(feature = "internals")]
pub(crate) use ring::{Consumer, Producer, ring};
pub(crate) use signal::{Signal, WakeOn};
pub(crate) use slab::{Batch, SLAB_WEIGHT, SlabReader};
pub(crate) use traces::Decision;
