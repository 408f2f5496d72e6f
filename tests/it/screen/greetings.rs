//! `/screen/events` and `/screen/poll`.

use std::time::Duration;

use doorcast::{http::Settings, status::now_ms};
use serde_json::{Value, json};

use super::{Lobby, NOBODY, WANG, name, optime};
use crate::site::{Events, Site, client, within};

async fn poll(lobby: &Lobby, query: &str) -> Value {
    let request = client().get(lobby.site.url(&format!("/screen/poll?{query}")));
    let response = within("an answer", request.send()).await.unwrap();
    assert_eq!(response.status(), 200);
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

// A special person's swipe becomes a greeting with everything a screen needs, and nothing else.
#[tokio::test]
async fn a_swipe_becomes_a_greeting() {
    let lobby = Lobby::with_wang().await;
    let mut screen = lobby.screen("/screen/events?doorno=1,2").await;
    lobby.swipe(7, 2, WANG);
    let event = screen.next_but_ping().await;
    assert_eq!((&*event.name, event.id.as_deref()), ("", Some("1-7")));
    let greeting = event.json();
    let keys: Vec<&str> = greeting.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "ref", "name", "title", "message", "photo", "door", "greeting", "lang", "priority", "age_ms",
        "ttl_ms", "show_ms", "sent_ms",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let said = greeting["greeting"].as_str().unwrap();
    assert!(["早上好", "上午好", "中午好", "下午好", "晚上好"].contains(&said));
    assert_eq!(greeting["message"], format!("{said}，王小明博士"));
    assert_eq!(
        (&greeting["name"], &greeting["title"], &greeting["door"], &greeting["lang"], &greeting["priority"]),
        (&json!("王小明"), &json!("博士"), &json!("2"), &json!("zh"), &json!(5))
    );
    assert_eq!((&greeting["photo"], &greeting["show_ms"]), (&Value::Null, &json!(8000)));
    let (age, ttl) = (greeting["age_ms"].as_u64().unwrap(), greeting["ttl_ms"].as_u64().unwrap());
    assert_eq!(age + ttl, 20_000);
    assert!(!event.data.contains(WANG));
    lobby.stopped().await;
}

// A person's reference is the same at each swipe, and says nothing of the card.
#[tokio::test]
async fn a_reference_stands_for_the_same_person() {
    let lobby = Lobby::with_wang().await;
    lobby.swipe(1, 1, WANG);
    lobby.swipe(2, 3, &WANG.to_lowercase());
    let answer = poll(&lobby, "since=1-0").await;
    let refs: Vec<&str> = answer["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["row"]["ref"].as_str().unwrap())
        .collect();
    assert_eq!(refs.len(), 2);
    assert_eq!(refs[0], refs[1]);
    assert!(refs[0].len() >= 16);
}

// Other people's swipes never reach a screen, by whatever way it asks; nor does anybody's card.
#[tokio::test]
async fn no_card_and_no_ordinary_swipe_reaches_a_screen() {
    let lobby = Lobby::with_wang().await;
    let mut screen = lobby.screen("/screen/events?since=1-0").await;
    for key in 1..=20 {
        lobby.swipe(key, 1, if key == 15 { WANG } else { NOBODY });
    }
    let greeting = screen.next_but_ping().await;
    assert_eq!(greeting.id.as_deref(), Some("1-15"));
    let mut all = greeting.data;
    for query in ["since=1-0", "since=earliest", "last=20", "since=1-3&limit=1", "since=1-0&doorno=1"] {
        let answer = poll(&lobby, query).await;
        assert_eq!(answer["events"].as_array().unwrap().len(), 1, "{query}");
        all += &answer.to_string();
    }
    for query in ["rfsim=00A1B2C3D4E5F607", "ynopen=Y", "optime=1", "vid=15"] {
        for path in ["/screen/events", "/screen/poll"] {
            let response = client().get(lobby.site.url(&format!("{path}?{query}"))).send().await.unwrap();
            assert_eq!(response.status(), 400, "{query}");
            all += &response.text().await.unwrap();
        }
    }
    for part in [WANG, NOBODY, "rfsim\"", "optime\""] {
        assert!(!all.to_uppercase().contains(&part.to_uppercase()), "{part} in {all}");
    }
}

// Screens get the greetings of their own doors, and people only those of theirs.
#[tokio::test]
async fn doors_divide_greetings() {
    let lobby = Lobby::with(&["1,Everywhere,,,,,,,,", "2,At2,,,,2;03,,,,"]).await;
    let mut one = lobby.screen("/screen/events?doorno=1").await;
    let mut others = lobby.screen("/screen/events?door=2&door=3").await;
    let mut all = lobby.screen("/screen/events").await;
    for (key, door, card) in
        [(1, 1, "1"), (2, 1, "2"), (3, 2, "2"), (4, 3, "2"), (5, 4, "2"), (6, 1, "1"), (7, 2, "1")]
    {
        lobby.swipe(key, door, card);
    }
    assert_eq!(one.ids(2).await, ["1-1", "1-6"]);
    assert_eq!(others.ids(3).await, ["1-3", "1-4", "1-7"]);
    assert_eq!(all.ids(5).await, ["1-1", "1-3", "1-4", "1-6", "1-7"]);
}

// A controller that uploads hours later and a row that was committed long ago greet nobody; each counts.
#[tokio::test]
async fn old_swipes_and_old_commits_are_not_greeted() {
    let lobby = Lobby::with_wang().await;
    let mut screen = lobby.screen("/screen/events").await;
    lobby.swipe_at(1, 1, WANG, now_ms() - 20_000, &optime(0));
    lobby.swipe_at(2, 1, WANG, now_ms(), &optime(3600));
    lobby.swipe_at(3, 1, WANG, now_ms() - 3_600_000, &optime(3600));
    // A wrong clock and no time at all leave the commit to judge by.
    lobby.swipe_at(4, 1, WANG, now_ms(), &optime(-3600));
    lobby.swipe_at(5, 1, WANG, now_ms(), "99999999 999999");
    lobby.swipe_at(6, 1, WANG, now_ms() - 21_000, "");
    lobby.swipe(7, 1, WANG);
    assert_eq!(screen.ids(3).await, ["1-4", "1-5", "1-7"]);
    let state = lobby.until("the counts", |people| people["greetings"] == 3).await;
    assert_eq!(
        state["suppressed"],
        json!({"old_commit": 3, "old_optime": 1, "unknown_age": 0, "other_day": 0})
    );
    assert_eq!((&state["unreadable_optime"], &state["late"]), (&json!(2), &json!(3)));
    let metrics = client().get(lobby.site.url("/metrics")).send().await.unwrap().text().await.unwrap();
    for line in [
        "doorcast_greetings_total 3",
        "doorcast_greetings_suppressed_total{reason=\"old_commit\"} 3",
        "doorcast_greetings_suppressed_total{reason=\"old_optime\"} 1",
        "doorcast_optime_unreadable_total 2",
        "doorcast_people 1",
        "doorcast_people_file_good 1",
        "doorcast_clients{kind=\"screen_events\"} 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} is missing in\n{metrics}");
    }
}

// The days of a person include the first and the last, by the site's calendar.
#[tokio::test]
async fn people_are_greeted_on_their_days() {
    let today = greeter_day(0);
    let (yesterday, tomorrow) = (greeter_day(-1), greeter_day(1));
    let lobby = Lobby::with(&[
        &format!("1,Today,,,,,{today},{today},,"),
        &format!("2,Past,,,,,,{yesterday},,"),
        &format!("3,Future,,,,,{tomorrow},,,"),
    ])
    .await;
    let mut screen = lobby.screen("/screen/events").await;
    for (key, card) in [(1, "3"), (2, "2"), (3, "1")] {
        lobby.swipe(key, 1, card);
    }
    assert_eq!(name(&screen.next_but_ping().await), "Today");
    lobby.until("the others to be counted", |people| people["suppressed"]["other_day"] == 2).await;
}

fn greeter_day(days: i32) -> jiff::civil::Date {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::get(super::zone()).unwrap());
    now.date().saturating_add(jiff::Span::new().days(days))
}

// A screen that comes back gets what it missed, as old as it is by then, and nothing that is too old.
#[tokio::test]
async fn a_screen_that_comes_back_gets_what_is_still_fresh() {
    let lobby = Lobby::with_wang().await;
    lobby.swipe(1, 1, WANG);
    lobby.swipe_at(2, 1, WANG, now_ms() - 60_000, &optime(60));
    lobby.swipe_at(3, 1, WANG, now_ms() - 8_000, &optime(8));
    lobby.swipe(4, 1, NOBODY);
    let request = client().get(lobby.site.url("/screen/events?doorno=1")).header("last-event-id", "1-1");
    let mut screen = Events::send(request).await;
    screen.next().await.unwrap();
    let hello = screen.next_but_ping().await;
    assert_eq!(
        (&*hello.name, hello.id.as_deref(), &hello.json()["head"]),
        ("hello", Some("1-1"), &json!("1-4"))
    );
    let greeting = screen.next_but_ping().await;
    assert_eq!(greeting.id.as_deref(), Some("1-3"));
    let greeting = greeting.json();
    assert!(greeting["age_ms"].as_u64().unwrap() >= 8_000, "{greeting}");
    assert!(greeting["ttl_ms"].as_u64().unwrap() <= 12_000, "{greeting}");
    // Row 2 was fresh when it was committed, so this screen missed it.
    let state = lobby.site.state().await;
    assert_eq!(state["people"]["late"], 1);
}

// The rules of the raw feed hold: pings carry the cursor on, a poll's `next` does, an old id gets a gap.
#[tokio::test]
async fn cursors_are_those_of_the_feed() {
    let settings = Settings { heartbeat: Duration::from_millis(20), ..Settings::default() };
    let csv = format!("{}\n{WANG},王小明,,,,,,,,\n", super::HEADER);
    let lobby = Lobby::with_settings(Some(csv.as_bytes()), settings, Duration::from_secs(1)).await;
    let mut screen = lobby.screen("/screen/events?doorno=1").await;
    lobby.swipe(1, 1, NOBODY);
    lobby.swipe(2, 2, WANG);
    within("a ping with the head", async {
        while screen.next().await.unwrap().id.as_deref() != Some("1-2") {}
    })
    .await;
    let answer = poll(&lobby, "since=1-0&doorno=1&timeout=1").await;
    assert_eq!(
        (&answer["next"], &answer["gap"], &answer["events"]),
        (&json!("1-2"), &Value::Null, &json!([]))
    );
    lobby.site.feed.mark_gap("for a test".into());
    let gap = within("a gap", async {
        loop {
            let event = screen.next().await.unwrap();
            if event.name == "gap" {
                break event;
            }
        }
    })
    .await;
    assert_eq!(gap.json()["after"], "1-2");
}

// Without people there is nothing, and the answer says what is missing.
#[tokio::test]
async fn without_people_there_is_nothing() {
    let site = Site::start().await;
    for path in [
        "/screen/events",
        "/screen/poll",
        "/screen/alive",
        "/screen/known",
        "/photos/a.jpg",
        "/reception/api/people",
    ] {
        let response = client().get(site.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        let body = response.text().await.unwrap();
        assert!(body.contains("--people") && body.contains("not_enabled"), "{body}");
    }
}
