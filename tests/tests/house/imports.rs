//! The imports of each file, and the files that they lead to.

use std::collections::BTreeMap;

use crate::scanner::{Kind, Token};
use crate::source::Source;

/// A path into the crate in code, imported by `use` or written out.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    /// The path from the root of the crate.
    pub path: Vec<&'static str>,
    pub line: usize,
    pub is_macro: bool,
}

/// The files of a crate by their modules.
pub struct Modules(BTreeMap<Vec<&'static str>, &'static str>);

impl Modules {
    pub fn new(sources: &[Source]) -> Self {
        let files = sources.iter();
        Self(files.map(|s| (s.module(), s.path)).collect())
    }

    /// Returns the file of the innermost module on the path.
    pub fn file(&self, path: &[&'static str]) -> Option<&'static str> {
        let mut lengths = (0..=path.len()).rev();
        lengths.find_map(|length| self.0.get(&path[..length]).copied())
    }

    /// Returns the paths into the crate in the code of `source`.
    pub fn imports(&self, source: &Source) -> Vec<Import> {
        let tokens = &source.code;
        let mut found = Vec::new();
        // Inline modules, with the bracket depth at their start.
        let mut inline: Vec<(&'static str, usize)> = Vec::new();
        let mut depth = 0;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let text_at = |at: usize| tokens.get(at).map_or("", |token| token.text);
            let mut paths = Vec::new();
            let mut is_macro = false;
            match token.text {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.pop_if(|(_, outside)| *outside == depth);
                }
                "mod" if text_at(at + 2) == "{" => inline.push((text_at(at + 1), depth)),
                // Not the `use<'a>` of a type.
                "use" if !matches!(text_at(at + 1), "<" | "$") => {
                    at = use_tree(tokens, at + 1, &[], &mut paths);
                }
                _ if token.kind == Kind::Word && begins_path(tokens, at) => {
                    let (path, end) = plain_path(tokens, at);
                    is_macro = text_at(end) == "!";
                    paths.push((path, token.line));
                    at = end - 1;
                }
                _ => {}
            }
            let here: Vec<_> = source.module();
            let within: Vec<_> = inline.iter().map(|(name, _)| *name).collect();
            for (path, line) in paths {
                if let Some(path) = self.resolve(&here, &within, &path) {
                    found.push(Import {
                        path,
                        line,
                        is_macro,
                    });
                }
            }
            at += 1;
        }
        found
    }

    /// Returns `path` from the root of the crate; `None` if it leads out of the crate.
    fn resolve(
        &self,
        file: &[&'static str],
        inline: &[&'static str],
        path: &[&'static str],
    ) -> Option<Vec<&'static str>> {
        let here = || {
            let names = file.iter().chain(inline);
            names.copied().collect::<Vec<_>>()
        };
        let supers = path.iter().skip_while(|name| **name == "self");
        let supers = supers.take_while(|name| **name == "super").count();
        let mut rest = path;
        while let ["self" | "super" | "crate", after @ ..] = rest {
            rest = after;
        }
        let mut resolved = match path.first()? {
            &"crate" => Vec::new(),
            &"self" | &"super" => {
                let mut here = here();
                here.truncate(here.len() - supers);
                here
            }
            // A module that is declared here, or else another crate.
            _ => {
                let mut child = here();
                child.push(path[0]);
                if !self.0.contains_key(&child) {
                    return None;
                }
                here()
            }
        };
        resolved.extend(rest);
        Some(resolved)
    }
}

/// Returns whether a path of at least two names starts at `at`. Excludes `pub(in crate::a)`, and
/// `$crate::a`, which macros use for public names.
fn begins_path(tokens: &[Token], at: usize) -> bool {
    let before = |count: usize| at.checked_sub(count).map_or("", |at| tokens[at].text);
    tokens.get(at + 1).is_some_and(|next| next.text == "::")
        && !matches!(before(1), "::" | "." | "$")
        && !(before(1) == "in" && before(2) == "(" && before(3) == "pub")
}

/// Returns the names of the path at `at`, and the position after it.
fn plain_path(tokens: &[Token], mut at: usize) -> (Vec<&'static str>, usize) {
    let mut path = vec![tokens[at].text];
    at += 1;
    while let [colons, name, ..] = &tokens[at..]
        && colons.text == "::"
        && name.kind == Kind::Word
    {
        path.push(name.text);
        at += 2;
    }
    (path, at)
}

/// Collects all paths of the use tree at `at`, each after `prefix`. Returns the position where the
/// tree ends.
fn use_tree(
    tokens: &[Token],
    mut at: usize,
    prefix: &[&'static str],
    found: &mut Vec<(Vec<&'static str>, usize)>,
) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens[at].line;
    loop {
        match tokens[at].text {
            "{" => {
                while tokens[at].text != "}" {
                    at += 1;
                    if tokens[at].text != "}" {
                        at = use_tree(tokens, at, &path, found);
                    }
                }
                return at + 1;
            }
            "," | ";" | "}" => break,
            "as" => at += 1,
            "::" | "*" => {}
            // The `self` of `a::{self}`.
            "self" if !path.is_empty() => {}
            name => path.push(name),
        }
        at += 1;
    }
    found.push((path, line));
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::from_texts;

    fn paths(text: &str) -> Vec<String> {
        let sources = from_texts([
            ("src/lib.rs", ""),
            ("src/a.rs", ""),
            ("src/a/b.rs", text),
            ("src/a/b/c.rs", ""),
        ]);
        let imports = Modules::new(&sources).imports(&sources[2]);
        imports.iter().map(|i| i.path.join("::")).collect()
    }

    #[test]
    fn trees_are_followed_to_every_leaf() {
        let text = "use crate::{a::{self, D as E, f::*,}, g}; pub(crate) use std::{h, i};";
        assert_eq!(paths(text), ["a", "a::D", "a::f", "g"]);
    }

    #[test]
    fn paths_from_here_are_paths_from_the_root() {
        let text = "use super::D; use self::c::E; use c::F; use super::super::g; \
                    mod inner { use super::H; } use super::I; use other::J;";
        let expected = ["a::D", "a::b::c::E", "a::b::c::F", "g", "a::b::H", "a::I"];
        assert_eq!(paths(text), expected);
    }

    #[test]
    fn paths_in_code_are_imports_too() {
        let text = "pub(in crate::a) fn d(e: &crate::f::G) -> impl H + use<'_> \
                    { c::i(); self.c::<J>(); $crate::k::l() } // crate::m::n";
        assert_eq!(paths(text), ["f::G", "a::b::c::i"]);
    }
}
