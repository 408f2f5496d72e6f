//! The welcome screen in a real browser. Its clock and its event stream are the test's own where a
//! claim is about time, so that hours pass at once; see [`OWN_CLOCK`].

use serde_json::{Value, json};

use crate::{browser::Browser, site::Site};

/// Stands for the page's clock, timers and stream: `pass(ms)` lets time go by, `emit(event, data, id)`
/// is what the server says.
const OWN_CLOCK: &str = r#"(function () {
  var at = 1000, timers = {}, last = 0;
  performance.now = function () { return at; };
  function timer(repeats) {
    return function (what, ms) {
      last += 1;
      timers[last] = { at: at + (ms || 0), every: repeats ? ms : 0, what: what };
      return last;
    };
  }
  window.setTimeout = timer(false);
  window.setInterval = timer(true);
  window.clearTimeout = window.clearInterval = function (id) { delete timers[id]; };
  window.timers = function () { return Object.keys(timers).length; };
  window.pass = function (ms) {
    var end = at + ms;
    for (;;) {
      var due = null;
      for (var id in timers) {
        if (timers[id].at <= end && (due === null || timers[id].at < timers[due].at)) { due = id; }
      }
      if (due === null) { break; }
      var found = timers[due];
      at = Math.max(at, found.at);
      if (found.every) { found.at += found.every; } else { delete timers[due]; }
      found.what();
    }
    at = end;
  };
  window.EventSource = function (url) {
    this.url = url;
    this.readyState = 0;
    this.heard = {};
    window.stream = this;
  };
  EventSource.prototype.addEventListener = function (name, heard) { this.heard[name] = heard; };
  EventSource.prototype.close = function () { this.readyState = 2; };
  var lastId = '';
  window.emit = function (name, data, id) {
    lastId = id || lastId;
    if (stream.heard[name]) { stream.heard[name]({ data: JSON.stringify(data), lastEventId: lastId }); }
  };
  window.connected = function () {
    pass(5000);
    stream.readyState = 1;
    stream.onopen();
    emit('hello', { epoch: 1, head: '1-0', heartbeat_ms: 15000, now_ms: Date.UTC(2026, 10, 20, 9, 30), utc_offset_s: 0 });
  };
  // Time with a server that is there.
  window.live = function (ms) {
    for (; ms > 0; ms -= 15000) {
      pass(Math.min(ms, 15000));
      emit('ping', { now_ms: Date.UTC(2026, 10, 20, 9, 30) + at });
    }
  };
  var ids = 0;
  window.greet = function (name, more) {
    ids += 1;
    var greeting = { ref: name, name: name, title: '', message: '', photo: null, door: '1', greeting: '上午好',
      lang: 'zh', priority: 0, age_ms: 0, ttl_ms: 20000, show_ms: 8000 };
    for (var key in more || {}) { greeting[key] = more[key]; }
    emit('message', greeting, '1-' + ids);
  };
  window.shown = function () {
    return / greets /.test(' ' + document.body.className + ' ') ? document.getElementById('name').textContent : null;
  };
  window.next = function () {
    return [].map.call(document.querySelectorAll('#next > *'), function (slot) { return slot.textContent; })
      .slice(1).filter(Boolean);
  };
  window.has = function (name) { return (' ' + document.body.className + ' ').indexOf(' ' + name + ' ') >= 0; };
}());"#;

/// A screen that is connected, on the test's own clock.
async fn screen(site: &Site) -> Browser {
    let browser = Browser::start().await;
    browser.before_pages(OWN_CLOCK).await;
    browser.open(&site.url("/screen?doorno=1,2")).await;
    browser.eval("connected()").await;
    browser
}

/// Evaluates one expression after the other; each must have the value beside it.
async fn check(browser: &Browser, steps: &[(&str, Value)]) {
    for (number, (expression, expected)) in steps.iter().enumerate() {
        assert_eq!(browser.eval(expression).await, *expected, "step {number}: {expression}");
    }
}

#[tokio::test]
async fn greetings_are_shown_one_after_the_other() {
    let site = Site::start().await;
    let browser = screen(&site).await;
    let steps = [
        ("shown()", Value::Null),
        // Alone: eight seconds.
        ("greet('A'), shown()", json!("A")),
        ("pass(7900), shown()", json!("A")),
        ("pass(200), shown()", Value::Null),
        // With others behind: three seconds each, eight for the last.
        ("greet('B'), pass(1000), greet('C'), greet('D'), shown()", json!("B")),
        ("next()", json!(["C", "D"])),
        ("pass(1900), shown()", json!("B")),
        ("pass(200), shown()", json!("C")),
        ("pass(3000), shown()", json!("D")),
        ("pass(7800), shown()", json!("D")),
        ("pass(200), shown()", Value::Null),
        // One who has been there for over three seconds makes way at once.
        ("greet('E'), pass(5000), greet('F'), shown()", json!("F")),
        // As long as the server says, within reason.
        ("pass(9000), greet('G', {show_ms: 20000}), pass(19000), shown()", json!("G")),
        ("pass(1100), greet('H', {show_ms: 1e9}), pass(61000), shown()", Value::Null),
    ];
    check(&browser, &steps).await;
}

#[tokio::test]
async fn the_queue_has_a_bound_and_lets_the_important_go_first() {
    let site = Site::start().await;
    let browser = screen(&site).await;
    let steps = [
        ("'ABCDEFGH'.split('').forEach(function (name) { greet(name); }), shown()", json!("A")),
        ("next()", json!(["B", "C", "D", "+2"])),
        // Those who were turned away may come again; those who wait do not lose their place.
        ("pass(3100), greet('H'), next()", json!(["C", "D", "E", "+2"])),
        ("greet('boss', {priority: 9}), next()", json!(["boss", "C", "D", "+2"])),
        ("greet('vice', {priority: 5}), next()", json!(["boss", "vice", "C", "+2"])),
        ("pass(3000), shown()", json!("boss")),
        ("pass(3000), shown()", json!("vice")),
        ("pass(3000), shown()", json!("C")),
    ];
    check(&browser, &steps).await;
}

#[tokio::test]
async fn the_same_person_is_greeted_once_in_half_a_minute() {
    let site = Site::start().await;
    let browser = screen(&site).await;
    let steps = [
        ("greet('A'), pass(1000), greet('A', {door: '2'}), next()", json!([])),
        ("pass(8000), shown()", Value::Null),
        ("greet('A'), shown()", Value::Null),
        ("pass(22000), greet('A'), shown()", json!("A")),
        ("pass(9000), greet('A', {test: true}), shown()", json!("A")),
        // Two people of one name are two people.
        ("pass(9000), greet('Li', {ref: '1'}), greet('Li', {ref: '2'}), next()", json!(["Li"])),
    ];
    check(&browser, &steps).await;
}

#[tokio::test]
async fn a_greeting_that_is_too_old_is_never_shown() {
    let site = Site::start().await;
    let browser = screen(&site).await;
    let steps = [
        ("greet('A', {ttl_ms: 0}), shown()", Value::Null),
        // It aged on its way: the server sent it a minute ago.
        ("greet('B', {sent_ms: Date.UTC(2026, 10, 20, 9, 29)}), shown()", Value::Null),
        ("greet('C', {sent_ms: Date.UTC(2026, 10, 20, 9, 30)}), shown()", json!("C")),
        // It grew too old in the queue.
        ("greet('D', {ttl_ms: 2000}), next()", json!(["D"])),
        ("pass(3100), shown()", json!("C")),
        ("pass(5000), shown()", Value::Null),
        // A display whose clock is years off does not matter.
        ("Date.now = function () { return 0; }, greet('E'), shown()", json!("E")),
    ];
    check(&browser, &steps).await;
}

#[tokio::test]
async fn a_lost_link_leaves_the_content_and_a_mark() {
    let site = Site::start().await;
    let browser = screen(&site).await;
    let steps = [
        ("greet('A', {show_ms: 30000}), stream.readyState = 0, stream.onerror(), has('lost')", json!(false)),
        ("pass(6000), has('lost')", json!(true)),
        ("shown()", json!("A")),
        ("document.getElementById('clock').textContent", json!("09:30")),
        // Two minutes later it is back, and with it what was sent to it and lay about meanwhile.
        ("pass(30000), shown()", Value::Null),
        ("stream.readyState", json!(0)),
        ("stream.onopen(), emit('ping', {now_ms: Date.UTC(2026, 10, 20, 9, 32)}), has('lost')", json!(false)),
        ("greet('old', {sent_ms: Date.UTC(2026, 10, 20, 9, 31)}), shown()", Value::Null),
        ("greet('new', {sent_ms: Date.UTC(2026, 10, 20, 9, 32)}), shown()", json!("new")),
    ];
    check(&browser, &steps).await;
}

#[tokio::test]
async fn a_silent_stream_is_replaced_and_goes_on_where_it_was() {
    let site = Site::start().await;
    let browser = screen(&site).await;
    let steps = [
        ("window.first = stream, greet('A'), pass(36000), stream === first", json!(true)),
        ("pass(6000), stream !== first && first.readyState === 2", json!(true)),
        ("/[?&]since=1-1&/.test(stream.url) && /doorno=1,2/.test(stream.url)", json!(true)),
        // The row that comes again is the one that was shown.
        ("stream.onopen(), emit('hello', {heartbeat_ms: 15000}, '1-0'), live(40000), shown()", Value::Null),
        ("emit('message', {ref: 'A', name: 'A', ttl_ms: 20000}, '1-1'), shown()", Value::Null),
        // A test has no id of its own, and shows.
        ("emit('message', {ref: 'T', name: 'T', ttl_ms: 20000, test: true}), shown()", json!("T")),
    ];
    check(&browser, &steps).await;
}

#[tokio::test]
async fn names_are_text_and_fit_the_screen() {
    let site = Site::start().await;
    let browser = screen(&site).await;
    let names = [
        "<script>document.title = 'x'</script><img src=x onerror=\"document.title = 'x'\">".to_owned(),
        "司马相如".repeat(16),
        "عبد الرحمن بن محمد الفارسي".to_owned(),
        "Léa 🎉👩‍🚀".to_owned(),
        "W".repeat(100),
        "Maximiliana Theodora von Hohenzollern-Sigmaringen-Weißenburg".to_owned(),
    ];
    for (width, height) in [(1920, 1080), (1080, 1920), (1366, 768), (1024, 768), (320, 240)] {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        browser.cdp("Emulation.setDeviceMetricsOverride", size).await;
        for name in &names {
            for photo in [Value::Null, json!("/nobody.jpg")] {
                let more = json!({"title": name, "message": name.repeat(3), "photo": photo});
                let greet = format!("greet({}, {more})", json!(name));
                assert_eq!(browser.eval(&format!("live(31000), {greet}, shown()")).await, *name);
                let outside = "[].filter.call(document.querySelectorAll('#card > *'), function (line) {
                    var box = line.getBoundingClientRect();
                    return box.left < 0 || box.top < 0 || box.right > innerWidth || box.bottom > innerHeight;
                }).map(function (line) { return line.id; })";
                assert_eq!(browser.eval(outside).await, json!([]), "{width}x{height} {photo}: {name}");
                let cut = "(function (line) { return line.scrollWidth > line.clientWidth + 1; }(
                    document.getElementById('name')))";
                assert_eq!(browser.eval(cut).await, json!(false), "{width}x{height} {photo}: {name}");
            }
        }
    }
    assert_eq!(browser.eval("document.title").await, "Welcome");
    assert_eq!(browser.eval("document.querySelectorAll('#card img, #card script').length").await, 0);
}

#[tokio::test]
async fn the_screen_knows_day_and_night_by_the_servers_clock() {
    let site = Site::start().await;
    let browser = screen(&site).await;
    let steps = [
        ("document.getElementById('hail').textContent", json!("上午好，欢迎光临")),
        ("document.getElementById('hail2').textContent", json!("Good morning, and welcome")),
        ("document.getElementById('day').textContent", json!("11月20日　星期五")),
        ("has('dark')", json!(false)),
        ("emit('ping', {now_ms: Date.UTC(2026, 10, 20, 22, 1)}), pass(1000), has('dark')", json!(true)),
        ("document.getElementById('clock').textContent", json!("22:01")),
        ("document.getElementById('hail').textContent", json!("晚上好，欢迎光临")),
    ];
    check(&browser, &steps).await;
}

// It reloads by night after most of a day, when nobody is greeted and the server answers.
#[tokio::test]
async fn the_screen_reloads_by_night() {
    let site = Site::start().await;
    let browser = screen(&site).await;
    let night = "emit('ping', {now_ms: Date.UTC(2026, 10, 21, 3, 59)})";
    browser.eval("window.isOld = true").await;
    // Too young.
    browser.eval(&format!("{night}, pass(1000)")).await;
    // Old enough, but somebody is greeted.
    browser.eval(&format!("live(21 * 3600000), {night}, greet('A'), pass(2000)")).await;
    assert_eq!(browser.eval("window.isOld").await, true);
    browser.eval(&format!("live(15000), pass(2000), {night}, pass(2000)")).await;
    crate::site::within("the page to be new", async {
        while browser.eval("window.isOld === true").await == true {}
    })
    .await;
}

// What the page holds stays the same over 10,000 greetings in a day. Most of them come without their rise,
// as for people who want less motion: to begin an animation takes the browser longer than all the rest.
#[tokio::test]
async fn the_screen_holds_no_more_after_many_greetings() {
    let site = Site::start().await;
    let browser = screen(&site).await;
    // What it reports each minute is not what is counted here.
    browser.eval("XMLHttpRequest.prototype.send = function () {}").await;
    browser.eval("window.number = 10000").await;
    let mut held = Vec::new();
    for (greetings, motion) in [(1_000, "no-preference"), (8_000, "reduce"), (1_000, "no-preference")] {
        let features = json!({"features": [{"name": "prefers-reduced-motion", "value": motion}]});
        browser.cdp("Emulation.setEmulatedMedia", features).await;
        for _ in 0..greetings / 100 {
            let greet = "(function () {
                for (var i = 0, missed = 0; i < 100; i++) {
                  number += 1;
                  greet('N' + number, {title: 'T' + i, priority: i % 3, photo: i % 50 ? null : '/nobody.jpg'});
                  if (shown() !== 'N' + number) { missed += 1; }
                  pass(8640);
                  emit('ping', {now_ms: Date.UTC(2026, 10, 20, 9, 30) + performance.now()});
                }
                return [timers(), missed];
              }())";
            let found = browser.eval(greet).await;
            assert!(found[0].as_u64().unwrap() < 12 && found[1] == 0, "timers and missed: {found}");
        }
        browser.cdp("HeapProfiler.collectGarbage", json!({})).await;
        let counters = browser.cdp("Memory.getDOMCounters", json!({})).await;
        let heap = browser.cdp("Runtime.getHeapUsage", json!({})).await;
        let after = browser.eval("number - 10000").await;
        println!("after {after} greetings: {counters}, {} bytes", heap["usedSize"]);
        held.push((counters, heap["usedSize"].as_f64().unwrap()));
    }
    let [(early, early_heap), _, (late, late_heap)] = &held[..] else { unreachable!() };
    for counter in ["documents", "nodes", "jsEventListeners"] {
        let (early, late) = (early[counter].as_u64().unwrap(), late[counter].as_u64().unwrap());
        assert!(late <= early + 8, "{counter}: {early}, later {late}");
    }
    assert!(*late_heap < early_heap + 300_000.0, "heap: {early_heap}, later {late_heap}");
}

// What a screen loads is small enough for a set from 2014.
#[tokio::test]
async fn the_screen_is_small() {
    let site = Site::start().await;
    let mut bytes = 0;
    for path in ["/screen", "/screen.js", "/client.js"] {
        let answer = crate::site::client().get(site.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        bytes += answer.bytes().await.unwrap().len();
    }
    assert!(bytes < 40 * 1024, "{bytes} bytes");
}
