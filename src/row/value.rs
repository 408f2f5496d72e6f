//! One value as JSON. Everything that a row image and a SELECT have in common.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::{Engine, prelude::BASE64_STANDARD};

/// A row on its way to JSON.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) json: Vec<u8>,
    pub(super) replaced: u32,
}

impl Writer {
    pub(super) fn raw(&mut self, text: &[u8]) {
        self.json.extend_from_slice(text);
    }

    pub(super) fn null(&mut self) {
        self.raw(b"null");
    }

    #[inline]
    pub(super) fn int(&mut self, value: i64) {
        self.raw(itoa::Buffer::new().format(value).as_bytes());
    }

    #[inline]
    pub(super) fn uint(&mut self, value: u64) {
        self.raw(itoa::Buffer::new().format(value).as_bytes());
    }

    /// SQL has no infinity and no NaN; null, as serde_json writes them.
    pub(super) fn float(&mut self, value: f32) {
        if value.is_finite() {
            self.raw(ryu::Buffer::new().format_finite(value).as_bytes());
        } else {
            self.null();
        }
    }

    /// See [`Writer::float`].
    pub(super) fn double(&mut self, value: f64) {
        if value.is_finite() {
            self.raw(ryu::Buffer::new().format_finite(value).as_bytes());
        } else {
            self.null();
        }
    }

    /// A string of base64. Zero bytes are added up to `length`, as BINARY(n) has them.
    pub(super) fn base64(&mut self, bytes: &[u8], length: usize) {
        self.json.push(b'"');
        if bytes.len() < length {
            let mut padded = bytes.to_vec();
            padded.resize(length, 0);
            self.push_base64(&padded);
        } else {
            self.push_base64(bytes);
        }
        self.json.push(b'"');
    }

    fn push_base64(&mut self, bytes: &[u8]) {
        let start = self.json.len();
        self.json.resize(start + bytes.len().div_ceil(3) * 4, 0);
        if let Some(room) = self.json.get_mut(start..) {
            let written = BASE64_STANDARD.encode_slice(bytes, room).expect("the room is 4 bytes for each 3");
            self.json.truncate(start + written);
        }
    }

    /// MariaDB's INET4.
    pub(super) fn inet4(&mut self, address: [u8; 4]) {
        self.plain(Ipv4Addr::from(address).to_string().as_bytes());
    }

    /// MariaDB's INET6. It writes `::` for the first longest run of zeros, be it a single one, and dots
    /// in IPv4-compatible and IPv4-mapped addresses.
    pub(super) fn inet6(&mut self, address: [u8; 16]) {
        let groups = Ipv6Addr::from(address).segments();
        let zeros = |start: &usize| groups.iter().skip(*start).take_while(|group| **group == 0).count();
        let start = (0..8).rev().max_by_key(zeros).unwrap_or_default();
        let length = zeros(&start);
        let dotted = start == 0 && (length == 6 || (length == 5 && groups.get(5) == Some(&0xffff)));
        let hex =
            |groups: &[u16]| groups.iter().map(|group| format!("{group:x}")).collect::<Vec<_>>().join(":");
        let (before, _) = groups.split_at(start);
        let (_, after) = groups.split_at(start + length);
        let text = match (dotted, after, address) {
            (true, [_, _], [.., a, b, c, d]) => format!("::{}", Ipv4Addr::new(a, b, c, d)),
            (true, _, [.., a, b, c, d]) => format!("::ffff:{}", Ipv4Addr::new(a, b, c, d)),
            _ if length == 0 => hex(&groups),
            _ => format!("{}::{}", hex(before), hex(after)),
        };
        self.plain(text.as_bytes());
    }

    /// A string that needs no escapes, for instance a date.
    pub(super) fn plain(&mut self, text: &[u8]) {
        self.json.push(b'"');
        self.raw(text);
        self.json.push(b'"');
    }

    /// A JSON string, quotes included.
    pub(super) fn string(&mut self, text: &str) {
        self.json.push(b'"');
        self.escaped(text);
        self.json.push(b'"');
    }

    /// The inside of a JSON string.
    #[inline]
    pub(super) fn escaped(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|byte| needs_escape(*byte)) {
            let (plain, special) = rest.split_at(at);
            self.raw(plain);
            let Some((byte, after)) = special.split_first() else { return };
            self.escape(*byte);
            rest = after;
        }
        self.raw(rest);
    }

    fn escape(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        match escape(byte) {
            None => self.json.push(byte),
            Some(b'u') => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or_default();
                self.raw(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            Some(letter) => self.raw(&[b'\\', letter]),
        }
    }

    /// The inside of a JSON string; `None` is a character that did not decode.
    pub(super) fn char_or_replacement(&mut self, character: Option<char>) {
        match character {
            Some(character) => self.escaped(character.encode_utf8(&mut [0; 4])),
            None => self.replacement(),
        }
    }

    pub(super) fn replacement(&mut self) {
        self.raw("\u{fffd}".as_bytes());
        self.replaced = self.replaced.saturating_add(1);
    }
}

#[inline]
pub(super) fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// What serde_json writes for a byte: `None` as it is, `u` for `\u00…`, else the letter after `\`.
#[inline]
fn escape(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        0x00..0x20 => b'u',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_serde_json_does() {
        let every_ascii: String = (0..=0x7f).map(char::from).collect();
        for text in ["", "a", "\"\\/\u{8}\u{c}\n\r\t", "\u{0}\u{1f}\u{7f}\u{2028}é中😀", &every_ascii] {
            let mut writer = Writer::default();
            writer.string(text);
            assert_eq!(String::from_utf8(writer.json).unwrap(), serde_json::to_string(text).unwrap());
        }
    }

    #[test]
    fn pads_base64_to_the_column() {
        for (bytes, length, expected) in [
            (&b"a"[..], 0, "\"YQ==\""),
            (b"a", 3, "\"YQAA\""),
            (b"", 0, "\"\""),
            (b"abcd", 2, "\"YWJjZA==\""),
        ] {
            let mut writer = Writer::default();
            writer.base64(bytes, length);
            assert_eq!(String::from_utf8(writer.json).unwrap(), expected);
        }
    }

    #[test]
    fn floats_are_the_shortest_text() {
        let mut writer = Writer::default();
        writer.float(0.1);
        writer.raw(b" ");
        writer.double(5.0);
        writer.raw(b" ");
        writer.double(f64::NAN);
        assert_eq!(writer.json, b"0.1 5.0 null");
    }
}
