//! The record of every edit: one JSON object a line, in a file beside the people file.
//!
//! It tells who, when, what, and never a card id in clear.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// One edit.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    /// RFC 3339, UTC.
    pub(super) time: String,
    /// The address that it came from.
    pub(super) who: &'a str,
    /// `add`, `edit` or `delete`; `failed` where the file could not be written after all.
    pub(super) what: &'a str,
    /// Masked.
    pub(super) card: String,
    pub(super) name: &'a str,
    /// By column: what it was, and what it is.
    pub(super) changed: BTreeMap<&'static str, [String; 2]>,
}

/// Where the record of a people file is.
pub(super) fn path(people: &Path) -> PathBuf {
    let mut path = people.as_os_str().to_owned();
    path.push(".audit.jsonl");
    path.into()
}

/// Adds a line, for the owner's eyes only, and has it on disk. Blocking.
pub(super) fn append(people: &Path, entry: &Entry<'_>) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path(people))?;
    file.write_all(&line)?;
    file.sync_all()
}
