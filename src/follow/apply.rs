//! What a commit does to the feed and to what is known: rows, looks at the table, new layouts, new
//! epochs.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;
use tracing::{debug, info};

use super::{
    Ahead, Follower,
    ended::Ended,
    history::Newest,
    looks::Wanted,
    lost::{REMOVED_AFTER_A_CRASH, REMOVED_WITH_THE_TABLE, UNLOGGED_REMOVED},
    sample,
    seed::rows_with,
};
use crate::{
    id::{EventId, Key},
    link::Server,
    row::EncodedRow,
    table::Table,
    tail::{Commit, Expected, Reread, TableChange, Tail, position::FileOffset},
};

/// Why an epoch begins, or ids are new.
pub(super) const GIVEN_OUT_AGAIN: &str = "keys are given out again";

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
        mut commit: Commit,
        tail: &mut Tail,
        server: &Server,
        table: &mut Table,
    ) -> Result<(), Ended> {
        // Whatever can fail comes before anything is told.
        if let Some(change) = commit.change {
            self.table_changed(change, tail, server, table).await?;
        }
        if commit.reread == Some(Reread::Layout) {
            // Perhaps the statement that changed it did not name the table.
            self.reload(TableChange::Swapped, tail, server, table).await?;
        }
        if !commit.rows.is_empty() {
            let next = commit.rows.iter().find(|row| !self.ahead.keys.contains(&row.key));
            // Their rows committed before these. As the first of a table, what was found may have waited for one of these.
            let waits =
                self.feed.latest(1).is_empty() && self.looks.open_keys().any(|key| self.keys.is_news(key));
            if waits || self.looks.has_unlooked(self.sighted.is_some()) {
                self.look(next, server, table).await?;
            }
            self.check_for_restart_of_keys(&commit, table).await?;
        }
        // Before this one's own: what a transaction deletes itself was never there.
        if commit.may_delete {
            self.looks.deleted(tail.at());
        }
        self.xa_phase(&mut commit);
        // If the keys of its statements came, and not by a look, the whole transaction did: unless they are given out once
        // more.
        let mut known =
            !commit.insert_ids.is_empty() && commit.insert_ids.iter().all(|key| !self.keys.is_news(*key));
        let read_ahead = commit.insert_ids.iter().any(|key| self.ahead.keys.contains(key));
        let came_before = |key: &Key| !self.keys.is_news(*key) && !self.ahead.keys.contains(key);
        let again: Vec<Key> = commit.insert_ids.iter().copied().filter(came_before).collect();
        // Beside keys that are new, one of a statement alone: images say what was replaced.
        let may_be_given_again = known && !read_ahead || commit.reread == Some(Reread::Statement);
        if !again.is_empty() && may_be_given_again {
            if self.is_another_table_by_now(table).await? {
                self.begin_epoch(GIVEN_OUT_AGAIN);
                known = false;
            } else {
                known &= !self.forget_given_out_again(&again, false, table).await?;
            }
        }
        let mut told = known && !read_ahead && commit.expected == Expected::Nothing;
        let is_forgotten = |key: &Key| self.keys.is_forgotten(*key) && !self.ahead.keys.contains(key);
        let is_xa = commit.reread == Some(Reread::XaCommit);
        if !is_xa && commit.insert_ids.iter().any(is_forgotten) {
            self.rows_are_missing(
                "rows that must be looked for were inserted by a transaction that was open for very long",
            );
        }
        if told && commit.reread == Some(Reread::Statement) {
            // Or a trigger of another table gave the key: looked for without one.
            commit.insert_ids.clear();
            told = false;
        }
        if let (Some(why), Some(before), false) = (commit.reread, &self.position, told) {
            debug!(reason = why.reason(), "the table is to tell which rows came");
            // What has been read ahead may be what it wrote.
            let most = if self.ahead.keys.is_empty() { Expected::Rows } else { Expected::Perhaps };
            let expected = commit.expected.min(most);
            let keys = Wanted {
                keys: commit.insert_ids,
                are_certain: commit.are_ids_certain,
                may_have_more: commit.may_have_more,
            };
            self.looks.ask(why, keys, expected, before.clone(), commit.committed_ms);
        }
        if !commit.rows.is_empty() {
            let mut rows = commit.rows;
            if !self.ahead.keys.is_empty() {
                let told: Vec<EncodedRow>;
                (told, rows) = rows.into_iter().partition(|row| self.ahead.keys.remove(&row.key));
                // A restart may meet them once more, before what is being looked for.
                self.looks.told(told.iter().map(|row| row.key));
            }
            let again: HashSet<Key> =
                rows.iter().map(|row| row.key).filter(|key| !self.keys.is_news(*key)).collect();
            self.record(&rows);
            let may_come_at_once = self.looks.open_keys().any(|key| self.keys.is_news(key));
            if let (true, Some(at)) = (may_come_at_once, tail.at()) {
                // After a crash what is looked for by its key would be found, and told, before these.
                self.saver.save(self.checkpoint_through(at)).await;
            }
            // One that has another in its place is there before its commit is shown.
            if let Some(last) = rows.iter().rev().find(|row| !again.contains(&row.key)) {
                let id = EventId { epoch: self.keys.epoch(), key: last.key };
                self.newest.send_replace(Some(Newest { id, came: Instant::now() }));
            }
            self.publish_some_again(rows, Some(commit.committed_ms), &again);
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
    pub(super) fn record(&mut self, rows: &[EncodedRow]) {
        self.looks.told(rows.iter().map(|row| row.key));
        for row in rows {
            self.keys.record(row.key);
            if row.replaced > 0 {
                self.status.undecodable.add(u64::from(row.replaced));
            }
        }
    }

    /// Recorded rows to the feed.
    pub(super) fn publish(&self, rows: Vec<EncodedRow>, committed_ms: Option<u64>) {
        self.publish_some_again(rows, committed_ms, &HashSet::new());
    }

    /// The same where some keys came before.
    fn publish_some_again(&self, rows: Vec<EncodedRow>, committed_ms: Option<u64>, again: &HashSet<Key>) {
        if !rows.is_empty() {
            self.status.rows.add(rows.len() as u64);
            let again = |key| again.contains(&key);
            self.feed.publish_some_again(self.keys.epoch(), committed_ms, rows, again);
        }
    }

    /// A key that is known may be inserted once more. Either it is a REPLACE, which is told again; or keys
    /// start over, after a DELETE and a restart or an ALTER.
    async fn check_for_restart_of_keys(&mut self, commit: &Commit, table: &mut Table) -> Result<(), Ended> {
        let came_again = |key: &Key| !self.keys.is_news(*key) && !self.ahead.keys.contains(key);
        let again: Vec<Key> = commit.rows.iter().map(|row| row.key).filter(came_again).collect();
        if again.is_empty() {
            return Ok(());
        }
        if self.is_another_table_by_now(table).await? {
            self.begin_epoch(GIVEN_OUT_AGAIN);
        } else if !commit.deleted {
            self.forget_given_out_again(&again, true, table).await?;
        }
        Ok(())
    }

    /// `keys` that came before were given to other rows, in the table whose rows were told, if they are `certain` to have
    /// been; or else if it has other rows under them than those that were told. As a server gives a key again only where
    /// none behind it is left, whatever has gone or is another row behind them is news, too, under new ids. Whether
    /// there is any.
    async fn forget_given_out_again(
        &mut self,
        keys: &[Key],
        certain: bool,
        table: &mut Table,
    ) -> Result<bool, Ended> {
        let told = self.told_by_key();
        let is_another = |key: &Key, there: &HashMap<Key, EncodedRow>| {
            let Some(now) = there.get(key) else { return true };
            told.get(key).is_some_and(|told| !told.agrees_with(now))
                || self.sample.as_ref().is_some_and(|sample| sample::has_another(sample, now))
        };
        // Nobody knows of others whether they came.
        let keys: Vec<Key> = keys.iter().copied().filter(|key| self.keys.has_come(*key)).collect();
        let there = rows_with(&keys, table).await?;
        let Some(first) = keys.iter().filter(|key| certain || is_another(key, &there)).min() else {
            return Ok(false);
        };
        let behind: Vec<Key> = self.keys.recent().filter(|key| key >= first).collect();
        let there = rows_with(&behind, table).await?;
        let mut again: HashSet<Key> = behind.into_iter().filter(|key| is_another(key, &there)).collect();
        again.extend(keys.iter().filter(|_| certain));
        self.keys.forget(&again);
        self.renumber();
        info!(epoch = self.keys.epoch(), reason = GIVEN_OUT_AGAIN, "the rows to come have new ids");
        Ok(true)
    }

    pub(super) fn begin_epoch(&mut self, reason: &'static str) {
        let unlogged = self.tell_unlogged();
        self.keys.begin_epoch();
        self.ahead = Ahead::default();
        self.sample = None;
        self.look_again();
        let by_statements = self.looks.give_up();
        let end_lost = std::mem::take(&mut self.end_lost);
        if by_statements || unlogged || end_lost {
            self.rows_may_be_missing(if by_statements {
                &REMOVED_WITH_THE_TABLE
            } else if unlogged {
                &UNLOGGED_REMOVED
            } else {
                &REMOVED_AFTER_A_CRASH
            });
        }
        self.newest.send_replace(None);
        self.feed.begin_epoch(self.keys.epoch());
        info!(epoch = self.keys.epoch(), reason, "keys start over");
    }

    /// A DDL statement named the table.
    async fn table_changed(
        &mut self,
        change: TableChange,
        tail: &mut Tail,
        server: &Server,
        table: &mut Table,
    ) -> Result<(), Ended> {
        if !self.reload(change, tail, server, table).await? && change != TableChange::Emptied {
            return Ok(());
        }
        if self.keys.greatest().is_none() && !self.looks.has_ours() {
            return Ok(());
        }
        match change {
            TableChange::Layout => {}
            TableChange::Counter => {
                if !self.has_told_rows(table).await? {
                    self.tell_sighted().await;
                    self.begin_epoch(GIVEN_OUT_AGAIN);
                }
            }
            TableChange::Emptied => {
                self.tell_sighted().await;
                self.begin_epoch("the table was emptied");
            }
            TableChange::Swapped => {
                // While nothing was told nobody knows.
                let in_doubt = self.feed.latest(1).is_empty() && self.looks.has_ours();
                if in_doubt || !self.is_same_table(table).await? {
                    self.tell_sighted().await;
                    self.begin_epoch("another table stands under the name");
                }
            }
        }
        Ok(())
    }
}
