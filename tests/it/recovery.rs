//! Whatever the database does, every committed row arrives once, or clients are told of a gap. One test
//! for each way in which the binlog alone would not do.

use doorcast::demo::server::PrivateServer;
use mysql_async::{Conn, prelude::Queryable};

use crate::{
    proxy::Way,
    scene::{Scene, swipe, url},
    servers::{self, PASSWORD, each_kind},
};

/// `reset` in the words of this server.
pub(crate) fn reset_binlog(kind: &str) -> &'static str {
    if kind == "mysql-9.7" { "RESET BINARY LOGS AND GTIDS" } else { "RESET MASTER" }
}

/// Purges the first binlog file, which a server does not do while it still sends it to somebody.
pub(crate) async fn purge(conn: &mut Conn) {
    crate::deadline::deadline(async {
        loop {
            conn.query_drop("PURGE BINARY LOGS TO 'binlog.000002'").await.unwrap();
            let first: Option<mysql_async::Row> = conn.query_first("SHOW BINARY LOGS").await.unwrap();
            if first.unwrap().get::<String, _>(0).unwrap() == "binlog.000002" {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn rows_of_statements_arrive_by_way_of_the_table() {
    each_kind(async |kind| {
        for format in ["STATEMENT", "MIXED"] {
            let option = format!("--binlog-format={format}");
            let mut scene = Scene::start(kind, &[&option, "--log-bin-trust-function-creators=1"], &[]).await;
            scene
                .sql(&[
                    "CREATE TABLE gate (id INT PRIMARY KEY AUTO_INCREMENT, door INT)",
                    "CREATE TABLE many (door INT)",
                    "CREATE VIEW doors_seen AS SELECT vid, doorno, rfsim, optime, ynopen FROM vdooropen",
                    "CREATE TRIGGER opened AFTER INSERT ON gate FOR EACH ROW \
                     INSERT INTO vdooropen VALUES (NULL, NEW.door, '00A2', 't', 'Y')",
                    "CREATE PROCEDURE swipe(door INT) INSERT INTO vdooropen VALUES (NULL, door, '00A3', 't', 'Y')",
                    "INSERT INTO many VALUES (31), (32), (33)",
                    &swipe(1),
                    "INSERT INTO vdooropen VALUES (NULL,2,'00A1','t','Y'),(NULL,3,'00A1','t','Y')",
                    "INSERT INTO gate (door) VALUES (4), (5)",
                    "CALL swipe(6)",
                    "INSERT INTO doors_seen VALUES (NULL,7,'00A4','t','Y')",
                    "INSERT INTO vdooropen SELECT NULL, door, '00A5', 't', 'Y' FROM many ORDER BY door",
                    "REPLACE INTO vdooropen VALUES (1000,8,'00A6','t','Y')",
                    "INSERT INTO vdooropen VALUES (900,9,'00A6','t','Y')",
                    "BEGIN",
                    &swipe(10),
                    "INSERT INTO gate (door) VALUES (11)",
                    &swipe(12),
                    "COMMIT",
                    "BEGIN",
                    &swipe(13),
                    "ROLLBACK",
                ])
                .await;
            let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
            assert_eq!(rows.len(), 16, "{kind} {format}");
        }
    })
    .await;
}

#[tokio::test]
async fn rows_that_a_rollback_can_not_undo_arrive() {
    each_kind(async |kind| {
        let mut options = vec!["--binlog-format=STATEMENT"];
        if kind.starts_with("mysql") {
            // With it such a transaction is an error.
            options.extend(["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]);
        }
        let mut scene = Scene::start(kind, &options, &[]).await;
        scene
            .sql(&["CREATE TABLE undone (a INT) ENGINE=InnoDB", "ALTER TABLE vdooropen ENGINE=MyISAM"])
            .await;
        for (before, end) in ["ROLLBACK", "ROLLBACK TO a"].iter().enumerate() {
            scene
                .sql(&["BEGIN", "SAVEPOINT a", "INSERT INTO undone VALUES (1)", &swipe(1), end, "COMMIT"])
                .await;
            scene.read(before + 1).await;
        }
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 3, "{kind}");
    })
    .await;
}

/// Their images are in the binlog, for the sake of the other table.
#[tokio::test]
async fn rows_that_are_rolled_back_are_never_shown() {
    each_kind(async |kind| {
        let mut options = vec!["--binlog-format=MIXED"];
        if kind.starts_with("mysql") {
            options.extend(["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]);
        }
        let mut scene = Scene::start(kind, &options, &[]).await;
        // What can't be repeated is logged by its rows.
        let unsafe_swipe = "INSERT INTO vdooropen VALUES (NULL,1,LEFT(UUID(),16),'t','Y')";
        let another = "INSERT INTO goes_on VALUES (1)";
        scene.sql(&["CREATE TABLE stays (a INT) ENGINE=MyISAM", "CREATE TABLE goes_on (a INT)"]).await;
        // With another change in it, MariaDB logs ROLLBACK TO; without, a ROLLBACK.
        for (other, end) in [("DO 1", "ROLLBACK"), ("DO 1", "ROLLBACK TO a"), (another, "ROLLBACK TO a")] {
            scene.sql(&["BEGIN", other, "SAVEPOINT a", unsafe_swipe, "INSERT INTO stays VALUES (1)"]).await;
            scene.sql(&[end, other, "COMMIT"]).await;
        }
        scene.sql(&[&swipe(2)]).await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 2, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn load_data_arrives() {
    each_kind(async |kind| {
        for format in ["STATEMENT", "ROW"] {
            let option = format!("--binlog-format={format}");
            let mut scene = Scene::start(kind, &[&option], &[]).await;
            let folder = scene.server.data();
            let file = folder.join("swipes.txt");
            let lines: String = (1..=300).map(|door| format!("{door}\t00A1\tt\tY\n")).collect();
            std::fs::write(&file, lines).unwrap();
            let sql = format!(
                "LOAD DATA INFILE '{}' INTO TABLE vdooropen (doorno, rfsim, optime, ynopen)",
                file.display()
            );
            scene.sql(&[&sql]).await;
            let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
            assert_eq!(rows.len(), 301, "{kind} {format}");
        }
    })
    .await;
}

#[tokio::test]
async fn statements_across_a_kill_arrive_once() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
        for door in 1..=10 {
            scene.sql(&[&swipe(door)]).await;
            if door % 3 == 0 {
                scene.doorcast.kill().await;
                scene.sql(&[&swipe(door + 100)]).await;
                scene.doorcast.start_again().await;
            }
        }
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 14, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn rows_that_a_look_at_the_table_finds_ahead_of_the_binlog_are_told_once() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.doorcast.signal("STOP");
        scene.sql(&["SET SESSION binlog_format=STATEMENT", &swipe(1), "SET SESSION binlog_format=ROW"]).await;
        for door in 2..=50 {
            scene.sql(&[&swipe(door)]).await;
        }
        // It meets the statement first, and then row by row what the table has shown already.
        scene.doorcast.signal("CONT");
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        let ids: Vec<String> = rows.into_iter().map(|(id, _)| id).collect();
        assert_eq!(
            ids,
            (1..=51).map(|key| format!("1-{key}")).collect::<Vec<_>>(),
            "{kind}: in commit order"
        );
    })
    .await;
}

#[tokio::test]
async fn a_purged_binlog_is_made_up_for_from_the_table() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1), &swipe(2)]).await;
        scene.read(2).await;
        assert!(scene.doorcast.stop().await.success());
        scene.sql(&[&swipe(3), &swipe(4), "FLUSH BINARY LOGS", &swipe(5)]).await;
        purge(&mut scene.conn).await;
        scene.sql(&[&swipe(6)]).await;
        scene.doorcast.start_again().await;
        scene.doorcast.logged("read the missing rows from the table").await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 7, "{kind}");
        assert!(rows.iter().all(|(id, _)| id.starts_with("1-")), "{kind}: keys did not start over");
    })
    .await;
}

/// The connection is the same, and the table's layout was read before.
#[tokio::test]
async fn a_binlog_file_that_goes_before_it_is_read_is_made_up_for_by_the_layout_of_now() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &["--db-heartbeat", "60"]).await;
        scene.sql(&["CREATE TABLE noise (b LONGBLOB)", &swipe(1)]).await;
        scene.read(1).await;
        scene.doorcast.signal("STOP");
        // More than the system takes for a connection: the server has not come to the next file.
        for _ in 0..60 {
            scene.sql(&["INSERT INTO noise VALUES (REPEAT('x', 500000))"]).await;
        }
        scene.sql(&["FLUSH BINARY LOGS"]).await;
        let (file, _) = crate::binlog::position(&scene.server, &mut scene.conn).await;
        scene.sql(&["ALTER TABLE vdooropen ADD note INT DEFAULT 7", &swipe(2), "FLUSH BINARY LOGS"]).await;
        std::fs::remove_file(scene.server.data().join(file)).unwrap();
        scene.doorcast.signal("CONT");
        scene.doorcast.logged("read the missing rows from the table").await;
        let (rows, scene) = scene.every_row_of_the_table_came_once().await;
        assert!(rows[1..].iter().all(|(_, row)| row.ends_with("\"note\":7}")), "{kind}: {rows:?}");
        assert_eq!(scene.status().await["reconnects"], 0, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn on_lost_position_fail_ends_with_status_3_and_now_tells_of_a_gap() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &["--on-lost-position", "fail"]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        assert!(scene.doorcast.stop().await.success());
        scene.sql(&[&swipe(2), "FLUSH BINARY LOGS"]).await;
        purge(&mut scene.conn).await;
        scene.sql(&[&swipe(3)]).await;
        let checkpoint = scene.doorcast.checkpoint();
        let db = url(&scene.server);
        let common = ["--db", &*db, "--checkpoint", checkpoint.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        let (code, written) =
            crate::process::run_to_end(&[&common[..], &["--on-lost-position", "fail"]].concat()).await;
        assert_eq!(code, 3, "{kind}: {written}");
        assert!(written.contains("--on-lost-position catch-up"), "{kind}: {written}");

        scene.doorcast.replace_arguments(&["--db", &*db, "--on-lost-position", "now"]);
        scene.doorcast.start_again().await;
        scene.doorcast.answers("/readyz", 200).await;
        scene.sql(&[&swipe(4)]).await;
        // Answered with the row after the gap, whenever that comes.
        let answer = crate::site::client().get(scene.doorcast.url("/poll?since=1-1")).send().await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(answer["gap"]["after"], "1-1", "{kind}: {answer}");
        assert_eq!(answer["gap"]["resumes_at"], "1-4", "{kind}: {answer}");
    })
    .await;
}

#[tokio::test]
async fn a_reset_binlog_is_noticed_even_where_the_old_offset_is_a_good_one() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        assert!(scene.doorcast.stop().await.success());
        scene.sql(&[reset_binlog(kind)]).await;
        scene.doorcast.start_again().await;
        scene.doorcast.answers("/readyz", 200).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        scene.sql(&[&swipe(2)]).await;
        scene.read(2).await;
        assert!(scene.doorcast.stop().await.success());
        // The same statements again make a file of the same name and length; the rows are others.
        scene.sql(&["DO SLEEP(1.1)", reset_binlog(kind), &swipe(3), &swipe(4), &swipe(5)]).await;
        scene.doorcast.start_again().await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 6, "{kind}");
    })
    .await;
}

/// The server goes on sending the file that was.
#[tokio::test]
async fn a_binlog_that_is_reset_while_it_is_read_is_read_anew() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1), &swipe(2), &swipe(3)]).await;
        scene.read(3).await;
        scene.sql(&[reset_binlog(kind), &swipe(4)]).await;
        scene.read(4).await;
        scene.sql(&[&swipe(5)]).await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 6, "{kind}");
    })
    .await;
}

/// Its connection stays open, and nothing more comes on it.
#[tokio::test]
async fn a_stream_that_the_server_ends_goes_on_where_it_ended() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &["--db-heartbeat", "3600"]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        let id = scene.dump_threads().await[0];
        scene.sql(&[&format!("KILL QUERY {id}")]).await;
        scene.doorcast.logged_error("the server ended the stream").await;
        scene.sql(&[&swipe(2)]).await;
        let (rows, scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 3, "{kind}");
        assert_eq!(scene.status().await["table_reads"], 0, "{kind}: straight from the binlog");
    })
    .await;
}

#[tokio::test]
async fn a_position_past_the_end_of_the_file_is_made_up_for() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        for door in 1..=20 {
            scene.sql(&[&swipe(door)]).await;
        }
        scene.read(20).await;
        assert!(scene.doorcast.stop().await.success());
        scene.sql(&["DO SLEEP(1.1)", reset_binlog(kind), &swipe(30)]).await;
        scene.doorcast.start_again().await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 22, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn a_checkpoint_of_another_server_is_made_up_for_from_the_table() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1), &swipe(2)]).await;
        scene.read(2).await;
        assert!(scene.doorcast.stop().await.success());
        // The same rows on another server, and more that were never in the first one's binlog. MySQL has a UUID.
        let options: &[&str] = if kind.starts_with("mysql") { &[] } else { &["--server-id=77"] };
        let other = servers::private(kind, options).await;
        let mut root = other.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        for door in [1, 2, 3] {
            root.query_drop(swipe(door)).await.unwrap();
        }
        // Nothing but the server itself says that the place is another one there.
        let (file, offset) = crate::binlog::position(&other, &mut root).await;
        crate::positions::change(&scene.doorcast, |checkpoint| {
            checkpoint.position.file = file;
            checkpoint.position.offset = offset;
            checkpoint.position.file_began = None;
        });
        root.query_drop(swipe(4)).await.unwrap();
        scene.doorcast.replace_arguments(&["--db", &url(&other)]);
        scene.doorcast.start_again().await;
        scene.doorcast.logged("read the missing rows from the table").await;
        scene.server = other;
        scene.reconnect().await;
        scene.sql(&[&swipe(5)]).await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 6, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn partial_row_images_are_made_up_for_from_the_table() {
    each_kind(async |kind| {
        for image in ["MINIMAL", "NOBLOB"] {
            let option = format!("--binlog-row-image={image}");
            let mut scene = Scene::start(kind, &[&option], &[]).await;
            // What an INSERT leaves out is not in the image.
            scene.sql(&["ALTER TABLE vdooropen ADD note INT DEFAULT 7, ADD photo BLOB"]).await;
            scene.read_binlog().await;
            scene.sql(&[&swipe(1), &swipe(2)]).await;
            let (rows, scene) = scene.every_row_of_the_table_came_once().await;
            assert_eq!(rows.len(), 3, "{kind} {image}");
            assert!(
                rows.iter().all(|(_, row)| row.contains("\"note\":7,\"photo\":null")),
                "{kind}: {rows:?}"
            );
            assert_ne!(scene.status().await["table_reads"], 0, "{kind} {image}: not from the image");
        }
    })
    .await;
}

#[tokio::test]
async fn compressed_binlogs_lose_nothing() {
    each_kind(async |kind| {
        let options: &[&str] = match kind {
            "mysql-9.7" => &["--binlog-transaction-compression=ON"],
            "mysql-5.6" => return, // knows no compression
            _ => &["--log-bin-compress=ON", "--log-bin-compress-min-len=10"],
        };
        let mut scene = Scene::start(kind, options, &[]).await;
        scene
            .sql(&[&swipe(1), "BEGIN", &swipe(2), &swipe(3), "COMMIT", "BEGIN", &swipe(4), "ROLLBACK"])
            .await;
        scene.read(3).await;
        scene.doorcast.kill().await;
        scene.sql(&[&swipe(5)]).await;
        scene.doorcast.start_again().await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 5, "{kind}");
    })
    .await;
}

/// The order of commits is that of the binlog; the table would give them in the order of keys.
#[tokio::test]
async fn compressed_rows_come_straight_from_the_binlog() {
    each_kind(async |kind| {
        if !kind.starts_with("mariadb") {
            return; // compresses transactions, or nothing
        }
        let options = ["--log-bin-compress=ON", "--log-bin-compress-min-len=10"];
        let mut scene = Scene::start(kind, &options, &[]).await;
        let many: Vec<String> = (1..=2000).rev().map(|key| format!("({key},3,'00A1','t','Y')")).collect();
        scene
            .sql(&[
                "INSERT INTO vdooropen VALUES (5000,1,'00A1','t','Y'), (4000,2,'00A2','t','N')",
                &format!("INSERT INTO vdooropen VALUES {}", many.join(",")),
            ])
            .await;
        scene.read(2002).await;
        let status = scene.status().await;
        assert_eq!(status["table_reads"], 0, "{kind}: {status}");
        let events: Vec<mysql_async::Row> =
            scene.conn.query("SHOW BINLOG EVENTS IN 'binlog.000001'").await.unwrap();
        let compressed = events.iter().filter(|event| {
            event.get::<String, _>("Event_type").is_some_and(|name| name == "Write_rows_compressed_v1")
        });
        assert!(compressed.count() >= 2, "{kind}: the server did compress");
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        let ids: Vec<&str> = rows.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(&ids[..4], ["1-5000", "1-4000", "1-2000", "1-1999"], "{kind}");
        assert_eq!(rows.len(), 2003, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn row_metadata_of_any_kind_is_fine() {
    each_kind(async |kind| {
        for metadata in ["NO_LOG", "MINIMAL", "FULL"] {
            let knows = match kind {
                "mysql-5.6" => false,
                "mysql-9.7" => metadata != "NO_LOG",
                _ => true,
            };
            if knows {
                let option = format!("--binlog-row-metadata={metadata}");
                let mut scene = Scene::start(kind, &[&option], &[]).await;
                scene.sql(&[&swipe(1)]).await;
                scene.read(1).await;
                assert_eq!(
                    scene.status().await["table_reads"],
                    0,
                    "{kind} {metadata}: straight from the binlog"
                );
                scene.every_row_of_the_table_came_once().await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_prepared_xa_transaction_is_shown_at_its_commit_and_never_after_a_rollback() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        let xa = |name: &str, door: u32| {
            [
                format!("XA START '{name}'"),
                swipe(door),
                format!("XA END '{name}'"),
                format!("XA PREPARE '{name}'"),
            ]
        };
        for (name, door, then) in [("a", 1, "XA COMMIT 'a'"), ("b", 2, "XA ROLLBACK 'b'")] {
            for sql in xa(name, door) {
                scene.sql(&[&sql]).await;
            }
            scene.sql(&[then]).await;
        }
        scene.sql(&["XA START 'c'", &swipe(3), "XA END 'c'", "XA COMMIT 'c' ONE PHASE"]).await;
        if kind != "mysql-5.6" {
            // Prepared, doorcast restarted, committed. (5.6 forgets a prepared one with its session.)
            for sql in xa("d", 4) {
                scene.sql(&[&sql]).await;
            }
            scene.doorcast.kill().await;
            scene.doorcast.start_again().await;
            scene.sql(&["XA COMMIT 'd'"]).await;
        }
        let expected = if kind == "mysql-5.6" { 3 } else { 4 };
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), expected, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn truncate_and_drop_begin_a_new_epoch() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1), &swipe(2)]).await;
        scene.read(2).await;
        scene.sql(&["TRUNCATE vdooropen", &swipe(3)]).await;
        scene.read(3).await;
        scene
            .sql(&[
                "CREATE TABLE copy LIKE vdooropen",
                "DROP TABLE vdooropen",
                "RENAME TABLE copy TO vdooropen",
            ])
            .await;
        let all = scene.last_row().await;
        for rows in all {
            let ids: Vec<_> = rows.iter().map(|(id, _)| &**id).collect();
            assert_eq!(ids, ["1-1", "1-2", "2-1", "3-1"], "{kind}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_monthly_archive_by_rename_loses_nothing_and_begins_a_new_epoch() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1), &swipe(2), "CREATE TABLE fresh LIKE vdooropen"]).await;
        scene.read(2).await;
        scene.sql(&["RENAME TABLE vdooropen TO archive, fresh TO vdooropen", &swipe(3)]).await;
        let all = scene.last_row().await;
        for rows in all {
            let ids: Vec<_> = rows.iter().map(|(id, _)| &**id).collect();
            assert_eq!(ids, ["1-1", "1-2", "2-1", "2-2"], "{kind}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_layout_is_read_again_before_the_next_row() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&["ALTER TABLE vdooropen ADD note INT DEFAULT 7"]).await;
        // Up to the place at which it was read, the layout may have changed once more.
        scene.doorcast.logged("the table's layout was read again").await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        let status = scene.status().await;
        assert_eq!(status["table_reads"], 0, "{kind}: straight from the binlog");
        let quiet =
            ["SET sql_log_bin=0", "ALTER TABLE vdooropen ADD quiet INT DEFAULT 8", "SET sql_log_bin=1"];
        scene.sql(&quiet).await;
        scene.sql(&[&swipe(2)]).await;
        let (rows, scene) = scene.every_row_of_the_table_came_once().await;
        assert!(rows[0].1.contains("\"note\":7}"), "{kind}: {rows:?}");
        assert!(rows[1].1.contains("\"note\":7,\"quiet\":8}"), "{kind}: {rows:?}");
        assert_eq!(scene.status().await["reconnects"], 0, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn rows_without_binlog_are_found_by_the_table_and_said() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.logged = false;
        scene.sql(&["SET sql_log_bin=0", &swipe(1), "SET sql_log_bin=1"]).await;
        scene.read(1).await;
        let (rows, scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 2, "{kind}");
        scene
            .doorcast
            .logged(
                "rows are in the table that the binlog did not bring, they are told now. Does somebody insert with SET \
                 sql_log_bin=0?",
            )
            .await;
    })
    .await;
}

#[tokio::test]
async fn rows_without_binlog_are_found_among_many_keys_that_did_not_come() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.logged = false;
        scene.sql(&["SET sql_log_bin=0", &swipe(1), "SET sql_log_bin=1"]).await;
        let sixty = vec!["(2, '00A1', '20261120 071500', 'Y')"; 60].join(",");
        let sixty = format!("INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES {sixty}");
        for _ in 0..12 {
            scene.sql(&["BEGIN", &swipe(3), "ROLLBACK", &sixty]).await;
        }
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 12 * 60 + 2, "{kind}");
    })
    .await;
}

/// The link that brings the binlog stands still while the one for queries does not: the table shows rows
/// long before the binlog brings them, as it does during a large transaction.
#[tokio::test]
async fn rows_that_the_binlog_brings_late_are_not_taken_for_unlogged() {
    each_kind(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-heartbeat", "3600"]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        // The one for queries was made before.
        proxy.set_newest(Way::Stalled);
        scene.sql(&[&swipe(2), &swipe(3)]).await;
        scene.doorcast.logged("the table has rows that the binlog did not bring yet").await;
        scene.doorcast.logged("the binlog is still to bring what the table had").await;
        let status = scene.status().await;
        assert_eq!((&status["unlogged"], &status["rows"]), (&0.into(), &1.into()), "{kind}: {status}");
        proxy.set_newest(Way::Open);
        scene.read(3).await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 4, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn rows_of_a_table_with_the_same_layout_are_not_taken_for_its_own() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene
            .sql(&[
                &swipe(1),
                "CREATE TABLE twin LIKE vdooropen",
                "INSERT INTO twin SELECT vid + 100, doorno, rfsim, optime, ynopen FROM vdooropen",
                "CREATE DATABASE elsewhere",
                "CREATE TABLE elsewhere.vdooropen LIKE vdooropen",
                "INSERT INTO elsewhere.vdooropen SELECT * FROM twin",
            ])
            .await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 2, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn other_tables_may_hold_what_they_like() {
    each_kind(async |kind| {
        let mut options = vec!["--max-allowed-packet=64M"];
        if kind == "mysql-5.6" {
            options.push("--innodb-log-file-size=256M"); // which bounds a BLOB there
        }
        let mut scene = Scene::start(kind, &options, &[]).await;
        scene
            .sql(&[
                "CREATE TABLE odd (t TIME(6), g VARCHAR(20) CHARACTER SET gbk, x TEXT CHARACTER SET latin1, b VARBINARY(20), l LONGBLOB, d DATETIME)",
                "SET SESSION sql_mode=''",
                "INSERT INTO odd VALUES ('-838:59:59', _gbk 0xC4E3BAC3, _latin1 0xE9, 0xFFFE80, NULL, '0000-00-00')",
                &swipe(1),
                "INSERT INTO odd (l) VALUES (REPEAT('x', 17 * 1024 * 1024))",
                &swipe(2),
                "BEGIN",
                "INSERT INTO odd (g) VALUES ('a'), ('b')",
                &swipe(3),
                "DELETE FROM odd",
                "UPDATE vdooropen SET ynopen='N' WHERE doorno=1",
                "UPDATE vdooropen SET ynopen='Y' WHERE doorno=1",
                "COMMIT",
            ])
            .await;
        if kind == "mysql-9.7" {
            scene
                .sql(&[
                    "CREATE TABLE vec (v VECTOR(3))",
                    "INSERT INTO vec VALUES (STRING_TO_VECTOR('[1,2,3]'))",
                ])
                .await;
        }
        if kind == "mariadb-11.8" {
            scene
                .sql(&["CREATE TABLE vec (v VECTOR(3))", "INSERT INTO vec VALUES (VEC_FromText('[1,2,3]'))"])
                .await;
        }
        scene.read(3).await;
        let status = scene.status().await;
        let fallbacks = (&status["table_reads"], &status["reconnects"]);
        assert_eq!(fallbacks, (&0.into(), &0.into()), "{kind}: straight from the binlog: {status}");
        // A text that is not UTF-8.
        scene.sql(&["SET NAMES latin1", "SET SESSION binlog_format=STATEMENT"]).await;
        scene.conn.query_drop(&b"INSERT INTO odd (x) VALUES ('\xE9\xFF')"[..]).await.unwrap();
        scene.sql(&["SET SESSION binlog_format=ROW", "SET NAMES utf8mb4", &swipe(4)]).await;
        let (rows, scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 5, "{kind}");
        assert_eq!(scene.status().await["reconnects"], 0, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn tagged_gtids_are_followed_by_file_and_offset() {
    each_kind(async |kind| {
        if kind != "mysql-9.7" {
            return; // knows no tags
        }
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&["SET gtid_next='AUTOMATIC:door'", &swipe(1), "SET gtid_next='AUTOMATIC'"]).await;
        scene.read(1).await;
        assert!(scene.doorcast.stop().await.success());
        let saved = std::fs::read_to_string(scene.doorcast.checkpoint()).unwrap();
        assert!(saved.contains(":door:1"), "{saved}");
        scene.sql(&[&swipe(2)]).await;
        scene.doorcast.start_again().await;
        scene
            .doorcast
            .logged(
                "the GTID set has tags, and can't be asked for: reading goes on by file and offset, and on another \
                 server the missing rows are read from the table",
            )
            .await;
        let (rows, scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 3, "{kind}");
        let status = scene.status().await;
        assert_eq!(status["table_reads"], 0, "{kind}: straight from the binlog: {status}");
    })
    .await;
}

/// Makes `replica` a replica of `source`, from the first transaction on.
pub(crate) async fn replicate(kind: &str, source: &PrivateServer, replica: &PrivateServer) {
    let mut on_replica = replica.root(None).await.unwrap();
    let port = source.port();
    let gtids: Option<String> = match kind {
        "mysql-9.7" | "mysql-5.6" => on_replica.query_first("SELECT @@GLOBAL.gtid_mode").await.unwrap(),
        _ => None,
    };
    let from = match (kind, gtids.as_deref()) {
        ("mysql-9.7", Some("ON")) => "SOURCE_AUTO_POSITION=1",
        ("mysql-9.7", _) => "SOURCE_LOG_FILE='binlog.000001', SOURCE_LOG_POS=4",
        ("mysql-5.6", Some("ON")) => "MASTER_AUTO_POSITION=1",
        ("mysql-5.6", _) => "MASTER_LOG_FILE='binlog.000001', MASTER_LOG_POS=4",
        ("mariadb-11.8", _) => "MASTER_USE_GTID=slave_pos, MASTER_SSL_VERIFY_SERVER_CERT=0",
        _ => "MASTER_USE_GTID=slave_pos",
    };
    let sql = match kind {
        "mysql-9.7" => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='doorcast', \
             SOURCE_PASSWORD='{PASSWORD}', GET_SOURCE_PUBLIC_KEY=1, {from}"
        ),
        _ => format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='doorcast', \
             MASTER_PASSWORD='{PASSWORD}', {from}"
        ),
    };
    on_replica.query_drop(sql).await.unwrap();
    let start = if kind == "mysql-9.7" { "START REPLICA" } else { "START SLAVE" };
    on_replica.query_drop(start).await.unwrap();
}
