use mysql_async::binlog::{BinlogVersion, events::FormatDescriptionEvent};

use super::*;
use crate::row::{Column, Kind};

/// Events of a stream without checksums, on a table of one column.
fn event(kind: u8, body: &[u8]) -> Event {
    let mut bytes = vec![0; 19];
    bytes[4] = kind;
    bytes[9..13].copy_from_slice(&(19 + body.len() as u32).to_le_bytes());
    bytes[13..17].copy_from_slice(&500_u32.to_le_bytes());
    bytes.extend_from_slice(body);
    Event::read(&FormatDescriptionEvent::new(BinlogVersion::Version4), &bytes[..]).unwrap()
}

fn assembler(largest_bytes: usize) -> Assembler {
    let id = Column {
        name: "id".into(),
        kind: Kind::Int { width: 4, unsigned: false },
        nullable: false,
        collation: None,
    };
    let layout = Arc::new(Layout::new(vec![id], 0).unwrap());
    let name = TableName { database: "d".into(), table: "t".into() };
    let at = FileOffset { file: "binlog.000001".into(), offset: 4 };
    Assembler { largest_bytes, ..Assembler::new(name, layout, at) }
}

/// A transaction of `events` events with `rows` rows each.
fn transaction(assembler: &mut Assembler, events: i32, rows: i32) -> Commit {
    let table_map = event(TABLE_MAP, b"\x07\0\0\0\0\0\0\0\x01d\0\x01t\0\x01\x03\0\0");
    let parsed: TableMapEvent<'_> = table_map.read_event().unwrap();
    let parsed = parsed.into_owned();
    assembler.accept(&table_map, |_| None).unwrap();
    for number in 0..events {
        let mut body = b"\x07\0\0\0\0\0\0\0\x02\0\x01\x01".to_vec();
        for row in 0..rows {
            body.push(0);
            body.extend((number * rows + row).to_le_bytes());
        }
        let step = assembler.accept(&event(WRITE_ROWS, &body), |_| Some(&parsed)).unwrap();
        assert!(matches!(step, Step::Open));
    }
    match assembler.accept(&event(XID, &[0; 8]), |_| None).unwrap() {
        Step::Commit(commit) => commit,
        other => panic!("{other:?}"),
    }
}

fn keys(commit: &Commit) -> Vec<Key> {
    commit.rows.iter().map(|row| row.key).collect()
}

#[test]
fn a_transaction_is_kept_up_to_its_bound_and_left_to_the_table_beyond() {
    let whole = transaction(&mut assembler(LARGEST_TRANSACTION_BYTES), 10, 20);
    assert_eq!(keys(&whole), (0..200).collect::<Vec<_>>());
    let bytes = whole.rows.iter().map(EncodedRow::memory_bytes).sum();

    let exactly = transaction(&mut assembler(bytes), 10, 20);
    assert_eq!((exactly.rows.len(), exactly.reread), (200, None));

    let mut small = assembler(bytes - 1);
    let beyond = transaction(&mut small, 10, 20);
    assert_eq!((beyond.rows.len(), beyond.reread), (0, Some(Reread::TooLarge)));
    // What comes after the bound is not kept, either, and the next transaction begins anew.
    let far_beyond = transaction(&mut small, 30, 20);
    assert_eq!((far_beyond.rows.capacity(), far_beyond.reread), (0, Some(Reread::TooLarge)));
    let next = transaction(&mut small, 1, 3);
    assert_eq!((keys(&next), next.reread), (vec![0, 1, 2], None));
}
