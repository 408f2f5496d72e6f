//! A row as every client gets it: encoded once, shared by all.
//!
//! Owns the SSE frame. Knows no ring and no cursor.

use std::{collections::HashMap, ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    id::{EventId, Key},
    row::EncodedRow,
};

/// One row of the feed. The frame is its only copy: the JSON and the values are parts of it.
#[derive(Debug)]
pub struct Row {
    id: EventId,
    committed_ms: Option<u64>,
    told: Instant,
    frame: Bytes,
    json: Range<usize>,
    values: Box<[(u32, u32)]>,
    columns: Arc<[Box<str>]>,
}

impl Row {
    pub(super) fn new(epoch: u32, committed_ms: Option<u64>, told: Instant, row: EncodedRow) -> Self {
        debug_assert!(!row.json.contains(&b'\n'), "a line break would end the SSE data line");
        let id = EventId { epoch, key: row.key };
        let (mut epoch_text, mut key_text) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (epoch_text, key_text) = (epoch_text.format(epoch), key_text.format(row.key));
        let parts: [&[u8]; 7] =
            [b"id: ", epoch_text.as_bytes(), b"-", key_text.as_bytes(), b"\ndata: ", &row.json, b"\n\n"];
        let mut frame = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            frame.extend_from_slice(part);
        }
        let end = frame.len().saturating_sub(2);
        let json = end.saturating_sub(row.json.len())..end;
        let frame = Bytes::from(frame);
        Row { id, committed_ms, told, frame, json, values: row.values, columns: row.columns }
    }

    /// The event's id.
    pub fn id(&self) -> EventId {
        self.id
    }

    pub(super) fn key(&self) -> Key {
        self.id.key
    }

    /// When the row was committed, as Unix milliseconds; `None` where the table told of it, not the binlog.
    pub fn committed_ms(&self) -> Option<u64> {
        self.committed_ms
    }

    /// When the feed got it.
    pub fn told(&self) -> Instant {
        self.told
    }

    /// The SSE frame: `id: 1-5\ndata: {…}\n\n`.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The flat JSON object.
    pub fn json(&self) -> &[u8] {
        self.frame.get(self.json.clone()).unwrap_or_default()
    }

    /// The names of the columns, in the order of the values.
    pub fn columns(&self) -> &Arc<[Box<str>]> {
        &self.columns
    }

    /// The JSON text of a column's value, by the column's place.
    pub fn value(&self, column: usize) -> Option<&[u8]> {
        let (start, end) = *self.values.get(column)?;
        self.json().get(start as usize..end as usize)
    }

    /// Whether the columns that both have say the same, for rows of two layouts of one table.
    pub fn agrees_with(&self, other: &EncodedRow) -> bool {
        let others: HashMap<&str, &[u8]> = (other.columns.iter().zip(&other.values))
            .filter_map(|(name, (start, end))| {
                Some((&**name, other.json.get(*start as usize..*end as usize)?))
            })
            .collect();
        let mut both = self
            .columns
            .iter()
            .enumerate()
            .filter_map(|(column, name)| Some((self.value(column)?, *others.get(&**name)?)));
        both.all(|(ours, theirs)| ours == theirs)
    }

    /// What the row takes in memory, about: with its place in the ring and in the index.
    pub(super) fn cost_bytes(&self) -> usize {
        const PLACE_BYTES: usize = 192;
        self.frame.len() + size_of_val(&*self.values) + size_of::<Row>() + PLACE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_json_and_values_share_one_text() {
        let row = Row::new(
            2,
            None,
            Instant::now(),
            EncodedRow {
                key: -7,
                json: br#"{"vid":-7,"ynopen":"Y"}"#.to_vec(),
                values: Box::new([(7, 9), (19, 22)]),
                columns: Arc::new(["vid".into(), "ynopen".into()]),
                replaced: 0,
            },
        );
        assert_eq!(row.frame(), "id: 2--7\ndata: {\"vid\":-7,\"ynopen\":\"Y\"}\n\n");
        assert_eq!(row.json(), br#"{"vid":-7,"ynopen":"Y"}"#);
        assert_eq!(row.value(0), Some(&b"-7"[..]));
        assert_eq!(row.value(1), Some(&b"\"Y\""[..]));
        assert_eq!(row.value(2), None);
    }
}
