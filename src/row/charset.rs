//! Text of any MySQL character set as a JSON string.
//!
//! ASCII and the Unicode encodings are decoded here. Every other set is a table of what the server
//! itself converts each character to, asked for when the schema is read ([`crate::table`]): exact for
//! that server by construction, where libraries follow the web's tables, which differ from MySQL's in
//! gbk, big5, euckr and more.

use std::sync::Arc;

use super::{
    json,
    value::{Writer, needs_escape},
};

/// How the bytes of a text column become characters.
#[derive(Debug, Clone)]
pub enum Charset {
    /// `ascii`: bytes over 127 don't decode.
    Ascii,
    /// `utf8`, `utf8mb3`, `utf8mb4`.
    Utf8,
    /// `ucs2` and `utf16`: 2 bytes, most significant first, and surrogate pairs.
    Utf16,
    /// `utf16le`.
    Utf16Le,
    /// `utf32`: 4 bytes, most significant first.
    Utf32,
    /// Any other set, as the server converts it.
    Mapped(Arc<CharMap>),
}

impl Charset {
    /// The set called `name`, if it needs no table from the server.
    pub fn builtin(name: &str) -> Option<Charset> {
        Some(match name {
            "ascii" => Charset::Ascii,
            "utf8" | "utf8mb3" | "utf8mb4" => Charset::Utf8,
            "ucs2" | "utf16" => Charset::Utf16,
            "utf16le" => Charset::Utf16Le,
            "utf32" => Charset::Utf32,
            _ => return None,
        })
    }

    /// Writes `bytes` as a JSON string, quotes included.
    pub(super) fn write_string(&self, bytes: &[u8], out: &mut Writer) {
        if self.is_plain(bytes) {
            return out.plain(bytes);
        }
        out.json.push(b'"');
        self.decode(bytes, out);
        out.json.push(b'"');
    }

    /// Writes `bytes`, which should be JSON, in the canonical form; as a string if they are not.
    pub(super) fn write_json(&self, bytes: &[u8], out: &mut Writer) {
        let decoded;
        let text = match (self, std::str::from_utf8(bytes)) {
            (Charset::Utf8, Ok(text)) => text,
            _ => {
                decoded = self.to_text(bytes, out);
                &decoded
            }
        };
        let start = out.json.len();
        if json::write(text, out).is_err() {
            out.json.truncate(start);
            out.string(text);
        }
    }

    /// The characters of `bytes`; counts in `out` what did not decode.
    fn to_text(&self, bytes: &[u8], out: &mut Writer) -> String {
        let mut string = Writer::default();
        self.write_string(bytes, &mut string);
        out.replaced = out.replaced.saturating_add(string.replaced);
        serde_json::from_slice(&string.json).unwrap_or_default()
    }

    /// Whether `bytes` are their own JSON, which most of the time they are. Looks at every byte without
    /// a branch, which compilers turn into vector instructions.
    #[inline]
    fn is_plain(&self, bytes: &[u8]) -> bool {
        let ascii = match self {
            Charset::Ascii | Charset::Utf8 => true,
            Charset::Mapped(map) => map.ascii,
            Charset::Utf16 | Charset::Utf16Le | Charset::Utf32 => false,
        };
        ascii && bytes.iter().fold(true, |plain, byte| plain & byte.is_ascii() & !needs_escape(*byte))
    }

    fn decode(&self, bytes: &[u8], out: &mut Writer) {
        match self {
            Charset::Utf8 => {
                for chunk in bytes.utf8_chunks() {
                    out.escaped(chunk.valid());
                    if !chunk.invalid().is_empty() {
                        out.replacement();
                    }
                }
            }
            Charset::Ascii => {
                for byte in bytes {
                    out.char_or_replacement(byte.is_ascii().then_some(char::from(*byte)));
                }
            }
            Charset::Utf16 => decode_utf16(bytes, u16::from_be_bytes, out),
            Charset::Utf16Le => decode_utf16(bytes, u16::from_le_bytes, out),
            Charset::Utf32 => {
                let (units, rest) = bytes.as_chunks::<4>();
                for unit in units {
                    out.char_or_replacement(char::from_u32(u32::from_be_bytes(*unit)));
                }
                if !rest.is_empty() {
                    out.replacement();
                }
            }
            Charset::Mapped(map) => map.decode(bytes, out),
        }
    }
}

fn decode_utf16(bytes: &[u8], read: fn([u8; 2]) -> u16, out: &mut Writer) {
    let (units, rest) = bytes.as_chunks::<2>();
    for decoded in char::decode_utf16(units.iter().map(|unit| read(*unit))) {
        out.char_or_replacement(decoded.ok());
    }
    if !rest.is_empty() {
        out.replacement();
    }
}

/// A character set as a table. Every character of the sets it serves lies in the basic plane, but for
/// those of gb18030 that are computed.
#[derive(Debug)]
pub struct CharMap {
    form: Form,
    /// By byte.
    singles: Vec<u16>,
    /// By two bytes, empty for a single-byte set.
    pairs: Vec<u16>,
    /// By the second and third byte after [`TRIPLE_LEAD`].
    triples: Vec<u16>,
    /// The four-byte characters of gb18030 below [`SUPPLEMENTARY`], in order.
    quads: Vec<u16>,
    /// Whether every byte below 128 is that ASCII character.
    ascii: bool,
}

/// Which bytes make one character. From the ranges in MySQL's manual and its `strings/ctype-*.c`.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// Bytes over 127 that are a character by themselves.
    singles: (u8, u8),
    leads: &'static [(u8, u8)],
    trails: &'static [(u8, u8)],
    /// 0x8F and two bytes of the trail's range are one character (ujis, eucjpms).
    triples: bool,
    /// Byte, digit, byte, digit are one character (gb18030).
    quads: bool,
}

/// A surrogate, which no character is.
const UNMAPPED: u16 = 0xd800;
const NONE: (u8, u8) = (1, 0);
const SINGLE: Form = Form { singles: (0x80, 0xff), leads: &[], trails: &[], triples: false, quads: false };
/// Leads the three-byte characters of EUC-JP.
const TRIPLE_LEAD: u8 = 0x8f;
/// Leads a half-width katakana in EUC-JP.
const KATAKANA_LEAD: u8 = 0x8e;
/// The first index of gb18030's four-byte characters that is computed: 0x90308130 is U+10000.
const SUPPLEMENTARY: u32 = 15 * 12600;
/// How many four-byte characters of gb18030 stand for the basic plane: 0x81308130 to 0x8431A439.
const BASIC_QUADS: u32 = 39420;

impl Form {
    fn named(name: &str) -> Option<Form> {
        let pairs = |leads, trails| Form { singles: NONE, leads, trails, triples: false, quads: false };
        Some(match name {
            "gbk" => pairs(&[(0x81, 0xfe)], &[(0x40, 0x7e), (0x80, 0xfe)]),
            "gb18030" => Form { quads: true, ..pairs(&[(0x81, 0xfe)], &[(0x40, 0x7e), (0x80, 0xfe)]) },
            "gb2312" => pairs(&[(0xa1, 0xf7)], &[(0xa1, 0xfe)]),
            "big5" => pairs(&[(0xa1, 0xf9)], &[(0x40, 0x7e), (0xa1, 0xfe)]),
            "euckr" => pairs(&[(0x81, 0xfe)], &[(0x41, 0x5a), (0x61, 0x7a), (0x81, 0xfe)]),
            "sjis" | "cp932" => Form {
                singles: (0xa1, 0xdf),
                ..pairs(&[(0x81, 0x9f), (0xe0, 0xfc)], &[(0x40, 0x7e), (0x80, 0xfc)])
            },
            "ujis" | "eucjpms" => Form {
                triples: true,
                ..pairs(&[(KATAKANA_LEAD, KATAKANA_LEAD), (0xa1, 0xfe)], &[(0xa1, 0xfe)])
            },
            _ => return None,
        })
    }

    fn is_pair(&self, lead: u8, trail: u8) -> bool {
        within(self.leads, lead) && within(self.trails, trail)
    }

    fn is_triple(&self, bytes: &[u8]) -> bool {
        self.triples
            && matches!(bytes, [TRIPLE_LEAD, b, c, ..] if within(self.trails, *b) && within(self.trails, *c))
    }

    /// The index of a four-byte character among all of them.
    fn quad(&self, bytes: &[u8]) -> Option<u32> {
        match *bytes {
            [a @ 0x81..=0xfe, b @ b'0'..=b'9', c @ 0x81..=0xfe, d @ b'0'..=b'9', ..] if self.quads => {
                let [a, b, c, d] = [a - 0x81, b - b'0', c - 0x81, d - b'0'].map(u32::from);
                Some(((a * 10 + b) * 126 + c) * 10 + d)
            }
            _ => None,
        }
    }
}

fn within(ranges: &[(u8, u8)], byte: u8) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&byte))
}

impl CharMap {
    /// Every sequence of bytes that is, or may be, one character of the set called `name`. A set that
    /// is not known to have longer ones is taken for a single-byte set.
    pub fn sequences(name: &str) -> Vec<Vec<u8>> {
        let form = Form::named(name).unwrap_or(SINGLE);
        let all = || 0..=u8::MAX;
        let is_single = |byte: &u8| byte.is_ascii() || within(&[form.singles], *byte);
        let mut sequences: Vec<Vec<u8>> = all().filter(is_single).map(|byte| vec![byte]).collect();
        for lead in all() {
            sequences.extend(all().filter(|trail| form.is_pair(lead, *trail)).map(|trail| vec![lead, trail]));
        }
        if form.triples {
            let trails = || all().filter(|byte| within(form.trails, *byte));
            sequences.extend(trails().flat_map(|b| trails().map(move |c| vec![TRIPLE_LEAD, b, c])));
        }
        if form.quads {
            sequences.extend((0..BASIC_QUADS).map(|index| quad_bytes(index).to_vec()));
        }
        sequences
    }

    /// The set called `name`, from what the server converts each of [`CharMap::sequences`] to.
    pub fn new<'a>(name: &str, characters: impl IntoIterator<Item = (&'a [u8], char)>) -> CharMap {
        let form = Form::named(name).unwrap_or(SINGLE);
        let table = |needed: bool, length: usize| if needed { vec![UNMAPPED; length] } else { Vec::new() };
        let mut map = CharMap {
            form,
            singles: vec![UNMAPPED; 1 << 8],
            pairs: table(!form.leads.is_empty(), 1 << 16),
            triples: table(form.triples, 1 << 16),
            quads: table(form.quads, BASIC_QUADS as usize),
            ascii: false,
        };
        for (bytes, character) in characters {
            let slot = match *bytes {
                [a] => map.singles.get_mut(usize::from(a)),
                [a, b] => map.pairs.get_mut(index(a, b)),
                [_, b, c] => map.triples.get_mut(index(b, c)),
                _ => form.quad(bytes).and_then(|quad| map.quads.get_mut(quad as usize)),
            };
            if let (Some(slot), Ok(unit)) = (slot, u16::try_from(u32::from(character))) {
                *slot = unit;
            }
        }
        map.ascii = map.singles.iter().take(0x80).enumerate().all(|(byte, unit)| byte == usize::from(*unit));
        map
    }

    fn decode(&self, mut bytes: &[u8], out: &mut Writer) {
        loop {
            if self.ascii {
                let run = bytes.iter().take_while(|byte| byte.is_ascii()).count();
                let (ascii, rest) = bytes.split_at(run);
                out.escaped(std::str::from_utf8(ascii).unwrap_or_default());
                bytes = rest;
            }
            if bytes.is_empty() {
                return;
            }
            let (character, length) = self.first(bytes);
            out.char_or_replacement(character);
            bytes = bytes.get(length..).unwrap_or_default();
        }
    }

    /// The first character of `bytes`, and of how many bytes it is.
    fn first(&self, bytes: &[u8]) -> (Option<char>, usize) {
        let at = |table: &[u16], index: usize| table.get(index).copied().and_then(basic);
        match *bytes {
            [_, b, c, ..] if self.form.is_triple(bytes) => (at(&self.triples, index(b, c)), 3),
            [a, b, ..] if self.form.is_pair(a, b) => (at(&self.pairs, index(a, b)), 2),
            [a, ..] => match self.form.quad(bytes) {
                Some(quad) if quad >= SUPPLEMENTARY => (char::from_u32(quad - SUPPLEMENTARY + 0x10000), 4),
                Some(quad) => (at(&self.quads, quad as usize), 4),
                None => (at(&self.singles, usize::from(a)), 1),
            },
            [] => (None, 0),
        }
    }
}

fn index(high: u8, low: u8) -> usize {
    usize::from(high) << 8 | usize::from(low)
}

fn basic(unit: u16) -> Option<char> {
    char::from_u32(u32::from(unit))
}

#[expect(clippy::cast_possible_truncation, reason = "the remainders fit, and BASIC_QUADS bounds the lead")]
fn quad_bytes(index: u32) -> [u8; 4] {
    [
        0x81 + (index / 12600) as u8,
        b'0' + (index / 1260 % 10) as u8,
        0x81 + (index / 10 % 126) as u8,
        b'0' + (index % 10) as u8,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(charset: &Charset, bytes: &[u8], expected: &str, replaced: u32) {
        let mut out = Writer::default();
        charset.write_string(bytes, &mut out);
        let text: String = serde_json::from_slice(&out.json).unwrap();
        assert_eq!((text.as_str(), out.replaced), (expected, replaced), "{bytes:02x?}");
    }

    #[test]
    fn unicode_that_is_none_is_replaced_and_counted() {
        check(&Charset::Ascii, b"a\xe9\n", "a\u{fffd}\n", 1);
        check(&Charset::Utf8, "é😀\"".as_bytes(), "é😀\"", 0);
        check(&Charset::Utf8, b"a\xff\xe4\xb8b", "a\u{fffd}\u{fffd}b", 2);
        check(&Charset::Utf16, &[0xd8, 0x3d, 0xde, 0, 0, b'a'], "😀a", 0);
        check(&Charset::Utf16, &[0xde, 0, 0, b'a', 0], "\u{fffd}a\u{fffd}", 2);
        check(&Charset::Utf16Le, &[b'a', 0], "a", 0);
        check(&Charset::Utf32, &[0, 1, 0xf6, 0, 0, 0x11, 0, 0, 0], "😀\u{fffd}\u{fffd}", 2);
    }

    /// A set of which the server told two characters besides ASCII.
    fn mapped(name: &str, characters: &[(&[u8], char)]) -> Charset {
        let ascii: Vec<[u8; 1]> = (0..0x80).map(|byte| [byte]).collect();
        let ascii = ascii.iter().map(|byte| (&byte[..], char::from(byte[0])));
        Charset::Mapped(Arc::new(CharMap::new(name, ascii.chain(characters.iter().copied()))))
    }

    #[test]
    fn mapped_characters_take_the_bytes_that_their_set_says() {
        let gbk = mapped("gbk", &[(b"\xd6\xd0", '中'), (b"\xce\x5c", '蝄')]);
        check(&gbk, b"a\xd6\xd0b", "a中b", 0);
        check(&gbk, b"\xce\x5c\"", "蝄\"", 0);
        check(&gbk, b"\xd6\xd1b", "\u{fffd}b", 1);
        check(&gbk, b"\xd6\"\xff\xd6", "\u{fffd}\"\u{fffd}\u{fffd}", 3);
        let gb18030 =
            mapped("gb18030", &[(b"\x81\x30\x81\x30", '\u{80}'), (b"\x84\x31\xa4\x39", '\u{ffff}')]);
        check(&gb18030, b"\x81\x30\x81\x30\x84\x31\xa4\x39", "\u{80}\u{ffff}", 0);
        check(
            &gb18030,
            b"\x90\x30\x81\x30\xe3\x32\x9a\x35\xe3\x32\x9a\x36",
            "\u{10000}\u{10ffff}\u{fffd}",
            1,
        );
        check(&gb18030, b"\x81\x30\x81", "\u{fffd}0\u{fffd}", 2);
        let ujis = mapped("ujis", &[(b"\x8f\xb0\xa1", '丂'), (b"\x8e\xb1", 'ｱ')]);
        check(&ujis, b"\x8f\xb0\xa1\x8e\xb1\x8f\xb0", "丂ｱ\u{fffd}\u{fffd}", 2);
        let single = mapped("latin1", &[(b"\xe9", 'é'), (b"\x80", '€')]);
        check(&single, b"\xe9\x80\x81", "é€\u{fffd}", 1);
    }

    #[test]
    fn every_sequence_is_one_character_of_the_set() {
        for name in
            ["gbk", "gb18030", "gb2312", "big5", "euckr", "sjis", "cp932", "ujis", "eucjpms", "latin1"]
        {
            let sequences = CharMap::sequences(name);
            let map = CharMap::new(name, sequences.iter().map(|bytes| (bytes.as_slice(), 'x')));
            for bytes in &sequences {
                assert_eq!(map.first(bytes), (Some('x'), bytes.len()), "{name} {bytes:02x?}");
            }
        }
    }
}
