//! Everything on its place: server, proxies, doorcast, load and clients, with a database of their own.

use std::{
    collections::HashSet,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use doorcast::{
    demo::{binary::Flavour, server::PrivateServer},
    tail::position::FileOffset,
};
use futures_util::future::join_all;
use mysql_async::{Conn, prelude::Queryable};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    decoder::Decoder,
    fault::{self, Fault},
    get::get,
    latecomers::Latecomer,
    process::Doorcast,
    proxy::Proxy,
    screens::{By, Place, Record, Screen},
    servers,
    swipes::{Card, Swipes, WAYS, insert_through, new_card},
    timeline::Timeline,
    verdict::{Fields, Generation, Promise, Size, Truth, Verdict, judge},
};

/// How long a client may take to get a row after the fault is over. The back-off goes up to 30 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// A faster one would spend the time on work that proves nothing more.
const DB_HEARTBEAT: &str = "0.5";

/// What only a person can mend is mended soon here.
const DB_RETRY: &str = "0.5";

/// So long after a commit that did not say which rows it brought, doorcast looks at the table again; what it
/// finds there comes in key order.
const LOOKS: Duration = Duration::from_millis(1100);

/// The row that every client must get at the end of a round goes through this door.
const MARKER: u32 = 998;

/// See the module. Fields are dropped in this order.
pub(crate) struct Stage {
    pub(crate) doorcast: Doorcast,
    pub(crate) swipes: Swipes,
    screens: Vec<Screen>,
    latecomers: Vec<Latecomer>,
    /// Between doorcast and the server.
    pub(crate) link: Proxy,
    /// Between half of the clients and doorcast.
    pub(crate) front: Proxy,
    pub(crate) database: String,
    pub(crate) user: String,
    decoder: Decoder,
    /// Binlog files that the decoder has read.
    read: HashSet<String>,
    /// Rows of tables that are gone, or stand under another name.
    past: Vec<Fields>,
    /// Of the table that there is, as the decoder counts them.
    generation: Generation,
    pub(crate) timeline: Timeline,
    /// What earlier processes of doorcast had logged.
    earlier_log: String,
    /// For what is not written by the writers.
    random: fastrand::Rng,
    pub(crate) server: PrivateServer,
}

impl Stage {
    /// Sets everything up, and waits until it all runs.
    pub(crate) async fn open(server: PrivateServer, mut random: fastrand::Rng) -> Result<Stage> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (database, user) = (format!("faults_{number}"), format!("door_{number}"));
        let mut root = server.root(None).await?;
        servers::create(&mut root, &database, &user).await;
        for sql in WAYS {
            root.query_drop(sql).await?;
        }
        root.query_drop("FLUSH BINARY LOGS").await?;
        root.disconnect().await?;

        let link = Proxy::start(local(server.port())).await;
        let db = format!("mysql://{user}:{}@127.0.0.1:{}/{database}", servers::PASSWORD, link.port);
        let arguments = [
            "--db-heartbeat",
            DB_HEARTBEAT,
            "--db-retry",
            DB_RETRY,
            "--heartbeat",
            "1",
            "--history",
            "500",
            "--resume-limit",
            "100000",
        ];
        let listen = local(free_port()?);
        let doorcast = Doorcast::start_on(&listen.to_string(), &db, &arguments).await;
        let front = Proxy::start(listen).await;
        let screens = (0..8).map(|number| {
            let by = if number % 2 == 0 { By::Sse } else { By::Poll };
            let behind = number >= 4;
            let port = if behind { front.port } else { listen.port() };
            let name = format!("{by:?} {number}{}", if behind { " behind the proxy" } else { "" });
            Screen::open(name, by, local(port))
        });
        let screens = join_all(screens).await;
        let data = server.data();
        let folder = data.parent().context("the data folder stands in another")?;
        let swipes = Swipes::start(server.root_url(&database), folder.to_owned(), random.fork());
        let decoder = Decoder::new(&database);
        Ok(Stage {
            doorcast,
            swipes,
            screens,
            latecomers: Vec::new(),
            link,
            front,
            database,
            user,
            decoder,
            read: HashSet::new(),
            past: Vec::new(),
            generation: 0,
            timeline: Timeline::new(),
            earlier_log: String::new(),
            random,
            server,
        })
    }

    /// A connection as root, this stage's database chosen.
    pub(crate) async fn admin(&self) -> Result<Conn> {
        Ok(self.server.root(Some(&self.database)).await?)
    }

    /// One fault, and then a row that every client must get.
    pub(crate) async fn round(&mut self, fault: Fault, random: &mut fastrand::Rng) -> Result<()> {
        sleep(Duration::from_millis(random.u64(0..300))).await;
        self.timeline.begin_round(fault);
        if fault.way() != fault::By::Binlog {
            self.swipes.open_window();
            self.all_have_a_row().await.context("before the fault")?;
        }
        fault.inject(self, random).await.with_context(|| fault.name())?;
        self.all_have_a_row().await?;
        if fault.way() == fault::By::Looks {
            self.binlog_is_read().await?;
            sleep(LOOKS).await;
            self.all_have_a_row().await.context("after the fault")?;
        }
        self.swipes.close_window();
        self.timeline.end_round();
        Ok(())
    }

    /// After it was stopped or killed.
    pub(crate) async fn start_doorcast_again(&mut self) {
        self.earlier_log += &format!("{}\n", self.doorcast.log());
        self.timeline.note("doorcast is started again");
        self.doorcast.start_again().await;
    }

    /// Waits until doorcast has read what is in the binlog now.
    async fn binlog_is_read(&self) -> Result<()> {
        let mut conn = self.admin().await?;
        let files: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await?;
        conn.disconnect().await?;
        let newest = files.last().context("no binlog file")?;
        let file: String = newest.get(0).context("no file name")?;
        let end = FileOffset { file, offset: newest.get(1).context("no file size")? };
        let read = async {
            loop {
                let status: serde_json::Value = serde_json::from_str(&self.ask("/api/status").await?)?;
                let position = status["position"].as_str().and_then(|at| at.parse().ok());
                if position.is_some_and(|at: FileOffset| at.reaches(&end)) {
                    return Ok(());
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, read).await.context("doorcast does not come to the binlog's end")?
    }

    /// What doorcast answers.
    async fn ask(&self, path: &str) -> Result<String> {
        let mut text = Vec::new();
        let mut answer = get(self.doorcast.address.parse()?, path, None).await?;
        while let Some(chunk) = answer.chunk().await? {
            text.extend(chunk);
        }
        Ok(String::from_utf8(text)?)
    }

    /// doorcast's size now.
    pub(crate) async fn size(&self) -> Result<Size> {
        let metrics = self.ask("/metrics").await?;
        let process = PathBuf::from(format!("/proc/{}", self.doorcast.id()));
        let status = fs::read_to_string(process.join("status"))?;
        let value = |text: &str, name: &str| -> Result<u64> {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
            Ok(value.with_context(|| format!("no {name}"))?.parse()?)
        };
        Ok(Size {
            resident_kib: value(&status, "VmRSS:")?,
            file_kib: value(&status, "RssFile:")?,
            peak_kib: value(&status, "VmHWM:")?,
            feed_bytes: value(&metrics, "doorcast_feed_bytes ")?,
            descriptors: fs::read_dir(process.join("fd"))?.count(),
            threads: fs::read_dir(process.join("task"))?.count(),
            tasks: usize::try_from(value(&metrics, "doorcast_tasks ")?)?,
        })
    }

    /// Inserts a row, and waits until every client has it.
    pub(crate) async fn all_have_a_row(&mut self) -> Result<()> {
        let card = self.a_row().await?;
        self.all_have(&[card]).await
    }

    async fn a_row(&mut self) -> Result<Card> {
        let mut conn = self.admin().await?;
        let card = new_card(&mut self.random);
        insert_through(&mut conn, MARKER, card).await?;
        self.swipes.acknowledged(card);
        conn.disconnect().await?;
        Ok(card)
    }

    /// Waits until every client has these rows.
    pub(crate) async fn all_have(&mut self, cards: &[Card]) -> Result<()> {
        let waits = self.screens.iter_mut().map(|screen| async move {
            let came = timeout(PATIENCE, screen.has(cards)).await;
            let waits_for = screen.waits_for();
            came.with_context(|| {
                format!("{} waits for {waits_for}, and does not have every row", screen.name)
            })
        });
        let waited: Result<Vec<()>> = join_all(waits).await.into_iter().collect();
        waited?;
        Ok(())
    }

    /// The row that a client got last.
    pub(crate) fn place(&self) -> Result<Place> {
        self.screens.iter().find_map(Screen::place).context("nobody has a row")
    }

    /// Waits until clients from an old id have every row that was committed by now, and lets them go.
    pub(crate) async fn all_have_come(&mut self, latecomers: Vec<Screen>, from: Place) -> Result<()> {
        let until = Instant::now();
        let card = self.a_row().await?;
        for mut screen in latecomers {
            let came = timeout(PATIENCE, screen.has(&[card])).await;
            came.with_context(|| format!("{} does not come to the end", screen.name))?;
            let name = screen.name.clone();
            self.latecomers.push(Latecomer { name, from, until, record: screen.close().await });
        }
        self.all_have(&[card]).await
    }

    /// Takes down the rows of a table that is gone, or will be at once.
    pub(crate) async fn remember(&mut self, name: &str) -> Result<()> {
        let mut conn = self.admin().await?;
        self.past.extend(table(&mut conn, name, self.generation).await?);
        self.generation += 1;
        conn.disconnect().await?;
        Ok(())
    }

    /// The server's binlog files, oldest first.
    pub(crate) async fn binlog_files(&self) -> Result<Vec<String>> {
        let mut conn = self.admin().await?;
        let files = binlog_files(&mut conn).await?;
        conn.disconnect().await?;
        Ok(files)
    }

    /// Closes the binlog file that is being written, has the decoder read all closed ones, and returns
    /// the name of the new one.
    pub(crate) async fn rotate_and_read(&mut self) -> Result<String> {
        let mut conn = self.admin().await?;
        conn.query_drop("FLUSH BINARY LOGS").await?;
        let mut files = binlog_files(&mut conn).await?;
        conn.disconnect().await?;
        let newest = files.pop().context("no binlog file")?;
        self.decode(&files)?;
        Ok(newest)
    }

    /// The server's binlog files begin anew. Nobody writes meanwhile.
    pub(crate) async fn reset_binlogs(&mut self) -> Result<()> {
        let Stage { swipes, .. } = self;
        let paused = swipes.pause().await;
        let mut conn = self.server.root(None).await?;
        let files = binlog_files(&mut conn).await?;
        for file in files.iter().filter(|file| !self.read.contains(*file)) {
            self.decoder.read(&self.server.data().join(file))?;
        }
        let renamed =
            self.server.binary().flavour() == Flavour::MySql && self.server.binary().version() >= (8, 4, 0);
        conn.query_drop(if renamed { "RESET BINARY LOGS AND GTIDS" } else { "RESET MASTER" }).await?;
        conn.disconnect().await?;
        self.read.clear();
        drop(paused);
        Ok(())
    }

    /// Has the decoder read files that nothing more is written to.
    pub(crate) fn decode(&mut self, files: &[String]) -> Result<()> {
        for file in files {
            if self.read.insert(file.clone()) {
                self.decoder.read(&self.server.data().join(file))?;
            }
        }
        Ok(())
    }

    /// Ends the load, waits for the clients, and judges what they have.
    pub(crate) async fn close(
        mut self,
        trouble: Option<String>,
        promise: Promise,
    ) -> Result<(Verdict, PrivateServer)> {
        let mut trouble: Vec<String> = trouble.into_iter().collect();
        if trouble.is_empty() {
            trouble.extend(self.all_have_a_row().await.err().map(|err| format!("at the end: {err:#}")));
        }
        let mut conn = self.admin().await?;
        let files = binlog_files(&mut conn).await?;
        let Stage { swipes, mut screens, latecomers, mut decoder, read, past, .. } = self;
        let Stage { server, doorcast, generation, .. } = self;
        let written = swipes.finish().await;
        if trouble.is_empty() {
            // What the writers did last, and what only the table could tell.
            let cards: Vec<Card> = written.acknowledged.keys().copied().collect();
            let waits = screens.iter_mut().map(|screen| timeout(PATIENCE, screen.has(&cards)));
            if join_all(waits).await.iter().any(Result::is_err) {
                trouble.push("not every row came to everybody".to_owned());
            }
        }
        for file in files.iter().filter(|file| !read.contains(*file)) {
            decoder.read(&server.data().join(file))?;
        }
        let mut records: Vec<(String, Record)> = Vec::new();
        for screen in screens {
            records.push((screen.name.clone(), screen.close().await));
        }
        let mut rows = past;
        rows.extend(table(&mut conn, "vdooropen", generation).await?);
        let truth = Truth { table: rows, decoder: decoder.rows, written };
        let mut verdict = judge(&truth, &records, &latecomers, promise);
        trouble.append(&mut verdict.problems);
        verdict.problems = trouble;
        if !verdict.problems.is_empty() {
            let log = self.earlier_log + &doorcast.log();
            let file = self.timeline.keep(&verdict.problems, &verdict.findings, &truth, &records, &log)?;
            verdict.problems.push(format!("each row, the rounds and doorcast's log: {}", file.display()));
        }
        conn.query_drop(format!("DROP DATABASE {}", self.database)).await?;
        conn.disconnect().await?;
        Ok((verdict, server))
    }
}

/// The rows of a table with swipes.
async fn table(conn: &mut Conn, name: &str, generation: Generation) -> Result<Vec<Fields>> {
    let rows: Vec<(i64, i64, String, String, String)> =
        conn.query(format!("SELECT vid, doorno, rfsim, optime, ynopen FROM {name}")).await?;
    ensure!(!rows.is_empty(), "{name} is empty");
    let rows = rows.into_iter();
    Ok(rows.map(|(key, door, card, time, open)| Fields { generation, key, door, card, time, open }).collect())
}

/// The server's binlog files, oldest first.
async fn binlog_files(conn: &mut Conn) -> Result<Vec<String>> {
    let rows: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await?;
    Ok(rows.iter().filter_map(|row| row.get(0)).collect())
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Below the ports that the kernel hands out, so that nobody gets it while doorcast restarts.
fn free_port() -> Result<u16> {
    (0..100)
        .map(|_| fastrand::u16(10_000..32_000))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no free port")
}
