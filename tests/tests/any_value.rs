//! Every value of OTLP's data model can be an attribute of spans, events, links, scopes and resources.

use common::{span_id, trace_id};
use otlp_collector::span::{AnyValueRef, Event, InstrumentationScope, KeyValueRef, Link, LinkRef};
use otlp_collector::testing::Receiver;
use otlp_collector::{AnyValue, Collector, Config, KeyValue, Span, SpanContext, SpanRef};

fn values() -> Vec<AnyValue> {
    let list = |values: Vec<AnyValue>| {
        let values = values.into_iter().enumerate();
        AnyValue::KeyValueList(
            values
                .map(|(at, v)| KeyValue::new(at.to_string(), v))
                .collect(),
        )
    };
    let leaves = vec![
        AnyValue::Empty,
        "".into(),
        "t\u{e9}xt\n".into(),
        false.into(),
        true.into(),
        0.into(),
        i64::MIN.into(),
        0.0.into(),
        f64::NEG_INFINITY.into(),
        AnyValue::Bytes(vec![]),
        AnyValue::Bytes(vec![0, 255, 128]),
        AnyValue::Array(vec![]),
        AnyValue::KeyValueList(vec![]),
    ];
    let mixed = AnyValue::Array(leaves.clone());
    let named = list(leaves.clone());
    let nested = AnyValue::Array(vec![mixed.clone(), named.clone(), AnyValue::Empty]);
    let deep = list(vec![nested.clone(), AnyValue::Array(vec![nested.clone()])]);
    [leaves, vec![mixed, named, nested, deep]].concat()
}

fn attributes() -> Vec<KeyValue> {
    let values = values().into_iter().enumerate();
    values
        .map(|(at, value)| KeyValue::new(format!("key {at}"), value))
        .collect()
}

fn check(of: &str, attribute: impl Fn(&str) -> Option<AnyValue>) {
    for KeyValue { key, value } in attributes() {
        assert_eq!(attribute(&key), Some(value), "{key} of {of}");
    }
}

#[test]
fn every_value_is_accepted_for_every_kind_of_attribute() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        resource_attributes: attributes(),
        ..Config::default()
    })
    .unwrap();
    let scope = InstrumentationScope {
        attributes: attributes(),
        ..InstrumentationScope::new("a scope")
    };
    let scope = collector.register_scope(scope).unwrap();
    let linked = SpanContext::new(trace_id(1), span_id(2));
    let owned = attributes();
    let borrowed: Vec<_> = (owned.iter())
        .map(|KeyValue { key, value }| KeyValueRef::new(&**key, AnyValueRef::from(value)))
        .collect();

    let mut span = Span::new("collected");
    span.scope = Some(scope);
    span.attributes = attributes();
    span.events.push(Event {
        attributes: attributes(),
        ..Event::new("an event")
    });
    span.links.push(Link {
        attributes: attributes(),
        ..Link::new(linked.clone())
    });
    collector.collect(span).unwrap();
    let recorder = collector.recorder().unwrap();
    let mut open = recorder.start("open");
    for KeyValue { key, value } in &owned {
        open.set_attribute(&**key, value);
    }
    open.add_event("an event", &borrowed);
    open.add_link(&LinkRef {
        attributes: &borrowed,
        ..LinkRef::new(&linked)
    });
    open.try_end().unwrap();
    let span = SpanRef {
        attributes: &borrowed,
        ..SpanRef::new(trace_id(1), span_id(3), "recorded")
    };
    recorder.record(&span).unwrap();
    assert_eq!(collector.shutdown().unwrap().delivered(), 3);

    for name in ["collected", "open", "recorded"] {
        let span = receiver.span(name);
        assert_eq!(span.dropped_attributes_count, 0);
        check(name, |key| span.attribute(key));
        for event in &span.events {
            check("an event", |key| event.attribute(key));
        }
        for link in &span.links {
            check("a link", |key| link.attribute(key));
        }
        let both = usize::from(name != "recorded");
        assert_eq!((span.events.len(), span.links.len()), (both, both));
    }
    for request in receiver.requests() {
        for span in &request.spans {
            check("the resource", |key| span.resource.attribute(key));
            if span.scope.name == "a scope" {
                check("the scope", |key| {
                    let mut attributes = span.scope.attributes.iter();
                    let found = attributes.find(|attribute| attribute.key == key);
                    found.map(|attribute| attribute.value.clone())
                });
            }
        }
    }
}
