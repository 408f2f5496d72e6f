//! When to look at the table because the binlog did not say which rows came.
//!
//! A server sends a commit before its own SELECTs see it, so one look is not enough: looks follow a
//! transaction until one of the keys that it is known to have written has been seen, or for a second.
//! Meanwhile a restart must go on from before it. Does no I/O and publishes nothing.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{id::Key, tail::position::Position};

/// Looks after a transaction that has written to the table, from its arrival on.
const AFTER_OURS: [Duration; 6] = [
    Duration::from_millis(1),
    Duration::from_millis(6),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(1000),
];

/// Looks after one that does not name the table, but may have written to it through a trigger, a function
/// or a view.
const AFTER_OTHERS: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(80)];

/// At least so long between two looks, however many transactions ask for them.
const APART_OURS: Duration = Duration::from_millis(5);
/// The same for transactions that do not name the table: most of them have nothing to do with it.
const APART_OTHERS: Duration = Duration::from_millis(80);

/// A transaction whose rows the table must tell.
#[derive(Debug)]
struct Waiting {
    /// Its number, see [`Looks::commits`].
    commit: u64,
    /// Where a restart must begin to meet it again.
    before: Position,
    arrived: Instant,
    /// Looks made.
    looks: usize,
    /// Keys of which at least one is its own, when that is known.
    keys: Vec<Key>,
    /// Whether it names the table.
    ours: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Looks {
    waiting: VecDeque<Waiting>,
    last: Option<Instant>,
    /// Commits taken over while somebody waits.
    commits: u64,
    /// Rows told since the oldest one that waits, with the number of their commit.
    told: VecDeque<(u64, Key)>,
    /// When the newest one that waits committed, in Unix milliseconds.
    committed_ms: u64,
    /// When the newest one that was put off committed.
    put_off_ms: Option<u64>,
}

impl Looks {
    /// The rows of a transaction are to be found in the table. `before` is the position before it.
    pub(super) fn ask(&mut self, ours: bool, keys: Vec<Key>, before: Position, committed_ms: u64) {
        self.committed_ms = committed_ms;
        let arrived = Instant::now();
        if !ours && self.waiting.iter().any(|other| !other.ours && other.looks == 0) {
            return; // the same look serves both, and it does not hold up any position
        }
        self.waiting.push_back(Waiting { commit: self.commits, before, arrived, looks: 0, keys, ours });
    }

    /// The same for a transaction that does not name the table, once the binlog has been read to where it was.
    /// After a crash, looks before that would bring rows that were told already in another order.
    pub(super) fn put_off(&mut self, committed_ms: u64) {
        self.put_off_ms = Some(committed_ms);
    }

    /// What was put off is due. `at` is the position now.
    pub(super) fn ask_put_off(&mut self, at: &Position) {
        if let Some(committed_ms) = self.put_off_ms.take() {
            self.ask(false, Vec::new(), at.clone(), committed_ms);
        }
    }

    /// Whether a transaction that names the table has not been looked for at all.
    pub(super) fn has_unlooked(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.ours && waiting.looks == 0)
    }

    /// Whether every transaction has been looked for at least once.
    pub(super) fn has_looked_for_all(&self) -> bool {
        self.waiting.iter().all(|waiting| waiting.looks > 0)
    }

    /// When to look next.
    pub(super) fn due(&self) -> Option<Instant> {
        let next = self.waiting.iter().filter_map(Waiting::next).min()?;
        let apart = if self.waiting.iter().any(|waiting| waiting.ours) { APART_OURS } else { APART_OTHERS };
        Some(self.last.map_or(next, |last| next.max(last + apart)))
    }

    /// Whether a look at `now` is the last one for a transaction that has written to the table.
    pub(super) fn is_last(&self, now: Instant) -> bool {
        let last =
            |waiting: &Waiting| waiting.steps().last().is_some_and(|wait| waiting.arrived + *wait <= now);
        self.waiting.iter().any(|waiting| waiting.ours && last(waiting))
    }

    /// A look that began at `began` has been made; `known` tells the keys that have been seen by now. Returns
    /// whether it was the last for a transaction that has written to the table, and nobody knows what.
    pub(super) fn looked(&mut self, began: Instant, known: impl Fn(Key) -> bool) -> bool {
        let mut in_doubt = false;
        self.last = Some(began);
        for waiting in &mut self.waiting {
            let due = waiting.steps().iter().take_while(|wait| waiting.arrived + **wait <= began).count();
            waiting.looks = waiting.looks.max(due).max(1);
        }
        self.waiting.retain(|waiting| {
            let seen = waiting.looks > 0 && waiting.keys.iter().any(|key| known(*key));
            let goes_on = !seen && waiting.looks < waiting.steps().len();
            in_doubt |= waiting.ours && !seen && !goes_on;
            goes_on
        });
        let oldest = self.waiting.front().map_or(u64::MAX, |waiting| waiting.commit);
        while self.told.front().is_some_and(|(commit, _)| *commit < oldest) {
            self.told.pop_front();
        }
        in_doubt
    }

    /// When the newest of those that wait committed.
    pub(super) fn committed_ms(&self) -> u64 {
        self.committed_ms
    }

    /// Rows were told.
    pub(super) fn told(&mut self, keys: impl Iterator<Item = Key>) {
        if !self.waiting.is_empty() {
            self.told.extend(keys.map(|key| (self.commits, key)));
        }
    }

    /// A commit was taken over.
    pub(super) fn passed(&mut self) {
        if !self.waiting.is_empty() {
            self.commits += 1;
        }
    }

    /// Where a restart must begin, and what it must not tell again; `None` when nobody waits.
    pub(super) fn hold(&self) -> Option<(&Position, impl Iterator<Item = Key>)> {
        let oldest = self.waiting.iter().find(|waiting| waiting.ours)?;
        Some((&oldest.before, self.told.iter().map(|(_, key)| *key)))
    }

    /// The table is another one now: nothing will be found any more. Whether somebody waited in vain.
    pub(super) fn give_up(&mut self) -> bool {
        let in_vain = self.waiting.iter().any(|waiting| waiting.ours);
        *self = Looks { last: self.last, ..Looks::default() };
        in_vain
    }
}

impl Waiting {
    fn steps(&self) -> &'static [Duration] {
        if self.ours { &AFTER_OURS } else { &AFTER_OTHERS }
    }

    fn next(&self) -> Option<Instant> {
        self.steps().get(self.looks).map(|wait| self.arrived + *wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        let at = crate::tail::position::FileOffset { file: "bin.000001".into(), offset };
        Position { at, began: None, gtid_set: None }
    }

    /// Looks whenever one is due; returns how long after `start` each was.
    async fn look_on(looks: &mut Looks, start: Instant, known: impl Fn(Key) -> bool) -> Vec<u128> {
        let mut times = Vec::new();
        while let Some(due) = looks.due() {
            tokio::time::sleep_until(due).await;
            looks.looked(Instant::now(), &known);
            times.push(start.elapsed().as_millis());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_is_looked_for_until_its_key_is_seen() {
        let mut looks = Looks::default();
        looks.ask(true, vec![7], at(4), 1000);
        let start = Instant::now();
        let seen_from = start + Duration::from_millis(20);
        let times = look_on(&mut looks, start, |key| key == 7 && Instant::now() >= seen_from).await;
        assert_eq!(times, [1, 6, 25]);
        assert!(looks.hold().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_with_unknown_keys_is_looked_for_during_a_second() {
        let mut looks = Looks::default();
        looks.ask(true, vec![], at(4), 1000);
        assert_eq!(look_on(&mut looks, Instant::now(), |_| true).await, [1, 6, 25, 100, 300, 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_statements_on_other_tables_cost_few_looks() {
        let mut looks = Looks::default();
        let start = Instant::now();
        let mut count = 0;
        for _ in 0..1000 {
            looks.ask(false, vec![], at(4), 1000);
            tokio::time::advance(Duration::from_millis(1)).await;
            if looks.due().is_some_and(|due| due <= Instant::now()) {
                looks.looked(Instant::now(), |_| false);
                count += 1;
            }
        }
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        assert!((5..=20).contains(&count), "{count}");
        assert!(looks.hold().is_none(), "they hold no position");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_begins_before_the_oldest_that_waits_and_tells_nothing_twice() {
        let mut looks = Looks::default();
        looks.told([1].into_iter());
        looks.ask(true, vec![5], at(100), 1000);
        looks.passed();
        looks.told([2].into_iter());
        looks.ask(true, vec![6], at(200), 1000);
        looks.passed();
        looks.told([3].into_iter());
        let (position, told) = looks.hold().unwrap();
        assert_eq!((position.at.offset, told.collect::<Vec<_>>()), (100, vec![2, 3]));
        tokio::time::advance(Duration::from_millis(2)).await;
        looks.looked(Instant::now(), |key| key == 5);
        let (position, told) = looks.hold().unwrap();
        assert_eq!((position.at.offset, told.collect::<Vec<_>>()), (200, vec![2, 3]));
    }
}
