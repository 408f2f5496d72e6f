//! Answers the feed's requests for older rows, one at a time, on a connection of its own: a client that
//! comes back after a long time holds up no row that is new.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::debug;

use super::ended::Ended;
use crate::{
    feed::history::{HistoryRequest, HistoryUnavailable},
    link::Link,
    row::EncodedRow,
    table::Table,
    tail::TableName,
};

/// The connection, once there is one.
pub(super) struct Answers {
    link: Arc<Link>,
    name: TableName,
    table: Option<Table>,
}

impl Answers {
    pub(super) fn new(link: Arc<Link>, name: TableName) -> Self {
        Answers { link, name, table: None }
    }

    /// Until nobody can ask any more.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<HistoryRequest>) {
        while let Some(request) = requests.recv().await {
            if request.reply.is_closed() {
                continue; // the client has gone
            }
            // A kept connection may have been closed by the server, or the table changed under it: once
            // more with a new one.
            let mut rows = self.read(&request).await;
            if rows.is_err() && self.table.take().is_some() {
                rows = self.read(&request).await;
            }
            let rows = rows.map_err(|err| {
                debug!(error = %err, "older rows can't be read");
                self.table = None;
                HistoryUnavailable
            });
            let _ = request.reply.send(rows); // gone meanwhile: nobody misses it
        }
    }

    async fn read(&mut self, request: &HistoryRequest) -> Result<Vec<EncodedRow>, Ended> {
        let table = match &mut self.table {
            Some(table) => table,
            None => {
                let conn = self.link.connect().await?;
                self.table.insert(Table::open(conn, &self.name.database, &self.name.table).await?)
            }
        };
        Ok(table.rows_between(request.after, request.through, request.limit).await?)
    }
}
