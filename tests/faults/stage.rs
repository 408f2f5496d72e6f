//! Everything on its place: server, proxies, doorcast, load and clients, with a database of their own.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use doorcast::demo::{binary::Flavour, server::PrivateServer};
use futures_util::future::join_all;
use mysql_async::{Conn, prelude::Queryable};
use tokio::time::{sleep, timeout};

use crate::{
    decoder::Decoder,
    fault::Fault,
    process::Doorcast,
    proxy::Proxy,
    screens::{By, Record, Screen, hash},
    servers,
    swipes::Swipes,
    verdict::{Promise, Size, Truth, Verdict, judge},
};

/// How long a client may take to get a row after the fault is over. The back-off goes up to 30 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// A faster one would spend the time on work that proves nothing more.
const DB_HEARTBEAT: &str = "0.5";

/// The row that every client must get at the end of a round goes through this door.
const MARKER: u32 = 998;

/// See the module. Fields are dropped in this order.
pub(crate) struct Stage {
    pub(crate) doorcast: Doorcast,
    pub(crate) swipes: Swipes,
    screens: Vec<Screen>,
    /// Between doorcast and the server.
    pub(crate) link: Proxy,
    /// Between half of the clients and doorcast.
    pub(crate) front: Proxy,
    pub(crate) database: String,
    pub(crate) user: String,
    decoder: Decoder,
    /// Binlog files that the decoder has read.
    read: HashSet<String>,
    pub(crate) server: PrivateServer,
}

impl Stage {
    /// Sets everything up, and waits until it all runs.
    pub(crate) async fn open(server: PrivateServer, random: fastrand::Rng) -> Result<Stage> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (database, user) = (format!("faults_{number}"), format!("door_{number}"));
        let mut root = server.root(None).await?;
        servers::create(&mut root, &database, &user).await;
        root.query_drop("FLUSH BINARY LOGS").await?;
        root.disconnect().await?;

        let link = Proxy::start(local(server.port())).await;
        let db = format!("mysql://{user}:{}@127.0.0.1:{}/{database}", servers::PASSWORD, link.port);
        let arguments = [
            "--db-heartbeat",
            DB_HEARTBEAT,
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
        let swipes = Swipes::start(server.root_url(&database), random);
        let decoder = Decoder::new(&database);
        Ok(Stage {
            doorcast,
            swipes,
            screens,
            link,
            front,
            database,
            user,
            decoder,
            read: HashSet::new(),
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
        if fault.loses_order() {
            self.swipes.open_window();
            self.all_have_a_row().await.context("before the fault")?;
        }
        fault.inject(self, random).await.with_context(|| fault.name())?;
        self.all_have_a_row().await?;
        self.swipes.close_window();
        Ok(())
    }

    /// doorcast's size now.
    pub(crate) fn size(&self) -> Result<Size> {
        let process = PathBuf::from(format!("/proc/{}", self.doorcast.id()));
        let status = fs::read_to_string(process.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(Size {
            resident_kib: resident.trim().trim_end_matches(" kB").parse()?,
            descriptors: fs::read_dir(process.join("fd"))?.count(),
            threads: fs::read_dir(process.join("task"))?.count(),
        })
    }

    /// Inserts a row, and waits until every client has it.
    pub(crate) async fn all_have_a_row(&mut self) -> Result<()> {
        let mut conn = self.admin().await?;
        let sql = format!("INSERT INTO vdooropen VALUES (NULL,{MARKER},'MARKER','20261120 071500','N')");
        conn.query_drop(sql).await?;
        let key = i64::try_from(conn.last_insert_id().unwrap_or_default())?;
        self.swipes.acknowledged(key);
        conn.disconnect().await?;
        let waits = self.screens.iter_mut().map(|screen| async move {
            let came = timeout(PATIENCE, screen.has(key)).await;
            let waits_for = screen.waits_for();
            came.with_context(|| format!("{} waits for {waits_for}, and has no row {key}", screen.name))
        });
        let waited: Result<Vec<()>> = join_all(waits).await.into_iter().collect();
        waited?;
        Ok(())
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

    fn decode(&mut self, files: &[String]) -> Result<()> {
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
        let Stage { swipes, mut screens, mut decoder, read, server, doorcast, .. } = self;
        let written = swipes.finish().await;
        if trouble.is_empty() {
            // What the writers did last.
            let last = written.acknowledged.keys().copied().max().unwrap_or_default();
            let waits = screens.iter_mut().map(|screen| timeout(PATIENCE, screen.has(last)));
            if join_all(waits).await.iter().any(Result::is_err) {
                trouble.push(format!("row {last} did not come to everybody"));
            }
        }
        for file in files.iter().filter(|file| !read.contains(*file)) {
            decoder.read(&server.data().join(file))?;
        }
        let mut records: Vec<(String, Record)> = Vec::new();
        for screen in screens {
            records.push((screen.name.clone(), screen.close().await));
        }
        let truth = Truth { table: table(&mut conn).await?, decoder: decoder.keys, written };
        let mut verdict = judge(&truth, &records, promise);
        trouble.append(&mut verdict.problems);
        verdict.problems = trouble;
        if !verdict.problems.is_empty() {
            verdict.problems.push(format!("doorcast's log: {}", keep(&doorcast.log())?.display()));
        }
        conn.query_drop(format!("DROP DATABASE {}", self.database)).await?;
        conn.disconnect().await?;
        Ok((verdict, server))
    }
}

/// Writes a log to a file that stays.
fn keep(log: &str) -> Result<PathBuf> {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let file = tempfile::Builder::new().prefix("doorcast-").suffix(".log").tempfile_in(folder)?;
    fs::write(file.path(), log)?;
    Ok(file.keep()?.1)
}

/// Hashes of rows as doorcast must tell them, by key.
async fn table(conn: &mut Conn) -> Result<HashMap<i64, u64>> {
    let rows: Vec<(i64, u32, String, String, String)> =
        conn.query("SELECT vid, doorno, rfsim, optime, ynopen FROM vdooropen").await?;
    let json = |(key, door, card, time, open): (i64, u32, String, String, String)| {
        let row = format!(
            "{{\"vid\":{key},\"doorno\":{door},\"rfsim\":\"{card}\",\"optime\":\"{time}\",\"ynopen\":\"{open}\"}}"
        );
        (key, hash(&row))
    };
    let rows: HashMap<i64, u64> = rows.into_iter().map(json).collect();
    ensure!(!rows.is_empty(), "the table is empty");
    Ok(rows)
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
