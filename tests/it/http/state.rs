//! `/livez`, `/readyz`, `/api/status` and `/metrics`.

use doorcast::{
    feed::Limits,
    http::Settings,
    status::{Link, now_ms},
};
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

/// What `/metrics` says, without the help.
async fn metrics(site: &Site) -> Vec<String> {
    let answer = Answer::get(site, "/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.body.lines().filter(|line| !line.starts_with("# HELP doorcast_")).map(str::to_owned).collect()
}

// Metrics are in Prometheus's format, and each is the number that it is named after.
#[tokio::test]
async fn the_state_is_told_as_metrics() {
    let site = Site::start().await;
    site.publish([300_005, 300_006]);
    site.feed.begin_epoch(2);
    let status = &site.status;
    for (counter, number) in [
        (&status.rows, 11),
        (&status.reconnects, 12),
        (&status.gaps, 13),
        (&status.undecodable, 14),
        (&status.table_reads, 15),
        (&status.unlogged, 16),
        (&status.found_nothing, 17),
        (&status.breaks, 18),
        (&status.checkpoint_failures, 19),
    ] {
        counter.add(number);
    }
    status.update(|source| {
        source.last_event_ms = Some(1_795_000_000_500);
        source.last_heartbeat_ms = Some(1_795_000_001_250);
        source.checkpoint_saved_ms = Some(1_795_000_002_000);
    });
    let before = now_ms() as f64 / 1e3;
    let mut events = Events::open(&site, "/events").await;
    events.next().await.unwrap();
    let lines = metrics(&site).await;
    let value = |name: &str| -> f64 {
        let line = lines.iter().find(|line| line.starts_with(&format!("doorcast_{name} "))).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    // What another run has others of.
    assert!((before - value("start_time_seconds")).abs() < 60.0, "{lines:?}");
    let bytes = get_json(&site, "/api/status").await["feed"]["bytes"].as_f64().unwrap();
    assert!(bytes > 100.0, "{bytes}");
    assert!(value("tasks") >= 2.0, "{lines:?}");
    let varies = ["start_time_seconds", "tasks"].map(|name| format!("doorcast_{name} "));
    let lines: Vec<&str> = lines.iter().map(|line| &**line).collect();
    let lines: Vec<&str> =
        lines.into_iter().filter(|line| !varies.iter().any(|name| line.starts_with(name))).collect();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "# TYPE doorcast_build_info gauge
doorcast_build_info{{version=\"{version}\"}} 1
# TYPE doorcast_start_time_seconds gauge
# TYPE doorcast_link_state gauge
doorcast_link_state{{state=\"connecting\"}} 0
doorcast_link_state{{state=\"catching_up\"}} 0
doorcast_link_state{{state=\"following\"}} 1
doorcast_link_state{{state=\"blocked\"}} 0
# TYPE doorcast_last_event_timestamp_seconds gauge
doorcast_last_event_timestamp_seconds 1795000000.5
# TYPE doorcast_last_heartbeat_timestamp_seconds gauge
doorcast_last_heartbeat_timestamp_seconds 1795000001.25
# TYPE doorcast_checkpoint_saved_timestamp_seconds gauge
doorcast_checkpoint_saved_timestamp_seconds 1795000002
# TYPE doorcast_rows_total counter
doorcast_rows_total 11
# TYPE doorcast_reconnects_total counter
doorcast_reconnects_total 12
# TYPE doorcast_gaps_total counter
doorcast_gaps_total 13
# TYPE doorcast_undecodable_total counter
doorcast_undecodable_total 14
# TYPE doorcast_table_reads_total counter
doorcast_table_reads_total 15
# TYPE doorcast_unlogged_total counter
doorcast_unlogged_total 16
# TYPE doorcast_found_nothing_total counter
doorcast_found_nothing_total 17
# TYPE doorcast_breaks_total counter
doorcast_breaks_total 18
# TYPE doorcast_checkpoint_failures_total counter
doorcast_checkpoint_failures_total 19
# TYPE doorcast_clients gauge
doorcast_clients{{kind=\"events\"}} 1
doorcast_clients{{kind=\"poll\"}} 0
doorcast_clients{{kind=\"old_page\"}} 0
doorcast_clients{{kind=\"screen_events\"}} 0
doorcast_clients{{kind=\"screen_poll\"}} 0
# TYPE doorcast_connections gauge
doorcast_connections 2
# TYPE doorcast_connections_turned_away_total counter
doorcast_connections_turned_away_total 0
# TYPE doorcast_tasks gauge
# TYPE doorcast_feed_rows gauge
doorcast_feed_rows 2
# TYPE doorcast_feed_bytes gauge
doorcast_feed_bytes {bytes}
# TYPE doorcast_feed_epoch gauge
doorcast_feed_epoch 2"
    );
    assert_eq!(lines, expected.lines().collect::<Vec<_>>());
}
