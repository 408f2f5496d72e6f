//! INSERTs that are logged as statements: by the server's choice, by that of a session, or by what they are.

use mysql_async::prelude::Queryable;

use crate::{
    scene::{Scene, swipe},
    servers::each_kind,
};

/// Nothing else comes that would wake a look at the table for them.
#[tokio::test]
async fn rows_of_each_kind_of_statement_arrive_by_themselves() {
    each_kind(async |kind| {
        for format in ["STATEMENT", "MIXED"] {
            let option = format!("--binlog-format={format}");
            let mut scene = Scene::start(kind, &[&option, "--log-bin-trust-function-creators=1"], &[]).await;
            scene
                .sql(&[
                    "CREATE TABLE gate (id INT PRIMARY KEY AUTO_INCREMENT, door INT)",
                    "CREATE TABLE many (door INT)",
                    "INSERT INTO many VALUES (31), (32), (33)",
                    "CREATE VIEW doors_seen AS SELECT vid, doorno, rfsim, optime, ynopen FROM vdooropen",
                    "CREATE TRIGGER opened AFTER INSERT ON gate FOR EACH ROW \
                     INSERT INTO vdooropen VALUES (NULL, NEW.door, '00A2', 't', 'Y')",
                    "CREATE PROCEDURE swipe(door INT) INSERT INTO vdooropen VALUES (NULL, door, '00A3', 't', 'Y')",
                    "CREATE FUNCTION swiped(door INT) RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA BEGIN \
                     INSERT INTO vdooropen VALUES (NULL, door, '00A3', 't', 'Y'); RETURN 1; END",
                ])
                .await;
            let mut count = 0;
            for (rows, sql) in [
                (1, &*swipe(1)),
                (2, "INSERT INTO vdooropen VALUES (NULL,2,'00A1','t','Y'),(NULL,3,'00A1','t','Y')"),
                (1, "INSERT INTO gate (door) VALUES (4)"),
                (1, "CALL swipe(6)"),
                (1, "INSERT INTO doors_seen VALUES (NULL,7,'00A4','t','Y')"),
                (3, "INSERT INTO vdooropen SELECT NULL, door, '00A5', 't', 'Y' FROM many ORDER BY door"),
                (1, "UPDATE gate SET door = swiped(8)"),
                (1, "INSERT INTO vdooropen SET doorno=9, rfsim='00A6', optime='t', ynopen='Y'"),
                (1, "REPLACE INTO vdooropen VALUES (1000,10,'00A7','t','Y')"),
                (1, "INSERT INTO vdooropen VALUES (900,11,'00A7','t','Y')"),
            ] {
                scene.sql(&[sql]).await;
                count += rows;
                scene.read(count).await;
            }
            let (rows, scene) = scene.every_row_of_the_table_came_once().await;
            assert_eq!(rows.len(), count + 1, "{kind} {format}");
            assert_eq!(scene.status().await["breaks"], 0, "{kind} {format}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_that_switches_to_statements_loses_nothing() {
    each_kind(async |kind| {
        for format in ["STATEMENT", "MIXED"] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            let switch = format!("SET SESSION binlog_format={format}");
            for (before, statements) in [
                &[&*swipe(1)][..],
                &[&*switch, &*swipe(2)],
                // Logged as rows where the server chooses.
                &["INSERT INTO vdooropen VALUES (NULL,3,LEFT(UUID(),16),'t','Y')"],
                &[&*swipe(4)],
                &["SET SESSION binlog_format=ROW", &*swipe(5)],
            ]
            .into_iter()
            .enumerate()
            {
                scene.sql(statements).await;
                // Before the next: nothing that follows may be needed to get it.
                scene.read(before + 1).await;
            }
            let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
            assert_eq!(rows.len(), 6, "{kind} {format}");
        }
    })
    .await;
}

/// How many rows the log has as rows, and how many as statements.
async fn logged_as(scene: &mut Scene) -> (usize, usize) {
    let events: Vec<mysql_async::Row> =
        scene.conn.query("SHOW BINLOG EVENTS IN 'binlog.000001'").await.unwrap();
    let field = |event: &mysql_async::Row, name| event.get::<String, _>(name).unwrap();
    let rows = events.iter().filter(|event| field(event, "Event_type").starts_with("Write_rows"));
    let statements = events.iter().filter(|event| field(event, "Info").contains("INSERT INTO vdooropen"));
    let statements = statements.filter(|event| field(event, "Event_type") == "Query");
    (rows.count(), statements.count())
}

/// Sessions that are connected go on as they are.
#[tokio::test]
async fn a_server_that_is_switched_while_it_runs_loses_nothing() {
    each_kind(async |kind| {
        for format in ["STATEMENT", "MIXED"] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            let mut before = scene.server.root(Some("doors")).await.unwrap();
            scene.sql(&[&format!("SET GLOBAL binlog_format={format}")]).await;
            let mut after = scene.server.root(Some("doors")).await.unwrap();
            for (conn, count) in [(&mut before, 1), (&mut after, 2)] {
                conn.query_drop(swipe(1)).await.unwrap();
                scene.read(count).await;
            }
            assert_eq!(logged_as(&mut scene).await, (1, 1), "{kind} {format}");
            scene.sql(&["SET GLOBAL binlog_format=ROW"]).await;
            let mut again = scene.server.root(Some("doors")).await.unwrap();
            for (conn, count) in [(&mut after, 3), (&mut again, 4), (&mut before, 5)] {
                conn.query_drop(swipe(2)).await.unwrap();
                scene.read(count).await;
            }
            assert_eq!(logged_as(&mut scene).await, (3, 2), "{kind} {format}");
            let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
            assert_eq!(rows.len(), 6, "{kind} {format}");
        }
    })
    .await;
}

const REPLACE: &str = "REPLACE INTO vdooropen VALUES (1,7,'00A7','20261120 071500','Y')";

/// A server writes it as an UPDATE where the key that is there already is the last of the table's unique ones, as the only
/// one is, and as a DELETE and an INSERT elsewhere. The demo's table has two.
#[tokio::test]
async fn a_replaced_row_is_told_again_where_it_is_logged_as_an_insert() {
    each_kind(async |kind| {
        for is_insert in [true, false] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            if !is_insert {
                scene.sql(&["ALTER TABLE vdooropen DROP KEY vdooropen_I0"]).await;
            }
            // Behind an ALTER they may be read from the table, as it is by then.
            scene.sql(&[&swipe(1), &swipe(2)]).await;
            scene.read(2).await;
            scene.sql(&[REPLACE]).await;
            let mut expected = vec!["1-1", "1-2", "1-3"];
            if is_insert {
                expected.insert(2, "1-1");
            }
            for rows in scene.last_row().await {
                let ids: Vec<&str> = rows.iter().map(|(id, _)| &**id).collect();
                assert_eq!(ids, expected, "{kind}");
                assert_eq!(rows.iter().any(|(_, row)| row.contains("00A7")), is_insert, "{kind}: {rows:?}");
            }
            assert_eq!(scene.status().await["breaks"], 0, "{kind}");
        }
    })
    .await;
}

/// Nobody can tell if it inserted the row that was told, or another.
#[tokio::test]
async fn a_row_that_a_statement_replaces_is_said_to_be_missing() {
    each_kind(async |kind| {
        for format in ["STATEMENT", "MIXED"] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            scene.sql(&[&swipe(1), &swipe(2)]).await;
            scene.read(2).await;
            scene.sql(&[&format!("SET SESSION binlog_format={format}"), REPLACE]).await;
            scene.doorcast.logged("rows may be missing").await;
            let reason = "rows of a transaction were not found in the table";
            let came = crate::gaps::is_told_once(&mut scene, "1-2", reason).await;
            assert!(came.is_empty(), "{kind} {format}: {came:?}");
        }
    })
    .await;
}
