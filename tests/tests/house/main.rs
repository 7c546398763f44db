//! Rules for the sources, checked by reading them: the order of modules, which files may own a socket
//! or a clock, the length of files and functions, and the wording of comments.
//!
//! Lists of exceptions are exact: a new exception fails the test, and so does a listed one that no
//! longer exists. So the lists only get shorter.

mod circles;
mod docs;
mod exhaustive;
mod imports;
mod limits;
mod names;
mod order;
mod places;
mod scanner;
mod source;
mod wording;

/// Fails with all findings of a rule.
#[track_caller]
fn check(findings: &[String]) {
    assert!(
        findings.is_empty(),
        "{} to fix:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

/// Asserts that there is one finding, with these words in its message.
#[track_caller]
fn assert_found(findings: &[String], words: &[&str]) {
    assert_eq!(findings.len(), 1, "{findings:#?}");
    for word in words {
        assert!(findings[0].contains(word), "no {word:?} in {}", findings[0]);
    }
}
