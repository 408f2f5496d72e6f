//! Transactions that stay open while so many rows of others come that theirs are older than all that is remembered
//! row by row.

use mysql_async::{Conn, prelude::Queryable};

use crate::{
    scene::{Scene, swipe},
    servers,
};

/// More rows than doorcast remembers one by one.
const MANY: usize = 12_000;

/// One statement for each of these, in a transaction that is still open.
const STATEMENTS: [&str; 3] = [
    "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (1, '00A1', '20261120 071500', 'Y')",
    "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) SELECT 2, '00A1', '20261120 071500', 'Y'",
    "INSERT INTO other VALUES (3)",
];

async fn session(scene: &Scene) -> Conn {
    scene.server.root(Some("doors")).await.unwrap()
}

/// Logs so many rows as rows, in pieces that the readers keep up with. They have had none so far.
async fn overtake(scene: &mut Scene) {
    let many = vec!["(7, '00A1', '20261120 071500', 'Y')"; MANY / 4].join(",");
    let many = format!("INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES {many}");
    scene.sql(&["SET SESSION binlog_format = ROW"]).await;
    for piece in 1..=4 {
        scene.sql(&[&many]).await;
        scene.read(MANY / 4 * piece).await;
    }
}

#[tokio::test]
async fn statements_that_very_many_rows_overtook_are_found() {
    for kind in servers::kinds() {
        let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
        scene
            .sql(&[
                "CREATE TABLE other (a INT)",
                "CREATE TRIGGER t AFTER INSERT ON other FOR EACH ROW INSERT INTO vdooropen \
                 (doorno, rfsim, optime, ynopen) VALUES (NEW.a, '00A1', '20261120 071500', 'Y')",
            ])
            .await;
        let mut slow = Vec::new();
        for sql in STATEMENTS {
            let mut conn = session(&scene).await;
            conn.query_drop("BEGIN").await.unwrap();
            conn.query_drop(sql).await.unwrap();
            slow.push(conn);
        }
        overtake(&mut scene).await;
        // The first is found by what was known, the others by what the checkpoint says.
        for (at, conn) in slow.iter_mut().enumerate() {
            conn.query_drop("COMMIT").await.unwrap();
            scene.read(MANY + at + 1).await;
            if at == 0 {
                scene.doorcast.kill().await;
                scene.doorcast.start_again().await;
            }
        }
        scene.sql(&[&swipe(4)]).await;
        assert_eq!(scene.status().await["breaks"], 0, "{kind}");
        scene.every_row_of_the_table_came_once().await;
    }
}

/// That one transaction was said to be missing, to a client that had what was told by `head`.
async fn is_said_to_be_missing_once(scene: &mut Scene, head: &str, reason: &str) {
    scene.doorcast.logged("rows may be missing").await;
    crate::gaps::is_told_once(scene, head, reason).await;
    assert_eq!(scene.doorcast.log().matches("rows may be missing").count(), 1, "{}", scene.kind);
}

/// Why, if no look finds them.
const NOT_FOUND: &str = "rows of a transaction were not found in the table";

async fn head(scene: &Scene) -> String {
    scene.status().await["feed"]["head"].as_str().unwrap().to_owned()
}

/// A server that gives every second key only, so that doorcast has to forget which of the low ones did not come.
const EVERY_SECOND: [&str; 2] = ["--auto-increment-increment=2", "--binlog-format=STATEMENT"];

/// Waits until what was logged so far has been looked for to the end: a row that was told is put in the table again,
/// by a statement that need not insert any.
async fn looked_in_vain(scene: &Scene) {
    let mut conn = session(scene).await;
    let last: Option<i64> = conn.query_first("SELECT MAX(vid) FROM vdooropen").await.unwrap();
    let last = last.unwrap();
    for sql in [
        format!("DELETE FROM vdooropen WHERE vid = {last}"),
        format!("INSERT IGNORE INTO vdooropen SELECT {last}, 7, '00A1', '20261120 071500', 'Y'"),
    ] {
        conn.query_drop(sql).await.unwrap();
    }
    scene.doorcast.logged("no rows were found of statements that need not have inserted any").await;
}

/// Prepares one row under an XA id.
async fn prepare(conn: &mut Conn, xid: &str, row: &str) {
    for sql in [&format!("XA START '{xid}'"), row, &format!("XA END '{xid}'"), &format!("XA PREPARE '{xid}'")]
    {
        conn.query_drop(sql).await.unwrap();
    }
}

#[tokio::test]
async fn a_prepared_xa_transaction_that_very_many_rows_overtook_is_found() {
    for kind in servers::kinds() {
        for statements in [false, true] {
            if statements && kind == "mysql-5.6" {
                continue; // it logs no PREPARE: this is a statement like others
            }
            let mut scene = Scene::start(kind, &EVERY_SECOND, &[]).await;
            let mut slow = session(&scene).await;
            let mut fast = session(&scene).await;
            scene.sql(&["CREATE TABLE other (a INT)"]).await;
            if !statements {
                for conn in [&mut slow, &mut fast] {
                    conn.query_drop("SET SESSION binlog_format = ROW").await.unwrap();
                }
            }
            prepare(&mut slow, "slow", &swipe(1)).await;
            prepare(&mut fast, "undone", &swipe(2)).await;
            fast.query_drop("XA ROLLBACK 'undone'").await.unwrap();
            overtake(&mut scene).await;
            if kind != "mysql-5.6" {
                // After a kill the binlog brings the PREPARE again; after a stop only the checkpoint has it.
                if statements {
                    scene.doorcast.kill().await;
                } else {
                    assert!(scene.doorcast.stop().await.success());
                }
                scene.doorcast.start_again().await;
            }
            // Those that have nothing to do with the table are not missed.
            prepare(&mut fast, "other", "INSERT INTO other VALUES (1)").await;
            fast.query_drop("XA COMMIT 'other'").await.unwrap();
            fast.query_drop("XA START 'once'").await.unwrap();
            fast.query_drop("INSERT INTO other VALUES (2)").await.unwrap();
            fast.query_drop("XA END 'once'").await.unwrap();
            fast.query_drop("XA COMMIT 'once' ONE PHASE").await.unwrap();
            looked_in_vain(&scene).await;
            slow.query_drop("XA COMMIT 'slow'").await.unwrap();
            scene.read(MANY + 1).await;
            let breaks = scene.status().await["breaks"].clone();
            assert_eq!(breaks, 0, "{kind}, statements: {statements}");
            scene.every_row_of_the_table_came_once().await;
        }
    }
}

#[tokio::test]
async fn a_statement_that_more_rows_overtook_than_can_be_remembered_is_said_to_be_missing_once() {
    for kind in servers::kinds() {
        let mut scene = Scene::start(kind, &EVERY_SECOND, &[]).await;
        let mut slow = session(&scene).await;
        slow.query_drop("BEGIN").await.unwrap();
        slow.query_drop(swipe(1)).await.unwrap();
        overtake(&mut scene).await;
        let head = head(&scene).await;
        slow.query_drop("COMMIT").await.unwrap();
        is_said_to_be_missing_once(
            &mut scene,
            &head,
            "rows that must be looked for were inserted by a transaction that was open for very long",
        )
        .await;
    }
}

#[tokio::test]
async fn rows_with_keys_that_came_before_are_said_to_be_missing_once() {
    for kind in servers::kinds() {
        let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
        scene.sql(&["CREATE TABLE other LIKE vdooropen", &swipe(1), &swipe(2)]).await;
        scene.read(2).await;
        // The key is of a row that was told, and so it is not told as another one.
        scene
            .sql(&[
                "DELETE FROM vdooropen WHERE vid = 1",
                "INSERT INTO other VALUES (1, 7, '00A1', '20261120 071500', 'Y')",
                "INSERT IGNORE INTO vdooropen SELECT * FROM other",
            ])
            .await;
        scene.doorcast.logged("no rows were found of statements that need not have inserted any").await;
        let breaks = scene.status().await["breaks"].clone();
        assert_eq!(breaks, 0, "{kind}: it need not have inserted any");
        scene
            .sql(&[
                "DELETE FROM vdooropen WHERE vid = 1",
                "INSERT INTO vdooropen VALUES (1, 7, '00A1', '20261120 071500', 'Y')",
            ])
            .await;
        let head = head(&scene).await;
        is_said_to_be_missing_once(&mut scene, &head, NOT_FOUND).await;
    }
}

#[tokio::test]
async fn an_xa_transaction_that_was_prepared_before_doorcast_followed_is_said_to_be_missing_once() {
    for kind in servers::kinds() {
        if kind == "mysql-5.6" {
            continue; // it logs no PREPARE, and the rows with the COMMIT
        }
        let server = servers::private(kind, &[]).await;
        servers::create(&mut server.root(None).await.unwrap(), "doors", "doorcast").await;
        let mut slow = server.root(Some("doors")).await.unwrap();
        prepare(&mut slow, "slow", &swipe(1)).await;
        let mut fast = server.root(Some("doors")).await.unwrap();
        fast.query_drop(swipe(2)).await.unwrap();
        let mut scene = Scene::on(kind, server, &[]).await;
        scene.read(1).await;
        let head = head(&scene).await;
        slow.query_drop("XA COMMIT 'slow'").await.unwrap();
        is_said_to_be_missing_once(&mut scene, &head, NOT_FOUND).await;
    }
}
