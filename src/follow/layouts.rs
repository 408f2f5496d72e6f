//! Which layout the row images have.
//!
//! The schema says what the table is like now, the binlog what it was like some time ago, and not every change shows in
//! an image: a character set, for instance, or two columns that changed names. So an image is decoded where no change
//! of the table lies between it and the layout: behind the last one, or where the layout is what it was at the
//! position. Other rows are read from the table.

use std::sync::Arc;

use tracing::{debug, warn};

use super::{
    Follower,
    ended::{Ended, ReadError},
    lost::UNREAD_BEFORE_ANOTHER_KEY,
};
use crate::{
    link::{Server, binlog_end},
    table::{SchemaError, Table},
    tail::{Start, TableChange, Tail, Told, position::FileOffset},
};

impl Follower {
    /// A checksum of the layout that row images at `at` have, if that is known.
    pub(super) fn layout_at(&self, at: &FileOffset) -> Option<u32> {
        self.layout.as_ref().filter(|(_, from)| at.reaches(from)).map(|(layout, _)| *layout)
    }

    /// Where the first row image behind `start` stands that is certain to have the layout that has just been read.
    pub(super) async fn layout_from(
        &mut self,
        server: &Server,
        start: &Start,
        table: &mut Table,
    ) -> Result<FileOffset, ReadError> {
        let at = match start {
            Start::File { at, .. } => at.clone(),
            Start::Gtid(_) => FileOffset::unknown(),
        };
        if self.layout_at(&at) == Some(table.checksum()) {
            return Ok(at);
        }
        if let Some((layout, from)) = &self.layout
            && (*layout == table.checksum() && at.is_known())
        {
            return Ok(from.clone()); // a change behind that one is met on the way
        }
        let end = binlog_end(table.conn(), server).await.map_err(Ended::from)?;
        let has_all = match start {
            Start::File { at, .. } => at.reaches(&end.at),
            Start::Gtid(set) => end.gtid_set.is_some_and(|theirs| set.contains(&theirs)),
        };
        if has_all {
            return Ok(at);
        }
        let end = end.at;
        let (changed, rows_before) = if self.read_ahead_in_vain.as_ref() == Some(&at) {
            // The link does not last so long: what comes up to there is read from the table, and moves the position.
            (Some(end), true)
        } else {
            self.read_ahead_in_vain = Some(at.clone());
            debug!(%end, "reading ahead for changes of the table");
            let mut tail = self.open_tail(server, start, table).await?;
            let changed = self.last_change(&mut tail, &end, server, table).await;
            tail.close().await;
            changed?
        };
        self.read_ahead_in_vain = None;
        if std::mem::take(&mut self.key_changed) && rows_before {
            self.rows_may_be_missing(&UNREAD_BEFORE_ANOTHER_KEY);
        }
        // What came in the order of commits then comes by looks at the table now.
        if rows_before && !self.told_is_known && !table.layout().has_key_first() {
            self.tell_the_last_again("doorcast was killed, and then the table was altered");
        }
        Ok(changed.unwrap_or(at))
    }

    /// Reads up to `end`: behind which place the layout was changed last, and whether rows may have come before that. A
    /// TRUNCATE leaves it as it is, and the next table is as a rule like the one before, which alone could tell its rows;
    /// but not where the key is another one.
    async fn last_change(
        &mut self,
        tail: &mut Tail,
        end: &FileOffset,
        server: &Server,
        table: &mut Table,
    ) -> Result<(Option<FileOffset>, bool), ReadError> {
        let counts =
            |change| self.key_changed || matches!(change, TableChange::Layout | TableChange::Counter);
        let (mut changed, mut rows, mut rows_before) = (None, false, false);
        while !tail.at().or(tail.heartbeat_at()).is_some_and(|at| at.reaches(end)) {
            match tail.next().await {
                Ok(Told::Commit(commit)) if commit.change.is_some_and(counts) => {
                    changed = tail.at().cloned();
                    rows_before = rows;
                }
                Ok(Told::Commit(commit)) => rows |= !commit.rows.is_empty() || commit.reread.is_some(),
                Ok(Told::Idle) => {}
                Ok(Told::Heartbeat) => {
                    let now = binlog_end(table.conn(), server).await.map_err(Ended::from)?;
                    if !now.at.reaches(end) {
                        let message = format!("the binlog was reset: it ended at {end}, and now at {now}");
                        return Err(Ended::Passing(message.into()).into());
                    }
                }
                Err(err) => return Err(self.explain(err)),
            }
        }
        Ok((changed, rows_before))
    }

    /// Whether the table has the key that it had.
    ///
    /// # Errors
    /// If another column is the key: then a new session finds out what that means, and reads on from before the change.
    pub(super) fn is_the_key(&self, table: &Table) -> Result<(), Ended> {
        let now = &table.layout().key_column().name;
        match &self.key_column {
            Some(before) if before != now => {
                Err(Ended::Passing(format!("the key was column {before}, and now is column {now}").into()))
            }
            _ => Ok(()),
        }
    }

    /// Takes down which column is the key. If it is another one than before, and not only by its name, its values are
    /// other ids: what is in the table was told under the old ones.
    pub(super) async fn find_key(&mut self, table: &mut Table) -> Result<(), Ended> {
        let now = table.layout().key_column().name.clone();
        if let Some(before) = self.key_column.clone()
            && before != now
            && self.keys.greatest().is_some()
        {
            let may_be_renamed = !table.layout().names().contains(&before) && !self.feed.latest(1).is_empty();
            if !may_be_renamed || !self.is_same_table(table).await? {
                let greatest = table.greatest_key().await?;
                self.begin_epoch("another column is the key");
                if let Some(greatest) = greatest {
                    self.keys.set_older_through(greatest);
                    self.feed.mark_older(greatest);
                }
                self.key_changed = true;
            }
        }
        self.key_column = Some(now);
        Ok(())
    }

    /// Reads the layout again, after a `change` of the table. `false` if the table can't be read for now: dropped or
    /// renamed away, and whatever comes under the name will say so itself.
    pub(super) async fn reload(
        &mut self,
        change: TableChange,
        tail: &mut Tail,
        server: &Server,
        table: &mut Table,
    ) -> Result<bool, Ended> {
        match table.reload().await {
            Ok(()) => {}
            Err(err @ (SchemaError::Server(_) | SchemaError::NoKey { .. })) => return Err(err.into()),
            Err(err) => {
                warn!(error = %err, "the table can't be read for now");
                return Ok(false);
            }
        }
        self.is_the_key(table)?;
        let layout = table.checksum();
        // A TRUNCATE leaves it as it is, the next table is as a rule like the one before, and this change may have been
        // read ahead.
        let is_known = |at: &FileOffset| {
            self.layout.as_ref().is_some_and(|(before, from)| {
                let is_other = matches!(change, TableChange::Emptied | TableChange::Swapped);
                *before == layout && (is_other || from.reaches(at))
            })
        };
        if !tail.at().is_some_and(is_known) {
            // Up to there it may have changed once more.
            let from = binlog_end(table.conn(), server).await?.at;
            tail.set_layout(Arc::clone(table.layout()), from.clone());
            self.layout = Some((layout, from));
            self.feed.set_columns(Arc::clone(table.layout().names()));
        }
        debug!("the table's layout was read again");
        Ok(true)
    }
}
