//! Keys below the greatest that have not come: a transaction that stays open while others commit leaves its keys
//! behind, and so does one that is rolled back.
//!
//! As runs, for there are few, however long ago the greatest passed them. Knows no order of commits.

use std::collections::BTreeMap;

use crate::id::Key;

/// Known keys that are read along rather than that there is one SELECT more.
const NEAR: Key = 50;

/// See the module.
#[derive(Debug)]
pub(super) struct Holes {
    /// First and last of each run.
    runs: BTreeMap<Key, Key>,
    /// Which of the keys up to here came is not known any more, or never was.
    floor: Option<Key>,
    capacity: usize,
}

impl Holes {
    /// None. Of more than `capacity` runs the lowest are forgotten.
    pub(super) fn new(floor: Option<Key>, capacity: usize) -> Self {
        Holes { runs: BTreeMap::new(), floor, capacity }
    }

    pub(super) fn floor(&self) -> Option<Key> {
        self.floor
    }

    /// The runs, `[first, last]`, in the order of keys.
    pub(super) fn runs(&self) -> impl DoubleEndedIterator<Item = (Key, Key)> {
        self.runs.iter().map(|(first, last)| (*first, *last))
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.runs.range(..=key).next_back().is_some_and(|(_, last)| key <= *last)
    }

    /// The keys from `first` to `last` have not come; `first` may be greater, and then there are none.
    pub(super) fn add(&mut self, first: Key, last: Key) {
        let first = self.floor.map_or(first, |floor| first.max(floor.saturating_add(1)));
        if first > last || self.runs.range(..=last).next_back().is_some_and(|(_, other)| *other >= first) {
            return; // none, or they are there
        }
        self.runs.insert(first, last);
        self.forget_the_lowest();
    }

    /// The key came.
    pub(super) fn remove(&mut self, key: Key) {
        let Some((first, last)) = self.runs.range(..=key).next_back().map(|(first, last)| (*first, *last))
        else {
            return;
        };
        if key > last {
            return;
        }
        self.runs.remove(&first);
        if first < key {
            self.runs.insert(first, key - 1);
        }
        if key < last {
            self.runs.insert(key + 1, last);
        }
        self.forget_the_lowest();
    }

    /// A key that may be under the floor has not come.
    pub(super) fn expect(&mut self, key: Key) {
        if !self.contains(key) {
            self.runs.insert(key, key);
        }
    }

    /// What is under the floor is not looked for any more.
    pub(super) fn expect_no_more(&mut self) {
        if let Some(floor) = self.floor {
            self.raise_floor(floor);
        }
    }

    fn forget_the_lowest(&mut self) {
        let above = self.floor.map_or(Key::MIN, |floor| floor.saturating_add(1));
        if self.runs.len() > self.capacity
            && let Some((first, last)) = self.runs.range(above..).next().map(|(first, last)| (*first, *last))
        {
            self.runs.remove(&first);
            self.floor = Some(last);
        }
    }

    /// None of the keys up to `through` is looked for any more.
    pub(super) fn raise_floor(&mut self, through: Key) {
        self.floor = self.floor.max(Some(through));
        while let Some(entry) = self.runs.first_entry().filter(|entry| *entry.key() <= through) {
            let last = entry.remove();
            if last > through {
                self.runs.insert(through + 1, last);
            }
        }
    }

    /// Ranges of keys, `[first, last]`, that have all of the holes from the key `from` on and what comes from `next`
    /// on: at most so many ranges, and few other keys unless they would be more.
    pub(super) fn ranges(&self, next: Key, from: Key, most: usize) -> Vec<(Key, Key)> {
        let mut near = NEAR;
        loop {
            let mut ranges: Vec<(Key, Key)> = Vec::new();
            for (first, last) in self.runs().chain([(next, Key::MAX)]).filter(|(_, last)| *last >= from) {
                match ranges.last_mut() {
                    Some(before) if first.saturating_sub(before.1) <= near => before.1 = last,
                    _ => ranges.push((first.max(from), last)),
                }
            }
            if ranges.len() <= most {
                return ranges;
            }
            near *= 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(holes: &Holes) -> Vec<(Key, Key)> {
        holes.runs().collect()
    }

    #[test]
    fn what_comes_late_leaves_the_hole_it_was_in() {
        let mut holes = Holes::new(None, 10);
        holes.add(5, 9);
        for key in [7, 5, 9, 4, 7] {
            holes.remove(key);
        }
        assert_eq!(runs(&holes), [(6, 6), (8, 8)]);
        assert!(holes.contains(6) && !holes.contains(7) && !holes.contains(9) && !holes.contains(4));
    }

    #[test]
    fn the_lowest_is_forgotten_and_that_is_known() {
        let mut holes = Holes::new(Some(1), 2);
        for key in [2, 4, 6] {
            holes.add(key, key);
        }
        assert_eq!((runs(&holes), holes.floor()), (vec![(4, 4), (6, 6)], Some(2)));
        holes.add(1, 2);
        assert!(!holes.contains(2));
        holes.raise_floor(4);
        assert_eq!((runs(&holes), holes.floor()), (vec![(6, 6)], Some(4)));
    }

    #[test]
    fn a_run_that_the_floor_cuts_keeps_what_is_above() {
        let mut holes = Holes::new(None, 2);
        holes.add(Key::MIN, 10);
        holes.raise_floor(7);
        assert_eq!(runs(&holes), [(8, 10)]);
    }

    #[test]
    fn near_holes_are_one_range() {
        let mut holes = Holes::new(None, 10);
        for key in [1, 3, 500, 990] {
            holes.add(key, key);
        }
        assert_eq!(holes.ranges(1000, 0, 9), [(1, 3), (500, 500), (990, Key::MAX)]);
        assert_eq!(holes.ranges(5000, 2, 2), [(3, 990), (5000, Key::MAX)]);
    }
}
