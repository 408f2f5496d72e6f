//! The people who are greeted: a file of them, what becomes of their swipes, and how a receptionist
//! changes them.
//!
//! A file that can't be understood is never taken over in part: the last good one stays, and the reason
//! is told with its line. Knows neither MySQL nor HTTP.

mod atomic;
mod audit;
mod card;
mod cells;
mod clock;
mod edit;
mod greet;
mod observe;
mod person;
mod photo;
mod reload;
mod roster;
mod sheet;
mod template;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;

pub use self::{
    card::Card,
    clock::Clock,
    edit::{Change, ChangeError, Fields, NewCard},
    greet::{Columns, Greeter, Greeting, Unshown},
    observe::UnknownCard,
    person::{Lang, Person},
    photo::{
        PhotoError, UPLOAD_BYTES, is_name as is_photo_name, is_stored_name as is_stored_photo_name,
        path as photo_path,
    },
    roster::Roster,
    sheet::Problem,
};
use self::{card::Secret, observe::Recent};
use crate::status::Counter;

/// A people file: see [`crate::fuzzing`].
pub fn fuzz(data: &[u8]) {
    if let Ok(sheet) = sheet::Sheet::read(data)
        && Roster::read(&sheet, &Secret::new()).is_ok()
    {
        let again = sheet::Sheet::read(&sheet.write()).expect("what was written is read again");
        assert_eq!(again.rows.len(), sheet.rows.len());
    }
}

/// Where people come from, and how they are greeted.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The CSV file.
    pub file: PathBuf,
    /// The folder of photos; it is made when the first one is stored.
    pub photo_dir: PathBuf,
    /// How often to look whether the file has changed.
    pub look_every: Duration,
    /// How greetings are made.
    pub greeter: Greeter,
    /// Whether cards that are nobody's are remembered, in memory, for a receptionist to choose from.
    pub remember_unknown: bool,
}

/// The people, shared by the whole process.
#[derive(Debug)]
pub struct People {
    settings: Settings,
    secret: Secret,
    /// Held while the file is read or written, and never by a reader of [`People::roster`].
    file: Mutex<()>,
    loaded: Mutex<Loaded>,
    recent: Recent,
    /// What became of swipes.
    pub counts: Counts,
}

/// What is known of the file. Times are Unix milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Loaded {
    /// How many people there are.
    pub people: usize,
    /// When the file was last taken over.
    pub loaded_ms: Option<u64>,
    /// What its bytes were taken for.
    pub encoding: Option<&'static str>,
    /// Why the file as it is now can't be taken over.
    pub problems: Vec<Problem>,
    /// Since when.
    pub failing_since_ms: Option<u64>,
    /// What looks wrong in the people who are greeted.
    pub warnings: Vec<Problem>,
    #[serde(skip)]
    roster: Arc<Roster>,
}

/// What became of the swipes of people who are greeted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Swipes that were worth a greeting.
    pub greetings: Counter,
    /// Swipes on days when the person is not greeted.
    pub other_day: Counter,
    /// Swipes that were committed too long ago.
    pub old_commit: Counter,
    /// Swipes that were made too long ago, as they say themselves.
    pub old_swipe: Counter,
    /// Swipes of which nothing says when they were made.
    pub unknown_age: Counter,
    /// Greetings that a screen could not get in time, for each screen: it was away, or the row came late.
    pub late: Counter,
    /// Swipes whose time could not be read.
    pub unreadable_time: Counter,
    /// Times that a changed file could not be taken over.
    pub reload_failures: Counter,
}

impl Counts {
    /// Swipes of people who are greeted that were worth no greeting, by the reason.
    pub fn suppressed(&self) -> [(&'static str, u64); 4] {
        [
            ("old_commit", self.old_commit.get()),
            ("old_optime", self.old_swipe.get()),
            ("unknown_age", self.unknown_age.get()),
            ("other_day", self.other_day.get()),
        ]
    }
}

impl People {
    /// Reads the file. If that fails there is nobody to greet until it can be read; see
    /// [`People::loaded`]. Blocking.
    pub fn new(settings: Settings) -> Self {
        let people = People {
            settings,
            secret: Secret::new(),
            file: Mutex::default(),
            loaded: Mutex::default(),
            recent: Recent::default(),
            counts: Counts::default(),
        };
        people.read_again();
        people
    }

    /// The people of the last good file.
    pub fn roster(&self) -> Arc<Roster> {
        self.lock().roster.clone()
    }

    /// What is known of the file.
    pub fn loaded(&self) -> Loaded {
        self.lock().clone()
    }

    /// How greetings are made.
    pub fn greeter(&self) -> &Greeter {
        &self.settings.greeter
    }

    /// The folder of photos; perhaps it is not there yet.
    pub fn photo_dir(&self) -> &std::path::Path {
        &self.settings.photo_dir
    }

    /// Checks a photo, makes a JPEG of it, stores it, and tells its file's name. Blocking.
    ///
    /// # Errors
    /// See [`PhotoError`].
    pub fn store_photo(&self, upload: &[u8]) -> Result<String, PhotoError> {
        photo::store(&self.settings.photo_dir, upload)
    }

    fn lock(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
