//! Call sites of `tracing`, with their names and constants encoded once.

use std::sync::OnceLock;

use tracing_core::Metadata;
use tracing_core::field::Field;

use crate::otlp::draft::ConstantAttributes;
use crate::span::attribute::{Key, KeyValueRef, Name};

/// A place in the program that starts spans or emits events.
pub(super) struct CallSite {
    pub(super) metadata: &'static Metadata<'static>,
    /// Place among all call sites.
    pub(super) number: SiteNumber,
    pub(super) name: Name<'static>,
    fields: Box<[SiteField]>,
    /// Whether the fields of an event have a message.
    pub(super) has_message: bool,
    pub(super) location: ConstantAttributes,
    pub(super) target: ConstantAttributes,
    pub(super) level: ConstantAttributes,
}

/// Number of a call site: that of its table, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SiteNumber(u32);

impl SiteNumber {
    const PLACE: u32 = 24;

    fn new(table: usize, place: usize) -> Self {
        Self((table as u32) << Self::PLACE | place as u32)
    }

    pub(super) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(super) fn to_bits(self) -> u32 {
        self.0
    }
}

/// A field of a call site.
#[derive(Clone, Copy)]
pub(super) struct SiteField {
    pub(super) key: Key<'static>,
    pub(super) role: FieldRole,
}

/// Effect of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldRole {
    Attribute,
    SpanName,
    SpanKind,
    StatusCode,
    StatusDescription,
    Message,
    Error,
    /// An attribute if targets are recorded.
    Target,
    /// An attribute if locations are recorded.
    Location,
    /// An earlier one of fields with the same name.
    Skipped,
}

/// Places of the first table; each further one has twice as many.
const FIRST_TABLE: usize = 512;
/// Tables, which together have places for 65,024 call sites.
const TABLES: usize = 7;
/// Places of a table that are looked at, from a call site's own on.
const LOOKED_AT: usize = 8;

/// Call sites by a hash of their address.
type SiteTable = Box<[OnceLock<&'static CallSite>]>;

/// All call sites that were used, by the addresses of their metadata.
static SITES: [OnceLock<SiteTable>; TABLES] = [const { OnceLock::new() }; TABLES];

impl CallSite {
    /// Returns the call site with this metadata, which is encoded with the first call and never freed.
    /// `None` beyond some ten thousand call sites.
    #[inline(always)]
    pub(super) fn of(metadata: &'static Metadata<'static>) -> Option<&'static Self> {
        match SITES[0].get().and_then(|table| find(table, metadata)) {
            Some(site) => Some(site),
            None => find_or_create(metadata),
        }
    }

    /// Returns the call site with this number.
    pub(super) fn by_number(SiteNumber(number): SiteNumber) -> Option<&'static Self> {
        let table = SITES.get((number >> SiteNumber::PLACE) as usize)?.get()?;
        let place = number & ((1 << SiteNumber::PLACE) - 1);
        table.get(place as usize)?.get().copied()
    }

    fn leak(metadata: &'static Metadata<'static>, number: SiteNumber) -> &'static Self {
        let names: Vec<_> = metadata.fields().iter().map(|field| field.name()).collect();
        let is_free = |constant: &KeyValueRef<'_>| {
            let mut keys = names.iter().map(|name| key_of(name));
            keys.all(|key| key != constant.key.text())
        };
        let fields = names.iter().enumerate().map(|(index, name)| SiteField {
            key: Key::leak(key_of(name)),
            role: if names[index + 1..].contains(name) {
                FieldRole::Skipped
            } else {
                FieldRole::of(name, metadata.is_event())
            },
        });
        let constants = |attributes: Vec<KeyValueRef<'static>>| {
            ConstantAttributes::new(attributes.into_iter().filter(is_free).collect())
        };
        Box::leak(Box::new(Self {
            metadata,
            number,
            name: Name::leak(metadata.name()),
            has_message: names.contains(&"message"),
            location: constants(location(metadata)),
            target: constants(vec![KeyValueRef::new(
                crate::key!("target"),
                metadata.target(),
            )]),
            level: constants(vec![KeyValueRef::new(
                crate::key!("level"),
                metadata.level().as_str(),
            )]),
            fields: fields.collect(),
        }))
    }
}

impl SiteField {
    /// Returns a field, whose call site is `None` if it is not known.
    #[inline(always)]
    pub(super) fn of(site: Option<&'static CallSite>, field: &Field, is_event: bool) -> Self {
        match site.and_then(|site| site.fields.get(field.index())) {
            Some(known) => *known,
            None => Self {
                key: Key::from(key_of(field.name())),
                role: FieldRole::of(field.name(), is_event),
            },
        }
    }
}

impl FieldRole {
    fn of(name: &str, is_event: bool) -> Self {
        match name {
            "message" if is_event => Self::Message,
            "error" if is_event => Self::Error,
            "log.target" if is_event => Self::Target,
            "log.file" | "log.line" | "log.module_path" if is_event => Self::Location,
            _ if is_event => Self::Attribute,
            "otel.name" => Self::SpanName,
            "otel.kind" => Self::SpanKind,
            "otel.status_code" => Self::StatusCode,
            "otel.status_description" | "otel.status_message" => Self::StatusDescription,
            _ => Self::Attribute,
        }
    }
}

/// Returns the key of a field. Those that the crate `tracing-log` adds to events replace constants.
fn key_of(field: &'static str) -> &'static str {
    match field {
        "log.target" => "target",
        "log.file" => "code.file.path",
        "log.line" => "code.line.number",
        "log.module_path" => "code.module.name",
        _ => field.strip_prefix("r#").unwrap_or(field),
    }
}

fn location(metadata: &'static Metadata<'static>) -> Vec<KeyValueRef<'static>> {
    let file = metadata
        .file()
        .map(|file| KeyValueRef::new(crate::key!("code.file.path"), file));
    let line = metadata
        .line()
        .map(|line| KeyValueRef::new(crate::key!("code.line.number"), line));
    let module = (metadata.module_path())
        .map(|module| KeyValueRef::new(crate::key!("code.module.name"), module));
    [file, line, module].into_iter().flatten().collect()
}

/// Returns the places of a table that a call site can have.
#[inline(always)]
fn places(
    table: &[OnceLock<&'static CallSite>],
    metadata: &'static Metadata<'static>,
) -> impl Iterator<Item = usize> + use<> {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let address = std::ptr::from_ref(metadata).addr() as u64;
    let first = (address.wrapping_mul(ODD) >> 32) as usize;
    let last = table.len() - 1;
    (0..LOOKED_AT).map(move |offset| (first + offset) & last)
}

#[inline(always)]
fn find(
    table: &'static SiteTable,
    metadata: &'static Metadata<'static>,
) -> Option<&'static CallSite> {
    for place in places(table, metadata) {
        let site = table[place].get()?;
        if std::ptr::eq(site.metadata, metadata) {
            return Some(site);
        }
    }
    None
}

#[cold]
#[inline(never)]
fn find_or_create(metadata: &'static Metadata<'static>) -> Option<&'static CallSite> {
    for (number, table) in SITES.iter().enumerate() {
        let table = table.get_or_init(|| {
            let places = FIRST_TABLE << number;
            (0..places).map(|_| OnceLock::new()).collect()
        });
        for place in places(table, metadata) {
            let number = SiteNumber::new(number, place);
            let site = table[place].get_or_init(|| CallSite::leak(metadata, number));
            if std::ptr::eq(site.metadata, metadata) {
                return Some(site);
            }
        }
    }
    None
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;

    use tracing_core::callsite::{Callsite, Identifier};
    use tracing_core::field::FieldSet;
    use tracing_core::subscriber::Interest;
    use tracing_core::{Kind, Level};

    use super::*;

    struct TestSite;

    impl Callsite for TestSite {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("not asked")
        }
    }

    static SITE: TestSite = TestSite;

    fn metadata(name: &'static str, fields: &'static [&'static str]) -> &'static Metadata<'static> {
        metadata_of(Kind::SPAN, name, fields)
    }

    fn metadata_of(
        kind: Kind,
        name: &'static str,
        fields: &'static [&'static str],
    ) -> &'static Metadata<'static> {
        let fields = FieldSet::new(fields, Identifier(&SITE));
        let (file, module) = (Some("a.rs"), Some("a::b"));
        Box::leak(Box::new(Metadata::new(
            name,
            "target",
            Level::INFO,
            file,
            Some(3),
            module,
            fields,
            kind,
        )))
    }

    #[test]
    fn thousands_of_call_sites_are_found_again() {
        let all: Vec<_> = (0..5_000).map(|_| metadata("many", &["a"])).collect();
        let sites: Vec<_> = all.iter().map(|one| CallSite::of(one).unwrap()).collect();
        for (metadata, site) in all.iter().zip(&sites) {
            assert!(std::ptr::eq(CallSite::of(metadata).unwrap(), *site));
            assert!(std::ptr::eq(
                CallSite::by_number(site.number).unwrap(),
                *site
            ));
        }
        let different: HashSet<_> = sites.iter().map(|site| std::ptr::from_ref(*site)).collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn the_last_of_equal_fields_counts_and_replaces_a_constant() {
        let site = CallSite::of(metadata("equal", &["a", "level", "a", "otel.name"])).unwrap();
        let roles: Vec<_> = site.fields.iter().map(|field| field.role).collect();
        use FieldRole::{Attribute, Skipped, SpanName};
        assert_eq!(roles, [Skipped, Attribute, Attribute, SpanName]);
        assert!(site.level.attributes.is_empty());
        assert_eq!(
            (site.target.attributes.len(), site.location.attributes.len()),
            (1, 3)
        );
    }

    #[test]
    fn places_of_log_records_replace_those_of_the_bridge() {
        const FIELDS: &[&str] = &[
            "message",
            "log.target",
            "log.module_path",
            "log.file",
            "log.line",
        ];
        let site = CallSite::of(metadata_of(Kind::EVENT, "log event", FIELDS)).unwrap();
        assert!(site.has_message && site.location.attributes.is_empty());
        assert!(site.target.attributes.is_empty());
        let keys: Vec<_> = site.fields.iter().map(|field| field.key.text()).collect();
        let expected = [
            "message",
            "target",
            "code.module.name",
            "code.file.path",
            "code.line.number",
        ];
        assert_eq!(keys, expected);
        let roles = site.fields.iter().map(|field| field.role);
        assert_eq!(roles.filter(|role| *role == FieldRole::Location).count(), 3);
    }
}
