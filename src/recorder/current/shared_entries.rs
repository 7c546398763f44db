//! Shared spans in a thread's stack. They stay in their places while they are entered.

use crate::recorder::current::{Position, STACK, SpanSlot, Stack, with, without_stack};
use crate::recorder::open_span::OpenSpan;
use crate::recorder::placement::Parent;
use crate::recorder::shared_span::SharedRef;

impl Stack {
    #[inline(always)]
    fn enter_shared(&self, span: SharedRef) {
        self.drop_ended();
        let index = self.len.get();
        if let Some(slot) = self.slot_at(index).or_else(|| self.create_slot(index)) {
            slot.shared.set(Some(span));
            self.len.set(index + 1);
        }
    }

    /// Removes slots on top whose shared spans have ended, since their guards were leaked.
    #[inline(always)]
    fn drop_ended(&self) {
        while let Some((_, slot)) = self.slot(Position::TOP)
            && let Some(span) = slot.shared.get()
            && !span.is_open()
        {
            self.exit_shared(span);
        }
    }

    /// Removes the innermost entry of this span.
    #[inline(always)]
    fn exit_shared(&self, span: SharedRef) {
        for index in (0..self.len.get()).rev() {
            let Some(slot) = self.slot_at(index) else {
                return;
            };
            if slot.shared.get() != Some(span) {
                continue;
            }
            slot.shared.set(None);
            if index + 1 != self.len.get() {
                self.gaps.set(self.gaps.get() + 1);
                return;
            }
            self.len.set(index);
            if self.gaps.get() != 0 {
                self.pop_gaps();
            }
            return;
        }
    }

    /// Returns the slot of the innermost span that is owned by a guard or shared by this owner.
    #[inline(always)]
    fn innermost(&self, owner: u32) -> Option<(usize, &SpanSlot)> {
        let (index, slot) = self.slot(Position::TOP)?;
        match slot.shared.get() {
            Some(span) if span.place().owner() == owner && span.is_open() => Some((index, slot)),
            _ => self.search(owner),
        }
    }

    #[inline(never)]
    fn search(&self, owner: u32) -> Option<(usize, &SpanSlot)> {
        let slots = (0..self.len.get()).rev();
        let mut slots = slots.filter_map(|index| Some((index, self.slot_at(index)?)));
        slots.find(|(_, slot)| match slot.shared.get() {
            Some(span) => span.place().owner() == owner && span.is_open(),
            // A borrowed span is one.
            None => slot.span.try_borrow().map_or(true, |span| !span.is_none()),
        })
    }

    /// Runs `work` with the innermost span as parent that is not shared by another owner.
    #[inline(always)]
    fn with_parent_of<R>(&self, owner: u32, work: &impl Fn(Parent<'_>) -> R) -> R {
        let Some((index, slot)) = self.innermost(owner) else {
            return work(Parent::None);
        };
        match slot.shared.get() {
            Some(span) => span.with_parent(work),
            None => self.with_owned_parent(index, slot, work),
        }
    }

    #[inline(never)]
    fn with_owned_parent<R>(
        &self,
        index: usize,
        slot: &SpanSlot,
        work: &impl Fn(Parent<'_>) -> R,
    ) -> R {
        self.with_slot_as_parent(index, slot, work)
    }
}

/// Makes a shared span the current one. Without the thread's storage it does nothing.
#[inline(always)]
pub(crate) fn enter_shared(span: SharedRef) {
    let _ = STACK.try_with(|stack| stack.enter_shared(span));
}

/// Exits the innermost entry of a shared span, wherever it is in the stack.
#[inline(always)]
pub(crate) fn exit_shared(span: SharedRef) {
    let _ = STACK.try_with(|stack| stack.exit_shared(span));
}

/// Removes shared spans on top that have ended.
#[cold]
pub(crate) fn drop_ended() {
    let _ = STACK.try_with(Stack::drop_ended);
}

/// Runs `work` with the current span as parent, leaving out spans that are shared by other owners.
#[inline(always)]
pub(in crate::recorder) fn with_parent_of<R>(owner: u32, work: impl Fn(Parent<'_>) -> R) -> R {
    let result = STACK.try_with(
        #[inline(always)]
        |stack| stack.with_parent_of(owner, &work),
    );
    result.unwrap_or_else(|_| without_stack(work))
}

/// The current span, as a door sees it that adds an event to it.
#[derive(Clone, Copy)]
pub(crate) enum Innermost {
    Shared(SharedRef),
    Owned(OwnedPosition),
}

/// Position of a span in the stack that is owned by a guard.
#[derive(Clone, Copy)]
pub(crate) struct OwnedPosition(Position);

/// Returns the current span, leaving out spans that are shared by other owners.
#[inline(always)]
pub(crate) fn innermost(owner: u32) -> Option<Innermost> {
    let found = STACK.try_with(|stack| {
        let (index, slot) = stack.innermost(owner)?;
        Some(match slot.shared.get() {
            Some(span) => Innermost::Shared(span),
            None => Innermost::Owned(OwnedPosition(Position(index))),
        })
    });
    found.ok().flatten()
}

/// Returns the innermost span that is shared by this owner.
pub(crate) fn innermost_shared(owner: u32) -> Option<SharedRef> {
    let found = STACK.try_with(|stack| {
        let mut slots = (0..stack.len.get())
            .rev()
            .map_while(|index| stack.slot_at(index));
        slots.find_map(|slot| {
            let span = slot.shared.get()?;
            (span.place().owner() == owner && span.is_open()).then_some(span)
        })
    });
    found.ok().flatten()
}

/// Runs `work` with an entered span that is owned by a guard, as [`with`] does.
pub(crate) fn with_owned<R>(
    position: OwnedPosition,
    work: impl FnOnce(&mut OpenSpan) -> R,
) -> Option<R> {
    with(position.0, work)
}
