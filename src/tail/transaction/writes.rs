//! Statements that were logged as text: what is known of the rows they wrote without reading their values.

use mysql_async::binlog::events::Event;

use super::{Assembler, Open, Reread};
use crate::{
    id::Key,
    tail::{
        commit::{Expected, Malformed},
        event::load_parts,
        statement::Names,
        target::{Target, target, target_of_load},
    },
};

impl Assembler {
    /// A statement that is none of the transaction's own and no definition.
    pub(super) fn write(&mut self, query: &[u8], schema: &[u8], names_table: bool) {
        self.reread(if names_table { Reread::Statement } else { Reread::OtherStatement });
        let insert_id = self.insert_id.take();
        if !names_table {
            return;
        }
        let target = target(query, self.names(schema));
        match insert_id.filter(|_| target != Target::Other && self.layout.key_counts_up()) {
            Some(key) => {
                let open = self.open.get_or_insert_default();
                open.insert_ids.push(Key::from(key));
                open.are_ids_doubtful |= target != Target::Certain;
            }
            None => self.expect(target),
        }
    }

    /// LOAD DATA, with all of its file behind it.
    pub(super) fn load(&mut self, event: &Event) -> Result<(), Malformed> {
        self.insert_id = None;
        let (schema, behind_the_file) = load_parts(event.data()).ok_or(Malformed("EXECUTE_LOAD_QUERY"))?;
        let target = target_of_load(behind_the_file, self.names(schema));
        self.reread(Reread::Statement);
        self.expect(target);
        Ok(())
    }

    /// Part of the transaction was undone: whatever it was certain to have written may be gone.
    pub(super) fn expect_less(&mut self) {
        if let Some(open) = &mut self.open {
            open.expect_less();
        }
    }

    fn expect(&mut self, target: Target) {
        let open = self.open.get_or_insert_default();
        match target {
            Target::Certain => open.expected = Expected::Rows,
            Target::Perhaps => open.expected = open.expected.max(Expected::Perhaps),
            // It may delete what was inserted before it.
            Target::Other => open.expect_less(),
        }
    }

    fn names<'a>(&'a self, schema: &'a [u8]) -> Names<'a> {
        Names { database: &self.database, table: &self.table, schema }
    }
}

impl Open {
    /// What it was certain to have written may be gone.
    pub(super) fn expect_less(&mut self) {
        self.expected = self.expected.min(Expected::Perhaps);
        self.are_ids_doubtful = true;
    }
}
