//! What the run has to say, in Markdown: every outcome, a table with a line for each fault, doorcast's growth,
//! and what was wrong.

use std::fmt::Write as _;

use crate::verdict::{Outcome, Size, Verdict};

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

/// Where doorcast ran all the time: its size after each quarter of the rounds.
fn growth(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for Outcome { server, sizes, .. } in outcomes.iter().filter(|outcome| !outcome.sizes.is_empty()) {
        if text.is_empty() {
            text += "\n| server | doorcast after … rounds | memory | descriptors | threads | tasks |\n\
                     |---|--:|--:|--:|--:|--:|\n";
        }
        for part in 1..=4 {
            let round = (sizes.len() * part / 4).max(1);
            let Size { resident_kib, descriptors, threads, tasks } = sizes[round - 1];
            let memory = resident_kib as f64 / 1024.0;
            let _ = writeln!(
                text,
                "| {server} | {round} | {memory:.1} MiB | {descriptors} | {threads} | {tasks} |"
            );
        }
    }
    text
}
