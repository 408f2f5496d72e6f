//! Cursors: where a client is in the feed, and what comes next for it.
//!
//! Owns the way from an id to the next row: in the ring, below it, or across a gap. A subscriber that
//! fell behind the ring resumes from its last id, exactly as a client that comes back does.

use std::{collections::VecDeque, fmt, str::FromStr, sync::Arc};

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::watch;

use super::{
    Feed, FeedState, Row,
    below::Place,
    history::HistoryUnavailable,
    older::{self, Answer, Plan},
    ring::{Read, Resolved, Ring},
};
use crate::id::{self, BadEventId, Epoch, EventId, Key};

/// Rows that are read from the table in one step: it bounds what one client can make the process hold.
const TABLE_BATCH: usize = 250;

/// Frames that are taken from the ring in one step: it bounds what a client that stalls keeps alive.
const RING_BATCH_BYTES: usize = 64 * 1024;

/// A row as a client names it: it has everything up to that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// With its epoch.
    Id(EventId),
    /// A bare key, of the current epoch.
    Key(Key),
    /// A row whose id had come before, as after a REPLACE, and its number in this process. The id alone means
    /// the first of its places.
    Again(EventId, u64),
}

impl Cursor {
    /// Whether it names a row with this id, at whichever place.
    pub fn names(&self, id: EventId) -> bool {
        matches!(self, Cursor::Id(own) | Cursor::Again(own, _) if *own == id)
    }
}

impl FromStr for Cursor {
    type Err = BadEventId;

    /// Reads `<epoch>-<key>`, `<epoch>-<key>@<number>`, or a bare key.
    ///
    /// # Errors
    /// [`BadEventId`] for any other text.
    fn from_str(text: &str) -> Result<Self, BadEventId> {
        if let Some(key) = id::parse_key(text) {
            return Ok(Cursor::Key(key));
        }
        match text.split_once('@') {
            None => text.parse().map(Cursor::Id),
            Some((id, number)) => {
                let number = id::digits(number).and_then(|number| number.parse().ok());
                Ok(Cursor::Again(id.parse()?, number.ok_or(BadEventId)?))
            }
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cursor::Id(id) => id.fmt(f),
            Cursor::Key(key) => key.fmt(f),
            Cursor::Again(id, number) => write!(f, "{id}@{number}"),
        }
    }
}

/// Where a subscriber begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the next row.
    Now,
    /// With the oldest row in the ring.
    Earliest,
    /// With the latest so many rows of the ring.
    Latest(usize),
    /// After a row.
    After(Cursor),
}

/// What comes next for a subscriber.
#[derive(Debug)]
pub enum Next {
    /// Rows in the order of their commits. Never empty.
    Rows(Vec<Arc<Row>>),
    /// Continuity is broken here.
    Gap(Gap),
}

/// A place where rows may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The last id that the client is known to have.
    pub after: Option<EventId>,
    /// The next row, or the head where no row follows yet.
    pub resumes_at: EventId,
    /// Why, for people.
    pub reason: Arc<str>,
}

/// One client's cursor. It holds no rows: what it has not asked for is in the ring or in the table.
pub struct Subscriber {
    feed: Feed,
    changed: watch::Receiver<()>,
    at: At,
    /// Rows from the table that come before `at`.
    fetched: VecDeque<Arc<Row>>,
    last: Option<Cursor>,
    came_again: bool,
    opened: FeedState,
}

enum At {
    /// After a row that is yet to be looked up.
    After(Cursor),
    /// The next slot in the ring.
    Ring(u64),
    /// Below the ring.
    Older(Older),
}

struct Older {
    epoch: Epoch,
    place: Place,
    /// Rows that may still be read.
    left: usize,
    /// It is known that no more than `left` rows are to be read.
    counted: bool,
    /// Kept across calls, so that a caller's time limit does not throw the table's work away.
    asked: Option<Asked>,
}

enum Asked {
    Count(BoxFuture<'static, Result<usize, HistoryUnavailable>>),
    Rows(BoxFuture<'static, Result<Answer, HistoryUnavailable>>),
}

enum Step {
    Give(Next),
    Again,
    Ask,
    Wait,
}

impl Subscriber {
    /// Waits until the feed is ready and finds the place to begin. `wanted` says which rows
    /// [`Start::Latest`] counts. Cancel-safe.
    pub(super) async fn open(feed: Feed, start: Start, wanted: impl Fn(&Row) -> bool) -> Self {
        let mut changed = feed.watch();
        while !feed.ready() {
            // The sender is in `feed`: it can't have gone.
            let _ = changed.changed().await;
        }
        let (opened, end, at, last) = {
            let ring = feed.ring();
            let (at, last) = match start {
                Start::Now | Start::Latest(_) => (At::Ring(ring.end()), Some(ring.head_cursor())),
                Start::Earliest => (At::Ring(ring.oldest_seq()), None),
                Start::After(cursor) => {
                    let cursor = match cursor {
                        Cursor::Key(key) => Cursor::Id(EventId { epoch: ring.epoch(), key }),
                        cursor => cursor,
                    };
                    (At::After(cursor), Some(cursor))
                }
            };
            (feed.state_of(&ring), ring.end(), at, last)
        };
        let fetched = VecDeque::new();
        let mut subscriber = Subscriber { feed, changed, at, fetched, last, came_again: false, opened };
        if let Start::Latest(rows) = start
            && let Some(seq) = subscriber.latest(end, rows, wanted)
        {
            subscriber.at = At::Ring(seq);
            subscriber.last = None;
        }
        subscriber
    }

    /// Where the latest `rows` wanted rows before `end` begin.
    fn latest(&self, end: u64, rows: usize, wanted: impl Fn(&Row) -> bool) -> Option<u64> {
        const AT_ONCE: usize = 512;
        let (mut found, mut left, mut at) = (None, rows, end);
        while left > 0 {
            // The lock is free between the pieces: the ring may be long, and a filter takes its time.
            let piece = self.feed.ring().read_back(at, AT_ONCE);
            let Some((seq, _)) = piece.last() else { break };
            at = *seq;
            for (seq, _) in piece.iter().filter(|(_, row)| wanted(row)).take(left) {
                found = Some(*seq);
                left -= 1;
            }
        }
        found
    }

    /// The feed as it was when the subscriber found its place.
    pub fn opened(&self) -> &FeedState {
        &self.opened
    }

    /// The place to come back to: everything up to it was given. It is the head once nothing is left
    /// to give. `None` only before the first row of a subscriber that began with old rows.
    pub fn cursor(&self) -> Option<Cursor> {
        self.last
    }

    /// Whether the last row that was given had been in the feed before, under the same key.
    pub fn came_again(&self) -> bool {
        self.came_again
    }

    /// Waits for what comes next: at most `max_rows` rows. Cancel-safe: nothing is lost when the future
    /// is dropped, and a query that is under way goes on.
    ///
    /// # Errors
    /// [`HistoryUnavailable`] when older rows are needed and can't be read. Calling again tries again.
    pub async fn next(&mut self, max_rows: usize) -> Result<Next, HistoryUnavailable> {
        let max_rows = max_rows.max(1);
        loop {
            if !self.fetched.is_empty() {
                return Ok(self.give(max_rows));
            }
            self.changed.mark_unchanged();
            match self.step(max_rows) {
                Step::Give(next) => return Ok(next),
                Step::Again => {}
                Step::Ask => {
                    if let Some(gap) = self.answer().await? {
                        return Ok(gap);
                    }
                }
                Step::Wait => {
                    let _ = self.changed.changed().await;
                }
            }
        }
    }

    fn give(&mut self, max_rows: usize) -> Next {
        let rows: Vec<_> = self.fetched.drain(..max_rows.min(self.fetched.len())).collect();
        self.last = rows.last().map(|row| Cursor::Id(row.id())).or(self.last);
        self.came_again = false;
        Next::Rows(rows)
    }

    fn step(&mut self, max_rows: usize) -> Step {
        let feed = self.feed.clone();
        let ring = feed.ring();
        match &mut self.at {
            At::After(cursor) => match ring.resolve(*cursor) {
                Resolved::Ring(seq) => {
                    self.at = At::Ring(seq);
                    Step::Again
                }
                Resolved::Table(place) => {
                    let left = feed.resume_limit();
                    self.at =
                        At::Older(Older { epoch: ring.epoch(), place, left, counted: false, asked: None });
                    Step::Again
                }
                Resolved::Gap { reason, to } => Step::Give(self.cross(&ring, reason, to)),
            },
            At::Ring(seq) => match ring.read(*seq, max_rows, RING_BATCH_BYTES) {
                Read::Rows(rows, next) => {
                    *seq = next;
                    self.last = ring.cursor_at(next - 1);
                    self.came_again = ring.is_again(next - 1);
                    Step::Give(Next::Rows(rows))
                }
                Read::Gap(reason, next) => Step::Give(self.cross(&ring, reason, next)),
                Read::End => {
                    self.last = Some(ring.head_cursor());
                    Step::Wait
                }
                Read::Fell => match self.last {
                    Some(cursor) => {
                        self.at = At::After(cursor);
                        Step::Again
                    }
                    None => Step::Give(self.cross(&ring, "too slow for this feed".into(), ring.oldest_seq())),
                },
            },
            At::Older(older) => {
                if older.asked.is_some() {
                    return Step::Ask;
                }
                if older.epoch != ring.epoch() {
                    return match self.last {
                        Some(cursor) => {
                            self.at = At::After(cursor);
                            Step::Again
                        }
                        None => {
                            Step::Give(self.cross(&ring, "keys have started over".into(), ring.oldest_seq()))
                        }
                    };
                }
                match older::plan(&ring, older.place) {
                    Plan::Done => {
                        self.at = At::Ring(ring.epoch_first());
                        Step::Again
                    }
                    Plan::Lost(lost) => Step::Give(self.cross(&ring, lost.reason(), ring.oldest_seq())),
                    Plan::Ask(ask) => {
                        let history = feed.history().clone();
                        if older.left == 0 {
                            return Step::Give(self.cross_too_many(&ring));
                        }
                        if older.counted || ask.at_most <= older.left {
                            let limit = TABLE_BATCH.min(older.left).min(max_rows);
                            older.asked = Some(Asked::Rows(Box::pin(older::read(history, ask, limit))));
                        } else {
                            let limit = older.left.saturating_add(1);
                            older.asked = Some(Asked::Count(Box::pin(older::count(history, ask, limit))));
                        }
                        Step::Ask
                    }
                }
            }
        }
    }

    /// Awaits the table's answer and takes it over. A gap, if there is too much to read.
    async fn answer(&mut self) -> Result<Option<Next>, HistoryUnavailable> {
        let At::Older(older) = &mut self.at else { return Ok(None) };
        match &mut older.asked {
            None => Ok(None),
            Some(Asked::Count(asked)) => {
                let rows = asked.await;
                older.asked = None;
                if rows? <= older.left {
                    older.counted = true;
                    return Ok(None);
                }
                let feed = self.feed.clone();
                Ok(Some(self.cross_too_many(&feed.ring())))
            }
            Some(Asked::Rows(asked)) => {
                let answer = asked.await;
                older.asked = None;
                let answer = answer?;
                let feed = self.feed.clone();
                let mut ring = feed.ring();
                if older.epoch != ring.epoch() {
                    return Ok(None);
                }
                let Some((rows, place)) = older::weave(&mut ring, older.place, answer) else {
                    return Ok(None);
                };
                older.place = place;
                older.left = older.left.saturating_sub(rows.len());
                self.fetched.extend(rows);
                Ok(None)
            }
        }
    }

    fn cross_too_many(&mut self, ring: &Ring) -> Next {
        let limit = self.feed.resume_limit();
        let reason = format!("more than {limit} rows were missed").into();
        self.cross(ring, reason, ring.oldest_seq())
    }

    /// Goes on at `to`, and says so.
    fn cross(&mut self, ring: &Ring, reason: Arc<str>, to: u64) -> Next {
        let after = self.last.map(|cursor| match cursor {
            Cursor::Id(id) | Cursor::Again(id, _) => id,
            Cursor::Key(key) => EventId { epoch: ring.epoch(), key },
        });
        self.at = At::Ring(to);
        if to == ring.end() {
            self.last = Some(ring.head_cursor());
        }
        Next::Gap(Gap { after, resumes_at: ring.row_from(to).unwrap_or_else(|| ring.head()), reason })
    }
}
