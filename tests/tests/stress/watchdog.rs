//! Aborts the process when a thread stays in one phase for too long.

use std::io::{self, Write};
use std::process;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Interval between the watchdog's checks.
const INTERVAL: Duration = Duration::from_secs(1);

/// A thread that watches all others.
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Maximum duration of a phase.
    patience: Duration,
    watched: Mutex<Watched>,
    ended: Condvar,
}

#[derive(Default)]
struct Watched {
    ended: bool,
    seed: u64,
    threads: Vec<Weak<Phase>>,
}

/// The phase of one thread.
pub struct Phase {
    thread: &'static str,
    current: Mutex<(&'static str, Instant)>,
}

impl Phase {
    /// Notes that the thread enters a phase.
    pub fn enter(&self, phase: &'static str) {
        *self.current.lock().unwrap() = (phase, Instant::now());
    }
}

impl Watchdog {
    pub fn start(patience: Duration) -> Self {
        let shared = Arc::new(Shared {
            patience,
            watched: Mutex::default(),
            ended: Condvar::new(),
        });
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.watch()
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Sets the seed that the message contains.
    pub fn begin_round(&self, seed: u64) {
        self.shared.watched.lock().unwrap().seed = seed;
    }

    /// Watches the calling thread until the phase is dropped.
    pub fn watch(&self, thread: &'static str) -> Arc<Phase> {
        let phase = Arc::new(Phase {
            thread,
            current: Mutex::new(("starting", Instant::now())),
        });
        let threads = &mut self.shared.watched.lock().unwrap().threads;
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(&phase));
        phase
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.watched.lock().unwrap().ended = true;
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn watch(&self) {
        let mut watched = self.watched.lock().unwrap();
        while !watched.ended {
            self.check(&watched);
            watched = self.ended.wait_timeout(watched, INTERVAL).unwrap().0;
        }
    }

    fn check(&self, watched: &Watched) {
        let phases: Vec<_> = (watched.threads.iter())
            .filter_map(Weak::upgrade)
            .map(|phase| (phase.thread, *phase.current.lock().unwrap()))
            .collect();
        let is_stuck = |since: &Instant| since.elapsed() > self.patience;
        if !phases.iter().any(|(_, (_, since))| is_stuck(since)) {
            return;
        }
        // Written past the test harness, whose captured output would be lost in the abort.
        let mut message = format!("stuck in the round with STRESS_SEED={}:\n", watched.seed);
        for (thread, (phase, since)) in &phases {
            let mark = if is_stuck(since) { "STUCK" } else { "     " };
            let seconds = since.elapsed().as_secs();
            message += &format!("{mark} {thread}: {phase}, for {seconds} s\n");
        }
        let _ = io::stderr().write_all(message.as_bytes());
        process::abort();
    }
}
