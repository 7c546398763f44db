//! Finds attributes with repeated keys, in time linear in their number even for hostile keys.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use crate::span::attribute::{AsKeyValue, Attributes, KeyValueRef, Keys, VisitAttributes};
use crate::span::limits::LOOKED_AT_MAX;

/// Returns whether a key may be repeated or empty. False positives are possible, false negatives
/// are not.
#[inline(always)]
pub(super) fn may_repeat<T: Attributes, K: AsKeyValue>(tuple: &T, items: &[K]) -> bool {
    let Some(KeyMarks(mut seen)) = tuple.visit(KeyMarks(0)) else {
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

/// Visitor that collects the marks of a tuple's keys and stops at a possible repeat.
struct KeyMarks(u64);

impl VisitAttributes for KeyMarks {
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

/// A list of attributes with random access.
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

/// Set of the attributes to send, among the first [`LOOKED_AT_MAX`].
///
/// A bit set, to be small: each level of nested lists has one on the stack.
pub(super) struct LastPerKey {
    /// One bit per index.
    places: [u64; LOOKED_AT_MAX / 64],
    /// Number of attributes in the set.
    kept: u16,
    /// Number of attributes that a later one with the same key replaced.
    repeats: u16,
}

impl LastPerKey {
    const NONE: Self = Self {
        places: [0; LOOKED_AT_MAX / 64],
        kept: 0,
        repeats: 0,
    };

    pub(super) fn kept(&self) -> usize {
        self.kept.into()
    }

    pub(super) fn repeats(&self) -> usize {
        self.repeats.into()
    }

    /// Returns the first index in the set that is at least `from`.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut left = self.places.get(word)? & u64::MAX << (from % 64);
        while left == 0 {
            word += 1;
            left = *self.places.get(word)?;
        }
        Some(word * 64 + left.trailing_zeros() as usize)
    }

    fn contains(&self, at: usize) -> bool {
        self.places[at / 64] >> (at % 64) & 1 != 0
    }

    /// Replaces an earlier attribute with the one at index `at`, which has the same key.
    fn replace(&mut self, earlier: usize, at: usize) {
        self.places[earlier / 64] &= !(1 << (earlier % 64));
        self.places[at / 64] |= 1 << (at % 64);
        self.repeats += 1;
    }

    fn add(&mut self, at: usize) {
        self.places[at / 64] |= 1 << (at % 64);
        self.kept += 1;
    }
}

/// Finds the last attribute of each of the first `count_max` distinct keys. Attributes without a
/// key are skipped.
///
/// Not inlined, so that its table is off the stack before the attributes are encoded.
#[inline(never)]
pub(super) fn last_per_key<I: Items + ?Sized>(items: &I, count_max: usize) -> LastPerKey {
    if items.len() <= FEW {
        of_few(items, count_max)
    } else {
        of_many(items, count_max)
    }
}

/// Number of attributes up to which comparing all pairs is faster than filling a table.
const FEW: usize = 16;

fn of_few<I: Items + ?Sized>(items: &I, count_max: usize) -> LastPerKey {
    let mut found = LastPerKey::NONE;
    for_each_key(items, |at, key| {
        let is_it = |earlier: &usize| items.has_key(*earlier, key) && found.contains(*earlier);
        match (0..at).find(is_it) {
            Some(earlier) => found.replace(earlier, at),
            None if found.kept() < count_max => found.add(at),
            None => {}
        }
    });
    found
}

#[inline(never)]
fn of_many<I: Items + ?Sized>(items: &I, count_max: usize) -> LastPerKey {
    let mut found = LastPerKey::NONE;
    let mut table = KeyTable([0; SLOTS]);
    for_each_key(items, |at, key| {
        let slot = table.slot(key, |earlier| items.has_key(earlier, key));
        match slot.checked_sub(1) {
            Some(earlier) => found.replace(earlier.into(), at),
            None if found.kept() < count_max => found.add(at),
            None => return,
        }
        *slot = at as u16 + 1;
    });
    found
}

fn for_each_key<I: Items + ?Sized>(items: &I, mut take: impl FnMut(usize, &str)) {
    for at in 0..items.len().min(LOOKED_AT_MAX) {
        items.with(at, |attribute| match attribute.key.text() {
            "" => {}
            key => take(at, key),
        });
    }
}

const SLOTS: usize = 2 * LOOKED_AT_MAX;

/// Hash table with open addressing. A slot holds the last index of a key plus 1; 0 is a free slot.
struct KeyTable([u16; SLOTS]);

impl KeyTable {
    /// Returns the slot of a key, or a free slot. `is_at` compares the key with the one at an
    /// index.
    fn slot(&mut self, key: &str, is_at: impl Fn(usize) -> bool) -> &mut u16 {
        let mut slot = hash(key) % SLOTS;
        // Terminates, because at least half of the slots are free.
        while let Some(place) = self.0[slot].checked_sub(1)
            && !is_at(place.into())
        {
            slot = (slot + 1) % SLOTS;
        }
        &mut self.0[slot]
    }
}

/// Randomly seeded per process, so that collisions cannot be provoked.
static HASHER: OnceLock<RandomState> = OnceLock::new();

/// Seeds the hash ahead of the record path, because that makes a system call.
pub(crate) fn seed() {
    HASHER.get_or_init(RandomState::new);
}

fn hash(key: &str) -> usize {
    let hasher = HASHER.get_or_init(RandomState::new);
    hasher.hash_one(key) as usize
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Attributes that count the comparisons of their keys.
    struct Counting<'a> {
        attributes: Vec<KeyValueRef<'a>>,
        comparisons: Cell<usize>,
    }

    impl<'a> Counting<'a> {
        fn new(keys: impl IntoIterator<Item = &'a String>) -> Self {
            let attribute = |key| KeyValueRef::new(key, 1);
            Self {
                attributes: keys.into_iter().map(attribute).collect(),
                comparisons: Cell::new(0),
            }
        }
    }

    impl Items for Counting<'_> {
        fn len(&self) -> usize {
            self.attributes.len()
        }

        fn with<R>(&self, at: usize, look: impl FnOnce(&KeyValueRef<'_>) -> R) -> R {
            look(&self.attributes[at])
        }

        fn has_key(&self, at: usize, key: &str) -> bool {
            self.comparisons.set(self.comparisons.get() + 1);
            self.attributes[at].key.text() == key
        }
    }

    /// Returns 16-byte keys that an unseeded multiplicative hash maps to one value.
    fn colliding_keys() -> Vec<String> {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let as_text = |word: u64| String::from_utf8(word.to_le_bytes().to_vec());
        let first_words = (0..).filter_map(|number| {
            as_text(u64::from_le_bytes(
                *format!("{number:08}").as_bytes().first_chunk()?,
            ))
            .ok()
        });
        let with_second = first_words.filter_map(|first| {
            let word = u64::from_le_bytes(*first.as_bytes().first_chunk()?);
            let hash = (16_u64.rotate_left(5) ^ word).wrapping_mul(FACTOR);
            let second = as_text(hash.rotate_left(5) ^ 0x4242_4242_4242_4242).ok()?;
            Some(first + &second)
        });
        with_second.take(LOOKED_AT_MAX).collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "generating the keys takes minutes under Miri")]
    fn keys_made_to_collide_are_compared_about_once_each() {
        let keys = colliding_keys();
        let items = Counting::new(&keys);
        assert_eq!(last_per_key(&items, usize::MAX).kept(), LOOKED_AT_MAX);
        let comparisons = items.comparisons.get();
        assert!(comparisons < 4 * LOOKED_AT_MAX, "{comparisons}");
    }

    fn places(last: &LastPerKey) -> Vec<usize> {
        let first = last.next(0);
        std::iter::successors(first, |place| last.next(place + 1)).collect()
    }

    #[test]
    fn the_last_attribute_of_each_of_the_first_keys_is_kept() {
        for padding in [0, 100] {
            let keys = ["a", "b", "a", "", "c", "b", "c", "d"].map(String::from);
            let more: Vec<_> = (0..padding)
                .map(|number| format!("more.{number}"))
                .collect();
            let items = Counting::new(keys.iter().chain(&more));
            let found = last_per_key(&items, 2);
            assert_eq!(places(&found), [2, 5]);
            assert_eq!((found.kept(), found.repeats()), (2, 2));
            let all = last_per_key(&items, usize::MAX);
            assert_eq!(places(&all)[..4], [2, 5, 6, 7]);
            assert_eq!(places(&all).len(), all.kept());
            assert_eq!((all.kept(), all.repeats()), (4 + padding, 3));
        }
    }
}
