//! The demo's page, by the keyboard: a press of a button is a swipe, and the screen beside it greets.

use std::process::Stdio;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::{
    browser::{Browser, ENTER, TAB},
    deadline::deadline,
    servers, site,
};

const WATCH: &str = "(function (name) {
    function tell() { document.documentElement.setAttribute('data-greeted', name.textContent); }
    new MutationObserver(tell).observe(name, {childList: true});
    tell();
  }(document.querySelector('iframe').contentDocument.getElementById('name')))";

#[tokio::test]
async fn a_press_on_the_demos_page_is_greeted_beside_it() {
    let server = &servers::all().await[0];
    let mut demo = Command::new(env!("CARGO_BIN_EXE_doorcast"))
        .args(["demo", "--listen", "127.0.0.1:0", "--rate", "1", "--server"])
        .arg(server.binary().path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let url = deadline(async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the demo starts");
            if let Some((_, url)) = line.split_once("who is greeted: ") {
                return url.to_owned();
            }
        }
    })
    .await;
    let browser = Browser::start().await;
    browser.open(&url).await;
    browser.eval(WATCH).await;
    deadline(async {
        let status = url.replace("demo.html", "api/status");
        loop {
            let answer = site::client().get(&status).send().await.unwrap().text().await.unwrap();
            if serde_json::from_str::<Value>(&answer).unwrap()["clients"]["screen_events"] == 1 {
                return;
            }
        }
    })
    .await;
    let focused = "document.activeElement.textContent";
    while browser.eval(focused).await != "王建国" {
        browser.press(&TAB.to_string()).await;
    }
    browser.press(&ENTER.to_string()).await;
    browser.until("document.documentElement.getAttribute('data-greeted') === '王建国'").await;

    let id = demo.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(deadline(demo.wait()).await.unwrap().success());
}
