//! What happens to the server and its binlog files.

use std::{
    fs::{self, File},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use ::doorcast::demo::binary::Flavour;
use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use tokio::time::sleep;

use super::doorcast::stop;
use crate::{proxy::Way, stage::Stage};

pub(super) async fn kill(stage: &mut Stage) -> Result<()> {
    stage.timeline.note("the server is killed");
    stage.server.kill();
    stage.server.start_again().await
}

pub(super) async fn freeze(stage: &mut Stage, a_while: Duration) -> Result<()> {
    stage.server.freeze()?;
    sleep(a_while * 4).await;
    stage.server.thaw()
}

pub(super) async fn rotate(stage: &mut Stage, random: &mut fastrand::Rng) -> Result<()> {
    let mut conn = stage.admin().await?;
    for _ in 0..random.u8(1..5) {
        conn.query_drop("FLUSH BINARY LOGS").await?;
    }
    conn.disconnect().await?;
    Ok(())
}

/// While doorcast is down, stopped or killed, the files that it has not read are purged.
pub(super) async fn purge(stage: &mut Stage, by_kill: bool, a_while: Duration) -> Result<()> {
    if by_kill {
        stage.doorcast.kill().await;
    } else {
        stop(stage).await?;
    }
    sleep(a_while).await;
    let newest = stage.rotate_and_read().await?;
    let mut conn = stage.admin().await?;
    conn.query_drop(format!("PURGE BINARY LOGS TO '{newest}'")).await?;
    conn.disconnect().await?;
    sleep(a_while / 2).await;
    stage.start_doorcast_again().await;
    Ok(())
}

pub(super) async fn reset(stage: &mut Stage, a_while: Duration) -> Result<()> {
    stop(stage).await?;
    sleep(a_while).await;
    stage.reset_binlogs().await?;
    sleep(a_while).await;
    stage.start_doorcast_again().await;
    Ok(())
}

/// The server goes down, and the tail of its newest binlog file was not yet on disk. The table has it all.
/// As a rule doorcast has read what is lost; or the link has brought nothing for a moment.
pub(super) async fn power_loss(stage: &mut Stage, random: &mut fastrand::Rng) -> Result<()> {
    if random.u8(0..4) == 0 {
        stage.timeline.note("the link stalls");
        stage.link.set(Way::Stalled);
    }
    sleep(Duration::from_millis(random.u64(100..400))).await;
    // What is in the binlog and not yet in InnoDB's log, which 5.6 writes once a second, would be rolled back.
    let files = stage.binlog_files().await?;
    let paused = stage.swipes.pause().await;
    sleep(Duration::from_millis(1300)).await;
    stage.timeline.note("the server is killed");
    stage.server.kill();
    stage.link.drop_stalled();
    drop(paused);
    stage.decode(&files)?;
    let newest = stage.server.data().join(files.last().context("no binlog file")?);
    let file = File::options().write(true).open(newest)?;
    let length = file.metadata()?.len();
    // The file's description of itself stays.
    let kept = length.saturating_sub(random.u64(200..5000)).max(400);
    file.set_len(kept)?;
    stage.timeline.note(&format!("its binlog is cut from {length} to {kept} bytes"));
    stage.server.start_again().await?;
    stage.timeline.note("the server is back");
    Ok(())
}

/// A server with the same data stands at the address, with another identity. It has the binlog files too, or
/// some of its own, as a replica has that was promoted.
pub(super) async fn other(stage: &mut Stage, random: &mut fastrand::Rng) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(100);
    let number = NEXT.fetch_add(1, Relaxed);
    let mut conn = stage.admin().await?;
    let base: String = conn.query_first("SELECT @@log_bin_basename").await?.context("no binlog")?;
    conn.disconnect().await?;
    let files = stage.binlog_files().await?;
    stage.server.stop().await?;
    let has_files = random.bool();
    if !has_files {
        stage.decode(&files)?;
    }
    if stage.server.binary().flavour() == Flavour::MySql {
        fs::remove_file(stage.server.data().join("auto.cnf"))?;
    }
    let base = if has_files { base } else { format!("other{number}") };
    stage.server.restart_with(&[&format!("--server-id={number}"), &format!("--log-bin={base}")]).await
}
