//! Reports lost spans: during losses those since the last notice, and at their end all of them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::exporter::moment::Moment;
use crate::exporter::notices::reporter::Reporter;
use crate::stats::LostRecently;
use crate::stats::ledger::{DroppedSpans, RefusedSpans};
use crate::stats::notice::{NoticeKind, reasons, seconds, span_count};

/// Time between two comparisons of the counters.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Time without a loss after which losses have ended.
const QUIET: Duration = Duration::from_secs(3);
/// Time for which losses count as recent.
const RECENT: Duration = Duration::from_secs(10);

/// Lost spans so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LostSpans {
    pub(crate) refused: RefusedSpans,
    pub(crate) without_memory: u64,
    pub(crate) kept_early: u64,
    pub(crate) destinations: Vec<DestinationLosses>,
}

/// Lost spans of one destination so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DestinationLosses {
    pub(crate) destination: String,
    pub(crate) dropped: DroppedSpans,
    /// Reported by endpoints, not here.
    pub(crate) rejected: u64,
}

/// The losses of the last seconds, and those that were reported.
#[derive(Default)]
pub(crate) struct LossMonitor {
    next_look: Option<Instant>,
    /// One look that is at least `RECENT` old, if there is one, and all later ones.
    looks: VecDeque<(Instant, LostSpans)>,
    trackers: Vec<LossTracker>,
    open_span_bytes_total: usize,
}

impl LossMonitor {
    pub(crate) fn new(open_span_bytes_total: usize) -> Self {
        Self {
            open_span_bytes_total,
            ..Self::default()
        }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next_look.is_none_or(|at| now >= at)
    }

    /// Returns the time of the next look even if nothing happens: spans may be lost while none can be
    /// sent, and the end of losses is reported.
    pub(crate) fn deadline(&self, is_sending: bool) -> Option<Instant> {
        let is_watching = !is_sending || self.trackers.iter().any(LossTracker::is_open);
        self.next_look.filter(|_| is_watching)
    }

    /// Reports losses since the last look, as far as the limit of notices allows.
    pub(crate) fn look(&mut self, moment: Moment, lost: LostSpans, reporter: &mut Reporter) {
        let now = moment.now;
        self.next_look = Some(now + LOOK_INTERVAL);
        for (index, report) in loss_reports(&lost, self.open_span_bytes_total)
            .into_iter()
            .enumerate()
        {
            if index == self.trackers.len() {
                self.trackers.push(LossTracker::new(&report));
            }
            let tracker = &mut self.trackers[index];
            tracker.count(now, &report.counts);
            tracker.report(moment, &report, reporter);
        }
        self.remember(now, lost);
    }

    /// Reports all losses that were not reported yet.
    pub(crate) fn finish(&mut self, moment: Moment, lost: LostSpans, reporter: &mut Reporter) {
        self.look(moment, lost, reporter);
        let lost = self.latest();
        for (tracker, report) in self
            .trackers
            .iter_mut()
            .zip(loss_reports(&lost, self.open_span_bytes_total))
        {
            tracker.close(
                moment,
                &report,
                "until the end of the collector: ",
                reporter,
            );
        }
    }

    fn remember(&mut self, now: Instant, lost: LostSpans) {
        self.looks.push_back((now, lost));
        while self.looks.get(1).is_some_and(|(at, _)| is_old(*at, now)) {
            self.looks.pop_front();
        }
    }

    /// Returns the counts of the last look.
    pub(crate) fn latest(&self) -> LostSpans {
        self.looks
            .back()
            .map(|(_, lost)| lost.clone())
            .unwrap_or_default()
    }

    /// Returns the spans lost in the last ten seconds. `lost` are those lost so far.
    pub(crate) fn recent(
        &self,
        now: Instant,
        lost: &LostSpans,
    ) -> (RefusedSpans, Vec<LostRecently>) {
        let old = self.looks.iter().take_while(|(at, _)| is_old(*at, now));
        let nothing = LostSpans::default();
        // The counters began at zero.
        let before = old.last().map_or(&nothing, |(_, lost)| lost);
        let destinations = lost.destinations.iter().enumerate().map(|(index, lost)| {
            let before = before.destinations.get(index).cloned().unwrap_or_default();
            LostRecently {
                dropped: lost.dropped - before.dropped,
                rejected: lost.rejected - before.rejected,
            }
        });
        (lost.refused - before.refused, destinations.collect())
    }
}

fn is_old(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) >= RECENT
}

/// The counts that are reported together, and the texts of their notices.
struct LossReport {
    kind: NoticeKind,
    destination: Option<String>,
    counts: Vec<(&'static str, u64)>,
    /// The texts before and after the number of spans.
    text: (&'static str, String),
    /// The texts before and after the number of spans at the end of losses.
    end: Option<(&'static str, &'static str)>,
}

/// Returns the reports of refused spans, of spans without memory or kept early, and of each destination's
/// dropped spans.
fn loss_reports(lost: &LostSpans, open_span_bytes_total: usize) -> Vec<LossReport> {
    let refused = LossReport {
        kind: NoticeKind::Refused,
        destination: None,
        counts: lost.refused.by_reason().to_vec(),
        text: ("recording refused ", String::new()),
        end: Some(("spans are accepted again: ", "refused")),
    };
    let without_memory = LossReport {
        kind: NoticeKind::WithoutMemory,
        destination: None,
        counts: vec![("", lost.without_memory)],
        text: (
            "",
            format!(
                " kept neither attributes nor events nor links: open spans took all of \
                 {open_span_bytes_total} bytes; raise open_span_bytes_total"
            ),
        ),
        end: None,
    };
    let kept_early = LossReport {
        kind: NoticeKind::KeptEarly,
        destination: None,
        counts: vec![("", lost.kept_early)],
        text: (
            "",
            " of held traces were kept before their local root ended, for lack of memory; raise \
             held_trace_bytes or open_span_bytes_total"
                .to_string(),
        ),
        end: None,
    };
    let dropped = lost.destinations.iter().map(|lost| LossReport {
        kind: NoticeKind::Dropped,
        destination: Some(lost.destination.clone()),
        counts: lost.dropped.by_reason().to_vec(),
        text: ("", " dropped".to_string()),
        end: Some(("no more spans are dropped: ", "dropped")),
    });
    [refused, without_memory, kept_early]
        .into_iter()
        .chain(dropped)
        .collect()
}

/// Numbers of lost spans, one for each reason of a report.
type ReasonCounts = Vec<u64>;

/// The losses that are reported together, and those that were reported.
struct LossTracker {
    /// The counts of the last look.
    seen: ReasonCounts,
    reported: ReasonCounts,
    episode: Option<LossEpisode>,
}

/// Losses that have not ended.
struct LossEpisode {
    began: Instant,
    last: Instant,
    /// The counts before the first loss.
    base: ReasonCounts,
    notices: u32,
    /// Whether each reason was reported.
    reasons: Vec<bool>,
}

impl LossTracker {
    fn new(report: &LossReport) -> Self {
        let nothing = vec![0; report.counts.len()];
        Self {
            seen: nothing.clone(),
            reported: nothing,
            episode: None,
        }
    }

    fn is_open(&self) -> bool {
        self.episode.is_some() || self.seen != self.reported
    }

    fn count(&mut self, now: Instant, counts: &[(&str, u64)]) {
        let counts: ReasonCounts = counts.iter().map(|(_, count)| *count).collect();
        if counts == self.seen {
            return;
        }
        let episode = self.episode.get_or_insert_with(|| LossEpisode {
            began: now,
            last: now,
            base: self.seen.clone(),
            notices: 0,
            reasons: vec![false; counts.len()],
        });
        episode.last = now;
        self.seen = counts;
    }

    fn report(&mut self, moment: Moment, report: &LossReport, reporter: &mut Reporter) {
        let is_over =
            |episode: &LossEpisode| moment.now.saturating_duration_since(episode.last) >= QUIET;
        if self.episode.as_ref().is_some_and(is_over) {
            let before = report.end.map_or("", |(before, _)| before);
            self.close(moment, report, before, reporter);
        } else {
            self.report_more(moment, report, reporter);
        }
    }

    fn report_more(&mut self, moment: Moment, report: &LossReport, reporter: &mut Reporter) {
        let more = self.since(&self.reported, report);
        let spans = total(&more);
        let Some(episode) = self.episode.as_mut().filter(|_| spans > 0) else {
            return;
        };
        let mut reported = episode.reasons.iter().zip(&more);
        let is_news = reported.any(|(is_reported, (_, count))| !is_reported && *count > 0);
        let (before, after) = &report.text;
        let message = format!("{before}{}{after}{}", span_count(spans), in_brackets(&more));
        let about = report.destination.as_deref();
        if reporter.offer(moment, report.kind, about, spans, message, is_news) {
            episode.notices += 1;
            for (is_reported, (_, count)) in episode.reasons.iter_mut().zip(&more) {
                *is_reported |= *count > 0;
            }
            self.reported.clone_from(&self.seen);
        }
    }

    /// Reports the end of the losses, unless a single notice has reported them all.
    fn close(
        &mut self,
        moment: Moment,
        report: &LossReport,
        before: &str,
        reporter: &mut Reporter,
    ) {
        let Some(episode) = &self.episode else {
            return;
        };
        let is_reported = self.reported == self.seen;
        let (true, Some((_, after))) = (episode.notices != 1 || !is_reported, report.end) else {
            self.report_more(moment, report, reporter);
            if self.reported == self.seen {
                self.episode = None;
            }
            return;
        };
        let all = self.since(&episode.base, report);
        let lasted = episode.last.saturating_duration_since(episode.began);
        let spans = total(&all);
        let message = format!(
            "{before}{} {after} within {}{}",
            span_count(spans),
            seconds(lasted.max(LOOK_INTERVAL)),
            in_brackets(&all)
        );
        let about = report.destination.as_deref();
        if reporter.offer(moment, NoticeKind::LossesEnded, about, spans, message, true) {
            self.reported.clone_from(&self.seen);
            self.episode = None;
        }
    }

    fn since(&self, before: &ReasonCounts, report: &LossReport) -> Vec<(&'static str, u64)> {
        let counts = report.counts.iter().zip(&self.seen).zip(before);
        counts
            .map(|(((reason, _), seen), before)| (*reason, seen - before))
            .collect()
    }
}

fn total(counts: &[(&str, u64)]) -> u64 {
    counts.iter().map(|(_, count)| count).sum()
}

fn in_brackets(counts: &[(&str, u64)]) -> String {
    match counts {
        [_] => String::new(),
        counts => format!(" ({})", reasons(counts)),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::stats::notice::{Notice, OnNotice};

    struct Simulation {
        losses: LossMonitor,
        reporter: Reporter,
        notices: mpsc::Receiver<Notice>,
        end: crossbeam_channel::Receiver<()>,
        start: Instant,
        lost: LostSpans,
    }

    impl Simulation {
        fn new() -> Self {
            let (deliver, notices) = mpsc::channel();
            let on_notice = OnNotice::new(move |notice| deliver.send(notice.clone()).unwrap());
            let (reporter, end) = Reporter::new(Some(on_notice));
            Self {
                losses: LossMonitor::new(1024),
                reporter,
                notices,
                end,
                start: Instant::now(),
                lost: LostSpans {
                    destinations: vec![DestinationLosses {
                        destination: "a".to_string(),
                        ..DestinationLosses::default()
                    }],
                    ..LostSpans::default()
                },
            }
        }

        fn moment(&self, second: u64) -> Moment {
            Moment {
                now: self.start + Duration::from_secs(second),
                unix_nanos: second * 1_000_000_000,
            }
        }

        fn look(&mut self, second: u64) {
            let moment = self.moment(second);
            self.losses
                .look(moment, self.lost.clone(), &mut self.reporter);
        }

        fn finish(mut self, second: u64) -> Vec<String> {
            let moment = self.moment(second);
            self.reporter.lift_limits();
            self.losses.finish(moment, self.lost, &mut self.reporter);
            self.reporter.finish(moment.now);
            drop(self.reporter);
            assert!(self.end.recv().is_err());
            self.notices
                .iter()
                .map(|notice| notice.to_string())
                .collect()
        }
    }

    #[test]
    fn a_notice_counts_all_refusals_since_the_last_and_the_end_counts_all() {
        let mut simulation = Simulation::new();
        for second in 0..=24 {
            if (1..=21).contains(&second) {
                simulation.lost.refused.buffer_full += 1000;
            }
            simulation.look(second);
        }
        assert_eq!(
            simulation.finish(30),
            [
                "recording refused 1000 spans (buffer full 1000)",
                "recording refused 10000 spans (buffer full 10000)",
                "recording refused 10000 spans (buffer full 10000)",
                "spans are accepted again: 21000 spans refused within 20.0 s \
                 (buffer full 21000)",
            ]
        );
    }

    #[test]
    fn a_new_reason_is_reported_at_once() {
        let mut simulation = Simulation::new();
        simulation.lost.refused.buffer_full = 5;
        simulation.look(0);
        simulation.lost.refused.buffer_full = 7;
        simulation.look(1);
        simulation.lost.refused.too_large = 1;
        simulation.look(2);
        simulation.lost.refused.too_large = 2;
        simulation.look(3);
        assert_eq!(
            simulation.finish(4),
            [
                "recording refused 5 spans (buffer full 5)",
                "recording refused 3 spans (buffer full 2, too large 1)",
                "recording refused 1 span (too large 1)",
                "until the end of the collector: 9 spans refused within 3.0 s \
                 (buffer full 7, too large 2)",
            ]
        );
    }

    #[test]
    fn a_single_loss_causes_a_single_notice() {
        let mut simulation = Simulation::new();
        simulation.look(0);
        simulation.lost.destinations[0].dropped.overflow = 3;
        simulation.lost.without_memory = 140;
        (1..10).for_each(|second| simulation.look(second));
        simulation.lost.destinations[0].dropped.shut_down = 4;
        assert_eq!(
            simulation.finish(10),
            [
                "140 spans kept neither attributes nor events nor links: open spans took all of \
                 1024 bytes; raise open_span_bytes_total",
                "a: 3 spans dropped (overflow 3)",
                "a: 4 spans dropped (shut down 4)",
            ]
        );
    }

    #[test]
    fn losses_that_flap_cause_a_limited_number_of_notices_that_count_all_spans() {
        let mut simulation = Simulation::new();
        for second in 0..1000 {
            if second % 5 == 0 {
                simulation.lost.refused.buffer_full += 1;
            }
            simulation.look(second);
        }
        let all = simulation.lost.refused.total();
        let reported = simulation.losses.trackers[0].reported.clone();
        assert!(reported[0] + 2 >= all, "{reported:?} of {all}");
        let notices = simulation.finish(1000).len();
        // Six and then one every ten seconds, of refusals and of their ends; and the last ones.
        assert!((100..=2 * (6 + 100) + 2).contains(&notices), "{notices}");
    }

    #[test]
    fn recent_losses_are_those_of_the_last_ten_seconds() {
        let mut simulation = Simulation::new();
        let recent = |simulation: &Simulation, second| {
            let now = simulation.start + Duration::from_secs(second);
            let (refused, lost) = simulation.losses.recent(now, &simulation.lost);
            (refused.total(), lost[0].dropped.total(), lost[0].rejected)
        };
        assert_eq!(recent(&simulation, 0), (0, 0, 0));
        simulation.lost.refused.buffer_full = 10;
        // Before the first look.
        assert_eq!(recent(&simulation, 0), (10, 0, 0));
        simulation.look(0);
        simulation.lost.destinations[0].rejected = 2;
        (1..5).for_each(|second| simulation.look(second));
        assert_eq!(recent(&simulation, 9), (10, 0, 2));
        (5..11).for_each(|second| simulation.look(second));
        assert_eq!(recent(&simulation, 10), (0, 0, 2));
        (11..1000).for_each(|second| simulation.look(second));
        assert_eq!(recent(&simulation, 1000), (0, 0, 0));
        assert!(simulation.losses.looks.len() <= 12);
    }
}
