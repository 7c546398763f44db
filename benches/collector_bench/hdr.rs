//! Distributions of HDR histograms, with a row for each step, as JSON and as `.hgrm` files.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use otlp_collector::stats::DurationHistogram;
use serde_json::{Value, json};

/// Returns a histogram from a nanosecond to a minute, with three significant digits.
pub fn nanos() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid")
}

pub fn nanos_of(durations: &DurationHistogram) -> Histogram<u64> {
    let mut histogram = nanos();
    for (duration, count) in durations.buckets() {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        histogram.saturating_record_n(ns, count);
    }
    histogram
}

pub fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

/// A distribution in steps that become finer towards its end.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    rows: Vec<Row>,
    mean: f64,
    stdev: f64,
}

#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub value: f64,
    pub quantile: f64,
    count: u64,
}

impl Distribution {
    /// Reads a histogram, with values divided by `unit`.
    pub fn of(histogram: &Histogram<u64>, unit: f64) -> Self {
        const STEPS_PER_HALF_DISTANCE: u32 = 5;
        let mut count = 0;
        let rows = histogram
            .iter_quantiles(STEPS_PER_HALF_DISTANCE)
            .map(|step| {
                count += step.count_since_last_iteration();
                Row {
                    value: step.value_iterated_to() as f64 / unit,
                    quantile: step.quantile_iterated_to(),
                    count,
                }
            });
        Self {
            rows: rows.collect(),
            mean: histogram.mean() / unit,
            stdev: histogram.stdev() / unit,
        }
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Returns the value at this quantile.
    pub fn at(&self, quantile: f64) -> f64 {
        let row = self.rows.iter().find(|row| row.quantile >= quantile);
        row.or(self.rows.last()).map_or(0.0, |row| row.value)
    }

    pub fn max(&self) -> f64 {
        self.at(1.0)
    }

    pub fn json(&self) -> Value {
        let rows: Vec<_> = (self.rows.iter())
            .map(|row| json!([row.value, row.quantile, row.count]))
            .collect();
        json!({ "rows": rows, "mean": self.mean, "stdev": self.stdev })
    }

    pub fn from_json(value: &Value) -> Self {
        let rows = value["rows"].as_array().into_iter().flatten();
        Self {
            rows: rows
                .map(|row| Row {
                    value: row[0].as_f64().unwrap_or(0.0),
                    quantile: row[1].as_f64().unwrap_or(0.0),
                    count: row[2].as_u64().unwrap_or(0),
                })
                .collect(),
            mean: value["mean"].as_f64().unwrap_or(0.0),
            stdev: value["stdev"].as_f64().unwrap_or(0.0),
        }
    }

    /// Formats it for HdrHistogram's plotters.
    pub fn hgrm(&self) -> String {
        let mut text = format!(
            "{:>12} {:>14} {:>10} {:>14}\n\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        );
        for row in &self.rows {
            let _ = write!(
                text,
                "{:12.3} {:14.12} {:10}",
                row.value, row.quantile, row.count
            );
            if row.quantile < 1.0 {
                let _ = write!(text, " {:14.2}", 1.0 / (1.0 - row.quantile));
            }
            text.push('\n');
        }
        let count = self.rows.last().map_or(0, |row| row.count);
        let _ = write!(
            text,
            "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n\
             #[Max     = {:12.3}, Total count    = {count:12}]\n\
             #[Buckets = {:12}, SubBuckets     = {:12}]\n",
            self.mean,
            self.stdev,
            self.max(),
            36,
            2048
        );
        text
    }
}
