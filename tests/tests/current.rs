//! The current span of a thread, with a collector that is installed for the thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver as Commands, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use otlp_collector::recorder::EnteredSpan;
use otlp_collector::span::{Sample, Sampler, SamplingInput, SamplingResult, StatusRef};
use otlp_collector::testing::{ReceivedSpan, Receiver};
use otlp_collector::{
    AnyValue, Collector, Config, OpenSpan, SpanContext, SpanId, SpanKind, Status, TraceId, current,
    span, span_builder,
};
use proptest::prelude::*;

use common::start;

/// The spans that arrived, by name.
fn finish(receiver: &Receiver, collector: &Collector) -> HashMap<String, ReceivedSpan> {
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.refused.total(), 0);
    let spans = receiver.spans();
    assert_eq!(ledger.delivered(), spans.len() as u64);
    let by_name: HashMap<_, _> = spans
        .into_iter()
        .map(|span| (span.name.clone(), span))
        .collect();
    assert_eq!(ledger.delivered(), by_name.len() as u64, "names are unique");
    by_name
}

/// Asserts the parent of each span; "" for a root.
fn assert_parents(spans: &HashMap<String, ReceivedSpan>, parents: &[(&str, &str)]) {
    assert_eq!(spans.len(), parents.len());
    for (name, parent) in parents {
        let span = &spans[*name];
        match *parent {
            "" => assert_eq!(span.parent_span_id, None, "{name}"),
            parent => {
                let parent = &spans[parent];
                assert_eq!(span.parent_span_id, Some(parent.span_id), "{name}");
                assert_eq!(span.trace_id, parent.trace_id, "{name}");
            }
        }
    }
}

fn text(span: &ReceivedSpan, key: &str) -> Option<String> {
    match span.attribute(key)? {
        AnyValue::String(text) => Some(text.to_string()),
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn spans_nest_by_scope() {
    let (receiver, collector) = start(|_| {});
    let installed = collector.install_for_thread();
    {
        let mut a = span!("a");
        let _before = span!("before");
        let _a = a.enter();
        {
            let _b = span!("b").entered();
            let mut c = span!("c");
            c.in_scope(|| drop(span!("d")));
            let _e = span!("e");
        }
        let _f = span!("f");
        let _root = span!("root", parent: None);
    }
    drop(span!("after"));
    drop(installed);
    let spans = finish(&receiver, &collector);
    assert_parents(
        &spans,
        &[
            ("a", ""),
            ("before", ""),
            ("b", "a"),
            ("c", "b"),
            ("d", "c"),
            ("e", "b"),
            ("f", "a"),
            ("root", ""),
            ("after", ""),
        ],
    );
}

#[test]
fn guards_dropped_out_of_order_leave_the_right_parent() {
    let (receiver, collector) = start(|_| {});
    let _installed = collector.install_for_thread();
    let a = span!("a").entered();
    let b = span!("b").entered();
    let c = span!("c").entered();
    drop(a);
    drop(span!("in c"));
    drop(c);
    drop(span!("in b"));
    let d = span!("d").entered();
    let b = b.exit();
    drop(span!("in d"));
    drop(d);
    drop(span!("in none"));
    let _b = b.entered();
    drop(span!("in b again"));
    drop(_b);
    let spans = finish(&receiver, &collector);
    assert_parents(
        &spans,
        &[
            ("a", ""),
            ("b", "a"),
            ("c", "b"),
            ("in c", "c"),
            ("in b", "b"),
            ("d", "b"),
            ("in d", "d"),
            ("in none", ""),
            ("in b again", "b"),
        ],
    );
}

#[test]
fn deep_stacks_keep_their_order() {
    let (receiver, collector) = start(|_| {});
    let _installed = collector.install_for_thread();
    let mut guards: Vec<EnteredSpan> = Vec::new();
    for depth in 0..100 {
        guards.push(span_builder(&format!("{depth}")).start().entered());
    }
    for depth in (0..100).rev() {
        drop(span_builder(&format!("in {depth}")).start());
        drop(guards.pop());
    }
    let spans = finish(&receiver, &collector);
    assert_eq!(spans.len(), 200);
    for depth in 0..100 {
        let span = &spans[&depth.to_string()];
        assert_eq!(
            spans[&format!("in {depth}")].parent_span_id,
            Some(span.span_id)
        );
        if depth > 0 {
            assert_eq!(
                span.parent_span_id,
                Some(spans[&(depth - 1).to_string()].span_id)
            );
        }
    }
}

#[test]
fn a_leaked_guard_leaves_its_span_current_until_the_thread_ends() {
    let (receiver, collector) = start(|_| {});
    let clone = collector.clone();
    thread::spawn(move || {
        let _installed = clone.install_for_thread();
        let mut a = span!("a");
        mem::forget(a.enter());
        // It moved to the thread.
        assert!(a.is_none() && a.context().is_none());
        a.set_attribute("ignored", true);
        mem::forget(span!("b").entered());
        let c = span!("c").entered();
        drop(span!("in c"));
        drop(c);
        drop(span!("in b"));
        assert!(current().is_recording());
    })
    .join()
    .unwrap();
    assert!(!current().is_recording());
    let spans = finish(&receiver, &collector);
    assert_parents(
        &spans,
        &[
            ("a", ""),
            ("b", "a"),
            ("c", "b"),
            ("in c", "c"),
            ("in b", "b"),
        ],
    );
}

#[test]
fn thread_locals_that_are_dropped_late_may_use_the_current_span() {
    struct Late;

    impl Drop for Late {
        fn drop(&mut self) {
            let _late = span!("late").entered();
            current().set_attribute("is", "late");
            drop(current().context());
        }
    }

    thread_local! {
        static EARLY: RefCell<Option<Late>> = const { RefCell::new(None) };
        static GUARD: RefCell<Option<EnteredSpan>> = const { RefCell::new(None) };
    }
    let (receiver, collector) = start(|_| {});
    let clone = collector.clone();
    thread::spawn(move || {
        mem::forget(clone.install_for_thread());
        // Dropped after the stack.
        EARLY.set(Some(Late));
        GUARD.set(None);
        GUARD.set(Some(span!("guarded").entered()));
    })
    .join()
    .unwrap();
    let spans = finish(&receiver, &collector);
    assert_eq!(spans.len(), 2);
    assert!(spans.contains_key("late") && spans.contains_key("guarded"));
}

#[test]
fn unwinding_exits_and_fails_spans() {
    let (receiver, collector) = start(|_| {});
    let _installed = collector.install_for_thread();
    let mut outer = span!("outer");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        outer.in_scope(|| {
            let _inner = span!("inner").entered();
            panic!("intended");
        })
    }));
    assert!(panicked.is_err());
    assert!(!outer.is_none());
    drop(span!("after"));
    drop(outer);
    let spans = finish(&receiver, &collector);
    assert_parents(&spans, &[("outer", ""), ("inner", "outer"), ("after", "")]);
    assert_eq!(spans["inner"].status, Status::Error("panicked".into()));
    assert_eq!(spans["outer"].status, Status::Unset);
}

#[test]
fn the_current_span_is_reached_from_deep_in_the_stack() {
    let (receiver, collector) = start(|_| {});
    let _installed = collector.install_for_thread();
    let caller = SpanContext::new(TraceId::from_u128(7).unwrap(), SpanId::from_u64(8).unwrap());
    {
        let guard = span!("a").entered();
        assert!(current().set_parent(&caller) && current().set_kind(SpanKind::Server));
        assert!(guard.set_start_time(5));
        current()
            .set_attribute("one", 1)
            .set_attribute_display("two", &2)
            .add_event("event", &[])
            .record_error(&fmt::Error)
            .set_status(StatusRef::Error("failed"))
            .set_name("renamed");
        let context = current().context().unwrap();
        assert_eq!(context.trace_id, caller.trace_id);
        assert_eq!(guard.context(), Some(context.clone()));
        assert!(!current().set_parent(&caller));
        let mut headers = 0;
        current().inject(|_, value| {
            headers += 1;
            assert!(value.contains(&context.span_id.to_string()));
        });
        assert_eq!(headers, 1);
        guard.set_attribute("three", 3);
    }
    // Without a current span, nothing happens.
    current()
        .set_attribute("a", 1)
        .set_status(StatusRef::Ok)
        .inject(|_, _| unreachable!());
    assert!(current().context().is_none() && !current().set_kind(SpanKind::Client));
    let spans = finish(&receiver, &collector);
    let span = &spans["renamed"];
    assert_eq!(span.attributes.len(), 3);
    assert_eq!((span.events.len(), span.start_time), (2, 5));
    assert_eq!(span.parent_span_id, Some(caller.span_id));
}

#[test]
fn the_macro_takes_options_and_attributes_of_all_forms() {
    const KEYED: &str = "name of a constant";
    #[derive(Debug)]
    struct Order(#[expect(dead_code, reason = "shown by Debug")] u32);

    let (receiver, collector) = start(|_| {});
    let _installed = collector.install_for_thread();
    let caller = SpanContext::new(TraceId::from_u128(7).unwrap(), SpanId::from_u64(8).unwrap());
    let (user, peer, order) = ("eve", std::net::Ipv4Addr::LOCALHOST, Order(3));
    let owned = String::from("text");
    let parent = span!("parent", kind: SpanKind::Client, user, %peer, ?order,);
    let child = span!(
        KEYED,
        parent: &parent,
        kind: Server,
        start_time: 9,
        "a-key" = 1,
        b.key = &owned,
        c = %peer,
        d.e.f = ?order,
        "g" = ?Some(1),
        "h" = %"shown",
    );
    let kind = SpanKind::Consumer;
    let remote = span!("remote", kind: kind, parent: &caller);
    drop(span!("optional", parent: Some(&caller), "size" = owned.len()));
    drop((remote, child, parent));
    let spans = finish(&receiver, &collector);
    assert_eq!(spans["remote"].kind, SpanKind::Consumer);
    let (parent, child) = (&spans["parent"], &spans[KEYED]);
    let texts = |span, keys: &[&str]| -> Vec<_> {
        keys.iter().map(|key| text(span, key).unwrap()).collect()
    };
    assert_eq!(
        texts(parent, &["user", "peer", "order"]),
        ["eve", "127.0.0.1", "Order(3)"]
    );
    assert_eq!(
        texts(child, &["a-key", "b.key", "c", "d.e.f", "g", "h"]),
        [
            "Int(1)",
            "text",
            "127.0.0.1",
            "Order(3)",
            "Some(1)",
            "shown"
        ]
    );
    assert_eq!(child.parent_span_id, Some(parent.span_id));
    assert_eq!((child.kind, child.start_time), (SpanKind::Server, 9));
    assert_eq!(spans["remote"].trace_id, caller.trace_id);
    assert_eq!(spans["optional"].parent_span_id, Some(caller.span_id));
}

#[test]
fn values_are_evaluated_only_for_recorded_spans() {
    let (_receiver, collector) = start(|config| config.sampler = Sampler::AlwaysOff);
    let unsampled = collector.install_for_thread();
    let evaluated = || -> i64 { panic!("evaluated") };
    let mut span = span!("unsampled", "value" = evaluated());
    assert!(span.context().is_some() && !span.is_recording());
    // It is a parent even so.
    let trace_id = span.context().unwrap().trace_id;
    span.in_scope(|| assert_eq!(span!("child").context().unwrap().trace_id, trace_id));
    drop((span, unsampled));
    assert!(span!("none", "value" = evaluated()).is_none());
}

#[test]
fn without_a_collector_spans_do_nothing() {
    let disabled = Collector::new(Config {
        disabled: true,
        ..Config::default()
    })
    .unwrap();
    for installed in [None, Some(disabled.install_for_thread())] {
        let mut span = span!("none", kind: Server, "key" = 1);
        assert!(span.is_none() && !span.is_recording() && span.context().is_none());
        span.set_attribute("key", 2).add_event("event", &[]);
        span.inject(|_, _| unreachable!());
        assert!(!span.set_kind(SpanKind::Client));
        span.keep_trace(true);
        assert!(format!("{span:?}").contains("None"));
        {
            let entered = span.enter();
            entered.set_attribute("key", 3);
            assert!(span!("child").is_none() && current().context().is_none());
        }
        assert_eq!(span.try_end(), Ok(()));
        drop(installed);
    }
    assert_eq!(disabled.ledger().accepted, 0);
}

/// Formats itself by recording on the current span.
struct Busy<'g>(&'g RefCell<Option<EnteredSpan>>);

impl fmt::Display for Busy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        current()
            .set_attribute("skipped", 1)
            .set_attribute_display("skipped", &2);
        assert!(current().context().is_none());
        let _inside = span!("inside").entered();
        current().set_attribute("deep", "inside");
        drop(self.0.take());
        f.write_str("shown")
    }
}

#[test]
fn a_display_that_records_on_its_own_span_is_skipped_and_counted() {
    let (receiver, collector) = start(|_| {});
    let _installed = collector.install_for_thread();
    let keep = RefCell::new(None);
    let guard = span!("outside").entered();
    current().set_attribute_display("busy", &Busy(&keep));
    assert!(
        !current().set_kind(SpanKind::Client),
        "a child saw the context"
    );
    current().set_attribute("after", true);
    drop(guard);
    let spans = finish(&receiver, &collector);
    assert_parents(&spans, &[("outside", ""), ("inside", "outside")]);
    let outside = &spans["outside"];
    assert_eq!(text(outside, "busy").as_deref(), Some("shown"));
    assert_eq!(
        (outside.attributes.len(), outside.dropped_attributes_count),
        (2, 2)
    );
    assert_eq!(text(&spans["inside"], "deep").as_deref(), Some("inside"));
}

#[test]
fn a_display_that_drops_the_guard_of_its_own_span_ends_it_afterwards() {
    let (receiver, collector) = start(|_| {});
    let _installed = collector.install_for_thread();
    let below = span!("below").entered();
    let keep = RefCell::new(Some(span!("outside").entered()));
    current().set_attribute_display("busy", &Busy(&keep));
    drop(span!("after"));
    drop(below);
    let spans = finish(&receiver, &collector);
    assert_parents(
        &spans,
        &[
            ("below", ""),
            ("outside", "below"),
            ("inside", "outside"),
            ("after", "below"),
        ],
    );
    assert_eq!(text(&spans["outside"], "busy").as_deref(), Some("shown"));
}

#[test]
fn a_sampler_may_start_and_enter_spans() {
    struct Busy;

    impl Sample for Busy {
        fn sample<'s>(&'s self, input: &SamplingInput<'_>) -> SamplingResult<'s> {
            if input.name == "outside" {
                let _entered = span!("inside").entered();
                drop(span!("deep inside"));
            }
            current().set_attribute("skipped", true);
            SamplingResult::sampled()
        }
    }

    let (receiver, collector) = start(|config| {
        config.sampler = Sampler::Custom(Arc::new(Busy));
    });
    let _installed = collector.install_for_thread();
    span!("parent").in_scope(|| drop(span!("outside")));
    let spans = finish(&receiver, &collector);
    assert_parents(
        &spans,
        &[
            ("parent", ""),
            ("outside", "parent"),
            ("inside", "parent"),
            ("deep inside", "inside"),
        ],
    );
}

thread_local! {
    static GUARD: RefCell<Option<EnteredSpan>> = const { RefCell::new(None) };
}

#[test]
fn a_sampler_that_exits_the_parent_and_panics_leaves_no_parent() {
    struct Panicking;

    impl Sample for Panicking {
        fn sample<'s>(&'s self, input: &SamplingInput<'_>) -> SamplingResult<'s> {
            if input.name == "never" {
                GUARD.take();
                panic!("by the sampler");
            }
            SamplingResult::sampled()
        }
    }

    let (receiver, collector) = start(|config| {
        config.sampler = Sampler::Custom(Arc::new(Panicking));
    });
    let _installed = collector.install_for_thread();
    GUARD.set(Some(span!("exited").entered()));
    catch_unwind(AssertUnwindSafe(|| span!("never"))).unwrap_err();
    assert_eq!(collector.ledger().accepted, 1);
    drop(span!("after"));
    let spans = finish(&receiver, &collector);
    assert_parents(&spans, &[("exited", ""), ("after", "")]);
}

// ---- Random programs ----

const THREADS: usize = 3;

/// A step of a thread's, with the numbers of spans and guards.
#[derive(Clone, Debug)]
enum Step {
    Start,
    StartRoot,
    StartChildOf(usize),
    Enter(usize),
    Exit(usize),
    End(usize),
    EndGuard(usize),
    Leak(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Start),
        1 => Just(Step::StartRoot),
        1 => any::<usize>().prop_map(Step::StartChildOf),
        5 => any::<usize>().prop_map(Step::Enter),
        3 => any::<usize>().prop_map(Step::Exit),
        2 => any::<usize>().prop_map(Step::End),
        2 => any::<usize>().prop_map(Step::EndGuard),
        1 => any::<usize>().prop_map(Step::Leak),
    ]
}

/// Names of spans, which stand for their parents as well.
type Named<T> = (usize, T);

/// The spans of all threads that are open and not entered, and each span's parent.
#[derive(Default)]
struct World {
    open: Vec<Named<OpenSpan>>,
    parents: Vec<Option<usize>>,
}

/// Spans that a thread has entered.
#[derive(Default)]
struct Entered {
    guards: Vec<Named<EnteredSpan>>,
    /// The oracle's stack: all that was entered and not exited.
    stack: Vec<usize>,
}

impl World {
    fn add(&mut self, parent: Option<usize>, start: impl FnOnce(&str) -> OpenSpan) {
        let number = self.parents.len();
        self.parents.push(parent);
        self.open.push((number, start(&number.to_string())));
    }
}

fn perform(step: Step, world: &mut World, entered: &mut Entered) {
    let (open, guards) = (world.open.len(), entered.guards.len());
    match step {
        Step::Start => world.add(entered.stack.last().copied(), |name| {
            span_builder(name).start()
        }),
        Step::StartRoot => world.add(None, |name| span_builder(name).parent(None).start()),
        Step::StartChildOf(at) if open > 0 => {
            let (parent, span) = world.open.swap_remove(at % open);
            world.add(Some(parent), |name| {
                span_builder(name).parent(&span).start()
            });
            world.open.push((parent, span));
        }
        Step::Enter(at) if open > 0 => {
            let (number, span) = world.open.swap_remove(at % open);
            entered.guards.push((number, span.entered()));
            entered.stack.push(number);
        }
        Step::Exit(at) if guards > 0 => {
            let (number, guard) = entered.guards.swap_remove(at % guards);
            world.open.push((number, guard.exit()));
            entered.stack.retain(|other| *other != number);
        }
        Step::End(at) if open > 0 => drop(world.open.swap_remove(at % open)),
        Step::EndGuard(at) if guards > 0 => {
            let (number, guard) = entered.guards.swap_remove(at % guards);
            drop(guard);
            entered.stack.retain(|other| *other != number);
        }
        Step::Leak(at) if guards > 0 => mem::forget(entered.guards.swap_remove(at % guards)),
        _ => {}
    }
}

/// Performs the steps that arrive, one after the other.
fn run(
    collector: &Collector,
    steps: &Commands<Step>,
    performed: &Sender<()>,
    world: &Mutex<World>,
) {
    let _installed = collector.install_for_thread();
    let mut entered = Entered::default();
    for step in steps {
        perform(step, &mut world.lock().unwrap(), &mut entered);
        performed.send(()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn random_programs_give_the_tree_of_a_naive_oracle(
        steps in prop::collection::vec((0..THREADS, any_step()), 0..300),
    ) {
        let (receiver, collector) = start(|_| {});
        let world = Mutex::new(World::default());
        let (done, performed) = channel();
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..THREADS {
                let (command, commands) = channel();
                let (collector, world, done) = (&collector, &world, done.clone());
                let thread = scope.spawn(move || run(collector, &commands, &done, world));
                threads.push((command, thread));
            }
            for (thread, step) in steps {
                threads[thread].0.send(step).unwrap();
                performed.recv().unwrap();
            }
            // Not only the closures are to end, but also the threads' locals.
            for (command, thread) in threads {
                drop(command);
                thread.join().unwrap();
            }
        });
        let world = world.into_inner().unwrap();
        drop(world.open);
        let spans = finish(&receiver, &collector);
        prop_assert_eq!(spans.len(), world.parents.len());
        for (number, parent) in world.parents.iter().enumerate() {
            let parent = parent.map(|parent| spans[&parent.to_string()].span_id);
            let sent = spans[&number.to_string()].parent_span_id;
            prop_assert_eq!(sent, parent, "span {}", number);
        }
    }
}
