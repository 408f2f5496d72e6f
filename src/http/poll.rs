//! `GET /poll`: long poll.
//!
//! Each answer names the id to come back with. Nothing is consumed: the same request twice gets the same
//! rows.

use std::{io::Write, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{Method, header},
    response::{IntoResponse, Response},
};
use futures_util::future::FutureExt;
use tokio::time::sleep_until;

use super::{
    App,
    clients::{Client, Kind},
    error::HttpError,
    query::Query,
    view::{self, View},
};
use crate::{
    feed::{Gap, HistoryUnavailable, Next, Row},
    people::Greeting,
};

/// An answer that has become this long is sent, however many rows it may still have.
const ANSWER_BYTES: usize = 4 << 20;

pub(super) async fn poll(State(app): State<Arc<App>>, request: Request) -> Result<Response, HttpError> {
    let columns = app.feed.state().columns;
    let mut query = Query::read(request.uri().query(), request.headers(), columns.as_deref())?;
    if request.method() == Method::HEAD {
        return Ok(respond(Body::empty()));
    }
    let view = View::Rows(std::mem::take(&mut query.filter));
    wait(&app, query, &view, Kind::Poll).await
}

/// Waits for what a view shows, as long as the query says.
pub(super) async fn wait(
    app: &Arc<App>,
    query: Query,
    view: &View,
    kind: Kind,
) -> Result<Response, HttpError> {
    let _client = Client::count_in(app, kind);
    let deadline = query.deadline();
    let mut stopping = app.stopping.clone();

    let opened = tokio::select! {
        biased;
        opened = app.feed.subscribe(query.start, |row| view.wants(row)) => Some(opened),
        _ = stopping.wait_for(|stopping| *stopping) => None,
        () = sleep_until(deadline) => None,
    };
    let Some(mut subscriber) = opened else {
        let next = query.came_with.ok_or_else(|| HttpError::not_ready("catching up with the table"))?;
        return Ok(respond(answer(app, &next, None, &Rows::default())));
    };

    let (mut rows, mut gap, mut resumed) = (Rows::default(), None::<Gap>, false);
    let begin = subscriber.cursor();
    let (next, gap) = loop {
        let cursor = subscriber.cursor();
        // A gap that no row follows yet is told with that row: `next` can't name a place after it.
        let has_answer = rows.count > 0 || (gap.is_some() && cursor != begin);
        let room = query.limit.saturating_sub(rows.count);
        let mut tests = Vec::new();
        let came = if room == 0 || rows.json.len() > ANSWER_BYTES {
            None
        } else if has_answer {
            subscriber.next(room).now_or_never()
        } else {
            tokio::select! {
                biased;
                came = subscriber.next(room) => Some(came),
                _ = stopping.wait_for(|stopping| *stopping) => None,
                shown = view.tests() => {
                    tests = shown;
                    None
                }
                () = sleep_until(deadline) => None,
            }
        };
        match came {
            Some(Ok(Next::Rows(new))) => {
                // The row may have come after the gap was told.
                if let (Some(gap), false, Some(row)) = (&mut gap, resumed, new.first()) {
                    gap.resumes_at = row.id();
                }
                resumed = true;
                new.iter().for_each(|row| rows.push(row, view));
            }
            Some(Ok(Next::Gap(first))) if !has_answer => gap = gap.or(Some(first)),
            Some(Err(HistoryUnavailable)) if !has_answer => return Err(HttpError::history_unavailable()),
            // What came after the answer is for the next request.
            Some(_) => break (cursor, gap),
            None if !tests.is_empty() => tests.iter().for_each(|test| rows.push_test(test)),
            None => break (subscriber.cursor(), gap.filter(|_| has_answer)),
        }
    };
    if gap.is_some() {
        app.status.gaps.add(1);
    }
    let next = match next {
        Some(cursor) => cursor.to_string(),
        None => query.came_with.unwrap_or_else(|| subscriber.opened().head.to_string()),
    };
    Ok(respond(answer(app, &next, gap.as_ref(), &rows)))
}

/// The rows of an answer, as they will stand in it.
#[derive(Default)]
struct Rows {
    json: Vec<u8>,
    count: usize,
}

impl Rows {
    fn push(&mut self, row: &Row, view: &View) {
        if let Some(json) = view.json(row) {
            self.push_json(format_args!("\"{}\"", row.id()), &json);
        }
    }

    fn push_test(&mut self, test: &Greeting) {
        self.push_json(format_args!("null"), view::json(test).as_bytes());
    }

    fn push_json(&mut self, id: std::fmt::Arguments<'_>, json: &[u8]) {
        let comma = if self.count == 0 { "" } else { "," };
        // Writing to memory can't fail.
        let _ = write!(self.json, "{comma}{{\"id\":{id},\"row\":");
        self.json.extend_from_slice(json);
        self.json.push(b'}');
        self.count += 1;
    }
}

fn answer(app: &App, next: &str, gap: Option<&Gap>, rows: &Rows) -> Body {
    let epoch = app.feed.state().epoch;
    let gap = serde_json::to_string(&gap).unwrap_or_default();
    let next = serde_json::Value::from(next);
    let mut body = format!("{{\"epoch\":{epoch},\"next\":{next},\"gap\":{gap},\"events\":[").into_bytes();
    body.extend_from_slice(&rows.json);
    body.extend_from_slice(b"]}");
    Body::from(body)
}

pub(super) fn respond(body: Body) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}
