//! Clients as screens are: they come back with their last id, whatever happens, and keep what they read.

use reqwest::Client;
use serde_json::value::RawValue;
use tokio::{sync::watch, task::JoinHandle};

use crate::process::Doorcast;

/// Rows as a client read them: their ids and their JSON.
pub(crate) type Rows = Vec<(String, String)>;

/// A client that reads until a row has this in it.
pub(crate) const LAST_ROW: &str = "\"doorno\":999,";

/// One that is running.
pub(crate) struct Reader {
    task: JoinHandle<Rows>,
    /// How many rows it has.
    pub(crate) count: watch::Receiver<usize>,
}

/// What a reader carries along.
struct State {
    base: String,
    starts: watch::Receiver<u32>,
    client: Client,
    cursor: Option<String>,
    rows: Rows,
    count: watch::Sender<usize>,
}

/// How a connection ended.
enum End {
    LastRow,
    Cut,
}

impl Reader {
    /// By SSE; `query` is for the first connection, later ones go by `Last-Event-ID`.
    pub(crate) fn sse(doorcast: &Doorcast, query: &str) -> Reader {
        Reader::start(doorcast, query, true)
    }

    /// By long poll.
    pub(crate) fn poll(doorcast: &Doorcast, query: &str) -> Reader {
        Reader::start(doorcast, query, false)
    }

    fn start(doorcast: &Doorcast, query: &str, sse: bool) -> Reader {
        let (count, counted) = watch::channel(0);
        let state = State {
            base: doorcast.url(""),
            starts: doorcast.starts.subscribe(),
            client: crate::site::client(),
            cursor: None,
            rows: Vec::new(),
            count,
        };
        let query = query.to_owned();
        let task =
            tokio::spawn(
                async move { if sse { state.by_sse(query).await } else { state.by_poll(query).await } },
            );
        Reader { task, count: counted }
    }

    /// Waits until it has `count` rows.
    pub(crate) async fn has(&mut self, count: usize) {
        crate::deadline::deadline(self.count.wait_for(|has| *has >= count)).await.unwrap();
    }

    /// All rows up to the last.
    pub(crate) async fn finish(self) -> Rows {
        crate::deadline::deadline(self.task).await.unwrap()
    }
}

impl State {
    async fn by_sse(mut self, first: String) -> Rows {
        loop {
            let start = *self.starts.borrow_and_update();
            match self.one_stream(&first).await {
                Ok(End::LastRow) => return self.rows,
                Ok(End::Cut) | Err(_) => self.wait_for_start_after(start).await,
            }
        }
    }

    async fn one_stream(&mut self, first: &str) -> reqwest::Result<End> {
        let request = match &self.cursor {
            Some(id) => self.client.get(format!("{}/events", self.base)).header("Last-Event-ID", id),
            None => self.client.get(format!("{}/events{first}", self.base)),
        };
        let mut response = request.send().await?;
        let mut buffer = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            buffer.extend_from_slice(&chunk);
            let mut taken = 0;
            while let Some(end) = buffer[taken..].windows(2).position(|two| two == b"\n\n") {
                let event = String::from_utf8(buffer[taken..taken + end].to_vec()).unwrap();
                taken += end + 2;
                if self.event(&event) {
                    return Ok(End::LastRow);
                }
            }
            buffer.drain(..taken);
        }
        Ok(End::Cut)
    }

    /// Whether it was the last row.
    fn event(&mut self, event: &str) -> bool {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        assert_ne!(field("event: "), Some("gap"), "{event}");
        if let Some(id) = field("id: ") {
            self.cursor = Some(id.to_owned());
        }
        match (field("event: "), field("id: "), field("data: ")) {
            (None, Some(id), Some(data)) => self.row(id, data),
            (Some("hello"), ..) => {
                self.count.send_modify(|_| {});
                false
            }
            _ => false,
        }
    }

    fn row(&mut self, id: &str, json: &str) -> bool {
        self.rows.push((id.to_owned(), json.to_owned()));
        let last = json.contains(LAST_ROW);
        self.count.send_replace(self.rows.len());
        last
    }

    async fn by_poll(mut self, first: String) -> Rows {
        loop {
            let start = *self.starts.borrow_and_update();
            match self.one_poll(&first).await {
                Ok(End::LastRow) => return self.rows,
                Ok(End::Cut) => {}
                Err(_) => self.wait_for_start_after(start).await,
            }
        }
    }

    async fn one_poll(&mut self, first: &str) -> reqwest::Result<End> {
        #[derive(serde::Deserialize)]
        struct Answer {
            next: String,
            gap: Option<serde_json::Value>,
            events: Vec<Event>,
        }
        #[derive(serde::Deserialize)]
        struct Event {
            id: String,
            row: Box<RawValue>,
        }
        let query =
            self.cursor.as_ref().map_or_else(|| first.to_owned(), |id| format!("?since={id}&limit=500"));
        let response =
            self.client.get(format!("{}/poll{query}", self.base)).send().await?.error_for_status()?;
        let answer: Answer = serde_json::from_slice(&response.bytes().await?).unwrap();
        assert!(answer.gap.is_none(), "{:?}", answer.gap);
        self.cursor = Some(answer.next);
        let mut last = false;
        for event in answer.events {
            last = self.row(&event.id, event.row.get()) || last;
        }
        Ok(if last { End::LastRow } else { End::Cut })
    }

    async fn wait_for_start_after(&mut self, start: u32) {
        let _ = self.starts.wait_for(|starts| *starts > start).await;
    }
}
