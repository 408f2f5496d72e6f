//! A private server with the demo's table, and swipes in its binlog.

use anyhow::{Context, Result};
use doorcast::{
    demo::{binary::ServerBinary, server::PrivateServer},
    tail::position::FileOffset,
};
use mysql_async::{Conn, Row, prelude::Queryable};

pub(crate) const DATABASE: &str = "doors";
pub(crate) const TABLE: &str = "vdooropen";
/// Who logs in, everywhere. Not root: mysql_cdc can't do without a password.
pub(crate) const USER: &str = "bench";
pub(crate) const PASSWORD: &str = "swipe";
const TABLE_SQL: &str = include_str!("../../migrations/0001_vdooropen.up.sql");

/// The disk is not what is measured; and all events in one file, so that an offset says where the end is.
const OPTIONS: [&str; 4] = [
    "--innodb-flush-log-at-trx-commit=0",
    "--sync-binlog=0",
    "--max-binlog-size=1073741824",
    "--innodb-buffer-pool-size=256M",
];

/// Connections that insert side by side, and INSERTs in one packet.
const WRITERS: u32 = 4;
const AT_ONCE: u32 = 200;

pub(crate) struct Source {
    pub(crate) server: PrivateServer,
}

impl Source {
    pub(crate) async fn start(binary: ServerBinary) -> Result<Source> {
        let server = PrivateServer::start(binary, &OPTIONS).await?;
        let mut root = server.root(None).await?;
        for sql in [
            &format!("CREATE DATABASE {DATABASE}"),
            &format!("USE {DATABASE}"),
            TABLE_SQL,
            &format!("CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'"),
            &format!("GRANT ALL ON *.* TO {USER}@'127.0.0.1'"),
        ] {
            root.query_drop(sql).await?;
        }
        root.disconnect().await?;
        Ok(Source { server })
    }

    /// Over TCP, as the measured programs connect.
    pub(crate) fn url(&self) -> String {
        format!("mysql://{USER}:{PASSWORD}@127.0.0.1:{}/{DATABASE}", self.server.port())
    }

    /// Where the binlog ends now.
    pub(crate) async fn end(&self) -> Result<FileOffset> {
        let mut conn = Conn::from_url(self.url()).await?;
        // MySQL since 8.2, then all the others.
        let row: Option<Row> = match conn.query_first("SHOW BINARY LOG STATUS").await {
            Ok(row) => row,
            Err(_) => conn.query_first("SHOW MASTER STATUS").await?,
        };
        conn.disconnect().await?;
        let (file, offset) = row.and_then(|row| Some((row.get(0)?, row.get(1)?))).context("no binlog")?;
        Ok(FileOffset { file, offset })
    }

    /// Inserts `rows` rows, each in a transaction of its own, as fast as it goes.
    pub(crate) async fn fill(&self, rows: u32) -> Result<()> {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let share = rows / WRITERS + u32::from(writer < rows % WRITERS);
            writers.push(tokio::spawn(insert(Conn::from_url(self.url()).await?, writer, share)));
        }
        for writer in writers {
            writer.await??;
        }
        Ok(())
    }
}

async fn insert(mut conn: Conn, writer: u32, rows: u32) -> Result<()> {
    let mut left = rows;
    while left > 0 {
        let packet: Vec<String> = (0..left.min(AT_ONCE)).map(|n| swipe("NULL", writer * rows + n)).collect();
        left -= left.min(AT_ONCE);
        conn.query_drop(packet.join(";")).await.context("inserting")?;
    }
    conn.disconnect().await?;
    Ok(())
}

/// An INSERT as an access-control system sends it. `key` is a number or NULL.
pub(crate) fn swipe(key: &str, number: u32) -> String {
    let (door, second) = (number % 12 + 1, number % 60);
    let opened = if number.is_multiple_of(16) { 'N' } else { 'Y' };
    let card = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!(
        "INSERT INTO {TABLE} VALUES ({key}, {door}, '{card:016X}', '20261120 0715{second:02}', '{opened}')"
    )
}
