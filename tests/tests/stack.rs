//! Recording needs little of the stack, whatever the values are.

use std::thread;

use otlp_collector::testing::Receiver;
use otlp_collector::{
    AnyValue, AnyValueRef, Collector, Config, Event, EventRef, KeyValue, KeyValueRef, Recorder,
    Span, SpanRef, key,
};

/// The figures that the docs of `SpanLimits` state.
const STACK_KIB: usize = if cfg!(debug_assertions) { 384 } else { 48 };

/// Keys that all stand twice, so many that a table is needed to find that.
fn repeated_keys() -> impl Iterator<Item = String> {
    (0..18).map(|number| format!("key.{}", number / 2))
}

/// Lists within lists, as many as are sent and more.
fn nested_lists() -> AnyValue {
    let list = |inner: AnyValue, _| {
        let mut entries: Vec<_> = repeated_keys().map(|key| KeyValue::new(key, 1)).collect();
        entries.push(KeyValue::new("key.0", inner));
        AnyValue::KeyValueList(entries)
    };
    (0..32).fold(AnyValue::Int(1), list)
}

/// Arrays within arrays, as many as are sent and more.
fn nested_arrays() -> AnyValue {
    (0..47).fold(AnyValue::Int(1), |inner, _| AnyValue::Array(vec![inner]))
}

/// As attributes of a span and of its event.
fn owned_span(value: &AnyValue) -> Span {
    let mut span = Span::new("owned");
    span.attributes = repeated_keys().map(|key| KeyValue::new(key, 1)).collect();
    span.attributes.push(KeyValue::new("key.1", value.clone()));
    span.events = vec![Event {
        attributes: span.attributes.clone(),
        ..Event::new("event")
    }];
    span
}

#[inline(never)]
fn record(recorder: &Recorder, span: &Span) {
    let attributes: Vec<_> = (span.attributes.iter())
        .map(|attribute| KeyValueRef::new(&attribute.key, &attribute.value))
        .collect();
    let value = attributes[attributes.len() - 1].value;
    // The same in borrowed form once more: a list of lists.
    let outer = [KeyValueRef::new("outer", value); 18];
    let events = [EventRef {
        attributes: &attributes,
        ..EventRef::new("event", 1)
    }];
    let span = SpanRef {
        attributes: &attributes,
        events: &events,
        ..SpanRef::new(recorder.new_trace_id(), recorder.new_span_id(), "span")
    };
    recorder.record(&span).unwrap();
    let outer = AnyValueRef::from(&outer);
    let longest_tuple = (
        (key!("tuple.0"), 1),
        (key!("tuple.1"), "text"),
        (key!("tuple.2"), value),
        ("tuple.3", value),
        ("tuple.4", outer),
        ("tuple.5", 0.5),
        ("tuple.6", true),
        ("tuple.7", 7),
        ("tuple.8", "text"),
        ("key.0", outer),
        ("key.1", value),
        ("key.2", 2),
    );
    recorder.record_with(&span, longest_tuple).unwrap();
    let mut open = recorder.start("open");
    open.set_attribute("nested", value)
        .set_attribute("nested", value);
    open.add_event("event", &attributes);
    let mut detached = open.detach();
    detached.set_attribute("other", value);
    detached.try_end().unwrap();
}

#[test]
fn the_most_deeply_nested_values_need_no_more_stack_than_documented() {
    let receiver = Receiver::start_counting().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        open_span_bytes: 32 * 1024,
        ..Config::default()
    })
    .unwrap();
    // Another thread does the work that is needed once in a process.
    collector.collect(Span::new("first")).unwrap();
    for value in [nested_lists(), nested_arrays()] {
        let recorder = collector.recorder().unwrap();
        let span = owned_span(&value);
        let collector = collector.clone();
        let thread = thread::Builder::new().stack_size(STACK_KIB * 1024);
        let recording = thread.spawn(move || {
            record(&recorder, &span);
            collector.collect(span).unwrap();
        });
        recording.unwrap().join().unwrap();
    }
    assert_eq!(collector.shutdown().unwrap().delivered(), 9);
}
