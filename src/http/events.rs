//! `GET /events`: server-sent events.
//!
//! An `EventSource` gives up for good on any status but 200, so overload and shutdown are told to it as
//! a stream that ends after a longer `retry:`.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderName, Method, header},
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{
    future::{BoxFuture, FutureExt},
    stream::unfold,
};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{self, Instant, Interval, MissedTickBehavior},
};

use super::{
    App,
    clients::{Client, Kind},
    error::HttpError,
    pause::Pause,
    query::Query,
    view::{self, View},
};
use crate::{
    feed::{Cursor, FeedState, Gap, HistoryUnavailable, Next, Row, Start, Subscriber},
    id::{Epoch, EventId},
    people::Greeting,
    status::now_ms,
};

/// Rows that are taken from the feed in one step.
const BATCH: usize = 250;

/// When to come back, in milliseconds: after a lost connection, a shutdown, an overload.
const RETRY_MS: std::ops::RangeInclusive<u32> = 2_000..=4_000;
const RETRY_SHUTDOWN_MS: std::ops::RangeInclusive<u32> = 4_000..=10_000;
const RETRY_OVERLOAD_MS: std::ops::RangeInclusive<u32> = 15_000..=45_000;

pub(super) async fn events(State(app): State<Arc<App>>, request: Request) -> Result<Response, HttpError> {
    let columns = app.feed.state().columns;
    let query = Query::read(request.uri().query(), request.headers(), columns.as_deref())?;
    if request.method() == Method::HEAD {
        return Ok(respond(Body::empty()));
    }
    Ok(stream(app, query.start, View::Rows(query.filter), Kind::Events))
}

/// The stream of what a view shows.
pub(super) fn stream(app: Arc<App>, start: Start, view: View, kind: Kind) -> Response {
    let events = Events::new(app, start, view, kind);
    let chunks = unfold(events, |mut events| async move {
        let chunk = events.chunk().await?;
        if let Some(screen) = events.view.screen() {
            screen.connected.sent();
        }
        Some((Ok::<_, Infallible>(chunk), events))
    });
    respond(Body::from_stream(chunks))
}

/// What an `EventSource` gets when there are too many.
pub(super) async fn come_back() -> Response {
    respond(Body::from(retry(RETRY_OVERLOAD_MS)))
}

pub(super) fn respond(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

/// One client's stream.
struct Events {
    app: Arc<App>,
    stage: Stage,
    view: Arc<View>,
    ping: Interval,
    stopping: watch::Receiver<bool>,
    /// When older rows may be asked for again, after they could not be read.
    again_at: Option<Instant>,
    pause: Pause,
    _client: Client,
}

enum Stage {
    /// Nothing was sent.
    Begin(BoxFuture<'static, Subscriber>),
    /// The feed is not ready yet.
    Opening(BoxFuture<'static, Subscriber>),
    Open(Box<Subscriber>),
    Ended,
}

enum Turn {
    Stop,
    Ping,
    Opened(Box<Subscriber>),
    Next(Result<Next, HistoryUnavailable>),
    Tests(Vec<Greeting>),
}

impl Events {
    fn new(app: Arc<App>, start: Start, view: View, kind: Kind) -> Self {
        let heartbeat = app.settings.heartbeat;
        let mut ping = time::interval_at(Instant::now() + heartbeat, heartbeat);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let view = Arc::new(view);
        let (feed, wanted) = (app.feed.clone(), view.clone());
        let open = async move { feed.subscribe(start, |row| wanted.wants(row)).await }.boxed();
        Events {
            stage: Stage::Begin(open),
            view,
            ping,
            stopping: app.stopping.clone(),
            again_at: None,
            pause: Pause::default(),
            _client: Client::count_in(&app, kind),
            app,
        }
    }

    /// What to send next; `None` at the end.
    async fn chunk(&mut self) -> Option<Bytes> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Begin(open) => {
                    self.stage = Stage::Opening(open);
                    return Some(retry(RETRY_MS));
                }
                Stage::Ended => return None,
                stage => self.stage = stage,
            }
            match self.turn().await {
                Turn::Stop => {
                    self.stage = Stage::Ended;
                    return Some(retry(RETRY_SHUTDOWN_MS));
                }
                Turn::Ping => return Some(self.ping()),
                Turn::Opened(subscriber) => {
                    let hello = self.hello(&subscriber);
                    self.stage = Stage::Open(subscriber);
                    return Some(hello);
                }
                Turn::Next(Ok(Next::Rows(rows))) => {
                    self.pause = Pause::default();
                    let Some(chunk) = self.frames(&rows) else { continue };
                    return Some(match self.cursor() {
                        // The row's own id would bring what followed its first place once more.
                        Some(Cursor::Again(..)) => Bytes::from([chunk, self.ping()].concat()),
                        _ => chunk,
                    });
                }
                Turn::Next(Ok(Next::Gap(gap))) => {
                    self.app.status.gaps.add(1);
                    return Some(self.gap(&gap));
                }
                Turn::Tests(tests) => return Some(frames_without_id(&tests)),
                Turn::Next(Err(HistoryUnavailable)) => {
                    self.again_at = Some(Instant::now() + self.pause.next());
                }
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let Events { stage, stopping, ping, again_at, view, .. } = self;
        let advance = async {
            match stage {
                Stage::Opening(open) => Turn::Opened(Box::new(open.await)),
                Stage::Open(subscriber) => {
                    if let Some(at) = *again_at {
                        time::sleep_until(at).await;
                        *again_at = None;
                    }
                    Turn::Next(subscriber.next(BATCH).await)
                }
                Stage::Begin(_) | Stage::Ended => Turn::Stop,
            }
        };
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => Turn::Stop,
            _ = ping.tick() => Turn::Ping,
            turn = advance => turn,
            tests = view.tests() => Turn::Tests(tests),
        }
    }

    fn cursor(&self) -> Option<Cursor> {
        match &self.stage {
            Stage::Open(subscriber) => subscriber.cursor(),
            _ => None,
        }
    }

    /// The frames of the rows that the client wants.
    fn frames(&self, rows: &[Arc<Row>]) -> Option<Bytes> {
        let mut wanted = rows.iter().filter_map(|row| self.view.frame(row));
        let first = wanted.next()?;
        let Some(second) = wanted.next() else { return Some(first) };
        // Many small frames are cheaper to write as one.
        let mut chunk = BytesMut::with_capacity(rows.iter().map(|row| row.frame().len()).sum());
        [first, second].into_iter().chain(wanted).for_each(|frame| chunk.put_slice(&frame));
        Some(chunk.freeze())
    }

    fn hello(&self, subscriber: &Subscriber) -> Bytes {
        let FeedState { epoch, head, oldest, .. } = *subscriber.opened();
        let heartbeat_ms = self.app.settings.heartbeat.as_millis();
        let clock = self.view.screen().map(|screen| {
            let now_ms = now_ms();
            SiteClock { now_ms, utc_offset_s: screen.people.greeter().clock.utc_offset_s(now_ms) }
        });
        frame("hello", subscriber.cursor(), &Hello { epoch, head, oldest, heartbeat_ms, clock })
    }

    fn ping(&self) -> Bytes {
        frame("ping", self.cursor(), &Ping { now_ms: now_ms() })
    }

    fn gap(&self, gap: &Gap) -> Bytes {
        // Where it goes on with the head, the head is a cursor; else the next row's id will be.
        let cursor = self.cursor().filter(|cursor| cursor.names(gap.resumes_at));
        frame("gap", cursor, gap)
    }
}

#[derive(Serialize)]
struct Hello {
    epoch: Epoch,
    head: EventId,
    oldest: Option<EventId>,
    heartbeat_ms: u128,
    /// Only for screens, which show the time.
    #[serde(flatten)]
    clock: Option<SiteClock>,
}

/// The time at the site.
#[derive(Serialize)]
struct SiteClock {
    now_ms: u64,
    utc_offset_s: i32,
}

#[derive(Serialize)]
struct Ping {
    now_ms: u64,
}

/// Messages that leave the client's cursor where it is.
fn frames_without_id(tests: &[Greeting]) -> Bytes {
    let frames: String = tests.iter().map(|test| format!("data: {}\n\n", view::json(test))).collect();
    Bytes::from(frames)
}

fn frame(event: &str, id: Option<Cursor>, data: &impl Serialize) -> Bytes {
    // Only strings, numbers and ids: serialising them can't fail.
    let data = serde_json::to_string(data).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    Bytes::from(format!("event: {event}\n{id}data: {data}\n\n"))
}

fn retry(range_ms: std::ops::RangeInclusive<u32>) -> Bytes {
    Bytes::from(format!("retry: {}\n\n", fastrand::u32(range_ms)))
}
