//! The table is replaced, doorcast is kept from seeing it, and clients come that are far behind.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::{foreign::insert_many, inject::kill_connections, keys, rights};
use crate::{
    screens::{By, Screen},
    servers,
    stage::Stage,
};

/// Some come before the table is replaced, some after it. They want rows that doorcast holds no more.
pub(super) async fn far_behind(
    stage: &mut Stage,
    a_while: Duration,
    random: &mut fastrand::Rng,
) -> Result<()> {
    stage.all_have_a_row().await?;
    let place = stage.place()?;
    let mut conn = stage.admin().await?;
    for _ in 0..4 {
        let cards = insert_many(&mut conn, 150).await?;
        cards.iter().for_each(|card| stage.swipes.acknowledged(*card));
        stage.all_have(&cards).await?;
    }
    conn.disconnect().await?;

    let by_password = random.bool();
    keep_from_reading(stage, by_password).await?;
    let address = stage.doorcast.address.parse()?;
    let come = |when: &str| {
        [By::Sse, By::Poll]
            .map(|by| Screen::behind(format!("{by:?} from an old id, {when}"), by, address, place))
    };
    let mut latecomers = Vec::from(come("before the table is replaced"));
    sleep(a_while / 4).await;
    match random.u8(0..4) {
        0 => keys::archive(stage, a_while).await?,
        1 => keys::rename_then_create(stage, a_while).await?,
        2 => keys::truncate(stage, a_while).await?,
        _ => keys::drop_and_create(stage, a_while).await?,
    }
    latecomers.extend(come("after it"));
    sleep(a_while / 4).await;
    let_read(stage, by_password).await?;
    stage.all_have_come(latecomers, place).await
}

/// The connections that there are end, too.
async fn keep_from_reading(stage: &Stage, by_password: bool) -> Result<()> {
    if by_password {
        rights::set_password(stage, "another").await?;
        return kill_connections(stage, "").await;
    }
    rights::replication(stage, "REVOKE", "FROM").await?;
    kill_connections(stage, "Binlog Dump").await
}

async fn let_read(stage: &Stage, by_password: bool) -> Result<()> {
    match by_password {
        true => rights::set_password(stage, servers::PASSWORD).await,
        false => rights::replication(stage, "GRANT", "TO").await,
    }
}
