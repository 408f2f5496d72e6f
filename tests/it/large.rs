//! Transactions that are larger than what is kept: of many rows, and of large ones, in the followed table
//! and in another. Each row is told once, in order, and the process stays within its bound.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    deadline::deadline,
    link::{resident_kib, status_until},
    process::Doorcast,
    scene::{Scene, swipe, url},
    servers::{self, kinds},
    site,
};

const MIB: u64 = 1 << 20;

/// What a transaction may take while it is assembled, as `src/tail/transaction.rs` has it.
const LARGEST_TRANSACTION: u64 = 256 * MIB;

/// Everything that is not rows, with an event of rows as it comes and as it is decoded.
const PROCESS: u64 = 96 * MIB;

/// Everything that is not in the feed, when what was large is over. A connection keeps the buffer that packets came in.
const QUIET: u64 = 48 * MIB;

/// A raw event stream from the first key on. It checks that the rows are the keys in their order.
struct Stream {
    socket: TcpStream,
    text: Vec<u8>,
    /// Up to here `text` has been looked at.
    looked: usize,
    /// The key of the latest row.
    key: u64,
    /// Bytes of all rows.
    bytes: u64,
}

impl Stream {
    async fn open(doorcast: &Doorcast) -> Stream {
        let mut socket = TcpStream::connect(&doorcast.address).await.unwrap();
        let request = "GET /events?since=1-0 HTTP/1.1\r\nHost: doorcast\r\nConnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).await.unwrap();
        Stream { socket, text: Vec::new(), looked: 0, key: 0, bytes: 0 }
    }

    /// Reads up to the row with this key. Only a stream that stands still is too late.
    async fn until(&mut self, key: u64) {
        let mut chunk = vec![0; 256 * 1024];
        while self.key < key {
            let read = deadline(self.socket.read(&mut chunk)).await.unwrap();
            assert_ne!(read, 0, "the stream goes on behind {}", self.key);
            self.text.extend_from_slice(&chunk[..read]);
            let mut taken = 0;
            while let Some(end) = self.text[self.looked..].iter().position(|byte| *byte == b'\n') {
                let line = taken..self.looked + end;
                taken = line.end + 1;
                self.looked = taken;
                self.line(line);
            }
            self.text.drain(..taken);
            self.looked = self.text.len();
        }
    }

    fn line(&mut self, line: std::ops::Range<usize>) {
        let line = &self.text[line];
        assert_ne!(line, b"event: gap", "behind {}", self.key);
        if let Some(row) = line.strip_prefix(b"data: {\"vid\":") {
            let digits = row.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let key: u64 = std::str::from_utf8(&row[..digits]).unwrap().parse().unwrap();
            assert_eq!(key, self.key + 1, "each once, and in order");
            self.key = key;
            self.bytes += line.len() as u64;
        }
    }
}

/// The most memory that the process ever had.
fn peak_bytes(doorcast: &Doorcast) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", doorcast.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Its memory as soon as it is below a bound, or after a while in which it was not.
async fn settled(doorcast: &Doorcast, bound: u64) -> u64 {
    let mut bytes = resident_kib(doorcast) * 1024;
    for _ in 0..300 {
        if bytes < bound {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        bytes = resident_kib(doorcast) * 1024;
    }
    bytes
}

/// The rows that it keeps for clients.
async fn feed_bytes(doorcast: &Doorcast) -> u64 {
    let answer = site::client().get(doorcast.url("/api/status")).send().await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    status["feed"]["bytes"].as_u64().unwrap()
}

/// A transaction.
#[derive(Clone, Copy)]
struct Large {
    rows: u64,
    /// It takes statements of ten to the power of this many rows.
    digits: usize,
    /// What is in the rows besides.
    note: &'static str,
    /// At least so much JSON comes of it.
    bytes: u64,
}

const MILLION_ROWS: Large = Large { rows: 1_000_000, digits: 4, note: "NULL", bytes: 64_000_000 };

const LARGE_ROWS: Large =
    Large { rows: 100, digits: 2, note: "REPEAT(CHAR(97 + d1.d), 786432)", bytes: 100 * 786_432 };

/// `SELECT` of rows out of nothing, with keys from `first` on.
fn swipes(first: u64, Large { digits, note, .. }: Large) -> String {
    let digit = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL \
                 SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let number: String =
        (0..digits).map(|number| format!(" + d{number}.d * {}", 10_u64.pow(number as u32))).collect();
    let from: Vec<String> = (0..digits).map(|number| format!("{digit} d{number}")).collect();
    format!(
        "SELECT {first}{number} vid, d0.d, '00A1', '20261120 071500', 'Y', {note} FROM {} ORDER BY vid",
        from.join(" CROSS JOIN ")
    )
}

/// What a run is to show.
struct Case<'a> {
    kind: &'static str,
    server_option: Option<&'a str>,
    options: &'a [&'a str],
    /// The table that gets the transaction.
    into: &'a str,
    large: Large,
    /// Memory that may be taken, besides the process's own.
    memory: u64,
}

impl Case<'_> {
    async fn every_row_is_told_once(self) {
        let Case { kind, into, large, .. } = self;
        let mut server_options = vec!["--max-allowed-packet=64M", "--innodb-buffer-pool-size=128M"];
        server_options.extend(self.server_option);
        if kind == "mysql-5.6" {
            server_options.push("--innodb-log-file-size=256M"); // which bounds a BLOB there
        }
        let server = servers::private(kind, &server_options).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        root.query_drop("ALTER TABLE vdooropen ADD COLUMN note LONGTEXT CHARACTER SET latin1").await.unwrap();
        root.query_drop("CREATE TABLE other LIKE vdooropen").await.unwrap();
        let doorcast = Doorcast::start(&url(&server), self.options).await;
        let mut stream = Stream::open(&doorcast).await;
        let swipe = swipe(1);
        root.query_drop(&swipe).await.unwrap();
        stream.until(1).await;
        root.query_drop("BEGIN").await.unwrap();
        let mut inserted = 0;
        while inserted < large.rows {
            // In pieces, each of which has its deadline.
            let insert = format!("INSERT INTO {into} {}", swipes(inserted + 2, large));
            deadline(root.query_drop(insert)).await.unwrap();
            inserted += root.affected_rows();
        }
        assert_eq!(inserted, large.rows, "{kind}");
        deadline(root.query_drop("COMMIT")).await.unwrap();
        let ours = into == "vdooropen";
        let last = if ours { large.rows + 2 } else { 2 };
        root.query_drop(&swipe).await.unwrap();
        stream.until(last).await;
        assert!(!ours || stream.bytes >= large.bytes, "{kind}: {}", stream.bytes);
        let (peak, bound) = (peak_bytes(&doorcast), PROCESS + self.memory);
        let feed = feed_bytes(&doorcast).await;
        // Between rows that came together there is room, where that was which they were made of.
        let quiet = QUIET + feed * 3 / 2;
        let after = settled(&doorcast, quiet).await;
        eprintln!(
            "{kind}: {} rows into {into}: at most {} MiB, then {} with {} in the feed",
            large.rows,
            peak / MIB,
            after / MIB,
            feed / MIB
        );
        assert!(peak < bound, "{kind}: {peak} bytes at most, not {bound}");
        assert!(after < quiet, "{kind}: {after} bytes afterwards, not {quiet}");
    }
}

/// One server after the other: side by side they would fight for memory.
#[tokio::test]
async fn a_transaction_of_a_million_rows_is_told_once_and_in_order() {
    for kind in kinds() {
        let options = &["--history", "1100000", "--history-bytes", "700000000"];
        let memory = LARGEST_TRANSACTION + 700_000_000;
        let case =
            Case { kind, server_option: None, options, into: "vdooropen", large: MILLION_ROWS, memory };
        case.every_row_is_told_once().await;
    }
}

#[tokio::test]
async fn a_transaction_of_a_million_rows_in_another_table_takes_no_memory() {
    for kind in kinds() {
        let case =
            Case { kind, server_option: None, options: &[], into: "other", large: MILLION_ROWS, memory: 0 };
        case.every_row_is_told_once().await;
    }
}

/// Most rows are below the ring by the time at which they are read, and one answer of the table does not
/// hold them all.
#[tokio::test]
async fn a_transaction_of_64_megabytes_is_told_once_and_in_order() {
    for kind in kinds() {
        let options = &["--history-bytes", "4000000"];
        let memory = LARGEST_TRANSACTION + 4_000_000;
        let case = Case { kind, server_option: None, options, into: "vdooropen", large: LARGE_ROWS, memory };
        case.every_row_is_told_once().await;
    }
}

#[tokio::test]
async fn a_transaction_of_64_megabytes_in_another_table_takes_no_memory() {
    for kind in kinds() {
        let case =
            Case { kind, server_option: None, options: &[], into: "other", large: LARGE_ROWS, memory: 0 };
        case.every_row_is_told_once().await;
    }
}

/// It is unpacked as a whole, in whichever table.
#[tokio::test]
async fn a_compressed_transaction_of_64_megabytes_is_told_once_and_in_order() {
    for kind in kinds() {
        if kind != "mysql-9.7" {
            continue; // does not compress transactions
        }
        for (into, memory) in [("vdooropen", LARGEST_TRANSACTION + 4_000_000), ("other", 0)]
            .map(|(into, more)| (into, more + 80 * MIB))
        {
            let server_option = Some("--binlog-transaction-compression=ON");
            let options = &["--history-bytes", "4000000"];
            Case { kind, server_option, options, into, large: LARGE_ROWS, memory }
                .every_row_is_told_once()
                .await;
        }
    }
}

/// A packet of the protocol holds 16 MB: a larger event comes in several.
#[tokio::test]
async fn a_row_of_more_than_a_packet_is_told_once() {
    const BYTES: usize = 20_000_000;
    for kind in kinds() {
        let mut server_options = vec!["--max-allowed-packet=64M"];
        if kind == "mysql-5.6" {
            server_options.push("--innodb-log-file-size=256M"); // which bounds a BLOB there
        }
        let mut scene = Scene::start(kind, &server_options, &[]).await;
        scene
            .sql(&[
                "ALTER TABLE vdooropen ADD COLUMN note LONGTEXT CHARACTER SET latin1",
                &format!("INSERT INTO vdooropen VALUES (NULL, 1, '00A1', 't', 'Y', REPEAT('x', {BYTES}))"),
            ])
            .await;
        let (rows, scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 2, "{kind}");
        let note = format!("\"note\":\"{}\"}}", "x".repeat(BYTES));
        assert!(rows[0].1.ends_with(&note), "{kind}: {} bytes", rows[0].1.len());
        assert_eq!(scene.status().await["reconnects"], 0, "{kind}");
    }
}

/// The feed keeps the last of the rows alone.
#[tokio::test]
async fn the_memory_of_a_million_rows_is_handed_back() {
    const LEFT: u64 = 8 * MIB;
    for kind in kinds() {
        let server = servers::private(kind, &["--innodb-buffer-pool-size=128M"]).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        root.query_drop("ALTER TABLE vdooropen ADD COLUMN note LONGTEXT CHARACTER SET latin1").await.unwrap();
        let doorcast = Doorcast::start(&url(&server), &["--history", "1000"]).await;
        let before = resident_kib(&doorcast) * 1024;
        root.query_drop("BEGIN").await.unwrap();
        let Large { rows, .. } = MILLION_ROWS;
        let mut inserted = 0;
        while inserted < rows {
            let insert = format!("INSERT INTO vdooropen {}", swipes(inserted + 1, MILLION_ROWS));
            deadline(root.query_drop(insert)).await.unwrap();
            inserted += root.affected_rows();
        }
        deadline(root.query_drop("COMMIT")).await.unwrap();
        status_until(&doorcast, |status| status["feed"]["head"] == format!("1-{rows}")).await;
        let after = settled(&doorcast, before + LEFT).await;
        let peak = peak_bytes(&doorcast);
        eprintln!("{kind}: {after} bytes after {rows} rows, {before} before, {peak} meanwhile");
        assert!(after < before + LEFT, "{kind}: {after} bytes, {before} before");
    }
}

/// One after the other, in another table, so that every buffer has held one.
#[tokio::test]
async fn the_memory_of_events_of_over_16_megabytes_is_handed_back() {
    const EVENTS: usize = 12;
    const LEFT: u64 = 8 * MIB;
    for kind in kinds() {
        let mut scene = Scene::start(kind, &[], &[]).await;
        let columns = ["a", "b", "c", "d", "e", "f"];
        let values = columns.map(|column| format!("REPEAT('{column}', 3000000)")).join(", ");
        let columns = columns.map(|column| format!("{column} LONGTEXT")).join(", ");
        scene
            .sql(&[&format!("CREATE TABLE large ({columns}) ENGINE=MyISAM CHARACTER SET latin1"), &swipe(1)])
            .await;
        scene.read(1).await;
        let before = resident_kib(&scene.doorcast) * 1024;
        for _ in 0..EVENTS {
            scene.sql(&[&format!("INSERT INTO large VALUES ({values})"), "TRUNCATE TABLE large"]).await;
            scene.read_binlog().await;
            for id in scene.dump_threads().await {
                scene.sql(&[&format!("KILL {id}")]).await;
            }
            scene.sql(&[&swipe(1)]).await;
            scene.read_binlog().await;
        }
        let after = settled(&scene.doorcast, before + LEFT).await;
        eprintln!("{kind}: {after} bytes after {EVENTS} events of over 16 MB, {before} before");
        assert!(after < before + LEFT, "{kind}: {after} bytes, {before} before");
        scene.every_row_of_the_table_came_once().await;
    }
}
