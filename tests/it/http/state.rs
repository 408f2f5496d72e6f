//! `/livez`, `/readyz`, `/api/status` and `/metrics`.

use doorcast::{feed::Limits, http::Settings, status::Link};
use serde_json::json;

use super::{Answer, get_json};
use crate::site::{Events, Site};

// Ready means that rows arrive promptly; alive is always true.
#[tokio::test]
async fn ready_only_while_following() {
    let site = Site::catching_up(Settings::default(), Limits::default()).await;
    for link in [Link::Connecting, Link::CatchingUp, Link::Blocked] {
        site.status.update(|source| source.link = link);
        Answer::get(&site, "/readyz").await.is_error(503, "not_ready");
        assert_eq!(Answer::get(&site, "/livez").await.status, 200);
    }
    site.status.update(|source| source.problem = Some("GRANT SELECT ON door.vdooropen".into()));
    assert!(Answer::get(&site, "/readyz").await.body.contains("GRANT SELECT"));
    site.status.update(|source| source.link = Link::Following);
    assert_eq!(get_json(&site, "/readyz").await, json!({"ready": true}));
}

// The state names the link, the feed and the clients.
#[tokio::test]
async fn the_state_is_told_as_json() {
    let site = Site::start().await;
    site.publish([300_005, 300_006]);
    site.status.update(|source| source.position = Some("binlog.000007:1234".into()));
    let mut events = Events::open(&site, "/events").await;
    events.next().await.unwrap();
    let state = get_json(&site, "/api/status").await;
    assert_eq!(state["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&state["link"], &state["table"]), (&json!("following"), &json!("door.vdooropen")));
    assert_eq!(state["position"], "binlog.000007:1234");
    let clients = json!({"events": 1, "poll": 0, "old_page": 0, "screen_events": 0, "screen_poll": 0, "connections": 2});
    assert_eq!(state["clients"], clients);
    let feed = &state["feed"];
    assert_eq!((&feed["head"], &feed["oldest"]), (&json!("1-300006"), &json!("1-300005")));
    assert_eq!((&feed["rows"], &feed["ready"]), (&json!(2), &json!(true)));
}

// Metrics are in Prometheus's format, without a value of any row.
#[tokio::test]
async fn the_state_is_told_as_metrics() {
    let site = Site::start().await;
    site.publish([300_005]);
    site.status.rows.add(1);
    site.status.update(|source| source.last_event_ms = Some(1_795_000_000_500));
    let answer = Answer::get(&site, "/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "# TYPE doorcast_rows_total counter",
        "doorcast_rows_total 1",
        "doorcast_link_state{state=\"following\"} 1",
        "doorcast_link_state{state=\"blocked\"} 0",
        "doorcast_last_event_timestamp_seconds 1795000000.5",
        "doorcast_last_heartbeat_timestamp_seconds 0",
        "doorcast_clients{kind=\"old_page\"} 0",
        "doorcast_feed_rows 1",
    ] {
        assert!(answer.body.lines().any(|it| it == line), "{line} is missing in\n{}", answer.body);
    }
    for line in answer.body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("doorcast_") && value.parse::<f64>().is_ok(), "{line}");
    }
}
