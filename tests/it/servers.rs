//! Real servers for the tests: one of each kind shared by all, and private ones to restart or kill.
//!
//! They come from the cache folder that `scripts/servers` fills; the machine's own server takes
//! the place of a missing one of the same series.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use doorcast::demo::binary::{Flavour, ServerBinary};
use doorcast::demo::server::PrivateServer;
use futures_util::future::join_all;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::OnceCell;

use crate::deadline::deadline;

/// Every kind there is. `DOORCAST_TEST_SERVERS=mariadb-10.11,mysql-9.7` makes them fewer.
pub(crate) const KINDS: [&str; 5] =
    ["mariadb-10.5", "mariadb-10.11", "mariadb-11.8", "mysql-5.6", "mysql-9.7"];

/// One running server of each kind, for tests that leave it as it is.
pub(crate) async fn all() -> &'static [PrivateServer] {
    static ALL: OnceCell<Vec<PrivateServer>> = OnceCell::const_new();
    ALL.get_or_init(|| join_all(kinds().into_iter().map(|kind| private(kind, &[])))).await
}

/// The kinds that are tested in this run.
pub(crate) fn kinds() -> Vec<&'static str> {
    binaries().iter().map(|(kind, _)| *kind).collect()
}

/// Runs a test for each kind, side by side.
pub(crate) async fn each_kind(test: impl AsyncFn(&'static str)) {
    join_all(kinds().into_iter().map(|kind| test(kind))).await;
}

/// A server that the test has for itself, with options on top of the usual ones.
pub(crate) async fn private(kind: &str, extra_options: &[&str]) -> PrivateServer {
    let (_, binary) = binaries().iter().find(|(name, _)| *name == kind).expect("the kind is one of kinds()");
    deadline(PrivateServer::start(binary.clone(), extra_options)).await.expect("the server starts")
}

/// A database of a test's own, with the table of the demo.
#[derive(Debug)]
pub(crate) struct Database {
    /// Its name, which no other test has.
    pub(crate) name: String,
    /// A user with doorcast's rights: replication, and SELECT on `vdooropen` alone.
    pub(crate) user: String,
    server: &'static PrivateServer,
}

/// What the user of every [`Database`] has for a password.
pub(crate) const PASSWORD: &str = "swipe";

/// Makes a database whose name begins with `name`. It may be called twice with the same name.
pub(crate) async fn database(server: &'static PrivateServer, name: &str) -> Database {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let database = Database { name: format!("{name}_{number}"), user: format!("door_{number}"), server };
    let mut root = server.root(None).await.expect("root gets in");
    create(&mut root, &database.name, &database.user).await;
    root.disconnect().await.expect("root leaves");
    database
}

/// The same on a server that is not shared: database `name`, user `doorcast`.
pub(crate) async fn create(root: &mut Conn, name: &str, user: &str) {
    let user_sql = USER.replace("'doorcast'", &format!("'{user}'")).replace("CHANGE-ME", PASSWORD);
    for sql in [&format!("CREATE DATABASE `{name}`"), &format!("USE `{name}`"), TABLE, &user_sql] {
        root.query_drop(sql).await.expect("the SQL is good on every server");
    }
}

const TABLE: &str = include_str!("../../migrations/0001_vdooropen.up.sql");
const USER: &str = include_str!("../../migrations/0002_doorcast_user.up.sql");

impl Database {
    /// For doorcast: its own user, over TCP.
    pub(crate) fn url(&self) -> String {
        format!("mysql://{}:{PASSWORD}@127.0.0.1:{}/{}", self.user, self.server.port(), self.name)
    }

    /// A connection as root, this database chosen.
    pub(crate) async fn admin(&self) -> Conn {
        deadline(self.server.root(Some(&self.name))).await.expect("root gets in")
    }

    /// Lets [`user`](Self::user) read one more table.
    pub(crate) async fn grant_select(&self, table: &str) {
        let grant = format!("GRANT SELECT ON `{}`.`{table}` TO '{}'@'%'", self.name, self.user);
        self.admin().await.query_drop(grant).await.expect("root may grant");
    }
}

fn binaries() -> &'static [(&'static str, ServerBinary)] {
    static BINARIES: OnceLock<Vec<(&str, ServerBinary)>> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let cache = std::env::var_os("DOORCAST_SERVERS").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/servers")),
            PathBuf::from,
        );
        let mut there = ServerBinary::cached(&cache);
        there.extend(ServerBinary::installed());
        let only = std::env::var("DOORCAST_TEST_SERVERS").ok();
        let wanted = |kind: &str| only.as_ref().is_none_or(|only| only.split(',').any(|name| name == kind));
        let found: Vec<_> = KINDS
            .into_iter()
            .filter(|kind| wanted(kind))
            .filter_map(|kind| Some((kind, there.iter().find(|binary| binary.name() == kind)?.clone())))
            .collect();
        report(&found);
        assert!(!found.is_empty(), "no server to test on: run scripts/servers");
        found
    })
}

/// Straight to standard error, which the test runner does not keep to itself.
fn report(found: &[(&str, ServerBinary)]) {
    let mut text = String::from("servers tested:");
    for (_, binary) in found {
        let _ = write!(text, " {binary},");
    }
    let absent: Vec<_> =
        KINDS.into_iter().filter(|kind| !found.iter().any(|(name, _)| name == kind)).collect();
    let _ =
        write!(text, " not tested: {}", if absent.is_empty() { "none".into() } else { absent.join(", ") });
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[tokio::test]
async fn every_server_starts_restarts_and_writes_row_binlog() {
    join_all(kinds().into_iter().map(|kind| async move {
        let mut server = private(kind, &[]).await;
        let mut root = server.root(None).await.expect("root gets in by the socket");
        create(&mut root, "doors", "doorcast").await;
        root.query_drop("INSERT INTO vdooropen VALUES (NULL, 3, '00A1', '20261120 071500', 'Y')")
            .await
            .unwrap();
        root.disconnect().await.unwrap();

        server.restart().await.unwrap();
        let mut root = Conn::from_url(server.root_url("doors")).await.expect("root gets in by TCP");
        let format: Option<String> = root.query_first("SELECT @@binlog_format").await.unwrap();
        assert_eq!(format.as_deref(), Some("ROW"), "{kind}");
        let events: Vec<mysql_async::Row> =
            root.query("SHOW BINLOG EVENTS IN 'binlog.000001'").await.unwrap();
        let kinds_of_event = events.iter().map(|event| event.get::<String, _>("Event_type").unwrap());
        let row_events = kinds_of_event.filter(|event| event.starts_with("Write_rows")).count();
        assert_eq!(row_events, 1, "{kind}: the INSERT is there as a row");
        root.disconnect().await.unwrap();

        server.kill();
        assert!(server.root(None).await.is_err(), "{kind}: killed");
        server.start_again().await.unwrap();
        let port = server.port();
        server.restart_with(&["--binlog-format=MIXED"]).await.unwrap();
        assert_eq!(server.port(), port, "{kind}: the port stays");
        let mut root = server.root(Some("doors")).await.unwrap();
        let format: Option<String> = root.query_first("SELECT @@binlog_format").await.unwrap();
        assert_eq!(format.as_deref(), Some("MIXED"), "{kind}");
        let rows: Vec<(u32, String)> = root.query("SELECT vid, ynopen FROM vdooropen").await.unwrap();
        assert_eq!(rows, [(1, "Y".to_owned())], "{kind}");
    }))
    .await;
}

#[tokio::test]
async fn shared_servers_let_a_user_with_least_rights_in() {
    for server in all().await {
        let database = database(server, "least").await;
        let mut conn = Conn::from_url(database.url()).await.expect("the user gets in by TCP");
        let rows: Option<u32> = conn.query_first("SELECT COUNT(*) FROM vdooropen").await.unwrap();
        assert_eq!(rows, Some(0));
        let status = match (server.binary().flavour(), server.binary().version()) {
            (Flavour::MySql, version) if version >= (8, 4, 0) => "SHOW BINARY LOG STATUS",
            _ => "SHOW MASTER STATUS",
        };
        conn.query_drop(status).await.expect("the user may ask for the position");
        conn.query_drop("DELETE FROM vdooropen").await.expect_err("the user may not write");
        database.admin().await.query_drop("CREATE TABLE other (id INT PRIMARY KEY)").await.unwrap();
        conn.query_drop("SELECT * FROM other").await.expect_err("nor read another table");
        database.grant_select("other").await;
        conn.query_drop("SELECT * FROM other").await.expect("unless it is granted");
    }
}
