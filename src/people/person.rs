//! A person who is greeted, and what each cell of the file may hold.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::civil::Date;
use serde::Serialize;

use super::{
    card::{Card, Secret, narrow},
    photo,
    sheet::{Problem, Row, Sheet},
    template,
};

/// The columns that mean something, as a new file has them.
pub(super) const COLUMNS: [&str; 10] =
    ["rfsim", "name", "title", "message", "photo", "doors", "valid_from", "valid_to", "priority", "lang"];

const TEXT_CHARS: usize = 100;
const MESSAGE_CHARS: usize = 500;
const CARD_CHARS: usize = 64;

/// Doors that one person can be greeted at, unless it is all of them.
const DOORS: usize = 200;

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
        let mut cells = Cells { sheet, row, problems: Vec::new(), warnings };
        let card = cells.card();
        let name = cells.text("name", TEXT_CHARS);
        if name.is_empty() {
            cells.problem("name", "the name is missing");
        }
        let (valid_from, valid_to) = (cells.date("valid_from"), cells.date("valid_to"));
        if matches!((valid_from, valid_to), (Some(from), Some(to)) if to < from) {
            cells.problem("valid_to", "the last day is before the first");
        }
        let title = cells.text("title", TEXT_CHARS);
        let message = cells.message();
        let photo = cells.photo();
        let doors = cells.doors();
        let priority = cells.priority();
        let lang = cells.lang();
        match card {
            Some(card) if cells.problems.is_empty() => {
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
            _ => Err(cells.problems),
        }
    }
}

/// The card of a row, however Excel was kept from making a number of it.
pub(super) fn card_of(sheet: &Sheet, row: &Row) -> Option<Card> {
    Card::new(&unguard(&narrow(sheet.cell(row, "rfsim"))))
}

/// A cell that Excel leaves as it is, also an id of digits alone.
pub(super) fn guard(card: &Card) -> String {
    let text = card.as_str();
    let digits_and_e = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'E');
    if digits_and_e { format!("=\"{text}\"") } else { text.to_owned() }
}

/// Days as people write them and as Excel does: `2026-11-20`, `2026/11/20`, `2026.1.5`, `20261120`,
/// `2026年11月20日`. What begins with a day or a month could be either.
pub(super) fn parse_date(text: &str) -> Option<Date> {
    let text = narrow(text);
    let parts: Vec<&str> = match text.len() {
        8 if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            vec![text.get(..4)?, text.get(4..6)?, text.get(6..)?]
        }
        _ => text.trim_end_matches('日').split(['-', '/', '.', '年', '月']).map(str::trim).collect(),
    };
    let [year, month, day] = <[&str; 3]>::try_from(parts).ok()?;
    if year.len() != 4
        || ![year, month, day].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return None;
    }
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

/// Excel drops leading zeros, and so do we on both sides.
fn plain_door(door: &str) -> Cow<'_, str> {
    let narrow = narrow(door);
    let digits = narrow.bytes().all(|byte| byte.is_ascii_digit());
    match narrow.trim_start_matches('0') {
        rest if digits && !rest.is_empty() => rest.to_owned().into(),
        _ if digits && !narrow.is_empty() => "0".into(),
        _ => narrow.into(),
    }
}

/// `="0012"` is how people keep Excel from taking a text for a number; `'0012` is how they think they do.
fn unguard(text: &str) -> String {
    let formula = text.strip_prefix("=\"").and_then(|text| text.strip_suffix('"'));
    formula.unwrap_or_else(|| text.strip_prefix('\'').unwrap_or(text)).to_owned()
}

/// Whether Excel wrote a number here in the way that loses digits: `1.23E+15`, also `1,23E+15`.
fn is_scientific(text: &str) -> bool {
    let Some((number, exponent)) = text.split_once(['E', 'e']) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, "0"));
    digits(whole) && digits(fraction) && exponent.strip_prefix(['+', '-']).is_some_and(digits)
}

struct Cells<'a> {
    sheet: &'a Sheet,
    row: &'a Row,
    problems: Vec<Problem>,
    warnings: &'a mut Vec<Problem>,
}

impl Cells<'_> {
    fn cell(&self, column: &str) -> &str {
        self.sheet.cell(self.row, column)
    }

    fn problem(&mut self, column: &str, reason: impl Into<Cow<'static, str>>) {
        self.problems.push(Problem::cell(self.row.line, column, reason));
    }

    fn warn(&mut self, column: &str, reason: impl Into<Cow<'static, str>>) {
        self.warnings.push(Problem::cell(self.row.line, column, reason));
    }

    fn card(&mut self) -> Option<Card> {
        let text = unguard(&narrow(self.cell("rfsim")));
        if is_scientific(&text) {
            self.problem(
                "rfsim",
                "Excel has made a number such as 1.23E+15 of the card id, and digits are lost: \
                 format the column as text, and type the id again",
            );
            return None;
        }
        if text.chars().count() > CARD_CHARS || text.chars().any(char::is_control) {
            self.problem("rfsim", "this is no card id");
            return None;
        }
        let zeroed =
            text.get(15..).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte == b'0'));
        if zeroed && text.bytes().all(|byte| byte.is_ascii_digit()) {
            self.warn(
                "rfsim",
                "nothing but zeros after the 15th digit: Excel does that to long numbers, so compare it with the card",
            );
        }
        let card = Card::new(&text);
        if card.is_none() {
            self.problem("rfsim", "the card id is missing");
        }
        card
    }

    /// A text on one line.
    fn text(&mut self, column: &str, longest: usize) -> Box<str> {
        let words: Vec<&str> = self.cell(column).split(['\r', '\n']).map(str::trim).collect();
        let text = words.join(" ");
        self.check_text(column, &text, longest);
        text.into()
    }

    fn message(&mut self) -> Box<str> {
        let text = self.cell("message").replace("\r\n", "\n").replace('\r', "\n");
        self.check_text("message", &text, MESSAGE_CHARS);
        if let Some(at) = template::unknown(&text) {
            let reason = format!("the braces at character {at} are none of {}", template::PLACEHOLDERS);
            self.warn("message", reason);
        }
        text.into()
    }

    fn check_text(&mut self, column: &str, text: &str, longest: usize) {
        if text.chars().count() > longest {
            self.problem(column, format!("longer than {longest} characters"));
        }
        if text.chars().any(|c| c.is_control() && c != '\n') {
            self.problem(column, "a control character");
        }
    }

    fn photo(&mut self) -> Option<Box<str>> {
        let name = self.cell("photo").to_owned();
        if name.is_empty() {
            return None;
        }
        if !photo::is_name(&name) {
            self.warn(
                "photo",
                "not the name of a .jpg or .png file in the folder of photos, so it is left out",
            );
            return None;
        }
        Some(name.into())
    }

    fn doors(&mut self) -> Box<[Box<str>]> {
        let cell = unguard(&narrow(self.cell("doors")));
        let separates = |c: char| c.is_whitespace() || matches!(c, ';' | ',' | '、');
        let doors: Box<[Box<str>]> = cell
            .split(separates)
            .filter(|door| !door.is_empty())
            .map(|door| plain_door(door).into())
            .collect();
        if doors.len() > DOORS {
            self.problem("doors", format!("more than {DOORS} doors"));
        }
        doors
    }

    fn date(&mut self, column: &str) -> Option<Date> {
        let text = self.cell(column);
        if text.is_empty() {
            return None;
        }
        let date = parse_date(text);
        if date.is_none() {
            self.problem(column, "not a day such as 2026-11-20");
        }
        date
    }

    fn priority(&mut self) -> i32 {
        let text = narrow(self.cell("priority"));
        if text.is_empty() {
            return 0;
        }
        text.parse().ok().filter(|number| (-1_000..=1_000).contains(number)).unwrap_or_else(|| {
            self.problem("priority", "not a whole number from -1000 to 1000");
            0
        })
    }

    fn lang(&mut self) -> Option<Lang> {
        let text = narrow(self.cell("lang"));
        if text.is_empty() {
            return None;
        }
        let lang = text.parse().ok();
        if lang.is_none() {
            self.problem("lang", "neither zh nor en");
        }
        lang
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_days_as_they_are_written() {
        let day = jiff::civil::date(2026, 1, 5);
        for text in ["2026-01-05", "2026/1/5", "2026.1.5", "20260105", "2026年1月5日", " ２０２６-01-05 "]
        {
            assert_eq!(parse_date(text), Some(day), "{text}");
        }
        for text in
            ["2026-02-30", "5/1/2026", "05-01-26", "46027", "2026-1", "soon", "2026-1-5-6", "+2026-1-5"]
        {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn knows_a_number_that_excel_made() {
        for text in ["1.23E+15", "1,23e+15", "9E+20", "1.23457E-05"] {
            assert!(is_scientific(text), "{text}");
        }
        for text in ["1E15", "00A1B2C3D4E5F607", "12E4567890123456", "1.23", "E+15", "1.E+1x"] {
            assert!(!is_scientific(text), "{text}");
        }
    }

    #[test]
    fn doors_are_compared_without_leading_zeros() {
        for (one, other) in [("01", "1"), ("１", "1"), ("A1", "A1"), ("00", "0")] {
            assert_eq!(plain_door(one), plain_door(other));
        }
        assert_ne!(plain_door("10"), plain_door("1"));
    }

    #[test]
    fn ids_that_excel_would_change_are_guarded() {
        for (card, cell) in
            [("0012345678901234", "=\"0012345678901234\""), ("12E45", "=\"12E45\""), ("00A1", "00A1")]
        {
            let card = Card::new(card).unwrap();
            assert_eq!(guard(&card), cell);
            assert_eq!(Card::new(&unguard(cell)), Some(card));
        }
    }
}
