//! The faults.

mod doorcast;
mod foreign;
mod inject;
mod keys;
mod latecomers;
mod link;
mod rights;
mod server;
mod settings;
mod table;

use ::doorcast::demo::binary::{Flavour, ServerBinary};
use clap::ValueEnum;

use crate::verdict::Promise;

/// What goes wrong in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// doorcast is killed with SIGKILL, and started again.
    DoorcastKill,
    /// doorcast is stopped with SIGTERM, and started again.
    DoorcastStop,
    /// doorcast stands still for a while, by SIGSTOP.
    DoorcastFreeze,
    /// The same for longer than the server waits with what it has to send.
    DoorcastStuck,
    /// doorcast is killed, its checkpoint torn off somewhere, and the one before put in its place.
    TornCheckpoint,
    /// The server is stopped in good order, and started again.
    ServerRestart,
    /// The server is killed with SIGKILL, and started again.
    ServerKill,
    /// The server stands still for a while, by SIGSTOP.
    ServerFreeze,
    /// An administrator kills the connection that sends the binlog.
    DumpKill,
    /// The server begins new binlog files.
    Rotate,
    /// While doorcast is down, the binlog files that it has not read are purged.
    Purge,
    /// While doorcast is down, the binlog is reset.
    Reset,
    /// doorcast is killed, and before it comes back its binlog files are purged.
    KillPurge,
    /// The connections to the server carry no more bytes, and nobody is told.
    HalfOpen,
    /// The same while statements are logged, so that it happens in the middle of reading the table.
    HalfOpenStatement,
    /// No packet comes through for a while, of new connections either, and nobody is told.
    Dropped,
    /// The connections to the server are cut.
    LinkCut,
    /// The connections to the server are slow for a while.
    SlowLink,
    /// Half of the clients are cut off in the middle of a response.
    ClientCut,
    /// Two of the four sessions have statements logged for a while.
    Statement,
    /// The same with MIXED.
    Mixed,
    /// doorcast is killed while statements are logged.
    StatementKill,
    /// The disk is full, then doorcast is killed.
    DiskFull,
    /// The checkpoint's folder is not there for a while.
    NoFolder,
    /// Clients that never read, and clients that send garbage.
    Hostile,
    /// doorcast has no descriptor left for a while.
    Descriptors,
    /// Another replica comes with doorcast's server_id.
    Twin,
    /// Two of the four sessions log rows with some of their columns.
    RowImage,
    /// The server compresses what it logs.
    Compressed,
    /// SELECT, or REPLICATION SLAVE, is revoked and given back; what is connected meanwhile is killed.
    Grant,
    /// The password is changed and changed back, and what is connected is killed.
    Password,
    /// XA transactions are prepared, then doorcast or the server restarts, then they are committed or rolled
    /// back.
    Xa,
    /// The table gets a column, which changes, and goes again.
    Alter,
    /// The table gets text that is not ASCII, and another character set, and another.
    Convert,
    /// The key's column gets another type, and the one before again.
    KeyType,
    /// Tables are logged with more or less about their columns.
    Metadata,
    /// The server's sql_mode and binlog_format are others for a while, and doorcast connects anew.
    Modes,
    /// Two of the four sessions have the time of an hour ago, then of an hour ahead.
    Clock,
    /// The table is renamed away and made anew in one statement.
    Archive,
    /// The table is renamed away, and made anew a moment later.
    Recreate,
    /// TRUNCATE.
    Truncate,
    /// DROP TABLE, and CREATE TABLE.
    Drop,
    /// A transaction with 20,000 rows.
    LargeTransaction,
    /// Other tables change, with values that decoders stumble over, and events of over 16 MB.
    OtherTables,
    /// Clients that are far behind ask for rows of a table that was replaced, which doorcast could not see.
    FarBehind,
    /// Rows that are not logged at all.
    Unlogged,
    /// The server is killed, and the tail of its binlog was not yet on disk.
    PowerLoss,
    /// Another server with the same data stands at the address.
    OtherServer,
    /// Any of the above, by chance.
    Any,
    /// Any of the above that leaves doorcast running, by chance.
    Lasting,
}

/// The way by which rows come to doorcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// In the order of their commits.
    Binlog,
    /// Perhaps by the table, and then in key order.
    Table,
    /// The same, and doorcast looks at the table for a while after the fault, too.
    Looks,
}

impl Fault {
    /// All that are something of their own.
    pub(crate) fn each() -> Vec<Fault> {
        let by_chance = [Fault::Any, Fault::Lasting];
        Fault::value_variants().iter().copied().filter(|fault| !by_chance.contains(fault)).collect()
    }

    fn leaves_doorcast_running(self) -> bool {
        !matches!(
            self,
            Fault::DoorcastKill
                | Fault::DoorcastStop
                | Fault::TornCheckpoint
                | Fault::Purge
                | Fault::Reset
                | Fault::KillPurge
                | Fault::StatementKill
                | Fault::DiskFull
                | Fault::Xa
        )
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::DoorcastKill => "doorcast killed",
            Fault::DoorcastStop => "doorcast restarted",
            Fault::DoorcastFreeze => "doorcast frozen",
            Fault::DoorcastStuck => "doorcast frozen for long",
            Fault::TornCheckpoint => "doorcast killed, checkpoint torn",
            Fault::ServerRestart => "server restarted",
            Fault::ServerKill => "server killed",
            Fault::ServerFreeze => "server frozen",
            Fault::DumpKill => "binlog connection killed",
            Fault::Rotate => "binlog rotated",
            Fault::Purge => "binlog purged",
            Fault::Reset => "binlog reset",
            Fault::KillPurge => "doorcast killed, binlog purged",
            Fault::HalfOpen => "link half open",
            Fault::HalfOpenStatement => "link half open, statements",
            Fault::Dropped => "link drops packets",
            Fault::LinkCut => "link cut",
            Fault::SlowLink => "link slow",
            Fault::ClientCut => "clients cut",
            Fault::Statement => "STATEMENT sessions",
            Fault::Mixed => "MIXED sessions",
            Fault::StatementKill => "STATEMENT sessions, doorcast killed",
            Fault::DiskFull => "disk full, doorcast killed",
            Fault::NoFolder => "checkpoint folder gone",
            Fault::Hostile => "hostile clients",
            Fault::Descriptors => "descriptors used up",
            Fault::Twin => "second replica, same server_id",
            Fault::RowImage => "partial row images",
            Fault::Compressed => "compressed binlog",
            Fault::Grant => "grant revoked",
            Fault::Password => "password changed",
            Fault::Xa => "XA across restarts",
            Fault::Alter => "columns altered",
            Fault::Convert => "character set converted",
            Fault::KeyType => "key's type changed",
            Fault::Metadata => "row metadata switched",
            Fault::Modes => "sql_mode, binlog_format switched",
            Fault::Clock => "clock set back and forth",
            Fault::Archive => "archived by RENAME",
            Fault::Recreate => "RENAME, then CREATE",
            Fault::Truncate => "TRUNCATE",
            Fault::Drop => "DROP and CREATE",
            Fault::LargeTransaction => "20,000 rows at once",
            Fault::OtherTables => "other tables' odd values",
            Fault::FarBehind => "clients far behind, table replaced",
            Fault::Unlogged => "rows not logged",
            Fault::PowerLoss => "server loses power",
            Fault::OtherServer => "another server",
            Fault::Any => "any of these",
            Fault::Lasting => "any but on doorcast itself",
        }
    }

    /// Whether such a thing can happen on a server.
    pub(crate) fn applies_to(self, server: &ServerBinary) -> bool {
        match self {
            Fault::Compressed => server.flavour() == Flavour::MariaDb || server.version() >= (8, 0, 20),
            Fault::Metadata => server.flavour() == Flavour::MariaDb || server.version() >= (8, 0, 1),
            _ => true,
        }
    }

    /// Itself, or one by chance for [`Fault::Any`] and [`Fault::Lasting`]: of `among`, if there are any.
    pub(crate) fn or_by_chance(
        self,
        server: &ServerBinary,
        among: &[Fault],
        random: &mut fastrand::Rng,
    ) -> Fault {
        let mut each = Fault::each();
        each.retain(|fault| fault.applies_to(server) && (among.is_empty() || among.contains(fault)));
        match self {
            Fault::Any => {}
            Fault::Lasting => each.retain(|fault| fault.leaves_doorcast_running()),
            fault => return fault,
        }
        random.choice(each).unwrap_or(self)
    }

    /// Which way rows may come.
    pub(crate) fn way(self) -> By {
        match self {
            Fault::HalfOpenStatement
            | Fault::Statement
            | Fault::Mixed
            | Fault::StatementKill
            | Fault::RowImage
            | Fault::Compressed
            | Fault::Xa
            | Fault::Alter
            | Fault::Convert
            | Fault::KeyType
            | Fault::OtherTables
            | Fault::Modes => By::Looks,
            Fault::Purge
            | Fault::Reset
            | Fault::KillPurge
            | Fault::Unlogged
            | Fault::PowerLoss
            | Fault::OtherServer => By::Table,
            _ => By::Binlog,
        }
    }

    /// What must hold all the same.
    pub(crate) fn leaves(self) -> Promise {
        match self {
            // Nobody knows what was told in the last second before the kill.
            Fault::KillPurge | Fault::Any => Promise::UnlessTold,
            Fault::Archive
            | Fault::Recreate
            | Fault::Truncate
            | Fault::Drop
            | Fault::FarBehind
            | Fault::Lasting => Promise::NewEpochs,
            _ => Promise::All,
        }
    }
}
