//! The feed: rows in commit order, in a bounded ring, and the cursors of its readers.
//!
//! One feed, many cursors. A row is encoded once and shared; a reader is a place in the feed, and costs
//! nothing while it does not read. Nothing is consumed: an id means the same place for every reader, in
//! the ring or below it, where the rows are read from the table.
//!
//! No reader misses a row without being told of a [`Gap`]. Each row comes once, in the order of commits.
//! The one exception is a row that a resuming reader got from the table before it was published, while more
//! than a whole ring of rows overtook it: that one may come twice. See [`HistoryRequest`](history::HistoryRequest).
//!
//! Knows neither MySQL nor HTTP.

mod below;
mod cursor;
pub mod history;
mod older;
mod ring;
mod row;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::watch, time::Instant};

use self::ring::Ring;
pub use self::{
    cursor::{Cursor, Gap, Next, Start, Subscriber},
    history::{History, HistoryUnavailable},
    row::Row,
};
use crate::{
    id::{Epoch, EventId, Key},
    row::EncodedRow,
};

/// The bounds of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows in the ring. At least 1.
    pub rows: usize,
    /// Bytes of the ring, about. The newest row stays, however large it is.
    pub bytes: usize,
    /// Rows that are read from the table for a client that resumes from below the ring.
    pub resume_limit: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { rows: 10_000, bytes: 64 << 20, resume_limit: 1_000 }
    }
}

/// A feed. Cheap to clone: all clones are the same feed.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    wake: watch::Sender<()>,
    history: History,
    resume_limit: usize,
}

/// A feed at one moment.
#[derive(Debug, Clone)]
pub struct FeedState {
    /// Whether cursors can be looked up, see [`Feed::set_ready`].
    pub ready: bool,
    /// The current epoch.
    pub epoch: Epoch,
    /// The latest row, or where the epoch begins.
    pub head: EventId,
    /// The oldest row in the ring.
    pub oldest: Option<EventId>,
    /// Rows in the ring.
    pub rows: usize,
    /// Bytes of the ring, about.
    pub bytes: usize,
    /// The names of the columns, once known.
    pub columns: Option<Arc<[Box<str>]>>,
}

impl Feed {
    /// An empty feed in epoch 1. `history` is asked for the rows below the ring.
    pub fn new(limits: Limits, history: History) -> Self {
        Feed(Arc::new(Shared {
            ring: Mutex::new(Ring::new(limits)),
            wake: watch::Sender::new(()),
            history,
            resume_limit: limits.resume_limit,
        }))
    }

    /// Adds the rows of one transaction, in their order. They become visible together.
    ///
    /// A key comes once in an epoch, as a rule. One that comes again is given again, and its id goes on
    /// meaning its first place: see [`Cursor::Again`]. An epoch that is not the current one begins.
    pub fn publish(&self, epoch: Epoch, committed_ms: Option<u64>, rows: Vec<EncodedRow>) {
        self.publish_some_again(epoch, committed_ms, rows, |_| false);
    }

    /// [`Feed::publish`] where some keys may have come before: `again` tells which.
    pub fn publish_some_again(
        &self,
        epoch: Epoch,
        committed_ms: Option<u64>,
        rows: Vec<EncodedRow>,
        again: impl Fn(Key) -> bool,
    ) {
        let told = Instant::now();
        // Encoded before the lock, so that readers wait for a few pointers only.
        let ready = match <[EncodedRow; 1]>::try_from(rows) {
            Ok([row]) => {
                let again = again(row.key);
                let row = Arc::new(Row::new(epoch, committed_ms, told, row));
                let mut ring = self.ring();
                ring.push(row, again);
                ring.ready()
            }
            Err(rows) => {
                let encode =
                    |row: EncodedRow| (again(row.key), Arc::new(Row::new(epoch, committed_ms, told, row)));
                let rows: Vec<(bool, Arc<Row>)> = rows.into_iter().map(encode).collect();
                let mut ring = self.ring();
                rows.into_iter().for_each(|(again, row)| ring.push(row, again));
                ring.ready()
            }
        };
        // Until then nobody reads, and whoever waits for it must not be woken for each row.
        if ready {
            self.wake();
        }
    }

    /// The keys have started over. The head is `<epoch>-0` until a row comes. Epochs only go up.
    pub fn begin_epoch(&self, epoch: Epoch) {
        self.ring().begin_epoch(epoch);
        self.wake();
    }

    /// The same rows get ids of another epoch from here on. Epochs only go up.
    pub fn renumber(&self, epoch: Epoch) {
        self.ring().renumber(epoch);
        self.wake();
    }

    /// Continuity is broken here: every client whose cursor crosses this point is told.
    pub fn mark_gap(&self, reason: String) {
        self.ring().mark_gap(reason.into());
        self.wake();
    }

    /// Rows of the current epoch with keys up to `through` are in the table though never in this ring.
    pub fn mark_older(&self, through: Key) {
        self.ring().mark_older(through);
        self.wake();
    }

    /// The names of the columns of rows to come, where they are known before the first row.
    pub fn set_columns(&self, columns: Arc<[Box<str>]>) {
        self.ring().set_columns(columns);
    }

    /// The process has caught up with where the server was at the start. Until then no cursor is looked
    /// up: a client that comes back may hold an id that is yet to be read again.
    pub fn set_ready(&self) {
        self.ring().set_ready();
        self.wake();
    }

    /// The id of the latest row, or where the epoch begins.
    pub fn head(&self) -> EventId {
        self.ring().head()
    }

    /// The latest rows of the table, at most `limit`, the newest first: a key may come again. Those of a table that was
    /// replaced are not among them, those from before [`Feed::renumber`] are.
    pub fn latest(&self, limit: usize) -> Vec<Arc<Row>> {
        self.ring().latest(limit)
    }

    /// The feed at this moment.
    pub fn state(&self) -> FeedState {
        self.state_of(&self.ring())
    }

    /// Waits until the feed is ready, then finds the place to begin. `wanted` says which rows
    /// [`Start::Latest`] counts. Cancel-safe.
    pub async fn subscribe(&self, start: Start, wanted: impl Fn(&Row) -> bool) -> Subscriber {
        Subscriber::open(self.clone(), start, wanted).await
    }

    fn state_of(&self, ring: &Ring) -> FeedState {
        FeedState {
            ready: ring.ready(),
            epoch: ring.epoch(),
            head: ring.head(),
            oldest: ring.oldest(),
            rows: ring.rows(),
            bytes: ring.bytes(),
            columns: ring.columns().cloned(),
        }
    }

    fn ready(&self) -> bool {
        self.ring().ready()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> &History {
        &self.0.history
    }

    fn resume_limit(&self) -> usize {
        self.0.resume_limit
    }

    fn watch(&self) -> watch::Receiver<()> {
        self.0.wake.subscribe()
    }

    fn wake(&self) {
        // Whoever subscribes after this look takes the ring's lock after the change that it tells of.
        if self.0.wake.receiver_count() > 0 {
            self.0.wake.send_replace(());
        }
    }
}
