//! Rows of a WRITE_ROWS event as JSON.
//!
//! An [`Image`] is made once for each TABLE_MAP: it compares the event with the layout, so that encoding
//! a row is nothing but reading bytes and writing JSON. Where the two disagree the row is read from the
//! table instead.

use std::{fmt, sync::Arc};

use mysql_async::{
    binlog::events::{RowsEventData, TableMapEvent},
    consts::ColumnType,
};

use super::{
    EncodedRow, Kind, Layout, RowError,
    cursor::Cursor,
    layout::{finish, span},
    metadata,
    value::Writer,
    wire::{Failure, Wire},
};
use crate::id::Key;

/// The rows of one WRITE_ROWS event.
#[derive(Clone, Copy)]
pub struct RowImages<'a> {
    /// Columns of the table.
    pub columns: u64,
    /// Whether the image holds every one of them.
    pub complete: bool,
    /// How many it holds if the first is among them.
    pub from_first: Option<usize>,
    /// The rows, one after the other.
    pub rows: &'a [u8],
}

impl<'a> RowImages<'a> {
    /// The rows that `event` added; `None` if it is no WRITE_ROWS event.
    pub fn of(event: &'a RowsEventData<'a>) -> Option<RowImages<'a>> {
        if !matches!(event, RowsEventData::WriteRowsEvent(_) | RowsEventData::WriteRowsEventV1(_)) {
            return None;
        }
        let present = event.columns_after_image()?;
        Some(RowImages {
            columns: event.num_columns(),
            complete: present.all(),
            from_first: present.first().as_deref().copied().unwrap_or_default().then(|| present.count_ones()),
            rows: event.rows_data(),
        })
    }

    /// The integer that stands first in the first row, where the column was of `column_type`.
    pub(super) fn first_integer(&self, column_type: ColumnType, unsigned: bool) -> Option<Key> {
        let width = match column_type {
            ColumnType::MYSQL_TYPE_TINY => 1,
            ColumnType::MYSQL_TYPE_SHORT => 2,
            ColumnType::MYSQL_TYPE_INT24 => 3,
            ColumnType::MYSQL_TYPE_LONG => 4,
            ColumnType::MYSQL_TYPE_LONGLONG => 8,
            _ => return None,
        };
        let mut bytes = Cursor(self.rows);
        let nulls = bytes.take(self.from_first?.div_ceil(8)).ok()?;
        let is_null = nulls.first().is_none_or(|nulls| nulls & 1 == 1);
        Wire::Int { width, unsigned }.peek_key(bytes).filter(|_| !is_null)
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
        metadata::check(columns, table_map)?;
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

#[cfg(test)]
mod tests {
    use mysql_async::binlog::{
        BinlogVersion,
        events::{Event, EventData, FormatDescriptionEvent},
    };
    use proptest::prelude::*;

    use super::{
        super::{Charset, Column, Labels, Stored},
        *,
    };

    fn event(event_type: u8, body: &[u8]) -> Event {
        let mut bytes = vec![0, 0, 0, 0, event_type, 1, 0, 0, 0];
        bytes.extend(u32::try_from(19 + body.len()).unwrap().to_le_bytes());
        bytes.extend([0; 6]);
        bytes.extend(body);
        Event::read(&FormatDescriptionEvent::new(BinlogVersion::Version4), &bytes[..]).unwrap()
    }

    fn column(name: &str, kind: Kind, nullable: bool) -> Column {
        Column { name: name.into(), kind, nullable, collation: None }
    }

    /// The table of the demo, and its TABLE_MAP.
    fn swipes() -> (Layout, Event) {
        let text = |octets| Kind::Text { charset: Charset::Utf8, stored: Stored::Fixed { octets } };
        let int = || Kind::Int { width: 4, unsigned: false };
        let columns = vec![
            column("vid", int(), false),
            column("doorno", int(), false),
            column("rfsim", text(16), false),
            column("optime", text(15), false),
            column("ynopen", text(1), false),
        ];
        let map = table_map(&[3, 3, 254, 254, 254], &[254, 16, 254, 15, 254, 1], &[0]);
        (Layout::new(columns, 0).unwrap(), map)
    }

    fn table_map(types: &[u8], metadata: &[u8], nullable: &[u8]) -> Event {
        let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0, 1, b'd', 0, 1, b't', 0];
        body.push(u8::try_from(types.len()).unwrap());
        body.extend(types);
        body.push(u8::try_from(metadata.len()).unwrap());
        body.extend(metadata);
        body.extend(nullable);
        event(19, &body)
    }

    fn swipe(vid: i32) -> Vec<u8> {
        let mut row = vec![0xe0];
        row.extend(vid.to_le_bytes());
        row.extend(3_i32.to_le_bytes());
        for text in ["00A1B2C3D4E5F607", "20261120 071500", "Y"] {
            row.push(u8::try_from(text.len()).unwrap());
            row.extend(text.bytes());
        }
        row
    }

    fn encode(
        layout: &Layout,
        map: &Event,
        complete: bool,
        rows: &[u8],
    ) -> Result<Vec<EncodedRow>, RowError> {
        let map: TableMapEvent<'_> = map.read_event().unwrap();
        let mut encoded = Vec::new();
        let columns = layout.columns().len() as u64;
        layout.encode_image(&map, RowImages { columns, complete, from_first: None, rows }, &mut encoded)?;
        Ok(encoded)
    }

    #[test]
    fn encodes_every_row_of_an_event() {
        let (layout, map) = swipes();
        let rows = encode(&layout, &map, true, &[swipe(300_006), swipe(-7)].concat()).unwrap();
        assert_eq!(rows.iter().map(|row| row.key).collect::<Vec<_>>(), [300_006, -7]);
        let json =
            r#"{"vid":300006,"doorno":3,"rfsim":"00A1B2C3D4E5F607","optime":"20261120 071500","ynopen":"Y"}"#;
        assert_eq!(std::str::from_utf8(&rows[0].json), Ok(json));
        let values = rows[0].values.iter().map(|(start, end)| &json[*start as usize..*end as usize]);
        assert_eq!(
            values.collect::<Vec<_>>(),
            ["300006", "3", "\"00A1B2C3D4E5F607\"", "\"20261120 071500\"", "\"Y\""]
        );
        assert_eq!(rows[0].columns[4].as_ref(), "ynopen");
    }

    #[test]
    fn an_event_cut_anywhere_gives_no_row() {
        let (layout, map) = swipes();
        let whole = [swipe(1), swipe(2)].concat();
        for end in 1..whole.len() {
            let result = encode(&layout, &map, true, &whole[..end]);
            assert!(end == swipe(1).len() || result.is_err(), "cut at {end}");
        }
    }

    #[test]
    fn rows_before_an_error_are_not_added() {
        let (layout, map) = swipes();
        let map: TableMapEvent<'_> = map.read_event().unwrap();
        let image = layout.image(&map).unwrap();
        let mut rows = Vec::new();
        let good = swipe(1);
        image
            .encode(RowImages { columns: 5, complete: true, from_first: Some(5), rows: &good }, &mut rows)
            .unwrap();
        let bad = [swipe(2), vec![0]].concat();
        image
            .encode(RowImages { columns: 5, complete: true, from_first: Some(5), rows: &bad }, &mut rows)
            .unwrap_err();
        assert_eq!(rows.iter().map(|row| row.key).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn incomplete_and_foreign_images_are_refused() {
        let (layout, map) = swipes();
        assert_eq!(encode(&layout, &map, false, &swipe(1)), Err(RowError::Partial));
        let map: TableMapEvent<'_> = map.read_event().unwrap();
        let images = RowImages { columns: 6, complete: true, from_first: Some(5), rows: &swipe(1) };
        assert!(matches!(layout.encode_image(&map, images, &mut Vec::new()), Err(RowError::Mismatch(_))));
        for (types, metadata, nullable) in [
            (&[3, 3, 254, 254][..], &[254, 16, 254, 15][..], &[0][..]),
            (&[8, 3, 254, 254, 254], &[254, 16, 254, 15, 254, 1], &[0]),
            (&[3, 3, 254, 254, 254], &[254, 17, 254, 15, 254, 1], &[0]),
            (&[3, 3, 15, 254, 254], &[16, 0, 254, 15, 254, 1], &[0]),
            (&[3, 3, 254, 254, 254], &[247, 1, 254, 15, 254, 1], &[0]),
            (&[3, 3, 254, 254, 254], &[254, 16, 254, 15, 254, 1], &[2]),
            (&[3, 3, 254, 254, 254], &[254, 16, 254, 15], &[0]),
            (&[3, 99, 254, 254, 254], &[254, 16, 254, 15, 254, 1], &[0]),
        ] {
            let map = table_map(types, metadata, nullable);
            assert!(!layout.matches(&map.read_event().unwrap()), "{types:?} {metadata:?} {nullable:?}");
        }
    }

    #[test]
    fn a_null_key_is_malformed() {
        let (layout, map) = swipes();
        let mut row = swipe(1);
        row[0] = 0xe1;
        row.drain(1..5);
        assert_eq!(encode(&layout, &map, true, &row), Err(RowError::Malformed("vid".into())));
    }

    #[test]
    fn only_write_rows_add_rows() {
        let body = [&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 5, 0x1f][..], &swipe(1)].concat();
        for (event_type, adds) in [(30, true), (23, false), (32, false), (31, false)] {
            let event = event(event_type, &body);
            if let Ok(Some(EventData::RowsEvent(rows))) = event.read_data() {
                let found = RowImages::of(&rows);
                assert_eq!(
                    found.is_some_and(|found| found.complete && found.rows == swipe(1)),
                    adds,
                    "{event_type}"
                );
            }
        }
    }

    /// A column of every kind that an image can hold, and its TABLE_MAP.
    fn every_kind() -> (Layout, Event) {
        let labels = Labels::parse("set('a','\"')").unwrap();
        let utf8 = || Charset::Utf8;
        let blob = Stored::Blob { length_bytes: 2 };
        let kinds: Vec<(Kind, u8, &[u8])> = vec![
            (Kind::Int { width: 3, unsigned: false }, 9, &[]),
            (Kind::Year { two_digits: false }, 13, &[]),
            (Kind::Float, 4, &[4]),
            (Kind::Double, 5, &[8]),
            (Kind::Decimal { precision: 20, scale: 3, zerofill: false }, 246, &[20, 3]),
            (Kind::Text { charset: Charset::Ascii, stored: Stored::Varying { octets: 300 } }, 15, &[44, 1]),
            (Kind::Text { charset: utf8(), stored: blob }, 252, &[2]),
            (Kind::Text { charset: Charset::Utf16, stored: blob }, 252, &[2]),
            (Kind::Text { charset: Charset::Utf16Le, stored: blob }, 252, &[2]),
            (Kind::Text { charset: Charset::Utf32, stored: blob }, 252, &[2]),
            (Kind::JsonText { charset: utf8(), stored: blob }, 252, &[2]),
            (Kind::Json, 245, &[4]),
            (Kind::Binary { stored: Stored::Fixed { octets: 5 } }, 254, &[254, 5]),
            (Kind::Bit { bits: 10 }, 16, &[2, 1]),
            (Kind::Enum { labels: labels.clone(), charset: utf8() }, 254, &[247, 1]),
            (Kind::Set { labels, charset: utf8() }, 254, &[248, 1]),
            (Kind::Date, 10, &[]),
            (Kind::Time { fsp: 3 }, 19, &[3]),
            (Kind::DateTime { fsp: 5 }, 18, &[5]),
            (Kind::Timestamp { fsp: 0 }, 17, &[0]),
            (Kind::Time { fsp: 0 }, 11, &[]),
            (Kind::DateTime { fsp: 0 }, 12, &[]),
            (Kind::Timestamp { fsp: 0 }, 7, &[]),
            (Kind::Geometry, 255, &[4]),
            (Kind::Inet6, 254, &[254, 16]),
        ];
        let types: Vec<u8> = kinds.iter().map(|(_, column_type, _)| *column_type).collect();
        let metadata: Vec<u8> = kinds.iter().flat_map(|(_, _, metadata)| *metadata).copied().collect();
        let nullable = [0xfe, 0xff, 0xff, 0xff];
        let columns = kinds
            .into_iter()
            .enumerate()
            .map(|(number, (kind, _, _))| column(&format!("c{number}\n"), kind, number > 0));
        (Layout::new(columns.collect(), 0).unwrap(), table_map(&types, &metadata, &nullable))
    }

    proptest! {
        /// Whatever the bytes, there is an error or a row that is one line of JSON.
        #[test]
        fn any_bytes_are_an_error_or_json(
            nulls in prop::array::uniform4(any::<u8>()),
            body in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), any::<u8>()], 0..400),
        ) {
            let (layout, map) = every_kind();
            for nulls in [nulls, [0, 0, 0, 0], [0xfe, 0xff, 0xff, 0x01]] {
                let rows = [&nulls[..], &body].concat();
                for row in encode(&layout, &map, true, &rows).unwrap_or_default() {
                    prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&row.json).is_ok());
                    prop_assert!(!row.json.contains(&b'\n') && !row.json.contains(&b'\r'));
                }
            }
        }

        /// The same for one value at a time, which random bytes of a whole row seldom reach.
        #[test]
        fn any_value_is_an_error_or_json(body in prop::collection::vec(any::<u8>(), 0..80), text in ".{0,20}") {
            let (layout, map) = every_kind();
            let image = layout.image(&map.read_event().unwrap()).unwrap();
            let length = u16::try_from(body.len()).unwrap().to_le_bytes();
            let counted = [&length[..], &[0, 0], &body].concat();
            let blob = [&length[..], &body].concat();
            let text = [&u16::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat();
            for (wire, bytes) in image.wires.iter().flat_map(|wire| [(wire, &body), (wire, &counted), (wire, &blob), (wire, &text)]) {
                let mut out = Writer::default();
                if wire.write(&mut Cursor(bytes), &mut out).is_ok() {
                    let json = serde_json::from_slice::<serde::de::IgnoredAny>(&out.json);
                    prop_assert!(json.is_ok(), "{wire:?} {}", String::from_utf8_lossy(&out.json));
                    prop_assert!(!out.json.contains(&b'\n') && !out.json.contains(&b'\r'));
                }
            }
        }
    }
}
