//! What the binlog tells of a committed transaction.

use std::fmt;

use super::{gtid::Gtid, statement::TableChange};
use crate::{id::Key, row::EncodedRow};

/// A transaction that committed, whether or not it touched the table.
#[derive(Debug, Default)]
pub struct Commit {
    /// Its GTID, if it has one.
    pub gtid: Option<Gtid>,
    /// When it committed, in Unix milliseconds, as exactly as the server says: MySQL 8 to the
    /// microsecond, the others to the second.
    pub committed_ms: u64,
    /// The rows it inserted into the table, in order.
    pub rows: Vec<EncodedRow>,
    /// Whether it deleted rows of the table by row events: those that a REPLACE puts others in the place of, for
    /// instance.
    pub deleted: bool,
    /// Whether it may have deleted rows of the table, by row events or by a statement that names it.
    pub may_delete: bool,
    /// Why the table must be read by key, too.
    pub reread: Option<Reread>,
    /// Keys that AUTO_INCREMENT gave to statements that are for the table; at least one of them is the
    /// transaction's own.
    pub insert_ids: Vec<Key>,
    /// Whether a row was inserted under each of `insert_ids`, and not deleted by the transaction itself, as far as the
    /// binlog says. A trigger that writes to another table may have been given one of them.
    pub are_ids_certain: bool,
    /// Whether it may have inserted rows beside those of `rows` and `insert_ids`.
    pub may_have_more: bool,
    /// Whether statements that are for the table, and whose keys are not known, wrote rows.
    pub expected: Expected,
    /// What it did to the table itself.
    pub change: Option<TableChange>,
    /// Which phase of an XA transaction it is.
    pub xa: Option<Xa>,
}

/// What statements wrote of which no key is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    /// Nothing to the table, as far as their text says.
    #[default]
    Nothing,
    /// Perhaps rows.
    Perhaps,
    /// At least one row.
    Rows,
}

/// A phase of an XA transaction; its id is as the binlog has it in text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Xa {
    /// Its rows are in the binlog, and not to be seen yet.
    Prepared {
        /// Its id.
        xid: String,
        /// Keys that it inserted, as runs, as far as they are known.
        keys: Vec<(Key, Key)>,
        /// As [`Commit::are_ids_certain`].
        are_keys_certain: bool,
        /// Whether it may have written to the table.
        ours: bool,
        /// Whether it is certain to have inserted rows whose keys are not known.
        certain: bool,
    },
    /// Its rows are to be seen; `None`: of one whose id is in a form that no server is known to write.
    Committed(Option<String>),
    /// There will be none.
    RolledBack(String),
}

/// Why the binlog does not say which rows were inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reread {
    /// A statement that names the table.
    Statement,
    /// A statement that does not name it, but may write to it through a trigger, a procedure or a view.
    OtherStatement,
    /// An XA transaction's second phase: the rows were written earlier.
    XaCommit,
    /// The row image has another layout than the table.
    Layout,
    /// The table was altered later, and nobody knows what it was like when the row image was written.
    Altered,
    /// The row image is partial or malformed.
    Image,
    /// An event type that is not known inside a transaction.
    UnknownEvent,
    /// The transaction rolled back what it can't undo in a table without transactions.
    Rollback,
    /// The transaction's end did not come: its content was lost on the way.
    Vanished,
    /// More than is kept in memory.
    TooLarge,
    /// The server says that it lost events.
    Incident,
}

impl Reread {
    /// For people.
    pub fn reason(self) -> &'static str {
        match self {
            Reread::Statement => "a statement was logged as text",
            Reread::OtherStatement => "a statement on another table was logged as text",
            Reread::XaCommit => "an XA transaction committed",
            Reread::Layout => "a row image has another layout than the table",
            Reread::Altered => "the table was altered after a row image was written",
            Reread::Image => "a row image is partial or malformed",
            Reread::UnknownEvent => "an unknown event stood in a transaction",
            Reread::Rollback => "a transaction was rolled back in part",
            Reread::Vanished => "a transaction's content was lost on the way",
            Reread::TooLarge => "a transaction is larger than is kept in memory",
            Reread::Incident => "the server says that its binlog lost events",
        }
    }

    /// Whether rows are certain to have been written, so that a look at the table that finds none came
    /// too early.
    pub fn names_table(self) -> bool {
        self != Reread::OtherStatement
    }
}

/// The event contradicts the stream before it, or itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0} event")]
pub struct Malformed(pub(super) &'static str);

/// What a table must be called to be the followed one.
#[derive(Debug, Clone)]
pub struct TableName {
    /// Database, as the server stores it.
    pub database: String,
    /// Table, as the server stores it.
    pub table: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}
