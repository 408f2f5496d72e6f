//! XA transactions that are prepared while something restarts: shown at their commit, and never after a rollback.

use crate::{
    scene::{Scene, swipe},
    servers::each_kind,
};

/// What happens between the two phases.
#[derive(Debug, Clone, Copy)]
enum Between {
    DoorcastKilled,
    DoorcastStopped,
    ServerRestarted,
}

#[tokio::test]
async fn a_prepared_xa_transaction_ends_as_it_ends_whatever_restarts_meanwhile() {
    each_kind(async |kind| {
        if kind == "mysql-5.6" {
            return; // forgets a prepared one with its session
        }
        for between in [Between::DoorcastKilled, Between::DoorcastStopped, Between::ServerRestarted] {
            let mut scene = Scene::start(kind, &[], &[]).await;
            for (name, door) in [("a", 1), ("b", 2)] {
                let [start, end, prepare] =
                    ["START", "END", "PREPARE"].map(|phase| format!("XA {phase} '{name}'"));
                scene.sql(&[&start, &swipe(door), &end, &prepare]).await;
                // Another session may end it.
                scene.reconnect().await;
            }
            scene.sql(&[&swipe(3)]).await;
            scene.read(1).await;
            match between {
                Between::DoorcastKilled => {
                    scene.doorcast.kill().await;
                    scene.doorcast.start_again().await;
                }
                Between::DoorcastStopped => {
                    assert!(scene.doorcast.stop().await.success());
                    scene.doorcast.start_again().await;
                }
                Between::ServerRestarted => {
                    scene.server.restart().await.unwrap();
                    scene.reconnect().await;
                }
            }
            scene.sql(&["XA ROLLBACK 'a'", "XA COMMIT 'b'"]).await;
            let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
            let doors: Vec<bool> = [1, 2, 3]
                .map(|door| rows.iter().any(|(_, row)| row.contains(&format!("\"doorno\":{door},"))))
                .into();
            assert_eq!(doors, [false, true, true], "{kind} {between:?}: {rows:?}");
        }
    })
    .await;
}
