//! What each cell of the people file may hold, and what Excel and people make of it.

use std::borrow::Cow;

use jiff::civil::Date;

use super::{
    card::{Card, narrow},
    person::Lang,
    photo,
    sheet::{Problem, Row, Sheet},
    template,
};

const TEXT_CHARS: usize = 100;
const MESSAGE_CHARS: usize = 500;
const CARD_CHARS: usize = 64;

/// Doors that one person can be greeted at, unless it is all of them.
const DOORS: usize = 200;

/// The cells of a row, as they are understood.
pub(super) struct Cells<'a> {
    sheet: &'a Sheet,
    row: &'a Row,
    problems: Vec<Problem>,
    warnings: &'a mut Vec<Problem>,
}

impl<'a> Cells<'a> {
    pub(super) fn new(sheet: &'a Sheet, row: &'a Row, warnings: &'a mut Vec<Problem>) -> Self {
        Cells { sheet, row, problems: Vec::new(), warnings }
    }

    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub(super) fn name(&mut self) -> Box<str> {
        let name = self.text("name", TEXT_CHARS);
        if name.is_empty() {
            self.problem("name", "the name is missing");
        }
        name
    }

    pub(super) fn title(&mut self) -> Box<str> {
        self.text("title", TEXT_CHARS)
    }

    /// The first and the last day.
    pub(super) fn days(&mut self) -> (Option<Date>, Option<Date>) {
        let (from, to) = (self.date("valid_from"), self.date("valid_to"));
        if matches!((from, to), (Some(from), Some(to)) if to < from) {
            self.problem("valid_to", "the last day is before the first");
        }
        (from, to)
    }

    fn cell(&self, column: &str) -> &str {
        self.sheet.cell(self.row, column)
    }

    fn problem(&mut self, column: &str, reason: impl Into<Cow<'static, str>>) {
        self.problems.push(Problem::cell(self.row.line, column, reason));
    }

    fn warn(&mut self, column: &str, reason: impl Into<Cow<'static, str>>) {
        self.warnings.push(Problem::cell(self.row.line, column, reason));
    }

    pub(super) fn card(&mut self) -> Option<Card> {
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

    pub(super) fn message(&mut self) -> Box<str> {
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

    pub(super) fn photo(&mut self) -> Option<Box<str>> {
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

    pub(super) fn doors(&mut self) -> Box<[Box<str>]> {
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

    pub(super) fn priority(&mut self) -> i32 {
        let text = narrow(self.cell("priority"));
        if text.is_empty() {
            return 0;
        }
        text.parse().ok().filter(|number| (-1_000..=1_000).contains(number)).unwrap_or_else(|| {
            self.problem("priority", "not a whole number from -1000 to 1000");
            0
        })
    }

    pub(super) fn lang(&mut self) -> Option<Lang> {
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
fn parse_date(text: &str) -> Option<Date> {
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
pub(super) fn plain_door(door: &str) -> Cow<'_, str> {
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
