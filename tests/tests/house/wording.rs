//! Wording that comments and documents avoid. Occurrences are counted, and the count may only fall.

use crate::scanner::Token;
use crate::source::{Source, everything, from_texts, text};
use crate::{assert_found, check};

/// Documents that are checked like comments.
const DOCUMENTS: [&str; 7] = [
    "CHANGELOG.md",
    "README.md",
    "docs/benchmarks.md",
    "docs/configuration.md",
    "docs/delivery.md",
    "docs/observing.md",
    "docs/recording.md",
];

struct Pattern {
    name: &'static str,
    /// Number of occurrences; to be lowered when it falls.
    count: usize,
    instead: &'static str,
    /// Returns the byte positions of all occurrences in a text.
    places: fn(&Prose) -> Vec<usize>,
}

const PATTERNS: [Pattern; 5] = [
    Pattern {
        name: "documentation that begins with \"What\" or \"Whom\"",
        count: 143,
        instead: "Begin with a noun phrase for a type or field, with a verb for a method",
        places: |prose| match prose.is_documentation && begins_with_what(&prose.text) {
            true => vec![0],
            false => Vec::new(),
        },
    },
    Pattern {
        name: "a sentence that begins with \"What\" or \"Whom\"",
        count: 186,
        instead: "Name the thing",
        places: |prose| {
            let starts = sentences(&prose.text).into_iter();
            starts
                .filter(|&at| begins_with_what(&prose.text[at..]))
                .collect()
        },
    },
    Pattern {
        name: "\"is told\" or \"are told\"",
        count: 17,
        instead: "Write that it receives, contains or is notified",
        places: |prose| phrases(&prose.text, &["is told", "are told"]),
    },
    Pattern {
        name: "\"nobody\" or \"somebody\"",
        count: 33,
        instead: "Give the sentence its real subject",
        places: |prose| phrases(&prose.text, &["nobody", "somebody"]),
    },
    Pattern {
        name: "\"but for\"",
        count: 4,
        instead: "Write \"except\"",
        places: |prose| phrases(&prose.text, &["but for"]),
    },
];

/// A whole comment, or a document.
struct Prose {
    path: &'static str,
    /// Its text without markers. Lines of a paragraph are joined with a space.
    text: String,
    /// The position in `text` where each line begins, and the line's number.
    lines: Vec<(usize, usize)>,
    is_documentation: bool,
}

impl Prose {
    fn new(path: &'static str, is_documentation: bool) -> Self {
        Self {
            path,
            text: String::new(),
            lines: Vec::new(),
            is_documentation,
        }
    }

    fn push(&mut self, line: &str, number: usize) {
        let line = line.trim();
        let begins_anew = line.is_empty() || line.starts_with(['*', '-', '#', '|', '`', '>']);
        if !self.text.is_empty() {
            self.text.push(if begins_anew { '\n' } else { ' ' });
        }
        self.lines.push((self.text.len(), number));
        self.text.push_str(line);
        if line.is_empty() {
            self.text.push('\n');
        }
    }

    /// Returns the line at this position.
    fn line(&self, position: usize) -> usize {
        let before = self.lines.partition_point(|(at, _)| *at <= position);
        self.lines[before - 1].1
    }
}

fn begins_with_what(text: &str) -> bool {
    text.starts_with("What ") || text.starts_with("Whom ")
}

/// Returns the positions where sentences start.
fn sentences(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut is_start = true;
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        if letter.is_alphanumeric() {
            if is_start {
                starts.push(at);
            }
            is_start = false;
        } else if letter == '\n' || (letter == ' ' && matches!(before, '.' | '?' | '!')) {
            is_start = true;
        }
        before = letter;
    }
    starts
}

/// Returns the positions of phrases, as whole words in any case.
fn phrases(text: &str, phrases: &[&str]) -> Vec<usize> {
    let text = text.to_ascii_lowercase();
    let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let mut found = Vec::new();
    for phrase in phrases {
        for (at, _) in text.match_indices(phrase) {
            let bytes = text.as_bytes();
            let before = at.checked_sub(1).and_then(|at| bytes.get(at));
            if !is_word(before) && !is_word(bytes.get(at + phrase.len())) {
                found.push(at);
            }
        }
    }
    found
}

/// Returns the comments of a file. Comments on adjacent lines are one.
fn comments(source: &Source) -> Vec<Prose> {
    let mut found: Vec<Prose> = Vec::new();
    let mut last: Option<(&str, usize)> = None;
    for Token { text, line, .. } in &source.comments {
        let markers = ["///", "//!", "//", "/**", "/*!", "/*"];
        let marker = markers.into_iter().find(|marker| text.starts_with(marker));
        let marker = marker.unwrap();
        if last != Some((marker, line - 1)) || marker.starts_with("/*") {
            let is_documentation = marker.len() == 3;
            found.push(Prose::new(source.path, is_documentation));
        }
        let prose = found.last_mut().unwrap();
        let body = text[marker.len()..].trim_end_matches("*/");
        for (after, body) in body.split('\n').enumerate() {
            prose.push(body, line + after);
        }
        last = Some((marker, *line));
    }
    found
}

fn document(path: &'static str) -> Prose {
    let mut prose = Prose::new(path, false);
    for (number, line) in text(path).lines().enumerate() {
        prose.push(line, number + 1);
    }
    prose
}

fn findings(prose: &[Prose], pattern: &Pattern, count: usize) -> Option<String> {
    let Pattern { name, instead, .. } = pattern;
    let mut places = Vec::new();
    for piece in prose {
        let found = (pattern.places)(piece).into_iter();
        places.extend(found.map(|at| format!("{}:{}", piece.path, piece.line(at))));
    }
    let found = places.len();
    if found > count {
        Some(format!(
            "{name} occurs {found} times, of {count} at most. {instead}. One of these is new:\n  {}",
            places.join("\n  ")
        ))
    } else if found < count {
        Some(format!(
            "tests/tests/house/wording.rs:1: {name} occurs only {found} times. Lower the count \
             {count} in PATTERNS."
        ))
    } else {
        None
    }
}

#[test]
fn comments_and_documents_are_worded_plainly() {
    let files = everything().iter();
    let mut prose: Vec<_> = files.flat_map(comments).collect();
    prose.extend(DOCUMENTS.map(document));
    let patterns = PATTERNS.iter();
    let all = patterns.filter_map(|pattern| findings(&prose, pattern, pattern.count));
    check(&all.collect::<Vec<_>>());
}

/// Returns the lines where each pattern occurs.
fn lines(text: &str) -> [Vec<usize>; 5] {
    let prose = from_texts([("src/a.rs", text)]);
    let prose: Vec<_> = prose.iter().flat_map(comments).collect();
    PATTERNS.each_ref().map(|pattern| {
        let places = prose.iter().flat_map(|piece| {
            let found = (pattern.places)(piece).into_iter();
            found.map(|at| piece.line(at)).collect::<Vec<_>>()
        });
        places.collect()
    })
}

#[test]
fn every_banned_wording_is_found() {
    let text = "/// What it is.\n\
                /// More. What\n\
                /// else is\n\
                /// told, but\n\
                /// for nobody.\n\
                fn a() {} // Whom to ask, but for B.\n\
                //! * What a list says.\n\
                let a = \"// nobody is told\"; // Nobody's, and `Somebody`\n";
    let [documentation, sentence, told, body, but_for] = lines(text);
    assert_eq!(documentation, [1]);
    assert_eq!(sentence, [1, 2, 6, 7]);
    assert_eq!(told, [3]);
    assert_eq!(body, [5, 8, 8]);
    assert_eq!(but_for, [4, 6]);
}

#[test]
fn other_wording_is_allowed() {
    let text = "/// Whatever is untold: What's what, but forever.\nfn nobody() {}\n";
    assert!(lines(text).iter().all(Vec::is_empty));
}

#[test]
fn a_count_that_rises_or_falls_is_found() {
    let prose = from_texts([("src/a.rs", "\n// All but for one.\n")]);
    let prose: Vec<_> = prose.iter().flat_map(comments).collect();
    let findings = |count| Vec::from_iter(findings(&prose, &PATTERNS[4], count));
    assert_found(&findings(0), &["src/a.rs:2", "Write \"except\""]);
    check(&findings(1));
    assert_found(&findings(2), &["Lower the count 2"]);
}
