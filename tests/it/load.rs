//! Swipes from many connections at a time, and what order they committed in by another decoder.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt, future::join_all};
use mysql_async::{
    BinlogStreamRequest, Conn, Opts, OptsBuilder,
    binlog::{events::EventData, value::BinlogValue},
    prelude::Queryable,
};
use tokio::sync::{Semaphore, watch};

use crate::deadline::deadline;

/// Connections that insert at the same time.
const WRITERS: usize = 8;

/// Inserts rows as told: `permits` bounds how far it may go, `done` counts committed rows.
pub(crate) struct Load {
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) done: watch::Receiver<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    /// Begins to insert `rows` rows: about half of them one by one, the others several in a statement or
    /// in a transaction, with rolled back ones (door 13) between.
    pub(crate) fn start(root_url: String, rows: usize) -> Load {
        let permits = Arc::new(Semaphore::new(0));
        let (count, done) = watch::channel(0);
        let allowed = Arc::clone(&permits);
        let task = tokio::spawn(async move {
            let left = AtomicUsize::new(rows);
            let writers = (0..WRITERS).map(|number| write(&root_url, number, &left, &allowed, &count));
            join_all(writers).await;
        });
        Load { permits, done, task }
    }

    /// Lets `rows` more be inserted.
    pub(crate) fn allow(&self, rows: usize) {
        self.permits.add_permits(rows);
    }

    /// Waits until `rows` rows are committed.
    pub(crate) async fn committed(&mut self, rows: usize) {
        deadline(self.done.wait_for(|done| *done >= rows)).await.unwrap();
    }

    pub(crate) async fn finish(self) {
        deadline(self.task).await.unwrap();
    }
}

async fn write(
    root_url: &str,
    number: usize,
    left: &AtomicUsize,
    permits: &Semaphore,
    count: &watch::Sender<usize>,
) {
    let mut conn = Conn::from_url(root_url).await.unwrap();
    let mut random = fastrand::Rng::with_seed(number as u64);
    loop {
        let wanted = if random.bool() { 1 } else { random.usize(2..=5) };
        let taken =
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(wanted)));
        let rows = taken.unwrap().min(wanted);
        if rows == 0 {
            return;
        }
        permits.acquire_many(rows as u32).await.unwrap().forget();
        let value = |door: usize| {
            format!("(NULL,{door},'C{:015}','20261120 0715{number:02}','Y')", random_card(door))
        };
        let values: Vec<String> = (0..rows).map(|row| value(row + 1)).collect();
        if rows == 1 {
            conn.query_drop(format!("INSERT INTO vdooropen VALUES {}", values[0])).await.unwrap();
        } else if random.bool() {
            conn.query_drop(format!("INSERT INTO vdooropen VALUES {}", values.join(","))).await.unwrap();
        } else {
            let mut sql = String::from("BEGIN;");
            if random.bool() {
                sql += &format!("INSERT INTO vdooropen VALUES {};ROLLBACK;BEGIN;", value(13));
            }
            for value in &values {
                sql += &format!(
                    "INSERT INTO vdooropen VALUES {value};INSERT INTO noise (t) VALUES ('-12:00:00');"
                );
            }
            if random.bool() {
                sql += &format!("SAVEPOINT a;INSERT INTO vdooropen VALUES {};ROLLBACK TO a;", value(13));
            }
            conn.query_drop(sql + "COMMIT").await.unwrap();
        }
        count.send_modify(|done| *done += rows);
    }
}

fn random_card(door: usize) -> u64 {
    door as u64 * 7_919
}

/// The keys of the table in commit order, as a bare binlog stream has them from the first file on, read
/// until the key `last`.
pub(crate) async fn commit_order(root_url: &str, database: &str, last: i64) -> Vec<i64> {
    let opts = OptsBuilder::from_opts(Opts::from_url(root_url).unwrap()).prefer_socket(false);
    let mut conn = Conn::new(opts).await.unwrap();
    let first: mysql_async::Row = conn.query_first("SHOW BINARY LOGS").await.unwrap().unwrap();
    let file: String = first.get(0).unwrap();
    // Below the ids that doorcast chooses, above those of the servers.
    let request =
        BinlogStreamRequest::new(fastrand::u32(1 << 20..1 << 30)).with_filename(file.as_bytes()).with_pos(4);
    let mut stream = conn.get_binlog_stream(request).await.unwrap();
    let mut keys = Vec::new();
    let read = async {
        while let Some(event) = stream.next().await {
            let event = event.unwrap();
            let Ok(Some(EventData::RowsEvent(rows))) = event.read_data() else { continue };
            let Some(map) = stream.get_tme(rows.table_id()) else { continue };
            if map.database_name() != database || map.table_name() != "vdooropen" {
                continue;
            }
            for row in rows.rows(map) {
                let (_, Some(after)) = row.unwrap() else { continue };
                let Some(BinlogValue::Value(mysql_async::Value::Int(key))) = after.as_ref(0) else {
                    panic!("no key")
                };
                keys.push(*key);
            }
            if keys.last() == Some(&last) {
                return;
            }
        }
    };
    deadline(read).await;
    stream.close().await.unwrap();
    keys
}
