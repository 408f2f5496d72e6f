//! `GET /events`.

use std::time::Duration;

use doorcast::{feed::Limits, http::Settings, status::now_ms};
use serde_json::json;

use super::{Answer, get_json, ids, site_with_rows};
use crate::site::{Events, Site, card, client, swipe, time, within};

fn quick_pings() -> Settings {
    Settings { heartbeat: Duration::from_millis(20), ..Settings::default() }
}

/// A stream after its hello.
async fn greeted(site: &Site, path: &str) -> Events {
    let mut events = Events::open(site, path).await;
    assert!(events.next().await.unwrap().retry.is_some());
    assert_eq!(events.next_but_ping().await.name, "hello");
    events
}

// A row is a plain message whose id is the cursor.
#[tokio::test]
async fn rows_arrive_as_messages() {
    let site = Site::start().await;
    let mut events = Events::open(&site, "/events").await;
    let retry = events.next().await.unwrap().retry.unwrap();
    assert!((2000..=4000).contains(&retry));
    let hello = events.next().await.unwrap();
    assert_eq!(hello.name, "hello");
    assert_eq!(hello.data, r#"{"epoch":1,"head":"1-0","oldest":null,"heartbeat_ms":15000}"#);
    site.publish([300005]);
    let row = events.next().await.unwrap();
    assert_eq!((&*row.name, row.id.as_deref()), ("", Some("1-300005")));
    let (card, time) = (card(300005), time(300005));
    assert_eq!(
        row.data,
        format!(r#"{{"vid":300005,"doorno":1,"rfsim":"{card}","optime":"{time}","ynopen":"Y"}}"#)
    );
}

// A REPLACE brings an id once more. A ping behind it names that place, for a stream that is cut there.
#[tokio::test]
async fn a_stream_goes_on_behind_a_row_that_came_again() {
    let site = Site::start().await;
    site.publish([1, 2]);
    let mut events = greeted(&site, "/events").await;
    site.publish([1]);
    let row = events.next().await.unwrap();
    assert_eq!((&*row.name, row.id.as_deref()), ("", Some("1-1")));
    let ping = events.next().await.unwrap();
    assert_eq!(ping.name, "ping");
    let place = ping.id.unwrap();
    site.publish([3]);
    let mut events = greeted(&site, &format!("/events?since={place}")).await;
    assert_eq!(events.next().await.unwrap().id.as_deref(), Some("1-3"));
}

// No proxy may keep, change or hold back a stream, and no other site may read it.
#[tokio::test]
async fn the_head_of_a_stream_comes_at_once() {
    let site = Site::start().await;
    let events = Events::open(&site, "/events").await;
    assert_eq!(events.response.status(), 200);
    let headers = events.response.headers();
    assert_eq!(headers["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-cache, no-store, no-transform");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert!(!headers.contains_key("access-control-allow-origin"));
}

// A ping's id is the head once everything before it went out, filtered rows too.
#[tokio::test]
async fn pings_carry_a_filtered_clients_cursor_on() {
    let site = Site::with(quick_pings(), Limits::default()).await;
    let mut events = greeted(&site, "/events?doorno=2").await;
    let ping = events.next().await.unwrap();
    assert_eq!((&*ping.name, ping.id.as_deref()), ("ping", Some("1-0")));
    assert!(ping.json()["now_ms"].as_u64().unwrap() <= now_ms());
    site.publish([1, 2, 3]);
    loop {
        let ping = events.next().await.unwrap();
        assert_eq!(ping.name, "ping");
        if ping.id.as_deref() == Some("1-3") {
            return;
        }
    }
}

// The id of the first answer that a client gets is its cursor: it may be cut right after.
#[tokio::test]
async fn hello_carries_the_place_of_a_client_that_begins_now() {
    let site = Site::start().await;
    site.publish([1, 2]);
    let mut events = Events::open(&site, "/events").await;
    events.next().await.unwrap();
    let hello = events.next().await.unwrap();
    assert_eq!(hello.id.as_deref(), Some("1-2"));
    assert_eq!(hello.json()["oldest"], "1-1");
    drop(events);
    let mut events = Events::open(&site, "/events?since=1-1").await;
    events.next().await.unwrap();
    assert_eq!(events.next().await.unwrap().id.as_deref(), Some("1-1"));
}

async fn first_ids(request: reqwest::RequestBuilder, count: usize) -> Vec<String> {
    let mut events = Events::send(request).await;
    assert_eq!(events.response.status(), 200);
    events.ids(count).await
}

// The header goes before the polyfills' parameters, those before `since`, that before `last`.
#[tokio::test]
async fn the_latest_id_that_a_client_names_is_its_place() {
    let site = Site::start().await;
    site.publish([1, 2, 3, 4, 5]);
    let get = |path: &str| client().get(site.url(path));
    let all = get("/events?since=1-2&last_event_id=1-3&last=5").header("last-event-id", "1-4");
    assert_eq!(first_ids(all, 1).await, ["1-5"]);
    for name in ["last_event_id", "lastEventId"] {
        let polyfill = get(&format!("/events?since=1-2&{name}=1-3&last=5")).header("last-event-id", "");
        assert_eq!(first_ids(polyfill, 2).await, ["1-4", "1-5"]);
    }
    let since = get("/events?since=1-2&lastEventId=&last=5");
    assert_eq!(first_ids(since, 3).await, ["1-3", "1-4", "1-5"]);
    assert_eq!(first_ids(get("/events?since=2"), 1).await, ["1-3"], "a bare key");
    assert_eq!(first_ids(get("/events?since=earliest"), 1).await, ["1-1"]);
    assert_eq!(first_ids(get("/events?last=2"), 2).await, ["1-4", "1-5"]);

    let mut now = greeted(&site, "/events?since=now").await;
    site.publish([6]);
    assert_eq!(now.ids(1).await, ["1-6"]);
}

// A parameter named as a column filters; commas and repeats are "or", columns are "and".
#[tokio::test]
async fn columns_filter() {
    let site = Site::start().await;
    for (key, door, open) in [(1, 1, "Y"), (2, 2, "N"), (3, 3, "Y"), (4, 2, "Y"), (5, 10, "Y"), (6, 1, "N")] {
        site.publish_row(1, swipe(key, door, open));
    }
    let check = async |query: &str, expected: &[&str]| {
        let mut events = Events::open(&site, &format!("/events?since=earliest&{query}&_=1732&_x=y")).await;
        assert_eq!(events.ids(expected.len()).await, expected, "{query}");
    };
    check("doorno=1,2", &["1-1", "1-2", "1-4", "1-6"]).await;
    check("doorno=1&doorno=10", &["1-1", "1-5", "1-6"]).await;
    check("doorno=1,2&ynopen=Y", &["1-1", "1-4"]).await;
    check(&format!("rfsim={}", card(3)), &["1-3"]).await;
    check("ynopen=%59&vid=4", &["1-4"]).await;
    // The door is the number 1, not the text "1", nor a digit of 10.
    let none = get_json(&site, "/poll?since=1-0&doorno=%221%22,0&timeout=1").await;
    assert_eq!((ids(&none).len(), &none["next"]), (0, &json!("1-6")));
}

// `last=N` counts the rows that the client wants.
#[tokio::test]
async fn the_latest_rows_are_the_latest_that_pass_the_filter() {
    let site = Site::start().await;
    for key in 1..=20 {
        site.publish_row(1, swipe(key, (key % 5) as i32, "Y"));
    }
    let mut events = greeted(&site, "/events?doorno=3&last=2").await;
    assert_eq!(events.ids(2).await, ["1-13", "1-18"]);
}

// Rows that were committed too long ago are left out, and rows of which that is not known.
#[tokio::test]
async fn old_rows_are_left_out_where_asked_for() {
    let site = Site::start().await;
    let publish = |key, committed_ms| site.feed.publish(1, committed_ms, vec![swipe(key, 1, "Y")]);
    publish(1, None);
    publish(2, Some(now_ms() - 25_000));
    publish(3, Some(now_ms() - 15_000));
    publish(4, Some(now_ms()));
    let mut events = greeted(&site, "/events?since=earliest&max_age=20.5").await;
    assert_eq!(events.ids(2).await, ["1-3", "1-4"]);
    let mut events = greeted(&site, "/events?last=3&max_age=20").await;
    assert_eq!(events.ids(2).await, ["1-3", "1-4"]);
}

// A gap tells the client's id, where it goes on, and why; and it counts.
#[tokio::test]
async fn a_broken_continuity_is_told() {
    let site = site_with_rows(3).await;
    site.publish([1, 2, 3]);
    let mut ahead = greeted(&site, "/events?since=1-99").await;
    let gap = ahead.next().await.unwrap();
    assert_eq!((&*gap.name, gap.id.as_deref()), ("gap", Some("1-3")));
    assert_eq!(
        gap.json(),
        json!({"after": "1-99", "resumes_at": "1-3", "reason": "the id is ahead of this feed"})
    );
    site.feed.mark_gap("the binlog was purged".into());
    assert_eq!(ahead.next().await.unwrap().json()["reason"], "the binlog was purged");
    site.publish([50]);
    assert_eq!(ahead.ids(1).await, ["1-50"]);

    site.feed.begin_epoch(2);
    for key in [1, 2, 3] {
        site.publish_row(2, swipe(key, 1, "Y"));
    }
    assert_eq!(ahead.ids(3).await, ["2-1", "2-2", "2-3"]);
    let mut old = greeted(&site, "/events?since=1-2").await;
    let gap = old.next().await.unwrap();
    assert_eq!((&gap.id, &gap.json()["resumes_at"]), (&None, &json!("2-1")));
    assert!(gap.data.contains("started over"));
    assert_eq!(old.ids(3).await, ["2-1", "2-2", "2-3"]);
    assert_eq!(site.status.gaps.get(), 3);
}

// A client whose id is older than the feed is served from the table, then from the feed.
#[tokio::test]
async fn an_old_client_is_served_from_the_table() {
    let site = site_with_rows(10).await;
    site.publish(1..=900);
    let mut events = greeted(&site, "/events?since=1-100").await;
    let expected: Vec<String> = (101..=900).map(|key| format!("1-{key}")).collect();
    assert_eq!(events.ids(800).await, expected);
}

// More than a thousand missed rows become one gap.
#[tokio::test]
async fn a_very_old_client_is_told_a_gap() {
    let site = site_with_rows(10).await;
    site.publish(1..=1_100);
    let mut events = greeted(&site, "/events?since=1-89").await;
    let gap = events.next().await.unwrap().json();
    assert_eq!((&gap["after"], &gap["resumes_at"]), (&json!("1-89"), &json!("1-1091")));
    assert_eq!(events.ids(1).await, ["1-1091"]);
    let mut events = greeted(&site, "/events?since=1-90").await;
    assert_eq!(events.ids(1).await, ["1-91"]);
}

// While the table can't be read a stream lives on, and misses nothing.
#[tokio::test]
async fn a_stream_outlives_a_table_that_cannot_be_read() {
    let site = Site::with(quick_pings(), Limits { rows: 2, ..Limits::default() }).await;
    site.publish(1..=5);
    site.table.close(true);
    let mut events = greeted(&site, "/events?since=1-1").await;
    within("a question", site.table.asked.notified()).await;
    let ping = events.next().await.unwrap();
    assert_eq!((&*ping.name, ping.id.as_deref()), ("ping", Some("1-1")));
    site.table.close(false);
    assert_eq!(events.ids(4).await, ["1-2", "1-3", "1-4", "1-5"]);
}

// Until the feed is ready no id is looked up: the client's may be one that is yet to be read again.
#[tokio::test]
async fn a_stream_opens_before_the_feed_is_ready() {
    let site = Site::catching_up(quick_pings(), Limits::default()).await;
    let mut events = Events::open(&site, "/events?since=1-2").await;
    assert!(events.next().await.unwrap().retry.is_some());
    let ping = events.next().await.unwrap();
    assert_eq!((&*ping.name, ping.id), ("ping", None));
    site.publish([1, 2, 3]);
    site.feed.set_ready();
    let hello = events.next_but_ping().await;
    assert_eq!((&*hello.name, hello.json()["head"].clone()), ("hello", json!("1-3")));
    assert_eq!(events.ids(1).await, ["1-3"]);
}

// What can't be understood is refused with a reason.
#[tokio::test]
async fn bad_parameters_are_refused() {
    let site = Site::start().await;
    for since in ["x", "", "1-", "0-5", "1-2-3", "-", "%00", "1-99999999999999999999999"] {
        Answer::get(&site, &format!("/events?since={since}")).await.is_error(400, "bad_since");
    }
    let header = client().get(site.url("/events")).header("last-event-id", "\u{fc}");
    Answer::of(header).await.is_error(400, "bad_since");
    Answer::get(&site, "/events?last=-1").await.is_error(400, "bad_last");
    for age in ["x", "-1", "NaN", "inf"] {
        Answer::get(&site, &format!("/events?max_age={age}")).await.is_error(400, "bad_max_age");
    }
    // Before the first row any name may be a column's.
    greeted(&site, "/events?dorno=1").await;
    site.publish([1]);
    let answer = Answer::get(&site, "/events?dorno=1").await;
    answer.is_error(400, "unknown_parameter");
    assert!(answer.body.contains("vid, doorno, rfsim, optime, ynopen"));
}
