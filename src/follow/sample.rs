//! Whether the table at a restart is the one whose rows were told before.
//!
//! After a position was lost, keys alone do not say so: another table may have as many. The checkpoint keeps a
//! few bits of a checksum for each of the last rows, which tell nothing of what is in them.

use super::{Follower, ended::Ended};
use crate::{checkpoint::Sample, row::EncodedRow, table::Table};

/// Rows by which a table is known again.
pub(super) const ROWS: usize = 8;

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
    pub(super) async fn is_another_than_before_the_start(&self, table: &mut Table) -> Result<bool, Ended> {
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
