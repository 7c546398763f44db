//! Forking: the child has a copy of the collector but no network thread.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "forks the process")]

use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use common::{PATIENCE, span_id, trace_id};
use otlp_collector::span::{InstrumentationScope, KeepIf, TailSampling};
use otlp_collector::stats::ThreadState;
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, OpenSpan, Recorder, Refused, Span, SpanRef, span};

/// Time after which a fork is considered to hang.
const SECONDS: u32 = 60;

/// Held by tests that start threads all the time, and by those whose forks start any: see
/// [`on_a_new_thread`].
static STARTS_THREADS: Mutex<()> = Mutex::new(());

/// A fork of this process that runs one function and ends.
struct Fork(libc::pid_t);

impl Fork {
    fn start(run: impl FnOnce() + UnwindSafe) -> Self {
        // SAFETY: the child has only this thread. It takes no lock that another thread of this program
        // holds for long, and exits by `_exit`, so that no exit handler of the parent runs twice. An
        // alarm kills it if it hangs nevertheless.
        unsafe {
            match libc::fork() {
                -1 => panic!("cannot fork"),
                0 => {
                    libc::alarm(SECONDS);
                    libc::_exit(i32::from(catch_unwind(run).is_err()))
                }
                child => Self(child),
            }
        }
    }

    /// Waits for the fork's exit and returns whether it did not panic.
    fn holds(self) -> bool {
        let mut status = 0;
        // SAFETY: the status is written to an integer that outlives the call.
        let ended = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        assert_eq!(ended, self.0);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }
}

/// Returns whether `check` runs without panic in a fork of this process.
fn holds_in_a_fork(check: impl FnOnce() + UnwindSafe) -> bool {
    Fork::start(check).holds()
}

fn config(receiver: &Receiver) -> Config {
    Config {
        endpoint: receiver.endpoint(),
        batch_timeout_ms: 3_600_000,
        ..Config::default()
    }
}

#[test]
fn calls_fail_at_once_in_a_fork_and_its_parent_is_not_affected() {
    let _turn = STARTS_THREADS.lock();
    let receiver = Receiver::start().unwrap();
    let config = config(&receiver);
    // Taken only in the fork, to be dropped there.
    let mut collector = Some(Collector::new(config.clone()).unwrap());
    (collector.as_ref().unwrap())
        .collect(Span::new("before"))
        .unwrap();
    let holds = holds_in_a_fork(AssertUnwindSafe(|| {
        let began = Instant::now();
        let of_parent = collector.take().unwrap();
        let refused = of_parent.collect(Span::new("lost")).unwrap_err();
        assert_eq!(refused, Refused::Forked);
        let error = of_parent.flush(PATIENCE).unwrap_err();
        assert!(error.is_forked(), "{error}");
        assert_eq!(error.ledger().unwrap().pending(), 1);
        assert!(of_parent.recorder().unwrap_err().is_forked());
        let scope = of_parent.register_scope(InstrumentationScope::new("new"));
        assert!(scope.unwrap_err().is_forked());
        assert!(of_parent.shutdown().unwrap_err().is_forked());
        let health = of_parent.health();
        assert_eq!(health.network_thread, ThreadState::Forked);
        let ledger = of_parent.stats().ledger;
        assert_eq!((ledger.accepted, ledger.refused.forked), (1, 1));
        drop(of_parent);
        assert!(began.elapsed() < PATIENCE);

        let own = Collector::new(config).unwrap();
        own.collect(Span::new("of the fork")).unwrap();
        assert_eq!(own.shutdown().unwrap().delivered(), 1);
    }));
    assert!(holds);
    assert_eq!(collector.unwrap().shutdown().unwrap().delivered(), 1);
    assert_eq!(receiver.counts().spans, 2);
}

#[test]
fn every_way_to_record_is_refused_and_counted_in_a_fork() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        tail_sampling: Some(TailSampling::new(KeepIf {
            failed: true,
            ..KeepIf::default()
        })),
        ..config(&receiver)
    })
    .unwrap();
    let scope = collector
        .register_scope(InstrumentationScope::new("scope"))
        .unwrap();
    let recorder = collector.recorder().unwrap();
    let mut of_parent = recorder.start("of the parent");
    of_parent.keep_trace(true);
    let mut of_parent = Some(of_parent);
    let mut recorder = Some(recorder);
    let holds = holds_in_a_fork(AssertUnwindSafe(|| {
        let recorder = recorder.take().unwrap();
        let finished = SpanRef::new(trace_id(1), span_id(1), "finished");
        let forked = Err(Refused::Forked);
        assert_eq!(recorder.record(&finished), forked);
        assert_eq!(recorder.record_with(&finished, (("key", 1),)), forked);
        assert!(recorder.with_scope(&scope).unwrap_err().is_forked());
        let mut root = recorder.start("root");
        root.keep_trace(true);
        // Not even held.
        assert_eq!(recorder.start_child(&root, "child").try_end(), forked);
        assert_eq!(root.try_end(), forked);
        let mut of_parent = of_parent.take().unwrap();
        of_parent.set_attribute("key", "value");
        assert_eq!(of_parent.try_end(), forked);
        let mut by_collector = collector.start("by the collector");
        by_collector.keep_trace(true);
        assert_eq!(by_collector.try_end(), forked);
        let in_scope = Span {
            scope: Some(scope),
            ..Span::new("in scope")
        };
        assert_eq!(collector.collect(in_scope), forked);
        let ledger = collector.ledger();
        assert_eq!((ledger.accepted, ledger.held), (0, 0));
        assert_eq!((ledger.refused.total(), ledger.refused.forked), (7, 7));
    }));
    assert!(holds);
}

#[test]
fn a_disabled_collector_refuses_spans_in_a_fork() {
    let disabled = Collector::new(Config {
        disabled: true,
        ..Config::default()
    })
    .unwrap();
    disabled.collect(Span::new("in the parent")).unwrap();
    let mut disabled = Some(disabled);
    let holds = holds_in_a_fork(AssertUnwindSafe(|| {
        let disabled = disabled.take().unwrap();
        assert_eq!(
            disabled.collect(Span::new("in the fork")),
            Err(Refused::Forked)
        );
        assert!(disabled.recorder().unwrap_err().is_forked());
        assert!(disabled.shutdown().unwrap_err().is_forked());
        assert_eq!(disabled.health().network_thread, ThreadState::Forked);
    }));
    assert!(holds);
}

#[test]
fn a_fork_installs_a_collector_of_its_own() {
    let _turn = STARTS_THREADS.lock();
    let receiver = Receiver::start().unwrap();
    let installed = Collector::new(config(&receiver))
        .unwrap()
        .install()
        .unwrap();
    drop(span!("of the parent"));
    let mut installed = Some(installed);
    let holds = holds_in_a_fork(AssertUnwindSafe(|| {
        let of_parent = installed.take().unwrap();
        assert_eq!(span!("lost").try_end(), Err(Refused::Forked));
        let own = Collector::new(config(&receiver)).unwrap();
        let own = own.install().unwrap();
        drop(of_parent);
        span!("of the fork").try_end().unwrap();
        assert!(own.collector().install().is_err());
        assert_eq!(own.shutdown().unwrap().delivered(), 1);
    }));
    assert!(holds);
    let ledger = installed.unwrap().shutdown().unwrap();
    assert_eq!((ledger.delivered(), ledger.refused.total()), (1, 0));
    assert_eq!(receiver.counts().spans, 2);
}

/// In a fork, since the limit is that of a process.
#[test]
fn a_collector_without_memory_for_open_spans_leaves_no_thread() {
    let _turn = STARTS_THREADS.lock();
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    assert!(holds_in_a_fork(|| {
        let limit = libc::rlimit {
            rlim_cur: 8 << 30,
            rlim_max: 8 << 30,
        };
        // SAFETY: the limit is read from a value that outlives the call.
        let limited = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
        assert_eq!(limited, 0);
        let error = Collector::new(Config {
            open_span_bytes_total: 16 << 30,
            ..Config::default()
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("open_span_bytes_total"), "{error}");
        while threads() > 1 {
            thread::yield_now();
        }
    }));
}

/// Writes one id from every source of ids of this process.
fn write_ids(recorder: &Recorder, mut out: PipeWriter) {
    let (root, open) = (Span::new("root"), recorder.start("open"));
    let (of_open, of_child) = (
        open.context().unwrap(),
        recorder.start_child(&open, "child"),
    );
    for trace_id in [root.trace_id, of_open.trace_id, recorder.new_trace_id()] {
        out.write_all(&trace_id.to_bytes()).unwrap();
    }
    let of_child = of_child.context().unwrap();
    for span_id in [
        root.span_id,
        of_open.span_id,
        of_child.span_id,
        recorder.new_span_id(),
    ] {
        out.write_all(&[&span_id.to_bytes(), &[0; 8][..]].concat())
            .unwrap();
    }
}

fn read_ids(mut from: PipeReader) -> Vec<[u8; 16]> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes.as_chunks().0.to_vec()
}

#[test]
fn a_process_and_its_forks_generate_different_ids() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let recorder = collector.recorder().unwrap();
    // Seeds the generator of this thread, which forks.
    drop(Span::new("before"));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (from, to) = pipe().unwrap();
        let mut to = Some(to);
        let write = AssertUnwindSafe(|| write_ids(&recorder, to.take().unwrap()));
        assert!(holds_in_a_fork(write));
        drop(to);
        ids.extend(read_ids(from));
    }
    let (from, to) = pipe().unwrap();
    write_ids(&recorder, to);
    ids.extend(read_ids(from));
    assert_eq!(ids.len(), 21);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 21, "{ids:?}");
}

/// Handles of the parent, which a fork uses and drops.
struct OfParent {
    recorder: Recorder,
    spans: Vec<OpenSpan>,
    collector: Collector,
}

impl OfParent {
    fn new(collector: &Collector) -> Self {
        let recorder = collector.recorder().unwrap();
        let start = |_| recorder.start("of the parent");
        Self {
            spans: (0..3).map(start).collect(),
            recorder,
            collector: collector.clone(),
        }
    }

    /// Calls everything that a fork may call.
    fn use_up(mut self) {
        self.spans.pop().unwrap().end();
        let span = self.spans.pop().unwrap();
        let child = self.recorder.start_child(&span, "child");
        drop((span, child, self.spans));
        on_a_new_thread(&mut || self.collector.start("on a new thread").end());
        drop(self.recorder);
        let _ = self.collector.collect(Span::new("collected"));
        let _ = self.collector.ledger();
        let _ = self.collector.stats();
        let _ = self.collector.health();
        let _ = self.collector.pinning();
        let _ = self
            .collector
            .register_scope(InstrumentationScope::new("scope"));
        let _ = self.collector.flush(PATIENCE);
        drop(self.collector);
    }
}

/// Runs `work` on a thread of the C library's.
///
/// `std::thread` locks a list of all stacks when a thread begins and ends. Another thread may have held
/// that lock at the fork; then no new thread would begin here.
fn on_a_new_thread(mut work: &mut dyn FnMut()) {
    extern "C" fn run(work: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: this is the reference that `on_a_new_thread` passes and does not use meanwhile.
        unsafe { (*work.cast::<&mut dyn FnMut()>())() };
        std::ptr::null_mut()
    }

    let mut thread = 0;
    let work: *mut &mut dyn FnMut() = &raw mut work;
    // SAFETY: `thread` outlives the calls, and `work` the thread, since that is joined.
    unsafe {
        let created = libc::pthread_create(&raw mut thread, std::ptr::null(), run, work.cast());
        assert_eq!(created, 0);
        assert_eq!(libc::pthread_join(thread, std::ptr::null_mut()), 0);
    }
}

/// Keeps a thread busy until `is_over`.
fn disturb(collector: &Collector, is_over: &AtomicBool, disturbance: impl Fn(&Collector)) {
    while !is_over.load(Ordering::Relaxed) {
        disturbance(collector);
    }
}

#[test]
fn a_fork_never_hangs_while_other_threads_are_busy() {
    let _turn = STARTS_THREADS.lock();
    let receiver = Receiver::start_counting().unwrap();
    let collector = Collector::new(Config {
        batch_timeout_ms: 1,
        open_span_bytes_total: 1 << 20,
        buffer_capacity: 10_000,
        ..config(&receiver)
    })
    .unwrap();
    let is_over = AtomicBool::new(false);
    let disturbances: [fn(&Collector); 5] = [
        |collector| drop(collector.ledger()),
        |collector| drop(collector.stats()),
        |collector| {
            let recorder = collector.recorder().unwrap();
            drop(recorder.start("open"));
        },
        |collector| {
            let _ = collector.collect(Span::new("collected"));
        },
        |collector| {
            let recorder = collector.recorder().unwrap();
            let span = recorder.start("open");
            // The buffer may be full.
            thread::scope(|scope| scope.spawn(|| span.end()).join()).unwrap();
        },
    ];
    let hanging = thread::scope(|scope| {
        for disturbance in disturbances {
            let (collector, is_over) = (&collector, &is_over);
            scope.spawn(move || disturb(collector, is_over, disturbance));
        }
        let is_hanging = |_: &u32| {
            let mut of_parent = Some(OfParent::new(&collector));
            let check = AssertUnwindSafe(|| of_parent.take().unwrap().use_up());
            !holds_in_a_fork(check)
        };
        let hanging = (0..200).filter(is_hanging).count();
        is_over.store(true, Ordering::Relaxed);
        hanging
    });
    assert_eq!(hanging, 0);
    collector.shutdown().unwrap();
}

/// A fork has a copy of each socket, which would keep a connection open after it is closed here.
#[test]
fn an_abandoned_connection_ends_although_a_fork_has_its_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Collector::new(Config {
        endpoint: format!("http://{}", listener.local_addr().unwrap()),
        shutdown_timeout_ms: 0,
        ..Config::default()
    })
    .unwrap();
    collector.collect(Span::new("span")).unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    let mut byte = [0];
    connection.read_exact(&mut byte).unwrap();
    let (mut until_then, then) = pipe().unwrap();
    let mut then = Some(then);
    let fork = Fork::start(AssertUnwindSafe(|| {
        drop(then.take());
        let _ = until_then.read(&mut [0]);
    }));
    assert_eq!(collector.shutdown().unwrap().dropped(), 1);
    // The end of the stream, or a reset.
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let ended = connection.read_to_end(&mut Vec::new());
    let still_open = ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    drop(then);
    assert!(fork.holds());
    assert!(!still_open);
}
