//! A layout with a column of each kind, and values alone: see [`crate::fuzzing`].

use super::{
    Charset, Column, EncodedRow, Kind, Labels, Layout, Stored, cursor::Cursor, value::Writer, wire::Wire,
};

/// One value of a row image, taken for each kind of column there is.
pub fn value(data: &[u8]) {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes();
    let counted = [&length[..], data].concat();
    let only_here = [(Kind::Json, 245, &[4][..]), (Kind::Vector, 242, &[4]), (Kind::Inet6, 254, &[254, 16])];
    for (kind, column_type, metadata) in kinds().into_iter().chain(only_here) {
        let Some(wire) = column_type.try_into().ok().and_then(|of| Wire::new(&kind, of, metadata)) else {
            continue;
        };
        for bytes in [data, &counted] {
            let mut out = Writer::default();
            if wire.write(&mut Cursor(bytes), &mut out).is_ok() {
                check_json(&out.json);
            }
        }
    }
}

/// Checks what must be true of any row.
pub(crate) fn check(row: &EncodedRow) {
    check_json(&row.json);
    assert_eq!(row.values.len(), row.columns.len());
    assert!(row.values.iter().all(|(start, end)| row.json.get(*start as usize..*end as usize).is_some()));
}

fn check_json(json: &[u8]) {
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok(), "no JSON");
    assert!(!json.contains(&b'\n') && !json.contains(&b'\r'), "a line break");
}

/// The columns of the table that the corpus is made with: `id`, and then one of each kind that all servers
/// have.
pub(crate) fn every() -> Layout {
    let columns = kinds().into_iter().enumerate().map(|(number, (kind, ..))| Column {
        name: if number == 0 { "id".into() } else { format!("c{number}").into() },
        kind,
        nullable: number > 0,
        collation: None,
    });
    Layout::new(columns.collect(), 0).expect("the first is an integer")
}

/// Kinds, and their types and metadata in a TABLE_MAP.
fn kinds() -> Vec<(Kind, u8, &'static [u8])> {
    let labels = || Labels::parse("set('a','b')").expect("it is a list");
    let text = |charset, length_bytes| Kind::Text { charset, stored: Stored::Blob { length_bytes } };
    vec![
        (Kind::Int { width: 4, unsigned: false }, 3, &[]),
        (Kind::Int { width: 1, unsigned: false }, 1, &[]),
        (Kind::Int { width: 3, unsigned: true }, 9, &[]),
        (Kind::Int { width: 8, unsigned: true }, 8, &[]),
        (Kind::Year { two_digits: false }, 13, &[]),
        (Kind::Float, 4, &[4]),
        (Kind::Double, 5, &[8]),
        (Kind::Decimal { precision: 20, scale: 3, zerofill: false }, 246, &[20, 3]),
        (Kind::Text { charset: Charset::Ascii, stored: Stored::Fixed { octets: 16 } }, 254, &[254, 16]),
        (Kind::Text { charset: Charset::Ascii, stored: Stored::Varying { octets: 300 } }, 15, &[44, 1]),
        (text(Charset::Utf8, 2), 252, &[2]),
        (text(Charset::Utf16, 3), 252, &[3]),
        (Kind::Binary { stored: Stored::Fixed { octets: 5 } }, 254, &[254, 5]),
        (Kind::Binary { stored: Stored::Blob { length_bytes: 4 } }, 252, &[4]),
        (Kind::Bit { bits: 10 }, 16, &[2, 1]),
        (Kind::Enum { labels: labels(), charset: Charset::Utf8 }, 254, &[247, 1]),
        (Kind::Set { labels: labels(), charset: Charset::Utf8 }, 254, &[248, 1]),
        (Kind::Date, 10, &[]),
        (Kind::Time { fsp: 3 }, 19, &[3]),
        (Kind::DateTime { fsp: 5 }, 18, &[5]),
        (Kind::Timestamp { fsp: 6 }, 17, &[6]),
        (Kind::Geometry, 255, &[4]),
    ]
}
