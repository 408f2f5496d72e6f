//! Transactions that are larger than what is kept: of many rows, and of large ones, in the followed table
//! and in another. Each row is told once, in order, and the process stays within its bound.

use mysql_async::prelude::Queryable;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    deadline::deadline,
    process::Doorcast,
    scene::{swipe, url},
    servers::{self, kinds},
};

const MIB: u64 = 1 << 20;

/// What a transaction may take while it is assembled, as `src/tail/transaction.rs` has it.
const LARGEST_TRANSACTION: u64 = 256 * MIB;

/// Everything that is not rows, with an event of rows as it comes and as it is decoded.
const PROCESS: u64 = 96 * MIB;

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

/// Ten times ten to the power of `digits` - 1 rows out of nothing.
fn sequence(digits: usize) -> String {
    let digit = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL \
                 SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    (0..digits).map(|number| format!("{digit} d{number}")).collect::<Vec<_>>().join(" CROSS JOIN ")
}

/// One server after the other: side by side they would fight for memory. `into` is the table that gets
/// the transaction of `rows`.
async fn every_row_is_told_once(
    into: &str,
    insert: &str,
    rows: u64,
    bytes: u64,
    feed: u64,
    options: &[&str],
) {
    for kind in kinds() {
        let mut server_options = vec!["--max-allowed-packet=64M", "--innodb-buffer-pool-size=128M"];
        if kind == "mysql-5.6" {
            server_options.push("--innodb-log-file-size=256M");
        }
        let server = servers::private(kind, &server_options).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        root.query_drop("ALTER TABLE vdooropen ADD COLUMN note LONGTEXT CHARACTER SET latin1").await.unwrap();
        root.query_drop("CREATE TABLE other LIKE vdooropen").await.unwrap();
        let doorcast = Doorcast::start(&url(&server), options).await;
        let mut stream = Stream::open(&doorcast).await;
        let swipe = swipe(1);
        root.query_drop(&swipe).await.unwrap();
        stream.until(1).await;
        let columns = "(doorno, rfsim, optime, ynopen, note)";
        deadline(root.query_drop(format!("INSERT INTO {into} {columns} {insert}"))).await.unwrap();
        assert_eq!(root.affected_rows(), rows, "{kind}");
        let of_ours = if into == "vdooropen" { rows } else { 0 };
        stream.until(1 + of_ours).await;
        // What AUTO_INCREMENT gave in blocks is not used up.
        root.query_drop(format!("ALTER TABLE vdooropen AUTO_INCREMENT={}", of_ours + 2)).await.unwrap();
        root.query_drop(&swipe).await.unwrap();
        stream.until(of_ours + 2).await;
        assert!(stream.bytes >= if of_ours > 0 { bytes } else { 0 }, "{kind}: {}", stream.bytes);
        let peak = peak_bytes(&doorcast);
        let bound = PROCESS + if of_ours > 0 { LARGEST_TRANSACTION + feed } else { 0 };
        eprintln!("{kind}: {rows} rows, {bytes} bytes into {into}: at most {} MiB", peak / MIB);
        assert!(peak < bound, "{kind}: {peak} bytes at most, not {bound}");
    }
}

#[tokio::test]
async fn a_transaction_of_a_million_rows_is_told_once_and_in_order() {
    let insert = format!("SELECT d0.d, '00A1', '20261120 071500', 'Y', NULL FROM {}", sequence(6));
    let options = ["--history", "1100000", "--history-bytes", "700000000"];
    every_row_is_told_once("vdooropen", &insert, 1_000_000, 64_000_000, 700_000_000, &options).await;
}

#[tokio::test]
async fn a_transaction_of_a_million_rows_in_another_table_takes_no_memory() {
    let insert = format!("SELECT d0.d, '00A1', '20261120 071500', 'Y', NULL FROM {}", sequence(6));
    every_row_is_told_once("other", &insert, 1_000_000, 0, 0, &[]).await;
}

/// Most rows are below the ring by the time at which they are read, and one answer of the table does not
/// hold them all.
#[tokio::test]
async fn a_transaction_of_64_megabytes_is_told_once_and_in_order() {
    let insert = format!(
        "SELECT d0.d, '00A1', '20261120 071500', 'Y', REPEAT(CHAR(97 + d1.d), 786432) FROM {}",
        sequence(2)
    );
    let options = ["--history-bytes", "4000000"];
    every_row_is_told_once("vdooropen", &insert, 100, 100 * 786_432, 4_000_000, &options).await;
}

#[tokio::test]
async fn a_transaction_of_64_megabytes_in_another_table_takes_no_memory() {
    let insert = format!(
        "SELECT d0.d, '00A1', '20261120 071500', 'Y', REPEAT(CHAR(97 + d1.d), 786432) FROM {}",
        sequence(2)
    );
    every_row_is_told_once("other", &insert, 100, 0, 0, &[]).await;
}
