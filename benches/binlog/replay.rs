//! How fast a long binlog is read: from connecting to the last row.
//!
//! doorcast runs whole, with a screen that waits for the end: it goes on from a checkpoint as after a restart, connects
//! three times, reads the schema, writes its checkpoint, encodes each row and keeps the last 10,000.

use std::{
    fs,
    net::Ipv4Addr,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use doorcast::{demo::binary::ServerBinary, link::SslMode, options::RunOptions, tail::position::FileOffset};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};

use crate::{
    bare,
    figures::{cpu_time, markdown, median, thousands},
    screen::Screen,
    source::{DATABASE, Source, TABLE},
};

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Reader {
    /// The bare loop, without decoding
    Count,
    /// The bare loop
    Decode,
    /// The same with mysql_cdc
    MysqlCdc,
    /// All of doorcast
    Doorcast,
}

const READERS: [Reader; 4] = [Reader::Count, Reader::Decode, Reader::MysqlCdc, Reader::Doorcast];

/// What to measure.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) rows: u32,
    pub(crate) rounds: u32,
    /// Further screens.
    pub(crate) waiting: u32,
    /// All if empty.
    pub(crate) only: Vec<Reader>,
}

/// One reading.
#[derive(Debug, Clone, Copy)]
struct Reading {
    time: Duration,
    cpu: Duration,
}

/// The Markdown table of all servers.
pub(crate) fn table(binaries: &[ServerBinary], replay: &Replay) -> Result<String> {
    let mut lines = Vec::new();
    for binary in binaries {
        eprintln!("replay on {binary}");
        lines.push(line(binary, replay).with_context(|| format!("replay on {binary}"))?);
    }
    let head = [
        "rows/s, and µs of processor time a row",
        "mysql_async, not decoded",
        "mysql_async",
        "mysql_cdc",
        "doorcast",
        "doorcast / mysql_async",
    ];
    Ok(format!(
        "{} one-row transactions, from connecting to the last row, without TLS; medians of {} rounds\n\n{}",
        thousands(replay.rows.into()),
        replay.rounds,
        markdown(&head, &lines)
    ))
}

fn line(binary: &ServerBinary, replay: &Replay) -> Result<Vec<String>> {
    let Replay { rows, rounds, waiting, only } = replay;
    let (rows, rounds) = (*rows, *rounds);
    let runtime = Runtime::new()?;
    let source = runtime.block_on(Source::start(binary.clone()))?;
    let checkpoint = checkpoint(&runtime, &source.url())?;
    let at = runtime.block_on(source.end())?;
    runtime.block_on(source.fill(rows))?;
    drop(runtime);

    let readers = READERS.into_iter().filter(|reader| only.is_empty() || only.contains(reader));
    let mut readings: Vec<(Reader, Vec<Reading>)> = readers.map(|reader| (reader, Vec::new())).collect();
    // Round 0 warms up. Side by side in each round, so that a busy moment of the machine meets them all.
    for round in 0..=rounds {
        for (reader, readings) in &mut readings {
            match read(*reader, &source, &at, &checkpoint, rows, *waiting) {
                Ok(reading) if round > 0 => {
                    eprintln!(
                        "  {reader:?}: {:.3} s, of the processor {:.3} s",
                        reading.time.as_secs_f64(),
                        reading.cpu.as_secs_f64()
                    );
                    readings.push(reading);
                }
                Ok(_) => {}
                // The others are what must work.
                Err(err) if *reader == Reader::MysqlCdc => eprintln!("  {err:#}"),
                Err(err) => return Err(err.context(format!("{reader:?}"))),
            }
        }
    }

    let medians = |wanted: Reader| {
        let readings = readings.iter().find(|(reader, _)| *reader == wanted).map(|(_, readings)| readings)?;
        let of = |figure: fn(&Reading) -> Duration| {
            median(&readings.iter().map(|reading| figure(reading).as_secs_f64()).collect::<Vec<_>>())
        };
        (!readings.is_empty()).then(|| (f64::from(rows) / of(|r| r.time), of(|r| r.cpu) / f64::from(rows)))
    };
    let mut line = vec![binary.to_string()];
    line.extend(READERS.map(|reader| match medians(reader) {
        Some((rate, cpu)) => format!("{} · {:.1}", thousands(rate), cpu * 1e6),
        None => "–".into(),
    }));
    let rate = |reader| medians(reader).map_or(f64::NAN, |(rate, _)| rate);
    line.push(format!("{:.2}", rate(Reader::Doorcast) / rate(Reader::Decode)));
    Ok(line)
}

/// Each reading has threads of its own, of the kind that `doorcast run` has.
fn read(
    reader: Reader,
    source: &Source,
    at: &FileOffset,
    checkpoint: &[u8],
    rows: u32,
    waiting: u32,
) -> Result<Reading> {
    let runtime = Runtime::new()?;
    let (url, at, port) = (source.url(), at.clone(), source.server.port());
    let (cpu, began) = (cpu_time(), Instant::now());
    let mut open = None;
    match reader {
        Reader::Count => {
            open = Some(runtime.block_on(
                runtime.spawn(async move { bare::count(bare::open(&url, &at).await?, rows).await }),
            )??);
        }
        Reader::Decode => {
            let mut left = rows;
            let took = move |_| {
                left -= 1;
                left == 0
            };
            open = Some(runtime.block_on(
                runtime.spawn(async move { bare::decode(bare::open(&url, &at).await?, took).await }),
            )??);
        }
        Reader::MysqlCdc => {
            runtime.block_on(runtime.spawn_blocking(move || bare::mysql_cdc(port, &at, rows as usize)))??;
        }
        Reader::Doorcast => return doorcast(&runtime, &url, checkpoint, rows, waiting, (cpu, began)),
    }
    let reading = Reading { time: began.elapsed(), cpu: cpu_time().saturating_sub(cpu) };
    if let Some(stream) = open {
        runtime.block_on(stream.close())?;
    }
    Ok(reading)
}

/// What doorcast leaves behind when it is stopped before there are rows.
fn checkpoint(runtime: &Runtime, url: &str) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("checkpoint.json");
    let mut options = RunOptions::new(url, TABLE, &path)?;
    options.ssl_mode = SslMode::Disabled;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let running = runtime.spawn(doorcast::run(options, listener, async {
        let _ = stopped.await;
    }));
    let screen = thread::spawn(move || Screen::open(address, "").and_then(|mut screen| screen.hello()));
    let hello = screen.join();
    let _ = stop.send(());
    runtime.block_on(running)??;
    ensure!(matches!(hello, Ok(Ok(_))), "doorcast let no screen in");
    Ok(fs::read(path)?)
}

fn doorcast(
    runtime: &Runtime,
    url: &str,
    checkpoint: &[u8],
    rows: u32,
    waiting: u32,
    (cpu, began): (Duration, Instant),
) -> Result<Reading> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("checkpoint.json");
    fs::write(&path, checkpoint)?;
    let mut options = RunOptions::new(url, TABLE, &path)?;
    options.ssl_mode = SslMode::Disabled; // as the bare loops
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let running = runtime.spawn(doorcast::run(options, listener, async {
        let _ = stopped.await;
    }));
    let waiting: Vec<Screen> = (0..waiting).map(|_| Screen::open(address, "")).collect::<Result<_>>()?;
    let (tell, told) = mpsc::channel();
    let screen = thread::spawn(move || {
        let head = Screen::open(address, "").and_then(|mut screen| screen.hello());
        let _ = tell.send((head, Instant::now(), cpu_time()));
    });
    let (head, ended, cpu_then) = told.recv()?;
    drop(waiting);
    let _ = stop.send(());
    runtime.block_on(running)??;
    let _ = screen.join();
    let head = head?;
    ensure!(head.epoch == 1 && head.key <= rows.into(), "{DATABASE}.{TABLE} ended with {head}");
    Ok(Reading { time: ended - began, cpu: cpu_then.saturating_sub(cpu) })
}
