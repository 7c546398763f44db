//! The table of docs/delivery.md, row by row.

use super::*;
use crate::config::{Config, EndpointOptions, Redirects, Settings};
use crate::exporter::http::response_parser::ResponseParser;

/// The context of a table's row. Defaults: a request that could be split, without compression.
#[derive(Clone, Copy)]
struct Row {
    proxy: Option<&'static str>,
    redirects: Redirects,
    has_followed: u32,
    can_split: bool,
    is_coding_suspect: bool,
    has_coding_worked: bool,
    is_throttled_often: bool,
}

const ROW: Row = Row {
    proxy: None,
    redirects: Redirects::SameOrigin,
    has_followed: 0,
    can_split: true,
    is_coding_suspect: false,
    has_coding_worked: false,
    is_throttled_often: false,
};
const WHOLE: Row = Row {
    can_split: false,
    ..ROW
};
const COMPRESSED: Row = Row {
    is_coding_suspect: true,
    ..ROW
};
const TRUSTED: Row = Row {
    has_coding_worked: true,
    ..COMPRESSED
};
const OFTEN: Row = Row {
    is_throttled_often: true,
    ..ROW
};

fn outcome(row: Row, status: u16, headers: &str, body: &str) -> Outcome {
    let config = Config {
        endpoint_options: EndpointOptions {
            proxy: row.proxy.map(str::to_string),
            redirects: row.redirects,
            ..EndpointOptions::default()
        },
        ..Config::default()
    };
    let settings = Settings::new(&config).unwrap();
    let settings = &settings.destinations[0].endpoints[0];
    let length = body.len();
    let response =
        format!("HTTP/1.1 {status} Text\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    let mut parser = ResponseParser::default();
    let response = parser.receive(response.as_bytes()).unwrap().unwrap();
    let context = ResponseContext {
        settings,
        target: &settings.target,
        redirects: row.has_followed,
        can_split: row.can_split,
        is_coding_suspect: row.is_coding_suspect,
        has_coding_worked: row.has_coding_worked,
        is_throttled_often: row.is_throttled_often,
        now: SystemTime::UNIX_EPOCH,
    };
    Outcome::of(&response, &context)
}

/// Returns the outcome as in the table, with the numbers that it carries.
fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { partial, .. } => match partial {
            Ok(PartialSuccess {
                rejected: 0,
                message,
            }) if message.is_empty() => "delivered".to_string(),
            Ok(PartialSuccess { rejected, message }) => {
                format!("delivered, {rejected} rejected: {message}")
            }
            Err(_) => "delivered, unreadable".to_string(),
        },
        Outcome::Rejected { .. } => "rejected".to_string(),
        Outcome::RetryAfter {
            wait, should_split, ..
        } => {
            let wait = wait.map(|wait| format!(" after {wait:?}"));
            let split = if *should_split { " in parts" } else { "" };
            format!("again{}{split}", wait.unwrap_or_default())
        }
        Outcome::TooLarge { .. } => "split".to_string(),
        Outcome::NotDecoded { .. } => "plain".to_string(),
        Outcome::Redirected {
            target,
            is_permanent,
            ..
        } => match is_permanent {
            false => format!("to {}", target.path),
            true => format!("to {} from now on", target.path),
        },
        Outcome::ProxyDenied => "again, denied".to_string(),
        Outcome::Lost { .. } => "lost".to_string(),
    }
}

#[test]
fn every_status_has_one_meaning() {
    for status in 200..=599 {
        let expected = match status {
            200..=299 => "delivered",
            413 => "split",
            429 | 502..=504 => "again",
            _ => "rejected",
        };
        let outcome = outcome(ROW, status, "", "");
        assert_eq!(word(&outcome), expected, "{status}");
        assert_eq!(outcome.status(), Some(status));
    }
}

#[test]
fn outcomes_are_those_of_the_documented_table() {
    const TOO_LARGE: &str = "http: request body too large";
    const DECODING: &str = "unsupported encoding";
    let proxied = Row {
        proxy: Some("http://proxy:3128"),
        ..ROW
    };
    let table = [
        // Any 2xx.
        (
            ROW,
            202,
            "",
            "\n\x06\x08\x02\x12\x02no",
            "delivered, 2 rejected: no",
        ),
        (
            ROW,
            200,
            "",
            "\n\x04\x12\x02ok",
            "delivered, 0 rejected: ok",
        ),
        (ROW, 200, "", "<html>", "delivered, unreadable"),
        (ROW, 200, "Retry-After: 7\r\n", "", "delivered"),
        // 429, 502, 503, 504.
        (ROW, 503, "Retry-After: 7\r\n", "", "again after 7s"),
        (
            ROW,
            429,
            "Retry-After: Thu, 01 Jan 1970 00:00:09 GMT\r\n",
            "",
            "again after 9s",
        ),
        (ROW, 429, "Retry-After: soon\r\n", "", "again"),
        (ROW, 504, "Retry-After: 99999\r\n", "", "again after 600s"),
        (OFTEN, 429, "", "", "again in parts"),
        (OFTEN, 503, "", "", "again"),
        (
            Row {
                can_split: false,
                ..OFTEN
            },
            429,
            "",
            "",
            "again",
        ),
        // A wait does not make a final status one that is retried.
        (ROW, 500, "Retry-After: 7\r\n", "", "rejected"),
        // 413, or a 400 that means the same.
        (ROW, 400, "", TOO_LARGE, "split"),
        (COMPRESSED, 413, "", "", "split"),
        (WHOLE, 413, "", "", "rejected"),
        (WHOLE, 400, "", TOO_LARGE, "rejected"),
        (ROW, 500, "", TOO_LARGE, "rejected"),
        // 415 or 400 to a compressed request.
        (COMPRESSED, 415, "", "", "plain"),
        (COMPRESSED, 400, "", "", "plain"),
        (COMPRESSED, 400, "", DECODING, "plain"),
        (TRUSTED, 415, "", "", "plain"),
        (TRUSTED, 400, "", "", "rejected"),
        (TRUSTED, 400, "", DECODING, "plain"),
        (COMPRESSED, 500, "", DECODING, "rejected"),
        (ROW, 415, "", "", "rejected"),
        (ROW, 400, "", DECODING, "rejected"),
        // 407 of a proxy.
        (proxied, 407, "", "", "again, denied"),
        (ROW, 407, "", "", "rejected"),
        (proxied, 403, "", "", "rejected"),
    ];
    for (row, status, headers, body, expected) in table {
        let outcome = outcome(row, status, headers, body);
        assert_eq!(word(&outcome), expected, "{status} {headers}{body}");
    }
}

#[test]
fn redirects_are_followed_as_configured_and_five_times() {
    let row = |redirects, has_followed| Row {
        redirects,
        has_followed,
        ..ROW
    };
    let (refuse, same) = (Redirects::Refuse, Redirects::SameOrigin);
    let elsewhere = "http://elsewhere.test/x";
    for (row, status, location, expected) in [
        (row(same, 0), 307, "/x", "to /x"),
        (row(same, 4), 308, "/x", "to /x from now on"),
        (row(same, 5), 308, "/x", "rejected"),
        (row(refuse, 0), 307, "/x", "rejected"),
        (row(same, 0), 307, elsewhere, "rejected"),
        (row(Redirects::Follow, 0), 307, elsewhere, "to /x"),
        (
            row(Redirects::Follow, 0),
            307,
            "https://elsewhere.test/x",
            "rejected",
        ),
        (row(same, 0), 307, "ftp://elsewhere.test/x", "rejected"),
        (row(same, 0), 302, "/x", "rejected"),
    ] {
        let headers = format!("Location: {location}\r\n");
        let outcome = outcome(row, status, &headers, "");
        assert_eq!(word(&outcome), expected, "{status} {location}");
    }
    let Outcome::Rejected { reason, .. } = outcome(row(refuse, 0), 307, "Location: /x\r\n", "")
    else {
        panic!("not rejected");
    };
    assert_eq!(
        reason,
        "responded with 307, but its Location is not followed: redirects is Refuse"
    );
    let Outcome::Rejected { reason, .. } = outcome(row(same, 5), 307, "Location: /x\r\n", "")
    else {
        panic!("not rejected");
    };
    assert_eq!(
        reason,
        "responded with 307, but redirected more than 5 times in a row: use the final URL as the \
         endpoint"
    );
}

#[test]
fn an_outcome_determines_retry_budget_split_and_export() {
    let lost = |kind| Outcome::Lost {
        kind,
        reason: String::new(),
    };
    let partial = outcome(ROW, 202, "", "\n\x06\x08\x02\x12\x02no");
    // Whether it counts as a failure, splits, and the export's status and error.
    for (outcome, has_failed, needs_split, status, error) in [
        (outcome(ROW, 200, "", ""), false, false, Some(200), None),
        (partial, false, false, Some(202), Some("rejected")),
        (outcome(ROW, 400, "", ""), false, false, Some(400), None),
        (outcome(ROW, 503, "", ""), true, false, Some(503), None),
        (outcome(OFTEN, 429, "", ""), true, true, Some(429), None),
        (outcome(ROW, 413, "", ""), false, true, Some(413), None),
        (
            outcome(COMPRESSED, 415, "", ""),
            false,
            false,
            Some(415),
            None,
        ),
        (Outcome::ProxyDenied, true, false, Some(407), None),
        (
            lost(ConnectionLoss::Stale),
            false,
            false,
            None,
            Some("connection_lost"),
        ),
        (
            lost(ConnectionLoss::Broken),
            true,
            false,
            None,
            Some("connection_lost"),
        ),
        (
            lost(ConnectionLoss::Unreachable),
            true,
            false,
            None,
            Some("connection_lost"),
        ),
        (
            lost(ConnectionLoss::TimedOut),
            true,
            true,
            None,
            Some("timeout"),
        ),
    ] {
        let expected = Export {
            endpoint: 3,
            status,
            error,
        };
        assert_eq!(outcome.export(3), expected);
        let decisions = (outcome.has_failed(), outcome.needs_split());
        assert_eq!(decisions, (has_failed, needs_split), "{outcome:?}");
    }
}

#[test]
fn a_400_is_read_for_its_cause() {
    for (message, cause) in [
        ("http: request body too large", RefusalCause::TooLarge),
        (
            "too big data size exceeding 67108864 bytes",
            RefusalCause::TooLarge,
        ),
        ("decompressed body too large", RefusalCause::TooLarge),
        ("unsupported Content-Encoding: zstd", RefusalCause::Coding),
        ("gzip: invalid header", RefusalCause::Coding),
        (
            "proto: cannot parse invalid wire-format data",
            RefusalCause::Malformed,
        ),
        ("", RefusalCause::Malformed),
    ] {
        assert_eq!(RefusalCause::of_message(message), cause, "{message}");
    }
}

#[test]
fn only_four_statuses_are_retried() {
    let retried: Vec<u16> = (100..600).filter(|status| is_retryable(*status)).collect();
    assert_eq!(retried, [429, 502, 503, 504]);
}
