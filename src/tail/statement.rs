//! What a QUERY event says: enough of SQL to know whether the table may have changed.
//!
//! Values are never read out of a statement: whether rows came of it is for the table to say.

/// A statement, by what it can do to the followed table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statement {
    /// BEGIN or START TRANSACTION, XA START.
    Begin,
    /// COMMIT.
    Commit,
    /// ROLLBACK of the whole transaction.
    Rollback,
    /// ROLLBACK TO a savepoint: rows before it may be undone.
    RollbackTo,
    /// SAVEPOINT, XA END and others that change no row.
    Nothing,
    /// XA COMMIT: rows that were prepared earlier become visible.
    XaCommit,
    /// XA ROLLBACK, or XA PREPARE as old servers write it.
    XaEnd,
    /// Changes the layout or existence of the table.
    Definition(TableChange),
    /// May have written rows. `names_table`: its text has the table's name in it.
    Write {
        /// Whether the table's name stands in the text.
        names_table: bool,
    },
}

/// What a DDL statement may have done to the followed table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableChange {
    /// Columns may have changed; the rows are the same.
    Layout,
    /// The same, and keys of rows that were deleted may be given out again: ALTER TABLE with AUTO_INCREMENT.
    Counter,
    /// The rows are gone, keys start over: TRUNCATE, DROP, CREATE.
    Emptied,
    /// Another table may stand under the name: RENAME, CREATE IF NOT EXISTS. The keys tell.
    Swapped,
}

/// The followed table, and the database that unqualified names of a statement mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    /// The followed table's database.
    pub(super) database: &'a str,
    /// The followed table.
    pub(super) table: &'a str,
    /// The session's default database.
    pub(super) schema: &'a [u8],
}

/// Sorts a statement.
pub(super) fn classify(query: &[u8], names: Names<'_>) -> Statement {
    match query {
        b"BEGIN" => return Statement::Begin,
        b"COMMIT" => return Statement::Commit,
        _ => {}
    }
    let mut words = Words(query);
    let first = words.next().unwrap_or_default();
    let second = words.next().unwrap_or_default();
    match (first.as_str(), second.as_str()) {
        ("BEGIN", _) | ("START", "TRANSACTION") | ("XA", "START" | "BEGIN") => Statement::Begin,
        ("COMMIT", _) => Statement::Commit,
        ("ROLLBACK", "TO") => Statement::RollbackTo,
        ("ROLLBACK", _) => Statement::Rollback,
        ("SAVEPOINT" | "RELEASE", _) | ("XA", "END") => Statement::Nothing,
        ("XA", "COMMIT") => Statement::XaCommit,
        ("XA", _) => Statement::XaEnd,
        ("CREATE" | "ALTER" | "DROP" | "RENAME" | "TRUNCATE", _) => define(&first, query, names),
        ("GRANT" | "REVOKE" | "FLUSH" | "ANALYZE" | "OPTIMIZE" | "REPAIR" | "SET" | "USE", _) => {
            Statement::Nothing
        }
        _ => Statement::Write { names_table: names.found_in(query) },
    }
}

fn define(first: &str, query: &[u8], names: Names<'_>) -> Statement {
    let has = |word: &str| occurrences(query, word).next().is_some();
    if first == "DROP" && (has("DATABASE") || has("SCHEMA")) && has(names.database) {
        return Statement::Definition(TableChange::Emptied);
    }
    if !names.found_in(query) || first == "DROP" && is_temporary(query) {
        return Statement::Nothing;
    }
    let object_is_table = has("TABLE") || has("TABLES") || first == "TRUNCATE";
    if !object_is_table || has("TRIGGER") || has("VIEW") || has("PROCEDURE") {
        return Statement::Definition(TableChange::Layout);
    }
    if first == "CREATE" && !created(query).is_some_and(|table| names.found_in(table)) {
        return Statement::Nothing; // CREATE TABLE other LIKE vdooropen
    }
    Statement::Definition(match first {
        "TRUNCATE" | "DROP" => TableChange::Emptied,
        "CREATE" | "RENAME" => TableChange::Swapped,
        _ if renames_table(query) || has("TRUNCATE") => TableChange::Swapped,
        _ if has("AUTO_INCREMENT") => TableChange::Counter,
        _ => TableChange::Layout,
    })
}

/// Whether a DROP TABLE is of tables of one session alone, which hide others of their names from it.
fn is_temporary(query: &[u8]) -> bool {
    let mut words = Words(query);
    words
        .by_ref()
        .take_while(|word| !matches!(word.as_str(), "TABLE" | "TABLES"))
        .any(|word| word == "TEMPORARY")
}

/// Whether an ALTER TABLE renames the table, and not a column or an index alone.
fn renames_table(query: &[u8]) -> bool {
    const RENAME: &str = "RENAME";
    occurrences(query, RENAME).any(|at| {
        let what = Words(query.get(at + RENAME.len()..).unwrap_or_default()).next();
        !matches!(what.as_deref(), Some("COLUMN" | "INDEX" | "KEY"))
    })
}

/// The name of the table in a CREATE TABLE, as it stands there; all of the query if there is a comment before it.
fn created(query: &[u8]) -> Option<&[u8]> {
    let mut words = Words(query);
    words.by_ref().find(|word| word == "TABLE")?;
    let mut name = words.0.trim_ascii_start();
    if words.next().as_deref() == Some("IF") {
        name = words.by_ref().find(|word| word == "EXISTS").map(|_| words.0)?.trim_ascii_start();
    }
    if name.starts_with(b"/*") || name.starts_with(b"--") || name.starts_with(b"#") {
        return Some(query);
    }
    Some(name_at(name).0)
}

/// The name that `text` begins with, as it stands there, and the rest.
pub(super) fn name_at(text: &[u8]) -> (&[u8], &[u8]) {
    let mut quoted = false;
    let mut dot = false;
    let mut ends = |at: usize, byte: &u8| {
        let rest = || text.get(at..).unwrap_or_default().trim_ascii_start();
        let ends =
            !quoted && (*byte == b'(' || byte.is_ascii_whitespace() && !dot && !rest().starts_with(b"."));
        quoted ^= *byte == b'`';
        dot = *byte == b'.' || dot && byte.is_ascii_whitespace();
        ends
    };
    let end = text.iter().enumerate().find(|(at, byte)| ends(*at, byte)).map_or(text.len(), |(at, _)| at);
    text.split_at(end)
}

impl Names<'_> {
    /// Whether the followed table stands in `query`, by its own name or behind its database's.
    pub(super) fn found_in(&self, query: &[u8]) -> bool {
        occurrences(query, self.table).any(|start| {
            let before = query.get(..start).unwrap_or_default().trim_ascii_end();
            let before = before.strip_suffix(b"`").unwrap_or(before).trim_ascii_end();
            match before.strip_suffix(b".") {
                None => self.schema.eq_ignore_ascii_case(self.database.as_bytes()),
                Some(qualifier) => {
                    let qualifier = qualifier.trim_ascii_end();
                    let qualifier = qualifier.strip_suffix(b"`").unwrap_or(qualifier);
                    let at = qualifier.len().saturating_sub(self.database.len());
                    occurrences(qualifier, self.database).any(|start| start == at)
                }
            }
        })
    }
}

/// Where `name` stands in `query` as a whole word, in whatever case.
pub(super) fn occurrences<'a>(query: &'a [u8], name: &'a str) -> impl Iterator<Item = usize> {
    let name = name.as_bytes();
    let is_word =
        |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'$');
    query.windows(name.len().max(1)).enumerate().filter_map(move |(start, window)| {
        let whole = window.eq_ignore_ascii_case(name)
            && !is_word(start.checked_sub(1).and_then(|before| query.get(before)))
            && !is_word(query.get(start + name.len()));
        whole.then_some(start)
    })
}

/// Upper-case words of a statement, past white space and comments. `/*! … */` is code, not comment.
pub(super) struct Words<'a>(pub(super) &'a [u8]);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            self.0 = self.0.trim_ascii_start();
            if let Some(rest) = self.0.strip_prefix(b"/*!").or_else(|| self.0.strip_prefix(b"/*M!")) {
                let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                self.0 = rest.get(digits..).unwrap_or_default();
            } else if let Some(rest) = self.0.strip_prefix(b"/*") {
                let end = rest.windows(2).position(|pair| pair == b"*/");
                self.0 = end.and_then(|end| rest.get(end + 2..)).unwrap_or_default();
            } else if self.0.starts_with(b"--") || self.0.starts_with(b"#") {
                let end = self.0.iter().position(|b| *b == b'\n');
                self.0 = end.and_then(|end| self.0.get(end + 1..)).unwrap_or_default();
            } else {
                break;
            }
        }
        let len = self.0.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        let (word, rest) = self.0.split_at_checked(len)?;
        if word.is_empty() {
            return None;
        }
        self.0 = rest;
        Some(String::from_utf8_lossy(word).to_ascii_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::{Statement::*, TableChange::*, *};

    const NAMES: Names<'_> = Names { database: "access", table: "vdooropen", schema: b"access" };

    #[track_caller]
    fn check(query: &str, expected: Statement) {
        assert_eq!(classify(query.as_bytes(), NAMES), expected, "{query}");
    }

    #[test]
    fn transaction_control() {
        check("BEGIN", Begin);
        check("START TRANSACTION", Begin);
        check("COMMIT", Commit);
        check("COMMIT /* implicit, from Xid_log_event */", Commit);
        check("ROLLBACK", Rollback);
        check("ROLLBACK TO `a`", RollbackTo);
        check("SAVEPOINT `a`", Nothing);
        check("XA START X'61',X'',1", Begin);
        check("XA END X'61',X'',1", Nothing);
        check("XA COMMIT X'61',X'',1", XaCommit);
        check("XA ROLLBACK X'61',X'',1", XaEnd);
    }

    #[test]
    fn writes() {
        check("INSERT INTO vdooropen VALUES (1)", Write { names_table: true });
        check("insert into access.`VDOOROPEN` values (1)", Write { names_table: true });
        check("INSERT INTO access . `vdooropen` VALUES (1)", Write { names_table: true });
        check("INSERT INTO `access2`.vdooropen VALUES (1)", Write { names_table: false });
        check("INSERT INTO vdooropen2 VALUES (1)", Write { names_table: false });
        check("/* app */ CALL swipe(1)", Write { names_table: false });
        check("GRANT SELECT ON vdooropen TO x", Nothing);
    }

    #[test]
    fn definitions() {
        check("TRUNCATE vdooropen", Definition(Emptied));
        check("TRUNCATE TABLE `access`.`vdooropen`", Definition(Emptied));
        check("DROP TABLE `vdooropen` /* generated by server */", Definition(Emptied));
        check("DROP DATABASE access", Definition(Emptied));
        check("DROP DATABASE other", Nothing);
        check("TRUNCATE archive.vdooropen", Nothing);
        check("CREATE TABLE vdooropen (a int)", Definition(Swapped));
        check("CREATE TABLE IF NOT EXISTS vdooropen (a int)", Definition(Swapped));
        check("CREATE TABLE IF NOT EXISTS `access` . `vdooropen`(a int)", Definition(Swapped));
        check("create or replace table access.vdooropen (a int)", Definition(Swapped));
        check("CREATE OR REPLACE TABLE /* anew */ vdooropen (a int)", Definition(Swapped));
        check("CREATE TABLE v_new LIKE vdooropen", Nothing);
        check("CREATE TABLE `v new` LIKE `vdooropen`", Nothing);
        check("CREATE TABLE v_new(a int) SELECT * FROM vdooropen", Nothing);
        check("RENAME TABLE vdooropen TO v_202611, v_new TO vdooropen", Definition(Swapped));
        check("ALTER TABLE vdooropen ADD c INT", Definition(Layout));
        check("/*!40000 ALTER TABLE vdooropen DISABLE KEYS */", Definition(Layout));
        check("ALTER TABLE vdooropen AUTO_INCREMENT=1", Definition(Counter));
        check("DROP TEMPORARY TABLE IF EXISTS `vdooropen`", Nothing);
        check("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `vdooropen`", Nothing);
        check("DROP TABLE `vdooropen`, `temporary`", Definition(Emptied));
        check("ALTER TABLE v_new RENAME TO vdooropen, AUTO_INCREMENT=1", Definition(Swapped));
        check("ALTER TABLE vdooropen RENAME COLUMN a TO b, rename key c TO d", Definition(Layout));
        check("ALTER TABLE v_new RENAME COLUMN a TO b, RENAME vdooropen", Definition(Swapped));
        check("ALTER TABLE other ADD c INT", Nothing);
        check("CREATE TRIGGER t AFTER INSERT ON vdooropen FOR EACH ROW SET @a=1", Definition(Layout));
    }

    #[test]
    fn odd_bytes_are_a_write_that_names_nothing() {
        for query in [&b""[..], b"/*", b"/* x", b"--", b"\xff\xfe", b"/*!", b"#"] {
            assert_eq!(classify(query, NAMES), Write { names_table: false });
        }
    }
}
