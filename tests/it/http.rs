//! The HTTP side, rule by rule, over real sockets. No database: see [`crate::site`].

use crate::site::{Events, Site, card, client, time, within};

async fn get_json(site: &Site, path: &str) -> serde_json::Value {
    let answer = within(path, client().get(site.url(path)).send()).await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
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
    assert_eq!(
        row.data,
        format!(
            r#"{{"vid":300005,"doorno":1,"rfsim":"{}","optime":"{}","ynopen":"Y"}}"#,
            card(300005),
            time(300005)
        )
    );
}

// A poll answers with the rows after an id, and the id to go on from.
#[tokio::test]
async fn a_poll_goes_on_from_next() {
    let site = Site::start().await;
    site.publish([1, 2, 3]);
    let first = get_json(&site, "/poll?since=1-1&limit=1").await;
    assert_eq!(first["next"], "1-2");
    assert_eq!(first["events"][0]["id"], "1-2");
    assert_eq!(first["events"][0]["row"]["vid"], 2);
    assert!(first["gap"].is_null());
    let second = get_json(&site, "/poll?since=1-2").await;
    assert_eq!(second["next"], "1-3");
}
