//! `GET /poll`.

use doorcast::{feed::Limits, http::Settings};
use serde_json::json;

use super::{Answer, get_json, ids, site_with_rows};
use crate::site::{Site, encode, swipe};

// A poll answers with the rows after an id, and the id to go on from; asked again, it answers the same.
#[tokio::test]
async fn a_poll_goes_on_from_next() {
    let site = Site::start().await;
    site.publish([1, 2, 3]);
    for _ in 0..2 {
        let answer = Answer::get(&site, "/poll?since=1-1&limit=1").await;
        let row = String::from_utf8(swipe(2, 1, "Y").json).unwrap();
        assert_eq!(
            answer.body,
            format!(r#"{{"epoch":1,"next":"1-2","gap":null,"events":[{{"id":"1-2","row":{row}}}]}}"#)
        );
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let answer = get_json(&site, "/poll?since=1-2").await;
    assert_eq!((ids(&answer), &answer["next"]), (vec!["1-3"], &json!("1-3")));
}

// A poll waits for a row.
#[tokio::test]
async fn a_waiting_poll_gets_the_next_row() {
    let site = Site::start().await;
    site.publish([1]);
    let (answer, ()) = tokio::join!(get_json(&site, "/poll"), async {
        site.until_clients("poll", 1).await;
        site.publish([2]);
    });
    assert_eq!(ids(&answer), ["1-2"]);
}

// An empty answer at the time limit names an id to go on from; with a filter, past what was left out.
#[tokio::test]
async fn an_empty_poll_still_goes_on() {
    let site = Site::start().await;
    let answer = get_json(&site, "/poll?timeout=1").await;
    assert_eq!(answer, json!({"epoch": 1, "next": "1-0", "gap": null, "events": []}));
    site.publish([1, 2, 3]);
    let answer = get_json(&site, "/poll?since=1-0&doorno=2&timeout=0.1").await;
    assert_eq!((ids(&answer).len(), &answer["next"]), (0, &json!("1-3")));
    site.publish_row(1, swipe(4, 2, "Y"));
    site.publish([5]);
    let answer = get_json(&site, "/poll?since=1-0&doorno=2").await;
    assert_eq!((ids(&answer), &answer["next"]), (vec!["1-4"], &json!("1-5")));
}

// The limit holds wherever the rows come from, and following `next` gives each row once.
#[tokio::test]
async fn polls_in_a_row_give_each_row_once() {
    let site = site_with_rows(5).await;
    site.publish([1, 2, 4, 3, 6, 5, 7, 9, 8, 10, 12, 11, 13, 14, 15]);
    let (mut next, mut all) = (String::from("1-0"), Vec::new());
    while next != "1-15" {
        let answer = get_json(&site, &format!("/poll?since={next}&limit=2")).await;
        assert!((1..=2).contains(&ids(&answer).len()));
        all.extend(ids(&answer).iter().map(|id| id.to_string()));
        next = answer["next"].as_str().unwrap().into();
    }
    let expected = [1, 2, 4, 3, 6, 5, 7, 9, 8, 10, 12, 11, 13, 14, 15];
    assert_eq!(all, expected.map(|key| format!("1-{key}")));
}

// However many a client asks for, an answer has a thousand rows at most, and one at least.
#[tokio::test]
async fn the_rows_of_an_answer_are_bounded() {
    let site = Site::start().await;
    site.publish(1..=1_001);
    for (limit, rows) in [(0, 1), (1_000, 1_000), (1_000_000, 1_000)] {
        let answer = get_json(&site, &format!("/poll?since=1-0&limit={limit}")).await;
        assert_eq!((ids(&answer).len(), &answer["next"]), (rows, &json!(format!("1-{rows}"))), "{limit}");
    }
}

// However large the rows are, an answer has an end; `next` goes on behind it.
#[tokio::test]
async fn the_bytes_of_an_answer_are_bounded() {
    const ROWS: usize = 20;
    const ROW_BYTES: usize = 1 << 20;
    let site = Site::start().await;
    let wide = format!("\"{}\"", "x".repeat(ROW_BYTES));
    for key in 1..=ROWS as i128 {
        site.publish_row(1, encode(key, &[("vid", key.to_string()), ("photo", wide.clone())]));
    }
    let (mut next, mut all) = (String::from("1-0"), Vec::new());
    while all.len() < ROWS {
        let answer = Answer::get(&site, &format!("/poll?since={next}&limit=1000")).await;
        assert!(answer.body.len() < 6 * ROW_BYTES, "{}", answer.body.len());
        let answer = answer.json();
        all.extend(ids(&answer).iter().map(|id| id.to_string()));
        next = answer["next"].as_str().unwrap().into();
    }
    assert!(all.iter().eq(&(1..=ROWS).map(|key| format!("1-{key}")).collect::<Vec<_>>()), "{all:?}");
}

// A REPLACE brings an id once more: `next` names that place, so that nobody goes round in circles.
#[tokio::test]
async fn a_poll_goes_on_behind_a_row_that_came_again() {
    let site = Site::start().await;
    site.publish([1, 2, 3, 2]);
    let answer = get_json(&site, "/poll?since=1-2").await;
    assert_eq!(ids(&answer), ["1-3", "1-2"]);
    let next = answer["next"].as_str().unwrap();
    let nothing = get_json(&site, &format!("/poll?since={next}&timeout=0.1")).await;
    assert_eq!((ids(&nothing).len(), &nothing["next"]), (0, &answer["next"]));
    site.publish([4]);
    let answer = get_json(&site, &format!("/poll?since={next}")).await;
    assert_eq!((ids(&answer), &answer["next"]), (vec!["1-4"], &json!("1-4")));
}

// A gap comes with the rows behind it, or with the head where the id was ahead.
#[tokio::test]
async fn a_poll_tells_a_gap() {
    let site = Site::start().await;
    site.publish([1]);
    let answer = get_json(&site, "/poll?since=1-9").await;
    assert_eq!(answer["gap"]["resumes_at"], "1-1");
    assert_eq!((ids(&answer).len(), &answer["next"]), (0, &json!("1-1")));
    site.feed.mark_gap("the binlog was purged".into());
    // No row follows yet, and no id stands behind the gap: it is told with the row.
    let answer = get_json(&site, "/poll?since=1-1&timeout=1").await;
    assert_eq!(answer, json!({"epoch": 1, "next": "1-1", "gap": null, "events": []}));
    site.publish([5]);
    let answer = get_json(&site, "/poll?since=1-1").await;
    assert_eq!(
        answer["gap"],
        json!({"after": "1-1", "resumes_at": "1-5", "reason": "the binlog was purged"})
    );
    assert_eq!(ids(&answer), ["1-5"]);
    assert_eq!(site.status.gaps.get(), 2);
    // Rows before a gap come without it.
    let answer = get_json(&site, "/poll?since=1-0").await;
    assert_eq!((ids(&answer), &answer["next"], &answer["gap"]), (vec!["1-1"], &json!("1-1"), &json!(null)));
}

// `last` and `earliest` begin with what is there.
#[tokio::test]
async fn a_poll_can_begin_with_old_rows() {
    let site = Site::start().await;
    site.publish([1, 2, 3, 4]);
    assert_eq!(ids(&get_json(&site, "/poll?last=2").await), ["1-3", "1-4"]);
    assert_eq!(ids(&get_json(&site, "/poll?since=earliest&limit=3").await), ["1-1", "1-2", "1-3"]);
}

// While the table can't be read the client is told to come back.
#[tokio::test]
async fn a_poll_below_the_feed_needs_the_table() {
    let site = site_with_rows(2).await;
    site.publish(1..=5);
    site.table.close(true);
    Answer::get(&site, "/poll?since=1-1").await.is_error(503, "history_unavailable");
    assert_eq!(ids(&get_json(&site, "/poll?since=1-3").await), ["1-4", "1-5"]);
}

// Before the feed is ready an id comes back as it is, and a client without one comes back later.
#[tokio::test]
async fn a_poll_before_the_feed_is_ready_loses_no_place() {
    let site = Site::catching_up(Settings::default(), Limits::default()).await;
    for since in ["1-7", "7", "earliest"] {
        let answer = get_json(&site, &format!("/poll?since={since}&timeout=1")).await;
        assert_eq!((ids(&answer).len(), &answer["next"]), (0, &json!(since)));
    }
    Answer::get(&site, "/poll?timeout=1").await.is_error(503, "not_ready");
    let (answer, ()) = tokio::join!(get_json(&site, "/poll?since=1-1"), async {
        site.until_clients("poll", 1).await;
        site.publish([1, 2]);
        site.feed.set_ready();
    });
    assert_eq!(ids(&answer), ["1-2"]);
}

// What can't be understood is refused with a reason.
#[tokio::test]
async fn bad_parameters_are_refused() {
    let site = Site::start().await;
    Answer::get(&site, "/poll?since=nonsense").await.is_error(400, "bad_since");
    Answer::get(&site, "/poll?limit=x").await.is_error(400, "bad_limit");
    Answer::get(&site, "/poll?timeout=x").await.is_error(400, "bad_timeout");
}
