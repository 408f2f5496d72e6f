//! A person who is greeted, as a row of the file says it.

use std::{fmt, str::FromStr};

use jiff::civil::Date;
use serde::Serialize;

use super::{
    card::{Card, Secret},
    cells::{Cells, plain_door},
    sheet::{Problem, Row, Sheet},
};

/// The columns that mean something, as a new file has them.
pub(super) const COLUMNS: [&str; 10] =
    ["rfsim", "name", "title", "message", "photo", "doors", "valid_from", "valid_to", "priority", "lang"];

/// A language that greetings are made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Lang {
    /// Chinese.
    Zh,
    /// English.
    En,
}

impl fmt::Display for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lang::Zh => "zh",
            Lang::En => "en",
        })
    }
}

impl FromStr for Lang {
    type Err = ();

    /// Reads `zh`, `zh-CN`, `EN_us` and the like.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (language, _) = text.split_once(['-', '_']).unwrap_or((text, ""));
        match language.to_ascii_lowercase().as_str() {
            "zh" => Ok(Lang::Zh),
            "en" => Ok(Lang::En),
            _ => Err(()),
        }
    }
}

/// Somebody who is greeted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Stands for the card wherever the card must not be seen.
    pub reference: Box<str>,
    /// Personal data: never shown.
    pub card: Card,
    /// Never empty.
    pub name: Box<str>,
    /// Perhaps empty, as all texts from here on.
    pub title: Box<str>,
    /// May hold placeholders.
    pub message: Box<str>,
    /// A file's name in the folder of photos.
    pub photo: Option<Box<str>>,
    /// Where they are greeted; empty: everywhere.
    pub doors: Box<[Box<str>]>,
    /// The first day on which they are greeted.
    pub valid_from: Option<Date>,
    /// The last day.
    pub valid_to: Option<Date>,
    /// The higher, the sooner.
    pub priority: i32,
    /// `None`: as the site has it.
    pub lang: Option<Lang>,
}

impl Person {
    /// Whether they are greeted on this day.
    pub fn is_valid_on(&self, today: Date) -> bool {
        self.valid_from.is_none_or(|from| from <= today) && self.valid_to.is_none_or(|to| today <= to)
    }

    /// Whether they are greeted at this door.
    pub fn is_greeted_at(&self, door: &str) -> bool {
        self.doors.is_empty() || self.doors.iter().any(|own| **own == *plain_door(door))
    }

    /// Reads a row. Warnings are added to `warnings`.
    ///
    /// # Errors
    /// Every cell that can't be understood.
    pub(super) fn read(
        sheet: &Sheet,
        row: &Row,
        secret: &Secret,
        warnings: &mut Vec<Problem>,
    ) -> Result<Person, Vec<Problem>> {
        let mut cells = Cells::new(sheet, row, warnings);
        let card = cells.card();
        let name = cells.name();
        let title = cells.title();
        let (valid_from, valid_to) = cells.days();
        let message = cells.message();
        let photo = cells.photo();
        let doors = cells.doors();
        let priority = cells.priority();
        let lang = cells.lang();
        match card {
            Some(card) if cells.problems().is_empty() => {
                let reference = secret.reference(&card);
                Ok(Person {
                    reference,
                    card,
                    name,
                    title,
                    message,
                    photo,
                    doors,
                    valid_from,
                    valid_to,
                    priority,
                    lang,
                })
            }
            _ => Err(cells.into_problems()),
        }
    }
}
