//! Tail sampling: the end of a local root decides for all spans of its trace.

use std::time::Duration;

use crate::span::id::TraceId;
use crate::span::sampler::ratio::is_chosen;

/// Tail sampling: the spans of a trace are held until its local root ends, and then all kept or all
/// dropped.
///
/// A local root is an open span without a parent on the same recorder. Its trace is the root and its
/// descendants that start and end on that recorder. Finished spans
/// ([`Recorder::record`](crate::Recorder::record), [`Collector::collect`](crate::Collector::collect))
/// are never held. Other services see the trace as sampled, because they are called before the decision.
///
/// Held spans are in memory of the recorder. Each kept span costs one more copy. A trace that outgrows
/// its memory is kept, and so is a trace from which a span is detached
/// ([`OpenSpan::detach`](crate::OpenSpan::detach)). Held spans are not accepted yet: a flush does not
/// cover them, and [`Ledger::held`](crate::Ledger::held) counts them.
///
/// Build it with struct update syntax, `..TailSampling::new(keep_if)`: a minor release may add fields.
///
/// ```
/// use std::time::Duration;
/// use otlp_collector::span::{KeepIf, TailSampling};
/// use otlp_collector::Config;
///
/// let config = Config {
///     tail_sampling: Some(TailSampling::new(KeepIf {
///         slower_than: Some(Duration::from_millis(50)),
///         failed: true,
///         one_in: Some(1000),
///         ..KeepIf::default()
///     })),
///     ..Config::default()
/// };
/// # drop(config);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailSampling {
    /// Rule for traces whose root has no rule of its own ([`SpanBuilder::keep_if`]).
    ///
    /// [`SpanBuilder::keep_if`]: crate::recorder::SpanBuilder::keep_if
    pub keep_if: KeepIf,
    /// Number of traces that a recorder holds at a time. Default: 16, at least 1, at most 65,536. Spans of
    /// further traces are sent when they end.
    pub held_traces_max: usize,
    /// Bytes for the ended spans of a held trace. Default: 16 KiB, at least 256, at most 16 MiB; all held
    /// traces of a recorder at most 1 GiB. A trace that outgrows them is kept.
    ///
    /// Memory of a recorder: [`held_traces_max`](Self::held_traces_max) times this, 256 KiB by default,
    /// a quarter of it more for an index, and 64 bytes for each trace. It is touched when the recorder is
    /// created.
    pub held_trace_bytes: usize,
}

impl TailSampling {
    /// Creates tail sampling with a rule and default sizes.
    #[must_use]
    pub const fn new(keep_if: KeepIf) -> Self {
        Self {
            keep_if,
            held_traces_max: 16,
            held_trace_bytes: 16 * 1024,
        }
    }
}

/// A rule of tail sampling: keeps a trace if one of the conditions holds. Default: keeps none.
///
/// Build it with struct update syntax, `..KeepIf::default()`: a minor release may add fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepIf {
    /// The local root takes longer than this.
    pub slower_than: Option<Duration>,
    /// The local root, or a span of the trace that ended before it, has the status error.
    pub failed: bool,
    /// One of this many traces, chosen by trace id, so that services with the same number keep the
    /// same traces. Default none; 0 is the same as none.
    pub one_in: Option<u32>,
}

impl KeepIf {
    #[inline]
    pub(crate) fn keeps(&self, trace_id: TraceId, nanos: u64, failed: bool) -> bool {
        self.failed && failed
            || (self.slower_than).is_some_and(|limit| u128::from(nanos) > limit.as_nanos())
            || (self.one_in.filter(|traces| *traces > 0))
                .is_some_and(|traces| is_chosen(trace_id, 1.0 / f64::from(traces)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_condition_is_enough() {
        let rule = KeepIf {
            slower_than: Some(Duration::from_nanos(100)),
            failed: true,
            one_in: Some(2),
        };
        let low = TraceId::from_u128(1 << 64).unwrap();
        let high = TraceId::from_u128(u128::MAX).unwrap();
        assert!(!rule.keeps(high, 100, false));
        assert!(rule.keeps(high, 101, false));
        assert!(rule.keeps(high, 100, true));
        assert!(rule.keeps(low, 100, false));
        assert!(!KeepIf::default().keeps(low, u64::MAX, true));
        let none = KeepIf {
            one_in: Some(0),
            ..KeepIf::default()
        };
        assert!(!none.keeps(low, 1, false));
    }
}
