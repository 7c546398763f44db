//! Circular imports: groups of files that all import each other, directly or indirectly.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::Modules;
use crate::source::{Source, from_texts, library};
use crate::{assert_found, check};

/// Existing circles. None may be added, and none may grow.
const CIRCLES: &[&[&str]] = &[];

type Arrows = BTreeMap<&'static str, BTreeMap<&'static str, usize>>;

/// Returns for each file the files that it imports from, and the first line of each import.
fn arrows(sources: &[Source]) -> Arrows {
    let modules = Modules::new(sources);
    let mut arrows = Arrows::new();
    for source in sources {
        let from = arrows.entry(source.path).or_default();
        for import in modules.imports(source) {
            if let Some(file) = modules.file(&import.path)
                && file != source.path
                && !(import.is_macro && import.path.len() == 1)
            {
                from.entry(file).or_insert(import.line);
            }
        }
    }
    arrows
}

/// Returns the groups of more than one file that all reach each other.
fn circles(arrows: &Arrows) -> Vec<BTreeSet<&'static str>> {
    let reached: BTreeMap<_, _> = arrows
        .keys()
        .map(|&from| {
            let mut seen = BTreeSet::new();
            let mut open = vec![from];
            while let Some(file) = open.pop() {
                let next = arrows[file].keys();
                open.extend(next.copied().filter(|&file| seen.insert(file)));
            }
            (from, seen)
        })
        .collect();
    let mut circles = BTreeSet::new();
    for (from, files) in &reached {
        if files.contains(from) {
            let back = files.iter().filter(|&file| reached[file].contains(from));
            circles.insert(back.copied().collect::<BTreeSet<_>>());
        }
    }
    circles.into_iter().collect()
}

/// Returns the differences between the circles and `known`.
fn findings(sources: &[Source], known: &[&[&str]]) -> Vec<String> {
    let arrows = arrows(sources);
    let circles = circles(&arrows);
    let known: Vec<BTreeSet<_>> = known
        .iter()
        .map(|files| files.iter().copied().collect())
        .collect();
    let mut findings = Vec::new();
    for circle in circles.iter().filter(|circle| !known.contains(circle)) {
        let mut within = Vec::new();
        for &from in circle {
            let to = arrows[from]
                .iter()
                .filter(|(file, _)| circle.contains(*file));
            within.extend(to.map(|(file, line)| format!("  {from}:{line} needs {file}")));
        }
        findings.push(format!(
            "These files need each other in a circle that CIRCLES in \
             tests/tests/house/circles.rs does not have. Move what they share into a file below \
             them; if a known circle became smaller, correct its entry.\n{}",
            within.join("\n")
        ));
    }
    for circle in known.iter().filter(|circle| !circles.contains(circle)) {
        findings.push(format!(
            "tests/tests/house/circles.rs:1: the circle {circle:?} is not there any more. Remove \
             it from CIRCLES, or replace it with what is left of it."
        ));
    }
    findings
}

#[test]
fn files_import_each_other_only_in_the_known_circles() {
    check(&findings(library(), CIRCLES));
}

fn a_circle() -> Vec<Source> {
    from_texts([
        ("src/lib.rs", "mod a; pub use self::a::A;"),
        (
            "src/a.rs",
            "mod b; mod c;\n#[cfg(test)] mod tests { use super::c::D; }\nuse b::B;",
        ),
        ("src/a/b.rs", "use super::A;"),
        ("src/a/c.rs", "use crate::a::A;"),
    ])
}

#[test]
fn a_new_circle_is_found() {
    let words = ["src/a.rs:3 needs src/a/b.rs", "src/a/b.rs:1 needs src/a.rs"];
    assert_found(&findings(&a_circle(), &[]), &words);
    check(&findings(&a_circle(), &[&["src/a.rs", "src/a/b.rs"]]));
}

#[test]
fn a_resolved_circle_is_found() {
    let sources = from_texts([("src/a.rs", "use crate::b::B;"), ("src/b.rs", "")]);
    let findings = findings(&sources, &[&["src/a.rs", "src/b.rs"]]);
    assert_found(&findings, &["src/b.rs", "Remove it from CIRCLES"]);
}

#[test]
fn a_circle_that_grew_is_found() {
    let mut sources = a_circle();
    sources[3] = Source::new("src/a/c.rs", "use super::b::B;");
    sources[2] = Source::new("src/a/b.rs", "use super::{A, c::C};");
    let findings = findings(&sources, &[&["src/a.rs", "src/a/b.rs"]]);
    assert_eq!(findings.len(), 2);
    assert!(findings[0].contains("src/a/c.rs:1 needs src/a/b.rs"));
}
