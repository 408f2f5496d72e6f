//! The commit order by another decoder, from the server's binlog files.

use std::{collections::HashMap, fs::File, path::Path};

use anyhow::{Result, anyhow, bail};
use mysql_cdc::{
    binlog_reader::BinlogReader,
    events::{binlog_event::BinlogEvent, row_events::mysql_value::MySqlValue},
};

/// Keys of `vdooropen` in one database, in the order of their commits.
#[derive(Debug)]
pub(crate) struct Decoder {
    database: String,
    pub(crate) keys: Vec<i64>,
}

impl Decoder {
    pub(crate) fn new(database: &str) -> Decoder {
        Decoder { database: database.to_owned(), keys: Vec::new() }
    }

    /// Reads a file to its end. A transaction that does not end in it was cut off by a crash, and rolled
    /// back.
    pub(crate) fn read(&mut self, file: &Path) -> Result<()> {
        let reader = BinlogReader::new(File::open(file)?).map_err(|err| explain(file, &err))?;
        let mut ours = HashMap::new();
        let mut open = Vec::new();
        for event in reader.read_events() {
            let (_, event) = event.map_err(|err| explain(file, &err))?;
            match event {
                BinlogEvent::TableMapEvent(map) => {
                    let is_ours = map.database_name == self.database && map.table_name == "vdooropen";
                    ours.insert(map.table_id, is_ours);
                }
                BinlogEvent::WriteRowsEvent(rows) if ours.get(&rows.table_id) == Some(&true) => {
                    for row in &rows.rows {
                        let Some(Some(MySqlValue::Int(key))) = row.cells.first() else { bail!("no key") };
                        open.push(i64::from(*key));
                    }
                }
                BinlogEvent::XidEvent(_) => self.keys.append(&mut open),
                BinlogEvent::QueryEvent(query) if query.sql_statement == "COMMIT" => {
                    self.keys.append(&mut open);
                }
                BinlogEvent::MySqlGtidEvent(_) | BinlogEvent::MariaDbGtidEvent(_) => open.clear(),
                _ => {}
            }
        }
        Ok(())
    }
}

fn explain(file: &Path, err: &mysql_cdc::errors::Error) -> anyhow::Error {
    anyhow!("mysql_cdc on {}: {err:?}", file.display())
}
