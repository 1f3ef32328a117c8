//! Values as they are written in flags, variables and files: the same everywhere.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ashlar_model::amount::Size;
use clap::ValueEnum;
use serde::Deserialize;

/// Reads a value from a string of the file.
macro_rules! from_string {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
    };
}

/// What a value may be besides itself.
const NONE_WORD: &str = "none";

/// A piece of user input as errors show it.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A number of bytes, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Bytes(Option<u64>);

from_string!(Bytes);

impl Bytes {
    /// No number.
    pub const NONE: Self = Self(None);

    /// So many.
    pub const fn of(bytes: u64) -> Self {
        Self(Some(bytes))
    }

    /// The number; `None` for `none`.
    pub const fn given(self) -> Option<u64> {
        self.0
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == NONE_WORD {
            return Ok(Self::NONE);
        }
        match text.parse() {
            Ok(Size(bytes)) if bytes > 0 => Ok(Self::of(bytes)),
            Ok(_) => Err(format!("`{}` is nothing: write none instead", shown(text))),
            Err(error) => Err(format!("{error}, or none")),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bytes) = self.0 else {
            return f.write_str(NONE_WORD);
        };
        // The largest unit that says it exactly.
        let units = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB"), (0, "B")];
        for (shift, unit) in units {
            if bytes.trailing_zeros() >= shift && bytes >> shift > 0 {
                return write!(f, "{}{unit}", bytes >> shift);
            }
        }
        write!(f, "{bytes}B")
    }
}

/// A part of a whole, from 0 to 1, to the millionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Ratio(u32);

from_string!(Ratio);

/// The whole.
const WHOLE: u32 = 1_000_000;

impl Ratio {
    /// As a number.
    pub fn as_number(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }
}

impl Default for Ratio {
    fn default() -> Self {
        Self(WHOLE)
    }
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: Option<f64> = text.parse().ok();
        let number = number.filter(|number| (0.0..=1.0).contains(number));
        let millionths = number.map(|number| (number * f64::from(WHOLE)).round());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and a million"
        )]
        millionths
            .map(|number| Self(number as u32))
            .ok_or_else(|| format!("`{}` is no part: write a number from 0 to 1", shown(text)))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_number())
    }
}

/// A length of time, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(Option<Duration>);

from_string!(Span);

impl Span {
    /// No time.
    pub const NONE: Self = Self(None);

    /// So many seconds.
    pub const fn of(seconds: u64) -> Self {
        Self(Some(Duration::from_secs(seconds)))
    }

    /// The time; `None` for `none`.
    pub const fn given(self) -> Option<Duration> {
        self.0
    }
}

const SPANS: [(u64, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == NONE_WORD {
            return Ok(Self::NONE);
        }
        let read = || {
            let unit = text.chars().last()?;
            let (seconds, _) = SPANS.iter().find(|(_, name)| *name == unit)?;
            let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
            number.checked_mul(*seconds)
        };
        read().map(Self::of).ok_or_else(|| {
            format!(
                "`{}` is no time: write a number with a unit, such as 30s, 5m, 12h or 30d, or none",
                shown(text)
            )
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(time) = self.0 else {
            return f.write_str(NONE_WORD);
        };
        let seconds = time.as_secs();
        for (unit, name) in SPANS {
            if seconds >= unit && seconds.is_multiple_of(unit) {
                return write!(f, "{}{name}", seconds / unit);
            }
        }
        write!(f, "{seconds}s")
    }
}

/// A part of a whole: 1% to 100%.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Percent(pub u8);

from_string!(Percent);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).parse();
        match number {
            Ok(percent @ 1..=100) => Ok(Self(percent)),
            _ => Err(format!(
                "`{}` is no percentage: write 1% to 100%",
                shown(text)
            )),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Listen {
    /// A host and a port.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

from_string!(Listen);

impl Default for Listen {
    /// This machine only, and the port that clients take if they are told none.
    fn default() -> Self {
        Self::Tcp("127.0.0.1:8980".to_owned())
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is no address: write HOST:PORT, such as 127.0.0.1:8980 or [::]:8980, or \
                 unix:PATH",
                shown(text)
            )
        };
        if let Some(path) = text.strip_prefix("unix:") {
            // Clients write unix:///path.
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(wrong())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host_is_good = if host.contains(':') {
            host.starts_with('[') && host.ends_with(']')
        } else {
            !host.is_empty() && !host.contains('/')
        };
        if !host_is_good || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(Self::Tcp(text.to_owned()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Permissions of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mode(pub u32);

from_string!(Mode);

impl Default for Mode {
    fn default() -> Self {
        Self(0o600)
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        match u32::from_str_radix(digits, 8) {
            Ok(mode @ 0..=0o777) => Ok(Self(mode)),
            _ => Err(format!(
                "`{}` are no permissions: write three octal digits, such as 660",
                shown(text)
            )),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03o}", self.0)
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object on each line
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again<T: FromStr<Err = String> + ToString>(text: &str) -> Result<String, String> {
        text.parse::<T>().map(|value| value.to_string())
    }

    #[test]
    fn values_are_shown_as_they_are_written() {
        for text in ["none", "20GB", "1TB", "1536KB", "1000B"] {
            assert_eq!(again::<Bytes>(text), Ok(text.to_owned()));
        }
        for text in ["none", "30s", "5m", "12h", "30d", "90s"] {
            assert_eq!(again::<Span>(text), Ok(text.to_owned()));
        }
        for text in ["600", "660", "007"] {
            assert_eq!(again::<Mode>(text), Ok(text.to_owned()));
        }
        for text in ["127.0.0.1:8980", "[::]:1", "host:0", "unix:/run/cache"] {
            assert_eq!(again::<Listen>(text), Ok(text.to_owned()));
        }
        assert_eq!(
            again::<Listen>("unix:///run/cache"),
            Ok("unix:/run/cache".to_owned())
        );
        assert_eq!(again::<Percent>("7"), Ok("7%".to_owned()));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "0", "GB", "-1GB"] {
            text.parse::<Bytes>().expect_err(text);
        }
        for text in ["", "s", "5", "5w", "-5s", "5é", "99999999999999999999d"] {
            text.parse::<Span>().expect_err(text);
        }
        for text in ["", "0%", "101%", "%"] {
            text.parse::<Percent>().expect_err(text);
        }
        for text in ["", "888", "1777", "-1"] {
            text.parse::<Mode>().expect_err(text);
        }
        for text in [
            "",
            ":8980",
            "::1:8980",
            "host",
            "host:x",
            "host:70000",
            "unix:",
            "http://host:80",
        ] {
            text.parse::<Listen>().expect_err(text);
        }
    }
}
