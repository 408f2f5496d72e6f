//! JSON text in one canonical form, so that a value reads the same whether the server printed it or it
//! comes from the binlog.
//!
//! No white space outside strings, strings escaped as serde_json does, and numbers with a fraction or an
//! exponent as the shortest text of their `f64`.

use super::value::Writer;

/// As deep as MySQL allows. Deeper text is not taken for JSON.
pub(super) const MAX_DEPTH: usize = 100;
/// Up to so many digits a number with a fraction or an exponent is taken for an `f64`, which is never
/// printed with more; a DECIMAL of more digits stays as it is.
const F64_DIGITS: usize = 17;

/// The text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// Writes `text` in the canonical form. After an error, `out` holds part of it.
pub(super) fn write(text: &str, out: &mut Writer) -> Result<(), NotJson> {
    let mut parser = Parser { bytes: text.as_bytes(), at: 0, text };
    // One bit for each open container: whether it is an object.
    let mut open: Vec<bool> = Vec::new();
    loop {
        // A value is due here.
        parser.skip_space();
        match parser.next().ok_or(NotJson)? {
            b'{' => {
                out.json.push(b'{');
                if parser.eat(b'}') {
                    out.json.push(b'}');
                } else {
                    enter(&mut open, true)?;
                    parser.member(out)?;
                    continue;
                }
            }
            b'[' => {
                out.json.push(b'[');
                if parser.eat(b']') {
                    out.json.push(b']');
                } else {
                    enter(&mut open, false)?;
                    continue;
                }
            }
            b'"' => parser.string(out)?,
            b't' => parser.word("true", out)?,
            b'f' => parser.word("false", out)?,
            b'n' => parser.word("null", out)?,
            b'-' | b'0'..=b'9' => parser.number(out)?,
            _ => return Err(NotJson),
        }
        // A value has ended here.
        loop {
            let Some(object) = open.last().copied() else {
                parser.skip_space();
                return if parser.at == parser.bytes.len() { Ok(()) } else { Err(NotJson) };
            };
            if parser.eat(b',') {
                out.json.push(b',');
                if object {
                    parser.member(out)?;
                }
                break;
            }
            let close = if object { b'}' } else { b']' };
            if !parser.eat(close) {
                return Err(NotJson);
            }
            out.json.push(close);
            open.pop();
        }
    }
}

fn enter(open: &mut Vec<bool>, object: bool) -> Result<(), NotJson> {
    if open.len() == MAX_DEPTH {
        return Err(NotJson);
    }
    open.push(object);
    Ok(())
}

/// Writes the text of a number that is JSON's in the canonical form.
pub(super) fn write_number(text: &str, out: &mut Writer) {
    let is_float = text.contains(['.', 'e', 'E']);
    if is_float
        && significant_digits(text) <= F64_DIGITS
        && let Some(value) = text.parse::<f64>().ok().filter(|value| value.is_finite())
    {
        return out.double(value);
    }
    out.raw(text.as_bytes());
}

fn significant_digits(text: &str) -> usize {
    let mantissa = text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E'));
    mantissa.filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').count()
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes `byte` if it comes next, after white space.
    fn eat(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// A key and its colon.
    fn member(&mut self, out: &mut Writer) -> Result<(), NotJson> {
        if !self.eat(b'"') {
            return Err(NotJson);
        }
        self.string(out)?;
        if !self.eat(b':') {
            return Err(NotJson);
        }
        out.json.push(b':');
        Ok(())
    }

    /// The rest of `true`, `false` or `null`.
    fn word(&mut self, word: &str, out: &mut Writer) -> Result<(), NotJson> {
        let start = self.at - 1;
        if !self.text.get(start..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(NotJson);
        }
        self.at = start + word.len();
        out.raw(word.as_bytes());
        Ok(())
    }

    /// The rest of a number, whose first byte was taken.
    fn number(&mut self, out: &mut Writer) -> Result<(), NotJson> {
        let start = self.at - 1;
        let first =
            if self.bytes.get(start) == Some(&b'-') { self.next() } else { self.bytes.get(start).copied() };
        match first {
            Some(b'0') => {}
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(NotJson),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        write_number(self.text.get(start..self.at).ok_or(NotJson)?, out);
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        self.digits();
        if self.at > start { Ok(()) } else { Err(NotJson) }
    }

    /// The rest of a string, whose opening quote was taken.
    fn string(&mut self, out: &mut Writer) -> Result<(), NotJson> {
        out.json.push(b'"');
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            // No byte of these can be inside a character of UTF-8.
            out.escaped(self.text.get(start..self.at).ok_or(NotJson)?);
            match self.next().ok_or(NotJson)? {
                b'"' => break,
                b'\\' => self.escape(out)?,
                _ => return Err(NotJson),
            }
        }
        out.json.push(b'"');
        Ok(())
    }

    /// The rest of an escape, whose backslash was taken.
    fn escape(&mut self, out: &mut Writer) -> Result<(), NotJson> {
        let character = match self.next().ok_or(NotJson)? {
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex()?;
                return self.surrogate_or_character(unit, out);
            }
            _ => return Err(NotJson),
        };
        out.char_or_replacement(Some(character));
        Ok(())
    }

    /// A lone surrogate is no character; U+FFFD stands for it.
    fn surrogate_or_character(&mut self, unit: u16, out: &mut Writer) -> Result<(), NotJson> {
        let before = self.at;
        let mut pair = None;
        if (0xd800..0xdc00).contains(&unit) && self.next() == Some(b'\\') && self.next() == Some(b'u') {
            let low = self.hex()?;
            pair = char::decode_utf16([unit, low]).next().and_then(Result::ok);
        }
        if pair.is_none() {
            self.at = before;
        }
        out.char_or_replacement(pair.or_else(|| char::from_u32(unit.into())));
        Ok(())
    }

    fn hex(&mut self) -> Result<u16, NotJson> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(NotJson)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotJson);
        }
        self.at += 4;
        u16::from_str_radix(digits, 16).map_err(|_| NotJson)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> Option<String> {
        let mut out = Writer::default();
        write(text, &mut out).ok()?;
        Some(String::from_utf8(out.json).unwrap())
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        assert_eq!(canonical(expected).as_deref(), Some(expected), "{expected} is not canonical");
    }

    #[test]
    fn strips_space_outside_strings_only() {
        check(" { \"a b\" : [ 1 ,\r\n {} , [ ] , \" x \" ] }\t", "{\"a b\":[1,{},[],\" x \"]}");
        check("[true, false, null]", "[true,false,null]");
        check("\"\"", "\"\"");
        check("7", "7");
    }

    #[test]
    fn writes_numbers_one_way() {
        check(
            "[1, -0, 18446744073709551615, 123456789012345678901234567890]",
            "[1,-0,18446744073709551615,123456789012345678901234567890]",
        );
        check("[1.0, 1.50, -0.0, 1e2, 1E+2, 1.5e-7, 1e20]", "[1.0,1.5,-0.0,100.0,100.0,1.5e-7,1e20]");
        check("[0.10000000000000001, 1234567890.12345678901]", "[0.1,1234567890.12345678901]");
        check("[1e400, 0.000000000000000000001]", "[1e400,1e-21]");
    }

    #[test]
    fn writes_strings_one_way() {
        check(r#""\/\u0041\u00e9\ud83d\ude00\n\u001f\"\\""#, r#""/Aé😀\n\u001f\"\\""#);
        check("\"中\u{2028}\u{7f}\"", "\"中\u{2028}\u{7f}\"");
        check(r#""\ud83d\ud83d\ude00""#, "\"\u{fffd}😀\"");
        check(r#""\ude00x\ud800""#, "\"\u{fffd}x\u{fffd}\"");
    }

    #[test]
    fn keeps_duplicate_keys_in_order() {
        check(r#"{"b":1, "a":2, "b":3}"#, r#"{"b":1,"a":2,"b":3}"#);
    }

    #[test]
    fn refuses_what_is_no_json() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "[1 2]",
            "1 2",
            "01",
            "-",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "tru",
            "nulll",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u+123\"",
            "\"\n\"",
            "]",
            "}",
            "[}",
            "{]",
            "\u{feff}1",
            "'a'",
            "NaN",
            "\"\\ud83d\\u12\"",
        ] {
            assert_eq!(canonical(text), None, "{text:?}");
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(canonical(&nested(MAX_DEPTH)).is_some());
        assert_eq!(canonical(&nested(MAX_DEPTH + 2)), None);
        assert_eq!(canonical(&"[".repeat(1_000_000)), None);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_value_stays_the_same(value in any_json()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            // serde_json writes 1e+30 where ryu writes 1e30.
            let one_way = |text: String| text.replace("e+", "e");
            prop_assert_eq!(canonical(&pretty).map(one_way), Some(one_way(value.to_string())));
        }

        #[test]
        fn takes_what_serde_json_takes(text in r#"[\[\]{}:, "\\0-9a-fntu.eE+-]{0,24}"#) {
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(canonical(&text).is_some(), theirs, "{}", text);
        }
    }
}
