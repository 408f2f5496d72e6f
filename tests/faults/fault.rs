//! The faults.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use futures_util::StreamExt;
use mysql_async::{BinlogStreamRequest, Conn, prelude::Queryable};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::{proxy::Way, stage::Stage, swipes::Format, verdict::Promise};

/// What goes wrong in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// doorcast is killed with SIGKILL, and started again.
    DoorcastKill,
    /// doorcast is stopped with SIGTERM, and started again.
    DoorcastStop,
    /// doorcast stands still for a while, by SIGSTOP.
    DoorcastFreeze,
    /// The server is stopped in good order, and started again.
    ServerRestart,
    /// The server is killed with SIGKILL, and started again.
    ServerKill,
    /// The server stands still for a while, by SIGSTOP.
    ServerFreeze,
    /// An administrator kills the connection that sends the binlog.
    DumpKill,
    /// The server begins new binlog files.
    Rotate,
    /// While doorcast is down, the binlog files that it has not read are purged.
    Purge,
    /// While doorcast is down, the binlog is reset.
    Reset,
    /// doorcast is killed, and before it comes back its binlog files are purged.
    KillPurge,
    /// The connections to the server carry no more bytes, and nobody is told.
    HalfOpen,
    /// The same while statements are logged, so that it happens in the middle of reading the table.
    HalfOpenStatement,
    /// The connections to the server are cut.
    LinkCut,
    /// The connections to the server are slow for a while.
    SlowLink,
    /// Half of the clients are cut off in the middle of a response.
    ClientCut,
    /// Two of the four sessions have statements logged for a while.
    Statement,
    /// The same with MIXED.
    Mixed,
    /// doorcast is killed while statements are logged.
    StatementKill,
    /// The disk is full, then doorcast is killed.
    DiskFull,
    /// The checkpoint's folder is not there for a while.
    NoFolder,
    /// Clients that never read, and clients that send garbage.
    Hostile,
    /// Another replica comes with doorcast's server_id.
    Twin,
    /// Any of the above, by chance.
    Any,
}

impl Fault {
    /// All but [`Fault::Any`].
    pub(crate) fn each() -> Vec<Fault> {
        Fault::value_variants().iter().copied().filter(|fault| *fault != Fault::Any).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::DoorcastKill => "doorcast killed",
            Fault::DoorcastStop => "doorcast restarted",
            Fault::DoorcastFreeze => "doorcast frozen",
            Fault::ServerRestart => "server restarted",
            Fault::ServerKill => "server killed",
            Fault::ServerFreeze => "server frozen",
            Fault::DumpKill => "binlog connection killed",
            Fault::Rotate => "binlog rotated",
            Fault::Purge => "binlog purged",
            Fault::Reset => "binlog reset",
            Fault::KillPurge => "doorcast killed, binlog purged",
            Fault::HalfOpen => "link half open",
            Fault::HalfOpenStatement => "link half open, statements",
            Fault::LinkCut => "link cut",
            Fault::SlowLink => "link slow",
            Fault::ClientCut => "clients cut",
            Fault::Statement => "STATEMENT sessions",
            Fault::Mixed => "MIXED sessions",
            Fault::StatementKill => "STATEMENT sessions, doorcast killed",
            Fault::DiskFull => "disk full, doorcast killed",
            Fault::NoFolder => "checkpoint folder gone",
            Fault::Hostile => "hostile clients",
            Fault::Twin => "second replica, same server_id",
            Fault::Any => "any of these",
        }
    }

    /// Itself, or one by chance for [`Fault::Any`].
    pub(crate) fn or_by_chance(self, random: &mut fastrand::Rng) -> Fault {
        match self {
            Fault::Any => random.choice(Fault::each()).unwrap_or(Fault::LinkCut),
            fault => fault,
        }
    }

    /// Whether rows may come by way of the table, and then in key order.
    pub(crate) fn loses_order(self) -> bool {
        matches!(
            self,
            Fault::Purge
                | Fault::Reset
                | Fault::KillPurge
                | Fault::HalfOpenStatement
                | Fault::Statement
                | Fault::Mixed
                | Fault::StatementKill
        )
    }

    /// What must hold all the same.
    pub(crate) fn leaves(self) -> Promise {
        match self {
            // Nobody knows what was told in the last second before the kill.
            Fault::KillPurge | Fault::Any => Promise::UnlessTold,
            _ => Promise::All,
        }
    }

    /// Makes it happen. Afterwards everything works again, or will by itself.
    pub(crate) async fn inject(self, stage: &mut Stage, random: &mut fastrand::Rng) -> Result<()> {
        let a_while = Duration::from_millis(random.u64(0..800));
        match self {
            Fault::DoorcastKill => {
                stage.doorcast.kill().await;
                sleep(a_while / 2).await;
                stage.doorcast.start_again().await;
            }
            Fault::DoorcastStop => {
                stop_doorcast(stage).await?;
                sleep(a_while / 2).await;
                stage.doorcast.start_again().await;
            }
            Fault::DoorcastFreeze => {
                stage.doorcast.signal("STOP");
                sleep(a_while * 3).await;
                stage.doorcast.signal("CONT");
            }
            Fault::ServerRestart => stage.server.restart().await?,
            Fault::ServerKill => {
                stage.server.kill();
                stage.server.start_again().await?;
            }
            Fault::ServerFreeze => {
                stage.server.freeze()?;
                sleep(a_while * 4).await;
                stage.server.thaw()?;
            }
            Fault::DumpKill => kill_dump(stage).await?,
            Fault::Rotate => {
                let mut conn = stage.admin().await?;
                for _ in 0..random.u8(1..5) {
                    conn.query_drop("FLUSH BINARY LOGS").await?;
                }
                conn.disconnect().await?;
            }
            Fault::Purge | Fault::KillPurge => {
                match self {
                    Fault::Purge => stop_doorcast(stage).await?,
                    _ => stage.doorcast.kill().await,
                }
                sleep(a_while).await;
                let newest = stage.rotate_and_read().await?;
                let mut conn = stage.admin().await?;
                conn.query_drop(format!("PURGE BINARY LOGS TO '{newest}'")).await?;
                conn.disconnect().await?;
                sleep(a_while / 2).await;
                stage.doorcast.start_again().await;
            }
            Fault::Reset => {
                stop_doorcast(stage).await?;
                sleep(a_while).await;
                stage.reset_binlogs().await?;
                sleep(a_while).await;
                stage.doorcast.start_again().await;
            }
            Fault::HalfOpen => {
                stage.link.set(Way::Stalled);
                stage.all_have_a_row().await?;
                stage.link.drop_stalled();
            }
            Fault::HalfOpenStatement => {
                stage.swipes.set_format(Format::Statement);
                sleep(Duration::from_millis(300) + a_while).await;
                stage.link.set(Way::Stalled);
                stage.all_have_a_row().await?;
                stage.link.drop_stalled();
                stage.swipes.set_format(Format::Row);
            }
            Fault::LinkCut => {
                for _ in 0..random.u8(1..4) {
                    stage.link.set(if random.bool() { Way::Closed } else { Way::Reset });
                    sleep(a_while / 4).await;
                }
            }
            Fault::SlowLink => {
                stage.link.set_for_all(Way::Slow(random.usize(32..256)));
                sleep(a_while * 2).await;
                stage.link.set_for_all(Way::Open);
            }
            Fault::ClientCut => {
                for _ in 0..random.u8(1..4) {
                    stage.front.set(Way::CutAfter(random.usize(1..2000)));
                    sleep(a_while / 2).await;
                }
            }
            Fault::Statement | Fault::Mixed => {
                let format = if self == Fault::Statement { Format::Statement } else { Format::Mixed };
                stage.swipes.set_format(format);
                sleep(a_while * 2).await;
                stage.swipes.set_format(Format::Row);
            }
            Fault::StatementKill => {
                stage.swipes.set_format(Format::Statement);
                sleep(Duration::from_millis(300) + a_while).await;
                stage.doorcast.kill().await;
                sleep(a_while / 2).await;
                stage.doorcast.start_again().await;
                sleep(a_while / 2).await;
                stage.swipes.set_format(Format::Row);
            }
            Fault::DiskFull => {
                let mut temporary = stage.doorcast.checkpoint().into_os_string();
                temporary.push(".tmp");
                // What is written there is refused for want of room.
                let _ = fs::remove_file(&temporary);
                std::os::unix::fs::symlink("/dev/full", &temporary)?;
                sleep(Duration::from_secs(1) + a_while).await;
                stage.doorcast.kill().await;
                fs::remove_file(&temporary)?;
                stage.doorcast.start_again().await;
            }
            Fault::NoFolder => {
                let folder = stage.doorcast.folder();
                let away = folder.with_extension("away");
                fs::rename(folder, &away)?;
                fs::write(folder, "in the way")?;
                sleep(Duration::from_secs(1) + a_while).await;
                fs::remove_file(folder)?;
                fs::rename(&away, folder)?;
            }
            Fault::Hostile => {
                let address = stage.doorcast.address.clone();
                let mut sockets = Vec::new();
                for _ in 0..20 {
                    sockets.push(never_reads(&address).await?);
                    sockets.push(sends_garbage(&address, random).await?);
                }
                stage.all_have_a_row().await?;
            }
            Fault::Twin => twin(stage).await?,
            Fault::Any => {}
        }
        Ok(())
    }
}

async fn stop_doorcast(stage: &mut Stage) -> Result<()> {
    let status = timeout(Duration::from_secs(11), stage.doorcast.stop()).await;
    let status = status.context("doorcast does not end within 10 s")?;
    ensure!(status.success(), "doorcast ended with {status}");
    Ok(())
}

async fn kill_dump(stage: &mut Stage) -> Result<()> {
    let mut conn = stage.admin().await?;
    let threads: Vec<mysql_async::Row> = conn.query("SHOW PROCESSLIST").await?;
    for thread in threads {
        let (id, user, command): (u64, String, String) = (
            thread.get("Id").context("no Id")?,
            thread.get("User").context("no User")?,
            thread.get("Command").context("no Command")?,
        );
        if user == stage.user && command.starts_with("Binlog Dump") {
            // It may have gone meanwhile.
            let _ = conn.query_drop(format!("KILL {id}")).await;
        }
    }
    conn.disconnect().await?;
    Ok(())
}

/// A replica with the id that doorcast has, for a moment.
async fn twin(stage: &mut Stage) -> Result<()> {
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

async fn never_reads(address: &str) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(2048)?;
    let mut stream = socket.connect(address.parse()?).await?;
    stream.write_all(b"GET /events?since=earliest HTTP/1.1\r\nHost: doorcast\r\n\r\n").await?;
    Ok(stream)
}

async fn sends_garbage(address: &str, random: &mut fastrand::Rng) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let garbage: Vec<u8> = (0..random.usize(1..5000)).map(|_| random.u8(..)).collect();
    let garbage: &[u8] = match random.u8(0..4) {
        0 => &garbage,
        1 => b"GET /events?since=\xff\x00 HTTP/1.1\r\n\r\n",
        2 => b"GET /poll?since=99999999999999999999999999 HTTP/1.1\r\nHost: x\r\n\r\n",
        _ => b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nabc",
    };
    // It may be thrown out before it has said all.
    let _ = stream.write_all(garbage).await;
    Ok(stream)
}
