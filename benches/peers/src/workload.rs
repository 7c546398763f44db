//! The work, which is the same for all libraries.
//!
//! Each span has the kind client, a name of 20 bytes, a random id, the same remote parent and its trace, its real
//! start and end by the library's own clock, and four attributes: a static text, a text known only at run time, a
//! number and a boolean.

use std::hint::black_box;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::{allocations, machine};

pub const SERVICE: &str = "peers";
pub const NAME: &str = "SELECT shop.articles";
pub const TRACE_ID: [u8; 16] = 0x0af7651916cd43dd8448eb211c80319c_u128.to_be_bytes();
pub const PARENT_ID: [u8; 8] = 0xb7ad6b7169203331_u64.to_be_bytes();

/// Keys of the attributes. Macros need them written out instead.
pub const SYSTEM: &str = "db.system.name";
pub const ADDRESS: &str = "server.address";
pub const ROWS: &str = "db.response.returned_rows";
pub const CACHED: &str = "db.cached";

/// The first one's value.
pub const POSTGRESQL: &str = "postgresql";

/// Returns the second one's value, as if from a configuration.
pub fn address() -> String {
    black_box("orders-db-3.internal").to_string()
}

/// Returns the third one's value.
pub fn rows(number: u64) -> i64 {
    (number % 100) as i64
}

/// Returns the fourth one's value.
pub fn cached(number: u64) -> bool {
    number.is_multiple_of(2)
}

/// When spans are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At a fixed rate; each span is measured.
    Every(Duration),
    /// As fast as possible, measured as a whole.
    FlatOut,
}

/// The work of one thread, and its measurements.
pub struct Workload {
    pace: Pace,
    spans: u64,
    pub measured: Measured,
}

pub struct Measured {
    /// Start of the first span.
    pub begun: Instant,
    /// Time until the end of the last span.
    pub duration: Duration,
    /// CPU time of the thread meanwhile.
    pub cpu: Duration,
    /// Time of each span, if paced.
    pub record_ns: Histogram<u64>,
    /// Allocations of this thread.
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

    /// Runs it. `make_span` starts and ends the span with its number.
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

/// Spins until then, because sleeping would leave the caches cold. Returns the time at which it ended.
fn wait_until(due: Instant) -> Instant {
    loop {
        let now = Instant::now();
        if now >= due {
            return now;
        }
    }
}
