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

/// By then they are forgotten one by one.
#[tokio::test]
async fn keys_that_are_given_out_again_after_very_many_begin_a_new_epoch() {
    const MANY: usize = 12_000;
    each_kind(async |kind| {
        for format in ["ROW", "STATEMENT"] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            let piece = vec!["(7, '00A1', '20261120 071500', 'Y')"; MANY / 4].join(",");
            let piece = format!("INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES {piece}");
            for told in 1..=4 {
                scene.sql(&[&piece]).await;
                scene.read(MANY / 4 * told).await;
            }
            let format_sql = format!("SET SESSION binlog_format={format}");
            scene.sql(&["DELETE FROM vdooropen", &format_sql, "SET insert_id = 1", &swipe(1)]).await;
            scene.read(MANY + 1).await;
            scene.sql(&["SET SESSION binlog_format=ROW"]).await;
            for mut rows in scene.last_row().await {
                let ids: Vec<String> = rows.drain(MANY - 1..).map(|(id, _)| id).collect();
                let last = format!("2-{}", MANY + 1);
                assert_eq!(ids, [&format!("1-{MANY}"), "2-1", &last], "{kind} {format}");
            }
        }
    })
    .await;
}

/// They are told under new ids; the rest of the table is what it was, and is not told again. A client that was away has an
/// id of a row that is gone, and gets all that came since or a gap.
#[tokio::test]
async fn keys_of_deleted_rows_that_are_given_out_again_are_told_under_new_ids() {
    let two =
        "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (5, 'A', 't', 'Y'), (6, 'A', 't', 'Y')";
    let five = &*swipe(5);
    let six = &*swipe(6);
    each_kind(async |kind| {
        for (format, inserts) in
            [("ROW", &[five, six][..]), ("STATEMENT", &[five, six]), ("STATEMENT", &[two]), ("ROW", &[two])]
        {
            let what = format!("{kind} {format} {}", inserts.len());
            let mut scene = Scene::start(kind, &[], &["--history", "3"]).await;
            for door in 1..=4 {
                scene.sql(&[&swipe(door)]).await;
                scene.read(door as usize).await;
            }
            let sql = ["DELETE FROM vdooropen WHERE vid >= 3", "ALTER TABLE vdooropen AUTO_INCREMENT = 3"];
            scene.sql(&sql).await;
            scene.sql(&[&format!("SET SESSION binlog_format={format}")]).await;
            scene.sql(inserts).await;
            scene.sql(&["SET SESSION binlog_format=ROW"]).await;
            scene.read(6).await;
            for door in 7..=9 {
                scene.sql(&[&swipe(door)]).await;
                scene.read(door as usize).await;
            }
            assert_eq!(scene.status().await["unlogged"], 0, "{what}");
            // The feed has three rows by now.
            let url = scene.doorcast.url("/poll?since=1-4&limit=100");
            let answer = crate::site::client().get(url).send().await.unwrap().text().await.unwrap();
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer["gap"]["after"], "1-4", "{what}: {answer}");
            let expected = ["1-1", "1-2", "1-3", "1-4", "2-3", "2-4", "2-5", "2-6", "2-7", "2-8"];
            ids_are(&mut scene, &expected, &what).await;
        }
    })
    .await;
}

/// In that it is the same as before, nothing but the binlog tells that it came again.
#[tokio::test]
async fn a_deleted_row_that_is_inserted_again_as_it_was_has_a_new_id_that_is_a_cursor() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1), &swipe(2)]).await;
        scene.read(2).await;
        let sql = ["DELETE FROM vdooropen WHERE vid = 2", "ALTER TABLE vdooropen AUTO_INCREMENT = 2"];
        scene.sql(&sql).await;
        scene.read_binlog().await;
        scene.sql(&[&swipe(2), &swipe(3)]).await;
        scene.read(4).await;
        let url = scene.doorcast.url("/poll?since=2-2");
        let answer = crate::site::client().get(url).send().await.unwrap().text().await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["gap"], serde_json::Value::Null, "{kind}: {answer}");
        assert_eq!(answer["next"], "2-3", "{kind}: {answer}");
        ids_are(&mut scene, &["1-1", "1-2", "2-2", "2-3", "2-4"], "").await;
    })
    .await;
}

/// The table is made anew where its rows stay the same.
#[tokio::test]
async fn keys_of_rows_that_were_deleted_while_it_was_away_are_told_under_new_ids() {
    each_kind(async |kind| {
        for format in ["ROW", "STATEMENT"] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            scene.sql(&[&swipe(1), &swipe(2), &swipe(3), &swipe(4)]).await;
            scene.read(4).await;
            assert!(scene.doorcast.stop().await.success());
            let format_sql = format!("SET SESSION binlog_format={format}");
            let sql = ["DELETE FROM vdooropen WHERE vid >= 3", "ALTER TABLE vdooropen AUTO_INCREMENT = 3"];
            scene.sql(&sql).await;
            scene.sql(&[&format_sql, &swipe(5), &swipe(6), "SET SESSION binlog_format=ROW"]).await;
            scene.doorcast.start_again().await;
            scene.read(6).await;
            ids_are(&mut scene, &["1-1", "1-2", "1-3", "1-4", "2-3", "2-4", "2-5"], format).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_feed_without_history_survives_rows_that_come_again() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &["--history", "0"]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        scene.sql(&["UPDATE vdooropen SET ynopen = 'N'", "ALTER TABLE vdooropen AUTO_INCREMENT = 2"]).await;
        scene.sql(&["REPLACE INTO vdooropen VALUES (1,4,'00A1','t','Y')"]).await;
        // The next row takes its place, and who had not read it by then has row 1 already.
        scene.read(2).await;
        scene.sql(&[&swipe(2)]).await;
        scene.read(3).await;
    })
    .await;
}

#[tokio::test]
async fn a_row_that_is_replaced_after_the_newest_was_deleted_begins_no_epoch() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1), &swipe(2), &swipe(3)]).await;
        scene.read(3).await;
        scene.sql(&["DELETE FROM vdooropen WHERE vid = 3"]).await;
        scene.sql(&["REPLACE INTO vdooropen VALUES (1,4,'00A1','t','Y')"]).await;
        scene.read(4).await;
        ids_are(&mut scene, &["1-1", "1-2", "1-3", "1-1", "1-4"], "").await;
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
