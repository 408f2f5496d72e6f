//! When to look at the table because the binlog did not say which rows came.
//!
//! A server sends a commit before its own SELECTs see it, so one look is not enough: looks follow a
//! transaction until one of the keys that it is known to have written has been seen, or for a second.
//! Meanwhile a restart must go on from before it. What a look says is certain only when the binlog has been read to
//! where it ended behind the look: see [`Looks::settled`]. Does no I/O and publishes nothing.

mod waiting;

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use self::waiting::Waiting;
use crate::{
    id::Key,
    tail::{
        Expected, Reread,
        position::{FileOffset, Position},
    },
};

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
    /// The last look left out nothing that may be news. Asked only while one [wants](Waiting::wants_all) that.
    saw_all: bool,
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
        if keys.is_empty()
            && let Some(other) = self.waits_as_one(ours, expected, certain)
        {
            other.may_have_more |= may_have_more;
            return;
        }
        if self.waiting.len() >= WAITING
            && let Some(second) = self.waiting.remove(1)
            && let Some(first) = self.waiting.front_mut()
        {
            first.ours |= second.ours;
            first.certain |= second.certain;
            first.may_have_lost |= second.may_have_lost;
            first.is_key_perhaps_deleted |= second.is_key_perhaps_deleted;
            (first.may_have_more, first.wants_all, first.stands_for_others) = (true, true, true);
            (first.are_all_keys, first.is_whole, first.served_before) = (false, false, None);
            let expected = if first.found { Expected::Nothing } else { first.expected };
            first.expected = expected.max(Expected::Perhaps);
            (first.found, first.seen, first.served) = (false, false, false);
            first.looks = first.looks.min(first.steps().len() - 1);
        }
        let commit = self.commits;
        let (found, has_come, seen, served) = (false, false, false, false);
        let has_keys = !keys.is_empty();
        let may_have_more = may_have_more || keys.len() > KEYS;
        let are_all_keys = are_certain
            && has_keys
            && !may_have_more
            && why != Reread::XaCommit
            && expected == Expected::Nothing;
        // The rows of one event stand together.
        let is_image = matches!(why, Reread::Altered | Reread::Layout | Reread::Image);
        let wants_all = !has_keys || expected != Expected::Nothing && !is_image;
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
            is_key_perhaps_deleted: false,
            ours,
            expected,
            found,
            has_come,
            seen,
            served,
            served_before: None,
            is_whole: false,
            wants_all,
            stands_for_others: false,
            certain,
        });
    }

    /// One that came just before, if the look for that serves this one, too.
    fn waits_as_one(&mut self, ours: bool, expected: Expected, certain: bool) -> Option<&mut Waiting> {
        self.waiting.iter_mut().rev().take_while(|other| other.looks == 0).find(|other| {
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

    /// How far a look at `now` must reach: to all that may be news if it is the last one for a transaction that inserted
    /// rows, for what can be known, or if no other can tell that all of it has come.
    pub(super) fn reach(&self, now: Instant) -> Reach {
        if self.far_from.is_some_and(|far| now < far) {
            return Reach::Most;
        }
        let is_due = |waiting: &&Waiting| {
            let last = waiting.steps().last().is_some_and(|wait| waiting.arrived + *wait <= now);
            last || waiting.wants_all_now(now)
        };
        let reach = |waiting: &Waiting| if waiting.certain { Reach::All } else { Reach::Near };
        self.waiting.iter().filter(is_due).map(reach).max().unwrap_or(Reach::Most)
    }

    /// The keys that are looked for: of each transaction at least one is its own.
    fn keys(&self) -> impl Iterator<Item = Key> {
        self.waiting.iter().flat_map(|waiting| &waiting.keys).copied()
    }

    /// The same but for transactions whose keys all came, or of which only the last look is left.
    pub(super) fn open_keys(&self) -> impl Iterator<Item = Key> {
        let open = self.waiting.iter().filter(|waiting| !waiting.has_come && !waiting.wants_last());
        open.flat_map(|waiting| &waiting.keys).copied()
    }

    /// The least key that is looked for.
    pub(super) fn least_key(&self) -> Option<Key> {
        self.keys().min()
    }

    /// Whether a look at all that may be news tells of a transaction what no other does.
    pub(super) fn wants_all(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.wants_all && !waiting.is_whole)
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

    /// A look that began at `began` has been made; `saw_all` if it left out nothing that may be news.
    pub(super) fn looked(&mut self, began: Instant, saw_all: bool) {
        self.last = Some(began);
        self.saw_all = saw_all;
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
        let becomes_whole = |waiting: &Waiting| !waiting.is_whole && waiting.is_whole_with(self.saw_all);
        let is_to_settle =
            |waiting: &Waiting| waiting.has_had_all() || waiting.is_complete() || becomes_whole(waiting);
        self.waiting.iter().any(is_to_settle)
    }

    /// The binlog ended at `until` behind the last look.
    pub(super) fn look_ends_before(&mut self, until: &FileOffset) {
        let saw_all = self.saw_all;
        let saw_whole = |waiting: &&mut Waiting| waiting.served && (saw_all || !waiting.wants_all);
        for waiting in self.waiting.iter_mut().filter(saw_whole) {
            waiting.served_before.get_or_insert_with(|| until.clone());
        }
    }

    /// Keys that are looked for may have been told; `known` tells which, and `sighted` those that the last look saw, behind
    /// which the binlog ended at `until`. Those of which nothing more is to come wait no longer.
    pub(super) fn seen(
        &mut self,
        known: impl Fn(Key) -> bool,
        sighted: impl Fn(Key) -> bool,
        until: Option<&FileOffset>,
    ) {
        for waiting in &mut self.waiting {
            // Asked no more than needed: very many wait while a long binlog is caught up with.
            waiting.seen =
                waiting.seen || !waiting.stands_for_others && waiting.keys.iter().any(|key| known(*key));
            waiting.has_come = waiting.has_come || waiting.keys.iter().all(|key| known(*key));
            waiting.served = waiting.served
                || waiting.has_come && waiting.seen && waiting.keys.iter().all(|key| sighted(*key));
        }
        if let Some(until) = until {
            self.look_ends_before(until);
        }
        // One of them is enough to hold the position until that look is settled.
        let mut holds = false;
        self.waiting.retain(|waiting| {
            let stays = waiting.may_have_more || !(waiting.is_complete() && waiting.has_come && holds);
            holds |= stays && waiting.ours;
            stays
        });
    }

    /// The binlog has been read to where it ended behind the last look, and what the look saw has been told; `known`
    /// tells the keys that came.
    pub(super) fn settled(&mut self, known: impl Fn(Key) -> bool) -> Outcome {
        let mut outcome = Outcome::default();
        self.told_all_seen(&known);
        self.waiting.retain_mut(|waiting| {
            let goes_on = !waiting.is_complete() && !waiting.has_had_all();
            outcome.in_doubt |= waiting.certain && !waiting.keys.iter().any(|key| known(*key)) && !goes_on;
            // Rows that are not there were deleted again.
            let is_lost = !waiting.found
                && (waiting.expected == Expected::Rows || waiting.are_keys_certain && !waiting.has_come);
            if !goes_on && !waiting.found {
                let may_be_lost = waiting.keys.is_empty() && waiting.expected == Expected::Perhaps;
                outcome.lost += usize::from(is_lost);
                outcome.found_nothing += usize::from(!is_lost && (may_be_lost || !waiting.has_come));
            }
            outcome.may_have_lost |= !goes_on && !is_lost && waiting.has_perhaps_lost();
            // What was found is probably its own, and all of it.
            waiting.may_have_more &= !(waiting.found && (self.saw_all || !waiting.wants_all));
            goes_on
        });
        self.forget_told();
        outcome
    }

    /// What the last look saw has been told; `known` tells the keys that came.
    pub(super) fn told_all_seen(&mut self, known: impl Fn(Key) -> bool) {
        for waiting in &mut self.waiting {
            waiting.has_come |= waiting.keys.iter().all(|key| known(*key));
            waiting.is_whole |= waiting.is_whole_with(self.saw_all);
        }
    }

    /// Rows were deleted behind all that came so far, by what ends at `at` in the binlog.
    pub(super) fn deleted(&mut self, at: Option<&FileOffset>) {
        // What the binlog did not have yet behind a look, that look did not miss.
        let is_before = |until: &FileOffset| at.is_none_or(|at| until.reaches(at));
        for waiting in &mut self.waiting {
            let is_open = waiting.may_have_more && !waiting.is_whole;
            waiting.may_have_lost |= is_open && waiting.served_before.as_ref().is_none_or(is_before);
            waiting.is_key_perhaps_deleted |= waiting.are_keys_certain && !waiting.has_come;
        }
    }

    /// Whether rows of some may have been deleted before a look could see them.
    pub(super) fn may_have_lost(&self) -> bool {
        self.waiting.iter().any(Waiting::has_perhaps_lost)
    }

    /// The last look will not be settled: those for which it was the last one get another.
    pub(super) fn look_again(&mut self) {
        for waiting in &mut self.waiting {
            waiting.looks = waiting.looks.min(waiting.steps().len() - 1);
            if !waiting.is_whole {
                waiting.served = false;
                waiting.served_before = None;
            }
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
        let is_told = |waiting: &Waiting| waiting.is_whole || waiting.has_come && waiting.are_all_keys;
        let in_vain =
            self.may_have_lost() || self.waiting.iter().any(|waiting| waiting.certain && !is_told(waiting));
        *self = Looks { last: self.last, far_from: self.far_from, ..Looks::default() };
        in_vain
    }
}

#[cfg(test)]
mod tests;
