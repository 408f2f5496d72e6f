//! Pages in a real browser: Chromium, driven by chromedriver. No database: see [`crate::site`].
//!
//! `DOORCAST_CHROMEDRIVER` and `DOORCAST_PROTOTYPE_JS` name what is elsewhere than Debian has it. With
//! `DOORCAST_SHOTS=folder` the pages are also pictured there.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use doorcast::{feed::Limits, http::Settings};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::deadline::deadline;
use crate::site::{Site, card, client, encode, swipe, time, within};

const STARTED: &str = "ChromeDriver was started successfully on port ";

/// Keys, as the protocol of drivers names them.
pub(crate) const TAB: char = '\u{e004}';
pub(crate) const ENTER: char = '\u{e007}';
pub(crate) const ESCAPE: char = '\u{e00c}';
const SHIFT: char = '\u{e008}';

/// A browser with one page.
pub(crate) struct Browser {
    port: u16,
    session: String,
    /// Chromium's own, once it runs.
    process: Option<u64>,
    _driver: Child,
    _profile: TempDir,
}

/// Starts chromedriver: its port, and itself; `None` if it has ended.
async fn driver() -> Option<(u16, Child)> {
    let name = std::env::var("DOORCAST_CHROMEDRIVER").unwrap_or_else(|_| "chromedriver".into());
    let mut driver = Command::new(name)
        .arg("--port=0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("these tests need chromedriver and Chromium; DOORCAST_CHROMEDRIVER names another");
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(port) = line.strip_prefix(STARTED) {
            return Some((port.trim_end_matches('.').parse().unwrap(), driver));
        }
    }
    None
}

impl Browser {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With more arguments for Chromium.
    pub(crate) async fn with(more: &[&str]) -> Self {
        let (port, driver) = within("chromedriver's port", async {
            loop {
                // The port that it finds free is taken by the other family's addresses now and then, and it ends.
                if let Some(started) = driver().await {
                    return started;
                }
            }
        })
        .await;
        let profile = TempDir::new().unwrap();
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let args: Vec<&str> = args.into_iter().chain(more.iter().copied()).collect();
        let options = json!({ "args": args });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "timeouts": {"script": 25_000},
        }}});
        let session = String::new();
        let mut browser = Browser { port, session, process: None, _driver: driver, _profile: profile };
        let answer = browser.ask("/session", wanted).await;
        browser.session = answer["sessionId"].as_str().unwrap().into();
        browser.process = answer["capabilities"]["goog:processID"].as_u64();
        browser
    }

    async fn ask(&self, path: &str, body: Value) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let request = client().post(url).header("content-type", "application/json").body(body.to_string());
        let answer = within(path, async { request.send().await.unwrap().text().await.unwrap() }).await;
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {}", answer["value"]);
        answer["value"].take()
    }

    async fn command(&self, path: &str, body: Value) -> Value {
        self.ask(&format!("/session/{}{path}", self.session), body).await
    }

    pub(crate) async fn open(&self, url: &str) {
        self.command("/url", json!({ "url": url })).await;
    }

    /// Runs before each page's own scripts.
    pub(crate) async fn before_pages(&self, script: &str) {
        let params = json!({ "source": script });
        let command = json!({"cmd": "Page.addScriptToEvaluateOnNewDocument", "params": params});
        self.command("/goog/cdp/execute", command).await;
    }

    pub(crate) async fn eval(&self, expression: &str) -> Value {
        self.command("/execute/sync", json!({"script": format!("return ({expression});"), "args": []})).await
    }

    /// Waits until an expression is true, looking at each change of the page.
    pub(crate) async fn until(&self, expression: &str) {
        assert_eq!(self.looks_for(expression, "").await, true, "{expression}");
    }

    /// The same, for longer than one script may run.
    pub(crate) async fn until_at_last(&self, expression: &str) {
        deadline(async {
            while self.looks_for(expression, "setTimeout(function () { done(look()); }, 15000);").await
                != true
            {}
        })
        .await;
    }

    async fn looks_for(&self, expression: &str, otherwise: &str) -> Value {
        let script = format!(
            "var done = arguments[arguments.length - 1];
             var look = function () {{
               if (!({expression})) {{ return false; }}
               done(true);
               return true;
             }};
             if (!look()) {{
               {otherwise}
               var observer = new MutationObserver(function () {{ if (look()) {{ observer.disconnect(); }} }});
               observer.observe(document,
                 {{subtree: true, childList: true, characterData: true, attributes: true}});
             }}"
        );
        self.command("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// Presses keys one after the other, as a person at the keyboard does.
    pub(crate) async fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|way| json!({"type": way, "value": key.to_string()})))
            .collect();
        self.command("/actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}))
            .await;
    }

    /// Presses a key while Shift is held.
    pub(crate) async fn press_with_shift(&self, key: char) {
        let stroke = |way, key: char| json!({"type": way, "value": key.to_string()});
        let strokes =
            [stroke("keyDown", SHIFT), stroke("keyDown", key), stroke("keyUp", key), stroke("keyUp", SHIFT)];
        self.command("/actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}))
            .await;
    }

    /// Chooses a file of this machine in a file field.
    pub(crate) async fn choose(&self, selector: &str, file: &Path) {
        let found = self.command("/element", json!({"using": "css selector", "value": selector})).await;
        let element = found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.command(&format!("/element/{element}/value"), json!({"text": file.to_str().unwrap()})).await;
    }

    /// Pictures the page at the sizes of screens, light and dark, where asked for.
    pub(crate) async fn picture(&self, name: &str) {
        let Ok(folder) = std::env::var("DOORCAST_SHOTS") else { return };
        for (width, height) in [(1920, 1080), (1080, 1920), (1366, 768)] {
            for scheme in ["light", "dark"] {
                let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
                self.cdp("Emulation.setDeviceMetricsOverride", size).await;
                let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
                self.cdp("Emulation.setEmulatedMedia", features).await;
                let picture = self.cdp("Page.captureScreenshot", json!({})).await;
                let picture = BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
                let file = format!("{name}-{width}x{height}-{scheme}.png");
                std::fs::write(Path::new(&folder).join(file), picture).unwrap();
            }
        }
    }

    pub(crate) async fn cdp(&self, cmd: &str, params: Value) -> Value {
        self.command("/goog/cdp/execute", json!({ "cmd": cmd, "params": params })).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium would outlive a driver that is merely killed.
        let request = format!("DELETE /session/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", self.session);
        if let Ok(mut driver) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = driver.set_read_timeout(Some(Duration::from_secs(60))); // a busy machine
            let _ = driver.write_all(request.as_bytes());
            let _ = driver.read(&mut [0; 64]);
        }
        // Now and then it does so all the same.
        if let Some(process) = self.process {
            let mut kill = std::process::Command::new("kill");
            let _ = kill.args(["-s", "KILL", &process.to_string()]).stderr(Stdio::null()).status(); // it has gone
        }
    }
}

/// How many rows the live page shows.
const SHOWN: &str = "document.querySelectorAll('#rows tr').length";

/// The first column of what the live page shows, top down.
const KEYS: &str = "[].map.call(document.querySelectorAll('#rows tr'), \
                    function (tr) { return tr.firstChild.textContent; })";

// Rows come to the page as they are committed, newest first.
#[tokio::test]
async fn the_live_page_shows_rows_as_they_come() {
    let site = Site::start().await;
    let browser = Browser::start().await;
    browser.open(&site.url("/")).await;
    browser.until("document.getElementById('state').className === 'live'").await;
    assert_eq!(browser.eval("document.getElementById('says').textContent").await, "Live");
    browser.picture("empty").await;
    for key in 300_001..300_040 {
        site.publish_row(1, swipe(key, (key % 4 + 1) as i32, if key % 7 == 0 { "N" } else { "Y" }));
    }
    browser.until(&format!("{SHOWN} === 39")).await;
    let keys = browser.eval(KEYS).await;
    assert_eq!((&keys[0], &keys[38]), (&json!("300039"), &json!("300001")));

    // A page that is opened later begins with what there is, and lights up what comes.
    browser.open(&site.url("/")).await;
    browser.until(&format!("{SHOWN} === 39")).await;
    assert_eq!(browser.eval("document.querySelectorAll('#rows tr.new').length").await, 0);
    browser.until("document.body.className === 'begun'").await;
    site.publish([300_040]);
    browser.until("document.querySelectorAll('#rows tr.new').length === 1").await;
    browser.picture("live").await;
}

// Without EventSource the page works by long poll.
#[tokio::test]
async fn the_live_page_falls_back_to_long_poll() {
    let site = Site::start().await;
    let browser = Browser::start().await;
    browser.before_pages("delete window.EventSource;").await;
    site.publish([1, 2]);
    browser.open(&site.url("/")).await;
    browser.until(&format!("{SHOWN} === 2")).await;
    assert_eq!(browser.eval("document.getElementById('says').textContent").await, "Live, by polling");
    site.publish([3]);
    browser.until(&format!("{SHOWN} === 3")).await;
    site.publish([4, 5]);
    browser.until(&format!("{SHOWN} === 5")).await;
    assert_eq!(browser.eval(KEYS).await, json!(["5", "4", "3", "2", "1"]));
}

// Where a proxy holds streams back, the page finds out and polls.
#[tokio::test]
async fn the_live_page_polls_where_streams_do_not_come_through() {
    let site = Site::start().await;
    let browser = Browser::start().await;
    let silent = "window.EventSource = function () {
                    this.readyState = 0; this.addEventListener = function () {}; this.close = function () {};
                  };";
    // Fifty seconds in one.
    let hasty = "(function (now) {
                   performance.now = function () { return now() * 50; };
                 }(performance.now.bind(performance)));";
    browser.before_pages(&format!("{silent}{hasty}")).await;
    site.publish([1]);
    browser.open(&site.url("/")).await;
    browser.until(&format!("{SHOWN} === 1")).await;
    assert_eq!(browser.eval("document.getElementById('says').textContent").await, "Live, by polling");
}

// A page runs for months: it keeps a bounded number of rows.
#[tokio::test]
async fn the_live_page_keeps_a_bounded_number_of_rows() {
    let site = Site::start().await;
    let browser = Browser::start().await;
    browser.open(&site.url("/")).await;
    browser.until("document.getElementById('state').className === 'live'").await;
    site.publish(1..=500);
    browser.until("document.querySelector('#rows td').textContent === '500'").await;
    assert_eq!(browser.eval(SHOWN).await, 200);
}

// Values are text, whatever they look like; long numbers keep their digits; a filter goes along.
#[tokio::test]
async fn the_live_page_shows_values_as_text() {
    let site = Site::start().await;
    let browser = Browser::start().await;
    let value = r#""<img src=x onerror='document.title=1'>""#;
    for (key, door) in [(9_007_199_254_740_993, "1"), (9_007_199_254_740_995, "2")] {
        let columns = [("id", key.to_string()), ("door", door.into()), ("name", value.into())];
        site.publish_row(1, encode(key, &columns));
    }
    browser.open(&site.url("/?door=1")).await;
    browser.until(&format!("{SHOWN} === 1")).await;
    assert_eq!(browser.eval(KEYS).await, json!(["9007199254740993"]));
    assert_eq!(browser.eval("document.querySelectorAll('img').length").await, 0);
    assert_eq!(browser.eval("document.title").await, "doorcast");
}

// The page goes on after a restart, with what came meanwhile, and nothing twice.
#[tokio::test]
async fn the_live_page_goes_on_after_a_restart() {
    let mut site = Site::start().await;
    let browser = Browser::start().await;
    site.publish([1, 2]);
    browser.open(&site.url("/")).await;
    browser.until(&format!("{SHOWN} === 2")).await;
    site.restart(|site| site.publish([4, 3])).await;
    browser.until("document.getElementById('state').className === 'wait'").await;
    browser.picture("lost").await;
    browser.until(&format!("{SHOWN} === 4")).await;
    assert_eq!(browser.eval(KEYS).await, json!(["3", "4", "2", "1"]));
    browser.until("document.getElementById('state').className === 'live'").await;
}

// A gap shows as a line between the rows before and after it.
#[tokio::test]
async fn the_live_page_shows_a_gap() {
    let site = Site::start().await;
    let browser = Browser::start().await;
    site.publish([1, 2, 3]);
    browser.open(&site.url("/")).await;
    browser.until(&format!("{SHOWN} === 3")).await;
    site.feed.mark_gap("the binlog was purged".into());
    browser.until("document.querySelector('#rows tr').className === 'gap'").await;
    site.publish([9, 10]);
    browser.until(&format!("{SHOWN} === 6")).await;
    assert_eq!(browser.eval("document.querySelectorAll('#rows tr')[2].className").await, "gap");
    browser.picture("gap").await;
}

/// A page as sites have had them for fifteen years.
const OLD_PAGE: &str = r#"<!DOCTYPE html>
<html><head><title>door</title><script type="text/javascript" src="prototype.js"></script></head>
<body><ul id="list"></ul>
<script type="text/javascript">
var Comet = Class.create();
Comet.prototype = {
  maxvid: 0,
  url: './backend.php',
  noerror: false,
  initialize: function () { },
  connect: function () {
    this.ajax = new Ajax.Request(this.url, {
      method: 'get',
      parameters: { 'maxvid': this.maxvid },
      onSuccess: function (transport) {
        var response = transport.responseText.evalJSON();
        this.comet.maxvid = response['vid'];
        this.comet.show(response);
        this.comet.noerror = true;
      },
      onComplete: function (transport) {
        if (!this.comet.noerror) {
          setTimeout(function () { comet.connect(); }, 5000);
        } else {
          this.comet.connect();
        }
        this.comet.noerror = false;
      }
    });
    this.ajax.comet = this;
  },
  show: function (row) {
    var text = [row['vid'], row['doorno'], row['rfsim'], row['optime'], row['ynopen']].join(' ');
    $('list').insert(new Element('li').update(text));
  }
};
var comet = new Comet();
comet.connect();
</script></body></html>
"#;

/// A folder with the old page and the script that it needs.
fn old_site() -> TempDir {
    let script = std::env::var("DOORCAST_PROTOTYPE_JS")
        .map_or_else(|_| PathBuf::from("/usr/share/javascript/prototype/prototype.js"), PathBuf::from);
    let folder = TempDir::new().unwrap();
    std::fs::copy(&script, folder.path().join("prototype.js")).expect(
        "this test needs prototype.js, Debian's libjs-prototype; DOORCAST_PROTOTYPE_JS names another",
    );
    std::fs::write(folder.path().join("getmsg.html"), OLD_PAGE).unwrap();
    folder
}

/// Publishes rows one by one and in transactions; each must show once, in order.
async fn the_old_page_shows_each_row(settings: Settings) {
    let folder = old_site();
    let settings = Settings { www_dir: Some(folder.path().into()), ..settings };
    let site = Site::with(settings, Limits::default()).await;
    let browser = Browser::start().await;
    site.publish([300_000]);
    browser.open(&site.url("/getmsg.html")).await;
    site.until_clients("old_page", 1).await;
    site.publish([300_001]);
    browser.until("document.querySelectorAll('#list li').length === 1").await;
    // Rows that come while the page is between two requests, and a late one among them.
    site.publish([300_003, 300_002, 300_004]);
    browser.until("document.querySelectorAll('#list li').length === 4").await;
    site.publish([300_005]);
    browser.until("document.querySelectorAll('#list li').length === 5").await;
    let shown =
        "[].map.call(document.querySelectorAll('#list li'), function (li) { return li.textContent; })";
    let shown = browser.eval(shown).await;
    let expected = [300_001, 300_003, 300_002, 300_004, 300_005];
    let expected: Vec<String> =
        expected.iter().map(|&key| format!("{key} 1 {} {} Y", card(key), time(key))).collect();
    assert_eq!(shown, json!(expected));
}

// The old page with prototype.js works unmodified, with spaces while it waits.
#[tokio::test]
async fn the_old_page_works_unmodified() {
    let settings = Settings { heartbeat: Duration::from_millis(20), ..Settings::default() };
    the_old_page_shows_each_row(settings).await;
}

// Behind a proxy that cuts long waits, the old page's first row is remembered by a cookie.
#[tokio::test]
async fn the_old_page_misses_nothing_while_it_pauses() {
    let folder = old_site();
    let timeout = Some(Duration::from_millis(200));
    let settings =
        Settings { www_dir: Some(folder.path().into()), old_page_timeout: timeout, ..Settings::default() };
    let site = Site::with(settings, Limits::default()).await;
    let browser = Browser::start().await;
    browser.open(&site.url("/getmsg.html")).await;
    site.until_clients("old_page", 1).await;
    site.until_clients("old_page", 0).await;
    // It has had an empty answer and pauses for 5 s, still at `maxvid=0`.
    site.publish([7]);
    browser.until("document.querySelectorAll('#list li').length === 1").await;
    let shown = browser.eval("document.querySelector('#list li').textContent").await;
    assert_eq!(shown, format!("7 1 {} {} Y", card(7), time(7)));
}
