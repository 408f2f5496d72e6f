//! The link to the server, and our own machine: what breaks mends by itself or is said, and clients stay
//! connected.

use std::{fs, process::Stdio, sync::Arc, time::Duration};

use doorcast::demo::binary::Flavour;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::watch,
    time::Instant,
};

use crate::{
    clients::Reader,
    deadline::deadline,
    process::Doorcast,
    proxy::{Proxy, Way},
    scene::{Scene, swipe, url},
    servers::{self, PASSWORD},
};

/// Short, so that a test has not long to wait for a silence.
const HEARTBEAT: [&str; 2] = ["--db-heartbeat", "0.2"];

const SOURCE: i32 = 3;

async fn status(doorcast: &Doorcast) -> Value {
    let answer = crate::site::client().get(doorcast.url("/api/status")).send().await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

/// Waits until `/api/status` is as wanted, and returns it.
#[track_caller]
pub(crate) fn status_until(
    doorcast: &Doorcast,
    wanted: impl Fn(&Value) -> bool,
) -> impl Future<Output = Value> {
    deadline(async move {
        loop {
            let status = status(doorcast).await;
            if wanted(&status) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    })
}

fn alter_password(scene: &Scene, password: &str) -> String {
    match (scene.server.binary().flavour(), scene.server.binary().version()) {
        (Flavour::MySql, version) if version < (5, 7, 0) => {
            format!("SET PASSWORD FOR 'doorcast'@'%' = PASSWORD('{password}')")
        }
        _ => format!("ALTER USER 'doorcast'@'%' IDENTIFIED BY '{password}'"),
    }
}

/// Runs a test on every server at the same time.
async fn on_each<F: Future<Output = ()>>(test: impl Fn(&'static str) -> F) {
    join_all(servers::kinds().into_iter().map(test)).await;
}

#[tokio::test]
async fn clients_stay_connected_while_the_server_restarts() {
    on_each(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        scene.server.restart().await.unwrap();
        scene.reconnect().await;
        scene.sql(&[&swipe(2)]).await;
        // The reader of the event stream does not connect again unless doorcast was started again.
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 3, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_away_is_tried_again_ever_more_slowly_and_at_once_when_it_has_been_back() {
    on_each(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        let waits = async |scene: &Scene, count: usize| -> Vec<u64> {
            let waits = || {
                let lines = scene.doorcast.lines();
                lines.iter().filter_map(|line| line["retry_in_ms"].as_u64()).collect::<Vec<u64>>()
            };
            deadline(async {
                while waits().len() < count {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            waits()
        };
        scene.server.kill();
        let away = waits(&scene, 3).await;
        for (wait, step) in away.iter().zip([1000, 2000, 4000]) {
            assert!((step / 2..=step).contains(wait), "{kind}: {away:?}");
        }
        scene.server.start_again().await.unwrap();
        scene.doorcast.answers("/readyz", 200).await;
        let before = waits(&scene, 3).await.len();
        scene.server.kill();
        let again = waits(&scene, before + 1).await[before];
        assert!((500..=1000).contains(&again), "{kind}: {again}");
    })
    .await;
}

#[tokio::test]
async fn a_half_open_link_is_noticed_within_three_heartbeats() {
    on_each(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &HEARTBEAT).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        proxy.set(Way::Stalled);
        let stalled = Instant::now();
        scene.sql(&[&swipe(2)]).await;
        let line = scene.doorcast.logged("the link to the server is down").await;
        let took = stalled.elapsed();
        assert_eq!(line["error"], "no event and no heartbeat for 0.6 s", "{kind}");
        // On a busy machine; with the usual heartbeat it would be 15 s.
        assert!(took < Duration::from_secs(10), "{kind}: {took:?}");
        proxy.drop_stalled();
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 3, "{kind}");
    })
    .await;
}

/// The server is silent on an idle link unless it is asked for heartbeats.
#[tokio::test]
async fn an_idle_link_is_kept_up_by_heartbeats() {
    on_each(async |kind| {
        let scene = Scene::start(kind, &[], &["--db-heartbeat", "0.5"]).await;
        let mut last = Value::Null;
        // More than a silence takes that would end the session.
        for _ in 0..6 {
            let status = status_until(&scene.doorcast, |status| {
                status["last_heartbeat_ms"].is_u64() && status["last_heartbeat_ms"] != last
            });
            last = status.await["last_heartbeat_ms"].clone();
        }
        assert_eq!(status(&scene.doorcast).await["reconnects"], 0, "{kind}");
    })
    .await;
}

/// The one that reads the table is idle while the binlog tells all, and firewalls forget who says nothing for long.
#[tokio::test]
async fn an_idle_connection_to_the_server_is_kept_up_by_the_kernel() {
    const KEEPALIVE: &str = "02";
    const EVERY_JIFFIES: u64 = 30 * 100;
    on_each(async |kind| {
        let scene = Scene::start(kind, &[], &[]).await;
        let server = format!("0100007F:{:04X}", scene.server.port());
        deadline(async {
            loop {
                let table = fs::read_to_string("/proc/net/tcp").unwrap();
                // Of each connection to the server: which timer runs, and for how long.
                let timers = table.lines().filter_map(|line| {
                    let fields: Vec<&str> = line.split_whitespace().collect();
                    (fields[2] == server && fields[3] == "01").then(|| fields[5].split_once(':').unwrap())
                });
                let timers: Vec<_> = timers.collect();
                let kept = |(timer, left): &(&str, &str)| {
                    *timer == KEEPALIVE && u64::from_str_radix(left, 16).unwrap() <= EVERY_JIFFIES
                };
                if timers.len() == 2 && timers.iter().all(kept) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_read_of_the_table_over_a_dead_link_is_given_up() {
    on_each(async |kind| {
        let options = ["--ssl-mode", "disabled"];
        let (mut scene, proxy) = Scene::behind_proxy(kind, &["--binlog-format=STATEMENT"], &options).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        // The first connection reads the table, the second one the binlog.
        proxy.set_first(Way::Stalled);
        scene.sql(&[&swipe(2)]).await;
        let line = scene.doorcast.logged("the link to the server is down").await;
        assert!(line["error"].as_str().unwrap().contains("no answer within 10 s"), "{kind}: {line}");
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 3, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn a_kill_while_a_statement_s_rows_are_looked_for_loses_none() {
    on_each(async |kind| {
        let options = ["--ssl-mode", "disabled"];
        let (mut scene, proxy) = Scene::behind_proxy(kind, &["--binlog-format=STATEMENT"], &options).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        let checkpoint = scene.doorcast.checkpoint();
        let saved = async |what: &str| {
            deadline(async {
                while !fs::read_to_string(&checkpoint).unwrap().contains(what) {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        };
        let (_, end) = crate::binlog::position(&scene.server, &mut scene.conn).await;
        saved(&format!("\"offset\":{end},")).await;
        // So long that no checkpoint waits, and the next is written at once: while the table is looked at in vain.
        scene.sql(&["DO SLEEP(2.5)"]).await;
        let before = fs::read_to_string(&checkpoint).unwrap();
        proxy.set_first(Way::Stalled);
        scene.sql(&[&swipe(2)]).await;
        deadline(async {
            while fs::read_to_string(&checkpoint).unwrap() == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
        scene.doorcast.kill().await;
        scene.doorcast.start_again().await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 3, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_asks_for_older_rows_over_a_dead_link_gets_them_all_the_same() {
    on_each(async |kind| {
        let options = ["--ssl-mode", "disabled", "--history", "2"];
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &options).await;
        for door in 1..=6 {
            scene.sql(&[&swipe(door)]).await;
        }
        status_until(&scene.doorcast, |status| status["feed"]["head"] == "1-6").await;
        let ids = async |scene: &Scene| -> Vec<Value> {
            let answer = crate::site::client().get(scene.doorcast.url("/poll?since=1-1&limit=2")).send();
            let answer: Value = serde_json::from_str(&answer.await.unwrap().text().await.unwrap()).unwrap();
            answer["events"].as_array().unwrap().iter().map(|event| event["id"].clone()).collect()
        };
        assert_eq!(ids(&scene).await, ["1-2", "1-3"], "{kind}");
        proxy.set(Way::Stalled);
        assert_eq!(deadline(ids(&scene)).await, ["1-2", "1-3"], "{kind}");
    })
    .await;
}

/// The one dump thread, once a killed one has gone from the list.
async fn only_dump(scene: &mut Scene) -> u64 {
    deadline(async {
        loop {
            if let [id] = scene.dump_threads().await[..] {
                return id;
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_connection_that_sends_the_binlog_is_made_again_when_it_is_killed() {
    on_each(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        for door in 1..=3 {
            scene.sql(&[&swipe(door)]).await;
            scene.read(usize::try_from(door).unwrap()).await;
            let id = only_dump(&mut scene).await;
            scene.sql(&[&format!("KILL {id}"), &swipe(door + 10)]).await;
            scene.read(usize::try_from(2 * door).unwrap()).await;
        }
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 7, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn a_cut_or_reset_link_is_made_again() {
    on_each(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &[]).await;
        for (way, door) in [(Way::Closed, 1), (Way::Reset, 2), (Way::Closed, 3)] {
            scene.sql(&[&swipe(door)]).await;
            scene.read(usize::try_from(door).unwrap()).await;
            proxy.set(way);
        }
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 4, "{kind}");
    })
    .await;
}

/// Wherever it is cut: rows of a transaction come together, and reading goes on behind the last commit.
#[tokio::test]
async fn a_link_that_is_cut_in_the_middle_of_a_transaction_goes_on_at_the_last_commit() {
    on_each(async |kind| {
        let options = ["--ssl-mode", "disabled"];
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &options).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        let mut count = 1;
        for bytes in [30, 130, 400, 1000, 2000] {
            // Before: a heartbeat may be what is cut.
            let reconnects = status(&scene.doorcast).await["reconnects"].as_u64();
            proxy.set(Way::CutAfter(bytes));
            scene.sql(&["BEGIN"]).await;
            for _ in 0..20 {
                scene.sql(&[&swipe(2)]).await;
                count += 1;
            }
            scene.sql(&["COMMIT"]).await;
            status_until(&scene.doorcast, |status| status["reconnects"].as_u64() > reconnects).await;
            scene.read(count).await;
        }
        let (rows, scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), count + 1, "{kind}");
        assert_eq!(status(&scene.doorcast).await["table_reads"], 0, "{kind}: all of them by the binlog");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_cut_off_in_the_middle_of_a_row_gets_every_row_once() {
    const ROWS: usize = 30;
    // Pings soon fill what the rows leave of the bytes that pass.
    let mut scene = Scene::start(servers::kinds()[0], &[], &["--heartbeat", "0.02"]).await;
    for _ in 0..ROWS {
        scene.sql(&[&swipe(1)]).await;
    }
    scene.read(ROWS).await;
    let proxy = Proxy::start(scene.doorcast.address.parse().unwrap()).await;
    let (mut cursor, mut got) = ("1-0".to_owned(), Vec::new());
    // The response's head has some 250 bytes, and a row about 100.
    for bytes in (100..2000).step_by(73) {
        proxy.set_for_all(Way::CutAfter(bytes));
        let url = format!("http://127.0.0.1:{}/events?since={cursor}", proxy.port);
        let Ok(mut response) = crate::site::client().get(url).send().await else { continue };
        let mut text = Vec::new();
        while got.len() < ROWS
            && let Ok(Some(chunk)) = deadline(response.chunk()).await
        {
            text.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(text).unwrap();
        // Only what a blank line ends is an event.
        for event in text.rsplit_once("\n\n").map_or("", |(whole, _)| whole).split("\n\n") {
            if let Some(id) = event.strip_prefix("id: ").and_then(|rest| rest.split('\n').next()) {
                cursor = id.to_owned();
                got.push(cursor.clone());
            }
        }
    }
    let all: Vec<String> = (1..=ROWS).map(|key| format!("1-{key}")).collect();
    assert_eq!(got, all);
}

#[tokio::test]
async fn a_slow_link_delays_rows_and_loses_none() {
    on_each(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-heartbeat", "1"]).await;
        scene.sql(&["CREATE TABLE noise (b BLOB)"]).await;
        proxy.set_for_all(Way::Slow(200)); // 20 kB/s
        for door in 1..=20 {
            scene.sql(&[&swipe(door), "INSERT INTO noise VALUES (REPEAT('x', 1000))"]).await;
        }
        let (rows, scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 21, "{kind}");
        assert_eq!(status(&scene.doorcast).await["reconnects"], 0, "{kind}: slow is not silent");
    })
    .await;
}

async fn both_are_served(mut scene: Scene, twin: &Doorcast) {
    for doorcast in [&scene.doorcast, twin] {
        doorcast.answers("/readyz", 200).await;
    }
    let reader = Reader::sse(twin, "?since=earliest");
    scene.sql(&[&swipe(2)]).await;
    let (rows, scene) = scene.every_row_of_the_table_came_once().await;
    assert_eq!(reader.finish().await, rows, "{}", scene.kind);
}

#[tokio::test]
async fn a_server_id_that_another_replica_has_ends_with_status_3_if_it_was_given() {
    on_each(async |kind| {
        let mut scene = Scene::start(kind, &[], &["--server-id", "4711"]).await;
        let mut twin = Doorcast::start(&url(&scene.server), &["--server-id", "4711"]).await;
        if kind == "mysql-5.6" {
            // It tells replicas apart by UUID alone, and we have none: both are served.
            both_are_served(scene, &twin).await;
            return;
        }
        // The server keeps the newer connection; which one that is in the end does not matter.
        let (status, ended, other) = tokio::select! {
            status = scene.doorcast.ended() => (status, "first", &twin),
            status = twin.ended() => (status, "twin", &scene.doorcast),
        };
        assert_eq!(status.code(), Some(SOURCE), "{kind}: {ended}");
        other.answers("/readyz", 200).await;
        let gone = if ended == "first" { &scene.doorcast } else { &twin };
        let log = gone.log();
        assert!(log.contains("Give doorcast a --server-id that no other replica has"), "{kind}: {log}");
    })
    .await;
}

#[tokio::test]
async fn a_server_id_chosen_by_chance_gives_way_and_says_so() {
    on_each(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        // The same checkpoint has the same id in it: a machine that was copied, for instance.
        assert!(scene.doorcast.stop().await.success());
        let copy = tempfile::tempdir().unwrap();
        let name = scene.doorcast.checkpoint().file_name().unwrap().to_owned();
        fs::copy(scene.doorcast.checkpoint(), copy.path().join(name)).unwrap();
        scene.doorcast.start_again().await;
        scene.doorcast.answers("/readyz", 200).await;
        let twin = Doorcast::start_in(copy, &url(&scene.server), &[]).await;
        if kind != "mysql-5.6" {
            let says = "another replica has our server_id, taking another";
            let line = tokio::select! {
                line = scene.doorcast.logged(says) => line,
                line = twin.logged(says) => line,
            };
            assert_ne!(line["before"], line["now"], "{kind}: {line}");
        }
        both_are_served(scene, &twin).await;
    })
    .await;
}

#[tokio::test]
async fn a_password_that_is_changed_while_it_runs_is_said_and_changed_back_it_goes_on() {
    on_each(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-retry", "0.1"]).await;
        scene.sql(&[&swipe(1), &alter_password(&scene, "other")]).await;
        scene.read(1).await;
        proxy.set(Way::Closed);
        scene.doorcast.answers("/readyz", 503).await;
        let status = status_until(&scene.doorcast, |status| status["link"] == "blocked").await;
        let problem = status["problem"].as_str().unwrap();
        assert!(problem.contains("wrong password") && problem.contains("ALTER USER"), "{kind}: {problem}");
        scene.sql(&[&swipe(2), &alter_password(&scene, PASSWORD)]).await;
        scene.doorcast.answers("/readyz", 200).await;
        assert_eq!(self::status(&scene.doorcast).await["problem"], Value::Null, "{kind}");
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 3, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_tried_again_slowly() {
    on_each(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-retry", "1000"]).await;
        scene.sql(&[&swipe(1), &alter_password(&scene, "other")]).await;
        scene.read(1).await;
        proxy.set(Way::Closed);
        let line = scene.doorcast.logged("the server needs a person").await;
        assert!((1000..=2000).contains(&line["retry_in_s"].as_u64().unwrap()), "{kind}: {line}");
    })
    .await;
}

#[tokio::test]
async fn a_grant_that_is_revoked_while_it_runs_is_named_and_given_back_it_goes_on() {
    on_each(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-retry", "0.1"]).await;
        let mut door = 0;
        for privilege in
            ["REPLICATION SLAVE ON *.*", "REPLICATION CLIENT ON *.*", "SELECT ON `doors`.vdooropen"]
        {
            door += 1;
            scene.sql(&[&swipe(door), &format!("REVOKE {privilege} FROM 'doorcast'@'%'")]).await;
            proxy.set(Way::Closed);
            let status = status_until(&scene.doorcast, |status| status["link"] == "blocked").await;
            let problem = status["problem"].as_str().unwrap();
            let remedy = format!("GRANT {}", privilege.split(" ON ").next().unwrap());
            assert!(problem.contains(&remedy), "{kind}: {remedy:?} is not in {problem:?}");
            scene.doorcast.answers("/readyz", 503).await;
            door += 1;
            scene.sql(&[&swipe(door), &format!("GRANT {privilege} TO 'doorcast'@'%'")]).await;
            scene.doorcast.answers("/readyz", 200).await;
        }
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 7, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn rows_that_come_while_it_stands_still_arrive_afterwards() {
    on_each(async |kind| {
        // The server gives up writing to a client that does not read for a second.
        let mut scene = Scene::start(kind, &["--net-write-timeout=1"], &HEARTBEAT).await;
        scene.sql(&["CREATE TABLE noise (b LONGBLOB)", &swipe(1)]).await;
        scene.read(1).await;
        scene.doorcast.signal("STOP");
        deadline(async {
            while !scene.dump_threads().await.is_empty() {
                scene.sql(&["INSERT INTO noise VALUES (REPEAT('x', 500000))", &swipe(2)]).await;
            }
        })
        .await;
        scene.doorcast.signal("CONT");
        let (_, _scene) = scene.every_row_of_the_table_came_once().await;
    })
    .await;
}

/// What is written behind the checkpoint's back.
pub(crate) fn temporary(doorcast: &Doorcast) -> std::path::PathBuf {
    let mut path = doorcast.checkpoint().into_os_string();
    path.push(".tmp");
    path.into()
}

pub(crate) const UNWRITTEN: &str = "the checkpoint can't be written: rows are pushed all the same, but a restart would go on from \
                         the last one that was. Make room, or the folder writable; it is tried again every second";

/// Rows are pushed while `block` keeps the checkpoint from being written, and all is well after `mend`.
pub(crate) async fn checkpoint_trouble(block: impl Fn(&Doorcast), mend: impl Fn(&Doorcast)) {
    let kind = servers::kinds()[0];
    let mut scene = Scene::start(kind, &[], &[]).await;
    block(&scene.doorcast);
    scene.sql(&[&swipe(1)]).await;
    scene.read(1).await;
    scene.doorcast.logged(UNWRITTEN).await;
    let status = status_until(&scene.doorcast, |status| status["checkpoint_problem"].is_string()).await;
    assert!(status["checkpoint_failures"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(status["link"], "following");
    scene.sql(&[&swipe(2)]).await;
    scene.read(2).await;
    // Again and again, though nothing newer is to be written.
    let often = scene.status().await["checkpoint_failures"].as_u64().unwrap() + 4;
    status_until(&scene.doorcast, |status| status["checkpoint_failures"].as_u64() >= Some(often)).await;
    mend(&scene.doorcast);
    scene.doorcast.logged("the checkpoint is written again").await;
    status_until(&scene.doorcast, |status| status["checkpoint_problem"].is_null()).await;
    scene.doorcast.kill().await;
    scene.sql(&[&swipe(3)]).await;
    scene.doorcast.start_again().await;
    let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
    assert_eq!(rows.len(), 4);
}

#[tokio::test]
async fn rows_are_pushed_while_the_disk_is_full() {
    let block = |doorcast: &Doorcast| {
        let temporary = temporary(doorcast);
        let _ = fs::remove_file(&temporary);
        std::os::unix::fs::symlink("/dev/full", temporary).unwrap();
    };
    checkpoint_trouble(block, |doorcast| fs::remove_file(temporary(doorcast)).unwrap()).await;
}

#[tokio::test]
async fn rows_are_pushed_while_the_checkpoint_folder_is_away() {
    let away = |doorcast: &Doorcast| doorcast.folder().with_extension("away");
    let block = |doorcast: &Doorcast| {
        fs::rename(doorcast.folder(), away(doorcast)).unwrap();
        fs::write(doorcast.folder(), "in the way").unwrap();
    };
    let mend = |doorcast: &Doorcast| {
        fs::remove_file(doorcast.folder()).unwrap();
        fs::rename(away(doorcast), doorcast.folder()).unwrap();
    };
    checkpoint_trouble(block, mend).await;
}

/// A raw event stream that counts its rows, and checks that they are the keys from 1 on.
async fn count_rows(address: String, count: Arc<watch::Sender<usize>>, rows: usize) {
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = "GET /events?since=1-0 HTTP/1.1\r\nHost: doorcast\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut text, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
    let mut got = 0;
    let mut connected = false;
    while got < rows {
        let read = stream.read(&mut chunk).await.unwrap();
        assert_ne!(read, 0, "the stream goes on");
        text.extend_from_slice(&chunk[..read]);
        let mut taken = 0;
        while let Some(end) = text[taken..].iter().position(|byte| *byte == b'\n') {
            let line = &text[taken..taken + end];
            taken += end + 1;
            if line == b"event: hello" && !connected {
                connected = true;
                count.send_modify(|count| *count += 1);
            }
            if let Some(key) = line.strip_prefix(b"data: {\"vid\":") {
                got += 1;
                let expected = format!("{got},");
                assert!(key.starts_with(expected.as_bytes()), "{got}: {}", String::from_utf8_lossy(line));
            }
        }
        text.drain(..taken);
    }
}

pub(crate) fn resident_kib(doorcast: &Doorcast) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", doorcast.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

pub(crate) async fn never_reads(address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    stream.write_all(b"GET /events?since=1-0 HTTP/1.1\r\nHost: doorcast\r\n\r\n").await.unwrap();
    stream
}

async fn sends_garbage(address: &str, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut random = fastrand::Rng::with_seed(number as u64);
    let noise: Vec<u8> = (0..random.usize(1..50_000)).map(|_| random.u8(..)).collect();
    let garbage: &[u8] = match number % 5 {
        0 => &noise,
        1 => b"GET /events?since=\xff\x00 HTTP/1.1\r\n\r\n",
        2 => b"GET /poll?since=99999999999999999999999999 HTTP/1.1\r\nHost: x\r\n\r\n",
        3 => b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nabc",
        _ => b"GET /events HTTP/1.1\r\nX: ",
    };
    // It may be thrown out before it has said all.
    let _ = stream.write_all(garbage).await;
    stream
}

#[tokio::test]
async fn five_thousand_clients_of_which_many_are_hostile_harm_nobody() {
    const READERS: usize = 4000;
    const HOSTILE: usize = 500;
    const ROWS: usize = 100;
    let mut scene = Scene::start(servers::kinds()[0], &[], &[]).await;
    let address = scene.doorcast.address.clone();
    let before = resident_kib(&scene.doorcast);
    let connected = Arc::new(watch::Sender::new(0));
    let mut readers = Vec::new();
    let mut hostile = Vec::new();
    for number in 0..HOSTILE {
        hostile.push(never_reads(&address).await);
        hostile.push(sends_garbage(&address, number).await);
        let together = READERS / HOSTILE;
        readers.extend(
            (0..together).map(|_| tokio::spawn(count_rows(address.clone(), Arc::clone(&connected), ROWS))),
        );
        // No more at once than the kernel lets wait on a busy machine.
        let waiting = |count: &usize| *count + 500 >= readers.len();
        deadline(connected.subscribe().wait_for(waiting)).await.unwrap();
    }
    deadline(connected.subscribe().wait_for(|count| *count == READERS)).await.unwrap();
    for _ in 0..ROWS {
        scene.sql(&[&swipe(1)]).await;
    }
    for reader in readers {
        deadline(reader).await.unwrap();
    }
    let after = resident_kib(&scene.doorcast);
    println!("{} clients: {} KiB, {} KiB before", READERS + 2 * HOSTILE, after, before);
    assert!(after < 512 * 1024, "{after} KiB");
    let (_, _scene) = scene.every_row_of_the_table_came_once().await;
}

/// Waits until so much time was between two accepts that failed. By then there are few of them.
async fn accepts_pause(doorcast: &Doorcast, pause: Duration) {
    deadline(async {
        loop {
            let lines = doorcast.lines();
            let failed = lines.iter().filter(|line| line["message"] == "accept failed, trying again");
            let times: Vec<jiff::Timestamp> =
                failed.take(30).map(|line| line["timestamp"].as_str().unwrap().parse().unwrap()).collect();
            let between = |pair: &[jiff::Timestamp]| pair[1].duration_since(pair[0]);
            if times.windows(2).any(|pair| between(pair) >= pause.try_into().unwrap()) {
                return;
            }
            assert!(times.len() < 30, "{times:?}");
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn two_thousand_clients_may_wait_to_be_accepted() {
    let listener = doorcast::listen("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
    let address = listener.local_addr().unwrap();
    let kernel = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let mut waiting = Vec::new();
    for _ in 0..2000.min(kernel.trim().parse().unwrap()) {
        waiting.push(deadline(TcpStream::connect(address)).await.unwrap());
    }
}

#[tokio::test]
async fn clients_beyond_the_limit_of_descriptors_harm_nobody_who_is_there() {
    let (mut scene, proxy) = Scene::behind_proxy(servers::kinds()[0], &[], &[]).await;
    scene.sql(&[&swipe(1)]).await;
    scene.read(1).await;
    let limit = std::process::Command::new("prlimit")
        .args(["--pid", &scene.doorcast.id().to_string(), "--nofile=64:64"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(limit.success());
    let mut crowd = Vec::new();
    for _ in 0..120 {
        crowd.push(never_reads(&scene.doorcast.address).await);
    }
    scene.doorcast.logged("accept failed, trying again").await;
    accepts_pause(&scene.doorcast, Duration::from_millis(500)).await;
    scene.sql(&[&swipe(2)]).await;
    scene.read(2).await;
    // There is no descriptor for a new connection to the server, either, until somebody goes.
    proxy.set(Way::Closed);
    scene.doorcast.logged("the link to the server is down").await;
    scene.sql(&[&swipe(3)]).await;
    drop(crowd);
    scene.doorcast.answers("/readyz", 200).await;
    let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
    assert_eq!(rows.len(), 4);
}
