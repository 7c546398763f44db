//! Sampling at the start of spans (samplers) and at the end of their local root (tail sampling).

use std::sync::Arc;
use std::time::Duration;

use otlp_collector::span::{
    InstrumentationScope, KeepIf, ParentBased, Sample, Sampler, SamplingInput, SamplingResult,
    StatusRef, TailSampling, TraceFlags, TraceState,
};
use otlp_collector::testing::{ReceivedSpan, Receiver};
use otlp_collector::{Collector, Config, KeyValue, Ledger, Recorder, SpanContext, SpanKind};
use proptest::prelude::*;

use common::{span_id, start, trace_id};

/// Shuts down and returns the ledger and the sorted names of the spans that arrived.
fn finish(receiver: &Receiver, collector: &Collector) -> (Ledger, Vec<String>) {
    let ledger = collector.shutdown().unwrap();
    let mut names: Vec<_> = receiver.spans().into_iter().map(|span| span.name).collect();
    names.sort();
    assert_eq!(ledger.delivered(), names.len() as u64);
    assert_eq!(ledger.refused.total(), 0);
    (ledger, names)
}

// ---- Sampling at the start ----

#[test]
fn unsampled_spans_have_a_context_and_children_but_are_not_sent() {
    let (receiver, collector) = start(|config| {
        config.sampler = ParentBased::new(Sampler::AlwaysOff).into();
    });
    let recorder = collector.recorder().unwrap();
    let mut root = recorder.start("root");
    root.set_attribute("key", 1)
        .add_event("event", &[])
        .set_status(StatusRef::Ok);
    assert!(!root.is_recording());
    let context = root.context().unwrap().into_owned();
    assert!(!context.trace_flags.is_sampled());
    let child = recorder.start_child(&root, "child");
    assert_eq!(child.context().unwrap().trace_id, context.trace_id);
    assert_ne!(child.context().unwrap().span_id, context.span_id);
    assert!(!child.is_recording());
    std::thread::scope(|threads| {
        threads.spawn(|| child.try_end().unwrap());
    });
    root.try_end().unwrap();

    // The caller's decision counts, and its trace state is propagated either way.
    for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true)] {
        let traceparent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let headers = [("traceparent", &*traceparent), ("tracestate", "rojo=1")];
        let caller = SpanContext::extract(headers).unwrap();
        let span = recorder
            .span_builder("called")
            .parent(Some(&caller))
            .start();
        assert_eq!(span.is_recording(), sampled);
        assert_eq!(span.context().unwrap().trace_state.as_str(), "rojo=1");
        let mut sent = String::new();
        span.inject(|name, value| {
            if name == "traceparent" {
                sent.push_str(value);
            }
        });
        assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && sent.ends_with(flags));
    }

    let (ledger, names) = finish(&receiver, &collector);
    assert_eq!(names, ["called", "called"]);
    assert_eq!((ledger.accepted, ledger.sampled_out.at_start), (2, 4));
}

#[test]
fn a_custom_sampler_receives_the_span_and_adds_attributes() {
    struct Choosy {
        attributes: Vec<KeyValue>,
    }

    impl Sample for Choosy {
        fn sample<'s>(&'s self, span: &SamplingInput<'_>) -> SamplingResult<'s> {
            assert_eq!((span.kind, span.links.len()), (SpanKind::Server, 0));
            assert_eq!(span.attributes[0].key.text(), "url.path");
            assert!(span.parent.is_none());
            let mut result = SamplingResult::sampled();
            result.is_sampled = span.name != "GET /health";
            result.attributes = &self.attributes;
            result.trace_state = Some(TraceState::parse("choosy=1").unwrap());
            result
        }
    }

    let choosy = Sampler::Custom(Arc::new(Choosy {
        attributes: vec![KeyValue::new("sampler", "choosy")],
    }));
    let (receiver, collector) = start(|config| config.sampler = ParentBased::new(choosy).into());
    let recorder = collector.recorder().unwrap();
    for name in ["GET /orders", "GET /health"] {
        let attributes = [otlp_collector::span::KeyValueRef::new("url.path", name)];
        let span = recorder
            .span_builder(name)
            .kind(SpanKind::Server)
            .attributes(&attributes)
            .start();
        assert_eq!(span.context().unwrap().trace_state.as_str(), "choosy=1");
        let child = recorder.start_child(&span, name);
        assert_eq!(child.context().unwrap().trace_state.as_str(), "choosy=1");
    }
    let (ledger, names) = finish(&receiver, &collector);
    assert_eq!(names, ["GET /orders"; 2]);
    assert_eq!(ledger.sampled_out.at_start, 2);
    let of_root = |span: &&ReceivedSpan| span.parent_span_id.is_none();
    let spans = receiver.spans();
    let root = spans.iter().find(of_root).unwrap();
    let keys: Vec<_> = root
        .attributes
        .iter()
        .map(|attribute| &*attribute.key)
        .collect();
    assert_eq!(keys, ["url.path", "sampler"]);
    assert_eq!(root.trace_state, "choosy=1");
}

#[test]
fn always_on_and_always_off_ignore_the_parent() {
    for (sampler, sampled) in [(Sampler::AlwaysOn, true), (Sampler::AlwaysOff, false)] {
        let (_receiver, collector) = start(|config| config.sampler = sampler);
        let recorder = collector.recorder().unwrap();
        for flags in [TraceFlags::NONE, TraceFlags::SAMPLED] {
            let parent = SpanContext {
                trace_flags: flags,
                ..SpanContext::new(trace_id(1), span_id(1))
            };
            let span = recorder.span_builder("span").parent(Some(&parent)).start();
            assert_eq!(span.is_recording(), sampled);
        }
    }
}

#[test]
fn invalid_sampling_settings_are_errors() {
    let error = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        let error = Collector::new(config).unwrap_err();
        assert!(error.is_config());
        error.to_string()
    };
    for (message, expected) in [
        (
            error(|config| config.sampler = Sampler::TraceIdRatio(1.5)),
            "sampler has the ratio 1.5: it must be from 0 to 1",
        ),
        (
            error(|config| {
                config.sampler = ParentBased::new(Sampler::TraceIdRatio(f64::NAN)).into();
            }),
            "sampler has the ratio NaN: it must be from 0 to 1",
        ),
        (
            error(|config| {
                config.tail_sampling = Some(TailSampling {
                    held_traces_max: 0,
                    ..TailSampling::new(KeepIf::default())
                });
            }),
            "held_traces_max of tail_sampling is 0: it must be from 1 to 65536",
        ),
        (
            error(|config| config.open_span_bytes_total = 511),
            "open_span_bytes_total is 511: it must be from 512 to 17179869184",
        ),
        (
            error(|config| config.span_limits.attribute_count = 2000),
            "attribute_count of span_limits is 2000: it must be from 0 to 1024",
        ),
    ] {
        assert_eq!(message, expected);
    }
}

// ---- Tail sampling ----

const SLOW: Duration = Duration::from_millis(50);

fn tail(keep_if: KeepIf) -> impl FnOnce(&mut Config) {
    move |config| config.tail_sampling = Some(TailSampling::new(keep_if))
}

fn slow_or_failed() -> KeepIf {
    KeepIf {
        slower_than: Some(SLOW),
        failed: true,
        one_in: None,
    }
}

/// Records a root of this duration, with a child and a grandchild of that status.
fn trace(recorder: &Recorder, name: &str, nanos: u64, status: StatusRef<'_>) {
    let root = recorder.span_builder(name).start_time(1_000).start();
    let child = recorder.start_child(&root, name);
    recorder.start_child(&child, name).set_status(status);
    child.try_end().unwrap();
    root.try_end_at(1_000 + nanos).unwrap();
}

#[test]
fn slow_and_failed_traces_are_kept_whole_and_others_dropped_whole() {
    let (receiver, collector) = start(tail(slow_or_failed()));
    let recorder = collector.recorder().unwrap();
    let slow = SLOW.as_nanos() as u64;
    for _ in 0..10 {
        trace(&recorder, "fast", slow, StatusRef::Ok);
        trace(&recorder, "slow", slow + 1, StatusRef::Unset);
        trace(&recorder, "failed", 0, StatusRef::Error("child"));
    }
    let (ledger, names) = finish(&receiver, &collector);
    let expected: Vec<_> = [["failed"; 30], ["slow"; 30]].concat();
    assert_eq!(names, expected);
    assert_eq!(
        (ledger.sampled_out.at_end, ledger.sampled_out.at_start),
        (30, 0)
    );
}

#[test]
fn a_root_can_have_its_own_rule_or_decision() {
    let (receiver, collector) = start(tail(KeepIf::default()));
    let recorder = collector.recorder().unwrap();
    recorder.start("by the default rule").try_end().unwrap();
    let always = KeepIf {
        one_in: Some(1),
        ..KeepIf::default()
    };
    recorder
        .span_builder("by its own rule")
        .keep_if(always)
        .start()
        .try_end()
        .unwrap();
    let root = recorder.start("asked for");
    recorder.start_child(&root, "asked for").keep_trace(true);
    root.try_end().unwrap();
    let mut root = recorder.span_builder("not wanted").keep_if(always).start();
    root.keep_trace(true);
    root.keep_trace(false);
    root.try_end().unwrap();
    let (ledger, names) = finish(&receiver, &collector);
    assert_eq!(names, ["asked for", "asked for", "by its own rule"]);
    assert_eq!(ledger.sampled_out.at_end, 2);
}

#[test]
fn interleaved_traces_and_late_children_follow_their_own_root() {
    let (receiver, collector) = start(tail(slow_or_failed()));
    let recorder = collector.recorder().unwrap();
    let dropped = recorder.start("dropped");
    let mut kept = recorder.start("kept");
    let of_dropped = recorder.start_child(&dropped, "dropped");
    let of_kept = recorder.start_child(&kept, "kept");
    let late = recorder.start_child(&dropped, "dropped");
    of_kept.try_end().unwrap();
    of_dropped.try_end().unwrap();
    dropped.try_end().unwrap();
    // The child of the kept trace is not decided yet.
    assert_eq!(
        (collector.ledger().held, collector.ledger().accepted),
        (1, 0)
    );
    let late_of_kept = recorder.start_child(&kept, "kept");
    kept.set_status(StatusRef::Error("root"));
    kept.try_end().unwrap();
    late.try_end().unwrap();
    late_of_kept.try_end().unwrap();
    let (ledger, names) = finish(&receiver, &collector);
    assert_eq!(names, ["kept"; 3]);
    assert_eq!((ledger.sampled_out.at_end, ledger.held), (3, 0));
}

#[test]
fn a_trace_that_cannot_be_held_is_kept() {
    let (receiver, collector) = start(|config| {
        config.tail_sampling = Some(TailSampling {
            held_traces_max: 1,
            held_trace_bytes: 1024,
            ..TailSampling::new(KeepIf::default())
        });
    });
    let recorder = collector.recorder().unwrap();
    let large = recorder.start("large");
    for _ in 0..100 {
        recorder.start_child(&large, "large").try_end().unwrap();
    }
    // There is no room for a second trace.
    recorder.start("second").try_end().unwrap();
    large.try_end().unwrap();
    // Now there is room.
    recorder.start("third").try_end().unwrap();
    let (ledger, names) = finish(&receiver, &collector);
    assert_eq!(
        (names.len(), &*names[100], &*names[101]),
        (102, "large", "second")
    );
    assert_eq!(ledger.sampled_out.at_end, 1);
}

#[test]
fn a_root_decides_about_spans_that_ended_on_other_threads() {
    let (receiver, collector) = start(tail(slow_or_failed()));
    for (name, fails) in [("kept", true), ("dropped", false)] {
        let mut root = collector.start(name);
        let early = collector.start_child(&root, name);
        let late = collector.start_child(&root, name);
        let grandchild = collector.start_child(&early, name);
        std::thread::scope(|threads| {
            threads.spawn(|| early.end());
            threads.spawn(|| {
                let mut child = collector.start_child(&root, name);
                if fails {
                    child.set_status(StatusRef::Error("elsewhere"));
                }
                child.end();
            });
        });
        assert_eq!(collector.ledger().held, 2);
        root.set_attribute("last", true);
        std::thread::scope(|threads| {
            threads.spawn(|| root.end());
        });
        assert_eq!(collector.ledger().held, 0);
        std::thread::scope(|threads| {
            threads.spawn(|| late.end());
            threads.spawn(|| grandchild.end());
        });
    }
    let (ledger, names) = finish(&receiver, &collector);
    assert_eq!(names, ["kept"; 5]);
    assert_eq!((ledger.sampled_out.at_end, ledger.held), (5, 0));
}

#[test]
fn children_that_end_while_their_root_decides_follow_it() {
    const TRACES: usize = 300;
    let (receiver, collector) = start(tail(slow_or_failed()));
    let mut kept = 0;
    for number in 0..TRACES {
        let mut root = collector.start("root");
        if number % 2 == 0 {
            root.set_status(StatusRef::Error("failed"));
            kept += 5;
        }
        let children: Vec<_> = (0..4)
            .map(|_| collector.start_child(&root, "child"))
            .collect();
        std::thread::scope(|threads| {
            for child in children {
                threads.spawn(|| child.end());
            }
            threads.spawn(|| root.end());
        });
    }
    let (ledger, names) = finish(&receiver, &collector);
    assert_eq!(names.len(), kept);
    assert_eq!(
        (ledger.sampled_out.at_end, ledger.held),
        (5 * TRACES as u64 - kept as u64, 0)
    );
}

#[test]
fn spans_follow_their_local_root_on_every_path() {
    let (receiver, collector) = start(|config| {
        tail(KeepIf::default())(config);
        config.sampler = ParentBased {
            local_parent_not_sampled: Sampler::AlwaysOn,
            ..ParentBased::new(Sampler::AlwaysOn)
        }
        .into();
    });
    let recorder = collector.recorder().unwrap();
    // Ends elsewhere, after its trace was dropped.
    let root = recorder.start("root");
    let late = recorder.start_child(&root, "late");
    root.try_end().unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| late.try_end().unwrap());
    });
    // Below one that is not sampled: a local root.
    let unsampled = SpanContext {
        is_remote: true,
        trace_flags: TraceFlags::NONE,
        ..SpanContext::new(trace_id(1), span_id(1))
    };
    let unsampled = recorder
        .span_builder("unsampled")
        .parent(Some(&unsampled))
        .start();
    recorder.start_child(&unsampled, "below").try_end().unwrap();
    drop(unsampled);
    // Of another collector: a local root.
    let (_, elsewhere) = start(|_| {});
    let foreign = elsewhere.start("foreign");
    recorder.start_child(&foreign, "below foreign").end();
    // Moved before its context was shown: still local roots.
    let parent = recorder.start("parent");
    let mut moved = recorder.start_child(&parent, "moved");
    let context = SpanContext::new(trace_id(1), span_id(1));
    assert!(moved.set_parent(&context));
    parent.end();
    moved.end();
    // A leaked root never decides.
    let root = recorder.start("forgotten");
    recorder.start_child(&root, "left over").try_end().unwrap();
    std::mem::forget(root);
    assert_eq!(collector.ledger().held, 1);
    let (ledger, names) = finish(&receiver, &collector);
    assert_eq!(names, ["left over"]);
    assert_eq!((ledger.sampled_out.at_end, ledger.held), (6, 0));
}

#[test]
fn traces_without_memory_are_kept_early_and_counted() {
    let (receiver, collector) = start(|config| {
        tail(KeepIf::default())(config);
        config.open_span_bytes = 256;
        config.open_span_bytes_total = 8 * 512;
    });
    let root = collector.start("root");
    for _ in 0..7 {
        collector.start_child(&root, "held").end();
    }
    assert_eq!(collector.ledger().held, 7);
    // There is no cell left, so the trace gives up those of its ended spans.
    let mut child = collector.start_child(&root, "has memory");
    child.set_attribute("key", "a value that a span without memory has no room for");
    assert_eq!(collector.ledger().held, 0);
    child.end();
    root.end();
    let stats = collector.stats();
    assert_eq!((stats.spans_kept_early, stats.spans_without_memory), (7, 0));
    assert!(
        stats.to_string().contains("kept early    7 of held traces"),
        "{stats}"
    );
    // So does one whose spans take more than their trace may hold.
    let root = collector.start("another root");
    drop(root);
    let (ledger, names) = finish(&receiver, &collector);
    assert_eq!((names.len(), ledger.sampled_out.at_end), (9, 1));
    let spans = receiver.spans();
    assert!(spans.iter().all(|span| span.dropped_attributes_count == 0));
}

#[test]
fn the_configured_number_of_traces_is_held() {
    let (receiver, collector) = start(|config| {
        config.tail_sampling = Some(TailSampling {
            held_traces_max: 65_536,
            held_trace_bytes: 256,
            ..TailSampling::new(KeepIf::default())
        });
    });
    let recorder = collector.recorder().unwrap();
    let open: Vec<_> = (0..1000).map(|_| recorder.start("root")).collect();
    drop(open);
    assert_eq!(finish(&receiver, &collector).0.sampled_out.at_end, 1000);
}

#[test]
fn held_spans_keep_their_scopes() {
    let (receiver, collector) = start(tail(slow_or_failed()));
    let storage = collector
        .register_scope(InstrumentationScope::new("storage"))
        .unwrap();
    let recorder = collector.recorder().unwrap();
    let storage = recorder.with_scope(&storage).unwrap();
    let mut root = recorder.start("request");
    storage.start_child(&root, "query").try_end().unwrap();
    root.set_status(StatusRef::Error("failed"));
    root.try_end().unwrap();
    let (_, names) = finish(&receiver, &collector);
    assert_eq!(names, ["query", "request"]);
    for span in receiver.spans() {
        let is_query = span.name == "query";
        assert_eq!(span.scope.name == "storage", is_query, "{span:?}");
    }
}

#[test]
fn a_remote_parent_makes_a_local_root() {
    let (receiver, collector) = start(tail(KeepIf::default()));
    let recorder = collector.recorder().unwrap();
    let caller = SpanContext {
        is_remote: true,
        ..SpanContext::new(trace_id(1), span_id(1))
    };
    let root = recorder.span_builder("root").parent(Some(&caller)).start();
    assert!(root.context().unwrap().trace_flags.is_sampled());
    root.try_end().unwrap();
    let (ledger, names) = finish(&receiver, &collector);
    assert_eq!((names.len(), ledger.sampled_out.at_end), (0, 1));
}

#[test]
fn one_in_n_keeps_the_same_traces_everywhere() {
    let kept = || {
        let (receiver, collector) = start(|config| {
            tail(KeepIf {
                one_in: Some(4),
                ..KeepIf::default()
            })(config);
            config.id_generator = otlp_collector::span::IdGenerator::Seeded(1);
        });
        let recorder = collector.recorder().unwrap();
        for number in 0..400 {
            recorder.start(&format!("{number:03}")).try_end().unwrap();
        }
        finish(&receiver, &collector).1
    };
    let names = kept();
    assert!((70..130).contains(&names.len()), "{}", names.len());
    assert_eq!(names, kept());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Traces of any shape, ended in any order: each is delivered as a whole or counted as
    /// dropped.
    #[test]
    fn traces_are_kept_or_dropped_as_a_whole(
        traces in prop::collection::vec((any::<bool>(), 0..20_usize), 1..12),
        order in any::<prop::sample::Index>(),
    ) {
        let (receiver, collector) = start(|config| {
            tail(slow_or_failed())(config);
            // Small slabs, so that a kept trace spreads over several.
            config.slab_bytes = 4096;
        });
        let recorder = collector.recorder().unwrap();
        let mut open: Vec<_> = (traces.iter().enumerate())
            .map(|(number, (keep, children))| {
                let mut root = recorder.start(&format!("{number}"));
                if *keep {
                    root.set_status(StatusRef::Error("kept"));
                }
                (root, *children)
            })
            .collect();
        for _ in 0..20 {
            for (root, children) in &mut open {
                if *children > 0 {
                    *children -= 1;
                    let mut child = recorder.start_child(root, &"x".repeat(9));
                    child.set_attribute("some", "more bytes");
                }
            }
        }
        while !open.is_empty() {
            let (root, _) = open.swap_remove(order.index(open.len()));
            root.try_end().unwrap();
        }
        let (ledger, names) = finish(&receiver, &collector);
        let spans = |wanted: bool| -> usize {
            let wanted = traces.iter().filter(|(keep, _)| *keep == wanted);
            wanted.map(|(_, children)| children + 1).sum()
        };
        prop_assert_eq!(names.len(), spans(true));
        prop_assert_eq!(ledger.sampled_out.at_end, spans(false) as u64);
    }
}
