//! Measures all configurations in turn, several times, so that a temporary disturbance of the machine affects
//! all of them alike.

use std::error::Error;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::child::{self, Task};
use crate::options::Options;
use crate::peers::{self, Configuration};
use crate::receiver::{Manner, Receiver};
use crate::workload::Pace;

/// 100,000 spans a second.
const INTERVAL: Duration = Duration::from_micros(10);

/// Measurements of each configuration.
struct Tasks {
    paced: Task,
    /// A short burst, for the mean.
    burst: Task,
    /// More spans than any queue holds.
    flood: Task,
}

impl Tasks {
    fn new(quick: bool) -> Self {
        let less = if quick { 10 } else { 1 };
        let task = |pace, spans: u64| Task {
            pace,
            spans: spans / less,
        };
        Self {
            paced: task(Pace::Every(INTERVAL), 300_000),
            burst: task(Pace::FlatOut, 200_000),
            flood: task(Pace::FlatOut, 2_000_000),
        }
    }
}

/// Outcome of one task.
pub struct Outcome {
    /// Spans that were made.
    pub offered: u64,
    /// Spans that arrived.
    pub received: u64,
    pub receiver_cpu: Duration,
    /// Figures of the measuring process.
    pub figures: Value,
}

impl Outcome {
    /// Returns one of the figures.
    pub fn figure(&self, name: &str) -> f64 {
        self.figures[name].as_f64().unwrap_or(f64::NAN)
    }
}

/// The outcomes of one configuration, of all rounds.
#[derive(Default)]
pub struct Results {
    pub paced: Vec<Outcome>,
    pub bursts: Vec<Outcome>,
    pub floods: Vec<Outcome>,
}

impl Results {
    /// Returns the error that the library returned at its end, in any round.
    pub fn complaint(&self) -> Option<&str> {
        let outcomes = [&self.paced, &self.bursts, &self.floods];
        let mut outcomes = outcomes.into_iter().flatten();
        outcomes.find_map(|outcome| outcome.figures["complaint"].as_str())
    }
}

/// Returns the configurations that the options choose.
pub fn contestants(options: &Options) -> Vec<&'static Configuration> {
    let chosen = |configuration: &&Configuration| {
        let Configuration { library, way, .. } = configuration;
        format!("{library}, {way}").contains(&options.only)
    };
    peers::ALL.iter().filter(chosen).collect()
}

pub fn run(
    contestants: &[&Configuration],
    options: &Options,
) -> Result<Vec<Results>, Box<dyn Error>> {
    let tasks = Tasks::new(options.quick);
    let mut results: Vec<_> = contestants.iter().map(|_| Results::default()).collect();
    for round in 1..=options.rounds {
        for (configuration, results) in contestants.iter().zip(&mut results) {
            let Configuration { library, way, .. } = configuration;
            eprintln!("round {round} of {}: {library}, {way}", options.rounds);
            results.paced.push(measure(configuration, tasks.paced)?);
            results.bursts.push(measure(configuration, tasks.burst)?);
            results.floods.push(measure(configuration, tasks.flood)?);
        }
    }
    Ok(results)
}

fn measure(configuration: &Configuration, task: Task) -> Result<Outcome, Box<dyn Error>> {
    /// Time for requests whose responses the library does not await.
    const LATECOMERS: Duration = Duration::from_millis(50);
    let receiver = Receiver::start(Manner::Takes)?;
    let figures = child::measure(configuration, task, &receiver.endpoint)?;
    thread::sleep(LATECOMERS);
    let received = receiver.end()?;
    Ok(Outcome {
        offered: task.spans,
        received: received.spans,
        receiver_cpu: received.cpu,
        figures,
    })
}
