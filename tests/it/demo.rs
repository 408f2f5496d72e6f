//! The demo's server, table, user and swipes, with a reader of the binlog in doorcast's place.

use std::path::PathBuf;

use doorcast::demo::server::PrivateServer;
use doorcast::demo::{self, DemoOptions, Followed};
use futures_util::StreamExt;
use mysql_async::binlog::EventType;
use mysql_async::{BinlogStreamRequest, Conn, Opts};
use tokio::sync::oneshot;

use crate::deadline::deadline;
use crate::servers;

/// Reads the binlog from its start, as the demo's user, until people have swiped `rows` times.
async fn read_swipes(db_url: &str, rows: usize) {
    let conn = Conn::from_url(db_url).await.expect("the demo's user gets in");
    let request = BinlogStreamRequest::new(99).with_filename(b"binlog.000001").with_pos(4);
    let mut binlog = conn.get_binlog_stream(request).await.expect("the demo's user reads the binlog");
    let mut read = 0;
    while read < rows {
        let event = binlog.next().await.expect("the binlog goes on").expect("an event");
        let kind = event.header().event_type();
        if matches!(kind, Ok(EventType::WRITE_ROWS_EVENT | EventType::WRITE_ROWS_EVENT_V1)) {
            read += 1;
        }
    }
}

fn options(server: &PrivateServer) -> DemoOptions {
    let server = Some(server.binary().path().to_owned());
    DemoOptions { server, listen: "127.0.0.1:0".into(), rate: 6000 }
}

#[tokio::test]
async fn demo_swipes_reach_a_user_of_least_rights_and_leave_nothing() {
    for server in servers::all().await {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { stopped.await.expect("the reader says when") };
        let mut folder = PathBuf::new();
        let outcome = demo::run(options(server), shutdown, async |followed: Followed, shutdown| {
            assert_eq!(followed.table, "vdooropen");
            let socket = Opts::from_url(&followed.db_url)?.socket().map(PathBuf::from).expect("by socket");
            folder = socket.parent().expect("in a folder").to_owned();
            assert!(folder.is_dir());
            read_swipes(&followed.db_url, 50).await;
            stop.send(()).expect("the demo listens");
            shutdown.await;
            Ok(())
        });
        deadline(outcome).await.expect("the demo ends in good order");
        assert!(!folder.exists(), "{}: {} is gone", server.name(), folder.display());
    }
}

#[tokio::test]
async fn demo_says_that_its_address_is_taken() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let options = DemoOptions { server: None, listen: listen.clone(), rate: 1 };
    let outcome = demo::run(options, std::future::pending(), async |_, _| Ok(())).await;
    let message = outcome.expect_err("two can't listen on one port").to_string();
    assert!(message.contains(&listen), "{message}");
}
