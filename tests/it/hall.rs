//! The welcome screen the whole way: an INSERT on a real server, doorcast as a process, Chromium. Nothing
//! in between is the test's own, and no clock but the real ones.
//!
//! `DOORCAST_LONG=1` makes outages as long as the ones that the screen is promised to outlast.

mod demo_page;
mod old_engine;
mod outage;
mod pace;
mod reception;
mod set;

use std::{fmt::Write as _, time::Duration};

use doorcast::status::now_ms;
use mysql_async::prelude::Queryable;
use serde_json::Value;
use tempfile::TempDir;

use crate::{browser::Browser, scene::Scene, screen};

/// Tells the test what the page shows: `greeted` has each greeting with the Unix milliseconds when its name
/// was set, painted and legible; `idle` when the last one went. The page itself is left as it is.
const WATCH: &str = r"(function () {
  window.greeted = [];
  window.hellos = 0;
  window.idle = null;
  var signals = 0;
  function now() { return performance.timeOrigin + performance.now(); }
  function signal() { document.documentElement.setAttribute('data-signals', ++signals); }
  var Stream = window.EventSource;
  window.EventSource = function (url) {
    var stream = new Stream(url);
    stream.addEventListener('hello', function () { hellos += 1; signal(); });
    return stream;
  };
  function opacity(node) { return Number(getComputedStyle(node).opacity); }
  document.addEventListener('DOMContentLoaded', function () {
    var name = document.getElementById('name');
    var card = document.getElementById('card');
    new MutationObserver(function () {
      var greeting = { name: name.textContent, set: now() };
      greeted.push(greeting);
      // The second frame begins when the first, which had the name, is painted.
      requestAnimationFrame(function () {
        requestAnimationFrame(function () {
          greeting.painted = now();
          // Greetings fade in: legible is half of that.
          (function look() {
            if (opacity(card) * opacity(name) < .5) { return requestAnimationFrame(look); }
            greeting.legible = now();
            signal();
          }());
        });
      });
    }).observe(name, { childList: true });
    new MutationObserver(function () {
      idle = has('greets') ? null : now();
    }).observe(document.body, { attributes: true, attributeFilter: ['class'] });
  });
  window.has = function (name) { return (' ' + document.body.className + ' ').indexOf(' ' + name + ' ') >= 0; };
  window.names = function () { return greeted.map(function (greeting) { return greeting.name; }); };
}());";

/// A server, doorcast with people, and no page yet.
struct Hall {
    scene: Scene,
    folder: TempDir,
}

impl Hall {
    /// With the people `A` to `Z`, whose cards are their names, and `boss`, who goes first.
    async fn open(kind: &'static str, options: &[&str]) -> Hall {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("people.csv");
        let mut people = "rfsim,name,title,priority\nboss,boss,董事长,9\n".to_owned();
        for card in 'A'..='Z' {
            let _ = writeln!(people, "{card},{card},来宾,");
        }
        std::fs::write(&file, people).unwrap();
        let mut all = vec!["--people", file.to_str().unwrap(), "--timezone", screen::zone()];
        all.extend(options);
        Hall { scene: Scene::start(kind, &[], &all).await, folder }
    }

    /// A swipe now; returns when its INSERT began, in Unix milliseconds.
    async fn swipe(&mut self, card: &str) -> u64 {
        self.swipe_at(card, &screen::optime(0)).await
    }

    /// A swipe that the controller says was made at `optime`.
    async fn swipe_at(&mut self, card: &str, optime: &str) -> u64 {
        let began_ms = now_ms();
        self.scene.conn.query_drop(insert(card, optime)).await.unwrap();
        began_ms
    }

    /// Waits until the server's own clock has gone on by so much.
    async fn let_pass(&mut self, time: Duration) {
        let mut left = time.as_secs();
        while left > 0 {
            let step = left.min(10);
            let sql = format!("SELECT SLEEP({step})");
            crate::deadline::deadline(self.scene.conn.query_drop(sql)).await.unwrap();
            left -= step;
        }
    }

    /// The screen of door 1 as doorcast itself serves it.
    async fn screen(&self) -> Page {
        Page::open(&self.scene.doorcast.address).await
    }
}

/// A screen in a browser.
struct Page {
    browser: Browser,
    url: String,
}

impl Page {
    async fn open(address: &str) -> Page {
        Page::open_with(&[], "", address, "").await
    }

    /// With arguments for Chromium, a script that runs first, and parameters of the screen.
    async fn open_with(arguments: &[&str], script: &str, address: &str, parameters: &str) -> Page {
        let browser = Browser::with(arguments).await;
        browser.before_pages(WATCH).await;
        browser.before_pages(script).await;
        let page =
            Page { browser, url: format!("http://{address}/screen?doorno=1&screen=lobby&{parameters}") };
        page.load().await;
        page
    }

    /// Loads the page, and waits until doorcast has greeted it.
    async fn load(&self) {
        self.browser.open(&self.url).await;
        self.browser.until("hellos > 0").await;
    }

    /// Waits until it has greeted `name`, and tells when, as [`WATCH`] does.
    async fn greets(&self, name: &str) -> Value {
        let last =
            format!("greeted.filter(function (one) {{ return one.name === '{name}' && one.legible; }})[0]");
        self.until(&last).await;
        self.browser.eval(&last).await
    }

    async fn until(&self, expression: &str) {
        self.browser.until_at_last(expression).await;
    }

    async fn names(&self) -> Value {
        self.browser.eval("names()").await
    }
}

fn insert(card: &str, optime: &str) -> String {
    format!("INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (1, '{card}', '{optime}', 'Y')")
}

/// Whether outages last as long as they are promised to be outlasted.
fn is_long() -> bool {
    std::env::var("DOORCAST_LONG").is_ok_and(|value| value == "1")
}
