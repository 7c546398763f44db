//! Several instrumentation scopes in one collector.

use std::collections::BTreeMap;
use std::thread;

use common::{config, span_id, trace_id};
use otlp_collector::span::InstrumentationScope;
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, EndpointOptions, KeyValue, Refused, Span, SpanRef};

/// Returns the number of spans that arrived, by scope and name.
fn arrived(receiver: &Receiver) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for span in receiver.spans() {
        let of = (span.scope.name.clone(), span.name);
        *counts.entry(of).or_default() += 1;
    }
    counts
}

#[test]
fn spans_arrive_in_their_scopes_from_every_way_to_record() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let scopes: Vec<_> = (0..5)
        .map(|number| {
            let scope = InstrumentationScope::new(format!("scope {number}"));
            collector.register_scope(scope).unwrap()
        })
        .collect();
    let recorder = collector.recorder().unwrap();
    for _ in 0..100 {
        for scope in &scopes {
            let name = scope.definition().name.clone();
            let in_scope = recorder.with_scope(scope).unwrap();
            let open = in_scope.start(&name);
            in_scope
                .record(&SpanRef::new(trace_id(1), span_id(1), &name))
                .unwrap();
            let moved = in_scope.start_child(&open, &name);
            let mut span = Span::new(name);
            span.scope = Some(scope.clone());
            collector
                .collect(Span::child_of(&span, span.name.clone()))
                .unwrap();
            thread::scope(|threads| {
                threads.spawn(|| drop(moved));
            });
        }
        recorder.start("own").try_end().unwrap();
    }
    let ledger = collector.shutdown().unwrap();
    assert_eq!((ledger.accepted, ledger.delivered()), (2100, 2100));
    let arrived = arrived(&receiver);
    assert_eq!(arrived.len(), 6);
    for ((scope, name), count) in arrived {
        if scope == "otlp-collector" {
            assert_eq!((&*name, count), ("own", 100));
        } else {
            assert_eq!((&name, count), (&scope, 400));
        }
    }
}

#[test]
fn request_sizes_include_the_scopes() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        slab_bytes: 4096,
        endpoint_options: EndpointOptions {
            request_bytes_max: 6 * 1024,
            ..EndpointOptions::default()
        },
        ..config(&receiver)
    })
    .unwrap();
    let recorder = collector.recorder().unwrap();
    let scopes: Vec<_> = (0..8)
        .map(|number| InstrumentationScope {
            version: "v".repeat(1000),
            ..InstrumentationScope::new(number.to_string())
        })
        .map(|scope| collector.register_scope(scope).unwrap())
        .collect();
    for _ in 0..50 {
        for scope in &scopes {
            recorder
                .with_scope(scope)
                .unwrap()
                .start("span")
                .try_end()
                .unwrap();
        }
    }
    assert_eq!(collector.shutdown().unwrap().delivered(), 400);
    assert!(receiver.counts().body_bytes_max <= 6 * 1024);
    let error = collector
        .register_scope(InstrumentationScope::new("x".repeat(5000)))
        .unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("request_bytes_max"),
        "{error}"
    );
}

#[test]
fn scopes_and_resources_with_all_fields_arrive() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        service_name: "checkout".to_string(),
        resource_attributes: vec![
            KeyValue::new("deployment.environment.name", "test"),
            KeyValue::new("host.name", "mine"),
            KeyValue::new("host.name", "mine after all"),
        ],
        resource_schema_url: "https://opentelemetry.io/schemas/1.37.0".to_string(),
        ..config(&receiver)
    })
    .unwrap();
    let scope = InstrumentationScope {
        version: "2".to_string(),
        attributes: vec![KeyValue::new("twice", 1), KeyValue::new("twice", 2)],
        schema_url: "https://example.com/schema".to_string(),
        ..InstrumentationScope::new("scope")
    };
    let mut span = Span::new("span");
    span.scope = Some(collector.register_scope(scope).unwrap());
    collector.collect(span).unwrap();
    collector.shutdown().unwrap();

    let span = receiver.span("span");
    let resource = &span.resource;
    assert_eq!(
        resource.schema_url,
        "https://opentelemetry.io/schemas/1.37.0"
    );
    let attributes = &resource.attributes;
    let mut keys: Vec<_> = attributes.iter().map(|attribute| &*attribute.key).collect();
    keys.sort_unstable();
    let mut different = keys.clone();
    different.dedup();
    assert_eq!(keys, different);
    for key in [
        "service.name",
        "telemetry.sdk.name",
        "process.pid",
        "os.type",
        "host.name",
    ] {
        assert!(keys.contains(&key), "{key} of {keys:?}");
    }
    let host = attributes
        .iter()
        .find(|attribute| attribute.key == "host.name")
        .unwrap();
    assert!(format!("{host:?}").contains("mine after all"));

    let scope = &span.scope;
    assert_eq!(scope.schema_url, "https://example.com/schema");
    assert_eq!(
        (&*scope.name, &*scope.version, scope.attributes.len()),
        ("scope", "2", 1)
    );
}

#[test]
fn a_scope_of_another_collector_is_refused() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let other = Collector::new(config(&receiver)).unwrap();
    let foreign = other
        .register_scope(InstrumentationScope::new("foreign"))
        .unwrap();
    collector
        .register_scope(InstrumentationScope::new("own"))
        .unwrap();
    let mut span = Span::new("span");
    span.scope = Some(foreign.clone());
    assert_eq!(collector.collect(span), Err(Refused::UnknownScope));
    assert!(
        collector
            .recorder()
            .unwrap()
            .with_scope(&foreign)
            .unwrap_err()
            .is_config()
    );
    let ledger = collector.shutdown().unwrap();
    assert_eq!((ledger.accepted, ledger.refused.unknown_scope), (0, 1));
}

#[test]
fn scopes_of_a_recorder_count_as_recorders() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        recorders_max: 2,
        ..config(&receiver)
    })
    .unwrap();
    let scope =
        |number: usize| collector.register_scope(InstrumentationScope::new(number.to_string()));
    let scopes: Vec<_> = (0..256).map(|number| scope(number).unwrap()).collect();
    assert!(scope(256).unwrap_err().is_resources());
    let recorder = collector.recorder().unwrap();
    let mut scoped = scopes.iter().map(|scope| recorder.with_scope(scope));
    let error = scoped.find_map(Result::err).expect("a limit");
    assert!(
        error.is_resources() && error.to_string().contains("recorders_max"),
        "{error}"
    );
    recorder.start("still works").try_end().unwrap();
    assert_eq!(collector.shutdown().unwrap().delivered(), 1);
}

#[test]
fn a_span_that_ends_where_its_scope_has_no_slab_arrives_in_its_scope() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        recorders_max: 2,
        ..config(&receiver)
    })
    .unwrap();
    let scope = collector
        .register_scope(InstrumentationScope::new("a"))
        .unwrap();
    let start = || {
        let recorder = collector.recorder().unwrap();
        recorder.with_scope(&scope).unwrap().start("in a")
    };
    let span = thread::scope(|threads| threads.spawn(start).join().unwrap());
    // One slab each, and so none for a scope.
    let recorder = collector.recorder().unwrap();
    let start_other = || {
        let _other = collector.recorder().unwrap();
        assert!(recorder_is_refused(&collector));
        span.try_end().unwrap();
    };
    thread::scope(|threads| threads.spawn(start_other).join().unwrap());
    drop(recorder);
    assert_eq!(collector.shutdown().unwrap().delivered(), 1);
    let expected = ("a".to_string(), "in a".to_string());
    assert_eq!(arrived(&receiver), BTreeMap::from([(expected, 1)]));
}

/// Returns whether a further thread gets no recorder.
fn recorder_is_refused(collector: &Collector) -> bool {
    let is_refused = || collector.recorder().is_err();
    thread::scope(|threads| threads.spawn(is_refused).join().unwrap())
}

#[test]
fn short_lived_threads_and_scopes_do_not_use_up_recorders() {
    let receiver = Receiver::start_counting().unwrap();
    let collector = Collector::new(Config {
        recorders_max: 2,
        ..config(&receiver)
    })
    .unwrap();
    let scope =
        |number: usize| collector.register_scope(InstrumentationScope::new(number.to_string()));
    let scopes: Vec<_> = (0..100).map(|number| scope(number).unwrap()).collect();
    for _ in 0..50 {
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for scope in &scopes {
                    let mut span = Span::new("span");
                    span.scope = Some(scope.clone());
                    collector.collect(span).unwrap();
                }
                collector.collect(Span::new("own scope")).unwrap();
            });
        });
        collector.flush(std::time::Duration::from_secs(10)).unwrap();
    }
    let recorder = collector.recorder().unwrap();
    thread::scope(|threads| {
        threads.spawn(|| {
            let _other = collector.recorder().unwrap();
            assert!(recorder_is_refused(&collector));
        });
    });
    recorder.start("own").try_end().unwrap();
    assert_eq!(collector.shutdown().unwrap().delivered(), 50 * 101 + 1);
}

#[test]
fn many_scopes_from_many_threads_share_slabs() {
    let receiver = Receiver::start_counting().unwrap();
    receiver.close();
    let collector = Collector::new(Config {
        shutdown_timeout_ms: 0,
        ..config(&receiver)
    })
    .unwrap();
    let scope =
        |number: usize| collector.register_scope(InstrumentationScope::new(number.to_string()));
    let scopes: Vec<_> = (0..256).map(|number| scope(number).unwrap()).collect();
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for number in 0..6_000 {
                    let mut span = Span::new("span");
                    span.scope = Some(scopes[number * 7 % scopes.len()].clone());
                    collector.collect(span).unwrap();
                }
            });
        }
    });
    assert_eq!(collector.ledger().accepted, 48_000);
}
