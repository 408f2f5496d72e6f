//! The feed's history at the start: from the table, or from the checkpoint's recent keys and the table.

use std::{collections::HashMap, time::Duration};

use tokio::time::{Instant, sleep};

use super::{BATCH, Follower, ended::Ended};
use crate::{
    id::Key,
    link::{Server, binlog_end},
    row::EncodedRow,
    status::now_ms,
    table::Table,
    tail::position::Position,
};

/// A row that is not there so long after it was told was deleted. Clients wait for this at a restart, so that it does not
/// allow for servers that wait for their replicas.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

impl Follower {
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
        // What a table shows by now that was empty for that SELECT is not older.
        let older = match rows.first() {
            Some(first) => Some(first.key - 1),
            None if self.settings.history == 0 => table.greatest_key().await?,
            None => None,
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
        if self.is_another_than_before_the_start(table).await? {
            // The binlog will tell when it came, if it still can.
            if let Some(greatest) = self.keys.greatest() {
                self.feed.mark_older(greatest);
            }
            return Ok(());
        }
        let keys: Vec<Key> = self.keys.recent().collect();
        self.until_shown(keys.last(), table).await?;
        // Piece by piece, for the rows may be large: the feed keeps as much of them as it may.
        for piece in keys.chunks(BATCH) {
            let mut rows = rows_with(piece, table).await?;
            // Those that were deleted since are no history any more; those that are not among the recent
            // keys are still to come.
            let history = piece.iter().filter_map(|key| rows.remove(key)).collect();
            self.feed.publish(self.keys.epoch(), None, history);
        }
        Ok(())
    }
}

impl Follower {
    /// A server sends a commit before its own SELECTs see it: the last row that was told right before the restart may be
    /// there in a moment, and with it those before.
    async fn until_shown(&self, last: Option<&Key>, table: &mut Table) -> Result<(), Ended> {
        let (Some(last), Some(saved_ms)) = (last, self.resumed_from_ms) else { return Ok(()) };
        let age = Duration::from_millis(now_ms().saturating_sub(saved_ms));
        let start = Instant::now();
        while age + start.elapsed() < SHOWN_WITHIN && table.rows_between(last - 1, *last, 1).await?.is_empty()
        {
            sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// The rows with these keys, as far as there are any.
pub(super) async fn rows_with(keys: &[Key], table: &mut Table) -> Result<HashMap<Key, EncodedRow>, Ended> {
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    let mut rows = HashMap::with_capacity(keys.len());
    // What lies far apart is not read in between.
    for run in sorted.chunk_by(|a, b| b.saturating_sub(*a) <= BATCH as Key) {
        let (Some(first), Some(through)) = (run.first(), run.last()) else { continue };
        let mut after = first.saturating_sub(1);
        while after < *through {
            let batch = table.rows_between(after, *through, BATCH).await?;
            let Some(last) = batch.last() else { break };
            after = last.key;
            rows.extend(
                batch.into_iter().filter(|row| run.binary_search(&row.key).is_ok()).map(|row| (row.key, row)),
            );
        }
    }
    Ok(rows)
}
