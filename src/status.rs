//! What the process is doing, in words and numbers, for `/readyz`, `/api/status` and `/metrics`.
//!
//! Written by [`crate::follow`] and the HTTP side, read by the HTTP side. Holds no row value and no
//! secret.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use serde::Serialize;

/// The state of the link to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Not connected yet, or connecting again.
    Connecting,
    /// Connected, and reading what was committed before the connection.
    CatchingUp,
    /// Connected and up to date.
    Following,
    /// Not connected: a person must act. [`Source::problem`] says what to do.
    Blocked,
}

/// The followed server as it is now. Times are Unix milliseconds, `None` before the first.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// See [`Link`].
    pub link: Link,
    /// Flavour and version, as the server says it.
    pub server: Option<String>,
    /// `database.table`.
    pub table: String,
    /// `FILE:OFFSET` of the last commit that was taken over.
    pub position: Option<String>,
    /// GTID set of the last commit, where the server has one.
    pub gtid_set: Option<String>,
    /// When any event came last.
    pub last_event_ms: Option<u64>,
    /// When a heartbeat came last.
    pub last_heartbeat_ms: Option<u64>,
    /// Why the link is down, and what to do.
    pub problem: Option<String>,
    /// When the checkpoint was last written.
    pub checkpoint_saved_ms: Option<u64>,
    /// Why the checkpoint could not be written.
    pub checkpoint_problem: Option<String>,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Shared by the whole process.
#[derive(Debug)]
pub struct Status {
    source: Mutex<Source>,
    /// Rows handed to the feed.
    pub rows: Counter,
    /// Times the link was lost.
    pub reconnects: Counter,
    /// Gaps that clients were told of.
    pub gaps: Counter,
    /// Bytes of text columns that did not decode, see DESIGN §6.
    pub undecodable: Counter,
    /// Reads of the table that replaced the binlog (statements, compression, lost position).
    pub table_reads: Counter,
    /// Rows that were found in the table and never came by the binlog.
    pub unlogged: Counter,
    /// Statements for the table that need not have inserted rows, and of which none were found.
    pub found_nothing: Counter,
    /// Times that rows may have been lost at the source; each is a gap to every client.
    pub breaks: Counter,
    /// Failed attempts to write the checkpoint.
    pub checkpoint_failures: Counter,
}

impl Status {
    /// A process that has not connected yet. `table` is `database.table`.
    pub fn new(table: String) -> Self {
        Status {
            source: Mutex::new(Source {
                link: Link::Connecting,
                server: None,
                table,
                position: None,
                gtid_set: None,
                last_event_ms: None,
                last_heartbeat_ms: None,
                problem: None,
                checkpoint_saved_ms: None,
                checkpoint_problem: None,
            }),
            rows: Counter::default(),
            reconnects: Counter::default(),
            gaps: Counter::default(),
            undecodable: Counter::default(),
            table_reads: Counter::default(),
            unlogged: Counter::default(),
            found_nothing: Counter::default(),
            breaks: Counter::default(),
            checkpoint_failures: Counter::default(),
        }
    }

    /// A copy of the source's state.
    pub fn source(&self) -> Source {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the source's state.
    pub fn update(&self, change: impl FnOnce(&mut Source)) {
        change(&mut self.source.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Now, as Unix milliseconds.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
