//! Health and state: `/livez`, `/readyz`, `/api/status`, `/metrics`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{App, clients::Count, error::HttpError, metrics::Metrics};
use crate::{
    id::{Epoch, EventId},
    people::{Loaded, People},
    status::{Link, Source, now_ms},
};

/// The process answers.
pub(super) async fn livez() -> Response {
    uncached(r#"{"alive":true}"#)
}

/// Rows arrive promptly. While they don't, clients are served all the same, with what there is.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<Response, HttpError> {
    let source = app.status.source();
    let why = match source.link {
        Link::Following => return Ok(uncached(r#"{"ready":true}"#)),
        Link::Connecting => "connecting to the server",
        Link::CatchingUp => "catching up with the server",
        Link::Blocked => "a person must act",
    };
    let message = match source.problem {
        Some(problem) => format!("{why}: {problem}"),
        None => why.into(),
    };
    Err(HttpError::not_ready(message))
}

pub(super) fn uncached(json: impl Into<Body>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, json.into()).into_response()
}

#[derive(Serialize)]
struct Everything {
    version: &'static str,
    uptime_s: u64,
    now_ms: u64,
    #[serde(flatten)]
    source: Source,
    rows: u64,
    reconnects: u64,
    gaps: u64,
    undecodable: u64,
    table_reads: u64,
    unlogged: u64,
    found_nothing: u64,
    breaks: u64,
    checkpoint_failures: u64,
    clients: Count,
    turned_away: u64,
    feed: FeedNow,
    /// `None` without `--people`.
    people: Option<PeopleNow>,
}

#[derive(Serialize)]
struct PeopleNow {
    #[serde(flatten)]
    loaded: Loaded,
    greetings: u64,
    suppressed: BTreeMap<&'static str, u64>,
    late: u64,
    unreadable_optime: u64,
    reload_failures: u64,
}

impl PeopleNow {
    fn of(people: &People) -> Self {
        let counts = &people.counts;
        PeopleNow {
            loaded: people.loaded(),
            greetings: counts.greetings.get(),
            suppressed: counts.suppressed().into(),
            late: counts.late.get(),
            unreadable_optime: counts.unreadable_time.get(),
            reload_failures: counts.reload_failures.get(),
        }
    }
}

#[derive(Serialize)]
struct FeedNow {
    ready: bool,
    epoch: Epoch,
    head: EventId,
    oldest: Option<EventId>,
    rows: usize,
    bytes: usize,
}

/// Everything there is to know, as JSON.
pub(super) async fn api_status(State(app): State<Arc<App>>) -> Response {
    let feed = app.feed.state();
    let status = &app.status;
    let state = Everything {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: app.started.elapsed().as_secs(),
        now_ms: now_ms(),
        source: status.source(),
        rows: status.rows.get(),
        reconnects: status.reconnects.get(),
        gaps: status.gaps.get(),
        undecodable: status.undecodable.get(),
        table_reads: status.table_reads.get(),
        unlogged: status.unlogged.get(),
        found_nothing: status.found_nothing.get(),
        breaks: status.breaks.get(),
        checkpoint_failures: status.checkpoint_failures.get(),
        clients: app.clients.count(),
        turned_away: app.clients.turned_away.get(),
        feed: FeedNow {
            ready: feed.ready,
            epoch: feed.epoch,
            head: feed.head,
            oldest: feed.oldest,
            rows: feed.rows,
            bytes: feed.bytes,
        },
        people: app.settings.people.as_deref().map(PeopleNow::of),
    };
    // Only strings, numbers and ids: serialising them can't fail.
    uncached(serde_json::to_string(&state).unwrap_or_default())
}

/// The same for Prometheus. What may stand still is told as a time, not as an age: an age that is
/// computed here would stop growing with the thing that it measures.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let (source, status, feed, clients) =
        (app.status.source(), &app.status, app.feed.state(), app.clients.count());
    let mut text = Metrics::default();
    text.gauge("build_info", "The version that runs.", &[(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)]);
    let uptime = app.started.elapsed().as_secs_f64();
    text.gauge("start_time_seconds", "When the process started.", &[(&[], now_ms() as f64 / 1e3 - uptime)]);
    let links = [Link::Connecting, Link::CatchingUp, Link::Following, Link::Blocked];
    let links = links.map(|link| {
        let name = match link {
            Link::Connecting => [("state", "connecting")],
            Link::CatchingUp => [("state", "catching_up")],
            Link::Following => [("state", "following")],
            Link::Blocked => [("state", "blocked")],
        };
        (name, f64::from(u8::from(link == source.link)))
    });
    let links = links.each_ref().map(|(labels, value)| (&labels[..], *value));
    text.gauge("link_state", "1 for the state of the link to the server.", &links);
    text.time("last_event", "When any event came from the server.", source.last_event_ms);
    text.time("last_heartbeat", "When a heartbeat came from the server.", source.last_heartbeat_ms);
    text.time("checkpoint_saved", "When the checkpoint was written.", source.checkpoint_saved_ms);
    text.counter("rows_total", "Rows handed to the feed.", status.rows.get());
    text.counter("reconnects_total", "Times the link was lost.", status.reconnects.get());
    text.counter("gaps_total", "Gaps that clients were told of.", status.gaps.get());
    text.counter("undecodable_total", "Bytes of text that did not decode.", status.undecodable.get());
    text.counter("table_reads_total", "Reads of the table in place of the binlog.", status.table_reads.get());
    text.counter(
        "unlogged_total",
        "Rows found in the table that the binlog did not bring.",
        status.unlogged.get(),
    );
    text.counter(
        "found_nothing_total",
        "Statements for the table of which no rows were found, and that need not have inserted any.",
        status.found_nothing.get(),
    );
    text.counter("breaks_total", "Times that rows may have been lost at the source.", status.breaks.get());
    text.counter(
        "checkpoint_failures_total",
        "Failed attempts to write the checkpoint.",
        status.checkpoint_failures.get(),
    );
    text.gauge(
        "clients",
        "Requests being served, by kind.",
        &[
            (&[("kind", "events")], clients.events as f64),
            (&[("kind", "poll")], clients.poll as f64),
            (&[("kind", "old_page")], clients.old_page as f64),
            (&[("kind", "screen_events")], clients.screen_events as f64),
            (&[("kind", "screen_poll")], clients.screen_poll as f64),
        ],
    );
    text.gauge("connections", "Open connections.", &[(&[], clients.connections as f64)]);
    text.counter(
        "connections_turned_away_total",
        "Connections beyond the limit.",
        app.clients.turned_away.get(),
    );
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    text.gauge("tasks", "Tasks of the process that have not ended.", &[(&[], tasks as f64)]);
    text.gauge("feed_rows", "Rows in the feed.", &[(&[], feed.rows as f64)]);
    text.gauge("feed_bytes", "Bytes of the feed, about.", &[(&[], feed.bytes as f64)]);
    text.gauge("feed_epoch", "How often keys have started over, from 1.", &[(&[], f64::from(feed.epoch))]);
    if let Some(people) = &app.settings.people {
        people_metrics(&mut text, people);
        let doors = app.screens.by_door();
        let doors: Vec<_> =
            doors.iter().map(|(door, count)| ([("door", door.as_str())], *count as f64)).collect();
        let doors: Vec<_> = doors.iter().map(|(labels, count)| (&labels[..], *count)).collect();
        text.gauge("screens", "Screens that are connected, by door.", &doors);
    }
    let headers = [
        (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text.into_string()).into_response()
}

fn people_metrics(text: &mut Metrics, people: &People) {
    let (loaded, counts) = (people.loaded(), &people.counts);
    text.gauge("people", "People who are greeted.", &[(&[], loaded.people as f64)]);
    let good = f64::from(u8::from(loaded.problems.is_empty()));
    text.gauge("people_file_good", "1 if the people file as it is now was taken over.", &[(&[], good)]);
    text.time("people_loaded", "When the people file was taken over.", loaded.loaded_ms);
    text.counter(
        "people_reload_failures_total",
        "Times that a changed people file could not be taken over.",
        counts.reload_failures.get(),
    );
    text.counter("greetings_total", "Swipes that were worth a greeting.", counts.greetings.get());
    let suppressed = counts.suppressed().map(|(reason, count)| ([("reason", reason)], count));
    let suppressed = suppressed.each_ref().map(|(labels, count)| (&labels[..], *count));
    text.counters(
        "greetings_suppressed_total",
        "Swipes of people who are greeted that were worth no greeting, by reason.",
        &suppressed,
    );
    text.counter(
        "greetings_late_total",
        "Greetings that a screen could not get in time, counted for each screen.",
        counts.late.get(),
    );
    text.counter(
        "optime_unreadable_total",
        "Swipes whose time could not be read.",
        counts.unreadable_time.get(),
    );
}
