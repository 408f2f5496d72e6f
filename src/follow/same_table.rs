//! Whether the table still is the one whose rows were told. Another may stand under its name by now, with the same columns
//! and keys: only its rows tell. The questions differ in how much they want, and in what they allow for. What was told before this run
//! only [`sample`] knows.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

use super::{Follower, ended::Ended, sample, seed::rows_with};
use crate::{feed::Row, id::Key, row::EncodedRow, table::Table};

/// Pauses before another table is believed in: after a second a server shows what it has sent.
const SHOWN_WITHIN: [Duration; 5] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(75),
    Duration::from_millis(200),
    Duration::from_millis(700),
];

/// A server that loses power forgets the transactions of no more than its last seconds: InnoDB writes its log each
/// second where `innodb_flush_log_at_trx_commit` is not 1, MariaDB by its `innodb_flush_log_at_timeout`.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(10);

impl Follower {
    /// Whether the table still is the one whose rows were told last: it goes as far, and has one of the very last, as it
    /// was told. A backup that was restored does not, though it has most of the others.
    pub(super) async fn is_same_table(&mut self, table: &mut Table) -> Result<bool, Ended> {
        if table.greatest_key().await? < self.keys.greatest() {
            return Ok(false);
        }
        let last = self.feed.latest(sample::ROWS);
        Ok(last.is_empty() || has_one_of(&last, table).await?) // nothing speaks against it
    }

    /// Whether the table has any of the rows that were told, as it was told. Rows may have been deleted or changed
    /// since, but hardly all of them.
    pub(super) async fn has_told_rows(&mut self, table: &mut Table) -> Result<bool, Ended> {
        let last = self.feed.latest(sample::ROWS);
        if last.is_empty() || has_one_of(&last, table).await? {
            return Ok(true);
        }
        // Many of the last may have been deleted: farther and farther back.
        let told = self.feed.latest(self.settings.history);
        let steps = (0..told.len().checked_ilog2().unwrap_or(0)).map(|step| 1 << step);
        let older: Vec<_> =
            steps.filter_map(|back: usize| told.get(back)).chain(told.last()).cloned().collect();
        has_one_of(&older, table).await
    }

    /// Whether the table has none of the rows that were told, and does not only show them late: a server sends a commit
    /// before its own SELECTs see it.
    pub(super) async fn is_another_table_by_now(&mut self, table: &mut Table) -> Result<bool, Ended> {
        for wait in SHOWN_WITHIN {
            if self.has_told_rows(table).await? {
                return Ok(false);
            }
            sleep(wait).await;
        }
        Ok(!self.has_told_rows(table).await?)
    }

    /// Whether it is the table of what was told, asked behind a read of rows that nobody told. The binlog may be about to
    /// say that another stands under the name, whose rows have the same keys. While nothing has been told of a table it
    /// is known by `next`, the row that the binlog brought and that is about to be told.
    pub(super) async fn is_table_of_what_was_told(
        &mut self,
        next: Option<&EncodedRow>,
        table: &mut Table,
    ) -> Result<bool, Ended> {
        if !self.feed.latest(1).is_empty() {
            return Ok(
                !self.is_another_than_before_the_start(table).await? && self.is_same_table(table).await?
            );
        }
        let Some(next) = next else { return Ok(false) };
        for wait in SHOWN_WITHIN {
            let there = table.rows_between(next.key - 1, next.key, 1).await?;
            if let Some(row) = there.first() {
                return Ok(row.json == next.json);
            }
            sleep(wait).await; // it may be shown late
        }
        Ok(false)
    }

    /// Whether the table has the rows that were told before those that a server may have forgotten. Those that were read
    /// from the table say so only where there are no others.
    pub(super) async fn has_rows_before_the_last(&self, table: &mut Table) -> Result<bool, Ended> {
        let told = self.feed.latest(self.settings.history);
        let may_be_forgotten = may_be_forgotten(told.iter());
        let before = |timed| {
            let before = told.iter().filter(|row| !may_be_forgotten(row));
            before.filter(move |row| row.committed_ms().is_some() == timed).take(sample::ROWS).cloned()
        };
        let mut rows: Vec<Arc<Row>> = before(true).collect();
        if rows.is_empty() {
            rows = before(false).collect();
        }
        has_one_of(&rows, table).await
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

    /// The rows that the feed has of the table; of a key that came again, the last.
    pub(super) fn told_by_key(&self) -> HashMap<Key, Arc<Row>> {
        let told = self.feed.latest(self.settings.history);
        told.into_iter().rev().map(|row| (row.id().key, row)).collect()
    }
}

/// Whether the table has one of these rows as it was told.
async fn has_one_of(told: &[Arc<Row>], table: &mut Table) -> Result<bool, Ended> {
    for told in told {
        let key = told.id().key;
        let there = table.rows_between(key - 1, key, 1).await?;
        if there.first().is_some_and(|row| told.agrees_with(row)) {
            return Ok(true);
        }
    }
    Ok(false)
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
