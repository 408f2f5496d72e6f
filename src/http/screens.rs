//! The screens that are connected now, and what is shown on them for a test.
//!
//! Tests do not go through the feed: nobody swiped, and no cursor moves.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::{sync::watch, time::Instant};

use crate::{people::Greeting, status::now_ms};

/// A screen that polls is connected for so long after its last request: longer than the pause of a page
/// that lost its way.
const POLLS_WITHIN: Duration = Duration::from_secs(40);

/// Screens that are remembered between their polls. Beyond it, one has to wait until others are forgotten.
const POLLING: usize = 1_000;

/// Tests that wait for screens, and for how long: a poll is never away for longer.
const TESTS: usize = 32;
const TEST_WAITS: Duration = Duration::from_secs(10);

/// Doors that are counted one by one, and how long their names may be: screens choose them, and a metric
/// costs whoever keeps it.
const DOORS_COUNTED: usize = 100;
const DOOR_BYTES: usize = 32;

/// How a screen is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Events,
    Poll,
}

/// A screen, as a receptionist sees it. Times are Unix milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Seen {
    /// What it calls itself; perhaps empty.
    screen: String,
    /// Empty: all.
    doors: Vec<String>,
    kind: Kind,
    /// Where it is connected from.
    remote: String,
    since_ms: u64,
    /// When something was last handed to its connection.
    sent_ms: u64,
    /// When it last said by itself that it is there.
    answered_ms: Option<u64>,
}

#[derive(Debug, Clone)]
struct Test {
    number: u64,
    at: Instant,
    greeting: Greeting,
}

#[derive(Debug)]
struct Entry {
    seen: Seen,
    /// The latest test that it was given, or that was made before it came.
    tested: u64,
    /// Requests that are being served for it.
    open: usize,
    last: Instant,
}

/// The screens of a site. Cheap to clone: all clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Screens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    entries: Mutex<HashMap<Id, Entry>>,
    tests: Mutex<VecDeque<Test>>,
    latest: watch::Sender<u64>,
    streams: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            entries: Mutex::default(),
            tests: Mutex::default(),
            latest: watch::Sender::new(0),
            streams: AtomicU64::default(),
        }
    }
}

/// A stream is a screen of its own; polls are one if they say the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Id {
    Stream(u64),
    Polls { screen: String, doors: Vec<String>, remote: String },
}

/// A screen that is being served; dropping it ends that.
#[derive(Debug)]
pub(super) struct Connected {
    screens: Screens,
    id: Id,
    doors: Vec<String>,
}

/// Who a screen says it is.
#[derive(Debug, Clone)]
pub(super) struct Introduction {
    pub(super) screen: String,
    pub(super) doors: Vec<String>,
    pub(super) remote: String,
}

impl Seen {
    /// Whether it is the screen of this name or, where it has none, one at these doors.
    fn is(&self, who: &Introduction) -> bool {
        let same = self.screen == who.screen && self.remote == who.remote;
        same && (!who.screen.is_empty() || self.doors == who.doors)
    }
}

impl Screens {
    /// Serves a screen from now on.
    pub(super) fn connect(&self, kind: Kind, who: Introduction) -> Connected {
        let Introduction { screen, doors, remote } = who;
        let id = match kind {
            Kind::Events => Id::Stream(self.0.streams.fetch_add(1, Ordering::Relaxed)),
            Kind::Poll => Id::Polls { screen: screen.clone(), doors: doors.clone(), remote: remote.clone() },
        };
        let latest = *self.0.latest.borrow();
        let mut entries = self.entries();
        entries.retain(|_, entry| entry.is_there());
        let now_ms = now_ms();
        if entries.len() < POLLING || kind == Kind::Events || entries.contains_key(&id) {
            let entry = entries.entry(id.clone()).or_insert_with(|| {
                let since_ms = now_ms;
                let doors = doors.clone();
                let seen = Seen { screen, doors, kind, remote, since_ms, sent_ms: now_ms, answered_ms: None };
                Entry { seen, tested: latest, open: 0, last: Instant::now() }
            });
            entry.open += 1;
            entry.last = Instant::now();
            if kind == Kind::Poll {
                // Each request is an answer.
                entry.seen.answered_ms = Some(now_ms);
            }
        }
        drop(entries);
        Connected { screens: self.clone(), id, doors }
    }

    /// Notes that a screen says it is there: the one of this name, or those without a name at these doors.
    /// How many there are.
    pub(super) fn answered(&self, who: &Introduction) -> usize {
        let mut entries = self.entries();
        let own = entries.values_mut().map(|entry| &mut entry.seen).filter(|seen| seen.is(who));
        own.map(|seen| seen.answered_ms = Some(now_ms())).count()
    }

    /// How many of those are connected now.
    pub(super) fn connected(&self, who: &Introduction) -> usize {
        self.list().iter().filter(|seen| seen.is(who)).count()
    }

    /// Those that are connected now, by doors and age.
    pub(super) fn list(&self) -> Vec<Seen> {
        let mut entries = self.entries();
        entries.retain(|_, entry| entry.is_there());
        let mut list: Vec<Seen> = entries.values().map(|entry| entry.seen.clone()).collect();
        drop(entries);
        list.sort_by(|a, b| (&a.doors, a.since_ms).cmp(&(&b.doors, b.since_ms)));
        list
    }

    /// How many are connected now by door, `all` for those that show every door.
    pub(super) fn by_door(&self) -> BTreeMap<String, usize> {
        let mut doors = BTreeMap::new();
        for seen in self.list() {
            let all = seen.doors.is_empty().then(|| "all".to_owned());
            for door in seen.doors.into_iter().chain(all) {
                let plain = door.len() <= DOOR_BYTES && door.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if plain && (doors.len() < DOORS_COUNTED || doors.contains_key(&door)) {
                    *doors.entry(door).or_default() += 1;
                }
            }
        }
        doors
    }

    /// Shows a greeting on the screens of its door. How many there are.
    pub(super) fn show(&self, greeting: Greeting) -> usize {
        let reached = self.list().iter().filter(|seen| is_at(&seen.doors, &greeting.door)).count();
        self.0.latest.send_modify(|latest| {
            *latest += 1;
            let mut tests = self.tests();
            tests.retain(|test| test.at.elapsed() < TEST_WAITS);
            tests.push_back(Test { number: *latest, at: Instant::now(), greeting });
            while tests.len() > TESTS {
                tests.pop_front();
            }
        });
        reached
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Id, Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tests(&self) -> MutexGuard<'_, VecDeque<Test>> {
        self.0.tests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_there(&self) -> bool {
        self.open > 0 || self.last.elapsed() < POLLS_WITHIN
    }
}

impl Connected {
    /// Waits for a test that this screen is to show. Cancel-safe: one that was waited for in vain is
    /// still there.
    pub(super) async fn test(&self) -> Vec<Greeting> {
        // Before the first look: what comes after it is a change.
        let mut latest = self.screens.0.latest.subscribe();
        loop {
            let tests = self.take_tests();
            if !tests.is_empty() {
                return tests;
            }
            // The sender is in `screens`: it can't have gone.
            let _ = latest.changed().await;
        }
    }

    /// Notes that something is handed to its connection.
    pub(super) fn sent(&self) {
        if let Some(entry) = self.screens.entries().get_mut(&self.id) {
            entry.seen.sent_ms = now_ms();
        }
    }

    fn take_tests(&self) -> Vec<Greeting> {
        let mut entries = self.screens.entries();
        let Some(entry) = entries.get_mut(&self.id) else { return Vec::new() };
        let tests = self.screens.tests();
        let mut taken = Vec::new();
        for test in tests.iter().filter(|test| test.number > entry.tested) {
            if test.at.elapsed() < TEST_WAITS && is_at(&self.doors, &test.greeting.door) {
                let sent_ms = now_ms();
                taken.push(Greeting { sent_ms, ..test.greeting.clone() });
            }
        }
        entry.tested = tests.back().map_or(entry.tested, |test| entry.tested.max(test.number));
        taken
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut entries = self.screens.entries();
        if let Some(entry) = entries.get_mut(&self.id) {
            entry.open = entry.open.saturating_sub(1);
            entry.last = Instant::now();
            if matches!(self.id, Id::Stream(_)) {
                entries.remove(&self.id);
            }
        }
    }
}

fn is_at(doors: &[String], door: &str) -> bool {
    doors.is_empty() || doors.iter().any(|own| own == door)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(screen: String) -> Introduction {
        Introduction { screen, doors: vec![], remote: "127.0.0.1".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn over_a_day_screens_that_do_not_come_back_are_forgotten() {
        let screens = Screens::default();
        let open = screens.connect(Kind::Events, named("lobby".into()));
        for number in 0..24 * 360 {
            drop(screens.connect(Kind::Poll, named(format!("passing {number}"))));
            drop(screens.connect(Kind::Poll, named("faithful".into())));
            tokio::time::advance(Duration::from_secs(10)).await;
            let names: Vec<String> = screens.list().into_iter().map(|seen| seen.screen).collect();
            assert!(names.contains(&"lobby".into()) && names.contains(&"faithful".into()), "{names:?}");
            assert!(names.len() <= 2 + 4, "{names:?}");
        }
        tokio::time::advance(POLLS_WITHIN).await;
        assert_eq!(screens.list().len(), 1, "a stream stays as long as it is open");
        drop(open);
        assert_eq!(screens.entries().len(), 0);
    }
}
