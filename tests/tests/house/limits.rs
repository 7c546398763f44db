//! Maximum lengths of files and functions, without code for tests.

use crate::scanner::{Kind, Token};
use crate::source::{Source, closing, from_texts, library};
use crate::{assert_found, check};

const FILE_LINES_MAX: usize = 550;
const FUNCTION_LINES_MAX: usize = 65;

/// Longer files, and their numbers of lines.
const LONG_FILES: &[(&str, usize)] = &[];

/// Longer functions, and their numbers of lines from `fn` to the closing brace.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Returns the name, first line and number of lines of each function with a body.
fn functions(tokens: &[Token]) -> Vec<(&'static str, usize, usize)> {
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let [keyword, name] = pair else { continue };
        if keyword.text != "fn" || name.kind != Kind::Word {
            continue;
        }
        let mut end = at + 2;
        while end < tokens.len() && !matches!(tokens[end].text, "{" | ";") {
            if matches!(tokens[end].text, "(" | "[") {
                end = closing(tokens, end);
            }
            end += 1;
        }
        if tokens.get(end).is_some_and(|token| token.text == "{") {
            let last = tokens[closing(tokens, end)].line;
            found.push((name.text, keyword.line, last + 1 - keyword.line));
        }
    }
    found
}

fn long_files(sources: &[Source], known: &[(&str, usize)]) -> Vec<String> {
    let mut findings = Vec::new();
    let long = sources.iter().filter(|file| file.lines > FILE_LINES_MAX);
    for Source { path, lines, .. } in long.clone() {
        if !known.contains(&(*path, *lines)) {
            findings.push(format!(
                "{path}:1: the file has {lines} lines without tests, of {FILE_LINES_MAX} at most. \
                 Split it; if it became shorter, lower its number in LONG_FILES in \
                 tests/tests/house/limits.rs."
            ));
        }
    }
    for (path, _) in known {
        if !long.clone().any(|file| file.path == *path) {
            findings.push(format!(
                "{path}:1: the file is not too long any more. Remove it from LONG_FILES in \
                 tests/tests/house/limits.rs."
            ));
        }
    }
    findings
}

fn long_functions(sources: &[Source], known: &[(&str, &str, usize)]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut long = Vec::new();
    for source in sources {
        for (name, line, lines) in functions(&source.code) {
            if lines > FUNCTION_LINES_MAX {
                long.push((source.path, name));
                if !known.contains(&(source.path, name, lines)) {
                    findings.push(format!(
                        "{}:{line}: `{name}` has {lines} lines, of {FUNCTION_LINES_MAX} at most. \
                         Split it; if it became shorter, lower its number in LONG_FUNCTIONS in \
                         tests/tests/house/limits.rs.",
                        source.path
                    ));
                }
            }
        }
    }
    for (path, name, _) in known {
        if !long.contains(&(*path, *name)) {
            findings.push(format!(
                "{path}:1: `{name}` is not too long any more. Remove it from LONG_FUNCTIONS in \
                 tests/tests/house/limits.rs."
            ));
        }
    }
    findings
}

#[test]
fn files_are_short() {
    check(&long_files(library(), LONG_FILES));
}

#[test]
fn functions_are_short() {
    check(&long_functions(library(), LONG_FUNCTIONS));
}

#[test]
fn a_long_file_is_found() {
    let with_tests = |lines: usize| {
        let tests = "#[cfg(test)]\nmod tests {\n}\n";
        from_texts([("src/a.rs", "a();\n".repeat(lines) + tests)])
    };
    check(&long_files(&with_tests(550), &[]));
    assert_found(
        &long_files(&with_tests(551), &[]),
        &["src/a.rs:1", "551 lines"],
    );
    check(&long_files(&with_tests(551), &[("src/a.rs", 551)]));
    assert_found(
        &long_files(&with_tests(551), &[("src/a.rs", 552)]),
        &["lower"],
    );
    assert_found(
        &long_files(&with_tests(550), &[("src/a.rs", 551)]),
        &["Remove it"],
    );
}

#[test]
fn a_long_function_is_found() {
    let with_lines = |lines: usize| {
        let body = "    b('}');\n".repeat(lines - 2);
        let text = format!("trait A {{ fn b(&self); }}\nfn c(d: [u8; 2]) {{\n{body}}}");
        from_texts([("src/a.rs", text)])
    };
    check(&long_functions(&with_lines(65), &[]));
    let words = ["src/a.rs:2", "`c` has 66 lines"];
    assert_found(&long_functions(&with_lines(66), &[]), &words);
    check(&long_functions(&with_lines(66), &[("src/a.rs", "c", 66)]));
    let known = [("src/a.rs", "c", 66)];
    assert_found(&long_functions(&with_lines(65), &known), &["Remove it"]);
}
