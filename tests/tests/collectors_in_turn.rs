//! Memory of collectors that are made and dropped in turn. One test, since it measures the process.

#![cfg(target_os = "linux")]

use std::thread;

use otlp_collector::span::{KeepIf, TailSampling};
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, OpenSpan, span};

/// Resident memory of this process in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Makes a collector and spans on two threads, of which one is held, and drops all in another order each
/// time.
fn use_one(receiver: &Receiver, number: usize) {
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        batch_size: 100,
        buffer_capacity: 1000,
        tail_sampling: Some(TailSampling::new(KeepIf::default())),
        ..Config::default()
    })
    .unwrap();
    let root = collector.start("root");
    collector.start_child(&root, "held").end();
    let open = thread::scope(|scope| {
        let work = || {
            let _installed = collector.install_for_thread();
            span!("on another thread").entered().set_attribute("key", 1);
            collector.start_child(&root, "open")
        };
        scope.spawn(work).join().unwrap()
    });
    if number.is_multiple_of(2) {
        drop(collector);
        [open, root].into_iter().for_each(OpenSpan::end);
    } else {
        [root, open].into_iter().for_each(OpenSpan::end);
        drop(collector);
    }
}

#[test]
fn a_thousand_collectors_in_turn_use_the_memory_of_one() {
    let receiver = Receiver::start_counting().unwrap();
    (0..20).for_each(|number| use_one(&receiver, number));
    let before = resident_bytes();
    (0..1000).for_each(|number| use_one(&receiver, number));
    let grown = resident_bytes().saturating_sub(before);
    // Less than the cells of three.
    assert!(grown < 24 << 20, "{grown} bytes");
}
