//! Event types, and the few event bodies that are read here because mysql_common does not know them or
//! reads more of them than is needed.
//!
//! Sources: MySQL Internals, "Binary Log Event"; MariaDB Knowledge Base, "Replication Protocol".

use mysql_async::binlog::events::Event;

use super::gtid::Gtid;

pub(super) const QUERY: u8 = 2;
pub(super) const STOP: u8 = 3;
pub(super) const ROTATE: u8 = 4;
pub(super) const INTVAR: u8 = 5;
pub(super) const RAND: u8 = 13;
pub(super) const USER_VAR: u8 = 14;
pub(super) const FORMAT_DESCRIPTION: u8 = 15;
pub(super) const XID: u8 = 16;
pub(super) const BEGIN_LOAD_QUERY: u8 = 17;
pub(super) const EXECUTE_LOAD_QUERY: u8 = 18;
pub(super) const TABLE_MAP: u8 = 19;
pub(super) const WRITE_ROWS_V1: u8 = 23;
pub(super) const UPDATE_ROWS_V1: u8 = 24;
pub(super) const DELETE_ROWS_V1: u8 = 25;
pub(super) const INCIDENT: u8 = 26;
pub(super) const HEARTBEAT: u8 = 27;
pub(super) const IGNORABLE: u8 = 28;
pub(super) const ROWS_QUERY: u8 = 29;
pub(super) const WRITE_ROWS: u8 = 30;
pub(super) const UPDATE_ROWS: u8 = 31;
pub(super) const DELETE_ROWS: u8 = 32;
pub(super) const GTID: u8 = 33;
pub(super) const ANONYMOUS_GTID: u8 = 34;
pub(super) const PREVIOUS_GTIDS: u8 = 35;
pub(super) const TRANSACTION_CONTEXT: u8 = 36;
pub(super) const VIEW_CHANGE: u8 = 37;
pub(super) const XA_PREPARE: u8 = 38;
pub(super) const PARTIAL_UPDATE_ROWS: u8 = 39;
pub(super) const TRANSACTION_PAYLOAD: u8 = 40;
pub(super) const GTID_TAGGED: u8 = 42;
pub(super) const MARIADB_ANNOTATE_ROWS: u8 = 160;
pub(super) const MARIADB_BINLOG_CHECKPOINT: u8 = 161;
pub(super) const MARIADB_GTID: u8 = 162;
pub(super) const MARIADB_GTID_LIST: u8 = 163;
pub(super) const MARIADB_START_ENCRYPTION: u8 = 164;
pub(super) const MARIADB_QUERY_COMPRESSED: u8 = 165;
pub(super) const MARIADB_WRITE_ROWS_COMPRESSED_V1: u8 = 166;
pub(super) const MARIADB_UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
pub(super) const MARIADB_DELETE_ROWS_COMPRESSED_V1: u8 = 168;
pub(super) const MARIADB_WRITE_ROWS_COMPRESSED: u8 = 169;
pub(super) const MARIADB_UPDATE_ROWS_COMPRESSED: u8 = 170;
pub(super) const MARIADB_DELETE_ROWS_COMPRESSED: u8 = 171;

/// What every event begins with.
pub(super) const HEADER_BYTES: u32 = 19;

/// The event was made for this connection and stands in no file.
pub(super) const FLAG_ARTIFICIAL: u16 = 0x20;
/// Whoever does not know the event may skip it.
pub(super) const FLAG_IGNORABLE: u16 = 0x80;

/// The event's group is this one event: no BEGIN, no COMMIT.
const MARIADB_STANDALONE: u8 = 1;

/// Whether the event's checksum, where it has one, is that of its bytes. mysql_common takes it off
/// without looking.
pub(super) fn is_intact(event: &Event) -> bool {
    // Events out of a compressed transaction have none of their own: it is the payload that has.
    if !event.footer().get_checksum_enabled() {
        return true;
    }
    match (event.checksum(), event.footer().get_checksum_alg()) {
        (Some(sum), Ok(Some(algorithm))) if algorithm as u8 == 1 => {
            event.calc_checksum(algorithm) == u32::from_le_bytes(sum)
        }
        _ => true,
    }
}

/// The table id that a TABLE_MAP or a rows event begins with.
pub(super) fn table_id(data: &[u8]) -> Result<u64, super::commit::Malformed> {
    match data {
        &[a, b, c, d, e, f, ..] => Ok(u64::from_le_bytes([a, b, c, d, e, f, 0, 0])),
        _ => Err(super::commit::Malformed("TABLE_MAP or rows")),
    }
}

/// A name behind its one-byte length and before a zero; and the rest.
pub(super) fn short_name(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*len))?;
    Some((name, rest.split_first()?.1))
}

/// A number of one to nine bytes, taken off the front.
pub(super) fn length_encoded(data: &mut &[u8]) -> Option<u64> {
    let (first, rest) = data.split_first()?;
    let width = match first {
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        0xfb | 0xff => 0,
        _ => {
            *data = rest;
            return Some(u64::from(*first));
        }
    };
    let (bytes, rest) = rest.split_at_checked(width)?;
    *data = rest;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// The session's database and the text of a QUERY event.
pub(super) fn query_parts(data: &[u8]) -> Option<(&[u8], &[u8])> {
    // Post-header: thread id (4), seconds (4), length of the database's name (1), error (2), length of
    // the status variables (2).
    let (header, rest) = data.split_at_checked(13)?;
    let schema_len = usize::from(*header.get(8)?);
    let status_len = usize::from(u16::from_le_bytes([*header.get(11)?, *header.get(12)?]));
    let rest = rest.get(status_len..)?;
    let (schema, rest) = rest.split_at_checked(schema_len)?;
    Some((schema, rest.get(1..)?))
}

/// Whether a QUERY event's statement ended in an error, and was logged for what it had done by then.
pub(super) fn has_failed(data: &[u8]) -> bool {
    data.get(9..11).is_some_and(|error| error != [0, 0])
}

/// The session's database and the text behind the file's name of an EXECUTE_LOAD_QUERY event.
pub(super) fn load_parts(data: &[u8]) -> Option<(&[u8], &[u8])> {
    // Post-header: that of QUERY, then the file's id, where its name begins and ends in the text (4 each), and
    // what becomes of duplicates (1).
    let (header, rest) = data.split_at_checked(26)?;
    let schema_len = usize::from(*header.get(8)?);
    let status_len = usize::from(u16::from_le_bytes([*header.get(11)?, *header.get(12)?]));
    let end = u32::from_le_bytes(*header.get(21..)?.first_chunk::<4>()?);
    let (schema, rest) = rest.get(status_len..)?.split_at_checked(schema_len)?;
    Some((schema, rest.get(1..)?.get(end as usize..).unwrap_or_default()))
}

/// The GTID of a MariaDB GTID event, and whether its group is one event.
pub(super) fn mariadb_gtid(data: &[u8], server: u32) -> Option<(Gtid, bool)> {
    let (sequence, rest) = data.split_first_chunk::<8>()?;
    let (domain, rest) = rest.split_first_chunk::<4>()?;
    let flags = *rest.first()?;
    let gtid = Gtid::MariaDb {
        domain: u32::from_le_bytes(*domain),
        server,
        sequence: u64::from_le_bytes(*sequence),
    };
    Some((gtid, flags & MARIADB_STANDALONE != 0))
}

/// What AUTO_INCREMENT gave, if that is what an INTVAR event says.
pub(super) fn insert_id(data: &[u8]) -> Option<u64> {
    const INSERT_ID: u8 = 2;
    let (kind, value) = data.split_first()?;
    (*kind == INSERT_ID).then(|| value.first_chunk::<8>().map(|value| u64::from_le_bytes(*value)))?
}

/// Where a ROTATE event leads: file and offset.
///
/// The one that opens a stream comes before the event that says whether events have checksums, so its
/// four bytes of checksum, if it has one, still hang on the name.
pub(super) fn rotate(event: &Event) -> Option<(String, u64)> {
    let (offset, name) = event.data().split_first_chunk::<8>()?;
    let name = match name.split_last_chunk::<4>() {
        Some((shorter, sum)) if rotate_checksum(event) == Some(u32::from_le_bytes(*sum)) => shorter,
        _ => name,
    };
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    Some((name.to_owned(), u64::from_le_bytes(*offset)))
}

/// The checksum that the event would have if its last four bytes were one.
fn rotate_checksum(event: &Event) -> Option<u32> {
    let header = event.header();
    let (body, _) = event.data().split_last_chunk::<4>()?;
    let mut sum = crc32fast::Hasher::new();
    sum.update(&header.timestamp().to_le_bytes());
    sum.update(&[header.event_type_raw()]);
    sum.update(&header.server_id().to_le_bytes());
    sum.update(&header.event_size().to_le_bytes());
    sum.update(&header.log_pos().to_le_bytes());
    sum.update(&header.flags_raw().to_le_bytes());
    sum.update(body);
    Some(sum.finalize())
}

/// The 64-bit offset that a header's 32-bit one stands for, in a file read up to `at`. 0, or a place
/// before `at`, moves nothing.
pub(super) fn next_offset(at: u64, log_pos: u32) -> u64 {
    const WRAP: u64 = 1 << 32;
    let low = at % WRAP;
    let next = at - low + u64::from(log_pos);
    if u64::from(log_pos) >= low {
        next
    } else if low > WRAP / 4 * 3 && u64::from(log_pos) < WRAP / 4 {
        next + WRAP
    } else {
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_go_on_past_four_gigabytes() {
        assert_eq!(next_offset(4, 100), 100);
        assert_eq!(next_offset(100, 0), 100, "no position");
        assert_eq!(next_offset(100, 50), 100, "an older one");
        assert_eq!(next_offset((1 << 32) - 10, 90), (1 << 32) + 90);
        assert_eq!(next_offset((1 << 32) + 90, 190), (1 << 32) + 190);
    }

    #[test]
    fn short_bodies_are_refused() {
        for len in 0..13 {
            assert_eq!(query_parts(&vec![255; len]), None);
            assert_eq!(load_parts(&vec![255; 2 * len]), None);
            assert_eq!(mariadb_gtid(&vec![0; len.min(12)], 1), None);
        }
        assert_eq!(short_name(&[3, b'a', b'b']), None);
        assert_eq!(short_name(&[2, b'a', b'b', 0, 9]), Some((&b"ab"[..], &[9][..])));
    }
}
