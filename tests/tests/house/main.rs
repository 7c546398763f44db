//! The order of the house, read from its sources: which module stands above which, what may
//! own a socket or a clock, how long things may be, and how comments are worded.
//!
//! Lists of exceptions are exact: a new exception fails, and so does one that is gone but still
//! listed. So they only get shorter.

mod circles;
mod exhaustive;
mod imports;
mod limits;
mod names;
mod order;
mod places;
mod scanner;
mod source;
mod wording;

/// Fails with all that a rule found.
#[track_caller]
fn check(findings: &[String]) {
    assert!(
        findings.is_empty(),
        "{} to put right:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

/// Asserts that a rule found one thing, with these words in its message.
#[track_caller]
fn assert_found(findings: &[String], words: &[&str]) {
    assert_eq!(findings.len(), 1, "{findings:#?}");
    for word in words {
        assert!(findings[0].contains(word), "no {word:?} in {}", findings[0]);
    }
}
