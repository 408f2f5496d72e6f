//! doorcast's HTTP side without a database: rows are published into the feed directly, and a map
//! stands for the table.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use doorcast::{
    feed::{Feed, HistoryUnavailable, Limits, history::History},
    http::{self, Settings},
    id::{Epoch, Key},
    row::EncodedRow,
    status::{Link, Status, now_ms},
};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle, time::timeout};

use crate::deadline::PATIENCE;

/// Awaits a signal that must come.
#[track_caller]
pub(crate) fn within<F: Future>(what: &str, signal: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match timeout(PATIENCE, signal).await {
            Ok(output) => output,
            Err(_) => panic!("{what}: not within {PATIENCE:?}, at {caller}"),
        }
    }
}

/// What stands for the table.
#[derive(Default)]
pub(crate) struct Table {
    rows: Mutex<BTreeMap<Key, EncodedRow>>,
    closed: Mutex<bool>,
    /// Notified at each question.
    pub(crate) asked: Notify,
}

impl Table {
    pub(crate) fn insert(&self, row: EncodedRow) {
        self.rows.lock().unwrap().insert(row.key, row);
    }

    /// From now on it can't be read.
    pub(crate) fn close(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
    }

    fn read(&self, after: Key, through: Key, limit: usize) -> Result<Vec<EncodedRow>, HistoryUnavailable> {
        self.asked.notify_one();
        if *self.closed.lock().unwrap() {
            return Err(HistoryUnavailable);
        }
        let rows = self.rows.lock().unwrap();
        let rows = rows.range(after + 1..).take_while(|(key, _)| **key <= through);
        Ok(rows.take(limit).map(|(_, row)| row.clone()).collect())
    }
}

/// A running HTTP side.
pub(crate) struct Site {
    pub(crate) addr: SocketAddr,
    pub(crate) feed: Feed,
    pub(crate) status: Arc<Status>,
    pub(crate) table: Arc<Table>,
    settings: Settings,
    stop: Arc<Notify>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Site {
    /// With everything as users get it.
    pub(crate) async fn start() -> Self {
        Self::with(Settings::default(), Limits::default()).await
    }

    pub(crate) async fn with(settings: Settings, limits: Limits) -> Self {
        let site = Self::catching_up(settings, limits).await;
        site.feed.set_ready();
        site.status.update(|source| source.link = Link::Following);
        site
    }

    /// As it is before the feed is ready.
    pub(crate) async fn catching_up(settings: Settings, limits: Limits) -> Self {
        let (history, mut requests) = History::channel();
        let feed = Feed::new(limits, history);
        let table = Arc::new(Table::default());
        let answers = table.clone();
        // It ends with the test's runtime.
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                let rows = answers.read(request.after, request.through, request.limit);
                let _ = request.reply.send(rows);
            }
        });
        let status = Arc::new(Status::new("door.vdooropen".into()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = Arc::new(Notify::new());
        let server = serve(listener, &feed, &status, &settings, &stop);
        Site { addr, feed, status, table, settings, stop, server }
    }

    /// Stops, and begins again at the same address. `away` runs in between.
    pub(crate) async fn restart(&mut self, away: impl FnOnce(&Self)) {
        self.stop();
        within("the server to stop", &mut self.server).await.unwrap().unwrap();
        away(self);
        let listener = TcpListener::bind(self.addr).await.unwrap();
        self.stop = Arc::new(Notify::new());
        self.server = serve(listener, &self.feed, &self.status, &self.settings, &self.stop);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// One swipe per key, each in a transaction of its own, committed now.
    pub(crate) fn publish(&self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            self.publish_row(1, swipe(key, 1, "Y"));
        }
    }

    pub(crate) fn publish_row(&self, epoch: Epoch, row: EncodedRow) {
        self.table.insert(row.clone());
        self.feed.publish(epoch, Some(now_ms()), vec![row]);
    }

    /// Its state, as `/api/status` tells it.
    pub(crate) async fn state(&self) -> serde_json::Value {
        let answer = client().get(self.url("/api/status")).send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    /// Waits until it serves so many clients of a kind.
    pub(crate) async fn until_clients(&self, kind: &str, count: u64) {
        within(kind, async { while self.state().await["clients"][kind] != count {} }).await;
    }

    /// Asks it to stop.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stopped(self) -> std::io::Result<()> {
        self.stop();
        within("the server to stop", self.server).await.unwrap()
    }
}

fn serve(
    listener: TcpListener,
    feed: &Feed,
    status: &Arc<Status>,
    settings: &Settings,
    stop: &Arc<Notify>,
) -> JoinHandle<std::io::Result<()>> {
    let stop = stop.clone();
    let stopped = async move { stop.notified().await };
    tokio::spawn(http::serve(listener, feed.clone(), status.clone(), settings.clone(), stopped))
}

/// A row as the access-control system writes it.
pub(crate) fn swipe(key: Key, doorno: i32, ynopen: &str) -> EncodedRow {
    encode(
        key,
        &[
            ("vid", key.to_string()),
            ("doorno", doorno.to_string()),
            ("rfsim", format!("\"{}\"", card(key))),
            ("optime", format!("\"{}\"", time(key))),
            ("ynopen", format!("\"{ynopen}\"")),
        ],
    )
}

/// The card that swipe `key` was made with.
pub(crate) fn card(key: Key) -> String {
    format!("{:016X}", (key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// When it was made, as the controller wrote it.
pub(crate) fn time(key: Key) -> String {
    let seconds = 7 * 3600 + key.rem_euclid(1_000) * 37 % 7200;
    format!("20261120 {:02}{:02}{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A row from its columns and their JSON texts.
pub(crate) fn encode(key: Key, columns: &[(&str, String)]) -> EncodedRow {
    let mut json = String::from("{");
    let mut values = Vec::new();
    for (name, value) in columns {
        let comma = if values.is_empty() { "" } else { "," };
        json += &format!("{comma}\"{name}\":");
        let start = json.len() as u32;
        json += value;
        values.push((start, json.len() as u32));
    }
    json += "}";
    let columns = columns.iter().map(|(name, _)| Box::from(*name)).collect();
    EncodedRow { key, json: json.into_bytes(), values: values.into(), columns, replaced: 0 }
}

/// An HTTP client that goes straight to the site, with a connection for each request: one that waits for
/// another's connection may wait for ever (hyper's issue 2312).
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap()
}

/// An SSE event as a browser reads it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<u64>,
    pub(crate) data: String,
}

impl Event {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// An event stream being read.
pub(crate) struct Events {
    pub(crate) response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Events {
    pub(crate) async fn open(site: &Site, path: &str) -> Self {
        Self::send(client().get(site.url(path))).await
    }

    pub(crate) async fn send(request: reqwest::RequestBuilder) -> Self {
        let response = within("the response's head", request.send()).await.unwrap();
        Events { response, buffer: Vec::new() }
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        within("the next event", async {
            loop {
                if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                    let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                    return Some(parse(std::str::from_utf8(&block).unwrap()));
                }
                match self.response.chunk().await.unwrap() {
                    Some(chunk) => self.buffer.extend_from_slice(&chunk),
                    None => {
                        assert!(self.buffer.is_empty(), "half an event at the end");
                        return None;
                    }
                }
            }
        })
        .await
    }

    /// The next event that is not a ping.
    pub(crate) async fn next_but_ping(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.name != "ping" {
                return event;
            }
        }
    }

    /// The ids of the next `count` rows.
    pub(crate) async fn ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let event = self.next_but_ping().await;
            if event.name.is_empty() && event.retry.is_none() {
                ids.push(event.id.expect("a row has an id"));
            }
        }
        ids
    }
}

fn parse(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines().filter(|line| !line.is_empty()) {
        match line.split_once(": ").unwrap() {
            ("event", name) => event.name = name.into(),
            ("id", id) => event.id = Some(id.into()),
            ("retry", retry) => event.retry = Some(retry.parse().unwrap()),
            ("data", data) => event.data += data,
            _ => panic!("not a field: {line:?}"),
        }
    }
    event
}
