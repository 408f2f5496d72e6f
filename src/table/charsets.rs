//! Character sets, as the server itself converts them.
//!
//! Asked for once for each set that a column of the followed table has. One query of some 100 kB for a
//! Chinese or Japanese set, of 512 bytes for a single-byte set.

use std::{collections::HashMap, sync::Arc};

use mysql_async::{Conn, prelude::Queryable};

use super::schema::SchemaError;
use crate::row::{Charset, charset::CharMap};

/// The sets asked for so far, by name.
#[derive(Debug, Default)]
pub(super) struct Charsets(HashMap<String, Charset>);

impl Charsets {
    /// The set called `name`, of the column called `column`.
    pub(super) async fn get(
        &mut self,
        conn: &mut Conn,
        name: &str,
        column: &str,
    ) -> Result<Charset, SchemaError> {
        if let Some(charset) = Charset::builtin(name).or_else(|| self.0.get(name).cloned()) {
            return Ok(charset);
        }
        let known = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !known {
            return Err(SchemaError::Charset { column: column.to_owned(), charset: name.to_owned() });
        }
        let charset = Charset::Mapped(Arc::new(ask(conn, name).await?));
        self.0.insert(name.to_owned(), charset.clone());
        Ok(charset)
    }
}

/// Has the server convert every character of the set.
async fn ask(conn: &mut Conn, name: &str) -> Result<CharMap, SchemaError> {
    let sequences = CharMap::sequences(name);
    let mut pairs: Vec<(&[u8], char)> = Vec::with_capacity(sequences.len());
    let mut open = vec![sequences.as_slice()];
    // A part whose answer has not one character for each sequence holds bytes that are no character to
    // this server: halve it until those are alone.
    while let Some(part) = open.pop() {
        match convert(conn, name, part).await? {
            Some(text) if text.chars().count() == part.len() => {
                let answered = part.iter().map(Vec::as_slice).zip(text.chars());
                // A question mark is what the server puts for a character that has none in Unicode.
                pairs.extend(answered.filter(|(bytes, character)| *character != '?' || *bytes == b"?"));
            }
            _ if part.len() > 1 => {
                let (left, right) = part.split_at(part.len() / 2);
                open.extend([left, right]);
            }
            _ => {}
        }
    }
    Ok(CharMap::new(name, pairs))
}

async fn convert(conn: &mut Conn, name: &str, sequences: &[Vec<u8>]) -> Result<Option<String>, SchemaError> {
    let mut sql = String::from("SELECT CONVERT(CONVERT(x'");
    for byte in sequences.iter().flatten() {
        sql.push_str(&format!("{byte:02x}"));
    }
    sql.push_str(&format!("' USING {name}) USING utf8mb4)"));
    let answer: Option<Option<Vec<u8>>> = conn.query_first(sql).await?;
    Ok(answer.flatten().and_then(|bytes| String::from_utf8(bytes).ok()))
}
