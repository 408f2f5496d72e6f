//! The people file as text: bytes to cells and back. Knows what Excel does to a CSV, and no people.

use std::borrow::Cow;

use csv::{ReaderBuilder, StringRecord, Terminator, WriterBuilder};
use encoding_rs::{Encoding, GB18030, UTF_8};
use serde::Serialize;

/// Largest file that is read. 16 MB are more than 100,000 people.
pub(super) const FILE_BYTES: u64 = 16 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// What is wrong with the file, and where. It never holds the value of a cell: where columns have
/// slipped, any cell may be a card id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line, from 1, as an editor counts; `None` where the whole file is meant.
    pub line: Option<u64>,
    /// The column's name.
    pub column: Option<Box<str>>,
    /// For people.
    pub reason: Cow<'static, str>,
}

impl Problem {
    pub(super) fn file(reason: impl Into<Cow<'static, str>>) -> Self {
        Problem { line: None, column: None, reason: reason.into() }
    }

    pub(super) fn line(line: u64, reason: impl Into<Cow<'static, str>>) -> Self {
        Problem { line: Some(line), ..Self::file(reason) }
    }

    pub(super) fn cell(line: u64, column: &str, reason: impl Into<Cow<'static, str>>) -> Self {
        Problem { column: Some(column.into()), ..Self::line(line, reason) }
    }
}

/// Header and rows. Columns that mean nothing here are kept.
#[derive(Debug, Clone)]
pub(super) struct Sheet {
    columns: Vec<String>,
    pub(super) rows: Vec<Row>,
    /// What the bytes were taken for.
    pub(super) encoding: &'static str,
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) line: u64,
    cells: Vec<String>,
}

impl Sheet {
    /// With these columns and no row.
    pub(super) fn new(columns: &[&str]) -> Self {
        let columns = columns.iter().map(ToString::to_string).collect();
        Sheet { columns, rows: Vec::new(), encoding: UTF_8.name() }
    }

    /// Reads a file: encoding by BOM, else strict UTF-8, else GB18030; comma, semicolon or tab,
    /// whichever the header has.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Problem> {
        let (text, encoding) = decode(bytes)?;
        let delimiter = delimiter(&text);
        if let Some(line) = open_quote(&text, delimiter) {
            return Err(Problem::line(line, "a quotation mark begins here and never ends"));
        }
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(text.as_bytes());
        let mut lines = Lines::new(&text);
        let (mut columns, mut rows) = (None, Vec::new());
        let mut record = StringRecord::new();
        while reader.read_record(&mut record).map_err(|err| Problem::file(err.to_string()))? {
            let line = lines.of_record_at(record.position().map_or(0, csv::Position::byte));
            let cells: Vec<String> = record.iter().map(ToOwned::to_owned).collect();
            if cells.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            match &columns {
                None => columns = Some(header(line, &cells)?),
                Some(columns) if cells.iter().skip(columns.len()).any(|cell| !cell.trim().is_empty()) => {
                    return Err(Problem::line(
                        line,
                        "more cells than the header has columns: a text with a comma in it needs quotation marks",
                    ));
                }
                Some(_) => rows.push(Row { line, cells }),
            }
        }
        let columns = columns.ok_or_else(|| Problem::line(1, "the first line must name the columns"))?;
        Ok(Sheet { columns, rows, encoding })
    }

    /// The file's bytes: UTF-8 with a BOM, by which Excel knows it.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut writer =
            WriterBuilder::new().flexible(true).terminator(Terminator::CRLF).from_writer(BOM.to_vec());
        // Writing to memory can't fail.
        let _ = writer.write_record(&self.columns);
        for row in &self.rows {
            let cells = (0..self.columns.len()).map(|at| row.cells.get(at).map_or("", String::as_str));
            let _ = writer.write_record(cells);
        }
        writer.into_inner().unwrap_or_default()
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.place(column).is_some()
    }

    /// A cell, trimmed; empty where the row or the sheet has none.
    pub(super) fn cell<'a>(&self, row: &'a Row, column: &str) -> &'a str {
        self.place(column).and_then(|at| row.cells.get(at)).map_or("", |cell| cell.trim())
    }

    /// Sets a cell of the row at a place, and adds the column if it is missing.
    pub(super) fn set(&mut self, row: usize, column: &str, text: &str) {
        let at = self.place(column).unwrap_or_else(|| {
            self.columns.push(column.to_owned());
            self.columns.len() - 1
        });
        if let Some(Row { cells, .. }) = self.rows.get_mut(row) {
            cells.resize(cells.len().max(at + 1), String::new());
            if let Some(cell) = cells.get_mut(at) {
                text.clone_into(cell);
            }
        }
    }

    /// Adds an empty row, and tells its place.
    pub(super) fn add(&mut self) -> usize {
        let line = self.rows.last().map_or(2, |row| row.line + 1);
        self.rows.push(Row { line, cells: Vec::new() });
        self.rows.len() - 1
    }

    fn place(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|name| name.trim().eq_ignore_ascii_case(column))
    }
}

fn header(line: u64, cells: &[String]) -> Result<Vec<String>, Problem> {
    let mut seen: Vec<String> = Vec::new();
    for cell in cells {
        let name = cell.trim().to_ascii_lowercase();
        if !name.is_empty() && seen.contains(&name) {
            return Err(Problem::line(line, "the header names a column twice"));
        }
        seen.push(name);
    }
    Ok(cells.to_vec())
}

fn decode(bytes: &[u8]) -> Result<(Cow<'_, str>, &'static str), Problem> {
    if let Some((encoding, length)) = Encoding::for_bom(bytes) {
        let rest = bytes.get(length..).unwrap_or_default();
        let text = encoding.decode_without_bom_handling_and_without_replacement(rest);
        let text = text.ok_or_else(|| Problem::file(format!("broken {}", encoding.name())))?;
        return Ok((text, encoding.name()));
    }
    if let Ok(text) = str::from_utf8(bytes) {
        return Ok((text.into(), UTF_8.name()));
    }
    match GB18030.decode_without_bom_handling_and_without_replacement(bytes) {
        Some(text) => Ok((text, GB18030.name())),
        None => {
            // No byte of a GB18030 character is a line break.
            let broken = bytes
                .split(|byte| *byte == b'\n')
                .position(|line| GB18030.decode_without_bom_handling_and_without_replacement(line).is_none());
            let line = broken.map_or(1, |at| at as u64 + 1);
            Err(Problem::line(line, "neither UTF-8 nor GB18030: save the file as CSV UTF-8"))
        }
    }
}

/// By the header: Excel writes what the machine's region has for a list separator.
fn delimiter(text: &str) -> u8 {
    let header = text.trim_start().lines().next().unwrap_or_default();
    let count = |delimiter: u8| header.bytes().filter(|byte| *byte == delimiter).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',')
}

/// The line of a quotation mark that is never closed: a reader would take the rest of the file for one
/// cell, and people would be gone without a word.
fn open_quote(text: &str, delimiter: u8) -> Option<u64> {
    let (mut line, mut open, mut cell_begins) = (1, None, true);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let ends_line = byte == b'\n' || (byte == b'\r' && bytes.peek() != Some(&b'\n'));
        line += u64::from(ends_line);
        match open {
            Some(_) if byte == b'"' && bytes.next_if_eq(&b'"').is_none() => open = None,
            Some(_) => {}
            None => {
                open = (byte == b'"' && cell_begins).then_some(line);
                cell_begins = ends_line || byte == delimiter;
            }
        }
    }
    open
}

/// Counts lines up to a record.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Lines { bytes: text.as_bytes(), at: 0, line: 1 }
    }

    /// The line of the record that was found at this byte or after the empty lines from there.
    fn of_record_at(&mut self, start: u64) -> u64 {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        while let Some(&byte) = self.bytes.get(self.at) {
            let breaks = matches!(byte, b'\r' | b'\n');
            if self.at >= start && !breaks {
                break;
            }
            let lone = byte == b'\n' || (byte == b'\r' && self.bytes.get(self.at + 1) != Some(&b'\n'));
            self.line += u64::from(lone);
            self.at += 1;
        }
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn names(bytes: &[u8]) -> Vec<(u64, String)> {
        let sheet = Sheet::read(bytes).unwrap();
        sheet.rows.iter().map(|row| (row.line, sheet.cell(row, "name").to_owned())).collect()
    }

    #[track_caller]
    fn refused(bytes: &[u8], line: u64, word: &str) {
        let problem = Sheet::read(bytes).unwrap_err();
        assert_eq!(problem.line, Some(line));
        assert!(problem.reason.contains(word), "{problem:?}");
    }

    #[test]
    fn reads_every_encoding_that_excel_saves() {
        let text = "rfsim,name\r\n1,王小明\r\n";
        let gbk = encoding_rs::GBK.encode(text).0.into_owned();
        let utf16: Vec<u8> = text.replace(',', "\t").encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, encoding) in [
            (text.as_bytes().to_vec(), "UTF-8"),
            ([BOM, text.as_bytes()].concat(), "UTF-8"),
            (gbk, "gb18030"),
            ([b"\xff\xfe".as_slice(), &utf16].concat(), "UTF-16LE"),
        ] {
            assert_eq!(names(&bytes), [(2, "王小明".to_owned())], "{encoding}");
            assert_eq!(Sheet::read(&bytes).unwrap().encoding, encoding);
        }
        refused(b"rfsim,name\n1,a\n2,\xff\xff\n", 3, "GB18030");
    }

    #[test]
    fn counts_lines_as_an_editor_does() {
        let text = "\n\nrfsim,name\r\n\r\n1,\"a\r\nb\"\r\n,,\r\n2,c\r3,d\n\n4,\"e \"\"f\"\"\"";
        let expected = [(5, "a\r\nb"), (8, "c"), (9, "d"), (11, "e \"f\"")];
        assert_eq!(names(text.as_bytes()), expected.map(|(line, name)| (line, name.to_owned())));
    }

    #[test]
    fn finds_the_delimiter_in_the_header() {
        assert_eq!(names(b"rfsim;name;doors\n1;a,b;3"), [(2, "a,b".to_owned())]);
        assert_eq!(names(b"rfsim\tname\n1\ta;b"), [(2, "a;b".to_owned())]);
        assert_eq!(names(b"NAME\na"), [(2, "a".to_owned())]);
    }

    #[test]
    fn refuses_what_would_lose_people() {
        refused(b"rfsim,name\n1,\"a\n2,b\n3,c\n", 2, "never ends");
        refused(b"rfsim,name\n1,a,b\n", 2, "comma");
        refused(b"rfsim,name,Name \n", 1, "twice");
        refused(b"\n\n", 1, "columns");
        assert_eq!(names(b"rfsim,name\n1,5\" pipe,,\n2\n").len(), 2);
    }

    proptest::proptest! {
        // Whatever the cells hold, they come back as they were, but for rows with nothing in them.
        #[test]
        fn what_is_written_is_read_again(
            rows in proptest::collection::vec(proptest::array::uniform3("[a,\"\r\n; é王]{0,5}"), 0..6)
        ) {
            let mut sheet = Sheet::new(&["x", "y", "z"]);
            for row in &rows {
                let at = sheet.add();
                for (column, text) in ["x", "y", "z"].into_iter().zip(row) {
                    sheet.set(at, column, text);
                }
            }
            let again = Sheet::read(&sheet.write()).unwrap();
            let cells: Vec<_> = again.rows.into_iter().map(|row| row.cells).collect();
            let full = rows.into_iter().filter(|row| row.iter().any(|cell| !cell.trim().is_empty()));
            proptest::prop_assert_eq!(cells, full.map(Vec::from).collect::<Vec<_>>());
        }
    }

    #[test]
    fn keeps_unknown_columns_when_it_is_written() {
        let mut sheet = Sheet::read("note,rfsim,name\r\n\"x, y\",1,a\r\n,2\r\n".as_bytes()).unwrap();
        sheet.set(1, "name", "b \"c\"");
        sheet.set(1, "lang", "zh");
        let new = sheet.add();
        sheet.set(new, "rfsim", "3");
        let written = String::from_utf8(sheet.write()).unwrap();
        let expected = "\u{feff}note,rfsim,name,lang\r\n\"x, y\",1,a,\r\n,2,\"b \"\"c\"\"\",zh\r\n,3,,\r\n";
        assert_eq!(written, expected);
    }
}
