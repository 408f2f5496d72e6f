//! Clients that stand still, and doorcast itself when it does: nobody else waits for them, and nothing is lost.

use std::time::Duration;

use serde_json::Value;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    clients::{LAST_ROW, Reader},
    deadline::deadline,
    link::{never_reads, resident_kib, status_until},
    scene::{Scene, swipe},
    servers::{self, each_kind},
};

/// Each is more than the system takes for a client in a few of them.
const WIDE_BYTES: usize = 200_000;

pub(crate) const WIDE_COLUMN: &str = "ALTER TABLE vdooropen ADD photo MEDIUMTEXT CHARACTER SET latin1";

/// A swipe with a wide row.
pub(crate) fn wide(door: u32) -> String {
    format!(
        "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen, photo) \
         VALUES ({door}, '00A1', '20261120 071500', 'Y', REPEAT('x', {WIDE_BYTES}))"
    )
}

/// Small rows fit into what the system keeps for each connection: those of `link::five_thousand…` block nobody.
#[tokio::test]
async fn five_hundred_clients_that_never_read_are_cut_and_others_get_every_row() {
    const BLOCKED: u64 = 500;
    const READERS: u64 = 200;
    const ROWS: usize = 60;
    // A piece of the stream is a row and what went before it up to 64 KiB, and the connection has its buffers.
    const PER_CLIENT_KIB: u64 = 2 * 300;
    let mut scene = Scene::start(servers::kinds()[0], &[], &[]).await;
    scene.sql(&[WIDE_COLUMN, &swipe(1)]).await;
    scene.read(1).await;
    let doors = "?since=earliest&doorno=1,999";
    let readers: Vec<Reader> = (0..READERS).map(|_| Reader::sse(&scene.doorcast, doors)).collect();
    let mut blocked: Vec<TcpStream> = Vec::new();
    for _ in 0..BLOCKED {
        blocked.push(never_reads(&scene.doorcast.address).await);
    }
    let all = BLOCKED + READERS + 1;
    status_until(&scene.doorcast, |status| status["clients"]["events"] == all).await;
    let before = resident_kib(&scene.doorcast);
    for _ in 0..ROWS {
        scene.sql(&[&wide(2), &swipe(1)]).await;
    }
    scene.read(1 + 2 * ROWS).await;
    let status = scene.status().await;
    let feed = status["feed"]["bytes"].as_u64().unwrap() / 1024;
    let grown = resident_kib(&scene.doorcast).saturating_sub(before);
    println!("{grown} KiB for {BLOCKED} clients that never read, with {feed} KiB in the feed");
    assert!(grown < feed + BLOCKED * PER_CLIENT_KIB, "{grown} KiB, with {feed} KiB in the feed");
    // They are still connected at their end: only a write that is blocked for 30 s ends them.
    status_until(&scene.doorcast, |status| status["clients"]["events"] == READERS + 1).await;
    let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
    assert_eq!(rows.len(), 2 + 2 * ROWS);
    for reader in readers {
        assert_eq!(reader.finish().await.len(), 2 + ROWS);
    }
    drop(blocked);
}

/// Rows that are no longer in memory are read from the table for each of them.
#[tokio::test]
async fn clients_that_come_back_for_wide_rows_and_never_read_them_cost_little_each() {
    const BLOCKED: usize = 60;
    const ROWS: usize = 60;
    const PER_CLIENT_KIB: u64 = 4 * 300;
    let mut scene = Scene::start(servers::kinds()[0], &[], &["--history", "2"]).await;
    scene.sql(&[WIDE_COLUMN, &swipe(1)]).await;
    scene.read(1).await;
    for _ in 0..ROWS {
        scene.sql(&[&wide(2)]).await;
    }
    let head = format!("1-{}", ROWS + 1);
    status_until(&scene.doorcast, |status| status["feed"]["head"] == *head).await;
    let before = resident_kib(&scene.doorcast);
    let mut blocked: Vec<TcpStream> = Vec::new();
    for _ in 0..BLOCKED {
        blocked.push(never_reads(&scene.doorcast.address).await);
    }
    // Its turn comes behind theirs, and each of them asks twice: how many there are, and for the first.
    let mut rows = Vec::new();
    for _ in 0..3 {
        rows = poll_from(scene.doorcast.url(""), "1-1", ROWS).await;
    }
    let grown = resident_kib(&scene.doorcast).saturating_sub(before);
    println!("{grown} KiB for {BLOCKED} clients that never read");
    assert!(rows.iter().eq(&(2..=ROWS + 1).map(|key| format!("1-{key}")).collect::<Vec<_>>()), "{rows:?}");
    assert!(grown < BLOCKED as u64 * PER_CLIENT_KIB, "{grown} KiB");
}

/// The ids of so many rows, by long poll.
async fn poll_from(base: String, since: &str, rows: usize) -> Vec<String> {
    let (mut since, mut ids) = (since.to_owned(), Vec::new());
    while ids.len() < rows {
        let answer = crate::site::client().get(format!("{base}/poll?since={since}&limit=1000")).send();
        let answer = deadline(answer).await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["gap"], Value::Null);
        let events = answer["events"].as_array().unwrap();
        ids.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        since = answer["next"].as_str().unwrap().to_owned();
    }
    ids
}

/// What the old page shows from key `maxvid` on, up to the last row.
async fn shown(base: String, mut maxvid: i64) -> Vec<i64> {
    let mut shown = Vec::new();
    loop {
        let url = format!("{base}/backend.php?maxvid={maxvid}");
        let answer = crate::site::client().get(url).send().await.unwrap().text().await.unwrap();
        let row: Value = serde_json::from_str(&answer).unwrap();
        maxvid = row["vid"].as_i64().unwrap();
        shown.push(maxvid);
        if answer.contains(LAST_ROW) {
            return shown;
        }
    }
}

/// Longer than a server tries to write to a replica, which is 60 s unless `net_write_timeout` says otherwise, and
/// than doorcast's own limits for a write, a poll and a silent link.
const STANDSTILL: Duration = Duration::from_secs(65);

/// It really waits: the clocks that run meanwhile are those of the server, the kernel and a process that is stopped,
/// and no test can set these forth.
#[tokio::test]
async fn over_a_minute_s_standstill_nothing_is_lost_and_nothing_comes_twice() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.sql(&["CREATE TABLE noise (b LONGBLOB)", &swipe(1)]).await;
        scene.read(1).await;
        let old_page = tokio::spawn(shown(scene.doorcast.url(""), 1));
        status_until(&scene.doorcast, |status| status["clients"]["old_page"] == 1).await;
        scene.doorcast.signal("STOP");
        let stopped = Instant::now();
        // It comes to a door that nobody opens.
        let late = Reader::sse(&scene.doorcast, "?since=1-1");
        for door in 2..=40 {
            // More than the sockets between the two take.
            scene.sql(&[&swipe(door), "INSERT INTO noise VALUES (REPEAT('x', 500000))"]).await;
        }
        tokio::time::sleep_until(stopped + STANDSTILL).await;
        // The server's time runs from when it could write no more.
        deadline(async { while !scene.dump_threads().await.is_empty() {} }).await;
        scene.doorcast.signal("CONT");
        scene.doorcast.logged("the link to the server is down").await;
        let all = scene.last_row().await;
        let (late, shown) = (late.finish().await, deadline(old_page).await.unwrap());
        assert_eq!(shown, (2..=41).collect::<Vec<_>>(), "{kind}");
        let ids: Vec<String> = (1..=41).map(|key| format!("1-{key}")).collect();
        for rows in &all {
            assert!(rows.iter().map(|(id, _)| id).eq(&ids), "{kind}: {rows:?}");
        }
        assert_eq!(late, all[0][1..], "{kind}");
        let status = scene.status().await;
        assert_eq!((&status["unlogged"], &status["gaps"]), (&0.into(), &0.into()), "{kind}: {status}");
    })
    .await;
}
