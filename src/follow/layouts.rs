//! Which layout the row images have.
//!
//! The schema says what the table is like now, the binlog what it was like some time ago, and not every change shows in
//! an image: a character set, for instance, or two columns that changed names. So an image is decoded where no change
//! of the table lies between it and the layout: behind the last one, or where the layout is what it was at the
//! position. Other rows are read from the table.

use std::sync::Arc;

use tracing::{debug, warn};

use super::{Follower, ended::Ended, ended::ReadError};
use crate::{
    link::{Server, binlog_end},
    table::{SchemaError, Table},
    tail::{Start, TableChange, Tail, Told, position::FileOffset},
};

impl Follower {
    /// A checksum of the layout that row images at `at` have, if that is known.
    pub(super) fn layout_at(&self, at: &FileOffset) -> Option<u32> {
        self.layout.as_ref().filter(|(_, from)| at.is_known() && at.reaches(from)).map(|(layout, _)| *layout)
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
        let end = binlog_end(table.conn(), server).await.map_err(Ended::from)?.at;
        if at.is_known() && at.reaches(&end) {
            return Ok(at);
        }
        debug!(%end, "reading ahead for changes of the table");
        let mut tail = self.open_tail(server, start, table).await?;
        let changed = self.last_change(&mut tail, &end).await;
        tail.close().await;
        Ok(changed?.unwrap_or(at))
    }

    /// Reads up to `end`; behind which place the table was changed last.
    async fn last_change(
        &mut self,
        tail: &mut Tail,
        end: &FileOffset,
    ) -> Result<Option<FileOffset>, ReadError> {
        let mut changed = None;
        let mut quiet = false;
        while !tail.at().map_or(quiet, |at| at.reaches(end)) {
            match tail.next().await.map_err(|err| self.explain(err))? {
                Told::Commit(commit) if commit.change.is_some() => changed = tail.at().cloned(),
                Told::Commit(_) | Told::Idle => {}
                Told::Heartbeat => quiet = true,
            }
        }
        Ok(changed)
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
            Err(err @ SchemaError::Server(_)) => return Err(err.into()),
            Err(err) => {
                warn!(error = %err, "the table can't be read for now");
                return Ok(false);
            }
        }
        let layout = table.checksum();
        // A TRUNCATE leaves it as it is, and the next table is as a rule like the one before.
        if change == TableChange::Layout || self.layout.as_ref().is_none_or(|(before, _)| *before != layout) {
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
