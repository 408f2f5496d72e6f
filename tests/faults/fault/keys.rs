//! Keys start over.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use tokio::time::sleep;

use crate::stage::Stage;

/// As sites do it every month.
pub(super) async fn archive(stage: &mut Stage, a_while: Duration) -> Result<()> {
    let archive = new_name();
    let mut conn = stage.admin().await?;
    conn.query_drop("CREATE TABLE vdooropen_new LIKE vdooropen").await?;
    stage.timeline.note(&format!("the table becomes {archive}"));
    conn.query_drop(format!("RENAME TABLE vdooropen TO {archive}, vdooropen_new TO vdooropen")).await?;
    conn.disconnect().await?;
    stage.remember(&archive).await?;
    sleep(a_while).await;
    Ok(())
}

/// The same in two statements, and inserts fail meanwhile.
pub(super) async fn rename_then_create(stage: &mut Stage, a_while: Duration) -> Result<()> {
    let archive = new_name();
    let mut conn = stage.admin().await?;
    stage.timeline.note(&format!("the table becomes {archive}"));
    conn.query_drop(format!("RENAME TABLE vdooropen TO {archive}")).await?;
    sleep(a_while / 4).await;
    conn.query_drop(format!("CREATE TABLE vdooropen LIKE {archive}")).await?;
    conn.disconnect().await?;
    stage.remember(&archive).await?;
    sleep(a_while).await;
    Ok(())
}

/// Of a table that is renamed away.
fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("archive_{}", NEXT.fetch_add(1, Relaxed))
}

/// What is committed between the reading and the end of the table, the binlog alone knows.
pub(super) async fn truncate(stage: &mut Stage, a_while: Duration) -> Result<()> {
    stage.remember("vdooropen").await?;
    let mut conn = stage.admin().await?;
    stage.timeline.note("the table is emptied");
    conn.query_drop("TRUNCATE TABLE vdooropen").await?;
    conn.disconnect().await?;
    sleep(a_while).await;
    Ok(())
}

/// The same, and inserts fail meanwhile.
pub(super) async fn drop_and_create(stage: &mut Stage, a_while: Duration) -> Result<()> {
    stage.remember("vdooropen").await?;
    let mut conn = stage.admin().await?;
    let create: Option<(String, String)> = conn.query_first("SHOW CREATE TABLE vdooropen").await?;
    let (_, create) = create.context("no table")?;
    // Where keys begin.
    let (before, after) = create.split_once(" AUTO_INCREMENT=").context("no key was given out")?;
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    stage.timeline.note("the table is dropped");
    conn.query_drop("DROP TABLE vdooropen").await?;
    sleep(a_while / 4).await;
    conn.query_drop(format!("{before}{after}")).await?;
    conn.disconnect().await?;
    sleep(a_while).await;
    Ok(())
}
