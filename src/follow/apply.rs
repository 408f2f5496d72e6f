//! What a commit does to the feed and to what is known: rows, looks at the table, new layouts, new
//! epochs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tracing::{debug, info, warn};

use super::{Ahead, Follower, session::Ended};
use crate::{
    id::Key,
    link::{Server, binlog_end, describe},
    row::EncodedRow,
    table::{SchemaError, Table},
    tail::{
        Commit, Reread, TableChange, Tail,
        position::{FileOffset, Position},
    },
};

/// Rows of one SELECT.
const BATCH: usize = 500;

/// Keys below the greatest that a look compares; [`super::keys`] says how far below it begins.
const WINDOW: usize = super::keys::OVERLAP as usize;

/// A server sends a commit before its own SELECTs see it: how long to wait between looks that find
/// nothing though there must be something.
const LOOKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(75)];

impl Ahead {
    /// The binlog has been read up to `at`.
    pub(super) fn passed(&mut self, at: &FileOffset) {
        if self.until.as_ref().is_some_and(|until| at.reaches(until)) {
            *self = Ahead::default();
        }
    }
}

impl Follower {
    /// Takes over a committed transaction. Nothing of it is told twice if this ends in an error and the
    /// transaction comes again.
    pub(super) async fn apply(
        &mut self,
        commit: Commit,
        tail: &mut Tail,
        table: &mut Table,
    ) -> Result<(), Ended> {
        if let Some(change) = commit.change {
            self.table_changed(change, tail, table).await?;
        }
        let decoded: Vec<Key> = match commit.reread {
            Some(_) => commit.rows.iter().map(|row| row.key).collect(),
            None => Vec::new(),
        };
        if !commit.rows.is_empty() {
            self.publish(commit.rows, commit.committed_ms, table).await?;
        }
        if let Some(why) = commit.reread {
            // If the look fails the whole transaction comes again, with the rows that have been told.
            self.ahead.keys.extend(decoded);
            self.ahead.until = None;
            self.look(why, commit.committed_ms, table).await?;
            if self.ahead.until.is_none() {
                self.ahead.until = tail.at().cloned();
            }
        }
        if let (Some(gtid), Some(position)) = (commit.gtid, &mut self.position)
            && let Some(set) = &mut position.gtid_set
        {
            set.insert(gtid);
        }
        Ok(())
    }

    /// Publishes the rows of one transaction of the binlog, less those that a look brought already.
    async fn publish(
        &mut self,
        mut rows: Vec<EncodedRow>,
        committed_ms: u64,
        table: &mut Table,
    ) -> Result<(), Ended> {
        let came_again =
            |row: &EncodedRow| !self.keys.is_news(row.key) && !self.ahead.keys.contains(&row.key);
        if rows.iter().any(came_again) {
            self.key_came_again(table).await?;
        }
        if !self.ahead.keys.is_empty() {
            rows.retain(|row| !self.ahead.keys.remove(&row.key));
        }
        self.hand_on(rows, Some(committed_ms));
        Ok(())
    }

    /// Rows to the feed, their keys to what is known.
    fn hand_on(&mut self, rows: Vec<EncodedRow>, committed_ms: Option<u64>) {
        if rows.is_empty() {
            return;
        }
        for row in &rows {
            self.keys.record(row.key);
            if row.replaced > 0 {
                self.status.undecodable.add(u64::from(row.replaced));
            }
        }
        self.status.rows.add(rows.len() as u64);
        self.feed.publish(self.keys.epoch(), committed_ms, rows);
    }

    /// A key that is known was inserted once more. Either a REPLACE, which is told again; or keys start
    /// over after a DELETE and a restart or an ALTER: then the table's greatest key is below ours.
    async fn key_came_again(&mut self, table: &mut Table) -> Result<(), Ended> {
        let greatest = table.greatest_key().await?;
        if greatest < self.keys.greatest() {
            self.begin_epoch("keys are given out again");
        }
        Ok(())
    }

    fn begin_epoch(&mut self, reason: &'static str) {
        self.keys.begin_epoch();
        self.ahead = Ahead::default();
        self.feed.begin_epoch(self.keys.epoch());
        info!(epoch = self.keys.epoch(), reason, "keys start over");
    }

    /// A DDL statement named the table.
    async fn table_changed(
        &mut self,
        change: TableChange,
        tail: &mut Tail,
        table: &mut Table,
    ) -> Result<(), Ended> {
        match table.reload().await {
            Ok(()) => {
                tail.set_layout(Arc::clone(table.layout()));
                self.feed.set_columns(Arc::clone(table.layout().names()));
            }
            Err(SchemaError::Server(err)) => return Err(SchemaError::Server(err).into()),
            Err(err) => {
                // Dropped or renamed away; whatever comes under the name will say so itself.
                warn!(error = %err, "the table can't be read for now");
                if change != TableChange::Emptied {
                    return Ok(());
                }
            }
        }
        if self.keys.greatest().is_none() {
            return Ok(());
        }
        match change {
            TableChange::Layout => debug!("the table's layout was read again"),
            TableChange::Emptied => self.begin_epoch("the table was emptied"),
            TableChange::Swapped => {
                if table.greatest_key().await? < self.keys.greatest() {
                    self.begin_epoch("another table stands under the name");
                }
            }
        }
        Ok(())
    }

    /// The binlog does not say which rows came: the table does.
    async fn look(&mut self, why: Reread, committed_ms: u64, table: &mut Table) -> Result<(), Ended> {
        self.status.table_reads.add(1);
        if why == Reread::Layout {
            // The DDL may have been one that did not name the table.
            table.reload().await?;
        }
        let mut found = 0;
        for wait in LOOKS {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            found = self.read_news(table, Some(committed_ms)).await?;
            if found > 0 || !why.names_table() {
                break;
            }
        }
        debug!(reason = why.reason(), rows = found, "looked at the table");
        if found > 0 {
            let server = describe(table.conn()).await?;
            let end = binlog_end(table.conn(), &server).await?;
            self.ahead.until = Some(end.at);
        }
        Ok(())
    }

    /// The position was lost: whatever the table has and we have not told comes now.
    pub(super) async fn catch_up(&mut self, table: &mut Table, server: &Server) -> Result<(), Ended> {
        self.status.table_reads.add(1);
        let greatest = table.greatest_key().await?;
        if greatest < self.keys.greatest() {
            // Another life of the table, for instance a restored backup: none of our keys mean anything.
            self.begin_epoch("the table's keys are below those that were told");
            self.feed
                .mark_gap("the table's keys have started over while the binlog position was lost".into());
            self.status.gaps.add(1);
            let rows = table.latest(self.settings.history).await?;
            return self.seed(rows, table).await;
        }
        let found = self.read_news(table, None).await?;
        let end = binlog_end(table.conn(), server).await?;
        self.ahead.until = Some(end.at);
        info!(rows = found, "read the missing rows from the table");
        Ok(())
    }

    /// Publishes every row of the table that is news, in key order. Returns how many.
    async fn read_news(&mut self, table: &mut Table, committed_ms: Option<u64>) -> Result<usize, Ended> {
        let mut found = 0;
        let mut after = self.keys.look_after();
        if let Some(greatest) = self.keys.greatest() {
            let keys = table.keys_between(after, greatest, WINDOW).await?;
            let late: Vec<Key> = keys.into_iter().filter(|key| self.keys.is_news(*key)).collect();
            for key in late {
                let rows = table.rows_between(key - 1, key, 1).await?;
                found += self.hand_on_ahead(rows, committed_ms);
            }
            after = greatest;
        }
        loop {
            let rows = table.rows_after(after, BATCH).await?;
            let Some(last) = rows.last() else { return Ok(found) };
            after = last.key;
            found += self.hand_on_ahead(rows, committed_ms);
        }
    }

    /// Rows that the binlog may bring again.
    fn hand_on_ahead(&mut self, rows: Vec<EncodedRow>, committed_ms: Option<u64>) -> usize {
        let count = rows.len();
        if count > 0 {
            self.ahead.keys.extend(rows.iter().map(|row| row.key));
            self.ahead.until = None;
            self.hand_on(rows, committed_ms);
        }
        count
    }

    /// First start: the feed's history is the end of the table.
    pub(super) async fn seed_from_table(&mut self, table: &mut Table, end: &Position) -> Result<(), Ended> {
        let rows = table.latest(self.settings.history).await?;
        self.seed(rows, table).await?;
        // What committed between the end of the binlog and the SELECT comes by both ways.
        let server = describe(table.conn()).await?;
        let now = binlog_end(table.conn(), &server).await?;
        if now.at != end.at {
            self.ahead.keys = self.keys.recent().collect();
            self.ahead.until = Some(now.at);
        }
        Ok(())
    }

    /// Rows in key order become the feed's history.
    async fn seed(&mut self, rows: Vec<EncodedRow>, table: &mut Table) -> Result<(), Ended> {
        let older = match rows.first() {
            Some(first) => Some(first.key - 1),
            None => table.greatest_key().await?, // no history is wanted, or the table is empty
        };
        if let Some(through) = older {
            self.keys.set_older_through(through);
            self.feed.mark_older(through);
        }
        self.hand_on(rows, None);
        Ok(())
    }

    /// A restart: the feed's history is the recent keys, in the order in which they were committed.
    pub(super) async fn seed_from_checkpoint(&mut self, table: &mut Table) -> Result<(), Ended> {
        if self.keys.epoch() > 1 {
            self.feed.begin_epoch(self.keys.epoch());
        }
        if let Some(through) = self.keys.older_through() {
            self.feed.mark_older(through);
        }
        let keys: Vec<Key> = self.keys.recent().collect();
        let (Some(least), Some(greatest)) = (keys.iter().min(), keys.iter().max()) else { return Ok(()) };
        let (mut after, through) = (least - 1, *greatest);
        let mut rows: HashMap<Key, EncodedRow> = HashMap::with_capacity(keys.len());
        loop {
            let batch = table.rows_between(after, through, BATCH).await?;
            let Some(last) = batch.last() else { break };
            after = last.key;
            rows.extend(batch.into_iter().map(|row| (row.key, row)));
        }
        // Those that were deleted since are no history any more; those that are not among the recent keys
        // are still to come.
        let history = keys.iter().filter_map(|key| rows.remove(key)).collect();
        self.feed.publish(self.keys.epoch(), None, history);
        Ok(())
    }
}
