//! The collector that is installed for the process, which has one. So tests run in turn.

use std::sync::Mutex;
use std::thread;

use otlp_collector::span;

use common::{PATIENCE, start};

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
