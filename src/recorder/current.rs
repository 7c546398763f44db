//! The spans that are entered on this thread. The last one is the current span.
//!
//! A slot is borrowed while its span is changed or a child starts, so code of the user's that runs
//! meanwhile can enter and exit other spans.

#[cfg(feature = "tracing")]
pub(super) mod shared_entries;

use std::cell::{Cell, OnceCell, RefCell};
use std::mem;

use crate::otlp::draft::SpanIds;
use crate::recorder::open_span::OpenSpan;
use crate::recorder::placement::Parent;
use crate::recorder::shared_span::SharedRef;
use crate::span::context::{SpanContext, TraceState};

/// Slots of a chunk. Deeper stacks allocate further chunks, once a thread.
const CHUNK: usize = 32;

thread_local! {
    static STACK: Stack = const { Stack::new() };
}

/// A place in this thread's stack: the index of a slot, or one of the constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(usize);

impl Position {
    /// That of the current span, whichever it is.
    pub(super) const TOP: Self = Self(usize::MAX);
    /// That of a span that is not in the stack.
    pub(super) const NOWHERE: Self = Self(usize::MAX - 1);
}

/// Stack of entered spans of a thread.
struct Stack {
    /// Allocated with a thread's first entered span.
    slots: OnceCell<Box<SlotChunk>>,
    /// The slot below it has a span that was not exited.
    len: Cell<usize>,
    /// Number of slots below it whose spans were exited.
    gaps: Cell<usize>,
}

/// Slots that are allocated together.
struct SlotChunk {
    slots: [SpanSlot; CHUNK],
    next: OnceCell<Box<Self>>,
}

/// Place of an entered span.
struct SpanSlot {
    /// None after the span was exited. The slot is used again when those above it are exited as well.
    span: RefCell<OpenSpan>,
    /// Ids of the span while code of the user's runs that is changing it.
    lent_ids: Cell<Option<SpanIds>>,
    /// Whether a child took these ids.
    is_shown: Cell<bool>,
    /// Whether the span was exited while it was borrowed.
    is_exited: Cell<bool>,
    /// Changes that were not made, since the span was borrowed.
    skipped: Cell<u32>,
    /// The span, if it is shared. Then `span` is none.
    shared: Cell<Option<SharedRef>>,
}

impl SpanSlot {
    const fn new() -> Self {
        Self {
            span: RefCell::new(OpenSpan::none()),
            lent_ids: Cell::new(None),
            is_shown: Cell::new(false),
            is_exited: Cell::new(false),
            skipped: Cell::new(0),
            shared: Cell::new(None),
        }
    }

    fn skip(&self) {
        self.skipped.set(self.skipped.get().saturating_add(1));
    }

    /// Swaps the span with one that is none; false while it is borrowed.
    #[inline(always)]
    fn take(&self, into: &mut OpenSpan) -> bool {
        let Ok(mut place) = self.span.try_borrow_mut() else {
            return false;
        };
        mem::swap(&mut *place, into);
        if self.skipped.get() != 0 {
            into.count_dropped_attributes(self.skipped.take());
        }
        true
    }
}

impl SlotChunk {
    fn new() -> Box<Self> {
        Box::new(Self {
            slots: [const { SpanSlot::new() }; CHUNK],
            next: OnceCell::new(),
        })
    }
}

impl Stack {
    const fn new() -> Self {
        Self {
            slots: OnceCell::new(),
            len: Cell::new(0),
            gaps: Cell::new(0),
        }
    }

    #[inline(always)]
    fn slot_at(&self, index: usize) -> Option<&SpanSlot> {
        let chunk = self.slots.get()?;
        match chunk.slots.get(index) {
            Some(slot) => Some(slot),
            None => deeper(chunk, index),
        }
    }

    #[inline(always)]
    fn slot(&self, position: Position) -> Option<(usize, &SpanSlot)> {
        let index = match position {
            Position::TOP => self.len.get().checked_sub(1)?,
            Position::NOWHERE => return None,
            Position(index) => index,
        };
        Some((index, self.slot_at(index)?))
    }

    #[cold]
    fn create_slot(&self, index: usize) -> Option<&SpanSlot> {
        let mut chunk = self.slots.get_or_init(SlotChunk::new);
        for _ in 0..index / CHUNK {
            chunk = chunk.next.get_or_init(SlotChunk::new);
        }
        chunk.slots.get(index % CHUNK)
    }

    #[inline(always)]
    fn enter(&self, span: &mut OpenSpan) -> Position {
        let index = self.len.get();
        let slot = self.slot_at(index).or_else(|| self.create_slot(index));
        let Some(mut place) = slot.and_then(|slot| slot.span.try_borrow_mut().ok()) else {
            return Position::NOWHERE;
        };
        mem::swap(&mut *place, span);
        self.len.set(index + 1);
        Position(index)
    }

    /// Moves the span at `index` into `place`, which has none.
    #[inline(always)]
    fn exit(&self, index: usize, place: &mut OpenSpan) {
        let Some(slot) = self.slot_at(index) else {
            return;
        };
        if !slot.take(place) {
            slot.is_exited.set(true);
        } else if index + 1 != self.len.get() {
            self.gaps.set(self.gaps.get() + 1);
        } else {
            self.len.set(index);
            if self.gaps.get() != 0 {
                self.pop_gaps();
            }
        }
    }

    /// Removes the slots on top whose spans were exited.
    #[cold]
    fn pop_gaps(&self) {
        while let Some((index, slot)) = self.slot(Position::TOP)
            && slot.shared.get().is_none()
            && slot.span.try_borrow().is_ok_and(|span| span.is_none())
        {
            self.len.set(index);
            self.gaps.set(self.gaps.get() - 1);
        }
    }

    /// Runs `work`, which runs no code of the user's, with the span at this position, to be changed.
    #[inline(always)]
    fn with<R>(&self, position: Position, work: impl FnOnce(&mut OpenSpan) -> R) -> Option<R> {
        let (_, slot) = self.slot(position)?;
        let Ok(mut span) = slot.span.try_borrow_mut() else {
            slot.skip();
            return None;
        };
        if span.is_none() {
            return slot.with_shared(work);
        }
        Some(work(&mut span))
    }

    /// Runs `work`, which may run code of the user's, with the span at this position, unless that is
    /// being changed.
    #[inline(always)]
    fn read<R>(&self, position: Position, work: impl FnOnce(&OpenSpan) -> R) -> Option<R> {
        let (index, slot) = self.slot(position)?;
        // Dropped after the borrow, should the work panic.
        let settling = self.settling(index, slot);
        let span = slot.span.try_borrow().ok()?;
        if span.is_none() {
            return slot.shared.get()?.read(work);
        }
        let result = work(&span);
        drop(span);
        settling.after_reading();
        Some(result)
    }

    /// Runs `work`, which may run code of the user's, with the span at this position, to be changed.
    fn lend<R>(&self, position: Position, work: impl FnOnce(&mut OpenSpan) -> R) -> Option<R> {
        let (index, slot) = self.slot(position)?;
        let _settling = self.settling(index, slot);
        let Ok(mut span) = slot.span.try_borrow_mut() else {
            slot.skip();
            return None;
        };
        if span.is_none() {
            return slot.with_shared(work);
        }
        slot.lent_ids.set(span.ids());
        let result = work(&mut span);
        // Before the slot is settled.
        drop(span);
        Some(result)
    }

    /// Runs `work` with the current span as parent, if there is one.
    // Two calls of `work`, so that each is compiled for its kind of parent.
    #[inline(always)]
    fn with_parent<R>(&self, work: &impl Fn(Parent<'_>) -> R) -> R {
        let Some((index, slot)) = self.slot(Position::TOP) else {
            return work(Parent::None);
        };
        self.with_slot_as_parent(index, slot, work)
    }

    #[inline(always)]
    fn with_slot_as_parent<R>(
        &self,
        index: usize,
        slot: &SpanSlot,
        work: &impl Fn(Parent<'_>) -> R,
    ) -> R {
        let settling = self.settling(index, slot);
        let span = slot.span.try_borrow();
        let cell = span.as_ref().ok().and_then(|span| span.cell());
        let Some(cell) = cell else {
            return slot.with_other_parent(work);
        };
        let result = work(Parent::Open(cell));
        drop(span);
        settling.after_reading();
        result
    }

    #[inline(always)]
    fn settling<'s>(&'s self, index: usize, slot: &'s SpanSlot) -> Settling<'s> {
        Settling {
            stack: self,
            index,
            slot,
        }
    }

    /// Does what could not be done while the span was borrowed.
    #[cold]
    fn settle(&self, index: usize, slot: &SpanSlot) {
        if slot.is_shown.get()
            && let Ok(span) = slot.span.try_borrow()
        {
            slot.is_shown.set(false);
            let _ = span.context();
        }
        if slot.is_exited.get() && slot.span.try_borrow_mut().is_ok() {
            slot.is_exited.set(false);
            // Its guard is gone, so it ends here.
            self.exit(index, &mut OpenSpan::none());
        }
    }
}

impl SpanSlot {
    #[cold]
    #[inline(never)]
    fn with_shared<R>(&self, work: impl FnOnce(&mut OpenSpan) -> R) -> Option<R> {
        self.shared.get()?.change(work)
    }

    /// Runs `work` with a shared span as parent, or with the context of one that is being changed.
    #[cold]
    #[inline(never)]
    fn with_other_parent<R>(&self, work: &impl Fn(Parent<'_>) -> R) -> R {
        if let Some(span) = self.shared.get() {
            return span.with_parent(work);
        }
        let Some(ids) = self.lent_ids.get() else {
            return work(Parent::None);
        };
        self.is_shown.set(true);
        work(Parent::Context(&SpanContext {
            trace_id: ids.trace_id,
            span_id: ids.span_id,
            trace_flags: ids.trace_flags,
            is_remote: false,
            trace_state: TraceState::EMPTY,
        }))
    }
}

#[cold]
fn deeper(mut chunk: &SlotChunk, mut index: usize) -> Option<&SpanSlot> {
    while index >= CHUNK {
        chunk = chunk.next.get()?;
        index -= CHUNK;
    }
    chunk.slots.get(index)
}

/// Guard that settles a slot at the end of a call, or when it panics.
struct Settling<'s> {
    stack: &'s Stack,
    index: usize,
    slot: &'s SpanSlot,
}

impl Settling<'_> {
    /// Settles a slot that was not lent, with fewer checks.
    #[inline(always)]
    fn after_reading(self) {
        if self.slot.is_exited.get() {
            drop(self);
        } else {
            mem::forget(self);
        }
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        if self.slot.is_exited.get() || self.slot.is_shown.get() {
            self.stack.settle(self.index, self.slot);
        }
    }
}

impl Drop for Stack {
    /// Ends the spans whose guards were leaked, children first.
    fn drop(&mut self) {
        while let Some(index) = self.len.get().checked_sub(1) {
            self.len.set(index);
            let mut span = OpenSpan::none();
            self.slot_at(index).map(|slot| slot.take(&mut span));
        }
    }
}

/// Moves a span to the top of this thread's stack, which makes it the current one. A span that is none
/// stays where it is, and so does any span when the thread's storage is gone.
#[inline(always)]
pub(super) fn enter(span: &mut OpenSpan) -> Position {
    if span.is_none() {
        return Position::NOWHERE;
    }
    STACK
        .try_with(|stack| stack.enter(span))
        .unwrap_or(Position::NOWHERE)
}

/// Moves a span from the stack, wherever it is there, into `place`, which has none.
#[inline(always)]
pub(super) fn exit(position: Position, place: &mut OpenSpan) {
    if position != Position::NOWHERE {
        // Without the thread's storage the span has ended.
        let _ = STACK.try_with(|stack| stack.exit(position.0, place));
    }
}

/// Runs `work`, which runs no code of the user's, with an entered span. Skipped and counted in the span
/// while that is being changed.
#[inline(always)]
pub(super) fn with<R>(position: Position, work: impl FnOnce(&mut OpenSpan) -> R) -> Option<R> {
    let result = STACK.try_with(|stack| stack.with(position, work));
    result.ok().flatten()
}

/// Runs `work` with an entered span, unless that is being changed.
#[inline(always)]
pub(super) fn read<R>(position: Position, work: impl FnOnce(&OpenSpan) -> R) -> Option<R> {
    let result = STACK.try_with(|stack| stack.read(position, work));
    result.ok().flatten()
}

/// Runs `work`, which may run code of the user's, with an entered span. Skipped as in [`with`].
pub(super) fn lend<R>(position: Position, work: impl FnOnce(&mut OpenSpan) -> R) -> Option<R> {
    let result = STACK.try_with(|stack| stack.lend(position, work));
    result.ok().flatten()
}

/// Runs `work` with the current span as parent, if there is one.
#[inline(always)]
pub(super) fn with_parent<R>(work: impl Fn(Parent<'_>) -> R) -> R {
    let result = STACK.try_with(
        #[inline(always)]
        |stack| stack.with_parent(&work),
    );
    result.unwrap_or_else(|_| without_stack(work))
}

#[cold]
#[inline(never)]
fn without_stack<R>(work: impl Fn(Parent<'_>) -> R) -> R {
    work(Parent::None)
}
