//! The collector that is installed for the process, which has one. So tests run in turn.

use std::cell::RefCell;
use std::mem;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, InstalledForThread, current, span};

use common::{PATIENCE, config, start};

static IN_TURN: Mutex<()> = Mutex::new(());

#[test]
fn one_collector_is_installed_for_the_process_at_a_time() {
    let _turn = IN_TURN.lock();
    let (receiver, collector) = start(|_| {});
    let (others, other) = start(|_| {});
    drop(span!("before"));
    let installed = collector.install().unwrap();
    let error = other.install().unwrap_err();
    assert!(error.is_config(), "{error}");
    assert!(error.to_string().contains("already"), "{error}");
    let mut a = span!("a");
    a.in_scope(|| {
        let _other = other.install_for_thread();
        // The other collector's span, in the same trace.
        drop(span!("other"));
        let nested = collector.install_for_thread();
        drop(span!("nested"));
        drop(nested);
        drop(span!("other again"));
    });
    let b = thread::spawn(|| span!("b")).join().unwrap();
    drop((a, b, span!("c")));
    assert_eq!(installed.collector().ledger().accepted, 4);
    assert_eq!(installed.shutdown().unwrap().delivered(), 4);
    assert!(span!("after").is_none());
    let again = other.install().unwrap();
    drop(span!("again"));
    drop(again);
    assert_eq!(other.ledger().delivered(), 3);
    assert_eq!((receiver.spans().len(), others.spans().len()), (4, 3));
    assert_eq!(others.span("other").trace_id, receiver.span("a").trace_id);
    assert!(span!("none").is_none());
}

#[test]
fn a_shutdown_does_not_end_a_later_installation() {
    let _turn = IN_TURN.lock();
    let (receiver, collector) = start(|config| {
        config.shutdown_timeout_ms = PATIENCE.as_millis() as u64;
    });
    let (_others, other) = start(|_| {});
    receiver.pause();
    let installed = collector.install().unwrap();
    drop(span!("keeps the shutdown waiting"));
    thread::scope(|scope| {
        let shutting_down = scope.spawn(|| installed.shutdown().unwrap());
        let installed = loop {
            match other.install() {
                Ok(installed) => break installed,
                Err(_) => thread::yield_now(),
            }
        };
        receiver.resume();
        assert_eq!(shutting_down.join().unwrap().delivered(), 1);
        assert!(!span!("of the other").is_none());
        assert_eq!(installed.shutdown().unwrap().delivered(), 1);
    });
}

#[test]
fn collectors_come_and_go_while_threads_record() {
    const COLLECTORS: usize = 30;
    let _turn = IN_TURN.lock();
    let receiver = Receiver::start_counting().unwrap();
    let is_over = AtomicBool::new(false);
    let record = || {
        while !is_over.load(Ordering::Relaxed) {
            let _outside = span!("outside").entered();
            let inside = span!("inside");
            current().set_attribute("key", "value");
            drop(inside);
        }
    };
    let mut ledgers = Vec::new();
    thread::scope(|scope| {
        (0..3).for_each(|_| drop(scope.spawn(record)));
        for _ in 0..COLLECTORS {
            let collector = Collector::new(config(&receiver)).unwrap();
            let installed = collector.install().unwrap();
            while collector.ledger().accepted < 100 {
                thread::yield_now();
            }
            drop(installed);
            // The buffer may have been full.
            ledgers.push(collector.ledger());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    for ledger in ledgers {
        assert_eq!((ledger.pending(), ledger.held), (0, 0), "{ledger}");
        let with_outcome = ledger.delivered() + ledger.dropped();
        assert_eq!(with_outcome, ledger.accepted, "{ledger}");
    }
}

#[test]
fn guards_are_leaked_or_dropped_with_their_thread() {
    thread_local! {
        static EARLY: RefCell<Option<InstalledForThread>> = const { RefCell::new(None) };
        static LATE: RefCell<Option<InstalledForThread>> = const { RefCell::new(None) };
    }

    let _turn = IN_TURN.lock();
    let (receiver, collector) = start(|_| {});
    let work = || {
        // Destructors run in the order of first uses, or the reverse.
        EARLY.set(None);
        let guard = collector.install_for_thread();
        drop(span!("first"));
        EARLY.set(Some(guard));
        LATE.set(Some(collector.install_for_thread()));
        mem::forget(span!("entered").entered());
        drop(span!("child"));
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap());
    thread::scope(|scope| {
        let leak = || mem::forget(collector.install_for_thread());
        scope.spawn(leak).join().unwrap();
    });
    assert!(span!("none").is_none());
    assert_eq!(collector.shutdown().unwrap().delivered(), 3);
    assert_eq!(receiver.spans().len(), 3);
}
