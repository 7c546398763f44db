//! Wording that comments, documents and names of tests avoid.

use crate::scanner::Token;
use crate::source::{Source, everything, from_texts, text};
use crate::{assert_found, check};

/// Documents that are checked like comments.
const DOCUMENTS: [&str; 8] = [
    "ARCHITECTURE.md",
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
    instead: &'static str,
    wording: Wording,
}

enum Wording {
    /// Documentation that starts with one of these words.
    StartOfDocumentation(&'static [&'static str]),
    /// A sentence that starts with one of these words.
    StartOfSentence(&'static [&'static str]),
    /// One of these phrases.
    Phrase(&'static [&'static str]),
    /// A negated noun, except after "there" and before "longer" or "more".
    NegatedNoun(&'static [&'static str]),
}

impl Wording {
    /// Returns the byte positions of all occurrences in a text.
    fn places(&self, prose: &Prose) -> Vec<usize> {
        let text = &prose.text;
        let starts_with = |at: usize, words: &[&str]| {
            let first = text[at..].split(|letter: char| !letter.is_alphanumeric());
            first.take(1).any(|word| words.contains(&word))
        };
        match self {
            Self::StartOfDocumentation(words) => {
                let is_found = prose.is_documentation && starts_with(0, words);
                Vec::from_iter(is_found.then_some(0))
            }
            Self::StartOfSentence(words) => {
                let mut starts = sentences(text);
                starts.retain(|at| starts_with(*at, words));
                starts
            }
            Self::Phrase(words) => phrases(text, words),
            Self::NegatedNoun(words) => {
                let text = text.to_ascii_lowercase();
                let mut places = phrases(&text, words);
                places.retain(|at| {
                    let behind = words.iter().find_map(|word| text[*at..].strip_prefix(word));
                    let behind = behind.unwrap_or_default();
                    !text[..*at].ends_with("there ")
                        && !behind.starts_with(" longer")
                        && !behind.starts_with(" more")
                });
                places
            }
        }
    }
}

const PATTERNS: [Pattern; 12] = [
    Pattern {
        name: "documentation that starts with \"What\" or \"Whom\"",
        instead: "Start with a noun phrase for a type or field, with a verb for a method",
        wording: Wording::StartOfDocumentation(&["What", "Whom"]),
    },
    Pattern {
        name: "a sentence that starts with \"What\", \"Whom\", \"Whoever\" or the like",
        instead: "Name the thing",
        wording: Wording::StartOfSentence(&[
            "What",
            "Whatever",
            "Whichever",
            "Whoever",
            "Whom",
            "Whose",
        ]),
    },
    Pattern {
        name: "a thing that says or tells something, or is told",
        instead: "Write that it contains, returns, receives or reports something",
        wording: Wording::Phrase(&[
            "say", "says", "said", "saying", "tell", "tells", "told", "telling",
        ]),
    },
    Pattern {
        name: "a thing that wants, knows or wishes something",
        instead: "Write that it needs, has or requests something",
        wording: Wording::Phrase(&[
            "want", "wants", "wanted", "know", "knows", "knew", "wish", "wishes", "doubt", "doubts",
        ]),
    },
    Pattern {
        name: "\"nobody\", \"somebody\", \"whoever\" or \"whatever\"",
        instead: "Give the sentence its real subject",
        wording: Wording::Phrase(&["nobody", "somebody", "whoever", "whatever"]),
    },
    Pattern {
        name: "\"but for\"",
        instead: "Write \"except\"",
        wording: Wording::Phrase(&["but for"]),
    },
    Pattern {
        name: "\"so many\", \"so much\" or \"so long\"",
        instead: "Write \"this many\", or name the number",
        wording: Wording::Phrase(&["so many", "so much", "so long"]),
    },
    Pattern {
        name: "\"is no\" with a noun",
        instead: "Write \"is not a\"",
        wording: Wording::NegatedNoun(&["is no", "are no", "was no", "were no"]),
    },
    Pattern {
        name: "\"on the way\"",
        instead: "Write \"in flight\"",
        wording: Wording::Phrase(&["on the way", "on its way", "on their way"]),
    },
    Pattern {
        name: "\"any more\" or \"as yet\"",
        instead: "Write \"no longer\" or \"yet\"",
        wording: Wording::Phrase(&["any more", "as yet"]),
    },
    Pattern {
        name: "\"goes on\" or \"lets go\"",
        instead: "Write \"continues\" or \"drops\"",
        wording: Wording::Phrase(&["goes on", "go on", "lets go", "let go"]),
    },
    Pattern {
        name: "\"begin\" as a noun, or a text \"in words\"",
        instead: "Write \"start\", or \"the description of\"",
        wording: Wording::Phrase(&["begin of", "its begin", "the begin", "in words"]),
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
    found.sort_unstable();
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

/// Returns the names of the tests in a file as sentences.
fn test_names(source: &Source) -> Vec<Prose> {
    let code = &source.all_code;
    let mut found = Vec::new();
    for at in 0..code.len() {
        let follow = |texts: &[&str]| {
            let tokens = code[at..].iter().map(|token| token.text);
            tokens.take(texts.len()).eq(texts.iter().copied())
        };
        if follow(&["#", "[", "test", "]"])
            && let Some(name) = code[at..]
                .iter()
                .skip_while(|token| token.text != "fn")
                .nth(1)
        {
            let mut sentence = name.text.replace('_', " ");
            sentence[..1].make_ascii_uppercase();
            let mut prose = Prose::new(source.path, false);
            prose.push(&sentence, name.line);
            found.push(prose);
        }
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

fn prose_of(source: &Source) -> impl Iterator<Item = Prose> {
    comments(source).into_iter().chain(test_names(source))
}

fn findings(prose: &[Prose], pattern: &Pattern) -> Vec<String> {
    let Pattern { name, instead, .. } = pattern;
    let all = prose.iter().flat_map(|piece| {
        let places = pattern.wording.places(piece).into_iter();
        places.map(move |at| format!("{}:{}: {name}. {instead}.", piece.path, piece.line(at)))
    });
    all.collect()
}

#[test]
fn comments_and_documents_are_worded_plainly() {
    let files = everything().iter();
    let mut prose: Vec<_> = files.flat_map(prose_of).collect();
    prose.extend(DOCUMENTS.map(document));
    let all = PATTERNS
        .iter()
        .flat_map(|pattern| findings(&prose, pattern));
    check(&all.collect::<Vec<_>>());
}

/// Returns the lines where each pattern occurs.
fn lines(text: &str) -> [Vec<usize>; 12] {
    let prose = from_texts([("src/a.rs", text)]);
    let prose: Vec<_> = prose.iter().flat_map(prose_of).collect();
    PATTERNS.each_ref().map(|pattern| {
        let places = prose.iter().flat_map(|piece| {
            let found = pattern.wording.places(piece).into_iter();
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
                let a = \"// nobody is told\"; // Nobody's, and `Somebody`\n\
                // So many wishes on the way, whatever it is.\n\
                // Whoever lets go is no more. It is no type any more.\n\
                #[test] fn whatever_is_said_is_no_error() {}\n\
                // The begin of an error in words.\n";
    assert_eq!(
        lines(text),
        [
            vec![1],
            vec![1, 2, 6, 7, 10, 11],
            vec![4, 7, 11],
            vec![9],
            vec![5, 8, 8, 9, 10, 11],
            vec![4, 6],
            vec![9],
            vec![10, 11],
            vec![9],
            vec![10],
            vec![10],
            vec![12, 12, 12],
        ]
    );
}

#[test]
fn other_wording_is_allowed() {
    let text = "/// Whether it is untold: that's what, but forever. There is no more.\n\
                /// It is no longer there. There is no type.\n\
                #[test] fn the_words_of_code_are_not_prose() { nobody.says(whatever); }\n\
                fn nobody() {}\n";
    assert!(lines(text).iter().all(Vec::is_empty), "{:?}", lines(text));
}

#[test]
fn a_finding_has_its_place_and_advice() {
    let prose = from_texts([("src/a.rs", "\n// All but for one.\n")]);
    let prose: Vec<_> = prose.iter().flat_map(comments).collect();
    let findings = findings(&prose, &PATTERNS[5]);
    assert_found(&findings, &["src/a.rs:2", "Write \"except\""]);
}
