//! Spans of futures, in tasks of tokio's.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use otlp_collector::testing::{ReceivedSpan, Receiver};
use otlp_collector::{AnyValue, Collector, Instrument, OpenSpan, Status, current, span};
use tokio::task::yield_now;

use common::start;

fn finish(receiver: &Receiver, collector: &Collector) -> Vec<ReceivedSpan> {
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.refused.total(), 0);
    let spans = receiver.spans();
    assert_eq!(ledger.delivered(), spans.len() as u64);
    spans
}

fn find<'s>(spans: &'s [ReceivedSpan], name: &str) -> &'s ReceivedSpan {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().expect("the span arrived");
    assert!(found.next().is_none(), "one span is called {name}");
    span
}

fn poll(future: std::pin::Pin<&mut impl Future>) -> bool {
    future
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

/// Starts a span in the current one when it is dropped.
struct Dropped(&'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        drop(otlp_collector::span_builder(self.0).start());
    }
}

#[test]
fn a_span_is_current_while_its_future_is_polled_and_ends_with_it() {
    let (receiver, collector) = start(|_| {});
    let _installed = collector.install_for_thread();
    let task = async {
        let _dropped = Dropped("at completion");
        drop(span!("first poll"));
        yield_once().await;
        async { current().set_attribute("polled", 2).is_recording() }
            .instrument(span!("nested"))
            .await;
        drop(span!("second poll"));
    };
    let mut task = pin!(task.instrument(span!("task")));
    assert!(!poll(task.as_mut()));
    assert!(current().context().is_none());
    drop(span!("between"));
    task.as_mut().span_mut().set_attribute("between", true);
    assert!(poll(task.as_mut()));
    assert_eq!(collector.ledger().accepted, 6);
    assert!(task.span().is_none());
    let again = catch_unwind(AssertUnwindSafe(|| poll(task.as_mut())));
    assert!(again.is_err());
    let spans = finish(&receiver, &collector);
    let task = find(&spans, "task");
    for child in ["first poll", "nested", "second poll", "at completion"] {
        assert_eq!(
            find(&spans, child).parent_span_id,
            Some(task.span_id),
            "{child}"
        );
    }
    assert_eq!(find(&spans, "between").parent_span_id, None);
    assert_eq!(task.attributes.len(), 1);
}

#[test]
fn a_future_that_is_dropped_ends_its_span_and_is_dropped_in_it() {
    let (receiver, collector) = start(|_| {});
    let _installed = collector.install_for_thread();
    {
        let task = async {
            let _dropped = Dropped("dropped");
            pending::<()>().await;
        };
        let mut task = pin!(task.instrument(span!("polled")));
        assert!(!poll(task.as_mut()));
        drop(async {}.instrument(span!("unpolled")));
    }
    let spans = finish(&receiver, &collector);
    assert_eq!(spans.len(), 3);
    let parent = find(&spans, "dropped").parent_span_id;
    assert_eq!(parent, Some(find(&spans, "polled").span_id));
}

#[test]
fn a_panic_in_a_poll_fails_the_span() {
    let (receiver, collector) = start(|_| {});
    let _installed = collector.install_for_thread();
    {
        let mut task = pin!(async { panic!("intended") }.instrument(span!("task")));
        assert!(catch_unwind(AssertUnwindSafe(|| poll(task.as_mut()))).is_err());
        assert!(current().context().is_none());
    }
    let spans = finish(&receiver, &collector);
    assert_eq!(spans[0].status, Status::Error("panicked".into()));
}

#[test]
fn a_future_with_a_span_is_send_and_small() {
    fn is_send(_: &impl Send) {}
    let task = yield_once();
    let size = size_of_val(&task);
    let task = task.instrument(OpenSpan::none());
    is_send(&task);
    assert!(size_of_val(&task) <= size + 24);
}

/// Is pending once, and wakes its task.
async fn yield_once() {
    let mut is_ready = false;
    std::future::poll_fn(|context| {
        if is_ready {
            return Poll::Ready(());
        }
        is_ready = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

const TASKS: usize = 100_000;
/// Tasks at the same time: each has up to four open spans.
const AT_ONCE: usize = 2_000;

/// Opens nested spans, and may migrate to another thread whenever it waits.
async fn work(number: usize, migrated: &AtomicUsize) {
    let thread = thread::current().id();
    current().set_attribute("number", number);
    yield_now().await;
    let inner = async {
        current().set_attribute("number", number);
        yield_now().await;
        let held = span!("held", "number" = number);
        yield_now().await;
        async {
            yield_now().await;
            current().set_attribute("number", number);
        }
        .instrument(span!("innermost"))
        .await;
        drop(held);
    };
    inner.instrument(span!("inner")).await;
    let is_elsewhere = thread::current().id() != thread;
    migrated.fetch_add(usize::from(is_elsewhere), Ordering::Relaxed);
}

fn number(span: &ReceivedSpan) -> i64 {
    match span.attribute("number") {
        Some(AnyValue::Int(number)) => number,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tasks_that_migrate_at_every_await_keep_their_parents() {
    static MIGRATED: AtomicUsize = AtomicUsize::new(0);
    let (receiver, collector) = start(|config| {
        config.buffer_capacity = 5 * TASKS;
        config.span_limits.attribute_count = 4;
    });
    let clone = collector.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .on_thread_start(move || std::mem::forget(clone.install_for_thread()))
        .build()
        .unwrap();
    for round in 0..TASKS / AT_ONCE {
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|task| {
                let number = round * AT_ONCE + task;
                runtime.spawn(async move {
                    work(number, &MIGRATED).instrument(span!("task")).await;
                })
            })
            .collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
    }
    drop(runtime);
    assert!(MIGRATED.load(Ordering::Relaxed) > 0);
    let spans = finish(&receiver, &collector);
    assert_eq!(spans.len(), 4 * TASKS);
    assert_eq!(collector.stats().spans_without_memory, 0);
    let ids: HashMap<_, _> = spans.iter().map(|span| (span.span_id, span)).collect();
    for span in &spans {
        let expected = match span.name.as_str() {
            "task" => {
                assert_eq!(span.parent_span_id, None);
                continue;
            }
            "inner" => "task",
            "held" | "innermost" => "inner",
            other => panic!("no span is called {other}"),
        };
        let parent = ids[&span.parent_span_id.unwrap()];
        assert_eq!(
            (parent.name.as_str(), number(parent)),
            (expected, number(span))
        );
        assert_eq!(parent.trace_id, span.trace_id);
    }
}
