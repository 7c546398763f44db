//! The work that is the same for everybody.
//!
//! Each span is a client's, has a name of 20 bytes, a random id of its own, the same parent from
//! elsewhere, whose trace it belongs to, the times at which it really starts and ends by the
//! library's own clock, and four attributes: a text that is in the program, a text that is known
//! only when it runs, a number and a bool.

use std::hint::black_box;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::{allocations, machine};

pub const SERVICE: &str = "peers";
pub const NAME: &str = "SELECT shop.articles";
pub const TRACE_ID: [u8; 16] = 0x0af7651916cd43dd8448eb211c80319c_u128.to_be_bytes();
pub const PARENT_ID: [u8; 8] = 0xb7ad6b7169203331_u64.to_be_bytes();

/// The attributes' keys, for those that take them from here; macros want them written out.
pub const SYSTEM: &str = "db.system.name";
pub const ADDRESS: &str = "server.address";
pub const ROWS: &str = "db.response.returned_rows";
pub const CACHED: &str = "db.cached";

/// The first one's value.
pub const POSTGRESQL: &str = "postgresql";

/// The second one's value, as if from a configuration.
pub fn address() -> String {
    black_box("orders-db-3.internal").to_string()
}

/// The third one's value.
pub fn rows(number: u64) -> i64 {
    (number % 100) as i64
}

/// The fourth one's value.
pub fn cached(number: u64) -> bool {
    number.is_multiple_of(2)
}

/// When spans are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many a second; how long each one takes is measured.
    Every(Duration),
    /// As fast as can be, which is measured as a whole.
    FlatOut,
}

/// What one thread has to do, and what was measured while it did so.
pub struct Workload {
    pace: Pace,
    spans: u64,
    pub measured: Measured,
}

pub struct Measured {
    /// When the first span started.
    pub begun: Instant,
    /// Until the last one ended.
    pub duration: Duration,
    /// What the thread had of its core meanwhile.
    pub cpu: Duration,
    /// How long each one took, if they were paced.
    pub record_ns: Histogram<u64>,
    /// By this thread.
    pub allocations: u64,
}

impl Workload {
    pub fn new(pace: Pace, spans: u64) -> Self {
        const MINUTE_NS: u64 = 60_000_000_000;
        Self {
            pace,
            spans,
            measured: Measured {
                begun: Instant::now(),
                duration: Duration::ZERO,
                cpu: Duration::ZERO,
                record_ns: Histogram::new_with_bounds(1, MINUTE_NS, 3)
                    .expect("the bounds are valid"),
                allocations: 0,
            },
        }
    }

    /// Does it: `make_span` starts and ends the span with the number it is given.
    pub fn run(&mut self, make_span: impl FnMut(u64)) {
        let allocations = allocations::of_this_thread();
        let cpu = machine::cpu_time_of_this_thread();
        self.measured.begun = Instant::now();
        match self.pace {
            Pace::Every(interval) => self.run_paced(interval, make_span),
            Pace::FlatOut => (0..self.spans).for_each(make_span),
        }
        self.measured.duration = self.measured.begun.elapsed();
        self.measured.cpu = machine::cpu_time_of_this_thread() - cpu;
        self.measured.allocations = allocations::of_this_thread() - allocations;
    }

    fn run_paced(&mut self, interval: Duration, mut make_span: impl FnMut(u64)) {
        let begun = self.measured.begun;
        let mut due = begun;
        for number in 0..self.spans {
            let started = wait_until(due);
            make_span(number);
            let nanos = started.elapsed().as_nanos() as u64;
            self.measured.record_ns.saturating_record(nanos);
            due += interval;
        }
    }
}

/// Spins, since to sleep would let the caches go cold; gives the moment it was over.
fn wait_until(due: Instant) -> Instant {
    loop {
        let now = Instant::now();
        if now >= due {
            return now;
        }
    }
}
