//! Spans that move between threads: in tasks, and in random programs.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use common::start;
use otlp_collector::span::{KeepIf, StatusRef, TailSampling};
use otlp_collector::testing::{self, ReceivedSpan};
use otlp_collector::{AnyValue, Collector, OpenSpan, Overflow};
use proptest::prelude::*;

/// Runs tasks that hold two spans each while they move between threads; one in two of them fails.
fn run_tasks(collector: &Collector, tasks: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap();
    runtime.block_on(async {
        let spawn = |number: u64| {
            let collector = collector.clone();
            tokio::spawn(async move {
                let mut request = collector.start("request");
                request.set_attribute("number", number);
                tokio::task::yield_now().await;
                let mut query = collector.start_child(&request, "query");
                tokio::task::yield_now().await;
                query.set_attribute("number", number);
                if number.is_multiple_of(2) {
                    query.set_status(StatusRef::Error("failed"));
                }
                let end = tokio::spawn(async move { query.end() });
                tokio::task::yield_now().await;
                end.await.unwrap();
                request.end();
            })
        };
        let mut running = Vec::new();
        for number in 0..tasks {
            running.push(spawn(number));
            if running.len() == 1000 {
                for task in running.drain(..) {
                    task.await.unwrap();
                }
            }
        }
        for task in running {
            task.await.unwrap();
        }
    });
}

#[test]
fn tasks_that_migrate_lose_no_span() {
    const TASKS: u64 = 100_000;
    let receiver = testing::Receiver::start_counting().unwrap();
    let collector = Collector::new(otlp_collector::Config {
        overflow: Overflow::Block { timeout_ms: 60_000 },
        ..common::config(&receiver)
    })
    .unwrap();
    run_tasks(&collector, TASKS);
    let stats = collector.stats();
    assert_eq!(stats.spans_without_memory, 0);
    let ledger = collector.shutdown().unwrap();
    assert_eq!(
        (ledger.delivered(), ledger.refused.total()),
        (2 * TASKS, 0),
        "{ledger}"
    );
}

#[test]
fn a_root_decides_about_the_tasks_of_its_trace() {
    const TASKS: u64 = 2_000;
    let (receiver, collector) = start(|config| {
        config.overflow = Overflow::Block { timeout_ms: 60_000 };
        config.tail_sampling = Some(TailSampling::new(KeepIf {
            failed: true,
            ..KeepIf::default()
        }));
    });
    run_tasks(&collector, TASKS);
    let ledger = collector.shutdown().unwrap();
    assert_eq!(
        (ledger.delivered(), ledger.sampled_out.at_end),
        (TASKS, TASKS),
        "{ledger}"
    );
    let spans = receiver.spans();
    let requests = spans.iter().filter(|span| span.name == "request");
    let ids: BTreeMap<_, _> = requests
        .map(|span| (&span.trace_id, &span.span_id))
        .collect();
    for query in spans.iter().filter(|span| span.name == "query") {
        assert_eq!(
            ids.get(&query.trace_id).copied(),
            query.parent_span_id.as_ref()
        );
    }
}

// ---- Random programs ----

const THREADS: usize = 3;

/// A step of a program, on one thread. Spans are numbered in the order of their starts.
#[derive(Clone, Debug)]
enum Step {
    Start,
    StartChild(usize),
    Attribute(usize, u8),
    /// Gives a span to another thread.
    Move(usize, usize),
    End(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Start),
        3 => any::<usize>().prop_map(Step::StartChild),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(at, value)| Step::Attribute(at, value)),
        4 => (any::<usize>(), 0..THREADS).prop_map(|(at, to)| Step::Move(at, to)),
        3 => any::<usize>().prop_map(Step::End),
    ]
}

/// Work for one thread, which owns some of the open spans.
type Work = Box<dyn FnOnce(&mut BTreeMap<usize, OpenSpan>) -> Option<OpenSpan> + Send>;

/// A thread that does one step at a time.
struct Worker {
    work: Sender<Work>,
    done: Receiver<Option<OpenSpan>>,
}

impl Worker {
    fn start<'s>(scope: &'s thread::Scope<'s, '_>) -> Self {
        let (work, steps) = channel::<Work>();
        let (report, done) = channel();
        scope.spawn(move || {
            let mut open = BTreeMap::new();
            for step in steps {
                report.send(step(&mut open)).unwrap();
            }
        });
        Self { work, done }
    }

    fn run(
        &self,
        work: impl FnOnce(&mut BTreeMap<usize, OpenSpan>) -> Option<OpenSpan> + Send + 'static,
    ) -> Option<OpenSpan> {
        self.work.send(Box::new(work)).unwrap();
        self.done.recv().unwrap()
    }
}

/// A span as the oracle has it.
#[derive(Clone, Debug, PartialEq)]
struct Expected {
    parent: Option<usize>,
    value: Option<i64>,
}

/// Runs a program and returns what the oracle expects to arrive.
fn run(collector: &Collector, program: Vec<(usize, Step)>) -> Vec<Expected> {
    let mut expected: Vec<Expected> = Vec::new();
    // The number of each open span, and its thread.
    let mut open: Vec<(usize, usize)> = Vec::new();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| Worker::start(scope)).collect();
        for (thread, step) in program {
            let at = |at: usize| (!open.is_empty()).then(|| at % open.len());
            match step {
                Step::Start => {
                    let (number, collector) = (expected.len(), collector.clone());
                    workers[thread].run(move |spans| {
                        spans.insert(number, collector.start(&number.to_string()));
                        None
                    });
                    expected.push(Expected {
                        parent: None,
                        value: None,
                    });
                    open.push((number, thread));
                }
                Step::StartChild(parent) => {
                    let Some((parent, thread)) = at(parent).map(|at| open[at]) else {
                        continue;
                    };
                    let (number, collector) = (expected.len(), collector.clone());
                    workers[thread].run(move |spans| {
                        let child = collector.start_child(&spans[&parent], &number.to_string());
                        spans.insert(number, child);
                        None
                    });
                    expected.push(Expected {
                        parent: Some(parent),
                        value: None,
                    });
                    open.push((number, thread));
                }
                Step::Attribute(span, value) => {
                    let Some((number, thread)) = at(span).map(|at| open[at]) else {
                        continue;
                    };
                    workers[thread].run(move |spans| {
                        spans
                            .get_mut(&number)
                            .unwrap()
                            .set_attribute("value", value);
                        None
                    });
                    expected[number].value = Some(value.into());
                }
                Step::Move(span, to) => {
                    let Some(at) = at(span) else { continue };
                    let (number, from) = open[at];
                    let span = workers[from]
                        .run(move |spans| spans.remove(&number))
                        .unwrap();
                    workers[to].run(move |spans| {
                        spans.insert(number, span);
                        None
                    });
                    open[at].1 = to;
                }
                Step::End(span) => {
                    let Some(at) = at(span) else { continue };
                    let (number, thread) = open.swap_remove(at);
                    workers[thread].run(move |spans| {
                        spans.remove(&number).unwrap().try_end().unwrap();
                        None
                    });
                }
            }
        }
        // The threads drop the spans that are left.
    });
    expected
}

fn value(span: &ReceivedSpan) -> Option<i64> {
    match span.attribute("value") {
        Some(AnyValue::Int(value)) => Some(value),
        None => None,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn programs_on_several_threads_give_the_tree_of_the_oracle(
        program in prop::collection::vec((0..THREADS, any_step()), 0..150),
    ) {
        let (receiver, collector) = start(|_| {});
        let expected = run(&collector, program);
        let ledger = collector.shutdown().unwrap();
        prop_assert_eq!(ledger.refused.total(), 0);
        let spans = receiver.spans();
        let number = |span: &ReceivedSpan| span.name.parse::<usize>().unwrap();
        let by_id: BTreeMap<_, _> = spans.iter().map(|span| (span.span_id, span)).collect();
        let mut arrived = BTreeMap::new();
        for span in &spans {
            let parent = span.parent_span_id.and_then(|parent| by_id.get(&parent));
            prop_assert_eq!(parent.is_none(), span.parent_span_id.is_none());
            if let Some(parent) = parent {
                prop_assert_eq!(&parent.trace_id, &span.trace_id);
            }
            let parent = parent.map(|parent| number(parent));
            let found = Expected { parent, value: value(span) };
            prop_assert!(arrived.insert(number(span), found).is_none());
        }
        prop_assert_eq!(arrived.into_values().collect::<Vec<_>>(), expected);
    }
}
