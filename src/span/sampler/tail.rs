//! Tail sampling: the end of a local root decides for all spans of its trace.

use std::time::Duration;

use crate::span::id::TraceId;
use crate::span::sampler::ratio::is_chosen;

/// Tail sampling: the spans of a trace are held until its local root ends, and then all kept or all
/// dropped.
///
/// A local root is an open span without an open span as its parent. Its trace is the root and its
/// descendants whose parents were given as spans ([`SpanBuilder::child_of`]), on any threads. Spans that end after the root follow its decision. Finished spans
/// ([`Recorder::record`](crate::Recorder::record), [`Collector::collect`](crate::Collector::collect))
/// are never held. Other services see the trace as sampled, because they are called before the decision.
///
/// Held spans stay in the memory that they had when they were open
/// ([`Config::open_span_bytes_total`](crate::Config::open_span_bytes_total)). A trace that outgrows
/// [`held_trace_bytes`](Self::held_trace_bytes), or whose next span finds no memory, is kept
/// ([`Stats::spans_kept_early`](crate::stats::Stats::spans_kept_early)), and so is a trace whose root has not
/// ended at the shutdown. Held spans are not accepted yet: a flush does not cover them, and
/// [`Ledger::held`](crate::Ledger::held) counts them.
///
/// [`SpanBuilder::child_of`]: crate::recorder::SpanBuilder::child_of
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
    /// Number of traces that the collector holds at a time. Default: 4,096, at least 1, at most 65,536. Spans of
    /// further traces are sent when they end.
    ///
    /// Memory: 64 bytes for each, allocated at start.
    pub held_traces_max: usize,
    /// Encoded bytes of the ended spans of a held trace. Default: 16 KiB, at least 256, at most 16 MiB. A
    /// trace that outgrows them is kept.
    pub held_trace_bytes: usize,
}

impl TailSampling {
    /// Creates tail sampling with a rule and default sizes.
    #[must_use]
    pub const fn new(keep_if: KeepIf) -> Self {
        Self {
            keep_if,
            held_traces_max: 4096,
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
