//! Whether the table at a restart is the one whose rows were told before.
//!
//! After a position was lost, keys alone do not say so: another table may have as many. The checkpoint keeps a
//! few bits of a checksum for each of the last rows, which tell nothing of what is in them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{Follower, apply::has_one_of, ended::Ended, seed::rows_with};
use crate::{checkpoint::Sample, feed::Row, id::Key, row::EncodedRow, table::Table};

/// Rows by which a table is known again.
pub(super) const ROWS: usize = 8;

/// A server that loses power forgets the transactions of no more than its last seconds: InnoDB writes its log each
/// second where `innodb_flush_log_at_trx_commit` is not 1, MariaDB by its `innodb_flush_log_at_timeout`.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(10);

impl Follower {
    /// Of the last rows that were told. Until some were, what the checkpoint had.
    pub(super) fn sample(&self) -> Option<Sample> {
        let told = self.feed.latest(ROWS);
        let Some(last) = told.last() else { return self.sample.clone() };
        let columns = checksum_of_names(last.columns());
        let rows = told.iter().filter(|row| checksum_of_names(row.columns()) == columns);
        let rows = rows.map(|row| (row.id().key, checksum(row.json()))).collect();
        Some(Sample { columns, rows })
    }

    /// Whether the rows that the checkpoint had a sample of are others now, all that are still there. Rows may
    /// have been changed or deleted since, but hardly all of them changed.
    pub(super) async fn is_another_table(&self, table: &mut Table) -> Result<bool, Ended> {
        let Some(sample) = &self.sample else { return Ok(false) };
        if sample.columns != checksum_of_names(table.layout().names()) {
            return Ok(false); // nobody knows
        }
        let mut others = false;
        for (key, checksum_then) in &sample.rows {
            let there = table.rows_between(key.saturating_sub(1), *key, 1).await?;
            if let Some(row) = there.first() {
                if checksum(&row.json) == *checksum_then {
                    return Ok(false);
                }
                others = true;
            }
        }
        Ok(others)
    }

    /// Whether the table has the rows that were told before those that a server may have forgotten. Those that were read
    /// from the table say so only where there are no others.
    pub(super) async fn has_rows_before_the_last(&self, table: &mut Table) -> Result<bool, Ended> {
        let told = self.feed.latest(self.settings.history);
        let may_be_forgotten = may_be_forgotten(told.iter());
        let before = |timed| {
            let before = told.iter().filter(|row| !may_be_forgotten(row));
            before.filter(move |row| row.committed_ms().is_some() == timed).take(ROWS).cloned()
        };
        let mut rows: Vec<Arc<Row>> = before(true).collect();
        if rows.is_empty() {
            rows = before(false).collect();
        }
        has_one_of(&rows, table).await
    }

    /// The rows that the feed has of the table; of a key that came again, the last.
    pub(super) fn told_by_key(&self) -> HashMap<Key, Arc<Row>> {
        let told = self.feed.latest(self.settings.history);
        told.into_iter().rev().map(|row| (row.id().key, row)).collect()
    }

    /// Keys of the last rows under which the table has others now. After a loss of power a server may have
    /// forgotten rows that were told, and given their keys out again.
    pub(super) async fn given_out_again(&self, table: &mut Table) -> Result<HashSet<Key>, Ended> {
        let told = self.told_by_key();
        let may_be_forgotten = may_be_forgotten(told.values());
        let last: Vec<_> = told.values().filter(|row| may_be_forgotten(row)).collect();
        let keys: Vec<Key> = last.iter().map(|row| row.id().key).collect();
        let there = rows_with(&keys, table).await?;
        let mut again = HashSet::new();
        for row in last {
            let key = row.id().key;
            if there.get(&key).is_some_and(|now| !row.agrees_with(now)) {
                again.insert(key);
            }
        }
        Ok(again)
    }
}

/// Which of the rows that were told a server that lost power may have forgotten: the last, by the server's clock or by
/// ours. That of a server or a session may be set, and what we read late did not happen late.
fn may_be_forgotten<'a>(told: impl Iterator<Item = &'a Arc<Row>>) -> impl Fn(&Row) -> bool {
    // Rows without a time were read from the table.
    let timed = told.filter_map(|row| Some((row.committed_ms()?, row.told())));
    let newest = timed.reduce(|(at, told), (other, later)| (at.max(other), told.max(later)));
    move |row| {
        newest.zip(row.committed_ms()).is_some_and(|((newest_ms, last_told), at)| {
            at >= newest_ms.saturating_sub(FORGOTTEN_WITHIN.as_millis() as u64)
                || row.told() + FORGOTTEN_WITHIN >= last_told
        })
    }
}

/// Whether the sample has another row under this one's key.
pub(super) fn has_another(sample: &Sample, now: &EncodedRow) -> bool {
    sample.columns == checksum_of_names(&now.columns)
        && sample.rows.iter().any(|(key, then)| *key == now.key && *then != checksum(&now.json))
}

/// Sixteen bits of it.
fn checksum(json: &[u8]) -> u16 {
    (crc32fast::hash(json) & 0xffff) as u16
}

fn checksum_of_names(names: &[Box<str>]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for name in names {
        hasher.update(name.as_bytes());
        hasher.update(b"\0");
    }
    hasher.finalize()
}
