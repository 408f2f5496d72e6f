//! The followed table: its layout, and its rows by key.
//!
//! Every read is a range of the key with a limit, in a session of its own: read only, READ COMMITTED, in
//! UTC, with a time limit. Knows no binlog.

mod charsets;
mod schema;

use std::{io, sync::Arc, time::Duration};

use mysql_async::{Conn, Params, Row, Value, from_value_opt, prelude::Queryable};

use self::charsets::Charsets;
pub(crate) use self::schema::quote;
pub use self::schema::{Schema, SchemaError};
use crate::{
    id::Key,
    row::{EncodedRow, Kind, Layout, RowError},
};

/// A SELECT that takes longer is given up. A range of the key with a limit takes milliseconds; longer
/// means that the table is locked or the server in trouble, and then doorcast must not add to it.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How long a SELECT waits for somebody's lock on the table: rows of the binlog wait behind it.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// How long the next row of an answer may take. Over a half-open link nothing comes any more, and the
/// server's own limits can't be heard.
const NEXT_WITHIN: Duration = Duration::from_secs(10);

/// An answer is cut after so many bytes of JSON, however few rows that are.
const BATCH_BYTES: usize = 64 << 20;

/// Reads the followed table over a connection of its own.
#[derive(Debug)]
pub struct Table {
    conn: Conn,
    charsets: Charsets,
    schema: Schema,
    layout: Arc<Layout>,
    sql: Sql,
}

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The table is gone, closed to us, or changed since the layout was read: read it again with [`Table::reload`].
    #[error("the table is not as it was when its layout was read")]
    LayoutChanged(#[source] Option<mysql_async::Error>),
    /// A row that can't be encoded.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The query or the connection failed.
    #[error("reading the table failed")]
    Server(#[source] mysql_async::Error),
}

/// The statements, made once for each layout.
#[derive(Debug)]
struct Sql {
    between: String,
    latest: String,
    keys: String,
    greatest: String,
}

impl Table {
    /// Prepares the session of `conn` and reads the layout of `database`.`table`.
    ///
    /// # Errors
    /// See [`SchemaError`].
    pub async fn open(mut conn: Conn, database: &str, table: &str) -> Result<Table, SchemaError> {
        let mut charsets = Charsets::default();
        let read = async {
            prepare(&mut conn).await?;
            schema::read(&mut conn, &mut charsets, database, table).await
        };
        let schema = within(TIME_LIMIT, read).await?;
        let layout = Arc::new(schema.layout.clone());
        Ok(Table { conn, charsets, sql: Sql::new(&schema), schema, layout })
    }

    /// Reads the layout again. It stays the same `Arc` if it says the same.
    ///
    /// # Errors
    /// See [`SchemaError`]; the old layout stays.
    pub async fn reload(&mut self) -> Result<(), SchemaError> {
        let (database, table) = (&self.schema.database, &self.schema.table);
        let read = schema::read(&mut self.conn, &mut self.charsets, database, table);
        let schema = within(TIME_LIMIT, read).await?;
        if schema.checksum != self.schema.checksum {
            self.layout = Arc::new(schema.layout.clone());
        }
        self.schema = schema;
        self.sql = Sql::new(&self.schema);
        Ok(())
    }

    /// The connection, for queries of other modules about the server.
    pub fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// The layout as it was last read.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Of the schema as it was last read: another one means that the table was altered.
    pub fn checksum(&self) -> u32 {
        self.schema.checksum
    }

    /// The database's name, as the server stores it and the binlog has it.
    pub fn database(&self) -> &str {
        &self.schema.database
    }

    /// The table's name, as the server stores it and the binlog has it.
    pub fn name(&self) -> &str {
        &self.schema.table
    }

    /// Rows with a key over `after`, in key order, at most `limit`; see [`Table::rows_between`].
    ///
    /// # Errors
    /// See [`TableError`].
    pub async fn rows_after(&mut self, after: Key, limit: usize) -> Result<Vec<EncodedRow>, TableError> {
        self.rows_between(after, Key::MAX, limit).await
    }

    /// Rows with `after < key <= through`, in key order, at most `limit`, and fewer if they are large: only
    /// an empty answer means that there are no more. Not cancel-safe: drop the table with the future.
    ///
    /// # Errors
    /// See [`TableError`].
    pub async fn rows_between(
        &mut self,
        after: Key,
        through: Key,
        limit: usize,
    ) -> Result<Vec<EncodedRow>, TableError> {
        self.rows_within(after, through, limit, BATCH_BYTES).await
    }

    /// [`Table::rows_between`], and no more once they have `max_bytes` of JSON.
    ///
    /// # Errors
    /// See [`TableError`].
    pub async fn rows_within(
        &mut self,
        after: Key,
        through: Key,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<EncodedRow>, TableError> {
        let Some((first, last)) = self.bounds(after, through) else { return Ok(Vec::new()) };
        let params = Params::Positional(vec![first, last, row_limit(limit)]);
        self.rows(self.sql.between.clone(), params, max_bytes).await
    }

    /// Keys from `first` to `last`, in key order, at most `limit`.
    ///
    /// # Errors
    /// See [`TableError`].
    pub async fn keys_in(&mut self, first: Key, last: Key, limit: usize) -> Result<Vec<Key>, TableError> {
        let Some((first, last)) = self.bounds(first.saturating_sub(1), last) else { return Ok(Vec::new()) };
        let params = Params::Positional(vec![first, last, row_limit(limit)]);
        let keys: Vec<Value> = answer(self.conn.exec(self.sql.keys.as_str(), params)).await?;
        keys.into_iter().map(|value| key(value).ok_or(TableError::LayoutChanged(None))).collect()
    }

    /// The rows with the greatest keys, at most `limit`, in ascending order; fewer if they are large.
    ///
    /// # Errors
    /// See [`TableError`].
    pub async fn latest(&mut self, limit: usize) -> Result<Vec<EncodedRow>, TableError> {
        let params = Params::Positional(vec![row_limit(limit)]);
        let mut rows = self.rows(self.sql.latest.clone(), params, BATCH_BYTES).await?;
        rows.reverse();
        Ok(rows)
    }

    /// The greatest key, `None` of an empty table.
    ///
    /// # Errors
    /// See [`TableError`].
    pub async fn greatest_key(&mut self) -> Result<Option<Key>, TableError> {
        let value: Option<Value> = answer(self.conn.query_first(self.sql.greatest.as_str())).await?;
        match value {
            None => Ok(None),
            Some(value) => key(value).map(Some).ok_or(TableError::LayoutChanged(None)),
        }
    }

    /// Says goodbye to the server.
    pub async fn disconnect(self) {
        // The connection is closed either way, and the server needs no goodbye.
        let _ = self.conn.disconnect().await;
    }

    async fn rows(
        &mut self,
        sql: String,
        params: Params,
        max_bytes: usize,
    ) -> Result<Vec<EncodedRow>, TableError> {
        let mut stream = answer(self.conn.exec_iter(sql, params)).await?;
        if !has_collations_of(&self.layout, stream.columns_ref()) {
            return Err(TableError::LayoutChanged(None));
        }
        let mut rows = Vec::new();
        let mut bytes = 0;
        while let Some(row) = answer(stream.next()).await? {
            let row: Row = row;
            let row = self.layout.encode_select(row.unwrap())?;
            bytes += row.json.len();
            rows.push(row);
            if bytes > max_bytes {
                break;
            }
        }
        within(TIME_LIMIT, stream.drop_result()).await.map_err(classify)?;
        Ok(rows)
    }

    /// The range as values of the key's own type; `None` if no key is in it.
    fn bounds(&self, after: Key, through: Key) -> Option<(Value, Value)> {
        let (least, greatest) = key_range(&self.layout);
        let first = after.checked_add(1)?.max(least);
        let last = through.min(greatest);
        (first <= last).then(|| (key_value(first), key_value(last)))
    }
}

impl Sql {
    fn new(schema: &Schema) -> Sql {
        let table = format!("{}.{}", quote(&schema.database), quote(&schema.table));
        let key = quote(&schema.layout.key_column().name);
        let names: Vec<String> = schema.layout.columns().iter().map(|column| quote(&column.name)).collect();
        let columns = names.join(", ");
        Sql {
            between: format!(
                "SELECT {columns} FROM {table} WHERE {key} >= ? AND {key} <= ? ORDER BY {key} LIMIT ?"
            ),
            latest: format!("SELECT {columns} FROM {table} ORDER BY {key} DESC LIMIT ?"),
            keys: format!("SELECT {key} FROM {table} WHERE {key} >= ? AND {key} <= ? ORDER BY {key} LIMIT ?"),
            greatest: format!("SELECT {key} FROM {table} ORDER BY {key} DESC LIMIT 1"),
        }
    }
}

/// Whether the text of an answer is in the layout's character sets, as far as both say so: text comes as it is stored.
fn has_collations_of(layout: &Layout, answered: &[mysql_async::Column]) -> bool {
    let is_text = |kind: &Kind| {
        matches!(kind, Kind::Text { .. } | Kind::JsonText { .. } | Kind::Enum { .. } | Kind::Set { .. })
    };
    layout.columns().iter().zip(answered).all(|(column, answered)| {
        !is_text(&column.kind)
            || column.collation.is_none_or(|collation| may_stand_for(answered.character_set(), collation))
    })
}

/// Whether an answer may name `answered` for text of `collation`. MariaDB 10.10 and later have collations with ids from
/// 2048 on, a block of 256 for each character set, and name the like among the older ones in their place (seen on 11.8):
/// these have blocks of their own; the Croatian ones stand outside of them.
fn may_stand_for(answered: u16, collation: u16) -> bool {
    let (first, croatian) = match collation {
        2048..2304 => (192, 576), // utf8mb3
        2304..2560 => (224, 608), // utf8mb4
        2560..2816 => (128, 640), // ucs2
        2816..3072 => (101, 672), // utf16
        3072..3328 => (160, 736), // utf32
        other => return answered == other,
    };
    (first..first + 24).contains(&answered) || answered == croatian
}

/// The least and the greatest key that the column's type has.
fn key_range(layout: &Layout) -> (Key, Key) {
    match layout.key_column().kind {
        Kind::Int { width, unsigned: true } => (0, (1 << (8 * u32::from(width))) - 1),
        Kind::Int { width, unsigned: false } => {
            let half = 1 << (8 * u32::from(width) - 1);
            (-half, half - 1)
        }
        _ => (Key::MIN, Key::MAX),
    }
}

fn key_value(key: Key) -> Value {
    match i64::try_from(key) {
        Ok(key) => Value::Int(key),
        Err(_) => Value::UInt(u64::try_from(key).unwrap_or_default()),
    }
}

fn key(value: Value) -> Option<Key> {
    match value {
        Value::Int(key) => Some(key.into()),
        Value::UInt(key) => Some(key.into()),
        // The text protocol.
        value => from_value_opt::<Key>(value).ok(),
    }
}

fn row_limit(limit: usize) -> Value {
    Value::UInt(limit as u64)
}

/// Makes the session read only, in UTC, with a time limit, and leaves text as it is stored.
async fn prepare(conn: &mut Conn) -> mysql_async::Result<()> {
    conn.query_drop(
        "SET SESSION autocommit = 1, sql_mode = '', sql_quote_show_create = 1, time_zone = '+00:00', \
         character_set_results = NULL",
    )
    .await?;
    conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY").await?;
    // A server knows its own variables only: MariaDB the first, MySQL since 5.7.8 the second, all the
    // last, which bounds the wait for an ALTER TABLE.
    let limits = [
        format!("SET SESSION max_statement_time = {}", TIME_LIMIT.as_secs()),
        format!("SET SESSION max_execution_time = {}", TIME_LIMIT.as_millis()),
        format!("SET SESSION lock_wait_timeout = {}", LOCK_LIMIT.as_secs()),
    ];
    for limit in limits {
        match conn.query_drop(limit).await {
            Err(mysql_async::Error::Server(error)) if error.code == UNKNOWN_VARIABLE => {}
            result => result?,
        }
    }
    Ok(())
}

/// One step of an answer, with a time limit.
async fn answer<T>(step: impl Future<Output = mysql_async::Result<T>>) -> Result<T, TableError> {
    within(NEXT_WITHIN, step).await.map_err(classify)
}

async fn within<T, E: From<mysql_async::Error>>(
    limit: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", limit.as_secs());
        Err(mysql_async::Error::from(io::Error::new(io::ErrorKind::TimedOut, message)).into())
    })
}

const UNKNOWN_VARIABLE: u16 = 1193;
const DATABASE_ACCESS_DENIED: u16 = 1044;
const BAD_DATABASE: u16 = 1049;
const BAD_FIELD: u16 = 1054;
const TABLE_ACCESS_DENIED: u16 = 1142;
const COLUMN_ACCESS_DENIED: u16 = 1143;
const NO_SUCH_TABLE: u16 = 1146;

/// What a SELECT that was good when the layout was read is answered with.
const NOT_AS_IT_WAS: [u16; 6] = [
    DATABASE_ACCESS_DENIED,
    BAD_DATABASE,
    BAD_FIELD,
    TABLE_ACCESS_DENIED,
    COLUMN_ACCESS_DENIED,
    NO_SUCH_TABLE,
];

fn classify(error: mysql_async::Error) -> TableError {
    match &error {
        mysql_async::Error::Server(server) if NOT_AS_IT_WAS.contains(&server.code) => {
            TableError::LayoutChanged(Some(error))
        }
        _ => TableError::Server(error),
    }
}
