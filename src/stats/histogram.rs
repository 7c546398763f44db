//! A distribution of durations.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

const HOUR_US: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 2;

/// A distribution of durations, from 1 µs to one hour, at two significant digits. Longer durations
/// count as an hour.
///
/// Memory: 40 KB.
///
/// ```
/// # use std::time::Duration;
/// # use otlp_collector::{Collector, Config};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let collector = Collector::new(Config::default())?;
/// let delivery = collector.stats().network.delivery;
/// if delivery.quantile(0.99) > Some(Duration::from_secs(1)) {
///     eprintln!("1 % of {} spans took more than a second", delivery.count());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DurationHistogram {
    us: Histogram<u64>,
}

impl DurationHistogram {
    pub(crate) fn new() -> Self {
        let us = Histogram::new_with_bounds(1, HOUR_US, SIGNIFICANT_DIGITS);
        Self {
            us: us.expect("the bounds are constants and valid"),
        }
    }

    pub(crate) fn record_us(&mut self, us: u64) {
        self.us.saturating_record(us);
    }

    /// Returns the number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.us.len()
    }

    /// Returns the shortest duration; `None` without any.
    #[must_use]
    pub fn min(&self) -> Option<Duration> {
        self.unless_empty(|us| Duration::from_micros(us.min()))
    }

    /// Returns the longest duration; `None` without any.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        self.unless_empty(|us| Duration::from_micros(us.max()))
    }

    /// Returns the mean; `None` without any duration.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.unless_empty(|us| Duration::from_secs_f64(us.mean() / 1e6))
    }

    /// Returns the duration that this share of all durations does not exceed: 0.5 for the median.
    /// Shares are limited to 0 to 1. `None` without any duration.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        self.unless_empty(|us| Duration::from_micros(us.value_at_quantile(share)))
    }

    /// Returns the longest duration of each bucket that is not empty and the number of durations in
    /// it, from the shortest to the longest: enough to merge or convert histograms.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        (self.us.iter_recorded()).map(|bucket| {
            let longest = Duration::from_micros(bucket.value_iterated_to());
            (longest, bucket.count_at_value())
        })
    }

    fn unless_empty<T>(&self, value: impl FnOnce(&Histogram<u64>) -> T) -> Option<T> {
        (!self.us.is_empty()).then(|| value(&self.us))
    }
}

impl fmt::Debug for DurationHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurationHistogram")
            .field("count", &self.count())
            .field("min", &self.min())
            .field("median", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_empty_histogram_has_no_durations() {
        let empty = DurationHistogram::new();
        assert_eq!((empty.count(), empty.buckets().count()), (0, 0));
        let values = [empty.min(), empty.max(), empty.mean(), empty.quantile(0.5)];
        assert_eq!(values, [None; 4]);
    }

    #[test]
    fn buckets_and_quantiles_describe_what_was_recorded() {
        let mut histogram = DurationHistogram::new();
        (1..=100).for_each(|us| histogram.record_us(us));
        histogram.record_us(u64::MAX);
        assert_eq!(histogram.count(), 101);
        assert_eq!(histogram.min(), Some(Duration::from_micros(1)));
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_micros(51)));
        assert!(histogram.max() >= Some(Duration::from_secs(3600)));
        let buckets: Vec<_> = histogram.buckets().collect();
        assert_eq!(buckets[0], (Duration::from_micros(1), 1));
        assert!(buckets.is_sorted());
        let counts = buckets.iter().map(|(_, count)| count);
        assert_eq!(counts.sum::<u64>(), 101);
    }
}
