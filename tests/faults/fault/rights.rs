//! What an administrator takes from doorcast, and gives back.

use std::time::Duration;

use ::doorcast::demo::binary::Flavour;
use anyhow::Result;
use mysql_async::prelude::Queryable;
use tokio::time::sleep;

use super::inject::kill_connections;
use crate::{servers, stage::Stage};

pub(super) async fn revoke(stage: &mut Stage, a_while: Duration, random: &mut fastrand::Rng) -> Result<()> {
    let right = if random.bool() {
        format!("SELECT ON `{}`.vdooropen", stage.database)
    } else {
        "REPLICATION SLAVE ON *.*".to_owned()
    };
    let user = format!("'{}'@'%'", stage.user);
    let mut conn = stage.admin().await?;
    conn.query_drop(format!("REVOKE {right} FROM {user}")).await?;
    kill_connections(stage, "").await?;
    sleep(a_while * 2).await;
    conn.query_drop(format!("GRANT {right} TO {user}")).await?;
    conn.disconnect().await?;
    Ok(())
}

/// `REVOKE` it `FROM` doorcast, or `GRANT` it `TO` it.
pub(super) async fn replication(stage: &Stage, verb: &str, preposition: &str) -> Result<()> {
    let mut conn = stage.admin().await?;
    conn.query_drop(format!("{verb} REPLICATION SLAVE ON *.* {preposition} '{}'@'%'", stage.user)).await?;
    conn.disconnect().await?;
    Ok(())
}

pub(super) async fn change_password(stage: &mut Stage, a_while: Duration) -> Result<()> {
    set_password(stage, "another").await?;
    kill_connections(stage, "").await?;
    sleep(a_while * 2).await;
    set_password(stage, servers::PASSWORD).await
}

pub(super) async fn set_password(stage: &Stage, password: &str) -> Result<()> {
    let server = stage.server.binary();
    let user = format!("'{}'@'%'", stage.user);
    let old = server.flavour() == Flavour::MariaDb || server.version() < (5, 7, 6);
    let mut conn = stage.admin().await?;
    conn.query_drop(if old {
        format!("SET PASSWORD FOR {user} = PASSWORD('{password}')")
    } else {
        format!("ALTER USER {user} IDENTIFIED BY '{password}'")
    })
    .await?;
    conn.disconnect().await?;
    Ok(())
}
