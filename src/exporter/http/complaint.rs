//! The cause of an error response, from its status and message.

use crate::config::EndpointSettings;
use crate::exporter::http::reason;
use crate::exporter::http::response::Response;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// The body is larger than the receiver accepts.
    TooLarge,
    /// The receiver does not support the `Content-Encoding`.
    Coding,
    /// A 400 without a known cause. Receivers that ignore `Content-Encoding` find compressed bytes
    /// malformed.
    Malformed,
    Other,
}

/// Phrases of receivers that respond to a large body with 400: the OpenTelemetry Collector ("http: request
/// body too large"), VictoriaTraces ("too big data size exceeding …"), and limits of gRPC gateways.
const TOO_LARGE: [&str; 5] = [
    "too large",
    "too big",
    "larger than max",
    "exceeds the maximum",
    "exceeds max",
];
/// Phrases of receivers that cannot decode a body.
const CODING: [&str; 4] = ["encoding", "compress", "gzip", "zstd"];

impl Complaint {
    pub(crate) fn of(response: &Response, settings: &EndpointSettings) -> Self {
        match response.status {
            413 => Self::TooLarge,
            415 => Self::Coding,
            400 => Self::of_message(&reason::message(response, settings).unwrap_or_default()),
            _ => Self::Other,
        }
    }

    fn of_message(message: &str) -> Self {
        let message = message.to_lowercase();
        let has_one_of = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
        if has_one_of(&TOO_LARGE) {
            Self::TooLarge
        } else if has_one_of(&CODING) {
            Self::Coding
        } else {
            Self::Malformed
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_400_is_read_for_its_cause() {
        for (message, complaint) in [
            ("http: request body too large", Complaint::TooLarge),
            (
                "too big data size exceeding 67108864 bytes",
                Complaint::TooLarge,
            ),
            ("decompressed body too large", Complaint::TooLarge),
            ("unsupported Content-Encoding: zstd", Complaint::Coding),
            ("gzip: invalid header", Complaint::Coding),
            (
                "proto: cannot parse invalid wire-format data",
                Complaint::Malformed,
            ),
            ("", Complaint::Malformed),
        ] {
            assert_eq!(Complaint::of_message(message), complaint, "{message}");
        }
    }
}
