//! The pipeline's statistics as metrics: those of OpenTelemetry's semantic conventions
//! (`otel.sdk.*`) and this library's own (`otlp_collector.*`). Formats: OTLP, Prometheus text and a
//! human-readable report.

mod gather;
mod metric;
mod otlp;
mod pipeline;
mod prometheus;
mod report;
mod sdk;

pub(crate) use self::otlp::elements;
