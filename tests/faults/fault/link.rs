//! What happens between doorcast and the server, and between clients and doorcast.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use mysql_async::{BinlogStreamRequest, Conn};
use tokio::time::{sleep, timeout};

use crate::{proxy::Way, stage::Stage, swipes::Format};

pub(super) async fn half_open(stage: &mut Stage) -> Result<()> {
    stage.link.set(Way::Stalled);
    stage.all_have_a_row().await?;
    stage.link.drop_stalled();
    Ok(())
}

/// For longer than doorcast waits for a heartbeat, so that it connects anew, in vain. In the end what was sent
/// comes through, as when the packets are sent again.
pub(super) async fn dropped(stage: &mut Stage, a_while: Duration) -> Result<()> {
    stage.link.set_for_all(Way::Stalled);
    sleep(Duration::from_millis(1600) + a_while * 2).await;
    stage.link.set_for_all(Way::Open);
    Ok(())
}

/// In the middle of reading the table.
pub(super) async fn half_open_statement(stage: &mut Stage, a_while: Duration) -> Result<()> {
    stage.swipes.set_format(Format::Statement);
    sleep(Duration::from_millis(300) + a_while).await;
    half_open(stage).await?;
    stage.swipes.back_to_rows().await;
    Ok(())
}

pub(super) async fn cut(stage: &mut Stage, a_while: Duration, random: &mut fastrand::Rng) -> Result<()> {
    for _ in 0..random.u8(1..4) {
        stage.link.set(if random.bool() { Way::Closed } else { Way::Reset });
        sleep(a_while / 4).await;
    }
    Ok(())
}

pub(super) async fn slow(stage: &mut Stage, a_while: Duration, random: &mut fastrand::Rng) -> Result<()> {
    stage.link.set_for_all(Way::Slow(random.usize(32..256)));
    sleep(a_while * 2).await;
    stage.link.set_for_all(Way::Open);
    Ok(())
}

pub(super) async fn cut_clients(
    stage: &mut Stage,
    a_while: Duration,
    random: &mut fastrand::Rng,
) -> Result<()> {
    for _ in 0..random.u8(1..4) {
        stage.front.set(Way::CutAfter(random.usize(1..2000)));
        sleep(a_while / 2).await;
    }
    Ok(())
}

/// A replica with the id that doorcast has, for a moment.
pub(super) async fn twin(stage: &mut Stage) -> Result<()> {
    let checkpoint: serde_json::Value = serde_json::from_slice(&fs::read(stage.doorcast.checkpoint())?)?;
    let id = checkpoint["checkpoint"]["replica_id"].as_u64().context("no replica_id in the checkpoint")?;
    let newest = stage.rotate_and_read().await?;
    let conn = Conn::from_url(stage.server.root_url(&stage.database)).await?;
    let request = BinlogStreamRequest::new(u32::try_from(id)?).with_filename(newest.as_bytes()).with_pos(4);
    let mut stream = conn.get_binlog_stream(request).await?;
    // doorcast may win: then this one ends.
    let _ = timeout(Duration::from_secs(2), async { while let Some(Ok(_)) = stream.next().await {} }).await;
    Ok(())
}
