//! Faults at random, under a steady load, on every server: does every client end up with every row, once
//! and in order?
//!
//! Four connections insert all the time: single rows, several in a statement, transactions that stay
//! open while others commit, rolled back ones; by INSERT … VALUES and … SELECT, REPLACE, LOAD DATA, through a
//! view, a procedure and a trigger. Each row has a card of its own, by which it is known whatever becomes of
//! its key. Eight clients, four by SSE and four by long poll, come back with their last id whatever happens;
//! half of them sit behind a proxy. doorcast reaches the server through another proxy. A round is one fault,
//! then a row that every client must get. At the end of all rounds of a fault each client's rows are compared
//! with the table, and with the commit order as another decoder (mysql_cdc) reads it from the server's binlog
//! files.
//!
//! - **missing**: committed rows that a client did not get. Where the table was emptied, those that the
//!   decoder has seen before count, too.
//! - **twice**: rows that a client got again.
//! - **out of order**: the fewest rows that would have to be moved so that a client's order is the decoder's,
//!   and, over all rows, that of the client that has the most. The decoder's order is not asked of rows
//!   that doorcast may have read from the table, in key order: those written while sessions logged
//!   statements, partial or compressed rows, an XA transaction committed or the table was altered, until
//!   doorcast looks at the table no more; or from before the position was lost until clients were up to date
//!   again. For these the clients must only agree with each other.
//! - **longest silence**: the longest that a committed row took to reach a client. What the fault itself
//!   takes, a server's restart for instance, is part of it.
//!
//! Rows that were never committed, acknowledged rows that are neither in the table nor in the binlog, rows
//! whose JSON is not that of the table, an id that stands for two rows, an epoch that begins at another row
//! than a generation of the table, and gaps are failures too; they are listed below the tables, and so is a file with more about each row: where and when it was written, the
//! rounds with their times, and doorcast's log. Standard output has the tables alone, progress goes to
//! standard error.
//!
//! In one fault further clients come with an id from below what doorcast holds, while it is kept from seeing
//! that the table was replaced. They are judged by the client that has the most: rows once each, in its order,
//! or a gap, behind which no row of the new table is missing.
//!
//! One fault, where doorcast is killed and the binlog of its last second is purged before it comes back, may
//! lead to a gap: behind it rows may come again. None may be missing.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "this is a test"
)]

#[path = "../it/deadline.rs"]
mod deadline;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../it/process.rs"]
mod process;
#[path = "../it/proxy.rs"]
mod proxy;
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
#[path = "../it/servers.rs"]
mod servers;
mod site {
    //! What the shared modules want of it.

    /// An HTTP client that goes straight to doorcast.
    pub(crate) fn client() -> reqwest::Client {
        reqwest::Client::builder().no_proxy().build().unwrap()
    }
}

mod decoder;
mod fault;
mod get;
mod latecomers;
mod report;
mod screens;
mod stage;
mod swipes;
mod timeline;
mod verdict;

use std::{
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Result, ensure};
use clap::Parser;
use doorcast::demo::server::PrivateServer;
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::{
    fault::Fault,
    report::report,
    stage::Stage,
    verdict::{Outcome, Verdict, growth},
};

/// Faults at random, under a steady load, on every server.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Where chance begins: the same number brings the same faults at the same moments, as far as the
    /// servers play along
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds of each fault
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Only these servers, for instance mariadb-10.11,mysql-9.7
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// Only these faults; `any` is one after the other, by chance, `lasting` the same but for those that
    /// restart doorcast
    #[arg(long, value_delimiter = ',', value_enum)]
    faults: Vec<Fault>,
    /// What `any` and `lasting` choose from, for instance power-loss,truncate; otherwise from all
    #[arg(long, value_delimiter = ',', value_enum)]
    among: Vec<Fault>,
    /// After that so many minutes of `lasting` on each server, to see whether doorcast grows
    #[arg(long)]
    minutes: Option<f64>,
    /// Servers at a time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let kinds = servers::kinds();
    for name in &options.servers {
        ensure!(
            kinds.contains(&name.as_str()),
            "there is no server {name:?}; there are {}",
            kinds.join(", ")
        );
    }
    let wanted = |kind: &&str| options.servers.is_empty() || options.servers.iter().any(|name| name == kind);
    let kinds: Vec<&str> = kinds.into_iter().filter(wanted).collect();
    let of = kinds.len() * plan(&options).len();
    let progress = Progress { began: Instant::now(), of, done: AtomicUsize::new(0) };
    let outcomes: Vec<Vec<Outcome>> = stream::iter(kinds)
        .map(|kind| on_server(kind, &options, &progress))
        .buffered(options.jobs.max(1))
        .collect()
        .await;
    let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
    print!("{}", report(&outcomes));
    Ok(if outcomes.iter().all(Outcome::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Counts what has been done on all servers.
struct Progress {
    began: Instant,
    of: usize,
    done: AtomicUsize,
}

impl Progress {
    /// One line to standard error; standard output is for the tables alone.
    fn report(&self, outcome: &Outcome, began: Instant) {
        let (done, seconds) = (self.done.fetch_add(1, Relaxed) + 1, self.began.elapsed().as_secs());
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        let took = began.elapsed().as_secs();
        eprintln!("[{done}/{} {minutes}:{seconds:02}] {outcome}, took {took} s", self.of);
    }
}

/// What is to be done on each server.
fn plan(options: &Options) -> Vec<(Fault, Until)> {
    let mut faults = if options.faults.is_empty() { Fault::each() } else { options.faults.clone() };
    faults.sort_unstable();
    let plan = faults.into_iter().map(|fault| (fault, Until::Rounds(options.rounds)));
    let minutes = options.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    plan.chain(minutes.map(|minutes| (Fault::Lasting, Until::Passed(minutes)))).collect()
}

/// Every fault on one server.
async fn on_server(kind: &'static str, options: &Options, progress: &Progress) -> Vec<Outcome> {
    let mut server = None;
    let mut outcomes = Vec::new();
    for (fault, until) in plan(options) {
        let began = Instant::now();
        let run = tokio::spawn(one_fault(kind, fault, until, options.clone(), server.take()));
        let outcome = match run.await {
            Ok(Ok((outcome, used))) => {
                server = Some(used);
                outcome
            }
            Ok(Err(err)) => Outcome::broken(kind, fault.name(), format!("{err:#}")),
            Err(err) => Outcome::broken(kind, fault.name(), err.to_string()),
        };
        progress.report(&outcome, began);
        outcomes.push(outcome);
    }
    outcomes
}

/// When there have been enough rounds.
#[derive(Debug, Clone, Copy)]
enum Until {
    Rounds(usize),
    Passed(Duration),
}

impl Until {
    fn reached(self, rounds: usize, began: Instant) -> bool {
        match self {
            Until::Rounds(enough) => rounds >= enough,
            Until::Passed(time) => began.elapsed() >= time,
        }
    }
}

/// All rounds of one fault on one server. Hands the server back for the next.
async fn one_fault(
    kind: &'static str,
    fault: Fault,
    until: Until,
    options: Options,
    server: Option<PrivateServer>,
) -> Result<(Outcome, PrivateServer)> {
    let server = match server {
        Some(server) => server,
        None => servers::private(kind, &[]).await,
    };
    if !fault.applies_to(server.binary()) {
        return Ok((Outcome::not_applicable(kind, fault.name()), server));
    }
    let mut random = fastrand::Rng::with_seed(options.seed ^ name_hash(kind) ^ name_hash(fault.name()));
    let mut stage = Stage::open(server, random.fork()).await?;
    let began = Instant::now();
    let mut rounds = 0;
    let mut trouble = None;
    let mut sizes = Vec::new();
    while trouble.is_none() && !until.reached(rounds, began) {
        let this = fault.or_by_chance(stage.server.binary(), &options.among, &mut random);
        rounds += 1;
        trouble = stage.round(this, &mut random).await.err();
        if let Some(err) = &trouble {
            eprintln!("{kind}, {}, round {rounds}: {err:#}", this.name());
        }
        if fault == Fault::Lasting {
            sizes.push(stage.size().await?);
        }
    }
    let trouble = trouble.map(|err| format!("round {rounds}: {err:#}"));
    let (mut verdict, server): (Verdict, PrivateServer) = stage.close(trouble, fault.leaves()).await?;
    verdict.problems.extend(growth(&sizes));
    Ok((Outcome { server: kind, fault: fault.name(), rounds, verdict, sizes, applies: true }, server))
}

fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0, |hash, byte| hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte))
}
