//! Latencies of traced and untraced requests.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// The latencies of one handler thread, which is their only writer.
pub type HandlerLatencies = Arc<Mutex<Pair>>;

pub struct Pair {
    traced: Histogram<u64>,
    untraced: Histogram<u64>,
}

impl Pair {
    fn new() -> Self {
        const MINUTE: u64 = 60_000_000_000;
        let new = || Histogram::new_with_bounds(1, MINUTE, 3).expect("the bounds are valid");
        Self {
            traced: new(),
            untraced: new(),
        }
    }

    pub fn record(&mut self, is_traced: bool, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let histogram = if is_traced {
            &mut self.traced
        } else {
            &mut self.untraced
        };
        histogram.saturating_record(nanos);
    }
}

#[derive(Default)]
pub struct Latencies(Mutex<Vec<HandlerLatencies>>);

impl Latencies {
    /// Adds a handler and returns its latencies.
    pub fn handler(&self) -> HandlerLatencies {
        let handler = Arc::new(Mutex::new(Pair::new()));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&handler));
        handler
    }

    pub fn requests(&self) -> u64 {
        let sum = self.sum();
        sum.traced.len() + sum.untraced.len()
    }

    fn sum(&self) -> Pair {
        let mut sum = Pair::new();
        for handler in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let pair = handler.lock().unwrap_or_else(PoisonError::into_inner);
            sum.traced.add(&pair.traced).expect("the same bounds");
            sum.untraced.add(&pair.untraced).expect("the same bounds");
        }
        sum
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.sum();
        writeln!(
            f,
            "from request read to response written and spans ended, in microseconds:"
        )?;
        write!(
            f,
            "{:>18} {:>10} {:>8} {:>8} {:>8}",
            "", "requests", "p50", "p99", "p99.9"
        )?;
        for (name, histogram) in [
            ("without tracing", sum.untraced),
            ("with tracing", sum.traced),
        ] {
            if !histogram.is_empty() {
                let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
                write!(
                    f,
                    "\n{name:>18} {:>10} {:>8.2} {:>8.2} {:>8.2}",
                    histogram.len(),
                    at(0.5),
                    at(0.99),
                    at(0.999),
                )?;
            }
        }
        Ok(())
    }
}
