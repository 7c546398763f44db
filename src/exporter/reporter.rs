//! Tells the user what happens rarely, without waiting for who listens.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::notice::{Notice, NoticeKind, OnNotice};

/// Of a kind of notice there is one for each endpoint in this time.
const INTERVAL: Duration = Duration::from_secs(10);
/// Notices that wait for who listens.
const WAITING_MAX: usize = 64;

pub(crate) struct Reporter {
    on_notice: Option<OnNotice>,
    /// Gone together with the network thread, which lets the listening thread end.
    ended: Sender<()>,
    /// To the thread that tells, once there was something to be told.
    teller: Option<Sender<Notice>>,
    told: HashMap<(Option<String>, NoticeKind), Told>,
}

/// When an notice was told last, and how many were not since.
struct Told {
    at: Instant,
    suppressed: u64,
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
        let endpoint = endpoint.map(str::to_string);
        let key = (endpoint.clone(), kind);
        let mut suppressed = 0;
        if let Some(told) = self.told.get_mut(&key) {
            if now.saturating_duration_since(told.at) < INTERVAL {
                told.suppressed += 1;
                return;
            }
            suppressed = told.suppressed;
        }
        let notice = Notice {
            kind,
            endpoint,
            message: message.to_string(),
            suppressed,
        };
        let suppressed = if self.tell(notice) { 0 } else { suppressed + 1 };
        self.told.insert(
            key,
            Told {
                at: now,
                suppressed,
            },
        );
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
            ]
        );
    }
}
