//! The bounded ring of rows in commit order.
//!
//! Owns sequence numbers, the index from ids to them, eviction, and what an id means as a cursor. Does
//! no waiting and no I/O: [`super::Feed`] locks it for short sections.
//!
//! A marked gap takes a place of its own between the rows, so that a cursor is before it or after it.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    Cursor, Limits, Row,
    below::{BEFORE_ALL, Below, Lost, Place},
};
use crate::id::{Epoch, EventId, Key};

#[derive(Debug)]
pub(super) struct Ring {
    limits: Limits,
    epoch: Epoch,
    /// The first epoch in which the table was the one that it is.
    table_since: Epoch,
    /// The greatest key that the epoch has had.
    highest: Option<Key>,
    head: EventId,
    /// Where the head is, if its id does not tell.
    head_again: Option<u64>,
    slots: VecDeque<Slot>,
    /// Sequence number of the first slot.
    first: u64,
    rows: usize,
    bytes: usize,
    /// Every row's first place in the ring.
    index: HashMap<EventId, u64>,
    below: Below,
    columns: Option<Arc<[Box<str>]>>,
    ready: bool,
}

#[derive(Debug)]
struct Slot {
    epoch: Epoch,
    /// The greatest key of the epoch up to and with this slot: it never falls within an epoch.
    highest: Key,
    what: What,
}

#[derive(Debug)]
enum What {
    Row {
        row: Arc<Row>,
        /// The id may have come before, below the ring; see also [`super::below::Late::early`].
        early: bool,
        /// The ring had the id when this came, as after a REPLACE. The id goes on meaning the first place,
        /// so that it makes nobody miss a row; this one is named by [`Cursor::Again`].
        again: bool,
    },
    Gap(Arc<str>),
}

/// What an id means as a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolved {
    /// The next row is at this sequence number.
    Ring(u64),
    /// The next rows are below the ring.
    Table(Place),
    /// Continuity can't be kept; it goes on at this sequence number.
    Gap { reason: Arc<str>, to: u64 },
}

/// What comes next in the ring.
#[derive(Debug)]
pub(super) enum Read {
    /// Rows, and where to read on. Never empty.
    Rows(Vec<Arc<Row>>, u64),
    /// A marked gap, and where to read on.
    Gap(Arc<str>, u64),
    /// Nothing yet.
    End,
    /// The ring has moved on.
    Fell,
}

impl Ring {
    pub(super) fn new(limits: Limits) -> Self {
        Ring {
            limits: Limits { rows: limits.rows.max(1), ..limits },
            epoch: 1,
            table_since: 1,
            highest: None,
            head: EventId { epoch: 1, key: 0 },
            head_again: None,
            slots: VecDeque::new(),
            first: first_seq(),
            rows: 0,
            bytes: 0,
            index: HashMap::new(),
            below: Below::new(limits.resume_limit),
            columns: None,
            ready: false,
        }
    }

    pub(super) fn begin_epoch(&mut self, epoch: Epoch) {
        self.renumber(epoch);
        self.table_since = epoch;
    }

    /// An epoch of the same table.
    pub(super) fn renumber(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.highest = None;
        self.head = EventId { epoch, key: 0 };
        self.head_again = None;
        self.below = Below::new(self.limits.resume_limit);
    }

    /// Adds a row. `came` says that its key may have come before.
    pub(super) fn push(&mut self, row: Arc<Row>, came: bool) {
        let id = row.id();
        if id.epoch != self.epoch {
            self.begin_epoch(id.epoch);
        }
        let highest = self.highest.map_or(id.key, |highest| highest.max(id.key));
        self.highest = Some(highest);
        self.head = id;
        if !self.columns.as_ref().is_some_and(|columns| Arc::ptr_eq(columns, row.columns())) {
            self.columns = Some(row.columns().clone());
        }
        let seq = self.end();
        let again = match self.index.entry(id) {
            hash_map::Entry::Vacant(place) => {
                place.insert(seq);
                false
            }
            hash_map::Entry::Occupied(_) => true,
        };
        self.rows += 1;
        self.bytes += row.cost_bytes();
        let early = came || self.below.was_given(id.key);
        self.head_again = (early || again).then_some(seq);
        self.slots.push_back(Slot { epoch: id.epoch, highest, what: What::Row { row, early, again } });
        self.evict();
    }

    pub(super) fn mark_gap(&mut self, reason: Arc<str>) {
        let highest = self.highest.unwrap_or(BEFORE_ALL);
        self.slots.push_back(Slot { epoch: self.epoch, highest, what: What::Gap(reason) });
        self.evict();
    }

    pub(super) fn mark_older(&mut self, through: Key) {
        self.below.raise(through);
        if self.highest.is_none() {
            self.head = EventId { epoch: self.epoch, key: through };
        }
        self.highest = self.highest.max(Some(through));
    }

    pub(super) fn set_ready(&mut self) {
        self.ready = true;
    }

    pub(super) fn set_columns(&mut self, columns: Arc<[Box<str>]>) {
        self.columns = Some(columns);
    }

    /// Drops the oldest slots beyond the limits. The newest always stays, however large it is.
    fn evict(&mut self) {
        while self.slots.len() > self.limits.rows || (self.bytes > self.limits.bytes && self.slots.len() > 1)
        {
            let Some(slot) = self.slots.pop_front() else { return };
            let seq = self.first;
            self.first += 1;
            let current = slot.epoch == self.epoch;
            match slot.what {
                What::Row { row, early, again } => {
                    self.rows -= 1;
                    self.bytes -= row.cost_bytes();
                    if !again {
                        let was = self.index.remove(&row.id());
                        debug_assert_eq!(was, Some(seq), "the index names the first place of an id");
                    }
                    // The table has one row under a key: who reads on from there is told it at its first place.
                    if current && !again {
                        self.below.take(row.key(), slot.highest, early);
                    }
                }
                What::Gap(reason) if current => {
                    // Keys up to the next row's that were never seen here were lost in the gap.
                    let next = self.slots.front().map_or(BEFORE_ALL, |next| next.highest.saturating_sub(1));
                    self.below.take_gap(slot.highest.max(next), reason);
                }
                What::Gap(_) => {}
            }
        }
    }

    pub(super) fn ready(&self) -> bool {
        self.ready
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn head(&self) -> EventId {
        self.head
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn columns(&self) -> Option<&Arc<[Box<str>]>> {
        self.columns.as_ref()
    }

    pub(super) fn below(&self) -> &Below {
        &self.below
    }

    pub(super) fn below_mut(&mut self) -> &mut Below {
        &mut self.below
    }

    pub(super) fn holds(&self, id: EventId) -> bool {
        self.index.contains_key(&id)
    }

    /// The latest row as a place to go on from.
    pub(super) fn head_cursor(&self) -> Cursor {
        match self.head_again {
            Some(seq) => Cursor::Again(self.head, seq),
            None => Cursor::Id(self.head),
        }
    }

    /// The row at `seq` as a place to go on from.
    pub(super) fn cursor_at(&self, seq: u64) -> Option<Cursor> {
        match &self.slot(seq)?.what {
            What::Row { row, early: false, again: false } => Some(Cursor::Id(row.id())),
            What::Row { row, .. } => Some(Cursor::Again(row.id(), seq)),
            What::Gap(_) => None,
        }
    }

    /// Whether the ring had the id of the row at `seq` before.
    pub(super) fn is_again(&self, seq: u64) -> bool {
        matches!(self.slot(seq), Some(Slot { what: What::Row { again: true, .. }, .. }))
    }

    /// Sequence number that the next slot will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn slot(&self, seq: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// The first row at `seq` or after it.
    fn first_row(&self, seq: u64) -> Option<(u64, EventId)> {
        let skip = usize::try_from(seq.saturating_sub(self.first)).ok()?.min(self.slots.len());
        let numbered = (self.first + skip as u64..).zip(self.slots.range(skip..));
        numbered.into_iter().find_map(|(seq, slot)| match &slot.what {
            What::Row { row, .. } => Some((seq, row.id())),
            What::Gap(_) => None,
        })
    }

    /// The id of the first row at `seq` or after it.
    pub(super) fn row_from(&self, seq: u64) -> Option<EventId> {
        self.first_row(seq).map(|(_, id)| id)
    }

    /// The latest rows of the table, at most `limit`, the newest first.
    pub(super) fn latest(&self, limit: usize) -> Vec<Arc<Row>> {
        let rows = self.slots.iter().rev().take_while(|slot| slot.epoch >= self.table_since);
        let rows = rows.filter_map(|slot| match &slot.what {
            What::Row { row, .. } => Some(row.clone()),
            What::Gap(_) => None,
        });
        rows.take(limit).collect()
    }

    /// The oldest row.
    pub(super) fn oldest(&self) -> Option<EventId> {
        self.row_from(self.first)
    }

    /// Sequence number of the current epoch's oldest slot, or of the next slot where it has none.
    pub(super) fn epoch_first(&self) -> u64 {
        self.first + self.slots.partition_point(|slot| slot.epoch < self.epoch) as u64
    }

    /// Sequence number of the oldest row, or of the next slot where there is no row.
    pub(super) fn oldest_seq(&self) -> u64 {
        self.first_row(self.first).map_or_else(|| self.end(), |(seq, _)| seq)
    }

    /// At most `max_rows` rows from `seq` on, and no more once they have `max_bytes`; or the gap that is there.
    pub(super) fn read(&self, seq: u64, max_rows: usize, max_bytes: usize) -> Read {
        let Some(skip) = seq.checked_sub(self.first).and_then(|skip| usize::try_from(skip).ok()) else {
            return Read::Fell;
        };
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for slot in self.slots.range(skip.min(self.slots.len())..) {
            match &slot.what {
                What::Gap(reason) if rows.is_empty() => return Read::Gap(reason.clone(), seq + 1),
                What::Row { row, .. } if rows.len() < max_rows && bytes < max_bytes => {
                    bytes += row.frame().len();
                    rows.push(row.clone());
                }
                _ => break,
            }
        }
        if rows.is_empty() {
            return Read::End;
        }
        let next = seq + rows.len() as u64;
        Read::Rows(rows, next)
    }

    /// At most `max_rows` rows that end right before `seq`, newest first, with their sequence numbers.
    pub(super) fn read_back(&self, seq: u64, max_rows: usize) -> Vec<(u64, Arc<Row>)> {
        let end = usize::try_from(seq.saturating_sub(self.first)).unwrap_or(0).min(self.slots.len());
        let numbered = self.slots.range(..end).rev().zip(1u64..);
        let rows = numbered.filter_map(|(slot, back)| match &slot.what {
            What::Row { row, .. } => Some((self.first + end as u64 - back, row.clone())),
            What::Gap(_) => None,
        });
        rows.take(max_rows).collect()
    }

    /// What comes after the row that a cursor names.
    pub(super) fn resolve(&self, cursor: Cursor) -> Resolved {
        let id = match cursor {
            Cursor::Id(id) => id,
            Cursor::Key(key) => EventId { epoch: self.epoch, key },
            Cursor::Again(id, seq) => match self.cursor_at(seq) {
                Some(found) if found == cursor => return Resolved::Ring(seq + 1),
                // It has left the ring, or the process is another one: from the first place on, rather too much.
                _ => id,
            },
        };
        if let Some(&seq) = self.index.get(&id) {
            let early = matches!(self.slot(seq), Some(Slot { what: What::Row { early: true, .. }, .. }));
            return match early {
                true => Resolved::Gap { reason: Lost::Early.reason(), to: seq + 1 },
                false => Resolved::Ring(seq + 1),
            };
        }
        if id.epoch < self.epoch {
            return self.resolve_past(id);
        }
        let ahead = || Resolved::Gap { reason: "the id is ahead of this feed".into(), to: self.end() };
        if id.epoch > self.epoch {
            return ahead();
        }
        let key = key(id);
        match (self.highest, self.below.max()) {
            (None, _) if key != BEFORE_ALL => ahead(),
            (Some(highest), _) if key > highest => ahead(),
            (_, Some(below)) if key <= below => match self.below.place_after(key) {
                Ok(place) => Resolved::Table(place),
                Err(lost) => Resolved::Gap { reason: lost.reason(), to: self.oldest_seq() },
            },
            _ => match self.below.gap_after(key) {
                Ok(()) => Resolved::Ring(self.first_above(key)),
                Err(lost) => Resolved::Gap { reason: lost.reason(), to: self.oldest_seq() },
            },
        }
    }

    /// What comes after an id of a past epoch that the ring does not hold.
    fn resolve_past(&self, id: EventId) -> Resolved {
        let skip = self.slots.partition_point(|slot| slot.epoch < id.epoch);
        let to = self.first + skip as u64;
        if id.key == 0 && skip > 0 {
            // The ring reaches back to before that epoch.
            return Resolved::Ring(to);
        }
        // A key above all that the ring has of that epoch came after them.
        let end = self.slots.partition_point(|slot| slot.epoch <= id.epoch);
        let above = self.slots.range(skip..end).next_back().is_some_and(|last| key(id) > last.highest);
        let to = if above { self.first + end as u64 } else { to };
        let behind = self.first_row(to).map_or_else(|| self.end(), |(seq, _)| seq);
        // One that was marked says more.
        let marked = (to..behind).find_map(|seq| match &self.slot(seq)?.what {
            What::Gap(reason) => Some(reason.clone()),
            What::Row { .. } => None,
        });
        let reason = marked.unwrap_or_else(|| "the table's keys have started over since that id".into());
        Resolved::Gap { reason, to: behind }
    }

    /// Where the epoch's first row with a greater key is, or the gaps right before it.
    fn first_above(&self, key: Key) -> u64 {
        let mut at = self.slots.partition_point(|slot| (slot.epoch, slot.highest) <= (self.epoch, key));
        let is_gap = |slot: &Slot| slot.epoch == self.epoch && matches!(slot.what, What::Gap(_));
        while at.checked_sub(1).and_then(|before| self.slots.get(before)).is_some_and(is_gap) {
            at -= 1;
        }
        self.first + at as u64
    }
}

/// `<epoch>-0` is where an epoch begins, before all its keys.
fn key(id: EventId) -> Key {
    if id.key == 0 { BEFORE_ALL } else { id.key }
}

/// Numbers that no ring of an earlier process had, see [`Cursor::Again`].
fn first_seq() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}
