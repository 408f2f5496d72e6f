//! DECIMAL: MySQL's packed digits as text.
//!
//! Nine digits take four bytes, fewer take as many as they need; the first bit is set unless the number
//! is negative, and then all other bits are inverted (MySQL's `strings/decimal.c`).

use super::{
    cursor::{Cursor, Malformed},
    value::Writer,
};

/// Bytes of 0 to 9 digits.
const GROUP_BYTES: [u8; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
/// Digits of a full group.
const GROUP: u8 = 9;

/// Reads a packed DECIMAL and writes it as the server prints it, without quotes.
pub(super) fn write(
    precision: u8,
    scale: u8,
    zerofill: bool,
    bytes: &mut Cursor<'_>,
    out: &mut Writer,
) -> Result<(), Malformed> {
    let whole = precision.checked_sub(scale).ok_or(Malformed)?;
    let size = group_bytes(whole % GROUP)
        + group_bytes(scale % GROUP)
        + 4 * (usize::from(whole / GROUP) + usize::from(scale / GROUP));
    let packed = bytes.take(size)?;
    let negative = packed.first().ok_or(Malformed)? & 0x80 == 0;
    let invert = if negative { u32::MAX } else { 0 };
    let mut groups = Groups { bytes: Cursor(packed), invert, first: true };

    if negative {
        out.json.push(b'-');
    }
    let start = out.json.len();
    for width in [whole % GROUP].into_iter().chain((0..whole / GROUP).map(|_| GROUP)).filter(|w| *w > 0) {
        let value = groups.next(width)?;
        if zerofill || out.json.len() > start {
            out.digits(value, usize::from(width));
        } else if value > 0 {
            out.digits(value, 1);
        }
    }
    if out.json.len() == start {
        out.json.push(b'0');
    }
    if scale > 0 {
        out.json.push(b'.');
    }
    for width in (0..scale / GROUP).map(|_| GROUP).chain([scale % GROUP]).filter(|w| *w > 0) {
        out.digits(groups.next(width)?, usize::from(width));
    }
    Ok(())
}

fn group_bytes(digits: u8) -> usize {
    GROUP_BYTES.get(usize::from(digits)).copied().unwrap_or_default().into()
}

struct Groups<'a> {
    bytes: Cursor<'a>,
    invert: u32,
    first: bool,
}

impl Groups<'_> {
    /// The next `digits` decimal digits, 1 to 9.
    fn next(&mut self, digits: u8) -> Result<u32, Malformed> {
        let width = group_bytes(digits);
        let mut value = 0;
        for byte in self.bytes.take(width)? {
            let byte = if self.first { byte ^ 0x80 } else { *byte };
            self.first = false;
            value = value << 8 | u32::from(byte);
        }
        // The inversion set the bits above the group's own too: for four bytes there are none.
        let own = u32::MAX >> (32 - 8 * width.clamp(1, 4));
        let value = (value ^ self.invert) & own;
        if value < 10_u32.pow(digits.into()) { Ok(value) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(precision: u8, scale: u8, bytes: &[u8], expected: Option<&str>) {
        let mut out = Writer::default();
        let result = write(precision, scale, false, &mut Cursor(bytes), &mut out);
        assert_eq!(result.ok().map(|()| String::from_utf8(out.json).unwrap()).as_deref(), expected);
    }

    /// The example of MySQL's source: 1234567890.1234 as DECIMAL(14,4).
    #[test]
    fn reads_the_manuals_example() {
        let plus = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        check(14, 4, &plus, Some("1234567890.1234"));
        let minus = plus.map(|byte| !byte);
        check(14, 4, &minus, Some("-1234567890.1234"));
    }

    #[test]
    fn reads_edges() {
        check(5, 2, &[0x80, 0, 0], Some("0.00"));
        check(3, 3, &[0x81, 0xf4], Some("0.500"));
        check(1, 0, &[0x89], Some("9"));
        check(1, 0, &[0x8a], None);
        check(5, 2, &[0x80, 0], None);
        check(2, 5, &[0x80, 0, 0], None);
        check(0, 0, &[], None);
    }

    #[test]
    fn zerofill_keeps_leading_zeros() {
        let mut out = Writer::default();
        write(12, 2, true, &mut Cursor(&[0x80, 0, 0, 0, 0x2a, 5]), &mut out).unwrap();
        assert_eq!(out.json, b"0000000042.05");
    }
}
