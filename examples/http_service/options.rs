//! The command line.

use std::str::FromStr;
use std::thread::available_parallelism;
use std::time::Duration;

use lexopt::prelude::{Long, Short, ValueExt};
use otlp_collector::span::{KeepIf, TailSampling};

pub const HELP: &str = "\
Serves orders over HTTP/1.1 from pinned threads, traces the requests, and prints their latencies.

    --endpoint URL     send spans to this endpoint instead of the embedded receiver
    --port N           port to listen on (default 8080; 0 is any free port)
    --threads N        number of handler threads (default: one per core)
    --tracing HOW      on: every request; off: none; both: alternate every 100 requests of a
                       thread, to compare the two (default: on; with --load: both)
    --load SECONDS     generate load for this long, then stop
    --seconds N        stop after this long (default: when Enter is pressed, or never)
    --slower-than-us N send only traces of requests that took longer, or failed
    --help             print this help";

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    On,
    Off,
    Both,
}

pub struct Options {
    pub endpoint: Option<String>,
    pub port: u16,
    pub threads: usize,
    pub tracing: Tracing,
    pub load: Option<u64>,
    pub seconds: Option<u64>,
    pub slower_than_us: Option<u64>,
    pub help: bool,
}

impl Options {
    pub fn from_args() -> Result<Self, lexopt::Error> {
        let mut options = Self {
            endpoint: None,
            port: 8080,
            threads: available_parallelism().map_or(1, usize::from),
            tracing: Tracing::On,
            load: None,
            seconds: None,
            slower_than_us: None,
            help: false,
        };
        let mut tracing = None;
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("endpoint") => options.endpoint = Some(args.value()?.string()?),
                Long("port") => options.port = value("port", &mut args)?,
                Long("threads") => options.threads = value("threads", &mut args)?,
                Long("tracing") => tracing = Some(how(&args.value()?.string()?)?),
                Long("load") => options.load = Some(value("load", &mut args)?),
                Long("seconds") => options.seconds = Some(value("seconds", &mut args)?),
                Long("slower-than-us") => {
                    options.slower_than_us = Some(value("slower-than-us", &mut args)?);
                }
                Long("help") | Short('h') => options.help = true,
                _ => return Err(arg.unexpected()),
            }
        }
        if options.threads == 0 || options.load == Some(0) {
            return Err("--threads and --load must be at least 1".into());
        }
        if options.load.is_some() && options.seconds.is_some() {
            return Err("--load and --seconds exclude each other: remove one of them".into());
        }
        let default = options.load.map_or(Tracing::On, |_| Tracing::Both);
        options.tracing = tracing.unwrap_or(default);
        Ok(options)
    }

    pub fn tail_sampling(&self) -> Option<TailSampling> {
        self.slower_than_us.map(|micros| {
            TailSampling::new(KeepIf {
                slower_than: Some(Duration::from_micros(micros)),
                failed: true,
                one_in: None,
            })
        })
    }
}

fn value<T: FromStr>(option: &str, args: &mut lexopt::Parser) -> Result<T, lexopt::Error> {
    let value = args.value()?.string()?;
    (value.parse()).map_err(|_| format!("--{option} must be a number, not {value:?}").into())
}

fn how(word: &str) -> Result<Tracing, lexopt::Error> {
    match word {
        "on" => Ok(Tracing::On),
        "off" => Ok(Tracing::Off),
        "both" => Ok(Tracing::Both),
        _ => Err(format!("--tracing must be on, off or both, not {word:?}").into()),
    }
}
