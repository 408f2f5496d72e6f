//! Keys that start over: a new epoch, so that an old id is never mistaken for a new one, and no row is
//! taken for one that came before.

use crate::{
    deadline::deadline,
    scene::{Scene, swipe},
    servers::each_kind,
};

async fn ids_are(scene: &mut Scene, expected: &[&str], what: &str) {
    let kind = scene.kind;
    for rows in scene.last_row().await {
        let ids: Vec<_> = rows.iter().map(|(id, _)| &**id).collect();
        assert_eq!(ids, expected, "{kind} {what}");
    }
}

/// Not only with the first row, which could be the same as before.
#[tokio::test]
async fn a_truncate_or_a_rename_begins_a_new_epoch_by_itself() {
    each_kind(async |kind| {
        for definition in ["TRUNCATE vdooropen", "RENAME TABLE vdooropen TO archive, fresh TO vdooropen"] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            scene.sql(&["CREATE TABLE fresh LIKE vdooropen", &swipe(1), &swipe(2)]).await;
            scene.read(2).await;
            scene.sql(&[definition]).await;
            deadline(async {
                while scene.status().await["feed"]["head"] != "2-0" {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            scene
                .sql(&["SET SESSION binlog_format=STATEMENT", &swipe(1), "SET SESSION binlog_format=ROW"])
                .await;
            ids_are(&mut scene, &["1-1", "1-2", "2-1", "2-2"], definition).await;
        }
    })
    .await;
}

#[tokio::test]
async fn keys_that_are_given_out_again_begin_a_new_epoch() {
    each_kind(async |kind| {
        for format in ["ROW", "STATEMENT"] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            scene.sql(&[&swipe(1), &swipe(2), &swipe(3)]).await;
            scene.read(3).await;
            let again = "INSERT INTO vdooropen VALUES (1,4,'00A1','t','Y')";
            let format_sql = format!("SET SESSION binlog_format={format}");
            scene.sql(&["DELETE FROM vdooropen", &format_sql, again, "SET SESSION binlog_format=ROW"]).await;
            scene.read(4).await;
            ids_are(&mut scene, &["1-1", "1-2", "1-3", "2-1", "2-4"], format).await;
        }
    })
    .await;
}

/// MySQL before 8.0 counts from the greatest key that is left when it starts.
#[tokio::test]
async fn keys_that_start_over_with_the_server_begin_a_new_epoch() {
    each_kind(async |kind| {
        if kind != "mysql-5.6" {
            return; // keeps the count
        }
        for format in ["ROW", "STATEMENT"] {
            let option = format!("--binlog-format={format}");
            let mut scene = Scene::start(kind, &[&option], &[]).await;
            scene.sql(&[&swipe(1), &swipe(2), &swipe(3)]).await;
            scene.read(3).await;
            // Nobody waits any more for what the DELETE may have brought.
            scene.sql(&["DELETE FROM vdooropen", "DO SLEEP(1.5)"]).await;
            scene.server.restart().await.unwrap();
            scene.reconnect().await;
            scene.sql(&[&swipe(4)]).await;
            scene.read(4).await;
            ids_are(&mut scene, &["1-1", "1-2", "1-3", "2-1", "2-2"], format).await;
        }
    })
    .await;
}

#[tokio::test]
async fn compressed_statements_and_definitions_lose_nothing() {
    each_kind(async |kind| {
        if kind.starts_with("mysql") {
            return; // compresses no single statements
        }
        let options = ["--log-bin-compress=ON", "--log-bin-compress-min-len=10"];
        let mut scene = Scene::start(kind, &options, &[]).await;
        scene
            .sql(&[
                "SET SESSION binlog_format=STATEMENT",
                "CREATE TABLE fresh LIKE vdooropen",
                &swipe(1),
                &swipe(2),
                "ALTER TABLE vdooropen ADD note INT",
                &swipe(3),
            ])
            .await;
        scene.read(3).await;
        scene.sql(&["RENAME TABLE vdooropen TO archive, fresh TO vdooropen", &swipe(4)]).await;
        scene.read(4).await;
        scene.sql(&["TRUNCATE vdooropen", &swipe(5), "SET SESSION binlog_format=ROW"]).await;
        scene.read(5).await;
        ids_are(&mut scene, &["1-1", "1-2", "1-3", "2-1", "3-1", "3-2"], "").await;
    })
    .await;
}

/// By two statements, between which there is no table.
#[tokio::test]
async fn a_table_that_is_made_anew_begins_a_new_epoch_and_loses_nothing() {
    each_kind(async |kind| {
        for away in ["RENAME TABLE vdooropen TO archive", "DROP TABLE vdooropen"] {
            for unread in [false, true] {
                let mut scene = Scene::start(kind, &[], &[]).await;
                scene.sql(&["CREATE TABLE fresh LIKE vdooropen", &swipe(1)]).await;
                scene.read(1).await;
                if unread {
                    scene.doorcast.signal("STOP");
                }
                scene.sql(&[&swipe(2)]).await;
                if !unread {
                    scene.read(2).await;
                }
                scene.sql(&[away, "CREATE TABLE vdooropen LIKE fresh", &swipe(3)]).await;
                if unread {
                    scene.doorcast.signal("CONT");
                }
                let what = format!("{away}, unread: {unread}");
                ids_are(&mut scene, &["1-1", "1-2", "2-1", "2-2"], &what).await;
            }
        }
    })
    .await;
}
