//! What an independent decoder, mysql_cdc, reads in the same binlog, for every type that it can.
//!
//! It has no signed integers, no negative TIME and no character set but UTF-8, knows the index of a
//! label and not its text, and counts years from 1900 even for the year 0.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use doorcast::row::{Column, Kind, Labels};
use mysql_async::Conn;
use mysql_cdc::binlog_client::BinlogClient;
use mysql_cdc::binlog_options::BinlogOptions;
use mysql_cdc::events::binlog_event::BinlogEvent;
use mysql_cdc::events::row_events::mysql_value::MySqlValue;
use mysql_cdc::replica_options::ReplicaOptions;
use mysql_cdc::ssl_mode::SslMode;
use serde_json::{Value, json};

use crate::row_types::{Case, NUMBERS, STRINGS, TIMES, Tables};
use crate::servers::{self, PASSWORD};

type Rows = HashMap<String, Vec<Vec<Option<MySqlValue>>>>;

/// The server is the test's own: mysql_cdc decodes every table there is, and gives up at the first value
/// that it can't.
#[tokio::test]
async fn mysql_cdc_reads_the_same_values() {
    for kind in servers::kinds() {
        let server = servers::private(kind, &[]).await;
        servers::create(&mut server.root(None).await.unwrap(), "cdc", "cdc").await;
        // mysql_cdc can't do without a password, and with one only once the server has it in its cache.
        let url = format!("mysql://cdc:{PASSWORD}@127.0.0.1:{}", server.port());
        Conn::from_url(url).await.unwrap().disconnect().await.unwrap();
        let cases = [NUMBERS, TIMES, STRINGS].into_iter().flatten().filter(|case| is_readable(case));
        let tables = Tables::fill(&server, "cdc", cases).await;
        let images = tables.images().await;
        let (port, position) = (server.port(), tables.position.clone());
        let theirs = tokio::task::spawn_blocking(move || read(port, position)).await.unwrap();
        for (case, table) in &tables.cases {
            let column = &table.layout().columns()[1];
            let ours = images[table.name()].as_ref().unwrap();
            let theirs = &theirs[table.name()];
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(theirs) {
                let object: Value = serde_json::from_slice(&ours.json).unwrap();
                let what = format!("{kind} {} {theirs:?}", case.column);
                assert!(agree(column, &object["v"], theirs[1].as_ref()), "{what}: {}", object["v"]);
            }
        }
    }
}

fn is_readable(case: &Case) -> bool {
    let odd = ["gbk", "big5", "latin1", "BINARY", "YEAR(2)"];
    let negative_time =
        case.column.starts_with("TIME") && case.values.iter().any(|(value, _)| value.starts_with("'-"));
    !odd.iter().any(|odd| case.column.contains(odd)) && !negative_time
}

/// All inserted rows by table, up to the end of the binlog.
fn read(port: u16, (file, offset): (String, u64)) -> Rows {
    let options = ReplicaOptions {
        port,
        hostname: "127.0.0.1".to_owned(),
        ssl_mode: SslMode::Disabled,
        username: "cdc".to_owned(),
        password: PASSWORD.to_owned(),
        blocking: false,
        binlog: BinlogOptions::from_position(file, u32::try_from(offset).unwrap()),
        ..ReplicaOptions::default()
    };
    let mut names = HashMap::new();
    let mut rows = Rows::new();
    for event in BinlogClient::new(options).replicate().unwrap() {
        match event.unwrap().1 {
            BinlogEvent::TableMapEvent(map) => {
                names.insert(map.table_id, map.table_name);
            }
            BinlogEvent::WriteRowsEvent(event) => {
                let table = rows.entry(names[&event.table_id].clone()).or_default();
                table.extend(event.rows.into_iter().map(|row| row.cells));
            }
            _ => {}
        }
    }
    rows
}

fn agree(column: &Column, ours: &Value, theirs: Option<&MySqlValue>) -> bool {
    let Some(theirs) = theirs else { return ours.is_null() };
    let text = || ours.as_str().unwrap();
    match theirs {
        MySqlValue::TinyInt(number) => *ours == integer(column, (*number).into(), 8),
        MySqlValue::SmallInt(number) => *ours == integer(column, (*number).into(), 16),
        MySqlValue::MediumInt(number) => *ours == integer(column, (*number).into(), 24),
        MySqlValue::Int(number) => *ours == integer(column, (*number).into(), 32),
        MySqlValue::BigInt(number) => *ours == integer(column, *number, 64),
        #[expect(clippy::cast_possible_truncation, reason = "an f32 printed and read again")]
        MySqlValue::Float(number) => (ours.as_f64().unwrap() as f32).to_bits() == number.to_bits(),
        MySqlValue::Double(number) => ours.as_f64().unwrap().to_bits() == number.to_bits(),
        MySqlValue::Decimal(number) => match column.kind {
            Kind::Decimal { zerofill: true, .. } => {
                text().trim_start_matches('0') == number.trim_start_matches('0')
            }
            _ => text() == number,
        },
        MySqlValue::String(string) => text() == string,
        MySqlValue::Bit(bits) => {
            let number = bits.iter().fold(0_u64, |sum, bit| sum << 1 | u64::from(*bit));
            let bytes = number.to_be_bytes();
            text() == BASE64_STANDARD.encode(&bytes[8 - bits.len().div_ceil(8)..])
        }
        MySqlValue::Enum(index) => text() == label(column, *index),
        MySqlValue::Set(bits) => {
            let chosen = (0..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| label(column, bit + 1));
            text() == chosen.collect::<Vec<_>>().join(",")
        }
        MySqlValue::Blob(bytes) => match column.kind {
            Kind::Text { .. } => text().as_bytes() == bytes,
            _ => text() == BASE64_STANDARD.encode(bytes),
        },
        MySqlValue::Year(year) => *ours == json!(if *year == 1900 { 0 } else { *year }),
        MySqlValue::Date(date) => text() == format!("{:04}-{:02}-{:02}", date.year, date.month, date.day),
        MySqlValue::Time(time) => {
            let whole = format!("{:02}:{:02}:{:02}", time.hour, time.minute, time.second);
            is_time(text(), &whole, time.millis)
        }
        MySqlValue::DateTime(value) => {
            let date = format!("{:04}-{:02}-{:02}", value.year, value.month, value.day);
            let clock = format!("{:02}:{:02}:{:02}", value.hour, value.minute, value.second);
            is_time(text(), &format!("{date} {clock}"), value.millis)
        }
        MySqlValue::Timestamp(0) => text().starts_with("0000-00-00 00:00:00"),
        MySqlValue::Timestamp(millis) => unix_millis(text()) == *millis,
    }
}

fn integer(column: &Column, number: u64, bits: u32) -> Value {
    match column.kind {
        Kind::Int { unsigned: true, .. } => json!(number),
        _ => json!((number << (64 - bits)).cast_signed() >> (64 - bits)),
    }
}

fn label(column: &Column, number: u32) -> &str {
    let (Kind::Enum { labels: Labels(labels), .. } | Kind::Set { labels: Labels(labels), .. }) = &column.kind
    else {
        panic!("{} has no labels", column.name)
    };
    number.checked_sub(1).map_or("", |index| labels[index as usize].as_deref().unwrap())
}

/// `text` is `whole` and perhaps a fraction, which mysql_cdc has to the millisecond.
fn is_time(text: &str, whole: &str, millis: u32) -> bool {
    let (before, fraction) = text.split_once('.').unwrap_or((text, ""));
    before == whole && fraction_millis(fraction) == u64::from(millis)
}

fn fraction_millis(fraction: &str) -> u64 {
    format!("{fraction:0<3}")[..3].parse().unwrap()
}

/// Of `2026-11-20T07:15:00.123Z`, by counting days.
fn unix_millis(text: &str) -> u64 {
    let (whole, fraction) =
        text.trim_end_matches('Z').split_once('.').unwrap_or((text.trim_end_matches('Z'), ""));
    let numbers: Vec<u64> = whole.split(['-', 'T', ':']).map(|number| number.parse().unwrap()).collect();
    let [year, month, day, hour, minute, second] = numbers[..] else { panic!("{text}") };
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let of_month =
        |month: u64| [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30][month as usize - 1];
    let days = (1970..year).map(|year| 365 + u64::from(leap(year))).sum::<u64>()
        + (1..month).map(of_month).sum::<u64>()
        + day
        - 1;
    (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + fraction_millis(fraction)
}
