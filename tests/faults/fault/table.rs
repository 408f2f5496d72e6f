//! What happens to the table, and how its rows are logged.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use ::doorcast::demo::binary::Flavour;
use anyhow::{Context, Result};
use mysql_async::{Conn, prelude::Queryable};
use tokio::time::{Instant, sleep};

use super::doorcast::kill;
use crate::{
    stage::Stage,
    swipes::{Card, Format, ROLLED_BACK, card_text, insert_through, new_card},
};

/// Whoever inserts by hand goes through this door.
pub(super) const BY_HAND: u32 = 997;

/// Two of the four sessions log in another way for a while.
pub(super) async fn format(stage: &mut Stage, format: Format, a_while: Duration) -> Result<()> {
    stage.swipes.set_format(format);
    sleep(Duration::from_millis(100) + a_while * 2).await;
    stage.swipes.back_to_rows().await;
    Ok(())
}

/// MySQL compresses what some sessions write, MariaDB what all do.
pub(super) async fn compressed(stage: &mut Stage, a_while: Duration) -> Result<()> {
    if stage.server.binary().flavour() == Flavour::MySql {
        return format(stage, Format::Compressed, a_while).await;
    }
    let mut conn = stage.admin().await?;
    conn.query_drop("SET GLOBAL log_bin_compress_min_len = 10").await?;
    conn.query_drop("SET GLOBAL log_bin_compress = ON").await?;
    sleep(Duration::from_millis(100) + a_while * 2).await;
    conn.query_drop("SET GLOBAL log_bin_compress = OFF").await?;
    conn.disconnect().await?;
    Ok(())
}

/// Two XA transactions, of which one is committed, are prepared before somebody restarts.
pub(super) async fn xa(stage: &mut Stage, a_while: Duration, random: &mut fastrand::Rng) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Relaxed);
    let (commit, roll_back) = (format!("'commit{number}'"), format!("'rollback{number}'"));
    let card = new_card(random);
    let mut sessions = [stage.admin().await?, stage.admin().await?];
    prepare(&mut sessions[0], &commit, BY_HAND, card).await?;
    prepare(&mut sessions[1], &roll_back, ROLLED_BACK, new_card(random)).await?;
    sleep(a_while / 2).await;
    let ends = random.u8(0..4);
    match ends {
        0 => {}
        1 => kill(stage, a_while).await?,
        2 => stage.server.restart().await?,
        _ => super::server::kill(stage).await?,
    }
    if ends >= 2 {
        // Those are gone.
        sessions = [stage.admin().await?, stage.admin().await?];
    }
    if random.bool() {
        stage.all_have_a_row().await?;
    }
    // Old servers roll back what is prepared when its session ends: then there is nothing to commit.
    let committed = sessions[0].query_drop(format!("XA COMMIT {commit}")).await;
    let _ = sessions[1].query_drop(format!("XA ROLLBACK {roll_back}")).await;
    for session in sessions {
        session.disconnect().await?;
    }
    if committed.is_ok() {
        stage.swipes.acknowledged(card);
        stage.all_have(&[card]).await?;
    }
    Ok(())
}

async fn prepare(conn: &mut Conn, name: &str, door: u32, card: Card) -> Result<()> {
    conn.query_drop(format!("XA START {name}")).await?;
    insert_through(conn, door, card).await?;
    conn.query_drop(format!("XA END {name}")).await?;
    conn.query_drop(format!("XA PREPARE {name}")).await?;
    Ok(())
}

/// A column comes, is written to, changes, and goes. So does another's type.
pub(super) async fn alter(stage: &mut Stage, a_while: Duration, random: &mut fastrand::Rng) -> Result<()> {
    let since = Instant::now();
    let mut conn = stage.admin().await?;
    conn.query_drop("ALTER TABLE vdooropen ADD COLUMN note VARCHAR(20) NOT NULL DEFAULT 'none'").await?;
    insert_noted(stage, &mut conn, "note", random).await?;
    sleep(a_while / 2).await;
    conn.query_drop("ALTER TABLE vdooropen MODIFY note VARCHAR(300) NOT NULL DEFAULT 'none'").await?;
    insert_noted(stage, &mut conn, "note", random).await?;
    conn.query_drop("ALTER TABLE vdooropen MODIFY doorno BIGINT NOT NULL").await?;
    insert_noted(stage, &mut conn, "note", random).await?;
    sleep(a_while / 2).await;
    conn.query_drop("ALTER TABLE vdooropen DROP COLUMN note").await?;
    conn.query_drop("ALTER TABLE vdooropen MODIFY doorno INT NOT NULL").await?;
    conn.disconnect().await?;
    // Whoever gets a row from before only now, gets it as it was.
    stage.all_have_a_row().await?;
    stage.swipes.noted_since(since);
    Ok(())
}

/// A column with Chinese text comes, the table becomes gbk and utf8mb4, and all that goes again.
pub(super) async fn convert(stage: &mut Stage, a_while: Duration, random: &mut fastrand::Rng) -> Result<()> {
    let since = Instant::now();
    let mut conn = stage.admin().await?;
    let collation: Option<String> = conn
        .query_first(
            "SELECT table_collation FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = 'vdooropen'",
        )
        .await?;
    let collation = collation.context("no collation")?;
    let (set, _) = collation.split_once('_').context("a collation without a set")?;
    conn.query_drop(
        "ALTER TABLE vdooropen ADD COLUMN note VARCHAR(20) CHARACTER SET gbk NOT NULL DEFAULT 'none'",
    )
    .await?;
    insert_noted(stage, &mut conn, "门禁", random).await?;
    for set in ["utf8mb4", "gbk", "utf8mb4"] {
        sleep(a_while / 4).await;
        conn.query_drop(format!("ALTER TABLE vdooropen CONVERT TO CHARACTER SET {set}")).await?;
        insert_noted(stage, &mut conn, "门禁", random).await?;
    }
    conn.query_drop("ALTER TABLE vdooropen DROP COLUMN note").await?;
    conn.query_drop(format!("ALTER TABLE vdooropen CONVERT TO CHARACTER SET {set} COLLATE {collation}"))
        .await?;
    conn.disconnect().await?;
    stage.all_have_a_row().await?;
    stage.swipes.noted_since(since);
    Ok(())
}

/// As it is done when keys come to their end.
pub(super) async fn key_type(stage: &mut Stage, a_while: Duration) -> Result<()> {
    let mut conn = stage.admin().await?;
    for key in ["BIGINT", "INT UNSIGNED", "INT"] {
        conn.query_drop(format!("ALTER TABLE vdooropen MODIFY vid {key} NOT NULL AUTO_INCREMENT")).await?;
        sleep(a_while / 2).await;
    }
    conn.disconnect().await?;
    Ok(())
}

async fn insert_noted(stage: &Stage, conn: &mut Conn, word: &str, random: &mut fastrand::Rng) -> Result<()> {
    let card = new_card(random);
    let note = format!("{word} {}", random.u32(..));
    conn.query_drop(format!(
        "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen, note) VALUES \
         ({BY_HAND}, '{}', '20261120 071500', 'N', '{note}')",
        card_text(card)
    ))
    .await?;
    stage.swipes.acknowledged_with(card, note);
    Ok(())
}

/// Only a look at the table finds them.
pub(super) async fn unlogged(stage: &mut Stage, random: &mut fastrand::Rng) -> Result<()> {
    let mut conn = stage.admin().await?;
    conn.query_drop("SET sql_log_bin = 0").await?;
    let mut cards = Vec::new();
    for _ in 0..random.u8(1..5) {
        let card = new_card(random);
        insert_through(&mut conn, BY_HAND, card).await?;
        stage.swipes.acknowledged(card);
        cards.push(card);
    }
    conn.disconnect().await?;
    stage.all_have(&cards).await
}
