//! Makes notices of rare events, at a limited rate.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;

use crate::exporter::moment::Moment;
use crate::exporter::notices::callback::Callback;
use crate::exporter::notices::incident::{Cause, Incident};
use crate::stats::notice::{Notice, NoticeKind, OnNotice, span_count};

/// Minimum time between two notices of the same event.
const REPEAT_INTERVAL: Duration = Duration::from_secs(10);
/// Notices of one stream that can follow each other at once. One more is allowed after each interval.
const BURST: u32 = 6;

/// Notices of rare events, at a limited rate.
pub(crate) struct Reporter {
    callback: Callback,
    /// In the order of their first events. They are few, so a search is cheap.
    streams: Vec<(StreamKey, Stream)>,
    incidents: HashMap<String, Incident>,
    /// The collector ends: every notice is delivered at once.
    is_ending: bool,
}

/// An event that may become a notice.
pub(crate) struct Report<'a> {
    pub(crate) kind: NoticeKind,
    pub(crate) cause: Cause,
    /// The endpoint's URL, if it is about one.
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) message: &'a str,
    /// Spans that were rejected.
    pub(crate) spans: u64,
    /// The start of the incident that this event opens.
    pub(crate) since: Instant,
}

/// The subject and kind of notices whose rate is limited together, with [`BackingOff`] for all states of
/// an endpoint.
///
/// [`BackingOff`]: NoticeKind::BackingOff
#[derive(Clone, Debug, PartialEq, Eq)]
struct StreamKey {
    /// The URL of an endpoint, or a destination.
    subject: Option<String>,
    kind: NoticeKind,
}

impl StreamKey {
    fn new(subject: Option<&str>, kind: NoticeKind) -> Self {
        let kind = match kind {
            NoticeKind::Recovered | NoticeKind::Throttled | NoticeKind::Stalled => {
                NoticeKind::BackingOff
            }
            kind => kind,
        };
        Self {
            subject: subject.map(str::to_string),
            kind,
        }
    }
}

/// The notices of one subject and kind.
struct Stream {
    /// The start of the present interval, and the notices that are left in it.
    refilled_at: Instant,
    left: u32,
    last: Option<Last>,
    held: Option<Held>,
}

/// The last event, whether it was delivered or not.
struct Last {
    kind: NoticeKind,
    cause: Cause,
    delivered_at: Instant,
}

/// The latest notice that was not delivered, and the number of them.
struct Held {
    kind: NoticeKind,
    message: String,
    spans: u64,
    count: u64,
    /// The time of the latest.
    at: SystemTime,
}

impl Stream {
    fn new(now: Instant) -> Self {
        Self {
            refilled_at: now,
            left: BURST,
            last: None,
            held: None,
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled_at);
        let more = u32::try_from(passed.as_nanos() / REPEAT_INTERVAL.as_nanos()).unwrap_or(BURST);
        self.left = self.left.saturating_add(more).min(BURST);
        self.refilled_at += REPEAT_INTERVAL * more;
    }

    /// Returns the time of the next notice; `None` if that is now.
    fn blocked_until(&self, now: Instant, is_news: bool) -> Option<Instant> {
        let refilled = (self.left == 0).then_some(self.refilled_at + REPEAT_INTERVAL);
        let last = self.last.as_ref().filter(|_| !is_news);
        let repeated = last.map(|last| last.delivered_at + REPEAT_INTERVAL);
        refilled.max(repeated).filter(|at| now < *at)
    }

    fn is_news(&self, kind: NoticeKind, cause: Cause) -> bool {
        (self.last.as_ref()).is_none_or(|last| (last.kind, last.cause) != (kind, cause))
    }

    /// Returns the time at which the held notice is due.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        self.held.as_ref()?;
        Some(self.blocked_until(now, false).unwrap_or(now))
    }
}

impl Reporter {
    /// Creates a reporter. The receiver is disconnected after the last notice was passed on.
    pub(crate) fn new(on_notice: Option<OnNotice>) -> (Self, Receiver<()>) {
        let (callback, end) = Callback::new(on_notice);
        (Self::with_callback(callback), end)
    }

    pub(crate) fn with_callback(callback: Callback) -> Self {
        Self {
            callback,
            streams: Vec::new(),
            incidents: HashMap::new(),
            is_ending: false,
        }
    }

    /// Delivers a notice of the event, or holds it back if the same was delivered a moment ago or the
    /// limit is reached.
    pub(crate) fn report(&mut self, moment: Moment, report: &Report<'_>) {
        let now = moment.now;
        let Report {
            kind,
            cause,
            endpoint,
            message,
            spans,
            ..
        } = *report;
        self.note_incident(now, report);
        let key = StreamKey::new(endpoint, kind);
        if kind == NoticeKind::Recovered {
            self.deliver_rejections_of(endpoint, now);
        }
        let stream = self.stream(&key, now);
        let is_news = stream.is_news(kind, cause);
        let held = stream.held.take();
        let count = held.as_ref().map_or(0, |held| held.count);
        let earlier = held.map_or(0, |held| held.spans);
        let is_blocked = stream.blocked_until(now, is_news).is_some();
        let delivered_at = stream.last.as_ref().map_or(now, |last| last.delivered_at);
        stream.last = Some(Last {
            kind,
            cause,
            delivered_at,
        });
        stream.held = Some(Held {
            kind,
            message: message.to_string(),
            spans: earlier + spans,
            count: count + 1,
            at: moment.system_time(),
        });
        if !is_blocked || self.is_ending {
            self.deliver_held(&key, now);
        }
    }

    /// Delivers a notice of losses that the caller counts. Returns false if the limit does not allow it
    /// now. Nothing is held back: the caller tries again with the counts of that time.
    pub(crate) fn offer(
        &mut self,
        moment: Moment,
        kind: NoticeKind,
        destination: Option<&str>,
        spans: u64,
        message: String,
        is_news: bool,
    ) -> bool {
        let now = moment.now;
        let key = StreamKey::new(destination, kind);
        let is_ending = self.is_ending;
        let stream = self.stream(&key, now);
        if stream.blocked_until(now, is_news).is_some() && !is_ending {
            return false;
        }
        stream.last.get_or_insert(Last {
            kind,
            cause: Cause::Other,
            delivered_at: now,
        });
        stream.held = Some(Held {
            kind,
            message,
            spans,
            count: 1,
            at: moment.system_time(),
        });
        let is_delivered = self.deliver_held(&key, now);
        self.stream(&key, now).held = None;
        is_delivered
    }

    /// Notes that a request to this endpoint is sent again.
    pub(crate) fn note_retry(&mut self, endpoint: &str, spans: u64) {
        if let Some(incident) = self.incidents.get_mut(endpoint) {
            incident.add_retry(spans);
        }
    }

    fn note_incident(&mut self, now: Instant, report: &Report<'_>) {
        let Some(endpoint) = report.endpoint else {
            return;
        };
        let opens = match report.kind {
            NoticeKind::BackingOff | NoticeKind::Throttled | NoticeKind::Stalled => true,
            // A partial success does not open an incident.
            NoticeKind::Rejected => !matches!(report.cause, Cause::Status(200..=299)),
            _ => false,
        };
        if opens && !self.incidents.contains_key(endpoint) {
            let incident = Incident::new(report.since);
            self.incidents.insert(endpoint.to_string(), incident);
        }
        let Some(incident) = self.incidents.get_mut(endpoint) else {
            return;
        };
        match report.kind {
            NoticeKind::Recovered => incident.recover(now),
            NoticeKind::Warned => {}
            _ => incident.add(report.cause, report.spans),
        }
    }

    fn stream(&mut self, key: &StreamKey, now: Instant) -> &mut Stream {
        let found = self.streams.iter().position(|(other, _)| other == key);
        let index = found.unwrap_or_else(|| {
            self.streams.push((key.clone(), Stream::new(now)));
            self.streams.len() - 1
        });
        let (_, stream) = &mut self.streams[index];
        stream.refill(now);
        stream
    }

    /// Delivers held rejections, before the end of the incident that they are part of.
    fn deliver_rejections_of(&mut self, endpoint: Option<&str>, now: Instant) {
        let key = StreamKey::new(endpoint, NoticeKind::Rejected);
        if self.stream(&key, now).left > 0 {
            self.deliver_held(&key, now);
        }
    }

    /// Delivers a stream's held notice. Returns false if the queue is full.
    fn deliver_held(&mut self, key: &StreamKey, now: Instant) -> bool {
        let Some(held) = self.stream(key, now).held.take() else {
            return false;
        };
        let is_delivered = self.callback.send(Notice {
            kind: held.kind,
            endpoint: key.subject.clone(),
            message: self.message(key, &held),
            spans: held.spans,
            suppressed: held.count - 1,
            at: held.at,
        });
        if is_delivered
            && held.kind == NoticeKind::Recovered
            && let Some(endpoint) = &key.subject
        {
            self.incidents.remove(endpoint);
        }
        let stream = self.stream(key, now);
        if let Some(last) = &mut stream.last {
            last.delivered_at = now;
        }
        stream.left = stream.left.saturating_sub(1);
        stream.held = (!is_delivered).then_some(held);
        is_delivered
    }

    fn message(&self, key: &StreamKey, held: &Held) -> String {
        let incident = (key.subject.as_ref()).and_then(|url| self.incidents.get(url));
        match (held.kind, incident) {
            (NoticeKind::Recovered, Some(incident)) => incident.to_string(),
            (NoticeKind::Rejected, _) if held.spans > 0 => {
                format!("{}: {} rejected", held.message, span_count(held.spans))
            }
            _ => held.message.clone(),
        }
    }

    /// Reports problems of the configuration. Without a logger and a callback they go to standard error.
    pub(crate) fn report_configuration(&mut self, warnings: &[String], at: SystemTime) {
        for warning in warnings {
            if !self.callback.is_set() && log::max_level() == log::LevelFilter::Off {
                // Not `eprintln!`, which panics if that is closed.
                let _ = writeln!(io::stderr(), "{}: {warning}", env!("CARGO_PKG_NAME"));
            }
            self.callback.send(Notice {
                kind: NoticeKind::Misconfigured,
                endpoint: None,
                message: warning.clone(),
                spans: 0,
                suppressed: 0,
                at,
            });
        }
    }

    /// Returns the time at which the next held notice is due.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let streams = self.streams.iter();
        streams.filter_map(|(_, stream)| stream.deadline(now)).min()
    }

    /// Delivers held notices that are due: each may be the last of its kind.
    pub(crate) fn deliver_due(&mut self, now: Instant) {
        if self.deadline(now).is_some_and(|at| at <= now) {
            (self.streams.iter_mut()).for_each(|(_, stream)| stream.refill(now));
            self.deliver_all(
                |stream| stream.deadline(now).is_some_and(|at| at <= now),
                now,
            );
        }
    }

    /// Lifts the limits before the end.
    pub(crate) fn lift_limits(&mut self) {
        self.is_ending = true;
    }

    /// Delivers all held notices.
    pub(crate) fn finish(&mut self, now: Instant) {
        self.deliver_all(|stream| stream.held.is_some(), now);
    }

    fn deliver_all(&mut self, is_due: impl Fn(&Stream) -> bool, now: Instant) {
        let due = self.streams.iter().filter(|(_, stream)| is_due(stream));
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            self.deliver_held(&key, now);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A reporter with simulated time, and the notices that it delivers.
    struct Simulation {
        reporter: Reporter,
        end: Receiver<()>,
        delivered: Receiver<Notice>,
        start: Instant,
    }

    impl Simulation {
        fn new() -> Self {
            let (deliver, delivered) = crossbeam_channel::unbounded();
            let on_notice = OnNotice::new(move |notice| {
                deliver.send(notice.clone()).unwrap();
                assert_ne!(notice.kind, NoticeKind::Panicked, "a callback that panics");
            });
            let (reporter, end) = Reporter::new(Some(on_notice));
            Self {
                reporter,
                end,
                delivered,
                start: Instant::now(),
            }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn report(&mut self, ms: u64, kind: NoticeKind, cause: Cause, endpoint: Option<&str>) {
            self.report_spans(ms, kind, cause, endpoint, 0);
        }

        fn report_spans(
            &mut self,
            ms: u64,
            kind: NoticeKind,
            cause: Cause,
            endpoint: Option<&str>,
            spans: u64,
        ) {
            let now = self.at(ms);
            let message = match cause {
                Cause::Status(status) => format!("responded with {status}"),
                _ => "what happened".to_string(),
            };
            let report = Report {
                kind,
                cause,
                endpoint,
                message: &message,
                spans,
                since: now,
            };
            let moment = Moment {
                now,
                unix_nanos: ms * 1_000_000,
            };
            self.reporter.report(moment, &report);
        }

        fn tick(&mut self, ms: u64) {
            self.reporter.deliver_due(self.at(ms));
        }

        /// Returns all notices, after the end.
        fn finish(mut self, ms: u64) -> Vec<String> {
            let now = self.at(ms);
            self.reporter.lift_limits();
            self.reporter.finish(now);
            drop(self.reporter);
            assert!(self.end.recv().is_err());
            let delivered = self.delivered.iter();
            delivered.map(|notice| notice.to_string()).collect()
        }
    }

    const DOWN: NoticeKind = NoticeKind::BackingOff;

    #[test]
    fn repeated_events_are_reported_every_ten_seconds_and_counted_in_between() {
        let mut simulation = Simulation::new();
        simulation.report(0, NoticeKind::Panicked, Cause::Other, None);
        for ms in 0..5 {
            simulation.report(ms, DOWN, Cause::NoConnection, Some("a"));
        }
        simulation.report(5, DOWN, Cause::NoConnection, Some("b"));
        simulation.report(10_000, DOWN, Cause::NoConnection, Some("a"));
        for ms in [10_001, 10_002, 10_003] {
            simulation.report(ms, DOWN, Cause::NoConnection, Some("a"));
        }
        // Nothing comes after these: they are delivered in time, and at the end.
        let now = simulation.at(10_003);
        assert_eq!(
            simulation.reporter.deadline(now),
            Some(simulation.at(20_000))
        );
        simulation.tick(19_999);
        simulation.tick(20_000);
        assert_eq!(simulation.reporter.deadline(simulation.at(20_000)), None);
        simulation.report(21_000, DOWN, Cause::NoConnection, Some("a"));
        assert_eq!(
            simulation.finish(21_000),
            [
                "what happened",
                "a: what happened",
                "b: what happened",
                "a: what happened (4 more suppressed)",
                "a: what happened (2 more suppressed)",
                "a: what happened",
            ]
        );
    }

    /// The incident of a backend that responded with 503, then 429, then 503 again.
    #[test]
    fn a_new_cause_and_a_recovery_are_reported_at_once_and_in_order() {
        let mut simulation = Simulation::new();
        let endpoint = Some("a");
        simulation.report(0, DOWN, Cause::TimedOut, endpoint);
        for ms in [3_000, 3_100, 3_200] {
            simulation.report(ms, DOWN, Cause::Status(503), endpoint);
        }
        simulation.report(4_000, NoticeKind::Throttled, Cause::Status(429), endpoint);
        simulation.reporter.note_retry("a", 500);
        simulation.report(5_000, NoticeKind::Recovered, Cause::Other, endpoint);
        // Nothing was held back that would come now.
        assert_eq!(
            simulation.finish(60_000),
            [
                "a: what happened",
                "a: responded with 503",
                "a: responded with 429 (2 more suppressed)",
                "a: works again after 5.0 s; timeouts: 1, responses 503: 3, \
                 responses 429: 1, requests sent again: 1 (500 spans)",
            ]
        );
    }

    #[test]
    fn an_endpoint_that_flaps_causes_six_notices_and_one_more_every_ten_seconds() {
        let mut simulation = Simulation::new();
        let mut delivered = 0;
        for step in 0..6_000 {
            let ms = step * 100;
            match step % 2 {
                0 => simulation.report(ms, DOWN, Cause::Status(503), Some("a")),
                _ => simulation.report(ms, NoticeKind::Recovered, Cause::Other, Some("a")),
            }
            simulation.tick(ms);
            delivered = BURST as u64 + ms / 10_000;
        }
        let notices = simulation.finish(600_000);
        // One at the end.
        assert_eq!(notices.len() as u64, delivered + 1, "{notices:#?}");
        // The last recovery counts what was not reported since the one before it.
        let recovered = notices
            .iter()
            .rfind(|notice| notice.contains("works again"))
            .unwrap();
        assert!(recovered.contains("interruptions"), "{recovered}");
    }

    #[test]
    fn rejected_spans_add_up_and_are_reported_before_the_recovery() {
        let mut simulation = Simulation::new();
        let rejected = NoticeKind::Rejected;
        for ms in [0, 100, 200, 300] {
            simulation.report_spans(ms, rejected, Cause::Status(400), Some("a"), 25);
        }
        simulation.report(400, NoticeKind::Recovered, Cause::Other, Some("a"));
        assert_eq!(
            simulation.finish(400),
            [
                "a: responded with 400: 25 spans rejected",
                "a: responded with 400: 75 spans rejected (2 more suppressed)",
                "a: works again after 0.4 s; responses 400: 4, spans rejected: 100",
            ]
        );
    }
}
