//! Time as the site has it: today, the hour, and what `optime` says.

use jiff::{Timestamp, civil::Date, fmt::strtime::BrokenDownTime, tz::TimeZone};

/// The site's time zone, and how controllers write the time.
#[derive(Debug, Clone)]
pub struct Clock {
    zone: TimeZone,
    format: Option<Box<str>>,
}

impl Clock {
    /// `zone`: an IANA name; `None`: the machine's. `format` as strftime has it; `None`: the time of a
    /// swipe is not looked at.
    ///
    /// # Errors
    /// An unknown zone, or a format that tells no time, for people.
    pub fn new(zone: Option<&str>, format: Option<&str>) -> Result<Self, String> {
        let zone = match zone {
            Some(name) => TimeZone::get(name).map_err(|_| {
                format!(
                    "--timezone {name}: no such time zone; names are such as Asia/Shanghai and Europe/Berlin"
                )
            })?,
            None => TimeZone::system(),
        };
        let clock = Clock { zone, format: format.map(Into::into) };
        if let Some(format) = &clock.format {
            clock.check(format).ok_or_else(|| {
                format!("--optime-format {format}: it must tell the day and the time, such as %Y%m%d %H%M%S")
            })?;
        }
        Ok(clock)
    }

    /// A time written by the format must be read as the same time, to the minute.
    fn check(&self, format: &str) -> Option<()> {
        let time = Timestamp::from_second(1_795_158_900).ok()?;
        let text = BrokenDownTime::from(&time.to_zoned(self.zone.clone())).to_string(format).ok()?;
        let read_ms = self.optime_ms(&text, u64::try_from(time.as_millisecond()).ok()?)?;
        (read_ms.abs_diff(u64::try_from(time.as_millisecond()).ok()?) < 60_000).then_some(())
    }

    /// The day at the site.
    pub fn today(&self, now_ms: u64) -> Date {
        self.at(now_ms).date()
    }

    /// The hour of the day at the site.
    pub fn hour(&self, now_ms: u64) -> i8 {
        self.at(now_ms).hour()
    }

    /// How far the site's clocks are ahead of UTC, in seconds.
    pub fn utc_offset_s(&self, now_ms: u64) -> i32 {
        let time = i64::try_from(now_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        self.zone.to_offset(time.unwrap_or(Timestamp::UNIX_EPOCH)).seconds()
    }

    fn at(&self, now_ms: u64) -> jiff::civil::DateTime {
        let time = i64::try_from(now_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        self.zone.to_datetime(time.unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// What a controller wrote, as Unix milliseconds. Where the clocks were put back, an hour comes
    /// twice: the one nearer to `near_ms` is meant.
    pub(super) fn optime_ms(&self, text: &str, near_ms: u64) -> Option<u64> {
        let format = self.format.as_deref()?;
        let read = BrokenDownTime::parse(format, text.trim()).ok()?;
        let ms = |time: Timestamp| u64::try_from(time.as_millisecond()).ok();
        if let Ok(time) = read.to_timestamp() {
            return ms(time);
        }
        let time = self.zone.to_ambiguous_timestamp(read.to_datetime().ok()?);
        let (earlier, later) = (ms(time.earlier().ok()?)?, ms(time.later().ok()?)?);
        Some(if earlier.abs_diff(near_ms) < later.abs_diff(near_ms) { earlier } else { later })
    }

    /// Whether swipes' own times are looked at.
    pub(super) fn reads_optime(&self) -> bool {
        self.format.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = "%Y%m%d %H%M%S";

    #[track_caller]
    fn check(zone: &str, format: &str, text: &str, expected: Option<&str>) {
        let expected: Option<Timestamp> = expected.map(|time| time.parse().unwrap());
        let near = expected.map_or(0, |time| time.as_millisecond() as u64);
        let clock = Clock::new(Some(zone), Some(format)).unwrap();
        assert_eq!(
            clock.optime_ms(text, near),
            expected.map(|time| time.as_millisecond() as u64),
            "{text:?}"
        );
    }

    #[test]
    fn reads_what_controllers_write() {
        check("Asia/Shanghai", DEFAULT, "20261120 071500", Some("2026-11-19T23:15:00Z"));
        check("Europe/Berlin", DEFAULT, "20260720 071500 ", Some("2026-07-20T05:15:00Z"));
        check("Asia/Shanghai", "%Y-%m-%d %H:%M:%S", "2026-11-20 07:15:00", Some("2026-11-19T23:15:00Z"));
        check("Asia/Shanghai", "%y%m%d%H%M", "2611200715", Some("2026-11-19T23:15:00Z"));
        check(
            "Asia/Shanghai",
            "%Y-%m-%dT%H:%M:%S%:z",
            "2026-11-20T07:15:00+02:00",
            Some("2026-11-20T05:15:00Z"),
        );
        for text in ["", "00000000 000000", "20261120", "20261320 071500", "20261120 071500x", "yesterday"] {
            check("Asia/Shanghai", DEFAULT, text, None);
        }
    }

    #[test]
    fn an_hour_that_comes_twice_is_the_nearer_one() {
        for time in ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"] {
            check("Europe/Berlin", DEFAULT, "20261025 023000", Some(time));
        }
    }

    #[test]
    fn knows_the_day_at_the_site() {
        let now: Timestamp = "2026-11-19T23:15:00Z".parse().unwrap();
        let clock = Clock::new(Some("Asia/Shanghai"), None).unwrap();
        let now_ms = now.as_millisecond() as u64;
        assert_eq!((clock.today(now_ms), clock.hour(now_ms)), (jiff::civil::date(2026, 11, 20), 7));
    }

    #[test]
    fn refuses_what_tells_no_time() {
        for (zone, format, word) in [
            ("Asia/Shangai", DEFAULT, "--timezone"),
            ("UTC", "%H%M%S", "--optime-format"),
            ("UTC", "%Y%m%d", "--optime-format"),
            ("UTC", "%Q?", "--optime-format"),
            ("UTC", "", "--optime-format"),
        ] {
            assert!(Clock::new(Some(zone), Some(format)).unwrap_err().contains(word), "{zone} {format}");
        }
    }
}
