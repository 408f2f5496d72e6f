//! The layout of the followed table, from `information_schema`.
//!
//! Works with MySQL 5.6 to 9 and MariaDB 10.5 to 11. Owns what those tables mean; knows no binlog.

use std::collections::BTreeMap;

use mysql_async::{Conn, Row, Value, from_value_opt, prelude::Queryable};

use super::charsets::Charsets;
use crate::row::{Column, Kind, Labels, Layout, Stored};

/// A table, and how its rows are laid out.
#[derive(Debug, Clone)]
pub struct Schema {
    /// As the server stores it: lower case if `lower_case_table_names` is not 0.
    pub database: String,
    /// As the server stores it.
    pub table: String,
    /// Of its rows.
    pub layout: Layout,
    /// Of all that says how the rows are laid out: another one means that the table was altered.
    pub checksum: u32,
}

/// Why the layout can't be read. All but [`SchemaError::Server`] need a person.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// `information_schema` hides what one may not read, so the two can't be told apart.
    #[error(
        "there is no table {} that this user may read{hint}; if it exists, run: GRANT SELECT ON {} TO {user}",
        quoted(database, table),
        quoted(database, table)
    )]
    NotFound {
        /// As it was asked for.
        database: String,
        /// As it was asked for.
        table: String,
        /// Perhaps a table whose name differs in case only.
        hint: String,
        /// The account that is logged in, quoted.
        user: String,
    },
    /// A view, for instance.
    #[error(
        "{} is a {kind}, not a base table, and a {kind} is not in the binlog: follow the table behind it",
        quoted(database, table)
    )]
    NotBaseTable {
        /// See above.
        database: String,
        /// See above.
        table: String,
        /// In lower case, for instance `view`.
        kind: String,
    },
    /// A row is found again by its key, so there must be one.
    #[error("{} has no key of a single integer column; add one: {remedy}", quoted(database, table))]
    NoKey {
        /// See above.
        database: String,
        /// See above.
        table: String,
        /// SQL.
        remedy: String,
    },
    /// A multi-byte character set newer than this program.
    #[error("the character set {charset} of column {column} is not known")]
    Charset {
        /// Its name.
        column: String,
        /// Its name.
        charset: String,
    },
    /// The server answered otherwise than any that is known.
    #[error("information_schema.{table} is not as expected: column {column}")]
    Unexpected {
        /// Of `information_schema`.
        table: &'static str,
        /// Of that table.
        column: &'static str,
    },
    /// The query failed.
    #[error("reading the schema failed")]
    Server(#[from] mysql_async::Error),
}

/// `name` in backticks.
pub(crate) fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn quoted(database: &str, table: &str) -> String {
    format!("{}.{}", quote(database), quote(table))
}

/// Reads the layout of `database`.`table`. `charsets` keeps what was asked before. The session must have
/// `character_set_results` NULL or utf8mb4.
///
/// # Errors
/// See [`SchemaError`].
pub(super) async fn read(
    conn: &mut Conn,
    charsets: &mut Charsets,
    database: &str,
    table: &str,
) -> Result<Schema, SchemaError> {
    let (database, table) = find(conn, database, table).await?;
    let described = describe(conn, &database, &table).await?;
    if described.is_empty() {
        // MySQL 5.6 shows the names of tables that one may not read, if one may read another.
        return Err(not_found(conn, &database, &table).await?);
    }
    let mut columns = Vec::with_capacity(described.len());
    for column in &described {
        columns.push(column.to_column(conn, charsets).await?);
    }
    let key = find_key(conn, &database, &table, &described, &columns).await?;
    let counts_up = key.and_then(|key| described.get(key)).is_some_and(|column| column.auto_increment);
    let layout = key.and_then(|key| Layout::new(columns, key));
    let layout = layout.map(|layout| if counts_up { layout } else { layout.with_given_keys() });
    let layout = layout.ok_or_else(|| SchemaError::NoKey {
        remedy: format!(
            "ALTER TABLE {} ADD COLUMN `id` BIGINT UNSIGNED NOT NULL AUTO_INCREMENT UNIQUE",
            quoted(&database, &table)
        ),
        database: database.clone(),
        table: table.clone(),
    })?;
    let checksum = checksum(&described, &layout);
    Ok(Schema { database, table, layout, checksum })
}

/// The names as the server stores them.
async fn find(conn: &mut Conn, database: &str, table: &str) -> Result<(String, String), SchemaError> {
    const SQL: &str = "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES \
                       WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
    let found: Vec<Row> = conn.exec(SQL, (database, table)).await?;
    let mut found = found.into_iter().map(|row| Fields::new("TABLES", row));
    let Some(mut fields) = found.next() else {
        return Err(not_found(conn, database, table).await?);
    };
    let (database, table, kind) =
        (fields.text("TABLE_SCHEMA")?, fields.text("TABLE_NAME")?, fields.text("TABLE_TYPE")?);
    // MariaDB has tables with history and sequences besides.
    if !matches!(kind.as_str(), "BASE TABLE" | "SYSTEM VERSIONED") {
        return Err(SchemaError::NotBaseTable { database, table, kind: kind.to_lowercase() });
    }
    Ok((database, table))
}

async fn not_found(conn: &mut Conn, database: &str, table: &str) -> Result<SchemaError, SchemaError> {
    const SQL: &str = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
                       WHERE LOWER(TABLE_SCHEMA) = LOWER(?) AND LOWER(TABLE_NAME) = LOWER(?)";
    let similar: Option<(String, String)> = conn.exec_first(SQL, (database, table)).await?;
    let hint = match similar {
        Some(names) if (names.0.as_str(), names.1.as_str()) == (database, table) => String::new(),
        Some((database, table)) => {
            format!(" (but {}: names are case-sensitive on this server)", quoted(&database, &table))
        }
        None => String::new(),
    };
    let user: Option<String> = conn.query_first("SELECT CURRENT_USER()").await?;
    let user = user.unwrap_or_default();
    let (name, host) = user.rsplit_once('@').unwrap_or((&user, "%"));
    let user = format!("'{}'@'{}'", name.replace('\'', "''"), host.replace('\'', "''"));
    Ok(SchemaError::NotFound { database: database.to_owned(), table: table.to_owned(), hint, user })
}

/// A row of `information_schema.COLUMNS`.
#[derive(Debug)]
struct Described {
    name: String,
    data_type: String,
    column_type: String,
    nullable: bool,
    auto_increment: bool,
    octets: u64,
    precision: u64,
    scale: u64,
    fsp: u64,
    charset: Option<String>,
    collation: Option<u16>,
    /// MariaDB's JSON.
    json_check: bool,
}

/// See [`Schema::checksum`].
fn checksum(described: &[Described], layout: &Layout) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(text.as_bytes());
        hasher.update(b"\0");
    };
    add(&layout.key_column().name);
    if !layout.key_counts_up() {
        add("given");
    }
    for Described { name, column_type, nullable, charset, collation, json_check, .. } in described {
        add(name);
        add(column_type);
        add(charset.as_deref().unwrap_or_default());
        add(&format!("{nullable} {collation:?} {json_check}"));
    }
    hasher.finalize()
}

async fn describe(conn: &mut Conn, database: &str, table: &str) -> Result<Vec<Described>, SchemaError> {
    const SQL: &str = "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, EXTRA, CHARACTER_OCTET_LENGTH, \
                       NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, c.CHARACTER_SET_NAME, \
                       c.COLLATION_NAME, ID \
                       FROM information_schema.COLUMNS c \
                       LEFT JOIN information_schema.COLLATIONS l ON l.COLLATION_NAME = c.COLLATION_NAME \
                       WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";
    let json_checks = json_checks(conn, database, table).await?;
    let rows: Vec<Row> = conn.exec(SQL, (database, table)).await?;
    let mut columns = Vec::with_capacity(rows.len());
    for row in rows {
        let mut fields = Fields::new("COLUMNS", row);
        let name = fields.text("COLUMN_NAME")?;
        let collation = match (fields.optional("COLLATION_NAME")?, fields.number("ID")?) {
            (Some(collation), None) => collation_id(conn, &collation).await?,
            (_, id) => id,
        };
        columns.push(Described {
            json_check: json_checks.contains(&name),
            name,
            data_type: fields.text("DATA_TYPE")?.to_ascii_lowercase(),
            column_type: fields.text("COLUMN_TYPE")?,
            nullable: fields.text("IS_NULLABLE")? == "YES",
            auto_increment: fields.text("EXTRA")?.contains("auto_increment"),
            octets: fields.number("CHARACTER_OCTET_LENGTH")?.unwrap_or(0),
            precision: fields.number("NUMERIC_PRECISION")?.unwrap_or(0),
            scale: fields.number("NUMERIC_SCALE")?.unwrap_or(0),
            fsp: fields.number("DATETIME_PRECISION")?.unwrap_or(0),
            charset: fields.optional("CHARACTER_SET_NAME")?,
            collation: collation.and_then(|id| u16::try_from(id).ok()),
        });
    }
    Ok(columns)
}

/// MariaDB from 10.10 on has collations that stand under their full name in another table only, the default of 11.8 among
/// them.
async fn collation_id(conn: &mut Conn, collation: &str) -> Result<Option<u64>, SchemaError> {
    const UNKNOWN_COLUMN: u16 = 1054;
    const SQL: &str = "SELECT ID FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE \
                       FULL_COLLATION_NAME = ?";
    match conn.exec_first(SQL, (collation,)).await {
        Err(mysql_async::Error::Server(error)) if error.code == UNKNOWN_COLUMN => Ok(None),
        id => Ok(id?),
    }
}

/// The columns that MariaDB calls JSON: text with a check of its own that is `json_valid` and no more.
/// `information_schema.CHECK_CONSTRAINTS` shows checks to owners only; whoever may SELECT may ask for the
/// definition, but not with a grant on some columns only, and then none is taken for JSON.
async fn json_checks(conn: &mut Conn, database: &str, table: &str) -> Result<Vec<String>, SchemaError> {
    const TABLE_ACCESS_DENIED: u16 = 1142;
    let sql = format!("SHOW CREATE TABLE {}", quoted(database, table));
    match conn.query_first::<(String, String), _>(sql).await {
        Ok(definition) => Ok(definition.map(|(_, definition)| json_columns(&definition)).unwrap_or_default()),
        Err(mysql_async::Error::Server(error)) if error.code == TABLE_ACCESS_DENIED => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The definition has a line for each column: its name in backticks first, its check last.
fn json_columns(definition: &str) -> Vec<String> {
    let column = |line: &str| {
        let line = line.trim().trim_end_matches(',').strip_suffix("))")?;
        let (rest, checked) = line.rsplit_once(" CHECK (json_valid(")?;
        let name = checked.strip_prefix('`')?.strip_suffix('`')?;
        rest.starts_with(&format!("`{name}` ")).then(|| name.replace("``", "`"))
    };
    definition.lines().filter_map(column).collect()
}

impl Described {
    async fn to_column(&self, conn: &mut Conn, charsets: &mut Charsets) -> Result<Column, SchemaError> {
        let charset = match &self.charset {
            Some(name) if name != "binary" => Some(charsets.get(conn, name, &self.name).await?),
            _ => None,
        };
        let has = |word: &str| self.column_type.split([' ', '(', ')', ',']).any(|part| part == word);
        let unsigned = has("unsigned");
        let small = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
        let octets = u32::try_from(self.octets).unwrap_or(u32::MAX);
        let fsp = small(self.fsp);
        let compressed = self.column_type.to_ascii_lowercase().contains("compressed");
        let string = |stored: Stored| match &charset {
            _ if compressed => Kind::Printed { charset: charset.clone() },
            Some(charset) if self.json_check => Kind::JsonText { charset: charset.clone(), stored },
            Some(charset) => Kind::Text { charset: charset.clone(), stored },
            None => Kind::Binary { stored },
        };
        let labels = || Labels::parse(&self.column_type).zip(charset.clone());
        let kind = match self.data_type.as_str() {
            "tinyint" => Kind::Int { width: 1, unsigned },
            "smallint" => Kind::Int { width: 2, unsigned },
            "mediumint" => Kind::Int { width: 3, unsigned },
            "int" => Kind::Int { width: 4, unsigned },
            "bigint" => Kind::Int { width: 8, unsigned },
            "year" => Kind::Year { two_digits: has("2") },
            "float" => Kind::Float,
            "double" => Kind::Double,
            "decimal" => Kind::Decimal {
                precision: small(self.precision),
                scale: small(self.scale),
                zerofill: has("zerofill"),
            },
            "char" | "binary" => string(Stored::Fixed { octets }),
            "varchar" | "varbinary" => string(Stored::Varying { octets }),
            "tinytext" | "tinyblob" => string(Stored::Blob { length_bytes: 1 }),
            "text" | "blob" => string(Stored::Blob { length_bytes: 2 }),
            "mediumtext" | "mediumblob" => string(Stored::Blob { length_bytes: 3 }),
            "longtext" | "longblob" => string(Stored::Blob { length_bytes: 4 }),
            "enum" => match labels() {
                Some((labels, charset)) => Kind::Enum { labels, charset },
                None => Kind::Printed { charset },
            },
            "set" => match labels() {
                Some((labels, charset)) => Kind::Set { labels, charset },
                None => Kind::Printed { charset },
            },
            "bit" => Kind::Bit { bits: small(self.precision) },
            "date" => Kind::Date,
            "time" => Kind::Time { fsp },
            "datetime" => Kind::DateTime { fsp },
            "timestamp" => Kind::Timestamp { fsp },
            "json" => Kind::Json,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection" => Kind::Geometry,
            "vector" => Kind::Vector,
            "inet4" => Kind::Inet4,
            "inet6" => Kind::Inet6,
            // What a SELECT prints of a type without a character set is ASCII, for instance a UUID.
            _ => Kind::Printed { charset: Some(charset.unwrap_or(crate::row::Charset::Utf8)) },
        };
        Ok(Column {
            name: self.name.as_str().into(),
            kind,
            nullable: self.nullable,
            collation: self.collation,
        })
    }
}

/// The primary key if it is one integer column, else such a unique key; one that counts up by itself
/// first, then by name.
async fn find_key(
    conn: &mut Conn,
    database: &str,
    table: &str,
    described: &[Described],
    columns: &[Column],
) -> Result<Option<usize>, SchemaError> {
    // Not joined with COLUMNS: old servers would open every table there is for that.
    const SQL: &str = "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
                       WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0";
    let parts: Vec<(String, Option<String>, Option<u64>)> = conn.exec(SQL, (database, table)).await?;
    let mut indexes: BTreeMap<String, Vec<Option<usize>>> = BTreeMap::new();
    for (index, column, prefix) in parts {
        // A part of an index may be an expression, or the beginning of a column.
        let whole = column.filter(|_| prefix.is_none());
        let position = whole.and_then(|name| columns.iter().position(|column| *column.name == *name));
        indexes.entry(index).or_default().push(position);
    }
    let fits = |position: &usize| {
        columns
            .get(*position)
            .is_some_and(|column| !column.nullable && matches!(column.kind, Kind::Int { .. }))
    };
    let counts_up = |position: usize| described.get(position).is_some_and(|column| column.auto_increment);
    let candidates = indexes.iter().filter_map(|(name, parts)| match **parts {
        [Some(position)] if fits(&position) => Some((name, position)),
        _ => None,
    });
    let best =
        candidates.min_by_key(|(name, position)| (name.as_str() != "PRIMARY", !counts_up(*position), *name));
    Ok(best.map(|(_, position)| position))
}

/// The fields of a row of `information_schema`, by name.
struct Fields {
    table: &'static str,
    row: Row,
}

impl Fields {
    fn new(table: &'static str, row: Row) -> Fields {
        Fields { table, row }
    }

    fn take(&mut self, column: &'static str) -> Result<Value, SchemaError> {
        self.row.take(column).ok_or(SchemaError::Unexpected { table: self.table, column })
    }

    fn optional(&mut self, column: &'static str) -> Result<Option<String>, SchemaError> {
        let value = self.take(column)?;
        from_value_opt(value).map_err(|_| SchemaError::Unexpected { table: self.table, column })
    }

    fn text(&mut self, column: &'static str) -> Result<String, SchemaError> {
        self.optional(column)?.ok_or(SchemaError::Unexpected { table: self.table, column })
    }

    fn number(&mut self, column: &'static str) -> Result<Option<u64>, SchemaError> {
        let value = self.take(column)?;
        from_value_opt(value).map_err(|_| SchemaError::Unexpected { table: self.table, column })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_columns_are_those_with_a_check_of_their_own() {
        let definition = "CREATE TABLE `t` (\n  `a` longtext DEFAULT NULL CHECK (json_valid(`a`)),\n  \
                          `b``c` longtext COMMENT 'x' CHECK (json_valid(`b``c`)),\n  \
                          `d` longtext COMMENT ' CHECK (json_valid(`d`))',\n  \
                          `e` longtext CHECK (json_valid(`a`)),\n  \
                          `f` longtext CHECK (json_valid(`f`) and `f` <> '[]'),\n  \
                          CONSTRAINT `c` CHECK (json_valid(`g`))\n) ENGINE=InnoDB";
        assert_eq!(json_columns(definition), ["a", "b`c"]);
    }
}
