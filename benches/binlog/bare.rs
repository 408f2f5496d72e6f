//! The plain loops that doorcast is compared with: what anybody would write first with each crate.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};
use doorcast::{id::Key, tail::position::FileOffset};
use futures_util::StreamExt;
use mysql_async::{
    BinlogStream, BinlogStreamRequest, Conn, Value,
    binlog::{EventType, events::EventData, row::BinlogRow, value::BinlogValue},
};
use mysql_cdc::{
    binlog_client::BinlogClient, binlog_options::BinlogOptions, events::binlog_event::BinlogEvent,
    replica_options::ReplicaOptions,
};

use crate::source::{PASSWORD, TABLE, USER};

/// A `server_id` that no replica had before: a server first ends the dump of one that had it, and some
/// take 100 ms for that.
fn server_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(7001);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// mysql_async's binlog stream, from a place on.
pub(crate) async fn open(url: &str, at: &FileOffset) -> Result<BinlogStream> {
    let request = BinlogStreamRequest::new(server_id()).with_filename(at.file.as_bytes()).with_pos(at.offset);
    Ok(Conn::from_url(url).await?.get_binlog_stream(request).await?)
}

/// Counts events of one row each, until there were `rows`. Returns the stream, which takes its time to close.
pub(crate) async fn count(mut stream: BinlogStream, rows: u32) -> Result<BinlogStream> {
    let mut left = rows;
    while left > 0 {
        let event = stream.next().await.context("the stream ended")??;
        if is_insert(event.header().event_type()) {
            left -= 1;
        }
    }
    Ok(stream)
}

/// Decodes the table's rows and gives the key of each to `took`, until that says that it was the last.
pub(crate) async fn decode(
    mut stream: BinlogStream,
    mut took: impl FnMut(Key) -> bool,
) -> Result<BinlogStream> {
    loop {
        let event = stream.next().await.context("the stream ended")??;
        if !is_insert(event.header().event_type()) {
            continue;
        }
        let Some(EventData::RowsEvent(rows)) = event.read_data()? else { continue };
        let layout = stream.get_tme(rows.table_id()).context("rows before their TABLE_MAP")?;
        if layout.table_name() != TABLE {
            continue;
        }
        for row in rows.rows(layout) {
            let (_, inserted) = row?;
            let inserted = black_box(inserted.context("an INSERT without a row")?);
            if took(key(&inserted)?) {
                return Ok(stream);
            }
        }
    }
}

/// The same with mysql_cdc, which decodes every table's rows. Blocks.
pub(crate) fn mysql_cdc(port: u16, at: &FileOffset, rows: usize) -> Result<()> {
    let options = ReplicaOptions {
        hostname: "127.0.0.1".into(),
        port,
        username: USER.into(),
        password: PASSWORD.into(),
        server_id: server_id(),
        binlog: BinlogOptions::from_position(at.file.clone(), u32::try_from(at.offset)?),
        ..ReplicaOptions::default()
    };
    let mut client = BinlogClient::new(options);
    let mut left = rows;
    for event in client.replicate().map_err(explain)? {
        let (header, event) = event.map_err(explain)?;
        if let BinlogEvent::WriteRowsEvent(event) = &event {
            left = left.saturating_sub(black_box(&event.rows).len());
        }
        client.commit(&header, &event);
        if left == 0 {
            return Ok(());
        }
    }
    bail!("the stream ended")
}

fn is_insert(event: Result<EventType, impl Sized>) -> bool {
    matches!(event, Ok(EventType::WRITE_ROWS_EVENT | EventType::WRITE_ROWS_EVENT_V1))
}

fn key(row: &BinlogRow) -> Result<Key> {
    match row.as_ref(0) {
        Some(BinlogValue::Value(Value::Int(key))) => Ok(Key::from(*key)),
        other => bail!("the key is {other:?}"),
    }
}

fn explain(err: mysql_cdc::errors::Error) -> anyhow::Error {
    anyhow::anyhow!("mysql_cdc: {err:?}")
}
