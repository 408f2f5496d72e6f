//! What reads bytes from outside, one function for each kind of input: a panic in here is a bug.
//!
//! Not part of the interface. `tests/it/fuzz.rs` runs these over mutated binlogs of real servers, and
//! the folder `fuzz` gives them to cargo-fuzz.

pub use crate::{
    checkpoint::fuzz as checkpoint,
    http::fuzz as query,
    options::fuzz as options_file,
    people::fuzz as people_file,
    row::fuzz::value,
    tail::fuzz::{binlog, packets, statement},
};
use crate::{
    id::EventId,
    tail::{gtid::GtidSet, position::FileOffset},
};

/// An event id, as a client sends it. What was read is written as it was.
pub fn event_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<EventId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

/// A GTID set, as the server or the checkpoint has it. What was read is read again from its own text.
pub fn gtid_set(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(set) = text.parse::<GtidSet>() {
        assert_eq!(set.to_string().parse(), Ok(set));
    }
}

/// `FILE:OFFSET`, likewise.
pub fn file_offset(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(at) = text.parse::<FileOffset>() {
        assert_eq!(at.to_string().parse(), Ok(at));
    }
}
