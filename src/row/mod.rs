//! A row as JSON: the same bytes from a binlog row image and from a SELECT.
//!
//! Owns column kinds, character sets and the encoding of values. Does no I/O: the schema comes from
//! [`crate::table`], the bytes from there or from [`crate::tail`].

use std::sync::Arc;

use crate::id::Key;

/// One row, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRow {
    /// The row's key.
    pub key: Key,
    /// The flat JSON object, without a line break.
    pub json: Vec<u8>,
    /// Byte ranges of the values within `json`, in the order of [`EncodedRow::columns`].
    pub values: Box<[(u32, u32)]>,
    /// The names of the columns, shared by all rows of one layout.
    pub columns: Arc<[Box<str>]>,
}
