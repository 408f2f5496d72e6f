//! What only a person can mend, when it comes while doorcast runs: clients stay connected, `/readyz` and
//! `/api/status` say what to do, and when it is done every row comes once.

use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::{
    clients::Rows,
    link::status_until,
    scene::{Scene, swipe},
    servers::{self, each_kind},
};

/// So that a test has not long to wait for the next attempt.
const RETRY: [&str; 2] = ["--db-retry", "0.1"];

/// Waits until the state says that a person must act, and all these.
async fn blocked(scene: &Scene, says: &[&str]) {
    let status = status_until(&scene.doorcast, |status| status["link"] == "blocked").await;
    let problem = status["problem"].as_str().unwrap();
    for part in says {
        assert!(problem.contains(part), "{}: {part:?} is not in {problem:?}", scene.kind);
    }
    let answer = crate::site::client().get(scene.doorcast.url("/readyz")).send().await.unwrap();
    assert_eq!(answer.status(), 503, "{}", scene.kind);
    scene.doorcast.answers("/livez", 200).await;
}

/// It follows again, and says of no problem.
async fn mended(scene: &Scene) {
    let status = status_until(&scene.doorcast, |status| status["link"] == "following").await;
    assert_eq!(status["problem"], Value::Null, "{}", scene.kind);
    scene.doorcast.answers("/readyz", 200).await;
}

/// The next table's rows. Neither the first one nor the binlog tells it from the one before.
async fn fill(scene: &mut Scene) {
    let as_text = ["SET SESSION binlog_format=STATEMENT", &swipe(1), "SET SESSION binlog_format=ROW"];
    scene.sql(&as_text).await;
    scene.sql(&[&swipe(3)]).await;
}

/// Doors and epochs of all rows but the last, by every reader.
async fn told(scene: &mut Scene) -> Vec<Vec<(String, u64)>> {
    let of_reader = |rows: &Rows| {
        let row = |(id, json): &(String, String)| {
            let json: Value = serde_json::from_str(json).unwrap();
            (id.clone(), json["doorno"].as_u64().unwrap())
        };
        rows.iter().map(row).filter(|(_, door)| *door != 999).collect()
    };
    scene.last_row().await.iter().map(of_reader).collect()
}

#[tokio::test]
async fn a_binlog_that_is_switched_off_while_it_runs_is_said_and_rows_of_meanwhile_come_from_the_table() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &RETRY).await;
        scene.logged = false;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        let mut off = vec!["--skip-log-bin", "--skip-log-slave-updates"];
        if kind.starts_with("mysql") {
            off.extend(["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]);
        }
        scene.server.restart_with(&off).await.unwrap();
        scene.reconnect().await;
        blocked(&scene, &["log_bin", "binlog_format=ROW", "my.cnf"]).await;
        scene.sql(&[&swipe(2)]).await;
        scene.server.restart_with(&[]).await.unwrap();
        scene.reconnect().await;
        mended(&scene).await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 3, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn a_table_that_is_dropped_and_not_made_again_is_said_and_the_next_one_is_followed() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &RETRY).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        let (_, create): (String, String) =
            scene.conn.query_first("SHOW CREATE TABLE vdooropen").await.unwrap().unwrap();
        scene.sql(&["DROP TABLE vdooropen"]).await;
        blocked(&scene, &["there is no table `doors`.`vdooropen`", "GRANT SELECT"]).await;
        scene.sql(&[&create.replace("AUTO_INCREMENT=2 ", "")]).await;
        fill(&mut scene).await;
        mended(&scene).await;
        scene.read(3).await;
        for told in told(&mut scene).await {
            let wanted = [("1-1", 1), ("2-1", 1), ("2-2", 3)].map(|(id, door)| (id.to_owned(), door));
            assert_eq!(told, wanted, "{kind}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_dropped_and_not_made_again_is_said_and_the_next_one_is_followed() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &RETRY).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        scene.sql(&["DROP DATABASE doors"]).await;
        blocked(&scene, &["doors", "GRANT SELECT"]).await;
        scene.sql(&["DROP USER 'doorcast'@'%'"]).await;
        servers::create(&mut scene.conn, "doors", "doorcast").await;
        fill(&mut scene).await;
        mended(&scene).await;
        scene.read(3).await;
        for told in told(&mut scene).await {
            let wanted = [("1-1", 1), ("2-1", 1), ("2-2", 3)].map(|(id, door)| (id.to_owned(), door));
            assert_eq!(told, wanted, "{kind}");
        }
    })
    .await;
}

/// Nothing breaks then, as long as the binlog has all rows: it is said before they are missed.
#[tokio::test]
async fn a_select_that_is_revoked_from_a_link_that_stays_up_is_said() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &RETRY).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        scene.sql(&["REVOKE SELECT ON `doors`.vdooropen FROM 'doorcast'@'%'", &swipe(2)]).await;
        blocked(&scene, &["vdooropen", "GRANT SELECT"]).await;
        scene.sql(&[&swipe(3), "GRANT SELECT ON `doors`.vdooropen TO 'doorcast'@'%'"]).await;
        mended(&scene).await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 4, "{kind}");
    })
    .await;
}
