//! Measures this library and others side by side: the same work for each, the same receiver, one
//! run.
//!
//! `benches/peers/run` builds and starts it; `-- --help` lists what can be changed.
//!
//! Each measurement is a process of its own, this program again (`child.rs`), and so is the
//! receiver that it sends to. First, the contents of some spans of each configuration are
//! checked (`check.rs`): the work is the same only if the received spans are.

mod allocations;
mod check;
mod child;
mod doors;
mod machine;
mod options;
mod peers;
#[allow(dead_code, reason = "another benchmark uses more of it")]
#[path = "../../collector_bench/receiver.rs"]
mod receiver;
mod rounds;
mod table;
mod versions;
mod workload;

use std::error::Error;
use std::process::ExitCode;

use options::Options;
use table::Table;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some(receiver::ARGUMENT) => receiver::run(&args[1..]).map_err(Into::into),
        Some(child::ARGUMENT) => child::run(&args[1..]),
        Some(doors::ARGUMENT) => doors::run(&args[1..]),
        _ => compare(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    if options.help {
        println!("{}", options::HELP);
        return Ok(());
    }
    let contestants = rounds::contestants(&options);
    let checked = contestants
        .iter()
        .map(|contestant| check::check(contestant))
        .collect::<Result<Vec<_>, _>>()?;
    let results = rounds::run(&contestants, &options)?;
    let table = Table::new(&contestants, &checked, &results, &options)?;
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", table.json()))?;
    }
    println!("{table}");
    Ok(())
}
