//! Everybody who is greeted, as one file says it.

use std::{collections::HashMap, sync::Arc};

use super::{
    card::{Card, Secret},
    person::Person,
    sheet::{Problem, Sheet},
};

/// Problems of one file that are told. Who mends a file wants more than one, and nobody a thousand.
const TOLD: usize = 20;

/// The people of one file.
#[derive(Debug, Default)]
pub struct Roster {
    people: Vec<Arc<Person>>,
    by_card: HashMap<Card, Arc<Person>>,
    /// What looks wrong and may be right.
    pub(super) warnings: Vec<Problem>,
}

impl Roster {
    /// # Errors
    /// The first problems of the file: nobody is taken over unless everybody can be.
    pub(super) fn read(sheet: &Sheet, secret: &Secret) -> Result<Self, Vec<Problem>> {
        for column in ["rfsim", "name"] {
            if !sheet.has(column) {
                let reason = "the first line must name the columns, and this one is missing";
                return Err(vec![Problem::cell(1, column, reason)]);
            }
        }
        let (mut roster, mut problems, mut lines) = (Roster::default(), Vec::new(), HashMap::new());
        for row in &sheet.rows {
            match Person::read(sheet, row, secret, &mut roster.warnings) {
                Err(wrong) => problems.extend(wrong),
                Ok(person) => match lines.insert(person.card.clone(), row.line) {
                    Some(first) => problems.push(Problem::cell(
                        row.line,
                        "rfsim",
                        format!("the card of line {first} again: one line for each card"),
                    )),
                    None => roster.add(person),
                },
            }
            if problems.len() >= TOLD {
                break;
            }
        }
        roster.warnings.truncate(TOLD);
        problems.truncate(TOLD);
        if problems.is_empty() { Ok(roster) } else { Err(problems) }
    }

    fn add(&mut self, person: Person) {
        let person = Arc::new(person);
        self.by_card.insert(person.card.clone(), person.clone());
        self.people.push(person);
    }

    /// In the order of the file.
    pub fn people(&self) -> &[Arc<Person>] {
        &self.people
    }

    /// Whose card it is.
    pub fn by_card(&self, card: &Card) -> Option<&Arc<Person>> {
        self.by_card.get(card)
    }

    /// Who it is that a reference stands for.
    pub fn by_reference(&self, reference: &str) -> Option<&Arc<Person>> {
        self.people.iter().find(|person| *person.reference == *reference)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::{super::person::Lang, *};

    fn read(text: &str) -> Result<Roster, Vec<Problem>> {
        Roster::read(&Sheet::read(text.as_bytes()).unwrap(), &Secret::new())
    }

    #[track_caller]
    fn refused(text: &str, line: u64, column: &str, word: &str) {
        let problems = read(text).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((problems[0].line, problems[0].column.as_deref()), (Some(line), Some(column)));
        assert!(problems[0].reason.contains(word), "{problems:?}");
    }

    #[track_caller]
    fn warned(text: &str, line: u64, column: &str, word: &str) {
        let warnings = read(text).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!((warnings[0].line, warnings[0].column.as_deref()), (Some(line), Some(column)));
        assert!(warnings[0].reason.contains(word), "{warnings:?}");
    }

    #[test]
    fn reads_a_person_from_columns_in_any_order() {
        let roster = read(
            "Name,note,RFSIM,title,doors,valid_from,valid_to,priority,lang,message,photo\n\
             王小明,x,00a1b2c3d4e5f607 ,博士,01;2 3,2026-01-01,2026/12/31,5,zh-CN,\"{greeting}\n{name}\",王.jpg\n\
             Ann,,2,,,,,,,,\n",
        )
        .unwrap();
        assert!(roster.warnings.is_empty(), "{:?}", roster.warnings);
        let wang = roster.by_card(&Card::new("00A1B2C3D4E5F607").unwrap()).unwrap();
        assert_eq!((&*wang.name, &*wang.title, &*wang.message), ("王小明", "博士", "{greeting}\n{name}"));
        assert_eq!(*wang.doors, ["1".into(), "2".into(), "3".into()]);
        assert_eq!((wang.valid_from, wang.valid_to), (Some(date(2026, 1, 1)), Some(date(2026, 12, 31))));
        assert_eq!((wang.priority, wang.lang, wang.photo.as_deref()), (5, Some(Lang::Zh), Some("王.jpg")));
        assert_eq!(roster.by_reference(&wang.reference), Some(wang));
        let ann = &roster.people()[1];
        assert!(ann.is_greeted_at("17") && wang.is_greeted_at("2") && !wang.is_greeted_at("4"));
    }

    #[test]
    fn both_days_of_a_period_are_in_it() {
        let roster = read("rfsim,name,valid_from,valid_to\n1,a,2026-01-01,2026-01-02\n").unwrap();
        let person = &roster.people()[0];
        let valid = [31, 1, 2, 3].map(|day| {
            let month = if day == 31 { date(2025, 12, 31) } else { date(2026, 1, day) };
            person.is_valid_on(month)
        });
        assert_eq!(valid, [false, true, true, false]);
    }

    #[test]
    fn refuses_what_excel_destroyed() {
        refused("rfsim,name\n1,a\n1.23E+15,b\n", 3, "rfsim", "1.23E+15");
    }

    #[test]
    fn warns_of_zeros_after_the_15th_digit() {
        warned("rfsim,name\n1,a\n1234567890123450,b\n", 3, "rfsim", "15th");
        warned("rfsim,name\n1,a\n2,b\n\n12345678901234500,c\n", 5, "rfsim", "15th");
        for card in ["123456789012340", "1234567890123456", "12345678901234506", "00A1000000000000"] {
            assert!(read(&format!("rfsim,name\n{card},a\n")).unwrap().warnings.is_empty(), "{card}");
        }
    }

    #[test]
    fn refuses_a_card_twice_with_both_lines() {
        refused("rfsim,name\nabc,a\n1,b\n\n ABC,c\n", 5, "rfsim", "line 2");
    }

    #[test]
    fn refuses_what_it_can_not_understand() {
        refused("rfsim,name,valid_to\n1,a,31/12/2026\n", 2, "valid_to", "2026-11-20");
        refused("rfsim,name,valid_from,valid_to\n1,a,2026-02-01,2026-01-01\n", 2, "valid_to", "before");
        refused("rfsim,name,priority\n1,a,high\n", 2, "priority", "whole number");
        refused("rfsim,name,priority\n1,a,1.5\n", 2, "priority", "whole number");
        refused("rfsim,name,lang\n1,a,fr\n", 2, "lang", "zh nor en");
        refused("rfsim,name\n,a\n", 2, "rfsim", "missing");
        refused("rfsim,name\n1,\n", 2, "name", "missing");
        refused("name\na\n", 1, "rfsim", "missing");
        refused(&format!("rfsim,name\n1,{}\n", "a".repeat(101)), 2, "name", "longer");
        refused("rfsim,name,message\n1,a,\u{7}\n", 2, "message", "control");
    }

    #[test]
    fn warns_of_what_is_left_out() {
        warned("rfsim,name,photo\n1,a,../x.jpg\n", 2, "photo", "folder of photos");
        warned("rfsim,name,message\n1,a,Hi {nmae}\n", 2, "message", "character 4");
    }

    #[test]
    fn problems_hold_no_cell() {
        let problems = read("rfsim,name,valid_to,lang\n1,a,SECRET,SECRET\n").unwrap_err();
        assert_eq!(problems.len(), 2);
        assert!(!format!("{problems:?}").contains("SECRET"));
    }
}
