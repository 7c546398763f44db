//! Open spans that several threads can reach, as a door needs them whose spans have no owner.

use std::fmt;
use std::hint;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::recorder::open_span::OpenSpan;
use crate::recorder::placement::Parent;
use crate::span::context::{SpanContext, TraceFlags, TraceState};
use crate::span::id::{SpanId, TraceId};

/// Attempts to take a span that another thread is changing. Code of the user's runs meanwhile only in
/// samplers and generators, so one attempt is nearly always enough.
const ATTEMPTS: u32 = 100;
/// Wait for such a span where it ends.
const END_TIMEOUT: Duration = Duration::from_millis(10);

/// Bits of the state. The others are the generation.
mod bit {
    /// Whether the span's data is sent.
    pub(super) const RECORDING: u64 = 1;
    /// Whether the span has no room for events.
    pub(super) const FULL: u64 = 1 << 1;
    /// Whether the context was shown and copied.
    pub(super) const SHOWN: u64 = 1 << 2;
    /// Whether the copy is all that a child needs.
    pub(super) const SIMPLE: u64 = 1 << 3;
    /// Whether the span is sampled.
    pub(super) const SAMPLED: u64 = 1 << 4;
    /// Whether the trace id is random.
    pub(super) const RANDOM: u64 = 1 << 5;
    pub(super) const GENERATION: u32 = 8;
}

/// Place of an open span that can be reached from any thread, for one span after another.
pub(crate) struct SharedSpan {
    span: Mutex<OpenSpan>,
    /// Generation, which is odd while there is a span, and bits.
    state: AtomicU64,
    /// A copy of the ids, once they can no longer change.
    ids: [AtomicU64; 3],
    /// Changes that were not made, since the span was being changed.
    skipped: AtomicU32,
    /// Number of the owner, so that two doors do not take each other's spans.
    owner: u32,
}

/// A span in its place. Does nothing after the span has ended.
#[derive(Clone, Copy)]
pub(crate) struct SharedRef {
    place: &'static SharedSpan,
    generation: u64,
}

impl SharedSpan {
    pub(crate) fn new(owner: u32) -> Self {
        Self {
            span: Mutex::new(OpenSpan::none()),
            state: AtomicU64::new(0),
            ids: [const { AtomicU64::new(0) }; 3],
            skipped: AtomicU32::new(0),
            owner,
        }
    }

    #[inline]
    pub(crate) fn owner(&self) -> u32 {
        self.owner
    }

    /// Puts a span into this place, which belongs to the caller and has none.
    #[inline(always)]
    pub(crate) fn put(&'static self, span: OpenSpan) -> SharedRef {
        let generation = (self.state.load(Ordering::Relaxed) >> bit::GENERATION) | 1;
        let bits = bits_of(&span);
        // Only a door that uses an old reference can have it at this moment.
        if let Some(mut place) = self.lock() {
            *place = span;
            (self.state).store(generation << bit::GENERATION | bits, Ordering::Release);
        }
        SharedRef {
            place: self,
            generation,
        }
    }

    /// Returns the span that is in this place now.
    #[inline(always)]
    pub(crate) fn current(&'static self) -> SharedRef {
        SharedRef {
            place: self,
            generation: self.state.load(Ordering::Acquire) >> bit::GENERATION,
        }
    }

    #[inline(always)]
    fn lock(&self) -> Option<MutexGuard<'_, OpenSpan>> {
        match self.span.try_lock() {
            Some(guard) => Some(guard),
            None => self.lock_soon(),
        }
    }

    #[cold]
    #[inline(never)]
    fn lock_soon(&self) -> Option<MutexGuard<'_, OpenSpan>> {
        (0..ATTEMPTS).find_map(|_| {
            hint::spin_loop();
            self.span.try_lock()
        })
    }
}

/// Returns the bits of a span whose context was not copied.
#[inline(always)]
fn bits_of(span: &OpenSpan) -> u64 {
    if span.is_recording() {
        bit::RECORDING
    } else {
        0
    }
}

impl SharedRef {
    /// Returns the bits, or none after the span has ended.
    #[inline(always)]
    fn bits(&self) -> Option<u64> {
        let state = self.place.state.load(Ordering::Acquire);
        (state >> bit::GENERATION == self.generation).then_some(state)
    }

    #[inline(always)]
    pub(crate) fn place(&self) -> &'static SharedSpan {
        self.place
    }

    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.bits().is_some()
    }

    /// Returns whether data is sent, as far as is known without taking the span.
    #[inline(always)]
    pub(crate) fn is_recording(&self) -> bool {
        self.bits().is_some_and(|bits| bits & bit::RECORDING != 0)
    }

    /// Returns whether events are only counted.
    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.bits().is_some_and(|bits| bits & bit::FULL != 0)
    }

    /// Takes the span, unless it has ended.
    #[inline(always)]
    fn lock(&self) -> Option<MutexGuard<'static, OpenSpan>> {
        let span = self.place.lock()?;
        self.is_open().then_some(span)
    }

    fn add_bits(&self, bits: u64) {
        // Only while the span is taken, so nothing else is stored meanwhile.
        let state = self.place.state.load(Ordering::Relaxed);
        if state | bits != state {
            self.place.state.store(state | bits, Ordering::Release);
        }
    }

    /// Runs `change` with the span. Skipped and counted in the span while it is being changed.
    #[inline(always)]
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut OpenSpan) -> R) -> Option<R> {
        let Some(mut span) = self.lock() else {
            if self.is_open() {
                self.place.skipped.fetch_add(1, Ordering::Relaxed);
            }
            return None;
        };
        let result = change(&mut span);
        let state = self.place.state.load(Ordering::Relaxed);
        let bits = state & !(bit::RECORDING | bit::FULL) | self.bits_now(&span);
        if bits != state {
            self.place.state.store(bits, Ordering::Release);
        }
        Some(result)
    }

    #[inline(always)]
    fn bits_now(&self, span: &OpenSpan) -> u64 {
        let full = if span.may_add_event() { 0 } else { bit::FULL };
        bits_of(span) | full
    }

    /// Runs `read` with the span, unless it is being changed.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&OpenSpan) -> R) -> Option<R> {
        Some(read(&*self.lock()?))
    }

    /// Runs `work` with the span as parent. The span is taken meanwhile only if the child needs more
    /// than ids.
    #[inline(always)]
    pub(super) fn with_parent<R>(&self, work: &impl Fn(Parent<'_>) -> R) -> R {
        const READY: u64 = bit::SHOWN | bit::SIMPLE;
        if let Some(bits) = self.bits()
            && bits & READY == READY
            && let Some(context) = self.copied(bits)
        {
            return work(Parent::Context(&context));
        }
        self.with_open_parent(work)
    }

    #[inline(never)]
    fn with_open_parent<R>(&self, work: &impl Fn(Parent<'_>) -> R) -> R {
        let Some(span) = self.lock() else {
            // The ids are right, and all else is second to that.
            let bits = self.bits().filter(|bits| bits & bit::SHOWN != 0);
            return match bits.and_then(|bits| self.copied(bits)) {
                Some(context) => work(Parent::Context(&context)),
                None => work(Parent::None),
            };
        };
        let Some(cell) = span.cell() else {
            return work(Parent::None);
        };
        cell.show();
        self.copy_ids(&span, cell.is_in_trace());
        work(Parent::Open(cell))
    }

    /// Copies the ids of a span that was shown.
    fn copy_ids(&self, span: &OpenSpan, is_in_trace: bool) {
        let (Some(ids), Some(context)) = (span.ids(), span.context()) else {
            return;
        };
        let trace_id = u128::from_be_bytes(ids.trace_id.to_bytes());
        let words = [
            (trace_id >> 64) as u64,
            trace_id as u64,
            u64::from_be_bytes(ids.span_id.to_bytes()),
        ];
        for (place, word) in self.place.ids.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        let mut bits = bit::SHOWN;
        if !is_in_trace && context.trace_state.is_empty() {
            bits |= bit::SIMPLE;
        }
        if ids.trace_flags.is_sampled() {
            bits |= bit::SAMPLED;
        }
        if ids.trace_flags.is_random() {
            bits |= bit::RANDOM;
        }
        self.add_bits(bits);
    }

    /// Returns the copied context, unless the span ended meanwhile.
    #[inline(always)]
    fn copied(&self, bits: u64) -> Option<SpanContext<'static>> {
        let [high, low, span_id] = &self.place.ids;
        let trace_id = u128::from(high.load(Ordering::Relaxed)) << 64
            | u128::from(low.load(Ordering::Relaxed));
        let span_id = span_id.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let state = self.place.state.load(Ordering::Relaxed);
        if state >> bit::GENERATION != self.generation {
            return None;
        }
        let flags = if bits & bit::RANDOM == 0 {
            TraceFlags::NONE
        } else {
            TraceFlags::RANDOM
        };
        Some(SpanContext {
            trace_id: TraceId::from_bytes(trace_id.to_be_bytes())?,
            span_id: SpanId::from_bytes(span_id.to_be_bytes())?,
            trace_flags: flags.with_sampled(bits & bit::SAMPLED != 0),
            is_remote: false,
            trace_state: TraceState::EMPTY,
        })
    }

    /// Takes the span out of its place, to be ended.
    #[inline(always)]
    pub(crate) fn take(&self) -> OpenSpan {
        let taken = self.lock().or_else(|| self.lock_for_end());
        let Some(mut place) = taken else {
            return OpenSpan::none();
        };
        let mut span = std::mem::take(&mut *place);
        (self.place.state).store((self.generation + 1) << bit::GENERATION, Ordering::Release);
        if self.place.skipped.load(Ordering::Relaxed) != 0 {
            span.count_dropped_attributes(self.place.skipped.swap(0, Ordering::Relaxed));
        }
        span
    }

    #[cold]
    #[inline(never)]
    fn lock_for_end(&self) -> Option<MutexGuard<'static, OpenSpan>> {
        let span = self.place.span.try_lock_for(END_TIMEOUT)?;
        self.is_open().then_some(span)
    }
}

impl PartialEq for SharedRef {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.place, other.place) && self.generation == other.generation
    }
}

impl fmt::Debug for SharedRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRef").finish_non_exhaustive()
    }
}
