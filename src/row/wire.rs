//! One value of a row image: how it lies in the bytes.
//!
//! The formats are those of MySQL's `log_event.cc` and of `pack` in `field.cc`.

use std::sync::Arc;

use mysql_async::consts::ColumnType;

use super::{
    Charset, Kind, Labels, Stored,
    cursor::{Cursor, Malformed},
    decimal, jsonb,
    layout::escape_labels,
    temporal::{self, DateTime, Time},
    value::Writer,
};
use crate::id::Key;

/// How a value lies in the image, and what it becomes.
#[derive(Debug, Clone)]
pub(super) enum Wire {
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
pub(super) enum Failure {
    Malformed,
    /// The label of an ENUM or SET is not known for sure.
    Uncertain,
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Failure::Malformed
    }
}

impl Wire {
    /// `None` unless a column of this kind is written so.
    pub(super) fn new(kind: &Kind, column_type: ColumnType, metadata: &[u8]) -> Option<Wire> {
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
    pub(super) fn peek_key(&self, mut bytes: Cursor<'_>) -> Option<Key> {
        match *self {
            Wire::Int { width, unsigned: true } => bytes.little(width).ok().map(Key::from),
            Wire::Int { width, unsigned: false } => bytes.little_signed(width).ok().map(Key::from),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn write(&self, bytes: &mut Cursor<'_>, out: &mut Writer) -> Result<(), Failure> {
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
