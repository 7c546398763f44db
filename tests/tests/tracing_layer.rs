//! The layer for `tracing`: fields, events, options, filters.

use std::error::Error;
use std::fmt;

use common::start;
use otlp_collector::testing::{ReceivedEvent, ReceivedSpan, Receiver};
use otlp_collector::tracing::{OtlpLayer, layer};
use otlp_collector::{AnyValue, Collector, Config, SpanKind, Status};
use tracing::field::{Empty, debug, display};
use tracing::{Level, debug_span, error, error_span, event, info, info_span, span, warn};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Runs a program with the layer, and returns the spans in the order in which they ended.
fn spans_of(
    change: impl FnOnce(OtlpLayer) -> OtlpLayer,
    program: impl FnOnce(),
) -> Vec<ReceivedSpan> {
    let (receiver, collector) = start(|_| {});
    let subscriber = tracing_subscriber::registry().with(change(layer(&collector)));
    tracing::subscriber::with_default(subscriber, program);
    finish(&receiver, &collector)
}

fn finish(receiver: &Receiver, collector: &Collector) -> Vec<ReceivedSpan> {
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.refused.total(), 0);
    let mut spans = receiver.spans();
    assert_eq!(ledger.delivered(), spans.len() as u64);
    spans.sort_by_key(|span| span.end_time);
    spans
}

fn span_of(program: impl FnOnce()) -> ReceivedSpan {
    let [span] = <[_; 1]>::try_from(spans_of(|layer| layer, program)).unwrap();
    span
}

/// Returns all attributes as texts.
fn attributes(span: &ReceivedSpan) -> Vec<(String, AnyValue)> {
    let attributes = span.attributes.iter();
    attributes
        .map(|one| (one.key.to_string(), one.value.clone()))
        .collect()
}

fn event_attributes(event: &ReceivedEvent) -> Vec<(String, AnyValue)> {
    let attributes = event.attributes.iter();
    attributes
        .map(|one| (one.key.to_string(), one.value.clone()))
        .collect()
}

fn pair(key: &str, value: impl Into<AnyValue>) -> (String, AnyValue) {
    (key.to_owned(), value.into())
}

/// An error with a chain of sources.
#[derive(Debug)]
struct Failure(&'static str, Option<Box<Failure>>);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|source| source as _)
    }
}

fn failure() -> Failure {
    let root = Failure("connection reset", None);
    let middle = Failure("query failed", Some(Box::new(root)));
    Failure("no orders", Some(Box::new(middle)))
}

#[test]
fn fields_of_all_types_become_attributes() {
    let span = span_of(|| {
        let _span = info_span!(
            "all types",
            text = "value",
            int = -3_i64,
            small = 7_u8,
            large = u64::MAX,
            wide = i128::MAX,
            wide_small = 5_u128,
            truth = true,
            number = 2.5,
            shown = %Failure("shown", None),
            debugged = ?Some(1),
            bytes = &[1_u8, 2][..],
            empty = Empty,
            dotted.key = 1,
            r#type = "raw",
        );
    });
    let expected = [
        pair("text", "value"),
        pair("int", -3),
        pair("small", 7),
        pair("large", u64::MAX.to_string()),
        pair("wide", i128::MAX.to_string()),
        pair("wide_small", 5),
        pair("truth", true),
        pair("number", 2.5),
        pair("shown", "shown"),
        pair("debugged", "Some(1)"),
        pair("bytes", vec![1_u8, 2]),
        pair("dotted.key", 1),
        pair("type", "raw"),
    ];
    assert_eq!(attributes(&span), expected);
    assert_eq!((&*span.name, span.kind), ("all types", SpanKind::Internal));
    assert_eq!(span.dropped_attributes_count, 0);
}

#[test]
fn fields_that_are_recorded_later_replace_earlier_ones() {
    let span = span_of(|| {
        let span = info_span!(
            "later",
            a = 1,
            b = Empty,
            c = "before",
            d = Empty,
            e = Empty
        );
        span.record("b", 2.5).record("c", "after");
        span.record("d", debug(Some("text")));
        span.record("e", display(format_args!("{}", 7)));
        span.record("not a field", 3);
    });
    let mut found = attributes(&span);
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [
        pair("a", 1),
        pair("b", 2.5),
        pair("c", "after"),
        pair("d", r#"Some("text")"#),
        pair("e", "7"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn special_fields_set_name_kind_and_status() {
    let spans = spans_of(
        |layer| layer,
        || {
            let name = String::from("GET /orders/7");
            drop(info_span!(
                "static",
                otel.name = name,
                otel.kind = "SERVER",
                otel.status_code = "Error",
                otel.status_message = "why"
            ));
            // In the other order, by Display, and recorded later.
            let span = info_span!(
                "static",
                otel.status_description = "because",
                otel.status_code = %"ERROR",
                otel.kind = ?SpanKind::Client,
                otel.name = Empty,
            );
            span.record("otel.name", display("later"));
            drop(span);
            drop(info_span!(
                "ok",
                otel.status_code = "ok",
                otel.kind = "internal"
            ));
            drop(info_span!(
                "unknown",
                otel.status_code = "fine",
                otel.kind = "peer"
            ));
        },
    );
    let shown: Vec<_> = spans
        .iter()
        .map(|span| (&*span.name, span.kind, span.status.clone()))
        .collect();
    let error = |text: &str| Status::Error(text.to_owned().into());
    assert_eq!(
        shown,
        [
            ("GET /orders/7", SpanKind::Server, error("why")),
            ("later", SpanKind::Client, error("because")),
            ("ok", SpanKind::Internal, Status::Ok),
            ("unknown", SpanKind::Internal, Status::Unset),
        ]
    );
    assert!(spans[..3].iter().all(|span| span.attributes.is_empty()));
    let expected = [pair("otel.status_code", "fine"), pair("otel.kind", "peer")];
    assert_eq!(attributes(&spans[3]), expected);
}

#[test]
fn events_become_span_events_of_the_current_span() {
    let spans = spans_of(
        |layer| layer,
        || {
            info!("outside of spans");
            let outer = info_span!("outer").entered();
            info!("first");
            let inner = info_span!("inner");
            inner.in_scope(|| warn!(rows = 17, slow = true, name = %"n", "loaded {} rows", 17));
            event!(parent: &inner, Level::INFO, detail = ?(1, 2), "by parent");
            event!(parent: None, Level::INFO, "of no span");
            event!(name: "named", Level::DEBUG, a = "text");
            event!(Level::INFO, a = 1.5);
            drop(inner);
            outer.exit();
        },
    );
    let [inner, outer] = <[_; 2]>::try_from(spans).unwrap();
    let names = |span: &ReceivedSpan| -> Vec<_> {
        span.events
            .iter()
            .map(|event| event.name.to_string())
            .collect()
    };
    assert_eq!(names(&inner), ["loaded 17 rows", "by parent"]);
    let found = names(&outer);
    assert_eq!(found[..2], ["first", "named"]);
    assert!(found[2].starts_with("event tests/"), "{found:?}");
    let mut loaded = event_attributes(&inner.events[0]);
    loaded.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [
        pair("level", "WARN"),
        pair("name", "n"),
        pair("rows", 17),
        pair("slow", true),
    ];
    assert_eq!(loaded, expected);
    let expected = [pair("level", "INFO"), pair("detail", "(1, 2)")];
    assert_eq!(event_attributes(&inner.events[1]), expected);
    let times = inner.events.iter().map(|event| event.time);
    assert!(
        times
            .into_iter()
            .all(|time| (inner.start_time..=inner.end_time).contains(&time))
    );
}

#[test]
fn error_events_set_the_status() {
    let program = || {
        info_span!("warned").in_scope(|| warn!("not an error"));
        info_span!("message").in_scope(|| error!("failed: {}", 1));
        info_span!("field").in_scope(|| error!(error = %failure()));
        info_span!("ok", otel.status_code = "ok").in_scope(|| error!("failed"));
        let described = info_span!("described", otel.status_message = "first");
        described.in_scope(|| error!("second"));
    };
    let spans = spans_of(|layer| layer, program);
    let status: Vec<_> = spans.iter().map(|span| span.status.clone()).collect();
    let error = |text: &str| Status::Error(text.to_owned().into());
    let expected = [
        Status::Unset,
        error(""),
        error("no orders"),
        Status::Ok,
        error("first"),
    ];
    assert_eq!(status, expected);

    let spans = spans_of(|layer| layer.with_error_events_to_status(false), program);
    let mut status = spans.iter().map(|span| span.status.clone());
    assert_eq!(status.nth(2), Some(Status::Unset));
}

#[test]
fn errors_become_exceptions_with_their_chain() {
    #[tracing::instrument(err)]
    fn load() -> Result<(), Failure> {
        Err(failure())
    }
    let chain = AnyValue::Array(vec!["query failed".into(), "connection reset".into()]);
    let program = || {
        let _ = load();
        info_span!("value").in_scope(|| {
            let failure = failure();
            info!(error = &failure as &dyn Error);
            info!(cause = &failure as &dyn Error, "with a message");
            info!(cause = &Failure("alone", None) as &dyn Error, "no chain");
        });
        let failure = failure();
        let span = info_span!("span", cause = &failure as &dyn Error, again = Empty);
        span.record("again", &failure as &dyn Error);
    };
    let spans = spans_of(|layer| layer.with_event_level(false), program);
    let [loaded, value, span] = <[_; 3]>::try_from(spans).unwrap();
    assert_eq!(loaded.events[0].name, "exception");
    assert_eq!(
        event_attributes(&loaded.events[0]),
        [pair("exception.message", "no orders")]
    );
    assert_eq!(loaded.status, Status::Error("no orders".into()));
    let [first, second, third] = &value.events[..] else {
        panic!("{:?}", value.events)
    };
    assert_eq!(
        (&*first.name, &*second.name),
        ("exception", "with a message")
    );
    let expected = [
        pair("exception.message", "no orders"),
        pair("error.chain", chain.clone()),
    ];
    assert_eq!(event_attributes(first), expected);
    let expected = [
        pair("cause", "no orders"),
        pair("exception.message", "no orders"),
        pair("cause.chain", chain.clone()),
    ];
    assert_eq!(event_attributes(second), expected);
    assert_eq!(event_attributes(third)[0], pair("cause", "alone"));
    assert_eq!(third.attributes.len(), 2);
    let expected = [
        pair("cause", "no orders"),
        pair("cause.chain", chain.clone()),
        pair("again", "no orders"),
        pair("again.chain", chain),
    ];
    assert_eq!(attributes(&span), expected);

    let plain = |layer: OtlpLayer| {
        let layer = layer
            .with_event_level(false)
            .with_error_events_to_exceptions(false);
        layer
            .with_error_fields_to_exceptions(false)
            .with_error_records_to_exceptions(true)
    };
    let spans = spans_of(plain, program);
    let [loaded, value, span] = <[_; 3]>::try_from(spans).unwrap();
    assert_eq!(
        event_attributes(&loaded.events[0]),
        [pair("error", "no orders")]
    );
    assert!(loaded.events[0].name.starts_with("event "));
    assert_eq!(event_attributes(&value.events[2]), [pair("cause", "alone")]);
    assert_eq!(value.attribute("exception.message"), Some("alone".into()));
    assert_eq!(
        span.attribute("exception.message"),
        Some("no orders".into())
    );
}

#[test]
fn options_add_constants() {
    let options = |layer: OtlpLayer| {
        let layer = layer
            .with_location(true)
            .with_threads(true)
            .with_target(true);
        layer.with_level(true).with_tracked_inactivity(true)
    };
    let work = || {
        std::thread::Builder::new()
            .name("worker".to_owned())
            .spawn({
                let dispatch = tracing::dispatcher::get_default(Clone::clone);
                move || {
                    let _default = tracing::dispatcher::set_default(&dispatch);
                    let span = info_span!(target: "shop", "with all", field = 1).entered();
                    info!(target: "shop::db", field = 2, "event");
                    span.exit();
                }
            })
            .unwrap()
            .join()
            .unwrap();
    };
    let [span] = <[_; 1]>::try_from(spans_of(options, work)).unwrap();
    let text = |key: &str| span.attribute(key);
    assert_eq!(
        text("code.file.path"),
        Some("tests/tests/tracing_layer.rs".into())
    );
    assert_eq!(text("code.module.name"), Some("tracing_layer".into()));
    assert!(matches!(text("code.line.number"), Some(AnyValue::Int(line)) if line > 1));
    assert_eq!(
        (text("target"), text("level")),
        (Some("shop".into()), Some("INFO".into()))
    );
    assert_eq!(text("thread.name"), Some("worker".into()));
    assert!(matches!(text("thread.id"), Some(AnyValue::Int(id)) if id > 1));
    let time = |key: &str| match text(key) {
        Some(AnyValue::Int(nanos)) => nanos as u64,
        other => panic!("{key}: {other:?}"),
    };
    let duration = span.end_time - span.start_time;
    assert!(time("busy_ns") > 0 && time("busy_ns") + time("idle_ns") <= duration);
    assert_eq!(text("field"), Some(1.into()));
    let keys: Vec<_> = event_attributes(&span.events[0])
        .into_iter()
        .map(|one| one.0)
        .collect();
    let expected = [
        "level",
        "target",
        "code.file.path",
        "code.line.number",
        "code.module.name",
        "field",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn a_span_ends_when_it_is_closed_or_with_its_last_exit() {
    let program = || {
        let parent = info_span!("parent");
        let child = parent.in_scope(|| info_span!("child"));
        let never = info_span!("never entered");
        drop(parent);
        info_span!("between").in_scope(|| {});
        drop(child);
        drop(never);
    };
    let end = |spans: &[ReceivedSpan], name: &str| {
        let span = spans.iter().find(|span| span.name == name).unwrap();
        span.end_time
    };
    let spans = spans_of(|layer| layer, program);
    // A registry keeps the parent until its child is closed.
    assert!(end(&spans, "parent") >= end(&spans, "child"));
    let spans = spans_of(|layer| layer.with_end_at_last_exit(true), program);
    assert!(end(&spans, "parent") <= end(&spans, "between"));
    assert!(end(&spans, "never entered") >= end(&spans, "child"));
    assert!(spans.iter().all(|span| span.attributes.is_empty()));
}

#[test]
fn a_field_replaces_a_constant_with_its_key() {
    let options = |layer: OtlpLayer| layer.with_level(true).with_target(true);
    let spans = spans_of(options, || {
        info_span!("own", level = "mine", target = 5).in_scope(|| info!(level = 3, "event"));
    });
    assert_eq!(
        attributes(&spans[0]),
        [pair("level", "mine"), pair("target", 5)]
    );
    let attributes = event_attributes(&spans[0].events[0]);
    assert_eq!(attributes[1], pair("level", 3));
    assert_eq!(attributes.len(), 2);
}

#[test]
fn span_limits_apply_to_fields_constants_and_events() {
    let (receiver, collector) = start(|config| {
        config.span_limits.attribute_count = 2;
        config.span_limits.attribute_value_length = Some(5);
        config.span_limits.event_count = 2;
        config.span_limits.event_attribute_count = 1;
    });
    let layer = layer(&collector).with_target(true).with_event_level(false);
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let span = info_span!("limited", a = "long text", b = %"another text", c = 3).entered();
        (0..100).for_each(|number| info!(number, more = 1, "event"));
        error!("one more");
        drop(span);
    });
    let [span] = <[_; 1]>::try_from(finish(&receiver, &collector)).unwrap();
    assert_eq!(
        attributes(&span),
        [pair("target", "traci"), pair("a", "long ")]
    );
    assert_eq!(span.dropped_attributes_count, 2);
    assert_eq!((span.events.len(), span.dropped_events_count), (2, 99));
    assert_eq!(span.status, Status::Error("".into()));
    let event = &span.events[0];
    assert_eq!(
        (event.attributes.len(), event.dropped_attributes_count),
        (1, 2)
    );
}

#[test]
fn per_layer_and_global_filters_apply() {
    let (receiver, collector) = start(|_| {});
    let only = Targets::new().with_target("seen", LevelFilter::INFO);
    let fmt = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    let subscriber = tracing_subscriber::registry()
        .with(EnvFilter::new("trace,never=off"))
        .with(layer(&collector).with_filter(only))
        .with(fmt);
    tracing::subscriber::with_default(subscriber, || {
        let outer = info_span!(target: "seen", "outer").entered();
        let hidden = info_span!(target: "hidden", "hidden").entered();
        // Below the innermost span that the layer sees.
        let inner = info_span!(target: "seen", "inner", later = Empty).entered();
        inner.record("later", 1);
        info!(target: "hidden", "hidden");
        info!(target: "seen", "seen");
        drop(debug_span!(target: "seen", "too detailed").entered());
        drop(error_span!(target: "never", "off").entered());
        inner.exit();
        // Of a parent that was filtered out.
        drop(info_span!(target: "seen", parent: &hidden, "root"));
        hidden.exit();
        info!(target: "seen", "in outer");
        outer.exit();
    });
    let spans = finish(&receiver, &collector);
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["inner", "root", "outer"]);
    assert_eq!(spans[0].parent_span_id, Some(spans[2].span_id));
    assert_eq!(spans[1].parent_span_id, None);
    assert_eq!(spans[0].attribute("later"), Some(1.into()));
    assert_eq!((spans[0].events.len(), spans[2].events.len()), (1, 1));
}

#[test]
fn parents_and_links_are_those_of_tracing() {
    let spans = spans_of(
        |layer| layer,
        || {
            let a = info_span!("a");
            let b = info_span!(parent: &a, "b");
            let _a = a.enter();
            let c = info_span!("c");
            let d = info_span!(parent: None, "d");
            d.follows_from(&b);
            d.follows_from(&c);
            // Entered twice, and exited in another order.
            let (first, second) = (c.enter(), c.clone().entered());
            let e = info_span!("e").entered();
            drop(first);
            drop(info_span!("f"));
            drop(second);
            drop(info_span!("g"));
            drop(e);
            drop(info_span!("h"));
        },
    );
    let span = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let parents = [
        ("a", ""),
        ("b", "a"),
        ("c", "a"),
        ("d", ""),
        ("e", "c"),
        ("f", "e"),
        ("g", "e"),
        ("h", "a"),
    ];
    assert_eq!(spans.len(), parents.len());
    for (name, parent) in parents {
        let expected = (!parent.is_empty()).then(|| span(parent).span_id);
        assert_eq!(span(name).parent_span_id, expected, "{name}");
    }
    let links: Vec<_> = span("d").links.iter().map(|link| link.span_id).collect();
    assert_eq!(links, [span("b").span_id, span("c").span_id]);
}

#[test]
fn layers_of_two_collectors_do_not_mix() {
    let (first_receiver, first) = start(|_| {});
    let (second_receiver, second) = start(|_| {});
    let subscriber = tracing_subscriber::registry()
        .with(layer(&first))
        .with(layer(&second).with_filter(LevelFilter::WARN));
    tracing::subscriber::with_default(subscriber, || {
        let outer = span!(Level::WARN, "outer").entered();
        let middle = span!(Level::INFO, "middle").entered();
        span!(Level::WARN, "inner").in_scope(|| warn!("event"));
        drop((middle, outer));
    });
    let first = finish(&first_receiver, &first);
    let second = finish(&second_receiver, &second);
    assert_eq!((first.len(), second.len()), (3, 2));
    assert_eq!(first[0].parent_span_id, Some(first[1].span_id));
    assert_eq!(first[1].parent_span_id, Some(first[2].span_id));
    assert_eq!(second[0].parent_span_id, Some(second[1].span_id));
    assert_ne!(first[0].trace_id, second[0].trace_id);
    assert_eq!((first[0].events.len(), second[0].events.len()), (1, 1));
}

#[test]
fn a_layer_is_inert_without_its_collector() {
    let (receiver, collector) = start(|_| {});
    let disabled = Collector::new(Config {
        disabled: true,
        ..Config::default()
    })
    .unwrap();
    let subscriber = tracing_subscriber::registry()
        .with(layer(&collector))
        .with(layer(&disabled).with_location(true));
    tracing::subscriber::with_default(subscriber, || {
        let open = info_span!("open").entered();
        drop(info_span!("before"));
        let spans = finish(&receiver, &collector);
        assert_eq!((spans.len(), &*spans[0].name), (1, "before"));
        drop(collector);
        info!("nowhere");
        drop(open);
        info_span!("after", later = Empty).in_scope(|| info!("nowhere"));
        // One with the same options, which uses the same memory.
        let (receiver, other) = start(|_| {});
        drop(info_span!("still nowhere").entered());
        assert!(finish(&receiver, &other).is_empty());
    });
}

#[test]
fn a_panic_marks_the_spans_that_it_closes() {
    let spans = spans_of(
        |layer| layer,
        || {
            #[tracing::instrument]
            fn fails() {
                panic!("as expected");
            }
            std::panic::catch_unwind(fails).unwrap_err();
            drop(info_span!("after"));
        },
    );
    assert_eq!(spans[0].status, Status::Error("panicked".into()));
    assert_eq!(
        (&*spans[1].name, &spans[1].parent_span_id),
        ("after", &None)
    );
    assert_eq!(spans[1].status, Status::Unset);
}
