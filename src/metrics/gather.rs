//! All metrics of one moment.

use crate::metrics::metric::Metric;
use crate::metrics::{pipeline, sdk};
use crate::stats::Stats;

/// Returns all metrics. Each time series occurs once.
pub(super) fn gather(stats: &Stats) -> Vec<Metric> {
    let mut metrics = sdk::metrics(stats);
    metrics.extend(pipeline::metrics(stats));
    for metric in &mut metrics {
        metric.data.merge();
    }
    metrics
}
