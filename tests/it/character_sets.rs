//! Every character of every character set, on every server: the JSON has what the server itself
//! converts the text to.

use std::collections::HashMap;
use std::fmt::Write as _;

use doorcast::demo::server::PrivateServer;
use doorcast::row::EncodedRow;
use doorcast::row::charset::CharMap;
use doorcast::table::Table;
use futures_util::future::join_all;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::binlog::{each_insert, position};
use crate::deadline::deadline;
use crate::servers;

#[tokio::test]
async fn text_reads_as_the_server_converts_it() {
    join_all(servers::all().await.iter().map(every_set)).await;
}

async fn every_set(server: &'static PrivateServer) {
    let database = servers::database(server, "charsets").await;
    let mut root = database.admin().await;
    root.query_drop("SET sql_mode = ''").await.unwrap();
    let position = position(server, &mut root).await;
    let mut tables = HashMap::new();
    for set in sets(&mut root).await {
        let create =
            format!("CREATE TABLE {set} (id INT PRIMARY KEY AUTO_INCREMENT, v TEXT CHARACTER SET {set})");
        root.query_drop(create).await.unwrap();
        for sql in [Some(all_of_unicode(&set)), all_of_the_set(&set)].into_iter().flatten() {
            deadline(root.query_drop(&sql)).await.unwrap();
        }
        let conn = server.root(None).await.unwrap();
        let table = deadline(Table::open(conn, &database.name, &set)).await.unwrap();
        tables.insert(set, table);
    }

    let mut images: HashMap<String, Vec<EncodedRow>> = HashMap::new();
    deadline(each_insert(server, &database.name, &position, |table, map, rows| {
        let encoded = images.entry(table.to_owned()).or_default();
        tables[table].layout().encode_image(map, rows, encoded).unwrap();
    }))
    .await;

    for (set, table) in &mut tables {
        let rows = table.rows_after(0, 10_000).await.unwrap();
        assert_eq!(images.get(set), Some(&rows), "{} {set}", server.name());
        let sql = format!("SELECT CONVERT(v USING utf8mb4) FROM {set} ORDER BY id");
        let converted: Vec<String> = root.query(sql).await.unwrap();
        assert_eq!(rows.len(), converted.len());
        for (row, converted) in rows.iter().zip(converted) {
            check(server, set, row, &converted);
        }
    }
}

async fn sets(root: &mut Conn) -> Vec<String> {
    const SQL: &str = "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS \
                       WHERE CHARACTER_SET_NAME NOT IN ('binary', 'filename')";
    let sets: Vec<String> = root.query(SQL).await.unwrap();
    assert!(sets.len() >= 38, "{sets:?}");
    sets
}

/// In the place of some, an answer of MariaDB names others.
#[tokio::test]
async fn text_of_every_collation_is_read() {
    for server in servers::all().await {
        let database = servers::database(server, "collations").await;
        let mut root = database.admin().await;
        for set in sets(&mut root).await {
            let collations = collations(&mut root, &set).await;
            let mut create = format!("CREATE TABLE {set} (id INT PRIMARY KEY");
            for (index, collation) in collations.iter().enumerate() {
                let _ = write!(create, ", c{index} CHAR(1) COLLATE {collation} DEFAULT 'x'");
            }
            root.query_drop(format!("{create}) CHARACTER SET {set}")).await.unwrap();
            root.query_drop(format!("INSERT INTO {set} (id) VALUES (1)")).await.unwrap();
            let conn = server.root(None).await.unwrap();
            let mut table = deadline(Table::open(conn, &database.name, &set)).await.unwrap();
            let what = format!("{} {set}", server.name());
            let rows = table.latest(1).await.unwrap_or_else(|err| panic!("{what}: {err:?}"));
            let row: serde_json::Value = serde_json::from_slice(&rows[0].json).unwrap();
            for (index, collation) in collations.iter().enumerate() {
                assert_eq!(row[format!("c{index}")], "x", "{what} {collation}");
            }
        }
    }
}

async fn collations(root: &mut Conn, set: &str) -> Vec<String> {
    const SQL: &str =
        "SELECT * FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE CHARACTER_SET_NAME = ?";
    let rows: Vec<mysql_async::Row> = root.exec(SQL, (set,)).await.unwrap();
    // MariaDB has one and the same for several sets, from 10.10 on.
    let name = |row: &mysql_async::Row, name: &str| row.get::<Option<String>, _>(name).flatten();
    let full = |row| name(row, "FULL_COLLATION_NAME").or_else(|| name(row, "COLLATION_NAME")).unwrap();
    rows.iter().map(full).collect()
}

/// The server writes a question mark where doorcast writes U+FFFD.
fn check(server: &PrivateServer, set: &str, row: &EncodedRow, converted: &str) {
    let object: serde_json::Value = serde_json::from_slice(&row.json).unwrap();
    let decoded = object["v"].as_str().unwrap();
    let what = format!("{} {set} {}", server.name(), row.key);
    assert_eq!(decoded.chars().count(), converted.chars().count(), "{what}");
    let mut replaced = 0;
    for (ours, theirs) in decoded.chars().zip(converted.chars()) {
        let none = ours == char::REPLACEMENT_CHARACTER && theirs == '?';
        assert!(ours == theirs || none, "{what}: {ours:?} for {theirs:?} in {converted}");
        replaced += u32::from(none);
    }
    assert_eq!(row.replaced, replaced, "{what}");
}

/// Every character of the basic plane and some of the next: what the set does not have becomes a question
/// mark on its way in.
fn all_of_unicode(set: &str) -> String {
    let codes: Vec<u32> = (1..0x1_1000).chain(0x1_f600..0x1_f700).chain(0x2_0000..0x2_0100).collect();
    let mut sql = format!("INSERT INTO {set} (v) VALUES ");
    for (index, block) in codes.chunks(256).enumerate() {
        let text: String = block.iter().filter_map(|code| char::from_u32(*code)).collect();
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(sql, "{comma}(CONVERT(x'{}' USING utf8mb4))", hex(text.as_bytes()));
    }
    sql
}

/// Every sequence of bytes that may be a character of the set. Those that the server refuses become NULL
/// or are cut; what it stores is compared.
fn all_of_the_set(set: &str) -> Option<String> {
    if set.starts_with("utf") || set == "ucs2" {
        return None;
    }
    let sequences = CharMap::sequences(set);
    let mut sql = format!("INSERT INTO {set} (v) VALUES ");
    for (index, block) in sequences.chunks(128).enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(sql, "{comma}(IFNULL(CONVERT(x'{}' USING {set}), ''))", hex(&block.concat()));
    }
    Some(sql)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
