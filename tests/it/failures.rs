//! What only a person can mend: the status tells that, and the message says what to do.

use doorcast::demo::binary::Flavour;
use mysql_async::{Conn, prelude::Queryable};
use tempfile::TempDir;

use crate::{
    process::{Doorcast, run_to_end},
    servers::{self, PASSWORD},
};

const CONFIGURATION: i32 = 2;
const SOURCE: i32 = 3;

/// Runs it with a checkpoint of its own, and checks the status and what its last line says. Returns what it wrote.
async fn ends(db: &str, more: &[&str], status: i32, says: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    ends_in(&folder, db, more, status, says).await
}

async fn ends_in(folder: &TempDir, db: &str, more: &[&str], status: i32, says: &[&str]) -> String {
    let checkpoint = folder.path().join("c.json");
    let mut arguments = vec!["--db", db, "--checkpoint", checkpoint.to_str().unwrap()];
    if !more.contains(&"--listen") {
        arguments.extend(["--listen", "127.0.0.1:0"]);
    }
    arguments.extend(more);
    let (code, written) = run_to_end(&arguments).await;
    assert_eq!(code, status, "{written}");
    for part in says {
        assert!(written.contains(part), "{part:?} is not in: {written}");
    }
    assert!(!written.contains(PASSWORD), "no secret in the log: {written}");
    written
}

#[tokio::test]
async fn wrong_password_ends_with_the_remedy() {
    for server in servers::all().await {
        let database = servers::database(server, "wrong").await;
        let db = database.url().replace(PASSWORD, "guess");
        ends(&db, &[], SOURCE, &["wrong password", "ALTER USER", "--password-file"]).await;
    }
}

/// Refused before any password is looked at, or by a way to log in that doorcast does not have.
#[tokio::test]
async fn an_account_that_can_not_log_in_as_it_is_is_told_what_to_change() {
    servers::each_kind(async |kind| {
        let options: &[&str] = if kind == "mysql-9.7" { &[] } else { &["--secure-auth=OFF"] };
        let server = servers::private(kind, options).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        let db = crate::scene::url(&server);
        let elsewhere = "RENAME USER 'doorcast'@'%' TO 'doorcast'@'10.9.8.7'";
        for sql in ["DROP USER root@127.0.0.1", elsewhere, "FLUSH PRIVILEGES"] {
            root.query_drop(sql).await.unwrap();
        }
        let says = ["takes no connections from this host", "CREATE USER 'doorcast'@'<host>'"];
        ends(&db, &[], SOURCE, &says).await;
        root.query_drop("RENAME USER 'doorcast'@'10.9.8.7' TO 'doorcast'@'%'").await.unwrap();

        let by_another_way: &[&str] = match kind {
            "mysql-9.7" => &["ALTER USER 'doorcast'@'%' IDENTIFIED WITH sha256_password BY 'swipe'"],
            "mysql-5.6" => &[
                "UPDATE mysql.user SET plugin = 'mysql_old_password', password = OLD_PASSWORD('swipe') \
                 WHERE user = 'doorcast'",
                "FLUSH PRIVILEGES",
            ],
            _ => &["SET PASSWORD FOR 'doorcast'@'%' = OLD_PASSWORD('swipe')"],
        };
        for sql in by_another_way {
            root.query_drop(*sql).await.unwrap();
        }
        ends(&db, &[], SOURCE, &["ALTER USER 'doorcast'@'<host>' IDENTIFIED WITH caching_sha2_password"])
            .await;
        if kind.starts_with("mariadb") {
            root.query_drop("ALTER USER 'doorcast'@'%' IDENTIFIED VIA unix_socket").await.unwrap();
            ends(&db, &[], SOURCE, &["wrong password or unknown user", "ALTER USER 'doorcast'@'<host>'"])
                .await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    servers::each_kind(async |kind| {
        let mut server = servers::private(kind, &[]).await;
        servers::create(&mut server.root(None).await.unwrap(), "doors", "doorcast").await;
        let db = crate::scene::url(&server);
        server.kill();
        let in_its_place = tokio::net::TcpListener::bind(("127.0.0.1", server.port())).await.unwrap();
        let (doorcast, ()) = tokio::join!(Doorcast::start(&db, &[]), async {
            drop(crate::deadline::deadline(in_its_place.accept()).await.unwrap());
            drop(in_its_place);
            server.start_again().await.unwrap();
        });
        doorcast.logged("the link to the server is down").await;
        doorcast.answers("/readyz", 200).await;
    })
    .await;
}

#[tokio::test]
async fn each_missing_grant_is_named_by_the_sql_that_gives_it() {
    for server in servers::all().await {
        let database = servers::database(server, "grants").await;
        let mut root = database.admin().await;
        let user = format!("'{}'@'%'", database.user);
        let without = [
            ("REPLICATION SLAVE ON *.*", "GRANT REPLICATION SLAVE ON *.*"),
            ("REPLICATION CLIENT ON *.*", "GRANT REPLICATION CLIENT ON *.*"),
            (&*format!("SELECT ON `{}`.vdooropen", database.name), "GRANT SELECT ON"),
        ];
        for (privilege, remedy) in without {
            root.query_drop(format!("REVOKE {privilege} FROM {user}")).await.unwrap();
            let written = ends(&database.url(), &[], SOURCE, &[remedy]).await;
            // Word for word, as somebody pastes it.
            let (_, sql) = written.rsplit_once("GRANT ").unwrap();
            let sql = format!("GRANT {}", sql.trim_end());
            let Err(err) = root.query_drop(&sql).await else {
                let doorcast = Doorcast::start(&database.url(), &[]).await;
                doorcast.answers("/readyz", 200).await;
                continue;
            };
            panic!("{}: {sql}: {err}", server.name());
        }
    }
}

#[tokio::test]
async fn a_server_without_binlog_is_told_what_to_write_into_my_cnf() {
    for kind in servers::kinds() {
        let mut options = vec!["--skip-log-bin", "--skip-log-slave-updates"];
        if kind.starts_with("mysql") {
            options.extend(["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]);
        }
        let server = servers::private(kind, &options).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        let db = format!("mysql://doorcast:{PASSWORD}@127.0.0.1:{}/doors", server.port());
        ends(&db, &[], SOURCE, &["log_bin", "binlog_format=ROW", "my.cnf"]).await;
    }
}

#[tokio::test]
async fn unknown_database_and_table_and_a_table_without_key_are_named() {
    for server in servers::all().await {
        let database = servers::database(server, "unknown").await;
        let url = database.url();
        ends(&url.replace(&database.name, "nowhere"), &[], SOURCE, &["nowhere"]).await;
        ends(&url, &["--table", "visits"], SOURCE, &["visits", "GRANT SELECT"]).await;

        let mut root = database.admin().await;
        root.query_drop("CREATE TABLE keyless (a INT, b INT)").await.unwrap();
        root.query_drop("CREATE TABLE texts (a VARCHAR(10) PRIMARY KEY)").await.unwrap();
        root.query_drop("CREATE VIEW seen AS SELECT 1 AS a").await.unwrap();
        for table in ["keyless", "texts", "seen"] {
            database.grant_select(table).await;
        }
        ends(&url, &["--table", "keyless"], SOURCE, &["no key", "ALTER TABLE"]).await;
        ends(&url, &["--table", "texts"], SOURCE, &["no key"]).await;
        ends(&url, &["--table", "seen"], SOURCE, &["view"]).await;
    }
}

#[tokio::test]
async fn a_damaged_checkpoint_names_the_previous_one_and_start_from() {
    let server = &servers::all().await[0];
    let database = servers::database(server, "damaged").await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.json"), "{\"version\":1,").unwrap();
    ends_in(&folder, &database.url(), &[], SOURCE, &["damaged", ".prev", "--start-from"]).await;
}

#[tokio::test]
async fn a_checkpoint_that_was_cut_off_changed_or_removed_is_never_a_fresh_start() {
    let server = &servers::all().await[0];
    let database = servers::database(server, "torn").await;
    let mut doorcast = Doorcast::start(&database.url(), &[]).await;
    assert!(doorcast.stop().await.success());
    let whole = std::fs::read_to_string(doorcast.checkpoint()).unwrap();
    for damaged in [
        Some(whole[..whole.len() / 2].to_owned()),
        Some(String::new()),
        Some(whole.replacen("\"offset\":", "\"offset\":1", 1)),
        Some(whole.replacen("\"version\":1", "\"version\":2", 1)),
        None,
    ] {
        assert_ne!(damaged.as_ref(), Some(&whole));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.json.prev"), &whole).unwrap();
        if let Some(damaged) = damaged {
            std::fs::write(folder.path().join("c.json"), damaged).unwrap();
        }
        ends_in(&folder, &database.url(), &[], SOURCE, &["damaged", ".prev", "--start-from"]).await;
    }
}

#[tokio::test]
async fn a_checkpoint_of_another_table_is_refused() {
    let server = &servers::all().await[0];
    let (one, other) = (servers::database(server, "one").await, servers::database(server, "other").await);
    let mut doorcast = Doorcast::start(&one.url(), &[]).await;
    assert!(doorcast.stop().await.success());
    let checkpoint = doorcast.checkpoint();
    let more = ["--checkpoint", checkpoint.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let (code, written) = run_to_end(&[&["--db", &*other.url()], &more[..]].concat()).await;
    assert_eq!(code, CONFIGURATION, "{written}");
    assert!(written.contains("its own --checkpoint"), "{written}");
}

#[tokio::test]
async fn a_chosen_start_that_the_server_does_not_have_is_refused() {
    for server in servers::all().await {
        let database = servers::database(server, "start").await;
        for start in ["binlog.999999:4", "binlog.000001:4294967000", "binlog.000001:4294967300"] {
            ends(&database.url(), &["--start-from", start], SOURCE, &[start, "SHOW BINARY LOGS"]).await;
        }
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_checkpoint_ends_at_once() {
    let server = &servers::all().await[0];
    let database = servers::database(server, "second").await;
    let doorcast = Doorcast::start(&database.url(), &[]).await;
    let checkpoint = doorcast.checkpoint();
    let arguments =
        ["--db", &*database.url(), "--checkpoint", checkpoint.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let (code, written) = run_to_end(&arguments).await;
    assert_eq!(code, CONFIGURATION, "{written}");
    assert!(written.contains("in use by another doorcast"), "{written}");
    doorcast.answers("/readyz", 200).await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let server = &servers::all().await[0];
    let database = servers::database(server, "port").await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    ends(&database.url(), &["--listen", &address], CONFIGURATION, &[&address, "--listen"]).await;
}

#[tokio::test]
async fn bad_usage_ends_with_status_2_and_says_what_is_wanted() {
    for (arguments, says) in [
        (&["--db", "postgres://a@b/c"][..], "mysql://"),
        (&["--db", "mysql://a@127.0.0.1"], "which database?"),
        (&["--db", "mysql://a@127.0.0.1/b", "--listen", "0.0.0.0:0"], "--allow-anonymous"),
        (&["--db", "mysql://a@127.0.0.1/b", "--start-from", "yesterday"], "FILE:OFFSET"),
        (&["--db", "mysql://a@127.0.0.1/b", "--ssl-mode", "verify-ca"], "--ssl-ca"),
        (&["--db", "mysql://a@127.0.0.1/b", "--password-file", "/nowhere/p"], "/nowhere/p"),
        (&["--db", "mysql://a@127.0.0.1/b", "--history", "many"], "--history"),
        (&["--db", "mysql://a@127.0.0.1/b", "--config", "/nowhere/c.toml"], "/nowhere/c.toml"),
        (&[], "--db"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("c.json");
        let mut all = vec!["--checkpoint", checkpoint.to_str().unwrap()];
        if !arguments.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(arguments);
        let (code, written) = run_to_end(&all).await;
        assert_eq!(code, CONFIGURATION, "{arguments:?}: {written}");
        assert!(written.contains(says), "{arguments:?}: {says:?} is not in: {written}");
    }
}

#[tokio::test]
async fn readyz_follows_the_link_and_clients_stay_connected() {
    for kind in servers::kinds() {
        let mut server = servers::private(kind, &[]).await;
        let mut root = server.root(None).await.unwrap();
        servers::create(&mut root, "doors", "doorcast").await;
        let db = format!("mysql://doorcast:{PASSWORD}@127.0.0.1:{}/doors", server.port());
        let doorcast = Doorcast::start(&db, &[]).await;
        doorcast.answers("/readyz", 200).await;
        let mut events = crate::site::Events::send(crate::site::client().get(doorcast.url("/events"))).await;
        assert_eq!(events.next_but_ping().await.name, ""); // retry
        assert_eq!(events.next_but_ping().await.name, "hello");

        server.kill();
        doorcast.answers("/readyz", 503).await;
        doorcast.answers("/livez", 200).await;
        server.start_again().await.unwrap();
        doorcast.answers("/readyz", 200).await;

        let mut root = server.root(Some("doors")).await.unwrap();
        root.query_drop("INSERT INTO vdooropen VALUES (NULL,3,'00A1','20261120 071500','Y')").await.unwrap();
        assert_eq!(events.ids(1).await, ["1-1"], "{kind}: on the connection from before");
    }
}

#[tokio::test]
async fn sigterm_ends_streams_with_retry_and_status_0_and_the_position_is_saved() {
    for server in servers::all().await {
        let database = servers::database(server, "term").await;
        let mut doorcast = Doorcast::start(&database.url(), &[]).await;
        let mut events = crate::site::Events::send(crate::site::client().get(doorcast.url("/events"))).await;
        let mut conn = database.admin().await;
        conn.query_drop("INSERT INTO vdooropen VALUES (NULL,3,'00A1','20261120 071500','Y')").await.unwrap();
        events.ids(1).await;
        // The deadline of stop() is longer; ending within 10 s is the drain's own limit.
        doorcast.terminate();
        let mut last_retry = None;
        while let Some(event) = events.next().await {
            last_retry = event.retry;
        }
        assert!(last_retry.is_some(), "{}: the last thing said is when to come back", server.name());
        assert!(doorcast.stop().await.success(), "{}", server.name());
        let saved = std::fs::read_to_string(doorcast.checkpoint()).unwrap();
        let saved: serde_json::Value = serde_json::from_str(&saved).unwrap();
        assert_eq!(saved["checkpoint"]["greatest_key"], 1, "{saved}");
        assert_eq!(saved["checkpoint"]["recent_keys"], serde_json::json!([[1, 1]]));
    }
}

#[tokio::test]
async fn sigint_ends_it_with_status_0_and_the_position_is_saved() {
    let server = &servers::all().await[0];
    let database = servers::database(server, "int").await;
    let mut doorcast = Doorcast::start(&database.url(), &[]).await;
    doorcast.signal("INT");
    assert!(doorcast.ended().await.success());
    let saved = std::fs::read_to_string(doorcast.checkpoint()).unwrap();
    assert!(saved.contains("\"at_rest\":true"), "{saved}");
}

/// What each server can do over TLS, as it is installed: MySQL 9 makes its own certificate, MariaDB since
/// 11.4 too.
#[tokio::test]
async fn ssl_mode_required_encrypts_or_is_refused_with_a_remedy() {
    for server in servers::all().await {
        let database = servers::database(server, "tls").await;
        let mut root = database.admin().await;
        let binary = server.binary();
        let has_tls = match binary.flavour() {
            Flavour::MySql => binary.version() >= (8, 0, 0),
            Flavour::MariaDb => binary.version() >= (11, 4, 0),
        };
        if !has_tls {
            ends(&database.url(), &["--ssl-mode", "required"], SOURCE, &["no TLS", "--ssl-mode"]).await;
            continue;
        }
        let doorcast = Doorcast::start(&database.url(), &["--ssl-mode", "required"]).await;
        doorcast.answers("/readyz", 200).await;
        let dumps = encrypted_connections(&mut root, &database.user).await;
        assert_eq!(dumps, Some(true), "{}", server.name());
    }
}

/// Whether the account's connections can be told to be encrypted: the server refuses it others.
async fn encrypted_connections(root: &mut Conn, user: &str) -> Option<bool> {
    root.query_drop(format!("ALTER USER '{user}'@'%' REQUIRE SSL")).await.unwrap();
    let connections: Option<u32> = root
        .exec_first("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = ?", (user,))
        .await
        .unwrap();
    connections.map(|count| count > 0)
}

/// A CA, and a certificate of its for 127.0.0.1, in a folder.
fn certificates() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let output = std::process::Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&folder)
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=doors");
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server");
    std::fs::write(folder.path().join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names",
    );
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=others");
    folder
}

#[tokio::test]
async fn ssl_mode_verify_trusts_the_named_authority_alone() {
    let certificates = certificates();
    let path = |name: &str| certificates.path().join(name).display().to_string();
    servers::each_kind(async |kind| {
        if kind == "mysql-5.6" {
            return; // speaks TLS 1.1 at the most
        }
        let server = servers::private(
            kind,
            &[
                &format!("--ssl-ca={}", path("ca.pem")),
                &format!("--ssl-cert={}", path("server.pem")),
                &format!("--ssl-key={}", path("server.key")),
            ],
        )
        .await;
        servers::create(&mut server.root(None).await.unwrap(), "doors", "doorcast").await;
        let db = crate::scene::url(&server);
        for mode in ["verify-ca", "verify-identity"] {
            let doorcast = Doorcast::start(&db, &["--ssl-mode", mode, "--ssl-ca", &path("ca.pem")]).await;
            doorcast.answers("/readyz", 200).await;
            drop(doorcast);
            ends(&db, &["--ssl-mode", mode, "--ssl-ca", &path("other.pem")], SOURCE, &["no TLS", "--ssl-ca"])
                .await;
        }
    })
    .await;
}

/// MySQL 9 makes itself a certificate without a name. mysql_async 0.37.1 refuses it in verify-ca, too: what
/// it looks for in rustls's error is not there any more. When this fails, that is mended, and the README's
/// word about it can go.
#[tokio::test]
async fn a_certificate_without_a_name_is_refused_with_a_remedy_even_by_verify_ca() {
    for server in servers::all().await.iter().filter(|server| server.name() == "mysql-9.7") {
        let database = servers::database(server, "verify").await;
        let ca = server.data().join("ca.pem").display().to_string();
        for mode in ["verify-ca", "verify-identity"] {
            let arguments = ["--ssl-mode", mode, "--ssl-ca", &ca];
            ends(&database.url(), &arguments, SOURCE, &["not valid for", "subjectAltName"]).await;
        }
    }
}
