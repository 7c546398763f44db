//! The thread that logs notices and calls the user's function.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::stats::notice::{Notice, OnNotice};

/// Notices in the queue of the thread.
const QUEUED_MAX: usize = 1024;

/// The queue of the thread that logs notices and calls the user's function.
pub(crate) struct Callback {
    on_notice: Option<OnNotice>,
    /// Disconnected when the network thread and then the callback's thread have ended.
    ended: Sender<()>,
    /// The queue of the thread, which the first notice starts.
    queue: Option<Sender<Notice>>,
}

impl Callback {
    /// Creates the queue. The receiver is disconnected after the last notice was passed on.
    pub(crate) fn new(on_notice: Option<OnNotice>) -> (Self, Receiver<()>) {
        let (ended, end) = bounded(0);
        let callback = Self {
            on_notice,
            ended,
            queue: None,
        };
        (callback, end)
    }

    /// Sends notices to a test, without a thread.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn to(queue: Sender<Notice>) -> Self {
        let (callback, _) = Self::new(None);
        Self {
            queue: Some(queue),
            ..callback
        }
    }

    /// Returns whether the user has set a function.
    pub(crate) fn is_set(&self) -> bool {
        self.on_notice.is_some()
    }

    /// Passes a notice on without waiting. Returns false if the queue is full.
    pub(crate) fn send(&mut self, notice: Notice) -> bool {
        if self.queue.is_none() {
            self.queue = start(self.on_notice.clone(), self.ended.clone());
        }
        let sent = self.queue.as_ref().map(|queue| queue.try_send(notice));
        sent.is_some_and(|sent| sent.is_ok())
    }
}

fn start(on_notice: Option<OnNotice>, ended: Sender<()>) -> Option<Sender<Notice>> {
    let (queue, notices) = bounded(QUEUED_MAX);
    thread::Builder::new()
        .name("otlp-notices".to_string())
        .spawn(move || {
            notices
                .iter()
                .for_each(|notice| pass_on(&notice, on_notice.as_ref()));
            drop(ended);
        })
        .ok()
        .map(|_| queue)
}

fn pass_on(notice: &Notice, on_notice: Option<&OnNotice>) {
    // A panic of the user's function must not stop later notices.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        log::log!(target: "otlp_collector", notice.kind.level(), "{notice}");
        if let Some(on_notice) = on_notice {
            on_notice.call(notice);
        }
    }));
}
