//! Rows that can't be found any more: clients, the log and the metrics say so.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Follower, sighted::REMOVED};

/// Statements that may have inserted nothing are said at most so often.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Why rows may be missing, and what to do.
pub(super) struct Missing {
    reason: &'static str,
    remedy: &'static str,
}

/// A table that was emptied, dropped or renamed away had rows of statements.
pub(super) const REMOVED_WITH_THE_TABLE: Missing = Missing {
    reason: REMOVED,
    remedy: "if the table was renamed, they are in it; so that it does not happen again: SET GLOBAL \
             binlog_format=ROW; and binlog_format=ROW in the server's my.cnf",
};

/// It had more rows that were not logged than are kept.
pub(super) const UNLOGGED_REMOVED: Missing = Missing {
    reason: "rows were not in the binlog, and removed before they could be read",
    remedy: "if the table was renamed, they are in it; so that it does not happen again: insert nothing with SET \
             sql_log_bin=0",
};

/// It was not compared with the binlog behind a crash.
pub(super) const REMOVED_AFTER_A_CRASH: Missing = Missing {
    reason: "the server crashed, and rows that its binlog lost were perhaps removed before they could be read",
    remedy: "if the table was renamed, they are in it; so that it does not happen again: sync_binlog=1 and \
             innodb_flush_log_at_trx_commit=1 in the server's my.cnf; empty the table only while doorcast follows",
};

/// Another table stands under the name, and the binlog can't tell what was in between.
pub(super) const REPLACED_UNSEEN: Missing = Missing {
    reason: "the table was replaced while the binlog position was lost",
    remedy: "so that it does not happen again: replace the table only while doorcast follows; in the server's my.cnf, \
             keep the binlog for longer than doorcast may be away: binlog_expire_logs_seconds, on older servers \
             expire_logs_days",
};

/// What was inserted before has no id that clients know.
pub(super) const UNREAD_BEFORE_ANOTHER_KEY: Missing = Missing {
    reason: "rows were inserted before another column became the key, and not read by then",
    remedy: "they are in the table; so that it does not happen again: change the key only while doorcast follows",
};

/// Somebody wants it so.
pub(super) const FROM_NOW_REMEDY: &str =
    "the rows are in the table; with --on-lost-position catch-up they are told";

impl Follower {
    /// A transaction wrote rows, and they were not found.
    pub(super) fn rows_are_missing(&self, reason: &'static str) {
        let remedy = "so that it does not happen again: SET GLOBAL binlog_format=ROW; and binlog_format=ROW in the \
                      server's my.cnf; no transaction that is left open; no key that is given twice";
        self.rows_may_be_missing(&Missing { reason, remedy });
    }

    /// Rows may be missing, by what was done to the server or to the table.
    pub(super) fn rows_may_be_missing(&self, Missing { reason, remedy }: &Missing) {
        warn!(reason, remedy, "rows may be missing");
        self.gap(*reason);
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
