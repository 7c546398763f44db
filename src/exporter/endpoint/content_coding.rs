//! The compression an endpoint is sent, as its responses allow.
//!
//! ```text
//!              refused for it           accepted plain
//!   Compressed ──────────────▶ Trial ───────────────────▶ Plain
//!       ▲                        │ refused plain too        │
//!       │ ten minutes            ▼                          │ ten minutes
//!       └──────────────────── Blameless                     │
//!       └───────────────────────────────────────────────────┘
//! ```

use std::time::{Duration, Instant};

use crate::config::Compression;
use crate::exporter::http::complaint::Complaint;

/// After this compression is tried again: the receiver may have been replaced.
const FORGET: Duration = Duration::from_secs(600);

pub(crate) struct ContentCoding {
    configured: Compression,
    /// A compressed request was accepted before.
    has_worked: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
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
            state: State::Compressed,
        }
    }

    /// The compression of the next request.
    pub(crate) fn current(&self, now: Instant) -> Compression {
        match self.state {
            State::Trial { until } | State::Plain { until } if now < until => Compression::None,
            _ => self.configured,
        }
    }

    /// A request was accepted.
    pub(crate) fn accepted(&mut self, sent: Compression) {
        match self.state {
            _ if sent != Compression::None => self.has_worked = true,
            State::Trial { until } => self.state = State::Plain { until },
            _ => {}
        }
    }

    /// A request was refused for good; true if it is to be sent again without compression.
    pub(crate) fn refused(&mut self, sent: Compression, for_: Complaint, now: Instant) -> bool {
        if sent == Compression::None {
            if let State::Trial { .. } = self.state {
                self.state = State::Blameless {
                    until: now + FORGET,
                };
            }
            return false;
        }
        let may_be_to_blame = match for_ {
            Complaint::Coding => true,
            Complaint::Malformed => !self.has_worked,
            Complaint::TooLarge | Complaint::Other => false,
        };
        match self.state {
            State::Blameless { until } if now < until => return false,
            // Sent before the first of its kind was refused.
            State::Trial { until } | State::Plain { until } if now < until => {}
            _ if may_be_to_blame => {
                self.state = State::Trial {
                    until: now + FORGET,
                };
            }
            _ => {}
        }
        may_be_to_blame
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const GZIP: Compression = Compression::Gzip;
    const PLAIN: Compression = Compression::None;

    #[test]
    fn a_coding_that_is_not_known_is_left_out_for_ten_minutes() {
        let now = Instant::now();
        let mut coding = ContentCoding::new(GZIP);
        assert_eq!(coding.current(now), GZIP);
        assert!(coding.refused(GZIP, Complaint::Coding, now));
        assert_eq!(coding.current(now), PLAIN);
        // One that was in flight on another connection.
        assert!(coding.refused(GZIP, Complaint::Coding, now));
        coding.accepted(PLAIN);
        // A request that is malformed whatever its coding.
        assert!(!coding.refused(PLAIN, Complaint::Malformed, now));
        assert_eq!(coding.current(now), PLAIN);
        assert_eq!(coding.current(now + FORGET), GZIP);
        assert!(coding.refused(GZIP, Complaint::Coding, now + FORGET));
    }

    #[test]
    fn a_coding_is_blamed_once_for_what_is_refused_without_it_too() {
        let now = Instant::now();
        let mut coding = ContentCoding::new(GZIP);
        assert!(coding.refused(GZIP, Complaint::Malformed, now));
        assert!(!coding.refused(PLAIN, Complaint::Malformed, now));
        assert_eq!(coding.current(now), GZIP);
        assert!(!coding.refused(GZIP, Complaint::Malformed, now));
        assert!(!coding.refused(GZIP, Complaint::Coding, now));
        assert!(coding.refused(GZIP, Complaint::Coding, now + FORGET));
    }

    #[test]
    fn a_coding_that_has_worked_is_blamed_only_by_name() {
        let now = Instant::now();
        let mut coding = ContentCoding::new(GZIP);
        coding.accepted(GZIP);
        assert!(!coding.refused(GZIP, Complaint::Malformed, now));
        assert!(!coding.refused(GZIP, Complaint::Other, now));
        assert_eq!(coding.current(now), GZIP);
        assert!(coding.refused(GZIP, Complaint::Coding, now));
    }
}
