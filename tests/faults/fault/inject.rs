//! What each fault does.

use std::time::Duration;

use anyhow::{Context, Result};
use mysql_async::{Conn, prelude::Queryable};

use super::{Fault, doorcast, foreign, keys, latecomers, link, rights, server, settings, table};
use crate::{stage::Stage, swipes::Format};

impl Fault {
    /// Makes it happen. Afterwards everything works again, or will by itself.
    pub(crate) async fn inject(self, stage: &mut Stage, random: &mut fastrand::Rng) -> Result<()> {
        let a_while = Duration::from_millis(random.u64(50..500));
        match self {
            Fault::DoorcastKill => doorcast::kill(stage, a_while).await,
            Fault::DoorcastStop => doorcast::restart(stage, a_while).await,
            Fault::DoorcastFreeze => doorcast::freeze(stage, a_while).await,
            Fault::DoorcastStuck => doorcast::stuck(stage, a_while).await,
            Fault::TornCheckpoint => doorcast::torn_checkpoint(stage, random).await,
            Fault::ServerRestart => stage.server.restart().await,
            Fault::ServerKill => server::kill(stage).await,
            Fault::ServerFreeze => server::freeze(stage, a_while).await,
            Fault::DumpKill => kill_connections(stage, "Binlog Dump").await,
            Fault::Rotate => server::rotate(stage, random).await,
            Fault::Purge | Fault::KillPurge => server::purge(stage, self == Fault::KillPurge, a_while).await,
            Fault::Reset => server::reset(stage, a_while).await,
            Fault::HalfOpen => link::half_open(stage).await,
            Fault::HalfOpenStatement => link::half_open_statement(stage, a_while).await,
            Fault::Dropped => link::dropped(stage, a_while).await,
            Fault::LinkCut => link::cut(stage, a_while, random).await,
            Fault::SlowLink => link::slow(stage, a_while, random).await,
            Fault::ClientCut => link::cut_clients(stage, a_while, random).await,
            Fault::Statement => table::format(stage, Format::Statement, a_while).await,
            Fault::Mixed => table::format(stage, Format::Mixed, a_while).await,
            Fault::RowImage => {
                let image = if random.u8(0..3) == 0 { Format::NoBlob } else { Format::Minimal };
                table::format(stage, image, a_while).await
            }
            Fault::Compressed => table::compressed(stage, a_while).await,
            Fault::StatementKill => doorcast::kill_with_statements(stage, a_while).await,
            Fault::DiskFull => doorcast::disk_full(stage, a_while).await,
            Fault::NoFolder => doorcast::no_folder(stage, a_while).await,
            Fault::Hostile => doorcast::hostile_clients(stage, random).await,
            Fault::Descriptors => doorcast::descriptors(stage, a_while, random).await,
            Fault::Twin => link::twin(stage).await,
            Fault::Grant => rights::revoke(stage, a_while, random).await,
            Fault::Password => rights::change_password(stage, a_while).await,
            Fault::Xa => table::xa(stage, a_while, random).await,
            Fault::Alter => table::alter(stage, a_while, random).await,
            Fault::Convert => table::convert(stage, a_while, random).await,
            Fault::KeyType => table::key_type(stage, a_while).await,
            Fault::Metadata => settings::row_metadata(stage, a_while).await,
            Fault::Modes => settings::modes(stage, a_while, random).await,
            Fault::Clock => {
                table::format(stage, Format::HourAgo, a_while).await?;
                table::format(stage, Format::HourAhead, a_while).await
            }
            Fault::LargeTransaction => foreign::large_transaction(stage, a_while).await,
            Fault::OtherTables => foreign::other_tables(stage, a_while, random).await,
            Fault::FarBehind => latecomers::far_behind(stage, a_while, random).await,
            Fault::Unlogged => table::unlogged(stage, random).await,
            Fault::Archive => keys::archive(stage, a_while).await,
            Fault::Recreate => keys::rename_then_create(stage, a_while).await,
            Fault::Truncate => keys::truncate(stage, a_while).await,
            Fault::Drop => keys::drop_and_create(stage, a_while).await,
            Fault::PowerLoss => server::power_loss(stage, random).await,
            Fault::OtherServer => server::other(stage, random).await,
            Fault::Any | Fault::Lasting => Ok(()),
        }
    }
}

/// Kills doorcast's connections to the server that do something that begins so.
pub(super) async fn kill_connections(stage: &Stage, doing: &str) -> Result<()> {
    let mut conn = stage.admin().await?;
    for id in connections(stage, &mut conn, doing).await? {
        // It may have gone meanwhile.
        let _ = conn.query_drop(format!("KILL {id}")).await;
    }
    conn.disconnect().await?;
    Ok(())
}

/// The server's numbers for them.
pub(super) async fn connections(stage: &Stage, conn: &mut Conn, doing: &str) -> Result<Vec<u64>> {
    let threads: Vec<mysql_async::Row> = conn.query("SHOW PROCESSLIST").await?;
    let mut found = Vec::new();
    for thread in threads {
        let (id, user, command): (u64, String, String) = (
            thread.get("Id").context("no Id")?,
            thread.get("User").context("no User")?,
            thread.get("Command").context("no Command")?,
        );
        if user == stage.user && command.starts_with(doing) {
            found.push(id);
        }
    }
    Ok(found)
}
