//! Bytes that are damaged on the way, or stand damaged in the server's binlog: a proxy rewrites events
//! between a real server and doorcast. Every row still arrives once.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use doorcast::{checkpoint::CheckpointFile, demo::server::PrivateServer};
use mysql_async::prelude::Queryable;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{JoinHandle, JoinSet},
};

use crate::{
    scene::{Scene, swipe},
    servers::{self, PASSWORD, each_kind},
};

const QUERY: u8 = 2;
const XID: u8 = 16;
const INCIDENT: u8 = 26;
/// No server has such an event yet.
const OF_THE_FUTURE: u8 = 150;
const TABLE_MAP: u8 = 19;
const WRITE_ROWS_V1: u8 = 23;
const WRITE_ROWS: u8 = 30;
const TRANSACTION_PAYLOAD: u8 = 40;

const COM_BINLOG_DUMP: u8 = 0x12;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;

const HEADER: usize = 19;
const TYPE: usize = 4;
const SIZE: std::ops::Range<usize> = 9..13;
const LOG_POS: std::ops::Range<usize> = 13..17;

/// Changes one event, with its header and its checksum.
type Rewrite = Arc<Mutex<dyn FnMut(&mut Vec<u8>) + Send>>;

/// A proxy that knows MySQL's packets, without TLS. Ended with its handle.
struct Rewriter {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Rewriter {
    async fn start(server: &PrivateServer, rewrite: impl FnMut(&mut Vec<u8>) + Send + 'static) -> Rewriter {
        let to = SocketAddr::from(([127, 0, 0, 1], server.port()));
        let rewrite: Rewrite = Arc::new(Mutex::new(rewrite));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let rewrite = Arc::clone(&rewrite);
                open.spawn(async move {
                    let server = TcpStream::connect(to).await?;
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let dumping = AtomicBool::new(false);
                    tokio::select! {
                        ended = requests(from_client, to_server, &dumping) => ended,
                        ended = answers(from_server, to_client, &dumping, &rewrite) => ended,
                    }
                });
            }
        });
        Rewriter { port, accepting }
    }
}

impl Drop for Rewriter {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A packet: its sequence number and its payload.
async fn packet(from: &mut OwnedReadHalf) -> std::io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    from.read_exact(&mut header).await?;
    let [a, b, c, sequence] = header;
    let mut payload = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
    from.read_exact(&mut payload).await?;
    Ok((sequence, payload))
}

async fn send(to: &mut OwnedWriteHalf, sequence: u8, payload: &[u8]) -> std::io::Result<()> {
    let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
    to.write_all(&[&[a, b, c, sequence], payload].concat()).await
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    dumping: &AtomicBool,
) -> std::io::Result<()> {
    loop {
        let (sequence, payload) = packet(&mut from).await?;
        if sequence == 0 && matches!(payload.first(), Some(&(COM_BINLOG_DUMP | COM_BINLOG_DUMP_GTID))) {
            dumping.store(true, Ordering::Release);
        }
        send(&mut to, sequence, &payload).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    dumping: &AtomicBool,
    rewrite: &Rewrite,
) -> std::io::Result<()> {
    loop {
        let (sequence, mut payload) = packet(&mut from).await?;
        let whole = payload.len() > HEADER
            && payload.get(1..).and_then(|event| event.get(SIZE)).is_some_and(|size| {
                u32::from_le_bytes(size.try_into().unwrap()) as usize == payload.len() - 1
            });
        if dumping.load(Ordering::Acquire) && payload[0] == 0 && whole {
            let mut event = payload.split_off(1);
            rewrite.lock().unwrap()(&mut event);
            payload.extend(event);
        }
        send(&mut to, sequence, &payload).await?;
    }
}

/// Gives the event the checksum of what it is now.
fn sign(event: &mut [u8]) {
    let (body, sum) = event.split_last_chunk_mut::<4>().unwrap();
    *sum = crc32fast::hash(body).to_le_bytes();
}

fn is_insert(event: &[u8]) -> bool {
    matches!(event[TYPE], WRITE_ROWS | WRITE_ROWS_V1)
}

/// A scene whose events go through `rewrite`, of which the last decoder line is that of doorcast.
async fn scene(
    kind: &'static str,
    server_options: &[&str],
    rewrite: impl FnMut(&mut Vec<u8>) + Send + 'static,
) -> (Scene, Rewriter) {
    let server = servers::private(kind, server_options).await;
    let mut root = server.root(None).await.unwrap();
    servers::create(&mut root, "doors", "doorcast").await;
    if kind == "mysql-9.7" {
        // So that the server has the password in its cache, and does not ask for TLS.
        let direct = format!("mysql://doorcast:{PASSWORD}@127.0.0.1:{}/doors", server.port());
        mysql_async::Conn::from_url(direct).await.unwrap().disconnect().await.unwrap();
    }
    let rewriter = Rewriter::start(&server, rewrite).await;
    let db = format!("mysql://doorcast:{PASSWORD}@127.0.0.1:{}/doors", rewriter.port);
    let scene = Scene::through(kind, server, &db, &["--ssl-mode", "disabled"]).await;
    (scene, rewriter)
}

/// Inserts rows one by one while `rewrite` is at work, and checks that each came once, and that it did change something.
async fn every_row_comes_once(
    kind: &'static str,
    server_options: &[&str],
    mut rewrite: impl FnMut(&mut Vec<u8>) + Send + 'static,
    logged: &str,
) {
    let hit = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&hit);
    let rewrite = move |event: &mut Vec<u8>| {
        let before = event.clone();
        rewrite(event);
        noted.fetch_or(*event != before, Ordering::Release);
    };
    let (mut scene, _rewriter) = scene(kind, server_options, rewrite).await;
    for door in 1..=3 {
        scene.sql(&[&swipe(door)]).await;
        // Before the next one: nothing that follows may be needed to get it.
        scene.read(door as usize).await;
    }
    if !logged.is_empty() {
        scene.doorcast.logged_error(logged).await;
    }
    let (rows, mut scene) = scene.every_row_of_the_table_came_once().await;
    assert_eq!(rows.len(), 4, "{kind}");
    assert!(hit.load(Ordering::Acquire), "{kind}: no event was changed");
    assert!(scene.doorcast.stop().await.success(), "{kind}");
}

/// Only the first event that `fits`.
fn once(
    fits: impl Fn(&[u8]) -> bool + Send + 'static,
    change: impl Fn(&mut Vec<u8>) + Send + 'static,
) -> impl FnMut(&mut Vec<u8>) + Send {
    let mut done = false;
    move |event| {
        if !done && fits(event) {
            done = true;
            change(event);
        }
    }
}

/// Each event that `fits`, again and again, as if it stood so in the server's file.
fn always(
    fits: impl Fn(&[u8]) -> bool + Send + 'static,
    change: impl Fn(&mut Vec<u8>) + Send + 'static,
) -> impl FnMut(&mut Vec<u8>) + Send {
    let mut position = None;
    move |event| {
        let log_pos: [u8; 4] = event[LOG_POS].try_into().unwrap();
        if fits(event) && *position.get_or_insert(log_pos) == log_pos {
            change(event);
        }
    }
}

#[tokio::test]
async fn a_byte_that_flips_on_the_way_costs_a_reconnect_and_no_row() {
    each_kind(async |kind| {
        let flip = |event: &mut Vec<u8>| *event.get_mut(HEADER + 12).unwrap() ^= 0x20;
        every_row_comes_once(kind, &[], once(is_insert, flip), "checksum").await;
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_damaged_in_the_file_is_made_up_for_from_the_table() {
    each_kind(async |kind| {
        let flip = |event: &mut Vec<u8>| *event.get_mut(HEADER + 12).unwrap() ^= 0x20;
        every_row_comes_once(kind, &[], always(is_insert, flip), "checksum").await;
    })
    .await;
}

/// mysql_common 0.37 unwraps what `read_exact` says about an event that is shorter than its header says.
#[tokio::test]
async fn an_event_that_breaks_the_decoder_ends_the_session_and_not_the_process() {
    each_kind(async |kind| {
        let lengthen = |event: &mut Vec<u8>| {
            let size = event.len() as u32 + 9;
            event[SIZE].copy_from_slice(&size.to_le_bytes());
        };
        every_row_comes_once(kind, &[], once(is_insert, lengthen), "broke the decoder").await;
        every_row_comes_once(kind, &[], always(is_insert, lengthen), "broke the decoder").await;
    })
    .await;
}

#[tokio::test]
async fn a_table_map_that_no_decoder_reads_is_given_up_after_some_tries() {
    each_kind(async |kind| {
        let truncate = |event: &mut Vec<u8>| {
            event.drain(HEADER + 20..event.len() - 4);
            let size = event.len() as u32;
            event[SIZE].copy_from_slice(&size.to_le_bytes());
            sign(event);
        };
        every_row_comes_once(kind, &[], always(|event| event[TYPE] == TABLE_MAP, truncate), "can't be read")
            .await;
    })
    .await;
}

/// mysql_async 0.37 drops what it can't unpack without a word. The transaction before the last row must
/// not have to wait for the next one, either.
#[tokio::test]
async fn a_compressed_transaction_that_is_damaged_comes_from_the_table() {
    each_kind(async |kind| {
        if kind != "mysql-9.7" {
            return; // does not compress transactions
        }
        let fits = |event: &[u8]| event[TYPE] == TRANSACTION_PAYLOAD;
        let damage = |event: &mut Vec<u8>| {
            let middle = event.len() / 2;
            for byte in &mut event[middle..middle + 8] {
                *byte ^= 0xff;
            }
            sign(event);
        };
        // Neither a length (field 2), nor an algorithm (1) that is known: the header of the payload.
        let unparsable = |event: &mut Vec<u8>| {
            event[HEADER..HEADER + 3].copy_from_slice(&[2, 3, 0xfb]);
            sign(event);
        };
        let options = ["--binlog-transaction-compression=ON"];
        every_row_comes_once(kind, &options, always(fits, damage), "").await;
        every_row_comes_once(kind, &options, once(fits, unparsable), "").await;
        every_row_comes_once(kind, &options, always(fits, unparsable), "").await;
    })
    .await;
}

/// Makes a compressed transaction claim to unpack to so many bytes.
fn claim(event: &mut Vec<u8>, bytes: impl Fn(u64) -> u64) {
    const UNCOMPRESSED_SIZE: u8 = 3;
    let mut at = HEADER;
    while event[at] != UNCOMPRESSED_SIZE {
        at += 2 + usize::from(event[at + 1]);
    }
    let length = usize::from(event[at + 1]);
    let value = match &event[at + 2..at + 2 + length] {
        [small] => u64::from(*small),
        [0xfc, two @ ..] => two.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        other => panic!("{other:?}"),
    };
    let mut field = vec![UNCOMPRESSED_SIZE, 9, 0xfe];
    field.extend(bytes(value).to_le_bytes());
    event.splice(at..at + 2 + length, field);
    let size = event.len() as u32;
    event[SIZE].copy_from_slice(&size.to_le_bytes());
    sign(event);
}

/// Too little: nothing is unpacked. Too much: zeros come behind it. More than can be: a panic.
#[tokio::test]
async fn a_compressed_transaction_that_claims_a_wrong_size_costs_no_row() {
    each_kind(async |kind| {
        if kind != "mysql-9.7" {
            return; // does not compress transactions
        }
        let fits = |event: &[u8]| event[TYPE] == TRANSACTION_PAYLOAD;
        let options = ["--binlog-transaction-compression=ON"];
        let claims: [fn(u64) -> u64; 6] = [
            |_| 0,
            |size| size - 1,
            |size| size + 1,
            |size| size + 19,
            |size| size + (1 << 30),
            |_| u64::MAX,
        ];
        for bytes in claims {
            every_row_comes_once(kind, &options, always(fits, move |event| claim(event, bytes)), "").await;
        }
    })
    .await;
}

/// mysql_async 0.37 allocates what the header claims before anybody can look at it, and a process that gets
/// no memory ends. It must not do so for ever: what it was told before says nothing of what ended it, but a
/// place from which it never got on does.
#[tokio::test]
async fn a_transaction_that_ends_the_process_again_and_again_is_read_from_the_table() {
    each_kind(async |kind| {
        if kind != "mysql-9.7" {
            return; // does not compress transactions
        }
        let fits = |event: &[u8]| event[TYPE] == TRANSACTION_PAYLOAD;
        let rewrite = always(fits, |event| claim(event, |_| 1 << 46));
        let (mut scene, _rewriter) = scene(kind, &["--binlog-transaction-compression=ON"], rewrite).await;
        scene.sql(&[&swipe(1)]).await;
        for start in 0..=9 {
            assert!(!scene.doorcast.ended().await.success(), "{kind}");
            if start == 9 {
                // Two minutes pass.
                let file = CheckpointFile::lock(&scene.doorcast.checkpoint()).unwrap();
                let mut checkpoint = file.load().unwrap().unwrap();
                assert!(checkpoint.starts_in_vain > 8, "{kind}: {checkpoint:?}");
                checkpoint.vain_since_ms = checkpoint.vain_since_ms.map(|since| since - 120_000);
                file.save(&checkpoint).unwrap();
            }
            scene.doorcast.start_again().await;
        }
        scene.doorcast.logged("the position is lost, reading the missing rows from the table").await;
        scene.doorcast.logged("following").await;
        scene.sql(&[&swipe(2)]).await;
        let url = scene.doorcast.url("/events?since=earliest");
        let mut stream = crate::site::client().get(url).send().await.unwrap();
        let mut text = String::new();
        while !text.contains("\"doorno\":2,") {
            let chunk = crate::deadline::deadline(stream.chunk()).await.unwrap().unwrap();
            text += std::str::from_utf8(&chunk).unwrap();
        }
        assert_eq!(text.matches("\"doorno\":1,").count(), 1, "{kind}: {text}");
        assert!(scene.doorcast.stop().await.success(), "{kind}");
        let saved = std::fs::read_to_string(scene.doorcast.checkpoint()).unwrap();
        assert!(saved.contains("\"starts_in_vain\":0"), "{kind}: {saved}");
    })
    .await;
}

/// MariaDB from 11.4 on writes no `end_log_pos` inside a transaction. Only commits count: the same with
/// every event of a transaction but the last.
#[tokio::test]
async fn events_without_a_position_do_not_move_it() {
    each_kind(async |kind| {
        let rewrite = |event: &mut Vec<u8>| {
            let inside = matches!(event[TYPE], TABLE_MAP | 160) || is_insert(event) || (event[TYPE] == QUERY);
            if inside && event[TYPE] != XID && event.windows(5).any(|text| text == b"BEGIN")
                || inside && event[TYPE] != QUERY
            {
                event[LOG_POS].fill(0);
                sign(event);
            }
        };
        let (mut scene, _rewriter) = scene(kind, &[], rewrite).await;
        scene.sql(&[&swipe(1), &swipe(2)]).await;
        scene.read(2).await;
        let end = crate::binlog::position(&scene.server, &mut scene.conn).await;
        assert!(scene.doorcast.stop().await.success());
        let saved = std::fs::read_to_string(scene.doorcast.checkpoint()).unwrap();
        assert!(saved.contains(&format!("\"offset\":{}", end.1)), "{kind}: {end:?} {saved}");
        scene.sql(&[&swipe(3)]).await;
        scene.doorcast.start_again().await;
        scene.read(3).await;
        assert_eq!(scene.status().await["table_reads"], 0, "{kind}: straight from the binlog");
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 4, "{kind}");
    })
    .await;
}

/// What MariaDB really writes, which the test above relies on being harmless.
#[tokio::test]
async fn mariadb_11_8_still_writes_events_without_a_position() {
    each_kind(async |kind| {
        if kind != "mariadb-11.8" {
            return;
        }
        let seen = Arc::new(Mutex::new(0));
        let count = Arc::clone(&seen);
        let rewrite = move |event: &mut Vec<u8>| {
            if is_insert(event) && event[LOG_POS] == [0; 4] {
                *count.lock().unwrap() += 1;
            }
        };
        let (mut scene, _rewriter) = scene(kind, &[], rewrite).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        assert_eq!(*seen.lock().unwrap(), 1, "if not, BINLOG-NOTES has one trap less");
    })
    .await;
}

#[tokio::test]
async fn what_an_unknown_event_or_an_incident_hides_comes_from_the_table() {
    each_kind(async |kind| {
        for event_type in [OF_THE_FUTURE, INCIDENT] {
            let disguise = move |event: &mut Vec<u8>| {
                event[TYPE] = event_type;
                sign(event);
            };
            every_row_comes_once(kind, &[], always(is_insert, disguise), "").await;
        }
    })
    .await;
}

/// mysql_async 0.37 takes packets up to the server's `max_allowed_packet`, unless it is told otherwise.
#[tokio::test]
async fn an_event_over_max_allowed_packet_on_another_table_is_passed_over() {
    each_kind(async |kind| {
        let mut server_options = vec!["--max-allowed-packet=64M"];
        if kind == "mysql-5.6" {
            server_options.push("--innodb-log-file-size=256M"); // which bounds a BLOB there
        }
        let server = servers::private(kind, &server_options).await;
        let mut writer = server.root(None).await.unwrap();
        servers::create(&mut writer, "doors", "doorcast").await;
        // Sessions that are there keep theirs.
        writer.query_drop("SET GLOBAL max_allowed_packet=1048576").await.unwrap();
        let scene = Scene::on(kind, server, &[]).await;
        scene.doorcast.answers("/readyz", 200).await;
        for sql in
            ["CREATE TABLE large (l LONGBLOB)", "INSERT INTO large VALUES (REPEAT('x', 20000000))", &swipe(1)]
        {
            writer.query_drop(sql).await.unwrap();
        }
        let (rows, scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 2, "{kind}");
        assert_eq!(scene.status().await["reconnects"], 0, "{kind}");
    })
    .await;
}
