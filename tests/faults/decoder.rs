//! The commit order by another decoder, from the server's binlog files.

use std::{collections::HashMap, fs::File, io::ErrorKind, path::Path};

use anyhow::{Context, Result, anyhow};
use mysql_cdc::{
    binlog_reader::BinlogReader,
    errors::Error,
    events::{
        binlog_event::BinlogEvent,
        row_events::{mysql_value::MySqlValue, row_data::RowData},
    },
};

use super::{
    swipes::Card,
    verdict::{Fields, Generation},
};

/// Rows of `vdooropen` in one database, in the order of their commits.
///
/// It does not see what a server compressed, nor what it logged as statements, nor rows of an XA transaction
/// that was prepared before it was committed, nor events with a negative TIME or text that is not UTF-8.
#[derive(Debug)]
pub(crate) struct Decoder {
    database: String,
    pub(crate) rows: Vec<Decoded>,
    generation: Generation,
}

/// A row as the binlog has it.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) card: Card,
    /// How often keys had started over before.
    pub(crate) generation: Generation,
    /// `None` if the image is not a whole one.
    pub(crate) fields: Option<Fields>,
}

impl Decoder {
    pub(crate) fn new(database: &str) -> Decoder {
        Decoder { database: database.to_owned(), rows: Vec::new(), generation: 0 }
    }

    /// Reads a file to its end. A transaction that does not end in it was cut off by a crash, and rolled
    /// back.
    pub(crate) fn read(&mut self, file: &Path) -> Result<()> {
        let reader = BinlogReader::new(File::open(file)?).map_err(|err| explain(file, &err))?;
        let mut ours = HashMap::new();
        let mut open = Vec::new();
        for event in reader.read_events() {
            let event = match event {
                Ok((_, event)) => event,
                // The next one begins where its header says. Rows that are lacking here, the judge misses.
                Err(Error::IoError(err)) if err.kind() != ErrorKind::InvalidData => return Err(err.into()),
                Err(_) => continue,
            };
            match event {
                BinlogEvent::TableMapEvent(map) => {
                    let is_ours = map.database_name == self.database && map.table_name == "vdooropen";
                    ours.insert(map.table_id, is_ours);
                }
                BinlogEvent::WriteRowsEvent(rows) if ours.get(&rows.table_id) == Some(&true) => {
                    for row in &rows.rows {
                        open.push(decoded(row, self.generation).context("a row without a card")?);
                    }
                }
                BinlogEvent::XidEvent(_) => self.rows.append(&mut open),
                BinlogEvent::QueryEvent(query) if query.sql_statement == "COMMIT" => {
                    self.rows.append(&mut open);
                }
                BinlogEvent::QueryEvent(query)
                    if query.database_name == self.database && starts_over(&query.sql_statement) =>
                {
                    self.generation += 1;
                }
                BinlogEvent::MySqlGtidEvent(_) | BinlogEvent::MariaDbGtidEvent(_) => open.clear(),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether keys start over with this statement. `DROP TABLE` needs no counting: there are no rows before the
/// `CREATE TABLE`.
fn starts_over(sql: &str) -> bool {
    ["TRUNCATE TABLE vdooropen", "CREATE TABLE `vdooropen` ", "RENAME TABLE vdooropen "]
        .iter()
        .any(|beginning| sql.starts_with(beginning))
}

fn decoded(row: &RowData, generation: Generation) -> Option<Decoded> {
    let text = |place: usize| match row.cells.get(place) {
        Some(Some(MySqlValue::String(text))) => Some(text.clone()),
        _ => None,
    };
    let number = |place: usize| match row.cells.get(place) {
        Some(Some(MySqlValue::Int(number))) => Some(i64::from(*number)),
        Some(Some(MySqlValue::BigInt(number))) => i64::try_from(*number).ok(),
        _ => None,
    };
    let card = Card::from_str_radix(&text(2)?, 16).ok()?;
    let fields = || {
        let key = number(0)?;
        Some(Fields { generation, key, door: number(1)?, card: text(2)?, time: text(3)?, open: text(4)? })
    };
    Some(Decoded { card, generation, fields: fields() })
}

fn explain(file: &Path, err: &Error) -> anyhow::Error {
    anyhow!("mysql_cdc on {}: {err:?}", file.display())
}
