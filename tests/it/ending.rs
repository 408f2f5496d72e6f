//! The end that was asked for, when everything that it might wait for is stuck.

use std::{
    fs,
    os::unix::fs::FileTypeExt,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    deadline::deadline,
    link::{UNWRITTEN, never_reads, temporary},
    proxy::Way,
    scene::{Scene, swipe},
    servers::each_kind,
    standstill::{WIDE_COLUMN, wide},
};

/// What is promised. Clients are given 5 s of it, so a busy machine has as much again.
const WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn sigterm_ends_it_within_ten_seconds_though_client_server_and_disk_are_stuck() {
    each_kind(async |kind| {
        let (mut scene, proxy) = Scene::behind_proxy(kind, &[], &["--db-heartbeat", "20"]).await;
        scene.sql(&[WIDE_COLUMN, &swipe(1)]).await;
        scene.read(1).await;
        let client = never_reads(&scene.doorcast.address).await;
        for _ in 0..60 {
            scene.sql(&[&wide(2)]).await;
        }
        scene.read(61).await;
        let away = scene.doorcast.folder().with_extension("away");
        fs::rename(scene.doorcast.folder(), &away).unwrap();
        scene.sql(&[&swipe(3)]).await;
        scene.read(62).await;
        scene.doorcast.logged(UNWRITTEN).await;
        proxy.set(Way::Stalled);
        scene.sql(&[&swipe(4)]).await;

        let asked = Instant::now();
        let status = scene.doorcast.stop().await;
        let took = asked.elapsed();
        assert_eq!(status.code(), Some(0), "{kind}");
        assert!(took < WITHIN, "{kind}: {took:?}");
        scene.doorcast.logged("cut the connections that did not end in time").await;

        drop(client);
        fs::rename(&away, scene.doorcast.folder()).unwrap();
        proxy.drop_stalled();
        scene.doorcast.start_again().await;
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 64, "{kind}");
    })
    .await;
}

/// A pipe that nobody reads stands for the disk: whoever opens it for writing waits.
#[tokio::test]
async fn rows_are_pushed_though_the_disk_hangs_and_sigterm_ends_it_with_status_0() {
    each_kind(async |kind| {
        // Their rows wait for a checkpoint.
        let mut scene = Scene::start(kind, &["--binlog-format=STATEMENT"], &[]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        let pipe = temporary(&scene.doorcast);
        deadline(async {
            // A save may stand in the way.
            while !fs::symlink_metadata(&pipe).is_ok_and(|it| it.file_type().is_fifo()) {
                let _ = Command::new("mkfifo").arg(&pipe).stderr(Stdio::null()).status();
                tokio::task::yield_now().await;
            }
        })
        .await;
        scene.sql(&[&swipe(2)]).await;
        scene.read(2).await;
        scene.sql(&[&swipe(3)]).await;
        scene.read(3).await;
        assert_eq!(scene.doorcast.stop().await.code(), Some(0), "{kind}");
        let unwritten = "the last checkpoint was not written in time: a restart goes on from the one before. Is the \
                         disk overloaded?";
        scene.doorcast.logged(unwritten).await;
    })
    .await;
}
