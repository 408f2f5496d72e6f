//! What doorcast costs beside a bare loop over the binlog: run it by `scripts/bench`.
//!
//! Both are measured in the same run, on the same server, over the same rows; only their ratio means
//! anything on another machine. Prints Markdown.

mod bare;
mod figures;
mod latency;
#[path = "../../src/memory.rs"]
mod memory;
mod replay;
mod screen;
mod source;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use doorcast::demo::binary::ServerBinary;

use self::replay::{Reader, Replay};

/// Measures doorcast beside a bare mysql_async binlog loop, and prints Markdown.
#[derive(Debug, Parser)]
struct Options {
    /// One part only
    #[arg(value_enum)]
    part: Option<Part>,

    /// Servers to run on, for instance mariadb-10.11,mysql-9.7 [default: all that are there]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    servers: Vec<String>,

    /// replay: rows, each in a transaction of its own
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    rows: u32,

    /// replay: times that each program reads them; the medians are printed
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// replay: these programs only, for instance under a profiler
    #[arg(long, value_enum, value_name = "READERS", value_delimiter = ',')]
    only: Vec<Reader>,

    /// replay: further screens that wait for doorcast meanwhile, as all do after a restart
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000))]
    waiting: u32,

    /// latency: INSERTs a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,

    /// latency: how long, in seconds, for each of the two kinds of company
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=25))]
    seconds: u32,

    /// What cargo says when it is to be a benchmark and not a test
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// How fast a long binlog is read
    Replay,
    /// How soon a row is there after its INSERT
    Latency,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if !options.bench {
        return Ok(()); // cargo test --all-targets
    }
    memory::hand_back(); // as doorcast does
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .init();
    let binaries = binaries(&options.servers)?;
    print(&command()?)?;
    if options.part != Some(Part::Latency) {
        let Options { rows, rounds, waiting, only, .. } = options;
        let replay = Replay { rows, rounds, waiting, only };
        print(&replay::table(&binaries, &replay)?)?;
    }
    if options.part != Some(Part::Replay) {
        print(&latency::table(&binaries, options.rate, options.seconds)?)?;
    }
    Ok(())
}

/// Those of `scripts/servers`, else the machine's own.
fn binaries(names: &[String]) -> Result<Vec<ServerBinary>> {
    let folder = std::env::var_os("DOORCAST_SERVERS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/servers")), PathBuf::from);
    let mut found = ServerBinary::cached(&folder);
    if let Some(installed) = ServerBinary::installed()
        && !found.iter().any(|binary| binary.name() == installed.name())
    {
        found.push(installed);
    }
    for name in names {
        ensure!(
            found.iter().any(|binary| binary.name() == *name),
            "there is no {name}: run scripts/servers {name}"
        );
    }
    found.retain(|binary| names.is_empty() || names.contains(&binary.name()));
    found.sort_by_key(ServerBinary::version);
    ensure!(!found.is_empty(), "no server to run on: run scripts/servers");
    Ok(found)
}

/// The command that prints what follows, and where it ran.
fn command() -> Result<String> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let command = ["scripts/bench"].into_iter().chain(arguments.iter().map(String::as_str));
    let command: Vec<&str> = command.collect();
    let cpus = std::fs::read_to_string("/proc/cpuinfo").context("this reads /proc, so it needs Linux")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let cores = std::thread::available_parallelism()?;
    Ok(format!(
        "`{}`, on {cores} cores of {}\n",
        command.join(" "),
        model.unwrap_or("an unknown kind").trim()
    ))
}

fn print(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}
