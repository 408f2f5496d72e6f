//! What happened when, and the file that tells it, row by row, when something is wrong.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use anyhow::Result;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    fault::Fault,
    screens::Record,
    swipes::card_text,
    verdict::{Finding, Truth},
};

/// The rounds so far, and what happened in them.
pub(crate) struct Timeline {
    /// One moment by both clocks: doorcast's log has the second one's.
    began: (Instant, Timestamp),
    rounds: Vec<Round>,
    notes: Vec<(Instant, String)>,
}

struct Round {
    fault: Fault,
    began: Instant,
    ended: Option<Instant>,
}

impl Timeline {
    pub(crate) fn new() -> Timeline {
        Timeline { began: (Instant::now(), Timestamp::now()), rounds: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn begin_round(&mut self, fault: Fault) {
        self.rounds.push(Round { fault, began: Instant::now(), ended: None });
    }

    pub(crate) fn end_round(&mut self) {
        if let Some(round) = self.rounds.last_mut() {
            round.ended = Some(Instant::now());
        }
    }

    /// Takes down what happens now.
    pub(crate) fn note(&mut self, what: &str) {
        self.notes.push((Instant::now(), what.to_owned()));
    }

    /// As doorcast's log writes it.
    fn clock(&self, at: Instant) -> String {
        let since = at.saturating_duration_since(self.began.0);
        format!("{:.6}", self.began.1 + since)
    }

    /// The round that was under way.
    fn during(&self, at: Instant) -> String {
        let Some(number) = self.rounds.partition_point(|round| round.began <= at).checked_sub(1) else {
            return "before the first round".to_owned();
        };
        let round = self.name(number);
        match self.rounds[number].ended {
            Some(ended) if ended < at => format!("after {round}"),
            _ => format!("in {round}"),
        }
    }

    fn name(&self, number: usize) -> String {
        let Round { fault, began, ended } = &self.rounds[number];
        let ended = ended.map_or("it did not end".to_owned(), |at| self.clock(at));
        format!("round {} ({}, {} – {ended})", number + 1, fault.name(), self.clock(*began))
    }

    /// Rounds and notes, in the order of time.
    fn lines(&self) -> String {
        let mut lines: Vec<(Instant, String)> = self.notes.clone();
        for (number, round) in self.rounds.iter().enumerate() {
            let name = format!("round {}, {}", number + 1, round.fault.name());
            lines.push((round.began, format!("{name}, begins")));
            lines.extend(round.ended.map(|at| (at, format!("{name}, ends"))));
        }
        lines.sort_by_key(|(at, _)| *at);
        lines.iter().fold(String::new(), |mut text, (at, what)| {
            let _ = writeln!(text, "{} {what}", self.clock(*at));
            text
        })
    }

    /// Writes all that is known about what is wrong to a file that stays.
    pub(crate) fn keep(
        &self,
        problems: &[String],
        findings: &[Finding],
        truth: &Truth,
        clients: &[(String, Record)],
        log: &str,
    ) -> Result<PathBuf> {
        let mut text = "# What is wrong\n".to_owned();
        problems.iter().for_each(|problem| text += &format!("{problem}\n"));
        text += "\n# Rows, in the order of their keys\n";
        text += &self.rows(findings, truth, clients);
        text += "\n# Rounds\n";
        text += &self.lines();
        text += "\n# doorcast's log\n";
        text += log;
        let folder = env!("CARGO_TARGET_TMPDIR");
        let file = tempfile::Builder::new().prefix("faults-").suffix(".txt").tempfile_in(folder)?;
        fs::write(file.path(), text)?;
        Ok(file.keep()?.1)
    }

    /// Each row that is not as it should be, with the clients to which it is not.
    fn rows(&self, findings: &[Finding], truth: &Truth, clients: &[(String, Record)]) -> String {
        let expected = truth.expected();
        let mut epochs = HashMap::new();
        for row in clients.iter().flat_map(|(_, record)| &record.rows) {
            if let Some(forms) = expected.get(&row.card) {
                epochs.entry(forms.generation).or_insert(row.epoch);
            }
        }
        let mut lines: BTreeMap<_, (String, Vec<&str>)> = BTreeMap::new();
        for Finding { client, what, card } in findings {
            let forms = expected.get(card);
            let place = forms.map(|forms| (forms.generation, forms.key));
            let line = || {
                let row = match forms {
                    Some(forms) => {
                        let epoch = epochs.get(&forms.generation).map_or("none".to_owned(), u32::to_string);
                        format!(
                            "generation {}, epoch {epoch}, key {}, door {}",
                            forms.generation, forms.key, forms.door
                        )
                    }
                    None => "not in the table".to_owned(),
                };
                let commit = match truth.written.acknowledged.get(card) {
                    Some(commit) => {
                        let by = commit.writer.map_or("by hand".to_owned(), |by| format!("by writer {by}"));
                        let (at, during) = (self.clock(commit.at), self.during(commit.at));
                        format!("acknowledged {at} {by}, {during}")
                    }
                    None => "not acknowledged".to_owned(),
                };
                (format!("{what}: {row}, card {}, {commit}", card_text(*card)), Vec::new())
            };
            lines.entry((*what, place, *card)).or_insert_with(line).1.push(client);
        }
        lines.values().fold(String::new(), |mut text, (line, names)| {
            let all = if names.len() == clients.len() { "all clients".to_owned() } else { names.join(", ") };
            let _ = writeln!(text, "{line}; {all}");
            text
        })
    }
}
