//! Clients as screens are: they come back with their last id, whatever happens, and keep what they read.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{get::get, swipes::Card};

/// After a connection that ended, a client waits as long before the next.
const RETRY: Duration = Duration::from_millis(50);

/// A client that reads for ever.
pub(crate) struct Screen {
    pub(crate) name: String,
    record: Arc<Mutex<Record>>,
    changed: watch::Receiver<()>,
    task: JoinHandle<()>,
}

/// What a client has read.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// In the order in which they came.
    pub(crate) rows: Vec<Row>,
    cards: HashSet<Card>,
    /// Gaps that it was told of.
    pub(crate) gaps: Vec<String>,
    /// Answers that it could not make sense of.
    pub(crate) complaints: Vec<String>,
    cursor: Option<String>,
    /// What it waits for.
    waits_for: &'static str,
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) epoch: u32,
    pub(crate) key: i64,
    pub(crate) card: Card,
    /// A hash of its JSON, which tells as well whether it is right.
    pub(crate) json: u64,
    pub(crate) at: Instant,
    /// How many gaps it had been told of.
    pub(crate) gaps: usize,
}

/// A row by its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) epoch: u32,
    pub(crate) key: i64,
    pub(crate) card: Card,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Sse,
    Poll,
}

impl Screen {
    /// Starts to read from `address`, from now on, and waits until that is a place.
    pub(crate) async fn open(name: String, by: By, address: SocketAddr) -> Screen {
        let mut screen = Screen::start(name, by, address, Record::default());
        let record = &screen.record;
        let has_place = |_: &()| record.lock().unwrap().cursor.is_some();
        crate::deadline::deadline(screen.changed.wait_for(has_place)).await.unwrap();
        screen
    }

    /// Starts to read behind the row that another one got last.
    pub(crate) fn behind(name: String, by: By, address: SocketAddr, place: Place) -> Screen {
        let cursor = Some(format!("{}-{}", place.epoch, place.key));
        Screen::start(name, by, address, Record { cursor, ..Record::default() })
    }

    fn start(name: String, by: By, address: SocketAddr, record: Record) -> Screen {
        let record = Arc::new(Mutex::new(record));
        let (sender, changed) = watch::channel(());
        let reader = Reader { address, record: Arc::clone(&record), changed: sender };
        let task = tokio::spawn(reader.read(by));
        Screen { name, record, changed, task }
    }

    /// The row that it got last.
    pub(crate) fn place(&self) -> Option<Place> {
        let record = self.record.lock().unwrap();
        record.rows.last().map(|row| Place { epoch: row.epoch, key: row.key, card: row.card })
    }

    /// Waits until it has the rows.
    pub(crate) async fn has(&mut self, cards: &[Card]) {
        let record = &self.record;
        let has_all = |_: &()| {
            let record = record.lock().unwrap();
            cards.iter().all(|card| record.cards.contains(card))
        };
        let _ = self.changed.wait_for(has_all).await;
    }

    /// What it waits for, for people.
    pub(crate) fn waits_for(&self) -> &'static str {
        self.record.lock().unwrap().waits_for
    }

    /// Stops reading.
    pub(crate) async fn close(self) -> Record {
        self.task.abort();
        let _ = self.task.await; // aborted, so an error by design
        std::mem::take(&mut *self.record.lock().unwrap())
    }
}

struct Reader {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    changed: watch::Sender<()>,
}

impl Reader {
    async fn read(self, by: By) {
        loop {
            let ended = match by {
                By::Sse => self.stream().await,
                By::Poll => self.poll().await,
            };
            // A cut connection is what this is about; an answer that makes no sense is a finding.
            let is_cut = |err: &io::Error| err.kind() != io::ErrorKind::InvalidData;
            if let Err(err) = &ended
                && !err.downcast_ref().is_some_and(is_cut)
            {
                self.record.lock().unwrap().complaints.push(format!("{err:#}"));
            }
            if by == By::Sse || ended.is_err() {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    fn waits_for(&self, what: &'static str) {
        self.record.lock().unwrap().waits_for = what;
    }

    fn cursor(&self) -> Option<String> {
        self.record.lock().unwrap().cursor.clone()
    }

    async fn stream(&self) -> Result<()> {
        self.waits_for("an event stream's head");
        let mut response = get(self.address, "/events", self.cursor().as_deref()).await?;
        self.waits_for("an event");
        ensure!(response.status == 200, "an event stream answered {}", response.status);
        let mut buffer = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            buffer.extend_from_slice(&chunk);
            let mut taken = 0;
            while let Some(end) = buffer[taken..].windows(2).position(|two| two == b"\n\n") {
                let event = std::str::from_utf8(&buffer[taken..taken + end])?;
                self.event(event).with_context(|| event.to_owned())?;
                taken += end + 2;
            }
            buffer.drain(..taken);
            self.changed.send_replace(());
        }
        Ok(())
    }

    fn event(&self, event: &str) -> Result<()> {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let mut record = self.record.lock().unwrap();
        let id = field("id: ");
        if let Some(id) = id {
            record.cursor = Some(id.to_owned());
        }
        match (field("event: "), id, field("data: ")) {
            (None, Some(id), Some(row)) => record.row(id, row)?,
            (Some("hello"), _, Some(hello)) if record.cursor.is_none() => {
                let hello: serde_json::Value = serde_json::from_str(hello)?;
                record.cursor = hello["head"].as_str().map(str::to_owned);
            }
            (Some("gap"), _, Some(gap)) => record.gaps.push(gap.to_owned()),
            (Some("hello" | "ping"), ..) => {}
            (None, None, None) if field("retry: ").is_some() => {}
            _ => bail!("not an event that it knows"),
        }
        Ok(())
    }

    async fn poll(&self) -> Result<()> {
        #[derive(Deserialize)]
        struct Answer {
            next: String,
            gap: Option<serde_json::Value>,
            events: Vec<Event>,
        }
        #[derive(Deserialize)]
        struct Event {
            id: String,
            row: Box<RawValue>,
        }
        let path = match self.cursor() {
            Some(cursor) => format!("/poll?since={cursor}&timeout=5&limit=200"),
            None => "/poll?timeout=1".to_owned(),
        };
        self.waits_for("a poll's head");
        let mut response = get(self.address, &path, None).await?;
        self.waits_for("a poll's body");
        let body = response.chunk().await?.unwrap_or_default();
        if response.status == 503 {
            return Err(io::Error::other("it is to come again").into());
        }
        ensure!(response.status == 200, "a poll answered {}", response.status);
        let answer: Answer = serde_json::from_slice(&body).context("a poll's answer")?;
        let mut record = self.record.lock().unwrap();
        record.gaps.extend(answer.gap.map(|gap| gap.to_string()));
        for event in answer.events {
            record.row(&event.id, event.row.get())?;
        }
        record.cursor = Some(answer.next);
        drop(record);
        self.changed.send_replace(());
        Ok(())
    }
}

impl Record {
    /// Takes down a row that came.
    pub(crate) fn row(&mut self, id: &str, json: &str) -> Result<()> {
        let (epoch, key) = id.split_once('-').context("not an id")?;
        let (epoch, key) = (epoch.parse()?, key.parse()?);
        let card = json.split_once("\"rfsim\":\"").and_then(|(_, card)| card.split('"').next());
        let card = card.and_then(|card| Card::from_str_radix(card, 16).ok()).context("no card")?;
        self.cards.insert(card);
        let (at, gaps) = (Instant::now(), self.gaps.len());
        self.rows.push(Row { epoch, key, card, json: hash(json), at, gaps });
        Ok(())
    }
}

/// Short for a text, the same in the whole run.
pub(crate) fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
