//! Rows that the table tells and the binlog does not: after statements, in a sweep, at a lost position.

use std::collections::HashSet;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{BATCH, Follower, Unlogged, ended::Ended, keys::OVERLAP, looks::Reach, seed::rows_with};
use crate::{
    id::Key,
    link::{Server, binlog_end},
    row::EncodedRow,
    table::{Table, TableError},
};

/// Keys of one SELECT. More than there are in most looks, so that a look is one SELECT as a rule.
const PAGE: usize = 5000;

/// So many keys a look reads for transactions that need not have written to the table.
const NEAR: Key = 4 * OVERLAP;

/// How often a look reads what takes more than one SELECT: see [`Follower::read_news`].
const PASSES: usize = 3;

impl Follower {
    /// The binlog did not say which rows came: the table does.
    pub(super) async fn look(&mut self, server: &Server, table: &mut Table) -> Result<(), Ended> {
        self.status.table_reads.add(1);
        let began = Instant::now();
        let committed_ms = Some(self.looks.committed_ms());
        let most = self.keys.most_news();
        let ranges = match (self.looks.least_key(), self.looks.reach(began)) {
            (Some(key), _) if key < most.0 => self.keys.news_from(key),
            (_, Reach::Most) => vec![most],
            // What is below that is found by the sweep.
            (_, Reach::Near) => self.keys.latest_news(NEAR),
            // Once for each transaction all that may be news, however old its key.
            (_, Reach::All) => self.keys.all_news(),
        };
        let mut found = self.read_news(ranges, PASSES, server, table, committed_ms).await?;
        let held = self.looks.hold().is_some();
        let keys = &self.keys;
        let outcome = self.looks.looked(began, |key| !keys.is_news(key));
        let mut lost = outcome.lost;
        if outcome.in_doubt && table.greatest_key().await?.is_some() && !self.is_same_table(table).await? {
            // Its rows have keys that came before.
            self.begin_epoch("keys are given out again");
            let anew = self.read_news(self.keys.all_news(), PASSES, server, table, committed_ms).await?;
            found += anew;
            lost = lost.saturating_sub(anew);
        }
        for _ in 0..lost {
            self.rows_are_missing("rows of a transaction were not found in the table");
        }
        self.found_nothing(outcome.found_nothing);
        if held && self.looks.hold().is_none() {
            debug!("looked for all that was to be found");
            // Otherwise a crash leads back before what was looked for, and rows that are told from now on are
            // found by looks, in another order than clients know.
            self.saver.save(self.checkpoint()).await;
        }
        debug!(rows = found, "looked at the table");
        Ok(())
    }

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
        let mut news: HashSet<Key> = HashSet::new();
        for range in self.keys.all_news() {
            let mut rest = Some(range);
            while let Some((first, last)) = rest {
                let page = match table.keys_in(first, last, PAGE).await {
                    Err(TableError::Server(mysql_async::Error::Server(err))) => {
                        // Somebody holds a lock on the table: then nothing is inserted, either.
                        debug!(error = %err, "the table was not compared with the binlog this time");
                        return Ok(());
                    }
                    page => page?,
                };
                news.extend(page.iter().filter(|key| self.keys.is_news(**key)));
                rest = behind((first, last), &page);
            }
        }
        if let (false, Some(position)) = (news.is_empty(), &self.position) {
            let end = binlog_end(table.conn(), server).await?;
            if position.at.is_known() && !end.at.reaches(&position.at) {
                // The server still sends the file that was, and nothing comes there any more.
                let message =
                    format!("the binlog was reset: it ends at {end}, and was read up to {position}");
                return Err(Ended::Passing(message.into()));
            }
        }
        let before = self.unlogged.take();
        let is_first = before.is_none();
        let mut gone: Vec<Key> = Vec::new();
        let mut unlogged: Vec<Key> = Vec::new();
        if let Some(before) = before {
            let is_there = |key: &Key| before.rows.contains_key(key) || news.contains(key);
            let keys = before.keys.iter().filter(|key| self.keys.is_news(**key));
            (unlogged, gone) = keys.partition(|key| is_there(key));
            // Until they have been told: this may end in an error.
            self.unlogged = Some(Unlogged { gone: gone.clone(), ..before });
        }
        // What the end of the binlog should have brought is known.
        self.end_lost &= is_first && !news.is_empty();
        if unlogged.is_empty() && news.is_empty() {
            return Ok(());
        }
        if unlogged.is_empty() {
            let few: Vec<Key> = if news.len() > BATCH { Vec::new() } else { news.iter().copied().collect() };
            // Without them there are still the keys.
            let rows = rows_with(&few, table).await.unwrap_or_default();
            // Asked for behind the look: what the look saw stands before it.
            let until = binlog_end(table.conn(), server).await?.at;
            debug!(rows = news.len(), %until, "the table has rows that the binlog did not bring yet");
            self.unlogged = Some(Unlogged { keys: news, rows, until, gone });
            return Ok(());
        }
        unlogged.sort_unstable();
        let mut rows = Vec::new();
        for key in unlogged {
            match self.unlogged.as_ref().and_then(|unlogged| unlogged.rows.get(&key)) {
                Some(row) => rows.push(row.clone()),
                None => rows.extend(table.rows_between(key - 1, key, 1).await?),
            }
        }
        let found = self.tell_ahead(rows, server, table, None).await?;
        self.say_unlogged(found);
        Ok(())
    }

    fn say_unlogged(&self, found: usize) {
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
        let Some(Unlogged { keys, mut rows, gone, .. }) = self.unlogged.take() else { return false };
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
        self.unlogged = self.unlogged.take().filter(|_| read);
        if let (Some(unlogged), Some(position)) = (&mut self.unlogged, &self.position) {
            unlogged.until.clone_from(&position.at);
        }
    }

    /// Whether the last sweep found rows, and the binlog has certainly been read to where it ended then.
    pub(super) fn has_read_unlogged(&self) -> bool {
        let at = self.position.as_ref().map(|position| &position.at).filter(|at| at.is_known());
        at.zip(self.unlogged.as_ref()).is_some_and(|(at, unlogged)| at.reaches(&unlogged.until))
    }

    /// The position was lost: whatever the table has and we have not told comes now.
    pub(super) async fn catch_up(&mut self, table: &mut Table, server: &Server) -> Result<(), Ended> {
        self.status.table_reads.add(1);
        let is_another = self.is_another_table(table).await? || !self.is_same_table(table).await?;
        if self.keys.greatest().is_some() && is_another {
            // Another life of the table, for instance a restored backup: no key says what is missing.
            self.end_lost = false;
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
        let again = self.given_out_again(table).await?;
        if !again.is_empty() {
            self.keys.forget(&again);
            self.renumber("the server gave out keys again whose rows were told: did it lose power?");
        }
        if !self.told_is_known {
            self.renumber("doorcast was killed, and then the position was lost");
        }
        // What is committed meanwhile comes by the binlog.
        let found = self.read_news(self.keys.all_news(), 1, server, table, None).await?;
        info!(rows = found, "read the missing rows from the table");
        Ok(())
    }

    /// After a kill nobody knows which rows were told last, and in which order, and now the binlog does not
    /// tell, either. With new ids for what comes now, a client that had some of those rows is told of a gap
    /// and gets all of them; others go on as ever.
    fn renumber(&mut self, reason: &'static str) {
        self.keys.renumber();
        self.feed.begin_epoch(self.keys.epoch());
        if let Some(greatest) = self.keys.greatest() {
            self.feed.mark_older(greatest);
        }
        self.told_is_known = true;
        warn!(
            epoch = self.keys.epoch(),
            reason, "clients that have rows of the last second before get them again"
        );
    }

    /// Tells every row of the table in `ranges` that is news, in key order. Returns how many.
    ///
    /// The keys come first, as many in one SELECT as may be: it sees all rows of a transaction, or none. What has
    /// been seen in a later one may have come before it in the order of keys, and is looked for again, in so many
    /// `passes` at most: others go on inserting.
    async fn read_news(
        &mut self,
        ranges: Vec<(Key, Key)>,
        passes: usize,
        server: &Server,
        table: &mut Table,
        committed_ms: Option<u64>,
    ) -> Result<usize, Ended> {
        let mut found = 0;
        for _ in 0..passes {
            let before = found;
            let mut selects = 0;
            for range in &ranges {
                let mut rest = Some(*range);
                while let Some((first, last)) = rest {
                    let page = table.keys_in(first, last, PAGE).await?;
                    selects += 1;
                    found += self.tell_news_of(&page, server, table, committed_ms).await?;
                    rest = behind((first, last), &page);
                }
            }
            if selects <= 1 || found == before {
                break;
            }
        }
        Ok(found)
    }

    /// The rows with those keys of `page` that are news.
    async fn tell_news_of(
        &mut self,
        page: &[Key],
        server: &Server,
        table: &mut Table,
        committed_ms: Option<u64>,
    ) -> Result<usize, Ended> {
        let mut found = 0;
        let mut rows = Vec::new();
        for (first, through) in stretches(page, |key| self.keys.is_news(key)) {
            let mut after = first - 1;
            while after < through {
                let batch = table.rows_between(after, through, BATCH).await?;
                let Some(last) = batch.last() else { break };
                after = last.key;
                rows.extend(batch.into_iter().filter(|row| self.keys.is_news(row.key)));
                if rows.len() >= BATCH {
                    found += self.tell_ahead(std::mem::take(&mut rows), server, table, committed_ms).await?;
                }
            }
        }
        Ok(found + self.tell_ahead(rows, server, table, committed_ms).await?)
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
        self.looks.found();
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
}

/// What is left of a range behind a page that was read of it: nothing, if it is the last.
fn behind(range: (Key, Key), page: &[Key]) -> Option<(Key, Key)> {
    let last = page.last().filter(|_| page.len() == PAGE)?;
    Some((last.saturating_add(1), range.1)).filter(|(first, last)| first <= last)
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

    #[test]
    fn the_next_page_begins_behind_the_last() {
        let page: Vec<Key> = (1..=PAGE as Key).collect();
        let end = PAGE as Key;
        assert_eq!(behind((1, Key::MAX), &page), Some((end + 1, Key::MAX)));
        assert_eq!(behind((1, end), &page), None);
        assert_eq!(behind((1, Key::MAX), &page[1..]), None);
    }
}
