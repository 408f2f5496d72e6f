//! Clients of `/events`, each a raw socket: the bench must not measure an HTTP library.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use doorcast::id::{EventId, Key};
use tokio::net::TcpSocket;

/// Longer than anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the kernel may keep for a client that does not read.
const SMALL_BUFFER_BYTES: u32 = 4096;

/// An event stream, read line by line.
pub(crate) struct Screen {
    socket: TcpStream,
    buffer: Vec<u8>,
    id: Option<EventId>,
    event: String,
}

/// What came.
pub(crate) enum Came {
    /// A row.
    Row(Key),
    /// Any other event, for instance `hello`, with the head as its id.
    Other(String, Option<EventId>),
}

impl Screen {
    /// Asks for the stream, and returns at once. The rest blocks.
    pub(crate) fn open(address: SocketAddr, query: &str) -> Result<Screen> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        ask(&mut socket, query)?;
        Ok(Screen { socket, buffer: Vec::new(), id: None, event: String::new() })
    }

    /// Waits until the feed is ready, and returns its head.
    pub(crate) fn hello(&mut self) -> Result<EventId> {
        let mut head = None;
        while head.is_none() {
            self.read(|came| {
                if let Came::Other(event, id) = came
                    && event == "hello"
                {
                    head = id;
                }
            })?;
        }
        head.context("no hello")
    }

    /// Reads what the socket has, and gives each event to `took`.
    pub(crate) fn read(&mut self, mut took: impl FnMut(Came)) -> Result<()> {
        let mut bytes = [0; 16 * 1024];
        let length = self.socket.read(&mut bytes).context("reading /events")?;
        if length == 0 {
            bail!("/events ended");
        }
        self.buffer.extend_from_slice(bytes.get(..length).unwrap_or_default());
        let mut lines = std::mem::take(&mut self.buffer);
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = lines.drain(..=end).collect();
            self.line(std::str::from_utf8(&line)?.trim_end_matches('\n'), &mut took);
        }
        self.buffer = lines;
        Ok(())
    }

    /// The head of the response and the lengths of its chunks are no fields, so they pass unseen.
    fn line(&mut self, line: &str, took: &mut impl FnMut(Came)) {
        if let Some(id) = line.strip_prefix("id: ") {
            self.id = id.parse().ok();
        } else if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut self.event);
        } else if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            match (event.is_empty(), self.id.take()) {
                (true, Some(id)) => took(Came::Row(id.key)),
                (true, None) => {}
                (false, id) => took(Came::Other(event, id)),
            }
        }
    }
}

/// A client that asks for the whole feed and then reads nothing, and one that reads 10 kB a second.
/// They go when this is dropped.
pub(crate) struct BadCompany {
    _stalled: TcpStream,
    leave: Arc<AtomicBool>,
    slow: Option<JoinHandle<()>>,
}

impl BadCompany {
    pub(crate) async fn join(address: SocketAddr) -> Result<BadCompany> {
        let stalled = with_small_buffer(address).await?;
        let mut slow = with_small_buffer(address).await?;
        let leave = Arc::new(AtomicBool::new(false));
        let left = Arc::clone(&leave);
        slow.set_read_timeout(Some(Duration::from_millis(100)))?;
        let slow = thread::spawn(move || {
            let mut bytes = [0; 1024];
            while !left.load(Ordering::Relaxed) {
                match slow.read(&mut bytes) {
                    Ok(0) => return,
                    Ok(_) => thread::sleep(Duration::from_millis(100)),
                    Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => return,
                }
            }
        });
        Ok(BadCompany { _stalled: stalled, leave, slow: Some(slow) })
    }
}

impl Drop for BadCompany {
    fn drop(&mut self) {
        self.leave.store(true, Ordering::Relaxed);
        if let Some(slow) = self.slow.take() {
            let _ = slow.join(); // it measures nothing
        }
    }
}

/// How many event streams the process says that it serves.
pub(crate) fn clients(address: SocketAddr) -> Result<u64> {
    let mut socket = TcpStream::connect(address)?;
    write!(socket, "GET /api/status HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer from /api/status")?;
    let status: serde_json::Value = serde_json::from_str(body)?;
    status.pointer("/clients/events").and_then(serde_json::Value::as_u64).context("no clients in /api/status")
}

async fn with_small_buffer(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SMALL_BUFFER_BYTES)?;
    let mut socket = socket.connect(address).await?.into_std()?;
    socket.set_nonblocking(false)?;
    ask(&mut socket, "?since=earliest")?;
    Ok(socket)
}

fn ask(socket: &mut TcpStream, query: &str) -> Result<()> {
    write!(socket, "GET /events{query} HTTP/1.1\r\nHost: {}\r\n\r\n", socket.peer_addr()?)?;
    Ok(())
}
