//! The people file as it changes: read again when it does, and when the process is told to.
//!
//! The file is looked at once a second, by name: that also sees what another machine writes to a network
//! mount, of which inotify knows nothing, a folder that was renamed, and a link that points elsewhere
//! now. One `stat` a second costs nothing.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use super::{
    Loaded, People, Problem, Roster,
    sheet::{FILE_BYTES, Sheet},
};
use crate::status::now_ms;

/// A file this young may change again without any trace: some file systems count time in seconds.
const YOUNG: Duration = Duration::from_secs(3);

/// Whether it is the same file, unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Look {
    fn of(file: &Metadata) -> Self {
        Look { device: file.dev(), inode: file.ino(), bytes: file.len(), modified: file.modified().ok() }
    }

    fn is_young(&self) -> bool {
        self.modified.is_none_or(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < YOUNG))
    }
}

/// What a watcher remembers between two looks.
#[derive(Debug, Default)]
struct Watched {
    last: Option<Look>,
    read: Option<Look>,
}

impl People {
    /// Reads the file again when it changes and at SIGHUP, until `stopped`.
    pub async fn keep_current(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut look = interval(self.settings.look_every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Without a handler the signal would end the process; then nothing needs to be heard here.
        let mut told = signal(SignalKind::hangup()).ok();
        let mut watched = Watched::default();
        loop {
            let hangup = async {
                match &mut told {
                    Some(told) => told.recv().await,
                    None => std::future::pending().await,
                }
            };
            let told = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                _ = hangup => true,
                _ = look.tick() => false,
            };
            let people = self.clone();
            let looked = spawn_blocking(move || {
                people.look(&mut watched, told);
                watched
            });
            // A mount that hangs holds up the next look, and not the end.
            watched = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                looked = looked => looked.unwrap_or_default(),
            };
        }
    }

    /// Reads the file, whether or not it changed. Whether it could be read, good or bad. Blocking.
    pub(super) fn read_again(&self) -> bool {
        let _file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match self.read_file() {
            Ok(bytes) => bytes,
            Err(problem) => {
                self.keep_last(vec![problem]);
                return false;
            }
        };
        let sheet = Sheet::read(&bytes).map_err(|problem| vec![problem]);
        match sheet.and_then(|sheet| Ok((Roster::read(&sheet, &self.secret)?, sheet.encoding))) {
            Ok((roster, encoding)) => self.take_over(roster, encoding),
            Err(problems) => self.keep_last(problems),
        }
        true
    }

    /// Reads the file if it is another one than before and nobody is writing it now.
    fn look(&self, watched: &mut Watched, told: bool) {
        let look = std::fs::metadata(&self.settings.file).ok().map(|file| Look::of(&file));
        // A file that is being written is longer at the next look.
        let settled = look == watched.last;
        let changed = look != watched.read || look.is_none_or(|look| look.is_young());
        watched.last = look;
        if told || (settled && changed) {
            // One that is not there or can't be read, as while Excel has it, is tried again.
            let read = self.read_again();
            watched.read = look.filter(|_| read);
        }
    }

    /// The file's bytes.
    pub(super) fn read_file(&self) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        File::open(&self.settings.file)
            .and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|err| Problem::file(reason(&err)))?;
        if bytes.len() as u64 > FILE_BYTES {
            return Err(Problem::file(format!("larger than {} MB", FILE_BYTES >> 20)));
        }
        Ok(bytes)
    }

    /// From now on these are the people.
    pub(super) fn take_over(&self, roster: Roster, encoding: &'static str) {
        let loaded = Loaded {
            people: roster.people().len(),
            loaded_ms: Some(now_ms()),
            encoding: Some(encoding),
            problems: Vec::new(),
            failing_since_ms: None,
            warnings: roster.warnings.clone(),
            roster: Arc::new(roster),
        };
        let before = std::mem::replace(&mut *self.lock(), loaded.clone());
        let same = before.roster.people() == loaded.roster.people();
        if before.loaded_ms.is_some() && before.problems.is_empty() && same {
            return;
        }
        let file = self.settings.file.display();
        info!(%file, people = loaded.people, encoding, "people read");
        for Problem { line, column, reason } in &loaded.warnings {
            warn!(%file, line, column = column.as_deref(), %reason, "check the people file");
        }
    }

    /// The last good ones stay.
    fn keep_last(&self, problems: Vec<Problem>) {
        let people = {
            let mut loaded = self.lock();
            if loaded.problems == problems {
                return;
            }
            loaded.problems.clone_from(&problems);
            loaded.failing_since_ms.get_or_insert_with(now_ms);
            loaded.people
        };
        self.counts.reload_failures.add(1);
        let file = self.settings.file.display();
        for Problem { line, column, reason } in &problems {
            error!(%file, line, column = column.as_deref(), %reason, "the people file is not taken over");
        }
        warn!(%file, people, "greeting the people of the last good file");
    }
}

fn reason(err: &io::Error) -> String {
    match err.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        _ => format!("it can't be read: {err}"),
    }
}
