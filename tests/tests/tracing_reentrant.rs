//! Values whose text is made by code that uses the very span that they are for.

use std::fmt;

use common::start;
use otlp_collector::tracing::{SpanExt, layer};
use tracing::{Span, info, info_span};
use tracing_subscriber::prelude::*;

/// A value whose text is made by code that uses the span it is for.
struct Reentrant;

impl fmt::Debug for Reentrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = Span::current();
        info!("within Debug");
        span.record("inner", 1);
        span.set_attribute("from", "Debug");
        info_span!("child of Debug").in_scope(|| info!(nested = ?Some(1), "deeper"));
        let _ = span.context();
        f.write_str("text")
    }
}

#[test]
fn a_debug_that_uses_its_own_span_neither_blocks_nor_loses_anything() {
    let (receiver, collector) = start(|_| {});
    let subscriber = tracing_subscriber::registry().with(layer(&collector));
    // As long as there is no other one, tracing passes on spans and events from within others.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    {
        let span = info_span!("outer", value = tracing::field::Empty, inner = 0).entered();
        span.record("value", tracing::field::debug(Reentrant));
        info!(value = ?Reentrant, "event {:?}", Reentrant);
        drop(info_span!("with field", value = ?Reentrant));
    }
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.delivered(), 2 + 4);
    let outer = receiver.span("outer");
    assert_eq!(outer.attribute("value"), Some("text".into()));
    assert_eq!(outer.attribute("inner"), Some(1.into()));
    assert_eq!(outer.attribute("from"), Some("Debug".into()));
    let mut names: Vec<_> = outer
        .events
        .iter()
        .map(|event| event.name.to_string())
        .collect();
    names.sort();
    let within = "within Debug";
    assert_eq!(names, ["event text", within, within, within, within]);
    assert_eq!(outer.dropped_attributes_count, 0);
    assert_eq!(
        receiver.span("with field").attribute("value"),
        Some("text".into())
    );
    let children = receiver.spans();
    let children = children.iter().filter(|span| span.name == "child of Debug");
    assert!(
        children
            .clone()
            .all(|span| span.parent_span_id == Some(outer.span_id))
    );
    assert!(children.clone().all(|span| span.events.len() == 1));
}
