//! The compression of an endpoint's requests, adapted to their outcomes.
//!
//! ```text
//!              refused for it           accepted plain
//!   Compressed ──────────────▶ Trial ───────────────────▶ Plain
//!       ▲                        │ refused plain too        │
//!       │ ten minutes            ▼                          │ ten minutes
//!       └──────────────────── Blameless                     │
//!       └───────────────────────────────────────────────────┘
//! ```

use std::time::Instant;

use crate::config::Compression;
use crate::exporter::outcome::{Outcome, REMEMBERED_FOR};

/// The compression of one endpoint's requests.
pub(crate) struct ContentCoding {
    configured: Compression,
    /// A compressed request was accepted before.
    has_worked: bool,
    state: CodingState,
}

/// The present stage of finding out whether compression is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CodingState {
    Compressed,
    /// The next request is sent without compression, to see whether it is accepted.
    Trial {
        until: Instant,
    },
    /// Requests are accepted without compression only.
    Plain {
        until: Instant,
    },
    /// Requests are refused either way.
    Blameless {
        until: Instant,
    },
}

impl ContentCoding {
    pub(crate) fn new(configured: Compression) -> Self {
        Self {
            configured,
            has_worked: false,
            state: CodingState::Compressed,
        }
    }

    /// Returns the compression of the next request.
    pub(crate) fn current(&self, now: Instant) -> Compression {
        match self.state.is_plain(now) {
            true => Compression::None,
            false => self.configured,
        }
    }

    /// Returns whether a refusal can be due to the compression of the request.
    pub(crate) fn is_suspect(&self, sent: Compression, now: Instant) -> bool {
        let is_blameless = matches!(self.state, CodingState::Blameless { until } if now < until);
        sent != Compression::None && !is_blameless
    }

    /// Returns whether a compressed request was accepted before.
    pub(crate) fn has_worked(&self) -> bool {
        self.has_worked
    }

    /// Adapts to the outcome of a request that was sent with this compression.
    pub(crate) fn adapt(&mut self, outcome: &Outcome, sent: Compression, now: Instant) {
        let is_plain = sent == Compression::None;
        let until = now + REMEMBERED_FOR;
        self.state = match (outcome, self.state) {
            (Outcome::Accepted { .. }, CodingState::Trial { until }) if is_plain => {
                CodingState::Plain { until }
            }
            (Outcome::Rejected { .. }, CodingState::Trial { .. }) if is_plain => {
                CodingState::Blameless { until }
            }
            // Sent before the first of its kind was refused.
            (Outcome::NotDecoded { .. }, state) if state.is_plain(now) => state,
            (Outcome::NotDecoded { .. }, _) => CodingState::Trial { until },
            (_, state) => state,
        };
        self.has_worked |= matches!(outcome, Outcome::Accepted { .. }) && !is_plain;
    }
}

impl CodingState {
    fn is_plain(self, now: Instant) -> bool {
        matches!(self, Self::Trial { until } | Self::Plain { until } if now < until)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::exporter::outcome::RefusalCause;
    use crate::otlp::PartialSuccess;

    const GZIP: Compression = Compression::Gzip;
    const PLAIN: Compression = Compression::None;

    fn accepted() -> Outcome {
        Outcome::Accepted {
            status: 200,
            partial: Ok(PartialSuccess::default()),
        }
    }

    fn rejected() -> Outcome {
        Outcome::Rejected {
            status: 400,
            cause: RefusalCause::Malformed,
            reason: String::new(),
        }
    }

    fn not_decoded() -> Outcome {
        Outcome::NotDecoded {
            status: 415,
            reason: String::new(),
        }
    }

    #[test]
    fn an_unknown_coding_is_omitted_for_ten_minutes() {
        let now = Instant::now();
        let mut coding = ContentCoding::new(GZIP);
        assert_eq!(coding.current(now), GZIP);
        assert!(coding.is_suspect(GZIP, now) && !coding.is_suspect(PLAIN, now));
        coding.adapt(&not_decoded(), GZIP, now);
        assert_eq!(coding.current(now), PLAIN);
        // A compressed request that was in flight on another connection.
        assert!(coding.is_suspect(GZIP, now));
        coding.adapt(&not_decoded(), GZIP, now + REMEMBERED_FOR / 2);
        coding.adapt(&accepted(), PLAIN, now);
        // A request that is malformed in any coding.
        coding.adapt(&rejected(), PLAIN, now);
        assert_eq!(coding.current(now), PLAIN);
        assert_eq!(coding.current(now + REMEMBERED_FOR), GZIP);
        assert!(coding.is_suspect(GZIP, now + REMEMBERED_FOR));
        coding.adapt(&not_decoded(), GZIP, now + REMEMBERED_FOR);
        assert_eq!(coding.current(now + REMEMBERED_FOR), PLAIN);
    }

    #[test]
    fn a_coding_is_suspected_once_if_plain_requests_are_refused_too() {
        let now = Instant::now();
        let mut coding = ContentCoding::new(GZIP);
        coding.adapt(&not_decoded(), GZIP, now);
        coding.adapt(&rejected(), PLAIN, now);
        assert_eq!(coding.current(now), GZIP);
        assert!(!coding.is_suspect(GZIP, now));
        coding.adapt(&rejected(), GZIP, now);
        assert!(coding.is_suspect(GZIP, now + REMEMBERED_FOR));
    }

    #[test]
    fn only_an_accepted_compressed_request_shows_that_the_coding_works() {
        let now = Instant::now();
        let mut coding = ContentCoding::new(GZIP);
        coding.adapt(&rejected(), GZIP, now);
        coding.adapt(&accepted(), PLAIN, now);
        assert!(!coding.has_worked());
        coding.adapt(&accepted(), GZIP, now);
        assert!(coding.has_worked());
        assert_eq!(coding.current(now), GZIP);
    }
}
