//! What an administrator switches while the server runs.

use std::time::Duration;

use ::doorcast::demo::binary::Flavour;
use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use tokio::time::sleep;

use super::{inject::kill_connections, table::BY_HAND};
use crate::{
    stage::Stage,
    swipes::{insert_through, new_card},
};

/// From one transaction to the next, a table is described with more or with less.
pub(super) async fn row_metadata(stage: &mut Stage, a_while: Duration) -> Result<()> {
    let mut conn = stage.admin().await?;
    let before: Option<String> = conn.query_first("SELECT @@GLOBAL.binlog_row_metadata").await?;
    let before = before.context("no row metadata")?;
    let levels: &[&str] = match stage.server.binary().flavour() {
        Flavour::MariaDb => &["FULL", "MINIMAL", "NO_LOG", "FULL"],
        Flavour::MySql => &["FULL", "MINIMAL", "FULL"],
    };
    for level in levels.iter().copied().chain([before.as_str()]) {
        conn.query_drop(format!("SET GLOBAL binlog_row_metadata = '{level}'")).await?;
        sleep(a_while / 2).await;
    }
    conn.disconnect().await?;
    Ok(())
}

/// Sessions that begin meanwhile have them: doorcast's, and that of whoever inserts by hand.
pub(super) async fn modes(stage: &mut Stage, a_while: Duration, random: &mut fastrand::Rng) -> Result<()> {
    let mut conn = stage.admin().await?;
    let before: Option<(String, String)> =
        conn.query_first("SELECT @@GLOBAL.sql_mode, @@GLOBAL.binlog_format").await?;
    let (sql_mode, format) = before.context("no settings")?;
    let modes = ["", "ANSI,NO_BACKSLASH_ESCAPES", "PAD_CHAR_TO_FULL_LENGTH", "TRADITIONAL"];
    let mode = random.choice(modes).unwrap_or_default();
    conn.query_drop(format!("SET GLOBAL sql_mode = '{mode}'")).await?;
    let other = random.choice(["STATEMENT", "MIXED"]).unwrap_or_default();
    conn.query_drop(format!("SET GLOBAL binlog_format = '{other}'")).await?;
    stage.timeline.note(&format!("sql_mode is '{mode}', binlog_format {other}"));
    kill_connections(stage, "").await?;
    for _ in 0..3 {
        let mut session = stage.admin().await?;
        let card = new_card(random);
        insert_through(&mut session, BY_HAND, card).await?;
        stage.swipes.acknowledged(card);
        session.disconnect().await?;
        sleep(a_while / 2).await;
    }
    conn.query_drop(format!("SET GLOBAL sql_mode = '{sql_mode}'")).await?;
    conn.query_drop(format!("SET GLOBAL binlog_format = '{format}'")).await?;
    conn.disconnect().await?;
    Ok(())
}
