//! A row becomes a greeting, or does not: whose card it is, where, when, how old.
//!
//! Freshness has two clocks, for controllers upload swipes hours later: the time of the commit, and what
//! the swipe itself says. The older one counts. Ages are computed at the moment of sending.

use std::time::Duration;

use serde::Serialize;

use super::{
    card::Card,
    clock::Clock,
    person::{Lang, Person},
    photo,
    roster::Roster,
    template::{self, Values},
};
use crate::feed;

/// How long a screen shows a greeting while no other one waits.
const SHOW_MS: u64 = 8_000;

/// A swipe that claims to be further in the future than this was made by a controller whose clock is
/// wrong: its time says nothing.
const FUTURE_MS: u64 = 5 * 60 * 1000;

/// Which columns mean what.
#[derive(Debug, Clone)]
pub struct Columns {
    /// Whose card.
    pub card: Box<str>,
    /// Which door.
    pub door: Box<str>,
    /// When, as the controller wrote it.
    pub time: Box<str>,
}

/// How greetings are made.
#[derive(Debug, Clone)]
pub struct Greeter {
    /// Which columns mean what.
    pub columns: Columns,
    /// The site's time.
    pub clock: Clock,
    /// The greatest age at which anybody is greeted.
    pub fresh: Duration,
    /// The language of people who have none of their own.
    pub lang: Lang,
    /// The message for people who have none of their own, in Chinese and in English.
    pub messages: [Box<str>; 2],
}

/// What a screen shows. It holds no card id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Greeting {
    /// The same for the same person as long as the process runs.
    #[serde(rename = "ref")]
    pub reference: Box<str>,
    /// Never empty.
    pub name: Box<str>,
    /// Perhaps empty.
    pub title: Box<str>,
    /// With its placeholders filled in.
    pub message: String,
    /// A path on this site.
    pub photo: Option<String>,
    /// Always a text, for doors need not be numbers.
    pub door: String,
    /// By the time of day.
    pub greeting: &'static str,
    /// Of `greeting`.
    pub lang: Lang,
    /// The higher, the sooner.
    pub priority: i32,
    /// How old the swipe is when this is sent.
    pub age_ms: u64,
    /// How long it may still be shown.
    pub ttl_ms: u64,
    /// How long to show it.
    pub show_ms: u64,
    /// When it was sent, in Unix milliseconds, by this machine's clock.
    pub sent_ms: u64,
    /// Nobody swiped: it was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
}

/// Why nobody is greeted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unshown {
    /// The row names no card, or one that is nobody's.
    Ordinary,
    /// They are greeted at other doors.
    OtherDoor,
    /// They are greeted on other days.
    OtherDay,
    /// It was committed too long ago.
    OldCommit,
    /// The swipe was made too long ago.
    OldSwipe,
    /// Nothing says when it was.
    UnknownAge,
}

/// What a row says of a swipe, but for whose card it was.
pub(super) struct Swipe {
    pub(super) door: String,
    committed_ms: Option<u64>,
    optime: Optime,
}

/// When a swipe was made, by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Optime {
    At(u64),
    Unreadable,
    NotAsked,
}

impl Swipe {
    /// Whether the column should have told a time and did not.
    pub(super) fn is_time_unreadable(&self) -> bool {
        self.optime == Optime::Unreadable
    }

    /// Its age in milliseconds.
    fn age_ms(&self, fresh_ms: u64, now_ms: u64) -> Result<u64, Unshown> {
        let by_commit = self.committed_ms.map(|at| now_ms.saturating_sub(at));
        let by_itself = match self.optime {
            Optime::At(at) if at <= now_ms.saturating_add(FUTURE_MS) => Some(now_ms.saturating_sub(at)),
            _ => None,
        };
        if by_commit.is_some_and(|age| age >= fresh_ms) {
            return Err(Unshown::OldCommit);
        }
        if by_itself.is_some_and(|age| age >= fresh_ms) {
            return Err(Unshown::OldSwipe);
        }
        by_commit.max(by_itself).ok_or(Unshown::UnknownAge)
    }
}

impl Greeter {
    /// The greeting that a row is worth at this moment.
    ///
    /// # Errors
    /// [`Unshown`]: none.
    pub fn greet(&self, roster: &Roster, row: &feed::Row, now_ms: u64) -> Result<Greeting, Unshown> {
        let card = self.card(row).ok_or(Unshown::Ordinary)?;
        // Most rows end here, before their time is read.
        let person = roster.by_card(&card).ok_or(Unshown::Ordinary)?;
        let swipe = self.swipe(row);
        self.is_due(person, &swipe, now_ms)?;
        let age_ms = self.age_ms(&swipe, now_ms)?;
        Ok(self.greeting(person, swipe.door, age_ms, now_ms))
    }

    /// Whether a row that is too old now was fresh when it was committed.
    pub fn was_fresh(&self, row: &feed::Row) -> bool {
        row.committed_ms().is_some_and(|at| self.age_ms(&self.swipe(row), at).is_ok())
    }

    /// Whose card a row names.
    pub(super) fn card(&self, row: &feed::Row) -> Option<Card> {
        text(row, &self.columns.card).and_then(|text| Card::new(&text))
    }

    /// Reads the rest of a row.
    pub(super) fn swipe(&self, row: &feed::Row) -> Swipe {
        let committed_ms = row.committed_ms();
        let door = text(row, &self.columns.door).unwrap_or_default().trim().to_owned();
        let optime = match text(row, &self.columns.time) {
            Some(text) if self.clock.reads_optime() => {
                let near_ms = committed_ms.unwrap_or_else(crate::status::now_ms);
                self.clock.optime_ms(&text, near_ms).map_or(Optime::Unreadable, Optime::At)
            }
            None if self.clock.reads_optime() => Optime::Unreadable,
            _ => Optime::NotAsked,
        };
        Swipe { door, committed_ms, optime }
    }

    /// Whether they are greeted there and today.
    pub(super) fn is_due(&self, person: &Person, swipe: &Swipe, now_ms: u64) -> Result<(), Unshown> {
        if !person.is_greeted_at(&swipe.door) {
            return Err(Unshown::OtherDoor);
        }
        if !person.is_valid_on(self.clock.today(now_ms)) {
            return Err(Unshown::OtherDay);
        }
        Ok(())
    }

    pub(super) fn age_ms(&self, swipe: &Swipe, now_ms: u64) -> Result<u64, Unshown> {
        swipe.age_ms(self.fresh_ms(), now_ms)
    }

    /// The greeting of a person at a door, as old as it is said to be.
    pub fn greeting(&self, person: &Person, door: String, age_ms: u64, now_ms: u64) -> Greeting {
        let lang = person.lang.unwrap_or(self.lang);
        let greeting = by_hour(lang, self.clock.hour(now_ms));
        let [zh, en] = &self.messages;
        let message = match (&*person.message, lang) {
            ("", Lang::Zh) => zh,
            ("", Lang::En) => en,
            (own, _) => own,
        };
        let values = Values { name: &person.name, title: &person.title, greeting, door: &door };
        Greeting {
            reference: person.reference.clone(),
            name: person.name.clone(),
            title: person.title.clone(),
            message: template::render(message, values),
            photo: person.photo.as_deref().map(photo::path),
            door,
            greeting,
            lang,
            priority: person.priority,
            age_ms,
            ttl_ms: self.fresh_ms().saturating_sub(age_ms),
            show_ms: SHOW_MS,
            sent_ms: now_ms,
            test: false,
        }
    }

    fn fresh_ms(&self) -> u64 {
        u64::try_from(self.fresh.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What people say to each other at this hour.
fn by_hour(lang: Lang, hour: i8) -> &'static str {
    match (lang, hour) {
        (Lang::Zh, 5..=8) => "早上好",
        (Lang::Zh, 9..=10) => "上午好",
        (Lang::Zh, 11..=12) => "中午好",
        (Lang::Zh, 13..=17) => "下午好",
        (Lang::Zh, _) => "晚上好",
        (Lang::En, 5..=11) => "Good morning",
        (Lang::En, 12..=17) => "Good afternoon",
        (Lang::En, _) => "Good evening",
    }
}

/// A column's value as a text, also of a number; `None` for NULL and for no such column.
fn text(row: &feed::Row, column: &str) -> Option<String> {
    let place = row.columns().iter().position(|name| **name == *column)?;
    let json = row.value(place)?;
    match json.first()? {
        b'"' => serde_json::from_slice(json).ok(),
        _ if json == b"null" => None,
        _ => String::from_utf8(json.to_vec()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH_MS: u64 = 20_000;
    const NOW: u64 = 1_795_000_000_000;

    #[track_caller]
    fn check(committed_ms: Option<u64>, optime: Optime, expected: Result<u64, Unshown>) {
        let swipe = Swipe { door: String::new(), committed_ms, optime };
        assert_eq!(swipe.age_ms(FRESH_MS, NOW), expected);
    }

    #[test]
    fn the_older_of_two_clocks_counts() {
        check(Some(NOW - 1_000), Optime::At(NOW - 3_000), Ok(3_000));
        check(Some(NOW - 3_000), Optime::At(NOW - 1_000), Ok(3_000));
        check(Some(NOW - 1_000), Optime::At(NOW - 20_000), Err(Unshown::OldSwipe));
        check(Some(NOW - 20_000), Optime::At(NOW), Err(Unshown::OldCommit));
        check(Some(NOW - 3_600_000), Optime::At(NOW - 7_200_000), Err(Unshown::OldCommit));
        check(None, Optime::At(NOW - 19_999), Ok(19_999));
    }

    #[test]
    fn a_clock_that_is_wrong_or_silent_does_not_count() {
        check(Some(NOW - 1_000), Optime::At(NOW + 300_001), Ok(1_000));
        check(Some(NOW - 1_000), Optime::At(NOW + 300_000), Ok(1_000));
        check(Some(NOW + 5_000), Optime::NotAsked, Ok(0));
        check(Some(NOW - 1_000), Optime::Unreadable, Ok(1_000));
        check(None, Optime::Unreadable, Err(Unshown::UnknownAge));
        check(None, Optime::At(NOW + 300_001), Err(Unshown::UnknownAge));
        check(None, Optime::At(NOW + 300_000), Ok(0));
    }

    #[test]
    fn greets_by_the_time_of_day() {
        let zh = [4, 5, 8, 9, 11, 13, 17, 18, 23, 0].map(|hour| by_hour(Lang::Zh, hour));
        let said = [
            "晚上好",
            "早上好",
            "早上好",
            "上午好",
            "中午好",
            "下午好",
            "下午好",
            "晚上好",
            "晚上好",
            "晚上好",
        ];
        assert_eq!(zh, said);
        let en = [4, 5, 12, 18].map(|hour| by_hour(Lang::En, hour));
        assert_eq!(en, ["Good evening", "Good morning", "Good afternoon", "Good evening"]);
    }
}
