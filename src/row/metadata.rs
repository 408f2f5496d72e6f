//! What a TABLE_MAP tells of the columns besides their types, compared with the schema.

use mysql_async::binlog::events::{DefaultCharset, OptionalMetadataField, TableMapEvent};

use super::{Column, Kind, RowError};

/// Compares what `binlog_row_metadata` MINIMAL or FULL adds. Fields that are not there, and those that
/// can't be read, say nothing. The labels of ENUM and SET are not compared.
pub(super) fn check(columns: &[Column], table_map: &TableMapEvent<'_>) -> Result<(), RowError> {
    let mismatch = |column: &Column, what: &str| {
        Err(RowError::Mismatch(format!("{what} of column {}", column.name).into()))
    };
    let numeric = || columns.iter().filter(|column| is_numeric(&column.kind));
    let text = || {
        columns.iter().map_while(|column| is_text(&column.kind).map(|text| text.then_some(column))).flatten()
    };
    let labelled =
        || columns.iter().filter(|column| matches!(column.kind, Kind::Enum { .. } | Kind::Set { .. }));
    for field in table_map.iter_optional_meta().flatten() {
        match field {
            OptionalMetadataField::Signedness(flags) => {
                for (column, flag) in numeric().zip(flags.iter().by_vals()) {
                    if matches!(column.kind, Kind::Int { unsigned, .. } if unsigned != flag) {
                        return mismatch(column, "signedness");
                    }
                }
            }
            OptionalMetadataField::ColumnName(names) => {
                for (column, name) in columns.iter().zip(names.iter_names().flatten()) {
                    if name.name_raw() != column.name.as_bytes() {
                        return mismatch(column, "name");
                    }
                }
            }
            OptionalMetadataField::DefaultCharset(charsets) => {
                if let Some(column) = other_default(&charsets, text()) {
                    return mismatch(column, "character set");
                }
            }
            OptionalMetadataField::EnumAndSetDefaultCharset(charsets) => {
                if let Some(column) = other_default(&charsets, labelled()) {
                    return mismatch(column, "character set");
                }
            }
            OptionalMetadataField::ColumnCharset(charsets) => {
                if let Some(column) = other_charset(charsets.iter_charsets().flatten(), text()) {
                    return mismatch(column, "character set");
                }
            }
            OptionalMetadataField::EnumAndSetColumnCharset(charsets) => {
                if let Some(column) = other_charset(charsets.iter_charsets().flatten(), labelled()) {
                    return mismatch(column, "character set");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the table may have had `column` as its first.
pub(super) fn may_be_first(column: &Column, table_map: &TableMapEvent<'_>) -> bool {
    table_map.iter_optional_meta().flatten().all(|field| match field {
        OptionalMetadataField::ColumnName(names) => {
            names.iter_names().flatten().next().is_none_or(|name| name.name_raw() == column.name.as_bytes())
        }
        _ => true,
    })
}

/// The first of `columns` whose collation is another than the event has.
fn other_charset<'a>(
    collations: impl Iterator<Item = u16>,
    mut columns: impl Iterator<Item = &'a Column>,
) -> Option<&'a Column> {
    let mut collations = collations;
    columns.find(|column| {
        let collation = collations.next();
        column.collation.is_some() && collation.is_some() && collation != column.collation
    })
}

/// The same where the event has a default, and the columns that differ from it.
fn other_default<'a>(
    charsets: &DefaultCharset<'_>,
    columns: impl Iterator<Item = &'a Column>,
) -> Option<&'a Column> {
    let mut exceptions = charsets.iter_non_default().flatten().peekable();
    let collations = (0..).map(|index| match exceptions.next_if(|next| next.column_index() == index) {
        Some(exception) => exception.charset(),
        None => charsets.default_charset(),
    });
    other_charset(collations, columns)
}

fn is_numeric(kind: &Kind) -> bool {
    matches!(kind, Kind::Int { .. } | Kind::Year { .. } | Kind::Float | Kind::Double | Kind::Decimal { .. })
}

/// Whether the column has a character set in the binlog, be it `binary`. `None` where MariaDB says one and
/// MySQL does not: which entries belong to the columns behind it is not known.
fn is_text(kind: &Kind) -> Option<bool> {
    match kind {
        Kind::Geometry | Kind::Vector | Kind::Inet4 | Kind::Inet6 => None,
        _ => Some(matches!(kind, Kind::Text { .. } | Kind::JsonText { .. } | Kind::Binary { .. })),
    }
}
