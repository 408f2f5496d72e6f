//! Statements that were logged as text: what is known of the rows they wrote without reading their values.

use mysql_async::binlog::events::Event;

use super::{Assembler, Open, Reread};
use crate::{
    id::Key,
    tail::{
        commit::{Expected, Malformed},
        event::{has_failed, load_parts},
        statement::Names,
        target::{Target, deletes, replaces, target, target_of_load},
    },
};

/// What the binlog says of a statement beside its text.
pub(super) struct Written {
    pub(super) names_table: bool,
    /// The first key that AUTO_INCREMENT gave, to it or to what its triggers wrote.
    pub(super) insert_id: Option<u64>,
    /// It ended in an error, and what it had done by then stays.
    pub(super) has_failed: bool,
}

impl Assembler {
    /// A statement that is none of the transaction's own and no definition.
    pub(super) fn write(&mut self, query: &[u8], schema: &[u8], written: Written) {
        let Written { names_table, insert_id, has_failed } = written;
        self.reread(if names_table { Reread::Statement } else { Reread::OtherStatement });
        if !names_table {
            // By a trigger or a foreign key it may delete what was inserted before it.
            self.expect_less();
            return;
        }
        let (target, is_one_row) = target(query, self.names(schema));
        let target = unless_failed(target, has_failed);
        let open = self.open.get_or_insert_default();
        open.may_delete |= deletes(query);
        match insert_id.filter(|_| target != Target::Other && self.layout.key_counts_up()) {
            Some(key) => {
                // A REPLACE may delete what another one inserted; and another column may have counted up then.
                let is_certain =
                    target == Target::Certain && !replaces(query) && self.at.reaches(&self.layout_from);
                let open = self.open.get_or_insert_default();
                open.insert_ids.push(Key::from(key));
                open.are_ids_doubtful |= !is_certain;
                open.may_have_more |= !is_one_row;
            }
            None => self.expect(target),
        }
    }

    /// LOAD DATA, with all of its file behind it.
    pub(super) fn load(&mut self, event: &Event) -> Result<(), Malformed> {
        self.insert_id = None;
        let has_failed = has_failed(event.data());
        let (schema, behind_the_file) = load_parts(event.data()).ok_or(Malformed("EXECUTE_LOAD_QUERY"))?;
        let target = target_of_load(behind_the_file, self.names(schema));
        self.reread(Reread::Statement);
        self.expect(unless_failed(target, has_failed));
        Ok(())
    }

    /// Whatever the transaction has written so far may be gone: part of it was undone, for instance.
    pub(super) fn expect_less(&mut self) {
        if let Some(open) = &mut self.open {
            open.doubt();
        }
    }

    fn expect(&mut self, target: Target) {
        let open = self.open.get_or_insert_default();
        open.may_have_more |= target != Target::Other;
        match target {
            Target::Certain => open.expected = Expected::Rows,
            Target::Perhaps => open.expected = open.expected.max(Expected::Perhaps),
            // It may delete what was inserted before it.
            Target::Other => open.doubt(),
        }
    }

    fn names<'a>(&'a self, schema: &'a [u8]) -> Names<'a> {
        Names { database: &self.database, table: &self.table, schema }
    }
}

/// What had been done before an error stays, if the table has no transactions.
fn unless_failed(target: Target, has_failed: bool) -> Target {
    match target {
        Target::Certain if has_failed => Target::Perhaps,
        target => target,
    }
}

impl Open {
    /// What it was certain to have written may be gone.
    pub(super) fn doubt(&mut self) {
        self.expected = self.expected.min(Expected::Perhaps);
        self.are_ids_doubtful = true;
    }
}
