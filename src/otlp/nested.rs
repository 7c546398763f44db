//! Encodes nested arrays and key-value lists.
//!
//! A loop with an explicit stack replaces recursion, so the most deeply nested value uses no more
//! of the thread's stack than a flat one.

use crate::otlp::output::Output;
use crate::otlp::repeats::{LastPerKey, last_per_key, may_repeat};
use crate::otlp::scalar::{encode_entry, encode_scalar};
use crate::otlp::tag;
use crate::span::attribute::{
    AnyValueRef, ArrayRef, AsKeyValue, KeyValueListRef, KeyValueRef, List,
};
use crate::span::limits::{LOOKED_AT_MAX, MESSAGES_MAX, SpanLimits};

/// A value that contains other values.
#[derive(Clone, Copy)]
pub(super) enum Container<'a> {
    Array(ArrayRef<'a>),
    List(KeyValueListRef<'a>),
}

/// Messages that wrap a value in an array: `ArrayValue`, `AnyValue`.
const ARRAY_MESSAGES: u32 = 2;
/// Messages that wrap a value in a list: `KeyValueList`, `KeyValue`, `AnyValue`.
const LIST_MESSAGES: u32 = 3;
/// Maximum nesting of containers. Deeper ones are encoded as empty values.
const LEVELS_MAX: usize = (MESSAGES_MAX / ARRAY_MESSAGES) as usize;

impl<'a> Container<'a> {
    pub(super) fn of(value: &AnyValueRef<'a>) -> Option<Self> {
        match *value {
            AnyValueRef::Array(array) => Some(Self::Array(array)),
            AnyValueRef::KeyValueList(list) => Some(Self::List(list)),
            _ => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Array(array) => array.len(),
            Self::List(list) => list.len(),
        }
    }

    /// Returns the number of messages that wrap a value in the container.
    fn messages(&self) -> u32 {
        match self {
            Self::Array(_) => ARRAY_MESSAGES,
            Self::List(_) => LIST_MESSAGES,
        }
    }

    fn tag(&self) -> u8 {
        match self {
            Self::Array(_) => tag::ARRAY_VALUE,
            Self::List(_) => tag::KVLIST_VALUE,
        }
    }

    /// Returns the entries to send, if not all: in a list each key occurs once. Lists longer than
    /// [`LOOKED_AT_MAX`] are not deduplicated.
    #[inline(never)]
    fn entries_to_send(&self) -> Option<LastPerKey> {
        match self {
            Self::Array(_) => None,
            Self::List(KeyValueListRef(List::Borrowed(items))) => last_of_each_key(items),
            Self::List(KeyValueListRef(List::Owned(items))) => last_of_each_key(items),
        }
    }
}

fn last_of_each_key<K: AsKeyValue>(items: &[K]) -> Option<LastPerKey> {
    let is_looked_at = items.len() <= LOOKED_AT_MAX && may_repeat(&(), items);
    is_looked_at.then(|| last_per_key(items, usize::MAX))
}

/// A container that is being encoded.
struct Level<'a> {
    container: Container<'a>,
    /// The index of the next value.
    next: usize,
    to_send: Option<LastPerKey>,
    /// Number of messages that wrap a value in this container, outer containers included.
    depth: u32,
    /// Positions where the messages start that end with this container, outermost first.
    starts: Starts,
}

/// Start positions of up to three nested messages.
#[derive(Clone, Copy, Default)]
struct Starts {
    places: [usize; 3],
    len: usize,
}

impl Starts {
    fn with(mut self, place: usize) -> Self {
        self.places[self.len] = place;
        self.len += 1;
        self
    }

    /// Writes the lengths of the messages, innermost first.
    fn close<O: Output>(self, out: O) -> Option<O> {
        let starts = self.places[..self.len].iter().rev();
        starts.copied().try_fold(out, O::close::<1>)
    }
}

impl<'a> Level<'a> {
    /// Returns the index of the next value to send.
    fn advance(&mut self) -> Option<usize> {
        let at = match &self.to_send {
            Some(entries) => entries.next(self.next)?,
            None => self.next,
        };
        self.next = at + 1;
        (at < self.container.len()).then_some(at)
    }

    /// Returns the value as a container, if it is one and not nested too deep.
    fn inner(&self, value: &AnyValueRef<'a>) -> Option<Container<'a>> {
        let inner = Container::of(value)?;
        (self.depth + inner.messages() <= MESSAGES_MAX).then_some(inner)
    }
}

/// Encodes a container with everything nested in it.
#[inline(never)]
pub(super) fn encode<O: Output>(
    outermost: Container<'_>,
    limits: &SpanLimits,
    out: O,
) -> Option<O> {
    let mut levels = Levels {
        stack: [const { None }; LEVELS_MAX],
        len: 0,
    };
    let mut out = levels.enter(outermost, 0, Starts::default(), out)?;
    while let Some(level) = levels.innermost() {
        out = match level.advance() {
            Some(at) => levels.encode_value(at, limits, out)?,
            None => levels.leave(out)?,
        };
    }
    Some(out)
}

/// Stack of the containers that are being encoded, outermost first.
struct Levels<'a> {
    stack: [Option<Level<'a>>; LEVELS_MAX],
    len: usize,
}

impl<'a> Levels<'a> {
    fn innermost(&mut self) -> Option<&mut Level<'a>> {
        self.stack[self.len.checked_sub(1)?].as_mut()
    }

    /// Starts a container. `starts` are the messages around it that end with it.
    #[inline(never)]
    fn enter<O: Output>(
        &mut self,
        container: Container<'a>,
        depth: u32,
        starts: Starts,
        out: O,
    ) -> Option<O> {
        let (out, start) = out.array([container.tag()])?.open::<1>();
        self.stack[self.len] = Some(Level {
            container,
            next: 0,
            to_send: container.entries_to_send(),
            depth: depth + container.messages(),
            starts: starts.with(start),
        });
        self.len += 1;
        Some(out)
    }

    /// Ends the innermost container and the messages that end with it.
    fn leave<O: Output>(&mut self, out: O) -> Option<O> {
        self.len -= 1;
        match &self.stack[self.len] {
            Some(level) => level.starts.close(out),
            None => Some(out),
        }
    }

    /// Encodes the value at index `at` of the innermost container.
    fn encode_value<O: Output>(&mut self, at: usize, limits: &SpanLimits, out: O) -> Option<O> {
        let Some(level) = self.innermost() else {
            return Some(out);
        };
        match level.container {
            Container::Array(array) => self.encode_element(array.at(at), limits, out),
            Container::List(KeyValueListRef(List::Borrowed(items))) => {
                self.encode_key_value(items[at], limits, out)
            }
            Container::List(KeyValueListRef(List::Owned(items))) => {
                self.encode_key_value(items[at].as_key_value(), limits, out)
            }
        }
    }

    #[inline(never)]
    fn encode_element<O: Output>(
        &mut self,
        value: AnyValueRef<'a>,
        limits: &SpanLimits,
        out: O,
    ) -> Option<O> {
        let (inner, depth) = self.inner(&value);
        let Some(inner) = inner else {
            return out.message(tag::VALUES, |out| encode_scalar(&value, limits, out));
        };
        let (out, start) = out.array([tag::VALUES])?.open::<1>();
        self.enter(inner, depth, Starts::default().with(start), out)
    }

    #[inline(never)]
    fn encode_key_value<O: Output>(
        &mut self,
        entry: KeyValueRef<'a>,
        limits: &SpanLimits,
        out: O,
    ) -> Option<O> {
        let (inner, depth) = self.inner(&entry.value);
        let Some(inner) = inner else {
            return encode_entry(&entry, limits, out);
        };
        let (out, key_value) = out.array([tag::VALUES])?.open::<1>();
        let (out, value) = out.key(entry.key)?.open::<1>();
        let starts = Starts::default().with(key_value).with(value);
        self.enter(inner, depth, starts, out)
    }

    /// Returns a value of the innermost container as a container, and the current depth.
    fn inner(&mut self, value: &AnyValueRef<'a>) -> (Option<Container<'a>>, u32) {
        match self.innermost() {
            Some(level) => (level.inner(value), level.depth),
            None => (None, 0),
        }
    }
}
