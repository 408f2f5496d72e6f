//! A lost position: what is missing is in the table.

use tracing::{info, warn};

use super::{
    Follower, OnLostPosition,
    ended::Ended,
    lost::{FROM_NOW_REMEDY, REPLACED_UNSEEN, UNREAD_BEFORE_ANOTHER_KEY},
    sighted::DELETED,
};
use crate::{
    link::{Server, binlog_end},
    table::Table,
    tail::position::Position,
};

impl Follower {
    /// The position is lost. Returns the end of the binlog that is the new one.
    pub(super) async fn recover(
        &mut self,
        reason: &str,
        server: &Server,
        table: &mut Table,
    ) -> Result<Position, Ended> {
        let position = self.position.as_ref().map(ToString::to_string).unwrap_or_default();
        // What was looked for is read with all the rest.
        let owed = self.sighted.take().map_or(0, |sighted| sighted.owed());
        self.transactions_are_missing(owed);
        if self.looks.may_have_lost() {
            self.rows_are_missing(DELETED);
        }
        self.looks.give_up();
        if self.keys.begins_with_the_next() {
            return Err(Ended::Fatal(format!(
                "the server does not have position {position} ({reason}), and nothing was told before it by which the \
                 table could say what is missing. Choose another --start-from: earliest, now, or a FILE:OFFSET out of \
                 SHOW BINARY LOGS"
            )));
        }
        let end = binlog_end(table.conn(), server).await?;
        // The binlog says nothing of what changed before its end.
        table.reload().await?;
        self.layout = None;
        self.is_the_key(table)?;
        match self.settings.on_lost_position {
            OnLostPosition::Fail => {
                return Err(Ended::Fatal(format!(
                    "the server does not have position {position} any more ({reason}). Start with \
                     --on-lost-position catch-up to read the missing rows from the table, or now to leave them out"
                )));
            }
            OnLostPosition::CatchUp => {
                warn!(%position, reason, "the position is lost, reading the missing rows from the table");
                self.catch_up(table, server).await?;
            }
            OnLostPosition::Now => {
                let remedy = FROM_NOW_REMEDY;
                warn!(%position, reason, now = %end, remedy, "the position is lost, going on from now");
                self.gap(format!("the binlog position was lost: {reason}"));
                if let Some(greatest) = table.greatest_key().await? {
                    self.keys.set_older_through(greatest);
                    self.feed.mark_older(greatest);
                }
            }
        }
        if std::mem::take(&mut self.key_changed) {
            self.rows_may_be_missing(&UNREAD_BEFORE_ANOTHER_KEY);
        }
        self.position = Some(end.clone());
        self.vain.over();
        self.server = Some(server.identity.clone());
        self.saver.offer(self.checkpoint());
        Ok(end)
    }

    /// The position was lost: whatever the table has and we have not told comes now.
    async fn catch_up(&mut self, table: &mut Table, server: &Server) -> Result<(), Ended> {
        self.status.table_reads.add(1);
        // A server that lost power may have forgotten the last.
        let is_another = self.is_another_than_before_the_start(table).await?
            || !(self.is_same_table(table).await? || self.has_rows_before_the_last(table).await?);
        if self.keys.greatest().is_some() && is_another {
            // Another life of the table, for instance a restored backup: no key says what is missing.
            self.end_lost = false;
            self.begin_epoch("the table does not have the rows that were told");
            self.rows_may_be_missing(&REPLACED_UNSEEN);
            if let Some(greatest) = table.greatest_key().await? {
                self.keys.set_older_through(greatest);
                self.feed.mark_older(greatest);
            }
            return Ok(());
        }
        let again = self.given_out_again(table).await?;
        if !again.is_empty() {
            self.keys.forget(&again);
            self.tell_the_last_again(
                "the server gave out keys again whose rows were told: did it lose power?",
            );
        }
        if !self.told_is_known {
            self.tell_the_last_again("doorcast was killed, and then the position was lost");
        }
        // What is committed meanwhile comes by the binlog.
        let found = self.tell_all_news(server, table).await?;
        info!(rows = found, "read the missing rows from the table");
        Ok(())
    }

    /// The same rows get new ids from here on. A client that had some of those that are told again is told of a gap and
    /// gets all of them; others go on as ever.
    pub(super) fn renumber(&mut self) {
        self.keys.renumber();
        self.feed.renumber(self.keys.epoch());
        if let Some(greatest) = self.keys.greatest() {
            self.feed.mark_older(greatest);
        }
    }

    /// After a kill nobody knows which rows were told last, and in which order, and now the binlog does not
    /// tell, either.
    pub(super) fn tell_the_last_again(&mut self, reason: &'static str) {
        self.renumber();
        self.told_is_known = true;
        warn!(
            epoch = self.keys.epoch(),
            reason, "clients that have rows of the last second before get them again"
        );
    }
}
