//! Binlog positions: a file, an offset in it, and the GTID set committed up to there.

use std::{cmp::Ordering, fmt, str::FromStr};

use super::gtid::GtidSet;

/// A byte offset in a binlog file of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOffset {
    /// As `SHOW BINARY LOGS` lists it, for instance `mysql-bin.000042`.
    pub file: String,
    /// In bytes, from 4. Larger than 32 bits in files that a huge transaction has grown.
    pub offset: u64,
}

/// Where to go on reading. Only a commit, a rotation or an idle heartbeat moves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Where the next event begins.
    pub at: FileOffset,
    /// When the server began the file, in Unix seconds, as its first event says: after a RESET there is
    /// another file under the same name. `None` while that event has not been read.
    pub began: Option<u32>,
    /// What was committed up to there; `None` on a server without GTIDs.
    pub gtid_set: Option<GtidSet>,
}

/// The text is not `FILE:OFFSET`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a binlog position is FILE:OFFSET, for instance mysql-bin.000042:4")]
pub struct BadFileOffset;

impl FileOffset {
    /// No place: only a GTID set says where to go on.
    pub fn unknown() -> FileOffset {
        FileOffset { file: String::new(), offset: 0 }
    }

    /// Whether this is a place.
    pub fn is_known(&self) -> bool {
        !self.file.is_empty()
    }

    /// Whether `self` is at or behind `other`, both on one server.
    ///
    /// File numbers grow past six digits, so `bin.1000000` comes after `bin.999999`.
    pub fn reaches(&self, other: &FileOffset) -> bool {
        let by_file = sequence(&self.file).cmp(&sequence(&other.file));
        by_file.then(self.offset.cmp(&other.offset)) != Ordering::Less
    }
}

/// The number at the end of a binlog file's name.
fn sequence(file: &str) -> u64 {
    file.rsplit_once('.').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

impl fmt::Display for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

impl fmt::Display for Position {
    /// The place, or the GTID set where only that is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.gtid_set {
            Some(set) if !self.at.is_known() => set.fmt(f),
            _ => self.at.fmt(f),
        }
    }
}

impl FromStr for FileOffset {
    type Err = BadFileOffset;

    fn from_str(text: &str) -> Result<Self, BadFileOffset> {
        let (file, offset) = text.rsplit_once(':').ok_or(BadFileOffset)?;
        let numbered = file.rsplit_once('.').is_some_and(|(base, number)| {
            !base.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        });
        let offset: u64 = offset.parse().map_err(|_| BadFileOffset)?;
        if !numbered || offset < 4 {
            return Err(BadFileOffset);
        }
        Ok(FileOffset { file: file.to_owned(), offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> FileOffset {
        text.parse().unwrap()
    }

    #[test]
    fn order_follows_the_file_number_not_its_text() {
        assert!(at("bin.1000000:4").reaches(&at("bin.999999:500")));
        assert!(at("bin.000002:5000000000").reaches(&at("bin.000002:4")));
        assert!(at("bin.000002:4").reaches(&at("bin.000002:4")));
        assert!(!at("bin.000001:900").reaches(&at("bin.000002:4")));
    }

    #[test]
    fn refuses_what_is_no_position() {
        for text in ["", "bin.000001", "bin.000001:3", "bin:4", "bin.x:4", "bin.000001:-4", ".1:4"] {
            assert_eq!(text.parse::<FileOffset>(), Err(BadFileOffset), "{text:?}");
        }
    }
}
