//! Which keys have come, in commit order: what a restart, a look at the table and a new epoch need.
//!
//! Order is commit order, not key order: key 6 can commit before key 5. So "everything after the
//! greatest key" is not what is missing; the holes say which of the lower ones did not come.

use std::collections::{HashSet, VecDeque};

use super::{RECENT_KEYS, holes::Holes};
use crate::{
    checkpoint::{Checkpoint, SavedHoles, from_runs, to_runs},
    id::{Epoch, Key},
};

/// How far below the greatest key most looks at the table begin, in keys: transactions that were open
/// while so many later keys committed are found at once.
const OVERLAP: Key = 1000;

/// Ranges of keys that one look reads, each by a SELECT of its own: given several, MariaDB may read all of the table.
const RANGES: usize = 8;

/// The same where the key of a row is known that so many others overtook, or all is to be compared.
const DEEP_RANGES: usize = 200;

/// So many of the greatest keys a comparison reads without leaving any out, however many runs of them did not come:
/// more than come between two comparisons.
const RECENT: Key = 20_000;

/// So many keys a look reads for transactions that need not have written to the table.
const NEAR: Key = 4 * OVERLAP;

/// The keys of one epoch.
#[derive(Debug)]
pub(super) struct Keys {
    epoch: Epoch,
    greatest: Option<Key>,
    recent: VecDeque<Key>,
    known: HashSet<Key>,
    /// Keys up to here that are not in `recent` came earlier, or were never ours to tell, but for the holes.
    older_through: Option<Key>,
    holes: Holes,
    /// What is older than the next key is not news: a run that began at a chosen place in the binlog.
    begins_with_the_next: bool,
    capacity: usize,
}

impl Keys {
    /// None yet. `capacity` is how many are kept.
    pub(super) fn new(epoch: Epoch, capacity: usize) -> Self {
        Keys {
            epoch,
            greatest: None,
            recent: VecDeque::new(),
            known: HashSet::new(),
            older_through: None,
            holes: Holes::new(None, capacity),
            begins_with_the_next: false,
            capacity,
        }
    }

    /// As the checkpoint has them.
    pub(super) fn restore(checkpoint: &Checkpoint, capacity: usize) -> Self {
        let recent = from_runs(&checkpoint.recent_keys, *RECENT_KEYS.end());
        let known: HashSet<Key> = recent.iter().copied().collect();
        let older_through = checkpoint.older_through;
        let mut keys = Keys {
            greatest: checkpoint.greatest_key,
            recent,
            known,
            older_through,
            ..Keys::new(checkpoint.epoch, capacity)
        };
        // A doorcast that kept none knew nothing of what is older.
        let (floor, runs) = match &checkpoint.holes {
            Some(saved) => (saved.floor, saved.runs.as_slice()),
            None => (older_through, &[][..]),
        };
        keys.holes = Holes::new(floor, capacity);
        for &(first, last) in runs {
            keys.holes.add(first, last);
        }
        keys.add_holes_of_recent();
        while keys.recent.len() > capacity {
            keys.forget_the_oldest();
        }
        keys
    }

    /// What `recent` says by what it does not have.
    fn add_holes_of_recent(&mut self) {
        let mut sorted: Vec<Key> = self.recent().filter(|key| Some(*key) > self.older_through).collect();
        sorted.sort_unstable();
        let mut next = self.older_through.map_or(Key::MIN, |through| through.saturating_add(1));
        for key in sorted {
            self.holes.add(next, key.saturating_sub(1));
            next = key.saturating_add(1);
        }
        if let Some(greatest) = self.greatest {
            self.holes.add(next, greatest);
        }
    }

    /// What a checkpoint needs beside the recent keys to know the holes.
    pub(super) fn saved_holes(&self) -> SavedHoles {
        let older = |run: &(Key, Key)| Some(run.0) <= self.older_through;
        SavedHoles { floor: self.holes.floor(), runs: self.holes.runs().take_while(older).collect() }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn greatest(&self) -> Option<Key> {
        self.greatest
    }

    pub(super) fn older_through(&self) -> Option<Key> {
        self.older_through
    }

    /// The recent ones in commit order.
    pub(super) fn recent(&self) -> impl DoubleEndedIterator<Item = Key> + ExactSizeIterator {
        self.recent.iter().copied()
    }

    /// The recent ones as runs.
    pub(super) fn runs(&self) -> Vec<(Key, Key)> {
        to_runs(self.recent())
    }

    /// Keys up to `through` are not news, though they were never recorded.
    pub(super) fn set_older_through(&mut self, through: Key) {
        self.older_through = self.older_through.max(Some(through));
        self.greatest = self.greatest.max(Some(through));
        self.holes.raise_floor(through);
    }

    /// Nothing was told so far, and whatever the table has already is not news.
    pub(super) fn begin_with_the_next(&mut self) {
        self.begins_with_the_next = true;
    }

    /// Whether [`Keys::begin_with_the_next`] was called and no key has come since.
    pub(super) fn begins_with_the_next(&self) -> bool {
        self.begins_with_the_next
    }

    /// Takes down a key that came. `false` if it had come before.
    pub(super) fn record(&mut self, key: Key) -> bool {
        if std::mem::take(&mut self.begins_with_the_next) {
            self.older_through = Some(key - 1);
            self.holes.raise_floor(key - 1);
        }
        if self.greatest.is_none_or(|greatest| key > greatest) {
            self.holes.add(self.next(), key - 1);
            self.greatest = Some(key);
        } else {
            self.holes.remove(key);
        }
        if !self.known.insert(key) {
            return false;
        }
        self.recent.push_back(key);
        if self.recent.len() > self.capacity {
            self.forget_the_oldest();
        }
        true
    }

    fn forget_the_oldest(&mut self) {
        if let Some(oldest) = self.recent.pop_front() {
            self.known.remove(&oldest);
            self.older_through = self.older_through.max(Some(oldest));
        }
    }

    /// The least key above all that came.
    fn next(&self) -> Key {
        self.greatest.map_or(Key::MIN, |greatest| greatest.saturating_add(1))
    }

    /// Whether `key` may be news in a look at the table.
    pub(super) fn is_news(&self, key: Key) -> bool {
        !self.known.contains(&key) && (key >= self.next() || self.holes.contains(key))
    }

    /// Whether `key` is among those that were recorded, and are remembered.
    pub(super) fn has_come(&self, key: Key) -> bool {
        self.known.contains(&key)
    }

    /// Whether all keys that may be news are known as such: none were so many that some had to be forgotten.
    pub(super) fn knows_all(&self) -> bool {
        self.holes.floor().is_none()
    }

    /// Whether nobody knows any more if `key` came.
    pub(super) fn is_forgotten(&self, key: Key) -> bool {
        Some(key) <= self.holes.floor() && !self.known.contains(&key) && !self.holes.contains(key)
    }

    /// Of the keys from `first` to `last` those that are forgotten are known not to have come, but for those that
    /// `came`.
    pub(super) fn expect(&mut self, first: Key, last: Key, came: impl Fn(Key) -> bool) {
        let Some(floor) = self.holes.floor() else { return };
        for key in first..=last.min(floor) {
            if self.is_forgotten(key) && !came(key) {
                self.holes.expect(key);
            }
        }
    }

    /// Nothing that was expected is waited for.
    pub(super) fn expect_no_more(&mut self) {
        self.holes.expect_no_more();
    }

    /// Ranges of keys, `[first, last]`, that have what may be news in the table: all of it among the greatest keys, and
    /// below them, unless very many keys did not come, all of it too.
    pub(super) fn all_news(&self) -> Vec<(Key, Key)> {
        let recent = self.next().saturating_sub(RECENT);
        let keys = Key::try_from(self.capacity).unwrap_or(Key::MAX);
        let mut news = self.latest_news(recent.saturating_sub(1), keys, DEEP_RANGES);
        news.extend(self.holes.ranges(self.next(), recent, RANGES));
        news
    }

    /// Some of the greatest keys that may be news, as costs little.
    pub(super) fn near_news(&self) -> Vec<(Key, Key)> {
        self.latest_news(Key::MAX, NEAR, RANGES)
    }

    /// What may be news and is not less than `key`, in as many ranges as may be.
    pub(super) fn news_from(&self, key: Key) -> Vec<(Key, Key)> {
        self.holes.ranges(self.next(), key, DEEP_RANGES)
    }

    /// The greatest keys up to `through` that may be news: at most `keys` of those that others have passed, in at most
    /// `most` ranges.
    fn latest_news(&self, through: Key, keys: Key, most: usize) -> Vec<(Key, Key)> {
        let (all, next, mut left) = (self.holes.ranges(self.next(), Key::MIN, usize::MAX), self.next(), keys);
        let mut latest = Vec::new();
        for (first, last) in all.into_iter().rev().filter(|(first, _)| *first <= through).take(most) {
            // What is yet to come costs nothing.
            let last = last.min(through);
            let passed = last.min(next.saturating_sub(1));
            let first = first.max(passed.saturating_sub(left));
            latest.push((first, last));
            left -= passed.saturating_sub(first).max(0);
            if left <= 0 {
                break;
            }
        }
        latest.reverse();
        latest
    }

    /// What is news is in this range as a rule: it takes a transaction that others overtook by many rows for
    /// it not to be.
    pub(super) fn most_news(&self) -> (Key, Key) {
        let first = self.next().saturating_sub(OVERLAP);
        (self.holes.floor().map_or(first, |floor| first.max(floor.saturating_add(1))), Key::MAX)
    }

    /// These were told of other rows than those that have them now.
    pub(super) fn forget(&mut self, keys: &HashSet<Key>) {
        self.known.retain(|key| !keys.contains(key));
        self.recent.retain(|key| !keys.contains(key));
        for key in keys {
            self.holes.add(*key, *key);
        }
    }

    /// The same keys get new ids from now on.
    pub(super) fn renumber(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
    }

    /// The keys start over.
    pub(super) fn begin_epoch(&mut self) {
        *self = Keys::new(self.epoch.saturating_add(1), self.capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_key_that_comes_late_is_news_until_it_comes() {
        let mut keys = Keys::new(1, 100);
        for key in [1, 2, 3, 4, 6] {
            assert!(keys.record(key));
        }
        assert!(keys.is_news(5) && !keys.is_news(6));
        assert!(keys.record(5));
        assert!(!keys.is_news(5));
        assert!(!keys.record(5), "it came before");
        assert_eq!(keys.greatest(), Some(6));
        assert_eq!(keys.runs(), [(1, 4), (6, 6), (5, 5)]);
    }

    #[test]
    fn keys_that_left_the_window_are_not_news() {
        let mut keys = Keys::new(1, 3);
        for key in 1..=10 {
            keys.record(key);
        }
        assert_eq!(keys.recent().collect::<Vec<_>>(), [8, 9, 10]);
        assert!(!keys.is_news(7) && !keys.is_news(8) && keys.is_news(11));
        let recent = keys.next() - RECENT;
        let news = [(recent - 4, recent - 1), (recent, Key::MAX)];
        assert_eq!(keys.all_news(), news, "all that is recent, and below it as many as are kept");
    }

    /// As a restart has them.
    fn restored(keys: &Keys, capacity: usize) -> Keys {
        let mut checkpoint = crate::checkpoint::tests::sample(0);
        checkpoint.epoch = keys.epoch();
        checkpoint.greatest_key = keys.greatest();
        checkpoint.recent_keys = keys.runs();
        checkpoint.older_through = keys.older_through();
        checkpoint.holes = Some(keys.saved_holes());
        Keys::restore(&checkpoint, capacity)
    }

    #[test]
    fn a_key_that_all_others_overtook_is_news_until_it_comes() {
        let mut keys = Keys::new(1, 3);
        keys.set_older_through(10);
        for key in (11..=500).filter(|key| *key != 20) {
            keys.record(key);
        }
        for mut keys in [restored(&keys, 3), restored(&keys, 2), keys] {
            assert!(keys.is_news(20) && !keys.is_news(21) && !keys.is_news(10) && !keys.is_news(498));
            assert_eq!(keys.all_news(), [(20, 20), (501, Key::MAX)]);
            assert!(keys.record(20));
            assert!(!keys.is_news(20));
        }
    }

    #[test]
    fn a_restart_knows_the_same_keys() {
        let mut keys = Keys::new(4, 50);
        for key in [10, 12, 11, 15] {
            keys.record(key);
        }
        let again = restored(&keys, 50);
        for key in 0..20 {
            assert_eq!(keys.is_news(key), again.is_news(key), "{key}");
        }
        assert_eq!(again.recent().collect::<Vec<_>>(), [10, 12, 11, 15]);
    }

    #[test]
    fn a_restart_keeps_the_last_keys_however_many_a_checkpoint_lists() {
        let mut checkpoint = crate::checkpoint::tests::sample(Key::MAX);
        checkpoint.recent_keys = vec![(0, Key::MAX)];
        let keys = Keys::restore(&checkpoint, 3);
        assert_eq!(keys.recent().collect::<Vec<_>>(), [Key::MAX - 2, Key::MAX - 1, Key::MAX]);
        assert_eq!(keys.known.len(), 3);
    }

    #[test]
    fn the_latest_news_are_few_keys_in_few_ranges() {
        let mut keys = Keys::new(1, 10_000);
        keys.set_older_through(0);
        (1..=1000).filter(|key| ![3, 200, 900].contains(key)).for_each(|key| {
            keys.record(key);
        });
        assert_eq!(
            keys.latest_news(Key::MAX, 100, RANGES),
            [(3, 3), (200, 200), (900, 900), (1001, Key::MAX)]
        );
        assert_eq!(keys.news_from(200), [(200, 200), (900, 900), (1001, Key::MAX)]);
        // Near each other, they are one range with what is between.
        (1001..=2000).filter(|key| key % 2 == 0).for_each(|key| {
            keys.record(key);
        });
        assert_eq!(keys.latest_news(Key::MAX, 100, RANGES), [(1900, Key::MAX)]);
    }

    #[test]
    fn all_news_leave_out_nothing_of_what_is_recent() {
        let mut keys = Keys::new(1, 10_000);
        keys.set_older_through(0);
        // Every hundredth transaction is rolled back.
        (1..=100_000).filter(|key| key % 100 != 0).for_each(|key| {
            keys.record(key);
        });
        let news = keys.all_news();
        assert!(news.len() <= RANGES + DEEP_RANGES, "{}", news.len());
        let is_in = |key: Key| news.iter().any(|(first, last)| (*first..=*last).contains(&key));
        for key in (80_100..=100_000).step_by(100).chain([79_900, 100_001, Key::MAX]) {
            assert!(is_in(key), "{key}: {news:?}");
        }
        let read: Key = news.iter().map(|(first, last)| (*last).min(100_000) - *first + 1).sum();
        assert!(read <= RECENT + 10_000, "{read}");
        assert!(news.is_sorted() && news.windows(2).all(|pair| pair[0].1 < pair[1].0), "{news:?}");
    }

    #[test]
    fn a_new_epoch_knows_nothing() {
        let mut keys = Keys::new(1, 10);
        keys.record(5);
        keys.begin_epoch();
        assert_eq!((keys.epoch(), keys.greatest()), (2, None));
        assert!(keys.is_news(5));
    }
}
