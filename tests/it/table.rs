//! The schema and the rows by key, on every server.

use doorcast::demo::server::PrivateServer;
use doorcast::id::Key;
use doorcast::row::{EncodedRow, Kind, RowError};
use doorcast::table::{SchemaError, Table, TableError};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Value};

use crate::binlog::{each_insert, position};
use crate::deadline::deadline;
use crate::servers::{self, Database};

async fn open(server: &PrivateServer, database: &Database, table: &str) -> Result<Table, SchemaError> {
    let conn = server.root(None).await.unwrap();
    deadline(Table::open(conn, &database.name, table)).await
}

fn keys(rows: &[EncodedRow]) -> Vec<Key> {
    rows.iter().map(|row| row.key).collect()
}

#[tokio::test]
async fn ranges_of_the_key_are_exact() {
    for server in servers::all().await {
        let database = servers::database(server, "ranges").await;
        let mut root = database.admin().await;
        root.query_drop("CREATE TABLE t (v INT, `k``ey` BIGINT PRIMARY KEY)").await.unwrap();
        root.query_drop(
            "INSERT INTO t (`k``ey`) VALUES (-9223372036854775808), (-5), (0), (3), (9223372036854775807)",
        )
        .await
        .unwrap();
        let mut table = open(server, &database, "t").await.unwrap();
        let (least, greatest): (Key, Key) = (i64::MIN.into(), i64::MAX.into());
        let all = [least, -5, 0, 3, greatest];

        assert_eq!(keys(&table.rows_after(Key::MIN, 10).await.unwrap()), all);
        assert_eq!(keys(&table.rows_after(least - 1, 10).await.unwrap()), all);
        assert_eq!(keys(&table.rows_after(least, 10).await.unwrap()), all[1..]);
        assert_eq!(keys(&table.rows_after(least, 2).await.unwrap()), [-5, 0]);
        assert_eq!(keys(&table.rows_after(3, 10).await.unwrap()), [greatest]);
        assert!(table.rows_after(greatest, 10).await.unwrap().is_empty());
        assert!(table.rows_after(Key::MAX, 10).await.unwrap().is_empty());
        assert!(table.rows_after(0, 0).await.unwrap().is_empty());
        assert_eq!(keys(&table.rows_between(-5, 3, 10).await.unwrap()), [0, 3]);
        assert!(table.rows_between(3, -5, 10).await.unwrap().is_empty());
        assert!(table.rows_between(3, 3, 10).await.unwrap().is_empty());
        assert!(table.rows_between(Key::MIN, least - 1, 10).await.unwrap().is_empty());
        assert_eq!(table.keys_in(-5, greatest, 3).await.unwrap(), [-5, 0, 3]);
        assert_eq!(keys(&table.latest(2).await.unwrap()), [3, greatest]);
        assert_eq!(keys(&table.latest(usize::MAX).await.unwrap()), all);
        assert_eq!(table.greatest_key().await.unwrap(), Some(greatest));
        assert_eq!(text(&table.rows_between(2, 3, 1).await.unwrap()[0]), "{\"v\":null,\"k`ey\":3}");
        table.disconnect().await;
    }
}

#[tokio::test]
async fn unsigned_keys_go_to_their_end() {
    for server in servers::all().await {
        let database = servers::database(server, "unsigned").await;
        let mut root = database.admin().await;
        root.query_drop("CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY)").await.unwrap();
        root.query_drop("CREATE TABLE small (id TINYINT UNSIGNED PRIMARY KEY)").await.unwrap();
        root.query_drop("INSERT INTO t VALUES (0), (9223372036854775808), (18446744073709551615)")
            .await
            .unwrap();
        root.query_drop("INSERT INTO small VALUES (0), (255)").await.unwrap();

        let mut table = open(server, &database, "t").await.unwrap();
        let end: Key = u64::MAX.into();
        assert_eq!(keys(&table.rows_after(-1, 10).await.unwrap()), [0, 1 << 63, end]);
        assert_eq!(keys(&table.rows_after((1 << 63) - 1, 10).await.unwrap()), [1 << 63, end]);
        assert_eq!(keys(&table.rows_after(1 << 63, 10).await.unwrap()), [end]);
        assert!(table.rows_after(end, 10).await.unwrap().is_empty());
        assert_eq!(table.keys_in(1, Key::MAX, 10).await.unwrap(), [1 << 63, end]);
        assert_eq!(table.greatest_key().await.unwrap(), Some(end));

        let mut table = open(server, &database, "small").await.unwrap();
        assert_eq!(keys(&table.rows_after(-1, 10).await.unwrap()), [0, 255]);
        assert_eq!(keys(&table.rows_between(0, 300, 10).await.unwrap()), [255]);
        root.query_drop("DELETE FROM small").await.unwrap();
        assert_eq!(table.greatest_key().await.unwrap(), None);
        assert!(table.latest(10).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_key_is_found_in_the_schema() {
    let tables = [
        ("id INT PRIMARY KEY, x INT NOT NULL UNIQUE", Some("id")),
        ("id VARCHAR(10) PRIMARY KEY, x INT NOT NULL UNIQUE", Some("x")),
        (
            "a INT, b INT, x SMALLINT NOT NULL AUTO_INCREMENT UNIQUE, y INT NOT NULL, PRIMARY KEY (a, b), UNIQUE a (y)",
            Some("x"),
        ),
        ("a INT NOT NULL, y INT NOT NULL, UNIQUE b (a), UNIQUE a (y)", Some("y")),
        ("x MEDIUMINT UNSIGNED NOT NULL, UNIQUE (x)", Some("x")),
        ("x INT UNIQUE", None),
        ("x INT NOT NULL, KEY (x)", None),
        ("x INT", None),
        ("x DECIMAL(10,0) PRIMARY KEY", None),
        ("x DATE PRIMARY KEY", None),
        ("x VARCHAR(20) NOT NULL, UNIQUE (x(5))", None),
        ("a INT NOT NULL, b INT NOT NULL, PRIMARY KEY (a, b)", None),
    ];
    for server in servers::all().await {
        let database = servers::database(server, "keys").await;
        let mut root = database.admin().await;
        for (number, (definition, expected)) in tables.iter().enumerate() {
            let name = format!("t{number}");
            root.query_drop(format!("CREATE TABLE {name} ({definition})")).await.unwrap();
            let key = match open(server, &database, &name).await {
                Ok(table) => Some(table.layout().key_column().name.to_string()),
                Err(error @ SchemaError::NoKey { .. }) => {
                    let message = error.to_string();
                    let sql = message.split_once("add one: ").unwrap().1;
                    root.query_drop(sql).await.unwrap_or_else(|err| panic!("{definition}: {sql}: {err}"));
                    assert!(open(server, &database, &name).await.is_ok(), "{definition}: the remedy helps");
                    None
                }
                Err(error) => panic!("{definition}: {error}"),
            };
            assert_eq!(key.as_deref(), *expected, "{} {definition}", server.name());
        }
    }
}

#[tokio::test]
async fn what_can_not_be_followed_says_why() {
    for server in servers::all().await {
        let database = servers::database(server, "why").await;
        let mut root = database.admin().await;
        root.query_drop("CREATE TABLE Hidden (id INT PRIMARY KEY)").await.unwrap();
        root.query_drop("CREATE VIEW seen AS SELECT * FROM Hidden").await.unwrap();
        let error = open(server, &database, "nothing").await.unwrap_err();
        assert!(matches!(error, SchemaError::NotFound { .. }), "{error}");
        let error = open(server, &database, "seen").await.unwrap_err();
        assert!(matches!(&error, SchemaError::NotBaseTable { kind, .. } if kind == "view"), "{error}");
        let error = open(server, &database, "HIDDEN").await.unwrap_err().to_string();
        assert!(error.contains("`Hidden`: names are case-sensitive"), "{} {error}", server.name());

        let conn = Conn::from_url(database.url()).await.unwrap();
        let error = Table::open(conn, &database.name, "Hidden").await.unwrap_err().to_string();
        let grant = error.split_once("run: ").unwrap_or_else(|| panic!("{} {error}", server.name())).1;
        assert_eq!(grant, format!("GRANT SELECT ON `{}`.`Hidden` TO '{}'@'%'", database.name, database.user));
        root.query_drop(grant).await.unwrap();
        let conn = Conn::from_url(database.url()).await.unwrap();
        Table::open(conn, &database.name, "Hidden").await.unwrap();
    }
}

#[tokio::test]
async fn the_session_reads_only_in_utc_and_for_a_limited_time() {
    for server in servers::all().await {
        let database = servers::database(server, "session").await;
        let mut table = open(server, &database, "vdooropen").await.unwrap();
        let conn = table.conn();
        let error = conn.query_drop(format!("DELETE FROM `{}`.vdooropen", database.name)).await.unwrap_err();
        assert!(error.to_string().contains("READ ONLY transaction"), "{} {error}", server.name());
        let zone: Option<(String, u64)> =
            conn.query_first("SELECT @@time_zone, @@lock_wait_timeout").await.unwrap();
        assert_eq!(zone, Some(("+00:00".to_owned(), 5)));
        let limit = match server.name().as_str() {
            "mysql-5.6" => "'none'",
            name if name.starts_with("mariadb") => "1000 * @@max_statement_time",
            _ => "@@max_execution_time",
        };
        let limit: Option<Value> = conn.query_first(format!("SELECT {limit}")).await.unwrap();
        let limit = limit.unwrap().as_sql(true);
        assert!(
            ["'none'", "'30000'", "'30000.000000'"].contains(&limit.as_str()),
            "{} {limit}",
            server.name()
        );
    }
}

/// However many rows are asked for, some 64 MiB are the most that are kept.
#[tokio::test]
async fn large_rows_come_in_smaller_batches() {
    let server = &servers::all().await[0];
    let database = servers::database(server, "large").await;
    // Tests beside this one read the binlog.
    let mut root = server.unlogged().await.unwrap();
    root.query_drop(format!("USE `{}`", database.name)).await.unwrap();
    root.query_drop("CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT CHARACTER SET ascii)").await.unwrap();
    for id in 1..=6 {
        root.query_drop(format!("INSERT INTO t VALUES ({id}, REPEAT('x', 15000000))")).await.unwrap();
    }
    let mut table = open(server, &database, "t").await.unwrap();
    assert_eq!(keys(&deadline(table.rows_after(0, 100)).await.unwrap()), [1, 2, 3, 4, 5]);
    assert_eq!(keys(&deadline(table.rows_after(5, 100)).await.unwrap()), [6]);
    assert_eq!(keys(&deadline(table.latest(100)).await.unwrap()), [2, 3, 4, 5, 6]);
}

/// On Windows and macOS, and where a my.cnf says so, names are stored in lower case.
#[tokio::test]
async fn names_are_taken_as_the_server_stores_them() {
    for kind in servers::kinds().into_iter().filter(|kind| kind.starts_with("mariadb")) {
        let server = servers::private(kind, &["--lower-case-table-names=1"]).await;
        let mut root = server.root(None).await.unwrap();
        root.query_drop("CREATE DATABASE Doors").await.unwrap();
        root.query_drop("CREATE TABLE Doors.VDoorOpen (Vid INT PRIMARY KEY)").await.unwrap();
        let conn = server.root(None).await.unwrap();
        let table = Table::open(conn, "DOORS", "vdoorOPEN").await.unwrap();
        assert_eq!((table.database(), table.name()), ("doors", "vdooropen"));
        assert_eq!(&*table.layout().key_column().name, "Vid");
    }
}

/// A user with no right but SELECT learns as much of the layout as root.
#[tokio::test]
async fn least_rights_show_the_whole_layout() {
    for server in servers::all().await {
        let json = if server.name() == "mysql-5.6" { "TEXT" } else { "JSON" };
        let database = servers::database(server, "rights").await;
        let definition =
            format!("CREATE TABLE t (id INT PRIMARY KEY, j {json}, e ENUM('a','b') CHARACTER SET gbk)");
        database.admin().await.query_drop(definition).await.unwrap();
        database.grant_select("t").await;
        let conn = Conn::from_url(database.url()).await.unwrap();
        let by_user = Table::open(conn, &database.name, "t").await.unwrap();
        let by_root = open(server, &database, "t").await.unwrap();
        let kinds = |table: &Table| {
            let kinds = table.layout().columns().iter().map(|column| std::mem::discriminant(&column.kind));
            kinds.collect::<Vec<_>>()
        };
        assert_eq!(kinds(&by_user), kinds(&by_root), "{}", server.name());
    }
}

#[tokio::test]
async fn a_changed_table_says_so_until_its_layout_is_read_again() {
    for server in servers::all().await {
        let database = servers::database(server, "changed").await;
        let mut root = database.admin().await;
        root.query_drop("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)").await.unwrap();
        root.query_drop("INSERT INTO t VALUES (1, 2, 3)").await.unwrap();
        let mut table = open(server, &database, "t").await.unwrap();
        assert_eq!(text(&table.latest(1).await.unwrap()[0]), r#"{"id":1,"a":2,"b":3}"#);

        root.query_drop("ALTER TABLE t DROP COLUMN a, ADD COLUMN c VARCHAR(5) DEFAULT 'x' FIRST")
            .await
            .unwrap();
        let error = table.latest(1).await.unwrap_err();
        assert!(matches!(error, TableError::LayoutChanged(Some(_))), "{error:?}");
        table.reload().await.unwrap();
        assert_eq!(text(&table.latest(1).await.unwrap()[0]), r#"{"c":"x","id":1,"b":3}"#);

        root.query_drop("ALTER TABLE t MODIFY b VARCHAR(20)").await.unwrap();
        let error = table.latest(1).await.unwrap_err();
        assert!(matches!(error, TableError::Row(RowError::Unexpected(_))), "{error:?}");
        table.reload().await.unwrap();
        assert_eq!(text(&table.latest(1).await.unwrap()[0]), r#"{"c":"x","id":1,"b":"3"}"#);

        // From one character set to another, of which the row's bytes say nothing.
        root.query_drop("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4").await.unwrap();
        table.reload().await.unwrap();
        assert!(table.layout().columns().iter().any(|column| column.collation.is_some()), "{server:?}");
        for charset in ["gbk", "utf16", "utf8mb4", "ucs2", "latin1"] {
            root.query_drop(format!("ALTER TABLE t CONVERT TO CHARACTER SET {charset}")).await.unwrap();
            let error = table.latest(1).await.unwrap_err();
            assert!(matches!(error, TableError::LayoutChanged(None)), "{server:?} {charset}: {error:?}");
            table.reload().await.unwrap();
            assert_eq!(text(&table.latest(1).await.unwrap()[0]), r#"{"c":"x","id":1,"b":"3"}"#);
        }

        root.query_drop("RENAME TABLE t TO t_old").await.unwrap();
        assert!(matches!(table.greatest_key().await, Err(TableError::LayoutChanged(Some(_)))));
        assert!(matches!(table.reload().await, Err(SchemaError::NotFound { .. })));
        root.query_drop("RENAME TABLE t_old TO t").await.unwrap();
        table.reload().await.unwrap();
        assert_eq!(table.greatest_key().await.unwrap(), Some(1));
    }
}

/// Hidden and computed columns: what the binlog holds of them is what a SELECT that names them gives.
#[tokio::test]
async fn generated_and_invisible_columns_are_there() {
    let tables = [
        ("mysql-5.6", "id INT PRIMARY KEY, a INT", r#"{"id":1,"a":5}"#),
        (
            "mariadb",
            "id INT PRIMARY KEY, v INT AS (a + 1) VIRTUAL, a INT, s INT AS (a + 2) STORED, i INT INVISIBLE DEFAULT 7",
            r#"{"id":1,"v":6,"a":5,"s":7,"i":7}"#,
        ),
        (
            "mysql-9",
            "id INT PRIMARY KEY, v INT AS (a + 1) VIRTUAL, a INT, s INT AS (a + 2) STORED, i INT INVISIBLE DEFAULT 7, UNIQUE KEY ((a + 3)), UNIQUE KEY (id, (a + 4))",
            r#"{"id":1,"v":6,"a":5,"s":7,"i":7}"#,
        ),
    ];
    for server in servers::all().await {
        let database = servers::database(server, "generated").await;
        let mut root = database.admin().await;
        let (_, definition, expected) =
            tables.iter().find(|(start, ..)| server.name().starts_with(start)).unwrap();
        root.query_drop(format!("CREATE TABLE t ({definition})")).await.unwrap();
        let position = position(server, &mut root).await;
        root.query_drop("INSERT INTO t (id, a) VALUES (1, 5)").await.unwrap();
        let mut table = open(server, &database, "t").await.unwrap();
        let mut rows = Vec::new();
        deadline(each_insert(server, &database.name, &position, |_, map, images| {
            table.layout().encode_image(map, images, &mut rows).unwrap();
        }))
        .await;
        assert_eq!(text(&rows[0]), *expected, "{}", server.name());
        assert_eq!(table.latest(1).await.unwrap(), rows);
    }
}

/// MariaDB writes the history row of an UPDATE as an INSERT of the same key, in a column more than the
/// schema shows: such images must not be taken for new rows.
#[tokio::test]
async fn history_rows_are_no_inserts() {
    for server in servers::all().await {
        if !server.name().starts_with("mariadb") {
            continue; // has no system versioning
        }
        let database = servers::database(server, "history").await;
        let mut root = database.admin().await;
        root.query_drop("CREATE TABLE t (id INT PRIMARY KEY, a INT) WITH SYSTEM VERSIONING").await.unwrap();
        let position = position(server, &mut root).await;
        root.query_drop("INSERT INTO t VALUES (1, 5)").await.unwrap();
        root.query_drop("UPDATE t SET a = 6").await.unwrap();
        let mut table = open(server, &database, "t").await.unwrap();
        let mut images = 0;
        deadline(each_insert(server, &database.name, &position, |_, map, rows| {
            images += 1;
            let error = table.layout().encode_image(map, rows, &mut Vec::new()).unwrap_err();
            assert!(matches!(error, RowError::Mismatch(_)), "{error}");
        }))
        .await;
        assert_eq!(images, 2, "the INSERT, and the UPDATE's history");
        assert_eq!(text(&table.latest(9).await.unwrap()[0]), r#"{"id":1,"a":6}"#);
    }
}

#[tokio::test]
async fn incomplete_images_are_left_to_the_table() {
    for server in servers::all().await {
        let database = servers::database(server, "minimal").await;
        let mut root = database.admin().await;
        root.query_drop("CREATE TABLE t (id INT PRIMARY KEY, a INT DEFAULT 4, b INT)").await.unwrap();
        let position = position(server, &mut root).await;
        root.query_drop("SET binlog_row_image = MINIMAL").await.unwrap();
        root.query_drop("INSERT INTO t (id, b) VALUES (1, 5)").await.unwrap();
        root.query_drop("INSERT INTO t VALUES (2, 3, 4)").await.unwrap();
        let table = open(server, &database, "t").await.unwrap();
        let mut results = Vec::new();
        deadline(each_insert(server, &database.name, &position, |_, map, images| {
            results.push(table.layout().encode_image(map, images, &mut Vec::new()));
        }))
        .await;
        assert_eq!(results, [Err(RowError::Partial), Ok(())], "{}", server.name());
    }
}

/// What the metadata in the binlog tells of an older layout is not taken for the new one.
#[tokio::test]
async fn images_of_an_older_layout_are_left_to_the_table() {
    let changes = [
        ("a INT", "a BIGINT"),
        ("a VARCHAR(10)", "a VARCHAR(11)"),
        ("a CHAR(10) CHARACTER SET latin1", "a CHAR(10) CHARACTER SET gbk"),
        ("a DECIMAL(10,2)", "a DECIMAL(10,3)"),
        ("a DATETIME", "a DATETIME(3)"),
        ("a TEXT", "a MEDIUMTEXT"),
        ("a INT", "a INT NOT NULL"),
        ("a ENUM('x')", "a SET('x')"),
        ("a BIT(8)", "a BIT(9)"),
        ("a TIME", "a DATE"),
        ("a INT", "a INT, ADD COLUMN b INT"),
    ];
    for server in servers::all().await {
        let database = servers::database(server, "older").await;
        let mut root = database.admin().await;
        root.query_drop("SET sql_mode = ''").await.unwrap();
        let position = position(server, &mut root).await;
        let mut tables = Vec::new();
        for (number, (before, after)) in changes.iter().enumerate() {
            let name = format!("t{number}");
            root.query_drop(format!("CREATE TABLE {name} (id INT PRIMARY KEY, {before})")).await.unwrap();
            root.query_drop(format!("INSERT INTO {name} (id, a) VALUES (1, 1)")).await.unwrap();
            root.query_drop(format!("ALTER TABLE {name} MODIFY {after}")).await.unwrap();
            tables.push(open(server, &database, &name).await.unwrap());
        }
        deadline(each_insert(server, &database.name, &position, |name, map, _| {
            let number: usize = name[1..].parse().unwrap();
            let what = format!("{} {:?}", server.name(), changes[number]);
            assert!(!tables[number].layout().matches(map), "{what}");
        }))
        .await;
        assert!(tables.iter().all(|table| matches!(table.layout().key_column().kind, Kind::Int { .. })));
    }
}

fn text(row: &EncodedRow) -> &str {
    std::str::from_utf8(&row.json).unwrap()
}
