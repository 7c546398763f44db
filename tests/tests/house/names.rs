//! One word, one meaning: the name of a type occurs once.

use std::collections::BTreeMap;

use crate::scanner::Kind;
use crate::source::{Source, from_texts, is_associated, library};
use crate::{assert_found, check};

/// A generated file, whose types have the names of OTLP's messages.
const GENERATED: &str = "src/otlp/proto.rs";

/// Names that several types have, and the files that declare them, one entry per declaration.
const SHARED: &[(&str, &[&str])] = &[];

/// Returns the files and lines that declare a struct, enum, trait or alias, by name. Excludes associated
/// types.
fn types(sources: &[Source]) -> BTreeMap<&'static str, Vec<(&'static str, usize)>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.path != GENERATED) {
        for (at, pair) in source.code.windows(2).enumerate() {
            if let [keyword, name] = pair
                && matches!(keyword.text, "struct" | "enum" | "trait" | "type")
                && name.kind == Kind::Word
                && !is_associated(&source.code, at)
            {
                let places = found.entry(name.text).or_default();
                places.push((source.path, name.line));
            }
        }
    }
    found
}

fn findings(sources: &[Source], shared: &[(&str, &[&str])]) -> Vec<String> {
    let types = types(sources);
    let mut findings = Vec::new();
    for (name, places) in types.iter().filter(|(_, places)| places.len() > 1) {
        let files: Vec<_> = places.iter().map(|(file, _)| *file).collect();
        if !shared.contains(&(name, &files)) {
            let places: Vec<_> = places
                .iter()
                .map(|(file, line)| format!("{file}:{line}"))
                .collect();
            findings.push(format!(
                "{}: several types are called `{name}`, but SHARED in \
                 tests/tests/house/names.rs does not list exactly these. Rename the new type; if one \
                 was removed, correct the list.",
                places.join(", ")
            ));
        }
    }
    for (name, files) in shared {
        if types.get(name).is_none_or(|places| places.len() < 2) {
            findings.push(format!(
                "{}:1: the name `{name}` is no longer shared. Remove it from SHARED in \
                 tests/tests/house/names.rs.",
                files.first().unwrap_or(&"src")
            ));
        }
    }
    findings
}

#[test]
fn names_of_types_occur_once() {
    check(&findings(library(), SHARED));
}

#[test]
fn a_name_that_occurs_twice_is_found() {
    let sources = from_texts([
        (
            "src/a.rs",
            "struct State; // enum Other\n#[cfg(test)] enum Other {}",
        ),
        (
            "src/b.rs",
            "\ntype State = u8;\ntrait Other { type State; fn r#type(); }",
        ),
    ]);
    let words = ["src/a.rs:1, src/b.rs:2", "`State`"];
    assert_found(&findings(&sources, &[]), &words);
    check(&findings(&sources, &[("State", &["src/a.rs", "src/b.rs"])]));
}

#[test]
fn a_name_that_is_no_longer_shared_is_found() {
    let sources = from_texts([("src/a.rs", "struct State;")]);
    let findings = findings(&sources, &[("State", &["src/a.rs", "src/b.rs"])]);
    assert_found(&findings, &["src/a.rs:1", "Remove it from SHARED"]);
}
