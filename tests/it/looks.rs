//! What a look at the table tells, beside what the binlog is about to bring.

use mysql_async::prelude::Queryable;

use crate::{
    deadline::deadline,
    proxy::Way,
    scene::{Scene, swipe},
    servers::{self, each_kind},
};

/// On the link, this takes longer than doorcast looks for a statement.
const FILLER: &str = "INSERT INTO other VALUES (REPEAT('x', 40000))";
const SLOW: Way = Way::Slow(100);

/// A statement that may have written anything, with what doorcast needs to be slow at reading on.
async fn statement_before_a_long_wait(scene: &mut Scene) {
    scene.sql(&["CREATE TABLE other (text MEDIUMTEXT)", &swipe(1)]).await;
    scene.read(1).await;
}

async fn look_for_an_update(scene: &mut Scene) {
    scene
        .sql(&[
            "SET SESSION binlog_format = STATEMENT",
            "UPDATE vdooropen SET ynopen = 'N' WHERE vid = 0",
            "SET SESSION binlog_format = ROW",
            FILLER,
        ])
        .await;
}

async fn ids(scene: &mut Scene) -> Vec<String> {
    scene.last_row().await.swap_remove(0).into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn a_look_does_not_tell_what_the_binlog_is_about_to_bring() {
    each_kind(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-heartbeat", "3600"]).await;
        statement_before_a_long_wait(&mut scene).await;
        let mut late = scene.server.root(Some("doors")).await.unwrap();
        late.query_drop("BEGIN").await.unwrap();
        late.query_drop(swipe(2)).await.unwrap();
        // The connection that brings the binlog; the one for queries was made before.
        proxy.set_newest(SLOW);
        look_for_an_update(&mut scene).await;
        scene.sql(&[&swipe(3)]).await;
        late.query_drop("COMMIT").await.unwrap();
        scene.read(3).await;
        proxy.set_newest(Way::Open);
        assert_eq!(ids(&mut scene).await, ["1-1", "1-3", "1-2", "1-4"], "{kind}");
        assert_eq!(scene.status().await["unlogged"], 0, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn a_statement_in_doubt_begins_no_epoch_before_the_binlog_does() {
    each_kind(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-heartbeat", "3600"]).await;
        statement_before_a_long_wait(&mut scene).await;
        scene.sql(&["CREATE TABLE vdooropen_new LIKE vdooropen"]).await;
        proxy.set_newest(SLOW);
        look_for_an_update(&mut scene).await;
        scene
            .sql(&[&swipe(2), "RENAME TABLE vdooropen TO archive, vdooropen_new TO vdooropen", &swipe(3)])
            .await;
        scene.read(3).await;
        proxy.set_newest(Way::Open);
        assert_eq!(ids(&mut scene).await, ["1-1", "1-2", "2-1", "2-2"], "{kind}");
    })
    .await;
}

/// A server that waits for a replica's word sends a commit to others at once, and shows it to nobody until it gives
/// up waiting: the rows of a statement are not to be seen, and rows that come behind it overtake them.
#[tokio::test]
async fn rows_that_overtake_a_statement_keep_their_order_across_a_kill() {
    for kind in servers::kinds().into_iter().filter(|kind| kind.starts_with("mariadb")) {
        let mut scene = Scene::start(kind, &[], &[]).await;
        let mut statements = scene.server.root(Some("doors")).await.unwrap();
        let mut rows = scene.server.root(Some("doors")).await.unwrap();
        statements.query_drop("SET SESSION binlog_format = STATEMENT").await.unwrap();
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        scene
            .sql(&[
                "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC",
                "SET GLOBAL rpl_semi_sync_master_timeout = 900",
                "SET GLOBAL rpl_semi_sync_master_enabled = ON",
            ])
            .await;
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
    }
}
