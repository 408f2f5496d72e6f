//! Joins tail and table to feed and checkpoint.
//!
//! Owns the order of things: what is published, what counts as seen, when the position moves, and what
//! happens when the server, the position or the table is not what it was. Knows no client.

mod apply;
mod backoff;
mod ended;
mod history;
mod holes;
mod keys;
mod layouts;
mod looks;
mod lost;
mod news;
mod prepared;
mod recover;
mod rhythm;
mod same_table;
mod sample;
mod saver;
mod seed;
mod session;
mod sighted;
mod start;
mod sweep;
mod vain;

use std::{collections::HashSet, ops::RangeInclusive, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{error, warn};

use self::{
    backoff::Backoff,
    ended::Ended,
    history::{Newest, Question},
    keys::Keys,
    looks::Looks,
    prepared::Prepared,
    saver::Saver,
    sighted::Sighted,
    sweep::Unlogged,
    vain::Vain,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointFile, ReadAhead, Sample, SavedPosition, from_runs, to_runs},
    feed::{Feed, history::HistoryRequest},
    id::Key,
    link::{Identity, Link},
    status::{self, Status, now_ms},
    tail::{
        TableName,
        gtid::GtidSet,
        position::{FileOffset, Position},
    },
};

/// Where a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFrom {
    /// Where the checkpoint says; without one, now.
    Checkpoint,
    /// With the next commit.
    Now,
    /// With the oldest binlog file that the server still has.
    Earliest,
    /// At a place in the binlog.
    File(FileOffset),
    /// After a GTID set.
    Gtid(GtidSet),
}

/// What to do when the server does not have the position any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnLostPosition {
    /// Read the rows that are missing from the table, by key.
    #[default]
    CatchUp,
    /// Stop with status 3.
    Fail,
    /// Go on from now; clients are told of the gap.
    Now,
}

/// What to follow, and how.
#[derive(Debug)]
pub struct Settings {
    /// How to reach the server.
    pub link: Arc<Link>,
    /// The table; the database may come from the URL.
    pub table: TableName,
    /// See [`StartFrom`].
    pub start_from: StartFrom,
    /// See [`OnLostPosition`].
    pub on_lost_position: OnLostPosition,
    /// Rows of history that the feed is filled with at the start.
    pub history: usize,
    /// Our server_id as a replica; chosen by chance and kept in the checkpoint when `None`.
    pub server_id: Option<u32>,
    /// How often the server must speak on an idle link.
    pub heartbeat: Duration,
    /// Pause between attempts on what only a person can mend; up to twice as long, by chance.
    pub retry: Duration,
}

/// Why following came to an end.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The source needs a person; the text names the remedy.
    #[error("{0}")]
    Source(String),
    /// The checkpoint belongs to something else.
    #[error("{0}")]
    Configuration(String),
}

/// One table of one server, followed. See the module.
pub struct Follower {
    settings: Settings,
    feed: Feed,
    status: Arc<Status>,
    saver: Saver,
    replica_id: u32,
    server: Option<Identity>,
    position: Option<Position>,
    keys: Keys,
    ahead: Ahead,
    /// A checksum of the table's layout, and where the first row image stands that is certain to have it.
    layout: Option<(u32, FileOffset)>,
    /// Behind which place reading ahead for changes of the table ended in an error, the last time.
    read_ahead_in_vain: Option<FileOffset>,
    /// The column that the keys are of.
    key_column: Option<Box<str>>,
    /// It is another one than before, and the binlog has not been read since.
    key_changed: bool,
    looks: Looks,
    /// What the last look saw, until that is settled.
    sighted: Option<Sighted>,
    prepared: Prepared,
    /// When it was last said that statements had no rows.
    said_nothing: Option<Instant>,
    /// The server lost the end of a binlog file, perhaps, and what the table had behind that has not all been told.
    end_lost: bool,
    /// What a sweep found in the table that the binlog had not brought.
    unlogged: Option<Unlogged>,
    /// The feed has its history, and the position is known.
    begun: bool,
    /// The binlog has been read: from now on no problem ends the process.
    followed: bool,
    /// An event came since the last report.
    heard: bool,
    /// What was told before this run is known, or has been read again. Not so after a kill: then the last
    /// second is not in the checkpoint.
    told_is_known: bool,
    /// Behind which place the binlog could not be read the last time, and how often in a row.
    unreadable: Option<(FileOffset, u32)>,
    /// Starts from the position that ended before anything more had been read.
    vain: Vain,
    /// Of rows that were told before this run, until it has caught up.
    sample: Option<Sample>,
    /// When the checkpoint was saved that this run goes on from, in Unix milliseconds.
    resumed_from_ms: Option<u64>,
    /// Of those who read older rows, and the end that they ask by.
    questions: mpsc::Receiver<Question>,
    asking: mpsc::Sender<Question>,
    /// For them.
    newest: watch::Sender<Option<Newest>>,
    stop: watch::Receiver<bool>,
}

/// Rows that were read from the table before the binlog came to them, so that they are not told twice.
#[derive(Debug, Default)]
struct Ahead {
    keys: HashSet<Key>,
    /// Where the binlog ended when the last of them had been read; `None` while that is not known.
    until: Option<FileOffset>,
}

/// Bounds what a checkpoint can make us allocate.
const AHEAD_KEYS: usize = 10_000_000;

/// Rows of one SELECT.
const BATCH: usize = 500;

/// Keys in the checkpoint: enough for the feed's history, and for a row to be known as news though so many were
/// told while its transaction was open; within what a save a second can write.
const RECENT_KEYS: RangeInclusive<usize> = 10_000..=100_000;

impl Follower {
    /// Takes over what the checkpoint holds.
    ///
    /// # Errors
    /// [`FollowError::Configuration`] when the checkpoint is of another table.
    pub fn new(
        settings: Settings,
        feed: Feed,
        status: Arc<Status>,
        file: CheckpointFile,
        checkpoint: Option<Checkpoint>,
        stop: watch::Receiver<bool>,
    ) -> Result<Follower, FollowError> {
        let capacity = settings.history.clamp(*RECENT_KEYS.start(), *RECENT_KEYS.end());
        let table = settings.table.to_string();
        let (asking, questions) = mpsc::channel(1); // one is asked at a time
        let mut follower = Follower {
            replica_id: settings.server_id.unwrap_or_else(chance_server_id),
            saver: Saver::start(file, Arc::clone(&status)),
            settings,
            feed,
            status,
            server: None,
            position: None,
            keys: Keys::new(1, capacity),
            ahead: Ahead::default(),
            layout: None,
            read_ahead_in_vain: None,
            key_column: None,
            key_changed: false,
            looks: Looks::default(),
            sighted: None,
            prepared: Prepared::default(),
            said_nothing: None,
            end_lost: false,
            unlogged: None,
            begun: false,
            followed: false,
            heard: false,
            told_is_known: true,
            unreadable: None,
            vain: Vain::default(),
            sample: None,
            resumed_from_ms: None,
            questions,
            asking,
            newest: watch::Sender::default(),
            stop,
        };
        let Some(checkpoint) = checkpoint else { return Ok(follower) };
        if checkpoint.table != table {
            return Err(FollowError::Configuration(format!(
                "the checkpoint is of table {}, not of {table}. Give each table its own --checkpoint",
                checkpoint.table
            )));
        }
        follower.replica_id = follower.settings.server_id.unwrap_or(checkpoint.replica_id);
        follower.keys = Keys::new(checkpoint.epoch, capacity);
        if follower.settings.start_from == StartFrom::Checkpoint {
            follower.resume(checkpoint, capacity)?;
        }
        Ok(follower)
    }

    fn resume(&mut self, checkpoint: Checkpoint, capacity: usize) -> Result<(), FollowError> {
        let position: Position = checkpoint.position.parse().map_err(FollowError::Configuration)?;
        self.layout = checkpoint.layout.map(|layout| (layout, position.at.clone()));
        self.key_column.clone_from(&checkpoint.key_column);
        self.position = Some(position);
        self.told_is_known = checkpoint.at_rest;
        if !checkpoint.at_rest {
            self.vain = Vain::after(&checkpoint, now_ms());
        }
        self.keys = Keys::restore(&checkpoint, capacity);
        self.server = Some(checkpoint.server);
        self.prepared = Prepared::restore(checkpoint.prepared);
        self.sample = checkpoint.sample;
        self.resumed_from_ms = Some(checkpoint.saved_at_ms);
        if checkpoint.begins_with_the_next {
            self.keys.begin_with_the_next();
        }
        if let Some(ahead) = checkpoint.read_ahead {
            let keys = from_runs(&ahead.keys, AHEAD_KEYS).into_iter().collect();
            self.ahead = Ahead { keys, until: ahead.until.and_then(|until| until.parse().ok()) };
        }
        Ok(())
    }

    /// Follows until told to stop, over any number of connections, and saves the checkpoint at the end.
    /// `requests` for older rows are answered beside it, on a connection of their own.
    ///
    /// # Errors
    /// [`FollowError`] until the first connection has been of use; later the same problems are logged
    /// and tried again, slowly: clients stay connected.
    pub async fn run(mut self, requests: mpsc::Receiver<HistoryRequest>) -> Result<(), FollowError> {
        let mut stop = self.stop.clone();
        let (link, table) = (Arc::clone(&self.settings.link), self.settings.table.clone());
        let answers = history::Answers::new(link, table, self.asking.clone(), self.newest.subscribe());
        let history = tokio::spawn(answers.run(requests));
        let outcome = tokio::select! {
            outcome = self.follow() => outcome,
            _ = stop.wait_for(|stopped| *stopped) => Ok(()),
        };
        if self.followed {
            let at_rest = self.told_is_known;
            self.saver.offer(self.checkpoint().map(|checkpoint| Checkpoint {
                at_rest,
                starts_in_vain: 0,
                vain_since_ms: None,
                ..checkpoint
            }));
        }
        self.saver.finish().await;
        history.abort();
        let _ = history.await; // aborted, so an error by design
        outcome
    }

    /// One connection after the other.
    async fn follow(&mut self) -> Result<(), FollowError> {
        let mut backoff = Backoff::default();
        loop {
            let Err(ended) = self.session(&mut backoff).await;
            let wait = match &ended {
                Ended::Passing(_) => {
                    let wait = backoff.next();
                    warn!(error = %ended, retry_in_ms = wait.as_millis() as u64, "the link to the server is down");
                    wait
                }
                Ended::Person(_) if self.followed => {
                    let wait = self.settings.retry.mul_f64(1.0 + fastrand::f64());
                    error!(error = %ended, retry_in_s = wait.as_secs(), "the server needs a person");
                    wait
                }
                Ended::Person(message) | Ended::Fatal(message) => {
                    return Err(FollowError::Source(message.clone()));
                }
            };
            self.status.reconnects.add(1);
            self.status.update(|source| {
                source.link = if matches!(ended, Ended::Person(_)) {
                    status::Link::Blocked
                } else {
                    status::Link::Connecting
                };
                source.problem = Some(ended.to_string());
            });
            tokio::time::sleep(wait).await;
        }
    }

    /// What a restart needs, as of now.
    fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint_through(&self.position.as_ref()?.at)
    }

    /// What a restart needs, where rows up to `through` have been recorded.
    fn checkpoint_through(&self, through: &FileOffset) -> Option<Checkpoint> {
        let mut position = self.position.as_ref()?;
        let mut keys: Vec<Key> = self.ahead.keys.iter().copied().collect();
        let mut until = if keys.is_empty() { Some(through) } else { self.ahead.until.as_ref() };
        if let Some((before, told)) = self.looks.hold() {
            position = before;
            keys.extend(told);
            until = until.map(|until| if until.reaches(through) { until } else { through });
        }
        keys.sort_unstable();
        keys.dedup();
        let ahead = (!keys.is_empty())
            .then(|| ReadAhead { keys: to_runs(keys), until: until.map(ToString::to_string) });
        let saved_at_ms = now_ms();
        Some(Checkpoint {
            server: self.server.clone()?,
            table: self.settings.table.to_string(),
            position: SavedPosition::from(position),
            epoch: self.keys.epoch(),
            greatest_key: self.keys.greatest(),
            recent_keys: self.keys.runs(),
            older_through: self.keys.older_through(),
            holes: Some(self.keys.saved_holes()),
            begins_with_the_next: self.keys.begins_with_the_next(),
            read_ahead: ahead,
            prepared: self.prepared.saved(),
            replica_id: self.replica_id,
            sample: self.sample(),
            layout: self.layout_at(&position.at),
            key_column: self.key_column.clone(),
            saved_at_ms,
            at_rest: false,
            starts_in_vain: self.vain.starts(),
            vain_since_ms: self.vain.since_ms(saved_at_ms),
        })
    }
}

fn chance_server_id() -> u32 {
    // The upper half: people number their servers from 1.
    fastrand::u32(1 << 31..)
}
