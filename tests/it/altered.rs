//! A table that is altered before its rows have been read: no row is decoded by a guess, and none is lost.

use mysql_async::prelude::Queryable;

use crate::{
    deadline::deadline,
    proxy::Way,
    recovery::{purge, reset_binlog},
    scene::{Scene, swipe},
    servers::{self, PASSWORD, each_kind},
};

/// Where doorcast is while the table is altered.
#[derive(Debug, Clone, Copy)]
enum Away {
    /// It stands still, and has the layout of before.
    Still,
    /// It has ended, and finds the layout of afterwards.
    Ended,
    /// It was killed.
    Killed,
}

impl Away {
    async fn leave(self, scene: &mut Scene) {
        match self {
            Away::Still => scene.doorcast.signal("STOP"),
            Away::Ended => assert!(scene.doorcast.stop().await.success()),
            Away::Killed => scene.doorcast.kill().await,
        }
    }

    async fn come_back(self, scene: &mut Scene) {
        match self {
            Away::Still => scene.doorcast.signal("CONT"),
            Away::Ended | Away::Killed => scene.doorcast.start_again().await,
        }
    }
}

/// Waits for these rows, inserts a last one, and checks that each reader has exactly these before it, in this order.
async fn rows_are(scene: Scene, expected: &[String], what: &str) {
    rows_are_by(|_| 0, scene, expected, what).await;
}

/// The same, in order of the keys alone: rows whose key is not known come behind others.
async fn rows_are_in_any_order(scene: Scene, expected: &[String], what: &str) {
    rows_are_by(|id| id.split_once('-').unwrap().1.parse().unwrap(), scene, expected, what).await;
}

async fn rows_are_by(order: impl Fn(&str) -> u32, mut scene: Scene, expected: &[String], what: &str) {
    scene.read(expected.len()).await;
    for mut rows in scene.last_row().await {
        rows.pop();
        rows.sort_by_key(|(id, _)| order(id));
        let came: Vec<&str> = rows.iter().map(|(_, row)| row.as_str()).collect();
        assert_eq!(came, expected, "{} {what}", scene.kind);
    }
}

/// Character sets that a step converts the two columns to, and their text.
type Step = [(&'static str, &'static str); 2];

/// Rows before, between and after conversions, of which none but the first is read before the last.
async fn converted(kind: &'static str, away: Away, format: &str, steps: &[Step]) {
    let mut scene = Scene::start(kind, &[], &[]).await;
    let add = |verb: &str, [(a, _), (b, _)]: &Step| {
        format!("ALTER TABLE vdooropen {verb} a TEXT CHARACTER SET {a}, {verb} b TEXT CHARACTER SET {b}")
    };
    let insert = |key: u32, [(_, a), (_, b)]: &Step| {
        format!("INSERT INTO vdooropen VALUES ({key}, 3, '00A1', 't', 'Y', '{a}', '{b}')")
    };
    scene.sql(&[&add("ADD", &steps[0]), &insert(1, &steps[0])]).await;
    scene.read(1).await;
    away.leave(&mut scene).await;
    scene.sql(&[&format!("SET SESSION binlog_format={format}")]).await;
    let mut expected = Vec::new();
    for (key, step) in (1..).zip([&steps[..1], steps].concat()) {
        if key > 2 {
            scene.sql(&[&add("MODIFY", &step)]).await;
        }
        if key > 1 {
            scene.sql(&[&insert(key, &step)]).await;
        }
        let [(_, a), (_, b)] = step;
        expected.push(format!(
            "{{\"vid\":{key},\"doorno\":3,\"rfsim\":\"00A1\",\"optime\":\"t\",\"ynopen\":\"Y\",\"a\":\"{a}\",\"b\":\"{b}\"}}"
        ));
    }
    scene.sql(&["SET SESSION binlog_format=ROW"]).await;
    away.come_back(&mut scene).await;
    rows_are(scene, &expected, &format!("{away:?} {format} {steps:?}")).await;
}

/// An image of MariaDB says nothing of character sets, nor does one of MySQL 5.6.
#[tokio::test]
async fn rows_across_a_change_of_the_character_set_read_as_they_were_written() {
    each_kind(async |kind| {
        let there = [[("gbk", "门禁"), ("latin1", "€")], [("utf8mb4", "门禁"), ("cp1251", "€")]];
        let and_back = [there[0], there[1], there[0]];
        for (away, format) in
            [(Away::Still, "ROW"), (Away::Ended, "ROW"), (Away::Killed, "ROW"), (Away::Still, "STATEMENT")]
        {
            converted(kind, away, format, &there).await;
            converted(kind, away, format, &and_back).await;
        }
    })
    .await;
}

fn row(early: &str, key: u32, late: &str, rest: &str) -> String {
    format!(
        "{{{early}\"vid\":{key},{late}\"doorno\":{key},\"rfsim\":\"00A1\",\"optime\":\"20261120 071500\",\"ynopen\":\"Y\"{rest}}}"
    )
}

#[tokio::test]
async fn columns_may_come_go_and_change_in_the_middle_of_the_stream() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        let alters = [
            "DO 1",
            "ALTER TABLE vdooropen ADD note VARCHAR(20) DEFAULT 'neu'",
            "ALTER TABLE vdooropen MODIFY doorno BIGINT NOT NULL",
            "ALTER TABLE vdooropen DROP note",
            "ALTER TABLE vdooropen MODIFY rfsim CHAR(16) CHARACTER SET utf8 NOT NULL",
        ];
        for (door, alter) in (1..).zip(alters) {
            scene.sql(&[alter, &swipe(door)]).await;
            scene.read(door as usize).await;
        }
        scene.doorcast.kill().await;
        scene.sql(&[&swipe(6), "ALTER TABLE vdooropen ADD late INT AFTER vid", &swipe(7)]).await;
        scene.doorcast.start_again().await;
        let (note, late) = (",\"note\":\"neu\"", "\"late\":null,");
        let expected = [("", ""), ("", note), ("", note), ("", ""), ("", ""), (late, ""), (late, "")];
        let expected: Vec<_> =
            (1..).zip(expected).map(|(key, (late, rest))| row("", key, late, rest)).collect();
        rows_are(scene, &expected, "").await;
    })
    .await;
}

/// The server changes no row for it. What is not decoded by the layout of its time has the columns as of now.
#[tokio::test]
async fn columns_may_come_and_go_instantly_before_rows_are_read() {
    each_kind(async |kind| {
        for away in [Away::Still, Away::Ended] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            scene.sql(&[&swipe(1)]).await;
            scene.read(1).await;
            away.leave(&mut scene).await;
            scene.sql(&[&swipe(2)]).await;
            for (door, change) in
                (3..).zip(["ADD note INT DEFAULT 7", "ADD early INT DEFAULT 5 FIRST", "DROP note"])
            {
                let how = if kind == "mysql-5.6" { "" } else { ", ALGORITHM=INSTANT" };
                scene.sql(&[&format!("ALTER TABLE vdooropen {change}{how}"), &swipe(door)]).await;
            }
            away.come_back(&mut scene).await;
            let now = "\"early\":5,";
            let second = if matches!(away, Away::Still) { "" } else { now };
            let expected = [("", 1), (second, 2), (now, 3), (now, 4), (now, 5)];
            let expected = expected.map(|(early, key)| row(early, key, "", ""));
            rows_are_in_any_order(scene, &expected, &format!("{away:?}")).await;
        }
    })
    .await;
}

/// A row that had been told, or was about to be, comes behind others now: the place of a cursor among them says nothing.
#[tokio::test]
async fn rows_of_unknown_keys_have_new_ids_after_a_kill() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        scene.doorcast.kill().await;
        scene.sql(&[&swipe(2), "ALTER TABLE vdooropen ADD early INT FIRST", &swipe(3)]).await;
        scene.doorcast.start_again().await;
        let mut since = "1-1".to_owned();
        let mut doors = std::collections::BTreeSet::new();
        while !doors.is_superset(&[2, 3].into()) {
            let url = scene.doorcast.url(&format!("/poll?since={since}&timeout=5"));
            let answer = crate::site::client().get(url).send().await.unwrap();
            let answer: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            for event in answer["events"].as_array().unwrap() {
                assert!(event["id"].as_str().unwrap().starts_with("2-"), "{kind}: {answer}");
                doors.insert(event["row"]["doorno"].as_u64().unwrap());
            }
            since = answer["next"].as_str().unwrap().to_owned();
        }
    })
    .await;
}

/// The rows of before are in the binlog alone.
#[tokio::test]
async fn rows_before_a_truncate_come_from_the_binlog_where_reading_begins_before_it() {
    each_kind(async |kind| {
        let server = servers::private(kind, &[]).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        let (one, two, three) = (swipe(1), swipe(2), swipe(3));
        for sql in [&*one, &two, "TRUNCATE vdooropen", &three] {
            root.query_drop(sql).await.unwrap();
        }
        let mut scene = Scene::on(kind, server, &["--start-from", "earliest"]).await;
        for rows in scene.last_row().await {
            let ids: Vec<&str> = rows.iter().map(|(id, _)| &**id).collect();
            assert_eq!(ids, ["1-1", "1-2", "2-1", "2-2"], "{kind}: {rows:?}");
        }
        assert_eq!(scene.status().await["breaks"], 0, "{kind}");
    })
    .await;
}

/// Two columns change names and change back, which the schema does not show.
#[tokio::test]
async fn columns_that_change_names_there_and_back_are_never_mixed_up() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        let swap = "ALTER TABLE vdooropen CHANGE rfsim optime CHAR(16) NOT NULL, CHANGE optime rfsim CHAR(16) NOT NULL";
        let insert = "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (2, 'card', 'time', 'Y')";
        scene.sql(&["ALTER TABLE vdooropen MODIFY optime CHAR(16) NOT NULL", &swipe(1)]).await;
        scene.read(1).await;
        scene.doorcast.signal("STOP");
        scene.sql(&[swap, insert, swap]).await;
        scene.doorcast.signal("CONT");
        scene.read(2).await;
        // What was the time stands under the card's name now.
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert!(rows[1].1.contains("\"rfsim\":\"time\",\"optime\":\"card\""), "{kind}: {rows:?}");
    })
    .await;
}

/// The layout is the one of after the last change, and rows from before it are still to come.
#[tokio::test]
async fn rows_between_two_changes_read_as_they_were_written_though_the_link_breaks_there() {
    each_kind(async |kind| {
        let options = ["--db-heartbeat", "3600", "--ssl-mode", "disabled"];
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &options).await;
        let to = |set: &str| format!("ALTER TABLE vdooropen MODIFY a TEXT CHARACTER SET {set}");
        let insert = "INSERT INTO vdooropen VALUES (NULL, 3, '00A1', 't', 'Y', '门禁')";
        scene
            .sql(&["CREATE TABLE other (text MEDIUMTEXT)", "ALTER TABLE vdooropen ADD a TEXT CHARACTER SET gbk", insert])
            .await;
        scene.read(1).await;
        // The connection that brings the binlog; the one for queries was made before.
        proxy.set_newest(Way::Slow(100));
        let filler = "INSERT INTO other VALUES (REPEAT('x', 40000))";
        scene.sql(&[&to("utf8mb4"), filler, insert, &to("gbk"), insert]).await;
        // For the second time.
        let is_read = |line: &serde_json::Value| line["message"] == "the table's layout was read again";
        deadline(async {
            while scene.doorcast.lines().iter().filter(|line| is_read(line)).count() < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        proxy.set_newest(Way::Closed);
        scene.read(3).await;
        let row = |key: u32| {
            format!(
                "{{\"vid\":{key},\"doorno\":3,\"rfsim\":\"00A1\",\"optime\":\"t\",\"ynopen\":\"Y\",\"a\":\"门禁\"}}"
            )
        };
        rows_are(scene, &[1, 2, 3].map(row), "").await;
    })
    .await;
}

/// Its beginning is a good place in any file.
#[tokio::test]
async fn a_binlog_that_is_reset_when_changes_are_about_to_be_looked_for_in_it_is_read_anew() {
    each_kind(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--ssl-mode", "disabled"]).await;
        for door in 1..=20 {
            scene.sql(&[&swipe(door)]).await;
        }
        scene.read(20).await;
        assert!(scene.doorcast.stop().await.success());
        let db = format!("mysql://doorcast:{PASSWORD}@127.0.0.1:{}/doors", proxy.port);
        let options = ["--start-from", "earliest", "--ssl-mode", "disabled", "--db-heartbeat", "1"];
        scene.doorcast.replace_arguments(&[&["--db", &db], &options[..]].concat());
        // It takes its time to ask for the binlog.
        proxy.set_for_all(Way::Slow(10));
        scene.doorcast.start_again().await;
        scene.doorcast.logged("reading ahead for changes of the table").await;
        scene.sql(&[reset_binlog(kind), &swipe(21)]).await;
        proxy.set_for_all(Way::Open);
        deadline(async {
            while scene.status().await["feed"]["head"] != "1-21" {
                tokio::task::yield_now().await;
            }
        })
        .await;
    })
    .await;
}

/// Changes of the table are looked for in the binlog first, where it was altered while doorcast was away.
#[tokio::test]
async fn a_link_that_does_not_last_until_changes_are_found_loses_nothing() {
    each_kind(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--ssl-mode", "disabled"]).await;
        scene.sql(&["CREATE TABLE other (text MEDIUMTEXT)", &swipe(1)]).await;
        scene.read(1).await;
        assert!(scene.doorcast.stop().await.success());
        scene.sql(&[&swipe(2), "ALTER TABLE vdooropen ADD note INT"]).await;
        for _ in 0..6 {
            scene.sql(&["INSERT INTO other VALUES (REPEAT('x', 500000))"]).await;
        }
        scene.sql(&[&swipe(3)]).await;
        proxy.set_for_all(Way::CutAfter(1_200_000));
        scene.doorcast.start_again().await;
        scene.read(3).await;
        proxy.set_for_all(Way::Open);
        let log = scene.doorcast.log();
        assert!(!log.contains("the position is lost"), "{kind}: {log}");
        let note = ",\"note\":null";
        let expected = [("", 1), (note, 2), (note, 3)].map(|(rest, key)| row("", key, "", rest));
        rows_are(scene, &expected, "").await;
    })
    .await;
}

#[tokio::test]
async fn a_key_of_another_type_or_name_is_the_same_key() {
    each_kind(async |kind| {
        let alters = [
            "ALTER TABLE vdooropen MODIFY vid BIGINT NOT NULL AUTO_INCREMENT",
            "ALTER TABLE vdooropen CHANGE vid door_id INT NOT NULL AUTO_INCREMENT",
        ];
        for (alter, column) in alters.into_iter().zip(["vid", "door_id"]) {
            let mut scene = Scene::start(kind, &[], &[]).await;
            scene.sql(&[&swipe(1), &swipe(2)]).await;
            scene.read(2).await;
            scene.doorcast.signal("STOP");
            scene.sql(&[&swipe(3), alter, &swipe(4)]).await;
            scene.doorcast.signal("CONT");
            scene.read(4).await;
            scene.sql(&[&swipe(5)]).await;
            for rows in scene.last_row().await {
                let ids: Vec<_> = rows.iter().map(|(id, _)| &**id).collect();
                assert_eq!(ids, ["1-1", "1-2", "1-3", "1-4", "1-5", "1-6"], "{kind} {alter}");
                assert!(rows[4].1.contains(&format!("\"{column}\":5,")), "{kind} {alter}: {rows:?}");
            }
        }
    })
    .await;
}

const ANOTHER_KEY: &str = "ALTER TABLE vdooropen MODIFY vid INT NOT NULL DEFAULT 0, DROP PRIMARY KEY, DROP KEY \
                           vdooropen_I0, ADD id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY FIRST";

/// What another column has as its values are other ids: an old cursor must not be taken for one of them.
#[tokio::test]
async fn another_column_as_the_key_begins_an_epoch_and_tells_nothing_twice() {
    each_kind(async |kind| {
        for (away, unread) in
            [(Away::Still, true), (Away::Ended, false), (Away::Ended, true), (Away::Killed, false)]
        {
            let mut scene = Scene::start(kind, &[], &[]).await;
            scene.sql(&["INSERT INTO vdooropen VALUES (10,1,'00A1','t','Y'), (20,2,'00A1','t','Y')"]).await;
            scene.read(2).await;
            let checkpoint = scene.doorcast.checkpoint();
            deadline(async {
                while !std::fs::read_to_string(&checkpoint).unwrap().contains("[20,20]") {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            away.leave(&mut scene).await;
            if unread {
                scene.sql(&["INSERT INTO vdooropen VALUES (30,3,'00A1','t','Y')"]).await;
            }
            scene
                .sql(&[
                    ANOTHER_KEY,
                    &swipe(4),
                    "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (5,'00A1','t','Y'), (6,'00A1','t','Y')",
                ])
                .await;
            away.come_back(&mut scene).await;
            scene.doorcast.logged("keys start over").await;
            scene.doorcast.answers("/readyz", 200).await;
            scene.sql(&[&swipe(7)]).await;
            let mut since = "1-20".to_owned();
            let mut doors = Vec::new();
            while doors.last() != Some(&7) {
                let url = scene.doorcast.url(&format!("/poll?since={since}&timeout=5"));
                let answer = crate::site::client().get(url).send().await.unwrap();
                let answer: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
                for event in answer["events"].as_array().unwrap() {
                    doors.push(event["row"]["doorno"].as_u64().unwrap());
                }
                since = answer["next"].as_str().unwrap().to_owned();
            }
            let what = format!("{kind} {away:?} {unread}");
            let first = if unread && matches!(away, Away::Still) { 3 } else { 4 };
            assert_eq!(doors, (first..=7).collect::<Vec<_>>(), "{what}");
            assert!(since.starts_with("2-"), "{what}: {since}");
            // What was not read before can't be found by the new key, and clients are told.
            let lost = unread && !matches!(away, Away::Still);
            assert_eq!(scene.status().await["breaks"] != 0, lost, "{what}");
        }
    })
    .await;
}

/// How the binlog goes before a change of the key has been read.
#[derive(Debug, Clone, Copy)]
enum Gone {
    /// A file is deleted that doorcast was about to read.
    Deleted,
    /// While it is away.
    Purged,
    /// While it is away.
    Reset,
}

#[tokio::test]
async fn rows_before_another_key_are_said_to_be_missing_where_the_binlog_is_gone() {
    each_kind(async |kind| {
        for gone in [Gone::Deleted, Gone::Purged, Gone::Reset] {
            let mut scene = Scene::start(kind, &[], &["--db-heartbeat", "60"]).await;
            let told = "INSERT INTO vdooropen VALUES (10,1,'00A1','t','Y'), (20,2,'00A1','t','Y')";
            scene.sql(&["CREATE TABLE noise (b LONGBLOB)", told]).await;
            scene.read(2).await;
            let unread = "INSERT INTO vdooropen VALUES (30,3,'00A1','t','Y')";
            match gone {
                Gone::Deleted => {
                    scene.doorcast.signal("STOP");
                    // More than the system takes for a connection: the server has not come to the next file.
                    for _ in 0..60 {
                        scene.sql(&["INSERT INTO noise VALUES (REPEAT('x', 500000))"]).await;
                    }
                    scene.sql(&["FLUSH BINARY LOGS"]).await;
                    let (file, _) = crate::binlog::position(&scene.server, &mut scene.conn).await;
                    scene.sql(&[unread, ANOTHER_KEY, "FLUSH BINARY LOGS"]).await;
                    std::fs::remove_file(scene.server.data().join(file)).unwrap();
                    scene.doorcast.signal("CONT");
                }
                Gone::Purged => {
                    assert!(scene.doorcast.stop().await.success());
                    scene.sql(&[unread, ANOTHER_KEY, "FLUSH BINARY LOGS"]).await;
                    purge(&mut scene.conn).await;
                    scene.doorcast.start_again().await;
                }
                Gone::Reset => {
                    assert!(scene.doorcast.stop().await.success());
                    scene.sql(&[unread, ANOTHER_KEY, reset_binlog(kind)]).await;
                    scene.doorcast.start_again().await;
                }
            }
            scene.doorcast.logged("rows may be missing").await;
            scene.doorcast.answers("/readyz", 200).await;
            scene.sql(&[&swipe(4)]).await;
            let url = scene.doorcast.url("/poll?since=1-20");
            let answer = crate::site::client().get(url).send().await.unwrap();
            let answer: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            assert_eq!(
                (&answer["gap"]["after"], &answer["epoch"]),
                (&"1-20".into(), &2.into()),
                "{kind} {gone:?}"
            );
            let reason = "rows were inserted before another column became the key, and not read by then";
            crate::gaps::is_said_once(&scene, reason).await;
        }
    })
    .await;
}

/// Nobody knows which rows come before that: it is said, and where, and that it is over.
#[tokio::test]
async fn a_table_that_loses_its_key_needs_a_person_and_is_followed_on_when_it_is_back() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &["--db-retry", "0.2"]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        scene
            .sql(&[
                "ALTER TABLE vdooropen MODIFY vid INT NOT NULL, DROP PRIMARY KEY, DROP KEY vdooropen_I0",
                "INSERT INTO vdooropen VALUES (2,2,'00A1','t','Y')",
            ])
            .await;
        scene.doorcast.logged_error("has no key of a single integer column; add one: ALTER TABLE").await;
        deadline(async {
            while scene.status().await["link"] != "blocked" {
                tokio::task::yield_now().await;
            }
        })
        .await;
        scene
            .sql(&["ALTER TABLE vdooropen MODIFY vid INT NOT NULL AUTO_INCREMENT PRIMARY KEY", &swipe(3)])
            .await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        let ids: Vec<_> = rows.iter().map(|(id, _)| &**id).collect();
        assert_eq!(ids, ["1-1", "1-2", "1-3", "1-4"], "{kind}");
    })
    .await;
}
