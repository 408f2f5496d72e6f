//! The layout of the followed table, and the rows of a SELECT as JSON.
//!
//! A SELECT must name the columns in the layout's order, use the binary protocol (so that a FLOAT
//! arrives as it is stored), and run with `character_set_results` NULL and the time zone UTC: see
//! [`crate::table`].

use std::sync::Arc;

use mysql_async::{Value, binlog::events::TableMapEvent};

use super::{
    Column, EncodedRow, Image, Kind, Labels, RowError, RowImages,
    temporal::{DateTime, Time},
    value::Writer,
};
use crate::id::Key;

/// The columns of the followed table, and which one is the key.
#[derive(Debug, Clone)]
pub struct Layout {
    columns: Arc<[Column]>,
    names: Arc<[Box<str>]>,
    /// What goes before each value: `{"vid":`, then `,"doorno":` and so on.
    prefixes: Arc<[Box<[u8]>]>,
    key: usize,
    key_counts_up: bool,
}

impl Layout {
    /// A layout of `columns`, in the table's order. `None` unless the column at `key` is a NOT NULL
    /// integer. Its key is AUTO_INCREMENT.
    pub fn new(columns: Vec<Column>, key: usize) -> Option<Layout> {
        let key_column = columns.get(key)?;
        if key_column.nullable || !matches!(key_column.kind, Kind::Int { .. }) {
            return None;
        }
        let names = columns.iter().map(|column| column.name.clone()).collect();
        let prefixes =
            columns.iter().enumerate().map(|(index, column)| prefix(index, &column.name)).collect();
        Some(Layout { columns: columns.into(), names, prefixes, key, key_counts_up: true })
    }

    /// The same, but that keys are given by whoever inserts: another column may be AUTO_INCREMENT.
    #[must_use]
    pub fn with_given_keys(self) -> Layout {
        Layout { key_counts_up: false, ..self }
    }

    /// Whether AUTO_INCREMENT gives the keys.
    pub fn key_counts_up(&self) -> bool {
        self.key_counts_up
    }

    /// In the table's order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The key's column.
    pub fn key_column(&self) -> &Column {
        self.columns.get(self.key).expect("checked when the layout was made")
    }

    /// How to decode the row images that follow `table_map`. It holds as long as the TABLE_MAP's table id
    /// does, so make it once for each id.
    ///
    /// # Errors
    /// [`RowError::Mismatch`] if the table was not like this when the event was written,
    /// [`RowError::Unsupported`] if a column can't be decoded from an image.
    pub fn image(&self, table_map: &TableMapEvent<'_>) -> Result<Image, RowError> {
        Image::new(self, table_map)
    }

    /// Whether row images that follow `table_map` can be decoded with certainty.
    pub fn matches(&self, table_map: &TableMapEvent<'_>) -> bool {
        self.image(table_map).is_ok()
    }

    /// The key of an event's first row, though its image is partial, or of a time when the table was another: if the
    /// key is the first column and an integer, and the event does not say that it was not so then. `None` if that is
    /// not known.
    pub fn first_key(&self, table_map: &TableMapEvent<'_>, images: RowImages<'_>) -> Option<Key> {
        let Kind::Int { unsigned, .. } = self.key_column().kind else { return None };
        let column_type = table_map.get_raw_column_type(0).ok().flatten()?;
        let is_first = self.key == 0 && super::metadata::may_be_first(self.key_column(), table_map);
        is_first.then(|| images.first_integer(column_type, unsigned)).flatten()
    }

    /// [`Layout::image`] and [`Image::encode`] in one, for a single event.
    ///
    /// # Errors
    /// As those two.
    pub fn encode_image(
        &self,
        table_map: &TableMapEvent<'_>,
        images: RowImages<'_>,
        rows: &mut Vec<EncodedRow>,
    ) -> Result<(), RowError> {
        self.image(table_map)?.encode(images, rows)
    }

    /// Encodes one row of a SELECT.
    ///
    /// # Errors
    /// [`RowError::Unexpected`] if the values are not of the layout's types,
    /// [`RowError::TooLarge`].
    pub fn encode_select(&self, row: Vec<Value>) -> Result<EncodedRow, RowError> {
        if row.len() != self.columns.len() {
            return Err(RowError::Mismatch("number of columns".into()));
        }
        let mut out = Writer::default();
        let mut spans = Vec::with_capacity(row.len());
        let mut key = None;
        for (index, ((column, prefix), value)) in
            self.columns.iter().zip(self.prefixes.iter()).zip(row).enumerate()
        {
            if index == self.key {
                key = key_of(&value);
            }
            out.raw(prefix);
            let start = out.json.len();
            if value == Value::NULL {
                out.null();
            } else {
                write_value(&column.kind, value, &mut out)
                    .ok_or_else(|| RowError::Unexpected(column.name.clone()))?;
            }
            spans.push(span(start, &out)?);
        }
        let key = key.ok_or_else(|| RowError::Unexpected(self.key_column().name.clone()))?;
        Ok(finish(key, out, spans, &self.names))
    }

    /// Whether the key is the first column: then it may be known of an image that can't be decoded.
    pub fn has_key_first(&self) -> bool {
        self.key == 0
    }

    pub(super) fn key_index(&self) -> usize {
        self.key
    }

    pub(super) fn prefixes(&self) -> &Arc<[Box<[u8]>]> {
        &self.prefixes
    }

    /// The columns' names, shared by all rows of this layout.
    pub fn names(&self) -> &Arc<[Box<str>]> {
        &self.names
    }
}

/// Where the value that ends `out` lies, if it began at `start`.
#[inline]
pub(super) fn span(start: usize, out: &Writer) -> Result<(u32, u32), RowError> {
    let end = u32::try_from(out.json.len()).map_err(|_| RowError::TooLarge)?;
    Ok((u32::try_from(start).map_err(|_| RowError::TooLarge)?, end))
}

/// Closes the object.
#[inline]
pub(super) fn finish(
    key: Key,
    mut out: Writer,
    spans: Vec<(u32, u32)>,
    names: &Arc<[Box<str>]>,
) -> EncodedRow {
    out.json.push(b'}');
    let columns = Arc::clone(names);
    EncodedRow { key, json: out.json, values: spans.into(), columns, replaced: out.replaced }
}

fn prefix(index: usize, name: &str) -> Box<[u8]> {
    let mut out = Writer::default();
    out.json.push(if index == 0 { b'{' } else { b',' });
    out.string(name);
    out.json.push(b':');
    out.json.into()
}

fn key_of(value: &Value) -> Option<Key> {
    match value {
        Value::Int(key) => Some((*key).into()),
        Value::UInt(key) => Some((*key).into()),
        _ => None,
    }
}

/// Writes a value that is not NULL. `None` if it is not of this kind.
fn write_value(kind: &Kind, value: Value, out: &mut Writer) -> Option<()> {
    match (kind, value) {
        (Kind::Int { .. } | Kind::Year { .. }, Value::Int(number)) => out.int(number),
        (Kind::Int { .. } | Kind::Year { .. }, Value::UInt(number)) => out.uint(number),
        (Kind::Float, Value::Float(number)) => out.float(number),
        (Kind::Double, Value::Double(number)) => out.double(number),
        (Kind::Date, Value::Date(year, month, day, ..)) => out.date(date_time(year, month, day, 0, 0, 0, 0)),
        (Kind::DateTime { fsp }, Value::Date(year, month, day, hour, minute, second, micros)) => {
            out.date_time(date_time(year, month, day, hour, minute, second, micros), *fsp);
        }
        (Kind::Timestamp { fsp }, Value::Date(year, month, day, hour, minute, second, micros)) => {
            out.timestamp(date_time(year, month, day, hour, minute, second, micros), *fsp);
        }
        (Kind::Time { fsp }, Value::Time(negative, days, hours, minutes, seconds, micros)) => {
            let hours = days.saturating_mul(24).saturating_add(hours.into());
            out.time(
                Time { negative, hours, minutes: minutes.into(), seconds: seconds.into(), micros },
                *fsp,
            );
        }
        (kind, Value::Bytes(bytes)) => return write_bytes(kind, &bytes, out),
        (Kind::Printed { .. }, value) => write_other(value, out),
        _ => return None,
    }
    Some(())
}

fn write_bytes(kind: &Kind, bytes: &[u8], out: &mut Writer) -> Option<()> {
    match kind {
        Kind::Decimal { .. } | Kind::Inet4 | Kind::Inet6 => out.string(std::str::from_utf8(bytes).ok()?),
        Kind::Text { charset, .. }
        | Kind::Enum { charset, .. }
        | Kind::Set { charset, .. }
        | Kind::Printed { charset: Some(charset) } => charset.write_string(bytes, out),
        Kind::Binary { .. }
        | Kind::Bit { .. }
        | Kind::Geometry
        | Kind::Vector
        | Kind::Printed { charset: None } => out.base64(bytes, 0),
        Kind::Json => super::Charset::Utf8.write_json(bytes, out),
        Kind::JsonText { charset, .. } => charset.write_json(bytes, out),
        _ => return None,
    }
    Some(())
}

/// A value of a type that is not known: numbers as numbers, times as MySQL prints them.
fn write_other(value: Value, out: &mut Writer) {
    match value {
        Value::Int(number) => out.int(number),
        Value::UInt(number) => out.uint(number),
        Value::Float(number) => out.float(number),
        Value::Double(number) => out.double(number),
        value => out.string(value.as_sql(true).trim_matches('\'')),
    }
}

fn date_time(year: u16, month: u8, day: u8, hour: u8, minute: u8, second: u8, micros: u32) -> DateTime {
    DateTime {
        year: year.into(),
        month: month.into(),
        day: day.into(),
        hour: hour.into(),
        minute: minute.into(),
        second: second.into(),
        micros,
    }
}

/// The text of each label inside a JSON string.
pub(super) fn escape_labels(labels: &Labels) -> Vec<Option<Box<[u8]>>> {
    let escape = |label: &str| {
        let mut out = Writer::default();
        out.escaped(label);
        out.json.into_boxed_slice()
    };
    labels.0.iter().map(|label| label.as_deref().map(escape)).collect()
}
