//! Looks at the table, and what is made of them.
//!
//! A row whose key a statement got is read by that key, and told without delay. For other rows a look sees what
//! statements wrote, and beside it what the binlog is about to bring in the order of its commits. So what it saw is
//! told when the binlog has been read to where it ended behind the look, and only what has not come by then: on an
//! idle server that is at once.

use std::collections::HashMap;

use tokio::time::Instant;
use tracing::debug;

use super::{BATCH, Follower, ended::Ended, keys::OVERLAP, looks::Reach, seed::rows_with};
use crate::{
    id::Key,
    link::{Server, binlog_end},
    row::EncodedRow,
    table::Table,
    tail::position::FileOffset,
};

/// So many keys a look reads for transactions that need not have written to the table.
const NEAR: Key = 4 * OVERLAP;

/// Why rows that a look saw are missing.
pub(super) const REMOVED: &str = "rows were inserted by statements, and removed before they could be read";

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
    /// Transactions of an epoch that has just begun, of which rows must be among them.
    owed: usize,
}

impl Follower {
    /// The binlog did not say which rows came: the table does. While an earlier look is not settled, only rows whose keys
    /// are known are looked for.
    pub(super) async fn look(&mut self, server: &Server, table: &mut Table) -> Result<(), Ended> {
        let began = Instant::now();
        if self.sighted.is_some() {
            self.looks.looked_by_key(began);
            return self.tell_named(server, table).await;
        }
        let most = self.keys.most_news();
        let ranges = match (self.looks.least_key(), self.looks.reach(began)) {
            (Some(key), _) if key < most.0 => self.keys.news_from(key),
            (_, Reach::Most) => vec![most],
            // What is below that is found by the sweep.
            (_, Reach::Near) => self.keys.latest_news(NEAR),
            // Once for each transaction all that may be news, however old its key.
            (_, Reach::All) => self.keys.all_news(),
        };
        self.sight(ranges, began, 0, server, table).await?;
        self.tell_named(server, table).await
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
        let mut keys = self.news_in(ranges, table).await?;
        self.looks.looked(began);
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
        self.sighted = Some(Sighted { began, keys, rows, until, committed_ms, owed });
        Ok(())
    }

    /// Tells rows whose keys are known.
    async fn tell_named(&mut self, server: &Server, table: &mut Table) -> Result<(), Ended> {
        let mut named: Vec<Key> = self.looks.open_keys().filter(|key| self.keys.is_news(*key)).collect();
        named.sort_unstable();
        named.dedup();
        if !named.is_empty() {
            let committed_ms = self.looks.committed_ms();
            let rows = self.rows_sighted(&named, table).await?;
            self.tell_ahead(rows, server, table, Some(committed_ms)).await?;
        }
        self.named_were_seen();
        Ok(())
    }

    fn named_were_seen(&mut self) {
        let (keys, sighted) = (&self.keys, &self.sighted);
        let sighted = |key| sighted.as_ref().is_some_and(|sighted| sighted.keys.binary_search(&key).is_ok());
        self.looks.seen(|key| !keys.is_news(key), sighted);
    }

    /// The table has been emptied: tells what the last look saw of it, as far as it had been read. The binlog has brought
    /// all that it had of it.
    pub(super) fn tell_sighted(&mut self) {
        self.named_were_seen();
        // If none of them has come since, it may have been the next table that the look saw.
        let is_of_this = self
            .sighted
            .as_ref()
            .is_some_and(|sighted| sighted.keys.iter().any(|key| !self.keys.is_news(*key)));
        let Some(Sighted { keys, mut rows, committed_ms, .. }) = self.sighted.take_if(|_| is_of_this) else {
            return;
        };
        let rest: Vec<Key> = keys.into_iter().filter(|key| self.keys.is_news(*key)).collect();
        let kept: Vec<EncodedRow> = rest.iter().filter_map(|key| rows.remove(key)).collect();
        let more = kept.len() < rest.len();
        self.record(&kept);
        self.publish(kept, Some(committed_ms));
        if more {
            self.rows_are_missing(REMOVED);
        }
    }

    /// The binlog has been read to where it ended behind the last look, if it has: tells what was seen and has not
    /// come. Returns when the look began.
    pub(super) async fn settle(
        &mut self,
        server: &Server,
        table: &mut Table,
    ) -> Result<Option<Instant>, Ended> {
        let at = self.position.as_ref().map(|position| &position.at).filter(|at| at.is_known());
        let Some(sighted) = &self.sighted else { return Ok(None) };
        if !at.is_some_and(|at| at.reaches(&sighted.until)) {
            return Ok(None);
        }
        let (began, owed, committed_ms) = (sighted.began, sighted.owed, sighted.committed_ms);
        let keys: Vec<Key> = sighted.keys.iter().copied().filter(|key| self.keys.is_news(*key)).collect();
        let mut found = 0;
        for piece in keys.chunks(BATCH) {
            let rows = self.rows_sighted(piece, table).await?;
            found += self.tell(rows, Some(committed_ms)).await;
        }
        self.named_were_seen();
        self.sighted = None;
        if found < keys.len() {
            self.rows_are_missing(REMOVED);
        }
        for _ in found..owed {
            self.rows_are_missing("rows of a transaction were not found in the table");
        }
        let held = self.looks.hold().is_some();
        let keys = &self.keys;
        let outcome = self.looks.settled(|key| !keys.is_news(key));
        self.found_nothing(outcome.found_nothing);
        if outcome.in_doubt && table.greatest_key().await?.is_some() && !self.is_same_table(table).await? {
            // Its rows have keys that came before.
            self.begin_epoch("keys are given out again");
            self.sight(self.keys.all_news(), Instant::now(), outcome.lost, server, table).await?;
        } else {
            for _ in 0..outcome.lost {
                self.rows_are_missing("rows of a transaction were not found in the table");
            }
        }
        if held && self.looks.hold().is_none() {
            debug!("looked for all that was to be found");
            // Otherwise a crash leads back before what was looked for, and rows that are told from now on are
            // found by looks, in another order than clients know.
            self.saver.save(self.checkpoint()).await;
        }
        Ok(Some(began))
    }

    /// What was seen on another connection can't be settled: its place may be another server's.
    pub(super) fn look_again(&mut self) {
        if self.sighted.take().is_some() {
            self.looks.look_again();
        }
    }

    /// The rows with these keys, in key order; less if they were deleted since.
    async fn rows_sighted(&self, keys: &[Key], table: &mut Table) -> Result<Vec<EncodedRow>, Ended> {
        let kept = |key: &Key| self.sighted.as_ref().and_then(|sighted| sighted.rows.get(key));
        let others: Vec<Key> = keys.iter().copied().filter(|key| kept(key).is_none()).collect();
        let mut rows = rows_with(&others, table).await?;
        Ok(keys.iter().filter_map(|key| kept(key).cloned().or_else(|| rows.remove(key))).collect())
    }
}
