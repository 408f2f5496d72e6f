//! How soon a row is there after its INSERT was sent: on a screen by doorcast, and in a bare loop, for
//! the same rows. Then again while a client that never reads and a slow one are connected, and with INSERTs
//! that are logged as statements, whose rows doorcast has to read from the table.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use doorcast::{demo::binary::ServerBinary, id::Key, link::SslMode, options::RunOptions};
use mysql_async::{Conn, prelude::Queryable};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot, time::MissedTickBehavior};

use crate::{
    bare,
    figures::{markdown, percentile},
    screen::{BadCompany, Came, Screen, clients},
    source::{Source, TABLE, swipe},
};

/// Rows in the feed before it begins: so many that a client which does not read them fills every buffer
/// of the kernel.
const BACKLOG: u32 = 60_000;

/// Rows of each measurement that are left out: the first ones meet cold caches.
const WARM_UP: usize = 20;

/// Ascending milliseconds from INSERT to row.
struct Delays {
    bare: Vec<f64>,
    doorcast: Vec<f64>,
}

/// A measurement, and the screen that is still connected.
struct Measured {
    delays: Delays,
    screen: Screen,
}

/// When the rows came.
type Arrivals = HashMap<Key, Instant>;

/// The Markdown table of all servers.
pub(crate) fn table(binaries: &[ServerBinary], rate: u32, seconds: u32) -> Result<String> {
    let mut lines = Vec::new();
    for binary in binaries {
        eprintln!("latency on {binary}");
        lines.extend(server(binary, rate, seconds).with_context(|| format!("latency on {binary}"))?);
    }
    let head = [
        "ms from INSERT to row: p50 / p90 / p99 / max",
        "mysql_async",
        "doorcast",
        "p50 / p50 of mysql_async",
    ];
    Ok(format!("{rate} rows/s for {seconds} s each, without TLS\n\n{}", markdown(&head, &lines)))
}

fn server(binary: &ServerBinary, rate: u32, seconds: u32) -> Result<Vec<Vec<String>>> {
    let helper = Runtime::new()?;
    let source = helper.block_on(Source::start(binary.clone()))?;
    helper.block_on(source.fill(BACKLOG))?;
    let doorcast = Doorcast::start(&source.url())?;
    let address = doorcast.address;
    Screen::open(address, "")?.hello()?;

    let rows = rate * seconds;
    let first = BACKLOG + 1;
    let alone = measure(&helper, &source, address, first, rows, rate)?;
    ensure!(clients(address)? == 1, "the screen should be alone");
    drop(alone.screen);
    let company = helper.block_on(BadCompany::join(address))?;
    let accompanied = measure(&helper, &source, address, first + rows, rows, rate)?;
    ensure!(clients(address)? == 3, "the stalled and the slow client should be there to the end");
    drop(company);
    let statements = statements(&source, address, first + 2 * rows, rows, rate)?;
    doorcast.stop()?;

    let usual = percentile(&alone.delays.bare, 50.0);
    let both = [("", alone.delays), (", beside a stalled and a slow client", accompanied.delays)];
    let mut lines = Vec::from(both.map(|(company, Delays { bare, doorcast })| {
        let ratio = percentile(&doorcast, 50.0) / percentile(&bare, 50.0);
        vec![format!("{binary}{company}"), cell(&bare), cell(&doorcast), format!("{ratio:.2}")]
    }));
    let ratio = percentile(&statements, 50.0) / usual;
    let none = "no rows".to_owned();
    lines.push(vec![
        format!("{binary}, logged as statements"),
        none,
        cell(&statements),
        format!("{ratio:.2}"),
    ]);
    Ok(lines)
}

fn cell(ascending: &[f64]) -> String {
    [50.0, 90.0, 99.0, 100.0].map(|percent| format!("{:.2}", percentile(ascending, percent))).join(" / ")
}

/// A whole doorcast on threads of its own.
struct Doorcast {
    runtime: Runtime,
    running: tokio::task::JoinHandle<Result<(), doorcast::RunError>>,
    stop: oneshot::Sender<()>,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Doorcast {
    fn start(url: &str) -> Result<Doorcast> {
        let runtime = Runtime::new()?;
        let folder = tempfile::tempdir()?;
        let mut options = RunOptions::new(url, TABLE, &folder.path().join("checkpoint.json"))?;
        options.history = BACKLOG as usize;
        options.ssl_mode = SslMode::Disabled; // as the bare loop
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let running = runtime.spawn(doorcast::run(options, listener, async {
            let _ = stopped.await;
        }));
        Ok(Doorcast { runtime, running, stop, address, _folder: folder })
    }

    fn stop(self) -> Result<()> {
        let _ = self.stop.send(());
        Ok(self.runtime.block_on(self.running)??)
    }
}

/// Inserts, and waits for the rows on both sides.
fn measure(
    helper: &Runtime,
    source: &Source,
    address: SocketAddr,
    first: u32,
    rows: u32,
    rate: u32,
) -> Result<Measured> {
    let last = Key::from(first + rows - 1);
    let on_screen = watch(address, last)?;
    let at = helper.block_on(source.end())?;
    let runtime = one_thread()?;
    let stream = runtime.block_on(bare::open(&source.url(), &at))?;
    let in_loop = thread::spawn(move || -> Result<Arrivals> {
        let mut arrivals = Arrivals::new();
        let took = |key| {
            arrivals.insert(key, Instant::now());
            key == last
        };
        let stream = runtime.block_on(bare::decode(stream, took))?;
        runtime.block_on(stream.close())?;
        Ok(arrivals)
    });

    let sent = one_thread()?.block_on(insert(&source.url(), "ROW", first, rows, rate))?;
    let in_loop = in_loop.join().map_err(|_| anyhow!("the bare loop panicked"))??;
    let (on_screen, screen) = on_screen.join().map_err(|_| anyhow!("the screen panicked"))??;
    let delays = Delays { bare: delays(&sent, &in_loop)?, doorcast: delays(&sent, &on_screen)? };
    Ok(Measured { delays, screen })
}

/// How soon rows are on the screen whose INSERTs are logged as statements.
fn statements(source: &Source, address: SocketAddr, first: u32, rows: u32, rate: u32) -> Result<Vec<f64>> {
    let on_screen = watch(address, Key::from(first + rows - 1))?;
    let sent = one_thread()?.block_on(insert(&source.url(), "STATEMENT", first, rows, rate))?;
    let (arrivals, _) = on_screen.join().map_err(|_| anyhow!("the screen panicked"))??;
    delays(&sent, &arrivals)
}

/// A screen on a thread of its own, until it has row `last`.
fn watch(address: SocketAddr, last: Key) -> Result<JoinHandle<Result<(Arrivals, Screen)>>> {
    let mut screen = Screen::open(address, "")?;
    screen.hello()?;
    Ok(thread::spawn(move || {
        let mut arrivals = Arrivals::new();
        while !arrivals.contains_key(&last) {
            let mut gap = false;
            screen.read(|came| match came {
                Came::Row(key) => {
                    arrivals.insert(key, Instant::now());
                }
                Came::Other(event, _) => gap |= event == "gap",
            })?;
            ensure!(!gap, "the screen was told of a gap");
        }
        Ok((arrivals, screen))
    }))
}

/// One INSERT after the other; when each was sent. The keys are given, so that a row which is there
/// before the answer to its INSERT is known.
async fn insert(url: &str, format: &str, first: u32, rows: u32, rate: u32) -> Result<Vec<(Key, Instant)>> {
    let mut conn = Conn::from_url(url).await?;
    conn.query_drop(format!("SET SESSION binlog_format = {format}")).await?;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = Vec::new();
    for key in first..first + rows {
        pace.tick().await;
        let sql = swipe(&key.to_string(), key);
        sent.push((Key::from(key), Instant::now()));
        conn.query_drop(sql).await?;
    }
    conn.disconnect().await?;
    Ok(sent)
}

fn delays(sent: &[(Key, Instant)], arrivals: &Arrivals) -> Result<Vec<f64>> {
    let mut delays = Vec::with_capacity(sent.len());
    for (key, sent) in sent.iter().skip(WARM_UP) {
        let Some(arrival) = arrivals.get(key) else { bail!("row {key} did not come") };
        delays.push(arrival.duration_since(*sent).as_secs_f64() * 1e3);
    }
    delays.sort_by(f64::total_cmp);
    Ok(delays)
}

fn one_thread() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
