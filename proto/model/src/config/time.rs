//! Points in time as RFC 3339 writes them, and as Go's `time.Time` puts them into JSON.

use std::fmt;
use std::str::FromStr;

use crate::layer::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time. Written in UTC, with as many digits after the second as it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime(Timestamp);

/// The text is no RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time such as 2026-11-23T08:00:00Z")]
pub struct DateTimeParseError(String);

const SECONDS_PER_DAY: i64 = 86_400;

impl DateTime {
    /// Seconds since 1970-01-01 00:00 UTC, and nanoseconds counted forward from there.
    pub const fn new(seconds: i64, nanoseconds: u32) -> Self {
        Self(Timestamp {
            seconds,
            nanoseconds,
        })
    }

    /// The same point as a file time.
    pub const fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl From<Timestamp> for DateTime {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp)
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year.
const fn days_of_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_of_date`].
const fn date_of_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of_days(self.0.seconds.div_euclid(SECONDS_PER_DAY));
        let second = self.0.seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        if self.0.nanoseconds != 0 {
            let digits = format!("{:09}", self.0.nanoseconds);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// A number of exactly `text.len()` digits, at most `max`.
fn number(text: Option<&str>, max: i64) -> Option<i64> {
    let text = text.filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    text.parse().ok().filter(|number| *number <= max)
}

fn parse(text: &str) -> Option<DateTime> {
    let separators = [(4, b"-"), (7, b"-"), (13, b":"), (16, b":")];
    let bytes = text.as_bytes();
    if separators
        .iter()
        .any(|(at, byte)| bytes.get(*at) != Some(&byte[0]))
        || !matches!(bytes.get(10), Some(b'T' | b't' | b' '))
    {
        return None;
    }
    let year = number(text.get(..4), 9999)?;
    let month = number(text.get(5..7), 12).filter(|m| *m > 0)?;
    let day = number(text.get(8..10), 31).filter(|d| *d > 0)?;
    let hour = number(text.get(11..13), 23)?;
    let minute = number(text.get(14..16), 59)?;
    // 60 is a leap second.
    let second = number(text.get(17..19), 60)?;

    let mut rest = text.get(19..)?;
    let mut nanoseconds = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(fraction.len());
        if digits == 0 {
            return None;
        }
        let nine = format!("{:0<9.9}", &fraction[..digits]);
        nanoseconds = nine.parse().ok()?;
        rest = &fraction[digits..];
    }
    let offset = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let minutes = number(rest.get(1..3), 23)? * 60 + number(rest.get(4..6), 59)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let days = days_of_date(year, month, day);
    // A day that its month does not have would silently be one of the next month.
    if date_of_days(days) != (year, month, day) {
        return None;
    }
    let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset * 60;
    Some(DateTime::new(seconds, nanoseconds))
}

impl FromStr for DateTime {
    type Err = DateTimeParseError;

    fn from_str(text: &str) -> Result<Self, DateTimeParseError> {
        parse(text).ok_or_else(|| DateTimeParseError(text.chars().take(60).collect()))
    }
}

impl Serialize for DateTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Reads a time that other programs wrote; one that nobody can read is as good as none.
pub(super) fn tolerant<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DateTime>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| parse(&text)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times_are_written_as_go_writes_them() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (-1, 0, "1969-12-31T23:59:59Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_700_000_000, 120_000_000, "2023-11-14T22:13:20.12Z"),
            (1_700_000_000, 1, "2023-11-14T22:13:20.000000001Z"),
            (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
        ] {
            let time = DateTime::new(seconds, nanoseconds);
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse(), Ok(time));
        }
    }

    #[test]
    fn offsets_are_taken_into_account() {
        let utc: DateTime = "2026-01-01T00:30:00Z".parse().unwrap();
        assert_eq!("2026-01-01T02:00:00+01:30".parse(), Ok(utc));
        assert_eq!("2025-12-31T23:30:00-01:00".parse(), Ok(utc));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "2026-11-23",
            "2026-11-23T08:00:00",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T08:00:00.Z",
            "2026-11-23T08:00:00+1:00",
            "+026-11-23T08:00:00Z",
            "2026-11-2éT08:00:00Z",
        ] {
            assert!(text.parse::<DateTime>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn writing_and_reading_agree(
            seconds in -62_135_596_800..253_402_300_800_i64,
            nanoseconds in 0..1_000_000_000_u32,
        ) {
            let time = DateTime::new(seconds, nanoseconds);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _either_way = text.parse::<DateTime>();
        }
    }
}
