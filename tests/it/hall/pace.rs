//! How soon a swipe is on the screen, and in which order swipes are.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::json;

use super::{Hall, insert};
use crate::{screen::optime, servers};

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

// Each swipe is greeted on a screen that is idle. How soon is printed, for 30 swipes over all servers: from
// before the INSERT to when the name was set, painted, and legible.
#[tokio::test]
async fn a_swipe_is_on_the_screen_at_once() {
    let kinds = servers::kinds();
    let mut figures: [Vec<f64>; 3] = Default::default();
    for kind in &kinds {
        let mut hall = Hall::open(kind, &[]).await;
        let page = hall.screen().await;
        for card in ('A'..='Z').cycle().take(30_usize.div_ceil(kinds.len())) {
            let card = card.to_string();
            let began_ms = hall.swipe(&card).await as f64;
            let greeting = page.greets(&card).await;
            for (figures, moment) in figures.iter_mut().zip(["set", "painted", "legible"]) {
                figures.push(greeting[moment].as_f64().unwrap() - began_ms);
            }
            // Loaded anew the page is idle at once.
            page.load().await;
        }
    }
    let medians = figures.each_mut().map(|figures| median(figures).round());
    let most = figures.map(|figures| figures.last().unwrap().round());
    println!(
        "ms from swipe to name set, painted, legible: {medians:?} in the median of 30, {most:?} at most"
    );
}

// Eight seconds each, three while more wait, five that wait at most, the important first, nobody twice in
// half a minute; and who was turned away may come again.
#[tokio::test]
async fn swipes_queue() {
    let mut hall = Hall::open(servers::kinds()[0], &[]).await;
    let page = hall.screen().await;
    hall.swipe("A").await;
    page.greets("A").await;
    for card in ["B", "C", "D", "A", "E", "F", "G", "nobody", "boss"] {
        hall.swipe(card).await;
    }
    page.until("idle").await;
    assert_eq!(page.names().await, json!(["A", "boss", "B", "C", "D", "E"]));
    let shown = "greeted.map(function (one, at) { return ((greeted[at + 1] || {}).set || idle) - one.set; })";
    let shown: Vec<f64> = serde_json::from_value(page.browser.eval(shown).await).unwrap();
    println!("each was shown for so many ms: {shown:.0?}");
    let [all_but_last @ .., last] = &shown[..] else { unreachable!() };
    assert!(all_but_last.iter().all(|&ms| ms >= 2_000.0), "{shown:?}");
    assert!(*last >= 7_000.0, "{shown:?}");
    hall.swipe("G").await;
    page.greets("G").await;
}

// What a controller uploads late is not shown, nor what was committed while doorcast could not read it; even
// if the other of the two clocks says that it is new.
#[tokio::test]
async fn old_swipes_and_old_commits_are_not_shown() {
    servers::each_kind(async |kind| {
        let mut hall = Hall::open(kind, &["--fresh", "6"]).await;
        let page = hall.screen().await;
        hall.swipe_at("A", &optime(7)).await;
        hall.swipe_at("B", &optime(7200)).await;
        // The same in a transaction that was open for long.
        let mut other = hall.scene.server.root(Some("doors")).await.unwrap();
        let held = insert("C", &optime(0));
        for sql in ["BEGIN", &held] {
            other.query_drop(sql).await.unwrap();
        }
        hall.scene.doorcast.signal("STOP");
        hall.swipe_at("D", &optime(-60)).await;
        hall.swipe("E").await;
        hall.let_pass(Duration::from_secs(8)).await;
        other.query_drop("COMMIT").await.unwrap();
        hall.scene.doorcast.signal("CONT");
        hall.scene.doorcast.answers("/readyz", 200).await;
        hall.swipe("F").await;
        page.greets("F").await;
        assert_eq!(page.names().await, json!(["F"]), "{kind}");
    })
    .await;
}
