//! What a commit does to the feed and to what is known: rows, looks at the table, new layouts, new
//! epochs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Ahead, Follower, session::Ended};
use crate::{
    id::Key,
    link::{Server, binlog_end},
    row::EncodedRow,
    table::{SchemaError, Table, TableError},
    tail::{
        Commit, Reread, TableChange, Tail,
        position::{FileOffset, Position},
    },
};

/// Rows of one SELECT.
const BATCH: usize = 500;

/// Keys of one SELECT. More than a look's window, so that a look is one SELECT as a rule.
const PAGE: usize = 5000;

/// Rows by which a table is known again.
const SAMPLE: usize = 8;

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
        server: &Server,
        table: &mut Table,
    ) -> Result<(), Ended> {
        // Whatever can fail comes before anything is told.
        if let Some(change) = commit.change {
            self.table_changed(change, tail, table).await?;
        }
        if commit.reread == Some(Reread::Layout) {
            // Perhaps the statement that changed it did not name the table.
            self.reload(tail, table).await?;
        }
        if !commit.rows.is_empty() {
            if self.looks.has_unlooked() {
                // Their rows committed before these.
                self.look(server, table).await?;
            }
            self.check_for_restart_of_keys(&commit.rows, table).await?;
        }
        // If the keys of its statements have been told, the whole transaction has been.
        let told =
            !commit.insert_ids.is_empty() && commit.insert_ids.iter().all(|key| !self.keys.is_news(*key));
        if let (Some(why), Some(before), false) = (commit.reread, &self.position, told) {
            debug!(reason = why.reason(), "the table is to tell which rows came");
            self.looks.ask(why.names_table(), commit.insert_ids, before.clone(), commit.committed_ms);
        }
        if !commit.rows.is_empty() {
            let mut rows = commit.rows;
            if !self.ahead.keys.is_empty() {
                rows.retain(|row| !self.ahead.keys.remove(&row.key));
            }
            self.record(&rows);
            if let (Some(_), Some(at)) = (self.looks.hold(), tail.at()) {
                // After a crash those that are looked for would be found, and told, before these.
                self.saver.save(self.checkpoint_through(at)).await;
            }
            self.publish(rows, Some(commit.committed_ms));
        }
        if let (Some(gtid), Some(position)) = (commit.gtid, &mut self.position)
            && let Some(set) = &mut position.gtid_set
        {
            set.insert(gtid);
        }
        self.looks.passed();
        Ok(())
    }

    /// Takes down rows that are about to be told.
    fn record(&mut self, rows: &[EncodedRow]) {
        self.looks.told(rows.iter().map(|row| row.key));
        for row in rows {
            self.keys.record(row.key);
            if row.replaced > 0 {
                self.status.undecodable.add(u64::from(row.replaced));
            }
        }
    }

    /// Recorded rows to the feed.
    fn publish(&self, rows: Vec<EncodedRow>, committed_ms: Option<u64>) {
        if !rows.is_empty() {
            self.status.rows.add(rows.len() as u64);
            self.feed.publish(self.keys.epoch(), committed_ms, rows);
        }
    }

    /// A key that is known may be inserted once more. Either it is a REPLACE, which is told again; or keys
    /// start over, after a DELETE and a restart or an ALTER.
    async fn check_for_restart_of_keys(
        &mut self,
        rows: &[EncodedRow],
        table: &mut Table,
    ) -> Result<(), Ended> {
        let came_again =
            |row: &EncodedRow| !self.keys.is_news(row.key) && !self.ahead.keys.contains(&row.key);
        if rows.iter().any(came_again) && !self.is_same_table(table).await? {
            self.begin_epoch("keys are given out again");
        }
        Ok(())
    }

    /// Whether the table still is the one whose rows were told last: it goes as far, and has one of them,
    /// as it was told. A row may have been deleted or changed since, but hardly all of them.
    async fn is_same_table(&mut self, table: &mut Table) -> Result<bool, Ended> {
        if table.greatest_key().await? < self.keys.greatest() {
            return Ok(false);
        }
        let sample = self.feed.latest(SAMPLE);
        if sample.is_empty() {
            return Ok(true); // nothing speaks against it
        }
        for told in sample {
            let key = told.id().key;
            let there = table.rows_between(key - 1, key, 1).await?;
            if there.first().is_some_and(|row| told.agrees_with(row)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn begin_epoch(&mut self, reason: &'static str) {
        self.keys.begin_epoch();
        self.ahead = Ahead::default();
        self.unlogged.clear();
        if self.looks.give_up() {
            let reason = "rows were inserted by statements, and removed before they could be read";
            warn!(reason, "rows are lost");
            self.feed.mark_gap(reason.into());
            self.status.breaks.add(1);
        }
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
        if !self.reload(tail, table).await? && change != TableChange::Emptied {
            return Ok(());
        }
        if self.keys.greatest().is_none() {
            return Ok(());
        }
        match change {
            TableChange::Layout => debug!("the table's layout was read again"),
            TableChange::Emptied => self.begin_epoch("the table was emptied"),
            TableChange::Swapped => {
                if !self.is_same_table(table).await? {
                    self.begin_epoch("another table stands under the name");
                }
            }
        }
        Ok(())
    }

    /// Reads the layout again. `false` if the table can't be read for now: dropped or renamed away, and
    /// whatever comes under the name will say so itself.
    async fn reload(&mut self, tail: &mut Tail, table: &mut Table) -> Result<bool, Ended> {
        match table.reload().await {
            Ok(()) => {
                tail.set_layout(Arc::clone(table.layout()));
                self.feed.set_columns(Arc::clone(table.layout().names()));
                Ok(true)
            }
            Err(err @ SchemaError::Server(_)) => Err(err.into()),
            Err(err) => {
                warn!(error = %err, "the table can't be read for now");
                Ok(false)
            }
        }
    }

    /// The binlog did not say which rows came: the table does.
    pub(super) async fn look(&mut self, server: &Server, table: &mut Table) -> Result<(), Ended> {
        self.status.table_reads.add(1);
        let began = Instant::now();
        let found = self.read_news(server, table, Some(self.looks.committed_ms())).await?;
        let keys = &self.keys;
        self.looks.looked(began, |key| !keys.is_news(key));
        debug!(rows = found, "looked at the table");
        Ok(())
    }

    /// Compares the table with what the binlog brought, while it brings nothing. A row that was there the
    /// last time too, and still has not come, was not logged.
    pub(super) async fn sweep(&mut self, server: &Server, table: &mut Table) -> Result<(), Ended> {
        if self.keys.begins_with_the_next() {
            return Ok(());
        }
        let keys = match table.keys_between(self.keys.look_after(), Key::MAX, PAGE).await {
            Err(TableError::Server(mysql_async::Error::Server(err))) => {
                // Somebody holds a lock on the table: then nothing is inserted, either.
                debug!(error = %err, "the table was not compared with the binlog this time");
                return Ok(());
            }
            keys => keys?,
        };
        let news: HashSet<Key> = keys.into_iter().filter(|key| self.keys.is_news(*key)).collect();
        let mut unlogged: Vec<Key> = news.intersection(&self.unlogged).copied().collect();
        self.unlogged = news;
        if !unlogged.is_empty() {
            unlogged.sort_unstable();
            let mut rows = Vec::new();
            for key in unlogged {
                rows.extend(table.rows_between(key - 1, key, 1).await?);
            }
            let found = self.tell_ahead(rows, server, table, None).await?;
            warn!(
                rows = found,
                "rows are in the table that the binlog did not bring, they are told now. Does somebody insert with \
                 SET sql_log_bin=0?"
            );
            self.status.unlogged.add(found as u64);
            self.unlogged.clear();
        }
        Ok(())
    }

    /// The position was lost: whatever the table has and we have not told comes now.
    pub(super) async fn catch_up(&mut self, table: &mut Table, server: &Server) -> Result<(), Ended> {
        self.status.table_reads.add(1);
        if self.keys.greatest().is_some() && !self.is_same_table(table).await? {
            // Another life of the table, for instance a restored backup: no key says what is missing.
            self.begin_epoch("the table does not have the rows that were told");
            let reason = "the table was replaced while the binlog position was lost";
            warn!(reason, "rows may be missing");
            self.feed.mark_gap(reason.into());
            self.status.breaks.add(1);
            if let Some(greatest) = table.greatest_key().await? {
                self.keys.set_older_through(greatest);
                self.feed.mark_older(greatest);
            }
            return Ok(());
        }
        if !self.told_is_known {
            self.renumber();
        }
        let found = self.read_news(server, table, None).await?;
        info!(rows = found, "read the missing rows from the table");
        Ok(())
    }

    /// After a kill nobody knows which rows were told last, and in which order, and now the binlog does not
    /// tell, either. With new ids for what comes now, a client that had some of those rows is told of a gap
    /// and gets all of them; others go on as ever.
    fn renumber(&mut self) {
        self.keys.renumber();
        self.feed.begin_epoch(self.keys.epoch());
        if let Some(greatest) = self.keys.greatest() {
            self.feed.mark_older(greatest);
        }
        self.told_is_known = true;
        warn!(
            epoch = self.keys.epoch(),
            "doorcast was killed, and then the position was lost: clients that have rows of the last second before \
             get them again"
        );
    }

    /// Tells every row of the table that is news, in key order. Returns how many.
    ///
    /// The keys come first, a page in one SELECT: it sees all rows of a transaction, or none.
    async fn read_news(
        &mut self,
        server: &Server,
        table: &mut Table,
        committed_ms: Option<u64>,
    ) -> Result<usize, Ended> {
        let mut found = 0;
        let mut after = self.keys.look_after();
        loop {
            let page = table.keys_between(after, Key::MAX, PAGE).await?;
            let Some(last) = page.last().copied() else { break };
            let mut rows = Vec::new();
            for (first, through) in stretches(&page, |key| self.keys.is_news(key)) {
                let mut after = first - 1;
                while after < through {
                    let batch = table.rows_between(after, through, BATCH).await?;
                    let Some(last) = batch.last() else { break };
                    after = last.key;
                    rows.extend(batch.into_iter().filter(|row| self.keys.is_news(row.key)));
                    if rows.len() >= BATCH {
                        found +=
                            self.tell_ahead(std::mem::take(&mut rows), server, table, committed_ms).await?;
                    }
                }
            }
            found += self.tell_ahead(rows, server, table, committed_ms).await?;
            after = last;
            if page.len() < PAGE {
                break;
            }
        }
        Ok(found)
    }

    /// Tells rows that the binlog may bring again. Returns how many.
    async fn tell_ahead(
        &mut self,
        rows: Vec<EncodedRow>,
        server: &Server,
        table: &mut Table,
        committed_ms: Option<u64>,
    ) -> Result<usize, Ended> {
        if rows.is_empty() {
            return Ok(0);
        }
        let end = binlog_end(table.conn(), server).await?;
        self.ahead.keys.extend(rows.iter().map(|row| row.key));
        self.ahead.until = Some(end.at);
        self.record(&rows);
        // A look after a crash finds others beside them, and would tell all in another order than clients
        // know.
        self.saver.save(self.checkpoint()).await;
        let found = rows.len();
        self.publish(rows, committed_ms);
        Ok(found)
    }

    /// First start: the feed's history is the end of the table.
    pub(super) async fn seed_from_table(
        &mut self,
        table: &mut Table,
        server: &Server,
        end: &Position,
    ) -> Result<(), Ended> {
        let rows = table.latest(self.settings.history).await?;
        self.seed(rows, table).await?;
        // What committed between the end of the binlog and the SELECT comes by both ways.
        let now = binlog_end(table.conn(), server).await?;
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
        self.record(&rows);
        self.publish(rows, None);
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

/// The first and the last of each stretch of `keys` that is news without a break.
fn stretches(keys: &[Key], is_news: impl Fn(Key) -> bool) -> Vec<(Key, Key)> {
    keys.chunk_by(|a, b| is_news(*a) == is_news(*b))
        .filter_map(|stretch| Some((*stretch.first()?, *stretch.last()?)))
        .filter(|(first, _)| is_news(*first))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_of_news_are_read_at_once() {
        let odd_and_low = |key: Key| key < 5 || key % 2 == 1;
        assert_eq!(stretches(&[1, 3, 4, 6, 7, 8, 9, 11], odd_and_low), [(1, 4), (7, 7), (9, 11)]);
        assert_eq!(stretches(&[], odd_and_low), []);
        assert_eq!(stretches(&[6, 8], odd_and_low), []);
    }
}
