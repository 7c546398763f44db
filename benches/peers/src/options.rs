//! The command line.

use std::path::PathBuf;

use lexopt::prelude::{Long, Short, ValueExt};

pub const HELP: &str = "\
Measures this library and others side by side. benches/peers/run builds and starts it.

    --rounds N      how often each configuration is measured, in turn; medians are
                    printed (default 3)
    --only WORD     only configurations with this word in their name
    --quick         few spans and no builds: to see whether it works, not to measure
    --no-builds     do not build a program with each library (an option of the script)
    --builds FILE   what the script found when it built them: lines of name, crates and
                    seconds
    doors [N]       instead of all that: the cost of the layers for tracing, N rounds
    --json FILE     where the figures go, besides
    --measured TEXT date and machine, for that file (an option of the script)
    --help          print this";

pub struct Options {
    pub rounds: usize,
    pub only: String,
    pub quick: bool,
    pub builds: Option<PathBuf>,
    pub json: Option<PathBuf>,
    pub measured: String,
    pub help: bool,
}

impl Options {
    pub fn from_args() -> Result<Self, lexopt::Error> {
        let mut options = Self {
            rounds: 3,
            only: String::new(),
            quick: false,
            builds: None,
            json: None,
            measured: String::new(),
            help: false,
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("rounds") => options.rounds = args.value()?.parse()?,
                Long("only") => options.only = args.value()?.string()?,
                Long("quick") => options.quick = true,
                Long("no-builds") => {}
                Long("builds") => options.builds = Some(args.value()?.into()),
                Long("json") => options.json = Some(args.value()?.into()),
                Long("measured") => options.measured = args.value()?.string()?,
                Long("help") | Short('h') => options.help = true,
                other => return Err(other.unexpected()),
            }
        }
        if options.rounds == 0 {
            return Err("--rounds must be at least 1".into());
        }
        Ok(options)
    }
}
