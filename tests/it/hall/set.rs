//! What a screen asks of the set that it is on: to sound, and to stay awake.

use serde_json::json;

use super::{Hall, Page};
use crate::servers;

/// Hears what the page plays, and notes what it asks for and what fails.
const LISTEN: &str = r"(function () {
  window.errors = [];
  window.locks = [];
  window.notes = 0;
  window.addEventListener('error', function (event) { errors.push(event.message); });
  window.addEventListener('unhandledrejection', function (event) { errors.push(String(event.reason)); });
  if (navigator.wakeLock) {
    var request = navigator.wakeLock.request;
    navigator.wakeLock.request = function (kind) {
      locks.push(kind);
      return request.apply(navigator.wakeLock, arguments);
    };
  }
  var connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (to) {
    if (to === this.context.destination) {
      notes += 1;
      var ear = this.context.createAnalyser();
      var samples = new Float32Array(ear.fftSize);
      connect.call(this, ear);
      setInterval(function () {
        ear.getFloatTimeDomainData(samples);
        var loudest = Math.max.apply(null, samples);
        if (loudest > .05) { document.documentElement.setAttribute('data-loudest', loudest); }
      }, 10);
    }
    return connect.apply(this, arguments);
  };
}());";

const AS_THE_KIOSK: &str = "--autoplay-policy=no-user-gesture-required";

// Asked for, a chime sounds in a browser that is started as the kiosk's is. Where it may not, the greeting
// comes all the same; so it does over plain HTTP in a house's network, where no page may keep a set awake.
#[tokio::test]
async fn a_set_is_asked_for_a_chime_and_to_stay_awake() {
    let mut hall = Hall::open(servers::kinds()[0], &[]).await;
    let address = hall.scene.doorcast.address.clone();
    let port = address.rsplit_once(':').unwrap().1;
    let lan = format!("doors.example:{port}");
    for (argument, address, parameter, sounds, locks) in [
        (AS_THE_KIOSK, &address, "chime=1", true, json!(["screen"])),
        (AS_THE_KIOSK, &address, "chime=0", false, json!(["screen"])),
        ("--host-resolver-rules=MAP doors.example 127.0.0.1", &lan, "chime=1", false, json!([])),
    ] {
        let page = Page::open_with(&[argument], LISTEN, address, parameter).await;
        hall.swipe("A").await;
        page.greets("A").await;
        if sounds {
            page.until("document.documentElement.getAttribute('data-loudest')").await;
        }
        let notes = if parameter == "chime=1" { 2 } else { 0 };
        assert_eq!(page.browser.eval("notes").await, notes, "{address} {parameter}");
        assert_eq!(page.browser.eval("locks").await, locks, "{address} {parameter}");
        assert_eq!(page.browser.eval("errors").await, json!([]), "{address} {parameter}");
        let may_lock = page.browser.eval("Boolean(navigator.wakeLock)").await;
        assert_eq!(may_lock, locks != json!([]), "{address} {parameter}");
    }
}
