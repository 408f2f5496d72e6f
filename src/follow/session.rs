//! One connection: what the server is, and the reading until something breaks.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    Follower, StartFrom,
    backoff::Backoff,
    ended::{Ended, ReadError, chain},
    history::{Asked, Here},
    rhythm::Rhythm,
    start::first_file,
};
use crate::{
    link::{BINLOG_OFF, Server, binlog_end, describe},
    status::{self, now_ms},
    table::Table,
    tail::{
        Tail, TailError, Told,
        position::{FileOffset, Position},
    },
};

/// `/api/status` is at most this old.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// A lost position may be lost again while it is recovered from, but not for ever in one session.
const RECOVERIES: u32 = 3;

/// What can't be read so often in a row was not damaged on the way: it stands so in the server's file.
const READINGS: u32 = 3;

impl Follower {
    /// Connects, finds the place to begin, and reads until something breaks.
    pub(super) async fn session(&mut self, backoff: &mut Backoff) -> Result<Infallible, Ended> {
        self.status.update(|source| source.link = status::Link::Connecting);
        let mut conn = self.settings.link.connect().await?;
        let server = describe(&mut conn).await?;
        if !server.log_bin {
            return Err(Ended::Person(BINLOG_OFF.into()));
        }
        let mut end = binlog_end(&mut conn, &server).await?;
        self.greet(&server, &end);
        let mut earliest = None;
        if self.position.is_none() && self.settings.start_from == StartFrom::Earliest {
            earliest = Some(first_file(&mut conn, &server.account).await?);
        }
        let mut table = Table::open(conn, &self.settings.table.database, &self.settings.table.table).await?;
        self.feed.set_columns(Arc::clone(table.layout().names()));
        self.find_key(&mut table).await?;
        for _ in 0..=RECOVERIES {
            let start = self.begin(&server, &end, earliest.take(), &mut table).await?;
            let lost = if self.vain.is_enough() {
                ReadError::Lost("doorcast ended again and again while it read what comes there".into())
            } else {
                match self.open_tail_with_layout(&server, &start, &mut table).await {
                    Ok(tail) => self.read(tail, &server, &mut table, &end.at, backoff).await,
                    Err(err) => err,
                }
            };
            match lost {
                ReadError::Lost(reason) => end = self.recover(&reason, &server, &mut table).await?,
                ReadError::Ended(ended) => return Err(ended),
            }
        }
        Err(Ended::Passing("the position was lost again and again".into()))
    }

    fn greet(&mut self, server: &Server, end: &Position) {
        let format = server.binlog_format.to_ascii_uppercase();
        info!(server = %server.version_text, %end, binlog_format = %format, "connected");
        if format != "ROW" {
            warn!(
                binlog_format = %format,
                "inserts may be logged as statements: each costs a look at the table. Better, on the server: SET \
                 GLOBAL binlog_format=ROW; and binlog_format=ROW in its my.cnf"
            );
        }
        let text = server.version_text.clone();
        self.status.update(|source| {
            source.server = Some(text);
            source.link = status::Link::CatchingUp;
            source.problem = None;
        });
    }

    /// Reads until something breaks. `target` is the end of the binlog at the time of connecting: up to
    /// there it is catching up.
    async fn read(
        &mut self,
        mut tail: Tail,
        server: &Server,
        table: &mut Table,
        target: &FileOffset,
        backoff: &mut Backoff,
    ) -> ReadError {
        let Err(why) = self.read_on(&mut tail, server, table, target, backoff).await;
        tail.close().await;
        why
    }

    async fn read_on(
        &mut self,
        tail: &mut Tail,
        server: &Server,
        table: &mut Table,
        target: &FileOffset,
        backoff: &mut Backoff,
    ) -> Result<Infallible, ReadError> {
        self.keep_certainly_unlogged();
        if self.sighted.is_none() {
            // The last look for something may have ended in an error.
            self.looks.look_again();
        }
        let mut caught_up = false;
        // Since when the binlog has been read up to `target`, and when the last look began that has been settled.
        let mut reached: Option<Instant> = None;
        let mut settled: Option<Instant> = None;
        let mut quiet = false;
        // The place of the last heartbeat.
        let mut heartbeat: Option<FileOffset> = None;
        // By those who read older rows. What they asked on another connection is left unanswered.
        let mut asked = Asked::default();
        let mut rhythm = Rhythm::new(self.vain.starts() > 1);
        let mut report = tokio::time::interval(REPORT_EVERY);
        loop {
            if let Some(began) = self.settle(heartbeat.as_ref(), server, table).await? {
                settled = Some(began);
                rhythm.moved();
            }
            let at = read_to(self.position.as_ref(), heartbeat.as_ref());
            asked.has_read(at, table.layout());
            // Not before the server has sent something of the file: it may not have the position. By GTID the
            // place in the file is not known before the first commit, but a server with nothing more to say
            // has said everything.
            if reached.is_none() && tail.began().is_some() && tail.at().map_or(quiet, |at| at.reaches(target))
            {
                reached = Some(Instant::now());
            }
            // What statements wrote before must have been looked for, too.
            if !caught_up && reached.is_some() && (self.has_looked() || settled >= reached) {
                // A server that lost power may have lost the end of its binlog before we had read it. Then its rows are
                // in the table alone, until that is emptied.
                self.sweep(server, table).await?;
                rhythm.swept(self.unlogged.is_some());
                caught_up = true;
                backoff.reset();
                self.caught_up();
                if rhythm.is_no_longer_one_by_one() {
                    self.saver.save(self.checkpoint()).await;
                }
            }
            if let Some(swept) = rhythm.is_to_tell()
                && (self.has_looked() || settled > Some(swept))
                && self.has_read_unlogged()
            {
                self.sweep(server, table).await?;
                rhythm.swept(false);
            }
            let due = self.looks.due(self.sighted.is_some());
            if due.is_some_and(|due| due <= Instant::now()) {
                self.look(None, server, table).await?;
                rhythm.moved();
                continue;
            }
            let told = tokio::select! {
                biased;
                question = asked.changed(&mut self.questions) => {
                    if let Some(question) = question {
                        let at = read_to(self.position.as_ref(), heartbeat.as_ref()).cloned();
                        let (server, layout) = (server.identity.clone(), Arc::clone(table.layout()));
                        asked.take(question, Here { server, at, layout });
                    }
                    continue;
                }
                told = tail.next() => told,
                () = until(due) => continue,
                _ = report.tick() => {
                    // A look that is not settled for long may wait in vain: a comparison notices a RESET.
                    let settles = self.sighted.as_ref().is_some_and(|sighted| rhythm.is_recent(sighted.began()));
                    if caught_up && !settles && rhythm.is_to_sweep() {
                        self.sweep(server, table).await?;
                        rhythm.swept(false);
                    }
                    self.report();
                    if rhythm.is_to_save() {
                        self.saver.offer(self.checkpoint());
                    }
                    continue;
                }
            };
            self.followed |= told.is_ok();
            if tail.take_cut_off() {
                self.end_is_lost();
                // What was seen may not have survived.
                self.look_again();
            }
            self.heard |= matches!(told, Ok(Told::Commit(_) | Told::Idle));
            match told.map_err(|err| self.explain(err))? {
                Told::Commit(commit) => self.apply(commit, tail, server, table).await?,
                Told::Idle => {}
                Told::Heartbeat => {
                    self.status.update(|source| source.last_heartbeat_ms = Some(now_ms()));
                    quiet = true;
                    heartbeat = tail.heartbeat_at().cloned();
                }
            }
            if self.has_moved(tail) {
                rhythm.moved();
            }
            if rhythm.is_to_save_at_once() {
                self.saver.save(self.checkpoint()).await;
            }
            // A stream that never pauses does not let the timer's turn come.
            if rhythm.is_to_save() {
                self.report();
                self.saver.offer(self.checkpoint());
            }
        }
    }

    /// Takes over how far the tail has read. Whether that is further than before.
    fn has_moved(&mut self, tail: &Tail) -> bool {
        let (Some(at), Some(position)) = (tail.at(), &mut self.position) else { return false };
        if position.at == *at && position.began == tail.began() {
            return false;
        }
        // If a restart begins before a held one, what is here may be what ends the process.
        if position.at != *at && self.looks.hold().is_none() {
            self.vain.over();
        }
        position.at.clone_from(at);
        position.began = tail.began();
        self.ahead.passed(at);
        true
    }

    /// Whether every statement has been looked for, and what was seen has been told.
    fn has_looked(&self) -> bool {
        self.sighted.is_none() && self.looks.has_looked_for_all()
    }

    fn caught_up(&mut self) {
        self.told_is_known = true;
        self.key_changed = false;
        self.vain.over();
        // From here on the feed has rows that were told, by which the table is known; these may change meanwhile.
        self.sample = None;
        self.feed.set_ready();
        self.status.update(|source| source.link = status::Link::Following);
        self.report();
        info!(position = self.position.as_ref().map(tracing::field::display), "following");
    }

    fn report(&mut self) {
        let Some(position) = &self.position else { return };
        let gtid_set = position.gtid_set.as_ref().map(ToString::to_string);
        let at = position.to_string();
        let heard = std::mem::take(&mut self.heard);
        self.status.update(|source| {
            if heard {
                source.last_event_ms = Some(now_ms());
            }
            source.position = Some(at);
            source.gtid_set = gtid_set;
        });
    }

    pub(super) fn explain(&mut self, err: TailError) -> ReadError {
        if err.unreadable_behind().is_some_and(|at| self.is_unreadable(at)) {
            return ReadError::Lost(chain(&err));
        }
        match err {
            TailError::LostPosition(reason) => ReadError::Lost(reason),
            TailError::Link(err) => ReadError::Ended(err.into()),
            TailError::DuplicateServerId(reason) => ReadError::Ended(self.duplicate_server_id(&reason)),
            passing => ReadError::Ended(Ended::Passing(passing.into())),
        }
    }

    /// Whether the binlog behind `at` must be given up, now that it could not be read once more.
    fn is_unreadable(&mut self, at: &FileOffset) -> bool {
        let before = self.unreadable.take().filter(|(before, _)| before == at);
        let readings = before.map_or(0, |(_, readings)| readings) + 1;
        if readings == READINGS {
            return true;
        }
        self.unreadable = Some((at.clone(), readings));
        false
    }

    /// Another replica has our server_id: never a fight. One chosen by chance is chosen again.
    fn duplicate_server_id(&mut self, reason: &str) -> Ended {
        if self.settings.server_id.is_some() {
            return Ended::Fatal(format!("{reason}. Give doorcast a --server-id that no other replica has"));
        }
        let before = self.replica_id;
        self.replica_id = super::chance_server_id();
        warn!(before, now = self.replica_id, "another replica has our server_id, taking another");
        Ended::Passing(reason.into())
    }
}

/// How far the binlog has been read. By GTID alone the place is not known before the first commit, but where the last
/// heartbeat was.
pub(super) fn read_to<'a>(
    position: Option<&'a Position>,
    heartbeat: Option<&'a FileOffset>,
) -> Option<&'a FileOffset> {
    position.map(|position| &position.at).filter(|at| at.is_known()).or(heartbeat)
}

/// At `due`; never without one.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
