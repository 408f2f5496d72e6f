//! What a client is shown of the rows: all that pass its filter, or the greetings that some of them are
//! worth.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

use super::{query::Filter, screens::Connected};
use crate::{
    feed::Row,
    people::{Greeting, People},
    status::now_ms,
};

/// What a client is shown.
pub(super) enum View {
    /// Rows as they are.
    Rows(Filter),
    /// Greetings, and nothing else of any row.
    Greetings(Screen),
}

/// A screen's view.
pub(super) struct Screen {
    pub(super) people: Arc<People>,
    /// Its doors.
    pub(super) filter: Filter,
    pub(super) connected: Connected,
}

impl View {
    /// Whether a row is shown at this moment.
    pub(super) fn wants(&self, row: &Row) -> bool {
        match self {
            View::Rows(filter) => filter.wants(row),
            View::Greetings(screen) => screen.greet(row).is_some(),
        }
    }

    /// A row as an SSE frame, if it is shown at this moment.
    pub(super) fn frame(&self, row: &Row) -> Option<Bytes> {
        match self {
            View::Rows(filter) => filter.wants(row).then(|| row.frame().clone()),
            View::Greetings(screen) => {
                let greeting = screen.greet_or_count(row)?;
                Some(Bytes::from(format!("id: {}\ndata: {}\n\n", row.id(), json(&greeting))))
            }
        }
    }

    /// A row as JSON, if it is shown at this moment.
    pub(super) fn json<'a>(&self, row: &'a Row) -> Option<Cow<'a, [u8]>> {
        match self {
            View::Rows(filter) => filter.wants(row).then(|| row.json().into()),
            View::Greetings(screen) => Some(json(&screen.greet_or_count(row)?).into_bytes().into()),
        }
    }

    /// Waits for tests that are to be shown; for ever, where none are. Cancel-safe.
    pub(super) async fn tests(&self) -> Vec<Greeting> {
        match self {
            View::Rows(_) => std::future::pending().await,
            View::Greetings(screen) => screen.connected.test().await,
        }
    }

    /// The screen's view, if it is one.
    pub(super) fn screen(&self) -> Option<&Screen> {
        match self {
            View::Rows(_) => None,
            View::Greetings(screen) => Some(screen),
        }
    }
}

impl Screen {
    fn greet(&self, row: &Row) -> Option<Greeting> {
        let wanted = self.filter.wants(row);
        wanted.then(|| self.people.greeter().greet(&self.people.roster(), row, now_ms()).ok()).flatten()
    }

    fn greet_or_count(&self, row: &Row) -> Option<Greeting> {
        if !self.filter.wants(row) {
            return None;
        }
        let greeter = self.people.greeter();
        match greeter.greet(&self.people.roster(), row, now_ms()) {
            Ok(greeting) => Some(greeting),
            Err(why_not) => {
                self.people.counts.count_late(greeter, row, why_not);
                None
            }
        }
    }
}

/// A greeting as screens get it, on one line.
pub(super) fn json(greeting: &Greeting) -> String {
    // Only strings and numbers: serialising them can't fail.
    serde_json::to_string(greeting).unwrap_or_default()
}
