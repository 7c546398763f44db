//! Finds the attributes whose keys stand more than once, in a time that grows with their number.

use crate::attribute::{AsKeyValue, Attributes, KeyValueRef, Keys, VisitAttributes};
use crate::limits::LOOKED_AT_MAX;

/// Whether a key perhaps stands twice, or is missing; if not, surely neither is so.
#[inline(always)]
pub(super) fn may_repeat<T: Attributes, K: AsKeyValue>(tuple: &T, items: &[K]) -> bool {
    let Some(Marks(mut seen)) = tuple.visit(Marks(0)) else {
        return true;
    };
    if items.len() > 8 {
        return T::COUNT > 0 || may_repeat_among_many(items);
    }
    for item in items {
        let mark = item.with(|attribute| attribute.key.mark());
        if seen & mark == mark {
            return true;
        }
        seen |= mark;
    }
    false
}

/// The marks of a tuple's keys, as long as they differ.
struct Marks(u64);

impl VisitAttributes for Marks {
    #[inline(always)]
    fn attribute(self, attribute: &KeyValueRef<'_>) -> Option<Self> {
        let mark = attribute.key.mark();
        (self.0 & mark != mark).then_some(Self(self.0 | mark))
    }
}

#[inline(never)]
fn may_repeat_among_many<K: AsKeyValue>(items: &[K]) -> bool {
    let mut keys = Keys::NONE;
    items.iter().any(|item| {
        item.with(|KeyValueRef { key, .. }| {
            let is_suspect = keys.may_contain(key) || key.fingerprint() == 0;
            keys.insert(key);
            is_suspect
        })
    })
}

/// Attributes that can be looked at in any order.
pub(super) trait Items {
    fn len(&self) -> usize;

    fn with<R>(&self, at: usize, look: impl FnOnce(&KeyValueRef<'_>) -> R) -> R;

    fn has_key(&self, at: usize, key: &str) -> bool {
        self.with(at, |attribute| attribute.key.text() == key)
    }
}

impl<K: AsKeyValue> Items for [K] {
    fn len(&self) -> usize {
        self.len()
    }

    fn with<R>(&self, at: usize, look: impl FnOnce(&KeyValueRef<'_>) -> R) -> R {
        self[at].with(look)
    }
}

/// Gives where the attributes with different keys stand last, each in the place where its key stands
/// first, and how often its key stands again. Those without a key are left out, and so is what is
/// behind the first [`LOOKED_AT_MAX`].
pub(super) fn for_each_different<I: Items + ?Sized>(items: &I, mut give: impl FnMut(usize, usize)) {
    let mut give = |place: &Place| {
        if let Some(repeats) = place.stands.checked_sub(1) {
            give(usize::from(place.last), usize::from(repeats));
        }
    };
    if items.len() <= FEW {
        Repeats::of_few(items).0.iter().for_each(&mut give);
    } else {
        Repeats::of_many(items).0.iter().for_each(&mut give);
    }
}

/// Up to here comparing each with each is faster than filling a table.
const FEW: usize = 16;

/// For each attribute what is known of its key.
struct Repeats<const N: usize>([Place; N]);

#[derive(Clone, Copy, Default)]
struct Place {
    /// How often the key stands, where it stands first; otherwise 0.
    stands: u16,
    last: u16,
}

impl Repeats<FEW> {
    fn of_few<I: Items + ?Sized>(items: &I) -> Self {
        Self::new(items, |at, key| {
            (0..at).find(|earlier| items.has_key(*earlier, key))
        })
    }
}

impl Repeats<LOOKED_AT_MAX> {
    #[inline(never)]
    fn of_many<I: Items + ?Sized>(items: &I) -> Self {
        const SLOTS: usize = 2 * LOOKED_AT_MAX;
        /// Index + 1; 0 is free.
        type Table = [u16; SLOTS];
        let mut table: Table = [0; SLOTS];
        Self::new(items, |at, key| {
            let mut slot = hash(key) as usize % SLOTS;
            while let Some(index) = table[slot].checked_sub(1) {
                let index = usize::from(index);
                if items.has_key(index, key) {
                    return Some(index);
                }
                slot = (slot + 1) % SLOTS;
            }
            table[slot] = at as u16 + 1;
            None
        })
    }
}

impl<const N: usize> Repeats<N> {
    /// `find` tells where a key stands first, if that is before the place it stands at.
    fn new<I: Items + ?Sized>(
        items: &I,
        mut find: impl FnMut(usize, &str) -> Option<usize>,
    ) -> Self {
        let mut places = [Place::default(); N];
        for at in 0..items.len().min(N) {
            let first = items.with(at, |attribute| match attribute.key.text() {
                "" => None,
                key => Some(find(at, key).unwrap_or(at)),
            });
            if let Some(first) = first {
                let place = &mut places[first];
                place.stands += 1;
                place.last = at as u16;
            }
        }
        Self(places)
    }
}

fn hash(key: &str) -> u32 {
    let mut hash = key.len() as u64;
    for chunk in key.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    (hash >> 32) as u32
}
