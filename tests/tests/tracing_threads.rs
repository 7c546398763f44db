//! Spans of `tracing` on several threads: random programs, tasks that move, shared parents.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use common::start;
use otlp_collector::recorder::EnteredSpan;
use otlp_collector::testing::{self, ReceivedSpan};
use otlp_collector::tracing::{layer, subscriber};
use otlp_collector::{Collector, Overflow, span_builder};
use proptest::prelude::*;
use tracing::{Dispatch, Instrument, Span, info, info_span};
use tracing_subscriber::prelude::*;

const THREADS: usize = 3;

/// A step of a random program, on one of the threads. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    StartRoot,
    StartBelow(usize),
    Enter(usize),
    /// Starts and enters a span by `span!`.
    EnterOwned,
    Exit(usize),
    Close(usize),
    Event(usize),
    ContextualEvent,
    Follow(usize, usize),
}

fn any_step() -> impl Strategy<Value = (usize, Step)> {
    let number = any::<usize>;
    let step = prop_oneof![
        3 => Just(Step::Start),
        1 => Just(Step::StartRoot),
        1 => number().prop_map(Step::StartBelow),
        3 => number().prop_map(Step::Enter),
        1 => Just(Step::EnterOwned),
        3 => number().prop_map(Step::Exit),
        2 => number().prop_map(Step::Close),
        1 => number().prop_map(Step::Event),
        1 => Just(Step::ContextualEvent),
        1 => (number(), number()).prop_map(|(a, b)| Step::Follow(a, b)),
    ];
    (0..THREADS, step)
}

/// The expected content of a span.
#[derive(Debug, Default)]
struct Expected {
    parent: Option<usize>,
    events: usize,
    links: Vec<usize>,
}

/// A naive model of the program.
#[derive(Default)]
struct Model {
    spans: Vec<Expected>,
    /// Numbers of entered spans, of each thread.
    stacks: [Vec<usize>; THREADS],
    /// The same, in the order of their guards.
    guards: [Vec<usize>; THREADS],
}

impl Model {
    fn start(&mut self, parent: Option<usize>) -> usize {
        self.spans.push(Expected {
            parent,
            ..Expected::default()
        });
        self.spans.len() - 1
    }

    fn enter(&mut self, thread: usize, number: usize) {
        self.stacks[thread].push(number);
        self.guards[thread].push(number);
    }
}

/// A guard on a thread's stack.
enum Guard {
    Traced(#[allow(dead_code, reason = "dropped")] tracing::span::EnteredSpan),
    Owned(#[allow(dead_code, reason = "dropped")] EnteredSpan),
}

type Work = Box<dyn FnOnce(&mut Vec<Guard>) + Send>;

/// Threads that do one thing at a time.
struct Workers(Vec<(Sender<Work>, thread::JoinHandle<()>)>);

impl Workers {
    fn start(dispatch: &Dispatch, collector: &Collector) -> Self {
        let workers = (0..THREADS).map(|_| {
            let (sender, receiver) = channel::<Work>();
            let (dispatch, collector) = (dispatch.clone(), collector.clone());
            let worker = thread::spawn(move || {
                let _installed = collector.install_for_thread();
                tracing::dispatcher::with_default(&dispatch, || {
                    let mut guards = Vec::new();
                    for work in receiver {
                        work(&mut guards);
                    }
                });
            });
            (sender, worker)
        });
        Self(workers.collect())
    }

    fn run<R: Send + 'static>(
        &self,
        thread: usize,
        work: impl FnOnce(&mut Vec<Guard>) -> R + Send + 'static,
    ) -> R {
        let (sender, receiver) = channel();
        let work = Box::new(move |guards: &mut Vec<Guard>| {
            let _ = sender.send(work(guards));
        });
        self.0[thread].0.send(work).unwrap();
        receiver.recv().unwrap()
    }
}

fn run(steps: &[(usize, Step)], workers: &Workers, model: &mut Model) {
    // Handles of spans that are not closed, with their numbers.
    let mut open: Vec<(usize, Span)> = Vec::new();
    for &(thread, step) in steps {
        let pick = |number: usize| (!open.is_empty()).then(|| open[number % open.len()].clone());
        let top = model.stacks[thread].last().copied();
        match step {
            Step::Start => {
                let number = model.start(top);
                let span = workers.run(thread, move |_| info_span!("any", number));
                open.push((number, span));
            }
            Step::StartRoot => {
                let number = model.start(None);
                let span = workers.run(thread, move |_| info_span!(parent: None, "any", number));
                open.push((number, span));
            }
            Step::StartBelow(parent) => {
                if let Some((parent, above)) = pick(parent) {
                    let number = model.start(Some(parent));
                    let start = move |_: &mut _| info_span!(parent: &above, "any", number);
                    open.push((number, workers.run(thread, start)));
                }
            }
            Step::Enter(number) => {
                if let Some((number, span)) = pick(number) {
                    model.enter(thread, number);
                    workers.run(thread, |guards| guards.push(Guard::Traced(span.entered())));
                }
            }
            Step::EnterOwned => {
                let number = model.start(top);
                model.enter(thread, number);
                workers.run(thread, move |guards| {
                    let mut span = span_builder("any").start();
                    span.set_attribute("number", number);
                    guards.push(Guard::Owned(span.entered()));
                });
            }
            Step::Exit(index) => {
                if let Some(index) = index.checked_rem(model.guards[thread].len()) {
                    let exited = model.guards[thread].remove(index);
                    // A subscriber sees the span and not the guard, and so exits the innermost entry.
                    let stack = &mut model.stacks[thread];
                    let innermost = stack.iter().rposition(|number| *number == exited);
                    stack.remove(innermost.unwrap());
                    workers.run(thread, move |guards| drop(guards.remove(index)));
                }
            }
            Step::Close(number) => {
                if !open.is_empty() {
                    let (_, span) = open.swap_remove(number % open.len());
                    workers.run(thread, |_| drop(span));
                }
            }
            Step::Event(number) => {
                if let Some((number, span)) = pick(number) {
                    model.spans[number].events += 1;
                    workers.run(thread, move |_| info!(parent: &span, "event"));
                }
            }
            Step::ContextualEvent => {
                if let Some(top) = top {
                    model.spans[top].events += 1;
                }
                workers.run(thread, |_| info!(detail = ?Some(1), "event"));
            }
            Step::Follow(one, other) => {
                if let (Some((number, span)), Some((follows, other))) = (pick(one), pick(other)) {
                    model.spans[number].links.push(follows);
                    workers.run(thread, move |_| span.follows_from(&other).id().is_some());
                }
            }
        }
    }
}

fn check(spans: &[ReceivedSpan], model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(spans.len(), model.spans.len());
    let number_of = |span: &ReceivedSpan| match span.attribute("number") {
        Some(otlp_collector::AnyValue::Int(number)) => number as usize,
        other => panic!("{other:?}"),
    };
    let numbers: HashMap<_, _> = spans
        .iter()
        .map(|span| (span.span_id, number_of(span)))
        .collect();
    for span in spans {
        let expected = &model.spans[number_of(span)];
        prop_assert_eq!(span.parent_span_id.map(|id| numbers[&id]), expected.parent);
        let links: Vec<_> = span
            .links
            .iter()
            .map(|link| numbers[&link.span_id])
            .collect();
        prop_assert_eq!(&links, &expected.links);
        let events = span.events.len() + span.dropped_events_count as usize;
        prop_assert_eq!(events, expected.events);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_programs_give_the_tree_of_a_naive_model(
        steps in prop::collection::vec(any_step(), 0..120),
        has_registry in any::<bool>(),
    ) {
        let (receiver, collector) = start(|_| {});
        let dispatch = if has_registry {
            Dispatch::new(tracing_subscriber::registry().with(layer(&collector)))
        } else {
            Dispatch::new(subscriber(&collector))
        };
        let workers = Workers::start(&dispatch, &collector);
        let mut model = Model::default();
        // A registry closes the parents of closed spans through the default subscriber.
        tracing::dispatcher::with_default(&dispatch, || run(&steps, &workers, &mut model));
        for (sender, worker) in workers.0 {
            drop(sender);
            worker.join().unwrap();
        }
        let ledger = collector.shutdown().unwrap();
        prop_assert_eq!(ledger.refused.total(), 0);
        check(&receiver.spans(), &model)?;
    }
}

#[tracing::instrument(fields(later))]
async fn query(number: u64) {
    tokio::task::yield_now().await;
    Span::current().record("later", number);
    info!("half done");
    tokio::task::yield_now().await;
}

#[test]
fn tasks_that_migrate_lose_no_span() {
    run_tasks(100_000, |collector| {
        Dispatch::new(tracing_subscriber::registry().with(layer(collector)))
    });
}

#[test]
fn tasks_that_migrate_lose_no_span_without_a_registry() {
    run_tasks(100_000, |collector| Dispatch::new(subscriber(collector)));
}

fn run_tasks(tasks: u64, dispatch: impl FnOnce(&Collector) -> Dispatch) {
    let receiver = testing::Receiver::start_counting().unwrap();
    let collector = Collector::new(otlp_collector::Config {
        overflow: Overflow::Block { timeout_ms: 60_000 },
        ..common::config(&receiver)
    })
    .unwrap();
    let dispatch = dispatch(&collector);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .on_thread_start({
            let dispatch = dispatch.clone();
            // For as long as the thread lives.
            move || std::mem::forget(tracing::dispatcher::set_default(&dispatch))
        })
        .build()
        .unwrap();
    runtime.block_on(async {
        let request = |number| async move {
            query(number).await;
            let handed_over = tokio::spawn(query(number).in_current_span());
            handed_over.await.unwrap();
        };
        let mut running = Vec::new();
        for number in 0..tasks {
            let span =
                tracing::dispatcher::with_default(&dispatch, || info_span!("request", number));
            running.push(tokio::spawn(request(number).instrument(span)));
            if running.len() == 1000 {
                for task in running.drain(..) {
                    task.await.unwrap();
                }
            }
        }
    });
    drop(runtime);
    let ledger = collector.shutdown().unwrap();
    assert_eq!((ledger.delivered(), ledger.refused.total()), (3 * tasks, 0));
    assert_eq!(collector.stats().spans_without_memory, 0);
}

#[test]
fn threads_that_use_one_span_at_once_keep_its_ids_right() {
    const ROUNDS: usize = 2_000;
    let (receiver, collector) = start(|config| config.span_limits.event_count = 100_000);
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer(&collector)));
    let parent = tracing::dispatcher::with_default(&dispatch, || info_span!("parent", number = 0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _default = tracing::dispatcher::set_default(&dispatch);
                for number in 0..ROUNDS {
                    parent.in_scope(|| drop(info_span!("child")));
                    info!(parent: &parent, "event");
                    parent.record("number", number);
                }
            });
        }
    });
    drop(parent);
    collector.shutdown().unwrap();
    let spans = receiver.spans();
    let parent = spans.iter().find(|span| span.name == "parent").unwrap();
    let children = spans
        .iter()
        .filter(|span| span.parent_span_id == Some(parent.span_id));
    assert_eq!(
        (children.count(), spans.len()),
        (4 * ROUNDS, 4 * ROUNDS + 1)
    );
    // Those that have no room, and those that were skipped: the latter among the attributes.
    let events = parent.events.len() + parent.dropped_events_count as usize;
    let skipped = parent.dropped_attributes_count as usize;
    assert!(
        events <= 4 * ROUNDS && events + skipped >= 4 * ROUNDS,
        "{events}, {skipped}"
    );
}

#[test]
fn spans_with_endless_events_take_no_more_memory() {
    let (receiver, collector) = start(|_| {});
    let subscriber = tracing_subscriber::registry().with(layer(&collector));
    tracing::subscriber::with_default(subscriber, || {
        let spans: Vec<_> = (0..10).map(|_| info_span!("long")).collect();
        for number in 0..100_000 {
            for span in &spans {
                info!(parent: span, number, text = ?"some more text", "event");
            }
        }
    });
    collector.shutdown().unwrap();
    let spans = receiver.spans();
    assert_eq!(spans.len(), 10);
    for span in spans {
        assert!(span.events.len() >= 30, "{}", span.events.len());
        assert_eq!(
            span.events.len() + span.dropped_events_count as usize,
            100_000
        );
    }
}

#[test]
fn more_spans_than_there_are_places_are_counted() {
    let (receiver, collector) = start(|config| config.open_span_bytes_total = 64 * 512);
    let subscriber = tracing_subscriber::registry().with(layer(&collector));
    tracing::subscriber::with_default(subscriber, || {
        let spans: Vec<_> = (0..1000).map(|_| info_span!("one of many")).collect();
        for span in &spans {
            span.in_scope(|| info!("event"));
        }
        drop(spans);
        drop(info_span!("one more").entered());
    });
    let stats = collector.stats();
    collector.shutdown().unwrap();
    let spans = receiver.spans();
    assert_eq!(spans.last().map(|span| &*span.name), Some("one more"));
    assert!((64..1000).contains(&spans.len()), "{}", spans.len());
    // The cells, and the places of the others, were all in use.
    let cells = 64 - 2 * 4096 / 512 - 1;
    assert_eq!(stats.spans_without_memory, 1000 - cells);
}
