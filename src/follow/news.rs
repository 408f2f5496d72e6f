//! Rows that the table tells and the binlog does not: reading their keys, and telling them.

use super::{BATCH, Follower, ended::Ended, seed::rows_with};
use crate::{
    id::Key,
    link::{Server, binlog_end},
    row::EncodedRow,
    table::{Table, TableError},
    tail::position::FileOffset,
};

/// Keys of one SELECT. More than there are in most looks, so that a look is one SELECT as a rule.
const PAGE: usize = 5000;

impl Follower {
    /// The keys in the table, in `ranges`, that are news, in key order.
    pub(super) async fn news_in(
        &self,
        ranges: Vec<(Key, Key)>,
        table: &mut Table,
    ) -> Result<Vec<Key>, TableError> {
        let mut news = Vec::new();
        for range in ranges {
            let mut rest = Some(range);
            while let Some((first, last)) = rest {
                let page = table.keys_in(first, last, PAGE).await?;
                rest = behind((first, last), &page);
                news.extend(page.into_iter().filter(|key| self.keys.is_news(*key)));
            }
        }
        Ok(news)
    }

    /// Tells every row of the table that is news, in key order, though the binlog may be about to bring it. Returns how
    /// many.
    pub(super) async fn tell_all_news(&mut self, server: &Server, table: &mut Table) -> Result<usize, Ended> {
        let mut found = 0;
        for range in self.keys.all_news() {
            let mut rest = Some(range);
            while let Some((first, last)) = rest {
                let mut page = table.keys_in(first, last, PAGE).await?;
                rest = behind((first, last), &page);
                page.retain(|key| self.keys.is_news(*key));
                for piece in page.chunks(BATCH) {
                    let mut rows = rows_with(piece, table).await?;
                    let rows = piece.iter().filter_map(|key| rows.remove(key)).collect();
                    found += self.tell_ahead(rows, server, table, None).await?;
                }
            }
        }
        Ok(found)
    }

    /// Tells rows that the table has and the binlog may be about to bring: it will have when it has been read to where
    /// it ends now. Returns how many there were.
    pub(super) async fn tell_ahead(
        &mut self,
        rows: Vec<EncodedRow>,
        server: &Server,
        table: &mut Table,
        committed_ms: Option<u64>,
    ) -> Result<usize, Ended> {
        if !rows.is_empty() {
            let end = binlog_end(table.conn(), server).await?;
            self.goes_ahead(&rows, end.at);
        }
        Ok(self.tell(rows, committed_ms).await)
    }

    /// These will be told before the binlog has been read up to `until`.
    pub(super) fn goes_ahead(&mut self, rows: &[EncodedRow], until: FileOffset) {
        self.ahead.keys.extend(rows.iter().map(|row| row.key));
        self.ahead.until = Some(match self.ahead.until.take() {
            Some(before) if before.reaches(&until) => before,
            _ => until,
        });
    }

    /// Tells rows that were found in the table, once a restart will know of it. Returns how many.
    pub(super) async fn tell(&mut self, rows: Vec<EncodedRow>, committed_ms: Option<u64>) -> usize {
        if rows.is_empty() {
            return 0;
        }
        self.looks.found(rows.iter().map(|row| row.key));
        self.record(&rows);
        // A look after a crash finds others beside them, and would tell all in another order than clients
        // know.
        self.saver.save(self.checkpoint()).await;
        let found = rows.len();
        self.publish(rows, committed_ms);
        found
    }
}

/// What is left of a range behind a page that was read of it: nothing, if it is the last.
fn behind(range: (Key, Key), page: &[Key]) -> Option<(Key, Key)> {
    let last = page.last().filter(|_| page.len() == PAGE)?;
    Some((last.saturating_add(1), range.1)).filter(|(first, last)| first <= last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_begins_behind_the_last() {
        let page: Vec<Key> = (1..=PAGE as Key).collect();
        let end = PAGE as Key;
        assert_eq!(behind((1, Key::MAX), &page), Some((end + 1, Key::MAX)));
        assert_eq!(behind((1, end), &page), None);
        assert_eq!(behind((1, Key::MAX), &page[1..]), None);
    }
}
