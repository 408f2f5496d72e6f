//! Rows of a WRITE_ROWS event as JSON.
//!
//! An [`Image`] is made once for each TABLE_MAP: it compares the event with the layout, so that encoding
//! a row is nothing but reading bytes and writing JSON. Where the two disagree the row is read from the
//! table instead. The formats are those of MySQL's `log_event.cc` and `field.cc` (`pack`).

use std::{fmt, sync::Arc};

use mysql_async::{
    binlog::events::{DefaultCharset, OptionalMetadataField, RowsEventData, TableMapEvent},
    consts::ColumnType,
};

use super::{
    Charset, Column, EncodedRow, Kind, Labels, Layout, RowError, Stored,
    cursor::{Cursor, Malformed},
    decimal, jsonb,
    layout::{escape_labels, finish, span},
    temporal::{self, DateTime, Time},
    value::Writer,
};
use crate::id::Key;

/// The rows of one WRITE_ROWS event.
#[derive(Clone, Copy)]
pub struct RowImages<'a> {
    /// Columns of the table.
    pub columns: u64,
    /// Whether the image holds every one of them.
    pub complete: bool,
    /// The rows, one after the other.
    pub rows: &'a [u8],
}

impl<'a> RowImages<'a> {
    /// The rows that `event` added; `None` if it is no WRITE_ROWS event.
    pub fn of(event: &'a RowsEventData<'a>) -> Option<RowImages<'a>> {
        if !matches!(event, RowsEventData::WriteRowsEvent(_) | RowsEventData::WriteRowsEventV1(_)) {
            return None;
        }
        Some(RowImages {
            columns: event.num_columns(),
            complete: event.columns_after_image()?.all(),
            rows: event.rows_data(),
        })
    }
}

/// Shows no value.
impl fmt::Debug for RowImages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowImages")
            .field("columns", &self.columns)
            .field("complete", &self.complete)
            .field("bytes", &self.rows.len())
            .finish()
    }
}

/// How to decode the row images of one TABLE_MAP.
#[derive(Debug, Clone)]
pub struct Image {
    wires: Box<[Wire]>,
    prefixes: Arc<[Box<[u8]>]>,
    names: Arc<[Box<str>]>,
    key: usize,
    /// JSON bytes of a row besides those of its text.
    usual_bytes: usize,
}

/// What a number is longer, or quotes are, than the value in the image.
const EXTRA_BYTES: usize = 8;

/// The room for the first row of an event is guessed; rows of an event are much alike.
const TYPICAL_ROW_BYTES: usize = 256;

/// How a value lies in the image, and what it becomes.
#[derive(Debug, Clone)]
enum Wire {
    Int { width: u8, unsigned: bool },
    Year { two_digits: bool },
    Float,
    Double,
    Decimal { precision: u8, scale: u8, zerofill: bool },
    Text { length_bytes: u8, charset: Charset },
    JsonText { length_bytes: u8, charset: Charset },
    Json { length_bytes: u8 },
    Binary { length_bytes: u8, padded: usize },
    Bit { bytes: usize },
    Enum { width: u8, labels: Arc<[Option<Box<[u8]>>]> },
    Set { width: u8, labels: Arc<[Option<Box<[u8]>>]> },
    Date,
    Time { fsp: u8 },
    DateTime { fsp: u8 },
    Timestamp { fsp: u8 },
    OldTime,
    OldDateTime,
    OldTimestamp,
    Inet4,
    Inet6,
}

/// A value that can't be written.
enum Failure {
    Malformed,
    /// The label of an ENUM or SET is not known for sure.
    Uncertain,
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Failure::Malformed
    }
}

impl Image {
    /// Encodes all rows of an event and adds them to `rows`; adds none after an error.
    ///
    /// # Errors
    /// Any [`RowError`] means: read the rows from the table.
    pub fn encode(&self, images: RowImages<'_>, rows: &mut Vec<EncodedRow>) -> Result<(), RowError> {
        if images.columns != self.wires.len() as u64 {
            return Err(RowError::Mismatch("number of columns".into()));
        }
        if !images.complete {
            return Err(RowError::Partial);
        }
        let before = rows.len();
        let mut bytes = Cursor(images.rows);
        let mut capacity = self.usual_bytes + bytes.0.len().min(TYPICAL_ROW_BYTES);
        while !bytes.is_empty() {
            match self.encode_row(&mut bytes, capacity) {
                Ok(row) => {
                    capacity = row.json.len();
                    rows.push(row);
                }
                Err(error) => {
                    rows.truncate(before);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn encode_row(&self, bytes: &mut Cursor<'_>, capacity: usize) -> Result<EncodedRow, RowError> {
        let nulls = bytes.take(self.wires.len().div_ceil(8)).map_err(|_| self.malformed(0))?;
        let mut out = Writer { json: Vec::with_capacity(capacity), replaced: 0 };
        let mut spans = Vec::with_capacity(self.wires.len());
        let mut key = None;
        for (index, (wire, prefix)) in self.wires.iter().zip(self.prefixes.iter()).enumerate() {
            out.raw(prefix);
            let start = out.json.len();
            let null = nulls.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
            if null {
                out.null();
            } else {
                if index == self.key {
                    key = wire.peek_key(*bytes);
                }
                wire.write(bytes, &mut out).map_err(|failure| match failure {
                    Failure::Malformed => self.malformed(index),
                    Failure::Uncertain => RowError::Unsupported(self.name(index)),
                })?;
            }
            spans.push(span(start, &out)?);
        }
        Ok(finish(key.ok_or_else(|| self.malformed(self.key))?, out, spans, &self.names))
    }

    fn malformed(&self, index: usize) -> RowError {
        RowError::Malformed(self.name(index))
    }

    fn name(&self, index: usize) -> Box<str> {
        self.names.get(index).cloned().unwrap_or_default()
    }

    pub(super) fn new(layout: &Layout, table_map: &TableMapEvent<'_>) -> Result<Image, RowError> {
        let columns = layout.columns();
        if table_map.columns_count() != columns.len() as u64 {
            return Err(RowError::Mismatch("number of columns".into()));
        }
        let mut wires = Vec::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            let mismatch =
                |what: &str| RowError::Mismatch(format!("{what} of column {}", column.name).into());
            let column_type = table_map.get_raw_column_type(index).ok().flatten();
            let metadata = table_map.get_column_metadata(index);
            let (Some(column_type), Some(metadata)) = (column_type, metadata) else {
                return Err(RowError::Unsupported(column.name.clone()));
            };
            if table_map.null_bitmask().get(index).is_some_and(|nullable| *nullable != column.nullable) {
                return Err(mismatch("nullability"));
            }
            if matches!(column.kind, Kind::Printed { .. }) {
                return Err(RowError::Unsupported(column.name.clone()));
            }
            let wire = Wire::new(&column.kind, column_type, metadata).ok_or_else(|| mismatch("type"))?;
            wires.push(wire);
        }
        check_optional_metadata(columns, table_map)?;
        let prefix_bytes: usize = layout.prefixes().iter().map(|prefix| prefix.len()).sum();
        Ok(Image {
            usual_bytes: prefix_bytes + wires.len() * EXTRA_BYTES,
            wires: wires.into(),
            prefixes: layout.prefixes().clone(),
            names: layout.names().clone(),
            key: layout.key_index(),
        })
    }
}

impl Wire {
    /// `None` unless a column of this kind is written so.
    fn new(kind: &Kind, column_type: ColumnType, metadata: &[u8]) -> Option<Wire> {
        use ColumnType::*;
        let first = metadata.first().copied();
        let wire = match (kind, column_type) {
            (Kind::Int { width: 1, unsigned }, MYSQL_TYPE_TINY) => {
                Wire::Int { width: 1, unsigned: *unsigned }
            }
            (Kind::Int { width: 2, unsigned }, MYSQL_TYPE_SHORT) => {
                Wire::Int { width: 2, unsigned: *unsigned }
            }
            (Kind::Int { width: 3, unsigned }, MYSQL_TYPE_INT24) => {
                Wire::Int { width: 3, unsigned: *unsigned }
            }
            (Kind::Int { width: 4, unsigned }, MYSQL_TYPE_LONG) => {
                Wire::Int { width: 4, unsigned: *unsigned }
            }
            (Kind::Int { width: 8, unsigned }, MYSQL_TYPE_LONGLONG) => {
                Wire::Int { width: 8, unsigned: *unsigned }
            }
            (Kind::Year { two_digits }, MYSQL_TYPE_YEAR) => Wire::Year { two_digits: *two_digits },
            (Kind::Float, MYSQL_TYPE_FLOAT) if first == Some(4) => Wire::Float,
            (Kind::Double, MYSQL_TYPE_DOUBLE) if first == Some(8) => Wire::Double,
            (Kind::Decimal { precision, scale, zerofill }, MYSQL_TYPE_NEWDECIMAL)
                if metadata == [*precision, *scale] =>
            {
                Wire::Decimal { precision: *precision, scale: *scale, zerofill: *zerofill }
            }
            (Kind::Text { charset, stored }, _) => {
                let (length_bytes, _) = string(*stored, column_type, metadata)?;
                Wire::Text { length_bytes, charset: charset.clone() }
            }
            (Kind::JsonText { charset, stored }, _) => {
                let (length_bytes, _) = string(*stored, column_type, metadata)?;
                Wire::JsonText { length_bytes, charset: charset.clone() }
            }
            (Kind::Binary { stored }, _) => {
                let (length_bytes, padded) = string(*stored, column_type, metadata)?;
                Wire::Binary { length_bytes, padded }
            }
            (Kind::Json, MYSQL_TYPE_JSON) => Wire::Json { length_bytes: blob_length_bytes(first?)? },
            (Kind::Geometry, MYSQL_TYPE_GEOMETRY) | (Kind::Vector, MYSQL_TYPE_VECTOR) => {
                Wire::Binary { length_bytes: blob_length_bytes(first?)?, padded: 0 }
            }
            // MariaDB's.
            (Kind::Vector, MYSQL_TYPE_VARCHAR) => {
                let octets = u16::from_le_bytes([*metadata.first()?, *metadata.get(1)?]);
                Wire::Binary { length_bytes: if octets < 256 { 1 } else { 2 }, padded: 0 }
            }
            (Kind::Bit { bits }, MYSQL_TYPE_BIT) if metadata == [bits % 8, bits / 8] => {
                Wire::Bit { bytes: usize::from(bits.div_ceil(8)) }
            }
            (Kind::Enum { labels, .. }, MYSQL_TYPE_STRING) => {
                let width = if labels.0.len() < 256 { 1 } else { 2 };
                if metadata != [MYSQL_TYPE_ENUM as u8, width] {
                    return None;
                }
                Wire::Enum { width, labels: escape_labels(labels).into() }
            }
            (Kind::Set { labels, .. }, MYSQL_TYPE_STRING) => {
                let width = set_width(labels)?;
                if metadata != [MYSQL_TYPE_SET as u8, width] {
                    return None;
                }
                Wire::Set { width, labels: escape_labels(labels).into() }
            }
            (Kind::Date, MYSQL_TYPE_DATE | MYSQL_TYPE_NEWDATE) => Wire::Date,
            (Kind::Time { fsp }, MYSQL_TYPE_TIME2) if first == Some(*fsp) => Wire::Time { fsp: *fsp },
            (Kind::DateTime { fsp }, MYSQL_TYPE_DATETIME2) if first == Some(*fsp) => {
                Wire::DateTime { fsp: *fsp }
            }
            (Kind::Timestamp { fsp }, MYSQL_TYPE_TIMESTAMP2) if first == Some(*fsp) => {
                Wire::Timestamp { fsp: *fsp }
            }
            (Kind::Inet4, MYSQL_TYPE_STRING) if metadata == [MYSQL_TYPE_STRING as u8, 4] => Wire::Inet4,
            (Kind::Inet6, MYSQL_TYPE_STRING) if metadata == [MYSQL_TYPE_STRING as u8, 16] => Wire::Inet6,
            // With a fraction the old types have forms of MariaDB's own: those are read from the table.
            (Kind::Time { fsp: 0 }, MYSQL_TYPE_TIME) => Wire::OldTime,
            (Kind::DateTime { fsp: 0 }, MYSQL_TYPE_DATETIME) => Wire::OldDateTime,
            (Kind::Timestamp { fsp: 0 }, MYSQL_TYPE_TIMESTAMP) => Wire::OldTimestamp,
            _ => return None,
        };
        Some(wire)
    }

    /// The key that comes next, if this is an integer.
    #[inline]
    fn peek_key(&self, mut bytes: Cursor<'_>) -> Option<Key> {
        match *self {
            Wire::Int { width, unsigned: true } => bytes.little(width).ok().map(Key::from),
            Wire::Int { width, unsigned: false } => bytes.little_signed(width).ok().map(Key::from),
            _ => None,
        }
    }

    #[inline]
    fn write(&self, bytes: &mut Cursor<'_>, out: &mut Writer) -> Result<(), Failure> {
        match self {
            Wire::Int { width, unsigned: true } => out.uint(bytes.little(*width)?),
            Wire::Int { width, unsigned: false } => out.int(bytes.little_signed(*width)?),
            Wire::Text { length_bytes, charset } => charset.write_string(bytes.counted(*length_bytes)?, out),
            Wire::Year { two_digits } => out.uint(year(bytes.u8()?, *two_digits)),
            Wire::Float => out.float(f32::from_bits(u32::try_from(bytes.little(4)?).map_err(|_| Malformed)?)),
            Wire::Double => out.double(f64::from_bits(bytes.little(8)?)),
            Wire::Decimal { precision, scale, zerofill } => {
                out.json.push(b'"');
                decimal::write(*precision, *scale, *zerofill, bytes, out)?;
                out.json.push(b'"');
            }
            Wire::JsonText { length_bytes, charset } => {
                charset.write_json(bytes.counted(*length_bytes)?, out)
            }
            Wire::Json { length_bytes } => jsonb::write(bytes.counted(*length_bytes)?, out)?,
            Wire::Binary { length_bytes, padded } => out.base64(bytes.counted(*length_bytes)?, *padded),
            Wire::Bit { bytes: width } => out.base64(bytes.take(*width)?, 0),
            Wire::Enum { width, labels } => write_enum(bytes.little(*width)?, labels, out)?,
            Wire::Set { width, labels } => write_set(bytes.little(*width)?, labels, out)?,
            Wire::Date => out.date(DateTime::read_date(bytes)?),
            Wire::Time { fsp } => out.time(Time::read(*fsp, bytes)?, *fsp),
            Wire::DateTime { fsp } => out.date_time(DateTime::read(*fsp, bytes)?, *fsp),
            Wire::Timestamp { fsp } => out.timestamp(temporal::read_timestamp(*fsp, bytes)?, *fsp),
            Wire::Inet4 => out.inet4(padded(bytes.counted(1)?)?),
            Wire::Inet6 => out.inet6(padded(bytes.counted(1)?)?),
            Wire::OldTime => out.time(Time::read_old(bytes)?, 0),
            Wire::OldDateTime => out.date_time(DateTime::read_old(bytes)?, 0),
            Wire::OldTimestamp => out.timestamp(temporal::read_old_timestamp(bytes)?, 0),
        }
        Ok(())
    }
}

/// How many bytes the length of a string takes, and the length to pad to, if `stored` is written so.
fn string(stored: Stored, column_type: ColumnType, metadata: &[u8]) -> Option<(u8, usize)> {
    let &[first, second] = metadata else {
        return match (stored, column_type, metadata) {
            (Stored::Blob { length_bytes }, ColumnType::MYSQL_TYPE_BLOB, [bytes])
                if *bytes == length_bytes =>
            {
                Some((length_bytes, 0))
            }
            _ => None,
        };
    };
    let (length, octets) = match (stored, column_type) {
        (Stored::Fixed { octets }, ColumnType::MYSQL_TYPE_STRING) => {
            // Lengths over 255 keep their upper two bits, inverted, in the type (MySQL's bug 37426).
            if first | 0x30 != ColumnType::MYSQL_TYPE_STRING as u8 {
                return None;
            }
            (u32::from(second) | u32::from(!first & 0x30) << 4, octets)
        }
        (Stored::Varying { octets }, ColumnType::MYSQL_TYPE_VARCHAR) => {
            (u32::from(u16::from_le_bytes([first, second])), octets)
        }
        _ => return None,
    };
    let padded = if matches!(stored, Stored::Fixed { .. }) { octets as usize } else { 0 };
    (length == octets).then_some((if length < 256 { 1 } else { 2 }, padded))
}

fn blob_length_bytes(metadata: u8) -> Option<u8> {
    (1..=4).contains(&metadata).then_some(metadata)
}

fn set_width(labels: &Labels) -> Option<u8> {
    Some(match labels.0.len() {
        1..=8 => 1,
        9..=16 => 2,
        17..=24 => 3,
        25..=32 => 4,
        33..=64 => 8,
        _ => return None,
    })
}

/// Zero bytes at the end are not in the image.
fn padded<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    let mut whole = [0; N];
    whole.get_mut(..bytes.len()).ok_or(Malformed)?.copy_from_slice(bytes);
    Ok(whole)
}

fn year(byte: u8, two_digits: bool) -> u64 {
    let byte = u64::from(byte);
    match (byte, two_digits) {
        (0, _) => 0,
        (byte, true) => byte % 100,
        (byte, false) => 1900 + byte,
    }
}

/// Index 0 is the empty string that stands for an invalid value.
fn write_enum(index: u64, labels: &[Option<Box<[u8]>>], out: &mut Writer) -> Result<(), Failure> {
    let Some(index) = index.checked_sub(1) else {
        out.plain(b"");
        return Ok(());
    };
    let index = usize::try_from(index).map_err(|_| Failure::Malformed)?;
    let label = labels.get(index).ok_or(Failure::Malformed)?;
    out.plain(label.as_deref().ok_or(Failure::Uncertain)?);
    Ok(())
}

fn write_set(mut bits: u64, labels: &[Option<Box<[u8]>>], out: &mut Writer) -> Result<(), Failure> {
    out.json.push(b'"');
    let mut first = true;
    for label in labels {
        if bits & 1 == 1 {
            if !first {
                out.json.push(b',');
            }
            first = false;
            out.raw(label.as_deref().ok_or(Failure::Uncertain)?);
        }
        bits >>= 1;
    }
    out.json.push(b'"');
    if bits == 0 { Ok(()) } else { Err(Failure::Malformed) }
}

/// Compares what `binlog_row_metadata` MINIMAL or FULL adds. Fields that are not there, and those that
/// can't be read, say nothing. The labels of ENUM and SET are not compared.
fn check_optional_metadata(columns: &[Column], table_map: &TableMapEvent<'_>) -> Result<(), RowError> {
    let mismatch = |column: &Column, what: &str| {
        Err(RowError::Mismatch(format!("{what} of column {}", column.name).into()))
    };
    let numeric = || columns.iter().filter(|column| is_numeric(&column.kind));
    let text = || {
        columns.iter().map_while(|column| is_text(&column.kind).map(|text| text.then_some(column))).flatten()
    };
    let labelled =
        || columns.iter().filter(|column| matches!(column.kind, Kind::Enum { .. } | Kind::Set { .. }));
    for field in table_map.iter_optional_meta().flatten() {
        match field {
            OptionalMetadataField::Signedness(flags) => {
                for (column, flag) in numeric().zip(flags.iter().by_vals()) {
                    if matches!(column.kind, Kind::Int { unsigned, .. } if unsigned != flag) {
                        return mismatch(column, "signedness");
                    }
                }
            }
            OptionalMetadataField::ColumnName(names) => {
                for (column, name) in columns.iter().zip(names.iter_names().flatten()) {
                    if name.name_raw() != column.name.as_bytes() {
                        return mismatch(column, "name");
                    }
                }
            }
            OptionalMetadataField::DefaultCharset(charsets) => {
                if let Some(column) = other_default(&charsets, text()) {
                    return mismatch(column, "character set");
                }
            }
            OptionalMetadataField::EnumAndSetDefaultCharset(charsets) => {
                if let Some(column) = other_default(&charsets, labelled()) {
                    return mismatch(column, "character set");
                }
            }
            OptionalMetadataField::ColumnCharset(charsets) => {
                if let Some(column) = other_charset(charsets.iter_charsets().flatten(), text()) {
                    return mismatch(column, "character set");
                }
            }
            OptionalMetadataField::EnumAndSetColumnCharset(charsets) => {
                if let Some(column) = other_charset(charsets.iter_charsets().flatten(), labelled()) {
                    return mismatch(column, "character set");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The first of `columns` whose collation is another than the event has.
fn other_charset<'a>(
    collations: impl Iterator<Item = u16>,
    mut columns: impl Iterator<Item = &'a Column>,
) -> Option<&'a Column> {
    let mut collations = collations;
    columns.find(|column| {
        let collation = collations.next();
        column.collation.is_some() && collation.is_some() && collation != column.collation
    })
}

/// The same where the event has a default, and the columns that differ from it.
fn other_default<'a>(
    charsets: &DefaultCharset<'_>,
    columns: impl Iterator<Item = &'a Column>,
) -> Option<&'a Column> {
    let mut exceptions = charsets.iter_non_default().flatten().peekable();
    let collations = (0..).map(|index| match exceptions.next_if(|next| next.column_index() == index) {
        Some(exception) => exception.charset(),
        None => charsets.default_charset(),
    });
    other_charset(collations, columns)
}

fn is_numeric(kind: &Kind) -> bool {
    matches!(kind, Kind::Int { .. } | Kind::Year { .. } | Kind::Float | Kind::Double | Kind::Decimal { .. })
}

/// Whether the column has a character set in the binlog, be it `binary`. `None` where MariaDB says one and
/// MySQL does not: which entries belong to the columns behind it is not known.
fn is_text(kind: &Kind) -> Option<bool> {
    match kind {
        Kind::Geometry | Kind::Vector | Kind::Inet4 | Kind::Inet6 => None,
        _ => Some(matches!(kind, Kind::Text { .. } | Kind::JsonText { .. } | Kind::Binary { .. })),
    }
}
