//! Tells the user what happens rarely, without waiting for who listens.

use std::collections::HashMap;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::notice::{Notice, NoticeKind, OnNotice};

/// Of a kind of notice there is one for each endpoint in this time.
const INTERVAL: Duration = Duration::from_secs(10);
/// Notices that wait for who listens.
const WAITING_MAX: usize = 1024;

pub(crate) struct Reporter {
    on_notice: Option<OnNotice>,
    /// Gone together with the network thread, which lets the listening thread end.
    ended: Sender<()>,
    /// To the thread that tells, once there was something to be told.
    teller: Option<Sender<Notice>>,
    told: HashMap<Key, Told>,
}

/// The endpoint or destination, if it is about one, and the kind.
type Key = (Option<String>, NoticeKind);

/// When a notice was told last, and what was not since: how many, and the last of them.
struct Told {
    at: Instant,
    suppressed: u64,
    last: String,
}

impl Reporter {
    /// The other end is disconnected when all that was to be told has been.
    pub(crate) fn new(on_notice: Option<OnNotice>) -> (Self, Receiver<()>) {
        let (ended, end) = bounded(0);
        let reporter = Self {
            on_notice,
            ended,
            teller: None,
            told: HashMap::new(),
        };
        (reporter, end)
    }

    pub(crate) fn report(
        &mut self,
        now: Instant,
        kind: NoticeKind,
        endpoint: Option<&str>,
        message: &str,
    ) {
        let key = (endpoint.map(str::to_string), kind);
        match self.told.get_mut(&key) {
            Some(told) if now.saturating_duration_since(told.at) < INTERVAL => {
                told.suppressed += 1;
                told.last = message.to_string();
            }
            told => {
                let suppressed = told.map_or(0, |told| told.suppressed);
                self.tell_now(now, key, message.to_string(), suppressed);
            }
        }
    }

    fn tell_now(&mut self, now: Instant, key: Key, message: String, suppressed: u64) {
        let (endpoint, kind) = key.clone();
        let notice = Notice {
            kind,
            endpoint,
            message: message.clone(),
            suppressed,
        };
        let suppressed = if self.tell(notice) { 0 } else { suppressed + 1 };
        let told = Told {
            at: now,
            suppressed,
            last: message,
        };
        self.told.insert(key, told);
    }

    /// Reports what was wrong with the configuration: each text, since they come only once. They go to
    /// standard error if they would reach no one otherwise.
    pub(crate) fn report_configuration(&mut self, warnings: &[String]) {
        for warning in warnings {
            if self.on_notice.is_none() && log::max_level() == log::LevelFilter::Off {
                // Not `eprintln!`, which panics if that is closed.
                let _ = writeln!(io::stderr(), "{}: {warning}", env!("CARGO_PKG_NAME"));
            }
            self.tell(Notice {
                kind: NoticeKind::Misconfigured,
                endpoint: None,
                message: warning.clone(),
                suppressed: 0,
            });
        }
    }

    /// When something is to be told that was held back.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let held_back = self.told.values().filter(|told| told.suppressed > 0);
        held_back.map(|told| told.at + INTERVAL).min()
    }

    /// Tells what was held back long enough: it may have been the last of its kind.
    pub(crate) fn tell_held_back(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.tell_all(now, INTERVAL);
        }
    }

    /// Tells all that was held back.
    pub(crate) fn finish(&mut self, now: Instant) {
        self.tell_all(now, Duration::ZERO);
    }

    fn tell_all(&mut self, now: Instant, held_for: Duration) {
        let is_due =
            |told: &Told| told.suppressed > 0 && now.saturating_duration_since(told.at) >= held_for;
        let due = self.told.iter().filter(|(_, told)| is_due(told));
        let due: Vec<_> = due
            .map(|(key, told)| (key.clone(), told.last.clone(), told.suppressed - 1))
            .collect();
        for (key, message, suppressed) in due {
            self.tell_now(now, key, message, suppressed);
        }
    }

    /// False if nobody can listen now.
    fn tell(&mut self, notice: Notice) -> bool {
        if self.teller.is_none() {
            self.teller = start(self.on_notice.clone(), self.ended.clone());
        }
        let sent = self.teller.as_ref().map(|teller| teller.try_send(notice));
        sent.is_some_and(|sent| sent.is_ok())
    }
}

fn start(on_notice: Option<OnNotice>, ended: Sender<()>) -> Option<Sender<Notice>> {
    let (teller, notices) = bounded(WAITING_MAX);
    thread::Builder::new()
        .name("otlp-notices".to_string())
        .spawn(move || {
            notices
                .iter()
                .for_each(|notice| tell(&notice, on_notice.as_ref()));
            drop(ended);
        })
        .ok()
        .map(|_| teller)
}

fn tell(notice: &Notice, on_notice: Option<&OnNotice>) {
    // What the user's own code does is its own affair, but there is a next notice.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        log::log!(target: "otlp_collector", notice.kind.level(), "{notice}");
        if let Some(on_notice) = on_notice {
            on_notice.call(notice);
        }
    }));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_kind_in_a_while_and_the_rest_counted() {
        let (told, tellings) = crossbeam_channel::unbounded();
        let on_notice = OnNotice::new(move |notice| {
            told.send(notice.clone()).unwrap();
            assert_ne!(notice.kind, NoticeKind::Panicked, "a callback that panics");
        });
        let (mut reporter, end) = Reporter::new(Some(on_notice));
        let start = Instant::now();
        let mut report = |ms, kind, endpoint| {
            let now = start + Duration::from_millis(ms);
            reporter.report(now, kind, endpoint, "what happened");
        };
        report(0, NoticeKind::Panicked, None);
        for ms in 0..5 {
            report(ms, NoticeKind::BackingOff, Some("a"));
        }
        report(5, NoticeKind::BackingOff, Some("b"));
        report(6, NoticeKind::Recovered, Some("a"));
        report(10_000, NoticeKind::BackingOff, Some("a"));
        for ms in [10_001, 10_002, 10_003] {
            report(ms, NoticeKind::BackingOff, Some("a"));
        }
        // Nothing comes after these: they are told in time, and at the end.
        assert_eq!(reporter.deadline(), Some(start + Duration::from_secs(20)));
        reporter.tell_held_back(start + Duration::from_millis(19_999));
        reporter.tell_held_back(start + Duration::from_secs(20));
        assert_eq!(reporter.deadline(), None);
        let now = start + Duration::from_secs(21);
        reporter.report(now, NoticeKind::BackingOff, Some("a"), "the last");
        reporter.finish(now);
        drop(reporter);
        assert!(end.recv().is_err());
        let told: Vec<_> = tellings.iter().map(|notice| notice.to_string()).collect();
        assert_eq!(
            told,
            [
                "what happened",
                "a: what happened",
                "b: what happened",
                "a: what happened",
                "a: what happened (and 4 more like it before)",
                "a: what happened (and 2 more like it before)",
                "a: the last",
            ]
        );
    }
}
