//! The binlog, one committed transaction at a time.
//!
//! Owns the replication connection, its heartbeat and read deadline, and the sorting of what can go
//! wrong with it. Knows no client and no feed; what to do about a lost position is
//! [`crate::follow`]'s to decide.

mod event;
pub mod gtid;
pub mod position;
mod statement;
mod transaction;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Error, GnoInterval, Sid, prelude::Queryable};

use self::{
    gtid::GtidSet,
    position::FileOffset,
    transaction::{Assembler, Malformed, Step},
};
pub use self::{
    statement::TableChange,
    transaction::{Commit, Reread, TableName},
};
use crate::{
    link::{Flavour, LinkError, Server, lacks_privilege, within},
    row::Layout,
};

/// A link with no event and no heartbeat for this many heartbeat periods is dead.
const SILENT_PERIODS: u32 = 3;

/// Where to begin.
#[derive(Debug, Clone)]
pub enum Start {
    /// At a byte offset.
    File {
        /// The place.
        at: FileOffset,
        /// When the file must have begun, in Unix seconds, if that is known.
        began: Option<u32>,
    },
    /// After what the set holds.
    Gtid(GtidSet),
}

/// How to register with the server.
#[derive(Debug, Clone, Copy)]
pub struct Registration {
    /// Unique among the server's replicas.
    pub server_id: u32,
    /// How often the server speaks when nothing happens.
    pub heartbeat: Duration,
}

/// An open binlog stream.
pub struct Tail {
    stream: BinlogStream,
    assembler: Assembler,
    deadline: Duration,
    account: String,
    /// Begun by GTID set, and no commit seen yet: the offset says nothing so far.
    offset_unknown: bool,
    /// When the first file must have begun, until it is known.
    expected: Option<u32>,
}

/// What the binlog tells.
#[derive(Debug)]
pub enum Told {
    /// A transaction committed. [`Tail::at`] is its end.
    Commit(Commit),
    /// Nothing of interest, up to [`Tail::at`].
    Idle,
    /// The server is alive and has nothing new.
    Heartbeat,
}

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// It may pass: connect again and go on from the last commit.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No event and no heartbeat: the connection is half open.
    #[error("no event and no heartbeat for {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The server closed the stream.
    #[error("the server ended the stream")]
    Ended,
    /// An event does not carry what its checksum says.
    #[error("the checksum of an event at {0} is wrong")]
    Checksum(FileOffset),
    /// See [`Malformed`].
    #[error("{malformed} at {at}")]
    Malformed {
        /// What is malformed.
        #[source]
        malformed: Malformed,
        /// Behind which place.
        at: FileOffset,
    },
    /// The server does not have the position any more, or never had it.
    #[error("the server does not have the position: {0}")]
    LostPosition(String),
    /// Another replica uses our server_id.
    #[error("another replica uses the same server_id: {0}")]
    DuplicateServerId(String),
}

impl Tail {
    /// Registers as a replica on `conn`, and asks for the binlog from `start` on.
    ///
    /// # Errors
    /// [`TailError::Link`], definite without REPLICATION SLAVE. A position that is lost shows at the
    /// first [`Tail::next`].
    pub async fn open(
        mut conn: Conn,
        server: &Server,
        start: &Start,
        registration: Registration,
        name: TableName,
        layout: Arc<Layout>,
    ) -> Result<Tail, TailError> {
        let period = registration.heartbeat.as_nanos();
        // The server reads whichever name it knows. Capability 4: MariaDB sends its GTID events.
        let sql = format!(
            "SET @master_heartbeat_period={period}, @source_heartbeat_period={period}, @mariadb_slave_capability=4"
        );
        within("asking for heartbeats", conn.query_drop(sql)).await?;
        let mut request = BinlogStreamRequest::new(registration.server_id).with_hostname(b"doorcast");
        let sids: Vec<Sid<'_>>;
        let mut expected = None;
        let (at, offset_unknown) = match start {
            Start::File { at, began } => {
                request = request.with_filename(at.file.as_bytes()).with_pos(at.offset);
                expected = *began;
                (at.clone(), false)
            }
            Start::Gtid(set) => {
                if server.identity.flavour == Flavour::MariaDb {
                    let sql = format!("SET @slave_connect_state='{set}', @slave_gtid_strict_mode=0");
                    within("asking to resume by GTID", conn.query_drop(sql)).await?;
                } else {
                    sids = mysql_sids(set);
                    request = request.with_gtid().with_gtid_set(sids);
                }
                (FileOffset { file: String::new(), offset: 4 }, true)
            }
        };
        let stream = within("asking for the binlog", conn.get_binlog_stream(request))
            .await
            .map_err(|err| lacks_privilege(err, &grant_slave(&server.account)))?;
        Ok(Tail {
            stream,
            assembler: Assembler::new(name, layout, at),
            deadline: registration.heartbeat * SILENT_PERIODS,
            account: server.account.clone(),
            offset_unknown,
            expected,
        })
    }

    /// The next thing the binlog tells. Cancel-safe.
    ///
    /// # Errors
    /// See [`TailError`]. The stream is at its end then.
    pub async fn next(&mut self) -> Result<Told, TailError> {
        loop {
            let event = match self.stream.next().now_or_never() {
                Some(event) => event,
                // Only a read that has to wait pays for a timer.
                None => tokio::time::timeout(self.deadline, self.stream.next())
                    .await
                    .map_err(|_| TailError::Silent(self.deadline))?,
            };
            let event = event.ok_or(TailError::Ended)?.map_err(|err| explain(err, &self.account))?;
            if !event::is_intact(&event) {
                return Err(TailError::Checksum(self.assembler.at().clone()));
            }
            let heartbeat = event.header().event_type_raw() == event::HEARTBEAT;
            let stream = &self.stream;
            let step = self.assembler.accept(&event, |id| stream.get_tme(id));
            let step = step
                .map_err(|malformed| TailError::Malformed { malformed, at: self.assembler.at().clone() })?;
            if let (Some(expected), Some(began)) = (self.expected, self.assembler.began()) {
                if expected != began {
                    let file = &self.assembler.at().file;
                    return Err(TailError::LostPosition(format!("{file} is not the file that it was")));
                }
                self.expected = None;
            }
            match step {
                Step::Commit(commit) => {
                    self.offset_unknown = false;
                    return Ok(Told::Commit(commit));
                }
                Step::Idle | Step::Open if heartbeat => return Ok(Told::Heartbeat),
                Step::Idle => return Ok(Told::Idle),
                Step::Open => {}
            }
        }
    }

    /// The end of what has been told; `None` while only the GTID set is known.
    pub fn at(&self) -> Option<&FileOffset> {
        (!self.offset_unknown).then(|| self.assembler.at())
    }

    /// When the file of [`Tail::at`] began, in Unix seconds, once that is known.
    pub fn began(&self) -> Option<u32> {
        self.assembler.began()
    }

    /// Decodes by another layout from here on.
    pub fn set_layout(&mut self, layout: Arc<Layout>) {
        self.assembler.set_layout(layout);
    }

    /// Ends the stream, so that the server ends its side at once.
    pub async fn close(self) {
        // The link may be gone already, and nothing is lost if it can't be ended in order.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.stream.close()).await;
    }
}

/// The set as a dump request carries it; tags must be looked for first ([`GtidSet::has_tags`]).
fn mysql_sids(set: &GtidSet) -> Vec<Sid<'static>> {
    let GtidSet::MySql(set) = set else { return Vec::new() };
    set.iter()
        .map(|((sid, _), intervals)| {
            // The wire has the first number behind the interval, not its last.
            let intervals =
                intervals.iter().map(|(first, last)| GnoInterval::new(*first, last + 1)).collect();
            Sid::new(*sid).with_intervals(intervals)
        })
        .collect()
}

fn grant_slave(account: &str) -> String {
    format!("GRANT REPLICATION SLAVE ON *.* TO {account};")
}

/// Sorts what the server said instead of an event.
fn explain(err: Error, account: &str) -> TailError {
    let Error::Server(server) = &err else {
        return LinkError::Transient { what: "reading the binlog", source: Box::new(err) }.into();
    };
    let text = server.message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["same server_uuid", "same server_id", "same server-id"]) {
        return TailError::DuplicateServerId(server.message.clone());
    }
    // ER_MASTER_FATAL_ERROR_READING_BINLOG (1236), and MariaDB's errors about GTIDs (1955, 1945, 1950).
    if matches!(server.code, 1236 | 1945 | 1950 | 1955) {
        if says(&["max_allowed_packet"]) {
            return LinkError::Definite(format!(
                "the server can't send an event that is larger than its own max_allowed_packet ({}). On the server: \
                 SET GLOBAL max_allowed_packet=1073741824;",
                server.message
            ))
            .into();
        }
        return TailError::LostPosition(server.message.clone());
    }
    lacks_privilege(
        LinkError::Transient { what: "reading the binlog", source: Box::new(err) },
        &grant_slave(account),
    )
    .into()
}
