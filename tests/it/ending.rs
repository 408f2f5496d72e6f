//! The end that was asked for, when everything that it might wait for is stuck.

use std::{fs, time::Duration};

use tokio::time::Instant;

use crate::{
    link::{UNWRITTEN, never_reads},
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
