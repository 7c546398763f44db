//! The receiver for tests finds spans and checks them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use otlp_collector::span::KeyValueRef;
use otlp_collector::testing::Receiver;
use otlp_collector::{AnyValue, Collector, Config, KeyValue, Span};

/// Returns the message of the panic of `work`.
fn panic_of<T>(work: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work))
        .err()
        .expect("no panic");
    *panic.downcast::<String>().unwrap()
}

#[test]
fn spans_are_found_by_name_and_checked() {
    let (receiver, collector) = common::start(|config| config.service_name = "shop".to_string());
    let recorder = collector.recorder().unwrap();
    let mut request = recorder.start("GET /orders");
    let nested = AnyValue::KeyValueList(vec![
        KeyValue::new("shards", vec![3_i64, 5]),
        KeyValue::new("digest", AnyValue::Bytes(vec![1, 2])),
        KeyValue::new("nothing", AnyValue::Empty),
        KeyValue::new("share", 0.5),
    ]);
    request
        .set_attribute("http.response.status_code", 200)
        .set_attribute("cached", true)
        .set_attribute("plan", &nested)
        .add_event("retry", &[KeyValueRef::new("attempt", 2)]);
    recorder
        .start_child(&request, "SELECT orders")
        .try_end()
        .unwrap();
    request.try_end().unwrap();
    for _ in 0..2 {
        recorder.start("tick").try_end().unwrap();
    }
    collector.shutdown().unwrap();

    let request = receiver.span("GET /orders");
    request.assert_root();
    assert_eq!(
        request.attribute("http.response.status_code"),
        Some(200.into())
    );
    assert_eq!(request.attribute("cached"), Some(true.into()));
    assert_eq!(request.attribute("plan"), Some(nested));
    assert_eq!(request.attribute("status"), None);
    assert_eq!(request.events[0].attribute("attempt"), Some(2.into()));
    let query = receiver.span("SELECT orders");
    query.assert_child_of(&request);
    let service = request.resource.attribute("service.name");
    assert_eq!(service, Some("shop".into()));

    let missing = panic_of(|| receiver.span("GET /order"));
    assert_eq!(
        missing,
        "no span \"GET /order\" was received, but \"GET /orders\", \"SELECT orders\", \
         \"tick\" (2 times)"
    );
    let several = panic_of(|| receiver.span("tick"));
    assert_eq!(several, "2 spans \"tick\" were received: use spans()");
    let no_root = panic_of(|| query.assert_root());
    assert!(no_root.starts_with("span \"SELECT orders\" is not a root: its parent is "));
    let no_child = panic_of(|| request.assert_child_of(&query));
    assert!(
        no_child.starts_with(
            "span \"GET /orders\" is not a child of \"SELECT orders\": its parent is none"
        ),
        "{no_child}"
    );
}

#[test]
fn a_port_can_be_chosen_and_is_free_after_the_drop() {
    let on_the_port_of_another = || {
        let other = Receiver::start().unwrap();
        let port = other.address().port();
        assert!(Receiver::start_on(port).is_err());
        drop(other);
        let receiver = Receiver::start_on(port).ok()?;
        assert_eq!(receiver.endpoint(), format!("http://127.0.0.1:{port}"));
        Some(receiver)
    };
    // Another program may take the port in the meantime.
    let receiver = (0..10).find_map(|_| on_the_port_of_another()).unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        ..Config::default()
    })
    .unwrap();
    collector.collect(Span::new("here")).unwrap();
    collector.shutdown().unwrap();
    assert_eq!(receiver.span("here").name, "here");
    let none = Receiver::start().unwrap();
    assert!(panic_of(|| none.span("here")).contains("none at all"));
}
