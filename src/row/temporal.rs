//! Dates and times, as MySQL prints them.
//!
//! The packed forms are those of MySQL's `my_time.cc` and of the row events.

use super::{
    cursor::{Cursor, Malformed},
    value::Writer,
};

/// A DATETIME, or a DATE with zeros behind. Zero parts and impossible days occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DateTime {
    pub(super) year: u32,
    pub(super) month: u32,
    pub(super) day: u32,
    pub(super) hour: u32,
    pub(super) minute: u32,
    pub(super) second: u32,
    pub(super) micros: u32,
}

/// A TIME, up to 838 hours either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Time {
    pub(super) negative: bool,
    pub(super) hours: u32,
    pub(super) minutes: u32,
    pub(super) seconds: u32,
    pub(super) micros: u32,
}

impl DateTime {
    /// DATE in a row image: 3 bytes.
    pub(super) fn read_date(bytes: &mut Cursor<'_>) -> Result<DateTime, Malformed> {
        let packed = narrow(bytes.little(3)?);
        Ok(DateTime { year: packed >> 9, month: packed >> 5 & 15, day: packed & 31, ..DateTime::default() })
    }

    /// DATETIME since MySQL 5.6: 5 bytes and the fraction.
    pub(super) fn read(fsp: u8, bytes: &mut Cursor<'_>) -> Result<DateTime, Malformed> {
        let whole = bytes.big(5)?;
        let whole = whole.checked_sub(1 << 39).ok_or(Malformed)?;
        Ok(DateTime { micros: read_fraction(fsp, bytes)?, ..DateTime::unpack(whole) })
    }

    /// DATETIME before MySQL 5.6, or with MariaDB's `mysql56_temporal_format=OFF`: decimal digits.
    pub(super) fn read_old(bytes: &mut Cursor<'_>) -> Result<DateTime, Malformed> {
        let digits = bytes.little(8)?;
        let two = |shift: u64| narrow(digits / shift % 100);
        Ok(DateTime {
            year: narrow(digits / 10_000_000_000),
            month: two(100_000_000),
            day: two(1_000_000),
            hour: two(10_000),
            minute: two(100),
            second: two(1),
            micros: 0,
        })
    }

    /// The form inside MySQL's JSON: whole part and microseconds in 8 bytes.
    pub(super) fn from_packed(packed: i64) -> DateTime {
        let packed = packed.unsigned_abs();
        DateTime { micros: narrow(packed & 0xff_ffff), ..DateTime::unpack(packed >> 24) }
    }

    fn unpack(whole: u64) -> DateTime {
        let year_month = narrow(whole >> 22);
        DateTime {
            year: year_month / 13,
            month: year_month % 13,
            day: narrow(whole >> 17 & 31),
            hour: narrow(whole >> 12 & 31),
            minute: narrow(whole >> 6 & 63),
            second: narrow(whole & 63),
            micros: 0,
        }
    }

    /// Seconds since 1970 in UTC.
    fn from_unix(seconds: u32, micros: u32) -> DateTime {
        let (days, second) = (seconds / 86400, seconds % 86400);
        // Days since 0000-03-01, so that a leap day ends its year; 400 years are 146,097 days.
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day_of_year + 2) / 153;
        let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        DateTime {
            year: era * 400 + year + next_year,
            month,
            day: day_of_year - (153 * ((month + 9) % 12) + 2) / 5 + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            micros,
        }
    }

    fn is_zero(&self) -> bool {
        *self == DateTime::default()
    }
}

impl Time {
    /// TIME since MySQL 5.6: 3 bytes and the fraction; a negative one is the complement of both.
    pub(super) fn read(fsp: u8, bytes: &mut Cursor<'_>) -> Result<Time, Malformed> {
        let fraction_bytes = fraction_bytes(fsp)?;
        let packed = bytes.big(3 + fraction_bytes)?;
        let zero = 1_u64 << (23 + 8 * u32::from(fraction_bytes));
        let (negative, magnitude) = match packed.checked_sub(zero) {
            Some(magnitude) => (false, magnitude),
            None => (true, zero - packed),
        };
        let whole = narrow(magnitude >> (8 * u32::from(fraction_bytes)));
        let fraction = narrow(magnitude & ((1 << (8 * u32::from(fraction_bytes))) - 1));
        Ok(Time {
            negative,
            hours: whole >> 12 & 1023,
            minutes: whole >> 6 & 63,
            seconds: whole & 63,
            micros: scale_up(fraction, fraction_bytes)?,
        })
    }

    /// TIME before MySQL 5.6: decimal digits in 3 signed bytes.
    pub(super) fn read_old(bytes: &mut Cursor<'_>) -> Result<Time, Malformed> {
        let digits = bytes.little_signed(3)?;
        let magnitude = narrow(digits.unsigned_abs());
        Ok(Time {
            negative: digits < 0,
            hours: magnitude / 10_000,
            minutes: magnitude / 100 % 100,
            seconds: magnitude % 100,
            micros: 0,
        })
    }

    /// The form inside MySQL's JSON.
    pub(super) fn from_packed(packed: i64) -> Time {
        let magnitude = packed.unsigned_abs();
        let whole = narrow(magnitude >> 24);
        Time {
            negative: packed < 0,
            hours: whole >> 12 & 1023,
            minutes: whole >> 6 & 63,
            seconds: whole & 63,
            micros: narrow(magnitude & 0xff_ffff),
        }
    }
}

/// TIMESTAMP since MySQL 5.6: seconds in 4 bytes, most significant first, and the fraction.
pub(super) fn read_timestamp(fsp: u8, bytes: &mut Cursor<'_>) -> Result<DateTime, Malformed> {
    let seconds = narrow(bytes.big(4)?);
    Ok(timestamp(seconds, read_fraction(fsp, bytes)?))
}

/// TIMESTAMP before MySQL 5.6: seconds in 4 bytes, least significant first.
pub(super) fn read_old_timestamp(bytes: &mut Cursor<'_>) -> Result<DateTime, Malformed> {
    Ok(timestamp(narrow(bytes.little(4)?), 0))
}

/// Second 0 stands for '0000-00-00 00:00:00'.
fn timestamp(seconds: u32, micros: u32) -> DateTime {
    if seconds == 0 && micros == 0 { DateTime::default() } else { DateTime::from_unix(seconds, micros) }
}

fn read_fraction(fsp: u8, bytes: &mut Cursor<'_>) -> Result<u32, Malformed> {
    let width = fraction_bytes(fsp)?;
    scale_up(narrow(bytes.big(width)?), width)
}

fn fraction_bytes(fsp: u8) -> Result<u8, Malformed> {
    if fsp <= 6 { Ok(fsp.div_ceil(2)) } else { Err(Malformed) }
}

/// Each byte of a fraction holds two decimal digits.
fn scale_up(fraction: u32, width: u8) -> Result<u32, Malformed> {
    let unit = match width {
        1 => 10_000,
        2 => 100,
        _ => 1,
    };
    fraction.checked_mul(unit).filter(|micros| *micros < 1_000_000).ok_or(Malformed)
}

/// The callers mask or bound what they pass.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Writer {
    /// `"2026-11-20"`.
    pub(super) fn date(&mut self, value: DateTime) {
        self.json.push(b'"');
        self.push_date(value);
        self.json.push(b'"');
    }

    /// `"2026-11-20 07:15:00"` with `fsp` digits of the fraction.
    pub(super) fn date_time(&mut self, value: DateTime, fsp: u8) {
        self.json.push(b'"');
        self.push_date(value);
        self.json.push(b' ');
        self.push_clock(value.hour, value.minute, value.second, value.micros, fsp);
        self.json.push(b'"');
    }

    /// `"2026-11-20T07:15:00Z"`; the zero timestamp is no moment and stays as MySQL prints it.
    pub(super) fn timestamp(&mut self, value: DateTime, fsp: u8) {
        if value.is_zero() {
            return self.date_time(value, fsp);
        }
        self.json.push(b'"');
        self.push_date(value);
        self.json.push(b'T');
        self.push_clock(value.hour, value.minute, value.second, value.micros, fsp);
        self.raw(b"Z\"");
    }

    /// `"-838:59:59.000"`.
    pub(super) fn time(&mut self, value: Time, fsp: u8) {
        self.json.push(b'"');
        if value.negative {
            self.json.push(b'-');
        }
        self.push_clock(value.hours, value.minutes, value.seconds, value.micros, fsp);
        self.json.push(b'"');
    }

    fn push_date(&mut self, value: DateTime) {
        self.digits(value.year, 4);
        self.json.push(b'-');
        self.digits(value.month, 2);
        self.json.push(b'-');
        self.digits(value.day, 2);
    }

    fn push_clock(&mut self, hours: u32, minutes: u32, seconds: u32, micros: u32, fsp: u8) {
        self.digits(hours, 2);
        self.json.push(b':');
        self.digits(minutes, 2);
        self.json.push(b':');
        self.digits(seconds, 2);
        if fsp > 0 {
            self.json.push(b'.');
            self.digits(micros / 10_u32.pow(6 - u32::from(fsp.min(6))), usize::from(fsp));
        }
    }

    /// `value` with leading zeros up to `width`.
    pub(super) fn digits(&mut self, value: u32, width: usize) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value).as_bytes();
        for _ in digits.len()..width {
            self.json.push(b'0');
        }
        self.raw(digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::default();
        write(&mut writer);
        String::from_utf8(writer.json).unwrap()
    }

    #[track_caller]
    fn check_timestamp(fsp: u8, bytes: &[u8], expected: &str) {
        let value = read_timestamp(fsp, &mut Cursor(bytes)).unwrap();
        assert_eq!(text(|out| out.timestamp(value, fsp)), expected);
    }

    #[test]
    fn timestamps_are_rfc_3339() {
        check_timestamp(0, &[0, 0, 0, 1], "\"1970-01-01T00:00:01Z\"");
        check_timestamp(0, &[0x7f, 0xff, 0xff, 0xff], "\"2038-01-19T03:14:07Z\"");
        check_timestamp(0, &[0xff, 0xff, 0xff, 0xff], "\"2106-02-07T06:28:15Z\"");
        check_timestamp(0, &951_782_400_u32.to_be_bytes(), "\"2000-02-29T00:00:00Z\"");
        check_timestamp(0, &1_709_251_199_u32.to_be_bytes(), "\"2024-02-29T23:59:59Z\"");
        check_timestamp(3, &[0, 0, 0, 1, 0x04, 0xce], "\"1970-01-01T00:00:01.123Z\"");
        check_timestamp(6, &[0; 7], "\"0000-00-00 00:00:00.000000\"");
        check_timestamp(0, &[0; 4], "\"0000-00-00 00:00:00\"");
    }

    #[test]
    fn every_day_of_the_unsigned_range_follows_the_one_before() {
        let mut previous = DateTime::from_unix(0, 0);
        assert_eq!((previous.year, previous.month, previous.day), (1970, 1, 1));
        for day in 1..=u32::MAX / 86400 {
            let date = DateTime::from_unix(day * 86400, 0);
            let leap = previous.year.is_multiple_of(4)
                && (!previous.year.is_multiple_of(100) || previous.year.is_multiple_of(400));
            let length = match previous.month {
                2 => 28 + u32::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let expected = if previous.day < length {
                (previous.year, previous.month, previous.day + 1)
            } else if previous.month < 12 {
                (previous.year, previous.month + 1, 1)
            } else {
                (previous.year + 1, 1, 1)
            };
            assert_eq!((date.year, date.month, date.day), expected);
            previous = date;
        }
    }

    #[track_caller]
    fn check_time(fsp: u8, bytes: &[u8], expected: &str) {
        let value = Time::read(fsp, &mut Cursor(bytes)).unwrap();
        assert_eq!(text(|out| out.time(value, fsp)), format!("\"{expected}\""));
    }

    #[test]
    fn negative_times_are_complements() {
        check_time(0, &[0x80, 0, 0], "00:00:00");
        check_time(0, &[0xb4, 0x6e, 0xfb], "838:59:59");
        check_time(0, &[0x4b, 0x91, 0x05], "-838:59:59");
        check_time(1, &[0x7f, 0xff, 0xff, 0xce], "-00:00:00.5");
        check_time(3, &[0x7f, 0xff, 0xff, 0xff, 0xf6], "-00:00:00.001");
        check_time(6, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff], "-00:00:00.000001");
    }

    #[test]
    fn refuses_impossible_fractions_and_short_bytes() {
        assert_eq!(Time::read(2, &mut Cursor(&[0x80, 0, 0, 200])), Err(Malformed));
        assert_eq!(Time::read(6, &mut Cursor(&[0x80, 0, 0])), Err(Malformed));
        assert_eq!(DateTime::read(0, &mut Cursor(&[0; 5])), Err(Malformed));
        assert_eq!(DateTime::read(9, &mut Cursor(&[0x99; 20])), Err(Malformed));
    }

    #[test]
    fn old_formats_are_decimal_digits() {
        let mut bytes = Cursor(&[0xff; 0]);
        assert!(DateTime::read_old(&mut bytes).is_err());
        let digits = 20_261_120_071_500_u64.to_le_bytes();
        let value = DateTime::read_old(&mut Cursor(&digits)).unwrap();
        assert_eq!(text(|out| out.date_time(value, 0)), "\"2026-11-20 07:15:00\"");
        let minus = (-8_385_959_i32).to_le_bytes();
        let value = Time::read_old(&mut Cursor(&minus[..3])).unwrap();
        assert_eq!(text(|out| out.time(value, 0)), "\"-838:59:59\"");
    }
}
