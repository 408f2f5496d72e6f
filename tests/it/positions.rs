//! Where reading goes on: by place, by GTID, or by the table when neither means the same any more.

use std::{fs::File, net::Ipv4Addr, process::Command};

use doorcast::checkpoint::{Checkpoint, CheckpointFile};
use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::{
    binlog::position,
    clients::Reader,
    deadline::deadline,
    process::Doorcast,
    proxy::{Proxy, Way},
    recovery::{purge, replicate, reset_binlog},
    scene::{Scene, swipe, url},
    servers::{self, PASSWORD, each_kind},
};

/// Changes the checkpoint of a process that has ended.
pub(crate) fn change(doorcast: &Doorcast, change: impl FnOnce(&mut Checkpoint)) {
    let file = CheckpointFile::lock(&doorcast.checkpoint()).unwrap();
    let mut checkpoint = file.load().unwrap().unwrap();
    change(&mut checkpoint);
    file.save(&checkpoint).unwrap();
}

/// A dump request has 32 bits for the offset, and mysql_async drops the others without a word.
#[tokio::test]
async fn a_position_beyond_four_gigabytes_is_never_taken_for_a_smaller_one() {
    each_kind(async |kind| {
        for by_gtid in [true, false] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            scene.sql(&[&swipe(1)]).await;
            scene.read(1).await;
            let (_, smaller) = position(&scene.server, &mut scene.conn).await;
            scene.sql(&[&swipe(2), &swipe(3)]).await;
            scene.read(3).await;
            assert!(scene.doorcast.stop().await.success());
            change(&scene.doorcast, |checkpoint| {
                checkpoint.position.offset = (1 << 32) + smaller;
                if !by_gtid {
                    checkpoint.position.gtid_set = None;
                }
            });
            scene.sql(&[&swipe(4)]).await;
            scene.doorcast.start_again().await;
            let (rows, scene) = scene.every_row_of_the_table_came_once().await;
            assert_eq!(rows.len(), 5, "{kind}");
            assert_eq!(scene.status().await["table_reads"], u8::from(!by_gtid), "{kind}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_position_moves_with_transactions_on_other_tables() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        scene.sql(&["CREATE TABLE other (a INT)", "INSERT INTO other VALUES (1)"]).await;
        let (_, end) = position(&scene.server, &mut scene.conn).await;
        let wanted = format!("\"offset\":{end},");
        deadline(async {
            while !std::fs::read_to_string(scene.doorcast.checkpoint()).unwrap().contains(&wanted) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    })
    .await;
}

/// A kill before that would make the next start begin with what comes then.
#[tokio::test]
async fn no_row_is_told_before_an_attempt_to_write_the_first_position() {
    each_kind(async |kind| {
        let server = servers::private(kind, &[]).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        let db = url(&server);
        // Nobody reads this pipe: whoever opens it for writing waits.
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("checkpoint.json.tmp");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (waits, released) = tokio::join!(Doorcast::start_in(folder, &db, &[]), async {
            let is_there = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'doorcast'";
            deadline(async { while root.query_first(is_there).await.unwrap() != Some(1) {} }).await;
            // One that came later has told its row by then.
            let other = Doorcast::start(&db, &[]).await;
            let mut reader = Reader::sse(&other, "?since=earliest");
            root.query_drop(swipe(1)).await.unwrap();
            reader.has(1).await;
            let now = jiff::Timestamp::now();
            drop(File::open(&pipe).unwrap());
            now
        });
        let line = waits.logged("following").await;
        let following: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(following > released, "{kind}: {line}");
    })
    .await;
}

#[tokio::test]
async fn a_checkpoint_has_ten_thousand_keys_at_least_and_a_hundred_thousand_at_most() {
    let kind = servers::kinds()[0];
    for (history, rows, kept) in [("1", 11_000, 10_000), ("1000000", 110_000, 100_000)] {
        let mut scene = Scene::start(kind, &[], &["--history", history]).await;
        let values = vec!["(1,'00A1','t','Y')"; rows].join(",");
        scene.sql(&[&format!("INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES {values}")]).await;
        scene.read_binlog().await;
        assert!(scene.doorcast.stop().await.success());
        change(&scene.doorcast, |checkpoint| {
            let keys: i128 = checkpoint.recent_keys.iter().map(|(first, last)| last - first + 1).sum();
            assert_eq!(keys, kept, "--history {history}");
        });
    }
}

/// Events inside it have no position of their own.
#[tokio::test]
async fn the_position_behind_a_compressed_transaction_is_its_end() {
    each_kind(async |kind| {
        if kind != "mysql-9.7" {
            return; // does not compress transactions
        }
        let mut scene = Scene::start(kind, &["--binlog-transaction-compression=ON"], &[]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        let (_, end) = position(&scene.server, &mut scene.conn).await;
        assert!(scene.doorcast.stop().await.success());
        change(&scene.doorcast, |checkpoint| assert_eq!(checkpoint.position.offset, end));
        scene.doorcast.start_again().await;
        scene.every_row_of_the_table_came_once().await;
    })
    .await;
}

/// A server counts table ids from the same number after each start.
#[tokio::test]
async fn table_ids_are_forgotten_at_a_new_file() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(0)]).await;
        scene.read(1).await;
        assert!(scene.doorcast.stop().await.success());
        for number in 0..60 {
            let create = format!("CREATE TABLE other_{number} (a INT)");
            scene.sql(&[&create, &format!("INSERT INTO other_{number} VALUES (1)")]).await;
        }
        let (before, _) = position(&scene.server, &mut scene.conn).await;
        scene.server.restart().await.unwrap();
        scene.reconnect().await;
        let (after, _) = position(&scene.server, &mut scene.conn).await;
        for _ in 0..120 {
            scene.sql(&[&swipe(1), "FLUSH TABLES"]).await;
        }
        let mut ids = Vec::new();
        for (file, table) in [(before, "other_"), (after, "vdooropen")] {
            let events: Vec<mysql_async::Row> =
                scene.conn.query(format!("SHOW BINLOG EVENTS IN '{file}'")).await.unwrap();
            let infos = events.iter().map(|event| event.get::<String, _>("Info").unwrap());
            let maps =
                infos.filter(|info| info.contains(&format!("doors.{table}")) && info.starts_with("table_id"));
            ids.push(maps.map(|info| info.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>());
        }
        assert!(ids[1].iter().any(|id| ids[0].contains(id)), "{kind}: no id came twice: {ids:?}");
        scene.doorcast.start_again().await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 122, "{kind}");
    })
    .await;
}

/// Follows one server, and then the replica that takes its place. `source_sql` runs on the first one.
async fn promoted(
    kind: &'static str,
    options: &[&str],
    replica_options: &[&str],
    source_sql: &[&str],
    table_reads: u32,
) {
    let mut scene = Scene::start(kind, options, &[]).await;
    let replica = servers::private(kind, &[options, &["--server-id=77"], replica_options].concat()).await;
    replicate(kind, &scene.server, &replica).await;
    scene.sql(source_sql).await;
    scene.sql(&[&swipe(1), &swipe(2)]).await;
    let told: Option<usize> = scene.conn.query_first("SELECT COUNT(*) FROM vdooropen").await.unwrap();
    scene.read(told.unwrap()).await;
    assert!(scene.doorcast.stop().await.success());
    scene.sql(&[&swipe(3)]).await;
    let mut promoted = replica.root(None).await.unwrap();
    deadline(async {
        // The table comes by replication, too.
        let count = "SELECT COUNT(*) FROM doors.vdooropen";
        while promoted.query_first(count).await.ok().flatten() != told.map(|told| told + 1) {}
    })
    .await;
    promoted.query_drop("USE doors").await.unwrap();
    promoted.query_drop(if kind == "mysql-9.7" { "STOP REPLICA" } else { "STOP SLAVE" }).await.unwrap();
    scene.server.kill();
    promoted.query_drop(swipe(4)).await.unwrap();

    scene.doorcast.replace_arguments(&["--db", &url(&replica)]);
    scene.doorcast.start_again().await;
    scene.server = replica;
    scene.conn = promoted;
    scene.doorcast.answers("/readyz", 200).await;
    assert_eq!(scene.status().await["table_reads"], table_reads, "{kind}");
    let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
    assert_eq!(rows.len(), told.unwrap() + 3, "{kind}");
    assert!(rows.iter().all(|(id, _)| id.starts_with("1-")), "{kind}: {rows:?}");
}

#[tokio::test]
async fn a_promoted_replica_is_followed_on_by_gtid() {
    each_kind(async |kind| promoted(kind, &[], &["--log-slave-updates"], &[], 0).await).await;
}

/// MySQL without GTIDs, and a MariaDB replica whose own binlog has nothing of what it replicated.
#[tokio::test]
async fn a_promoted_replica_without_the_gtids_is_followed_on_by_the_table() {
    each_kind(async |kind| {
        if kind.starts_with("mysql") {
            let off = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"];
            promoted(kind, &off, &["--log-slave-updates"], &[], 1).await;
        } else {
            promoted(kind, &[], &["--skip-log-slave-updates"], &[], 1).await;
        }
    })
    .await;
}

/// mysql_async can't ask for them.
#[tokio::test]
async fn a_promoted_replica_with_tagged_gtids_is_followed_on_by_the_table() {
    each_kind(async |kind| {
        if kind != "mysql-9.7" {
            return; // knows no tags
        }
        let tagged = ["SET gtid_next='AUTOMATIC:door'", &swipe(9), &swipe(9), "SET gtid_next='AUTOMATIC'"];
        promoted(kind, &[], &["--log-replica-updates"], &tagged, 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_table_that_was_replaced_while_the_position_was_lost_begins_an_epoch_with_a_gap() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1), &swipe(2), &swipe(3)]).await;
        scene.read(3).await;
        assert!(scene.doorcast.stop().await.success());
        scene.sql(&["TRUNCATE vdooropen", &swipe(11), &swipe(12), "FLUSH BINARY LOGS"]).await;
        purge(&mut scene.conn).await;
        scene.doorcast.start_again().await;
        scene.doorcast.logged("rows may be missing").await;
        scene.doorcast.answers("/readyz", 200).await;
        scene.sql(&[&swipe(15)]).await;
        let answer = crate::site::client().get(scene.doorcast.url("/poll?since=1-3")).send().await.unwrap();
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(answer["epoch"], 2, "{kind}: {answer}");
        assert_eq!(answer["gap"]["after"], "1-3", "{kind}: {answer}");
        let reason = "the table was replaced while the binlog position was lost";
        crate::gaps::is_said_once(&scene, reason).await;
    })
    .await;
}

#[tokio::test]
async fn a_table_with_as_many_rows_that_took_the_place_of_ours_meanwhile_is_not_taken_for_it() {
    each_kind(async |kind| {
        for purged in [true, false] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            scene.sql(&[&swipe(1), &swipe(2), &swipe(3)]).await;
            scene.read(3).await;
            assert!(scene.doorcast.stop().await.success());
            scene.sql(&["TRUNCATE vdooropen", &swipe(11), &swipe(12), &swipe(13), &swipe(14)]).await;
            if purged {
                scene.sql(&["FLUSH BINARY LOGS"]).await;
                purge(&mut scene.conn).await;
            }
            scene.doorcast.start_again().await;
            scene.doorcast.logged("following").await;
            scene.sql(&[&swipe(15)]).await;
            let ask = async |since: &str| -> Value {
                let url = scene.doorcast.url(&format!("/poll?since={since}&timeout=1"));
                let answer = crate::site::client().get(url).send().await.unwrap();
                serde_json::from_str(&answer.text().await.unwrap()).unwrap()
            };
            // Both of them are behind rows that the table has others for now.
            for since in ["1-1", "1-3"] {
                let mut answer = ask(since).await;
                assert_eq!(answer["gap"]["after"], since, "{kind}, purged {purged}: {answer}");
                let mut doors = Vec::new();
                while doors.last() != Some(&15) {
                    for event in answer["events"].as_array().unwrap() {
                        let id = event["id"].as_str().unwrap();
                        assert!(id.starts_with("2-"), "{kind}, purged {purged}: {answer}");
                        doors.push(event["row"]["doorno"].as_u64().unwrap());
                    }
                    answer = ask(answer["next"].as_str().unwrap()).await;
                }
                assert!(purged || doors == [11, 12, 13, 14, 15], "{kind}: {doors:?}");
            }
            assert_eq!(scene.status().await["breaks"], u64::from(purged), "{kind}");
        }
    })
    .await;
}

/// What a server does that loses power, in good order: it forgets the rows from key `first` to `last`, that were told, gives
/// the first key to a swipe at door 12, and its binlog ends before our position. That swipe must be told, once.
async fn given_out_again(scene: &mut Scene, proxy: &Proxy, first: u32, last: u32) {
    let kind = scene.kind;
    proxy.set(Way::Stalled);
    let delete = format!("DELETE FROM vdooropen WHERE vid >= {first}");
    let other = format!("INSERT INTO vdooropen VALUES ({first}, 12, '00A2', '20261120 071501', 'Y')");
    scene.sql(&[&delete, &other, reset_binlog(kind)]).await;
    proxy.drop_stalled();
    scene.doorcast.logged("read the missing rows from the table").await;
    scene.sql(&[&swipe(15)]).await;
    let mut since = format!("1-{last}");
    let mut doors = Vec::new();
    while doors.last() != Some(&15) {
        let url = scene.doorcast.url(&format!("/poll?since={since}&timeout=1"));
        let answer = crate::site::client().get(url).send().await.unwrap();
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        for event in answer["events"].as_array().unwrap() {
            doors.push(event["row"]["doorno"].as_u64().unwrap());
        }
        since = answer["next"].as_str().unwrap().to_owned();
    }
    assert_eq!(doors.iter().filter(|door| **door == 12).count(), 1, "{kind}: {doors:?}");
    assert!(since.starts_with("2-"), "{kind}: {since}");
}

#[tokio::test]
async fn a_row_under_a_key_that_the_server_gave_out_again_is_told() {
    each_kind(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-heartbeat", "20"]).await;
        scene.sql(&[&swipe(1), &swipe(2)]).await;
        scene.read(2).await;
        given_out_again(&mut scene, &proxy, 2, 2).await;
    })
    .await;
}

/// It forgets more rows than those by which the table is known again, and some of their keys.
#[tokio::test]
async fn a_table_whose_server_forgot_all_of_the_last_rows_is_still_the_same() {
    each_kind(async |kind| {
        let server = servers::private(kind, &[]).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        for door in 1..=3 {
            root.query_drop(swipe(door)).await.unwrap();
        }
        let proxy = Proxy::start((Ipv4Addr::LOCALHOST, server.port()).into()).await;
        let db = format!("mysql://doorcast:{PASSWORD}@127.0.0.1:{}/doors", proxy.port);
        let mut scene = Scene::through(kind, server, &db, &["--db-heartbeat", "20"]).await;
        for _ in 0..20 {
            scene.sql(&[&swipe(4)]).await;
        }
        scene.read(23).await;
        given_out_again(&mut scene, &proxy, 4, 23).await;
        assert_eq!(scene.status().await["breaks"], 0, "{kind}");
    })
    .await;
}

/// The clock of a server, and of each of its sessions, may be set; ours does not go by it.
#[tokio::test]
async fn a_row_under_a_key_given_out_again_is_told_though_an_earlier_one_committed_an_hour_later() {
    each_kind(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-heartbeat", "20"]).await;
        let ahead = "SET timestamp = UNIX_TIMESTAMP() + 3600";
        scene.sql(&[ahead, &swipe(1), "SET timestamp = DEFAULT", &swipe(2), &swipe(3)]).await;
        scene.read(3).await;
        given_out_again(&mut scene, &proxy, 3, 3).await;
    })
    .await;
}

/// The end of the binlog had come to us, but not to the disk when the server lost power; the rows had.
#[tokio::test]
async fn a_position_behind_the_end_that_the_server_lost_is_made_up_for_from_the_table() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1), &swipe(2)]).await;
        let (file, end) = position(&scene.server, &mut scene.conn).await;
        scene.sql(&[&swipe(3), &swipe(4)]).await;
        scene.read(4).await;
        assert!(scene.doorcast.stop().await.success());
        // Not told by anybody yet. InnoDB's log is written up to here: what it has prepared and the binlog does not have
        // is rolled back.
        scene.sql(&[&swipe(5), "SET sql_log_bin=0", "CREATE TABLE other (id INT PRIMARY KEY)"]).await;
        scene.server.kill();
        let binlog = scene.server.data().join(file);
        File::options().write(true).open(binlog).unwrap().set_len(end).unwrap();
        scene.server.start_again().await.unwrap();
        scene.doorcast.start_again().await;
        scene.doorcast.logged("read the missing rows from the table").await;
        scene.reconnect().await;
        scene.read(5).await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 6, "{kind}");
    })
    .await;
}
