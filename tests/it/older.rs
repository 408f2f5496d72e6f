//! Rows that are older than the feed: a client that was away for long gets them from the table, as it is, or is told that
//! it can't.

use std::net::Ipv4Addr;

use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::{
    deadline::deadline,
    looks::{may_show_commits_late, show_commits_late},
    proxy::{Proxy, Way},
    recovery::reset_binlog,
    scene::{Scene, swipe},
    servers::{self, each_kind},
};

async fn poll(url: String) -> Value {
    let answer = crate::site::client().get(url).send().await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect()
}

async fn until(scene: &Scene, field: &str, key: &str, value: &str) {
    deadline(async {
        while scene.status().await.pointer(&format!("/{field}/{key}")).is_none_or(|is| is != value) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Six rows, of which the feed has two, and a client that has read two others from the table.
async fn with_older_rows(kind: &'static str) -> Scene {
    let mut scene = Scene::start(kind, &[], &["--history", "2", "--db-retry", "0.1"]).await;
    for door in 1..=6 {
        scene.sql(&[&swipe(door)]).await;
    }
    until(&scene, "feed", "head", "1-6").await;
    let answer = deadline(poll(scene.doorcast.url("/poll?since=1-1&limit=2"))).await;
    assert_eq!(ids(&answer), ["1-2", "1-3"], "{kind}");
    scene
}

/// On a server that has nothing more to say, and no heartbeat for an hour.
#[tokio::test]
async fn older_rows_do_not_wait_for_the_next_commit() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &["--history", "2", "--db-heartbeat", "3600"]).await;
        for sql in [
            "FLUSH BINARY LOGS",
            "CREATE TABLE other (a INT)",
            "ALTER TABLE vdooropen ADD note INT",
            "DELETE FROM other",
            "SET SESSION binlog_format = STATEMENT",
            "DELETE FROM vdooropen WHERE vid = 0",
        ] {
            for door in 1..=4 {
                scene.sql(&[&swipe(door)]).await;
            }
            scene.sql(&[sql]).await;
            let head: i64 = scene.conn.query_first("SELECT MAX(vid) FROM vdooropen").await.unwrap().unwrap();
            until(&scene, "feed", "head", &format!("1-{head}")).await;
            let answer = deadline(poll(scene.doorcast.url("/poll?since=1-1&limit=2&timeout=60"))).await;
            assert_eq!(ids(&answer), ["1-2", "1-3"], "{kind}, {sql}");
        }
    })
    .await;
}

/// The binlog's connection is closed, and there is no other before [`let_read`].
async fn keep_from_reading(scene: &mut Scene) {
    scene.sql(&["REVOKE REPLICATION SLAVE ON *.* FROM 'doorcast'@'%'"]).await;
    let id = scene.dump_threads().await[0];
    scene.sql(&[&format!("KILL {id}")]).await;
    scene.doorcast.logged("the server needs a person").await;
}

async fn let_read(scene: &mut Scene) {
    scene.sql(&["GRANT REPLICATION SLAVE ON *.* TO 'doorcast'@'%'"]).await;
}

#[tokio::test]
async fn rows_of_another_table_are_never_told_under_the_old_ids() {
    each_kind(async |kind| {
        let definitions: [&[&str]; 3] = [
            &["CREATE TABLE fresh LIKE vdooropen", "RENAME TABLE vdooropen TO archive, fresh TO vdooropen"],
            &["CREATE TABLE fresh LIKE vdooropen", "DROP TABLE vdooropen", "RENAME TABLE fresh TO vdooropen"],
            &["TRUNCATE vdooropen"],
        ];
        for (definition, rows) in definitions.into_iter().zip([4, 0, 9]) {
            let what = format!("{kind}, {definition:?}");
            let mut scene = with_older_rows(kind).await;
            keep_from_reading(&mut scene).await;
            scene.sql(definition).await;
            for door in 0..rows {
                scene.sql(&[&swipe(70 + door)]).await;
            }
            // One that can wait no longer goes on later from where it was.
            let answer = deadline(poll(scene.doorcast.url("/poll?since=1-1&limit=2&timeout=1"))).await;
            assert_eq!(
                (ids(&answer), &answer["next"], &answer["gap"]),
                (vec![], &"1-1".into(), &Value::Null),
                "{what}"
            );

            let waits = tokio::spawn(poll(scene.doorcast.url("/poll?since=1-1&limit=100&timeout=60")));
            let_read(&mut scene).await;
            scene.sql(&[&swipe(80)]).await;
            let answer = deadline(waits).await.unwrap();
            assert_eq!(answer["gap"]["after"], "1-1", "{what}: {answer}");
            for event in answer["events"].as_array().unwrap() {
                let is_new = event["row"]["doorno"].as_u64().unwrap() >= 70;
                assert_eq!(event["id"].as_str().unwrap().starts_with("2-"), is_new, "{what}: {answer}");
            }
            let last = format!("2-{}", rows + 1);
            until(&scene, "feed", "head", &last).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_asks_for_older_rows_while_the_link_is_down_gets_them_when_it_is_back() {
    each_kind(async |kind| {
        let mut scene = with_older_rows(kind).await;
        keep_from_reading(&mut scene).await;
        let waits = tokio::spawn(poll(scene.doorcast.url("/poll?since=1-1&limit=2&timeout=60")));
        scene.sql(&["DELETE FROM vdooropen WHERE vid = 2"]).await;
        let_read(&mut scene).await;
        let answer = deadline(waits).await.unwrap();
        assert_eq!((ids(&answer), &answer["gap"]), (vec!["1-3", "1-4"], &Value::Null), "{kind}");
    })
    .await;
}

#[tokio::test]
async fn older_rows_are_read_by_the_layout_of_now() {
    each_kind(async |kind| {
        let options = ["--history", "2"];
        let mut scene = Scene::start(kind, &[], &options).await;
        scene
            .sql(&[
                "ALTER TABLE vdooropen CONVERT TO CHARACTER SET utf8",
                "INSERT INTO vdooropen VALUES (1,1,'A','t','Y'), (2,1,CONVERT(0xE997A8E7A681 USING utf8),'t','Y'), \
                 (3,1,'A','t','Y'), (4,1,'A','t','Y')",
            ])
            .await;
        until(&scene, "feed", "head", "1-4").await;
        let row = async |scene: &Scene| {
            deadline(poll(scene.doorcast.url("/poll?since=1-1&limit=1"))).await["events"][0]["row"].clone()
        };
        assert_eq!(row(&scene).await["rfsim"], "门禁", "{kind}");
        scene
            .sql(&[
                "ALTER TABLE vdooropen CONVERT TO CHARACTER SET gbk, ADD note INT NOT NULL DEFAULT 7",
                "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (1,'A','t','Y')",
            ])
            .await;
        until(&scene, "feed", "head", "1-5").await;
        let row = row(&scene).await;
        assert_eq!((&row["rfsim"], &row["note"]), (&"门禁".into(), &7.into()), "{kind}: {row}");
    })
    .await;
}

/// Six rows, of which the feed has two, with a proxy on the way.
async fn behind_proxy_with_older_rows(kind: &'static str) -> (Scene, Proxy) {
    let options = ["--history", "2", "--db-heartbeat", "60", "--ssl-mode", "disabled"];
    let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &options).await;
    for door in 1..=6 {
        scene.sql(&[&swipe(door)]).await;
    }
    until(&scene, "feed", "head", "1-6").await;
    (scene, proxy)
}

/// The same. The connection of the binlog stands still, and one for older rows does not.
async fn behind_with_older_rows(kind: &'static str) -> (Scene, Proxy) {
    let (scene, proxy) = behind_proxy_with_older_rows(kind).await;
    // The first is for queries; the readers may have had one made for older rows.
    proxy.set_second(Way::Stalled);
    (scene, proxy)
}

#[tokio::test]
async fn rows_of_a_table_that_the_binlog_has_yet_to_tell_of_are_not_told_under_the_old_ids() {
    each_kind(async |kind| {
        for reset in [false, true] {
            let (mut scene, _proxy) = behind_with_older_rows(kind).await;
            scene.sql(&["TRUNCATE vdooropen"]).await;
            for door in 71..=76 {
                scene.sql(&[&swipe(door)]).await;
            }
            if reset {
                // The new file ends before the place that was read in the old one.
                scene.sql(&[reset_binlog(kind)]).await;
            }
            let answer = deadline(poll(scene.doorcast.url("/poll?since=1-1&limit=2&timeout=2"))).await;
            let mut told = answer["events"].as_array().into_iter().flatten().map(|event| &event["id"]);
            assert!(
                told.all(|id| !id.as_str().unwrap().starts_with("1-")),
                "{kind}, reset {reset}: {answer}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn older_rows_that_are_read_while_the_binlog_has_yet_to_tell_of_a_change_have_the_layout_behind_it() {
    each_kind(async |kind| {
        let (mut scene, proxy) = behind_with_older_rows(kind).await;
        let before = deadline(poll(scene.doorcast.url("/poll?since=1-1&limit=1"))).await;
        assert_eq!(ids(&before), ["1-2"], "{kind}");
        scene.sql(&["ALTER TABLE vdooropen ADD note INT NOT NULL DEFAULT 7"]).await;
        let waits = tokio::spawn(poll(scene.doorcast.url("/poll?since=1-1&limit=1&timeout=60")));
        // Time to be read in.
        scene.sql(&["DO SLEEP(1)"]).await;
        proxy.set(Way::Open);
        let answer = deadline(waits).await.unwrap();
        assert_eq!((ids(&answer), &answer["events"][0]["row"]["note"]), (vec!["1-2"], &7.into()), "{kind}");
    })
    .await;
}

/// Most of a transaction has left the feed as soon as it has come.
#[tokio::test]
async fn older_rows_that_the_server_shows_late_are_not_taken_for_deleted() {
    each_kind(async |kind| {
        if !may_show_commits_late(kind) {
            return;
        }
        let mut scene = Scene::start(kind, &[], &["--history", "2"]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        show_commits_late(&mut scene, 2000).await;
        scene.sql(&["BEGIN", &swipe(2), &swipe(3), &swipe(4), &swipe(5), &swipe(6), "COMMIT"]).await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 7, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn rows_of_a_table_that_were_read_when_the_link_broke_are_not_told_under_the_old_ids() {
    each_kind(async |kind| {
        let (mut scene, proxy) = behind_with_older_rows(kind).await;
        scene.sql(&["TRUNCATE vdooropen"]).await;
        for door in 71..=76 {
            scene.sql(&[&swipe(door)]).await;
        }
        let waits = tokio::spawn(poll(scene.doorcast.url("/poll?since=1-1&limit=2&timeout=60")));
        // Time to be read in.
        scene.sql(&["DO SLEEP(1)"]).await;
        proxy.drop_stalled();
        let answer = deadline(waits).await.unwrap();
        assert_eq!(answer["gap"]["after"], "1-1", "{kind}: {answer}");
        assert!(ids(&answer).iter().all(|id| id.starts_with("2-")), "{kind}: {answer}");
    })
    .await;
}

/// One address may stand for whichever server is the main one; the old one goes on, and sends its binlog.
#[tokio::test]
async fn older_rows_of_another_server_than_the_one_that_is_followed_are_not_told() {
    each_kind(async |kind| {
        let (mut scene, proxy) = behind_proxy_with_older_rows(kind).await;
        let first = deadline(poll(scene.doorcast.url("/poll?since=1-1&limit=1"))).await;
        assert_eq!(ids(&first), ["1-2"], "{kind}");
        let other = servers::private(kind, &["--server-id=77"]).await;
        let mut on_other = other.root(None).await.unwrap();
        servers::create(&mut on_other, "doors", "doorcast").await;
        // Its binlog is the longer one, until the one that is followed has caught up.
        for door in 71..=80 {
            on_other.query_drop(swipe(door)).await.unwrap();
        }
        proxy.lead_to((Ipv4Addr::LOCALHOST, other.port()).into());
        // The one for older rows.
        proxy.set_newest(Way::Closed);
        let waits = tokio::spawn(poll(scene.doorcast.url("/poll?since=1-1&limit=2&timeout=60")));
        for door in 7..=20 {
            scene.sql(&[&swipe(door)]).await;
        }
        let answer = deadline(waits).await.unwrap();
        assert!(answer["error"].is_object(), "{kind}: {answer}");
        proxy.lead_to((Ipv4Addr::LOCALHOST, scene.server.port()).into());
        let answer = deadline(poll(scene.doorcast.url("/poll?since=1-1&limit=2"))).await;
        let rows = answer["events"].as_array().unwrap().iter();
        let doors: Vec<_> = rows.map(|event| &event["row"]["doorno"]).collect();
        assert_eq!(
            (ids(&answer), doors),
            (vec!["1-2", "1-3"], vec![&2.into(), &3.into()]),
            "{kind}: {answer}"
        );
    })
    .await;
}

/// A row that committed behind one with a greater key is read by itself, and before the others.
#[tokio::test]
async fn older_rows_that_are_read_in_parts_have_one_layout() {
    each_kind(async |kind| {
        let options = ["--history", "2", "--db-heartbeat", "60", "--ssl-mode", "disabled"];
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &options).await;
        for key in [1, 2, 4, 3, 5, 6, 7, 8] {
            scene.sql(&[&format!("INSERT INTO vdooropen VALUES ({key}, 1, 'A', 't', 'Y')")]).await;
        }
        until(&scene, "feed", "head", "1-8").await;
        // The first is for queries; the readers may have had one made for older rows.
        proxy.set_second(Way::Stalled);
        let before = deadline(poll(scene.doorcast.url("/poll?since=1-4&limit=2"))).await;
        assert_eq!(ids(&before), ["1-3", "1-5"], "{kind}");
        scene.sql(&["ALTER TABLE vdooropen ADD note INT NOT NULL DEFAULT 7"]).await;
        let waits = tokio::spawn(poll(scene.doorcast.url("/poll?since=1-4&limit=2&timeout=60")));
        // Time to be read in.
        scene.sql(&["DO SLEEP(1)"]).await;
        proxy.set(Way::Open);
        let answer = deadline(waits).await.unwrap();
        let mut rows = answer["events"].as_array().into_iter().flatten();
        assert!(rows.all(|event| event["row"]["note"] == 7), "{kind}: {answer}");
        let answer = deadline(poll(scene.doorcast.url("/poll?since=1-4&limit=2"))).await;
        assert_eq!(ids(&answer), ["1-3", "1-5"], "{kind}");
    })
    .await;
}
