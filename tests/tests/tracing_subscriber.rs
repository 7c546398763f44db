//! The subscriber for `tracing` without a registry.

use std::collections::HashMap;
use std::sync::{Arc, Barrier};
use std::thread;

use common::start;
use otlp_collector::testing::{ReceivedSpan, Receiver};
use otlp_collector::tracing::{OtlpSubscriber, SpanExt, subscriber};
use otlp_collector::{Collector, Config, Overflow, SpanContext, current, span};
use tracing::{Dispatch, Level, Span, debug_span, error, info, info_span, warn_span};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::prelude::*;

fn spans_of(
    change: impl FnOnce(OtlpSubscriber) -> OtlpSubscriber,
    program: impl FnOnce(),
) -> HashMap<String, ReceivedSpan> {
    let (receiver, collector) = start(|_| {});
    let installed = collector.install_for_thread();
    tracing::subscriber::with_default(change(subscriber(&collector)), program);
    drop(installed);
    finish(&receiver, &collector)
}

fn finish(receiver: &Receiver, collector: &Collector) -> HashMap<String, ReceivedSpan> {
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.refused.total(), 0);
    let spans = receiver.spans();
    let by_name = spans.into_iter().map(|span| (span.name.clone(), span));
    by_name.collect()
}

/// Asserts the parent of each span; "" for a root.
fn assert_parents(spans: &HashMap<String, ReceivedSpan>, parents: &[(&str, &str)]) {
    assert_eq!(spans.len(), parents.len(), "{:?}", spans.keys());
    for (name, parent) in parents {
        let expected = (!parent.is_empty()).then(|| spans[*parent].span_id);
        assert_eq!(spans[*name].parent_span_id, expected, "{name}");
    }
}

#[test]
fn spans_nest_and_have_fields_and_events() {
    let caller = [(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )];
    let caller = SpanContext::extract(caller).unwrap();
    let spans = spans_of(
        |subscriber| subscriber.with_target(true),
        || {
            let a = info_span!("a", later = tracing::field::Empty, otel.kind = "server");
            assert!(a.set_parent(&caller));
            let entered = a.enter();
            Span::current().record("later", 5);
            let b = span!("b").entered();
            assert_eq!(Span::current().id(), a.id());
            info!("in b");
            let c = info_span!("c");
            drop(b);
            error!(parent: &c, "failed");
            c.follows_from(&a);
            assert_eq!(Span::current().context(), current().context());
            drop(info_span!(parent: &c, "d"));
            drop(entered);
            assert!(Span::current().is_none());
            drop(info_span!("e"));
        },
    );
    let ids: Vec<_> = ["b", "c", "d", "e"]
        .map(|name| spans[name].parent_span_id)
        .into();
    let parents = [
        Some(spans["a"].span_id),
        Some(spans["b"].span_id),
        Some(spans["c"].span_id),
    ];
    assert_eq!((&ids[..3], ids[3]), (&parents[..], None));
    assert_eq!(spans["a"].trace_id, caller.trace_id);
    assert_eq!(spans["a"].attribute("later"), Some(5.into()));
    assert_eq!(
        spans["a"].attribute("target"),
        Some("tracing_subscriber".into())
    );
    assert_eq!((spans["b"].events.len(), spans["c"].events.len()), (1, 1));
    assert_eq!(spans["c"].links[0].span_id, spans["a"].span_id);
}

#[test]
fn a_span_ends_with_its_last_handle_and_not_with_its_children() {
    let spans = spans_of(
        |subscriber| subscriber,
        || {
            let parent = info_span!("parent");
            let other = parent.clone();
            let child = parent.in_scope(|| info_span!("child"));
            drop(parent);
            drop(info_span!("between"));
            let parent_id = other.id();
            drop(other);
            drop(child);
            // Its parent is closed, so there is none.
            drop(info_span!(parent: parent_id, "late"));
        },
    );
    assert_parents(
        &spans,
        &[
            ("parent", ""),
            ("child", "parent"),
            ("between", ""),
            ("late", ""),
        ],
    );
    let end = |name: &str| spans[name].end_time;
    assert!(end("between") <= end("parent") && end("parent") <= end("child"));
}

#[test]
fn filters_for_all_spans_work() {
    let (receiver, collector) = start(|_| {});
    let filter = EnvFilter::new("off,[request{size=3}]=debug");
    let filtered = subscriber(&collector).with(filter).with(LevelFilter::DEBUG);
    tracing::subscriber::with_default(filtered, || {
        info_span!("request", size = 3).in_scope(|| {
            debug_span!("seen").in_scope(|| info!("event"));
            drop(tracing::trace_span!("too detailed"));
        });
        info_span!("request", size = 4).in_scope(|| drop(info_span!("not seen")));
    });
    collector.shutdown().unwrap();
    let request = receiver
        .spans()
        .into_iter()
        .find(|span| span.attribute("size") == Some(3.into()));
    let spans = finish(&receiver, &collector);
    assert_eq!(
        spans["seen"].parent_span_id,
        request.map(|span| span.span_id)
    );
    assert_eq!(spans["seen"].events.len(), 1);
    assert!(!spans.contains_key("too detailed") && !spans.contains_key("not seen"));

    let spans = spans_of(
        |subscriber| subscriber.with_max_level(Level::WARN),
        || {
            assert!(info_span!("hidden").is_disabled());
            warn_span!("seen").in_scope(|| info!("hidden"));
        },
    );
    assert_eq!(spans["seen"].events.len(), 0);
    assert_eq!(spans.len(), 1);
}

#[test]
fn without_a_collector_all_is_disabled() {
    let disabled = Collector::new(Config {
        disabled: true,
        ..Config::default()
    })
    .unwrap();
    tracing::subscriber::with_default(subscriber(&disabled).with_location(true), || {
        assert!(info_span!("none").is_disabled());
    });
    let (receiver, collector) = start(|_| {});
    tracing::subscriber::with_default(subscriber(&collector), || {
        let open = info_span!("open").entered();
        assert!(finish(&receiver, &collector).is_empty());
        drop(collector);
        let after = info_span!("after", later = 1).entered();
        after.record("later", 2);
        info!("nowhere");
        drop((after.clone(), after, open));
    });
}

#[test]
fn five_thousand_threads_have_a_span_each() {
    const THREADS: usize = 5_000;
    let receiver = Receiver::start_counting().unwrap();
    let collector = Collector::new(Config {
        recorders_max: 6_000,
        // Their first spans are all written by a few shared recorders.
        overflow: Overflow::Block { timeout_ms: 60_000 },
        ..common::config(&receiver)
    })
    .unwrap();
    let dispatch = Dispatch::new(subscriber(&collector));
    let all_are_open = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let (dispatch, all_are_open) = (dispatch.clone(), Arc::clone(&all_are_open));
            let work = move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    let _span = info_span!("one of many", number).entered();
                    all_are_open.wait();
                });
            };
            thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(work)
                .unwrap()
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.delivered(), THREADS as u64, "{ledger}");
}
