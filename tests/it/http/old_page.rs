//! `GET /backend.php`.

use std::time::Duration;

use doorcast::{feed::Limits, http::Settings};
use serde_json::Value;

use super::{Answer, Raw, site_with_rows};
use crate::site::{Site, client, swipe, within};

async fn vid(site: &Site, maxvid: i64) -> Value {
    let answer = Answer::get(site, &format!("/backend.php?maxvid={maxvid}")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    answer.json()["vid"].clone()
}

// The answer is one row, the first after the one that the page has, in the order of commits.
#[tokio::test]
async fn one_row_at_a_time_in_commit_order() {
    let site = Site::start().await;
    site.publish([1, 2, 4, 3, 5]);
    let mut shown = vec![];
    let mut maxvid = 1;
    while maxvid != 5 {
        maxvid = vid(&site, maxvid).await.as_i64().unwrap();
        shown.push(maxvid);
    }
    assert_eq!(shown, [2, 4, 3, 5]);
    let answer = Answer::get(&site, "/backend.php?maxvid=4").await;
    assert_eq!(answer.body.as_bytes(), swipe(3, 1, "Y").json);
}

// That page can only name a key: told one twice, it would go on behind the first of the two for ever.
#[tokio::test]
async fn a_row_that_came_again_is_passed_over() {
    let site = Site::start().await;
    site.publish([1, 2, 3, 2, 4]);
    let mut shown = vec![];
    let mut maxvid = 1;
    while maxvid != 4 {
        maxvid = vid(&site, maxvid).await.as_i64().unwrap();
        shown.push(maxvid);
    }
    assert_eq!(shown, [2, 3, 4]);
}

// A page that was away for long is served from the table.
#[tokio::test]
async fn an_old_page_that_was_away_is_served_from_the_table() {
    let site = site_with_rows(2).await;
    site.publish(1..=9);
    assert_eq!(vid(&site, 3).await, 4);
}

// Spaces keep the wait open, and JSON allows them.
#[tokio::test]
async fn spaces_come_before_the_row() {
    let settings = Settings { heartbeat: Duration::from_millis(10), ..Settings::default() };
    let site = Site::with(settings, Limits::default()).await;
    site.publish([8]);
    let request = client().get(site.url("/backend.php?maxvid=0")).send();
    let mut response = within("the head", request).await.unwrap();
    let mut body = Vec::new();
    while body.len() < 3 {
        body.extend(within("a space", response.chunk()).await.unwrap().unwrap());
    }
    assert!(body.iter().all(|byte| *byte == b' '));
    site.publish([9]);
    while let Some(chunk) = within("the row", response.chunk()).await.unwrap() {
        body.extend(chunk);
    }
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["vid"], 9);
}

// Where waits are limited, a cookie carries the place over the page's pause.
#[tokio::test]
async fn a_limited_wait_leaves_a_cookie() {
    let settings = Settings { old_page_timeout: Some(Duration::from_millis(50)), ..Settings::default() };
    let site = Site::with(settings, Limits::default()).await;
    site.publish([1, 2]);
    let empty = Answer::get(&site, "/backend.php?maxvid=0").await;
    assert_eq!((empty.status.as_u16(), &*empty.body), (200, ""));
    let cookie = empty.header("set-cookie").split(';').next().unwrap().to_owned();
    assert_eq!(cookie, "doorcast_cursor=1-2");
    assert!(empty.header("set-cookie").contains("Max-Age=60; HttpOnly"));

    site.publish([3, 4]);
    let ask = |maxvid: u32| {
        let request = client().get(site.url(&format!("/backend.php?maxvid={maxvid}")));
        Answer::of(request.header("cookie", format!("other=1; {cookie}")))
    };
    let row = ask(0).await;
    assert_eq!(row.json()["vid"], 3, "what came in the pause");
    assert!(row.header("set-cookie").starts_with("doorcast_cursor=; Max-Age=0"), "it has done its work");
    assert_eq!(ask(3).await.json()["vid"], 4, "a page that has a row knows better");
    assert_eq!(ask(4).await.body, "");
}

// A page that is cut in the middle of a row asks again, and gets it.
#[tokio::test]
async fn client_cut_in_mid_response_loses_nothing() {
    let site = Site::start().await;
    site.publish([1, 2]);
    let mut raw = Raw::get(&site, "/backend.php?maxvid=1").await;
    raw.until("\"vid\":").await.unwrap();
    drop(raw);
    assert_eq!(vid(&site, 1).await, 2);
}

// What can't be understood is refused with a reason; an id that is ahead waits for the next row.
#[tokio::test]
async fn strange_maxvids() {
    let site = Site::start().await;
    site.publish([1]);
    Answer::get(&site, "/backend.php?maxvid=x").await.is_error(400, "bad_since");
    let mut keys = 2..;
    let publishing = async {
        loop {
            site.publish(keys.next());
            site.state().await;
        }
    };
    let ahead = tokio::select! {
        ahead = vid(&site, 300) => ahead,
        () = publishing => unreachable!(),
    };
    assert!(ahead.as_i64().unwrap() >= 2);
}
