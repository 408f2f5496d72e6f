//! doorcast follows the INSERTs of one MySQL or MariaDB table through the binlog, turns each row
//! into JSON and pushes it to browsers.
//!
//! ```text
//!              binlog (order, promptness)
//! MySQL  ─────────────────────────────────▶ tail ──┐
//! MariaDB                                          ├─▶ follow ──▶ feed ──▶ http
//!        ◀──────── SELECT by key ────────── table ─┘      │
//!                                                         ▼
//!                                                   checkpoint file
//! ```
//!
//! Modules in reading order, with what each must not know:
//!
//! - [`id`]: event ids. Knows nothing else.
//! - [`row`]: a row as JSON, from a binlog image or a SELECT. Does no I/O.
//! - [`link`]: connections to the server and what kind of server it is. Knows no table.
//! - [`table`]: the schema, and rows by key. Knows no binlog.
//! - [`tail`]: the binlog, one committed transaction at a time. Knows no client and no feed.
//! - [`checkpoint`]: the position file. Knows no server.
//! - [`feed`]: the bounded ring of rows, its cursors, gaps, and the door to older rows. Knows
//!   neither MySQL nor HTTP.
//! - [`follow`]: joins tail and table to feed and checkpoint. Knows no client.
//! - [`people`]: who is greeted at a screen, and how. Knows neither MySQL nor HTTP.
//! - [`status`]: what the process is doing, in words and numbers. Written by `follow`, read by `http`.
//! - [`http`]: SSE, long poll, the old page, screens, the reception, status, pages. Knows neither MySQL nor the checkpoint.
//! - [`options`]: command line, environment and file.
//! - [`demo`]: a private server with swipes, to try it all out.

#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod demo;
pub mod feed;
pub mod follow;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod id;
pub mod link;
pub mod options;
pub mod people;
pub mod row;
pub mod status;
pub mod table;
pub mod tail;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

use crate::{
    checkpoint::{CheckpointError, CheckpointFile},
    feed::{Feed, history::History},
    follow::{FollowError, Follower},
    link::Link,
    options::RunOptions,
    people::People,
    status::Status,
    tail::TableName,
};

/// How long the parts may take to end after they were asked to.
const END_WITHIN: Duration = Duration::from_secs(9);

/// Why `doorcast run` ended, other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Bad usage or configuration; exit status 2.
    #[error("{0}")]
    Configuration(String),
    /// The database or the checkpoint needs a person; exit status 3.
    #[error("{0}")]
    Source(String),
    /// Exit status 1.
    #[error("{0}")]
    Unexpected(String),
}

impl RunError {
    /// The process's exit status.
    pub fn exit_status(&self) -> u8 {
        match self {
            RunError::Unexpected(_) => 1,
            RunError::Configuration(_) => 2,
            RunError::Source(_) => 3,
        }
    }
}

impl From<CheckpointError> for RunError {
    fn from(err: CheckpointError) -> Self {
        match err {
            CheckpointError::Damaged { .. } => RunError::Source(err.to_string()),
            CheckpointError::InUse(_) | CheckpointError::Unusable { .. } => {
                RunError::Configuration(err.to_string())
            }
        }
    }
}

impl From<FollowError> for RunError {
    fn from(err: FollowError) -> Self {
        match err {
            FollowError::Source(message) => RunError::Source(message),
            FollowError::Configuration(message) => RunError::Configuration(message),
        }
    }
}

/// Connections that may wait to be accepted, if the kernel allows as many: after a restart all screens come at once.
const BACKLOG: u32 = 4096;

/// Binds the address of `--listen`.
///
/// # Errors
/// [`RunError::Configuration`]: the address is taken, not ours, or open to others without leave.
pub async fn listen(address: SocketAddr, allow_anonymous: bool) -> Result<TcpListener, RunError> {
    if !address.ip().is_loopback() && !allow_anonymous {
        return Err(RunError::Configuration(format!(
            "--listen {address} can be reached from other machines, and rows hold card ids: listen on 127.0.0.1 behind \
             a proxy that asks who is there, or say --allow-anonymous"
        )));
    }
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // As tokio's own bind has it: a restart must not wait for connections that have ended.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|err: io::Error| {
        RunError::Configuration(format!(
            "can't listen on {address}: {err}. Stop whoever has the port (ss -ltnp shows it), or choose another --listen"
        ))
    })
}

/// `doorcast run`: follows the table and serves `listener` until `shutdown`, then ends within 10 s.
///
/// # Errors
/// See [`RunError`].
pub async fn run(
    options: RunOptions,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let password = options.password().map_err(RunError::Configuration)?;
    let link = Link::new(&options.db, password, options.ssl_mode, options.ssl_ca.clone());
    let link = link.map_err(RunError::Configuration)?;
    let table = table_name(&options.table, link.database())?;
    let people = options.screen.people().map_err(RunError::Configuration)?;
    let address = listener.local_addr().unwrap_or(options.listen);
    let reception = options.screen.reception(address, options.allow_anonymous);
    let reception = reception.map_err(RunError::Configuration)?;
    let file = CheckpointFile::lock(&options.checkpoint)?;
    let checkpoint = file.load()?;

    let (history, requests) = History::channel();
    let limits = feed::Limits {
        rows: options.history,
        bytes: options.history_bytes,
        resume_limit: options.resume_limit,
    };
    let feed = Feed::new(limits, history);
    let status = Arc::new(Status::new(table.to_string()));
    let (stop, stopped) = watch::channel(false);
    let settings = follow::Settings {
        link: Arc::new(link),
        table,
        start_from: options.start_from,
        on_lost_position: options.on_lost_position,
        history: options.history,
        server_id: options.server_id,
        heartbeat: options.db_heartbeat,
        retry: options.db_retry,
    };
    let follower =
        Follower::new(settings, feed.clone(), Arc::clone(&status), file, checkpoint, stopped.clone())?;
    if let Ok(address) = listener.local_addr() {
        info!(%address, "listening");
    }
    let serve = http::Settings {
        heartbeat: options.heartbeat,
        old_page_timeout: options.old_page_timeout,
        www_dir: options.www_dir,
        theme_dir: options.screen.theme_dir.clone(),
        max_clients: options.max_clients,
        people: people.clone(),
        reception,
        ..http::Settings::default()
    };
    let mut follow = tokio::spawn(follower.run(requests));
    let mut greet = tokio::spawn(greet(people, feed.clone(), stopped.clone()));
    let mut http = tokio::spawn(http::serve(listener, feed, status, serve, told_to(stopped)));

    let early = tokio::select! {
        () = shutdown => None,
        ended = &mut follow => Some(followed(ended)),
        ended = &mut http => Some(served(ended)),
        ended = &mut greet => Some(greeted(ended)),
    };
    stop.send_replace(true);
    info!("stopping");
    let rest = async {
        let followed = if follow.is_finished() { Ok(()) } else { followed((&mut follow).await) };
        let served = if http.is_finished() { Ok(()) } else { served((&mut http).await) };
        let greeted = if greet.is_finished() { Ok(()) } else { greeted((&mut greet).await) };
        followed.and(served).and(greeted)
    };
    let rest = tokio::time::timeout(END_WITHIN, rest).await.unwrap_or_else(|_| {
        if follow.is_finished() {
            warn!("some clients did not let go in time");
        } else {
            warn!(
                "the last checkpoint was not written in time: a restart goes on from the one before. Is the disk \
                 overloaded?"
            );
        }
        Ok(())
    });
    match early {
        Some(outcome) => outcome,
        None => rest,
    }
}

fn followed(ended: Result<Result<(), FollowError>, tokio::task::JoinError>) -> Result<(), RunError> {
    match ended {
        Ok(outcome) => Ok(outcome?),
        Err(err) => Err(RunError::Unexpected(format!("following failed: {err}"))),
    }
}

fn served(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<(), RunError> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(err)) => Err(RunError::Unexpected(format!("serving failed: {err}"))),
        Err(err) => Err(RunError::Unexpected(format!("serving failed: {err}"))),
    }
}

fn greeted(ended: Result<(), tokio::task::JoinError>) -> Result<(), RunError> {
    ended.map_err(|err| RunError::Unexpected(format!("greeting failed: {err}")))
}

/// Keeps the people current and looks at their swipes, until `stopped`.
async fn greet(people: Option<Arc<People>>, feed: Feed, stopped: watch::Receiver<bool>) {
    match people {
        Some(people) => {
            tokio::join!(people.clone().keep_current(stopped.clone()), people.observe(feed, stopped));
        }
        // Told to read its files again, a process that has none goes on.
        None => {
            let _hangup = signal(SignalKind::hangup());
            told_to(stopped).await;
        }
    }
}

/// Completes when `stopped` says so.
async fn told_to(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// `[database.]table`, the database from the URL if it is not there.
fn table_name(table: &str, database: Option<&str>) -> Result<TableName, RunError> {
    let (database, table) = match table.split_once('.') {
        Some((database, table)) => (Some(database), table),
        None => (database, table),
    };
    match database {
        Some(database) if !database.is_empty() && !table.is_empty() => {
            Ok(TableName { database: database.to_owned(), table: table.to_owned() })
        }
        _ => Err(RunError::Configuration(
            "which database? Write it behind the last / of --db, or as --table database.table".into(),
        )),
    }
}
