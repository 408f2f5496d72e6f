//! The network between two programs, as the tests want it: a TCP proxy that can stall, trickle and cut.

// The fault suite uses the rest.
#![allow(dead_code)]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// A listener on a port of its own, and its connections to one address. Ended with its handle.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    to: Arc<watch::Sender<SocketAddr>>,
    connections: Connections,
    /// How connections to come begin.
    begin: Arc<watch::Sender<Way>>,
    accepting: JoinHandle<()>,
}

type Connections = Arc<Mutex<Vec<watch::Sender<Way>>>>;

/// What happens to a connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// They pass.
    Open,
    /// They go nowhere, and nobody is told: the connection is half open.
    Stalled,
    /// So many pass every 10 ms, in each direction.
    Slow(usize),
    /// So many more pass on the way to the client, then the connection is cut.
    CutAfter(usize),
    /// Both ends see the end of the stream.
    Closed,
    /// Both ends see a reset.
    Reset,
}

const TICK: Duration = Duration::from_millis(10);

impl Proxy {
    /// On the way to `to`.
    pub(crate) async fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Connections::default();
        let begin = Arc::new(watch::Sender::new(Way::Open));
        let to = Arc::new(watch::Sender::new(to));
        let (known, way, leads_to) = (Arc::clone(&connections), Arc::clone(&begin), Arc::clone(&to));
        let accepting = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (sender, receiver) = watch::channel(*way.borrow());
                let mut known = known.lock().unwrap();
                known.retain(|connection| connection.receiver_count() > 0);
                known.push(sender);
                open.spawn(connection(client, *leads_to.borrow(), receiver));
                while open.try_join_next().is_some() {}
            }
        });
        Proxy { port, to, connections, begin, accepting }
    }

    /// Has connections to come lead to another address.
    pub(crate) fn lead_to(&self, to: SocketAddr) {
        self.to.send_replace(to);
    }

    /// Changes the connections that there are; new ones begin [`Way::Open`].
    pub(crate) fn set(&self, way: Way) {
        for connection in self.connections.lock().unwrap().iter() {
            connection.send_replace(way);
        }
    }

    /// Changes the oldest connection alone.
    pub(crate) fn set_first(&self, way: Way) {
        self.set_one(way, |_| 0);
    }

    /// Changes the second oldest connection alone.
    pub(crate) fn set_second(&self, way: Way) {
        self.set_one(way, |_| 1);
    }

    /// Changes the newest connection alone.
    pub(crate) fn set_newest(&self, way: Way) {
        self.set_one(way, |count| count - 1);
    }

    /// `which` is given how many there are.
    fn set_one(&self, way: Way, which: impl FnOnce(usize) -> usize) {
        let connections = self.connections.lock().unwrap();
        let open: Vec<_> = connections.iter().filter(|connection| connection.receiver_count() > 0).collect();
        open[which(open.len())].send_replace(way);
    }

    /// Closes the connections that are [`Way::Stalled`].
    pub(crate) fn drop_stalled(&self) {
        for connection in self.connections.lock().unwrap().iter() {
            connection.send_if_modified(|way| {
                let stalled = *way == Way::Stalled;
                if stalled {
                    *way = Way::Closed;
                }
                stalled
            });
        }
    }

    /// Changes all of them, those to come too.
    pub(crate) fn set_for_all(&self, way: Way) {
        self.begin.send_replace(way);
        self.set(way);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(mut client: TcpStream, to: SocketAddr, way: watch::Receiver<Way>) {
    // Who cannot be reached refuses, and so does the proxy.
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut end = way.clone();
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let ended = end.wait_for(|way| matches!(way, Way::Closed | Way::Reset));
        tokio::select! {
            // What was stalled does not pass once more.
            biased;
            _ = ended => {}
            () = pass(from_client, to_server, way.clone(), false) => {}
            () = pass(from_server, to_client, way, true) => {}
        }
    }
    if *end.borrow() == Way::Reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Passes bytes until one side ends, or the connection is to be cut.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut way: watch::Receiver<Way>, to_client: bool) {
    let mut buffer = vec![0; 16 * 1024];
    let mut until_cut = None;
    loop {
        let now = *way.borrow_and_update();
        let limit = match now {
            Way::Stalled => {
                if way.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Way::Slow(bytes) => bytes,
            Way::CutAfter(bytes) if to_client => *until_cut.get_or_insert(bytes),
            _ => buffer.len(),
        };
        if limit == 0 {
            return;
        }
        let limit = limit.min(buffer.len());
        let read = tokio::select! {
            read = from.read(&mut buffer[..limit]) => read,
            _ = way.changed() => continue,
        };
        let Ok(read @ 1..) = read else { return };
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        if let Some(left) = &mut until_cut {
            *left -= read;
        }
        if matches!(now, Way::Slow(_)) {
            tokio::time::sleep(TICK).await;
        }
    }
}
