//! XA transactions: their rows stand in the binlog at PREPARE, and COMMIT or ROLLBACK comes later, in a group of its own.
//!
//! Source: MySQL's `XA_prepare_log_event` and MariaDB's, which are alike: one phase or two (1 byte), then format id,
//! length of the first part and of the second (4 bytes each), and both parts.

use mysql_async::binlog::events::Event;

use super::{Assembler, Commit, Expected, Reread, Step};
use crate::{checkpoint::to_runs, tail::commit::Xa};

/// A transaction's id is at most 128 bytes, as text two characters for each.
const LONGEST_XID: usize = 320;

impl Assembler {
    /// The end of the first phase, or a commit in one phase.
    pub(super) fn xa_prepare(&mut self, event: &Event) -> Step {
        let one_phase = event.data().first().is_some_and(|flag| *flag != 0);
        if one_phase {
            return self.commit(event);
        }
        let mut prepared = std::mem::take(self.open.get_or_insert_default());
        if prepared.deleted {
            prepared.doubt();
        }
        self.open.get_or_insert_default().may_delete = prepared.may_delete || prepared.deleted;
        let mut keys: Vec<_> = prepared.rows.iter().map(|row| row.key).chain(prepared.insert_ids).collect();
        keys.sort_unstable();
        keys.dedup();
        let ours = !keys.is_empty() || prepared.reread.is_some();
        let certain = match prepared.reread {
            None | Some(Reread::OtherStatement) => false,
            Some(Reread::Statement) => prepared.expected == Expected::Rows,
            Some(_) => true,
        };
        let are_keys_certain = !prepared.are_ids_doubtful;
        let xa = xid(event.data()).map(|xid| Xa::Prepared {
            xid,
            keys: to_runs(keys),
            are_keys_certain,
            ours,
            certain,
        });
        self.commit_with(event, xa)
    }

    /// XA COMMIT, XA ROLLBACK.
    pub(super) fn commit_with(&mut self, event: &Event, xa: Option<Xa>) -> Step {
        match self.commit(event) {
            Step::Commit(commit) => Step::Commit(Commit { xa, ..commit }),
            step => step,
        }
    }
}

/// The id as it stands in the text of XA COMMIT.
fn xid(data: &[u8]) -> Option<String> {
    let (format, rest) = data.get(1..)?.split_first_chunk::<4>()?;
    let (first, rest) = rest.split_first_chunk::<4>()?;
    let (second, rest) = rest.split_first_chunk::<4>()?;
    let (first, rest) = rest.split_at_checked(u32::from_le_bytes(*first) as usize)?;
    let second = rest.get(..u32::from_le_bytes(*second) as usize)?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let text = format!("X'{}',X'{}',{}", hex(first), hex(second), i32::from_le_bytes(*format));
    (text.len() <= LONGEST_XID).then_some(text)
}

/// The id out of the text of an XA COMMIT or XA ROLLBACK, as servers write it to the binlog.
pub(super) fn xid_in(query: &[u8]) -> Option<String> {
    let start = query.windows(2).position(|pair| pair.eq_ignore_ascii_case(b"X'"))?;
    let text = std::str::from_utf8(query.get(start..)?).ok()?.to_ascii_uppercase();
    let text = text.trim_ascii_end().trim_end_matches("ONE PHASE").replace(' ', "");
    (text.len() <= LONGEST_XID).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_same_in_both_phases() {
        let mut data = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
        data.extend(b"aBc");
        assert_eq!(xid(&data).as_deref(), Some("X'61',X'4263',1"));
        assert_eq!(xid_in(b"XA COMMIT X'61',X'4263',1"), xid(&data));
        assert_eq!(xid_in(b"xa rollback x'61', x'4263', 1 "), xid(&data));
        for len in 0..data.len() {
            assert_eq!(xid(&data[..len]), None);
        }
        assert_eq!(xid_in(b"XA COMMIT 'a'"), None);
        assert_eq!(xid_in(b"XA COMMIT X'\xff"), None);
    }
}
