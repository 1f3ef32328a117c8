//! Durations as Go writes them: `1h2m3.5s`. HEALTHCHECK has them in its flags and its history.

use std::fmt;
use std::time::Duration;

/// Units and their nanoseconds. `us` has three spellings, two of them with different mu's.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Why a text is not a duration that HEALTHCHECK takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not numbers with units.
    #[error("invalid duration `{0}`")]
    Invalid(String),
    /// A number that has no unit after it.
    #[error("missing unit in `{0}`")]
    MissingUnit(String),
    /// A unit that there is not.
    #[error("unknown unit `{unit}` in `{text}`")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole.
        text: String,
    },
    /// More than 2^63 - 1 nanoseconds, some 292 years.
    #[error("`{0}` is too long")]
    TooLong(String),
    /// Less than the shortest that the runtimes accept, but not zero.
    #[error("`{0}` is less than 1ms")]
    TooShort(String),
}

/// Reads a duration. Zero is allowed, and else nothing below a millisecond.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds = 0u128;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let number_length = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| match rest.parse::<f64>() {
                Ok(_) => DurationError::MissingUnit(text.to_owned()),
                Err(_) => invalid(),
            })?;
        let (number, after) = rest.split_at(number_length);
        let unit_length = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let (_, factor) = *UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| DurationError::UnknownUnit {
                unit: unit.to_owned(),
                text: text.to_owned(),
            })?;
        nanoseconds += read_number(whole, fraction, factor)
            .ok_or_else(|| DurationError::TooLong(text.to_owned()))?;
        rest = after;
    }
    let nanoseconds = i64::try_from(nanoseconds)
        .map_err(|_| DurationError::TooLong(text.to_owned()))?
        .unsigned_abs();
    match nanoseconds {
        0 => Ok(Duration::ZERO),
        short if negative || short < 1_000_000 => Err(DurationError::TooShort(text.to_owned())),
        _ => Ok(Duration::from_nanos(nanoseconds)),
    }
}

/// `whole.fraction` times `factor`, rounded down; `None` if it exceeds all durations.
fn read_number(whole: &str, fraction: &str, factor: u64) -> Option<u128> {
    let whole = match whole {
        "" => 0,
        _ => whole.parse::<u64>().ok()?,
    };
    let mut digits = 0u128;
    let mut divisor = 1u128;
    // No unit has more than 13 digits of nanoseconds: later digits count for nothing.
    for digit in fraction.bytes().take(14) {
        digits = digits * 10 + u128::from(digit - b'0');
        divisor *= 10;
    }
    let factor = u128::from(factor);
    Some(u128::from(whole) * factor + digits * factor / divisor)
}

/// Writes a duration as Go does, so that [`parse_duration`] reads it back: `1h0m3.5s`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        let (unit, factor) = match nanoseconds {
            0 => return f.write_str("0s"),
            1..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            1_000_000..1_000_000_000 => ("ms", 1_000_000),
            _ => ("s", 1_000_000_000),
        };
        let mut whole = nanoseconds / factor;
        if unit == "s" {
            let minutes = whole / 60;
            if minutes >= 60 {
                write!(f, "{}h", minutes / 60)?;
            }
            if minutes > 0 {
                write!(f, "{}m", minutes % 60)?;
            }
            whole %= 60;
        }
        write!(f, "{whole}")?;
        let fraction = nanoseconds % factor;
        if fraction > 0 {
            let width = factor.ilog10() as usize;
            let digits = format!("{fraction:0width$}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("-0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1000us", 1_000_000),
            ("1000µs1000μs", 2_000_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
        ] {
            let expected = Duration::from_nanos(nanoseconds);
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        use DurationError::{Invalid, MissingUnit, TooLong, TooShort, UnknownUnit};
        let unit = |unit: &str, text: &str| UnknownUnit {
            unit: unit.to_owned(),
            text: text.to_owned(),
        };
        for (text, expected) in [
            ("", Invalid(String::new())),
            ("-", Invalid("-".to_owned())),
            (".s", Invalid(".s".to_owned())),
            ("1.2.3s", Invalid("1.2.3s".to_owned())),
            ("5", MissingUnit("5".to_owned())),
            ("1m5", MissingUnit("1m5".to_owned())),
            ("5x", unit("x", "5x")),
            ("5 s", unit(" s", "5 s")),
            ("-5s", TooShort("-5s".to_owned())),
            ("1us", TooShort("1us".to_owned())),
            (
                "9223372036854775808ns",
                TooLong("9223372036854775808ns".to_owned()),
            ),
            (
                "99999999999999999999999h",
                TooLong("99999999999999999999999h".to_owned()),
            ),
        ] {
            assert_eq!(parse_duration(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (250_000_000, "250ms"),
            (5_000_000_000, "5s"),
            (3_603_500_000_000, "1h0m3.5s"),
            (60_000_000_001, "1m0.000000001s"),
        ] {
            assert_eq!(
                GoDuration(Duration::from_nanos(nanoseconds)).to_string(),
                expected
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+0-9.nuµmsh ]{0,12}") {
            drop(parse_duration(&text));
        }

        #[test]
        fn what_is_written_is_read_back(nanoseconds in 1_000_000..=9_223_372_036_854_775_807u64) {
            let duration = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(parse_duration(&GoDuration(duration).to_string()), Ok(duration));
        }
    }
}
