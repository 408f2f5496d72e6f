//! What each client has, against what it should have.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::Duration,
};

use crate::{
    screens::{Record, Row},
    swipes::Written,
};

/// What came of all rounds of one fault on one server.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) server: &'static str,
    pub(crate) fault: &'static str,
    pub(crate) rounds: usize,
    pub(crate) verdict: Verdict,
}

/// The sums over all clients.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Rows in the table.
    pub(crate) rows: usize,
    pub(crate) missing: usize,
    pub(crate) twice: usize,
    pub(crate) out_of_order: usize,
    pub(crate) silence: Duration,
    /// In words, these and others.
    pub(crate) problems: Vec<String>,
}

/// What the fault leaves of what is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Every row once, in order, and no gap.
    All,
    /// Every row; behind a gap they may come again, in another order.
    UnlessTold,
}

/// What is known about the rows, apart from what doorcast says.
#[derive(Debug)]
pub(crate) struct Truth {
    /// Every row's JSON, by key.
    pub(crate) table: HashMap<i64, String>,
    /// Keys in the order of their commits, as far as the binlog has rows.
    pub(crate) decoder: Vec<i64>,
    pub(crate) written: Written,
}

impl Outcome {
    /// A run that came to no end.
    pub(crate) fn broken(server: &'static str, fault: &'static str, problem: String) -> Outcome {
        let verdict = Verdict { problems: vec![problem], ..Verdict::default() };
        Outcome { server, fault, rounds: 0, verdict }
    }

    pub(crate) fn is_good(&self) -> bool {
        let Verdict { missing, twice, out_of_order, problems, .. } = &self.verdict;
        *missing == 0 && *twice == 0 && *out_of_order == 0 && problems.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { rows, missing, twice, out_of_order, silence, problems } = &self.verdict;
        write!(
            f,
            "{}, {}: {} rounds, {rows} rows, {missing} missing, {twice} twice, {out_of_order} out of order, longest \
             silence {:.1} s",
            self.server,
            self.fault,
            self.rounds,
            silence.as_secs_f64()
        )?;
        problems.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

/// Compares every client's rows with the truth and with each other.
pub(crate) fn judge(truth: &Truth, clients: &[(String, Record)], promise: Promise) -> Verdict {
    let mut verdict = Verdict { rows: truth.table.len(), ..Verdict::default() };
    let firsts: Vec<Vec<i64>> = clients.iter().map(|(_, record)| first_times(record)).collect();
    let longest = firsts.iter().max_by_key(|keys| keys.len()).cloned().unwrap_or_default();
    let by_binlog: Vec<i64> = truth
        .decoder
        .iter()
        .copied()
        .filter(|key| truth.written.by_binlog.contains(key) && truth.table.contains_key(key))
        .collect();
    let among_clients = match promise {
        Promise::All => &longest,
        Promise::UnlessTold => &by_binlog,
    };
    for ((name, record), keys) in clients.iter().zip(&firsts) {
        verdict.count(name, "twice", repeats(record, promise), |verdict| &mut verdict.twice);
        let got: HashSet<i64> = keys.iter().copied().collect();
        let mut missing: Vec<i64> = truth.table.keys().copied().filter(|key| !got.contains(key)).collect();
        missing.sort_unstable();
        verdict.count(name, "missing", missing, |verdict| &mut verdict.missing);
        let moved = displaced(keys, &by_binlog);
        verdict.count(name, "out of the binlog's order", moved, |verdict| &mut verdict.out_of_order);
        let moved = displaced(keys, among_clients);
        verdict.count(name, "out of the other clients' order", moved, |verdict| &mut verdict.out_of_order);

        let wrong: Vec<i64> = record
            .rows
            .iter()
            .filter(|row| truth.table.get(&row.key).is_none_or(|json| *json != row.json))
            .map(|row| row.key)
            .collect();
        verdict.say(name, "not as in the table", &wrong);
        verdict.problems.extend(record.complaints.iter().map(|complaint| format!("{name}: {complaint}")));
        if promise == Promise::All {
            let renamed = record.rows.iter().filter(|row| row.epoch != 1).map(|row| row.key);
            verdict.say(name, "under another id", &renamed.collect::<Vec<_>>());
            verdict.problems.extend(record.gaps.iter().map(|gap| format!("{name}: gap {gap}")));
        }
        let mut seen = HashSet::new();
        for row in record.rows.iter().filter(|row| seen.insert(row.key)) {
            let wait = truth
                .written
                .acknowledged
                .get(&row.key)
                .map(|since| row.at.saturating_duration_since(*since));
            verdict.silence = verdict.silence.max(wait.unwrap_or_default());
        }
    }
    verdict
}

impl Verdict {
    fn count(&mut self, client: &str, what: &str, keys: Vec<i64>, sum: fn(&mut Verdict) -> &mut usize) {
        *sum(self) += keys.len();
        self.say(client, what, &keys);
    }

    fn say(&mut self, client: &str, what: &str, keys: &[i64]) {
        if !keys.is_empty() {
            let some: Vec<String> = keys.iter().take(12).map(ToString::to_string).collect();
            let more = if keys.len() > some.len() { ", …" } else { "" };
            self.problems.push(format!("{client}: {} {what}: {}{more}", keys.len(), some.join(", ")));
        }
    }
}

/// A client's keys in the order in which each came first.
fn first_times(record: &Record) -> Vec<i64> {
    let mut seen = HashSet::new();
    record.rows.iter().map(|row| row.key).filter(|key| seen.insert(*key)).collect()
}

fn repeats(record: &Record, promise: Promise) -> Vec<i64> {
    let mut seen = HashSet::new();
    let behind_gap = |row: &Row| if promise == Promise::All { 0 } else { row.gaps };
    let again = |row: &&Row| !seen.insert((behind_gap(row), row.key));
    record.rows.iter().filter(again).map(|row| row.key).collect()
}

/// The fewest keys that would have to be moved for `keys` to be in the order of `reference`; keys that
/// are not in both do not count.
fn displaced(keys: &[i64], reference: &[i64]) -> Vec<i64> {
    let place: HashMap<i64, usize> = reference.iter().enumerate().map(|(place, key)| (*key, place)).collect();
    let common: Vec<(i64, usize)> = keys.iter().filter_map(|key| Some((*key, *place.get(key)?))).collect();
    // The longest ascending subsequence: for each length, the end of the one that ends lowest.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(common.len());
    for (at, (_, place)) in common.iter().enumerate() {
        let length = ends.partition_point(|end| common[*end].1 < *place);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        if length == ends.len() {
            ends.push(at);
        } else {
            ends[length] = at;
        }
    }
    let mut stays = HashSet::new();
    let mut next = ends.last().copied();
    while let Some(at) = next {
        stays.insert(at);
        next = before[at];
    }
    common.iter().enumerate().filter(|(at, _)| !stays.contains(at)).map(|(_, (key, _))| *key).collect()
}
