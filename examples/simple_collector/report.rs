//! The figures as a human-readable report and as JSON.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use otlp_collector::Ledger;
use otlp_collector::stats::{DroppedSpans, DurationHistogram, NetworkStats};
use otlp_collector::testing::ReceiverCounts;
use serde_json::{Value, json};

use crate::workload::Records;

/// The raw results of a run.
pub struct Outcome {
    pub spans: u64,
    pub ledger: Ledger,
    pub network: NetworkStats,
    pub records: Records,
    /// ReceiverCounts of the embedded receiver, if it was used.
    pub received: Option<ReceiverCounts>,
    /// CPU time of the whole process, an embedded receiver included.
    pub cpu_time: Duration,
    pub buffer_bytes: usize,
    pub rss_growth_bytes: i64,
}

pub struct Report {
    outcome: Outcome,
    /// Time from the start of the first span to the last acknowledgement.
    elapsed: Duration,
    /// CPU time of the process without an embedded receiver.
    cpu_time: Duration,
}

/// Percentiles of a histogram, converted to a unit.
struct Percentiles {
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Report {
    pub fn new(outcome: Outcome) -> Self {
        let last = outcome.network.last_success_time;
        let receiver_cpu = outcome
            .received
            .map_or(Duration::ZERO, |counts| counts.cpu_time);
        Self {
            elapsed: Duration::from_nanos(last.saturating_sub(outcome.records.first_time)),
            cpu_time: outcome.cpu_time.saturating_sub(receiver_cpu),
            outcome,
        }
    }

    /// Returns whether every span is accounted for, and the receiver counted the delivered ones.
    pub fn adds_up(&self) -> bool {
        let ledger = &self.outcome.ledger;
        let offered = ledger.accepted + ledger.refused.total();
        let settled = ledger.delivered() + ledger.rejected() + ledger.dropped();
        let received = self
            .outcome
            .received
            .map_or(ledger.delivered(), |c| c.spans);
        offered == self.outcome.spans
            && ledger.accepted == settled
            && received == ledger.delivered()
    }

    pub fn json(&self) -> Value {
        let Outcome {
            spans,
            ledger,
            records,
            network,
            received,
            rss_growth_bytes,
            ..
        } = &self.outcome;
        let dropped = self.dropped();
        let mut figures = json!({
            "spans": spans,
            "accepted": ledger.accepted,
            "refused": ledger.refused.total(),
            "delivered": ledger.delivered(),
            "rejected": ledger.rejected(),
            "dropped": ledger.dropped(),
            "dropped_by_reason": {
                "overflow": dropped.overflow,
                "retries": dropped.retries,
                "shut_down": dropped.shut_down,
            },
            "elapsed_s": self.elapsed.as_secs_f64(),
            "spans_per_s": self.spans_per_s(),
            "cpu_ns_per_span": self.cpu_ns_per_span(),
            "bytes_per_span": self.bytes_per_span(),
            "record_ns": Percentiles::of(&records.record_ns, 1.0).json(),
            "delivery_ms": Percentiles::of_delivery(&network.delivery).json(),
            "rss_growth_bytes": rss_growth_bytes,
            "requests": network.requests,
            "retries": network.retries,
            "last_error": network.last_error,
        });
        if let Some(counts) = received {
            figures["received"] = json!(counts.spans);
        }
        figures
    }

    fn spans_per_s(&self) -> f64 {
        if self.elapsed.is_zero() {
            return 0.0;
        }
        self.outcome.ledger.delivered() as f64 / self.elapsed.as_secs_f64()
    }

    // Figures per span are NaN, and null in JSON, if there are no spans.

    fn cpu_ns_per_span(&self) -> f64 {
        self.cpu_time.as_nanos() as f64 / self.outcome.ledger.delivered() as f64
    }

    fn bytes_per_span(&self) -> f64 {
        let ledger = &self.outcome.ledger;
        self.outcome.network.body_bytes as f64 / (ledger.delivered() + ledger.rejected()) as f64
    }

    fn dropped(&self) -> DroppedSpans {
        let destinations = self.outcome.ledger.destinations.iter();
        destinations.fold(DroppedSpans::default(), |mut sum, destination| {
            sum.overflow += destination.dropped.overflow;
            sum.retries += destination.dropped.retries;
            sum.shut_down += destination.dropped.shut_down;
            sum
        })
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>, unit: f64) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / unit;
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / unit,
        }
    }

    /// Returns the percentiles in milliseconds.
    fn of_delivery(durations: &DurationHistogram) -> Self {
        let at = |share| durations.quantile(share).unwrap_or_default().as_secs_f64() * 1e3;
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }

    fn json(&self) -> Value {
        json!({ "p50": self.p50, "p99": self.p99, "p999": self.p999, "max": self.max })
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        write!(
            f,
            "p50 {:.digits$}   p99 {:.digits$}   p99.9 {:.digits$}   max {:.digits$}",
            self.p50, self.p99, self.p999, self.max
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_figures(f)?;
        self.write_ledger(f)?;
        self.write_verdict(f)
    }
}

impl Report {
    fn write_figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            network, records, ..
        } = &self.outcome;
        writeln!(f)?;
        writeln!(
            f,
            "throughput   {} spans/s delivered, {} in {:.3} s",
            grouped(self.spans_per_s() as u64),
            grouped(self.outcome.ledger.delivered()),
            self.elapsed.as_secs_f64(),
        )?;
        writeln!(
            f,
            "requests     {}, {} sent again, {} connections, {} wake-ups by recorders",
            grouped(network.requests),
            grouped(network.retries),
            grouped(network.connections),
            grouped(network.wake_ups),
        )?;
        writeln!(
            f,
            "record       {} ns  (one span in 61 is measured; includes waiting for room)",
            Percentiles::of(&records.record_ns, 1.0),
        )?;
        if self.outcome.ledger.delivered() == 0 {
            return self.write_memory(f);
        }
        writeln!(
            f,
            "delivery     {:.2} ms  (from a span's end to its acknowledgement)",
            Percentiles::of_delivery(&network.delivery),
        )?;
        writeln!(
            f,
            "per span     {:.0} bytes, {:.0} ns of CPU ({:.2} cores; without an embedded receiver)",
            self.bytes_per_span(),
            self.cpu_ns_per_span(),
            self.cpu_time.as_secs_f64() / self.elapsed.as_secs_f64(),
        )?;
        self.write_memory(f)
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "memory       {:.1} MB more than before the start, {:.1} MB of it buffer",
            self.outcome.rss_growth_bytes as f64 / 1e6,
            self.outcome.buffer_bytes as f64 / 1e6,
        )
    }

    fn write_ledger(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ledger = &self.outcome.ledger;
        let refused = ledger.refused;
        let dropped = self.dropped();
        writeln!(f)?;
        let mut line = |name: &str, spans: u64, remark: String| {
            writeln!(f, "{name:<12} {:>13}  {remark}", grouped(spans))
        };
        line("recorded", self.outcome.spans, String::new())?;
        line(
            "refused",
            refused.total(),
            format!("by this side: buffer full {}", grouped(refused.buffer_full)),
        )?;
        line("accepted", ledger.accepted, String::new())?;
        line("delivered", ledger.delivered(), String::new())?;
        line("rejected", ledger.rejected(), "by the endpoint".into())?;
        line(
            "dropped",
            ledger.dropped(),
            format!(
                "by this side: overflow {}, retries {}, shut down {}",
                grouped(dropped.overflow),
                grouped(dropped.retries),
                grouped(dropped.shut_down)
            ),
        )?;
        if let Some(counts) = self.outcome.received {
            line(
                "received",
                counts.spans,
                "counted and decoded by the receiver".into(),
            )?;
        }
        Ok(())
    }

    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ledger = &self.outcome.ledger;
        writeln!(f)?;
        if !self.adds_up() {
            return write!(f, "THE COUNTS DIFFER: {ledger}");
        }
        if ledger.delivered() == self.outcome.spans {
            return write!(f, "Every span was delivered.");
        }
        write!(
            f,
            "Every span is accounted for; {} were not delivered.",
            grouped(self.outcome.spans - ledger.delivered())
        )?;
        if let Some(error) = &self.outcome.network.last_error {
            write!(f, " Last error: {error}")?;
        }
        Ok(())
    }
}

/// Formats a number with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
