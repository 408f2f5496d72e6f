//! Rows below the ring, read from the table by key and put back into the order of their commits.
//!
//! Commit order matters here too: every row's id must be a cursor from which nothing is missed, also
//! when the client leaves in the middle. See [`super::below`] for what is known of that order.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    Row,
    below::{Late, Lost, Place},
    history::{History, HistoryUnavailable, Part},
    ring::Ring,
};
use crate::{
    id::{Epoch, EventId, Key},
    row::EncodedRow,
};

/// Rows of one answer that are given: what a client that stalls keeps alive. The last row may be larger.
const GIVEN_BYTES: usize = 256 * 1024;

/// Rows that are read to be counted, for one client at a time.
const COUNTED_BYTES: usize = 64 << 20;

/// Late rows that are asked for in one step.
const LATE_AT_ONCE: usize = 512;

/// Queries for them in one step.
const RUNS: usize = 32;

/// Late rows whose keys are no further apart than this are read by one query, with whatever is between.
const APART: Key = 8;

/// What to do next at a place below the ring.
#[derive(Debug)]
pub(super) enum Plan {
    /// Everything below the ring was taken: go on at its first slot.
    Done,
    Lost(Lost),
    Ask(Ask),
}

/// What to ask the table for.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) epoch: Epoch,
    pub(super) after: Key,
    pub(super) through: Key,
    /// Late rows with smaller keys than `after`.
    pub(super) singles: Vec<Key>,
    /// No more rows than this are left to read.
    pub(super) at_most: usize,
}

/// What the table answered.
#[derive(Debug)]
pub(super) struct Answer {
    rows: Vec<Arc<Row>>,
    /// `rows` is all there is through this key.
    reached: Key,
    singles: HashMap<Key, Option<Arc<Row>>>,
}

/// What lies between `place` and the ring.
pub(super) fn plan(ring: &Ring, place: Place) -> Plan {
    let late = match ring.below().late_from(place) {
        Ok(late) => late,
        Err(lost) => return Plan::Lost(lost),
    };
    let singles: Vec<Key> = late.filter(|late| late.key <= place.base).map(|late| late.key).collect();
    let through = ring.below().max().unwrap_or(place.base).max(place.base);
    if through == place.base && singles.is_empty() {
        return Plan::Done;
    }
    let span = usize::try_from(through.saturating_sub(place.base)).unwrap_or(usize::MAX);
    let at_most = span.saturating_add(singles.len());
    let singles = singles.into_iter().take(LATE_AT_ONCE).collect();
    Plan::Ask(Ask { epoch: ring.epoch(), after: place.base, through, singles, at_most })
}

/// Counts the rows to read, up to `limit`.
pub(super) async fn count(history: History, ask: Ask, limit: usize) -> Result<usize, HistoryUnavailable> {
    let rows = match ask.after < ask.through {
        true => history.rows(ask.after, ask.through, limit, COUNTED_BYTES, Part::Whole).await?.len(),
        false => 0,
    };
    Ok(rows.saturating_add(ask.singles.len()).min(limit))
}

/// Reads at most `limit` rows by key, and the late ones.
pub(super) async fn read(history: History, ask: Ask, limit: usize) -> Result<Answer, HistoryUnavailable> {
    let now = Instant::now();
    let encode = |row| Arc::new(Row::new(ask.epoch, None, now, row));
    let mut singles = HashMap::new();
    let mut bytes = 0;
    for run in ask.singles.chunk_by(|key, next| (1..=APART).contains(&(next - key))).take(RUNS) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let rows = history.rows(first - 1, *last, limit, GIVEN_BYTES, Part::First).await?;
        // As below; the next step asks for the rest.
        let reached = rows.last().map_or(*last, |row| row.key);
        bytes += rows.iter().map(|row| row.json.len()).sum::<usize>();
        let mut rows: HashMap<Key, EncodedRow> = rows.into_iter().map(|row| (row.key, row)).collect();
        for key in run.iter().filter(|key| **key <= reached) {
            singles.insert(*key, rows.remove(key).map(encode));
        }
        if bytes >= GIVEN_BYTES {
            break;
        }
    }
    let (mut rows, mut reached) = (Vec::new(), ask.through);
    let part = if ask.singles.is_empty() { Part::Whole } else { Part::Last };
    if ask.after < ask.through || part == Part::Last {
        rows = history.rows(ask.after, ask.through, limit, GIVEN_BYTES, part).await?;
        rows.retain(|row| ask.after < row.key && row.key <= ask.through);
        // Large rows come in smaller answers: only an empty one says that there are no more.
        reached = rows.last().map_or(reached, |row| row.key);
    }
    Ok(Answer { rows: rows.into_iter().map(encode).collect(), reached, singles })
}

/// The rows of an answer in the order of their commits, without those that the ring holds, and the
/// place after them. `None`: the place was lost while the table was read.
pub(super) fn weave(ring: &mut Ring, mut place: Place, answer: Answer) -> Option<(Vec<Arc<Row>>, Place)> {
    let Answer { rows, reached, mut singles } = answer;
    let epoch = ring.epoch();
    let mut in_order: BTreeMap<Key, Arc<Row>> = rows.into_iter().map(|row| (row.key(), row)).collect();
    in_order.retain(|&key, _| !ring.holds(EventId { epoch, key }));
    // A row committed after `reached` may have a key below it: its turn comes later.
    let mut late = Vec::new();
    for &Late { key, after, .. } in ring.below().late_from(place).ok()? {
        late.push((key, after, in_order.remove(&key)));
    }

    let mut out = Vec::new();
    for (key, after, row) in late.into_iter().take_while(|&(_, after, _)| after <= reached) {
        take_through(ring, &mut in_order, after, &mut out);
        place.base = place.base.max(after);
        let Some(row) = row.map(Some).or_else(|| singles.remove(&key)) else {
            // It was committed while the table was read: the next step asks for it.
            return Some((out, place));
        };
        out.extend(row);
        place.next_late += 1;
    }
    take_through(ring, &mut in_order, reached, &mut out);
    place.base = place.base.max(reached);
    Some((out, place))
}

/// Rows that are not late may be yet to come through the binlog.
fn take_through(ring: &mut Ring, from: &mut BTreeMap<Key, Arc<Row>>, through: Key, to: &mut Vec<Arc<Row>>) {
    let rest = from.split_off(&(through + 1));
    for (key, row) in std::mem::replace(from, rest) {
        ring.below_mut().give(key);
        to.push(row);
    }
}
