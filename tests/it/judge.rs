//! The judge of the fault suite: what it is there to see, it sees.

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

#[allow(dead_code, reason = "the fault suite uses the rest")]
#[path = "../faults/decoder.rs"]
mod decoder;
#[allow(dead_code, reason = "the fault suite uses the rest")]
#[path = "../faults/get.rs"]
mod get;
#[path = "../faults/latecomers.rs"]
mod latecomers;
#[allow(dead_code, reason = "the fault suite uses the rest")]
#[path = "../faults/screens.rs"]
mod screens;
#[allow(dead_code, reason = "the fault suite uses the rest")]
#[path = "../faults/swipes.rs"]
mod swipes;
#[allow(dead_code, reason = "the fault suite uses the rest")]
#[path = "../faults/verdict.rs"]
mod verdict;

use decoder::Decoded;
use latecomers::Latecomer;
use screens::{Place, Record};
use swipes::{Card, Commit, Written, card_text};
use verdict::{Fields, Generation, Promise, Size, Truth, Verdict, growth, judge};

const ROWS: i64 = 6;

/// The row with this key. Each generation has cards of its own.
fn fields(generation: Generation, key: i64) -> Fields {
    let card = card_text(card(generation, key));
    Fields { generation, key, door: 100 + key, card, time: "20261120 071500".into(), open: "Y".into() }
}

fn card(generation: Generation, key: i64) -> Card {
    Card::from(generation) * 1000 + key.unsigned_abs()
}

fn json(row: &Fields) -> String {
    let Fields { key, door, card, time, open, .. } = row;
    format!(r#"{{"vid":{key},"doorno":{door},"rfsim":"{card}","optime":"{time}","ynopen":"{open}"}}"#)
}

/// Rows of these generations, each committed, acknowledged and in the binlog, in the order of their keys.
fn truth(generations: &[Generation]) -> Truth {
    let keys = |generation: &Generation| {
        let generation = *generation;
        (1..=ROWS).map(move |key| fields(generation, key))
    };
    let table: Vec<Fields> = generations.iter().flat_map(keys).collect();
    let cards: HashSet<Card> = table.iter().map(|row| card(row.generation, row.key)).collect();
    let commit = Commit { at: Instant::now(), writer: None };
    let decoded = |row: &Fields| Decoded {
        card: card(row.generation, row.key),
        generation: row.generation,
        fields: Some(row.clone()),
    };
    Truth {
        decoder: table.iter().map(decoded).collect(),
        written: Written {
            acknowledged: cards.iter().map(|card| (*card, commit)).collect(),
            by_binlog: cards,
            ..Written::default()
        },
        table,
    }
}

/// What a client gets of that, each row with its id.
fn told(truth: &Truth) -> Vec<(String, String)> {
    let rows = truth.table.iter();
    rows.map(|row| (format!("{}-{}", row.generation + 1, row.key), json(row))).collect()
}

fn record(rows: &[(String, String)]) -> Record {
    let mut record = Record::default();
    rows.iter().for_each(|(id, json)| record.row(id, json).unwrap());
    record
}

/// The verdict on a client that got all, and one for which `change` changed something.
fn verdict(truth: &Truth, promise: Promise, change: impl FnOnce(&mut Vec<(String, String)>)) -> Verdict {
    let mut rows = told(truth);
    let all = record(&rows);
    change(&mut rows);
    judge(truth, &[("all".into(), all), ("one".into(), record(&rows))], &[], promise)
}

/// Counts of missing, twice and out of order, and what is said.
#[track_caller]
fn check(verdict: &Verdict, counts: (usize, usize, usize), said: &[&str]) {
    let Verdict { missing, twice, out_of_order, problems, .. } = verdict;
    assert_eq!((*missing, *twice, *out_of_order), counts, "{problems:#?}");
    assert_eq!(problems.len(), said.len(), "{problems:#?}");
    for said in said {
        assert!(problems.iter().any(|problem| problem.contains(said)), "{said}: {problems:#?}");
    }
}

#[test]
fn the_judge_has_nothing_to_say_where_all_is_well() {
    for (generations, promise) in
        [(&[0][..], Promise::All), (&[0, 1], Promise::NewEpochs), (&[0, 1], Promise::UnlessTold)]
    {
        check(&verdict(&truth(generations), promise, |_| {}), (0, 0, 0), &[]);
    }
}

#[test]
fn the_judge_counts_rows_that_are_missing_twice_and_out_of_order() {
    let one = |change: fn(&mut Vec<(String, String)>)| verdict(&truth(&[0]), Promise::All, change);
    check(&one(|rows| drop(rows.remove(2))), (1, 0, 0), &["one: 1 missing: 3 through door 103"]);
    check(&one(|rows| drop(rows.pop())), (1, 0, 0), &["one: 1 missing: 6 "]);
    check(&one(|rows| rows.truncate(1)), (5, 0, 0), &["one: 5 missing: 2 "]);
    check(&one(|rows| rows.insert(5, rows[2].clone())), (0, 1, 0), &["one: 1 twice: 3 "]);
    check(&one(|rows| rows.push(rows[5].clone())), (0, 1, 0), &["one: 1 twice: 6 "]);
    // By the binlog, and by the other client.
    check(
        &one(|rows| rows.swap(2, 3)),
        (0, 0, 2),
        &["one: 1 out of the binlog's order", "1 out of the other clients' order"],
    );
    let first_last = one(|rows| rows.rotate_left(1));
    check(
        &first_last,
        (0, 0, 2),
        &["one: 1 out of the binlog's order: 1 ", "1 out of the other clients' order"],
    );
}

#[test]
fn the_judge_reads_each_row() {
    let one = |change: fn(&mut Vec<(String, String)>)| verdict(&truth(&[0]), Promise::All, change);
    let not_as_in_the_table = ["one: 1 not as in the table: 3 "];
    check(&one(|rows| rows[2].1 = rows[2].1.replace("103", "104")), (0, 0, 0), &not_as_in_the_table);
    check(&one(|rows| rows[2].1 = rows[2].1.replace("\"Y\"", "\"Y\" ")), (0, 0, 0), &not_as_in_the_table);
    check(&one(|rows| rows[2].0 = "1-7".into()), (0, 0, 0), &not_as_in_the_table);
    let never_committed = one(|rows| rows.push(("1-7".into(), json(&fields(0, 7)))));
    check(&never_committed, (0, 0, 0), &["one: 1 not as in the table: card 0000000000000007"]);
}

#[test]
fn the_judge_knows_whose_ids_they_are() {
    let one = |change: fn(&mut Vec<(String, String)>)| verdict(&truth(&[0]), Promise::All, change);
    check(&one(|rows| rows[5].0 = "2-6".into()), (0, 0, 0), &["one: 1 under another id: 6 "]);
    check(
        &one(|rows| rows[2].0 = "2-3".into()),
        (0, 0, 0),
        &["one: 1 under another id: 3 ", "one: 1-4 comes after epoch 2"],
    );
    // The fourth row of the next table under the id of the third row of the last.
    let replaced = verdict(&truth(&[0, 1]), Promise::NewEpochs, |rows| rows[2].1 = json(&fields(1, 3)));
    check(
        &replaced,
        (1, 1, 2),
        &[
            "one: 1 missing: 3 ",
            "one: 1 twice: 3 ",
            "one: 1 out of the binlog's order",
            "1 out of the other clients' order",
            "one: 1-3 stands for two rows",
            "one: 1-3 is of generation 1, others of its epoch are not",
            "one: 1-3 is of generation 1, which had another epoch",
        ],
    );
    let no_new_epoch = verdict(&truth(&[0, 1]), Promise::NewEpochs, |rows| rows[6].0 = "1-7".into());
    let said = [
        "one: 1 not as in the table",
        "one: 1-7 is of generation 1, others of its epoch are not",
        "one: 1-7 is of generation 1, which had another epoch",
    ];
    check(&no_new_epoch, (0, 0, 0), &said);
}

#[test]
fn the_judge_takes_a_gap_only_where_it_was_promised() {
    let truth = truth(&[0]);
    let rows = told(&truth);
    for (promise, counts, said) in [
        (Promise::All, (0, 2, 0), &["one: 2 twice: 5 ", "one: gap told"][..]),
        (Promise::NewEpochs, (0, 2, 0), &["one: 2 twice: 5 ", "one: gap told"]),
        (Promise::UnlessTold, (0, 0, 0), &[]),
    ] {
        let mut one = record(&rows);
        one.gaps.push("told".into());
        rows[4..].iter().for_each(|(id, json)| one.row(id, json).unwrap());
        let clients = [("all".into(), record(&rows)), ("one".into(), one)];
        check(&judge(&truth, &clients, &[], promise), counts, said);
    }
    // A row behind no gap.
    check(&verdict(&truth, Promise::UnlessTold, |rows| drop(rows.remove(2))), (1, 0, 0), &["1 missing"]);
}

#[test]
fn the_judge_asks_of_latecomers_what_came_behind_their_id() {
    let truth = truth(&[0, 1]);
    let rows = told(&truth);
    let clients = [("all".to_owned(), record(&rows))];
    // Behind 1-3, of twelve rows.
    let late = |gap: bool, rows: &[(String, String)]| {
        let mut record = record(rows);
        record.gaps.extend(gap.then(|| "told".to_owned()));
        let from = Place { epoch: 1, key: 3, card: card(0, 3) };
        let until = Instant::now() + Duration::from_secs(1);
        let latecomer = Latecomer { name: "late".into(), from, until, record };
        judge(&truth, &clients, &[latecomer], Promise::NewEpochs)
    };
    check(&late(false, &rows[3..]), (0, 0, 0), &[]);
    check(&late(true, &rows[6..]), (0, 0, 0), &[]);
    check(&late(false, &rows[6..]), (3, 0, 0), &["late: 3 missing: 4 "]);
    check(&late(true, &rows[7..]), (1, 0, 0), &["late: 1 missing: 1 "]);
    check(&late(false, &rows[2..]), (0, 1, 0), &["late: 1 from before its id: 3 "]);
    let twice: Vec<_> = rows[3..].iter().chain(&rows[11..]).cloned().collect();
    check(&late(false, &twice), (0, 1, 0), &["late: 1 twice: 6 "]);
    let mut swapped = rows[3..].to_vec();
    swapped.swap(0, 1);
    check(&late(false, &swapped), (0, 0, 1), &["late: 1 out of the other clients' order"]);
    // Rows of the next table under the ids of the last.
    let renamed = |(id, json): &(String, String)| (id.replace("2-", "1-"), json.clone());
    let others: Vec<_> = rows[9..].iter().map(renamed).chain(rows[6..9].iter().cloned()).collect();
    let verdict = late(true, &others);
    let two = verdict.problems.iter().filter(|problem| problem.contains("stands for two rows")).count();
    assert_eq!(two, 3, "{:#?}", verdict.problems);
}

#[test]
fn the_judge_misses_rows_that_were_acknowledged_and_are_nowhere() {
    let mut truth = truth(&[0]);
    let rows = told(&truth);
    truth.table.remove(2);
    truth.decoder.remove(2);
    let clients = [("all".to_owned(), record(&rows))];
    let said = [
        "all: 1 not as in the table",
        "the server: 1 acknowledged, and neither in the table nor",
        "the server: 1 logged as rows, and not seen by the decoder",
    ];
    check(&judge(&truth, &clients, &[], Promise::All), (0, 0, 0), &said);
}

#[test]
fn the_judge_does_not_rely_on_a_decoder_that_sees_half() {
    let mut truth = truth(&[0]);
    truth.decoder.remove(2);
    let said = ["the server: 1 logged as rows, and not seen by the decoder: 3 "];
    check(&verdict(&truth, Promise::All, |_| {}), (0, 0, 0), &said);
}

const ROUNDS: u64 = 400;

/// doorcast's size behind a round. Now and then there is a buffer of an event of over 16 MB.
fn size(round: u64, leaked_kib: u64) -> Size {
    let (feed_kib, program_kib) = (round * 7919 % 5000, 20_000 + round);
    let buffer_kib = if round.is_multiple_of(3) { 22_000 } else { 0 };
    let resident_kib = 5_000 + feed_kib + program_kib + buffer_kib + leaked_kib;
    Size {
        resident_kib,
        file_kib: program_kib,
        peak_kib: resident_kib + 50_000,
        feed_bytes: feed_kib * 1024,
        descriptors: 20 + usize::from(round.is_multiple_of(5)),
        threads: 5,
        tasks: 12,
    }
}

#[test]
fn doorcast_grew_if_it_is_larger_at_least_than_it_was() {
    let sizes = |leaked_kib: fn(u64) -> u64| -> Vec<Size> {
        (0..ROUNDS).map(|round| size(round, leaked_kib(round))).collect()
    };
    assert_eq!(growth(&sizes(|_| 0)), None);
    // What fills up is full at the second quarter.
    assert_eq!(growth(&sizes(|round| round.min(ROUNDS / 4) * 100)), None);
    assert!(growth(&sizes(|round| round * 30)).is_some());
    assert_eq!(growth(&[size(0, 0), size(1, 0), size(2, 0), size(3, 50_000)]), None, "too few");
}

#[test]
fn doorcast_grew_if_it_has_more_and_more_of_something() {
    let mut sizes: Vec<Size> = (0..ROUNDS).map(|round| size(round, 0)).collect();
    for (round, size) in sizes.iter_mut().enumerate() {
        size.descriptors += round / 20;
    }
    let grew = growth(&sizes);
    assert!(grew.as_ref().is_some_and(|text| text.contains("descriptors")), "{grew:?}");
}
