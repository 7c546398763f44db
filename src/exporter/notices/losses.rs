//! Reports lost spans: during losses those since the last notice, and at their end all of them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::exporter::moment::Moment;
use crate::exporter::notices::reporter::Reporter;
use crate::stats::LostRecently;
use crate::stats::ledger::{DroppedSpans, RefusedSpans};
use crate::stats::notice::{NoticeKind, reasons, seconds, span_count};

/// Time between two comparisons of the counters.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time without a loss after which losses have ended.
const QUIET: Duration = Duration::from_secs(3);
/// Time for which losses count as recent.
const RECENT: Duration = Duration::from_secs(10);

/// Lost spans so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) refused: RefusedSpans,
    pub(crate) without_memory: u64,
    pub(crate) destinations: Vec<LostAt>,
}

/// Lost spans of one destination so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LostAt {
    pub(crate) destination: String,
    pub(crate) dropped: DroppedSpans,
    /// Reported by endpoints, not here.
    pub(crate) rejected: u64,
}

#[derive(Default)]
pub(crate) struct Losses {
    next_look: Option<Instant>,
    /// One look that is at least `RECENT` old, if there is one, and all later ones.
    looks: VecDeque<(Instant, Lost)>,
    watches: Vec<Watch>,
    open_spans_max: usize,
}

impl Losses {
    pub(crate) fn new(open_spans_max: usize) -> Self {
        Self {
            open_spans_max,
            ..Self::default()
        }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next_look.is_none_or(|at| now >= at)
    }

    /// Returns the time of the next look even if nothing happens: spans may be lost while none can be
    /// sent, and the end of losses is reported.
    pub(crate) fn deadline(&self, is_sending: bool) -> Option<Instant> {
        let is_watching = !is_sending || self.watches.iter().any(Watch::is_open);
        self.next_look.filter(|_| is_watching)
    }

    /// Reports losses since the last look, as far as the limit of notices allows.
    pub(crate) fn look(&mut self, moment: Moment, lost: Lost, reporter: &mut Reporter) {
        let now = moment.now;
        self.next_look = Some(now + INTERVAL);
        for (index, tally) in tallies(&lost, self.open_spans_max).into_iter().enumerate() {
            if index == self.watches.len() {
                self.watches.push(Watch::new(&tally));
            }
            let watch = &mut self.watches[index];
            watch.count(now, &tally.counts);
            watch.report(moment, &tally, reporter);
        }
        self.remember(now, lost);
    }

    /// Reports all losses that were not reported yet.
    pub(crate) fn finish(&mut self, moment: Moment, lost: Lost, reporter: &mut Reporter) {
        self.look(moment, lost, reporter);
        let lost = self.latest();
        for (watch, tally) in self
            .watches
            .iter_mut()
            .zip(tallies(&lost, self.open_spans_max))
        {
            watch.close(moment, &tally, "until the end of the collector: ", reporter);
        }
    }

    fn remember(&mut self, now: Instant, lost: Lost) {
        self.looks.push_back((now, lost));
        while self.looks.get(1).is_some_and(|(at, _)| is_old(*at, now)) {
            self.looks.pop_front();
        }
    }

    /// Returns the counts of the last look.
    pub(crate) fn latest(&self) -> Lost {
        self.looks
            .back()
            .map(|(_, lost)| lost.clone())
            .unwrap_or_default()
    }

    /// Returns the spans lost in the last ten seconds. `lost` are those lost so far.
    pub(crate) fn recent(&self, now: Instant, lost: &Lost) -> (RefusedSpans, Vec<LostRecently>) {
        let old = self.looks.iter().take_while(|(at, _)| is_old(*at, now));
        let nothing = Lost::default();
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

/// Counts that are reported together, and the texts of their notices.
struct Tally {
    kind: NoticeKind,
    destination: Option<String>,
    counts: Vec<(&'static str, u64)>,
    /// The texts before and after the number of spans.
    text: (&'static str, String),
    /// The texts before and after the number of spans at the end of losses.
    end: Option<(&'static str, &'static str)>,
}

/// Returns the tallies of refused spans, of spans without memory, and of each destination's dropped spans.
fn tallies(lost: &Lost, open_spans_max: usize) -> Vec<Tally> {
    let refused = Tally {
        kind: NoticeKind::Refused,
        destination: None,
        counts: lost.refused.by_reason().to_vec(),
        text: ("recording refused ", String::new()),
        end: Some(("recording refuses no more spans: ", "refused")),
    };
    let without_memory = Tally {
        kind: NoticeKind::WithoutMemory,
        destination: None,
        counts: vec![("", lost.without_memory)],
        text: (
            "",
            format!(
                " kept neither attributes nor events nor links: more than {open_spans_max} were \
                 open on their recorder; raise open_spans_max"
            ),
        ),
        end: None,
    };
    let dropped = lost.destinations.iter().map(|lost| Tally {
        kind: NoticeKind::Dropped,
        destination: Some(lost.destination.clone()),
        counts: lost.dropped.by_reason().to_vec(),
        text: ("", " dropped".to_string()),
        end: Some(("no more spans are dropped: ", "dropped")),
    });
    [refused, without_memory]
        .into_iter()
        .chain(dropped)
        .collect()
}

type Counts = Vec<u64>;

/// The losses of one tally, and those that were reported.
struct Watch {
    /// The counts of the last look.
    seen: Counts,
    reported: Counts,
    ongoing: Option<Ongoing>,
}

/// Losses that have not ended.
struct Ongoing {
    began: Instant,
    last: Instant,
    /// The counts before the first loss.
    base: Counts,
    notices: u32,
    /// Whether each reason was reported.
    reasons: Vec<bool>,
}

impl Watch {
    fn new(tally: &Tally) -> Self {
        let nothing = vec![0; tally.counts.len()];
        Self {
            seen: nothing.clone(),
            reported: nothing,
            ongoing: None,
        }
    }

    fn is_open(&self) -> bool {
        self.ongoing.is_some() || self.seen != self.reported
    }

    fn count(&mut self, now: Instant, counts: &[(&str, u64)]) {
        let counts: Counts = counts.iter().map(|(_, count)| *count).collect();
        if counts == self.seen {
            return;
        }
        let ongoing = self.ongoing.get_or_insert_with(|| Ongoing {
            began: now,
            last: now,
            base: self.seen.clone(),
            notices: 0,
            reasons: vec![false; counts.len()],
        });
        ongoing.last = now;
        self.seen = counts;
    }

    fn report(&mut self, moment: Moment, tally: &Tally, reporter: &mut Reporter) {
        let is_over =
            |ongoing: &Ongoing| moment.now.saturating_duration_since(ongoing.last) >= QUIET;
        if self.ongoing.as_ref().is_some_and(is_over) {
            let before = tally.end.map_or("", |(before, _)| before);
            self.close(moment, tally, before, reporter);
        } else {
            self.report_more(moment, tally, reporter);
        }
    }

    fn report_more(&mut self, moment: Moment, tally: &Tally, reporter: &mut Reporter) {
        let more = self.since(&self.reported, tally);
        let spans = total(&more);
        let Some(ongoing) = self.ongoing.as_mut().filter(|_| spans > 0) else {
            return;
        };
        let mut reported = ongoing.reasons.iter().zip(&more);
        let is_news = reported.any(|(is_reported, (_, count))| !is_reported && *count > 0);
        let (before, behind) = &tally.text;
        let message = format!(
            "{before}{}{behind}{}",
            span_count(spans),
            in_brackets(&more)
        );
        let about = tally.destination.as_deref();
        if reporter.offer(moment, tally.kind, about, is_news, (spans, message)) {
            ongoing.notices += 1;
            for (is_reported, (_, count)) in ongoing.reasons.iter_mut().zip(&more) {
                *is_reported |= *count > 0;
            }
            self.reported.clone_from(&self.seen);
        }
    }

    /// Reports the end of the losses, unless a single notice has reported them all.
    fn close(&mut self, moment: Moment, tally: &Tally, before: &str, reporter: &mut Reporter) {
        let Some(ongoing) = &self.ongoing else {
            return;
        };
        let is_reported = self.reported == self.seen;
        let (true, Some((_, behind))) = (ongoing.notices != 1 || !is_reported, tally.end) else {
            self.report_more(moment, tally, reporter);
            if self.reported == self.seen {
                self.ongoing = None;
            }
            return;
        };
        let all = self.since(&ongoing.base, tally);
        let lasted = ongoing.last.saturating_duration_since(ongoing.began);
        let spans = total(&all);
        let message = format!(
            "{before}{} {behind} within {}{}",
            span_count(spans),
            seconds(lasted.max(INTERVAL)),
            in_brackets(&all)
        );
        let about = tally.destination.as_deref();
        if reporter.offer(
            moment,
            NoticeKind::LossesEnded,
            about,
            true,
            (spans, message),
        ) {
            self.reported.clone_from(&self.seen);
            self.ongoing = None;
        }
    }

    fn since(&self, before: &Counts, tally: &Tally) -> Vec<(&'static str, u64)> {
        let counts = tally.counts.iter().zip(&self.seen).zip(before);
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
        losses: Losses,
        reporter: Reporter,
        notices: mpsc::Receiver<Notice>,
        end: crossbeam_channel::Receiver<()>,
        start: Instant,
        lost: Lost,
    }

    impl Simulation {
        fn new() -> Self {
            let (deliver, notices) = mpsc::channel();
            let on_notice = OnNotice::new(move |notice| deliver.send(notice.clone()).unwrap());
            let (reporter, end) = Reporter::new(Some(on_notice));
            Self {
                losses: Losses::new(32),
                reporter,
                notices,
                end,
                start: Instant::now(),
                lost: Lost {
                    destinations: vec![LostAt {
                        destination: "a".to_string(),
                        ..LostAt::default()
                    }],
                    ..Lost::default()
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
                "recording refuses no more spans: 21000 spans refused within 20.0 s \
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
                "140 spans kept neither attributes nor events nor links: more than 32 were open \
                 on their recorder; raise open_spans_max",
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
        let reported = simulation.losses.watches[0].reported.clone();
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
