//! Every column type, on every server: the JSON from the binlog is the JSON from a SELECT, byte for
//! byte, and is what DESIGN §6 promises.

use std::collections::HashMap;

use doorcast::demo::binary::Flavour;
use doorcast::demo::server::PrivateServer;
use doorcast::row::{EncodedRow, RowError, RowImages};
use doorcast::table::Table;
use mysql_async::Conn;
use mysql_async::binlog::events::TableMapEvent;
use mysql_async::prelude::Queryable;

use crate::binlog::{each_insert, position};
use crate::deadline::deadline;
use crate::servers;

/// A column and what is put in it. Each value is SQL, with the JSON it must become; `""` where the
/// two sides need only agree.
pub(crate) struct Case {
    /// Its definition.
    pub(crate) column: &'static str,
    /// Beginnings of the names of the servers that have it.
    on: &'static [&'static str],
    pub(crate) values: &'static [(&'static str, &'static str)],
}

const EVERYWHERE: &[&str] = &[""];
const MARIADB: &[&str] = &["mariadb"];
const MYSQL_9: &[&str] = &["mysql-9"];

const fn case(column: &'static str, values: &'static [(&'static str, &'static str)]) -> Case {
    Case { column, on: EVERYWHERE, values }
}

impl Case {
    const fn on(self, on: &'static [&'static str]) -> Case {
        Case { on, ..self }
    }
}

pub(crate) const NUMBERS: &[Case] = &[
    case("TINYINT", &[("-128", "-128"), ("127", "127"), ("0", "0"), ("NULL", "null")]),
    case("TINYINT UNSIGNED", &[("0", "0"), ("128", "128"), ("255", "255")]),
    case("BOOLEAN", &[("TRUE", "1"), ("FALSE", "0")]),
    case("SMALLINT", &[("-32768", "-32768"), ("32767", "32767")]),
    case("SMALLINT UNSIGNED", &[("65535", "65535")]),
    case("MEDIUMINT", &[("-8388608", "-8388608"), ("8388607", "8388607"), ("-1", "-1")]),
    case("MEDIUMINT UNSIGNED", &[("16777215", "16777215")]),
    case("INT", &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
    case("INT UNSIGNED", &[("4294967295", "4294967295")]),
    case("INT(8) ZEROFILL", &[("42", "42")]),
    case(
        "BIGINT",
        &[("-9223372036854775808", "-9223372036854775808"), ("9223372036854775807", "9223372036854775807")],
    ),
    case("BIGINT UNSIGNED", &[("18446744073709551615", "18446744073709551615"), ("0", "0")]),
    case("YEAR", &[("1901", "1901"), ("2155", "2155"), ("0", "0"), ("2026", "2026")]),
    case("YEAR(2)", &[("1999", "99"), ("2001", "1"), ("2070", "70")]).on(MARIADB),
    case(
        "FLOAT",
        &[
            ("0.1", "0.1"),
            ("-0e0", ""),
            ("3.4028234e38", "3.4028235e38"),
            ("1e-45", "1e-45"),
            ("16777216", "16777216.0"),
            ("5", "5.0"),
        ],
    ),
    case("FLOAT(7,2)", &[("1.005", "1.0"), ("99999.99", "99999.99"), ("1.5", "1.5")]),
    case("FLOAT UNSIGNED", &[("0.3", "0.3")]),
    case(
        "DOUBLE",
        &[
            ("0.1", "0.1"),
            ("1.7976931348623157e308", "1.7976931348623157e308"),
            ("5e-324", "5e-324"),
            ("-0e0", ""),
            ("1e15", "1000000000000000.0"),
            ("1e16", "1e16"),
            ("-2.5", "-2.5"),
            ("9007199254740993", "9007199254740992.0"),
        ],
    ),
    case("DOUBLE(10,3)", &[("1234567.8915", "1234567.891")]),
    case(
        "DECIMAL(10,2)",
        &[
            ("-12.5", "\"-12.50\""),
            ("0", "\"0.00\""),
            ("99999999.99", "\"99999999.99\""),
            ("-0.01", "\"-0.01\""),
        ],
    ),
    case(
        "DECIMAL(65,30)",
        &[
            ("99999999999999999999999999999999999.999999999999999999999999999999", ""),
            ("-1e-30", "\"-0.000000000000000000000000000001\""),
            ("1000000000", "\"1000000000.000000000000000000000000000000\""),
        ],
    ),
    case("DECIMAL(5,5)", &[("0.12345", "\"0.12345\""), ("-0.5", "\"-0.50000\"")]),
    case(
        "DECIMAL(18,0)",
        &[("1000000000", "\"1000000000\""), ("-999999999999999999", "\"-999999999999999999\"")],
    ),
    case("DECIMAL(10,2) UNSIGNED ZEROFILL", &[("3.1", "\"00000003.10\"")]),
    case("DECIMAL(20,0) ZEROFILL", &[("7", "\"00000000000000000007\"")]),
    case("BIT(1)", &[("b'1'", "\"AQ==\""), ("b'0'", "\"AA==\"")]),
    case("BIT(10)", &[("b'1000000001'", "\"AgE=\""), ("b'1100000010'", "\"AwI=\"")]),
    case("BIT(64)", &[("0xffffffffffffff01", "\"/////////wE=\"")]),
];

pub(crate) const TIMES: &[Case] = &[
    case(
        "DATE",
        &[
            ("'2026-11-20'", "\"2026-11-20\""),
            ("'0000-00-00'", "\"0000-00-00\""),
            ("'2026-00-00'", "\"2026-00-00\""),
            ("'9999-12-31'", "\"9999-12-31\""),
            ("'0001-01-01'", "\"0001-01-01\""),
        ],
    ),
    case(
        "TIME",
        &[
            ("'07:15:00'", "\"07:15:00\""),
            ("'-838:59:59'", "\"-838:59:59\""),
            ("'838:59:59'", "\"838:59:59\""),
            ("'-00:00:01'", "\"-00:00:01\""),
            ("'100:00:00'", "\"100:00:00\""),
        ],
    ),
    case(
        "TIME(1)",
        &[
            ("'-00:00:00.5'", "\"-00:00:00.5\""),
            ("'12:00:00.9'", "\"12:00:00.9\""),
            ("'-01:00:00'", "\"-01:00:00.0\""),
        ],
    ),
    case(
        "TIME(3)",
        &[
            ("'-12:34:56.789'", "\"-12:34:56.789\""),
            ("'-838:59:58.999'", "\"-838:59:58.999\""),
            ("'00:00:00.001'", "\"00:00:00.001\""),
        ],
    ),
    case(
        "TIME(6)",
        &[("'-00:00:00.000001'", "\"-00:00:00.000001\""), ("'838:59:58.999999'", "\"838:59:58.999999\"")],
    ),
    case(
        "DATETIME",
        &[
            ("'2026-11-20 07:15:00'", "\"2026-11-20 07:15:00\""),
            ("'0000-00-00'", "\"0000-00-00 00:00:00\""),
            ("'9999-12-31 23:59:59'", "\"9999-12-31 23:59:59\""),
            ("'2026-01-00 01:02:03'", "\"2026-01-00 01:02:03\""),
        ],
    ),
    case(
        "DATETIME(2)",
        &[("'2026-11-20 07:15:00.129'", ""), ("'1000-01-01 00:00:00.01'", "\"1000-01-01 00:00:00.01\"")],
    ),
    case("DATETIME(5)", &[("'2026-11-20 07:15:00.12345'", "\"2026-11-20 07:15:00.12345\"")]),
    case(
        "DATETIME(6)",
        &[
            ("'2026-11-20 07:15:00.000001'", "\"2026-11-20 07:15:00.000001\""),
            ("'0000-00-00'", "\"0000-00-00 00:00:00.000000\""),
        ],
    ),
    case(
        "TIMESTAMP NULL",
        &[
            ("'2026-11-20 07:15:00'", "\"2026-11-20T07:15:00Z\""),
            ("0", "\"0000-00-00 00:00:00\""),
            ("'1970-01-01 00:00:01'", "\"1970-01-01T00:00:01Z\""),
            ("'2038-01-19 03:14:07'", "\"2038-01-19T03:14:07Z\""),
            ("NULL", "null"),
        ],
    ),
    case(
        "TIMESTAMP(3) NULL",
        &[
            ("'2026-11-20 07:15:00.123'", "\"2026-11-20T07:15:00.123Z\""),
            ("0", "\"0000-00-00 00:00:00.000\""),
            ("'2024-02-29 23:59:59'", "\"2024-02-29T23:59:59.000Z\""),
        ],
    ),
    case(
        "TIMESTAMP(6) NULL",
        &[
            ("'1970-01-01 00:00:01.000001'", "\"1970-01-01T00:00:01.000001Z\""),
            ("'2038-01-19 03:14:07.999999'", "\"2038-01-19T03:14:07.999999Z\""),
        ],
    ),
    case("TIMESTAMP NULL", &[("'2106-02-07 06:28:15'", "\"2106-02-07T06:28:15Z\"")]).on(&["mariadb-11"]),
];

pub(crate) const STRINGS: &[Case] = &[
    case(
        "CHAR(16) CHARACTER SET ascii",
        &[
            ("'00A1B2C3D4E5F607'", "\"00A1B2C3D4E5F607\""),
            ("'a  '", "\"a\""),
            ("''", "\"\""),
            ("'a\\\"b\\\\c/'", "\"a\\\"b\\\\c/\""),
            ("NULL", "null"),
        ],
    ),
    case(
        "CHAR(10) CHARACTER SET utf8mb4",
        &[("'门禁😀'", "\"门禁😀\""), ("'  x  '", "\"  x\""), ("'\\n\\r\\t\\0'", "\"\\n\\r\\t\\u0000\"")],
    ),
    case("CHAR(255) CHARACTER SET utf8mb4", &[("REPEAT('門', 255)", ""), ("'short'", "\"short\"")]),
    case("CHAR(100) CHARACTER SET utf8", &[("REPEAT('门', 100)", ""), ("''", "\"\"")]),
    case("VARCHAR(15) CHARACTER SET utf8mb4", &[("'a  '", "\"a  \""), ("''", "\"\""), ("'é'", "\"é\"")]),
    case("VARCHAR(255) CHARACTER SET latin1", &[("REPEAT('é', 255)", "")]),
    case("VARCHAR(256) CHARACTER SET latin1", &[("REPEAT('é', 256)", ""), ("'x'", "\"x\"")]),
    case("VARCHAR(5000) CHARACTER SET utf8mb4", &[("REPEAT('😀', 5000)", "")]),
    case("TINYTEXT CHARACTER SET utf8mb4", &[("'中文'", "\"中文\"")]),
    case("TEXT CHARACTER SET gbk", &[("'中文'", "\"中文\""), ("REPEAT('门禁', 10000)", "")]),
    case("MEDIUMTEXT CHARACTER SET utf8mb4", &[("REPEAT('x', 70000)", "")]),
    case("LONGTEXT CHARACTER SET big5", &[("'門禁'", "\"門禁\"")]),
    case(
        "BINARY(4)",
        &[
            ("'a'", "\"YQAAAA==\""),
            ("''", "\"AAAAAA==\""),
            ("x'61000000'", "\"YQAAAA==\""),
            ("x'20202020'", "\"ICAgIA==\""),
            ("x'00ff0020'", "\"AP8AIA==\""),
        ],
    ),
    case("BINARY(255)", &[("'a'", ""), ("x'ff'", "")]),
    case("VARBINARY(10)", &[("x'00ff00'", "\"AP8A\""), ("''", "\"\""), ("x'2020'", "\"ICA=\"")]),
    case("VARBINARY(1000)", &[("REPEAT(x'fe', 1000)", "")]),
    case("TINYBLOB", &[("x'0001'", "\"AAE=\"")]),
    case("BLOB", &[("REPEAT(x'00', 60000)", "")]),
    case("MEDIUMBLOB", &[("x'ff'", "\"/w==\"")]),
    case("LONGBLOB", &[("x'ff'", "\"/w==\""), ("NULL", "null")]),
    case(
        "ENUM('a','it''s','x,y','','b\\\\c','\\n') CHARACTER SET utf8mb4",
        &[
            ("'a'", "\"a\""),
            ("2", "\"it's\""),
            ("3", "\"x,y\""),
            ("4", "\"\""),
            ("5", "\"b\\\\c\""),
            ("6", "\"\\n\""),
            ("'nonsense'", "\"\""),
        ],
    ),
    case("ENUM('开','关') CHARACTER SET gbk", &[("'开'", "\"开\""), ("2", "\"关\"")]),
    case(
        "SET('p','q r','\"','é') CHARACTER SET latin1",
        &[("''", "\"\""), ("'p,é'", "\"p,é\""), ("15", "\"p,q r,\\\",é\"")],
    ),
    case(
        "SET('1','2','3','4','5','6','7','8','9','10','11','12','13','14','15','16','17')",
        &[("'1,17'", "\"1,17\"")],
    ),
    case(SET_OF_40, &[("'a1,a40'", "\"a1,a40\""), ("0", "\"\"")]),
    case("GEOMETRY", &[("POINT_", "")]),
    case("POINT", &[("POINT_", "\"AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA==\""), ("NULL", "null")]),
];

const SET_OF_40: &str = "SET('a1','a2','a3','a4','a5','a6','a7','a8','a9','a10','a11','a12','a13','a14','a15','a16','a17','a18','a19','a20','a21','a22','a23','a24','a25','a26','a27','a28','a29','a30','a31','a32','a33','a34','a35','a36','a37','a38','a39','a40')";

const JSON: &[Case] = &[
    case("JSON", &[
        ("'{}'", "{}"),
        ("'[]'", "[]"),
        ("'null'", "null"),
        ("'true'", "true"),
        ("'\"x\"'", "\"x\""),
        ("'{\"b\": 1, \"aa\": [1, -1, 65536, -65536, 4294967296, 18446744073709551615, -9223372036854775808]}'", ""),
        ("'[1.0, 1.50, 0.1, -0.0, 1e2, 1e20, 1.5e-7, 1.7976931348623157e308, 5e-324]'", ""),
        ("'[123456789012345678901234567890, 0.1234567890123456789]'", ""),
        ("'[\"\\\\n\\\\r\\\\t\\\\u0001\\\\u001f\\\\\"\\\\\\\\ / é 门 😀\"]'", ""),
        ("'  {\"a b\" : [ {\"c\":{}} , [] ] }  '", "{\"a b\":[{\"c\":{}},[]]}"),
        ("CONCAT('[\"', REPEAT('x', 70000), '\"]')", ""),
        ("CONCAT('[', REPEAT('[', 30), REPEAT(']', 30), ']')", ""),
        ("CONCAT('{', '\"k\": [', REPEAT('1234567890, ', 20000), '1]}')", ""),
        ("NULL", "null"),
    ])
    .on(&["mariadb", "mysql-9"]),
    case("JSON", &[
        ("JSON_OBJECT('d', CAST('2026-11-20' AS DATE), 't', CAST('-12:34:56.5' AS TIME(6)), 'dt', CAST('2026-11-20 07:15:00.25' AS DATETIME(6)), 'y', CAST('2026' AS YEAR))", ""),
        ("JSON_ARRAY(1.10, 1.50, CAST(12345678901234567890.123456789 AS DECIMAL(40,9)), CAST(5 AS DECIMAL(5,0)), -0.5, CAST(0.1 AS FLOAT), TIMESTAMP'2026-11-20 07:15:00')", ""),
        ("JSON_ARRAY(x'00ff', REPEAT(x'41', 100), b'101', REPEAT(x'42', 57), REPEAT(x'42', 58))", ""),
        ("JSON_OBJECT('g', ST_GeomFromText('POINT(1 2)'))", ""),
        (
            "(WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
             SELECT JSON_ARRAYAGG(EXP(RAND(i) * 1400 - 700) * IF(i % 2, 1, -1)) FROM n)",
            "",
        ),
        (
            "(WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
             SELECT JSON_ARRAYAGG(CAST(EXP(RAND(i) * 60 - 20) AS DECIMAL(40, 15))) FROM n)",
            "",
        ),
        ("JSON_MERGE_PRESERVE('{\"a\": 1}', '{\"a\": 2}')", "{\"a\":[1,2]}"),
        ("CONCAT('{', REPEAT('\"k\": {', 98), '\"\": 0', REPEAT('}', 98), '}')", ""),
        ("JSON_OBJECT('', '', 'big', REPEAT('é', 40000))", ""),
    ])
    .on(MYSQL_9),
    case("JSON", &[
        ("'{\"b\":1,\"a\":2,\"b\":3}'", "{\"b\":1,\"a\":2,\"b\":3}"),
        ("'[1.0000000000000000000001, 0.10000000000000001]'", "[1.0000000000000000000001,0.1]"),
        ("'\"\\\\u4e2d\\\\ud83d\\\\ude00\\\\/\"'", "\"中😀/\""),
        ("'{\\n \"a\":\\r\\n 1}'", "{\"a\":1}"),
    ])
    .on(MARIADB),
];

const OTHER: &[Case] = &[
    case(
        "INET6",
        &[
            ("'::'", ""),
            ("'::1'", ""),
            ("'::20'", ""),
            ("'fe80::1:2'", ""),
            ("'::ffff:1.2.3.4'", ""),
            ("'::1.2.3.4'", ""),
            ("'2001:db8:0:0:1:0:0:1'", ""),
            ("'1:0:2:0:3:0:4:0'", ""),
            ("'2001:db8:1:1:1:1:0:1'", ""),
            ("'::2020'", ""),
            ("'::ffff:0:0'", ""),
            ("'0:0:1::'", ""),
            ("'::1:0:0:0:1'", ""),
            ("'1:0:0:2:0:0:0:3'", ""),
            ("'1:1:1:1:1:1:1:1'", ""),
            ("'0:1:1:1:1:1:1:1'", ""),
            ("'1:1:1:1:1:1:1:0'", ""),
            ("'1::'", ""),
            ("'::ffff:0'", ""),
            ("'64:ff9b::1.2.3.4'", ""),
            ("'::1:0:0'", ""),
            ("NULL", "null"),
        ],
    )
    .on(MARIADB),
    case(
        "INET4",
        &[
            ("'1.2.3.4'", "\"1.2.3.4\""),
            ("'0.0.0.0'", "\"0.0.0.0\""),
            ("'32.32.32.32'", "\"32.32.32.32\""),
            ("'1.2.3.32'", ""),
            ("'255.255.255.0'", ""),
        ],
    )
    .on(&["mariadb-10.11", "mariadb-11"]),
    case("VECTOR(4)", &[("TO_VECTOR_('[1,2,3,4]')", "")]).on(&["mariadb-11", "mysql-9"]),
];

/// Columns whose image is not decoded: every row must be left to the table.
const FROM_THE_TABLE: &[Case] = &[
    case("UUID", &[("'123e4567-e89b-12d3-a456-426655440000'", "\"123e4567-e89b-12d3-a456-426655440000\"")])
        .on(&["mariadb-10.11", "mariadb-11"]),
    case("VARCHAR(100) COMPRESSED CHARACTER SET utf8mb4", &[("REPEAT('中', 100)", ""), ("'x'", "\"x\"")])
        .on(MARIADB),
    case("BLOB COMPRESSED", &[("'x'", "\"eA==\"")]).on(MARIADB),
    case("ENUM('a','😀') CHARACTER SET utf8mb4", &[("'😀'", "\"😀\"")]),
];

#[tokio::test]
async fn numbers_are_the_same_from_binlog_and_table() {
    check(NUMBERS, "numbers").await;
}

#[tokio::test]
async fn times_are_the_same_from_binlog_and_table() {
    check(TIMES, "times").await;
}

#[tokio::test]
async fn strings_are_the_same_from_binlog_and_table() {
    check(STRINGS, "strings").await;
}

#[tokio::test]
async fn json_is_the_same_from_binlog_and_table() {
    check(JSON, "json").await;
}

#[tokio::test]
async fn other_types_are_the_same_from_binlog_and_table() {
    check(OTHER, "other").await;
}

/// Every type that has a row image, in one table, with everything that the server can say of a table in
/// the binlog. If the layout took a field for another column's, it would not fit.
#[tokio::test]
async fn metadata_in_the_binlog_fits_the_schema() {
    for kind in servers::kinds() {
        if kind == "mysql-5.6" {
            continue; // has no such metadata
        }
        let server = servers::private(kind, &[]).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        root.query_drop("SET sql_mode = ''").await.unwrap();
        let every = [NUMBERS, TIMES, STRINGS, JSON, OTHER].into_iter().flatten();
        let here = every.filter(|case| case.on.iter().any(|start| kind.starts_with(start)));
        let columns: Vec<_> =
            here.enumerate().map(|(number, case)| format!("c{number} {} NULL", case.column)).collect();
        root.query_drop(format!("CREATE TABLE t (id INT PRIMARY KEY, {})", columns.join(", ")))
            .await
            .unwrap();
        for (id, metadata) in ["FULL", "MINIMAL"].into_iter().enumerate() {
            root.query_drop(format!("SET GLOBAL binlog_row_metadata = {metadata}")).await.unwrap();
            let mut writer = server.root(Some("doors")).await.unwrap();
            let position = position(&server, &mut writer).await;
            writer.query_drop(format!("INSERT INTO t (id) VALUES ({id})")).await.unwrap();
            let table = Table::open(server.root(None).await.unwrap(), "doors", "t").await.unwrap();
            let mut rows = Vec::new();
            each_insert(&server, "doors", &position, |_, map, images| {
                table.layout().encode_image(map, images, &mut rows).expect(kind);
            })
            .await;
            assert_eq!(rows.len(), 1, "{kind} {metadata}");
        }
    }
}

/// The formats of MySQL 5.5, which MariaDB still writes if told so, and which tables made by old servers
/// keep. With a fraction they are left to the table.
#[tokio::test]
async fn old_temporal_formats_are_decoded_or_left_to_the_table() {
    for kind in servers::kinds().into_iter().filter(|kind| kind.starts_with("mariadb")) {
        let server = servers::private(kind, &["--mysql56-temporal-format=OFF"]).await;
        let mut root = server.root(None).await.unwrap();
        root.query_drop("CREATE DATABASE old").await.unwrap();
        let tables = Tables::fill(&server, "old", TIMES).await;
        let images = tables.images().await;
        let selects = tables.check_selects().await;
        for ((case, _), select) in tables.cases.iter().zip(selects) {
            let what = format!("{kind} {}", case.column);
            match &images[&select.table] {
                Ok(rows) => assert_eq!(*rows, select.rows, "{what}"),
                Err(error) => assert!(case.column.contains('('), "{what}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn what_can_not_be_decoded_for_certain_is_left_to_the_table() {
    for server in servers::all().await {
        let tables = Tables::make(server, "uncertain", FROM_THE_TABLE).await;
        let images = tables.images().await;
        for (case, table) in &tables.cases {
            let image = images.get(table.name()).expect("its rows are in the binlog");
            assert!(image.is_err(), "{} {}: {image:?}", server.name(), case.column);
        }
        tables.check_selects().await;
    }
}

/// Each case on each server that has it.
async fn check(cases: &'static [Case], name: &str) {
    for server in servers::all().await {
        let tables = Tables::make(server, name, cases).await;
        let mut images = tables.images().await;
        let selects = tables.check_selects().await;
        for (case, select) in tables.cases.iter().map(|(case, _)| case).zip(selects) {
            let what = format!("{} {}", server.name(), case.column);
            let image = images.remove(&select.table).unwrap_or_else(|| panic!("{what}: no image"));
            let image = image.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(image.len(), select.rows.len(), "{what}");
            for (from_image, from_select) in image.iter().zip(&select.rows) {
                assert_eq!(text(from_image), text(from_select), "{what}");
                assert_eq!(from_image, from_select, "{what}");
            }
        }
    }
}

/// A table for each case, filled, and where in the binlog that began.
pub(crate) struct Tables<'a> {
    server: &'a PrivateServer,
    database: String,
    pub(crate) cases: Vec<(&'static Case, Table)>,
    pub(crate) position: (String, u64),
}

pub(crate) struct Selected {
    table: String,
    rows: Vec<EncodedRow>,
}

impl<'a> Tables<'a> {
    async fn make(server: &'static PrivateServer, name: &str, cases: &'static [Case]) -> Tables<'static> {
        let database = servers::database(server, name).await;
        Tables::fill(server, &database.name, cases).await
    }

    /// In a database that is there.
    pub(crate) async fn fill(
        server: &'a PrivateServer,
        database: &str,
        cases: impl IntoIterator<Item = &'static Case>,
    ) -> Tables<'a> {
        let mut root = server.root(Some(database)).await.unwrap();
        root.query_drop("SET sql_mode = '', time_zone = '+00:00'").await.unwrap();
        let position = position(server, &mut root).await;
        let mut tables = Vec::new();
        let here =
            cases.into_iter().filter(|case| case.on.iter().any(|start| server.name().starts_with(start)));
        for (number, case) in here.enumerate() {
            let table = format!("t{number}");
            run(
                &mut root,
                case,
                &format!("CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, v {})", case.column),
            )
            .await;
            for (value, _) in case.values {
                let value = adapted(server, value);
                run(&mut root, case, &format!("INSERT INTO {table} (v) VALUES ({value})")).await;
            }
            let conn = server.root(None).await.unwrap();
            tables.push((case, Table::open(conn, database, &table).await.unwrap()));
        }
        Tables { server, database: database.to_owned(), cases: tables, position }
    }

    /// The rows in the binlog, by table.
    pub(crate) async fn images(&self) -> HashMap<String, Result<Vec<EncodedRow>, RowError>> {
        let mut found = HashMap::new();
        let rows = |table: &str, map: &TableMapEvent<'_>, images: RowImages<'_>| {
            let Some((_, table)) = self.cases.iter().find(|(_, known)| known.name() == table) else { return };
            let rows = found.entry(table.name().to_owned()).or_insert(Ok(Vec::new()));
            if let Ok(encoded) = rows
                && let Err(error) = table.layout().encode_image(map, images, encoded)
            {
                *rows = Err(error);
            }
        };
        deadline(each_insert(self.server, &self.database, &self.position, rows)).await;
        found
    }

    /// The rows of each table, each as its case expects.
    pub(crate) async fn check_selects(&self) -> Vec<Selected> {
        let mut all = Vec::new();
        for (case, table) in &self.cases {
            let conn = self.server.root(None).await.unwrap();
            let mut table = Table::open(conn, &self.database, table.name()).await.unwrap();
            let rows = deadline(table.rows_after(-1, 1000)).await.unwrap();
            assert_eq!(rows.len(), case.values.len());
            for (row, (value, expected)) in rows.iter().zip(case.values) {
                let what = format!("{} {} {value}", self.server.name(), case.column);
                let (start, end) = row.values[1];
                let json = std::str::from_utf8(&row.json[start as usize..end as usize]).unwrap();
                if !expected.is_empty() {
                    assert_eq!(json, *expected, "{what}");
                }
                assert_eq!(text(row), format!("{{\"id\":{},\"v\":{json}}}", row.key), "{what}");
                assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&row.json).is_ok(), "{what}: {json}");
                assert!(!row.json.iter().any(|byte| matches!(byte, b'\r' | b'\n')), "{what}");
                assert_eq!(row.replaced, 0, "{what}");
            }
            all.push(Selected { table: table.name().to_owned(), rows });
            table.disconnect().await;
        }
        all
    }
}

/// What servers call by different names.
fn adapted(server: &PrivateServer, value: &str) -> String {
    let maria = server.binary().flavour() == Flavour::MariaDb;
    value
        .replace("POINT_", "ST_GeomFromText('POINT(1 2)')")
        .replace("TO_VECTOR_", if maria { "VEC_FromText" } else { "TO_VECTOR" })
}

async fn run(conn: &mut Conn, case: &Case, sql: &str) {
    if let Err(error) = deadline(conn.query_drop(sql)).await {
        panic!("{}: {sql:.200}: {error}", case.column);
    }
}

fn text(row: &EncodedRow) -> &str {
    std::str::from_utf8(&row.json).expect("JSON is UTF-8")
}
