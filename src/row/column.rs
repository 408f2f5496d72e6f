//! What a column holds, as the schema tells it.
//!
//! Knows no bytes.

use std::sync::Arc;

use super::charset::Charset;

/// One column of the followed table.
#[derive(Debug, Clone)]
pub struct Column {
    /// As in the schema.
    pub name: Box<str>,
    /// What it holds.
    pub kind: Kind,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// The id of the collation (`information_schema.COLLATIONS`), where the server gives one.
    pub collation: Option<u16>,
}

/// The type of a column, as far as JSON and the binlog are concerned.
#[derive(Debug, Clone)]
pub enum Kind {
    /// TINYINT to BIGINT.
    Int {
        /// Bytes: 1, 2, 3, 4 or 8.
        width: u8,
        /// The binlog doesn't always say so.
        unsigned: bool,
    },
    /// YEAR; `two_digits` is YEAR(2), which MariaDB still has.
    Year {
        /// See above.
        two_digits: bool,
    },
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// DECIMAL.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
        /// Printed with leading zeros.
        zerofill: bool,
    },
    /// CHAR, VARCHAR and the TEXT types.
    Text {
        /// Of this column.
        charset: Charset,
        /// How it is stored.
        stored: Stored,
    },
    /// BINARY, VARBINARY and the BLOB types.
    Binary {
        /// How it is stored.
        stored: Stored,
    },
    /// ENUM.
    Enum {
        /// In the order of the definition; the value 1 is the first.
        labels: Labels,
        /// Of this column.
        charset: Charset,
    },
    /// SET.
    Set {
        /// In the order of the definition; bit 0 is the first.
        labels: Labels,
        /// Of this column.
        charset: Charset,
    },
    /// BIT.
    Bit {
        /// 1 to 64.
        bits: u8,
    },
    /// DATE.
    Date,
    /// TIME.
    Time {
        /// Digits of the fraction, 0 to 6.
        fsp: u8,
    },
    /// DATETIME.
    DateTime {
        /// Digits of the fraction, 0 to 6.
        fsp: u8,
    },
    /// TIMESTAMP.
    Timestamp {
        /// Digits of the fraction, 0 to 6.
        fsp: u8,
    },
    /// MySQL's JSON, which has a binary form of its own.
    Json,
    /// MariaDB's JSON: text with a `json_valid` check.
    JsonText {
        /// Of this column.
        charset: Charset,
        /// How it is stored.
        stored: Stored,
    },
    /// GEOMETRY and its kin: SRID and WKB.
    Geometry,
    /// VECTOR.
    Vector,
    /// MariaDB's INET4.
    Inet4,
    /// MariaDB's INET6.
    Inet6,
    /// Any other type, for instance MariaDB's UUID and compressed columns: what a SELECT prints is
    /// taken as it is, and a row image can't be decoded.
    Printed {
        /// Of the text; `None` for bytes, which become base64.
        charset: Option<Charset>,
    },
}

/// How a string of text or bytes is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// CHAR, BINARY.
    Fixed {
        /// At most.
        octets: u32,
    },
    /// VARCHAR, VARBINARY.
    Varying {
        /// At most.
        octets: u32,
    },
    /// The TEXT and BLOB types.
    Blob {
        /// Bytes of the length: 1 for TINY…, 2, 3 for MEDIUM…, 4 for LONG….
        length_bytes: u8,
    },
}

/// The labels of an ENUM or SET. A label that the schema could not tell for sure is `None`: the schema
/// tables of old servers are utf8mb3 and turn any other character into a question mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels(pub Arc<[Option<Box<str>>]>);

impl Labels {
    /// Reads `enum('a','it''s')` or `set(…)` as `COLUMN_TYPE` has it. `None` if it is neither.
    ///
    /// The server doubles quotes and escapes backslashes, line breaks and NUL, whatever `sql_mode`.
    pub fn parse(column_type: &str) -> Option<Labels> {
        let list = column_type.strip_prefix("enum(").or_else(|| column_type.strip_prefix("set("))?;
        let mut characters = list.chars().peekable();
        let mut labels = Vec::new();
        loop {
            if characters.next()? != '\'' {
                return None;
            }
            let mut label = String::new();
            loop {
                match characters.next()? {
                    '\'' if characters.next_if_eq(&'\'').is_none() => break,
                    '\\' => label.push(match characters.next()? {
                        'n' => '\n',
                        'r' => '\r',
                        '0' => '\0',
                        other => other,
                    }),
                    other => label.push(other),
                }
            }
            let certain = !label.contains(['?', char::REPLACEMENT_CHARACTER]);
            labels.push(certain.then(|| label.into_boxed_str()));
            match characters.next()? {
                ',' => {}
                ')' => return Some(Labels(labels.into())),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(column_type: &str, expected: Option<&[&str]>) {
        let labels = Labels::parse(column_type);
        let labels: Option<Vec<_>> =
            labels.as_ref().map(|labels| labels.0.iter().map(|label| label.as_deref().unwrap()).collect());
        assert_eq!(labels.as_deref(), expected, "{column_type}");
    }

    #[test]
    fn reads_labels_with_quotes_commas_and_backslashes() {
        check("enum('a')", Some(&["a"]));
        check("enum('a','it''s','x,y','','b)')", Some(&["a", "it's", "x,y", "", "b)"]));
        check(r"enum('\\','\n\r\0','\\n','''')", Some(&["\\", "\n\r\0", "\\n", "'"]));
        check("set('开','关','''')", Some(&["开", "关", "'"]));
        check("enum('a') charset gbk", Some(&["a"]));
    }

    #[test]
    fn refuses_what_is_no_list() {
        for text in
            ["", "int(11)", "enum(", "enum(')", "enum('a'", "enum('a',", "enum('a',)", "enum()", "set(a)"]
        {
            check(text, None);
        }
    }

    #[test]
    fn a_question_mark_is_no_certain_label() {
        assert_eq!(Labels::parse("enum('?','a')").unwrap().0[0], None);
    }
}
