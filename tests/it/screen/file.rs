//! The people file as it changes.

use std::time::Duration;

use doorcast::http::Settings;
use serde_json::{Value, json};

use super::{HEADER, Lobby, WANG, name};

fn is_good(people: &Value, count: u64) -> bool {
    people["people"] == count && people["problems"] == json!([])
}

// Who is added to the file is greeted at the next swipe, and who is taken out is not.
#[tokio::test]
async fn a_changed_file_is_read_again() {
    let lobby = Lobby::with_wang().await;
    let mut screen = lobby.screen("/screen/events").await;
    lobby.write(format!("{HEADER}\n1,Ann,,,,,,,,\n2,Bob,,,,,,,,\n").as_bytes());
    lobby.until("two people", |people| is_good(people, 2)).await;
    for (key, card) in [(1, WANG), (2, "2"), (3, "1")] {
        lobby.swipe(key, 1, card);
    }
    assert_eq!(name(&screen.next_but_ping().await), "Bob");
    assert_eq!(name(&screen.next_but_ping().await), "Ann");
    // As an editor saves: another file under the same name.
    let new = lobby.folder.path().join("people.tmp");
    std::fs::write(&new, format!("{HEADER}\n3,Zoe,,,,,,,,\n")).unwrap();
    std::fs::rename(new, lobby.file()).unwrap();
    lobby.until("one", |people| is_good(people, 1)).await;
    lobby.stopped().await;
}

// A bad file changes nothing but the state, which tells the line and the reason, and no cell.
#[tokio::test]
async fn a_bad_file_keeps_the_last_good_one() {
    let lobby = Lobby::with_wang().await;
    let mut screen = lobby.screen("/screen/events").await;
    lobby.write(format!("{HEADER}\n{WANG},Other,,,,,,,,\n1.23E+15,B,,,,,someday,,,\n").as_bytes());
    let state = lobby.until("the problem", |people| people["problems"] != json!([])).await;
    let problems = state["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2);
    assert_eq!((&problems[0]["line"], &problems[0]["column"]), (&json!(3), &json!("rfsim")));
    assert!(problems[0]["reason"].as_str().unwrap().contains("1.23E+15"));
    assert_eq!((&problems[1]["line"], &problems[1]["column"]), (&json!(3), &json!("valid_from")));
    assert!(!state.to_string().contains("someday"));
    assert_eq!((&state["people"], &state["reload_failures"]), (&json!(1), &json!(1)));
    assert!(state["failing_since_ms"].as_u64().unwrap() >= state["loaded_ms"].as_u64().unwrap());
    let metrics = crate::site::client().get(lobby.site.url("/metrics")).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("\ndoorcast_people_file_good 0\n"));
    assert!(metrics.contains("\ndoorcast_people_reload_failures_total 1\n"));

    lobby.swipe(1, 1, WANG);
    assert_eq!(name(&screen.next_but_ping().await), "王小明");
    lobby.write(format!("{HEADER}\n{WANG},Other,,,,,,,,\n").as_bytes());
    lobby.until("the mended file", |people| is_good(people, 1)).await;
    lobby.swipe(2, 1, WANG);
    assert_eq!(name(&screen.next_but_ping().await), "Other");
}

// A file that goes away, with a network mount perhaps, takes nobody with it.
#[tokio::test]
async fn a_file_that_is_gone_keeps_the_people() {
    let lobby = Lobby::with_wang().await;
    std::fs::remove_file(lobby.file()).unwrap();
    let state = lobby.until("the problem", |people| people["problems"] != json!([])).await;
    assert_eq!(state["problems"][0]["reason"], "there is no such file");
    assert_eq!(state["people"], 1);
    let bytes = format!("{HEADER}\n{WANG},Back,,,,,,,,\n1,Ann,,,,,,,,\n");
    lobby.write(bytes.as_bytes());
    lobby.until("the file", |people| is_good(people, 2)).await;
}

// Beginning without a good file is possible: the rest of doorcast must not wait for a receptionist.
#[tokio::test]
async fn people_may_come_later() {
    let lobby = Lobby::with_file(None).await;
    let state = lobby.until("the problem", |people| people["problems"] != json!([])).await;
    assert_eq!((&state["people"], &state["loaded_ms"]), (&json!(0), &Value::Null));
    lobby.write(&encoding_rs::GBK.encode(&format!("{HEADER}\r\n{WANG},王小明,,,,,,,,\r\n")).0);
    let state = lobby.until("the file", |people| is_good(people, 1)).await;
    assert_eq!(state["encoding"], "gb18030");
    let mut screen = lobby.screen("/screen/events").await;
    lobby.swipe(1, 1, WANG);
    assert_eq!(name(&screen.next_but_ping().await), "王小明");
}

// What looks wrong and may be right is told, and does not keep anybody from being greeted.
#[tokio::test]
async fn warnings_are_told() {
    let lobby = Lobby::with(&["1234567890123400000,Ann,,,,,,,,"]).await;
    let state = lobby.until("the state", |people| is_good(people, 1)).await;
    assert_eq!(
        (&state["warnings"][0]["line"], &state["warnings"][0]["column"]),
        (&json!(2), &json!("rfsim"))
    );
}

// SIGHUP reads the file at once, however seldom it is looked at.
#[tokio::test]
async fn hangup_reads_the_file() {
    let csv = format!("{HEADER}\n1,Ann,,,,,,,,\n");
    let seldom = Duration::from_secs(3600);
    let lobby = Lobby::with_settings(Some(csv.as_bytes()), Settings::default(), seldom).await;
    // Its task was there before the site's answer, so it waits for the signal by now.
    lobby.until("one person", |people| is_good(people, 1)).await;
    lobby.write(format!("{HEADER}\n1,Ann,,,,,,,,\n2,Bob,,,,,,,,\n").as_bytes());
    let own = std::process::id().to_string();
    let status = std::process::Command::new("kill").args(["-HUP", &own]).status().unwrap();
    assert!(status.success());
    lobby.until("the file", |people| is_good(people, 2)).await;
}
