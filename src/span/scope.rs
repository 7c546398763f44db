//! Instrumentation scopes: which library or part of a program a span comes from.

use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::span::attribute::KeyValue;

/// Who makes spans: OTLP's `InstrumentationScope`, for
/// [`Collector::register_scope`](crate::Collector::register_scope).
///
/// ```
/// use otlp_collector::InstrumentationScope;
///
/// let scope = InstrumentationScope {
///     version: "2.1.0".to_string(),
///     ..InstrumentationScope::new("shop-storage")
/// };
/// # drop(scope);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstrumentationScope {
    /// Its name, such as that of a crate.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
    /// What else is known about it.
    pub attributes: Vec<KeyValue>,
    /// The schema its spans follow; may be empty.
    pub schema_url: String,
}

impl InstrumentationScope {
    /// A scope with this name and nothing else.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// A scope that a collector knows: see [`Collector::register_scope`](crate::Collector::register_scope).
///
/// It is of use with that collector alone; elsewhere spans with it are counted as refused.
#[derive(Clone)]
pub struct Scope(Arc<Registered>);

struct Registered {
    /// From 1 on.
    id: u32,
    scope: InstrumentationScope,
    /// Tells apart the scopes of several collectors.
    registry: Arc<()>,
}

impl Scope {
    /// What it was made from.
    #[must_use]
    pub fn definition(&self) -> &InstrumentationScope {
        &self.0.scope
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id
    }
}

impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Scope {}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scope").field(&self.0.scope.name).finish()
    }
}

/// The scopes of a collector, by number; only ever added to, so that the network thread reads
/// them without a lock. `T` is what it keeps for each.
pub(crate) struct Scopes<T> {
    /// Of this collector and no other.
    identity: Arc<()>,
    places: Box<[OnceLock<(Scope, T)>]>,
    /// How many places are taken; held while one is added.
    taken: Mutex<usize>,
}

impl<T: PartialEq> Scopes<T> {
    /// Room for `max` scopes.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            identity: Arc::default(),
            places: (0..max).map(|_| OnceLock::new()).collect(),
            taken: Mutex::new(0),
        }
    }

    /// The scope of which the same is kept, new or not; `None` if there is no place for a new one.
    pub(crate) fn register(
        &self,
        scope: InstrumentationScope,
        keep: impl FnOnce(&InstrumentationScope) -> T,
    ) -> Option<Scope> {
        let kept = keep(&scope);
        let mut taken = self.taken.lock();
        let mut known = self.places.iter().map_while(OnceLock::get);
        if let Some((known, _)) = known.find(|(_, other)| *other == kept) {
            return Some(known.clone());
        }
        let place = self.places.get(*taken)?;
        let scope = Scope(Arc::new(Registered {
            id: *taken as u32 + 1,
            scope,
            registry: Arc::clone(&self.identity),
        }));
        *taken += 1;
        // Nobody else has set it: the lock is held.
        let _ = place.set((scope.clone(), kept));
        Some(scope)
    }

    /// Whether this is where the scope was registered.
    pub(crate) fn knows(&self, scope: &Scope) -> bool {
        Arc::ptr_eq(&self.identity, &scope.0.registry)
    }

    /// What is kept for the scope with this number.
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let place = self.places.get((id as usize).checked_sub(1)?)?.get();
        place.map(|(_, kept)| kept)
    }
}
