//! A row as JSON: the same bytes from a binlog row image and from a SELECT.
//!
//! Owns column kinds, character sets and the encoding of values. Does no I/O: the schema comes from
//! [`crate::table`], the bytes from there or from [`crate::tail`].
//!
//! In reading order: [`Column`] says what a column holds, [`Layout`] encodes the values of a SELECT,
//! [`Image`] those of a WRITE_ROWS event. Both write through the same functions, one file per kind of
//! value, so that the bytes can't differ.

pub mod charset;
pub mod column;
mod cursor;
mod decimal;
pub(crate) mod fuzz;
mod image;
mod json;
mod jsonb;
mod layout;
mod metadata;
mod temporal;
mod value;
mod wire;

use std::sync::Arc;

pub use self::{
    charset::Charset,
    column::{Column, Kind, Labels, Stored},
    image::{Image, RowImages},
    layout::Layout,
};
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
    /// How many times U+FFFD stands for bytes that did not decode.
    pub replaced: u32,
}

impl EncodedRow {
    /// What it takes in memory, about. A row of NULLs takes many times what its image does.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.json.capacity() + size_of_val(&*self.values) + size_of::<EncodedRow>()
    }
}

/// Why a row could not be encoded. From a row image each of them means: read the row from the table.
/// None carries a value of the row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The image lacks columns (`binlog_row_image` MINIMAL or NOBLOB, or a partial update).
    #[error("the row image does not hold every column")]
    Partial,
    /// The table was not like this when the image was written: the layout must be read again.
    #[error("the layout does not fit the row image: {0}")]
    Mismatch(Box<str>),
    /// The column's type can be read from a SELECT only.
    #[error("column {0} can't be decoded from a row image")]
    Unsupported(Box<str>),
    /// Bytes that end too early or can't be.
    #[error("malformed bytes in column {0}")]
    Malformed(Box<str>),
    /// A SELECT gave a value of another type than the layout says: the layout must be read again.
    #[error("column {0} is not of the type that the layout says")]
    Unexpected(Box<str>),
    /// More than 4 GiB of JSON.
    #[error("the row is too large")]
    TooLarge,
}
