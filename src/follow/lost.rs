//! Rows that can't be found any more: clients, the log and the metrics say so.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::Follower;

/// Statements that may have inserted nothing are said at most so often.
const SAID_EVERY: Duration = Duration::from_secs(60);

impl Follower {
    /// A transaction wrote rows, and they were not found.
    pub(super) fn rows_are_missing(&self, reason: &'static str) {
        let remedy = "so that it does not happen again: SET GLOBAL binlog_format=ROW; and binlog_format=ROW in the \
                      server's my.cnf; no transaction that is left open; no key that is given twice";
        warn!(reason, remedy, "rows may be missing");
        self.gap(reason);
    }

    /// Rows may be missing, by what was done to the server or to the table.
    pub(super) fn rows_may_be_missing(&self, reason: &'static str) {
        warn!(reason, "rows may be missing");
        self.gap(reason);
    }

    /// Tells clients and the metrics; the caller has told the log.
    pub(super) fn gap(&self, reason: impl Into<String>) {
        self.feed.mark_gap(reason.into());
        self.status.breaks.add(1);
    }

    /// So many statements for the table may have inserted nothing, and nothing was found.
    pub(super) fn found_nothing(&mut self, statements: usize) {
        if statements == 0 {
            return;
        }
        self.status.found_nothing.add(statements as u64);
        if self.said_nothing.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
            self.said_nothing = Some(Instant::now());
            let remedy = "if they inserted some: SET GLOBAL binlog_format=ROW; and binlog_format=ROW in the server's my.cnf";
            info!(statements, remedy, "no rows were found of statements that need not have inserted any");
        }
    }
}
