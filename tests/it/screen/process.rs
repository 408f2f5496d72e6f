//! The whole way: an INSERT on a real server becomes a greeting, by a process that is told to read its
//! people again.

use doorcast::status::now_ms;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

use super::{HEADER, NOBODY, WANG, optime};
use crate::{deadline::deadline, process::run_to_end, scene::Scene, servers, site};

fn insert(card: &str, seconds_ago: i64) -> String {
    let optime = optime(seconds_ago);
    format!("INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (1, '{card}', '{optime}', 'Y')")
}

async fn poll(scene: &Scene, since: &Value) -> Value {
    let since = since.as_str().unwrap();
    let url = scene.doorcast.url(&format!("/screen/poll?doorno=1&timeout=60&since={since}"));
    let answer = deadline(site::client().get(url).send()).await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

// Only the special person's swipe of now is greeted, also where INSERTs are logged as statements; after
// SIGHUP somebody else's, too.
#[tokio::test]
async fn an_insert_becomes_a_greeting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.csv");
    std::fs::write(&file, format!("{HEADER}\n{WANG},王小明,,,,,,,,\n")).unwrap();
    let file = file.to_str().unwrap();
    let options = ["--people", file, "--timezone", super::zone()];
    for kind in servers::kinds() {
        for format in ["--binlog-format=ROW", "--binlog-format=MIXED"] {
            let mut scene = Scene::start(kind, &[format], &options).await;
            let begin = scene.status().await["feed"]["head"].take();
            let at_ms = now_ms();
            for (card, seconds_ago) in [(NOBODY, 0), (WANG, 3600), (WANG, 0)] {
                scene.conn.query_drop(insert(card, seconds_ago)).await.unwrap();
            }
            let answer = poll(&scene, &begin).await;
            assert_eq!(answer["events"].as_array().unwrap().len(), 1, "{kind} {format}: {answer}");
            let row = &answer["events"][0]["row"];
            assert_eq!((&row["name"], &row["door"]), (&json!("王小明"), &json!("1")), "{kind} {format}");
            // Clocks of servers tell whole seconds.
            let age_ms = row["age_ms"].as_u64().unwrap();
            assert!(age_ms <= now_ms() - at_ms + 1_000, "{kind} {format}: {age_ms}");
            let log = scene.doorcast.log();
            assert!(
                !log.contains(WANG) && !log.contains(NOBODY) && !log.contains("王小明"),
                "{kind} {format}"
            );

            if kind == servers::kinds()[0] {
                let people = format!("{HEADER}\n{WANG},王小明,,,,,,,,\n{NOBODY},Ann,,,,,,,,\n");
                std::fs::write(file, people).unwrap();
                scene.doorcast.signal("HUP");
                deadline(async { while scene.status().await["people"]["people"] != 2 {} }).await;
                scene.conn.query_drop(insert(NOBODY, 0)).await.unwrap();
                assert_eq!(poll(&scene, &answer["next"]).await["events"][0]["row"]["name"], "Ann");
                std::fs::write(file, format!("{HEADER}\n{WANG},王小明,,,,,,,,\n")).unwrap();
            }
            assert!(scene.doorcast.stop().await.success());
        }
    }
}

// Told to read its files again, a process that has none goes on.
#[tokio::test]
async fn hangup_ends_no_process() {
    let kind = servers::kinds()[0];
    let mut scene = Scene::start(kind, &[], &[]).await;
    scene.doorcast.signal("HUP");
    scene.conn.query_drop(insert(NOBODY, 0)).await.unwrap();
    scene.read(1).await;
    assert!(scene.doorcast.stop().await.success());
}

// What can't work is said at the start.
#[tokio::test]
async fn bad_options_end_the_process() {
    for (options, word) in [
        (&["--reception"][..], "--people"),
        (&["--people", "p.csv", "--timezone", "Asia/Nowhere"], "Asia/Nowhere"),
        (&["--people", "p.csv", "--optime-format", "%H"], "--optime-format"),
    ] {
        let mut arguments = vec!["--db", "mysql://a@127.0.0.1:1/b", "--listen", "127.0.0.1:0"];
        arguments.extend(options);
        let (status, log) = run_to_end(&arguments).await;
        assert_eq!(status, 2, "{log}");
        assert!(log.contains(word), "{log}");
    }
}
