//! The whole way on real servers: what is committed arrives, once, in commit order, also across kills.

use doorcast::demo::server::PrivateServer;
use futures_util::future::join_all;
use mysql_async::{Conn, prelude::Queryable};

use crate::{
    clients::{Reader, Rows},
    load::{Load, commit_order},
    process::Doorcast,
    servers::{self, Database},
};

const ROWS: usize = 10_000;
const CLIENTS_OF_A_KIND: usize = 20;
/// The first row is the earliest for a client, too, that was let in behind the last.
const HISTORY: [&str; 2] = ["--history", "20000"];

/// Inserts the row that clients stop at, and returns its key.
async fn insert_last(conn: &mut Conn) -> i64 {
    conn.query_drop("INSERT INTO vdooropen VALUES (NULL,999,'END','20261120 071500','N')").await.unwrap();
    conn.last_insert_id().unwrap().try_into().unwrap()
}

async fn insert(conn: &mut Conn, door: u32) -> i64 {
    conn.query_drop(format!("INSERT INTO vdooropen VALUES (NULL,{door},'00A1','20261120 071500','Y')"))
        .await
        .unwrap();
    conn.last_insert_id().unwrap().try_into().unwrap()
}

fn keys(rows: &Rows) -> Vec<i64> {
    rows.iter().map(|(id, _)| id.strip_prefix("1-").expect("epoch 1").parse().unwrap()).collect()
}

/// A database with a second table that takes part in transactions.
async fn busy_database(server: &'static PrivateServer, name: &str) -> Database {
    let database = servers::database(server, name).await;
    let sql = "CREATE TABLE noise (id INT PRIMARY KEY AUTO_INCREMENT, t TIME)";
    database.admin().await.query_drop(sql).await.unwrap();
    database
}

fn readers(doorcast: &Doorcast) -> Vec<Reader> {
    let by_sse = (0..CLIENTS_OF_A_KIND).map(|_| Reader::sse(doorcast, "?since=earliest"));
    let by_poll = (0..CLIENTS_OF_A_KIND).map(|_| Reader::poll(doorcast, "?since=earliest"));
    by_sse.chain(by_poll).collect()
}

/// Every reader has exactly the rows of the table, in the order in which another decoder saw them commit.
async fn check(server: &PrivateServer, database: &Database, readers: Vec<Reader>, last: i64) {
    let expected = commit_order(&server.root_url(&database.name), &database.name, last).await;
    assert_eq!(expected.len(), ROWS + 1, "{}: the decoder to compare with saw all", server.name());
    let in_table: Vec<(i64, u32)> =
        database.admin().await.query("SELECT vid, doorno FROM vdooropen").await.unwrap();
    assert_eq!(in_table.len(), ROWS + 1);
    assert!(in_table.iter().all(|(_, door)| *door != 13), "the rolled back ones are not there");
    let all = join_all(readers.into_iter().map(Reader::finish)).await;
    for (number, rows) in all.iter().enumerate() {
        assert!(
            keys(rows) == expected,
            "{}, client {number}: {}",
            server.name(),
            difference(&keys(rows), &expected)
        );
        assert_eq!(rows, &all[0], "the same bytes for everybody");
    }
}

/// Says in a line how two sequences of keys differ.
fn difference(got: &[i64], expected: &[i64]) -> String {
    let missing: Vec<_> = expected.iter().filter(|key| !got.contains(key)).take(5).collect();
    let mut sorted = got.to_vec();
    sorted.sort_unstable();
    let twice: Vec<_> = sorted.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0]).take(5).collect();
    let at = got.iter().zip(expected).position(|(a, b)| a != b);
    let near = at.unwrap_or(0).saturating_sub(3);
    let there = |keys: &[i64]| keys.iter().skip(near).take(10).copied().collect::<Vec<_>>();
    format!(
        "{} of {} rows, missing {missing:?}, twice {twice:?}, first difference at {at:?}: {:?} instead of {:?}",
        got.len(),
        expected.len(),
        there(got),
        there(expected)
    )
}

#[tokio::test]
async fn every_committed_row_arrives_once_in_commit_order() {
    for server in servers::all().await {
        let database = busy_database(server, "storm").await;
        let doorcast = Doorcast::start(&database.url(), &HISTORY).await;
        let readers = readers(&doorcast);
        let load = Load::start(server.root_url(&database.name), ROWS);
        load.allow(ROWS);
        load.finish().await;
        let last = insert_last(&mut database.admin().await).await;
        check(server, &database, readers, last).await;
    }
}

#[tokio::test]
async fn every_row_arrives_once_though_doorcast_is_killed_twenty_times() {
    const KILLS: usize = 20;
    for server in servers::all().await {
        let database = busy_database(server, "kills").await;
        let mut doorcast = Doorcast::start(&database.url(), &HISTORY).await;
        let readers = readers(&doorcast);
        let mut load = Load::start(server.root_url(&database.name), ROWS);
        let mut random = fastrand::Rng::with_seed(20);
        for kill in 0..KILLS {
            let share = ROWS / KILLS;
            load.allow(share);
            // The writers take up to five rows at a time, so a few may wait for the next share.
            load.committed(kill * share + random.usize(1..share - 50)).await;
            doorcast.kill().await;
            doorcast.start_again().await;
        }
        load.allow(ROWS);
        load.finish().await;
        let last = insert_last(&mut database.admin().await).await;
        check(server, &database, readers, last).await;
    }
}

#[tokio::test]
async fn a_lower_key_that_commits_after_a_kill_reaches_the_client_that_has_the_higher_one() {
    for server in servers::all().await {
        let database = servers::database(server, "late").await;
        let mut doorcast = Doorcast::start(&database.url(), &[]).await;
        let mut sse = Reader::sse(&doorcast, "?since=earliest");
        let mut poll = Reader::poll(&doorcast, "?since=earliest");
        let (mut early, mut late) = (database.admin().await, database.admin().await);
        late.query_drop("BEGIN").await.unwrap();
        let lower = insert(&mut late, 5).await;
        let higher = insert(&mut early, 6).await;
        assert!(lower < higher);
        sse.has(1).await;
        poll.has(1).await;
        doorcast.kill().await;
        late.query_drop("COMMIT").await.unwrap();
        doorcast.start_again().await;
        let last = insert_last(&mut early).await;
        assert_eq!(keys(&sse.finish().await), [higher, lower, last], "{}", server.name());
        assert_eq!(keys(&poll.finish().await), [higher, lower, last], "{}", server.name());
    }
}

#[tokio::test]
async fn commit_order_outlives_a_restart_in_order() {
    for server in servers::all().await {
        let database = servers::database(server, "order").await;
        let mut doorcast = Doorcast::start(&database.url(), &[]).await;
        let mut reader = Reader::sse(&doorcast, "?since=earliest");
        let (mut early, mut late) = (database.admin().await, database.admin().await);
        late.query_drop("BEGIN").await.unwrap();
        let lower = insert(&mut late, 5).await;
        let higher = insert(&mut early, 6).await;
        late.query_drop("COMMIT").await.unwrap();
        reader.has(2).await;
        assert!(doorcast.stop().await.success());
        doorcast.start_again().await;
        // One that had only the higher key when it left.
        let answer =
            crate::site::client().get(doorcast.url(&format!("/poll?since=1-{higher}"))).send().await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(answer["events"][0]["id"], format!("1-{lower}"), "{}", server.name());
        let last = insert_last(&mut early).await;
        assert_eq!(keys(&reader.finish().await), [higher, lower, last]);
    }
}

#[tokio::test]
async fn a_client_older_than_the_feed_is_served_from_the_table_and_told_of_a_gap_beyond_the_limit() {
    for server in servers::all().await {
        let database = servers::database(server, "deep").await;
        let mut conn = database.admin().await;
        let mut all = Vec::new();
        for door in 0..40 {
            all.push(insert(&mut conn, door).await);
        }
        let doorcast = Doorcast::start(&database.url(), &["--history", "5", "--resume-limit", "30"]).await;
        let reader = Reader::sse(&doorcast, &format!("?since=1-{}", all[9]));
        let last = insert_last(&mut conn).await;
        let mut expected = all[10..].to_vec();
        expected.push(last);
        assert_eq!(keys(&reader.finish().await), expected, "{}", server.name());

        let path = doorcast.url(&format!("/poll?since=1-{}", all[0]));
        let answer = crate::site::client().get(path).send().await.unwrap().text().await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["gap"]["after"], format!("1-{}", all[0]), "{answer}");
        assert_eq!(answer["gap"]["resumes_at"], answer["events"][0]["id"], "{answer}");
    }
}
