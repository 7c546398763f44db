//! The statistics as a human-readable report.

use std::fmt;

use crate::stats::notice::reasons;
use crate::stats::{DurationHistogram, EndpointStats, Stats};

/// A report in several lines per part of the pipeline.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ledger = &self.ledger;
        writeln!(f, "accepted      {} spans", ledger.accepted)?;
        write_spans(
            f,
            "refused",
            ledger.refused.total(),
            &ledger.refused.by_reason(),
        )?;
        writeln!(f, "sampled out   {}", ledger.sampled_out.total())?;
        writeln!(f, "held          {}", ledger.held)?;
        match self.spans_without_memory {
            0 => {}
            spans => writeln!(
                f,
                "bare          {spans} without attributes, events and links: \
                 open_span_bytes_total were in use"
            )?,
        }
        match self.spans_kept_early {
            0 => {}
            spans => writeln!(
                f,
                "kept early    {spans} of held traces that had no more memory"
            )?,
        }
        writeln!(
            f,
            "buffer        {:.0} % used ({} of {} slabs)",
            self.buffer_utilization() * 100.0,
            self.buffer_slabs_used,
            self.buffer_slabs
        )?;
        let network = &self.network;
        writeln!(
            f,
            "requests      {} ({} sent again), {} bytes of bodies, {} connections",
            network.requests, network.retries, network.body_bytes, network.connections
        )?;
        write_times(f, "delivery", &network.delivery)?;
        writeln!(f, "panics        {}", network.panics)?;
        for (ledger, destination) in ledger.destinations.iter().zip(&network.destinations) {
            writeln!(f)?;
            writeln!(f, "{}", ledger.destination)?;
            writeln!(f, "  delivered   {}", ledger.delivered)?;
            writeln!(f, "  rejected    {}", ledger.rejected)?;
            write_spans(
                f,
                "  dropped",
                ledger.dropped.total(),
                &ledger.dropped.by_reason(),
            )?;
            writeln!(f, "  in flight   {}", ledger.in_flight)?;
            writeln!(f, "  buffered    {}", ledger.buffered)?;
            for endpoint in &destination.endpoints {
                write_endpoint(f, endpoint)?;
            }
        }
        Ok(())
    }
}

fn write_spans(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    spans: u64,
    by_reason: &[(&str, u64)],
) -> fmt::Result {
    match reasons(by_reason) {
        reasons if reasons.is_empty() => writeln!(f, "{what:<13} {spans}"),
        reasons => writeln!(f, "{what:<13} {spans} ({reasons})"),
    }
}

fn write_endpoint(f: &mut fmt::Formatter<'_>, endpoint: &EndpointStats) -> fmt::Result {
    writeln!(f, "  {}", endpoint.health)?;
    let responses = endpoint.responses.iter();
    let responses: Vec<_> = responses
        .map(|(status, responses)| format!("{status}: {}", responses.count))
        .collect();
    writeln!(
        f,
        "    responses {{{}}}, unanswered {}, failed connections {}, redirects {}, partial successes {}",
        responses.join(", "),
        endpoint.unanswered,
        endpoint.failed_connects,
        endpoint.redirects,
        endpoint.partial_successes
    )?;
    write_times(f, "    answered", &endpoint.response_time)
}

fn write_times(f: &mut fmt::Formatter<'_>, what: &str, times: &DurationHistogram) -> fmt::Result {
    if times.count() == 0 {
        return writeln!(f, "{what:<13} none yet");
    }
    let ms = |share| times.quantile(share).unwrap_or_default().as_secs_f64() * 1e3;
    writeln!(
        f,
        "{what:<13} p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0)
    )
}
