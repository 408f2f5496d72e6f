//! Whatever may be missing is told to clients, in the log with the remedy, and in a metric: one test for each way in
//! which that happens.

use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::{
    link::status_until,
    proxy::{Proxy, Way},
    recovery::{purge, reset_binlog},
    scene::{Scene, swipe, url},
    servers::each_kind,
};

/// The door of the row that a test inserts last.
const LAST_DOOR: u32 = 99;

/// So many rows are not kept until they can be told.
const MANY: usize = 600;

const STARTED_OVER: &str = "the table's keys have started over since that id";

const OF_STATEMENTS: &str = "rows were inserted by statements, and removed before they could be read";

/// What a client that had rows up to `since` is told, until it has the row of the last door: the ids and doors, and why
/// there are gaps.
async fn told_since(scene: &Scene, since: &str) -> (Vec<(String, u64)>, Vec<String>) {
    let (mut rows, mut gaps, mut since) = (Vec::new(), Vec::new(), since.to_owned());
    while !rows.iter().any(|(_, door)| *door == u64::from(LAST_DOOR)) {
        let url = scene.doorcast.url(&format!("/poll?since={since}&timeout=1"));
        let answer = crate::deadline::deadline(crate::site::client().get(url).send()).await.unwrap();
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        gaps.extend(answer["gap"]["reason"].as_str().map(str::to_owned));
        let events = answer["events"].as_array().unwrap().iter();
        rows.extend(events.map(|event| {
            (event["id"].as_str().unwrap().to_owned(), event["row"]["doorno"].as_u64().unwrap())
        }));
        since = answer["next"].as_str().unwrap().to_owned();
    }
    (rows, gaps)
}

/// That one gap is told to a client that had rows up to `since`, in the log with a remedy, and in the metric. Inserts the
/// last row; returns the ids and doors of what else came.
pub(crate) async fn is_told_once(scene: &mut Scene, since: &str, reason: &str) -> Vec<(String, u64)> {
    let kind = scene.kind;
    scene.sql(&[&swipe(LAST_DOOR)]).await;
    let (mut rows, mut gaps) = told_since(scene, since).await;
    // After a restart nobody knows what stood behind a row that went with its table.
    gaps.retain(|gap| gap != STARTED_OVER);
    assert!(gaps.len() == 1 && gaps[0].contains(reason), "{kind}: {gaps:?}, and not {reason}: {rows:?}");
    is_said_once(scene, &gaps[0]).await;
    rows.pop();
    rows
}

/// That a gap of which clients are told is in the log with a remedy, and in the metric.
pub(crate) async fn is_said_once(scene: &Scene, gap: &str) {
    let kind = scene.kind;
    let lines = scene.doorcast.lines();
    // For a lost position, our own words stand before those of the log.
    let is_of_gap = |line: &&Value| line["reason"].as_str().is_some_and(|reason| gap.ends_with(reason));
    let said: Vec<&Value> = lines.iter().filter(is_of_gap).collect();
    assert!(said.len() == 1 && said[0]["level"] == "WARN", "{kind}: {gap}: {said:?}");
    assert!(said[0]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{kind}: {}", said[0]);
    assert_eq!(scene.status().await["breaks"], 1, "{kind}");
}

/// Both ways in which a table's rows go and its keys start over.
const REMOVALS: [&str; 2] = ["TRUNCATE vdooropen", "RENAME TABLE vdooropen TO archive, fresh TO vdooropen"];

/// The table's first row is told, and another table is at hand.
async fn begin(scene: &mut Scene) {
    scene.sql(&["CREATE TABLE fresh LIKE vdooropen", &swipe(1)]).await;
    scene.read(1).await;
}

/// doorcast stands still until [`go_on`], or `ends`.
async fn stand_still(scene: &mut Scene, ends: bool) {
    if ends {
        assert!(scene.doorcast.stop().await.success());
    } else {
        scene.doorcast.signal("STOP");
    }
}

async fn go_on(scene: &mut Scene, ends: bool) {
    if ends {
        scene.doorcast.start_again().await;
    } else {
        scene.doorcast.signal("CONT");
    }
}

pub(crate) async fn by_statement(scene: &mut Scene, insert: &str) {
    scene.sql(&["SET SESSION binlog_format=STATEMENT", insert, "SET SESSION binlog_format=ROW"]).await;
}

fn many(door: u32) -> String {
    let rows = vec![format!("({door}, '00A1', '20261120 071500', 'Y')"); MANY].join(",");
    format!("INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES {rows}")
}

/// doorcast comes to the statement when its table is not there any more, or is empty.
#[tokio::test]
async fn rows_of_statements_that_went_with_the_table_are_said_to_be_missing() {
    each_kind(async |kind| {
        for removal in REMOVALS {
            for (next, ends) in [(0, false), (3, false), (3, true)] {
                are_said_to_be_missing(kind, removal, next, ends).await;
            }
        }
    })
    .await;
}

/// The next table has so many rows by then, with the same keys. doorcast stands still meanwhile, or has ended.
async fn are_said_to_be_missing(kind: &'static str, removal: &str, next: u32, ends: bool) {
    let mut scene = Scene::start(kind, &[], &[]).await;
    begin(&mut scene).await;
    stand_still(&mut scene, ends).await;
    by_statement(&mut scene, &swipe(2)).await;
    scene.sql(&[&swipe(3), removal]).await;
    for door in 0..next {
        scene.sql(&[&swipe(10 + door)]).await;
    }
    go_on(&mut scene, ends).await;
    let came = is_told_once(&mut scene, "1-1", OF_STATEMENTS).await;
    let mut expected = vec![("1-3".to_owned(), 3)];
    expected.extend((0..next).map(|at| (format!("2-{}", at + 1), u64::from(10 + at))));
    assert_eq!(came, expected, "{kind} {removal}, {next} in the next, ends: {ends}");
}

/// Nothing has been told of the table by which it could be known.
#[tokio::test]
async fn the_first_row_of_a_table_is_not_told_from_the_next_one() {
    each_kind(async |kind| {
        for ends in [false, true] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            scene.doorcast.logged("following").await;
            stand_still(&mut scene, ends).await;
            by_statement(&mut scene, &swipe(1)).await;
            scene.sql(&["TRUNCATE vdooropen", &swipe(2), &swipe(3)]).await;
            go_on(&mut scene, ends).await;
            let came = is_told_once(&mut scene, "1-0", OF_STATEMENTS).await;
            assert_eq!(came, [("2-1".to_owned(), 2), ("2-2".to_owned(), 3)], "{kind}, ends: {ends}");
        }
    })
    .await;
}

/// The binlog has the keys of such rows, and nothing else of them.
#[tokio::test]
async fn rows_of_statements_that_were_deleted_while_doorcast_was_away_are_said_to_be_missing() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
        begin(&mut scene).await;
        assert!(scene.doorcast.stop().await.success());
        scene.sql(&["BEGIN", &swipe(2), &swipe(3), "COMMIT", "DELETE FROM vdooropen WHERE vid = 2"]).await;
        scene.doorcast.start_again().await;
        scene.read(2).await;
        scene.doorcast.logged("rows may be missing").await;
        let reason = "rows of a transaction were not found in the table";
        assert_eq!(is_told_once(&mut scene, "1-1", reason).await, [("1-3".to_owned(), 3)], "{kind}");
    })
    .await;
}

const PERHAPS_DELETED: &str = "rows of a statement were perhaps deleted before they could be read";

/// The binlog has the first key alone, or none. doorcast is away meanwhile, or stands still.
#[tokio::test]
async fn rows_of_a_statement_of_several_that_were_perhaps_deleted_are_said_to_be_missing() {
    each_kind(async |kind| {
        let two = "(2, '00A1', '20261120 071500', 'Y'), (3, '00A1', '20261120 071500', 'Y')";
        let statements = [
            format!("INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES {two}"),
            "INSERT INTO vdooropen SELECT vid + 1, vid + 1, rfsim, optime, ynopen FROM vdooropen UNION SELECT 3, 3, \
             '00A1', '20261120 071500', 'Y'"
                .to_owned(),
        ];
        for (statement, format) in statements.iter().flat_map(|one| [(one, "STATEMENT"), (one, "ROW")]) {
            let mut scene = Scene::start(kind, &[], &[]).await;
            begin(&mut scene).await;
            let is_away = format == "ROW";
            if is_away {
                assert!(scene.doorcast.stop().await.success());
            } else {
                scene.read_binlog().await;
                scene.doorcast.signal("STOP");
            }
            by_statement(&mut scene, statement).await;
            let format = format!("SET SESSION binlog_format={format}");
            scene.sql(&[&format, "DELETE FROM vdooropen WHERE vid = 3"]).await;
            if is_away {
                scene.doorcast.start_again().await;
            } else {
                scene.doorcast.signal("CONT");
            }
            scene.doorcast.logged("rows may be missing").await;
            status_until(&scene.doorcast, |status| status["feed"]["head"] == "1-2").await;
            scene.sql(&["SET SESSION binlog_format=ROW"]).await;
            let came = is_told_once(&mut scene, "1-1", PERHAPS_DELETED).await;
            assert_eq!(came, [("1-2".to_owned(), 2)], "{kind}, {statement}, {format}");
        }
    })
    .await;
}

/// A statement of one row, or one that was looked for before anything was deleted.
#[tokio::test]
async fn a_row_that_was_deleted_behind_a_statement_is_not_missing_once_all_were_told() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
        begin(&mut scene).await;
        assert!(scene.doorcast.stop().await.success());
        for _ in 0..11 {
            scene.sql(&[&swipe(3)]).await;
        }
        scene.sql(&["DELETE FROM vdooropen WHERE vid = 1"]).await;
        scene.doorcast.start_again().await;
        scene.read(12).await;
        scene.doorcast.logged("following").await;
        for round in 1..=10 {
            let two = format!("{}, (4, '00A1', '20261120 071500', 'Y')", swipe(4));
            scene.sql(&[&two]).await;
            scene.read(12 + 2 * round).await;
            scene.sql(&[&format!("DELETE FROM vdooropen WHERE vid = {}", round + 1)]).await;
        }
        scene.read_binlog().await;
        assert_eq!(scene.status().await["breaks"], 0, "{kind}");
    })
    .await;
}

/// Its row image has a layout that the table had before, and the key is not certain to stand first in it.
#[tokio::test]
async fn a_row_that_cannot_be_decoded_any_more_and_was_deleted_is_said_to_be_missing() {
    each_kind(async |kind| {
        for key in ["FIRST", "AFTER ynopen"] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            let order =
                format!("ALTER TABLE vdooropen MODIFY vid INT UNSIGNED NOT NULL AUTO_INCREMENT {key}");
            scene.sql(&[&order]).await;
            begin(&mut scene).await;
            assert!(scene.doorcast.stop().await.success());
            let alter = "ALTER TABLE vdooropen MODIFY rfsim VARCHAR(400) CHARACTER SET utf8mb4 NOT NULL";
            scene.sql(&[&swipe(2), "DELETE FROM vdooropen WHERE vid = 2", alter]).await;
            scene.doorcast.start_again().await;
            scene.doorcast.logged("rows may be missing").await;
            let reason = "rows of a transaction were not found in the table";
            assert_eq!(is_told_once(&mut scene, "1-1", reason).await, [], "{kind}, {key}");
        }
    })
    .await;
}

/// The same where the row is in the binlog, and was not there yet when its transaction was prepared.
#[tokio::test]
async fn rows_of_xa_transactions_that_were_deleted_while_doorcast_was_away_are_said_to_be_missing() {
    each_kind(async |kind| {
        for format in ["ROW", "STATEMENT"] {
            if kind == "mysql-5.6" {
                continue; // it logs no PREPARE
            }
            let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
            begin(&mut scene).await;
            assert!(scene.doorcast.stop().await.success());
            scene.sql(&[&format!("SET SESSION binlog_format={format}"), "XA START 'a'", &swipe(2)]).await;
            scene.sql(&["XA END 'a'", "XA PREPARE 'a'", "XA COMMIT 'a'"]).await;
            scene.sql(&["DELETE FROM vdooropen WHERE vid = 2"]).await;
            scene.doorcast.start_again().await;
            scene.doorcast.logged("rows may be missing").await;
            let reason = "rows of a transaction were not found in the table";
            assert_eq!(is_told_once(&mut scene, "1-1", reason).await, [], "{kind}, {format}");
        }
    })
    .await;
}

const REPLACE: &str =
    "REPLACE INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (7, 'A', '20261120 071500', 'Y')";

/// Statements whose row is not there under the key that the binlog names, what goes before and what behind.
const NO_ROW: [(&[&str], &[&str], &[&str]); 6] = [
    // Its own transaction deletes it,
    (&[], &["BEGIN", INSERT, "DELETE FROM vdooropen WHERE vid = LAST_INSERT_ID()", "COMMIT"], &[]),
    // or puts another in its place,
    (
        &["ALTER TABLE vdooropen ADD UNIQUE KEY u (doorno)"],
        &["BEGIN", REPLACE, REPLACE, "COMMIT"],
        &["ALTER TABLE vdooropen DROP KEY u"],
    ),
    // or deletes it by what it does elsewhere;
    (
        &[
            "CREATE TABLE doors (door INT NOT NULL PRIMARY KEY)",
            "INSERT INTO doors SELECT DISTINCT doorno FROM vdooropen",
            "INSERT INTO doors VALUES (55)",
            "ALTER TABLE vdooropen ADD CONSTRAINT of_door FOREIGN KEY (doorno) REFERENCES doors (door) ON DELETE CASCADE",
        ],
        &["BEGIN", INSERT, "DELETE FROM doors WHERE door = 55", "COMMIT"],
        &["ALTER TABLE vdooropen DROP FOREIGN KEY of_door"],
    ),
    // a trigger was given the key, for another table,
    (
        &[
            "CREATE TABLE audit (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, door INT) AUTO_INCREMENT = 5000",
            "CREATE TRIGGER t BEFORE INSERT ON vdooropen FOR EACH ROW INSERT INTO audit (door) VALUES (NEW.doorno)",
        ],
        &[INSERT],
        &["DROP TRIGGER t"],
    ),
    // or another statement;
    (
        &[],
        &[
            "CREATE TABLE copies (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 7000 SELECT doorno FROM \
             vdooropen",
            "INSERT INTO vdooropen VALUES (90, 55, 'A', '20261120 071500', 'Y')",
        ],
        &[],
    ),
    // or AUTO_INCREMENT counts in another column.
    (
        &["ALTER TABLE vdooropen MODIFY vid INT NOT NULL, ADD n INT NOT NULL AUTO_INCREMENT, ADD KEY (n)"],
        &[
            "INSERT INTO vdooropen (vid, doorno, rfsim, optime, ynopen) VALUES (100, 55, 'A', '20261120 071500', 'Y')",
        ],
        &[],
    ),
];

const INSERT: &str =
    "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (55, 'A', '20261120 071500', 'Y')";

#[tokio::test]
async fn a_statement_whose_key_is_not_there_need_not_have_left_a_row() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
        begin(&mut scene).await;
        for (before, statements, behind) in NO_ROW {
            if kind == "mysql-5.6" && statements.iter().any(|sql| sql.contains("copies")) {
                continue; // it allows no CREATE … SELECT with GTIDs
            }
            scene.sql(before).await;
            scene.sql(statements).await;
            scene.sql(behind).await;
        }
        // Longer than doorcast looks for them.
        tokio::time::sleep(std::time::Duration::from_secs(13)).await;
        assert_eq!(scene.status().await["breaks"], 0, "{kind}");
        assert_eq!(scene.status().await["unlogged"], 0, "{kind}");
    })
    .await;
}

/// What it had inserted by then stays where the table has no transactions.
#[tokio::test]
async fn a_statement_that_failed_need_not_have_left_a_row_under_its_key() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
        begin(&mut scene).await;
        scene.sql(&["ALTER TABLE vdooropen ADD UNIQUE KEY u (doorno), ENGINE=MyISAM"]).await;
        let fails = "INSERT INTO vdooropen VALUES (50, 50, 'A', '20261120 071500', 'Y'), (NULL, 1, 'A', '20261120 \
                     071500', 'Y')";
        assert!(scene.conn.query_drop(fails).await.is_err(), "{kind}");
        scene.read(2).await;
        tokio::time::sleep(std::time::Duration::from_secs(13)).await;
        assert_eq!(scene.status().await["breaks"], 0, "{kind}");
    })
    .await;
}

/// A look saw more rows than are kept; the first was told by its key, and the binlog is slow to come so far.
async fn have_seen_many(kind: &'static str) -> (Scene, Proxy) {
    let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-heartbeat", "3600"]).await;
    begin(&mut scene).await;
    let many = many(2).replace("vdooropen", "many");
    scene.sql(&["CREATE TABLE other (text MEDIUMTEXT)", "CREATE TABLE many LIKE vdooropen", &many]).await;
    // The connection that brings the binlog; the one for queries was made before.
    proxy.set_newest(Way::Slow(100));
    scene
        .sql(&[
            "SET SESSION binlog_format=STATEMENT",
            "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) SELECT doorno, rfsim, optime, ynopen FROM many",
            "SET SESSION binlog_format=ROW",
            "INSERT INTO other VALUES (REPEAT('x', 40000))",
        ])
        .await;
    assert_eq!(scene.doorcast.logged("looked at the table").await["rows"], MANY, "{kind}");
    // It alone is looked for by its key.
    scene.read(2).await;
    (scene, proxy)
}

/// The next table has as many under the same keys.
#[tokio::test]
async fn rows_of_the_next_table_are_not_taken_for_those_that_a_look_saw() {
    each_kind(async |kind| {
        let (mut scene, proxy) = have_seen_many(kind).await;
        proxy.set_for_all(Way::Closed);
        scene.sql(&["TRUNCATE TABLE vdooropen", &many(3), &swipe(4)]).await;
        proxy.set_for_all(Way::Open);
        scene.doorcast.logged("keys start over").await;
        scene.sql(&[&swipe(LAST_DOOR)]).await;
        let (rows, gaps) = told_since(&scene, "1-1").await;
        let first: Vec<_> = rows.iter().take_while(|(id, _)| id.starts_with("1-")).cloned().collect();
        assert_eq!(first, [("1-2".to_owned(), 2)], "{kind}");
        assert!(gaps.iter().any(|gap| gap.contains(OF_STATEMENTS)), "{kind}: {gaps:?}");
    })
    .await;
}

/// They were deleted before the binlog had been read as far.
#[tokio::test]
async fn rows_of_statements_that_were_deleted_before_they_could_be_told_are_said_to_be_missing() {
    each_kind(async |kind| {
        let (mut scene, proxy) = have_seen_many(kind).await;
        scene.sql(&["DELETE FROM vdooropen WHERE vid > 1"]).await;
        proxy.set_newest(Way::Open);
        let came = is_told_once(&mut scene, "1-1", OF_STATEMENTS).await;
        assert_eq!(came, [("1-2".to_owned(), 2)], "{kind}");
    })
    .await;
}

#[tokio::test]
async fn rows_without_binlog_that_were_seen_are_told_though_the_table_went() {
    each_kind(async |kind| {
        for removal in REMOVALS {
            let mut scene = Scene::start(kind, &[], &[]).await;
            begin(&mut scene).await;
            scene.sql(&["SET sql_log_bin=0", &swipe(2), &swipe(3), "SET sql_log_bin=1"]).await;
            scene.doorcast.logged("the table has rows that the binlog did not bring yet").await;
            scene.sql(&[removal, &swipe(LAST_DOOR)]).await;
            let (rows, gaps) = told_since(&scene, "1-1").await;
            let rows: Vec<(&str, u64)> = rows.iter().map(|(id, door)| (&**id, *door)).collect();
            assert_eq!(rows, [("1-2", 2), ("1-3", 3), ("2-1", 99)], "{kind} {removal}");
            assert!(gaps.is_empty(), "{kind} {removal}: {gaps:?}");
            let status = scene.status().await;
            assert_eq!((&status["unlogged"], &status["breaks"]), (&2.into(), &0.into()), "{kind}: {status}");
        }
    })
    .await;
}

#[tokio::test]
async fn rows_without_binlog_that_are_too_many_to_keep_are_said_to_be_missing() {
    each_kind(async |kind| {
        for removal in REMOVALS {
            let mut scene = Scene::start(kind, &[], &[]).await;
            begin(&mut scene).await;
            scene.sql(&["SET sql_log_bin=0", &many(2), "SET sql_log_bin=1"]).await;
            scene.doorcast.logged("the table has rows that the binlog did not bring yet").await;
            scene.sql(&[removal]).await;
            let reason = "rows were not in the binlog, and removed before they could be read";
            let came = is_told_once(&mut scene, "1-1", reason).await;
            assert!(came.is_empty(), "{kind} {removal}: {came:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn going_on_from_now_says_what_is_missing() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &["--on-lost-position", "now"]).await;
        begin(&mut scene).await;
        assert!(scene.doorcast.stop().await.success());
        scene.sql(&[&swipe(2), "FLUSH BINARY LOGS"]).await;
        purge(&mut scene.conn).await;
        scene.doorcast.start_again().await;
        scene.doorcast.answers("/readyz", 200).await;
        let came = is_told_once(&mut scene, "1-1", "the binlog position was lost: ").await;
        assert!(came.is_empty(), "{kind}: {came:?}");
    })
    .await;
}

/// The rows before the reset have been told.
#[tokio::test]
async fn going_on_from_now_behind_a_reset_while_it_runs_says_what_is_missing() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &["--on-lost-position", "now"]).await;
        begin(&mut scene).await;
        scene.sql(&[reset_binlog(kind), &swipe(2)]).await;
        scene.doorcast.logged("the position is lost, going on from now").await;
        scene.doorcast.answers("/readyz", 200).await;
        let came = is_told_once(&mut scene, "1-1", "the binlog position was lost: ").await;
        assert!(came.is_empty(), "{kind}: {came:?}");
    })
    .await;
}

#[tokio::test]
async fn a_reset_while_it_runs_ends_the_process_if_that_is_wanted() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &["--on-lost-position", "fail"]).await;
        begin(&mut scene).await;
        scene.sql(&[reset_binlog(kind), &swipe(2)]).await;
        assert_eq!(scene.doorcast.ended().await.code(), Some(3), "{kind}");
        scene.doorcast.logged_error("Start with --on-lost-position catch-up").await;
        scene.doorcast.replace_arguments(&["--db", &url(&scene.server)]);
        scene.doorcast.start_again().await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 3, "{kind}");
    })
    .await;
}
