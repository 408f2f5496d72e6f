//! Where a connection begins to read: at the place where the one before stopped, by GTID on another server, or where the
//! settings say.

use std::sync::Arc;

use mysql_async::{Conn, prelude::Queryable};
use tracing::info;

use super::{
    Follower, StartFrom,
    ended::{Ended, ReadError},
};
use crate::{
    link::{BINLOG_OFF, LinkError, Server, lacks_privilege, within},
    table::Table,
    tail::{
        Registration, Start, TableName, Tail,
        gtid::GtidSet,
        position::{FileOffset, Position},
    },
};

/// Offsets in a dump request have 32 bits.
const LARGEST_OFFSET: u64 = u32::MAX as u64;

impl Follower {
    /// Where to ask for the binlog from. The first time, the feed gets its history on the way.
    pub(super) async fn begin(
        &mut self,
        server: &Server,
        end: &Position,
        earliest: Option<FileOffset>,
        table: &mut Table,
    ) -> Result<Start, Ended> {
        let Some(position) = self.position.clone() else {
            let start = match self.settings.start_from.clone() {
                StartFrom::Checkpoint | StartFrom::Now => {
                    self.seed_from_table(table, server, end).await?;
                    file(end.at.clone())
                }
                StartFrom::Earliest => file(earliest.unwrap_or_else(|| end.at.clone())),
                StartFrom::File(at) => file(at),
                StartFrom::Gtid(set) => Start::Gtid(set),
            };
            self.position = Some(match &start {
                Start::File { at, .. } if *at == end.at => end.clone(),
                // The set up to an arbitrary place is not known: resume by file alone.
                Start::File { at, .. } => Position { at: at.clone(), began: None, gtid_set: None },
                Start::Gtid(set) => by_gtid(set),
            });
            if !matches!(self.settings.start_from, StartFrom::Checkpoint | StartFrom::Now) {
                self.keys.begin_with_the_next();
            }
            return self.begun(server, start).await;
        };
        if !self.begun {
            self.seed_from_checkpoint(table).await?;
        }
        if position.gtid_set.as_ref().is_some_and(GtidSet::has_tags) {
            info!(
                "the GTID set has tags, and can't be asked for: reading goes on by file and offset, and on another server \
                 the missing rows are read from the table"
            );
        }
        let same_server = self.server.as_ref().is_none_or(|before| *before == server.identity);
        let start = match &position.gtid_set {
            _ if same_server && position.at.is_known() && position.at.offset <= LARGEST_OFFSET => {
                Start::File { at: position.at, began: position.began }
            }
            Some(set) if !set.is_empty() && !set.has_tags() && has_all(end, set) => {
                // The old places would mean others on this server.
                self.look_again();
                self.looks.forget_places();
                self.layout = self.layout_at(&position.at).map(|layout| (layout, FileOffset::unknown()));
                if !self.ahead.keys.is_empty() {
                    self.ahead.until = Some(end.at.clone());
                }
                self.position = Some(by_gtid(set));
                Start::Gtid(set.clone())
            }
            _ => {
                let reason = if same_server {
                    "a replica can't ask for an offset of more than 32 bits, and there is no GTID set to go by"
                } else {
                    "this is another server than before, and does not have all that was told by GTID"
                };
                self.recover(reason, server, table).await?;
                let position = self.position.as_ref().unwrap_or(end);
                file(position.at.clone())
            }
        };
        self.begun(server, start).await
    }

    /// The place is known: it is on disk before any client is told of a row.
    async fn begun(&mut self, server: &Server, start: Start) -> Result<Start, Ended> {
        self.server = Some(server.identity.clone());
        if !self.begun {
            // A place that somebody chose may not be there, and then there is nothing to go on from.
            if !self.keys.begins_with_the_next() {
                self.saver.offer(self.checkpoint());
                self.saver.attempted().await;
            }
            self.begun = true;
        }
        match &start {
            Start::File { at, .. } => {
                info!(position = %at, table = %self.settings.table, "reading the binlog")
            }
            Start::Gtid(set) => info!(gtid_set = %set, table = %self.settings.table, "reading the binlog"),
        }
        Ok(start)
    }

    pub(super) async fn open_tail_with_layout(
        &mut self,
        server: &Server,
        start: &Start,
        table: &mut Table,
    ) -> Result<Tail, ReadError> {
        let from = self.layout_from(server, start, table).await?;
        let mut tail = self.open_tail(server, start, table).await?;
        tail.set_layout(Arc::clone(table.layout()), from.clone());
        self.layout = Some((table.checksum(), from));
        Ok(tail)
    }

    pub(super) async fn open_tail(
        &mut self,
        server: &Server,
        start: &Start,
        table: &Table,
    ) -> Result<Tail, ReadError> {
        if let Start::File { at, .. } = start
            && at.offset > LARGEST_OFFSET
        {
            let message = format!(
                "a replica can't ask for position {at}, for its offset has more than 32 bits. On the server: FLUSH \
                 BINARY LOGS; or choose another --start-from: earliest, now, or a FILE:OFFSET out of SHOW BINARY LOGS"
            );
            return Err(Ended::Person(message).into());
        }
        let conn = self.settings.link.connect().await.map_err(Ended::from)?;
        let registration = Registration { server_id: self.replica_id, heartbeat: self.settings.heartbeat };
        let name = TableName { database: table.database().to_owned(), table: table.name().to_owned() };
        let layout = Arc::clone(table.layout());
        let tail = Tail::open(conn, server, start, registration, name, layout).await;
        tail.map_err(|err| self.explain(err))
    }
}

fn file(at: FileOffset) -> Start {
    Start::File { at, began: None }
}

fn has_all(end: &Position, set: &GtidSet) -> bool {
    end.gtid_set.as_ref().is_some_and(|theirs| theirs.contains(set))
}

fn by_gtid(set: &GtidSet) -> Position {
    Position { at: FileOffset::unknown(), began: None, gtid_set: Some(set.clone()) }
}

/// The beginning of the oldest binlog file.
pub(super) async fn first_file(conn: &mut Conn, account: &str) -> Result<FileOffset, LinkError> {
    let rows: Vec<mysql_async::Row> = within("listing the binlog files", conn.query("SHOW BINARY LOGS"))
        .await
        .map_err(|err| lacks_privilege(err, &format!("GRANT REPLICATION CLIENT ON *.* TO {account};")))?;
    let file: Option<String> = rows.first().and_then(|row| row.get(0));
    file.map(|file| FileOffset { file, offset: 4 }).ok_or_else(|| LinkError::Definite(BINLOG_OFF.into()))
}
