//! What the run has to say, in Markdown: every outcome, a table with a line for each fault, doorcast's growth,
//! and what was wrong.

use std::fmt::Write as _;

use crate::verdict::{Outcome, Size, Verdict, quarter, spread};

pub(crate) fn report(outcomes: &[Outcome]) -> String {
    let command: Vec<String> =
        std::iter::once("scripts/faults".to_owned()).chain(std::env::args().skip(1)).collect();
    let mut text = format!("`{}`\n\n", command.join(" "));
    text += &each(outcomes);
    text += "\nEach fault in one line. Under a server: rows, and the longest silence; **what was missing, came twice \
             or was out of order**, if anything was. n/a: the server knows no such thing.\n\n";
    text += &by_fault(outcomes);
    text += &growth(outcomes);
    for outcome in outcomes.iter().filter(|outcome| !outcome.is_good()) {
        let _ = writeln!(text, "\n{}, {}:", outcome.server, outcome.fault);
        for problem in &outcome.verdict.problems {
            let _ = writeln!(text, "- {problem}");
        }
    }
    text
}

fn each(outcomes: &[Outcome]) -> String {
    let mut text = "| server | fault | rounds | rows | missing | twice | out of order | longest silence |\n\
                    |---|---|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for Outcome { server, fault, rounds, verdict, applies, .. } in outcomes {
        if !applies {
            let _ = writeln!(text, "| {server} | {fault} | n/a | | | | | |");
            continue;
        }
        let Verdict { rows, missing, twice, out_of_order, silence, .. } = verdict;
        let silence = silence.as_secs_f64();
        let _ = writeln!(
            text,
            "| {server} | {fault} | {rounds} | {rows} | {missing} | {twice} | {out_of_order} | {silence:.1} s |"
        );
    }
    text
}

fn by_fault(outcomes: &[Outcome]) -> String {
    let mut servers: Vec<&str> = outcomes.iter().map(|outcome| outcome.server).collect();
    servers.dedup();
    let mut faults: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !faults.contains(&outcome.fault) {
            faults.push(outcome.fault);
        }
    }
    let mut text = format!("| fault | {} |\n|---|{}\n", servers.join(" | "), "--:|".repeat(servers.len()));
    for fault in faults {
        let _ = write!(text, "| {fault} |");
        for server in &servers {
            let here = |outcome: &&Outcome| outcome.server == *server && outcome.fault == fault;
            let cell = outcomes.iter().find(here).map(cell).unwrap_or_default();
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

fn cell(outcome: &Outcome) -> String {
    let Verdict { rows, missing, twice, out_of_order, silence, .. } = &outcome.verdict;
    if !outcome.applies {
        return "n/a".to_owned();
    }
    let cell = format!("{rows}, {:.1} s", silence.as_secs_f64());
    match (outcome.is_good(), missing + twice + out_of_order) {
        (true, _) => cell,
        (false, 0) => format!("{cell}, **failed**"),
        (false, _) => format!("{cell}, **{missing}, {twice}, {out_of_order}**"),
    }
}

/// Where doorcast ran all the time: its size behind the rounds of each quarter.
fn growth(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for Outcome { server, sizes, .. } in outcomes.iter().filter(|outcome| !outcome.sizes.is_empty()) {
        if text.is_empty() {
            text += "\nBehind each round of a quarter of them, the least, **the middle one** and the most; otherwise the middle \
                     one.\n\n\
                     | server | rounds | memory, MiB | of that the program | of that the feed | most so far | descriptors \
                     | threads | tasks |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
        }
        let mut rounds = 0;
        for sizes in (0..4).map(|number| quarter(sizes, number)) {
            rounds += sizes.len();
            text += &line(server, rounds, sizes).unwrap_or_default();
        }
    }
    text
}

fn line(server: &str, rounds: usize, sizes: &[Size]) -> Option<String> {
    let mib = |kib: u64| kib as f64 / 1024.0;
    let (least, middle, most) = spread(sizes, |size| size.resident_kib)?;
    let (_, program, _) = spread(sizes, |size| size.file_kib)?;
    let (_, feed, _) = spread(sizes, |size| size.feed_bytes / 1024)?;
    let (_, descriptors, _) = spread(sizes, |size| size.descriptors)?;
    let (_, threads, _) = spread(sizes, |size| size.threads)?;
    let (_, tasks, _) = spread(sizes, |size| size.tasks)?;
    let peak = sizes.last()?.peak_kib;
    Some(format!(
        "| {server} | to {rounds} | {:.1}, **{:.1}**, {:.1} | {:.1} | {:.1} | {:.1} | {descriptors} | {threads} | {tasks} |\n",
        mib(least),
        mib(middle),
        mib(most),
        mib(program),
        mib(feed),
        mib(peak)
    ))
}
