//! Slow, hostile and too many clients; and the end.

use std::time::Duration;

use doorcast::{feed::Limits, http::Settings};
use tokio::{net::TcpSocket, time::Instant};

use super::{Answer, Raw, get_json, ids};
use crate::site::{Events, Site, client, encode, within};

/// What the process holds, in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// A connection that never reads, with a small window.
async fn never_reads(site: &Site) -> Raw {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut raw = Raw(socket.connect(site.addr).await.unwrap());
    raw.send(b"GET /events HTTP/1.1\r\nhost: door\r\n\r\n").await;
    raw
}

// A client that never reads costs no memory, holds nobody up, and is ended.
#[tokio::test]
async fn slow_client_holds_nobody_up() {
    let settings = Settings { write_stall: Duration::from_secs(2), ..Settings::default() };
    let limits = Limits { bytes: 4 << 20, ..Limits::default() };
    let site = Site::with(settings, limits).await;
    let stalled = never_reads(&site).await;
    let mut reader = Events::open(&site, "/events").await;
    site.until_clients("events", 2).await;
    reader.next_but_ping().await;
    reader.next_but_ping().await;
    let before = resident_bytes();
    let long = format!("\"{}\"", "x".repeat(100_000));
    for key in 1..=1_000 {
        // 100 MB in all: far more than sockets hold.
        site.feed.publish(1, None, vec![encode(key, &[("id", key.to_string()), ("text", long.clone())])]);
        assert_eq!(reader.ids(1).await, [format!("1-{key}")]);
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for one client that does not read");
    site.until_clients("events", 1).await;
    drop(stalled);
}

// What one connection sends can't harm another, whatever it is.
#[tokio::test]
async fn garbage_on_one_connection_harms_no_other() {
    let site = Site::start().await;
    let mut reader = Events::open(&site, "/events").await;
    reader.next().await.unwrap();
    reader.next().await.unwrap();
    let mut noise: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    noise.extend(b"\r\n\r\n");
    let endless_header = [b"GET /events HTTP/1.1\r\nx: ".as_slice(), &[b'a'; 200_000]].concat();
    let many_headers = [b"GET /events HTTP/1.1\r\n".as_slice(), &b"a: b\r\n".repeat(2_000), b"\r\n"].concat();
    let samples: [&[u8]; 9] = [
        &noise,
        &endless_header,
        &many_headers,
        b"\r\n\r\n\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nhost: door\r\n\r\n",
        b"GET /events?since=%ff%fe%00&%=%&&&=== HTTP/1.1\r\nhost: door\r\nconnection: close\r\n\r\n",
        b"POST /poll HTTP/1.1\r\nhost: door\r\ntransfer-encoding: chunked\r\n\r\nzzzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for sample in samples {
        let mut raw = Raw::open(&site).await;
        // The server may well hang up before it has all.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.0, sample).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut raw.0).await;
        raw.rest().await;
    }
    site.publish([1]);
    assert_eq!(reader.ids(1).await, ["1-1"]);
    assert_eq!(ids(&get_json(&site, "/poll?since=1-0").await), ["1-1"]);
}

// Of a request that has not begun no more is kept than a browser ever sends.
#[tokio::test]
async fn a_request_head_beyond_its_limit_is_refused() {
    let site = Site::start().await;
    for (bytes, status) in [(20_000, 200), (50_000, 431)] {
        let mut raw = Raw::open(&site).await;
        let cookie = "x".repeat(bytes);
        let head =
            format!("GET /livez HTTP/1.1\r\nhost: door\r\nconnection: close\r\ncookie: {cookie}\r\n\r\n");
        // The server may hang up before it has all.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.0, head.as_bytes()).await;
        let answer = raw.until("\r\n\r\n").await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}: {answer}");
    }
}

// A client cut in the middle of a row comes back with the last whole one, and misses nothing.
#[tokio::test]
async fn client_cut_in_mid_response_loses_nothing() {
    let site = Site::start().await;
    site.publish(1..=500);
    let mut raw = Raw::get(&site, "/events?since=1-100").await;
    let text = raw.until("id: 1-250\ndata: {\"vid\"").await.unwrap();
    drop(raw);
    let (whole, _) = text.rsplit_once("\n\n").unwrap();
    let last = whole.lines().rfind(|line| line.starts_with("id: ")).unwrap().trim_start_matches("id: ");
    let request = client().get(site.url("/events?since=1-100")).header("last-event-id", last);
    let mut events = Events::send(request).await;
    let last: i32 = last.trim_start_matches("1-").parse().unwrap();
    let expected: Vec<String> = (last + 1..=500).map(|key| format!("1-{key}")).collect();
    assert_eq!(events.ids(expected.len()).await, expected);

    let mut raw = Raw::get(&site, "/poll?since=1-100").await;
    raw.until("1-150").await.unwrap();
    drop(raw);
    assert_eq!(ids(&get_json(&site, "/poll?since=1-100").await)[0], "1-101");
}

// A client that has gone is noticed, also while it waits for nothing to come.
#[tokio::test]
async fn a_client_that_has_gone_is_counted_out() {
    let site = Site::start().await;
    let mut raw = [
        Raw::get(&site, "/events").await,
        Raw::get(&site, "/poll").await,
        Raw::get(&site, "/backend.php?maxvid=0").await,
    ];
    for kind in ["events", "poll", "old_page"] {
        site.until_clients(kind, 1).await;
    }
    raw[0].until("hello").await.unwrap();
    drop(raw);
    for kind in ["events", "poll", "old_page"] {
        site.until_clients(kind, 0).await;
    }
}

// A connection that sends nothing, or half a request, is ended.
#[tokio::test]
async fn a_silent_connection_is_ended() {
    let settings = Settings { header_read: Duration::from_millis(100), ..Settings::default() };
    let site = Site::with(settings, Limits::default()).await;
    let mut silent = Raw::open(&site).await;
    let mut half = Raw::open(&site).await;
    half.send(b"GET /events HTTP/1.1\r\nhos").await;
    let mut idle = Raw::get(&site, "/livez").await;
    silent.rest().await;
    half.rest().await;
    assert!(idle.rest().await.starts_with("HTTP/1.1 200"));
}

// Beyond the limit an event stream is told to come back, others get 503; health still answers.
#[tokio::test]
async fn too_many_clients_are_told_so() {
    let settings = Settings { max_clients: 2, ..Settings::default() };
    let site = Site::with(settings, Limits::default()).await;
    let mut inside = [Raw::get(&site, "/events").await, Raw::get(&site, "/events").await];
    for stream in &mut inside {
        stream.until("hello").await.unwrap();
    }
    let mut events = Events::open(&site, "/events").await;
    assert_eq!(events.response.status(), 200);
    assert_eq!(events.response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert!((15_000..=45_000).contains(&events.next().await.unwrap().retry.unwrap()));
    assert_eq!(events.next().await, None);
    for path in ["/poll", "/backend.php?maxvid=0", "/"] {
        Answer::get(&site, path).await.is_error(503, "overloaded");
    }
    assert_eq!(Answer::get(&site, "/livez").await.status, 200);
    assert_eq!(site.state().await["turned_away"], 6);
    drop(inside);
    within("room", async { while Answer::get(&site, "/poll?last=1&timeout=1").await.status != 200 {} }).await;
}

// Those that are told so make room for the next: the connection ends with the answer, or soon without a request.
#[tokio::test(start_paused = true)]
async fn a_connection_beyond_the_limit_does_not_stay() {
    const HOUR: Duration = Duration::from_secs(3600);
    let settings = Settings { max_clients: 0, header_read: HOUR, ..Settings::default() };
    let site = Site::with(settings, Limits::default()).await;
    let mut asks = Raw::get(&site, "/livez").await;
    assert!(asks.until("alive").await.unwrap().contains("connection: close"));
    let mut silent = Raw::open(&site).await;
    assert_eq!(silent.rest().await, "");
}

// A flood of connections that send nothing is bounded, and passes.
#[tokio::test]
async fn a_flood_of_connections_passes() {
    let settings = Settings { max_clients: 20, ..Settings::default() };
    let site = Site::with(settings, Limits::default()).await;
    let mut stream = Raw::get(&site, "/events").await;
    stream.until("hello").await.unwrap();
    let mut inside = Raw::get(&site, "/livez").await;
    inside.until("alive").await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..400 {
        flood.push(Raw::open(&site).await);
    }
    within("the flood", async {
        loop {
            inside.send(b"GET /metrics HTTP/1.1\r\nhost: door\r\n\r\n").await;
            let metrics = inside.until("doorcast_feed_rows ").await.unwrap();
            let value = |name: &str| {
                let value = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                value.trim().parse::<usize>().unwrap()
            };
            let open = value("doorcast_connections ");
            assert!(open <= 20 + 256, "{open} connections");
            if value("doorcast_connections_turned_away_total ") == 382 {
                break;
            }
        }
    })
    .await;
    // Those beyond all limits are closed without a word.
    flood.pop().unwrap().rest().await;
    site.publish([1]);
    stream.until("id: 1-1\n").await.unwrap();
    drop(flood);
    within("room", async {
        loop {
            if let Ok(answer) = client().get(site.url("/livez")).send().await {
                break assert_eq!(answer.status(), 200);
            }
        }
    })
    .await;
}

// At the end streams are told when to come back, what waits is answered, and idle connections are closed.
#[tokio::test]
async fn shutdown_ends_streams_with_retry() {
    const HOUR: Duration = Duration::from_secs(3600);
    // None of them runs out.
    let settings = Settings { drain: HOUR, header_read: HOUR, ..Settings::default() };
    let site = Site::with(settings, Limits::default()).await;
    site.publish([1]);
    let mut events = Events::open(&site, "/events").await;
    events.next().await.unwrap();
    events.next().await.unwrap();
    let mut idle = Raw::get(&site, "/livez").await;
    idle.until("alive").await.unwrap();
    let (poll, old_page, ()) = tokio::join!(
        get_json(&site, "/poll?since=1-1"),
        Answer::get(&site, "/backend.php?maxvid=1"),
        async {
            site.until_clients("poll", 1).await;
            site.until_clients("old_page", 1).await;
            site.stop();
        }
    );
    assert_eq!((ids(&poll).len(), &poll["next"]), (0, &"1-1".into()));
    assert_eq!((old_page.status.as_u16(), &*old_page.body), (200, ""));
    assert!((4_000..=10_000).contains(&events.next().await.unwrap().retry.unwrap()));
    assert_eq!(events.next().await, None);
    idle.rest().await;
    site.stopped().await.unwrap();
}

// Nor does what waits with a limit wait for that, whether or not there is a feed yet.
#[tokio::test(start_paused = true)]
async fn shutdown_answers_what_waits_before_its_limit() {
    const HOUR: Duration = Duration::from_secs(3600);
    for is_ready in [true, false] {
        let settings = Settings { drain: HOUR, old_page_timeout: Some(HOUR), ..Settings::default() };
        let site = Site::catching_up(settings, Limits::default()).await;
        site.publish([1]);
        if is_ready {
            site.feed.set_ready();
        }
        let begun = Instant::now();
        let (poll, old_page, ()) = tokio::join!(
            get_json(&site, "/poll?since=1-1&timeout=60"),
            Answer::get(&site, "/backend.php?maxvid=1"),
            async {
                site.until_clients("poll", 1).await;
                site.until_clients("old_page", 1).await;
                site.stop();
            }
        );
        assert_eq!((ids(&poll).len(), &poll["next"]), (0, &"1-1".into()));
        assert_eq!((old_page.status.as_u16(), &*old_page.body), (200, ""));
        site.stopped().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(50), "{is_ready}: {:?}", begun.elapsed());
    }
}

// While the last streams end nobody is let in any more.
#[tokio::test]
async fn shutdown_refuses_new_connections_at_once() {
    const HOUR: Duration = Duration::from_secs(3600);
    let settings = Settings { drain: HOUR, write_stall: HOUR, ..Settings::default() };
    let site = Site::with(settings, Limits::default()).await;
    let stalled = never_reads(&site).await;
    site.until_clients("events", 1).await;
    let long = format!("\"{}\"", "x".repeat(1_000_000));
    for key in 1..=20 {
        site.feed.publish(1, None, vec![encode(key, &[("id", key.to_string()), ("text", long.clone())])]);
    }
    site.stop();
    within("a refusal", async { while tokio::net::TcpStream::connect(site.addr).await.is_ok() {} }).await;
    drop(stalled);
    site.stopped().await.unwrap();
}

// A client that does not read can't put off the end.
#[tokio::test]
async fn shutdown_does_not_wait_for_a_client_that_never_reads() {
    let (drain, write_stall) = (Duration::from_millis(100), Duration::from_secs(3600));
    let settings = Settings { drain, write_stall, ..Settings::default() };
    let site = Site::with(settings, Limits::default()).await;
    let _stalled = never_reads(&site).await;
    site.until_clients("events", 1).await;
    let long = format!("\"{}\"", "x".repeat(1_000_000));
    for key in 1..=20 {
        site.feed.publish(1, None, vec![encode(key, &[("id", key.to_string()), ("text", long.clone())])]);
    }
    site.stopped().await.unwrap();
}
