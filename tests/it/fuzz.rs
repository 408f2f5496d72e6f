//! Mutated bytes for everything that reads bytes from outside: nothing panics, hangs or fills the memory.
//!
//! The corpus are the binlogs that the servers write here. The mutations come from a fixed seed, so a run
//! repeats itself. `DOORCAST_FUZZ_SECONDS=600` runs longer, with seeds that go on; a
//! `DOORCAST_FUZZ_CORPUS=folder` is filled with what `fuzz/` begins with.

mod apart;

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    time::{Duration, Instant},
};

use doorcast::fuzzing;
use fastrand::Rng;
use mysql_async::{Conn, prelude::Queryable};

use self::apart::Last;
use crate::servers;

/// Of each target, unless a longer run is asked for.
const RUNS: u32 = 6_000;

/// A slow machine ends the run here, and says how far it came.
const ENOUGH: Duration = Duration::from_secs(15);

/// One input takes a millisecond.
const HANGS: Duration = Duration::from_secs(5);

/// A binlog file: its events.
type File = Vec<Vec<u8>>;

const TABLE: &str = "CREATE TABLE every (id INT PRIMARY KEY AUTO_INCREMENT, c1 TINYINT, c2 MEDIUMINT UNSIGNED, \
    c3 BIGINT UNSIGNED, c4 YEAR, c5 FLOAT, c6 DOUBLE, c7 DECIMAL(20,3), c8 CHAR(16), c9 VARCHAR(300), \
    c10 TEXT CHARACTER SET utf8, c11 MEDIUMTEXT CHARACTER SET utf16, c12 BINARY(5), c13 LONGBLOB, c14 BIT(10), \
    c15 ENUM('a','b') CHARACTER SET utf8, c16 SET('a','b') CHARACTER SET utf8, c17 DATE, c18 TIME(3), \
    c19 DATETIME(5), c20 TIMESTAMP(6) NULL, c21 GEOMETRY) CHARACTER SET ascii";

const ROW: &str = "INSERT INTO every VALUES (NULL, -5, 70000, 18446744073709551615, 2026, 1.5, -2.25e-7, \
    12345678901234567.891, '00A1B2C3', 'varying', 'text \\\\ \" \\n', 'wide', 'bin', 'blob', b'1010101010', 'b', 'a,b', \
    '2026-11-20', '-838:59:58.125', '2026-11-20 07:15:00.12345', '2026-11-20 07:15:00.123456', POINT(1,2))";

/// Everything that can stand in a binlog and need not be in a followed table.
async fn write(kind: &str, conn: &mut Conn) {
    let maria = kind.starts_with("mariadb");
    let mut sql = vec![
        "CREATE DATABASE doors",
        "USE doors",
        TABLE,
        "CREATE TABLE other (id INT PRIMARY KEY, t TIME(6), g VARCHAR(20) CHARACTER SET gbk, l LONGBLOB)",
        ROW,
        "INSERT INTO every (id) VALUES (NULL), (NULL), (NULL)",
        "BEGIN",
        ROW,
        "INSERT INTO other VALUES (1, '-12:00:00', _gbk 0xC4E3BAC3, REPEAT('x', 20000))",
        "SAVEPOINT a",
        ROW,
        "UPDATE every SET c1 = 7",
        "DELETE FROM every WHERE id = 2",
        "COMMIT",
        "SET binlog_row_image = MINIMAL",
        "INSERT INTO every (c1) VALUES (9)",
        "UPDATE every SET c9 = 'other'",
        "SET binlog_row_image = FULL",
        "SET binlog_rows_query_log_events = 1",
        "SET binlog_annotate_row_events = 1",
        "XA START 'x'",
        ROW,
        "XA END 'x'",
        "XA PREPARE 'x'",
        "XA COMMIT 'x'",
        "SET binlog_format = STATEMENT",
        "SET @door = 5, @name = 'user variable'",
        "INSERT INTO every (c1, c6, c9) VALUES (@door, RAND(), @name)",
        "REPLACE INTO other (id) VALUES (LAST_INSERT_ID())",
        "TRUNCATE other",
        "SET binlog_format = ROW",
        "SET GLOBAL binlog_row_metadata = MINIMAL",
        ROW,
        "FLUSH TABLES",
        "SET GLOBAL binlog_row_metadata = FULL",
        ROW,
        "SET GLOBAL binlog_checksum = NONE",
        ROW,
        "SET GLOBAL binlog_checksum = CRC32",
    ];
    if maria {
        sql.extend([
            "SET GLOBAL log_bin_compress = 1",
            "SET GLOBAL log_bin_compress_min_len = 10",
            "INSERT INTO every (c10) VALUES (REPEAT('compressed ', 100))",
            "UPDATE every SET c10 = REPEAT('compressed ', 50)",
        ]);
    }
    if kind == "mysql-9.7" {
        sql.extend([
            "CREATE TABLE json (id INT PRIMARY KEY, j JSON, v VECTOR(3))",
            "INSERT INTO json VALUES (1, '{\"a\": [1, -2, 3.5, null, true, \"text\"], \"b\": {\"c\": 18446744073709551615}}', NULL)",
            "INSERT INTO json VALUES (2, JSON_OBJECT('d', CAST('2026-11-20' AS DATE), 't', CAST('07:15' AS TIME(6)), 'n', \
             CAST(1.25 AS DECIMAL(10,2)), 'b', CAST('x' AS BINARY)), STRING_TO_VECTOR('[1,2,3]'))",
            "SET binlog_row_value_options = PARTIAL_JSON",
            "UPDATE json SET j = JSON_SET(j, '$.a', 1)",
            "SET gtid_next = 'AUTOMATIC:door'",
            ROW,
            "SET gtid_next = 'AUTOMATIC'",
            "SET binlog_transaction_compression = ON",
            ROW,
            "INSERT INTO every (c10) SELECT c10 FROM every",
        ]);
    }
    sql.extend(["ALTER TABLE every MODIFY c1 INT", ROW, "RENAME TABLE every TO gone", "FLUSH BINARY LOGS"]);
    for sql in sql {
        // A server that knows no such variable has no such event.
        if let Err(err) = conn.query_drop(sql).await
            && !sql.starts_with("SET ")
        {
            panic!("{kind}: {sql}: {err}");
        }
    }
}

/// The binlog files that `kind` writes.
async fn corpus(kind: &str) -> Vec<Vec<u8>> {
    let mut options = vec!["--max-binlog-size=4096", "--character-set-server=latin1"];
    options.extend(
        (kind != "mysql-5.6")
            .then_some("--binlog-row-metadata=NO_LOG")
            .filter(|_| kind.starts_with("mariadb")),
    );
    let server = servers::private(kind, &options).await;
    let mut root = server.root(None).await.unwrap();
    write(kind, &mut root).await;
    let names: Vec<mysql_async::Row> = root.query("SHOW BINARY LOGS").await.unwrap();
    let files = names.iter().map(|row| row.get::<String, _>(0).unwrap());
    files.map(|name| fs::read(server.data().join(name)).unwrap()).collect()
}

fn events(mut file: &[u8]) -> File {
    file = &file[4..];
    let mut events = Vec::new();
    while let Some(size) = file.get(9..13) {
        let size = u32::from_le_bytes(size.try_into().unwrap()) as usize;
        let Some((event, rest)) = file.split_at_checked(size) else { break };
        events.push(event.to_vec());
        file = rest;
    }
    events
}

fn packets(events: &[Vec<u8>]) -> Vec<u8> {
    fuzzing::packets(events.iter().map(Vec::as_slice))
}

#[tokio::test]
async fn mutated_bytes_never_panic_hang_or_fill_the_memory() {
    if let Some(folder) = apart::corpus() {
        return run(&read(&folder), &Last::create(&folder));
    }
    let kinds = servers::kinds();
    let corpora = futures_util::future::join_all(kinds.iter().map(|kind| corpus(kind))).await;
    for (kind, files) in kinds.iter().zip(&corpora) {
        let rows: usize = files.iter().map(|file| fuzzing::binlog(&packets(&events(file)))).sum();
        // Else the corpus would not reach what it is for.
        assert!(rows >= 9, "{kind}: only {rows} rows came of the binlog as it is");
    }
    let folder = tempfile::tempdir().unwrap();
    for (number, file) in corpora.iter().flatten().enumerate() {
        fs::write(folder.path().join(format!("{number:04}.binlog")), file).unwrap();
    }
    if let Some(corpus) = std::env::var_os("DOORCAST_FUZZ_CORPUS") {
        write_corpus(Path::new(&corpus), &read(folder.path()));
    }
    let name = "fuzz::mutated_bytes_never_panic_hang_or_fill_the_memory";
    apart::run(name, folder.path(), longer().unwrap_or(ENOUGH)).await;
}

/// The corpus in a folder.
fn read(folder: &Path) -> Vec<File> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "binlog"));
    paths.sort();
    paths.iter().map(|path| events(&fs::read(path).unwrap())).collect()
}

/// How long a longer run is to be, if one is asked for.
fn longer() -> Option<Duration> {
    let seconds = std::env::var("DOORCAST_FUZZ_SECONDS").ok()?;
    Some(Duration::from_secs(seconds.parse().unwrap()))
}

/// A target by its name, and texts to begin with.
type Target = (&'static str, fn(&[u8]), &'static [&'static str]);

const TEXTS: &[Target] = &[
    (
        "statement",
        fuzzing::statement,
        &["doorsINSERT INTO every VALUES (1)", "doors/*!40000 ALTER TABLE `doors` . `every` */ -- x\n# y\n"],
    ),
    ("event_id", fuzzing::event_id, &["1-300005", "4294967295--18446744073709551615"]),
    (
        "gtid_set",
        fuzzing::gtid_set,
        &[
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3:door:5:7-9,\n3e11fa47-71ca-11e1-9e33-c80aa9429563:1",
            "0-1-100,1-2-18446744073709551615",
        ],
    ),
    ("file_offset", fuzzing::file_offset, &["mysql-bin.1000000:18446744073709551615"]),
    (
        "query",
        fuzzing::query,
        &[
            "since=1-5&last=7&max_age=20.5&timeout=25&limit=100&maxvid=3&doorno=1,2&_=1\n1-6",
            "lastEventId=1-2&vid=%E5%BC%80",
        ],
    ),
    ("checkpoint", fuzzing::checkpoint, &[CHECKPOINT]),
    (
        "people_file",
        fuzzing::people_file,
        &[
            "rfsim,name,title,message,photo,doors,valid_from,valid_to,priority,lang\r\n=\"0012\",王小明,,\"{greeting}\r\n{name}\",a.jpg,01;2,2026/1/5,2026-12-31,-5,zh-CN\r\n",
            "NAME;note;rfsim\n\n;\"a;\"\"b\";1.23E+15\r1234567890123450;x;y",
        ],
    ),
];

/// Making the command line for each takes its time.
const SLOW: &[Target] = &[(
    "options_file",
    fuzzing::options_file,
    &[
        "db = 'mysql://a@b/c'\nhistory = 5\nssl_mode = 'required'\nallow-anonymous = true\ndb-heartbeat = 0.5\nstart-from = '0-1-5'\nlisten = '127.0.0.1:0'\n",
    ],
)];

const CHECKPOINT: &str = r#"{"server":{"flavour":"mysql","server_uuid":"3e11fa47-71ca-11e1-9e33-c80aa9429562","server_id":1,"host":null},"table":"access.vdooropen","position":{"file":"mysql-bin.000042","offset":1234,"file_began":1700000000,"gtid_set":"0-1-5"},"epoch":1,"greatest_key":300005,"recent_keys":[[290006,300003],[300005,300005],[300004,300004]],"older_through":null,"begins_with_the_next":false,"read_ahead":{"keys":[[1,2]],"until":"mysql-bin.000042:99"},"replica_id":7,"saved_at_ms":1}"#;

fn run(files: &[File], last: &Last) {
    let longer = longer();
    let end = Instant::now() + longer.unwrap_or(ENOUGH);
    let begun = Instant::now();
    let mut done: BTreeMap<&str, (u32, Duration)> = BTreeMap::new();
    let bodies: Vec<&[u8]> = files.iter().flatten().map(|event| &event[19..]).collect();
    let batch = 100;
    let mut seeds = 0..;
    'all: loop {
        let seeds: Range<u64> = {
            let first = seeds.next().unwrap() * batch;
            first..first + batch
        };
        if longer.is_none() && seeds.start >= u64::from(RUNS) {
            break;
        }
        for seed in seeds {
            let mut rng = Rng::with_seed(seed);
            let mut events = files[rng.usize(..files.len())].clone();
            mutate_events(&mut events, files, &mut rng);
            attempt("binlog", |data| _ = fuzzing::binlog(data), &packets(&events), seed, last, &mut done);

            let body = bodies[rng.usize(..bodies.len())];
            let from = rng.usize(..=body.len().min(60));
            let mut value = body[from..body.len().min(from + 400)].to_vec();
            mutate(&mut value, &mut rng);
            attempt("value", fuzzing::value, &value, seed, last, &mut done);

            let slow = if seed % 20 == 0 { SLOW } else { &[] };
            for (name, target, texts) in TEXTS.iter().chain(slow) {
                let mut text = texts[rng.usize(..texts.len())].as_bytes().to_vec();
                if rng.bool() {
                    mutate(&mut text, &mut rng)
                } else {
                    mutate_text(&mut text, &mut rng)
                }
                attempt(name, *target, &text, seed, last, &mut done);
            }
            if Instant::now() > end {
                break 'all;
            }
        }
    }
    let mut text = format!("fuzzed for {:.1} s:", begun.elapsed().as_secs_f64());
    for (name, (count, took)) in &done {
        text += &format!(" {name} {count} ({:.0}/s),", f64::from(*count) / took.as_secs_f64());
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Runs one input, and leaves it in a file if it does not end well.
fn attempt(
    name: &'static str,
    target: impl Fn(&[u8]),
    data: &[u8],
    seed: u64,
    last: &Last,
    done: &mut BTreeMap<&'static str, (u32, Duration)>,
) {
    last.set(name, data);
    let begun = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(data)));
    let took = begun.elapsed();
    if outcome.is_err() || took > HANGS {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}-{seed}"));
        fs::write(&path, data).unwrap();
        eprintln!("{name}, seed {seed}, {took:?}: the input is {}", path.display());
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
        panic!("{name} takes {took:?}");
    }
    let (count, sum) = done.entry(name).or_default();
    *count += 1;
    *sum += took;
}

/// Changes a few events, and mends most of the lengths and checksums that this breaks: what stands behind
/// them is to be reached, too.
fn mutate_events(events: &mut File, files: &[File], rng: &mut Rng) {
    for _ in 0..rng.usize(1..=4) {
        if events.len() < 2 {
            return;
        }
        let at = rng.usize(..events.len());
        match rng.u8(..8) {
            0 => drop(events.remove(at)),
            1 => {
                let again = events[at].clone();
                events.insert(rng.usize(..events.len()), again);
            }
            2 => {
                let other = rng.usize(..events.len());
                events.swap(at, other);
            }
            3 => {
                let file = &files[rng.usize(..files.len())];
                if let Some(foreign) = rng.choice(file) {
                    events.insert(at, foreign.clone());
                }
            }
            4 => {
                let file = &files[rng.usize(..files.len())];
                if let Some(foreign) = rng.choice(file) {
                    let cut = rng.usize(..=events[at].len());
                    let tail = foreign[rng.usize(..foreign.len())..].to_vec();
                    events[at].truncate(cut);
                    events[at].extend(tail);
                }
                mend(&mut events[at], rng);
            }
            _ => {
                mutate(&mut events[at], rng);
                mend(&mut events[at], rng);
            }
        }
    }
}

fn mend(event: &mut [u8], rng: &mut Rng) {
    if rng.u8(..16) == 0 || event.len() < 23 {
        return;
    }
    let size = event.len() as u32;
    event[9..13].copy_from_slice(&size.to_le_bytes());
    let (body, sum) = event.split_last_chunk_mut::<4>().unwrap();
    *sum = crc32fast::hash(body).to_le_bytes();
}

/// Flips, sets, cuts, grows, repeats; numbers at the edges of their range.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.usize(1..=4) {
        if bytes.is_empty() {
            bytes.push(rng.u8(..));
        }
        // Headers and lengths stand in front.
        let front = if rng.bool() { bytes.len() } else { bytes.len().min(80) };
        let at = rng.usize(..front);
        match rng.u8(..8) {
            0 => bytes[at] ^= 1 << rng.u8(..8),
            1 => bytes[at] = *rng.choice([0, 1, 0x7f, 0x80, 0xfb, 0xfc, 0xfd, 0xfe, 0xff].iter()).unwrap(),
            2 => bytes[at] = rng.u8(..),
            3 => bytes[at] = bytes[at].wrapping_add(if rng.bool() { 1 } else { 255 }),
            4 => bytes.truncate(at),
            5 => {
                let length = rng.usize(1..20);
                let more: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
                bytes.splice(at..at, more);
            }
            6 => {
                let end = bytes.len().min(at + rng.usize(1..30));
                let part = bytes[at..end].to_vec();
                let to = rng.usize(..bytes.len());
                bytes.splice(to..to, part);
            }
            _ => {
                let edge =
                    [u64::MAX, 1 << 31, 1 << 63, (1 << 32) - 1, 0, 1 << 40][rng.usize(..6)].to_le_bytes();
                let width = rng.usize(1..=8).min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&edge[..width]);
            }
        }
    }
}

/// The same with what texts are made of.
fn mutate_text(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let parts = [
        "-",
        ":",
        ",",
        ".",
        "0",
        "9",
        "18446744073709551616",
        "-1",
        "=",
        "&",
        "%",
        "%00",
        "\n",
        "\"",
        "[",
        "{",
        "null",
        "1e999",
        "/*",
        "*/",
        "/*!",
        "`",
        " ",
        "é",
        "\u{0}",
    ];
    for _ in 0..rng.usize(1..=4) {
        let at = rng.usize(..=bytes.len());
        let end = bytes.len().min(at + if rng.bool() { 0 } else { rng.usize(1..6) });
        let part = parts[rng.usize(..parts.len())];
        bytes.splice(at..end, part.bytes());
    }
}

fn write_corpus(folder: &Path, files: &[File]) {
    let put = |target: &str, number: usize, data: &[u8]| {
        let folder = folder.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("seed-{number:04}")), data).unwrap();
    };
    for (number, file) in files.iter().enumerate() {
        put("binlog", number, &packets(file));
    }
    for (number, event) in files.iter().flatten().enumerate() {
        put("value", number, &event[19..event.len().min(500)]);
    }
    for (name, _, texts) in TEXTS.iter().chain(SLOW) {
        for (number, text) in texts.iter().enumerate() {
            put(name, number, text.as_bytes());
        }
    }
}
