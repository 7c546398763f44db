//! The response parser with random changes of the responses in `tests/corpus`.
//!
//! `responses` are written by hand. `found` comes from a coverage-guided fuzzer: the smallest set with
//! which it reached the same code. `PROPTEST_CASES` sets the number of cases. A response that was once
//! parsed wrongly goes into the corpus.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::config::{Config, EndpointSettings, Settings};
use crate::exporter::http::response::{Response, ResponseError};
use crate::exporter::http::response_parser::ResponseParser;

fn corpus() -> &'static [Vec<u8>] {
    static CORPUS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let directories = ["responses", "found"].map(|name| root.join(name));
        let entries = directories.iter().flat_map(|d| fs::read_dir(d).unwrap());
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    })
}

fn settings() -> &'static EndpointSettings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    let settings = SETTINGS.get_or_init(|| Settings::new(&Config::default()).unwrap());
    &settings.destinations[0].endpoints[0]
}

/// A change of a response's bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize, usize),
}

fn any_change() -> impl Strategy<Value = Change> {
    let text = prop::sample::select(vec![
        &b"\r\n"[..],
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"Content-Length: 1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: keep-alive\r\n",
        b"99999999999999999999",
        b"\0",
        b"\xff\xfe",
    ]);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<Index>(), 1..20_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        (any::<Index>(), text).prop_map(|(at, text)| Change::Insert(at, text.to_vec())),
        (any::<Index>(), 1..40_usize, 1..20_usize)
            .prop_map(|(at, count, times)| Change::Repeat(at, count, times)),
    ]
}

fn apply(change: &Change, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    match change {
        Change::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Change::Remove(at, count) => {
            let at = at.index(bytes.len());
            let end = (at + count).min(bytes.len());
            bytes.drain(at..end);
        }
        Change::Insert(at, text) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, text.iter().copied());
        }
        Change::Repeat(at, count, times) => {
            let at = at.index(bytes.len());
            let piece = bytes[at..(at + count).min(bytes.len())].repeat(*times);
            bytes.splice(at..at, piece);
        }
    }
}

/// Parses the bytes in these pieces, followed by the end of the connection.
fn parse(bytes: &[u8], pieces: &[usize]) -> Result<Response, ResponseError> {
    let mut parser = ResponseParser::default();
    let mut rest = bytes;
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let piece = pieces.next().map_or(rest.len(), |piece| *piece);
        let (piece, after) = rest.split_at(piece.clamp(1, rest.len()));
        rest = after;
        match parser.receive(piece) {
            Ok(None) => {}
            Ok(Some(mut response)) => {
                // Bytes after it may not have been received yet.
                response.keep_alive &= rest.is_empty();
                return Ok(response);
            }
            Err(error) => return parser.salvage(error).ok_or(error),
        }
    }
    match parser.end_of_stream() {
        Err(error) => parser.salvage(error).ok_or(error),
        response => response,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn pieces_make_no_difference_and_nothing_panics(
        which in any::<Index>(),
        changes in prop::collection::vec(any_change(), 0..6),
        pieces in prop::collection::vec(1..50_usize, 1..5),
    ) {
        let corpus = corpus();
        let mut bytes = corpus[which.index(corpus.len())].clone();
        changes.iter().for_each(|change| apply(change, &mut bytes));
        let whole = parse(&bytes, &[usize::MAX]);
        for pieces in [&*pieces, &[1]] {
            let parsed = parse(&bytes, pieces);
            // In other pieces another one of several errors may be found first.
            prop_assert_eq!(parsed.is_err(), whole.is_err(), "{:?}", &parsed);
            if parsed.as_ref().is_ok_and(|response| response.broken.is_none()) {
                prop_assert_eq!(&parsed, &whole);
            }
        }
        if let Ok(response) = whole {
            prop_assert!((200..1000).contains(&response.status));
            prop_assert!(response.body.len() <= bytes.len());
            prop_assert!(response.description(settings()).len() < 1500);
            prop_assert!(response.unreadable(settings()).is_none_or(|why| why.len() < 1500));
        }
    }
}
