//! MariaDB's compressed rows and statements (`log_bin_compress=ON`), unpacked.
//!
//! Source: MariaDB's `sql/log_event.cc`, "Compressed Record". Everything but the rows is as in the event
//! that is not compressed.

use std::io::Read;

use flate2::read::ZlibDecoder;
use mysql_async::binlog::events::Event;

use super::event::{
    HEADER_BYTES, MARIADB_WRITE_ROWS_COMPRESSED, MARIADB_WRITE_ROWS_COMPRESSED_V1, WRITE_ROWS, WRITE_ROWS_V1,
    length_encoded,
};

/// Rows of one event: some kilobytes, or a single large row. A statement is shorter than that.
const LARGEST_BYTES: u64 = 256 << 20;

/// The same rows as MariaDB writes them uncompressed. `None` if they can't be unpacked with certainty.
pub(super) fn unpacked(event: &Event) -> Option<Event> {
    let header = event.header();
    // Post-header: table id (6), flags (2), and in the second version the length of what else there is, its
    // own two bytes with it.
    let (event_type, post_header) = match header.event_type_raw() {
        MARIADB_WRITE_ROWS_COMPRESSED_V1 => (WRITE_ROWS_V1, 8),
        MARIADB_WRITE_ROWS_COMPRESSED => {
            let [low, high] = *event.data().get(8..)?.first_chunk::<2>()?;
            (WRITE_ROWS, 8 + usize::from(u16::from_le_bytes([low, high])))
        }
        _ => return None,
    };
    let mut rest = event.data().get(post_header..)?;
    let columns = usize::try_from(length_encoded(&mut rest)?).ok()?;
    let packed = rest.get(columns.div_ceil(8)..)?;
    let kept = event.data().get(..event.data().len() - packed.len())?;
    let rows = inflated(packed)?;

    let size = HEADER_BYTES as usize + kept.len() + rows.len();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend(header.timestamp().to_le_bytes());
    bytes.push(event_type);
    bytes.extend(header.server_id().to_le_bytes());
    bytes.extend(u32::try_from(size).ok()?.to_le_bytes());
    bytes.extend(header.log_pos().to_le_bytes());
    bytes.extend(header.flags_raw().to_le_bytes());
    bytes.extend(kept);
    bytes.extend(rows);
    let mut footer = event.footer();
    footer.set_checksum_enabled(false);
    Event::read(&event.fde().clone().with_footer(footer), &bytes[..]).ok()
}

/// A byte with the algorithm and the width of the length, the length, most significant byte first, and a
/// zlib stream.
pub(super) fn inflated(packed: &[u8]) -> Option<Vec<u8>> {
    const COMPRESSED: u8 = 0x80;
    const ZLIB: u8 = 0;
    let (first, rest) = packed.split_first()?;
    if first & COMPRESSED == 0 || (first & 0x70) >> 4 != ZLIB {
        return None;
    }
    let (length, stream) =
        rest.split_at_checked(usize::from(first & 0x07)).filter(|(length, _)| length.len() <= 4)?;
    let length = length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    if length > LARGEST_BYTES {
        return None;
    }
    // Grows with what comes, not with what is claimed.
    let mut rows = Vec::new();
    ZlibDecoder::new(stream).take(length + 1).read_to_end(&mut rows).ok()?;
    (rows.len() as u64 == length).then_some(rows)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;

    fn packed(first: u8, length: &[u8], rows: &[u8]) -> Vec<u8> {
        let mut stream = ZlibEncoder::new(Vec::new(), Compression::default());
        stream.write_all(rows).unwrap();
        [&[first], length, &stream.finish().unwrap()].concat()
    }

    #[test]
    fn rows_are_unpacked_if_they_are_as_long_as_they_claim() {
        let rows = vec![7; 300];
        assert_eq!(inflated(&packed(0x82, &[1, 44], &rows)).as_ref(), Some(&rows));
        assert_eq!(inflated(&packed(0x84, &[0, 0, 1, 44], &rows)), Some(rows.clone()));
        for (first, length) in [
            (0x82, &[1, 43][..]),
            (0x82, &[1, 45]),
            (0x84, &[255; 4]),
            (0x87, &[0, 0, 0, 0, 0, 1, 44]),
            (0x02, &[1, 44]),
            (0x92, &[1, 44]),
            (0x80, &[]),
        ] {
            assert_eq!(inflated(&packed(first, length, &rows)), None, "{first:x} {length:?}");
        }
    }

    #[test]
    fn damaged_streams_are_refused() {
        let whole = packed(0x82, &[1, 44], &[7; 300]);
        for len in 0..whole.len() {
            assert_eq!(inflated(&whole[..len]), None, "{len} bytes");
        }
        for at in 3..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            // Some bits of zlib's header say nothing.
            assert!(inflated(&damaged).is_none_or(|rows| rows == [7; 300]), "byte {at}");
        }
    }

    /// A small event that claims to be large, and is.
    #[test]
    fn what_is_more_than_it_claims_is_not_unpacked_to_its_end() {
        assert_eq!(inflated(&packed(0x81, &[10], &vec![0; 50 << 20])), None);
    }
}
