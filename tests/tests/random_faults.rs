//! Servers with random behaviour: the ledger closes to the span and nothing hangs.
//!
//! A failure prints its script; `PROPTEST_CASES` sets the number of cases.

use common::PATIENCE;
use otlp_collector::{Collector, Config, EndpointOptions, Span};
use proptest::prelude::*;

use common::any_script::any_script;
use common::script::ScriptedServer;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_span_has_an_outcome_with_any_server(
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
                let ledger = collector.flush(PATIENCE).expect("the flush ends");
                prop_assert_eq!(ledger.delivered() + ledger.rejected(), accepted);
            }
        }
        let ledger = collector.shutdown().unwrap();
        prop_assert_eq!(ledger.accepted, accepted);
        prop_assert_eq!(ledger.delivered() + ledger.rejected(), accepted, "{}", ledger);
        prop_assert_eq!(collector.stats().network.panics, 0);
    }
}
