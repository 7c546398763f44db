//! A histogram of durations with fixed bounds.

use crate::stats::durations::Durations;

/// Inclusive upper bounds of the buckets in microseconds: those that the semantic conventions recommend
/// for `http.client.request.duration`, extended below for loopback receivers and above for retries and
/// outages. The last bucket has no upper bound.
pub(crate) const BOUNDS_US: [u64; 21] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    75_000,
    100_000,
    250_000,
    500_000,
    750_000,
    1_000_000,
    2_500_000,
    5_000_000,
    7_500_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
];

/// A histogram of durations with a fixed size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Buckets {
    counts: [u64; BOUNDS_US.len() + 1],
    pub(crate) durations: Durations,
}

impl Buckets {
    pub(crate) fn add(&mut self, us: u64) {
        self.counts[BOUNDS_US.partition_point(|bound| *bound < us)] += 1;
        self.durations.add(us);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.durations.merge(&other.durations);
    }

    /// Returns the counts of the buckets, not cumulative: one more than the bounds.
    pub(crate) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Returns the upper bounds in seconds.
    pub(crate) fn bounds() -> impl Iterator<Item = f64> {
        BOUNDS_US.iter().map(|us| *us as f64 / 1e6)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let mut buckets = Buckets::default();
        for us in [0, 1_000, 1_001, 600_000_000, 600_000_001, u64::MAX / 2] {
            buckets.add(us);
        }
        assert_eq!(buckets.counts()[..2], [2, 1]);
        assert_eq!(buckets.counts()[20..], [1, 2]);
        assert_eq!(buckets.counts().iter().sum::<u64>(), 6);
        assert!(BOUNDS_US.is_sorted());
    }

    #[test]
    fn merged_buckets_count_both() {
        let (mut both, mut second) = (Buckets::default(), Buckets::default());
        both.add(20_000);
        second.add(500);
        second.add(20_001);
        both.merge(&second);
        assert_eq!((both.counts()[0], both.counts()[4]), (1, 2));
        let Durations {
            count,
            min_us,
            max_us,
            ..
        } = both.durations;
        assert_eq!((count, min_us, max_us), (3, 500, 20_001));
    }
}
