//! MySQL's binary JSON in the canonical text form of [`super::json`].
//!
//! The format is that of MySQL's `sql-common/json_binary.h`.

use super::{
    cursor::{Cursor, Malformed},
    decimal, json,
    temporal::{DateTime, Time},
    value::Writer,
};

const SMALL_OBJECT: u8 = 0x00;
const LARGE_OBJECT: u8 = 0x01;
const SMALL_ARRAY: u8 = 0x02;
const LARGE_ARRAY: u8 = 0x03;
const LITERAL: u8 = 0x04;
const INT16: u8 = 0x05;
const UINT16: u8 = 0x06;
const INT32: u8 = 0x07;
const UINT32: u8 = 0x08;
const INT64: u8 = 0x09;
const UINT64: u8 = 0x0a;
const DOUBLE: u8 = 0x0b;
const STRING: u8 = 0x0c;
const OPAQUE: u8 = 0x0f;

const TYPE_TIMESTAMP: u8 = 7;
const TYPE_DATE: u8 = 10;
const TYPE_TIME: u8 = 11;
const TYPE_DATETIME: u8 = 12;
const TYPE_NEWDECIMAL: u8 = 246;

/// Bytes of JSON for each byte of the binary form, at most: a control character is one byte and becomes
/// six, a date takes 13 and becomes 28. More can only come of containers that share their parts, which no
/// server writes and which could grow without limit.
const EXPANSION: usize = 8;

/// Base64 inside MySQL's JSON breaks its lines after so many characters.
const BASE64_LINE: usize = 76;

/// Writes a document. An empty one is what an old server leaves for a value it could not tell: null.
pub(super) fn write(document: &[u8], out: &mut Writer) -> Result<(), Malformed> {
    let Some((kind, body)) = document.split_first() else {
        out.null();
        return Ok(());
    };
    let limit = out.json.len() + document.len() * EXPANSION + 64;
    write_value(*kind, body, 0, limit, out)
}

fn write_value(kind: u8, body: &[u8], depth: usize, limit: usize, out: &mut Writer) -> Result<(), Malformed> {
    let mut bytes = Cursor(body);
    match kind {
        SMALL_OBJECT | LARGE_OBJECT | SMALL_ARRAY | LARGE_ARRAY => {
            write_container(kind, body, depth, limit, out)?
        }
        LITERAL => write_literal(bytes.u8()?, out)?,
        INT16 => out.int(bytes.little_signed(2)?),
        INT32 => out.int(bytes.little_signed(4)?),
        INT64 => out.int(bytes.little_signed(8)?),
        UINT16 => out.uint(bytes.little(2)?),
        UINT32 => out.uint(bytes.little(4)?),
        UINT64 => out.uint(bytes.little(8)?),
        DOUBLE => out.double(f64::from_bits(bytes.little(8)?)),
        STRING => {
            let length = variable_length(&mut bytes)?;
            write_string(bytes.take(length)?, out);
        }
        OPAQUE => {
            let column_type = bytes.u8()?;
            let length = variable_length(&mut bytes)?;
            write_opaque(column_type, bytes.take(length)?, out)?;
        }
        _ => return Err(Malformed),
    }
    if out.json.len() > limit { Err(Malformed) } else { Ok(()) }
}

fn write_literal(literal: u8, out: &mut Writer) -> Result<(), Malformed> {
    let text: &[u8] = match literal {
        0 => b"null",
        1 => b"true",
        2 => b"false",
        _ => return Err(Malformed),
    };
    out.raw(text);
    Ok(())
}

/// An object or array: count, size, then for each key its offset and length, for each value its type and
/// its offset, or the value itself if it fits; offsets count from the start of the count.
fn write_container(
    kind: u8,
    body: &[u8],
    depth: usize,
    limit: usize,
    out: &mut Writer,
) -> Result<(), Malformed> {
    if depth >= json::MAX_DEPTH {
        return Err(Malformed);
    }
    let object = matches!(kind, SMALL_OBJECT | LARGE_OBJECT);
    let offset_bytes = if matches!(kind, LARGE_OBJECT | LARGE_ARRAY) { 4 } else { 2 };
    let mut header = Cursor(body);
    let count = length(header.little(offset_bytes)?)?;
    let size = length(header.little(offset_bytes)?)?;
    let body = body.get(..size).ok_or(Malformed)?;

    let key_bytes = if object { usize::from(offset_bytes) + 2 } else { 0 };
    let mut keys = Cursor(header.take(count.checked_mul(key_bytes).ok_or(Malformed)?)?);
    let mut values = header;

    out.json.push(if object { b'{' } else { b'[' });
    for index in 0..count {
        if index > 0 {
            out.json.push(b',');
        }
        if object {
            let offset = length(keys.little(offset_bytes)?)?;
            let key_length = length(keys.little(2)?)?;
            let end = offset.checked_add(key_length).ok_or(Malformed)?;
            write_string(body.get(offset..end).ok_or(Malformed)?, out);
            out.json.push(b':');
        }
        let kind = values.u8()?;
        let entry = values.take(usize::from(offset_bytes))?;
        let inline =
            matches!(kind, LITERAL | INT16 | UINT16) || (offset_bytes == 4 && matches!(kind, INT32 | UINT32));
        let value = if inline {
            entry
        } else {
            let offset = length(Cursor(entry).little(offset_bytes)?)?;
            body.get(offset..).ok_or(Malformed)?
        };
        write_value(kind, value, depth + 1, limit, out)?;
    }
    out.json.push(if object { b'}' } else { b']' });
    Ok(())
}

fn length(number: u64) -> Result<usize, Malformed> {
    usize::try_from(number).map_err(|_| Malformed)
}

/// Seven bits in each byte, the least significant first; the eighth says that more follow. At most five.
fn variable_length(bytes: &mut Cursor<'_>) -> Result<usize, Malformed> {
    let mut sum = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = bytes.u8()?;
        sum |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return length(sum);
        }
    }
    Err(Malformed)
}

fn write_string(bytes: &[u8], out: &mut Writer) {
    super::Charset::Utf8.write_string(bytes, out);
}

/// A value of an SQL type, as MySQL prints it inside JSON.
fn write_opaque(column_type: u8, data: &[u8], out: &mut Writer) -> Result<(), Malformed> {
    let mut bytes = Cursor(data);
    match column_type {
        TYPE_NEWDECIMAL => {
            let (precision, scale) = (bytes.u8()?, bytes.u8()?);
            let mut digits = Writer::default();
            decimal::write(precision, scale, false, &mut bytes, &mut digits)?;
            json::write_number(std::str::from_utf8(&digits.json).map_err(|_| Malformed)?, out);
        }
        TYPE_DATE => out.date(DateTime::from_packed(bytes.little(8)?.cast_signed())),
        TYPE_DATETIME | TYPE_TIMESTAMP => {
            out.date_time(DateTime::from_packed(bytes.little(8)?.cast_signed()), 6)
        }
        TYPE_TIME => out.time(Time::from_packed(bytes.little(8)?.cast_signed()), 6),
        _ => {
            let mut encoded = Writer::default();
            encoded.base64(data, 0);
            let base64 = encoded.json.get(1..encoded.json.len() - 1).unwrap_or_default();
            out.raw(b"\"base64:type");
            out.uint(column_type.into());
            out.json.push(b':');
            for (index, line) in base64.chunks(BASE64_LINE).enumerate() {
                if index > 0 {
                    out.raw(b"\\n");
                }
                out.raw(line);
            }
            out.json.push(b'"');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(document: &[u8]) -> Option<String> {
        let mut out = Writer::default();
        write(document, &mut out).ok()?;
        Some(String::from_utf8(out.json).unwrap())
    }

    #[track_caller]
    fn check(document: &[u8], expected: &str) {
        assert_eq!(text(document).as_deref(), Some(expected));
        for end in 1..document.len() {
            assert_eq!(text(&document[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn reads_scalars() {
        check(&[LITERAL, 1], "true");
        check(&[INT16, 0xff, 0xff], "-1");
        check(&[UINT64, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "18446744073709551615");
        check(&[STRING, 3, b'a', b'"', b'\n'], "\"a\\\"\\n\"");
        check(&[OPAQUE, TYPE_NEWDECIMAL, 4, 3, 2, 0x81, 0x32], "1.5");
        assert_eq!(text(&[]).as_deref(), Some("null"));
    }

    #[test]
    fn reads_containers() {
        // {"a": [1, "x"], "b": null}
        let document = [
            SMALL_OBJECT,
            2,
            0,
            32,
            0,
            18,
            0,
            1,
            0,
            19,
            0,
            1,
            0,
            SMALL_ARRAY,
            20,
            0,
            LITERAL,
            0,
            0,
            b'a',
            b'b',
            2,
            0,
            12,
            0,
            INT16,
            1,
            0,
            STRING,
            10,
            0,
            1,
            b'x',
        ];
        check(&document, "{\"a\":[1,\"x\"],\"b\":null}");
    }

    #[test]
    fn shared_parts_can_not_grow_without_limit() {
        // Each array's two elements are the same next array.
        let mut document = vec![SMALL_ARRAY];
        for _ in 0..60 {
            let size = u16::try_from(60 * 10).unwrap().to_le_bytes();
            document.extend([2, 0, size[0], size[1], SMALL_ARRAY, 10, 0, SMALL_ARRAY, 10, 0]);
        }
        document.resize(4096, 0);
        assert_eq!(text(&document), None);
    }
}
