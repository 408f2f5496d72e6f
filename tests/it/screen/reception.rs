//! `/reception/api/*`.

use std::io::Cursor;

use doorcast::people::UPLOAD_BYTES;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{HEADER, Lobby, NOBODY, WANG, name};
use crate::site::{client, within};

async fn send(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = within("an answer", request.send()).await.unwrap();
    let status = response.status();
    let body = response.text().await.unwrap();
    (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("no JSON: {body}")))
}

async fn done(request: reqwest::RequestBuilder) -> Value {
    let (status, answer) = send(request).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[track_caller]
fn is_error((status, answer): (StatusCode, Value), expected: u16, code: &str) -> Value {
    assert_eq!((status.as_u16(), &answer["error"]["code"]), (expected, &json!(code)), "{answer}");
    answer["error"].clone()
}

async fn unknown(lobby: &Lobby, count: usize) -> Vec<Value> {
    within("unknown cards", async {
        loop {
            let unknown = lobby.get("unknown").await["unknown"].take();
            if unknown.as_array().is_some_and(|cards| cards.len() >= count) {
                return unknown.as_array().unwrap().clone();
            }
        }
    })
    .await
}

fn audit(lobby: &Lobby) -> Vec<Value> {
    let text = std::fs::read_to_string(lobby.folder.path().join("people.csv.audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn saved(lobby: &Lobby) -> String {
    std::fs::read_to_string(lobby.file()).unwrap()
}

// Swipe to enrol: a card that nobody has is swiped, chosen by its handle, and greeted from then on.
#[tokio::test]
async fn a_swiped_card_is_welcomed() {
    let lobby = Lobby::with_wang().await;
    let mut screen = lobby.screen("/screen/events?doorno=3").await;
    lobby.swipe(1, 1, "AAAABBBBCCCCDDDD");
    lobby.swipe(2, 2, NOBODY);
    lobby.swipe(3, 1, WANG);
    lobby.swipe(4, 3, &NOBODY.to_lowercase());
    let cards = within("both swipes", async {
        loop {
            let cards = unknown(&lobby, 2).await;
            if cards[0]["times"] == 2 {
                return cards;
            }
        }
    })
    .await;
    assert_eq!(cards.len(), 2);
    assert_eq!((&cards[0]["card"], &cards[0]["door"]), (&json!("00FF…AA99"), &json!("3")));
    assert_eq!(cards[1]["card"], "AAAA…DDDD");
    let welcome = json!({"action": "welcome", "handle": cards[0]["handle"],
        "person": {"name": "李 & <b>", "doors": ["3", "4"], "priority": 2, "lang": "en"}});
    let person = done(lobby.post("people", &welcome)).await["person"].take();
    assert_eq!((&person["name"], &person["doors"]), (&json!("李 & <b>"), &json!(["3", "4"])));
    assert_eq!((&person["card"], &person["today"]), (&json!("00FF…AA99"), &json!(true)));
    lobby.swipe(5, 3, NOBODY);
    assert_eq!(name(&screen.next_but_ping().await), "李 & <b>");
    assert_eq!(lobby.get("unknown").await["unknown"].as_array().unwrap().len(), 1);
    is_error(send(lobby.post("people", &welcome)).await, 409, "card_taken");
    lobby.stopped().await;
}

// What a receptionist does ends up in the file, for Excel to open, and the file before is kept.
#[tokio::test]
async fn edits_are_written_to_the_file() {
    let csv = format!("note,RFSIM,name,valid_to\r\n\"x, y\",{WANG},王小明,2026/1/5\r\n");
    let lobby = Lobby::with_file(Some(csv.as_bytes())).await;
    let wang = lobby.get("people").await["people"][0].take();
    assert_eq!(
        (&wang["valid_to"], &wang["lang"], &wang["photo"]),
        (&json!("2026-01-05"), &json!(""), &json!(""))
    );
    let edit = json!({"action": "edit", "ref": wang["ref"],
        "person": {"name": "王大明", "valid_to": "", "message": "你好,\n{name}"}});
    let person = done(lobby.post("people", &edit)).await["person"].take();
    assert_eq!(
        (&person["name"], &person["valid_to"], &person["ref"]),
        (&json!("王大明"), &json!(""), &wang["ref"])
    );
    let expected = format!(
        "\u{feff}note,RFSIM,name,valid_to,message\r\n\"x, y\",{WANG},王大明,,\"你好,\n{{name}}\"\r\n"
    );
    assert_eq!(saved(&lobby), expected);
    let before = std::fs::read(lobby.folder.path().join("people.csv.bak")).unwrap();
    assert_eq!(before, csv.as_bytes());

    let add = json!({"action": "add", "card": " 0012345678901234 ", "person": {"name": "Ann"}});
    let ann = done(lobby.post("people", &add)).await["person"].take();
    // Excel leaves such an id as it is.
    assert!(saved(&lobby).ends_with("\r\n,\"=\"\"0012345678901234\"\"\",Ann,,\r\n"), "{}", saved(&lobby));
    assert_eq!(lobby.get("people?q=aN").await["people"], json!([ann]));
    assert_eq!(lobby.get("people?q=0012345678901234").await["total"], 1);
    assert_eq!(lobby.get("people?q=0012").await["total"], 0);

    let delete = json!({"action": "delete", "ref": ann["ref"]});
    assert_eq!(done(lobby.post("people", &delete)).await, json!({"person": null}));
    assert_eq!(saved(&lobby), expected);
    is_error(send(lobby.post("people", &delete)).await, 404, "unknown_person");
    assert_eq!(lobby.site.state().await["people"]["people"], 1);
    // Nothing else is left in the folder.
    let mut files: Vec<_> =
        std::fs::read_dir(lobby.folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["people.csv", "people.csv.audit.jsonl", "people.csv.bak"]);
}

// Every edit is on record with who, when and what, and without a card.
#[tokio::test]
async fn every_edit_is_on_record() {
    let lobby = Lobby::with_wang().await;
    let reference = lobby.get("people").await["people"][0]["ref"].take();
    let edit = json!({"action": "edit", "ref": reference, "person": {"title": "教授", "name": "王小明"}});
    done(lobby.post("people", &edit).header("x-forwarded-for", "10.0.0.7")).await;
    done(lobby.post("people", &json!({"action": "add", "card": NOBODY, "person": {"name": "Ann"}}))).await;
    done(lobby.post("people", &json!({"action": "delete", "ref": reference}))).await;
    is_error(
        send(lobby.post("people", &json!({"action": "add", "card": "5", "person": {}}))).await,
        400,
        "bad_person",
    );
    let lines = audit(&lobby);
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["what"], &lines[0]["card"]), (&json!("edit"), &json!("00A1…F607")));
    assert_eq!(lines[0]["changed"], json!({"title": ["博士", "教授"]}));
    assert_eq!(lines[0]["who"], "10.0.0.7 by 127.0.0.1");
    assert_eq!((&lines[1]["what"], &lines[1]["changed"]), (&json!("add"), &json!({"name": ["", "Ann"]})));
    assert_eq!((&lines[2]["what"], &lines[2]["name"]), (&json!("delete"), &json!("王小明")));
    lines[0]["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let text = format!("{lines:?}");
    assert!(!text.contains(WANG) && !text.contains(NOBODY));
}

// A cell that would spoil the file is refused, with its column, and nothing is written.
#[tokio::test]
async fn bad_cells_are_refused() {
    let lobby = Lobby::with_wang().await;
    let before = saved(&lobby);
    let reference = lobby.get("people").await["people"][0]["ref"].take();
    for (column, value) in [
        ("name", json!("")),
        ("name", json!("a".repeat(101))),
        ("name", json!("=HYPERLINK(1)")),
        ("title", json!("@x")),
        ("valid_from", json!("31/12/2026")),
        ("priority", json!(5000)),
        ("lang", json!("fr")),
        ("photo", json!("../people.csv")),
        ("message", json!("\u{7}")),
    ] {
        let edit = json!({"action": "edit", "ref": reference, "person": {column: value}});
        let error = is_error(send(lobby.post("people", &edit)).await, 400, "bad_person");
        assert_eq!(error["column"], column);
    }
    let empty = json!({"action": "add", "card": " ", "person": {"name": "Ann"}});
    assert_eq!(is_error(send(lobby.post("people", &empty)).await, 400, "bad_person")["column"], "rfsim");
    for body in [json!({}), json!({"action": "shred"}), json!({"action": "edit", "ref": 1, "person": {}})] {
        is_error(send(lobby.post("people", &body)).await, 400, "bad_body");
    }
    assert_eq!(saved(&lobby), before);
    assert!(!lobby.folder.path().join("people.csv.audit.jsonl").exists());
}

// A file that somebody is mending is not written over; nor is one that has gone.
#[tokio::test]
async fn a_bad_file_is_not_written_over() {
    let lobby = Lobby::with_wang().await;
    let reference = lobby.get("people").await["people"][0]["ref"].take();
    let edit = json!({"action": "edit", "ref": reference, "person": {"name": "x"}});
    let bad = format!("{HEADER}\n{WANG},,,,,,,,,\n");
    lobby.write(bad.as_bytes());
    let error = is_error(send(lobby.post("people", &edit)).await, 409, "people_file");
    assert!(error["message"].as_str().unwrap().contains("line 2, name"));
    assert_eq!(saved(&lobby), bad);
    std::fs::remove_file(lobby.file()).unwrap();
    is_error(send(lobby.post("people", &edit)).await, 409, "people_file");
    assert!(!lobby.file().exists());
}

// An edit goes into the file as it is now: what somebody saved a moment ago stays.
#[tokio::test]
async fn an_edit_keeps_what_was_just_saved() {
    let lobby = Lobby::with_wang().await;
    let reference = lobby.get("people").await["people"][0]["ref"].take();
    lobby.write(format!("{HEADER}\n1,Ann,,,,,,,,\n{WANG},王小明,,,,,,,,\n").as_bytes());
    done(lobby.post("people", &json!({"action": "edit", "ref": reference, "person": {"lang": "en"}}))).await;
    assert!(saved(&lobby).contains("1,Ann"));
    assert_eq!(lobby.get("people").await["total"], 2);
}

// The first person makes the file.
#[tokio::test]
async fn the_first_person_makes_the_file() {
    let lobby = Lobby::with_file(None).await;
    done(lobby.post("people", &json!({"action": "add", "card": WANG, "person": {"name": "王小明"}}))).await;
    assert_eq!(saved(&lobby), format!("\u{feff}{HEADER}\r\n{WANG},王小明,,,,,,,,\r\n"));
    lobby.until("one person", |people| people["people"] == 1 && people["problems"] == json!([])).await;
}

// Another site's page can neither read nor change anything, and the reception is there only if asked for.
#[tokio::test]
async fn requests_of_other_sites_are_refused() {
    let lobby = Lobby::with_wang().await;
    let add = json!({"action": "add", "card": "5", "person": {"name": "Eve"}});
    for path in ["people", "unknown", "screens", "nothing"] {
        let bare = client().get(lobby.site.url(&format!("/reception/api/{path}")));
        is_error(send(bare).await, 403, "cross_site");
    }
    for (name, value) in
        [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "evil.example:8080")]
    {
        is_error(send(lobby.post("people", &add).header(name, value)).await, 403, "cross_site");
    }
    let form =
        lobby.request(Method::POST, "people").header("content-type", "text/plain").body(add.to_string());
    is_error(send(form).await, 415, "bad_type");
    let own = format!("http://{}", lobby.site.addr);
    let same = lobby.post("people", &add).header("origin", own).header("sec-fetch-site", "same-origin");
    done(same).await;
    is_error(send(lobby.request(Method::GET, "nothing")).await, 404, "not_found");
    is_error(send(lobby.request(Method::DELETE, "people")).await, 405, "method_not_allowed");
    let huge = json!({"action": "add", "card": "x".repeat(100_000)});
    is_error(send(lobby.post("people", &huge)).await, 413, "too_large");
}

fn picture(format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::RgbImage::from_pixel(60, 30, image::Rgb([9, 99, 199])).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

// A photo is encoded anew, stored under its hash, shown to screens, and what is no photo is refused.
#[tokio::test]
async fn photos_are_stored_and_shown() {
    let lobby = Lobby::with_wang().await;
    let upload = |kind: &'static str, body: Vec<u8>| {
        lobby.request(Method::POST, "photo").header("content-type", kind).body(body)
    };
    let stored = done(upload("image/png", picture(image::ImageFormat::Png))).await;
    let url = stored["photo_url"].as_str().unwrap();
    assert_eq!(url, format!("/photos/{}", stored["photo"].as_str().unwrap()));
    let response = client().get(lobby.site.url(url)).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"image/jpeg".parse().unwrap())
    );
    assert!(response.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    assert!(response.bytes().await.unwrap().starts_with(&[0xff, 0xd8]));

    let reference = lobby.get("people").await["people"][0]["ref"].take();
    let edit = json!({"action": "edit", "ref": reference, "person": {"photo": stored["photo"]}});
    assert_eq!(done(lobby.post("people", &edit)).await["person"]["photo_url"], url);
    let mut screen = lobby.screen("/screen/events").await;
    lobby.swipe(1, 1, WANG);
    assert_eq!(screen.next_but_ping().await.json()["photo"], url);

    is_error(send(upload("image/png", b"<svg/>".to_vec())).await, 400, "bad_photo");
    is_error(send(upload("image/svg+xml", b"<svg/>".to_vec())).await, 415, "bad_type");
    is_error(send(upload("image/jpeg", vec![0; UPLOAD_BYTES + 1])).await, 413, "too_large");
}

// Nothing but photos is read from their folder, and nothing outside it.
#[tokio::test]
async fn only_photos_are_shown() {
    let lobby = Lobby::with_wang().await;
    let photos = lobby.folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    std::fs::write(photos.join("王.jpg"), picture(image::ImageFormat::Jpeg)).unwrap();
    std::fs::write(photos.join("page.html"), "x").unwrap();
    std::fs::write(photos.join(".hidden.jpg"), "x").unwrap();
    let get = async |path: &str| client().get(lobby.site.url(path)).send().await.unwrap();
    let own = get("/photos/%E7%8E%8B.jpg").await;
    assert_eq!(
        (own.status().as_u16(), &own.headers()["cache-control"]),
        (200, &"private, no-cache".parse().unwrap())
    );
    for name in
        ["page.html", ".hidden.jpg", "none.jpg", "..%2Fpeople.csv", "..%2fphotos%2fa.jpg", "%00.jpg", ""]
    {
        assert_eq!(get(&format!("/photos/{name}")).await.status(), 404, "{name}");
    }
}

// A test is shown on the screens of its door, streams and polls alike, and moves no cursor.
#[tokio::test]
async fn a_test_reaches_the_screens_of_its_door() {
    let lobby = Lobby::with_wang().await;
    let mut one = lobby.screen("/screen/events?doorno=1,5&screen=lobby").await;
    let mut two = lobby.screen("/screen/events?doorno=2").await;
    let poll = client().get(lobby.site.url("/screen/poll?doorno=1&timeout=30"));
    let poll = tokio::spawn(async move { poll.send().await.unwrap().text().await.unwrap() });
    lobby.site.until_clients("screen_poll", 1).await;
    let reference = lobby.get("people").await["people"][0]["ref"].take();
    let answer = done(lobby.post("test", &json!({"door": 1, "ref": reference}))).await;
    assert_eq!(answer, json!({"screens": 2}));
    let event = one.next_but_ping().await;
    assert_eq!((&*event.name, &event.id), ("", &None));
    let test = event.json();
    assert_eq!((&test["name"], &test["test"], &test["door"]), (&json!("王小明"), &json!(true), &json!("1")));
    assert_eq!((&test["ref"], &test["ttl_ms"]), (&reference, &json!(20_000)));
    let polled: Value = serde_json::from_str(&within("the poll", poll).await.unwrap()).unwrap();
    assert_eq!(
        (&polled["events"][0]["id"], &polled["events"][0]["row"]["test"]),
        (&Value::Null, &json!(true))
    );
    assert_eq!(polled["next"], "1-0");

    done(lobby.post("test", &json!({"door": "2"}))).await;
    assert_eq!(name(&two.next_but_ping().await), "测试");
    lobby.swipe(1, 1, WANG);
    // Nothing of door 2's test came in between.
    assert_eq!(one.next_but_ping().await.id.as_deref(), Some("1-1"));
    is_error(send(lobby.post("test", &json!({"door": "1", "ref": "x"}))).await, 404, "unknown_person");
    is_error(send(lobby.post("test", &json!({}))).await, 400, "bad_body");
}

// A screen that polls gets a test that was made between two of its polls, once.
#[tokio::test]
async fn a_test_waits_for_a_screen_that_polls() {
    let lobby = Lobby::with_wang().await;
    let poll = async |query: &str| {
        let request = client().get(lobby.site.url(&format!("/screen/poll?doorno=1&timeout=1&{query}")));
        done(request).await
    };
    poll("since=1-0").await;
    assert_eq!(done(lobby.post("test", &json!({"door": "1"}))).await["screens"], 1);
    assert_eq!(poll("since=1-0").await["events"][0]["row"]["test"], true);
    assert_eq!(poll("since=1-0").await["events"], json!([]));
}

// The list tells which screens are there, where, and when they last said so.
#[tokio::test]
async fn screens_are_listed() {
    let lobby = Lobby::with_wang().await;
    let screen = lobby.screen("/screen/events?doorno=2,1&screen=lobby").await;
    done(client().get(lobby.site.url("/screen/poll?doorno=3&timeout=1"))).await;
    let answer = lobby.get("screens").await;
    let screens = answer["screens"].as_array().unwrap();
    assert_eq!(screens.len(), 2);
    let lobby_screen = &screens[0];
    assert_eq!((&lobby_screen["screen"], &lobby_screen["doors"]), (&json!("lobby"), &json!(["1", "2"])));
    assert_eq!((&lobby_screen["kind"], &lobby_screen["remote"]), (&json!("events"), &json!("127.0.0.1")));
    assert_eq!(lobby_screen["answered_ms"], Value::Null);
    assert_eq!((&screens[1]["kind"], &screens[1]["doors"]), (&json!("poll"), &json!(["3"])));
    let metrics = client().get(lobby.site.url("/metrics")).send().await.unwrap().text().await.unwrap();
    for door in ["1", "2", "3"] {
        assert!(metrics.contains(&format!("\ndoorcast_screens{{door=\"{door}\"}} 1\n")), "{metrics}");
    }
    let now = answer["now_ms"].as_u64().unwrap();
    for time in [&lobby_screen["since_ms"], &lobby_screen["sent_ms"], &screens[1]["answered_ms"]] {
        assert!(time.as_u64().unwrap() <= now);
    }
    // Who only asks does not answer for it.
    assert_eq!(done(client().get(lobby.site.url("/screen/known?screen=lobby"))).await, json!({"screens": 1}));
    assert_eq!(done(client().get(lobby.site.url("/screen/known?screen=other"))).await, json!({"screens": 0}));
    assert_eq!(lobby.get("screens").await["screens"][0]["answered_ms"], Value::Null);
    assert_eq!(done(client().get(lobby.site.url("/screen/alive?screen=lobby"))).await, json!({"screens": 1}));
    assert_eq!(done(client().get(lobby.site.url("/screen/alive?screen=other"))).await, json!({"screens": 0}));
    assert!(lobby.get("screens").await["screens"][0]["answered_ms"].is_u64());
    let unnamed = lobby.screen("/screen/events?doorno=7").await;
    assert_eq!(done(client().get(lobby.site.url("/screen/alive?doorno=7"))).await, json!({"screens": 1}));
    assert_eq!(done(client().get(lobby.site.url("/screen/alive?doorno=8"))).await, json!({"screens": 0}));
    drop(unnamed);
    drop(screen);
    within("the screen to be gone", async {
        while lobby.get("screens").await["screens"].as_array().unwrap().len() > 1 {}
    })
    .await;
    assert_eq!(done(client().get(lobby.site.url("/screen/known?screen=lobby"))).await, json!({"screens": 0}));
}

// A preview is what a screen would get.
#[tokio::test]
async fn a_greeting_can_be_seen_before() {
    let lobby = Lobby::with_wang().await;
    let person =
        json!({"name": "Ann", "title": "Dr", "message": "{title} {name}, door {door}", "lang": "en"});
    let preview =
        done(lobby.post("preview", &json!({"person": person, "door": "7"}))).await["greeting"].take();
    assert_eq!((&preview["message"], &preview["lang"]), (&json!("Dr Ann, door 7"), &json!("en")));
    assert!(preview["greeting"].as_str().unwrap().starts_with("Good "));
    let unnamed = lobby.post("preview", &json!({"person": {"message": "x"}}));
    is_error(send(unnamed).await, 400, "bad_person");
}
