//! Answers the feed's requests for older rows, one at a time, on a connection of its own: a client that
//! comes back after a long time holds up no row that is new.
//!
//! The table may be another one by then, dropped or archived, and the binlog not have been read so far: its rows are
//! none of the epoch. So an answer is given when the follower has read the binlog to where it ended behind the SELECT.
//! An epoch that began on the way makes the feed drop it. And a server sends a commit before its own SELECTs see it: a row
//! that has come and left the feed at once, with most of a large transaction, would be taken for deleted. So the newest row
//! of the binlog must be there before a SELECT: servers show commits in the order of the binlog.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tracing::debug;

use super::ended::Ended;
use crate::{
    feed::history::{HistoryRequest, HistoryUnavailable, Part},
    id::EventId,
    link::{Identity, Link, Server, binlog_end, describe},
    row::{EncodedRow, Layout},
    table::Table,
    tail::{TableName, position::FileOffset},
};

/// Asks the follower where it is, and then to say when it has read further. Unanswered where its connection ends.
#[derive(Debug)]
pub(super) struct Question {
    here: oneshot::Sender<Here>,
    until: oneshot::Receiver<FileOffset>,
    reached: oneshot::Sender<Arc<Layout>>,
}

/// Where the follower is on its connection.
#[derive(Debug)]
pub(super) struct Here {
    pub(super) server: Identity,
    /// `None` while only the GTID set is known.
    pub(super) at: Option<FileOffset>,
    /// The same `Arc` as long as it says the same.
    pub(super) layout: Arc<Layout>,
}

/// The newest row that the binlog brought, and when. `None` before the first one of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) id: EventId,
    pub(super) came: Instant,
}

/// What is not there so long after it came was deleted: with semi-synchronous replication a server shows a commit when a
/// replica has it, or after 10 s by default (`rpl_semi_sync_source_timeout`).
const SHOWN_WITHIN: Duration = Duration::from_secs(12);

/// Pauses between two looks for it: twice as long each time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The connection, once there is one.
pub(super) struct Answers {
    link: Arc<Link>,
    name: TableName,
    follower: mpsc::Sender<Question>,
    newest: watch::Receiver<Option<Newest>>,
    open: Option<Open>,
}

struct Open {
    table: Table,
    server: Server,
    /// The follower's, when ours was read.
    layout: Arc<Layout>,
    /// What a row of the last answer had of JSON, on average.
    row_bytes: usize,
    newest: watch::Receiver<Option<Newest>>,
    /// The last of them that the server showed, or has deleted.
    shown: Option<Newest>,
}

impl Open {
    async fn rows(&mut self, request: &HistoryRequest) -> Result<Vec<EncodedRow>, Ended> {
        self.are_shown(request).await?;
        let HistoryRequest { after, through, limit, max_bytes, .. } = *request;
        // Rows behind `max_bytes` would be sent in vain.
        let limit = limit.min(max_bytes / self.row_bytes + 1);
        let rows = self.table.rows_within(after, through, limit, max_bytes).await?;
        let bytes: usize = rows.iter().map(|row| row.json.len()).sum();
        self.row_bytes = bytes.checked_div(rows.len()).unwrap_or(self.row_bytes).max(1);
        Ok(rows)
    }

    /// Waits until the server shows all that the binlog has brought by now, while somebody waits for the answer.
    async fn are_shown(&mut self, request: &HistoryRequest) -> Result<(), Ended> {
        let Some(mut brought) = *self.newest.borrow() else { return Ok(()) };
        let mut pause = SHORTEST_PAUSE;
        while self.shown != Some(brought) && brought.came.elapsed() < SHOWN_WITHIN {
            let newest = self.newest.borrow().filter(|_| !request.reply.is_closed());
            // Or the table is another one by now.
            let Some(newest) = newest else { return Ok(()) };
            if newest.id.epoch != brought.id.epoch {
                brought = newest;
                continue;
            }
            // It may have been deleted: then a newer one says as much.
            if self.has(newest).await? || newest != brought && self.has(brought).await? {
                break;
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(2 * pause);
        }
        self.shown = Some(brought);
        Ok(())
    }

    async fn has(&mut self, row: Newest) -> Result<bool, Ended> {
        let key = row.id.key;
        Ok(!self.table.rows_between(key - 1, key, 1).await?.is_empty())
    }
}

impl Answers {
    pub(super) fn new(
        link: Arc<Link>,
        name: TableName,
        follower: mpsc::Sender<Question>,
        newest: watch::Receiver<Option<Newest>>,
    ) -> Self {
        Answers { link, name, follower, newest, open: None }
    }

    /// Until nobody can ask any more.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<HistoryRequest>) {
        while let Some(request) = requests.recv().await {
            let rows = self.answer(&request).await.map_err(|err| {
                debug!(error = %err, "older rows can't be read");
                HistoryUnavailable
            });
            let _ = request.reply.send(rows); // gone meanwhile: nobody misses it
        }
    }

    async fn answer(&mut self, request: &HistoryRequest) -> Result<Vec<EncodedRow>, Ended> {
        while !request.reply.is_closed() {
            let was_open = self.open.is_some();
            match self.read(request).await {
                Ok(Some(rows)) => return Ok(rows),
                Ok(None) => {}
                Err(err) => {
                    self.open = None;
                    // A kept connection may have been closed by the server, or the table changed under it: once
                    // more with a new one.
                    if !was_open {
                        return Err(err);
                    }
                }
            }
        }
        Ok(Vec::new()) // the client has gone
    }

    /// `None` if nobody knows whose rows these are: the follower's connection ended, or the table was changed.
    async fn read(&mut self, request: &HistoryRequest) -> Result<Option<Vec<EncodedRow>>, Ended> {
        if let (Part::First, Some(open)) = (request.part, &mut self.open) {
            return Ok(Some(open.rows(request).await?)); // the last part waits for all
        }
        let (here, where_it_is) = oneshot::channel();
        let (behind, until) = oneshot::channel();
        let (reached, has_reached) = oneshot::channel();
        if self.follower.send(Question { here, until, reached }).await.is_err() {
            return Err(Ended::Passing("following has ended".into()));
        }
        let Ok(Here { server, at, layout }) = where_it_is.await else { return Ok(None) };
        let is_as_before = |open: &Open| open.server.identity == server && Arc::ptr_eq(&open.layout, &layout);
        if request.part == Part::Last && !self.open.as_ref().is_some_and(is_as_before) {
            return Err(Ended::Passing("the table may have changed between two parts of an answer".into()));
        }
        let open = self.open(server, &layout).await?;
        let rows = open.rows(request).await?;
        let end = binlog_end(open.table.conn(), &open.server).await?.at;
        if at.is_some_and(|at| !end.reaches(&at)) {
            return Err(Ended::Passing(
                "the binlog was reset, and the follower reads the old one yet".into(),
            ));
        }
        let _ = behind.send(end); // its connection ended: then nothing is reached, either
        let same = has_reached.await.is_ok_and(|now| Arc::ptr_eq(&now, &layout));
        Ok(same.then_some(rows))
    }

    /// On the server that is followed, by the layout that the table has now.
    async fn open(&mut self, server: Identity, layout: &Arc<Layout>) -> Result<&mut Open, Ended> {
        let open = match self.open.take() {
            Some(mut open) => {
                if !Arc::ptr_eq(&open.layout, layout) {
                    open.table.reload().await?;
                    open.layout = Arc::clone(layout);
                }
                open
            }
            None => {
                let mut conn = self.link.connect().await?;
                let server = describe(&mut conn).await?;
                let table = Table::open(conn, &self.name.database, &self.name.table).await?;
                let newest = self.newest.clone();
                Open { table, server, layout: Arc::clone(layout), row_bytes: 1, newest, shown: None }
            }
        };
        if open.server.identity != server {
            return Err(Ended::Passing("another server answers than the one that is followed".into()));
        }
        Ok(self.open.insert(open))
    }
}

/// The follower's side: how far it must read for the answer that waits.
#[derive(Debug, Default)]
pub(super) enum Asked {
    #[default]
    Nothing,
    /// The table is being read.
    Reading(oneshot::Receiver<FileOffset>, oneshot::Sender<Arc<Layout>>),
    /// To be told when the binlog has been read up to here.
    Until(FileOffset, oneshot::Sender<Arc<Layout>>),
}

impl Asked {
    /// Completes with a question to [`Asked::take`], or when there is more to do for the one before. Cancel-safe.
    pub(super) async fn changed(&mut self, questions: &mut mpsc::Receiver<Question>) -> Option<Question> {
        match self {
            Asked::Nothing => match questions.recv().await {
                Some(question) => Some(question),
                None => std::future::pending().await,
            },
            Asked::Reading(until, _) => {
                let until = until.await;
                if let (Ok(until), Asked::Reading(_, reached)) = (until, std::mem::take(self)) {
                    *self = Asked::Until(until, reached);
                }
                None
            }
            Asked::Until(..) => std::future::pending().await,
        }
    }

    /// Takes a question on.
    pub(super) fn take(&mut self, question: Question, here: Here) {
        let Question { here: reply, until, reached } = question;
        if reply.send(here).is_ok() {
            *self = Asked::Reading(until, reached);
        }
    }

    /// The binlog has been read to `at`. What statements wrote by then need not have been looked for: it has keys of its
    /// own, but where keys are given out again without a change of the table.
    pub(super) fn has_read(&mut self, at: Option<&FileOffset>, layout: &Arc<Layout>) {
        if let Asked::Until(until, _) = self
            && at.is_some_and(|at| at.reaches(until))
            && let Asked::Until(_, reached) = std::mem::take(self)
        {
            let _ = reached.send(Arc::clone(layout)); // nobody waits any more
        }
    }
}
