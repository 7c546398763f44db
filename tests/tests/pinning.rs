//! Threads are pinned as configured, or an error names the usable cores.

use common::{config, trace_id};
use core_affinity::CoreId;
use otlp_collector::collector::pin_current_thread;
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, SpanRef};

#[test]
fn nothing_is_pinned_by_default() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let pinning = collector.pinning();
    assert_eq!(pinning.network_core, None);
    assert!(pinning.threads.is_empty());
}

#[test]
fn the_pinning_in_effect_can_be_queried() {
    let receiver = Receiver::start().unwrap();
    let cores = Collector::cores();
    let (first, last) = (cores[0], *cores.last().unwrap());
    let collector = Collector::new(Config {
        network_core: Some(last),
        pinned_cores: vec![first],
        ..config(&receiver)
    })
    .unwrap();
    let watched = collector.clone();
    let worker = collector
        .spawn_pinned(first, "worker-0", move |recorder| {
            let span = SpanRef::new(trace_id(1), recorder.new_span_id(), "pinned");
            recorder.record(&span).unwrap();
            (core_affinity::get_core_ids().unwrap(), watched.pinning())
        })
        .unwrap();
    assert_eq!(worker.thread().name(), Some("worker-0"));
    let (cores_of_worker, pinning) = worker.join().unwrap();
    assert_eq!(cores_of_worker, [CoreId { id: first }]);
    assert_eq!(pinning.network_core, Some(last));
    assert_eq!(pinning.threads.len(), 1);
    assert_eq!(
        (&*pinning.threads[0].name, pinning.threads[0].core),
        ("worker-0", first)
    );

    assert!(collector.pinning().threads.is_empty());
    assert_eq!(collector.shutdown().unwrap().delivered(), 1);
}

#[test]
fn a_core_that_does_not_exist_is_an_error_that_names_the_usable_cores() {
    let receiver = Receiver::start().unwrap();
    let cores = Collector::cores();
    let missing = cores.iter().max().unwrap() + 1;
    let expected =
        |option: &str| format!("{option} is {missing}: this process may use the cores {cores:?}");
    for (option, config) in [
        (
            "network_core",
            Config {
                network_core: Some(missing),
                ..config(&receiver)
            },
        ),
        (
            "pinned_cores[1]",
            Config {
                pinned_cores: vec![cores[0], missing],
                ..config(&receiver)
            },
        ),
    ] {
        let error = Collector::new(config).unwrap_err();
        assert!(error.is_core());
        assert_eq!(error.to_string(), expected(option));
    }
    let collector = Collector::new(config(&receiver)).unwrap();
    let error = collector
        .spawn_pinned(missing, "worker", |_| ())
        .unwrap_err();
    assert_eq!(error.to_string(), expected("core"));
}

#[test]
fn a_worker_stays_on_the_configured_cores() {
    let receiver = Receiver::start().unwrap();
    let cores = Collector::cores();
    let [first, .., other] = cores[..] else {
        eprintln!("skipped: needs two cores");
        return;
    };
    let collector = Collector::new(Config {
        pinned_cores: vec![first],
        ..config(&receiver)
    })
    .unwrap();
    let error = collector.spawn_pinned(other, "worker", |_| ()).unwrap_err();
    assert!(error.is_core());
    assert_eq!(
        error.to_string(),
        format!("core {other} is not one of pinned_cores [{first}]; use one of them, or add it")
    );
}

#[test]
fn joining_a_panicked_worker_fails_and_no_span_is_lost() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let core = Collector::cores()[0];
    let worker = collector
        .spawn_pinned(core, "doomed", |recorder| {
            let span = SpanRef::new(trace_id(1), recorder.new_span_id(), "last words");
            recorder.record(&span).unwrap();
            panic!("expected");
        })
        .unwrap();
    assert!(worker.join().is_err());
    assert!(collector.pinning().threads.is_empty());
    assert_eq!(collector.shutdown().unwrap().delivered(), 1);
}

#[test]
fn a_pinned_thread_can_start_a_collector_on_other_cores() {
    let receiver = Receiver::start().unwrap();
    let cores = Collector::cores();
    let last = *cores.last().unwrap();
    assert!(core_affinity::set_for_current(CoreId { id: cores[0] }));
    let collector = Collector::new(Config {
        network_core: Some(last),
        ..config(&receiver)
    })
    .unwrap();
    assert_eq!(collector.pinning().network_core, Some(last));
    assert_eq!(Collector::cores(), cores);
}

#[test]
fn an_invalid_thread_name_is_an_error() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let error = collector
        .spawn_pinned(Collector::cores()[0], "a\0b", |_| ())
        .unwrap_err();
    assert!(error.to_string().contains("zero byte"));
}

#[test]
fn a_thread_can_be_pinned_without_a_collector() {
    let last = *Collector::cores().last().unwrap();
    let cores = std::thread::spawn(move || {
        pin_current_thread(last).unwrap();
        // Pinned again, now that the thread may use only this core.
        pin_current_thread(last).unwrap();
        core_affinity::get_core_ids().unwrap()
    });
    assert_eq!(cores.join().unwrap(), [CoreId { id: last }]);
    let missing = last + 1;
    let error = pin_current_thread(missing).unwrap_err();
    assert!(error.is_core());
    let expected = format!("core is {missing}: this process may use the cores");
    assert!(error.to_string().starts_with(&expected), "{error}");
}
