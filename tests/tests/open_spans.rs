//! Spans between their start and their end.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_collector::span::{
    AnyValueRef, EventRef, GenerateIds, IdGenerator, KeyValueRef, LinkRef, SamplingInput,
    SpanLimits, StatusRef, TraceFlags,
};
use otlp_collector::testing::{ReceivedSpan, Receiver};
use otlp_collector::{
    AnyValue, Collector, OpenSpan, Refused, SpanContext, SpanId, SpanKind, Status, TraceId, key,
    name, unix_nanos,
};
use proptest::prelude::*;
use prost::Message;

use common::{span_id, start, trace_id};

/// Shuts down and returns the spans that arrived, sorted by name.
fn finish(receiver: &Receiver, collector: &Collector) -> Vec<ReceivedSpan> {
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.refused.total(), 0);
    let mut spans = receiver.spans();
    assert_eq!(ledger.delivered(), spans.len() as u64);
    spans.sort_by(|one, other| one.name.cmp(&other.name));
    spans
}

fn text(value: &str) -> Option<AnyValue> {
    Some(value.to_string().into())
}

fn int(value: i64) -> Option<AnyValue> {
    Some(value.into())
}

#[test]
fn parents_children_and_siblings_end_in_any_order() {
    let (receiver, collector) = start(|_| {});
    let recorder = collector.recorder().unwrap();
    let mut a = recorder.start("a");
    let b = recorder.start_child(&a, "b");
    let mut c = recorder.start_child(&b, "c");
    let other = recorder.start("other");
    let d = recorder.start_child(&a, "d");
    c.set_attribute("of", "c");
    a.set_attribute("of", "a");
    b.try_end().unwrap();
    a.try_end().unwrap();
    drop(other);
    c.set_attribute("late", true);
    drop(c);
    drop(d);

    let spans = finish(&receiver, &collector);
    let [a, b, c, d, other] = &spans[..] else {
        panic!("expected five spans");
    };
    assert_eq!([a.parent_span_id, other.parent_span_id], [None; 2]);
    assert_eq!(
        (b.parent_span_id, c.parent_span_id),
        (Some(a.span_id), Some(b.span_id))
    );
    assert_eq!(d.parent_span_id, Some(a.span_id));
    assert!([b, c, d].iter().all(|span| span.trace_id == a.trace_id));
    assert_ne!(other.trace_id, a.trace_id);
    assert_eq!(a.attribute("of"), text("a"));
    assert_eq!(c.attribute("of"), text("c"));
    assert_eq!(c.attributes.len(), 2);
    for span in &spans {
        assert!(0 < span.start_time);
        assert!(span.start_time <= span.end_time);
        // Sampled, random, and any parent is known to be local.
        assert_eq!(span.flags, 0x103);
        assert_eq!(span.kind, SpanKind::Internal);
    }
}

#[test]
fn a_span_with_all_fields_arrives() {
    let (receiver, collector) = start(|_| {});
    let recorder = collector.recorder().unwrap();
    let cause = SpanContext {
        is_remote: true,
        trace_flags: TraceFlags::NONE,
        ..SpanContext::new(trace_id(7), span_id(8))
    };
    let headers = [
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
        ),
        ("tracestate", "rojo=1"),
    ];
    let caller = SpanContext::extract(headers).unwrap();
    let mut span = recorder
        .span_builder(name!("prepared"))
        .kind(SpanKind::Server)
        .parent(Some(&caller))
        .start_time(1_000)
        .attributes(&[KeyValueRef::new(key!("first"), "builder")])
        .links(&[LinkRef {
            attributes: &[KeyValueRef::new("why", "cause")],
            ..LinkRef::new(&cause)
        }])
        .start();
    span.set_attribute(key!("answer"), 42)
        .set_attribute("shards", &[1_i64, 2][..])
        .set_attribute_display("peer", &std::net::Ipv4Addr::LOCALHOST)
        .add_event_at(&EventRef {
            attributes: &[KeyValueRef::new("size", 9)],
            ..EventRef::new("cache miss", 1_500)
        })
        .add_link(&LinkRef::new(&caller))
        .set_status(StatusRef::Error("first"))
        .set_status(StatusRef::Unset)
        .set_status(StatusRef::Error("second"))
        .set_name("renamed");
    let context = span.context().unwrap().into_owned();
    span.try_end_at(2_000).unwrap();

    let spans = finish(&receiver, &collector);
    let span = &spans[0];
    assert_eq!((&*span.name, span.kind), ("renamed", SpanKind::Server));
    assert_eq!((span.start_time, span.end_time), (1_000, 2_000));
    assert_eq!(span.trace_id, caller.trace_id);
    assert_eq!(span.parent_span_id, Some(caller.span_id));
    assert_eq!(span.trace_state, "rojo=1");
    // Sampled, random, with a remote parent.
    assert_eq!(span.flags, 0x303);
    let keys: Vec<_> = span
        .attributes
        .iter()
        .map(|attribute| &*attribute.key)
        .collect();
    assert_eq!(keys, ["first", "answer", "shards", "peer"]);
    assert_eq!(span.attribute("peer"), text("127.0.0.1"));
    let event = &span.events[0];
    assert_eq!((&*event.name, event.time), ("cache miss", 1_500));
    assert_eq!(event.attributes[0].key, "size");
    let links: Vec<_> = span
        .links
        .iter()
        .map(|link| (link.span_id.to_bytes()[0], link.flags))
        .collect();
    assert_eq!(links, [(8, 0x300), (0xb7, 0x303)]);
    assert_eq!(span.status, Status::Error("second".into()));
    // The propagated context is that of the span that was sent.
    assert_eq!(span.span_id, context.span_id);
    assert_eq!(
        (context.is_remote, context.trace_state.as_str()),
        (false, "rojo=1")
    );
}

#[test]
fn an_attribute_replaces_an_earlier_one_with_the_same_key() {
    let (receiver, collector) = start(|_| {});
    let recorder = collector.recorder().unwrap();
    let mut span = recorder.start("open");
    for round in 0..100 {
        span.set_attribute("grows", &"x".repeat(round));
        span.set_attribute(key!("changes"), round as i64);
        span.set_attribute("changes", AnyValueRef::Int(round as i64 + 1));
    }
    span.try_end().unwrap();
    let attributes = [
        KeyValueRef::new("twice", 1),
        KeyValueRef::new("once", 1),
        KeyValueRef::new(key!("twice"), 2),
    ];
    let span = otlp_collector::SpanRef {
        attributes: &attributes,
        ..otlp_collector::SpanRef::new(trace_id(1), span_id(1), "recorded")
    };
    recorder.record(&span).unwrap();

    let spans = finish(&receiver, &collector);
    assert_eq!(spans[0].attributes.len(), 2);
    assert_eq!(spans[0].attribute("grows"), text(&"x".repeat(99)));
    assert_eq!(spans[0].attribute("changes"), int(100));
    assert_eq!(spans[1].attributes.len(), 2);
    assert_eq!(spans[1].attribute("twice"), int(2));
    assert_eq!(
        spans[0].dropped_attributes_count + spans[1].dropped_attributes_count,
        0
    );
}

#[test]
fn ok_overrides_error_and_error_overrides_unset() {
    let (receiver, collector) = start(|_| {});
    let recorder = collector.recorder().unwrap();
    let orders: [(&str, &[StatusRef<'_>]); 5] = [
        ("1", &[]),
        ("2", &[StatusRef::Error(""), StatusRef::Unset]),
        ("3", &[StatusRef::Error("bad"), StatusRef::Ok]),
        (
            "4",
            &[StatusRef::Ok, StatusRef::Error("bad"), StatusRef::Unset],
        ),
        ("5", &[StatusRef::Error("a"), StatusRef::Error("")]),
    ];
    for (name, statuses) in orders {
        let mut span = recorder.start(name);
        for status in statuses {
            span.set_status(*status);
        }
    }
    finish(&receiver, &collector);
    // As they are on the wire, where a status other than an error could have a message, too.
    let requests = receiver.requests();
    let mut spans: Vec<_> = (requests.iter())
        .map(|request| ExportTraceServiceRequest::decode(&*request.body).unwrap())
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect();
    spans.sort_by(|one, other| one.name.cmp(&other.name));
    let statuses: Vec<_> = (spans.iter())
        .map(|span| {
            span.status
                .as_ref()
                .map(|status| (status.code, &*status.message))
        })
        .collect();
    assert_eq!(
        statuses,
        [
            None,
            Some((2, "")),
            Some((1, "")),
            Some((1, "")),
            Some((2, ""))
        ]
    );
}

#[test]
fn errors_are_events_and_panics_are_errors() {
    let (receiver, collector) = start(|_| {});
    let recorder = collector.recorder().unwrap();
    let mut span = recorder.start("1 error");
    span.record_error(&Refused::ShutDown);
    span.try_end().unwrap();

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _outer = recorder.start("2 panicked");
        let mut ok = recorder.start("3 ok");
        ok.set_status(Status::Ok);
        panic!("expected");
    }));
    assert!(panicked.is_err());
    recorder.start("4 after").try_end().unwrap();

    struct Cleanup<'r>(&'r otlp_collector::Recorder);
    impl Drop for Cleanup<'_> {
        fn drop(&mut self) {
            self.0.start("5 clean-up in a panic").try_end().unwrap();
        }
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _cleanup = Cleanup(&recorder);
        panic!("expected");
    }));
    assert!(panicked.is_err());

    let spans = finish(&receiver, &collector);
    let event = &spans[0].events[0];
    assert_eq!(event.name, "exception");
    let attributes: Vec<_> = (event.attributes.iter())
        .map(|a| (&*a.key, Some(a.value.clone())))
        .collect();
    let message = text(&Refused::ShutDown.to_string());
    let type_name = text("otlp_collector::stats::refused::Refused");
    assert_eq!(
        attributes,
        [
            ("exception.message", message),
            ("exception.type", type_name)
        ]
    );
    let statuses: Vec<_> = spans.iter().map(|span| &span.status).collect();
    let (unset, ok) = (&Status::Unset, &Status::Ok);
    assert!(matches!(statuses[1], Status::Error(_)));
    assert_eq!([statuses[0], statuses[2]], [unset, ok]);
    assert_eq!(statuses[3..], [unset, unset]);
}

#[test]
fn an_error_behind_a_trait_object_has_the_trait_as_its_type() {
    let (receiver, collector) = start(|_| {});
    let recorder = collector.recorder().unwrap();
    let boxed: Box<dyn std::error::Error> = Box::new(Refused::ShutDown);
    let mut span = recorder.start("span");
    span.record_error(&*boxed).record_error(&boxed);
    span.record_error("a text").record_error(&"a text");
    span.try_end().unwrap();
    let spans = finish(&receiver, &collector);
    let types = spans[0].events.iter().map(|event| {
        let attribute = &event.attributes[1];
        assert_eq!(attribute.key, "exception.type");
        Some(attribute.value.clone())
    });
    let types: Vec<_> = types.collect();
    let expected = [
        "dyn core::error::Error",
        "alloc::boxed::Box<dyn core::error::Error>",
        "str",
        "&str",
    ];
    assert_eq!(types, expected.map(text));
}

#[test]
fn data_that_does_not_fit_is_counted_and_affects_no_other_span() {
    let (receiver, collector) = start(|config| {
        config.open_span_bytes_total = 1024;
        config.open_span_bytes = 256;
    });
    let recorder = collector.recorder().unwrap();
    let mut a = recorder.start("a large one");
    let mut b = recorder.start("b neighbour");
    let long = "a name that is longer than the thirty-one bytes that are left without memory";
    let mut c = recorder.start(long);
    for number in 0..50 {
        a.set_attribute(&format!("key.{number}"), "a value of some length");
        a.add_event("event", &[]);
    }
    a.set_status(StatusRef::Error(
        "a description that has no room left".repeat(9).as_str(),
    ));
    b.set_attribute("whole", true).add_event("event", &[]);
    c.set_attribute("lost", 1)
        .add_event("lost", &[])
        .set_status(StatusRef::Error("lost"));
    let child = recorder.start_child(&c, "d child");
    for span in [a, b, c, child] {
        span.try_end().unwrap();
    }

    // The memory is free again.
    let mut again = recorder.start("e again");
    again.set_attribute("whole", true);
    drop(again);

    assert_eq!(collector.stats().spans_without_memory, 2);
    let spans = finish(&receiver, &collector);
    let [a, c, b, child, again] = &spans[..] else {
        panic!("expected five spans");
    };
    assert_eq!(a.attributes.len() as u32 + a.dropped_attributes_count, 50);
    assert_eq!(a.events.len() as u32 + a.dropped_events_count, 50);
    assert!(a.attributes.len() > 3 && a.dropped_attributes_count > 30);
    assert!(matches!(a.status, Status::Error(_)));
    assert_eq!((b.attributes.len(), b.events.len()), (1, 1));
    assert_eq!((b.dropped_attributes_count, b.dropped_events_count), (0, 0));
    assert_eq!(c.name, long[..31]);
    assert_eq!((c.dropped_attributes_count, c.dropped_events_count), (1, 1));
    assert!(matches!(c.status, Status::Error(_)));
    assert_eq!(
        (&*child.name, child.parent_span_id),
        ("d child", Some(c.span_id))
    );
    assert_eq!(again.attributes.len(), 1);
}

#[test]
fn limits_apply_to_open_and_finished_spans() {
    let (receiver, collector) = start(|config| {
        config.span_limits = SpanLimits {
            attribute_count: 2,
            attribute_value_length: Some(3),
            event_count: 1,
            link_count: 1,
            event_attribute_count: 1,
            link_attribute_count: 0,
        };
    });
    let recorder = collector.recorder().unwrap();
    let attributes = [
        KeyValueRef::new("text", "äöüß"),
        KeyValueRef::new("bytes", &b"12345"[..]),
        KeyValueRef::new("beyond", 1),
    ];
    let events = [EventRef {
        attributes: &attributes,
        ..EventRef::new("event", 1)
    }; 3];
    let linked = SpanContext::new(trace_id(1), span_id(1));
    let links = [LinkRef {
        attributes: &attributes,
        ..LinkRef::new(&linked)
    }; 2];
    recorder
        .record(&otlp_collector::SpanRef {
            attributes: &attributes,
            events: &events,
            links: &links,
            dropped_attributes_count: 10,
            dropped_events_count: 10,
            dropped_links_count: 10,
            ..otlp_collector::SpanRef::new(trace_id(1), span_id(1), "1 finished")
        })
        .unwrap();
    let mut span = recorder.start("2 open");
    for attribute in attributes {
        span.set_attribute(attribute.key.text(), attribute.value);
    }
    // The value of a known key can be set any number of times.
    span.set_attribute("text", "xyzw");
    for event in &events {
        span.add_event_at(event);
    }
    for link in &links {
        span.add_link(link);
    }
    span.try_end().unwrap();

    let spans = finish(&receiver, &collector);
    for (span, already, expected) in [(&spans[0], 10, "äöü"), (&spans[1], 0, "xyz")] {
        assert_eq!(span.attributes.len(), 2);
        assert_eq!(span.attribute("text"), text(expected));
        let bytes = AnyValue::Bytes(b"123".to_vec());
        assert_eq!(span.attribute("bytes"), Some(bytes));
        assert_eq!(span.dropped_attributes_count, already + 1);
        assert_eq!(
            (span.events.len(), span.dropped_events_count),
            (1, already + 2)
        );
        assert_eq!(
            (span.links.len(), span.dropped_links_count),
            (1, already + 1)
        );
        let event = &span.events[0];
        assert_eq!(
            (event.attributes.len(), event.dropped_attributes_count),
            (1, 2)
        );
        let link = &span.links[0];
        assert_eq!(
            (link.attributes.len(), link.dropped_attributes_count),
            (0, 3)
        );
    }
}

#[test]
fn spans_are_values_that_end_wherever_they_are() {
    struct Connection {
        _request: OpenSpan,
    }

    let (receiver, collector) = start(|_| {});
    let recorder = collector.recorder().unwrap();
    let root = recorder.start("a root");
    let mut moved = recorder.start_child(&root, "b moved");
    moved.set_attribute("from", "here");
    let connection = Connection {
        _request: recorder.start_child(&root, "c in a struct"),
    };
    let mut by_number = HashMap::from([(1, recorder.start_child(&root, "d in a map"))]);
    thread::scope(|scope| {
        let collector = &collector;
        scope.spawn(move || {
            moved.set_attribute("to", "there");
            let child = collector.start_child(&moved, "e child");
            moved.end();
            child.end();
        });
        scope.spawn(move || drop(connection));
        let end = move || by_number.remove(&1).unwrap().end();
        scope.spawn(end);
        // Shared by reference.
        scope.spawn(|| collector.start_child(&root, "f child elsewhere").end());
    });
    let context = root.context().unwrap().into_owned();
    root.end();

    let spans = finish(&receiver, &collector);
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    let expected = [
        "a root",
        "b moved",
        "c in a struct",
        "d in a map",
        "e child",
        "f child elsewhere",
    ];
    assert_eq!(names, expected);
    assert!(spans.iter().all(|span| span.trace_id == context.trace_id));
    assert_eq!(spans[1].attribute("from"), text("here"));
    assert_eq!(spans[1].attribute("to"), text("there"));
    assert_eq!(spans[4].parent_span_id, Some(spans[1].span_id));
    assert_eq!(spans[5].parent_span_id, Some(spans[0].span_id));
}

#[test]
fn ten_thousand_spans_open_on_one_thread_keep_all_their_data() {
    const SPANS: usize = 10_000;
    let (receiver, collector) = start(|config| config.buffer_capacity = 4 * SPANS);
    let recorder = collector.recorder().unwrap();
    let mut open: Vec<_> = (0..SPANS)
        .map(|number| {
            let mut span = recorder.start(&format!("GET /orders/{number:05}"));
            span.set_attribute(key!("http.request.method"), "GET")
                .set_attribute(key!("url.path"), "/orders/{id}")
                .set_attribute(key!("server.address"), "orders-db-3.internal")
                .set_attribute(key!("number"), number as i64);
            span
        })
        .collect();
    for (number, span) in open.iter_mut().enumerate() {
        span.set_attribute(key!("number"), -(number as i64));
    }
    drop(open);
    assert_eq!(collector.stats().spans_without_memory, 0);
    let spans = finish(&receiver, &collector);
    assert_eq!(spans.len(), SPANS);
    for (number, span) in spans.iter().enumerate() {
        assert_eq!(span.name, format!("GET /orders/{number:05}"));
        assert_eq!(
            (span.attributes.len(), span.dropped_attributes_count),
            (4, 0)
        );
        assert_eq!(span.attribute("number"), int(-(number as i64)));
    }
}

#[test]
fn an_unsampled_span_that_ends_elsewhere_takes_no_place() {
    let (receiver, collector) = start(|config| {
        config.recorders_max = 1;
        config.sampler = otlp_collector::span::Sampler::AlwaysOff;
    });
    let scope = otlp_collector::span::InstrumentationScope::new("scope");
    let scope = collector.register_scope(scope).unwrap();
    let recorder = collector.recorder().unwrap();
    assert!(recorder.with_scope(&scope).is_err());
    let span = recorder.start("unsampled");
    thread::scope(|threads| {
        threads.spawn(|| span.try_end().unwrap());
    });
    assert!(finish(&receiver, &collector).is_empty());
    assert_eq!(collector.ledger().sampled_out.total(), 1);
}

#[test]
fn parent_kind_and_start_can_change_until_the_context_is_shown() {
    let (receiver, collector) = start(|_| {});
    let recorder = collector.recorder().unwrap();
    let parent = |flags: &str| {
        let traceparent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let headers = [("traceparent", &*traceparent), ("tracestate", "rojo=1")];
        SpanContext::extract(headers).unwrap().into_owned()
    };
    let mut span = recorder.start("1 moved");
    span.set_attribute("before", 1);
    assert!(span.set_parent(&parent("01")));
    assert!(span.set_kind(SpanKind::Server) && span.set_start_time(5));
    span.set_attribute("after", 2);
    let context = span.context().unwrap().into_owned();
    assert_eq!(context.trace_state.as_str(), "rojo=1");
    assert_eq!(context.trace_id, parent("01").trace_id);
    let other = SpanContext::new(trace_id(1), span_id(1));
    assert!(!span.set_parent(&other) && !span.set_kind(SpanKind::Client));
    assert!(!span.set_start_time(6));
    assert_eq!(span.context().unwrap(), context);
    span.end_at(10);

    let mut dropped = recorder.start("2 dropped");
    assert!(dropped.set_parent(&parent("00")));
    assert!(!dropped.is_recording());
    dropped.end();

    let unsampled = parent("00");
    let mut chosen = recorder
        .span_builder("3 chosen")
        .parent(Some(&unsampled))
        .start();
    assert!(!chosen.is_recording());
    assert!(chosen.set_parent(&parent("01")));
    assert!(chosen.is_recording());
    chosen.set_attribute("after", 2).add_event("event", &[]);
    chosen.end();

    // A child has seen its context.
    let mut shown = recorder.start("4 shown");
    recorder.start_child(&shown, "5 child").end();
    assert!(!shown.set_parent(&other));
    shown.end();

    let spans = finish(&receiver, &collector);
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["1 moved", "3 chosen", "4 shown", "5 child"]);
    let moved = &spans[0];
    assert_eq!(moved.span_id, context.span_id);
    assert_eq!(moved.parent_span_id, Some(parent("01").span_id));
    assert_eq!((moved.kind, moved.start_time), (SpanKind::Server, 5));
    assert_eq!((&*moved.trace_state, moved.flags), ("rojo=1", 0x301));
    assert_eq!(moved.attributes.len(), 2);
    assert!(spans[1].start_time > 0);
    assert_eq!((spans[1].attributes.len(), spans[1].events.len()), (1, 1));
    let ledger = collector.ledger();
    assert_eq!((ledger.accepted, ledger.sampled_out.at_start), (4, 1));
}

#[test]
fn finished_spans_are_sampled_if_the_caller_asks() {
    let (receiver, collector) = start(|config| {
        config.sampler = otlp_collector::span::Sampler::TraceIdRatio(0.25);
    });
    let recorder = collector.recorder().unwrap();
    let mut sampled = 0;
    for _ in 0..1000 {
        let trace_id = recorder.new_trace_id();
        let input = SamplingInput::new(trace_id, "finished");
        let is_sampled = recorder.should_sample(&input).is_sampled;
        assert_eq!(collector.should_sample(&input).is_sampled, is_sampled);
        if is_sampled {
            let span = otlp_collector::SpanRef::new(trace_id, recorder.new_span_id(), "finished");
            recorder.record(&span).unwrap();
            sampled += 1;
        }
    }
    assert!((150..350).contains(&sampled), "{sampled}");
    assert_eq!(finish(&receiver, &collector).len(), sampled);
}

#[test]
fn a_new_name_is_cut_to_the_free_room() {
    for bytes in [64, 200, 4096, 17_000, 60_000] {
        let (receiver, collector) = start(|config| config.open_span_bytes = bytes);
        let recorder = collector.recorder().unwrap();
        let long = "long".repeat(20_000);
        let mut span = recorder.start("short");
        span.set_name(&long);
        span.try_end().unwrap();
        let name = finish(&receiver, &collector).remove(0).name;
        assert!(
            name.len() > bytes - 10 && long.starts_with(&name),
            "{} of {bytes}",
            name.len()
        );
    }
}

#[test]
fn a_span_outlives_its_thread_and_its_collector() {
    let (receiver, collector) = start(|_| {});
    let start_elsewhere = |collector: &Collector| {
        let start = || {
            let recorder = collector.recorder().unwrap();
            (recorder.start("late"), recorder.start("too late"))
        };
        thread::scope(|scope| scope.spawn(start).join().unwrap())
    };
    let (late, too_late) = start_elsewhere(&collector);
    late.try_end().unwrap();
    assert_eq!(collector.shutdown().unwrap().delivered(), 1);
    assert_eq!(receiver.spans()[0].name, "late");
    assert_eq!(too_late.try_end(), Err(Refused::ShutDown));
    assert_eq!(collector.ledger().refused.shut_down, 1);

    let (_receiver, collector) = start(|_| {});
    let (mut orphan, other) = start_elsewhere(&collector);
    drop(collector);
    orphan.set_attribute("still", "possible");
    assert_eq!(orphan.context().unwrap().trace_state.as_str(), "");
    assert_eq!(orphan.try_end(), Err(Refused::ShutDown));
    // The memory of the span that is left is not given to another collector.
    let (receiver, collector) = start(|_| {});
    let spans: Vec<_> = (0..100).map(|_| collector.start("another")).collect();
    assert_eq!(other.try_end(), Err(Refused::ShutDown));
    drop(spans);
    assert_eq!(finish(&receiver, &collector).len(), 100);
}

#[test]
fn ids_of_a_seeded_generator_are_the_same_in_every_run() {
    let ids = || {
        let (receiver, collector) = start(|config| config.id_generator = IdGenerator::Seeded(3));
        // Spans passed to `collect` in between use none of these ids.
        collector.collect(otlp_collector::Span::new("0")).unwrap();
        let recorder = collector.recorder().unwrap();
        let root = recorder.start("1");
        drop(recorder.start_child(&root, "2"));
        drop(root);
        // Another thread has another recorder, and so other ids.
        thread::scope(|scope| {
            scope.spawn(|| drop(collector.start("3")));
        });
        let spans = finish(&receiver, &collector);
        let ids = spans
            .into_iter()
            .skip(1)
            .map(|span| (span.trace_id, span.span_id));
        ids.collect::<Vec<_>>()
    };
    let first = ids();
    assert_eq!(first, ids());
    assert_eq!(first[0].0, first[1].0);
    assert_ne!(first[0].0, first[2].0);
}

#[test]
fn ids_can_come_from_a_custom_generator() {
    struct Counting(u8);

    impl GenerateIds for Counting {
        fn new_trace_id(&mut self) -> TraceId {
            self.0 += 1;
            trace_id(self.0)
        }

        fn new_span_id(&mut self) -> SpanId {
            self.0 += 1;
            span_id(self.0)
        }
    }

    let (receiver, collector) = start(|config| {
        config.id_generator = IdGenerator::Custom(Arc::new(|| Box::new(Counting(0))));
    });
    let recorder = collector.recorder().unwrap();
    let root = recorder.start("root");
    assert_eq!(root.context().unwrap().trace_id, trace_id(1));
    drop(root);
    assert_eq!(recorder.new_trace_id(), trace_id(3));
    assert_eq!(recorder.new_span_id(), span_id(4));
    let spans = finish(&receiver, &collector);
    // Sampled, without the flag for random ids.
    assert_eq!((spans[0].span_id, spans[0].flags), (span_id(2), 0x101));
}

#[test]
fn a_span_without_a_parent_is_a_root() {
    let (receiver, collector) = start(|_| {});
    let recorder = collector.recorder().unwrap();
    drop(recorder.span_builder("root").parent(None).start());
    finish(&receiver, &collector)[0].assert_root();
}

#[test]
fn a_clock_set_back_causes_no_negative_duration() {
    let (receiver, collector) = start(|_| {});
    let recorder = collector.recorder().unwrap();
    let tomorrow = unix_nanos() + 86_400_000_000_000;
    drop(recorder.span_builder("early").start_time(tomorrow).start());
    let spans = finish(&receiver, &collector);
    assert_eq!(spans[0].end_time, tomorrow);
}

/// An operation on a set of open spans, which are numbered.
#[derive(Clone, Debug)]
enum Step {
    Start,
    StartChild(usize),
    Attribute(usize, u8),
    End(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Start),
        2 => any::<usize>().prop_map(Step::StartChild),
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, value)| Step::Attribute(at, value)),
        3 => any::<usize>().prop_map(Step::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn interleaved_spans_keep_their_own_data(steps in prop::collection::vec(any_step(), 0..150)) {
        let (receiver, collector) = start(|_| {});
        let recorder = collector.recorder().unwrap();
        let mut open = Vec::new();
        let mut expected = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let name = format!("{number:04}");
            match step {
                Step::Start => open.push((recorder.start(&name), (name, None, None))),
                Step::StartChild(_) | Step::Attribute(..) | Step::End(_) if open.is_empty() => {}
                Step::StartChild(at) => {
                    let (parent, _) = &open[at % open.len()];
                    let parent_id = parent.context().unwrap().span_id;
                    let child = recorder.start_child(parent, &name);
                    open.push((child, (name, Some(parent_id), None)));
                }
                Step::Attribute(at, value) => {
                    let at = at % open.len();
                    let (span, (_, _, expected_value)) = &mut open[at];
                    span.set_attribute("value", value);
                    *expected_value = Some(i64::from(value));
                }
                Step::End(at) => {
                    let (span, expected_span) = open.swap_remove(at % open.len());
                    span.try_end().unwrap();
                    expected.push(expected_span);
                }
            }
        }
        expected.extend(open.into_iter().map(|(_, expected_span)| expected_span));
        expected.sort();
        let spans = finish(&receiver, &collector);
        let sent: Vec<_> = (spans.iter())
            .map(|span| {
                let value = span.attribute("value").map(|value| match value {
                    AnyValue::Int(value) => value,
                    other => panic!("{other:?}"),
                });
                (span.name.clone(), span.parent_span_id, value)
            })
            .collect();
        prop_assert_eq!(sent, expected);
    }
}
