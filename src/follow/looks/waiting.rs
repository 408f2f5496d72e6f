//! One transaction that is looked for: what it wrote, what of that has come, and when its looks are due.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    id::Key,
    tail::{
        Expected,
        position::{FileOffset, Position},
    },
};

/// Looks after a transaction that has written to the table, from its arrival on. Close to one another for a tenth of a
/// second: a row that a server shows so late is told no much later.
const AFTER_OURS: [Duration; 8] = [
    Duration::from_millis(1),
    Duration::from_millis(6),
    Duration::from_millis(15),
    Duration::from_millis(35),
    Duration::from_millis(70),
    Duration::from_millis(120),
    Duration::from_millis(300),
    Duration::from_millis(1000),
];

/// The same while a key that a transaction certainly wrote has not come: a server with semi-synchronous replication shows a
/// commit when a replica has it, or after 10 s by default (`rpl_semi_sync_source_timeout`).
const UNTIL_SHOWN: [Duration; 10] = {
    let mut looks = [Duration::ZERO; 10];
    let (ours, later) = looks.split_at_mut(AFTER_OURS.len());
    ours.copy_from_slice(&AFTER_OURS);
    later.copy_from_slice(&[Duration::from_secs(3), Duration::from_secs(12)]);
    looks
};

/// By this one of [`AFTER_OURS`] a server has shown a commit, if it shows anything that came behind it.
const SHOWN: usize = 6;

/// Looks after one that does not name the table, but may have written to it through a trigger, a function
/// or a view. The last is for one that very many rows overtook, and serves all that came before.
const AFTER_OTHERS: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(80), Duration::from_millis(1000)];

/// A transaction whose rows the table must tell.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Its number, see [`super::Looks`].
    pub(super) commit: u64,
    /// Where a restart must begin to meet it again.
    pub(super) before: Position,
    pub(super) arrived: Instant,
    /// Looks made.
    pub(super) looks: usize,
    /// Keys of which at least one is its own, when that is known.
    pub(super) keys: Vec<Key>,
    /// There were rows under all of them.
    pub(super) are_keys_certain: bool,
    /// Each row that it wrote has one of them.
    pub(super) are_all_keys: bool,
    /// It may have rows beside those, of which a look that comes too late sees nothing.
    pub(super) may_have_more: bool,
    /// It may, and rows were deleted before a look that saw them.
    pub(super) may_have_lost: bool,
    /// Rows were deleted before one of its keys came.
    pub(super) is_key_perhaps_deleted: bool,
    /// Whether it names the table.
    pub(super) ours: bool,
    /// What it wrote of which no key is known.
    pub(super) expected: Expected,
    /// Rows were found since it came whose keys nobody had named, perhaps its own.
    pub(super) found: bool,
    /// All of its keys came.
    pub(super) has_come: bool,
    /// One of its keys was told, so the next look sees all of it that is not far below.
    pub(super) seen: bool,
    /// The last look saw all of it that is not far below.
    pub(super) served: bool,
    /// Where the binlog ended behind that look: what deletes rows behind this takes none unseen.
    pub(super) served_before: Option<FileOffset>,
    /// All of it has been told, for what can be known, whatever becomes of the last look.
    pub(super) is_whole: bool,
    /// It may have rows far below those of known keys: a look must leave out nothing that may be news.
    pub(super) wants_all: bool,
    /// Others wait in it whose keys are not known any more: no look is certain to see those.
    pub(super) stands_for_others: bool,
    /// Its text does not say that it is about other things, such as an UPDATE.
    pub(super) certain: bool,
}

impl Waiting {
    pub(super) fn steps(&self) -> &'static [Duration] {
        if !self.ours {
            &AFTER_OTHERS
        } else if self.are_keys_certain && !self.has_come && !self.found {
            &UNTIL_SHOWN
        } else {
            &AFTER_OURS
        }
    }

    /// Whether it can be looked for by its keys.
    pub(super) fn is_by_key(&self) -> bool {
        !self.seen && !self.keys.is_empty()
    }

    /// Whether all of it has been seen. What has other rows beside those of known keys is looked for to the end.
    pub(super) fn is_complete(&self) -> bool {
        self.served && self.expected == Expected::Nothing
    }

    /// Whether all of it has been told with what the last look saw, which `saw_all` that may be news or not.
    pub(super) fn is_whole_with(&self, saw_all: bool) -> bool {
        // What was found is probably its own, and a server that shows anything does not show it so late.
        let is_found = self.found && self.keys.is_empty() && !self.stands_for_others && self.looks > SHOWN;
        let has_rows = self.found || self.expected != Expected::Rows;
        self.has_come && has_rows && (self.served || is_found) && (saw_all || !self.wants_all)
    }

    /// Whether rows of it were perhaps deleted before a look that saw them, as far as it is known to have had any.
    pub(super) fn has_perhaps_lost(&self) -> bool {
        let is_anything_known = self.found || !self.keys.is_empty();
        is_anything_known && self.may_have_lost || self.is_key_perhaps_deleted && !self.has_come
    }

    /// Whether a look at all that may be news would tell that all of it has been told.
    pub(super) fn wants_all_now(&self, now: Instant) -> bool {
        let is_shown = AFTER_OURS.get(SHOWN).is_some_and(|wait| self.arrived + *wait <= now);
        self.ours && self.certain && self.wants_all && !self.is_whole && is_shown
    }

    /// How many of its looks were due at `now`.
    pub(super) fn due(&self, now: Instant) -> usize {
        self.steps().iter().take_while(|wait| self.arrived + **wait <= now).count()
    }

    /// Whether there are no more looks for it.
    pub(super) fn has_had_all(&self) -> bool {
        self.looks >= self.steps().len()
    }

    /// Whether only its last look is left, the one that reaches far.
    pub(super) fn wants_last(&self) -> bool {
        self.looks + 1 >= self.steps().len()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        if self.seen && !self.served {
            return Some(self.arrived);
        }
        self.steps().get(self.looks).map(|wait| self.arrived + *wait)
    }
}
