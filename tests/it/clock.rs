//! A day at a time, on a clock that is paused: it goes on when everybody waits.

use std::time::Duration;

use doorcast::feed::Limits;
use tokio::{io::AsyncWriteExt, net::TcpSocket, time::Instant};

use crate::site::{Events, Site, client, swipe, within};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(start_paused = true)]
async fn a_day_of_silence_brings_a_ping_every_fifteen_seconds_and_each_is_a_cursor() {
    let site =
        Site::with(doorcast::http::Settings::default(), Limits { rows: 50, ..Limits::default() }).await;
    let mut events = Events::open(&site, "/events?doorno=2").await;
    assert!(events.next().await.unwrap().retry.is_some());
    assert_eq!(events.next().await.unwrap().name, "hello");
    let start = Instant::now();
    let (mut head, mut pings) = (0, 0_u32);
    while start.elapsed() < DAY {
        let ping = events.next().await.unwrap();
        pings += 1;
        assert_eq!((&*ping.name, ping.id), ("ping", Some(format!("1-{head}"))));
        assert_eq!(start.elapsed().as_secs(), u64::from(pings) * 15);
        if pings % 7 == 0 {
            // At another door: it says nothing to this client, and takes its cursor along.
            head += 1;
            site.publish([head]);
        }
    }
    assert_eq!(pings, 24 * 60 * 4);
    site.publish_row(1, swipe(head + 1, 2, "Y"));
    assert_eq!(events.next_but_ping().await.id, Some(format!("1-{}", head + 1)));
    let state = site.state().await;
    assert_eq!((&state["clients"]["events"], &state["gaps"]), (&1.into(), &0.into()), "{state}");
    assert_eq!(state["feed"]["rows"], 50);
}

#[tokio::test(start_paused = true)]
async fn over_a_day_a_poll_ends_a_little_before_its_limit_and_never_at_the_same_time() {
    let site = Site::start().await;
    site.publish([7]);
    let client = client();
    let mut cursor = "1-7".to_owned();
    let (start, mut polls, mut ends) = (Instant::now(), 0, std::collections::HashSet::new());
    while start.elapsed() < DAY {
        let began = Instant::now();
        let request = client.get(site.url(&format!("/poll?since={cursor}&timeout=25"))).send();
        let answer = within("an answer", request).await.unwrap().text().await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["events"].as_array().unwrap().len(), 0);
        assert!(answer["gap"].is_null(), "{answer}");
        cursor = answer["next"].as_str().unwrap().to_owned();
        let waited = began.elapsed();
        assert!((22_500..=25_050).contains(&waited.as_millis()), "{waited:?}");
        ends.insert(waited.as_millis());
        polls += 1;
    }
    assert_eq!(cursor, "1-7");
    assert!((3_450..=3_850).contains(&polls), "{polls}");
    assert!(ends.len() > 500, "{} different times", ends.len());
    assert_eq!(site.state().await["clients"]["poll"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_poll_waits_for_a_second_at_least_and_a_minute_at_most() {
    let site = Site::start().await;
    for (timeout, millis) in [("0", 900..=1_050), ("0.5", 900..=1_050), ("86400", 54_000..=60_050)] {
        let began = Instant::now();
        let request = client().get(site.url(&format!("/poll?timeout={timeout}"))).send();
        assert_eq!(within("an answer", request).await.unwrap().status(), 200);
        assert!(millis.contains(&began.elapsed().as_millis()), "{timeout}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_page_waits_a_day_with_a_space_every_fifteen_seconds() {
    let site = Site::start().await;
    let request = client().get(site.url("/backend.php?maxvid=0")).send();
    let mut answer = within("the head", request).await.unwrap();
    let start = Instant::now();
    for spaces in 1..=24 * 60 * 4 {
        let chunk = within("a space", answer.chunk()).await.unwrap().unwrap();
        assert_eq!(chunk, " ");
        assert_eq!(start.elapsed().as_secs(), spaces * 15);
    }
    site.publish([9]);
    let row = within("the row", answer.chunk()).await.unwrap().unwrap();
    assert!(row.starts_with(b"{\"vid\":9,"), "{row:?}");
    assert!(within("the end", answer.chunk()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_after_thirty_seconds_and_not_before() {
    let limits = Limits { rows: 100_000, bytes: 1 << 30, ..Limits::default() };
    let site = Site::with(doorcast::http::Settings::default(), limits).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut silent = socket.connect(site.addr).await.unwrap();
    silent.write_all(b"GET /events?since=1-0 HTTP/1.1\r\nHost: doorcast\r\n\r\n").await.unwrap();
    site.until_clients("events", 1).await;
    // More than the system takes for it.
    site.publish(1..=80_000);
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(site.state().await["clients"]["events"], 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(site.state().await["clients"]["events"], 0);
}
