//! Every kind of span, from threads that start and end, to destinations of any behaviour: the ledger
//! closes at any moment, each span is in exactly one count at the end, and nothing hangs.
//!
//! The work is fixed, not the time. `STRESS_ROUNDS` sets the number of rounds, `STRESS_ACTIONS` the
//! amount of work of each thread in a round, and `STRESS_SEED` the seed of the first round; each
//! further round has the next seed. A failure prints the seed of its round. A thread that stays in
//! one phase for more than `STRESS_PATIENCE` seconds aborts the process.

mod dice;
mod round;
mod servers;
mod spans;
mod tally;
mod watchdog;

use std::env;
use std::time::Duration;

use round::Round;
use watchdog::Watchdog;

fn from_env(name: &str, default: u64) -> u64 {
    let Ok(value) = env::var(name) else {
        return default;
    };
    let number = value.parse();
    number.unwrap_or_else(|_| panic!("{name} is {value:?}; set it to an unsigned integer"))
}

#[test]
fn each_span_is_in_exactly_one_count_and_nothing_hangs() {
    let first = from_env("STRESS_SEED", 1);
    let rounds = from_env("STRESS_ROUNDS", 6);
    let actions = from_env("STRESS_ACTIONS", 600);
    let watchdog = Watchdog::start(Duration::from_secs(from_env("STRESS_PATIENCE", 120)));
    for seed in first..first + rounds {
        println!("to repeat: STRESS_SEED={seed} STRESS_ROUNDS=1 STRESS_ACTIONS={actions}");
        watchdog.begin_round(seed);
        Round::new(seed, actions).run(&watchdog);
    }
}
