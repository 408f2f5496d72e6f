//! Events put together to committed transactions.
//!
//! A state machine over binlog events, without I/O. Only a commit moves the position; the rows of one
//! transaction come out together, at its commit. What can't be decoded with certainty inside a
//! transaction that may touch the table comes out as a [`Reread`]: the table is to be read by key.

mod writes;
mod xa;

use std::{collections::HashMap, sync::Arc};

use mysql_async::binlog::events::{Event, EventData, GtidEvent, TableMapEvent};
use tracing::debug;

use self::writes::Written;
use super::{
    commit::{Commit, Expected, Malformed, Reread, TableName, Xa},
    compressed::{inflated, unpacked},
    event::{self, *},
    gtid::Gtid,
    position::FileOffset,
    statement::{Names, Statement, TableChange, classify},
};
use crate::{
    id::Key,
    row::{EncodedRow, Image, Layout, RowImages},
};

/// Rows of one transaction that are kept in memory, in bytes that they take there. Beyond it the table is read
/// by key at the commit instead: a transaction of any size needs no more memory than this.
const LARGEST_TRANSACTION_BYTES: usize = 256 << 20;

/// What an event led to.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing to tell yet.
    Open,
    /// No transaction is open, and the binlog has been read up to the position.
    Idle,
    /// A transaction committed.
    Commit(Commit),
}

/// A table id of the binlog: one id stands for one layout in one file.
#[derive(Debug)]
enum Role {
    Other,
    /// The followed table; no row of it seen yet.
    Followed,
    /// The followed table, with a layout that is the schema's.
    Decoded(Box<Image>),
    /// The followed table, with another layout, or one that is not certain.
    Undecodable,
}

/// The transaction being read.
#[derive(Debug, Default)]
struct Open {
    rows: Vec<EncodedRow>,
    bytes: usize,
    deleted: bool,
    /// Statements may have deleted rows.
    may_delete: bool,
    reread: Option<Reread>,
    change: Option<TableChange>,
    insert_ids: Vec<Key>,
    /// Nothing need have been inserted under one of them, or it may have been deleted again.
    are_ids_doubtful: bool,
    /// There may be rows beside those of `insert_ids`.
    may_have_more: bool,
    expected: Expected,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Assembler {
    database: String,
    table: String,
    layout: Arc<Layout>,
    /// Where the first row image stands that is certain to have it.
    layout_from: FileOffset,
    at: FileOffset,
    /// When the file began, in Unix seconds, once its first event has been read.
    began: Option<u32>,
    /// The last event of the file has been read, STOP or ROTATE. A server that went down in good order wrote one.
    ended: bool,
    /// A file ended without, and nobody has asked since.
    cut_off: bool,
    tables: HashMap<u64, Role>,
    gtid: Option<Gtid>,
    gtid_committed_ms: Option<u64>,
    /// A GTID event came, and not yet the end of its group.
    group_begun: bool,
    open: Option<Open>,
    /// What AUTO_INCREMENT gave to the statement that comes next.
    insert_id: Option<u64>,
    /// Where the compressed transaction ends that the events come from: they have no position.
    payload_end: Option<u32>,
    /// See [`LARGEST_TRANSACTION_BYTES`].
    largest_bytes: usize,
}

impl Assembler {
    /// Starts between two transactions, at `at`.
    pub(super) fn new(name: TableName, layout: Arc<Layout>, at: FileOffset) -> Self {
        Assembler {
            database: name.database,
            table: name.table,
            layout,
            layout_from: FileOffset::unknown(),
            at,
            began: None,
            ended: false,
            cut_off: false,
            tables: HashMap::new(),
            gtid: None,
            gtid_committed_ms: None,
            group_begun: false,
            open: None,
            insert_id: None,
            payload_end: None,
            largest_bytes: LARGEST_TRANSACTION_BYTES,
        }
    }

    /// The end of what has been told: of the last commit, or of idle events behind it.
    pub(super) fn at(&self) -> &FileOffset {
        &self.at
    }

    /// When the file of [`Assembler::at`] began, in Unix seconds.
    pub(super) fn began(&self) -> Option<u32> {
        self.began
    }

    /// Whether a file has ended, since this was last asked, without the event that says so: then the server crashed,
    /// and more may have stood there.
    pub(super) fn take_cut_off(&mut self) -> bool {
        std::mem::take(&mut self.cut_off)
    }

    /// Decodes by another layout, which row images are certain to have from `from` on. Those before it are not decoded.
    pub(super) fn set_layout(&mut self, layout: Arc<Layout>, from: FileOffset) {
        self.layout = layout;
        self.layout_from = from;
        self.tables.clear();
    }

    /// Takes the next event. `table_map` finds the TABLE_MAP event of a table id.
    ///
    /// # Errors
    /// [`Malformed`]: the stream can't be trusted any further; read on from the last commit.
    pub(super) fn accept<'a>(
        &mut self,
        event: &Event,
        table_map: impl Fn(u64) -> Option<&'a TableMapEvent<'static>>,
    ) -> Result<Step, Malformed> {
        let header = event.header();
        let data = event.data();
        // For instance behind the end of a compressed transaction that claims to be longer than it is: all
        // zeros, as many as it claims.
        if header.event_size() < HEADER_BYTES {
            return Err(Malformed("event header of an"));
        }
        match event.header().event_type_raw() {
            TABLE_MAP => self.table_map(data)?,
            WRITE_ROWS_V1 | WRITE_ROWS => self.write_rows(event, table_map)?,
            UPDATE_ROWS_V1
            | UPDATE_ROWS
            | PARTIAL_UPDATE_ROWS
            | MARIADB_UPDATE_ROWS_COMPRESSED_V1
            | MARIADB_UPDATE_ROWS_COMPRESSED => {}
            DELETE_ROWS_V1
            | DELETE_ROWS
            | MARIADB_DELETE_ROWS_COMPRESSED_V1
            | MARIADB_DELETE_ROWS_COMPRESSED => {
                if self.is_followed(table_id(event.data())?) {
                    self.open.get_or_insert_default().deleted = true;
                }
            }
            MARIADB_WRITE_ROWS_COMPRESSED_V1 | MARIADB_WRITE_ROWS_COMPRESSED => {
                if self.is_followed(table_id(data)?) {
                    match unpacked(event) {
                        Some(event) => self.write_rows(&event, table_map)?,
                        None => self.read_wholly_by_table(Reread::Image),
                    }
                }
            }
            XID => return Ok(self.commit(event)),
            GTID | ANONYMOUS_GTID | GTID_TAGGED => return self.mysql_gtid(event),
            MARIADB_GTID => return self.mariadb_gtid(event),
            QUERY => return self.query(event),
            MARIADB_QUERY_COMPRESSED => return self.compressed_query(event),
            BEGIN_LOAD_QUERY => self.reread(Reread::Statement),
            EXECUTE_LOAD_QUERY => self.load(event)?,
            XA_PREPARE => return Ok(self.xa_prepare(event)),
            TRANSACTION_PAYLOAD => {
                self.open.get_or_insert_default();
                self.payload_end = Some(header.log_pos());
            }
            ROTATE => return self.rotate(event),
            FORMAT_DESCRIPTION => {
                // A server that went down in the middle of a transaction begins a new file with this; the
                // unfinished one was rolled back at its start.
                self.tables.clear();
                self.forget_open();
                self.began = Some(header.timestamp());
                return Ok(self.idle(event));
            }
            INCIDENT => {
                self.reread(Reread::Incident);
                return Ok(self.commit(event));
            }
            HEARTBEAT => {
                let same_file = self.open.is_none() && data.starts_with(self.at.file.as_bytes());
                return Ok(if same_file { self.idle(event) } else { Step::Open });
            }
            // The position stays before it, so that whoever goes on from there meets it again.
            STOP => {
                self.ended = true;
                return Ok(Step::Idle);
            }
            PREVIOUS_GTIDS | MARIADB_GTID_LIST | MARIADB_BINLOG_CHECKPOINT | MARIADB_START_ENCRYPTION => {
                return Ok(self.idle(event));
            }
            INTVAR => self.insert_id = event::insert_id(data),
            RAND
            | USER_VAR
            | ROWS_QUERY
            | MARIADB_ANNOTATE_ROWS
            | TRANSACTION_CONTEXT
            | VIEW_CHANGE
            | IGNORABLE => {}
            _ if header.flags_raw() & FLAG_IGNORABLE != 0 => {}
            _ => self.read_more_by_table(Reread::UnknownEvent),
        }
        Ok(Step::Open)
    }

    /// Remembers which table an id stands for, until the next file.
    fn table_map(&mut self, data: &[u8]) -> Result<(), Malformed> {
        let id = table_id(data)?;
        if self.tables.contains_key(&id) {
            return Ok(());
        }
        let malformed = Malformed("TABLE_MAP");
        // Post-header: 6 bytes table id, 2 bytes flags. Then the two names, each behind its length and
        // before a zero.
        let rest = data.get(8..).ok_or(malformed)?;
        let (database, rest) = short_name(rest).ok_or(malformed)?;
        let (table, _) = short_name(rest).ok_or(malformed)?;
        if database != self.database.as_bytes() || table != self.table.as_bytes() {
            self.tables.insert(id, Role::Other);
        } else {
            self.tables.insert(id, Role::Followed);
        }
        Ok(())
    }

    fn is_followed(&self, id: u64) -> bool {
        !matches!(self.tables.get(&id), None | Some(Role::Other))
    }

    fn write_rows<'a>(
        &mut self,
        event: &Event,
        table_map: impl Fn(u64) -> Option<&'a TableMapEvent<'static>>,
    ) -> Result<(), Malformed> {
        let id = table_id(event.data())?;
        let Some(role) = self.tables.get_mut(&id) else { return Ok(()) };
        if matches!(role, Role::Followed) && !self.at.reaches(&self.layout_from) {
            self.read_by_table(Reread::Altered, event, table_map(id));
            return Ok(());
        }
        if matches!(role, Role::Followed) {
            *role = match table_map(id).map(|table_map| self.layout.image(table_map)) {
                Some(Ok(image)) => Role::Decoded(Box::new(image)),
                Some(Err(err)) => {
                    debug!(error = %err, "row images can't be decoded with the table's layout");
                    Role::Undecodable
                }
                None => Role::Undecodable,
            };
        }
        let image = match role {
            Role::Decoded(image) => image,
            Role::Other | Role::Followed => return Ok(()),
            Role::Undecodable => {
                self.read_by_table(Reread::Layout, event, table_map(id));
                return Ok(());
            }
        };
        let open = self.open.get_or_insert_default();
        if open.bytes > self.largest_bytes {
            return Ok(());
        }
        let rows_before = open.rows.len();
        let decoded = match event.read_data() {
            Ok(Some(EventData::RowsEvent(rows))) => {
                RowImages::of(&rows).map(|images| image.encode(images, &mut open.rows))
            }
            _ => None,
        };
        match decoded {
            Some(Ok(())) => {
                let added = open.rows.get(rows_before..).unwrap_or_default();
                open.bytes += added.iter().map(EncodedRow::memory_bytes).sum::<usize>();
                if open.bytes > self.largest_bytes {
                    open.rows = Vec::new();
                    self.read_wholly_by_table(Reread::TooLarge);
                }
            }
            Some(Err(err)) => {
                debug!(error = %err, "row image not decoded, the table is read instead");
                self.read_by_table(Reread::Image, event, table_map(id));
            }
            None => self.read_wholly_by_table(Reread::Image),
        }
        Ok(())
    }

    /// No key is known of the rows of an event.
    fn read_wholly_by_table(&mut self, why: Reread) {
        self.read_more_by_table(why);
        self.open.get_or_insert_default().expected = Expected::Rows;
    }

    /// There may be rows beside those whose keys are known.
    fn read_more_by_table(&mut self, why: Reread) {
        self.reread(why);
        self.open.get_or_insert_default().may_have_more = true;
    }

    /// The rows of an event can't be decoded: only the key of the first one is known, if any.
    fn read_by_table(&mut self, why: Reread, event: &Event, table_map: Option<&TableMapEvent<'_>>) {
        let key = match event.read_data() {
            Ok(Some(EventData::RowsEvent(rows))) => RowImages::of(&rows)
                .zip(table_map)
                .and_then(|(images, table_map)| self.layout.first_key(table_map, images)),
            _ => None,
        };
        self.reread(why);
        let open = self.open.get_or_insert_default();
        open.insert_ids.extend(key);
        // There may be others behind the first, but hardly ever are.
        open.may_have_more |= key.is_none();
        open.expected = open.expected.max(if key.is_some() { Expected::Perhaps } else { Expected::Rows });
    }

    fn query(&mut self, event: &Event) -> Result<Step, Malformed> {
        let (schema, query) = query_parts(event.data()).ok_or(Malformed("QUERY"))?;
        Ok(self.statement(event, schema, query))
    }

    fn statement(&mut self, event: &Event, schema: &[u8], query: &[u8]) -> Step {
        let names = Names { database: &self.database, table: &self.table, schema };
        let lone = self.open.is_none();
        let insert_id = self.insert_id.take();
        match classify(query, names) {
            Statement::Begin => {
                let vanished =
                    self.open.as_ref().is_some_and(|open| !open.is_empty() && self.payload_end.is_none());
                let step = if vanished { self.vanished(event) } else { Step::Open };
                self.open.get_or_insert_default();
                return step;
            }
            Statement::Commit => return self.commit(event),
            Statement::Rollback => {
                // Logged only when a table without transactions was written to: those rows stay, and the others never
                // were.
                let wrote = self.open.as_ref().is_some_and(|open| !open.is_empty());
                if wrote {
                    self.drop_rows();
                    self.reread(Reread::Rollback);
                }
                return self.commit(event);
            }
            Statement::RollbackTo => {
                self.expect_less();
                if self.open.as_ref().is_some_and(|open| !open.rows.is_empty()) {
                    self.drop_rows();
                    self.reread(Reread::Rollback);
                }
            }
            Statement::Nothing => {}
            Statement::XaCommit => {
                self.reread(Reread::XaCommit);
                if lone {
                    return self.commit_with(event, Some(Xa::Committed(xa::xid_in(query))));
                }
            }
            Statement::XaEnd => {
                self.drop_rows();
                return self.commit_with(event, xa::xid_in(query).map(Xa::RolledBack));
            }
            Statement::Definition(change) => {
                self.open.get_or_insert_default().change = Some(change);
            }
            Statement::Write { names_table } => {
                let has_failed = has_failed(event.data());
                self.write(query, schema, Written { names_table, insert_id, has_failed });
            }
        }
        if lone { self.commit(event) } else { Step::Open }
    }

    /// MariaDB's compressed QUERY. One that can't be read may have done anything.
    fn compressed_query(&mut self, event: &Event) -> Result<Step, Malformed> {
        let (schema, packed) = query_parts(event.data()).ok_or(Malformed("QUERY"))?;
        if let Some(query) = inflated(packed) {
            return Ok(self.statement(event, schema, &query));
        }
        let lone = self.open.is_none();
        self.read_more_by_table(Reread::Image);
        if !lone {
            return Ok(Step::Open);
        }
        self.open.get_or_insert_default().change = Some(TableChange::Swapped);
        Ok(self.commit(event))
    }

    fn mysql_gtid(&mut self, event: &Event) -> Result<Step, Malformed> {
        let parsed: GtidEvent = event.read_event().map_err(|_| Malformed("GTID"))?;
        let gtid = (event.header().event_type_raw() != ANONYMOUS_GTID).then(|| Gtid::MySql {
            sid: parsed.sid(),
            tag: parsed.tag().map(ToString::to_string).unwrap_or_default(),
            gno: parsed.gno(),
        });
        let committed_us = parsed.immediate_commit_timestamp();
        let step = self.begin_group(event, gtid);
        self.gtid_committed_ms = (committed_us != 0).then_some(committed_us / 1000);
        Ok(step)
    }

    fn mariadb_gtid(&mut self, event: &Event) -> Result<Step, Malformed> {
        let server = event.header().server_id();
        let (gtid, stands_alone) = mariadb_gtid(event.data(), server).ok_or(Malformed("MariaDB GTID"))?;
        let step = self.begin_group(event, Some(gtid));
        if !stands_alone {
            self.open = Some(Open::default());
        }
        Ok(step)
    }

    /// A new group begins. If the one before has not ended, its content is lost.
    fn begin_group(&mut self, event: &Event, gtid: Option<Gtid>) -> Step {
        let vanished = self.open.is_some() || self.group_begun;
        let step = if vanished { self.vanished(event) } else { Step::Open };
        self.gtid = gtid;
        self.gtid_committed_ms = None;
        self.group_begun = true;
        step
    }

    /// Ends a transaction whose end did not come, right before `event`.
    fn vanished(&mut self, event: &Event) -> Step {
        self.reread(Reread::Vanished);
        self.close(event.header().timestamp(), self.at.offset)
    }

    /// Whether a compressed transaction has begun and not ended.
    pub(super) fn is_in_payload(&self) -> bool {
        self.payload_end.is_some()
    }

    /// Ends a compressed transaction of which nothing more comes: it could not be unpacked.
    pub(super) fn give_up_payload(&mut self) -> Step {
        self.reread(Reread::Vanished);
        let end = next_offset(self.at.offset, self.payload_end.unwrap_or_default());
        // Servers that compress say in the GTID event when it committed.
        self.close(0, end)
    }

    fn rotate(&mut self, event: &Event) -> Result<Step, Malformed> {
        let (file, offset) = event::rotate(event).ok_or(Malformed("ROTATE"))?;
        self.tables.clear();
        self.forget_open();
        // One that the server makes up stands before each file, and one in the binlog at the end of a file.
        let is_end = event.header().flags_raw() & FLAG_ARTIFICIAL == 0 && event.header().timestamp() != 0;
        if self.at.file != file {
            self.cut_off |= !is_end && !self.ended && self.at.is_known();
            self.began = None;
        }
        self.ended = is_end;
        self.at = FileOffset { file, offset };
        Ok(Step::Idle)
    }

    fn commit(&mut self, event: &Event) -> Step {
        let log_pos = self.payload_end.unwrap_or(event.header().log_pos());
        let end = next_offset(self.at.offset, log_pos);
        self.close(event.header().timestamp(), end)
    }

    fn close(&mut self, timestamp: u32, end: u64) -> Step {
        let mut open = self.open.take().unwrap_or_default();
        if open.deleted {
            open.doubt();
        }
        let committed_ms = self.gtid_committed_ms.take().unwrap_or(u64::from(timestamp) * 1000);
        self.payload_end = None;
        self.group_begun = false;
        self.at.offset = end;
        Step::Commit(Commit {
            gtid: self.gtid.take(),
            committed_ms,
            may_delete: open.may_delete || open.deleted,
            rows: open.rows,
            deleted: open.deleted,
            reread: open.reread,
            insert_ids: open.insert_ids,
            are_ids_certain: !open.are_ids_doubtful,
            may_have_more: open.may_have_more,
            expected: open.expected,
            change: open.change,
            xa: None,
        })
    }

    /// Moves the position behind an event that belongs to no transaction.
    fn idle(&mut self, event: &Event) -> Step {
        if self.open.is_some() || self.group_begun {
            return Step::Open;
        }
        if event.header().flags_raw() & FLAG_ARTIFICIAL == 0 {
            self.at.offset = next_offset(self.at.offset, event.header().log_pos());
        }
        Step::Idle
    }

    fn reread(&mut self, why: Reread) {
        let reread = &mut self.open.get_or_insert_default().reread;
        // A reason that is certain to have rows goes before one that is not.
        if reread.is_none_or(|before| !before.names_table()) {
            *reread = Some(why);
        }
    }

    fn drop_rows(&mut self) {
        if let Some(open) = &mut self.open {
            *open = Open::default();
        }
    }

    fn forget_open(&mut self) {
        self.open = None;
        self.gtid = None;
        self.gtid_committed_ms = None;
        self.group_begun = false;
        self.insert_id = None;
        self.payload_end = None;
    }
}

impl Open {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.reread.is_none() && self.change.is_none()
    }
}

#[cfg(test)]
mod tests;
