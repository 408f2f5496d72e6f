//! Connections: accepted up to a limit, watched for stalls, joined at the end.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time,
};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;
use tracing::{debug, error, warn};

use super::App;

/// Connections beyond the limit that are being told so. Beyond these too, they are closed without a word.
const TURNED_AWAY: usize = 256;

/// How long telling it may take.
const TURN_AWAY_TIME: Duration = Duration::from_secs(3);

/// Largest request head, and what may wait to be written, per connection.
const BUFFER_BYTES: usize = 32 * 1024;

/// Pauses after an accept that failed for want of descriptors or memory.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What connections get, by whether there is room for them.
pub(super) struct Routers {
    pub(super) open: Router,
    pub(super) crowded: Router,
}

/// The other end of a request's connection: a proxy's, if there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Accepts until `shutdown`, then raises `stop` and waits for the connections to end, up to `drain`.
pub(super) async fn run(
    listener: TcpListener,
    app: &Arc<App>,
    routers: Routers,
    stop: watch::Sender<bool>,
    shutdown: impl Future<Output = ()>,
) {
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut pause = PAUSE.0;
    loop {
        app.clients.connections.store(connections.len(), Ordering::Relaxed);
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    pause = PAUSE.0;
                    admit(socket, Peer(peer), app, &routers, &mut connections);
                }
                Err(err) if is_the_clients(&err) => {}
                Err(err) => {
                    warn!(error = %err, "accept failed, trying again");
                    tokio::select! {
                        () = &mut shutdown => break,
                        () = time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
                    }
                }
            },
        }
    }
    drop(listener);
    stop.send_replace(true);
    let drained = time::timeout(app.settings.drain, async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    });
    if drained.await.is_err() {
        warn!(connections = connections.len(), "cut the connections that did not end in time");
        connections.shutdown().await;
    }
    app.clients.connections.store(0, Ordering::Relaxed);
}

fn admit(socket: TcpStream, peer: Peer, app: &Arc<App>, routers: &Routers, connections: &mut JoinSet<()>) {
    let here = connections.len();
    let limit = app.settings.max_clients;
    if here < limit {
        connections.spawn(connection(socket, peer, app.clone(), routers.open.clone(), true));
        return;
    }
    app.clients.turned_away.add(1);
    if here < limit.saturating_add(TURNED_AWAY) {
        let answer = connection(socket, peer, app.clone(), routers.crowded.clone(), false);
        connections.spawn(async {
            let _ = time::timeout(TURN_AWAY_TIME, answer).await;
        });
    }
}

async fn connection(socket: TcpStream, peer: Peer, app: Arc<App>, router: Router, keep_alive: bool) {
    // A row should leave at once; where that can't be set, it leaves a little later.
    let _ = socket.set_nodelay(true);
    let mut stream = TimeoutStream::new(socket);
    stream.set_write_timeout(Some(app.settings.write_stall));
    let io = TokioIo::new(Box::pin(stream));
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.settings.header_read)
        .keep_alive(keep_alive)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(io, TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let mut stopping = app.stopping.clone();
    let stopped = async {
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = ended {
        debug!(error = %err, "connection ended");
    }
}

/// An accept error that is about one connection that has gone already.
fn is_the_clients(err: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(err.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(err) = ended
        && err.is_panic()
    {
        error!(error = %err, "a connection's task panicked");
    }
}
