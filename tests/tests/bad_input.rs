//! Invalid input is an error at start or a counted refusal, and affects no other span.

use std::thread;

use common::{PATIENCE, trace_id};
use otlp_collector::span::InstrumentationScope;
use otlp_collector::testing::Receiver;
use otlp_collector::{
    AnyValue, Collector, Config, EndpointOptions, KeyValue, Refused, Span, SpanRef,
};

/// Returns the message of the error that `Collector::new` returns for this configuration.
fn config_error(config: Config) -> String {
    let error = Collector::new(config).unwrap_err();
    assert!(error.is_config(), "{error}");
    error.to_string()
}

#[test]
fn an_endpoint_that_is_not_a_url_is_an_error() {
    for endpoint in [
        "",
        "localhost:4318",
        "http://",
        "http://h:port",
        "h h",
        "ftp://h",
    ] {
        let message = config_error(Config {
            endpoint: endpoint.to_string(),
            ..Config::default()
        });
        assert!(message.contains(&format!("{endpoint:?}")), "{message}");
    }
}

#[test]
fn invalid_sizes_are_errors() {
    let sizes = [
        Config {
            batch_size: 0,
            ..Config::default()
        },
        Config {
            buffer_capacity: 0,
            ..Config::default()
        },
        Config {
            slab_bytes: 0,
            ..Config::default()
        },
        Config {
            endpoint_options: EndpointOptions {
                request_bytes_max: 0,
                ..EndpointOptions::default()
            },
            ..Config::default()
        },
        Config {
            endpoint_options: EndpointOptions {
                request_bytes_max: (64 << 20) + 1,
                ..EndpointOptions::default()
            },
            ..Config::default()
        },
        Config {
            recorders_max: 0,
            ..Config::default()
        },
        Config {
            batch_timeout_ms: 0,
            ..Config::default()
        },
        Config {
            batch_size: 1001,
            buffer_capacity: 1000,
            ..Config::default()
        },
    ];
    for config in sizes {
        let message = config_error(config);
        assert!(
            ["is 0", "is 1001", "is 67108865"]
                .iter()
                .any(|value| message.contains(value)),
            "{message}"
        );
    }
}

#[test]
fn spans_that_cannot_be_sent_are_refused_and_counted() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        ..Config::default()
    })
    .unwrap();
    collector.collect(Span::new("first")).unwrap();

    let mut large = Span::new("large");
    large.attributes = vec![KeyValue::new("text", "x".repeat(64 * 1024))];
    let refused = collector.collect(large).unwrap_err();
    let Refused::TooLarge { bytes, bytes_max } = refused else {
        panic!("{refused}")
    };
    assert!(bytes > bytes_max && bytes_max == 64 * 1024 - 128);

    collector.collect(Span::new("last")).unwrap();
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!((ledger.accepted, ledger.delivered()), (2, 2));
    assert_eq!((ledger.refused.too_large, ledger.refused.total()), (1, 1));
    let names: Vec<_> = receiver.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["first", "last"]);
}

#[test]
fn the_largest_span_that_fits_arrives() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        slab_bytes: 4096,
        ..Config::default()
    })
    .unwrap();
    let recorder = collector.recorder().unwrap();
    let mut accepted = 0;
    // All sizes around the limit, between small spans that share slabs with them.
    for len in 3_880..3_980 {
        let name = "x".repeat(len);
        for name in ["small", &name] {
            let span = SpanRef::new(trace_id(1), recorder.new_span_id(), name);
            accepted += usize::from(recorder.record(&span).is_ok());
        }
    }
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), accepted as u64);
    assert_eq!(ledger.refused.total(), ledger.refused.too_large);
    let longest = receiver.spans().iter().map(|span| span.name.len()).max();
    // 3,968 bytes minus ids, kind, and their tags and lengths.
    assert_eq!(longest, Some(3_968 - 33 - 3));
}

#[test]
fn more_recorders_than_configured_is_an_error() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        recorders_max: 2,
        ..Config::default()
    })
    .unwrap();
    let first = collector.recorder().unwrap();
    // A thread has one only.
    let _same = collector.recorder().unwrap();
    let second = || {
        let _second = collector.recorder().unwrap();
        let third = || collector.recorder().unwrap_err();
        thread::scope(|threads| threads.spawn(third).join().unwrap())
    };
    let error = thread::scope(|threads| threads.spawn(second).join().unwrap());
    assert!(error.is_resources());
    assert_eq!(
        error.to_string(),
        "all 2 recorders are in use, including one for each further scope of a recorder; raise \
         recorders_max"
    );
    drop(first);
    let again = || drop(collector.recorder().unwrap());
    thread::scope(|threads| threads.spawn(again).join().unwrap());
    // Shared recorders for `collect` do not count.
    collector.collect(Span::new("span")).unwrap();
}

#[test]
fn resource_attributes_that_receivers_could_not_decode_are_errors() {
    let nested = |levels: u32| {
        let list = |inner, _| AnyValue::KeyValueList(vec![KeyValue::new("inner", inner)]);
        vec![KeyValue::new(
            "nested",
            (0..levels).fold(AnyValue::Int(1), list),
        )]
    };
    let with = |levels| Config {
        endpoint: "http://127.0.0.1:9".to_string(),
        shutdown_timeout_ms: 0,
        resource_attributes: nested(levels),
        ..Config::default()
    };
    let collector = Collector::new(with(30)).unwrap();
    let error = Collector::new(with(31)).unwrap_err().to_string();
    let expected = "resource_attributes nests the value of \"nested\" deeper than receivers read; \
                    use at most 45 arrays or 30 key-value lists";
    assert_eq!(error, expected);
    let scope = |levels| InstrumentationScope {
        attributes: nested(levels),
        ..InstrumentationScope::new("scope")
    };
    assert!(collector.register_scope(scope(30)).is_ok());
    assert!(collector.register_scope(scope(31)).unwrap_err().is_config());
}
