//! XA transactions between PREPARE and COMMIT: their keys are known, and nobody may see their rows yet.
//!
//! Also those of other tables: one that is not here was prepared before doorcast followed the binlog.

use std::collections::VecDeque;

use super::Follower;
use crate::{
    checkpoint::SavedXa,
    id::Key,
    tail::{Commit, Expected, Reread, Xa},
};

/// Transactions that are remembered. Applications prepare one and commit it; so many were forgotten by theirs.
const TRANSACTIONS: usize = 1000;

/// Runs of keys of all of them: they are written with every checkpoint.
const RUNS: usize = 10_000;

/// Keys by which a transaction is seen to be there.
const SEEN_BY: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Prepared(VecDeque<(SavedXa, Phase)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Committed or rolled back. A restart may meet that once more.
    Ended,
}

impl Prepared {
    /// As the checkpoint has them.
    pub(super) fn restore(saved: Vec<SavedXa>) -> Self {
        Prepared(saved.into_iter().take(TRANSACTIONS).map(|xa| (xa, Phase::Open)).collect())
    }

    pub(super) fn saved(&self) -> Vec<SavedXa> {
        self.0.iter().map(|(xa, _)| xa.clone()).collect()
    }

    fn prepare(&mut self, mut xa: SavedXa) {
        self.0.retain(|(other, _)| other.xid != xa.xid);
        xa.keys.truncate(RUNS);
        self.0.push_back((xa, Phase::Open));
        let mut runs: usize = self.0.iter().map(|(xa, _)| xa.keys.len()).sum();
        while self.0.len() > TRANSACTIONS || runs > RUNS {
            let Some((oldest, _)) = self.0.pop_front() else { break };
            runs -= oldest.keys.len();
        }
    }

    fn end(&mut self, xid: &str) -> Option<SavedXa> {
        let (xa, phase) = self.0.iter_mut().find(|(xa, _)| xa.xid == xid)?;
        *phase = Phase::Ended;
        Some(xa.clone())
    }

    /// No restart can meet the end of those that have ended any more.
    fn forget_ended(&mut self) {
        self.0.retain(|(_, phase)| *phase == Phase::Open);
    }
}

impl Follower {
    /// Makes of an XA transaction's commit what is to be looked for.
    pub(super) fn xa_phase(&mut self, commit: &mut Commit) {
        if !self.looks.has_ours() {
            self.prepared.forget_ended();
            self.keys.expect_no_more();
        }
        let xid = match commit.xa.take() {
            None => return,
            Some(Xa::Prepared { xid, keys, are_keys_certain, ours, certain }) => {
                return self.prepared.prepare(SavedXa { xid, keys, are_keys_certain, ours, certain });
            }
            Some(Xa::RolledBack(xid)) => {
                self.prepared.end(&xid);
                return;
            }
            Some(Xa::Committed(xid)) => xid,
        };
        let Some(xa) = xid.and_then(|xid| self.prepared.end(&xid)) else {
            // If nothing is found: where everything is known, it had no rows.
            commit.expected = if self.keys.knows_all() { Expected::Perhaps } else { Expected::Rows };
            return;
        };
        for (first, last) in &xa.keys {
            self.keys.expect(*first, *last, |key| self.ahead.keys.contains(&key));
        }
        commit.insert_ids = keys_of(&xa.keys).take(SEEN_BY).collect();
        commit.are_ids_certain = xa.are_keys_certain;
        commit.may_have_more = true;
        if !xa.ours {
            commit.reread = None;
        } else if xa.certain {
            commit.expected = Expected::Rows;
        } else if xa.keys.is_empty() {
            commit.reread = Some(Reread::OtherStatement);
        }
    }
}

fn keys_of(runs: &[(Key, Key)]) -> impl Iterator<Item = Key> {
    runs.iter().flat_map(|(first, last)| *first..=*last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xa(xid: &str) -> SavedXa {
        SavedXa { xid: xid.into(), keys: vec![(1, 2)], are_keys_certain: true, ours: true, certain: false }
    }

    #[test]
    fn what_has_ended_may_end_once_more_until_no_restart_can_meet_it() {
        let mut prepared = Prepared::default();
        prepared.prepare(xa("a"));
        prepared.prepare(xa("b"));
        assert_eq!(prepared.end("a"), Some(xa("a")));
        assert_eq!(prepared.end("a"), Some(xa("a")));
        prepared.forget_ended();
        assert_eq!((prepared.end("a"), prepared.saved()), (None, vec![xa("b")]));
    }

    #[test]
    fn those_that_nobody_ends_are_bounded() {
        let mut prepared = Prepared::default();
        for number in 0..=TRANSACTIONS {
            prepared.prepare(xa(&number.to_string()));
        }
        assert_eq!((prepared.saved().len(), prepared.end("0")), (TRANSACTIONS, None));
    }

    #[test]
    fn the_keys_of_all_are_bounded_and_the_oldest_goes_first() {
        let mut prepared = Prepared::default();
        let every_second = |count: Key| (0..count).map(|key| (2 * key, 2 * key)).collect();
        for (xid, runs) in [("a", 6_000), ("b", 3_000), ("c", 5_000)] {
            prepared.prepare(SavedXa { keys: every_second(runs), ..xa(xid) });
        }
        assert_eq!(prepared.end("a"), None);
        prepared.prepare(SavedXa { keys: every_second(1_000_000), ..xa("d") });
        let saved: Vec<_> = prepared.saved().into_iter().map(|xa| (xa.xid, xa.keys.len())).collect();
        assert_eq!(saved, [("d".to_owned(), RUNS)]);
    }
}
