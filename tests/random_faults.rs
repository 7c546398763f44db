//! Servers that do anything in any order: the ledger closes to the span and nothing hangs.
//!
//! A failure prints its script; `PROPTEST_CASES` sets how many are tried.

mod common;

use std::time::Duration;

use otlp_collector::{Collector, Config, EndpointOptions, Span};
use proptest::prelude::*;

use common::script::{Script, ScriptedServer, Step, response};

const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes that are a response, most of the time.
fn any_answer() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        4 => prop::sample::select(vec![200_u16, 202, 204]),
        4 => prop::sample::select(vec![429_u16, 502, 503, 504]),
        2 => prop::sample::select(vec![100_u16, 103, 301, 304, 307, 308, 400, 404, 413, 500]),
    ];
    let header = prop::sample::select(vec![
        "",
        "Connection: close\r\n",
        "Retry-After: 0\r\n",
        "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "Location: /v1/traces\r\n",
        "Content-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked\r\n",
    ]);
    let body = prop::collection::vec(any::<u8>(), 0..20);
    let answer =
        (status, header, body).prop_map(|(status, header, body)| response(status, header, &body));
    prop_oneof![
        10 => answer.clone(),
        3 => (answer.clone(), any::<prop::sample::Index>()).prop_map(|(mut answer, at)| {
            answer.truncate(at.index(answer.len()));
            answer
        }),
        3 => (answer, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut answer, at, byte)| {
            let at = at.index(answer.len());
            answer[at] = byte;
            answer
        }),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::ReadRequest),
        2 => Just(Step::ReadHead),
        2 => (0..600_usize).prop_map(Step::Read),
        6 => any_answer().prop_map(Step::Write),
        3 => (any_answer(), 1..9_usize).prop_map(|(answer, piece)| Step::Trickle(answer, piece)),
        1 => Just(Step::Stall),
        1 => Just(Step::Drain),
        2 => Just(Step::Reset),
    ]
}

fn any_script() -> impl Strategy<Value = Script> {
    prop::collection::vec(any_step(), 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_server_leaves_no_span_without_an_outcome(
        scripts in prop::collection::vec(any_script(), 0..6),
        bursts in prop::collection::vec((1..20_u64, any::<bool>()), 1..5),
        connections_max in 1..4_usize,
    ) {
        let server = ScriptedServer::start(scripts);
        let collector = Collector::new(Config {
            endpoint: server.endpoint(),
            endpoint_options: EndpointOptions {
                connections_max,
                request_timeout_ms: 40,
                retry_initial_ms: 1,
                retry_max_ms: 3,
                ..EndpointOptions::default()
            },
            batch_timeout_ms: 5,
            buffer_capacity: 1000,
            batch_size: 10,
            shutdown_timeout_ms: 120_000,
            ..Config::default()
        })
        .unwrap();
        let mut accepted = 0;
        for (spans, flushes) in bursts {
            for _ in 0..spans {
                collector.collect(Span::new("span")).unwrap();
            }
            accepted += spans;
            if flushes {
                let ledger = collector.flush(PATIENCE).expect("a flush that ends");
                prop_assert_eq!(ledger.delivered() + ledger.rejected(), accepted);
            }
        }
        let ledger = collector.shutdown().unwrap();
        prop_assert_eq!(ledger.accepted, accepted);
        prop_assert_eq!(ledger.delivered() + ledger.rejected(), accepted, "{}", ledger);
        prop_assert_eq!(collector.stats().network.panics, 0);
    }
}
