//! Spans of `tracing` that are started while a thread's values are destroyed.

use std::cell::RefCell;
use std::thread;

use common::start;
use otlp_collector::AnyValue;
use otlp_collector::tracing::subscriber;
use tracing::{info, info_span};

/// A value of a thread that records when it is destroyed.
struct AtTheEnd(&'static str);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let span = info_span!("in a destructor", of = self.0, shown = ?1);
        info!(parent: &span, "event");
        span.in_scope(|| info!(detail = %2, "event"));
        span.record("of", "recorded");
    }
}

thread_local! {
    static FIRST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
    static LAST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
}

#[test]
fn spans_can_be_started_by_destructors_of_thread_local_values() {
    let (receiver, collector) = start(|_| {});
    // A default of a thread is gone before its other values are.
    tracing::subscriber::set_global_default(subscriber(&collector)).unwrap();
    thread::spawn(|| {
        // Destroyed in some order with the collector's own.
        FIRST.set(Some(AtTheEnd("first")));
        info_span!("before").in_scope(|| info!("event {}", 1));
        LAST.set(Some(AtTheEnd("last")));
    })
    .join()
    .unwrap();
    let ledger = collector.shutdown().unwrap();
    let spans = receiver.spans();
    assert_eq!(spans.len(), 3, "{ledger} {spans:?}");
    let late: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "in a destructor")
        .collect();
    assert_eq!(late.len(), 2);
    for span in late {
        assert!(matches!(span.attribute("of"), Some(AnyValue::String(text)) if text == "recorded"));
        assert!(!span.events.is_empty());
    }
}
