//! What happens to doorcast itself, and on its side.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use super::{
    foreign::large_event,
    inject::{connections, kill_connections},
};
use crate::{stage::Stage, swipes::Format};

pub(super) async fn kill(stage: &mut Stage, a_while: Duration) -> Result<()> {
    stage.doorcast.kill().await;
    sleep(a_while / 2).await;
    stage.start_doorcast_again().await;
    Ok(())
}

pub(super) async fn restart(stage: &mut Stage, a_while: Duration) -> Result<()> {
    stop(stage).await?;
    sleep(a_while / 2).await;
    stage.start_doorcast_again().await;
    Ok(())
}

pub(super) async fn stop(stage: &mut Stage) -> Result<()> {
    let status = timeout(Duration::from_secs(11), stage.doorcast.stop()).await;
    let status = status.context("doorcast does not end within 10 s")?;
    ensure!(status.success(), "doorcast ended with {status}");
    Ok(())
}

pub(super) async fn freeze(stage: &mut Stage, a_while: Duration) -> Result<()> {
    stage.doorcast.signal("STOP");
    sleep(a_while * 3).await;
    stage.doorcast.signal("CONT");
    Ok(())
}

/// The server gives the connection up, with an event of over 16 MB half sent.
pub(super) async fn stuck(stage: &mut Stage, a_while: Duration) -> Result<()> {
    let mut conn = stage.admin().await?;
    let before: Option<u32> = conn.query_first("SELECT @@GLOBAL.net_write_timeout").await?;
    let before = before.context("no net_write_timeout")?;
    conn.query_drop("SET GLOBAL net_write_timeout = 1").await?;
    kill_connections(stage, "Binlog Dump").await?;
    stage.all_have_a_row().await?;
    stage.doorcast.signal("STOP");
    // As many as it takes: the kernel holds some of them for the two connections on the way.
    let gives_up = async {
        large_event(&mut conn).await?;
        loop {
            large_event(&mut conn).await?;
            for _ in 0..40 {
                if connections(stage, &mut conn, "Binlog Dump").await?.is_empty() {
                    return Ok::<(), anyhow::Error>(());
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
    };
    let gave_up = timeout(Duration::from_secs(120), gives_up).await; // a busy disk
    sleep(a_while).await;
    stage.doorcast.signal("CONT");
    gave_up.context("the server does not give up")??;
    conn.query_drop(format!("SET GLOBAL net_write_timeout = {before}")).await?;
    conn.disconnect().await?;
    Ok(())
}

/// doorcast says that it is damaged, and that the one before may be put in its place.
pub(super) async fn torn_checkpoint(stage: &mut Stage, random: &mut fastrand::Rng) -> Result<()> {
    let checkpoint = stage.doorcast.checkpoint();
    let mut previous = checkpoint.clone().into_os_string();
    previous.push(".prev");
    let has_previous = async {
        while !fs::exists(&previous)? {
            sleep(Duration::from_millis(20)).await;
        }
        Ok::<(), std::io::Error>(())
    };
    timeout(Duration::from_secs(5), has_previous).await.context("no checkpoint before the last")??;
    stage.doorcast.kill().await;
    let whole = fs::read(&checkpoint)?;
    let kept = random.usize(0..whole.len());
    fs::write(&checkpoint, &whole[..kept])?;
    stage.timeline.note(&format!("the checkpoint is cut from {} to {kept} bytes", whole.len()));
    let status = stage.doorcast.start_in_vain().await;
    ensure!(status.code() == Some(3), "doorcast ended with {status} on a torn checkpoint");
    fs::rename(&previous, &checkpoint)?;
    stage.start_doorcast_again().await;
    Ok(())
}

pub(super) async fn kill_with_statements(stage: &mut Stage, a_while: Duration) -> Result<()> {
    stage.swipes.set_format(Format::Statement);
    sleep(Duration::from_millis(300) + a_while).await;
    kill(stage, a_while).await?;
    sleep(a_while / 2).await;
    stage.swipes.back_to_rows().await;
    Ok(())
}

/// Nothing can be written under the checkpoint, then doorcast is killed.
pub(super) async fn disk_full(stage: &mut Stage, a_while: Duration) -> Result<()> {
    let mut temporary = stage.doorcast.checkpoint().into_os_string();
    temporary.push(".tmp");
    // What is written there is refused for want of room. Not while it is being written, or it would take the place of
    // the checkpoint.
    loop {
        stage.doorcast.signal("STOP");
        let is_writing = fs::symlink_metadata(&temporary).is_ok();
        if !is_writing {
            std::os::unix::fs::symlink("/dev/full", &temporary)?;
        }
        stage.doorcast.signal("CONT");
        if !is_writing {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_secs(1) + a_while).await;
    stage.doorcast.kill().await;
    fs::remove_file(&temporary)?;
    stage.start_doorcast_again().await;
    Ok(())
}

pub(super) async fn no_folder(stage: &mut Stage, a_while: Duration) -> Result<()> {
    let folder = stage.doorcast.folder();
    let away = folder.with_extension("away");
    fs::rename(folder, &away)?;
    fs::write(folder, "in the way")?;
    sleep(Duration::from_secs(1) + a_while).await;
    fs::remove_file(folder)?;
    fs::rename(&away, folder)?;
    Ok(())
}

/// As many descriptors as doorcast has, and a few that clients take at once. New connections, to the server
/// too, and checkpoints must wait.
pub(super) async fn descriptors(
    stage: &mut Stage,
    a_while: Duration,
    random: &mut fastrand::Rng,
) -> Result<()> {
    let process = format!("/proc/{}", stage.doorcast.id());
    let limits = fs::read_to_string(format!("{process}/limits"))?;
    let before = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("no limit")?;
    let before = before.split_whitespace().next().context("no soft limit")?.to_owned();
    let used = fs::read_dir(format!("{process}/fd"))?.count();
    limit(stage, &(used + random.usize(0..20)).to_string())?;
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = TcpStream::connect(&stage.doorcast.address).await?;
        client.write_all(b"GET /events HTTP/1.1\r\nHost: doorcast\r\n\r\n").await?;
        clients.push(client);
    }
    if random.bool() {
        kill_connections(stage, "").await?;
    }
    sleep(Duration::from_secs(1) + a_while).await;
    limit(stage, &before)?;
    Ok(())
}

/// The soft limit alone.
fn limit(stage: &Stage, descriptors: &str) -> Result<()> {
    let id = stage.doorcast.id().to_string();
    let set = Command::new("prlimit").args(["--pid", &id, &format!("--nofile={descriptors}:")]).status()?;
    ensure!(set.success(), "prlimit: {set}");
    Ok(())
}

pub(super) async fn hostile_clients(stage: &mut Stage, random: &mut fastrand::Rng) -> Result<()> {
    let address = stage.doorcast.address.clone();
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(never_reads(&address).await?);
        sockets.push(sends_garbage(&address, random).await?);
    }
    stage.all_have_a_row().await
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
