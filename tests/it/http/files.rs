//! `--www-dir` and the built-in pages; methods and paths.

use doorcast::{feed::Limits, http::Settings};
use reqwest::Method;
use tempfile::TempDir;

use super::{Answer, Raw};
use crate::site::{Site, client};

async fn site_with_folder() -> (Site, TempDir) {
    let outside = TempDir::new().unwrap();
    let folder = outside.path().join("www");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    std::fs::create_dir_all(folder.join(".git")).unwrap();
    std::fs::write(folder.join("getmsg.html"), "old page").unwrap();
    std::fs::write(folder.join("sub/a.css"), "b{}").unwrap();
    std::fs::write(folder.join(".secret"), "hidden").unwrap();
    std::fs::write(folder.join(".git/config"), "hidden").unwrap();
    std::fs::write(folder.join("backend.php"), "<?php").unwrap();
    std::fs::write(outside.path().join("secret.txt"), "outside").unwrap();
    let settings = Settings { www_dir: Some(folder), ..Settings::default() };
    (Site::with(settings, Limits::default()).await, outside)
}

// The site's own files are served as they are, and asked for again each time.
#[tokio::test]
async fn the_sites_own_files_are_served() {
    let (site, _folder) = site_with_folder().await;
    let page = Answer::get(&site, "/getmsg.html").await;
    assert_eq!((page.status.as_u16(), &*page.body), (200, "old page"));
    assert_eq!((page.header("content-type"), page.header("cache-control")), ("text/html", "no-cache"));
    let again = client().get(site.url("/getmsg.html"));
    let again = again.header("if-modified-since", page.header("last-modified"));
    assert_eq!(Answer::of(again).await.status, 304);
    assert_eq!(Answer::get(&site, "/sub/a.css").await.header("content-type"), "text/css");
    let part = client().get(site.url("/getmsg.html")).header("range", "bytes=4-");
    assert_eq!(Answer::of(part).await.body, "page");
    Answer::get(&site, "/backend.php?maxvid=x").await.is_error(400, "bad_since");
}

// Nothing hidden, nothing outside, no list of files.
#[tokio::test]
async fn no_other_file_is_served() {
    let (site, _folder) = site_with_folder().await;
    let paths = [
        "/.secret",
        "/%2esecret",
        "/%2Esecret",
        "/.git/config",
        "/sub/../.git/config",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/sub/..%5c..%5csecret.txt",
        "//etc/hostname",
        "/sub/",
        "/nothing",
        "/getmsg.html%00",
    ];
    for path in paths {
        // Not by a client that would tidy the path up.
        let mut raw = Raw::open(&site).await;
        raw.send(format!("GET {path} HTTP/1.1\r\nhost: door\r\nconnection: close\r\n\r\n").as_bytes()).await;
        let answer = raw.rest().await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["400", "404"].contains(&status), "{path}: {answer}");
        assert!(!answer.contains("hidden") && !answer.contains("outside") && !answer.contains("a.css"));
    }
}

// The built-in pages are there until the site has its own.
#[tokio::test]
async fn an_index_of_the_site_takes_the_root() {
    let (site, folder) = site_with_folder().await;
    let built_in = Answer::get(&site, "/").await;
    assert_eq!(built_in.header("content-type"), "text/html; charset=utf-8");
    assert!(built_in.body.contains("live.js"));
    assert!(built_in.header("content-security-policy").contains("default-src 'none'"));
    assert_eq!(built_in.header("x-content-type-options"), "nosniff");
    let script = Answer::get(&site, "/live.js").await;
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    std::fs::write(folder.path().join("www/index.html"), "own").unwrap();
    assert_eq!(Answer::get(&site, "/").await.body, "own");
}

// Methods other than GET and HEAD, unknown paths and endless URLs are errors like all others.
#[tokio::test]
async fn wrong_methods_and_paths_are_refused() {
    let site = Site::start().await;
    for path in
        ["/events", "/poll", "/backend.php", "/livez", "/readyz", "/metrics", "/api/status", "/", "/live.js"]
    {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = Answer::of(client().request(method, site.url(path))).await;
            answer.is_error(405, "method_not_allowed");
            assert_eq!(answer.header("allow").replace(' ', ""), "GET,HEAD", "{path}");
            assert!(!answer.headers.contains_key("access-control-allow-origin"));
        }
        let head = Answer::of(client().head(site.url(path))).await;
        assert_eq!((head.status.as_u16(), &*head.body), (200, ""), "{path}");
    }
    Answer::get(&site, "/nothing").await.is_error(404, "not_found");
    Answer::of(client().post(site.url("/nothing"))).await.is_error(404, "not_found");
    Answer::get(&site, &format!("/poll?since=1-1&_={}", "x".repeat(8_200)))
        .await
        .is_error(414, "uri_too_long");
}
