//! Room for new fields and variants, by the rule under "Compatibility" on the crate page.

use crate::scanner::{Kind, Token};
use crate::source::{Source, closing, from_texts, library};
use crate::{assert_found, check};

/// Structs that programs construct. Struct update syntax (`..Config::default()`) requires them to be
/// exhaustive.
const FILLED: &[&str] = &[
    "Config",
    "Destination",
    "Endpoint",
    "EndpointOptions",
    "Event",
    "EventRef",
    "InstrumentationScope",
    "KeepIf",
    "KeyValue",
    "KeyValueRef",
    "Link",
    "LinkRef",
    "MetricsOptions",
    "ParentBased",
    "SamplingResult",
    "Span",
    "SpanContext",
    "SpanLimits",
    "SpanRef",
    "TailSampling",
    "TlsOptions",
];

/// Enums whose variants a specification fixes.
const CLOSED: &[&str] = &["SpanKind", "Status", "StatusRef"];

/// Files whose public types are not part of the API, or are generated.
const NO_API: [&str; 2] = ["src/internals.rs", "src/otlp/proto.rs"];

struct PublicType {
    place: String,
    name: &'static str,
    is_enum: bool,
    has_public_fields: bool,
    is_non_exhaustive: bool,
}

fn public_types(sources: &[Source]) -> Vec<PublicType> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|s| !NO_API.contains(&s.path)) {
        for at in 0..source.code.len().saturating_sub(2) {
            let [public, keyword, name] = &source.code[at..at + 3] else {
                continue;
            };
            if public.text == "pub"
                && matches!(keyword.text, "struct" | "enum")
                && name.kind == Kind::Word
            {
                found.push(PublicType {
                    place: format!("{}:{}", source.path, name.line),
                    name: name.text,
                    is_enum: keyword.text == "enum",
                    has_public_fields: has_public_fields(&source.code[at + 3..]),
                    is_non_exhaustive: is_non_exhaustive(&source.code[..at]),
                });
            }
        }
    }
    found
}

/// Returns whether the struct whose name precedes these tokens has a named public field.
fn has_public_fields(tokens: &[Token]) -> bool {
    let begin = tokens
        .iter()
        .position(|token| matches!(token.text, "{" | "(" | ";"));
    let Some(begin) = begin.filter(|&begin| tokens[begin].text == "{") else {
        return false;
    };
    let body = &tokens[begin..closing(tokens, begin)];
    (body.windows(2)).any(|pair| pair[0].text == "pub" && pair[1].kind == Kind::Word)
}

/// Returns whether the attributes at the end of these tokens include `non_exhaustive`.
fn is_non_exhaustive(mut before: &[Token]) -> bool {
    while before.last().is_some_and(|token| token.text == "]") {
        let begin = before.iter().rposition(|token| token.text == "#");
        let Some(begin) = begin else { return false };
        if before[begin..].iter().any(|t| t.text == "non_exhaustive") {
            return true;
        }
        before = &before[..begin];
    }
    false
}

fn findings(sources: &[Source], filled: &[&str], closed: &[&str]) -> Vec<String> {
    let types = public_types(sources);
    let mut findings = Vec::new();
    for found in types.iter().filter(|t| t.is_enum || t.has_public_fields) {
        let (list, listed) = match found.is_enum {
            true => ("CLOSED", closed.contains(&found.name)),
            false => ("FILLED", filled.contains(&found.name)),
        };
        if found.is_non_exhaustive == listed {
            findings.push(format!(
                "{}: a public type is either non_exhaustive or in {list} in \
                 tests/tests/house/exhaustive.rs, and `{}` is {}.",
                found.place,
                found.name,
                if listed { "both" } else { "neither" }
            ));
        }
    }
    for name in filled.iter().chain(closed) {
        if !types.iter().any(|found| found.name == *name) {
            findings.push(format!(
                "tests/tests/house/exhaustive.rs:1: no public type is called `{name}`. Remove it \
                 from its list."
            ));
        }
    }
    findings
}

#[test]
fn public_types_are_non_exhaustive_unless_listed() {
    check(&findings(library(), FILLED, CLOSED));
}

#[test]
fn a_type_without_room_is_found() {
    let sources = from_texts([(
        "src/a.rs",
        "#[derive(Clone)] #[non_exhaustive] pub struct Read { pub a: u8 } pub struct Opaque { b: u8 }\n\
         pub(crate) enum Internal {} pub struct Wrapper(pub u8);\npub enum Open { A }",
    )]);
    assert_found(
        &findings(&sources, &[], &[]),
        &["src/a.rs:3", "`Open` is neither"],
    );
    check(&findings(&sources, &[], &["Open"]));
    let both = findings(&sources, &["Read"], &["Open"]);
    assert_found(&both, &["src/a.rs:1", "`Read` is both"]);
    let gone = findings(&sources, &["Gone"], &["Open"]);
    assert_found(&gone, &["`Gone`", "Remove it"]);
}
