//! The binlog of a test server, read by mysql_async's stream and nothing of doorcast's own.

use doorcast::demo::binary::Flavour;
use doorcast::demo::server::PrivateServer;
use doorcast::row::RowImages;
use futures_util::StreamExt;
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{EventData, TableMapEvent};
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStreamRequest, Conn};

/// Where the binlog ends now.
pub(crate) async fn position(server: &PrivateServer, conn: &mut Conn) -> (String, u64) {
    let sql = match (server.binary().flavour(), server.binary().version()) {
        (Flavour::MySql, version) if version >= (8, 4, 0) => "SHOW BINARY LOG STATUS",
        _ => "SHOW MASTER STATUS",
    };
    let row: mysql_async::Row = conn.query_first(sql).await.unwrap().expect("the binlog is on");
    (row.get(0).unwrap(), row.get(1).unwrap())
}

/// Calls `row` with the table's name for each WRITE_ROWS event of `database` from `position` to the end
/// of the binlog.
pub(crate) async fn each_insert(
    server: &PrivateServer,
    database: &str,
    (file, offset): &(String, u64),
    mut row: impl FnMut(&str, &TableMapEvent<'_>, RowImages<'_>),
) {
    let conn = server.root(None).await.unwrap();
    let request = BinlogStreamRequest::new(4_000_000_000 + fastrand::u32(..1_000_000))
        .with_filename(file.as_bytes())
        .with_pos(*offset)
        .with_non_blocking();
    let mut stream = conn.get_binlog_stream(request).await.unwrap();
    while let Some(event) = stream.next().await {
        let event = event.unwrap();
        if !matches!(
            event.header().event_type(),
            Ok(EventType::WRITE_ROWS_EVENT | EventType::WRITE_ROWS_EVENT_V1)
        ) {
            continue;
        }
        let Ok(Some(EventData::RowsEvent(rows))) = event.read_data() else {
            panic!("a WRITE_ROWS event is readable")
        };
        let map = stream.get_tme(rows.table_id()).expect("the TABLE_MAP comes first");
        if map.database_name() == database {
            row(&map.table_name(), map, RowImages::of(&rows).expect("it adds rows"));
        }
    }
    stream.close().await.unwrap();
}
