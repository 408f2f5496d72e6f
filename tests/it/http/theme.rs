//! `--theme-dir`: the site's own looks of the welcome screen.

use doorcast::{feed::Limits, http::Settings};
use tempfile::TempDir;

use super::{Answer, Raw};
use crate::{browser::Browser, site::Site};

async fn site_with_theme() -> (Site, TempDir) {
    let outside = TempDir::new().unwrap();
    let folder = outside.path().join("theme");
    std::fs::create_dir_all(folder.join("fonts")).unwrap();
    let css = "#clock { color: rgb(1, 2, 3); background: url(wall.svg); }";
    std::fs::write(folder.join("screen.css"), css).unwrap();
    std::fs::write(folder.join("wall.svg"), "<svg xmlns='http://www.w3.org/2000/svg'/>").unwrap();
    std::fs::write(folder.join("fonts/own.woff2"), "font").unwrap();
    std::fs::write(folder.join(".secret"), "hidden").unwrap();
    std::fs::write(outside.path().join("secret.css"), "outside").unwrap();
    let settings = Settings { theme_dir: Some(folder), ..Settings::default() };
    (Site::with(settings, Limits::default()).await, outside)
}

// Without a theme there is an empty one, so that no screen asks for what is not there.
#[tokio::test]
async fn without_a_theme_there_is_an_empty_one() {
    let site = Site::start().await;
    let css = Answer::get(&site, "/theme/screen.css").await;
    assert_eq!((css.status.as_u16(), &*css.body), (200, ""));
    assert_eq!(css.header("content-type"), "text/css; charset=utf-8");
    Answer::get(&site, "/theme/wall.svg").await.is_error(404, "not_found");
}

// A theme is a folder of files: nothing hidden, nothing outside.
#[tokio::test]
async fn a_themes_files_are_served_and_no_others() {
    let (site, folder) = site_with_theme().await;
    let css = Answer::get(&site, "/theme/screen.css").await;
    assert!(css.body.contains("rgb(1, 2, 3)"), "{}", css.body);
    assert_eq!((css.header("content-type"), css.header("cache-control")), ("text/css", "no-cache"));
    assert_eq!(Answer::get(&site, "/theme/fonts/own.woff2").await.header("content-type"), "font/woff2");
    for path in [
        "/theme/.secret",
        "/theme/%2esecret",
        "/theme/../secret.css",
        "/theme/%2e%2e/secret.css",
        "/theme/..%2fsecret.css",
        "/theme/fonts/..%5c..%5c..%5csecret.css",
        "/theme//etc/hostname",
        "/theme/fonts/",
        "/theme/nothing",
    ] {
        // Not by a client that would tidy the path up.
        let mut raw = Raw::open(&site).await;
        raw.send(format!("GET {path} HTTP/1.1\r\nhost: door\r\nconnection: close\r\n\r\n").as_bytes()).await;
        let answer = raw.rest().await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["400", "404"].contains(&status), "{path}: {answer}");
        assert!(!answer.contains("hidden") && !answer.contains("outside") && !answer.contains("own.woff2"));
    }
    // Changed, it is there at the next look; gone, the screen's own looks are.
    let file = folder.path().join("theme/screen.css");
    std::fs::write(&file, "b{}").unwrap();
    assert_eq!(Answer::get(&site, "/theme/screen.css").await.body, "b{}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(Answer::get(&site, "/theme/screen.css").await.body, "");
}

// It has the last word on the screen, and may bring pictures of its own.
#[tokio::test]
async fn a_theme_changes_the_screen() {
    let (site, _folder) = site_with_theme().await;
    let browser = Browser::start().await;
    let watch = "window.refused = 0;
        document.addEventListener('securitypolicyviolation', function () { refused += 1; });";
    browser.before_pages(watch).await;
    browser.open(&site.url("/screen")).await;
    let color = browser.eval("getComputedStyle(document.getElementById('clock')).color").await;
    assert_eq!(color, "rgb(1, 2, 3)");
    let loaded =
        "performance.getEntriesByType('resource').some(function (one) { return /wall.svg/.test(one.name); })";
    assert_eq!(browser.eval(&format!("[{loaded}, refused]")).await, serde_json::json!([true, 0]));
}
