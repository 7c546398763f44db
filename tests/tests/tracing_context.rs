//! Contexts of spans of `tracing`, and the current span that they share with `span!`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use common::start;
use otlp_collector::span::{
    KeepIf, LinkRef, ParentBased, Sample, Sampler, SamplingInput, SamplingResult, StatusRef,
    TailSampling,
};
use otlp_collector::testing::{ReceivedSpan, Receiver};
use otlp_collector::tracing::{SpanExt, layer};
use otlp_collector::{Collector, Config, SpanContext, Status, current, span};
use tracing::{Span, error, info, info_span};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

/// Runs a program with the layer and the collector installed. Returns the spans by name.
fn spans_of(
    change: impl FnOnce(&mut Config),
    program: impl FnOnce(&Collector),
) -> HashMap<String, ReceivedSpan> {
    let (receiver, collector) = start(change);
    let subscriber = tracing_subscriber::registry().with(layer(&collector));
    let installed = collector.install_for_thread();
    tracing::subscriber::with_default(subscriber, || program(&collector));
    drop(installed);
    finish(&receiver, &collector)
}

fn finish(receiver: &Receiver, collector: &Collector) -> HashMap<String, ReceivedSpan> {
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.refused.total(), 0);
    let spans = receiver.spans();
    assert_eq!(ledger.delivered(), spans.len() as u64);
    let by_name = spans.into_iter().map(|span| (span.name.clone(), span));
    by_name.collect()
}

/// Asserts the parent of each span; "" for a root.
fn assert_parents(spans: &HashMap<String, ReceivedSpan>, parents: &[(&str, &str)]) {
    assert_eq!(spans.len(), parents.len(), "{:?}", spans.keys());
    for (name, parent) in parents {
        let expected = (!parent.is_empty()).then(|| spans[*parent].span_id);
        assert_eq!(spans[*name].parent_span_id, expected, "{name}");
        if let Some(parent) = spans.get(*parent) {
            assert_eq!(spans[*name].trace_id, parent.trace_id, "{name}");
        }
    }
}

fn caller(flags: &str) -> SpanContext<'static> {
    let traceparent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
    let headers = [
        ("traceparent", &*traceparent),
        ("tracestate", "vendor=opaque"),
    ];
    SpanContext::extract(headers).unwrap().into_owned()
}

#[test]
fn both_kinds_of_spans_are_parents_of_each_other() {
    let spans = spans_of(
        |_| {},
        |_| {
            let a = info_span!("a").entered();
            let mut b = span!("b"); // below a span of tracing
            let in_b = b.enter();
            let c = info_span!("c"); // below an entered span
            let d = c.in_scope(|| span!("d"));
            info!("in b");
            drop(in_b);
            info!("in a");
            current()
                .set_attribute("set", "by current")
                .add_event("of current", &[]);
            let context = current().context().unwrap();
            assert_eq!(Some(&context), Span::current().context().as_ref());
            drop(info_span!("e"));
            drop((a, d));
            drop(span!("f", parent: &context));
            assert!(current().context().is_none());
        },
    );
    let parents = [
        ("a", ""),
        ("b", "a"),
        ("c", "b"),
        ("d", "c"),
        ("e", "a"),
        ("f", "a"),
    ];
    assert_parents(&spans, &parents);
    assert_eq!(spans["a"].attribute("set"), Some("by current".into()));
    let events = |name: &str| -> Vec<_> {
        spans[name]
            .events
            .iter()
            .map(|event| event.name.to_string())
            .collect()
    };
    assert_eq!(
        (events("a"), events("b")),
        (
            vec!["in a".into(), "of current".into()],
            vec!["in b".into()]
        )
    );
}

#[test]
fn guards_of_both_kinds_end_in_any_order() {
    let spans = spans_of(
        |_| {},
        |_| {
            let a = info_span!("a").entered();
            let b = span!("b").entered();
            let c = info_span!("c").entered();
            drop(b); // below the top
            drop(span!("d"));
            drop(c);
            drop(span!("e"));
            let f = span!("f").entered();
            drop(a);
            drop(info_span!("g"));
            drop(f);
            drop(info_span!("h"));
            // A leaked guard of a span that ends.
            let i = info_span!("i");
            std::mem::forget(i.enter());
            drop(i);
            drop(info_span!("j"));
        },
    );
    let parents = [
        ("a", ""),
        ("b", "a"),
        ("c", "b"),
        ("d", "c"),
        ("e", "a"),
        ("f", "a"),
        ("g", "f"),
        ("h", ""),
        ("i", ""),
        ("j", ""),
    ];
    assert_parents(&spans, &parents);
}

#[test]
fn a_span_can_get_a_parent_after_it_was_entered_until_its_context_is_shown() {
    #[tracing::instrument(fields(path = "/orders"))]
    fn handle(number: u32) {
        info!("received");
        Span::current().record("path", "/orders/7");
        assert!(Span::current().set_parent(&caller("01")));
        assert_eq!(Span::current().trace_id(), Some(caller("01").trace_id));
        assert!(!Span::current().set_parent(&caller("00")));
        info_span!("child", number).in_scope(|| span!("grandchild"));
    }
    let spans = spans_of(
        |_| {},
        |_| {
            handle(1);
            let span = info_span!("with child");
            drop(info_span!(parent: &span, "its child"));
            assert!(!span.set_parent(&caller("01")));
        },
    );
    let handle = &spans["handle"];
    assert_eq!(handle.parent_span_id, Some(caller("01").span_id));
    assert_eq!(
        (handle.flags & 0x200, &*handle.trace_state),
        (0x200, "vendor=opaque")
    );
    assert_eq!(handle.attribute("path"), Some("/orders/7".into()));
    assert_eq!(handle.attribute("number"), Some(1.into()));
    assert_eq!((handle.events.len(), handle.attributes.len()), (1, 2));
    for (child, parent) in [("child", "handle"), ("grandchild", "child")] {
        assert_eq!(spans[child].parent_span_id, Some(spans[parent].span_id));
        assert_eq!(spans[child].trace_state, "vendor=opaque", "{child}");
    }
}

#[test]
fn the_sampler_is_asked_again_below_a_new_parent() {
    let sampler = ParentBased::new(Sampler::AlwaysOff).into();
    let spans = spans_of(
        |config| config.sampler = sampler,
        |collector| {
            let span = info_span!("request", path = "/orders", shown = %7, later = 1);
            assert!(!span.is_recording());
            assert!(span.set_parent(&caller("01")));
            assert!(span.is_recording());
            span.in_scope(|| info_span!("child").in_scope(|| info!("event")));
            let unsampled = info_span!("unsampled", a = 1, b = ?2);
            unsampled.in_scope(|| {
                error!("not recorded");
                info_span!("its child", c = 1).record("c", 2);
                span!("another");
                assert!(!current().context().unwrap().trace_flags.is_sampled());
            });
            assert!(!unsampled.context().unwrap().trace_flags.is_sampled());
            // From sampled to not sampled.
            let moved = info_span!("moved");
            moved.set_parent(&caller("01"));
            drop((span, unsampled));
            assert_eq!(collector.stats().ledger.held, 0);
        },
    );
    let mut names: Vec<_> = spans.keys().collect();
    names.sort();
    assert_eq!(names, ["child", "moved", "request"]);
    let request = &spans["request"];
    assert_eq!(request.attribute("path"), Some("/orders".into()));
    assert_eq!(request.attribute("shown"), Some("7".into()));
    assert!(request.start_time > 0 && request.start_time <= spans["child"].start_time);
    assert_eq!(spans["child"].events.len(), 1);
}

#[test]
fn all_else_of_a_span_can_be_changed() {
    let other = caller("01");
    let spans = spans_of(
        |_| {},
        |_| {
            let span = info_span!("before");
            span.set_name("after");
            span.add_link(&LinkRef::new(&other));
            span.set_attribute("any key", &[1_i64, 2]);
            span.set_attribute_display("shown", &format_args!("{}", 7));
            span.set_status(StatusRef::Error("why"));
            let children = span.with_open_span(|span| {
                span.add_event("within", &[]);
                // The span is being changed, so this is skipped.
                info!("lost");
                3
            });
            assert_eq!(children, Some(3));
            let mut headers = Vec::new();
            span.inject(|name, value| headers.push((name, value.to_owned())));
            let sent = SpanContext::extract(headers.iter().map(|(name, value)| (*name, &**value)));
            assert_eq!(sent.unwrap().span_id, span.span_id().unwrap());
            // Spans without a collector.
            for none in [Span::none(), Span::current()] {
                none.set_attribute("a", 1);
                assert!(none.context().is_none() && !none.set_parent(&other));
            }
        },
    );
    let span = &spans["after"];
    assert_eq!(span.links[0].span_id, other.span_id);
    assert_eq!(span.attribute("shown"), Some("7".into()));
    assert!(span.attribute("any key").is_some());
    assert_eq!(span.status, Status::Error("why".into()));
    assert_eq!(span.events.len(), 1);
}

#[test]
fn the_context_is_found_behind_filters_boxes_and_other_layers() {
    let (receiver, collector) = start(|_| {});
    let boxed = layer(&collector)
        .with_filter(tracing_subscriber::filter::LevelFilter::INFO)
        .boxed();
    let subscriber = tracing_subscriber::registry()
        .with(Some(boxed))
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::sink))
        .with(tracing_subscriber::EnvFilter::new("trace"));
    let dispatch = tracing::Dispatch::new(subscriber);
    tracing::dispatcher::with_default(&dispatch, || {
        let span = info_span!("seen");
        assert!(span.context().is_some());
        assert!(tracing::debug_span!("hidden").context().is_none());
    });
    assert_eq!(finish(&receiver, &collector).len(), 1);
}

#[test]
fn a_log_line_can_have_the_ids_of_the_current_span() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<String>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(bytes));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// Writes the trace's id where others write the time.
    struct TraceIds;

    impl tracing_subscriber::fmt::time::FormatTime for TraceIds {
        fn format_time(
            &self,
            writer: &mut tracing_subscriber::fmt::format::Writer<'_>,
        ) -> fmt::Result {
            match current().context() {
                Some(context) => write!(writer, "{} {}", context.trace_id, context.span_id),
                None => Ok(()),
            }
        }
    }

    let (receiver, collector) = start(|_| {});
    let lines = Lines::default();
    let fmt = tracing_subscriber::fmt::layer()
        .with_timer(TraceIds)
        .with_writer(lines.clone());
    let subscriber = tracing_subscriber::registry()
        .with(layer(&collector))
        .with(fmt);
    tracing::subscriber::with_default(subscriber, || {
        info_span!("logged").in_scope(|| info!("a line"));
    });
    let spans = finish(&receiver, &collector);
    let span = &spans["logged"];
    let lines = lines.0.lock().unwrap().clone();
    assert!(
        lines.contains(&format!("{} {}", span.trace_id, span.span_id)),
        "{lines}"
    );
}

#[test]
fn a_trace_is_kept_or_dropped_as_a_whole() {
    let failed = KeepIf {
        failed: true,
        ..KeepIf::default()
    };
    let spans = spans_of(
        |config| config.tail_sampling = Some(TailSampling::new(failed)),
        |_| {
            let kept = info_span!("kept").entered();
            info_span!("child").in_scope(|| drop(span!("grandchild")));
            error!("failed");
            drop(kept);
            info_span!("dropped").in_scope(|| drop(info_span!("its child")));
            let forced = info_span!("forced");
            forced.keep_trace(true);
        },
    );
    let parents = [
        ("kept", ""),
        ("child", "kept"),
        ("grandchild", "child"),
        ("forced", ""),
    ];
    assert_parents(&spans, &parents);
}

/// A sampler that logs, also into the span whose child it is asked about.
#[derive(Debug)]
struct Logging;

impl Sample for Logging {
    fn sample<'s>(&'s self, _: &SamplingInput<'_>) -> SamplingResult<'s> {
        info!("asked");
        current().set_attribute("from", "the sampler");
        true.into()
    }
}

#[test]
fn a_sampler_that_logs_does_not_block() {
    let spans = spans_of(
        |config| config.sampler = Sampler::Custom(Arc::new(Logging)),
        |_| {
            let root = info_span!("root");
            drop(info_span!(parent: &root, "by id"));
            let entered = root.entered();
            drop((info_span!("child"), span!("another")));
            drop(entered);
        },
    );
    let parents = [
        ("root", ""),
        ("by id", "root"),
        ("child", "root"),
        ("another", "root"),
    ];
    assert_parents(&spans, &parents);
}
