//! The launcher of `packaging/kiosk`, with a program in the browser's place.

use std::{os::unix::fs::PermissionsExt, process::Stdio};

use doorcast::status::Link;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{ChildStderr, Command},
};

use super::Lobby;
use crate::site::within;

const LAUNCHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/kiosk/doorcast-kiosk");

async fn says(lines: &mut Lines<BufReader<ChildStderr>>, wanted: &str) -> String {
    within(wanted, async {
        loop {
            let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("it never said {wanted}"));
            if line.contains(wanted) {
                return line;
            }
        }
    })
    .await
}

// It starts the browser when doorcast is ready, not before; and ends it when its screen was there and is gone.
#[tokio::test]
async fn the_launcher_waits_for_doorcast_and_ends_a_dead_page() {
    let lobby = Lobby::with_wang().await;
    lobby.site.status.update(|source| source.link = Link::Connecting);
    let program = |name: &str, text: &str| {
        let path = lobby.folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    };
    let browser = program("browser", "echo \"browser $*\" >&2\nexec sleep 600\n");
    // Tells the test, too, what the launcher is told.
    let answer =
        "answer=$(PATH=${PATH#*:} exec curl \"$@\") || exit\necho \"told $answer\" >&2\necho \"$answer\"\n";
    let curl = program("curl", answer);
    let path = format!("{}:{}", curl.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let url = lobby.site.url("/screen?doorno=1&lang=en&screen=lobby");
    let mut launcher = Command::new(LAUNCHER)
        .arg(&url)
        .env("PATH", path)
        .env("HOME", lobby.folder.path())
        .env("DOORCAST_BROWSER", &browser)
        .env("DOORCAST_KIOSK_LOOK", "0.1")
        .env_remove("XDG_STATE_HOME")
        .env_remove("DISPLAY")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(launcher.stderr.take().unwrap()).lines();
    says(&mut lines, "waiting for").await;
    lobby.site.status.update(|source| source.link = Link::Following);
    let started = says(&mut lines, "browser ").await;
    assert!(started.contains("--kiosk") && started.ends_with(&url), "{started}");

    let screen = lobby.screen("/screen/events?doorno=1&screen=lobby").await;
    // More looks than it takes to end a page that is gone.
    for _ in 0..8 {
        says(&mut lines, r#"told {"screens":1}"#).await;
    }
    drop(screen);
    says(&mut lines, "the screen is not connected").await;
    assert!(!within("the browser's end", launcher.wait()).await.unwrap().success());
}
