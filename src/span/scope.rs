//! Instrumentation scopes: the library or part of a program that creates spans.

use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::span::attribute::KeyValue;

/// The library or part of a program that creates spans (OTLP's `InstrumentationScope`), for
/// [`Collector::register_scope`](crate::Collector::register_scope).
///
/// Build it with struct update syntax, `..InstrumentationScope::new(name)`: a minor release may add
/// fields.
///
/// ```
/// use otlp_collector::span::InstrumentationScope;
///
/// let scope = InstrumentationScope {
///     version: "2.1.0".to_string(),
///     ..InstrumentationScope::new("shop-storage")
/// };
/// # drop(scope);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstrumentationScope {
    /// Name, such as a crate's.
    pub name: String,
    /// Version. Default: empty.
    pub version: String,
    /// Attributes. If a key occurs more than once, the last value is sent. Default: none.
    pub attributes: Vec<KeyValue>,
    /// URL of the schema that the spans follow. Default: empty.
    pub schema_url: String,
}

impl InstrumentationScope {
    /// Creates a scope with a name alone.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// A scope that is registered with a collector, from
/// [`Collector::register_scope`](crate::Collector::register_scope).
///
/// Other collectors refuse spans of this scope ([`Refused::UnknownScope`](crate::Refused)).
#[derive(Clone)]
pub struct Scope(Arc<Registered>);

/// Definition of a registered scope.
struct Registered {
    /// At least 1.
    id: u32,
    scope: InstrumentationScope,
    /// Identity of the collector's scopes.
    registry: Arc<()>,
}

impl Scope {
    /// Returns the definition that was registered.
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

/// The scopes of a collector by number, each with a value of type `T`. Scopes are never removed, so the
/// network thread reads them without a lock.
pub(crate) struct Scopes<T> {
    /// Unique for each collector.
    identity: Arc<()>,
    places: Box<[OnceLock<(Scope, T)>]>,
    /// Number of places in use. Locked while a scope is added.
    taken: Mutex<usize>,
}

impl<T: PartialEq> Scopes<T> {
    /// Creates a registry with room for `max` scopes.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            identity: Arc::default(),
            places: (0..max).map(|_| OnceLock::new()).collect(),
            taken: Mutex::new(0),
        }
    }

    /// Returns the scope for which `keep` returns an equal value, or adds it; `None` if there is no
    /// place for a new one.
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
        // Cannot fail: the lock is held and the place was free.
        let _ = place.set((scope.clone(), kept));
        Some(scope)
    }

    /// Returns whether the scope was registered here.
    pub(crate) fn contains(&self, scope: &Scope) -> bool {
        Arc::ptr_eq(&self.identity, &scope.0.registry)
    }

    /// Returns the scope with this number.
    pub(crate) fn scope(&self, id: u32) -> Option<Scope> {
        let (scope, _) = self.places.get((id as usize).checked_sub(1)?)?.get()?;
        Some(scope.clone())
    }

    /// Returns the value of the scope with this number.
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let place = self.places.get((id as usize).checked_sub(1)?)?.get();
        place.map(|(_, kept)| kept)
    }
}
