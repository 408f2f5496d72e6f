//! The door to rows older than the ring: requests that whoever reads the table answers.
//!
//! Owns the request and its bound. Knows no MySQL: [`crate::follow`] holds the other end.

use tokio::sync::{mpsc, oneshot};

use crate::{id::Key, row::EncodedRow};

/// Requests that may wait; beyond it callers wait to hand theirs in. One is answered at a time, so a
/// longer queue would only be older.
const WAITING: usize = 64;

/// Asks for rows by key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct History(mpsc::Sender<HistoryRequest>);

/// Rows with `after < key <= through`, in key order, at most `limit`, and fewer if they are large: only an
/// empty answer means that there are no more.
///
/// Whatever the answer shows of the table has been published before: rows, and epochs that have begun. A feed can't
/// tell the rows of another table from those it asked for.
#[derive(Debug)]
pub struct HistoryRequest {
    /// Exclusive lower bound. It may lie below every key that the column can have, at `i64::MIN - 1`.
    pub after: Key,
    /// Inclusive upper bound.
    pub through: Key,
    /// At most this many rows.
    pub limit: usize,
    /// No more rows once they have so many bytes of JSON.
    pub max_bytes: usize,
    /// See [`Part`].
    pub part: Part,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Vec<EncodedRow>, HistoryUnavailable>>,
}

/// Whether others belong to the same answer: what holds of it must hold when the last of them has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It is one by itself.
    Whole,
    /// Others come behind it.
    First,
    /// The last one: an error if the table may have changed since the first.
    Last,
}

/// The table can't be read now; the caller may try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("older rows can't be read from the table now")]
pub struct HistoryUnavailable;

impl History {
    /// A handle, and the end that answers.
    pub fn channel() -> (History, mpsc::Receiver<HistoryRequest>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (History(sender), receiver)
    }

    /// Rows as [`HistoryRequest`] has them. Cancel-safe.
    ///
    /// # Errors
    /// [`HistoryUnavailable`] while the server can't be asked.
    pub async fn rows(
        &self,
        after: Key,
        through: Key,
        limit: usize,
        max_bytes: usize,
        part: Part,
    ) -> Result<Vec<EncodedRow>, HistoryUnavailable> {
        let (reply, answer) = oneshot::channel();
        let request = HistoryRequest { after, through, limit, max_bytes, part, reply };
        self.0.send(request).await.map_err(|_| HistoryUnavailable)?;
        answer.await.map_err(|_| HistoryUnavailable)?
    }
}
