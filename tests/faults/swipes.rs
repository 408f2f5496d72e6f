//! The load: four connections that insert all the time, whatever becomes of the server.

use std::{
    collections::{HashMap, HashSet},
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

/// How two of the four sessions have their changes logged; the others always as rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Format {
    Row,
    Statement,
    Mixed,
}

/// The writers.
pub(crate) struct Swipes {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    root_url: String,
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
    pub(crate) acknowledged: HashMap<i64, Instant>,
    /// Rows that must come through the binlog, so in its order.
    pub(crate) by_binlog: HashSet<i64>,
}

impl Swipes {
    /// Begins to insert.
    pub(crate) fn start(root_url: String, mut random: fastrand::Rng) -> Swipes {
        let shared = Arc::new(Shared {
            root_url,
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

    pub(crate) fn set_format(&self, format: Format) {
        self.shared.format.store(format as u8, SeqCst);
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
    pub(crate) fn acknowledged(&self, key: i64) {
        self.shared.written.lock().unwrap().acknowledged.insert(key, Instant::now());
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
                    Ok(keys) => {
                        let certain = window.is_multiple_of(2) && self.window.load(SeqCst) == window;
                        let now = Instant::now();
                        let mut written = self.written.lock().unwrap();
                        written.acknowledged.extend(keys.iter().map(|key| (*key, now)));
                        written.by_binlog.extend(keys.iter().filter(|_| certain));
                    }
                    // The server is down. Whether the transaction was committed, the table will say.
                    Err(_) => session = None,
                }
            }
            tokio::time::sleep(Duration::from_millis(random.u64(10..60))).await;
        }
    }

    /// One transaction, and the keys of its rows.
    async fn transaction(
        &self,
        session: &mut Option<(Conn, u8)>,
        number: usize,
        random: &mut fastrand::Rng,
    ) -> Result<Vec<i64>> {
        let (conn, format) = match session {
            Some(session) => session,
            None => {
                let opts = OptsBuilder::from_opts(Opts::from_url(&self.root_url)?).prefer_socket(false);
                session.insert((Conn::new(opts).await?, u8::MAX))
            }
        };
        let wanted = if number.is_multiple_of(2) { self.format.load(SeqCst) } else { 0 };
        if *format != wanted {
            let name = ["ROW", "STATEMENT", "MIXED"][usize::from(wanted)];
            conn.query_drop(format!("SET SESSION binlog_format = {name}")).await?;
            *format = wanted;
        }
        let mut keys = Vec::new();
        match random.u8(0..10) {
            0..5 => keys.extend(insert(conn, 1, random).await?),
            5..7 => {
                let rows = random.i64(2..6);
                keys.extend(insert(conn, rows, random).await?);
            }
            _ => {
                conn.query_drop("BEGIN").await?;
                if random.u8(0..4) == 0 {
                    insert_through(conn, ROLLED_BACK, 1, random).await?;
                    conn.query_drop("ROLLBACK").await?;
                    conn.query_drop("BEGIN").await?;
                }
                for _ in 0..random.usize(1..4) {
                    keys.extend(insert(conn, 1, random).await?);
                    // Now and then so long that a fault is over before the commit.
                    let pause = if random.u8(0..20) == 0 { 800 } else { 30 };
                    tokio::time::sleep(Duration::from_millis(random.u64(0..pause))).await;
                }
                conn.query_drop("COMMIT").await?;
            }
        }
        Ok(keys)
    }
}

async fn insert(conn: &mut Conn, rows: i64, random: &mut fastrand::Rng) -> Result<Vec<i64>> {
    let door = random.u32(100..200);
    insert_through(conn, door, rows, random).await
}

async fn insert_through(
    conn: &mut Conn,
    door: u32,
    rows: i64,
    random: &mut fastrand::Rng,
) -> Result<Vec<i64>> {
    let values: Vec<String> = (0..rows)
        .map(|_| {
            let (card, time) = (random.u64(..), random.u32(0..1_000_000));
            format!("(NULL,{door},'{card:016X}','20261120 {time:06}','Y')")
        })
        .collect();
    conn.query_drop(format!("INSERT INTO vdooropen VALUES {}", values.join(","))).await?;
    // The keys of one statement are consecutive, and this is the first.
    let first = i64::try_from(conn.last_insert_id().unwrap_or_default())?;
    Ok((first..first + rows).collect())
}
