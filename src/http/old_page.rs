//! `GET /backend.php?maxvid=N`: the old page's protocol.
//!
//! It waits, then answers one row: the first after the row N in the order of commits, or the next new
//! one for `maxvid=0`. After an empty answer that page pauses for 5 s and asks again, still with
//! `maxvid=0`, so the wait has no limit, and a space now and then keeps it open: JSON allows white space
//! before it. Where a limit is needed, a cookie remembers the place.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{
    future::{BoxFuture, FutureExt},
    stream,
};
use tokio::{
    sync::watch,
    time::{self, Instant, Interval},
};

use super::{
    App,
    clients::{Client, Kind},
    error::HttpError,
    pause::Pause,
    query::{Filter, Query},
};
use crate::{
    feed::{Cursor, HistoryUnavailable, Next, Row, Start, Subscriber},
    status::Status,
};

const COOKIE: &str = "doorcast_cursor";

/// How long the cookie is good for: the page's pause, with time to spare, and not until tomorrow.
const COOKIE_AGE_S: u32 = 60;

pub(super) async fn backend(State(app): State<Arc<App>>, request: Request) -> Result<Response, HttpError> {
    let columns = app.feed.state().columns;
    let query = Query::read(request.uri().query(), request.headers(), columns.as_deref())?;
    if request.method() == Method::HEAD {
        return Ok(respond(Body::empty()));
    }
    let cookie = cookie(request.headers());
    let start = match query.maxvid {
        None | Some(Cursor::Key(0)) => cookie.map_or(Start::Now, Start::After),
        Some(cursor) => Start::After(cursor),
    };
    match app.settings.old_page_timeout {
        None => Ok(respond(Waiting::new(app, start, query.filter).into_body())),
        Some(limit) => {
            let deadline = Instant::now() + limit;
            Ok(wait_until(&app, deadline, start, &query.filter, cookie.is_some()).await)
        }
    }
}

/// A wait without limit: spaces until there is a row.
struct Waiting {
    row: BoxFuture<'static, Arc<Row>>,
    space: Interval,
    stopping: watch::Receiver<bool>,
    _client: Client,
}

impl Waiting {
    fn new(app: Arc<App>, start: Start, filter: Filter) -> Self {
        let heartbeat = app.settings.heartbeat;
        let (feed, status) = (app.feed.clone(), app.status.clone());
        let row = async move {
            let mut subscriber = feed.subscribe(start, |_| true).await;
            first(&mut subscriber, &filter, &status).await
        };
        Waiting {
            row: row.boxed(),
            space: time::interval_at(Instant::now() + heartbeat, heartbeat),
            stopping: app.stopping.clone(),
            _client: Client::count_in(&app, Kind::OldPage),
        }
    }

    fn into_body(self) -> Body {
        let chunks = stream::unfold(Some(self), |waiting| async {
            let mut waiting = waiting?;
            let (chunk, last) = tokio::select! {
                biased;
                row = &mut waiting.row => (Bytes::copy_from_slice(row.json()), true),
                // The page asks again after its pause.
                _ = waiting.stopping.wait_for(|stopping| *stopping) => return None,
                _ = waiting.space.tick() => (Bytes::from_static(b" "), false),
            };
            Some((Ok::<_, Infallible>(chunk), (!last).then_some(waiting)))
        });
        Body::from_stream(chunks)
    }
}

/// A wait with a limit: a row, or nothing and the place to go on from.
async fn wait_until(
    app: &Arc<App>,
    deadline: Instant,
    start: Start,
    filter: &Filter,
    had_cookie: bool,
) -> Response {
    let _client = Client::count_in(app, Kind::OldPage);
    let mut subscriber = None;
    let row = async {
        let subscriber = subscriber.insert(app.feed.subscribe(start, |_| true).await);
        first(subscriber, filter, &app.status).await
    };
    let mut stopping = app.stopping.clone();
    let row = tokio::select! {
        biased;
        row = row => Some(row),
        _ = stopping.wait_for(|stopping| *stopping) => None,
        () = time::sleep_until(deadline) => None,
    };
    match row {
        Some(row) => {
            let mut response = respond(Body::from(row.json().to_vec()));
            if had_cookie {
                // From here on the page's own `maxvid` tells the place.
                set_cookie(&mut response, "", 0);
            }
            response
        }
        None => {
            let mut response = respond(Body::empty());
            let cursor = subscriber.as_ref().and_then(Subscriber::cursor);
            let cursor = cursor.map(|id| id.to_string()).or_else(|| match start {
                Start::After(cursor) => Some(cursor.to_string()),
                _ => None,
            });
            if let Some(cursor) = cursor {
                set_cookie(&mut response, &cursor, COOKIE_AGE_S);
            }
            response
        }
    }
}

/// The first row that the page wants. A gap goes by: that page knows no such thing. Cancel-safe.
async fn first(subscriber: &mut Subscriber, filter: &Filter, status: &Status) -> Arc<Row> {
    let mut pause = Pause::default();
    loop {
        match subscriber.next(1).await {
            Ok(Next::Rows(rows)) => {
                pause = Pause::default();
                // By its key that page would go on behind the first of the two, round and round.
                if subscriber.came_again() {
                    continue;
                }
                if let Some(row) = rows.into_iter().find(|row| filter.wants(row)) {
                    return row;
                }
            }
            Ok(Next::Gap(_)) => status.gaps.add(1),
            Err(HistoryUnavailable) => time::sleep(pause.next()).await,
        }
    }
}

fn cookie(headers: &HeaderMap) -> Option<Cursor> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == COOKIE)?;
    value.parse().ok().filter(|cursor| !matches!(cursor, Cursor::Key(_)))
}

fn set_cookie(response: &mut Response, value: &str, max_age_s: u32) {
    let cookie = format!("{COOKIE}={value}; Max-Age={max_age_s}; HttpOnly; SameSite=Lax");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

fn respond(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache, no-store, no-transform"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}
