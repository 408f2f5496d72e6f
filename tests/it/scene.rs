//! A server of the test's own, doorcast beside it, and a reader of each kind: what most claims about
//! recovery are shown on.

use std::{collections::BTreeMap, net::Ipv4Addr};

use doorcast::demo::server::PrivateServer;
use mysql_async::{Conn, prelude::Queryable};

use crate::{
    clients::{Reader, Rows},
    process::Doorcast,
    proxy::Proxy,
    servers::{self, PASSWORD},
};

/// See the module.
pub(crate) struct Scene {
    pub(crate) kind: &'static str,
    pub(crate) server: PrivateServer,
    /// As root, in database `doors`.
    pub(crate) conn: Conn,
    pub(crate) doorcast: Doorcast,
    readers: Vec<Reader>,
    /// Whether everything is logged, so that no row needs the sweep to be found.
    pub(crate) logged: bool,
}

impl Scene {
    /// With options for the server and for doorcast.
    pub(crate) async fn start(kind: &'static str, server_options: &[&str], options: &[&str]) -> Scene {
        let server = servers::private(kind, server_options).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        Scene::on(kind, server, options).await
    }

    /// The same, with a proxy between doorcast and the server.
    pub(crate) async fn behind_proxy(
        kind: &'static str,
        server_options: &[&str],
        options: &[&str],
    ) -> (Scene, Proxy) {
        let server = servers::private(kind, server_options).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        let proxy = Proxy::start((Ipv4Addr::LOCALHOST, server.port()).into()).await;
        let db = format!("mysql://doorcast:{PASSWORD}@127.0.0.1:{}/doors", proxy.port);
        (Scene::through(kind, server, &db, options).await, proxy)
    }

    /// On a server that has the table.
    pub(crate) async fn on(kind: &'static str, server: PrivateServer, options: &[&str]) -> Scene {
        let db = url(&server);
        Scene::through(kind, server, &db, options).await
    }

    /// On a server that doorcast reaches as `db` says.
    pub(crate) async fn through(
        kind: &'static str,
        server: PrivateServer,
        db: &str,
        options: &[&str],
    ) -> Scene {
        let conn = server.root(Some("doors")).await.unwrap();
        let doorcast = Doorcast::start(db, options).await;
        let readers =
            vec![Reader::sse(&doorcast, "?since=earliest"), Reader::poll(&doorcast, "?since=earliest")];
        Scene { kind, server, conn, doorcast, readers, logged: true }
    }

    /// Runs statements, one after the other.
    pub(crate) async fn sql(&mut self, statements: &[&str]) {
        for sql in statements {
            self.conn.query_drop(*sql).await.unwrap_or_else(|err| panic!("{}: {sql}: {err}", self.kind));
        }
    }

    /// Connects anew, after the server has gone and come.
    pub(crate) async fn reconnect(&mut self) {
        self.conn = self.server.root(Some("doors")).await.unwrap();
    }

    /// What `/api/status` says.
    pub(crate) async fn status(&self) -> serde_json::Value {
        let answer = crate::site::client().get(self.doorcast.url("/api/status")).send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    /// Waits until doorcast has read the binlog to its end: row images behind a change of the table are decoded then.
    pub(crate) async fn read_binlog(&mut self) {
        let (file, end) = crate::binlog::position(&self.server, &mut self.conn).await;
        crate::deadline::deadline(async {
            while self.status().await["position"] != format!("{file}:{end}") {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Ids of the connections that send the binlog to doorcast.
    pub(crate) async fn dump_threads(&mut self) -> Vec<u64> {
        let threads: Vec<mysql_async::Row> = self.conn.query("SHOW PROCESSLIST").await.unwrap();
        let sends = |thread: &mysql_async::Row| {
            thread.get::<String, _>("User").unwrap() == "doorcast"
                && thread.get::<String, _>("Command").unwrap().starts_with("Binlog Dump")
        };
        threads.iter().filter(|thread| sends(thread)).map(|thread| thread.get("Id").unwrap()).collect()
    }

    /// Waits until every reader has `count` rows.
    pub(crate) async fn read(&mut self, count: usize) {
        for reader in &mut self.readers {
            reader.has(count).await;
        }
    }

    /// Inserts the last row, and checks that each reader has exactly the rows of the table, each once and in the first
    /// epoch, in the same order and with the same bytes as the other, and as the table has them now. Returns the ids
    /// and rows.
    pub(crate) async fn every_row_of_the_table_came_once(mut self) -> (Rows, Scene) {
        // The last row by the binlog may overtake those that a look at the table brings.
        let count: Option<usize> = self.conn.query_first("SELECT COUNT(*) FROM vdooropen").await.unwrap();
        self.read(count.unwrap()).await;
        let mut all = self.last_row().await;
        if self.logged {
            let status = self.status().await;
            assert_eq!(status["unlogged"], 0, "{}: the sweep had to find rows: {status}", self.kind);
        }
        let there: Vec<mysql_async::Row> =
            self.conn.query("SELECT * FROM vdooropen ORDER BY vid").await.unwrap();
        let there: Vec<BTreeMap<String, Option<String>>> = there.into_iter().map(as_text).collect();
        let rows = all.swap_remove(0);
        for others in all {
            assert_eq!(rows, others, "{}: two readers", self.kind);
        }
        assert!(rows.iter().all(|(id, _)| id.starts_with("1-")), "{}: another epoch: {rows:?}", self.kind);
        let mut came: Vec<_> = rows.iter().map(|(id, json)| (key(id), json)).collect();
        came.sort_unstable();
        let keys = came.iter().map(|(key, _)| Some(key.to_string()));
        assert!(keys.eq(there.iter().map(|row| row["vid"].clone())), "{}: {rows:?}", self.kind);
        for ((_, json), there) in came.iter().zip(&there) {
            assert_agree(json, there, self.kind);
        }
        (rows, self)
    }

    /// Inserts the last row and returns what each reader has.
    pub(crate) async fn last_row(&mut self) -> Vec<Rows> {
        let sql = "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (999, 'END', '20261120 071500', 'N')";
        self.conn.query_drop(sql).await.unwrap();
        let mut all = Vec::new();
        for reader in std::mem::take(&mut self.readers) {
            all.push(reader.finish().await);
        }
        all
    }
}

/// Transactions that stay open while others commit.
pub(crate) struct Late(Conn);

impl Late {
    pub(crate) async fn on(server: &PrivateServer) -> Late {
        Late(server.root(Some("doors")).await.unwrap())
    }

    /// Begins one with this INSERT.
    pub(crate) async fn insert(&mut self, sql: &str) {
        self.0.query_drop("BEGIN").await.unwrap();
        self.0.query_drop(sql).await.unwrap();
    }

    pub(crate) async fn commit(&mut self) {
        self.0.query_drop("COMMIT").await.unwrap();
    }
}

/// The key in an id.
fn key(id: &str) -> i64 {
    id.split_once('-').unwrap().1.parse().unwrap()
}

/// A row as the server prints it, by the names of its columns.
fn as_text(row: mysql_async::Row) -> BTreeMap<String, Option<String>> {
    let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
    names.into_iter().zip(row.unwrap().into_iter().map(mysql_async::from_value)).collect()
}

/// A row may have been told before a column came, or before one went.
fn assert_agree(json: &str, there: &BTreeMap<String, Option<String>>, kind: &str) {
    let told: BTreeMap<String, serde_json::Value> = serde_json::from_str(json).unwrap();
    for (name, value) in &told {
        let text = match value {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        assert!(there.get(name).is_none_or(|now| *now == text), "{kind}: {name} of {json}, now {there:?}");
    }
}

/// For doorcast: its own user, over TCP.
pub(crate) fn url(server: &PrivateServer) -> String {
    format!("mysql://doorcast:{PASSWORD}@127.0.0.1:{}/doors", server.port())
}

/// One swipe at `door`.
pub(crate) fn swipe(door: u32) -> String {
    format!(
        "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES ({door}, '00A1', '20261120 071500', 'Y')"
    )
}
