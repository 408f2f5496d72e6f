//! The welcome screen's server side over real sockets: people, greetings, reception. No database: see
//! [`crate::site`].

mod file;
mod greetings;
mod kiosk;
mod process;
mod reception;

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use doorcast::{
    feed::Limits,
    http::{Reception, Settings},
    id::Key,
    people::{self, Clock, Columns, Greeter, Lang, People},
    status::now_ms,
};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};

use crate::site::{Event, Events, Site, client, encode, within};

/// A zone in which it is just past noon, so that no test meets midnight, the dimmed screen or the nightly reload.
pub(crate) fn zone() -> &'static str {
    static ZONE: LazyLock<String> = LazyLock::new(|| {
        let hour = Timestamp::now().to_zoned(TimeZone::UTC).hour();
        // The names count west of Greenwich (POSIX).
        format!("Etc/GMT{:+}", hour - 12)
    });
    &ZONE
}

const HEADER: &str = "rfsim,name,title,message,photo,doors,valid_from,valid_to,priority,lang";

/// Wang's card, and one that is nobody's.
const WANG: &str = "00A1B2C3D4E5F607";
const NOBODY: &str = "00FFEEDDCCBBAA99";

/// A site with a people file, and a reception.
struct Lobby {
    site: Site,
    folder: TempDir,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Lobby {
    /// With these people, one a line.
    async fn with(people: &[&str]) -> Self {
        Self::with_file(Some(format!("{HEADER}\n{}\n", people.join("\n")).as_bytes())).await
    }

    async fn with_wang() -> Self {
        Self::with(&[&format!("{WANG},王小明,博士,\"{{greeting}}，{{name}}{{title}}\",,,,,5,")]).await
    }

    async fn with_file(bytes: Option<&[u8]>) -> Self {
        Self::with_settings(bytes, Settings::default(), Duration::from_millis(5)).await
    }

    async fn with_settings(bytes: Option<&[u8]>, settings: Settings, look_every: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("people.csv");
        if let Some(bytes) = bytes {
            std::fs::write(&file, bytes).unwrap();
        }
        let people = people::Settings {
            file,
            photo_dir: folder.path().join("photos"),
            look_every,
            greeter: greeter(),
            remember_unknown: true,
        };
        let people = Arc::new(People::new(people));
        let settings =
            Settings { people: Some(people.clone()), reception: Some(Reception::default()), ..settings };
        let site = Site::with(settings, Limits::default()).await;
        let (stop, stopped) = watch::channel(false);
        let tasks = [
            tokio::spawn(people.clone().keep_current(stopped.clone())),
            tokio::spawn(people.observe(site.feed.clone(), stopped)),
        ];
        Lobby { site, folder, stop, tasks }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("people.csv")
    }

    fn write(&self, bytes: &[u8]) {
        std::fs::write(self.file(), bytes).unwrap();
    }

    /// A swipe now.
    fn swipe(&self, key: Key, door: i32, card: &str) {
        self.swipe_at(key, door, card, now_ms(), &optime(0));
    }

    fn swipe_at(&self, key: Key, door: i32, card: &str, committed_ms: u64, optime: &str) {
        let row = encode(
            key,
            &[
                ("vid", key.to_string()),
                ("doorno", door.to_string()),
                ("rfsim", format!("\"{card}\"")),
                ("optime", format!("\"{optime}\"")),
                ("ynopen", "\"Y\"".to_owned()),
            ],
        );
        self.site.table.insert(row.clone());
        self.site.feed.publish(1, Some(committed_ms), vec![row]);
    }

    /// A stream after its hello.
    async fn screen(&self, path: &str) -> Events {
        let mut events = Events::open(&self.site, path).await;
        assert_eq!(events.response.status(), 200);
        assert!(events.next().await.unwrap().retry.is_some());
        assert_eq!(events.next_but_ping().await.name, "hello");
        events
    }

    /// What `/api/status` says of people, once it is so.
    async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        within(what, async {
            loop {
                let state = self.site.state().await["people"].take();
                if is_so(&state) {
                    return state;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// A request as the reception's page makes it.
    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        client().request(method, self.site.url(&format!("/reception/api/{path}"))).header("x-doorcast", "1")
    }

    fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        let request = self.request(reqwest::Method::POST, path);
        request.header("content-type", "application/json").body(body.to_string())
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.request(reqwest::Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    async fn stopped(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            within("the people's tasks to end", task).await.unwrap();
        }
        self.site.stopped().await.unwrap();
    }
}

fn greeter() -> Greeter {
    Greeter {
        columns: Columns { card: "rfsim".into(), door: "doorno".into(), time: "optime".into() },
        clock: Clock::new(Some(zone()), Some("%Y%m%d %H%M%S")).unwrap(),
        fresh: Duration::from_secs(20),
        lang: Lang::Zh,
        messages: ["欢迎光临".into(), "Welcome".into()],
    }
}

/// The time so many seconds ago, as a controller writes it.
pub(crate) fn optime(seconds_ago: i64) -> String {
    let time = Timestamp::from_second(Timestamp::now().as_second() - seconds_ago).unwrap();
    time.to_zoned(TimeZone::get(zone()).unwrap()).strftime("%Y%m%d %H%M%S").to_string()
}

/// A greeting's own name.
fn name(event: &Event) -> String {
    event.json()["name"].as_str().unwrap().to_owned()
}
