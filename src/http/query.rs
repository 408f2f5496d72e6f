//! What a client asks for: from where, which rows, how many, how long.
//!
//! Owns the meaning of query parameters, for all endpoints alike.

use std::time::Duration;

use axum::http::HeaderMap;
use tokio::time::Instant;

use super::error::HttpError;
use crate::{
    feed::{Cursor, Row, Start},
    status::now_ms,
};

const LAST_EVENT_ID: &str = "last-event-id";

/// Rows in one answer to a long poll, unless asked otherwise, and at most.
const LIMIT: (usize, usize) = (100, 1_000);

/// How long a poll waits, unless asked otherwise; and the bounds.
const WAIT: Duration = Duration::from_secs(25);
const WAIT_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A request, understood.
#[derive(Debug)]
pub(super) struct Query {
    /// From where.
    pub(super) start: Start,
    /// `start` as an id that a client can come back with: the text it came with.
    pub(super) came_with: Option<String>,
    /// Which rows.
    pub(super) filter: Filter,
    /// Rows in one answer.
    pub(super) limit: usize,
    /// How long to wait.
    pub(super) timeout: Duration,
    /// The old page's cursor.
    pub(super) maxvid: Option<Cursor>,
}

/// Which rows a client wants: in each named column one of its values, and young enough. Values are
/// separated by commas, so one that has a comma can't be asked for.
#[derive(Debug, Default)]
pub(super) struct Filter {
    columns: Vec<(Box<str>, Vec<Candidate>)>,
    max_age: Option<Duration>,
}

/// A value that a column may have.
#[derive(Debug)]
struct Candidate {
    /// As it stands in the JSON if it is a number, a JSON value or null.
    plain: Box<str>,
    /// As it stands in the JSON if it is a string.
    quoted: Box<str>,
}

impl Query {
    /// Reads the query and the `Last-Event-ID`. `columns` are those of the table, once known: until
    /// then any name may be one.
    ///
    /// # Errors
    /// 400 for a value that can't be read, and for a name that is neither a parameter nor a column.
    pub(super) fn read(
        query: Option<&str>,
        headers: &HeaderMap,
        columns: Option<&[Box<str>]>,
    ) -> Result<Self, HttpError> {
        let (mut last_event_id, mut since, mut last, mut max_age) = (None, None, None, None);
        let (mut limit, mut timeout, mut maxvid) = (LIMIT.0, WAIT, None);
        let mut filter = Filter::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "last_event_id" | "lastEventId" if value.is_empty() => {}
                "last_event_id" | "lastEventId" => last_event_id = Some(value),
                "since" => since = Some(value),
                "last" => last = Some(number(&value, "bad_last", "last", "a number of rows")?),
                "max_age" => max_age = Some(seconds(&value, "bad_max_age", "max_age")?),
                "timeout" => timeout = seconds(&value, "bad_timeout", "timeout")?,
                "limit" => limit = number(&value, "bad_limit", "limit", "a number of rows")?,
                "maxvid" => maxvid = Some(cursor("maxvid", &value)?),
                column => match columns {
                    Some(columns) if columns.iter().any(|known| **known == *column) => {
                        filter.add(column, &value);
                    }
                    _ if column.starts_with('_') => {}
                    None => filter.add(column, &value),
                    Some(columns) => return Err(HttpError::unknown_parameter(column, columns)),
                },
            }
        }
        filter.max_age = max_age;

        let header = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty());
        let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let (start, came_with) = if let Some(id) = header {
            (Start::After(cursor("Last-Event-ID", &id)?), Some(id.into_owned()))
        } else if let Some(id) = last_event_id {
            (Start::After(cursor("last_event_id", &id)?), Some(id.into_owned()))
        } else if let Some(since) = since {
            match &*since {
                "earliest" => (Start::Earliest, Some(since.into_owned())),
                "now" => (Start::Now, None),
                id => (Start::After(cursor("since", id)?), Some(since.into_owned())),
            }
        } else if let Some(rows) = last {
            (Start::Latest(rows), None)
        } else {
            (Start::Now, None)
        };
        let limit = limit.clamp(1, LIMIT.1);
        let timeout = timeout.clamp(WAIT_BOUNDS.0, WAIT_BOUNDS.1);
        Ok(Query { start, came_with, filter, limit, timeout, maxvid })
    }

    /// When the wait ends: a little earlier than asked for, so that clients do not return all at once.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout.mul_f64(0.9 + 0.1 * fastrand::f64())
    }
}

/// A query string, and in its last line the `Last-Event-ID`: see [`crate::fuzzing`].
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (query, id) = text.rsplit_once('\n').unwrap_or((&text, ""));
    let mut headers = HeaderMap::new();
    if let Ok(id) = id.parse() {
        headers.insert(LAST_EVENT_ID, id);
    }
    let columns = ["vid".into(), "doorno".into()];
    for columns in [Some(&columns[..]), None] {
        if let Ok(query) = Query::read(Some(query), &headers, columns) {
            assert!((1..=LIMIT.1).contains(&query.limit));
            assert!(query.deadline() <= Instant::now() + WAIT_BOUNDS.1);
        }
    }
}

fn cursor(name: &str, text: &str) -> Result<Cursor, HttpError> {
    text.parse().map_err(|problem| HttpError::bad_since(name, problem))
}

fn number(text: &str, code: &'static str, name: &str, expected: &str) -> Result<usize, HttpError> {
    text.parse().map_err(|_| HttpError::bad_value(code, name, expected))
}

fn seconds(text: &str, code: &'static str, name: &str) -> Result<Duration, HttpError> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| HttpError::bad_value(code, name, "a number of seconds"))
}

impl Filter {
    fn add(&mut self, column: &str, values: &str) {
        let candidates = values.split(',').map(Candidate::new);
        match self.columns.iter_mut().find(|(name, _)| **name == *column) {
            Some((_, known)) => known.extend(candidates),
            None => self.columns.push((column.into(), candidates.collect())),
        }
    }

    /// Whether the client wants this row now.
    pub(super) fn wants(&self, row: &Row) -> bool {
        self.is_young(row, now_ms())
            && self.columns.iter().all(|(name, candidates)| is_one_of(row, name, candidates))
    }

    fn is_young(&self, row: &Row, now_ms: u64) -> bool {
        self.max_age.is_none_or(|max_age| is_within(max_age, row.committed_ms(), now_ms))
    }
}

/// Whether a row is known to be at most so old. Where our clock is behind the server's, or was set back, it
/// is.
fn is_within(max_age: Duration, committed_ms: Option<u64>, now_ms: u64) -> bool {
    committed_ms.is_some_and(|at| u128::from(now_ms.saturating_sub(at)) <= max_age.as_millis())
}

fn is_one_of(row: &Row, column: &str, candidates: &[Candidate]) -> bool {
    let place = row.columns().iter().position(|name| **name == *column);
    let Some(value) = place.and_then(|place| row.value(place)) else { return false };
    candidates
        .iter()
        .any(|candidate| value == candidate.plain.as_bytes() || value == candidate.quoted.as_bytes())
}

impl Candidate {
    fn new(text: &str) -> Self {
        let quoted = serde_json::Value::String(text.into()).to_string();
        Candidate { plain: text.into(), quoted: quoted.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_hides_no_row_by_its_age() {
        const DAY_MS: u64 = 24 * 3_600_000;
        let (max_age, at) = (Duration::from_secs(20), 20_000 * DAY_MS);
        for (now_ms, shown) in [
            (at, true),
            (at + 20_000, true),
            (at + 20_001, false),
            (at + DAY_MS, false),
            (at - 1, true),
            (at - DAY_MS, true),
            (0, true),
        ] {
            assert_eq!(is_within(max_age, Some(at), now_ms), shown, "{now_ms}");
        }
        assert!(!is_within(max_age, None, at), "nobody knows how old it is");
        assert!(is_within(Duration::MAX, Some(0), u64::MAX));
    }
}
