//! The repository's files, with code for tests separated from all other code.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::LazyLock;

use crate::scanner::{Kind, Token, scan};

pub struct Source {
    /// Its path in the repository, with `/`.
    pub path: &'static str,
    /// Its tokens except comments and code for tests.
    pub code: Vec<Token>,
    /// Its tokens except comments.
    pub all_code: Vec<Token>,
    pub comments: Vec<Token>,
    /// Number of its lines, without those of code for tests.
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        // Leaked, since tokens borrow from it until the test process ends.
        let text: &'static str = text.to_owned().leak();
        let (comments, all_code): (Vec<_>, Vec<_>) = scan(text)
            .into_iter()
            .partition(|token| token.kind == Kind::Comment);
        let mut code = all_code.clone();
        let mut lines = text.lines().count();
        for range in test_items(&all_code).into_iter().rev() {
            lines -= all_code[*range.end()].line + 1 - all_code[*range.start()].line;
            code.drain(range);
        }
        if all_is_for_tests(&all_code) {
            code.clear();
            lines = 0;
        }
        Self {
            path: path.to_owned().leak(),
            code,
            all_code,
            comments,
            lines,
        }
    }

    /// Returns the module's path in the crate: `src/a/b.rs` is `a::b`, `src/lib.rs` the root.
    pub fn module(&self) -> Vec<&'static str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut module: Vec<_> = path.split('/').collect();
        module.pop_if(|last| matches!(*last, "lib" | "mod"));
        module
    }

    /// Returns the files, without `.rs`, of modules that it declares for tests alone.
    fn test_modules(&self) -> Vec<String> {
        let base = ["src"].into_iter().chain(self.module());
        let base = base.collect::<Vec<_>>().join("/");
        let mut found = Vec::new();
        for range in test_items(&self.all_code) {
            if let [.., keyword, name, end] = &self.all_code[range]
                && keyword.text == "mod"
                && end.text == ";"
            {
                found.push(format!("{base}/{}", name.text));
            }
        }
        found
    }
}

/// Returns the library's sources.
pub fn library() -> &'static [Source] {
    static LIBRARY: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let mut files = Vec::new();
        read("src", ".rs", &mut files);
        from_texts(files)
    });
    &LIBRARY
}

/// Returns all Rust sources: those of the library, tests, benches and examples.
pub fn everything() -> &'static [Source] {
    static EVERYTHING: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let mut files = Vec::new();
        for directory in ["src", "tests", "benches", "examples"] {
            read(directory, ".rs", &mut files);
        }
        from_texts(files)
    });
    &EVERYTHING
}

/// Creates sources from paths and texts. All code of a module that is declared for tests alone is
/// code for tests.
pub fn from_texts<P: AsRef<str>, T: AsRef<str>>(
    files: impl IntoIterator<Item = (P, T)>,
) -> Vec<Source> {
    let files = files.into_iter();
    let read = files.map(|(path, text)| Source::new(path.as_ref(), text.as_ref()));
    let mut sources: Vec<_> = read.collect();
    let for_tests: BTreeSet<_> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        let path = source.path;
        if for_tests.iter().any(|module| {
            let rest = path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
        }) {
            source.code.clear();
            source.lines = 0;
        }
    }
    sources
}

/// Adds the files in and below `directory` whose names end with `ending`, in order.
fn read(directory: &str, ending: &str, found: &mut Vec<(String, String)>) {
    let mut names: Vec<_> = fs::read_dir(common::root().join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        let path = format!("{directory}/{name}");
        if common::root().join(&path).is_dir() {
            if name != "target" {
                read(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            let text = text(&path);
            found.push((path, text));
        }
    }
}

/// Returns the text of a file of the repository.
pub fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(common::root().join(path))
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}

/// Returns the position of the bracket that closes the one at `open`.
pub fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if token.kind == Kind::Mark {
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// Returns whether the keyword at `keyword` declares an associated type.
pub fn is_associated(tokens: &[Token], keyword: usize) -> bool {
    if tokens[keyword].text != "type" {
        return false;
    }
    let depth = tokens[..keyword]
        .iter()
        .fold(0_i32, |depth, token| match token.text {
            "{" => depth + 1,
            "}" => depth - 1,
            _ => depth,
        });
    depth > 0
}

/// Returns the ranges of items, statements and fields that are compiled for tests alone, with their
/// attributes.
fn test_items(tokens: &[Token]) -> Vec<RangeInclusive<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if let Some(end) = attribute(tokens, at)
            && is_for_tests(&tokens[at + 2..end])
        {
            let last = item_end(tokens, end + 1);
            found.push(at..=last);
            at = last;
        }
        at += 1;
    }
    found
}

/// Returns whether an attribute of the whole file limits it to tests.
fn all_is_for_tests(tokens: &[Token]) -> bool {
    let mut at = 0;
    while let [hash, bang, open, ..] = &tokens[at..]
        && (hash.text, bang.text, open.text) == ("#", "!", "[")
    {
        let end = closing(tokens, at + 2);
        if is_for_tests(&tokens[at + 3..end]) {
            return true;
        }
        at = end + 1;
    }
    false
}

/// Returns the position of the `]` of an outer attribute that starts at `at`.
fn attribute(tokens: &[Token], at: usize) -> Option<usize> {
    let open = tokens.get(at + 1)?;
    (tokens[at].text == "#" && open.text == "[").then(|| closing(tokens, at + 1))
}

/// Returns whether this is `test` or a `cfg` that is true only for tests.
fn is_for_tests(attribute: &[Token]) -> bool {
    match attribute {
        [test] => test.text == "test",
        [cfg, _, predicate @ .., _] if cfg.text == "cfg" => needs_test(predicate),
        _ => false,
    }
}

fn needs_test(predicate: &[Token]) -> bool {
    match predicate {
        [word] => matches!(word.text, "test" | "doctest"),
        [word, _, list @ .., _] if word.text == "all" => arguments(list).any(needs_test),
        [word, _, list @ .., _] if word.text == "any" => arguments(list).all(needs_test),
        _ => false,
    }
}

/// Splits a list, which may contain lists, at its commas.
fn arguments(list: &[Token]) -> impl Iterator<Item = &[Token]> {
    let mut depth = 0;
    let parts = list.split(move |token| {
        match token.text {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        depth == 0 && token.text == ","
    });
    parts.filter(|part| !part.is_empty())
}

/// Returns the position of the last token of the item, statement or field at `start`.
fn item_end(tokens: &[Token], mut start: usize) -> usize {
    while let Some(end) = attribute(tokens, start) {
        start = end + 1;
    }
    let mut at = start;
    let mut keyword = tokens[start].text;
    if keyword == "pub" {
        at += 1;
        if tokens[at].text == "(" {
            at = closing(tokens, at) + 1;
        }
        keyword = tokens[at].text;
    }
    let is_function = tokens[at..].iter().take(4).any(|token| token.text == "fn");
    let to_semicolon = matches!(keyword, "use" | "const" | "static" | "let" | "type");
    let has_block = matches!(
        keyword,
        "mod" | "fn" | "struct" | "enum" | "union" | "trait" | "impl" | "unsafe" | "extern"
    );
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at,
            // The end of a field, a variant or an argument.
            "," if !to_semicolon && !has_block && !is_function => return at,
            // The end of the block around the field or statement.
            ")" | "]" | "}" => return at - 1,
            "(" | "[" => at = closing(tokens, at),
            "{" => {
                at = closing(tokens, at);
                if !to_semicolon || is_function {
                    return at;
                }
            }
            _ => {}
        }
        at += 1;
    }
    tokens.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let source = Source::new("src/a.rs", text);
        let texts: Vec<_> = source.code.iter().map(|token| token.text).collect();
        texts.join(" ")
    }

    #[test]
    fn a_test_module_ends_at_its_brace() {
        let text =
            "a();\n#[cfg(all(test, not(loom)))]\n#[x]\nmod tests {\n  fn b() { '}'; }\n}\nc();";
        assert_eq!(code(text), "a ( ) ; c ( ) ;");
        assert_eq!(Source::new("src/a.rs", text).lines, 2);
    }

    #[test]
    fn code_that_other_builds_compile_is_kept() {
        for predicate in ["not(test)", "any(test, unix)", "all(loom, not(test))"] {
            let text = format!("#[cfg({predicate})] fn a() {{}}");
            assert!(code(&text).contains("fn a"), "{predicate}");
        }
        for predicate in ["test", "any(test, doctest)", "all(unix, any(test))"] {
            let text = format!("#[cfg({predicate})] fn a() {{}}");
            assert_eq!(code(&text), "", "{predicate}");
        }
    }

    #[test]
    fn items_statements_and_fields_for_tests_end_at_their_terminator() {
        assert_eq!(code("#[cfg(test)] use a::{b, c}; d"), "d");
        assert_eq!(code("#[cfg(test)] const A: B = B { c: 1 }; d"), "d");
        assert_eq!(code("#[cfg(test)] pub(crate) const fn a() { b; } d"), "d");
        assert_eq!(code("{ #[cfg(test)] a: B, c: D }"), "{ c : D }");
        assert_eq!(code("{ #[cfg(test)] a: B }"), "{ }");
        assert_eq!(code("#[test] fn a<B, C>(d: [u8; 2]) where E: F {} g"), "g");
        assert_eq!(code("#![cfg(all(test, unix))] fn a() {}"), "");
    }

    #[test]
    fn files_of_test_modules_have_no_other_code() {
        let sources = from_texts([
            ("src/a.rs", "#[cfg(test)] mod oracle; mod b;"),
            ("src/a/b.rs", "fn b() {}"),
            ("src/a/oracle.rs", "fn c() {}"),
            ("src/a/oracle/d.rs", "fn d() {}"),
        ]);
        let empty: Vec<_> = sources.iter().map(|s| s.code.is_empty()).collect();
        assert_eq!(empty, [false, false, true, true]);
    }
}
