//! The way of an event through this module, without a server: see [`crate::fuzzing`].

use std::{collections::HashMap, sync::Arc};

use mysql_async::binlog::{
    BinlogVersion,
    events::{Event, FormatDescriptionEvent, RotateEvent, TableMapEvent, TransactionPayloadEvent},
};

use super::{
    TableName,
    commit::{Commit, Malformed},
    event::{self, FORMAT_DESCRIPTION, ROTATE, TABLE_MAP, TRANSACTION_PAYLOAD, length_encoded},
    position::FileOffset,
    statement::{Names, classify},
    transaction::{Assembler, Step},
};
use crate::row;

/// Bytes that a compressed transaction may unpack to here. mysql_async knows no limit.
const LARGEST_PAYLOAD_BYTES: u64 = 1 << 20;

/// JSON for each byte of an image: a row of nothing but NULL is 3 bytes, and names every column.
const EXPANSION: usize = 256;

/// Events as the packets of a stream, each behind its length in four bytes, least significant first.
/// Returns how many rows came of them. The followed table is `doors.every`, see [`row::fuzz::every`].
pub fn binlog(mut data: &[u8]) -> usize {
    let input = data.len();
    let name = TableName { database: "doors".into(), table: "every".into() };
    let at = FileOffset { file: "binlog.000001".into(), offset: 4 };
    let layout = Arc::new(row::fuzz::every());
    let mut reader =
        Reader { assembler: Assembler::new(name, layout, at), stream: Stream::default(), rows: 0 };
    let mut json = 0;
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (packet, rest) = rest.split_at(length.min(rest.len()));
        data = rest;
        // An error ends the session.
        let Some(bytes) = reader.packet(packet) else { break };
        json += bytes;
        assert!(json <= (input + LARGEST_PAYLOAD_BYTES as usize) * EXPANSION, "{json} bytes of JSON");
    }
    reader.rows
}

/// The packets of [`binlog`] from events.
pub fn packets<'a>(events: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut packets = Vec::new();
    for event in events {
        packets.extend(u32::try_from(event.len()).unwrap_or(u32::MAX).to_le_bytes());
        packets.extend(event);
    }
    packets
}

/// The text of a statement.
pub fn statement(data: &[u8]) {
    let (schema, query) = data.split_at(data.len().min(5));
    for schema in [schema, b"doors"] {
        classify(query, Names { database: "doors", table: "every", schema });
    }
}

struct Reader {
    assembler: Assembler,
    stream: Stream,
    rows: usize,
}

impl Reader {
    /// What `Tail` does with a packet. `None` where the session ends, else how much JSON came of it.
    fn packet(&mut self, packet: &[u8]) -> Option<usize> {
        let event = self.stream.read(packet)?;
        let mut json = self.event(&event)?;
        if event.header().event_type_raw() != TRANSACTION_PAYLOAD {
            return Some(json);
        }
        let inner = unpacked(&event);
        let mut inner = &*inner;
        while !inner.is_empty() {
            let event = self.stream.read_unpacked(&mut inner)?;
            json += self.event(&event)?;
        }
        if self.assembler.is_in_payload() {
            let step = self.assembler.give_up_payload();
            json += self.step(Ok(step))?;
        }
        Some(json)
    }

    fn event(&mut self, event: &Event) -> Option<usize> {
        if !event::is_intact(event) {
            return None;
        }
        let tables = &self.stream.tables;
        let step = self.assembler.accept(event, |id| tables.get(&id));
        self.step(step)
    }

    fn step(&mut self, step: Result<Step, Malformed>) -> Option<usize> {
        let Step::Commit(Commit { rows, .. }) = step.ok()? else { return Some(0) };
        self.rows += rows.len();
        rows.iter().for_each(row::fuzz::check);
        Some(rows.iter().map(|row| row.json.len()).sum())
    }
}

/// In the place of mysql_async's stream: the same calls in the same order, but for packets on which
/// mysql_common panics. `Tail` catches that; here it would hide our own panics.
struct Stream {
    format: FormatDescriptionEvent<'static>,
    tables: HashMap<u64, TableMapEvent<'static>>,
}

impl Default for Stream {
    fn default() -> Self {
        Stream { format: FormatDescriptionEvent::new(BinlogVersion::Version4), tables: HashMap::new() }
    }
}

impl Stream {
    fn read(&mut self, packet: &[u8]) -> Option<Event> {
        if !is_whole(packet) {
            return None;
        }
        let event = Event::read(&self.format, packet).ok()?;
        self.take_over(&event)?;
        Some(event)
    }

    fn read_unpacked(&mut self, events: &mut &[u8]) -> Option<Event> {
        let size = events.get(9..13).and_then(|size| size.first_chunk::<4>())?;
        let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
        let (event, rest) = events.split_at_checked(size.max(HEADER_BYTES))?;
        *events = rest;
        // This one may have a checksum even here.
        if event.get(4) == Some(&FORMAT_DESCRIPTION) && !is_whole(event) {
            return None;
        }
        let mut footer = self.format.footer();
        footer.set_checksum_enabled(false);
        let event = Event::read(&self.format.clone().with_footer(footer), event).ok()?;
        self.take_over(&event)?;
        (event.header().event_type_raw() != TRANSACTION_PAYLOAD).then_some(event)
    }

    fn take_over(&mut self, event: &Event) -> Option<()> {
        match event.header().event_type_raw() {
            FORMAT_DESCRIPTION => {
                let format: FormatDescriptionEvent<'_> = event.read_event().ok()?;
                self.format = format.into_owned().with_footer(event.footer());
            }
            TABLE_MAP => {
                let map: TableMapEvent<'_> = event.read_event().ok()?;
                self.tables.insert(map.table_id(), map.into_owned());
            }
            ROTATE => {
                let rotate: RotateEvent<'_> = event.read_event().ok()?;
                if !rotate.is_fake() {
                    self.tables.clear();
                }
            }
            _ => {}
        }
        Some(())
    }
}

const HEADER_BYTES: usize = 19;

/// Whether the packet is as long as its header says and has room for a checksum, and for the number of its
/// algorithm.
fn is_whole(packet: &[u8]) -> bool {
    let size = packet.get(9..13).and_then(|size| size.first_chunk::<4>());
    size.is_some_and(|size| usize::try_from(u32::from_le_bytes(*size)) == Ok(packet.len()))
        && packet.len() >= HEADER_BYTES + 5
}

/// What mysql_async makes of a payload, nothing where it would panic or fill the memory.
fn unpacked(event: &Event) -> Vec<u8> {
    if !has_sound_fields(event.data()) {
        return Vec::new();
    }
    match event.read_event::<TransactionPayloadEvent<'_>>() {
        Ok(payload) if payload.uncompressed_size() <= LARGEST_PAYLOAD_BYTES => payload.danger_decompress(),
        _ => Vec::new(),
    }
}

/// Whether the fields of the payload's header are ones that mysql_common knows: it skips others without a
/// look at the end, and unwraps the algorithm.
fn has_sound_fields(mut data: &[u8]) -> bool {
    const END: u64 = 0;
    const ALGORITHM: u64 = 2;
    loop {
        let Some(field) = length_encoded(&mut data) else { return false };
        if field == END {
            return true;
        }
        let (Some(_), Some(value)) = (length_encoded(&mut data), length_encoded(&mut data)) else {
            return false;
        };
        if field > 3 || field == ALGORITHM && !matches!(value, 0 | 255) {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    /// mysql_common 0.37. When this fails it has been mended, and [`is_whole`] and [`has_sound_fields`] can go;
    /// so can `caught`, if nothing else is known by then.
    #[test]
    fn mysql_common_still_panics_on_short_input() {
        let mut short = [0; 24];
        short[9] = 30;
        let read =
            catch_unwind(|| Event::read(&FormatDescriptionEvent::new(BinlogVersion::Version4), &short[..]));
        assert!(read.is_err());

        let mut payload = [0; 22];
        payload[4] = TRANSACTION_PAYLOAD;
        payload[9] = 22;
        payload[19..].copy_from_slice(&[2, 1, 7]);
        let event = Event::read(&FormatDescriptionEvent::new(BinlogVersion::Version4), &payload[..]).unwrap();
        assert!(catch_unwind(|| event.read_event::<TransactionPayloadEvent<'_>>().is_ok()).is_err());
        assert!(!has_sound_fields(event.data()));
    }
}
