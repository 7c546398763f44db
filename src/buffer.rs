//! The only place where two threads meet: slabs, the pool they come from, and the ring that
//! orders them.
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
//! A slab enters the ring when it is *opened*, not when it is full. So the network thread always
//! sees each recorder's open slab and takes its committed prefix whenever it wants to, without
//! asking the recorder for anything.

mod pool;
mod ring;
mod room;
mod signal;
mod slab;

#[cfg(all(test, loom))]
mod models;

pub(crate) use pool::{PAGE_BYTES, Pool};
pub(crate) use ring::{Consumer, Producer, ring};
pub(crate) use signal::{Signal, Wanted};
pub(crate) use slab::{Batch, OVERHEAD_BYTES, SLAB_WEIGHT, SlabReader, SlabWriter};
