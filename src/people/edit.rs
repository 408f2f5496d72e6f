//! Edits of the people file, by a receptionist.
//!
//! An edit is made in the file as it is now, and only if that one is good: what somebody else saved
//! meanwhile stays, unknown columns too. Written as a whole or not at all, the one before kept as `.bak`,
//! each edit on record first.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    Card, Greeting, Lang, People, Person, Problem, Roster, atomic, audit,
    cells::{card_of, guard},
    person::COLUMNS,
    photo,
    sheet::Sheet,
};
use crate::status::now_ms;

/// What to change.
#[derive(Debug, Clone)]
pub enum Change {
    /// Somebody new, by a card that was swiped, or by the card's id.
    Add {
        /// Which card.
        card: NewCard,
        /// Who it is.
        fields: Box<Fields>,
    },
    /// Other cells for somebody.
    Edit {
        /// Who.
        reference: String,
        /// What is not there stays.
        fields: Box<Fields>,
    },
    /// Nobody any more.
    Delete {
        /// Who.
        reference: String,
    },
}

/// The card of somebody new.
#[derive(Debug, Clone)]
pub enum NewCard {
    /// One that was swiped and is nobody's.
    Handle(String),
    /// One whose id somebody knows.
    Id(String),
}

/// The cells of a person. What is not there stays as it is, an empty text empties the cell.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Fields {
    /// Must not be empty.
    pub name: Option<String>,
    /// Before or after the name, as the template says.
    pub title: Option<String>,
    /// May hold placeholders.
    pub message: Option<String>,
    /// A file's name in the folder of photos.
    pub photo: Option<String>,
    /// Empty: everywhere.
    pub doors: Option<Vec<String>>,
    /// A day such as 2026-11-20.
    pub valid_from: Option<String>,
    /// A day.
    pub valid_to: Option<String>,
    /// From -1000 to 1000.
    pub priority: Option<i32>,
    /// `zh` or `en`.
    pub lang: Option<String>,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A cell would be wrong.
    #[error("{}: {}", .0.column.as_deref().unwrap_or("the person"), .0.reason)]
    Bad(Problem),
    /// No such person or card.
    #[error("there is no such person or card any more")]
    Unknown,
    /// The card is somebody's already.
    #[error("the card is somebody's already")]
    Taken,
    /// The file is not good as it is, so nothing can be changed in it.
    #[error("mend the people file first: {}", told(.0))]
    File(Problem),
    /// The disk.
    #[error("the people file can't be written: {0}")]
    Unwritten(#[from] io::Error),
}

fn told(problem: &Problem) -> String {
    let line = problem.line.map(|line| format!("line {line}, ")).unwrap_or_default();
    let column = problem.column.as_deref().map(|column| format!("{column}: ")).unwrap_or_default();
    format!("{line}{column}{}", problem.reason)
}

impl People {
    /// Makes a change in the file. The person as they are now; `None` after they were deleted. `who` goes
    /// on record. Blocking.
    ///
    /// # Errors
    /// See [`ChangeError`]. Nothing was changed then.
    pub fn change(&self, change: &Change, who: &str) -> Result<Option<Arc<Person>>, ChangeError> {
        let _file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sheet = self.sheet()?;
        let made = self.apply(change, &mut sheet)?;
        let roster = Roster::read(&sheet, &self.secret).map_err(|problems| {
            ChangeError::Bad(
                problems.into_iter().next().unwrap_or_else(|| Problem::file("it is not clear why")),
            )
        })?;
        let person = roster.by_card(&made.card).cloned();
        self.write(&sheet.write(), &made, who)?;
        self.sweep_photos(&roster);
        self.take_over(roster, sheet.encoding);
        Ok(person)
    }

    /// How somebody with these cells would be greeted now.
    ///
    /// # Errors
    /// [`ChangeError::Bad`].
    pub fn preview(&self, fields: &Fields, door: String) -> Result<Greeting, ChangeError> {
        let mut sheet = Sheet::new(&COLUMNS);
        let at = sheet.add();
        sheet.set(at, "rfsim", "PREVIEW");
        fields.put(&mut sheet, at)?;
        let roster = Roster::read(&sheet, &self.secret).map_err(first_bad)?;
        let person = roster.people().first().ok_or(ChangeError::Unknown)?;
        Ok(Greeting { test: true, ..self.greeter().greeting(person, door, 0, now_ms()) })
    }

    /// A greeting for a test: of somebody, or of nobody in particular.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`].
    pub fn test_greeting(&self, reference: Option<&str>, door: String) -> Result<Greeting, ChangeError> {
        match reference {
            Some(reference) => {
                let roster = self.roster();
                let person = roster.by_reference(reference).ok_or(ChangeError::Unknown)?;
                Ok(Greeting { test: true, ..self.greeter().greeting(person, door, 0, now_ms()) })
            }
            None => {
                let name = match self.greeter().lang {
                    Lang::Zh => "测试",
                    Lang::En => "Test",
                };
                self.preview(&Fields { name: Some(name.to_owned()), ..Fields::default() }, door)
            }
        }
    }

    /// The file as it is now, if it is good.
    fn sheet(&self) -> Result<Sheet, ChangeError> {
        let file = &self.settings.file;
        if !file.exists() && self.loaded().loaded_ms.is_none() {
            // The first person makes the file. One that was there and is gone is another matter.
            return Ok(Sheet::new(&COLUMNS));
        }
        let mut sheet = self.read_file().and_then(|bytes| Sheet::read(&bytes)).map_err(ChangeError::File)?;
        Roster::read(&sheet, &self.secret).map_err(|problems| ChangeError::File(first(problems)))?;
        sheet.encoding = encoding_rs::UTF_8.name();
        Ok(sheet)
    }

    fn apply(&self, change: &Change, sheet: &mut Sheet) -> Result<Made, ChangeError> {
        let find = |sheet: &Sheet, reference: &str| {
            let found = sheet.rows.iter().enumerate().find_map(|(at, row)| {
                let card = card_of(sheet, row)?;
                (*self.secret.reference(&card) == *reference).then_some((at, card))
            });
            found.ok_or(ChangeError::Unknown)
        };
        match change {
            Change::Add { card, fields } => {
                let card = match card {
                    NewCard::Handle(handle) => self.unknown_card(handle).ok_or(ChangeError::Unknown)?,
                    NewCard::Id(id) => Card::new(id).ok_or_else(|| bad("rfsim", "the card id is missing"))?,
                };
                if sheet.rows.iter().any(|row| card_of(sheet, row).as_ref() == Some(&card)) {
                    return Err(ChangeError::Taken);
                }
                let at = sheet.add();
                sheet.set(at, "rfsim", &guard(&card));
                let changed = fields.put(sheet, at)?;
                Ok(Made { what: "add", card, name: name(sheet, at), changed })
            }
            Change::Edit { reference, fields } => {
                let (at, card) = find(sheet, reference)?;
                let changed = fields.put(sheet, at)?;
                Ok(Made { what: "edit", card, name: name(sheet, at), changed })
            }
            Change::Delete { reference } => {
                let (at, card) = find(sheet, reference)?;
                let made = Made { what: "delete", card, name: name(sheet, at), changed: BTreeMap::new() };
                sheet.rows.remove(at);
                Ok(made)
            }
        }
    }

    fn write(&self, bytes: &[u8], made: &Made, who: &str) -> io::Result<()> {
        let file = &self.settings.file;
        let entry = audit::Entry {
            time: Timestamp::now().to_string(),
            who,
            what: made.what,
            card: made.card.mask(),
            name: &made.name,
            changed: made.changed.clone(),
        };
        // What is not on record is not done.
        audit::append(file, &entry)?;
        // A link stays a link.
        let file = &std::fs::canonicalize(file).unwrap_or_else(|_| file.clone());
        let written = keep_before(file).and_then(|()| atomic::write(file, bytes, Some(file)));
        if written.is_err() {
            let _ = audit::append(&self.settings.file, &audit::Entry { what: "failed", ..entry });
        }
        written
    }

    fn sweep_photos(&self, roster: &Roster) {
        let used: HashSet<&str> =
            roster.people().iter().filter_map(|person| person.photo.as_deref()).collect();
        photo::sweep(&self.settings.photo_dir, &used);
    }
}

/// A change as it goes on record.
struct Made {
    what: &'static str,
    card: Card,
    name: String,
    changed: BTreeMap<&'static str, [String; 2]>,
}

impl Fields {
    /// Puts the cells into a row, and tells which ones are different now.
    fn put(&self, sheet: &mut Sheet, at: usize) -> Result<BTreeMap<&'static str, [String; 2]>, ChangeError> {
        let text = |text: &Option<String>| text.as_deref().map(|text| text.trim().to_owned());
        let cells = [
            ("name", text(&self.name)),
            ("title", text(&self.title)),
            ("message", text(&self.message)),
            ("photo", text(&self.photo)),
            ("doors", self.doors.as_ref().map(|doors| doors.join(";"))),
            ("valid_from", text(&self.valid_from)),
            ("valid_to", text(&self.valid_to)),
            ("priority", self.priority.map(|priority| priority.to_string())),
            ("lang", text(&self.lang)),
        ];
        let mut changed = BTreeMap::new();
        for (column, text) in cells {
            let Some(text) = text else { continue };
            let before = sheet.rows.get(at).map(|row| sheet.cell(row, column).to_owned()).unwrap_or_default();
            if before == text {
                continue;
            }
            if column != "priority" && text.starts_with(['=', '+', '-', '@']) {
                return Err(bad(
                    column,
                    "it begins with a character that makes Excel run the rest as a formula",
                ));
            }
            if column == "photo" && !text.is_empty() && !photo::is_name(&text) {
                return Err(bad(column, "not the name of a photo"));
            }
            sheet.set(at, column, &text);
            changed.insert(column, [before, text]);
        }
        Ok(changed)
    }
}

fn first_bad(problems: Vec<Problem>) -> ChangeError {
    ChangeError::Bad(first(problems))
}

fn first(problems: Vec<Problem>) -> Problem {
    problems.into_iter().next().unwrap_or_else(|| Problem::file("it can't be read"))
}

fn bad(column: &str, reason: &'static str) -> ChangeError {
    ChangeError::Bad(Problem { line: None, column: Some(column.into()), reason: reason.into() })
}

fn name(sheet: &Sheet, at: usize) -> String {
    sheet.rows.get(at).map(|row| sheet.cell(row, "name").to_owned()).unwrap_or_default()
}

/// Keeps the file as it is now beside the one to come.
fn keep_before(file: &Path) -> io::Result<()> {
    match std::fs::read(file) {
        Ok(bytes) => atomic::write(&before(file), &bytes, Some(file)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err),
    }
}

fn before(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".bak");
    path.into()
}
