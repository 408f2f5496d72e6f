//! The load: four connections that insert all the time, whatever becomes of the server.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::Result;
use mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable};
use tokio::{
    sync::{RwLock, RwLockWriteGuard},
    task::JoinHandle,
    time::Instant,
};

use crate::deadline::deadline;

const WRITERS: usize = 4;

/// What is rolled back goes through this door.
pub(crate) const ROLLED_BACK: u32 = 13;

/// The number of a card, which no two rows share: keys may start over, a card does not.
pub(crate) type Card = u64;

/// As it stands in the table.
pub(crate) fn card_text(card: Card) -> String {
    format!("{card:016X}")
}

/// A card that nobody has had. Room is left behind it for as many as a statement has rows.
pub(crate) fn new_card(random: &mut fastrand::Rng) -> Card {
    random.u64(..u64::MAX >> 8) << 4
}

/// How two of the four sessions have their changes logged; the others always as rows, in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Format {
    Row,
    Statement,
    Mixed,
    /// Rows with the columns alone that the statement has values for.
    Minimal,
    NoBlob,
    /// MySQL's compressed transactions.
    Compressed,
    /// Rows in full, with the time of an hour ago.
    HourAgo,
    HourAhead,
}

const FORMATS: [Format; 8] = [
    Format::Row,
    Format::Statement,
    Format::Mixed,
    Format::Minimal,
    Format::NoBlob,
    Format::Compressed,
    Format::HourAgo,
    Format::HourAhead,
];

impl Format {
    fn sql(self) -> &'static [&'static str] {
        match self {
            Format::Row => &["SET SESSION binlog_format = ROW"],
            Format::Statement => &["SET SESSION binlog_format = STATEMENT"],
            Format::Mixed => &["SET SESSION binlog_format = MIXED"],
            // Without a default, a column can be left out only where that is no error.
            Format::Minimal => &[
                "SET SESSION binlog_format = ROW",
                "SET SESSION binlog_row_image = MINIMAL",
                "SET SESSION sql_mode = ''",
            ],
            Format::NoBlob => &["SET SESSION binlog_format = ROW", "SET SESSION binlog_row_image = NOBLOB"],
            Format::Compressed => {
                &["SET SESSION binlog_format = ROW", "SET SESSION binlog_transaction_compression = ON"]
            }
            Format::HourAgo => {
                &["SET SESSION binlog_format = ROW", "SET timestamp = UNIX_TIMESTAMP() - 3600"]
            }
            Format::HourAhead => {
                &["SET SESSION binlog_format = ROW", "SET timestamp = UNIX_TIMESTAMP() + 3600"]
            }
        }
    }
}

/// What the writers need besides the table: other ways into it.
pub(crate) const WAYS: [&str; 6] = [
    "CREATE TABLE numbers (n INT NOT NULL PRIMARY KEY)",
    "INSERT INTO numbers VALUES (0), (1), (2), (3), (4), (5)",
    "CREATE TABLE readings (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, door INT NOT NULL, card CHAR(16) NOT NULL)",
    "CREATE VIEW doors AS SELECT vid, doorno, rfsim, optime, ynopen FROM vdooropen",
    "CREATE PROCEDURE swipe (door INT, card CHAR(16)) \
     INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (door, card, '20261120 071500', 'N')",
    "CREATE TRIGGER reading AFTER INSERT ON readings FOR EACH ROW \
     INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (NEW.door, NEW.card, '20261120 071500', 'N')",
];

/// The writers.
pub(crate) struct Swipes {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    root_url: String,
    /// Files that the server loads are put here.
    folder: PathBuf,
    stop: AtomicBool,
    /// Held shared by every transaction.
    gate: RwLock<()>,
    format: AtomicU8,
    /// Odd while rows may reach the clients by way of the table.
    window: AtomicU64,
    written: Mutex<Written>,
}

/// What is known about committed rows. A row whose commit was not acknowledged is not in it.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// When the commit was acknowledged.
    pub(crate) acknowledged: HashMap<Card, Commit>,
    /// Rows that must come through the binlog, so in its order.
    pub(crate) by_binlog: HashSet<Card>,
    /// When the table had one more column, `note`.
    pub(crate) noted: Vec<(Instant, Instant)>,
    /// What was written into it; `none` by default.
    pub(crate) notes: HashMap<Card, String>,
}

/// A commit that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit {
    pub(crate) at: Instant,
    /// Which of the writers it was, if one of them.
    pub(crate) writer: Option<usize>,
}

impl Swipes {
    /// Begins to insert.
    pub(crate) fn start(root_url: String, folder: PathBuf, mut random: fastrand::Rng) -> Swipes {
        let shared = Arc::new(Shared {
            root_url,
            folder,
            stop: AtomicBool::new(false),
            gate: RwLock::new(()),
            format: AtomicU8::new(0),
            window: AtomicU64::new(0),
            written: Mutex::default(),
        });
        let writer = |number| {
            let (shared, random) = (Arc::clone(&shared), random.fork());
            tokio::spawn(shared.write(number, random))
        };
        let tasks = (0..WRITERS).map(writer).collect();
        Swipes { shared, tasks }
    }

    /// Keeps new transactions from beginning, and waits until none is open.
    pub(crate) async fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        deadline(self.shared.gate.write()).await
    }

    /// Transactions that are open go on as they were.
    pub(crate) fn set_format(&self, format: Format) {
        self.shared.format.store(format as u8, SeqCst);
    }

    /// Everything is logged as rows again, once this has ended.
    pub(crate) async fn back_to_rows(&self) {
        self.set_format(Format::Row);
        drop(self.pause().await);
    }

    /// From now on, rows may reach clients by way of the table.
    pub(crate) fn open_window(&self) {
        self.shared.window.fetch_or(1, SeqCst);
    }

    /// From now on, rows come through the binlog again.
    pub(crate) fn close_window(&self) {
        if !self.shared.window.load(SeqCst).is_multiple_of(2) {
            self.shared.window.fetch_add(1, SeqCst);
        }
    }

    /// Takes down a row that somebody else inserted.
    pub(crate) fn acknowledged(&self, card: Card) {
        let commit = Commit { at: Instant::now(), writer: None };
        self.shared.written.lock().unwrap().acknowledged.insert(card, commit);
    }

    /// The same with what stands in its `note`.
    pub(crate) fn acknowledged_with(&self, card: Card, note: String) {
        self.shared.written.lock().unwrap().notes.insert(card, note);
        self.acknowledged(card);
    }

    /// The table may have had the column `note` since then, and has it no more.
    pub(crate) fn noted_since(&self, since: Instant) {
        self.shared.written.lock().unwrap().noted.push((since, Instant::now()));
    }

    /// Stops inserting.
    pub(crate) async fn finish(self) -> Written {
        self.shared.stop.store(true, SeqCst);
        for task in self.tasks {
            deadline(task).await.unwrap();
        }
        std::mem::take(&mut *self.shared.written.lock().unwrap())
    }
}

impl Shared {
    async fn write(self: Arc<Self>, number: usize, mut random: fastrand::Rng) {
        let mut session = None;
        while !self.stop.load(SeqCst) {
            {
                let _open = self.gate.read().await;
                let window = self.window.load(SeqCst);
                match self.transaction(&mut session, number, &mut random).await {
                    Ok(cards) => {
                        let certain = window.is_multiple_of(2) && self.window.load(SeqCst) == window;
                        let commit = Commit { at: Instant::now(), writer: Some(number) };
                        let mut written = self.written.lock().unwrap();
                        written.acknowledged.extend(cards.iter().map(|card| (*card, commit)));
                        written.by_binlog.extend(cards.iter().filter(|_| certain));
                    }
                    // The server is down. Whether the transaction was committed, the table will say.
                    Err(_) => session = None,
                }
            }
            tokio::time::sleep(Duration::from_millis(random.u64(10..60))).await;
        }
    }

    /// One transaction, and the cards of its rows.
    async fn transaction(
        &self,
        session: &mut Option<(Conn, Format)>,
        number: usize,
        random: &mut fastrand::Rng,
    ) -> Result<Vec<Card>> {
        let wanted = usize::from(if number.is_multiple_of(2) { self.format.load(SeqCst) } else { 0 });
        let wanted = FORMATS[wanted];
        if session.as_ref().is_some_and(|(_, format)| *format != wanted)
            && let Some((conn, _)) = session.take()
        {
            let _ = conn.disconnect().await;
        }
        let (conn, format) = match session {
            Some(session) => session,
            None => {
                let opts = OptsBuilder::from_opts(Opts::from_url(&self.root_url)?).prefer_socket(false);
                let mut conn = Conn::new(opts).await?;
                for sql in wanted.sql() {
                    conn.query_drop(*sql).await?;
                }
                session.insert((conn, wanted))
            }
        };
        let format = *format;
        let mut cards = Vec::new();
        match random.u8(0..10) {
            0..5 => cards.extend(self.insert(conn, 1, format, random).await?),
            5..7 => {
                let rows = random.u64(2..6);
                cards.extend(self.insert(conn, rows, format, random).await?);
            }
            _ => {
                conn.query_drop("BEGIN").await?;
                if random.u8(0..4) == 0 {
                    insert_through(conn, ROLLED_BACK, new_card(random)).await?;
                    conn.query_drop("ROLLBACK").await?;
                    conn.query_drop("BEGIN").await?;
                }
                for _ in 0..random.usize(1..4) {
                    cards.extend(self.insert(conn, 1, format, random).await?);
                    // Now and then so long that a fault is over before the commit.
                    let pause = if random.u8(0..20) == 0 { 800 } else { 30 };
                    tokio::time::sleep(Duration::from_millis(random.u64(0..pause))).await;
                }
                conn.query_drop("COMMIT").await?;
            }
        }
        Ok(cards)
    }

    /// Inserts rows, by one of the ways that there are.
    async fn insert(
        &self,
        conn: &mut Conn,
        rows: u64,
        format: Format,
        random: &mut fastrand::Rng,
    ) -> Result<Vec<Card>> {
        let (door, first, time) = (random.u32(100..200), new_card(random), random.u32(0..1_000_000));
        let cards = first..first + rows;
        let columns = "(doorno, rfsim, optime, ynopen)";
        let values = || {
            let row = |card| format!("({door},'{}','20261120 {time:06}','Y')", card_text(card));
            cards.clone().map(row).collect::<Vec<_>>().join(",")
        };
        let one = rows == 1;
        let sql = match random.u8(0..16) {
            0 => format!(
                "INSERT INTO vdooropen {columns} SELECT {door}, LPAD(HEX({first} + n), 16, '0'), '20261120 {time:06}', \
                 'Y' FROM numbers WHERE n < {rows} ORDER BY n"
            ),
            1 => format!("REPLACE INTO vdooropen {columns} VALUES {}", values()),
            2 => format!("INSERT INTO doors {columns} VALUES {}", values()),
            3 if one => format!("CALL swipe({door}, '{}')", card_text(first)),
            4 if one => format!("INSERT INTO readings (door, card) VALUES ({door}, '{}')", card_text(first)),
            5 => {
                let line = |card| format!("{door}\t{}\t20261120 {time:06}\tY\n", card_text(card));
                let file = self.folder.join(format!("{}.tsv", card_text(first)));
                fs::write(&file, cards.clone().map(line).collect::<String>())?;
                let sql = format!("LOAD DATA INFILE '{}' INTO TABLE vdooropen {columns}", file.display());
                let loaded = conn.query_drop(sql).await;
                fs::remove_file(&file)?;
                loaded?;
                return Ok(cards.collect());
            }
            6..11 if one && format == Format::Minimal => {
                let card = card_text(first);
                format!(
                    "INSERT INTO vdooropen (doorno, rfsim, optime) VALUES ({door},'{card}','20261120 {time:06}')"
                )
            }
            _ => format!("INSERT INTO vdooropen {columns} VALUES {}", values()),
        };
        conn.query_drop(sql).await?;
        Ok(cards.collect())
    }
}

/// Inserts a row in the plainest way.
///
/// # Errors
/// The server says no, or is not there.
pub(crate) async fn insert_through(conn: &mut Conn, door: u32, card: Card) -> Result<()> {
    let sql = format!(
        "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES ({door},'{}','20261120 071500','N')",
        card_text(card)
    );
    conn.query_drop(sql).await?;
    Ok(())
}
