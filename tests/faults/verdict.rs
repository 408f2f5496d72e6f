//! What each client has, against what it should have.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::Duration,
};

use super::{
    decoder::Decoded,
    latecomers::{self, Latecomer},
    screens::{Record, Row, hash},
    swipes::{Card, Written, card_text},
};

/// How often keys had started over.
pub(crate) type Generation = u32;

/// What came of all rounds of one fault on one server.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) server: &'static str,
    pub(crate) fault: &'static str,
    pub(crate) rounds: usize,
    pub(crate) verdict: Verdict,
    /// doorcast's size after each round, if it ran all the time.
    pub(crate) sizes: Vec<Size>,
    /// Whether there is such a fault on this server.
    pub(crate) applies: bool,
}

/// How much of the machine doorcast takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) resident_kib: u64,
    /// Of that, what is read from files: the program itself.
    pub(crate) file_kib: u64,
    /// The most that it ever was.
    pub(crate) peak_kib: u64,
    /// What it says that the rows for clients take.
    pub(crate) feed_bytes: u64,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) tasks: usize,
}

/// The sums over all clients.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Rows that were committed.
    pub(crate) rows: usize,
    pub(crate) missing: usize,
    pub(crate) twice: usize,
    pub(crate) out_of_order: usize,
    pub(crate) silence: Duration,
    /// In words, these and others.
    pub(crate) problems: Vec<String>,
    /// Row by row.
    pub(crate) findings: Vec<Finding>,
}

/// A row that is not as it should be at a client.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) client: String,
    pub(crate) what: &'static str,
    pub(crate) card: Card,
}

/// What the fault leaves of what is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Every row once, in order, in the first epoch, and no gap.
    All,
    /// The same, and keys start over: no id stands for two rows, and epochs go up.
    NewEpochs,
    /// Every row; behind a gap they may come again, in another order.
    UnlessTold,
}

/// A row as it was inserted.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    pub(crate) generation: Generation,
    pub(crate) key: i64,
    pub(crate) door: i64,
    pub(crate) card: String,
    pub(crate) time: String,
    pub(crate) open: String,
}

/// What is known about the rows, apart from what doorcast says.
#[derive(Debug)]
pub(crate) struct Truth {
    /// All that the table has or had, as far as it was read before it was emptied.
    pub(crate) table: Vec<Fields>,
    /// In the order of their commits, as far as the binlog has rows.
    pub(crate) decoder: Vec<Decoded>,
    pub(crate) written: Written,
}

/// Rows that must come, by card.
pub(crate) type Expected = HashMap<Card, Forms>;

/// What a row may look like.
pub(crate) struct Forms {
    pub(crate) generation: Generation,
    pub(crate) key: i64,
    pub(crate) door: i64,
    /// A hash of its JSON.
    json: u64,
    /// The same, while the table has a note.
    noted: u64,
}

impl Truth {
    /// What the table has or had, and what the binlog has of generations that are gone.
    pub(crate) fn expected(&self) -> Expected {
        let newest = self.decoder.last().map_or(0, |row| row.generation);
        let gone = self.decoder.iter().filter(|row| row.generation < newest);
        let rows = self.table.iter().chain(gone.filter_map(|row| row.fields.as_ref()));
        let forms = rows.filter_map(|row| {
            let card = Card::from_str_radix(&row.card, 16).ok()?;
            let json = format!(
                "{{\"vid\":{},\"doorno\":{},\"rfsim\":\"{}\",\"optime\":\"{}\",\"ynopen\":\"{}\"",
                row.key, row.door, row.card, row.time, row.open
            );
            let note = self.written.notes.get(&card).map_or("none", String::as_str);
            let noted = hash(&format!("{json},\"note\":\"{note}\"}}"));
            let json = hash(&format!("{json}}}"));
            Some((card, Forms { generation: row.generation, key: row.key, door: row.door, json, noted }))
        });
        forms.collect()
    }

    /// Whether a client got the row as it was at that time.
    fn is_right(&self, row: &Row, expected: &Expected) -> bool {
        let Some(forms) = expected.get(&row.card) else { return false };
        let may_be_noted = || self.written.noted.iter().any(|(from, to)| (*from..=*to).contains(&row.at));
        forms.key == row.key && (forms.json == row.json || forms.noted == row.json && may_be_noted())
    }
}

impl Outcome {
    /// A run that came to no end.
    pub(crate) fn broken(server: &'static str, fault: &'static str, problem: String) -> Outcome {
        let verdict = Verdict { problems: vec![problem], ..Verdict::default() };
        Outcome { server, fault, rounds: 0, verdict, sizes: Vec::new(), applies: true }
    }

    /// There is no such fault on this server.
    pub(crate) fn not_applicable(server: &'static str, fault: &'static str) -> Outcome {
        Outcome { server, fault, rounds: 0, verdict: Verdict::default(), sizes: Vec::new(), applies: false }
    }

    pub(crate) fn is_good(&self) -> bool {
        let Verdict { missing, twice, out_of_order, problems, .. } = &self.verdict;
        *missing == 0 && *twice == 0 && *out_of_order == 0 && problems.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.applies {
            return write!(f, "{}, {}: not applicable", self.server, self.fault);
        }
        let Verdict { rows, missing, twice, out_of_order, silence, problems, .. } = &self.verdict;
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

/// A quarter of the rounds, or what there is of it.
pub(crate) fn quarter(sizes: &[Size], number: usize) -> &[Size] {
    sizes.get(sizes.len() * number / 4..sizes.len() * (number + 1) / 4).unwrap_or_default()
}

/// The least, the middle one and the greatest of what the sizes have of something.
pub(crate) fn spread<T: Ord + Copy>(sizes: &[Size], of: impl Fn(&Size) -> T) -> Option<(T, T, T)> {
    let mut sorted: Vec<T> = sizes.iter().map(of).collect();
    sorted.sort_unstable();
    Some((*sorted.first()?, *sorted.get(sorted.len() / 2)?, *sorted.last()?))
}

/// Says if doorcast had more in the last quarter of the rounds than in the second. In the first it is still filling what
/// it has: the feed, the keys that it remembers, buffers.
pub(crate) fn growth(sizes: &[Size]) -> Option<String> {
    /// The least is without what a round leaves behind for a while. So much is for places between what is used.
    const LEAST_KIB: u64 = 4 * 1024;
    /// A connection keeps the buffer that an event of over 16 MB came in, while it lasts, and there may be one more often
    /// in one quarter than in another.
    const MIDDLE_KIB: u64 = 32 * 1024;
    const THINGS: usize = 8;
    /// Of fewer rounds, each may have been behind such an event.
    const ROUNDS: usize = 20;
    let (second, last) = (quarter(sizes, 1), quarter(sizes, 3));
    if second.len() < ROUNDS {
        return None;
    }
    // The rows for clients are many or few as the last fault was, and the program's pages stay wherever there is room.
    let memory = |size: &Size| size.resident_kib.saturating_sub(size.file_kib + size.feed_bytes / 1024);
    let (before, now) = (spread(second, memory)?, spread(last, memory)?);
    if now.0 > before.0 + LEAST_KIB || now.1 > before.1 + MIDDLE_KIB {
        return Some(format!(
            "doorcast grew: least, middle and most KiB were {before:?}, and became {now:?}"
        ));
    }
    let more = |name: &str, of: fn(&Size) -> usize| {
        let ((_, before, _), (_, now, _)) = (spread(second, of)?, spread(last, of)?);
        (now > before + THINGS).then(|| format!("doorcast grew from {before} {name} to {now}"))
    };
    more("descriptors", |size| size.descriptors)
        .or_else(|| more("threads", |size| size.threads))
        .or_else(|| more("tasks", |size| size.tasks))
}

/// Compares every client's rows with the truth and with each other.
pub(crate) fn judge(
    truth: &Truth,
    clients: &[(String, Record)],
    latecomers: &[Latecomer],
    promise: Promise,
) -> Verdict {
    let expected = truth.expected();
    let mut verdict = Verdict { rows: expected.len(), ..Verdict::default() };
    let firsts: Vec<Vec<Card>> = clients.iter().map(|(_, record)| first_times(record)).collect();
    let longest = firsts.iter().max_by_key(|cards| cards.len()).cloned().unwrap_or_default();
    let by_binlog: Vec<Card> = truth
        .decoder
        .iter()
        .map(|row| row.card)
        .filter(|card| truth.written.by_binlog.contains(card) && expected.contains_key(card))
        .collect();
    let among_clients = match promise {
        Promise::All | Promise::NewEpochs => &longest,
        Promise::UnlessTold => &by_binlog,
    };
    for ((name, record), cards) in clients.iter().zip(&firsts) {
        let say = Names { client: name, expected: &expected };
        verdict.count(&say, "twice", repeats(record, promise), |verdict| &mut verdict.twice);
        let got: HashSet<Card> = cards.iter().copied().collect();
        let mut missing: Vec<Card> = expected.keys().copied().filter(|card| !got.contains(card)).collect();
        missing.sort_unstable_by_key(|card| expected.get(card).map(|forms| forms.key));
        verdict.count(&say, "missing", missing, |verdict| &mut verdict.missing);
        let moved = displaced(cards, &by_binlog);
        verdict.count(&say, "out of the binlog's order", moved, |verdict| &mut verdict.out_of_order);
        let moved = displaced(cards, among_clients);
        verdict.count(&say, "out of the other clients' order", moved, |verdict| &mut verdict.out_of_order);

        verdict.rows_are_right(truth, &say, record);
        if promise == Promise::All {
            let renamed = record.rows.iter().filter(|row| row.epoch != 1).map(|row| row.card);
            verdict.say(&say, "under another id", &renamed.collect::<Vec<_>>());
        }
        if promise != Promise::UnlessTold {
            verdict.problems.extend(record.gaps.iter().map(|gap| format!("{name}: gap {gap}")));
        }
        let mut seen = HashSet::new();
        for row in record.rows.iter().filter(|row| seen.insert(row.card)) {
            let wait = truth
                .written
                .acknowledged
                .get(&row.card)
                .map(|commit| row.at.saturating_duration_since(commit.at));
            verdict.silence = verdict.silence.max(wait.unwrap_or_default());
        }
    }
    for latecomer in latecomers {
        let say = Names { client: &latecomer.name, expected: &expected };
        latecomers::judge(&mut verdict, truth, &say, latecomer, &longest);
        verdict.rows_are_right(truth, &say, &latecomer.record);
    }
    let all = clients.iter().map(|(name, record)| (name, record));
    let all = all.chain(latecomers.iter().map(|latecomer| (&latecomer.name, &latecomer.record)));
    verdict.problems.extend(ids(&truth.decoder, all, promise));
    let decoded: HashSet<Card> = truth.decoder.iter().map(|row| row.card).collect();
    let nowhere = |card: &Card| !expected.contains_key(card) && !decoded.contains(card);
    let unknown: Vec<Card> = truth.written.acknowledged.keys().copied().filter(nowhere).collect();
    let say = Names { client: "the server", expected: &expected };
    verdict.say(&say, "acknowledged, and neither in the table nor in the binlog", &unknown);
    let not_decoded: Vec<Card> = truth.written.by_binlog.difference(&decoded).copied().collect();
    verdict.say(&say, "logged as rows, and not seen by the decoder", &not_decoded);
    verdict
}

/// What is wrong with the ids: one that stands for two rows, an epoch that goes down, one epoch in two
/// generations.
fn ids<'a>(
    decoder: &[Decoded],
    clients: impl Iterator<Item = (&'a String, &'a Record)>,
    promise: Promise,
) -> Vec<String> {
    let generations: HashMap<Card, Generation> =
        decoder.iter().map(|row| (row.card, row.generation)).collect();
    let mut problems = Vec::new();
    let mut stands_for = HashMap::new();
    let mut epoch_of: HashMap<Generation, u32> = HashMap::new();
    let mut generation_of: HashMap<u32, Generation> = HashMap::new();
    for (name, record) in clients {
        let mut epoch = 0;
        for row in &record.rows {
            let id = format!("{}-{}", row.epoch, row.key);
            if *stands_for.entry((row.epoch, row.key)).or_insert(row.card) != row.card {
                problems.push(format!("{name}: {id} stands for two rows"));
            }
            if row.epoch < epoch {
                problems.push(format!("{name}: {id} comes after epoch {epoch}"));
            }
            epoch = row.epoch;
            let Some(generation) = generations.get(&row.card) else { continue };
            if *generation_of.entry(row.epoch).or_insert(*generation) != *generation {
                problems
                    .push(format!("{name}: {id} is of generation {generation}, others of its epoch are not"));
            }
            // Elsewhere an epoch may end without a new generation.
            if promise == Promise::NewEpochs && *epoch_of.entry(*generation).or_insert(row.epoch) != row.epoch
            {
                problems.push(format!("{name}: {id} is of generation {generation}, which had another epoch"));
            }
        }
    }
    problems.truncate(20);
    problems
}

/// What problems are told with.
pub(super) struct Names<'a> {
    pub(super) client: &'a str,
    pub(super) expected: &'a Expected,
}

impl Verdict {
    fn rows_are_right(&mut self, truth: &Truth, names: &Names<'_>, record: &Record) {
        let wrong = record.rows.iter().filter(|row| !truth.is_right(row, names.expected));
        self.say(names, "not as in the table", &wrong.map(|row| row.card).collect::<Vec<_>>());
        let complaints = record.complaints.iter();
        self.problems.extend(complaints.map(|complaint| format!("{}: {complaint}", names.client)));
    }

    pub(super) fn count(
        &mut self,
        names: &Names<'_>,
        what: &'static str,
        cards: Vec<Card>,
        sum: fn(&mut Verdict) -> &mut usize,
    ) {
        *sum(self) += cards.len();
        self.say(names, what, &cards);
    }

    fn say(&mut self, names: &Names<'_>, what: &'static str, cards: &[Card]) {
        let finding = |card: &Card| Finding { client: names.client.to_owned(), what, card: *card };
        self.findings.extend(cards.iter().map(finding));
        if !cards.is_empty() {
            let name = |card: &Card| match names.expected.get(card) {
                Some(forms) => format!("{} through door {}", forms.key, forms.door),
                None => format!("card {}", card_text(*card)),
            };
            let some: Vec<String> = cards.iter().take(12).map(name).collect();
            let more = if cards.len() > some.len() { ", …" } else { "" };
            self.problems.push(format!(
                "{}: {} {what}: {}{more}",
                names.client,
                cards.len(),
                some.join(", ")
            ));
        }
    }
}

/// A client's rows in the order in which each came first.
pub(super) fn first_times(record: &Record) -> Vec<Card> {
    let mut seen = HashSet::new();
    record.rows.iter().map(|row| row.card).filter(|card| seen.insert(*card)).collect()
}

pub(super) fn repeats(record: &Record, promise: Promise) -> Vec<Card> {
    let mut seen = HashSet::new();
    let behind_gap = |row: &Row| if promise == Promise::UnlessTold { row.gaps } else { 0 };
    let again = |row: &&Row| !seen.insert((behind_gap(row), row.card));
    record.rows.iter().filter(again).map(|row| row.card).collect()
}

/// The fewest rows that would have to be moved for `cards` to be in the order of `reference`; those that
/// are not in both do not count.
pub(super) fn displaced(cards: &[Card], reference: &[Card]) -> Vec<Card> {
    let place: HashMap<Card, usize> =
        reference.iter().enumerate().map(|(place, card)| (*card, place)).collect();
    let common: Vec<(Card, usize)> =
        cards.iter().filter_map(|card| Some((*card, *place.get(card)?))).collect();
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
    common.iter().enumerate().filter(|(at, _)| !stays.contains(at)).map(|(_, (card, _))| *card).collect()
}
