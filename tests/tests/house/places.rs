//! Code that only listed files may contain: `unsafe`, sockets, reading a clock.

use std::collections::BTreeMap;

use crate::scanner::{Kind, Token};
use crate::source::{Source, everything, from_texts, library, text};
use crate::{assert_found, check};

/// Files with `unsafe` code, each with the lint `unsafe_code` allowed at its top.
const UNSAFE: &[&str] = &[
    "benches/peers/src/allocations.rs",
    "src/buffer/cells.rs",
    "src/buffer/lane_writer.rs",
    "src/buffer/pool.rs",
    "src/buffer/prefetch.rs",
    "src/buffer/ring.rs",
    "src/buffer/slab.rs",
    "src/platform/clock/counter.rs",
    "src/platform/fork.rs",
    "tests/tests/allocations.rs",
    "tests/tests/disabled.rs",
    "tests/tests/fork.rs",
];

/// Manifests that deny `unsafe_code` for all other files.
const DENYING: [&str; 2] = ["Cargo.toml", "benches/peers/Cargo.toml"];

/// Files that name `mio`, a socket or a system call for sockets.
const SOCKETS: &[&str] = &[
    "src/exporter/compress.rs",
    "src/exporter/network/system.rs",
    "src/testing/receiver.rs",
    "src/testing/served_connection.rs",
    "src/testing/state.rs",
];

/// Files that read a clock.
const CLOCKS: &[&str] = &[
    "src/buffer/waiters.rs",
    "src/collector.rs",
    "src/collector/network_thread.rs",
    "src/exporter.rs",
    "src/lib.rs",
    "src/platform/clock.rs",
    "src/recorder/builder.rs",
    "src/recorder/lease.rs",
    "src/recorder/open_span.rs",
    "src/recorder/writer.rs",
    "src/span.rs",
    "src/span/event.rs",
    "src/testing/receiver.rs",
    "src/tracing/door.rs",
];

/// Files and whole directories that take bytes and `now` from their callers. None of them may be
/// listed above.
const PROTOCOL: &[&str] = &[
    "src/exporter/backlog.rs",
    "src/exporter/connection.rs",
    "src/exporter/connection/",
    "src/exporter/deliveries.rs",
    "src/exporter/delivery.rs",
    "src/exporter/delivery/",
    "src/exporter/endpoint.rs",
    "src/exporter/endpoint/",
    "src/exporter/flushes.rs",
    "src/exporter/http.rs",
    "src/exporter/http/",
    "src/exporter/metrics_sender.rs",
    "src/exporter/moment.rs",
    "src/exporter/network.rs",
    "src/exporter/notices.rs",
    "src/exporter/notices/",
    "src/exporter/operation.rs",
    "src/exporter/outcome.rs",
    "src/exporter/request.rs",
    "src/exporter/resolver.rs",
    "src/exporter/shutdown.rs",
    "src/exporter/transport.rs",
    "src/exporter/transport/",
    "src/otlp.rs",
    "src/otlp/",
    "src/processor.rs",
];

/// A rule that only the files of a list may contain some code.
struct Rule {
    deed: &'static str,
    list: &'static str,
    instead: &'static str,
    is_done: fn(&[Token], usize) -> bool,
}

const RULES: [Rule; 3] = [
    Rule {
        deed: "has `unsafe` code",
        list: "UNSAFE",
        instead: "Use the safe types of `buffer` and `platform`",
        is_done: |tokens, at| tokens[at].text == "unsafe",
    },
    Rule {
        deed: "names a socket, the event loop or a system call for them",
        list: "SOCKETS",
        instead: "Take bytes and return bytes, and let `exporter/network/system.rs` move them",
        is_done: names_socket,
    },
    Rule {
        deed: "reads a clock",
        list: "CLOCKS",
        instead: "Take `now` as an argument",
        is_done: reads_clock,
    },
];

fn names_socket(tokens: &[Token], at: usize) -> bool {
    matches!(
        tokens[at].text,
        "mio"
            | "rustix"
            | "socket2"
            | "TcpListener"
            | "TcpStream"
            | "ToSocketAddrs"
            | "UdpSocket"
            | "UnixDatagram"
            | "UnixListener"
            | "UnixStream"
    )
}

/// Returns whether the code at `at` reads a clock, or imports a function that does.
fn reads_clock(tokens: &[Token], at: usize) -> bool {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let before = |count: usize| at.checked_sub(count).map_or("", text);
    match text(at) {
        "now" => before(1) == "::" && matches!(before(2), "Instant" | "SystemTime"),
        "unix_nanos" => {
            before(1) == "::" || (text(at + 1) == "(" && !matches!(before(1), "fn" | "."))
        }
        "elapsed" => before(1) == "." && text(at + 1) == "(" && text(at + 2) == ")",
        _ => false,
    }
}

/// Returns the files that contain such code, with the first line of it.
fn doing(sources: &[Source], rule: &Rule) -> BTreeMap<&'static str, usize> {
    let mut found = BTreeMap::new();
    for source in sources {
        // The rule for `unsafe` includes code for tests.
        let tokens = match rule.list {
            "UNSAFE" => &source.all_code,
            _ => &source.code,
        };
        let words = (0..tokens.len()).filter(|&at| tokens[at].kind == Kind::Word);
        if let Some(at) = words.into_iter().find(|&at| (rule.is_done)(tokens, at)) {
            found.insert(source.path, tokens[at].line);
        }
    }
    found
}

fn findings(sources: &[Source], rule: &Rule, listed: &[&str]) -> Vec<String> {
    let Rule {
        deed,
        list,
        instead,
        ..
    } = rule;
    let doing = doing(sources, rule);
    let mut findings = Vec::new();
    for (file, line) in &doing {
        if is_protocol(file) {
            findings.push(format!(
                "{file}:{line}: {deed}, which protocol code never does. {instead}."
            ));
        } else if !listed.contains(file) {
            findings.push(format!(
                "{file}:{line}: {deed}, which only the files of {list} in \
                 tests/tests/house/places.rs do. {instead}, or add the file there."
            ));
        }
    }
    for file in listed.iter().filter(|file| !doing.contains_key(*file)) {
        findings.push(format!(
            "{file}:1: is listed in {list} in tests/tests/house/places.rs, but nothing in it {deed}. \
             Remove it from the list."
        ));
    }
    findings
}

fn is_protocol(file: &str) -> bool {
    PROTOCOL
        .iter()
        .any(|path| file == *path || (path.ends_with('/') && file.starts_with(path)))
}

/// Returns findings where the lint is allowed other than at the top of the `listed` files.
fn lint_findings(sources: &[Source], listed: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let tokens = &source.all_code;
        let mut words = tokens.iter().filter(|token| token.text == "unsafe_code");
        let allowed = words.next().map(|token| token.line);
        let path = source.path;
        match (allowed, listed.contains(&path)) {
            (Some(line), false) => findings.push(format!(
                "{path}:{line}: allows the lint `unsafe_code`, but is not listed in UNSAFE in \
                 tests/tests/house/places.rs. Remove the attribute."
            )),
            (None, true) => findings.push(format!(
                "{path}:1: is listed in UNSAFE in tests/tests/house/places.rs. Begin it with \
                 `#![allow(unsafe_code, reason = \"…\")]`."
            )),
            _ => {}
        }
    }
    findings
}

#[test]
fn unsafe_code_is_only_in_named_files() {
    check(&findings(everything(), &RULES[0], UNSAFE));
}

#[test]
fn the_lint_against_unsafe_code_is_lifted_for_the_same_files() {
    check(&lint_findings(everything(), UNSAFE));
    for manifest in DENYING {
        assert!(
            text(manifest).contains("\nunsafe_code = \"deny\"\n"),
            "{manifest}:1: does not deny `unsafe_code`. Add it to its lints."
        );
    }
}

#[test]
fn sockets_are_only_in_named_files() {
    check(&findings(library(), &RULES[1], SOCKETS));
}

#[test]
fn clocks_are_read_only_in_named_files() {
    check(&findings(library(), &RULES[2], CLOCKS));
}

#[test]
fn protocol_files_exist() {
    for path in PROTOCOL {
        let mut files = library().iter().map(|source| source.path);
        assert!(
            files.any(|file| file.starts_with(path)),
            "tests/tests/house/places.rs:1: PROTOCOL has {path}, which is gone. Correct the path."
        );
    }
}

#[test]
fn unsafe_code_in_an_unlisted_file_is_found() {
    let text = "// unsafe\nconst A: &str = \"unsafe\";\n#[cfg(test)] mod t { unsafe fn a() {} }";
    let sources = from_texts([("src/a.rs", text)]);
    assert_found(
        &findings(&sources, &RULES[0], &[]),
        &["src/a.rs:3", "UNSAFE"],
    );
    check(&findings(&sources, &RULES[0], &["src/a.rs"]));
}

#[test]
fn a_lint_lifted_in_an_unlisted_file_is_found() {
    let sources = from_texts([
        ("src/a.rs", "fn a() {}\n#[allow(unsafe_code)] fn b() {}"),
        ("src/b.rs", "//! Not `unsafe_code`.\n"),
    ]);
    assert_found(&lint_findings(&sources, &[]), &["src/a.rs:2"]);
    assert_eq!(lint_findings(&sources, &["src/b.rs"]).len(), 2);
}

#[test]
fn a_socket_in_an_unlisted_file_is_found() {
    for text in ["use mio::Waker;", "fn a(b: &std::net::TcpStream) {}"] {
        let sources = from_texts([("src/a.rs", text)]);
        assert_found(
            &findings(&sources, &RULES[1], &[]),
            &["src/a.rs:1", "SOCKETS"],
        );
    }
}

#[test]
fn a_clock_read_in_an_unlisted_file_is_found() {
    for text in [
        "fn a() { std::time::Instant::now() }",
        "fn a() { b.unwrap_or_else(SystemTime::now) }",
        "use crate::platform::clock::unix_nanos;",
        "fn a() { unix_nanos() }",
        "fn a(b: Instant) { b.elapsed() }",
    ] {
        let sources = from_texts([("src/a.rs", text)]);
        assert_found(
            &findings(&sources, &RULES[2], &[]),
            &["src/a.rs:1", "CLOCKS"],
        );
    }
    let text = "fn a(now: Instant, unix_nanos: u64) { b(unix_nanos, now) }";
    check(&findings(&from_texts([("src/a.rs", text)]), &RULES[2], &[]));
}

#[test]
fn a_listed_clock_in_protocol_code_is_found() {
    let path = "src/exporter/http/retry.rs";
    let sources = from_texts([(path, "fn a() { Instant::now() }")]);
    let words = ["retry.rs:1", "protocol code never does"];
    assert_found(&findings(&sources, &RULES[2], &[path]), &words);
}

#[test]
fn a_listed_file_without_an_occurrence_is_found() {
    let findings = findings(&from_texts([("src/a.rs", "")]), &RULES[2], &["src/a.rs"]);
    assert_found(&findings, &["src/a.rs:1", "Remove it from the list"]);
}
