//! Sampling after the fact: what a local root's end decides for all its trace's spans.

use std::time::Duration;

use crate::span::id::TraceId;
use crate::span::sampler::is_chosen;

/// Holds the spans of each trace back until its local root has ended, which then decides whether
/// all of them are kept or none.
///
/// A local root is an open span without a parent on the same recorder; its spans are those of its
/// descendants that were started and ended there. They wait in memory of the recorder's own, which
/// costs a copy of the kept ones and nothing else. Spans that are recorded in one go
/// ([`Recorder::record`](crate::Recorder::record), [`Collector::collect`](crate::Collector::collect))
/// are not held. A trace of which a span leaves its thread ([`OpenSpan::detach`]) is kept from
/// then on, so is one that outgrows its memory. Other services are told that the trace is sampled, since nothing is decided yet
/// when they are called.
///
/// Until the root ends, the spans that did are not accepted yet, so that a flush does not cover
/// them: the ledger has them as held ([`Ledger::held`]).
///
/// [`OpenSpan::detach`]: crate::OpenSpan::detach
/// [`Ledger::held`]: crate::Ledger::held
///
/// ```
/// use std::time::Duration;
/// use otlp_collector::{Config, KeepIf, TailSampling};
///
/// let config = Config {
///     tail_sampling: Some(TailSampling::new(KeepIf {
///         slower_than: Some(Duration::from_millis(50)),
///         failed: true,
///         one_in: Some(1000),
///     })),
///     ..Config::default()
/// };
/// # drop(config);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailSampling {
    /// Which traces are kept, if their root does not say otherwise.
    pub keep_if: KeepIf,
    /// Traces that one recorder holds back at a time; the spans of further ones are sent at
    /// their end. Default 16.
    pub held_traces_max: usize,
    /// Bytes of finished spans that one trace can have held back; a trace that outgrows them is
    /// kept. Default 16 KiB.
    ///
    /// Memory: times [`held_traces_max`](Self::held_traces_max), touched when a recorder is made:
    /// 256 KiB by default, a quarter of it more for where the spans begin, and 64 bytes for each
    /// trace.
    pub held_trace_bytes: usize,
}

impl TailSampling {
    /// This rule, and default sizes.
    #[must_use]
    pub const fn new(keep_if: KeepIf) -> Self {
        Self {
            keep_if,
            held_traces_max: 16,
            held_trace_bytes: 16 * 1024,
        }
    }
}

/// Which traces are kept: those of which any of this is true. None by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepIf {
    /// The local root took longer.
    pub slower_than: Option<Duration>,
    /// One of its spans on this recorder ended with an error before the local root did, or the
    /// root itself.
    pub failed: bool,
    /// One of so many, chosen by trace id: services with the same number keep the same traces.
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
    fn any_reason_is_enough() {
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
