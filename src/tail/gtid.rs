//! GTID sets of both flavours: what has been committed, to resume from on any server that has it.
//!
//! MySQL: `uuid[:tag]:1-5:7,uuid:…` (MySQL Reference Manual, "GTID Sets"; tags since 8.3).
//! MariaDB: `domain-server-sequence,…`, one per domain (MariaDB Knowledge Base, "Global Transaction ID").

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    str::FromStr,
};

/// One transaction's GTID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gtid {
    /// MySQL's.
    MySql {
        /// The originating server's UUID.
        sid: [u8; 16],
        /// Empty when there is none.
        tag: String,
        /// The transaction's number, from 1.
        gno: u64,
    },
    /// MariaDB's.
    MariaDb {
        /// Replication domain.
        domain: u32,
        /// The originating server's id.
        server: u32,
        /// Sequence number within the domain.
        sequence: u64,
    },
}

/// Transaction numbers `first..=last`, ascending and apart.
pub type Intervals = Vec<(u64, u64)>;

/// A set of GTIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GtidSet {
    /// By server and tag.
    MySql(BTreeMap<([u8; 16], String), Intervals>),
    /// The last `(server, sequence)` of each domain.
    MariaDb(BTreeMap<u32, (u32, u64)>),
}

/// The text is not a GTID set of MySQL or of MariaDB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a GTID set: MySQL's look like 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5, MariaDB's like 0-1-100")]
pub struct BadGtidSet;

impl GtidSet {
    /// Adds a committed transaction. A GTID of the other flavour is left out: a server has one kind.
    pub fn insert(&mut self, gtid: Gtid) {
        match (self, gtid) {
            (GtidSet::MySql(set), Gtid::MySql { sid, tag, gno }) => {
                insert_interval(set.entry((sid, tag)).or_default(), gno, gno);
            }
            (GtidSet::MariaDb(set), Gtid::MariaDb { domain, server, sequence }) => {
                set.insert(domain, (server, sequence));
            }
            _ => {}
        }
    }

    /// Whether a MySQL set has tags, which mysql_async's dump request can't carry.
    pub fn has_tags(&self) -> bool {
        matches!(self, GtidSet::MySql(set) if set.keys().any(|(_, tag)| !tag.is_empty()))
    }

    /// Whether everything in `other` is in here, too; never for sets of two flavours.
    pub fn contains(&self, other: &GtidSet) -> bool {
        match (self, other) {
            (GtidSet::MySql(ours), GtidSet::MySql(others)) => others.iter().all(|(key, intervals)| {
                let ours = ours.get(key).map(Vec::as_slice).unwrap_or_default();
                let within = |(first, last): &(u64, u64)| ours.iter().any(|(a, b)| a <= first && last <= b);
                intervals.iter().all(within)
            }),
            (GtidSet::MariaDb(ours), GtidSet::MariaDb(others)) => others
                .iter()
                .all(|(domain, (_, sequence))| ours.get(domain).is_some_and(|(_, ours)| ours >= sequence)),
            _ => false,
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        match self {
            GtidSet::MySql(set) => set.is_empty(),
            GtidSet::MariaDb(set) => set.is_empty(),
        }
    }
}

/// Adds `first..=last` to ascending intervals, joining what touches.
fn insert_interval(intervals: &mut Vec<(u64, u64)>, first: u64, last: u64) {
    if let Some(end) = intervals.last_mut()
        && first == end.1.saturating_add(1)
    {
        end.1 = last; // the usual case: the next number
        return;
    }
    intervals.push((first, last));
    intervals.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
    for &(first, last) in intervals.iter() {
        match joined.last_mut() {
            Some(end) if first <= end.1.saturating_add(1) => end.1 = end.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    *intervals = joined;
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        match self {
            GtidSet::MySql(set) => {
                for ((sid, tag), intervals) in set {
                    write!(f, "{comma}{}", uuid_text(sid))?;
                    if !tag.is_empty() {
                        write!(f, ":{tag}")?;
                    }
                    for (first, last) in intervals {
                        if first == last { write!(f, ":{first}")? } else { write!(f, ":{first}-{last}")? }
                    }
                    comma = ",";
                }
            }
            GtidSet::MariaDb(set) => {
                for (domain, (server, sequence)) in set {
                    write!(f, "{comma}{domain}-{server}-{sequence}")?;
                    comma = ",";
                }
            }
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = BadGtidSet;

    /// Reads either flavour; white space around the parts is allowed, as servers print it.
    ///
    /// # Errors
    /// [`BadGtidSet`], also for an empty text: it does not say which flavour it is.
    fn from_str(text: &str) -> Result<Self, BadGtidSet> {
        if text.contains(':') { parse_mysql(text) } else { parse_mariadb(text) }
    }
}

fn parse_mysql(text: &str) -> Result<GtidSet, BadGtidSet> {
    let mut set = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let mut fields = part.split(':').map(str::trim);
        let sid = fields.next().and_then(parse_uuid).ok_or(BadGtidSet)?;
        let mut tag = String::new();
        for field in fields {
            if field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                tag = field.to_ascii_lowercase();
                continue;
            }
            let (first, last) = field.split_once('-').unwrap_or((field, field));
            let first: u64 = first.trim().parse().map_err(|_| BadGtidSet)?;
            let last: u64 = last.trim().parse().map_err(|_| BadGtidSet)?;
            if first == 0 || last < first {
                return Err(BadGtidSet);
            }
            insert_interval(set.entry((sid, tag.clone())).or_default(), first, last);
        }
    }
    if set.is_empty() { Err(BadGtidSet) } else { Ok(GtidSet::MySql(set)) }
}

fn parse_mariadb(text: &str) -> Result<GtidSet, BadGtidSet> {
    let mut set = BTreeMap::new();
    for part in text.split(',') {
        let mut numbers = part.trim().split('-');
        let (Some(domain), Some(server), Some(sequence), None) =
            (numbers.next(), numbers.next(), numbers.next(), numbers.next())
        else {
            return Err(BadGtidSet);
        };
        let domain = domain.parse().map_err(|_| BadGtidSet)?;
        let server = server.parse().map_err(|_| BadGtidSet)?;
        let sequence = sequence.parse().map_err(|_| BadGtidSet)?;
        set.insert(domain, (server, sequence));
    }
    Ok(GtidSet::MariaDb(set))
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let dashes = bytes.iter().filter(|b| **b == b'-').count();
    if bytes.len() != 36 || dashes != 4 {
        return None;
    }
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    if hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&hex, 16).ok().map(u128::to_be_bytes)
}

/// `3e11fa47-71ca-11e1-9e33-c80aa9429562`
fn uuid_text(sid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in sid.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(text.parse::<GtidSet>().unwrap().to_string(), expected);
    }

    #[test]
    fn reads_what_servers_print() {
        check("3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5");
        check(
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3:4:7-9",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-4:7-9",
        );
        check(
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3:door:5,\n3e11fa47-71ca-11e1-9e33-c80aa9429563:1",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3,3e11fa47-71ca-11e1-9e33-c80aa9429562:door:5,\
             3e11fa47-71ca-11e1-9e33-c80aa9429563:1",
        );
        check("1-2-300,0-1-100", "0-1-100,1-2-300");
    }

    #[test]
    fn contains_every_interval_or_not() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let set = |text: &str| text.replace('U', uuid).parse::<GtidSet>().unwrap();
        assert!(set("U:1-9").contains(&set("U:1-3:5-9")));
        assert!(!set("U:1-3:5-9").contains(&set("U:1-9")));
        assert!(!set("U:1-9").contains(&set("U:door:1")));
        assert!(set("0-1-9,1-1-1").contains(&set("0-2-8")));
        assert!(!set("0-1-9").contains(&set("1-1-1")) && !set("0-1-9").contains(&set("U:1")));
    }

    #[test]
    fn refuses_what_is_no_set() {
        for text in ["", "x", "0-1", "0-1-2-3", "3e11fa47:1-5", "3e11fa47-71ca-11e1-9e33-c80aa9429562:5-1"] {
            assert_eq!(text.parse::<GtidSet>(), Err(BadGtidSet), "{text:?}");
        }
    }

    #[test]
    fn inserting_keeps_holes_and_joins_neighbours() {
        let sid = [7; 16];
        let mut set = GtidSet::MySql(BTreeMap::new());
        for gno in [1, 2, 5, 4, 9, 3] {
            set.insert(Gtid::MySql { sid, tag: String::new(), gno });
        }
        assert_eq!(set.to_string(), "07070707-0707-0707-0707-070707070707:1-5:9");
    }
}
