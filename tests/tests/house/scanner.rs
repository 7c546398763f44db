//! Splits Rust source text into tokens, exactly enough to separate comments, strings and characters
//! from code.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Comment,
    Lifetime,
    Literal,
    Mark,
    Space,
    Word,
}

#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub kind: Kind,
    pub text: &'static str,
    /// The line where the token starts, from 1.
    pub line: usize,
}

/// Returns all tokens except white space. `::` is one mark, every other mark is one character.
pub fn scan(text: &'static str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let (kind, length) = first(rest);
        let (text, after) = rest.split_at(length);
        if kind != Kind::Space {
            tokens.push(Token { kind, text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

/// Returns the kind and length of the first token of `rest`.
fn first(rest: &str) -> (Kind, usize) {
    let letter = rest.chars().next().unwrap();
    if letter.is_whitespace() {
        (Kind::Space, letter.len_utf8())
    } else if rest.starts_with("//") {
        (Kind::Comment, rest.find('\n').unwrap_or(rest.len()))
    } else if rest.starts_with("/*") {
        (Kind::Comment, block_comment(rest))
    } else if let Some(length) = literal(rest) {
        (Kind::Literal, length)
    } else if letter == '\'' {
        (Kind::Lifetime, 1 + word(&rest[1..]))
    } else if rest.starts_with("r#") && word(&rest[2..]) > 0 {
        (Kind::Word, 2 + word(&rest[2..]))
    } else if letter.is_ascii_digit() {
        (Kind::Literal, word(rest))
    } else if word(rest) > 0 {
        (Kind::Word, word(rest))
    } else if rest.starts_with("::") {
        (Kind::Mark, 2)
    } else {
        (Kind::Mark, letter.len_utf8())
    }
}

/// Returns the length of the word at the start of `rest`; 0 if there is none.
fn word(rest: &str) -> usize {
    let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    end.unwrap_or(rest.len())
}

/// Returns the length of a block comment, nested ones included.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Returns the length of a string or character literal of any form.
fn literal(rest: &str) -> Option<usize> {
    for prefix in ["br", "cr", "r"] {
        if let Some(raw) = rest.strip_prefix(prefix) {
            let quoted = raw.trim_start_matches('#');
            if let Some(inner) = quoted.strip_prefix('"') {
                let end = format!("\"{}", "#".repeat(raw.len() - quoted.len()));
                let begin = rest.len() - inner.len();
                let length = inner.find(&end).map(|at| begin + at + end.len());
                return Some(length.unwrap_or(rest.len()));
            }
        }
    }
    for prefix in ["b", "c", ""] {
        if let Some(quoted) = rest.strip_prefix(prefix) {
            if quoted.starts_with('"') {
                return Some(prefix.len() + quoted_length(quoted, b'"'));
            }
            if quoted.starts_with('\'') && (prefix == "b" || is_character(quoted)) {
                return Some(prefix.len() + quoted_length(quoted, b'\''));
            }
        }
    }
    None
}

/// Returns whether a quote starts a character literal, not a lifetime.
fn is_character(quoted: &str) -> bool {
    let mut letters = quoted.chars().skip(1);
    letters.next() == Some('\\') || letters.next() == Some('\'')
}

/// Returns the length of the literal at the start of `quoted`, both quotes included.
fn quoted_length(quoted: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate().skip(1) {
        if !escaped && byte == quote {
            return at + 1;
        }
        escaped = !escaped && byte == b'\\';
    }
    quoted.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &'static str, kind: Kind) -> Vec<&'static str> {
        let tokens = scan(text).into_iter();
        let of_kind = tokens.filter(|token| token.kind == kind);
        of_kind.map(|token| token.text).collect()
    }

    #[test]
    fn strings_are_not_code() {
        let text = r####"a("unsafe \" b", r#"c " d"#, br"\", c"e", b"f\\") g"####;
        assert_eq!(texts(text, Kind::Word), ["a", "g"]);
        assert_eq!(texts(text, Kind::Literal).len(), 5);
    }

    #[test]
    fn characters_are_not_lifetimes() {
        let text = r#"f::<'a>('"', '\'', '\\', 'b', b'"', b'\'', '{', '\u{7b}', 'static, c)"#;
        assert_eq!(texts(text, Kind::Word), ["f", "c"]);
        assert_eq!(texts(text, Kind::Lifetime), ["'a", "'static"]);
        assert_eq!(texts(text, Kind::Literal).len(), 8);
    }

    #[test]
    fn comments_end_at_their_terminator() {
        let text = "a /* b /* \" */ ' */ c // d /*\n\"// e\" f r#type 1..2";
        assert_eq!(texts(text, Kind::Word), ["a", "c", "f", "r#type"]);
        assert_eq!(texts(text, Kind::Comment).len(), 2);
        assert_eq!(texts(text, Kind::Literal), ["\"// e\"", "1", "2"]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let tokens = scan("/*\n\n*/ a \"\n\" b\nc");
        let of_words = tokens.iter().filter(|token| token.kind == Kind::Word);
        let lines: Vec<_> = of_words.map(|word| word.line).collect();
        assert_eq!(lines, [3, 4, 5]);
    }
}
