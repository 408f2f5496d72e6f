//! doorcast is killed under the page, or the network between them is cut: what was there stays, a mark shows
//! it, the next swipe is greeted, and nothing old appears.

use std::time::Duration;

use serde_json::json;

use super::{Hall, Page, is_long, screen::optime};
use crate::{
    proxy::{Proxy, Way},
    servers,
};

/// How long an outage lasts, and the options for doorcast with which that is longer than a swipe is fresh.
fn outage() -> (Duration, &'static [&'static str]) {
    if is_long() {
        return (Duration::from_secs(120), &[]);
    }
    // The heartbeat tells how soon a half-open connection is noticed.
    (Duration::from_secs(13), &["--fresh", "10", "--heartbeat", "2"])
}

/// Somebody is greeted, and others swipe during the outage that the page has just begun to suffer.
async fn outlasts(hall: &mut Hall, page: &Page, away: Duration) {
    page.until("has('lost')").await;
    let kept =
        "window.isSame === true && /^\\d\\d:\\d\\d$/.test(document.getElementById('clock').textContent)";
    assert_eq!(page.browser.eval(kept).await, true);
    hall.swipe("B").await;
    hall.swipe_at("C", &optime(3600)).await;
    hall.let_pass(away).await;
    assert_eq!(page.browser.eval(&format!("has('lost') && {kept}")).await, true);
    assert_eq!(page.names().await, json!(["A"]));
    // The greeting that was shown had its time: it did not go with the link.
    let shown_ms = page.browser.eval("idle - greeted[0].set").await.as_f64().unwrap();
    assert!(shown_ms >= 7_000.0, "{shown_ms}");
}

/// The link is there again: so are swipes, and nothing of the time between.
/// Returns how soon the first swipe was painted, in milliseconds.
async fn goes_on(hall: &mut Hall, page: &Page) -> f64 {
    let began_ms = hall.swipe("D").await as f64;
    let painted_ms = page.greets("D").await["painted"].as_f64().unwrap();
    page.until("!has('lost')").await;
    assert_eq!(page.names().await, json!(["A", "D"]));
    assert_eq!(page.browser.eval("window.isSame").await, true);
    // Its place is kept, under the id that the row had before doorcast went and after it came.
    page.until("hellos > 1").await;
    page.browser.eval("window.dispatchEvent(new Event('pagehide'))").await;
    let place = "Object.keys(sessionStorage).map(function (key) { return sessionStorage[key]; })";
    assert_eq!(page.browser.eval(place).await, json!(["1-4"]));
    painted_ms - began_ms
}

async fn greets_the_first(hall: &mut Hall, page: &Page) {
    hall.swipe("A").await;
    page.greets("A").await;
    page.browser.eval("window.isSame = true").await;
}

#[tokio::test]
async fn the_screen_outlasts_a_doorcast_that_is_killed() {
    let (away, options) = outage();
    let mut hall = Hall::open(servers::kinds()[0], options).await;
    let page = hall.screen().await;
    greets_the_first(&mut hall, &page).await;
    hall.scene.doorcast.kill().await;
    outlasts(&mut hall, &page, away).await;
    hall.scene.doorcast.start_again().await;
    hall.scene.doorcast.answers("/readyz", 200).await;
    let painted_ms = goes_on(&mut hall, &page).await;
    println!("killed: the first swipe after it was painted {painted_ms:.0} ms later");
}

/// The same with the network cut in one way.
async fn outlasts_a_network_that_is(way: Way) -> f64 {
    let (away, options) = outage();
    let mut hall = Hall::open(servers::kinds()[0], options).await;
    let proxy = Proxy::start(hall.scene.doorcast.address.parse().unwrap()).await;
    let page = Page::open(&format!("127.0.0.1:{}", proxy.port)).await;
    greets_the_first(&mut hall, &page).await;
    proxy.set_for_all(way);
    outlasts(&mut hall, &page, away).await;
    proxy.set_for_all(Way::Open);
    goes_on(&mut hall, &page).await
}

#[tokio::test]
async fn the_screen_outlasts_a_network_that_is_cut() {
    let painted_ms = outlasts_a_network_that_is(Way::Closed).await;
    println!("cut: the first swipe after it was painted {painted_ms:.0} ms later");
}

#[tokio::test]
async fn the_screen_outlasts_a_network_that_goes_silent() {
    let painted_ms = outlasts_a_network_that_is(Way::Stalled).await;
    println!("silent: the first swipe after it was painted {painted_ms:.0} ms later");
}

// A silence that is too short to be noticed delivers late what was sent into it.
#[tokio::test]
async fn a_greeting_that_the_network_held_up_is_not_shown() {
    let mut hall = Hall::open(servers::kinds()[0], &["--fresh", "6"]).await;
    let proxy = Proxy::start(hall.scene.doorcast.address.parse().unwrap()).await;
    let page = Page::open(&format!("127.0.0.1:{}", proxy.port)).await;
    greets_the_first(&mut hall, &page).await;
    proxy.set_for_all(Way::Stalled);
    hall.swipe("B").await;
    hall.let_pass(Duration::from_secs(7)).await;
    proxy.set_for_all(Way::Open);
    hall.swipe("C").await;
    page.greets("C").await;
    assert_eq!(page.names().await, json!(["A", "C"]));
    assert_eq!(page.browser.eval("hellos").await, 1);
}
