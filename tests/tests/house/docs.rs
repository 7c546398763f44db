//! First words of documentation: a verb for a function, a noun phrase for a type.

use std::collections::{BTreeMap, BTreeSet};

use crate::scanner::{Kind, Token};
use crate::source::{Source, from_texts, is_associated, library};
use crate::{assert_found, check};

/// A generated file, whose types have the documentation of OTLP's messages.
const GENERATED: &str = "src/otlp/proto.rs";

/// Files, and functions in them whose documentation does not start with a verb.
const NOT_VERBS: &[(&str, &str)] = &[];

/// Files, and types in them that have no documentation, or documentation that starts with a verb.
const NOT_NOUNS: &[(&str, &str)] = &[
    ("src/recorder/lease.rs", "Recorders"),
    ("src/recorder/lease.rs", "Slot"),
];

/// Words that end like a verb in the third person.
const NEVER_VERBS: [&str; 8] = [
    "Always", "Bytes", "Its", "Less", "Perhaps", "This", "Thus", "Unless",
];

/// An item with its documentation.
struct Documented {
    path: &'static str,
    line: usize,
    name: &'static str,
    is_function: bool,
    /// The words of the first paragraph's first line; empty without documentation.
    words: Vec<&'static str>,
}

impl Documented {
    /// Returns whether the first word may be a verb in the third person.
    fn starts_with_verb(&self) -> bool {
        let first = self.words.first().copied().unwrap_or_default();
        first.ends_with('s') && !NEVER_VERBS.contains(&first) && !self.starts_with_plural()
    }

    /// Returns whether the second word marks the first one as a noun.
    fn starts_with_plural(&self) -> bool {
        match self.words[..] {
            ["Asserts" | "Checks" | "Ensures" | "Notes", ..] => false,
            [_, second, ..] => matches!(second, "of" | "that" | "which"),
            _ => false,
        }
    }
}

/// Returns the functions and types of a file, without those for tests.
fn items(source: &Source) -> Vec<Documented> {
    let comments = source.comments.iter();
    let comments: BTreeMap<_, _> = comments.map(|token| (token.line, token.text)).collect();
    let code = &source.code;
    let mut found = Vec::new();
    for at in 1..code.len() {
        let (keyword, name) = (&code[at - 1], &code[at]);
        let is_type = matches!(keyword.text, "struct" | "enum" | "trait" | "union" | "type");
        let is_function = keyword.text == "fn";
        if (is_type || is_function) && name.kind == Kind::Word && !is_associated(code, at - 1) {
            found.push(Documented {
                path: source.path,
                line: name.line,
                name: name.text,
                is_function,
                words: documentation(&comments, first_line(code, at - 1)),
            });
        }
    }
    found
}

/// Returns the line where the item of this keyword starts, with its attributes.
fn first_line(code: &[Token], keyword: usize) -> usize {
    let mut start = keyword;
    while let Some(before) = start.checked_sub(1) {
        let open = match code[before].text {
            "pub" | "const" | "async" | "unsafe" | "extern" | "\"C\"" => before,
            // The end of `pub(crate)`, which other tokens in front of an item cannot be.
            ")" => match code[..before].iter().rposition(|token| token.text == "(") {
                Some(open) if open > 0 && code[open - 1].text == "pub" => open - 1,
                _ => break,
            },
            "]" => match opening(code, before) {
                Some(hash) => hash,
                None => break,
            },
            _ => break,
        };
        start = open;
    }
    code[start].line
}

/// Returns the position of the `#` of the attribute that ends at `end`.
fn opening(code: &[Token], end: usize) -> Option<usize> {
    let mut depth = 0;
    for at in (0..=end).rev() {
        match code[at].text {
            "]" => depth += 1,
            "[" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let hash = at.checked_sub(1)?;
            return (code[hash].text == "#").then_some(hash);
        }
    }
    None
}

/// Returns the words of the first line of the documentation that ends above this line.
fn documentation(comments: &BTreeMap<usize, &'static str>, line: usize) -> Vec<&'static str> {
    let above = (1..line).rev().map_while(|line| comments.get(&line));
    let first = above.filter_map(|text| text.strip_prefix("///")).last();
    let words = first.unwrap_or_default().split_whitespace();
    words
        .map(|word| word.trim_end_matches([',', '.', ':', ';']))
        .collect()
}

fn findings(
    sources: &[Source],
    not_verbs: &[(&str, &str)],
    not_nouns: &[(&str, &str)],
) -> Vec<String> {
    let items: Vec<_> = sources
        .iter()
        .filter(|source| source.path != GENERATED)
        .flat_map(items)
        .collect();
    // The verbs of types are those that functions have.
    let functions = items.iter().filter(|item| item.is_function);
    let verbs = functions.filter(|item| item.starts_with_verb());
    let verbs: BTreeSet<_> = verbs.map(|item| item.words[0]).collect();
    let mut findings = Vec::new();
    let mut left = (not_verbs.to_vec(), not_nouns.to_vec());
    for item in &items {
        let first = item.words.first();
        let (advice, known) = if item.is_function {
            if first.is_none() || item.starts_with_verb() {
                continue;
            }
            let advice = "the documentation of a function starts with a verb in the third person";
            (advice, &mut left.0)
        } else if let Some(first) = first {
            if !verbs.contains(first) || item.starts_with_plural() {
                continue;
            }
            (
                "the documentation of a type starts with a noun phrase",
                &mut left.1,
            )
        } else {
            ("each type has a line of documentation", &mut left.1)
        };
        let key = (item.path, item.name);
        match known.iter().position(|listed| *listed == key) {
            Some(at) => drop(known.remove(at)),
            None => findings.push(format!(
                "{}:{}: {advice}. Correct that of `{}`.",
                item.path, item.line, item.name
            )),
        }
    }
    let lists = [("NOT_VERBS", left.0), ("NOT_NOUNS", left.1)];
    for (list, left) in lists {
        findings.extend(left.iter().map(|(path, name)| {
            format!(
                "{path}:1: the documentation of `{name}` is as it should be, or gone. Remove it \
                 from {list} in tests/tests/house/docs.rs."
            )
        }));
    }
    findings
}

#[test]
fn documentation_starts_with_a_verb_or_a_noun_phrase() {
    check(&findings(library(), NOT_VERBS, NOT_NOUNS));
}

#[test]
fn a_function_without_a_verb_is_found() {
    let text = "/// Reads. All of it.\npub(crate) fn a() {}\n\
                /// Items that it has.\n#[must_use]\n#[cfg(any(unix, test))] pub const fn b() {}\n\
                fn c() {}\n#[cfg(test)] mod tests {\n/// The d.\nfn d() {} }";
    let sources = from_texts([("src/a.rs", text)]);
    assert_found(
        &findings(&sources, &[], &[]),
        &["src/a.rs:5", "`b`", "verb"],
    );
    check(&findings(&sources, &[("src/a.rs", "b")], &[]));
}

#[test]
fn a_type_without_a_noun_phrase_is_found() {
    let text = "/// Reads it.\nfn a() {}\n/// Reads of it.\nstruct A;\n\
                /// A reader.\n/// Reads it.\n#[derive(Debug)]\npub struct B;\n\
                /// Reads it.\ntrait C { type D; }\n// Not documentation.\nenum E {}";
    let sources = from_texts([("src/a.rs", text)]);
    let found = findings(&sources, &[], &[]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("noun phrase. Correct that of `C`"));
    assert!(found[1].contains("each type") && found[1].contains("`E`"));
    check(&findings(
        &sources,
        &[],
        &[("src/a.rs", "E"), ("src/a.rs", "C")],
    ));
}

#[test]
fn a_listed_item_that_is_in_order_is_found() {
    let sources = from_texts([("src/a.rs", "/// Reads it.\nfn a() {}")]);
    let findings = findings(&sources, &[("src/a.rs", "a")], &[]);
    assert_found(&findings, &["`a`", "Remove it from NOT_VERBS"]);
}
