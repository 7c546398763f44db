//! The command line.

use std::ffi::OsStr;
use std::thread::available_parallelism;

use otlp_collector::Config;

use lexopt::prelude::{Long, Short, ValueExt};

pub const HELP: &str = "\
Records spans from several threads, sends them, and accounts for every one.

    --endpoint URL             send to this endpoint instead of the embedded receiver
                               (or set OTEL_EXPORTER_OTLP_ENDPOINT; the other
                               OTEL_ variables apply as well)
    --spans N                  number of spans (default 1000000)
    --threads N                number of threads (default: one per core, at least 2)
    --rate N                   spans/s of all threads together; a full buffer refuses spans
                               (default: no limit; a full buffer makes threads wait)
    --shutdown-timeout-ms N    how long to wait for undelivered spans (default 10000)
    --json                     print the figures as a JSON object on the last line
    --help                     print this help";

pub struct Options {
    pub endpoint: Option<String>,
    pub spans: u64,
    pub threads: usize,
    pub rate: Option<u64>,
    pub shutdown_timeout_ms: u64,
    pub json: bool,
    pub help: bool,
}

impl Options {
    pub fn from_args() -> Result<Self, lexopt::Error> {
        let mut options = Self {
            endpoint: Some(Config::from_env().endpoint)
                .filter(|endpoint| *endpoint != Config::default().endpoint),
            spans: 1_000_000,
            threads: available_parallelism().map_or(2, usize::from).max(2),
            rate: None,
            shutdown_timeout_ms: 10_000,
            json: false,
            help: false,
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("endpoint") => options.endpoint = Some(args.value()?.string()?),
                Long("spans") => {
                    options.spans = positive("spans", number("spans", &args.value()?)?)?
                }
                Long("threads") => {
                    let threads = positive("threads", number("threads", &args.value()?)?)?;
                    options.threads = usize::try_from(threads).unwrap_or(usize::MAX);
                }
                Long("rate") => {
                    options.rate = Some(positive("rate", number("rate", &args.value()?)?)?)
                }
                Long("shutdown-timeout-ms") => {
                    options.shutdown_timeout_ms = number("shutdown-timeout-ms", &args.value()?)?
                }
                Long("json") => options.json = true,
                Long("help") | Short('h') => options.help = true,
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }
}

fn number(name: &str, value: &OsStr) -> Result<u64, lexopt::Error> {
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| format!("--{name} must be an unsigned integer, not {value:?}").into())
}

fn positive(name: &str, value: u64) -> Result<u64, lexopt::Error> {
    if value == 0 {
        return Err(format!("--{name} must be at least 1").into());
    }
    Ok(value)
}
