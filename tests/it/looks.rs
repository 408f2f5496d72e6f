//! What a look at the table tells, beside what the binlog is about to bring.

use std::time::Duration;

use mysql_async::prelude::Queryable;

use crate::{
    deadline::deadline,
    gaps::by_statement,
    proxy::Way,
    scene::{Late, Scene, swipe},
    servers::each_kind,
};

/// On the link, this takes longer than doorcast looks for a statement.
const FILLER: &str = "INSERT INTO other VALUES (REPEAT('x', 40000))";
const SLOW: Way = Way::Slow(100);

async fn tell_one_row(scene: &mut Scene) {
    scene.sql(&["CREATE TABLE other (text MEDIUMTEXT)", &swipe(1)]).await;
    scene.read(1).await;
}

/// It inserts nothing, which nobody knows.
const IN_DOUBT: &str = "INSERT INTO vdooropen SELECT * FROM vdooropen WHERE vid = 0";

/// A statement that may have inserted rows, and much that doorcast does not read while it looks for them.
async fn have_a_statement_looked_for(scene: &mut Scene) {
    by_statement(scene, IN_DOUBT).await;
    scene.sql(&[FILLER]).await;
}

/// The first key alone is in the binlog.
const TWO_MORE: &str = "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (2, 'A', '20261120 071500', 'Y'), \
                        (3, 'A', '20261120 071500', 'Y')";

async fn ids(scene: &mut Scene) -> Vec<String> {
    scene.last_row().await.swap_remove(0).into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn all_rows_of_a_statement_arrive_though_its_first_key_alone_is_in_the_binlog() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
        let three = "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) VALUES (1, 'A', '20261120 071500', 'Y'), \
                     (2, 'A', '20261120 071500', 'Y'), (3, 'A', '20261120 071500', 'Y')";
        let twice = "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) SELECT doorno, rfsim, optime, ynopen FROM \
                     vdooropen";
        scene.sql(&[three, "BEGIN", three, &swipe(4), twice, "COMMIT", three]).await;
        let (rows, scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 18, "{kind}");
        assert_eq!(scene.status().await["breaks"], 0, "{kind}");
    })
    .await;
}

/// The second row shows which table it is that the first one is read of.
#[tokio::test]
async fn the_first_rows_of_a_table_come_in_the_order_of_their_commits() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &[]).await;
        scene.doorcast.logged("following").await;
        scene.sql(&["CREATE TABLE other (text MEDIUMTEXT)"]).await;
        scene.doorcast.signal("STOP");
        by_statement(&mut scene, &swipe(1)).await;
        scene.sql(&[&swipe(2), "INSERT INTO other VALUES (REPEAT('x', 400000))", &swipe(3)]).await;
        scene.doorcast.signal("CONT");
        assert_eq!(ids(&mut scene).await, ["1-1", "1-2", "1-3", "1-4"], "{kind}");
        assert_eq!(scene.status().await["breaks"], 0, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn a_look_does_not_tell_what_the_binlog_is_about_to_bring() {
    each_kind(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-heartbeat", "3600"]).await;
        tell_one_row(&mut scene).await;
        let mut late = Late::on(&scene.server).await;
        late.insert(&swipe(2)).await;
        // The connection that brings the binlog; the one for queries was made before.
        proxy.set_newest(SLOW);
        have_a_statement_looked_for(&mut scene).await;
        scene.sql(&[&swipe(3)]).await;
        late.commit().await;
        scene.read(3).await;
        proxy.set_newest(Way::Open);
        assert_eq!(ids(&mut scene).await, ["1-1", "1-3", "1-2", "1-4"], "{kind}");
        assert_eq!(scene.status().await["unlogged"], 0, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn rows_that_were_seen_are_told_though_the_link_breaks_and_the_table_is_emptied() {
    each_kind(async |kind| {
        for (rows, insert) in [(1, swipe(2)), (2, TWO_MORE.to_owned())] {
            let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-heartbeat", "3600"]).await;
            tell_one_row(&mut scene).await;
            proxy.set_newest(SLOW);
            by_statement(&mut scene, &insert).await;
            scene.sql(&[FILLER]).await;
            // Longer than doorcast looks for what it inserted, and less than the link takes for what is behind it.
            tokio::time::sleep(Duration::from_millis(2000)).await;
            proxy.set_for_all(Way::Closed);
            scene.sql(&["TRUNCATE TABLE vdooropen", &swipe(5)]).await;
            proxy.set_for_all(Way::Open);
            scene.read(2 + rows).await;
            let expected = if rows == 1 { &["1-1", "1-2", "2-1"][..] } else { &["1-1", "1-2", "1-3", "2-1"] };
            assert_eq!(ids(&mut scene).await[..expected.len()], *expected, "{kind}");
            assert_eq!(scene.status().await["breaks"], 0, "{kind}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_statement_in_doubt_begins_no_epoch_before_the_binlog_does() {
    each_kind(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-heartbeat", "3600"]).await;
        tell_one_row(&mut scene).await;
        scene.sql(&["CREATE TABLE vdooropen_new LIKE vdooropen"]).await;
        proxy.set_newest(SLOW);
        have_a_statement_looked_for(&mut scene).await;
        scene
            .sql(&[&swipe(2), "RENAME TABLE vdooropen TO archive, vdooropen_new TO vdooropen", &swipe(3)])
            .await;
        let line = scene.doorcast.logged("keys start over").await;
        assert_eq!(line["reason"], "another table stands under the name", "{kind}");
        assert_eq!(line["epoch"], 2, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn a_statement_that_deletes_or_changes_rows_begins_no_epoch() {
    each_kind(async |kind| {
        let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
        scene.sql(&[&swipe(1), &swipe(2), &swipe(3)]).await;
        scene.read(3).await;
        for sql in ["DELETE FROM vdooropen WHERE vid = 3", "UPDATE vdooropen SET ynopen = 'N'"] {
            scene.sql(&[sql]).await;
            // Longer than doorcast looks for what it may have inserted.
            tokio::time::sleep(Duration::from_millis(2500)).await;
        }
        scene.sql(&[&swipe(4), "SET SESSION binlog_format = ROW"]).await;
        scene.read(4).await;
        assert_eq!(ids(&mut scene).await, ["1-1", "1-2", "1-3", "1-4", "1-5"], "{kind}");
        assert_eq!(scene.status().await["breaks"], 0, "{kind}");
    })
    .await;
}

/// A server that waits for a replica's word sends a commit to others at once, and shows it to nobody until it gives
/// up waiting.
pub(crate) async fn show_commits_late(scene: &mut Scene, milliseconds: u32) {
    scene
        .sql(&[
            "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC",
            &format!("SET GLOBAL rpl_semi_sync_master_timeout = {milliseconds}"),
            "SET GLOBAL rpl_semi_sync_master_enabled = ON",
        ])
        .await;
}

pub(crate) fn may_show_commits_late(kind: &str) -> bool {
    kind.starts_with("mariadb")
}

/// The row is in the binlog and was told when the table is asked whether it is still the same.
#[tokio::test]
async fn a_row_that_the_server_shows_late_begins_no_epoch() {
    each_kind(async |kind| {
        if !may_show_commits_late(kind) {
            return;
        }
        let mut scene = Scene::start(kind, &[], &[]).await;
        let mut rows = scene.server.root(Some("doors")).await.unwrap();
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        scene.sql(&["SET SESSION binlog_format = STATEMENT", IN_DOUBT]).await;
        show_commits_late(&mut scene, 500).await;
        // doorcast looks for what it may have inserted until a second after it.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let row = tokio::spawn(async move { rows.query_drop(swipe(2)).await.unwrap() });
        scene.read(2).await;
        row.await.unwrap();
        scene.sql(&["SET SESSION binlog_format = ROW"]).await;
        assert_eq!(ids(&mut scene).await, ["1-1", "1-2", "1-3"], "{kind}");
    })
    .await;
}

#[tokio::test]
async fn a_row_of_a_statement_that_the_server_shows_late_is_not_missing() {
    each_kind(async |kind| {
        if !may_show_commits_late(kind) {
            return;
        }
        let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        show_commits_late(&mut scene, 2000).await;
        scene.sql(&[&swipe(2)]).await;
        scene.read(2).await;
        let status = scene.status().await;
        assert_eq!((&status["breaks"], &status["unlogged"]), (&0.into(), &0.into()), "{kind}");
    })
    .await;
}

/// The rows of a statement are not to be seen, and rows that come behind it overtake them.
#[tokio::test]
async fn rows_that_overtake_a_statement_keep_their_order_across_a_kill() {
    each_kind(async |kind| {
        if !may_show_commits_late(kind) {
            return;
        }
        let mut scene = Scene::start(kind, &[], &[]).await;
        let mut statements = scene.server.root(Some("doors")).await.unwrap();
        let mut rows = scene.server.root(Some("doors")).await.unwrap();
        statements.query_drop("SET SESSION binlog_format = STATEMENT").await.unwrap();
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        show_commits_late(&mut scene, 5000).await;
        let before = scene.status().await["table_reads"].as_u64().unwrap();
        let statement = tokio::spawn(async move { statements.query_drop(swipe(2)).await.unwrap() });
        deadline(async { while scene.status().await["table_reads"].as_u64().unwrap() == before {} }).await;
        let row = tokio::spawn(async move { rows.query_drop(swipe(3)).await.unwrap() });
        scene.read(2).await;
        assert!(!statement.is_finished(), "{kind}: the server did not wait");
        scene.doorcast.kill().await;
        statement.await.unwrap();
        row.await.unwrap();
        scene.doorcast.start_again().await;
        scene.read(3).await;
        assert_eq!(ids(&mut scene).await, ["1-1", "1-3", "1-2", "1-4"], "{kind}");
    })
    .await;
}
