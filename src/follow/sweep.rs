//! The table compared with what the binlog brought: rows that were not logged are found by nothing else.

use std::collections::{HashMap, HashSet};

use tracing::{debug, warn};

use super::{BATCH, Follower, ended::Ended, seed::rows_with};
use crate::{
    id::Key,
    link::{Server, binlog_end},
    row::EncodedRow,
    table::{Table, TableError},
    tail::position::FileOffset,
};

/// Keys that the table has and the binlog has not brought.
#[derive(Debug)]
pub(super) struct Unlogged {
    keys: HashSet<Key>,
    /// Where the binlog ended when they had been seen: what has not come up to there was not logged.
    until: FileOffset,
    /// The rows, unless they are many: the table may be emptied before they are told.
    rows: HashMap<Key, EncodedRow>,
    /// What was not logged, and had gone when it was to be told: deleted, or the binlog is about to say that the
    /// table was emptied.
    gone: Vec<Key>,
    /// The end of the binlog had been lost by then: when they have been told, nothing of that is missing.
    is_behind_the_loss: bool,
}

impl Follower {
    /// Compares the table with what the binlog brought. A row that is there, and has not come when the binlog
    /// has been read to where it ended then, was not logged. Not so before: a large transaction takes its
    /// time to come, and so does everything behind it.
    pub(super) async fn sweep(&mut self, server: &Server, table: &mut Table) -> Result<(), Ended> {
        if self.keys.begins_with_the_next() {
            return Ok(());
        }
        if !self.has_reached_unlogged() {
            debug!("the binlog is still to bring what the table had");
            return Ok(());
        }
        let mut news: HashSet<Key> = match self.news_in(self.keys.all_news(), table).await {
            Err(TableError::Server(mysql_async::Error::Server(err))) => {
                // Somebody holds a lock on the table: then nothing is inserted, either.
                debug!(error = %err, "the table was not compared with the binlog this time");
                return Ok(());
            }
            news => news?.into_iter().collect(),
        };
        if let (false, Some(position)) = (news.is_empty(), &self.position) {
            let end = binlog_end(table.conn(), server).await?;
            if position.at.is_known() && !end.at.reaches(&position.at) {
                // The server still sends the file that was, and nothing comes there any more.
                let message =
                    format!("the binlog was reset: it ends at {end}, and was read up to {position}");
                return Err(Ended::Passing(message.into()));
            }
        }
        let mut unlogged: Vec<Key> = Vec::new();
        let mut gone: Vec<Key> = Vec::new();
        let mut is_end_known = false;
        if let Some(before) = self.unlogged.take() {
            let is_there = |key: &Key| before.rows.contains_key(key) || news.contains(key);
            let keys = before.keys.iter().filter(|key| self.keys.is_news(**key));
            (unlogged, gone) = keys.partition(|key| is_there(key));
            news.retain(|key| !before.keys.contains(key));
            is_end_known = before.is_behind_the_loss;
            // Until they have been told: this may end in an error.
            self.unlogged = Some(Unlogged { gone: gone.clone(), ..before });
        }
        if !unlogged.is_empty() {
            let mut rows = Vec::new();
            let mut read = Vec::new();
            for key in unlogged {
                match self.unlogged.as_ref().and_then(|unlogged| unlogged.rows.get(&key)) {
                    Some(row) => rows.push(row.clone()),
                    None => match table.rows_between(key - 1, key, 1).await?.pop() {
                        Some(row) => read.push(row),
                        None => gone.push(key),
                    },
                }
            }
            // Another table may have taken its place meanwhile, and the binlog be about to say so.
            if !read.is_empty() && self.is_another_table_by_now(table).await? {
                gone.extend(read.drain(..).map(|row| row.key));
            }
            rows.append(&mut read);
            rows.sort_unstable_by_key(|row| row.key);
            let found = self.tell_ahead(rows, server, table, None).await?;
            self.say_unlogged(found);
        }
        // What the end of the binlog should have brought has been told.
        self.end_lost &= !gone.is_empty() || !is_end_known && !news.is_empty();
        self.unlogged = self.to_be_told(news, gone, server, table).await?;
        Ok(())
    }

    /// What the next comparison tells of what is in the table, unless the binlog brings it before.
    async fn to_be_told(
        &self,
        keys: HashSet<Key>,
        gone: Vec<Key>,
        server: &Server,
        table: &mut Table,
    ) -> Result<Option<Unlogged>, Ended> {
        // A large transaction's keys take many megabytes: not kept when all came.
        if keys.is_empty() && gone.is_empty() {
            return Ok(None);
        }
        let few: Vec<Key> = if keys.len() > BATCH { Vec::new() } else { keys.iter().copied().collect() };
        // Without them there are still the keys.
        let rows = rows_with(&few, table).await.unwrap_or_default();
        // Asked for behind the look: what the look saw stands before it.
        let until = binlog_end(table.conn(), server).await?.at;
        debug!(rows = keys.len(), %until, "the table has rows that the binlog did not bring yet");
        Ok(Some(Unlogged { keys, rows, until, gone, is_behind_the_loss: self.end_lost }))
    }

    /// The server lost the end of a binlog file, perhaps.
    pub(super) fn end_is_lost(&mut self) {
        self.end_lost = true;
        if let Some(unlogged) = &mut self.unlogged {
            unlogged.is_behind_the_loss = false;
        }
    }

    fn say_unlogged(&self, found: usize) {
        if found == 0 {
            return;
        }
        warn!(
            rows = found,
            "rows are in the table that the binlog did not bring, they are told now. Does somebody insert with \
             SET sql_log_bin=0?"
        );
        self.status.unlogged.add(found as u64);
    }

    /// The table has been emptied: tells what was not logged, as far as it had been read. Returns whether there was
    /// more.
    pub(super) fn tell_unlogged(&mut self) -> bool {
        let certain = self.has_read_unlogged();
        let Some(Unlogged { keys, mut rows, gone, is_behind_the_loss, .. }) = self.unlogged.take() else {
            return false;
        };
        self.end_lost &= !(certain && is_behind_the_loss);
        let mut missed: Vec<Key> = if certain { keys.into_iter().collect() } else { Vec::new() };
        missed.extend(gone);
        missed.retain(|key| self.keys.is_news(*key));
        missed.sort_unstable();
        let kept: Vec<EncodedRow> = missed.iter().filter_map(|key| rows.remove(key)).collect();
        let more = kept.len() < missed.len();
        if !kept.is_empty() {
            let found = kept.len();
            self.record(&kept);
            self.publish(kept, None);
            self.say_unlogged(found);
        }
        more
    }

    /// Whether the binlog has been read to where it ended when the last sweep found rows, if it did.
    fn has_reached_unlogged(&self) -> bool {
        // By GTID alone the place is not known before the first commit.
        let is_known = self.position.as_ref().is_some_and(|position| position.at.is_known());
        self.unlogged.is_none() || !is_known || self.has_read_unlogged()
    }

    /// On a new connection a place on the one before says nothing, perhaps it is another server's. What was to be read
    /// up to there, and was not, is looked for anew.
    pub(super) fn keep_certainly_unlogged(&mut self) {
        let read = self.has_read_unlogged();
        let Some(mut unlogged) = self.unlogged.take() else { return };
        if !read {
            unlogged.keys.clear();
            unlogged.rows.clear();
            unlogged.is_behind_the_loss = false;
        }
        if let Some(position) = self.position.as_ref().filter(|_| read || !unlogged.gone.is_empty()) {
            unlogged.until.clone_from(&position.at);
            self.unlogged = Some(unlogged);
        }
    }

    /// Whether the last sweep found rows, and the binlog has certainly been read to where it ended then.
    pub(super) fn has_read_unlogged(&self) -> bool {
        let at = self.position.as_ref().map(|position| &position.at).filter(|at| at.is_known());
        at.zip(self.unlogged.as_ref()).is_some_and(|(at, unlogged)| at.reaches(&unlogged.until))
    }
}
