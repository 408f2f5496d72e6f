//! When to look at the table because the binlog did not say which rows came.
//!
//! A server sends a commit before its own SELECTs see it, so one look is not enough: looks follow a
//! transaction until one of the keys that it is known to have written has been seen, or for a second.
//! Meanwhile a restart must go on from before it. What a look says is certain only when the binlog has been read to
//! where it ended behind the look: see [`Looks::settled`]. Does no I/O and publishes nothing.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    id::Key,
    tail::{
        Expected, Reread,
        position::{FileOffset, Position},
    },
};

/// Looks after a transaction that has written to the table, from its arrival on. Close to one another for a tenth of a
/// second: a row that a server shows so late is told no much later.
const AFTER_OURS: [Duration; 8] = [
    Duration::from_millis(1),
    Duration::from_millis(6),
    Duration::from_millis(15),
    Duration::from_millis(35),
    Duration::from_millis(70),
    Duration::from_millis(120),
    Duration::from_millis(300),
    Duration::from_millis(1000),
];

/// The same while a key that a transaction certainly wrote has not come: a server with semi-synchronous replication shows a
/// commit when a replica has it, or after 10 s by default (`rpl_semi_sync_source_timeout`).
const UNTIL_SHOWN: [Duration; 10] = {
    let mut looks = [Duration::ZERO; 10];
    let (ours, later) = looks.split_at_mut(AFTER_OURS.len());
    ours.copy_from_slice(&AFTER_OURS);
    later.copy_from_slice(&[Duration::from_secs(3), Duration::from_secs(12)]);
    looks
};

/// Looks after one that does not name the table, but may have written to it through a trigger, a function
/// or a view. The last is for one that very many rows overtook, and serves all that came before.
const AFTER_OTHERS: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(80), Duration::from_millis(1000)];

/// At least so long between two looks, however many transactions ask for them.
const APART_OURS: Duration = Duration::from_millis(5);
/// The same for transactions that do not name the table: most of them have nothing to do with it.
const APART_OTHERS: Duration = Duration::from_millis(80);
/// At least so long between two looks that reach far, and ten times as long as the one before took: they read many
/// keys, and one serves all that wait for it.
const APART_FAR: Duration = Duration::from_millis(300);

/// Transactions of which no key is known, and that come so soon after one another, wait as one.
const AT_ONCE: Duration = Duration::from_millis(1);
/// The same for those that do not name the table.
const OTHERS_AT_ONCE: Duration = Duration::from_millis(5);

/// Transactions that wait for themselves. More come only while a long binlog is caught up with.
const WAITING: usize = 1000;

/// Keys of one transaction that are looked for; the others are seen with them.
const KEYS: usize = 100;

/// A restart begins before what waits, but for so long only: while a long binlog is caught up with, what is seen is
/// settled at its end, and a comparison of the table finds the same rows.
const HOLDS_FOR: Duration = Duration::from_secs(60);

/// Keys that a transaction has written.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// At least one of them is its own.
    pub(super) keys: Vec<Key>,
    /// It inserted a row under each of them.
    pub(super) are_certain: bool,
    /// It may have inserted others.
    pub(super) may_have_more: bool,
}

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
    /// There were rows under all of them.
    are_keys_certain: bool,
    /// Each row that it wrote has one of them.
    are_all_keys: bool,
    /// It may have rows beside those, of which a look that comes too late sees nothing.
    may_have_more: bool,
    /// It may, and rows were deleted since it came.
    may_have_lost: bool,
    /// Whether it names the table.
    ours: bool,
    /// What it wrote of which no key is known.
    expected: Expected,
    /// Rows were found since it came whose keys nobody had named, perhaps its own.
    found: bool,
    /// All of its keys came.
    has_come: bool,
    /// One of its keys was told, so the next look sees all of it.
    seen: bool,
    /// The last look saw all of it.
    served: bool,
    /// Its text does not say that it is about other things, such as an UPDATE.
    certain: bool,
}

/// How far a look goes below the greatest key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// To what came last.
    Most,
    /// To some of what may be news, as much as costs little.
    Near,
    /// To all that may be news.
    All,
}

/// How looking for transactions has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Something has inserted rows, for what can be known, and nobody knows which.
    pub(super) in_doubt: bool,
    /// Of so many transactions that wrote rows some were not found.
    pub(super) lost: usize,
    /// Of so many that need not have written any nothing was found.
    pub(super) found_nothing: usize,
    /// Rows of others may have been deleted before a look could see them.
    pub(super) may_have_lost: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Looks {
    waiting: VecDeque<Waiting>,
    last: Option<Instant>,
    /// The next look that reaches far is not before this.
    far_from: Option<Instant>,
    /// Commits taken over while somebody waits.
    commits: u64,
    /// Rows told since the oldest one that waits, with the number of their commit.
    told: VecDeque<(u64, Key)>,
    /// When the newest one that waits committed, in Unix milliseconds.
    committed_ms: u64,
    /// One that may have had more rows than those of its keys waits no longer, but the look that saw it is not settled.
    may_have_more: bool,
    /// It may, and rows were deleted since.
    may_have_lost: bool,
}

impl Looks {
    /// The rows of a transaction are to be found in the table. `before` is the position before it.
    pub(super) fn ask(
        &mut self,
        why: Reread,
        Wanted { keys, are_certain, may_have_more }: Wanted,
        expected: Expected,
        before: Position,
        committed_ms: u64,
    ) {
        self.committed_ms = committed_ms;
        let arrived = Instant::now();
        let ours = why.names_table();
        let is_silent = keys.is_empty() && expected == Expected::Nothing;
        let certain = ours && !(why == Reread::Statement && is_silent);
        if keys.is_empty() && self.waits_as_one(ours, expected, certain) {
            return;
        }
        if self.waiting.len() >= WAITING
            && let Some(second) = self.waiting.remove(1)
            && let Some(first) = self.waiting.front_mut()
        {
            first.ours |= second.ours;
            first.certain |= second.certain;
            first.may_have_more |= second.may_have_more;
            first.may_have_lost |= second.may_have_lost;
            first.are_all_keys = false;
            first.expected = first.expected.max(Expected::Perhaps);
        }
        let commit = self.commits;
        let (found, has_come, seen, served) = (false, false, false, false);
        let has_keys = !keys.is_empty();
        let may_have_more = may_have_more || keys.len() > KEYS;
        let are_all_keys = has_keys
            && !may_have_more
            && keys.len() <= KEYS
            && why != Reread::XaCommit
            && expected == Expected::Nothing;
        let keys = keys.into_iter().take(KEYS).collect();
        self.waiting.push_back(Waiting {
            commit,
            before,
            arrived,
            looks: 0,
            keys,
            are_keys_certain: are_certain && has_keys,
            are_all_keys,
            may_have_more,
            may_have_lost: false,
            ours,
            expected,
            found,
            has_come,
            seen,
            served,
            certain,
        });
    }

    /// Whether the look for one that came just before serves this one, too.
    fn waits_as_one(&self, ours: bool, expected: Expected, certain: bool) -> bool {
        self.waiting.iter().rev().take_while(|other| other.looks == 0).any(|other| {
            let alike = (other.ours, other.expected, other.certain) == (ours, expected, certain);
            let at_once = if ours { AT_ONCE } else { OTHERS_AT_ONCE };
            alike && other.keys.is_empty() && other.arrived.elapsed() < at_once
        })
    }

    /// Whether a transaction that names the table has not been looked for at all; `by_key` those alone that can be
    /// looked for by their keys.
    pub(super) fn has_unlooked(&self, by_key: bool) -> bool {
        self.waiting
            .iter()
            .any(|waiting| waiting.ours && waiting.looks == 0 && (!by_key || waiting.is_by_key()))
    }

    /// Whether a transaction that names the table is looked for.
    pub(super) fn has_ours(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.ours)
    }

    /// Whether every transaction has been looked for at least once, and whole if its key was told.
    pub(super) fn has_looked_for_all(&self) -> bool {
        self.waiting.iter().all(|waiting| waiting.looks > 0 && (waiting.served || !waiting.seen))
    }

    /// When to look next; `by_key` for those alone that can be looked for by their keys.
    pub(super) fn due(&self, by_key: bool) -> Option<Instant> {
        let waiting = || {
            let has_more = |waiting: &&Waiting| waiting.is_by_key() && !waiting.wants_last();
            self.waiting.iter().filter(move |waiting| !by_key || has_more(waiting))
        };
        let next = waiting().filter_map(|waiting| {
            let next = waiting.next()?;
            Some(if waiting.wants_last() { self.far_from.map_or(next, |far| far.max(next)) } else { next })
        });
        let next = next.min()?;
        let apart = if waiting().any(|waiting| waiting.ours) { APART_OURS } else { APART_OTHERS };
        Some(self.last.map_or(next, |last| next.max(last + apart)))
    }

    /// How far a look at `now` must reach: to all that may be news if it is the last one for a transaction that
    /// inserted rows, for what can be known.
    pub(super) fn reach(&self, now: Instant) -> Reach {
        if self.far_from.is_some_and(|far| now < far) {
            return Reach::Most;
        }
        let last =
            |waiting: &&Waiting| waiting.steps().last().is_some_and(|wait| waiting.arrived + *wait <= now);
        let reach = |waiting: &Waiting| if waiting.certain { Reach::All } else { Reach::Near };
        self.waiting.iter().filter(last).map(reach).max().unwrap_or(Reach::Most)
    }

    /// The keys that are looked for: of each transaction at least one is its own.
    fn keys(&self) -> impl Iterator<Item = Key> {
        self.waiting.iter().flat_map(|waiting| &waiting.keys).copied()
    }

    /// The same but for transactions of which only the last look is left.
    pub(super) fn open_keys(&self) -> impl Iterator<Item = Key> {
        let open = self.waiting.iter().filter(|waiting| !waiting.wants_last());
        open.flat_map(|waiting| &waiting.keys).copied()
    }

    /// The least key that is looked for.
    pub(super) fn least_key(&self) -> Option<Key> {
        self.keys().min()
    }

    /// Rows with these keys were found that the binlog may not bring.
    pub(super) fn found(&mut self, keys: impl Iterator<Item = Key>) {
        let named: HashSet<Key> = self.keys().collect();
        if keys.into_iter().all(|key| named.contains(&key)) {
            return;
        }
        for waiting in &mut self.waiting {
            waiting.found = true;
        }
    }

    /// A look that began at `began` has been made, by the keys that are looked for alone.
    pub(super) fn looked_by_key(&mut self, began: Instant) {
        self.last = Some(began);
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.is_by_key()) {
            let due = waiting.due(began).min(waiting.steps().len() - 1);
            waiting.looks = waiting.looks.max(due).max(1);
        }
    }

    /// A look that began at `began` has been made.
    pub(super) fn looked(&mut self, began: Instant) {
        self.last = Some(began);
        let far = self.reach(began) > Reach::Most;
        if far {
            let now = Instant::now();
            self.far_from = Some(now + APART_FAR.max(10 * now.saturating_duration_since(began)));
        }
        for waiting in &mut self.waiting {
            let (most, due) = (waiting.steps().len() - usize::from(!far), waiting.due(began));
            waiting.looks = waiting.looks.max(due.min(most)).max(1);
            waiting.served |= waiting.seen;
            if far && !waiting.ours && due + 1 >= waiting.steps().len() {
                waiting.looks = waiting.steps().len(); // what it did was old enough to be seen
            }
        }
    }

    /// Whether nothing more is to be seen of a transaction, but the last look is to be settled.
    pub(super) fn is_to_settle(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.has_had_all() || waiting.is_complete())
    }

    /// Keys that are looked for may have been told; `known` tells which, and `sighted` those that the last look saw.
    pub(super) fn seen(&mut self, known: impl Fn(Key) -> bool, sighted: impl Fn(Key) -> bool) {
        for waiting in &mut self.waiting {
            waiting.seen |= waiting.keys.iter().any(|key| known(*key));
            waiting.has_come |= waiting.keys.iter().all(|key| known(*key));
            waiting.served |=
                waiting.has_come && waiting.seen && waiting.keys.iter().all(|key| sighted(*key));
        }
        // One of them is enough to hold the position until that look is settled.
        let mut holds = false;
        let (may_have_more, may_have_lost) = (&mut self.may_have_more, &mut self.may_have_lost);
        self.waiting.retain(|waiting| {
            let stays = !(waiting.is_complete() && waiting.has_come && holds);
            holds |= stays && waiting.ours;
            *may_have_more |= !stays && waiting.may_have_more;
            *may_have_lost |= !stays && waiting.may_have_lost;

            stays
        });
    }

    /// The binlog has been read to where it ended behind the last look, and what the look saw has been told; `known`
    /// tells the keys that came.
    pub(super) fn settled(&mut self, known: impl Fn(Key) -> bool) -> Outcome {
        let mut outcome =
            Outcome { may_have_lost: std::mem::take(&mut self.may_have_lost), ..Outcome::default() };
        self.may_have_more = false;
        self.waiting.retain_mut(|waiting| {
            waiting.has_come |= waiting.keys.iter().all(|key| known(*key));
            let goes_on = !waiting.is_complete() && !waiting.has_had_all();
            outcome.in_doubt |= waiting.certain && !waiting.keys.iter().any(|key| known(*key)) && !goes_on;
            if !goes_on && !waiting.found {
                // Rows that are not there were deleted again.
                let is_lost =
                    waiting.expected == Expected::Rows || waiting.are_keys_certain && !waiting.has_come;
                let may_be_lost = waiting.keys.is_empty() && waiting.expected == Expected::Perhaps;
                outcome.lost += usize::from(is_lost);
                outcome.found_nothing += usize::from(!is_lost && (may_be_lost || !waiting.has_come));
            }
            // Of what nothing was found that has been said.
            let are_some = waiting.found || !waiting.keys.is_empty() && waiting.has_come;
            outcome.may_have_lost |= !goes_on && are_some && waiting.may_have_lost;
            // What was found is probably its own, and all of it.
            waiting.may_have_more &= !waiting.found;
            goes_on
        });
        self.forget_told();
        outcome
    }

    /// Rows were deleted behind all that came so far.
    pub(super) fn deleted(&mut self) {
        self.may_have_lost |= self.may_have_more;
        for waiting in &mut self.waiting {
            waiting.may_have_lost |= waiting.may_have_more;
        }
    }

    /// The last look will not be settled: those for which it was the last one get another.
    pub(super) fn look_again(&mut self) {
        for waiting in &mut self.waiting {
            waiting.looks = waiting.looks.min(waiting.steps().len() - 1);
            waiting.served = false;
        }
    }

    fn forget_told(&mut self) {
        let oldest = self.holding().map_or(u64::MAX, |waiting| waiting.commit);
        while self.told.front().is_some_and(|(commit, _)| *commit < oldest) {
            self.told.pop_front();
        }
    }

    /// When the newest of those that wait committed.
    pub(super) fn committed_ms(&self) -> u64 {
        self.committed_ms
    }

    /// Rows were told.
    pub(super) fn told(&mut self, keys: impl Iterator<Item = Key>) {
        self.forget_told();
        if self.hold().is_some() {
            self.told.extend(keys.map(|key| (self.commits, key)));
        } else {
            self.told.clear();
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
        let oldest = self.holding()?;
        let told = self.told.iter().filter(|(commit, _)| *commit >= oldest.commit);
        Some((&oldest.before, told.map(|(_, key)| *key)))
    }

    fn holding(&self) -> Option<&Waiting> {
        self.waiting.iter().find(|waiting| waiting.ours && waiting.arrived.elapsed() < HOLDS_FOR)
    }

    /// The places were another server's; what was committed before them says where a restart must begin.
    pub(super) fn forget_places(&mut self) {
        for waiting in &mut self.waiting {
            waiting.before.at = FileOffset::unknown();
            waiting.before.began = None;
        }
    }

    /// The table is another one now: nothing will be found any more. Whether one that inserted rows, for what can be
    /// known, waited in vain.
    pub(super) fn give_up(&mut self) -> bool {
        let is_whole = |waiting: &Waiting| waiting.has_come && (waiting.served || waiting.are_all_keys);
        let is_in_vain = |waiting: &Waiting| waiting.may_have_lost || waiting.certain && !is_whole(waiting);
        let in_vain = self.may_have_lost || self.waiting.iter().any(is_in_vain);
        *self = Looks { last: self.last, far_from: self.far_from, ..Looks::default() };
        in_vain
    }
}

impl Waiting {
    fn steps(&self) -> &'static [Duration] {
        if !self.ours {
            &AFTER_OTHERS
        } else if self.are_keys_certain && !self.has_come && !self.found {
            &UNTIL_SHOWN
        } else {
            &AFTER_OURS
        }
    }

    /// Whether it can be looked for by its keys.
    fn is_by_key(&self) -> bool {
        !self.seen && !self.keys.is_empty()
    }

    /// Whether all of it has been seen. What has other rows beside those of known keys is looked for to the end.
    fn is_complete(&self) -> bool {
        self.served && self.expected == Expected::Nothing
    }

    /// How many of its looks were due at `now`.
    fn due(&self, now: Instant) -> usize {
        self.steps().iter().take_while(|wait| self.arrived + **wait <= now).count()
    }

    /// Whether there are no more looks for it.
    fn has_had_all(&self) -> bool {
        self.looks >= self.steps().len()
    }

    /// Whether only its last look is left, the one that reaches far.
    fn wants_last(&self) -> bool {
        self.looks + 1 >= self.steps().len()
    }

    fn next(&self) -> Option<Instant> {
        if self.seen && !self.served {
            return Some(self.arrived);
        }
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

    fn one(key: Key) -> Wanted {
        Wanted { keys: vec![key], are_certain: true, may_have_more: false }
    }

    /// A look on an idle server: the binlog has been read.
    fn look(looks: &mut Looks, known: impl Fn(Key) -> bool) -> Outcome {
        looks.seen(&known, |_| false);
        looks.looked(Instant::now());
        looks.settled(known)
    }

    /// Looks whenever one is due; returns how long after `start` each was.
    async fn look_on(looks: &mut Looks, start: Instant, known: impl Fn(Key) -> bool) -> Vec<u128> {
        let mut times = Vec::new();
        while let Some(due) = looks.due(false) {
            tokio::time::sleep_until(due).await;
            look(looks, &known);
            times.push(start.elapsed().as_millis());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_is_looked_for_until_its_key_is_seen() {
        let mut looks = Looks::default();
        looks.ask(Reread::Statement, one(7), Expected::Nothing, at(4), 1000);
        let start = Instant::now();
        let seen_from = start + Duration::from_millis(20);
        let times = look_on(&mut looks, start, |key| key == 7 && Instant::now() >= seen_from).await;
        assert_eq!(times, [1, 6, 15, 35]);
        assert!(looks.hold().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_with_unknown_keys_is_looked_for_during_a_second() {
        let mut looks = Looks::default();
        looks.ask(Reread::Statement, Wanted::default(), Expected::Nothing, at(4), 1000);
        let times = [1, 6, 15, 35, 70, 120, 300, 1000];
        assert_eq!(look_on(&mut looks, Instant::now(), |_| true).await, times);
    }

    #[tokio::test(start_paused = true)]
    async fn rows_that_no_look_finds_are_lost_once() {
        for (expected, found, outcome) in [
            (Expected::Rows, false, Outcome { in_doubt: true, lost: 1, ..Outcome::default() }),
            (Expected::Rows, true, Outcome { in_doubt: true, ..Outcome::default() }),
            (Expected::Perhaps, false, Outcome { in_doubt: true, found_nothing: 1, ..Outcome::default() }),
            (Expected::Nothing, false, Outcome::default()),
        ] {
            let mut looks = Looks::default();
            looks.ask(Reread::Statement, Wanted::default(), expected, at(4), 1000);
            let reach = if expected == Expected::Nothing { Reach::Near } else { Reach::All };
            assert_eq!(looks.reach(Instant::now()), Reach::Most);
            assert_eq!(looks.reach(Instant::now() + Duration::from_secs(1)), reach);
            let mut outcomes = Vec::new();
            while let Some(due) = looks.due(false) {
                tokio::time::sleep_until(due).await;
                if found {
                    looks.found([7].into_iter());
                }
                outcomes.push(look(&mut looks, |_| false));
            }
            assert_eq!(outcomes.pop(), Some(outcome));
            assert!(outcomes.iter().all(|outcome| *outcome == Outcome::default()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_statements_on_other_tables_cost_few_looks() {
        let mut looks = Looks::default();
        let start = Instant::now();
        let mut count = 0;
        for _ in 0..1000 {
            looks.ask(Reread::OtherStatement, Wanted::default(), Expected::Nothing, at(4), 1000);
            tokio::time::advance(Duration::from_millis(1)).await;
            if looks.due(false).is_some_and(|due| due <= Instant::now()) {
                look(&mut looks, |_| false);
                count += 1;
            }
        }
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        assert!((5..=20).contains(&count), "{count}");
        assert!(looks.hold().is_none(), "they hold no position");
    }

    #[tokio::test(start_paused = true)]
    async fn looks_that_reach_far_are_few_however_many_wait_for_them() {
        let mut looks = Looks::default();
        let start = Instant::now();
        let (mut asked, mut far) = (0, 0);
        loop {
            if start.elapsed() < Duration::from_secs(3) {
                looks.ask(Reread::Statement, Wanted::default(), Expected::Perhaps, at(4), 1000);
                asked += 1;
            }
            tokio::time::advance(Duration::from_millis(10)).await;
            let Some(due) = looks.due(false) else { break };
            if due <= Instant::now() {
                far += usize::from(looks.reach(Instant::now()) > Reach::Most);
                look(&mut looks, |_| false);
            }
        }
        assert!(asked == 300 && (8..=12).contains(&far), "{far} of {asked}");
        assert!(start.elapsed() < Duration::from_millis(4500), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_by_its_key_is_complete_with_the_look_behind() {
        let mut looks = Looks::default();
        looks.ask(Reread::Statement, one(7), Expected::Nothing, at(4), 1000);
        tokio::time::advance(Duration::from_millis(2)).await;
        looks.looked_by_key(Instant::now());
        looks.seen(|key| key == 7, |_| false);
        assert!(looks.due(true).is_none() && !looks.has_looked_for_all() && !looks.is_to_settle());
        assert!(looks.due(false).is_some_and(|due| due <= Instant::now() + APART_OURS));
        looks.looked(Instant::now());
        assert!(looks.is_to_settle() && looks.has_looked_for_all() && looks.hold().is_some());
        assert_eq!(looks.settled(|_| true), Outcome::default());
        assert!(looks.hold().is_none() && looks.due(false).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_whose_keys_the_last_look_saw_waits_for_nothing_but_holds_the_position() {
        let mut looks = Looks::default();
        looks.ask(Reread::Statement, one(7), Expected::Nothing, at(4), 1000);
        looks.ask(Reread::Statement, one(8), Expected::Nothing, at(8), 1000);
        looks.looked(Instant::now());
        looks.seen(|key| key < 9, |key| key < 9);
        assert_eq!(looks.waiting.len(), 1);
        assert_eq!(looks.hold().map(|(position, _)| position.at.offset), Some(4));
        assert!(!looks.give_up(), "that look has both");
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_of_one_row_is_whole_when_that_was_told() {
        for may_have_more in [false, true] {
            let mut looks = Looks::default();
            let wanted = Wanted { may_have_more, ..one(7) };
            looks.ask(Reread::Statement, wanted, Expected::Nothing, at(4), 1000);
            looks.seen(|_| true, |_| false);
            assert_eq!(looks.give_up(), may_have_more, "no look saw what else there may be");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_more_rows_may_lose_some_until_the_look_that_saw_it_is_settled() {
        let several = |key| Wanted { may_have_more: true, ..one(key) };
        let mut looks = Looks::default();
        looks.ask(Reread::Statement, one(6), Expected::Nothing, at(2), 1000);
        looks.deleted();
        assert_eq!(look(&mut looks, |_| true), Outcome::default());
        for deleted_before_it_was_seen in [true, false] {
            looks.ask(Reread::Statement, one(7), Expected::Nothing, at(4), 1000);
            looks.ask(Reread::Statement, several(8), Expected::Nothing, at(6), 1000);
            if deleted_before_it_was_seen {
                looks.deleted();
            }
            looks.looked(Instant::now());
            looks.seen(|_| true, |_| true);
            assert_eq!(looks.waiting.len(), 1, "the first one holds for both");
            looks.deleted();
            assert!(looks.settled(|_| true).may_have_lost);
            looks.deleted();
            assert_eq!(looks.settled(|_| true), Outcome::default(), "it is said once");
        }
        looks.ask(Reread::Statement, several(9), Expected::Nothing, at(6), 1000);
        looks.deleted();
        assert!(looks.give_up());
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_is_not_settled_holds_the_position_for_a_minute() {
        let mut looks = Looks::default();
        looks.ask(Reread::Statement, Wanted::default(), Expected::Nothing, at(4), 1000);
        looks.looked(Instant::now());
        for key in 0..120 {
            assert_eq!(looks.hold().is_some(), key < 60);
            looks.told([key].into_iter());
            looks.passed();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(looks.told.is_empty());
        // The same where others come all the time: as much is remembered as a restart needs.
        for key in 0..1000 {
            looks.ask(Reread::Statement, Wanted::default(), Expected::Nothing, at(8), 1000);
            looks.told([key].into_iter());
            looks.passed();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((59..=61).contains(&looks.told.len()), "{}", looks.told.len());
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_are_bounded_and_the_oldest_holds_for_all() {
        let mut looks = Looks::default();
        for key in 0..5000 {
            looks.ask(Reread::Statement, one(key), Expected::Nothing, at(key as u64), 1000);
        }
        assert_eq!((looks.waiting.len(), looks.least_key()), (WAITING, Some(0)));
        assert_eq!(looks.hold().map(|(position, _)| position.at.offset), Some(0));
        looks.seen(|_| true, |_| true);
        looks.looked(Instant::now());
        looks.settled(|_| true);
        assert!(looks.hold().is_some(), "for those that are forgotten it is looked to the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_begins_before_the_oldest_that_waits_and_tells_nothing_twice() {
        let mut looks = Looks::default();
        looks.told([1].into_iter());
        looks.ask(Reread::Statement, one(5), Expected::Nothing, at(100), 1000);
        looks.passed();
        looks.told([2].into_iter());
        looks.ask(Reread::Statement, one(6), Expected::Nothing, at(200), 1000);
        looks.passed();
        looks.told([3].into_iter());
        let (position, told) = looks.hold().unwrap();
        assert_eq!((position.at.offset, told.collect::<Vec<_>>()), (100, vec![2, 3]));
        tokio::time::advance(Duration::from_millis(2)).await;
        look(&mut looks, |key| key == 5);
        let (position, told) = looks.hold().unwrap();
        assert_eq!((position.at.offset, told.collect::<Vec<_>>()), (200, vec![2, 3]));
    }
}
