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
