//! What the current epoch has below the ring: rows that left it, and rows that never were in it.
//!
//! Those rows are in the table, which knows their keys but not the order of their commits. Almost
//! always both orders are the same. Where they are not, this remembers the exceptions: a *late* row
//! is one that was committed after a row with a greater key. With that list the commit order of
//! everything below the ring can be told again, so that each row's id stays an exact cursor.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use crate::id::Key;

/// Late rows that are remembered below the ring, or as many as a client may get from the table, if that is more. A client
/// older than the forgotten ones gets a gap. Only tables with many parallel writers, or large transactions, have late rows
/// at all; this many take 200 kB.
const LATE_KEPT: usize = 4096;

/// Keys that are remembered as read from the table for a client. It matters only for rows that are published behind that:
/// those that are not logged, which takes some seconds.
const GIVEN_KEPT: usize = 16_384;

/// Below every key that an SQL integer can have.
pub(super) const BEFORE_ALL: Key = i64::MIN as Key - 1;

#[derive(Debug)]
pub(super) struct Below {
    /// The greatest key below the ring.
    max: Option<Key>,
    /// In the order of their commits, so `after` never falls.
    late: VecDeque<Late>,
    late_kept: usize,
    /// How many late rows were dropped from the front of `late`.
    dropped: u64,
    /// `after` of the last one dropped.
    forgotten: Option<Key>,
    /// The latest marked gap below the ring: the greatest key that stands before it, and the reason.
    gap: Option<(Key, Arc<str>)>,
    given: Given,
}

/// A row that was committed after the row `after`, though its key is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Late {
    pub(super) key: Key,
    pub(super) after: Key,
    /// It was read from the table for a client before it came through the binlog.
    pub(super) early: bool,
}

/// A place among the rows below the ring: next come, in the order of commits, the rows with keys
/// greater than `base` and the late rows from number `next_late`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) base: Key,
    pub(super) next_late: u64,
}

/// Why a place can't be told exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// Late rows were forgotten.
    Forgotten,
    /// A marked gap lies between.
    Gap(Arc<str>),
    /// The row was read from the table before it came through the binlog: its id has two places.
    Early,
}

impl Lost {
    /// For people.
    pub(super) fn reason(self) -> Arc<str> {
        match self {
            Lost::Forgotten => "the order of the rows after that id is no longer known".into(),
            Lost::Gap(reason) => reason,
            Lost::Early => "that row was read from the table before its turn".into(),
        }
    }
}

impl Below {
    /// Of an epoch of whose rows a client may get `resume_limit`.
    pub(super) fn new(resume_limit: usize) -> Self {
        Below {
            max: None,
            late: VecDeque::new(),
            late_kept: resume_limit.max(LATE_KEPT),
            dropped: 0,
            forgotten: None,
            gap: None,
            given: Given::default(),
        }
    }

    pub(super) fn max(&self) -> Option<Key> {
        self.max
    }

    /// All keys through this one may be in the table.
    pub(super) fn raise(&mut self, key: Key) {
        self.max = self.max.max(Some(key));
    }

    /// Takes a row over from the ring. `highest` is the greatest key published up to and with it.
    pub(super) fn take(&mut self, key: Key, highest: Key, early: bool) {
        self.raise(key);
        if key < highest {
            self.late.push_back(Late { key, after: highest, early });
        }
        while self.late.len() > self.late_kept {
            if let Some(oldest) = self.late.pop_front() {
                self.forgotten = Some(oldest.after);
                self.dropped += 1;
            }
        }
    }

    /// Takes a marked gap over from the ring. Keys up to `highest` stand before it.
    pub(super) fn take_gap(&mut self, highest: Key, reason: Arc<str>) {
        self.gap = Some((highest, reason));
    }

    /// Fails if a marked gap below the ring may come after the row with this key.
    pub(super) fn gap_after(&self, key: Key) -> Result<(), Lost> {
        match &self.gap {
            Some((highest, reason)) if key <= *highest => Err(Lost::Gap(reason.clone())),
            _ => Ok(()),
        }
    }

    /// The place right after the row with this key, whether or not there was such a row.
    pub(super) fn place_after(&self, key: Key) -> Result<Place, Lost> {
        if self.forgotten.is_some_and(|after| key <= after) {
            return Err(Lost::Forgotten);
        }
        let found = self.late.iter().position(|late| late.key == key);
        let (base, next) = match found.and_then(|at| Some((at + 1, self.late.get(at)?))) {
            Some((_, late)) if late.early => return Err(Lost::Early),
            Some((next, late)) => (late.after, next),
            None => (key, self.late.partition_point(|late| late.after < key)),
        };
        self.gap_after(base)?;
        Ok(Place { base, next_late: self.dropped + next as u64 })
    }

    /// The late rows from a place on, in the order of their commits.
    pub(super) fn late_from(&self, place: Place) -> Result<impl Iterator<Item = &Late>, Lost> {
        self.gap_after(place.base)?;
        let skip = place.next_late.checked_sub(self.dropped).ok_or(Lost::Forgotten)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.late.len());
        Ok(self.late.range(skip..))
    }

    /// Remembers that a row was read from the table for a client.
    pub(super) fn give(&mut self, key: Key) {
        self.given.add(key);
    }

    /// Whether a row that now comes through the binlog may have been read from the table before.
    pub(super) fn was_given(&self, key: Key) -> bool {
        self.max.is_some_and(|max| key <= max) && self.given.holds(key)
    }
}

/// The last keys that were given, as a bounded set.
#[derive(Debug, Default)]
struct Given {
    keys: HashSet<Key>,
    order: VecDeque<Key>,
}

impl Given {
    fn add(&mut self, key: Key) {
        if !self.keys.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > GIVEN_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    fn holds(&self, key: Key) -> bool {
        self.keys.contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits 1 2 4 3 6 5 7, all below the ring.
    fn below() -> Below {
        let mut below = Below::new(0);
        for (key, highest) in [(1, 1), (2, 2), (4, 4), (3, 4), (6, 6), (5, 6), (7, 7)] {
            below.take(key, highest, false);
        }
        below
    }

    #[track_caller]
    fn check(key: Key, base: Key, late: &[Key]) {
        let below = below();
        let place = below.place_after(key).unwrap();
        assert_eq!(place.base, base);
        let rest: Vec<Key> = below.late_from(place).unwrap().map(|late| late.key).collect();
        assert_eq!(rest, late);
    }

    #[test]
    fn a_place_is_told_by_commit_order() {
        check(BEFORE_ALL, BEFORE_ALL, &[3, 5]);
        check(2, 2, &[3, 5]);
        check(4, 4, &[3, 5]);
        check(3, 4, &[5]);
        check(6, 6, &[5]);
        check(5, 6, &[]);
        check(7, 7, &[]);
    }

    #[test]
    fn forgotten_late_rows_make_older_places_unknown() {
        let mut below = below();
        for n in 0..LATE_KEPT as Key {
            below.take(100 + 2 * n, 101 + 2 * n, false);
        }
        assert_eq!(below.place_after(6), Err(Lost::Forgotten));
        assert!(below.place_after(7).is_ok());
        let before = Place { base: 4, next_late: 1 };
        assert_eq!(below.late_from(before).err(), Some(Lost::Forgotten));
    }

    #[test]
    fn as_many_late_rows_are_remembered_as_a_client_may_get() {
        let many = 20_000;
        let mut below = Below::new(many);
        below.take(50_000, 50_000, false);
        (1..=many as Key).for_each(|key| below.take(key, 50_000, false));
        let place = below.place_after(50_000).unwrap();
        assert_eq!(below.late_from(place).unwrap().count(), many);
    }

    #[test]
    fn a_gap_below_the_ring_is_told_to_those_before_it() {
        let mut below = below();
        let before = below.place_after(7).unwrap();
        below.take_gap(7, "lost".into());
        below.take(8, 8, false);
        assert_eq!(below.late_from(before).err(), Some(Lost::Gap("lost".into())));
        assert_eq!(below.place_after(7), Err(Lost::Gap("lost".into())));
        assert!(below.place_after(8).is_ok());
    }

    #[test]
    fn an_early_row_is_no_place() {
        let mut below = below();
        below.give(0);
        assert!(below.was_given(0) && !below.was_given(3));
        below.take(0, 7, true);
        assert_eq!(below.place_after(0), Err(Lost::Early));
    }

    #[test]
    fn the_last_given_keys_are_remembered_and_no_others() {
        let mut below = below();
        let last = 2 * GIVEN_KEPT as Key;
        below.raise(last);
        (0..=last).for_each(|key| below.give(key));
        (0..=last).for_each(|key| below.give(key)); // given to another client
        assert!(below.was_given(last) && below.was_given(last - GIVEN_KEPT as Key + 1));
        assert!(!below.was_given(last - GIVEN_KEPT as Key), "forgotten");
        assert!(!below.was_given(last + 1), "a key above everything below the ring was never read");
    }
}
