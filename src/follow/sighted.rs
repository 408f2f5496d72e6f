//! Looks at the table, and what is made of them.
//!
//! A row whose key a statement got is read by that key, and told without delay. For other rows a look sees what
//! statements wrote, and beside it what the binlog is about to bring in the order of its commits. So what it saw is
//! told when the binlog has been read to where it ended behind the look, and only what has not come by then: on an
//! idle server that is at once.

use std::collections::HashMap;

use tokio::time::Instant;
use tracing::debug;

use super::{
    BATCH, Follower, apply::GIVEN_OUT_AGAIN, ended::Ended, looks::Reach, seed::rows_with, session::read_to,
};
use crate::{
    id::Key,
    link::{Server, binlog_end},
    row::EncodedRow,
    table::Table,
    tail::position::{FileOffset, Position},
};

/// Why rows that a look saw are missing.
pub(super) const REMOVED: &str = "rows were inserted by statements, and removed before they could be read";

/// Why rows are perhaps missing that no look saw.
pub(super) const DELETED: &str = "rows of a statement were perhaps deleted before they could be read";

/// Rows by which it is known which table a look saw.
const TOLD: usize = 100;

/// What the last look saw, until that is settled.
#[derive(Debug)]
pub(super) struct Sighted {
    began: Instant,
    /// Keys that were news, ascending.
    keys: Vec<Key>,
    /// Their rows, unless they are many: they may be deleted before they are told.
    rows: HashMap<Key, EncodedRow>,
    /// Where the binlog ended behind the look: what has not come up to there does not come by the binlog.
    until: FileOffset,
    /// When the newest transaction that was looked for committed, in Unix milliseconds.
    committed_ms: u64,
    /// Transactions that wrote rows, of which some must be among them.
    owed: usize,
    /// The table may be another one: asked once more, now that the binlog would have said so.
    in_doubt: bool,
}

impl Sighted {
    /// Whether the binlog has been read to where it ended then.
    fn is_reached(&self, position: Option<&Position>, heartbeat: Option<&FileOffset>) -> bool {
        read_to(position, heartbeat).is_some_and(|at| at.reaches(&self.until))
    }

    /// Transactions of which some rows must be among those that it saw.
    pub(super) fn owed(&self) -> usize {
        self.owed
    }

    /// When the look began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }
}

impl Follower {
    /// The binlog did not say which rows came: the table does. While an earlier look is not settled, only rows whose keys
    /// are known are looked for. `next` came by the binlog and is about to be told, behind what is found.
    pub(super) async fn look(
        &mut self,
        next: Option<&EncodedRow>,
        server: &Server,
        table: &mut Table,
    ) -> Result<(), Ended> {
        let began = Instant::now();
        if self.sighted.is_some() {
            self.looks.looked_by_key(began);
            return self.tell_named(next, server, table).await;
        }
        let most = self.keys.most_news();
        let reach = self.looks.reach(began);
        let mut ranges = match (self.looks.least_key(), reach) {
            (Some(key), _) if key < most.0 => self.keys.news_from(key),
            (_, Reach::Most) => vec![most],
            // What is below that is found by the sweep.
            (_, Reach::Near) => self.keys.near_news(),
            // Once at least for each transaction all that may be news, however old its key.
            (_, Reach::All) => self.keys.all_news(),
        };
        if reach == Reach::All && least(&ranges) > least(&self.keys.all_news()) {
            ranges = self.keys.all_news();
        }
        self.sight(ranges, began, 0, server, table).await?;
        // If it is, the whole of it is about to be told together.
        let is_reached =
            self.sighted.as_ref().is_some_and(|sighted| sighted.is_reached(self.position.as_ref(), None));
        if is_reached { Ok(()) } else { self.tell_named(next, server, table).await }
    }

    async fn sight(
        &mut self,
        ranges: Vec<(Key, Key)>,
        began: Instant,
        owed: usize,
        server: &Server,
        table: &mut Table,
    ) -> Result<(), Ended> {
        self.status.table_reads.add(1);
        let committed_ms = self.looks.committed_ms();
        let saw_all = self.looks.wants_all() && least(&ranges) <= least(&self.keys.all_news());
        let mut keys = self.news_in(ranges, table).await?;
        self.looks.looked(began, saw_all);
        debug!(rows = keys.len(), "looked at the table");
        if keys.is_empty() && owed == 0 && !self.looks.is_to_settle() {
            return Ok(());
        }
        let mut rows = HashMap::new();
        if keys.len() <= BATCH {
            rows = rows_with(&keys, table).await?;
            keys.retain(|key| rows.contains_key(key));
        }
        // Asked for behind the look: what the look saw stands before it.
        let until = binlog_end(table.conn(), server).await?.at;
        self.looks.look_ends_before(&until);
        self.sighted = Some(Sighted { began, keys, rows, until, committed_ms, owed, in_doubt: false });
        Ok(())
    }

    /// Tells rows whose keys are known, if they can only be those that were inserted under them.
    async fn tell_named(
        &mut self,
        next: Option<&EncodedRow>,
        server: &Server,
        table: &mut Table,
    ) -> Result<(), Ended> {
        let mut named: Vec<Key> = self.looks.open_keys().filter(|key| self.keys.is_news(*key)).collect();
        named.sort_unstable();
        named.dedup();
        let committed_ms = self.looks.committed_ms();
        for piece in named.chunks(BATCH) {
            let rows = self.rows_sighted(piece, table).await?;
            if !rows.is_empty() && !self.is_table_of_what_was_told(next, table).await? {
                break; // until the binlog has been read as far as the table
            }
            self.tell_ahead(rows, server, table, Some(committed_ms)).await?;
        }
        self.named_were_seen();
        Ok(())
    }

    fn named_were_seen(&mut self) {
        let (keys, sighted) = (&self.keys, self.sighted.as_ref());
        let has_seen = |key| sighted.is_some_and(|sighted| sighted.keys.binary_search(&key).is_ok());
        self.looks.seen(|key| !keys.is_news(key), has_seen, sighted.map(|sighted| &sighted.until));
    }

    /// The table has been emptied: tells what the last look saw of it, as far as it had been read. The binlog has brought
    /// all that it had of it.
    pub(super) async fn tell_sighted(&mut self) {
        self.named_were_seen();
        // It may have been the next table that the look saw, if none of its rows was told.
        let told = self.feed.latest(TOLD);
        let is_of_this = |sighted: &mut Sighted| {
            let seen = |key| sighted.rows.get(&key);
            told.iter().any(|told| seen(told.id().key).is_some_and(|row| told.agrees_with(row)))
        };
        let Some(Sighted { keys, mut rows, committed_ms, owed, .. }) = self.sighted.take_if(is_of_this)
        else {
            return;
        };
        let news: Vec<&Key> = keys.iter().filter(|key| self.keys.is_news(**key)).collect();
        let rest: Vec<EncodedRow> = news.iter().filter_map(|key| rows.remove(key)).collect();
        let are_all = rest.len() == news.len();
        if !are_all {
            self.looks.look_again(); // in vain: they had not been read
        }
        let found = self.tell(rest, Some(committed_ms)).await;
        if are_all {
            self.looks.told_all_seen(|key| !self.keys.is_news(key));
        }
        self.transactions_are_missing(owed.saturating_sub(found));
    }

    /// The binlog has been read to where it ended behind the last look, if it has: tells what was seen and has not
    /// come. Returns when the look began. `heartbeat` is the place of the last one on this connection.
    ///
    /// # Errors
    /// Those of the link, the server and the table.
    pub(super) async fn settle(
        &mut self,
        heartbeat: Option<&FileOffset>,
        server: &Server,
        table: &mut Table,
    ) -> Result<Option<Instant>, Ended> {
        let Some(sighted) = &self.sighted else { return Ok(None) };
        if !sighted.is_reached(self.position.as_ref(), heartbeat) {
            return Ok(None);
        }
        let (began, committed_ms, was_in_doubt) = (sighted.began, sighted.committed_ms, sighted.in_doubt);
        let mut lost = sighted.owed;
        let keys: Vec<Key> = sighted.keys.iter().copied().filter(|key| self.keys.is_news(*key)).collect();
        let are_kept = keys.iter().all(|key| sighted.rows.contains_key(key));
        let mut found = 0;
        for piece in keys.chunks(BATCH) {
            let rows = self.rows_sighted(piece, table).await?;
            // Another table may have taken its place since that look, and the binlog be about to say so.
            if !are_kept && self.is_another_table_by_now(table).await? {
                break;
            }
            found += self.tell(rows, Some(committed_ms)).await;
        }
        if found < keys.len() {
            self.rows_are_missing(REMOVED);
        }
        self.named_were_seen();
        self.sighted = None;
        let held = self.looks.hold().is_some();
        let keys = &self.keys;
        let outcome = self.looks.settled(|key| !keys.is_news(key));
        self.found_nothing(outcome.found_nothing);
        if outcome.may_have_lost {
            self.rows_are_missing(DELETED);
        }
        lost = lost.saturating_sub(found) + outcome.lost;
        let is_another = (outcome.in_doubt || was_in_doubt).then_some(was_in_doubt);
        if let Err(ended) = self.doubt(is_another, &mut lost, committed_ms, server, table).await {
            self.transactions_are_missing(lost);
            return Err(ended);
        }
        self.transactions_are_missing(lost);
        if held && self.looks.hold().is_none() && self.sighted.is_none() {
            debug!("looked for all that was to be found");
            // Otherwise a crash leads back before what was looked for, and rows that are told from now on are
            // found by looks, in another order than clients know.
            self.saver.save(self.checkpoint()).await;
        }
        Ok(Some(began))
    }

    /// If somebody has written to the table and nobody knows what, keys may be given out again: then its rows have keys
    /// that came before. `doubt` says whether that was asked before. Takes over those of `lost` that may be found yet.
    async fn doubt(
        &mut self,
        doubt: Option<bool>,
        lost: &mut usize,
        committed_ms: u64,
        server: &Server,
        table: &mut Table,
    ) -> Result<(), Ended> {
        let Some(asked_before) = doubt else { return Ok(()) };
        if table.greatest_key().await?.is_none() || self.has_told_rows(table).await? {
            return Ok(());
        }
        if asked_before {
            if !self.is_another_table_by_now(table).await? {
                return Ok(());
            }
            self.begin_epoch(GIVEN_OUT_AGAIN);
            self.sight(self.keys.all_news(), Instant::now(), *lost, server, table).await?;
            *lost = 0;
            return Ok(());
        }
        // Unless the binlog is about to say that it is another table.
        let until = binlog_end(table.conn(), server).await?.at;
        let (began, owed) = (Instant::now(), std::mem::take(lost));
        let (keys, rows) = (Vec::new(), HashMap::new());
        self.sighted = Some(Sighted { began, keys, rows, until, committed_ms, owed, in_doubt: true });
        Ok(())
    }

    pub(super) fn transactions_are_missing(&self, count: usize) {
        if count > 0 {
            self.rows_are_missing("rows of a transaction were not found in the table");
        }
    }

    /// What was seen can't be settled: its place is another server's, or it may have been another table.
    pub(super) fn look_again(&mut self) {
        let Some(sighted) = self.sighted.take() else { return };
        self.transactions_are_missing(sighted.owed);
        self.looks.look_again();
    }

    /// The rows with these keys, in key order; less if they were deleted since.
    async fn rows_sighted(&self, keys: &[Key], table: &mut Table) -> Result<Vec<EncodedRow>, Ended> {
        let kept = |key: &Key| self.sighted.as_ref().and_then(|sighted| sighted.rows.get(key));
        let others: Vec<Key> = keys.iter().copied().filter(|key| kept(key).is_none()).collect();
        if !others.is_empty() {
            self.status.table_reads.add(1);
        }
        let mut rows = rows_with(&others, table).await?;
        Ok(keys.iter().filter_map(|key| kept(key).cloned().or_else(|| rows.remove(key))).collect())
    }
}

/// The least key in `ranges`, which ascend.
fn least(ranges: &[(Key, Key)]) -> Option<Key> {
    ranges.first().map(|(first, _)| *first)
}
