//! User code that runs within a call of the library may use the same recorder.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use common::{PATIENCE, span_id, start, trace_id};
use otlp_collector::span::{
    AnyValueRef, GenerateIds, IdGenerator, Sample, Sampler, SamplingInput, SamplingResult,
};
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Key, OpenSpan, Recorder, SpanId, SpanRef, TraceId};

/// Returns the sorted names of all spans that arrived. No span is missing or refused.
fn arrived(receiver: &Receiver, collector: &Collector) -> Vec<String> {
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.refused.total(), 0, "{ledger}");
    let spans = receiver.spans();
    assert_eq!(ledger.delivered(), spans.len() as u64);
    let mut names: Vec<_> = spans.into_iter().map(|span| span.name).collect();
    names.sort_unstable();
    names
}

fn finished(name: &str) -> SpanRef<'_> {
    SpanRef::new(trace_id(1), span_id(1), name)
}

/// Records a span, starts and ends one, and ends an open one, whenever it is converted or formatted.
#[derive(Clone, Copy)]
struct Busy<'c, 'r> {
    recorder: &'r Recorder,
    open: &'c Cell<Option<OpenSpan>>,
    looks: &'c Cell<u32>,
}

impl Busy<'_, '_> {
    fn work(&self) {
        self.looks.set(self.looks.get() + 1);
        self.recorder.record(&finished("recorded inside")).unwrap();
        self.recorder.start("started inside").try_end().unwrap();
        drop(self.open.take());
    }
}

impl From<Busy<'_, '_>> for AnyValueRef<'_> {
    fn from(busy: Busy<'_, '_>) -> Self {
        busy.work();
        Self::Int(1)
    }
}

impl From<Busy<'_, '_>> for Key<'_> {
    fn from(busy: Busy<'_, '_>) -> Self {
        busy.work();
        Self::from("key")
    }
}

impl fmt::Display for Busy<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.work();
        f.write_str("text")
    }
}

#[test]
fn a_conversion_may_record_and_end_spans_and_runs_once() {
    let (receiver, collector) = start(|_| ());
    let recorder = collector.recorder().unwrap();
    let (open, looks) = (Cell::new(Some(recorder.start("open"))), Cell::new(0));
    let busy = Busy {
        recorder: &recorder,
        open: &open,
        looks: &looks,
    };
    recorder
        .record_with(&finished("outside"), (("value", busy), (busy, 2)))
        .unwrap();
    assert_eq!(looks.get(), 2);
    let names = arrived(&receiver, &collector);
    assert_eq!(
        names,
        [
            "open",
            "outside",
            "recorded inside",
            "recorded inside",
            "started inside",
            "started inside"
        ]
    );
}

#[test]
fn values_set_on_an_open_span_may_record_and_end_other_spans() {
    let (receiver, collector) = start(|_| ());
    let recorder = collector.recorder().unwrap();
    let (open, looks) = (Cell::new(Some(recorder.start("open"))), Cell::new(0));
    let busy = Busy {
        recorder: &recorder,
        open: &open,
        looks: &looks,
    };
    let mut span = recorder.start("outside");
    span.set_attribute("value", busy).set_attribute(busy, 1);
    span.set_attribute_display("display", &busy)
        .record_error(&busy);
    span.try_end().unwrap();
    assert_eq!(looks.get(), 4);
    let names = arrived(&receiver, &collector);
    assert_eq!(names.len(), 2 + 2 * 4);
    let spans = receiver.spans();
    let outside = spans.iter().find(|span| span.name == "outside").unwrap();
    assert_eq!((outside.attributes.len(), outside.events.len()), (3, 1));
}

thread_local! {
    /// A recorder for code that cannot borrow one.
    static RECORDER: Cell<Option<&'static Recorder>> = const { Cell::new(None) };
}

/// Runs `work` with this thread's recorder, except within itself.
fn with_recorder(work: impl FnOnce(&Recorder)) {
    if let Some(recorder) = RECORDER.take() {
        work(recorder);
        RECORDER.set(Some(recorder));
    }
}

fn lend(recorder: Recorder) -> &'static Recorder {
    let recorder = Box::leak(Box::new(recorder));
    RECORDER.set(Some(recorder));
    recorder
}

#[test]
fn a_sampler_may_record_and_start_spans() {
    struct Busy;

    impl Sample for Busy {
        fn sample<'s>(&'s self, _: &SamplingInput<'_>) -> SamplingResult<'s> {
            with_recorder(|recorder| {
                recorder.record(&finished("recorded inside")).unwrap();
                recorder.start("started inside").try_end().unwrap();
            });
            SamplingResult::sampled()
        }
    }

    let (receiver, collector) = start(|config| config.sampler = Sampler::Custom(Arc::new(Busy)));
    let recorder = lend(collector.recorder().unwrap());
    recorder.start("outside").try_end().unwrap();
    let names = arrived(&receiver, &collector);
    assert_eq!(names, ["outside", "recorded inside", "started inside"]);
}

#[test]
fn an_id_generator_may_record_and_start_spans() {
    struct Busy(u64);

    impl GenerateIds for Busy {
        fn new_trace_id(&mut self) -> TraceId {
            trace_id(7)
        }

        fn new_span_id(&mut self) -> SpanId {
            with_recorder(|recorder| {
                recorder.record(&finished("recorded inside")).unwrap();
                let inside = recorder.start("started inside");
                assert_ne!(inside.context().unwrap().trace_id, trace_id(7));
                assert_ne!(recorder.new_trace_id(), trace_id(7));
            });
            self.0 += 1;
            SpanId::from_u64(self.0).unwrap()
        }
    }

    let generator = IdGenerator::Custom(Arc::new(|| Box::new(Busy(0))));
    let (receiver, collector) = start(|config| config.id_generator = generator);
    let recorder = lend(collector.recorder().unwrap());
    let outside = recorder.start("outside");
    assert_eq!(outside.context().unwrap().trace_id, trace_id(7));
    outside.try_end().unwrap();
    let names = arrived(&receiver, &collector);
    assert_eq!(names, ["outside", "recorded inside", "started inside"]);
}

/// Code of the user's that finds this thread's recorder by the collector alone.
mod by_collector {
    use std::sync::OnceLock;

    use super::*;

    fn spans_of_its_own(collector: &OnceLock<Collector>) {
        thread_local! {
            static IS_WITHIN: Cell<bool> = const { Cell::new(false) };
        }
        if !IS_WITHIN.replace(true) {
            let collector = collector.get().unwrap();
            let inside = collector.start("started inside");
            collector.start_child(&inside, "child inside").end();
            inside.end();
            collector
                .recorder()
                .unwrap()
                .record(&finished("recorded inside"))
                .unwrap();
            IS_WITHIN.set(false);
        }
    }

    #[test]
    fn samplers_and_generators_may_make_the_recorder_that_they_are_asked_for() {
        static COLLECTOR: OnceLock<Collector> = OnceLock::new();

        struct Busy(u64);

        impl GenerateIds for Busy {
            fn new_trace_id(&mut self) -> TraceId {
                spans_of_its_own(&COLLECTOR);
                trace_id(7)
            }

            fn new_span_id(&mut self) -> SpanId {
                spans_of_its_own(&COLLECTOR);
                self.0 += 1;
                SpanId::from_u64(self.0).unwrap()
            }
        }

        impl Sample for Busy {
            fn sample<'s>(&'s self, _: &SamplingInput<'_>) -> SamplingResult<'s> {
                spans_of_its_own(&COLLECTOR);
                SamplingResult::sampled()
            }
        }

        let (receiver, collector) = start(|config| {
            config.sampler = Sampler::Custom(Arc::new(Busy(0)));
            config.id_generator = IdGenerator::Custom(Arc::new(|| {
                // It runs before the thread has a recorder.
                if COLLECTOR.get().is_some() {
                    spans_of_its_own(&COLLECTOR);
                }
                Box::new(Busy(0))
            }));
        });
        assert!(COLLECTOR.set(collector.clone()).is_ok());
        collector.start("outside").try_end().unwrap();
        let names = arrived(&receiver, &collector);
        let count = |name: &str| names.iter().filter(|other| *other == name).count();
        let inside = count("started inside");
        assert_eq!(count("outside"), 1);
        assert!(inside >= 4);
        assert_eq!(
            (count("child inside"), count("recorded inside")),
            (inside, inside)
        );
    }

    #[test]
    fn a_text_of_a_span_may_start_and_end_other_spans() {
        struct Busy(Collector);

        impl fmt::Display for Busy {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut inside = self.0.start("inside");
                inside.set_attribute_display("text", &"of the inner span");
                inside.end();
                f.write_str("text")
            }
        }

        let (receiver, collector) = start(|_| ());
        let mut outside = collector.start("outside");
        outside.set_attribute_display("display", &Busy(collector.clone()));
        outside.record_error(&Busy(collector.clone()));
        outside.end();
        assert_eq!(
            arrived(&receiver, &collector),
            ["inside", "inside", "outside"]
        );
    }
}

#[test]
fn a_conversion_that_panics_leaves_the_recorder_as_it_was() {
    #[derive(Clone, Copy)]
    struct Panics;

    impl From<Panics> for AnyValueRef<'_> {
        fn from(_: Panics) -> Self {
            panic!("expected")
        }
    }

    let (receiver, collector) = start(|_| ());
    let recorder = RefCell::new(collector.recorder().unwrap());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let recorder = recorder.borrow();
        recorder.record_with(&finished("never"), (("key", Panics),))
    }));
    assert!(result.is_err());
    recorder.borrow().record(&finished("after")).unwrap();
    assert_eq!(arrived(&receiver, &collector), ["after"]);
}
