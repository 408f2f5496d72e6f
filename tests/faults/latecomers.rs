//! Clients that come with an old id, and what each of them should have.

use std::collections::HashSet;

use tokio::time::Instant;

use super::{
    screens::{Place, Record},
    swipes::Card,
    verdict::{Names, Promise, Truth, Verdict, displaced, first_times, repeats},
};

/// A client that read for a while, from an old id on.
#[derive(Debug)]
pub(crate) struct Latecomer {
    pub(crate) name: String,
    /// The row behind which it began.
    pub(crate) from: Place,
    /// It had every row that was committed by then.
    pub(crate) until: Instant,
    pub(crate) record: Record,
}

/// Compares its rows with those of the client that has the most, in the order in which that one got them. It may be told of
/// a gap: then rows of the table as it was at its old id may be missing, those of tables since then may not.
pub(super) fn judge(
    verdict: &mut Verdict,
    truth: &Truth,
    names: &Names<'_>,
    one: &Latecomer,
    order: &[Card],
) {
    let Latecomer { name, from, until, record } = one;
    let generation = |card: &Card| names.expected.get(card).map(|forms| forms.generation);
    let Some(began) = order.iter().position(|card| *card == from.card) else {
        return verdict.problems.push(format!("{name}: nobody knows the row from which it came"));
    };
    let was_there = |card: &&Card| {
        truth.written.acknowledged.get(card).is_some_and(|commit| commit.at < *until)
            && (record.gaps.is_empty() || generation(card) > generation(&from.card))
    };
    let got: HashSet<Card> = record.rows.iter().map(|row| row.card).collect();
    let behind = &order[began + 1..];
    let missing = behind.iter().filter(was_there).filter(|card| !got.contains(card)).copied().collect();
    verdict.count(names, "missing", missing, |verdict| &mut verdict.missing);
    verdict.count(names, "twice", repeats(record, Promise::All), |verdict| &mut verdict.twice);
    let before: HashSet<Card> = order[..=began].iter().copied().collect();
    let again = record.rows.iter().map(|row| row.card).filter(|card| before.contains(card)).collect();
    verdict.count(names, "from before its id", again, |verdict| &mut verdict.twice);
    let moved = displaced(&first_times(record), order);
    verdict.count(names, "out of the other clients' order", moved, |verdict| &mut verdict.out_of_order);
}
