//! The flags of a trace.

use std::fmt;
use std::ops::BitOr;

/// The flags of a trace (W3C Trace Context, `trace-flags`).
///
/// Flags that the specification does not define are dropped, as it requires.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TraceFlags(u8);

impl TraceFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The span is recorded and sent.
    pub const SAMPLED: Self = Self(1);
    /// The rightmost seven bytes of the trace id are random (Level 2).
    pub const RANDOM: Self = Self(2);

    /// Creates flags from bits, without the undefined ones.
    #[must_use]
    pub const fn new(bits: u8) -> Self {
        Self(bits & (Self::SAMPLED.0 | Self::RANDOM.0))
    }

    /// Returns the flags as bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns whether the span is recorded and sent.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    /// Returns whether the rightmost seven bytes of the trace id are random.
    #[must_use]
    pub const fn is_random(self) -> bool {
        self.0 & Self::RANDOM.0 != 0
    }

    /// Returns the flags with the sampled flag set or cleared.
    #[must_use]
    pub const fn with_sampled(self, sampled: bool) -> Self {
        Self(self.0 & !Self::SAMPLED.0 | sampled as u8)
    }
}

impl BitOr for TraceFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for TraceFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceFlags({:02x})", self.0)
    }
}
