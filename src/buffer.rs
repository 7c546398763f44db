//! Memory that recorders share with the network thread: slabs, the pool they come from, and the
//! ring that orders them.
//!
//! ```text
//!   recorder                                     network thread
//!   ────────                                     ──────────────
//!   Pool::open ──▶ SlabWriter     SlabReader ──▶ ring ──▶ Consumer::pop
//!                    │ commit        ▲             │ take ──▶ Batch, Batch, …
//!                    ▼               │             ▼
//!                  [ header │ committed spans │ free room ]
//!                    ▲ last of writer, reader and batches gone: back to the pool
//! ```
//!
//! A slab enters the ring when it is *opened*, not when it is full. So the network thread can take
//! the committed prefix of each recorder's open slab at any time, without the recorder's help.

mod cells;
mod free_list;
mod header;
mod held_cells;
mod magazine;
mod pool;
mod ring;
mod signal;
mod slab;
mod traces;
mod waiters;

#[cfg(all(test, loom))]
mod models;

pub(crate) use cells::{CELL_BYTES, Cell, CellPool, CellSizes};
pub(crate) use header::OVERHEAD_BYTES;
pub(crate) use magazine::Magazine;
pub(crate) use pool::{PAGE_BYTES, Pool};
pub(crate) use ring::{Consumer, Producer, ring};
pub(crate) use signal::{Signal, WakeOn};
pub(crate) use slab::{Batch, SLAB_WEIGHT, SlabReader, SlabWriter};
pub(crate) use traces::Decision;
