//! The binlog, one committed transaction at a time.
//!
//! Owns the replication connection, its heartbeat and read deadline, and the sorting of what can go
//! wrong with it. Knows no client and no feed; what to do about a lost position is
//! [`crate::follow`]'s to decide.

mod caught;
mod commit;
mod compressed;
mod event;
pub(crate) mod fuzz;
pub mod gtid;
pub mod position;
mod statement;
mod target;
mod transaction;

use std::{io, pin::Pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use mysql_async::{
    BinlogStream, BinlogStreamRequest, Conn, Error, GnoInterval, IoError, Sid, binlog::events::Event,
    prelude::Queryable,
};
use tokio::time::{Instant, Sleep};

use self::{
    caught::caught,
    commit::Malformed,
    gtid::GtidSet,
    position::FileOffset,
    transaction::{Assembler, Step},
};
pub use self::{
    caught::is_catching,
    commit::{Commit, Expected, Reread, TableName, Xa},
    statement::TableChange,
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
    /// A silence this long means that the link is dead.
    deadline: Duration,
    /// Runs since the last event, over any number of calls that were given up.
    silence: Pin<Box<Sleep>>,
    /// An event came since `silence` was set.
    heard: bool,
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
    /// The decoder panicked: see [`is_catching`].
    #[error("an event behind {at} broke the decoder: {message}")]
    Panicked {
        /// What it panicked with.
        message: String,
        /// The last commit before it.
        at: FileOffset,
    },
    /// The decoder refused an event.
    #[error("an event behind {at} can't be read")]
    Undecodable {
        /// What it said.
        #[source]
        source: Box<Error>,
        /// The last commit before it.
        at: FileOffset,
    },
    /// The server does not have the position any more, or never had it.
    #[error("the server does not have the position: {0}")]
    LostPosition(String),
    /// Another replica uses our server_id.
    #[error("another replica uses the same server_id: {0}")]
    DuplicateServerId(String),
}

impl TailError {
    /// Behind which place there are bytes that can't be read, if that is the matter.
    pub fn unreadable_behind(&self) -> Option<&FileOffset> {
        match self {
            TailError::Checksum(at)
            | TailError::Malformed { at, .. }
            | TailError::Panicked { at, .. }
            | TailError::Undecodable { at, .. } => Some(at),
            _ => None,
        }
    }
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
        let deadline = registration.heartbeat * SILENT_PERIODS;
        Ok(Tail {
            stream,
            assembler: Assembler::new(name, layout, at),
            deadline,
            silence: Box::pin(tokio::time::sleep(deadline)),
            heard: true,
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
        match caught(self.read()).await {
            Ok(told) => told,
            Err(message) => Err(TailError::Panicked { message, at: self.assembler.at().clone() }),
        }
    }

    /// See [`Tail::next`], but for panics.
    async fn read(&mut self) -> Result<Told, TailError> {
        loop {
            let event = match self.stream.next().now_or_never() {
                Some(event) => event,
                // The events of a compressed transaction come without waiting, and mysql_async drops those
                // that it can't unpack.
                None if self.assembler.is_in_payload() => {
                    let step = self.assembler.give_up_payload();
                    if let Some(told) = self.told(Ok(step), false)? {
                        return Ok(told);
                    }
                    continue;
                }
                None => self.wait().await?,
            };
            self.heard = true;
            let event = event.ok_or(TailError::Ended)?.map_err(|err| self.explain(err))?;
            if !event::is_intact(&event) {
                return Err(TailError::Checksum(self.assembler.at().clone()));
            }
            let heartbeat = event.header().event_type_raw() == event::HEARTBEAT;
            let stream = &self.stream;
            let step = self.assembler.accept(&event, |id| stream.get_tme(id));
            if let Some(told) = self.told(step, heartbeat)? {
                return Ok(told);
            }
        }
    }

    fn told(&mut self, step: Result<Step, Malformed>, heartbeat: bool) -> Result<Option<Told>, TailError> {
        let step =
            step.map_err(|malformed| TailError::Malformed { malformed, at: self.assembler.at().clone() })?;
        if let (Some(expected), Some(began)) = (self.expected, self.assembler.began()) {
            if expected != began {
                let file = &self.assembler.at().file;
                return Err(TailError::LostPosition(format!("{file} is not the file that it was")));
            }
            self.expected = None;
        }
        Ok(match step {
            Step::Commit(commit) => {
                self.offset_unknown = false;
                Some(Told::Commit(commit))
            }
            Step::Idle | Step::Open if heartbeat => Some(Told::Heartbeat),
            Step::Idle => Some(Told::Idle),
            Step::Open => None,
        })
    }

    /// Waits for an event. The caller may give up and come back: the silence goes on.
    async fn wait(&mut self) -> Result<Option<mysql_async::Result<Event>>, TailError> {
        // Only a read that has to wait pays for a timer.
        if std::mem::take(&mut self.heard) {
            self.silence.as_mut().reset(Instant::now() + self.deadline);
        }
        tokio::select! {
            biased;
            event = self.stream.next() => Ok(event),
            () = &mut self.silence => Err(TailError::Silent(self.deadline)),
        }
    }

    fn explain(&self, err: Error) -> TailError {
        if is_of_decoder(&err, self.assembler.is_in_payload()) {
            return TailError::Undecodable { source: Box::new(err), at: self.assembler.at().clone() };
        }
        explain(err, &self.account)
    }

    /// The end of what has been told; `None` while only the GTID set is known.
    pub fn at(&self) -> Option<&FileOffset> {
        (!self.offset_unknown).then(|| self.assembler.at())
    }

    /// The place of the last [`Told::Heartbeat`], behind that heartbeat: there is one also where only the GTID set is
    /// known. `None` while not even the file is.
    pub fn heartbeat_at(&self) -> Option<&FileOffset> {
        Some(self.assembler.at()).filter(|at| at.is_known())
    }

    /// When the file of [`Tail::at`] began, in Unix seconds, once that is known.
    pub fn began(&self) -> Option<u32> {
        self.assembler.began()
    }

    /// Whether a file of the binlog has ended as after a crash, since this was last asked: more may have stood there.
    pub fn take_cut_off(&mut self) -> bool {
        self.assembler.take_cut_off()
    }

    /// Decodes by another layout, which row images are certain to have from `from` on.
    pub fn set_layout(&mut self, layout: Arc<Layout>, from: FileOffset) {
        self.assembler.set_layout(layout, from);
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

/// What tokio-util 0.7 says of a stream that ends in the middle of a packet, as an error of no special kind.
const CUT_IN_A_PACKET: &str = "bytes remaining on stream";

/// Whether the decoder made the error, and not the network. Both have `UnexpectedEof`: it is the decoder's
/// inside a compressed transaction, which has come as a whole, and where the text is mysql_common's own.
fn is_of_decoder(err: &Error, in_payload: bool) -> bool {
    let Error::Io(IoError::Io(err)) = err else { return false };
    match err.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            err.raw_os_error().is_none() && err.to_string() != CUT_IN_A_PACKET
        }
        io::ErrorKind::UnexpectedEof => in_payload || err.to_string().starts_with("can't parse"),
        _ => false,
    }
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
    // ER_MASTER_FATAL_ERROR_READING_BINLOG (1236), MariaDB's errors about GTIDs (1955, 1945, 1950), and what it says of a
    // file that somebody deleted (29). An event over max_allowed_packet, a gigabyte for replicas, is almost always a
    // place in the middle of another event; if there is one after all, the table has its rows, too.
    if matches!(server.code, 29 | 1236 | 1945 | 1950 | 1955) {
        return TailError::LostPosition(server.message.clone());
    }
    lacks_privilege(
        LinkError::Transient { what: "reading the binlog", source: Box::new(err) },
        &grant_slave(account),
    )
    .into()
}
