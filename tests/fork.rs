//! A process that forks: the fork has a copy of the collector and no thread that delivers.

#![cfg(target_os = "linux")]

use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, Span, ThreadState};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a fork of this process finds: true if `check` does not panic there.
fn holds_in_a_fork(check: impl FnOnce() + UnwindSafe) -> bool {
    // SAFETY: the child is a copy with this thread alone. It takes no lock that another thread of
    // this program holds for longer than a moment, and leaves by `_exit`, so that nothing that
    // belongs to the parent is run twice; an alarm ends it should it hang all the same.
    unsafe {
        match libc::fork() {
            -1 => panic!("cannot fork"),
            0 => {
                libc::alarm(60);
                libc::_exit(i32::from(catch_unwind(check).is_err()))
            }
            child => {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
            }
        }
    }
}

#[test]
fn a_fork_is_told_at_once_and_takes_nothing_from_its_parent() {
    let receiver = Receiver::start().unwrap();
    let config = Config {
        endpoint: receiver.endpoint(),
        batch_timeout_ms: 3_600_000,
        ..Config::default()
    };
    // Taken only in the fork, where it is dropped.
    let mut collector = Some(Collector::new(config.clone()).unwrap());
    (collector.as_ref().unwrap())
        .collect(Span::new("before"))
        .unwrap();
    let holds = holds_in_a_fork(AssertUnwindSafe(|| {
        let began = Instant::now();
        let of_parent = collector.take().unwrap();
        of_parent.collect(Span::new("lost")).unwrap();
        let error = of_parent.flush(PATIENCE).unwrap_err();
        assert!(error.is_forked(), "{error}");
        assert_eq!(error.ledger().unwrap().pending(), 2);
        assert!(of_parent.recorder().unwrap_err().is_forked());
        assert!(of_parent.shutdown().unwrap_err().is_forked());
        let health = of_parent.health();
        assert_eq!(health.network_thread, ThreadState::Forked);
        assert_eq!(of_parent.stats().ledger.accepted, 2);
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
