//! Values as they are written in flags, variables and files: the same everywhere.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ashlar_model::amount::Size;
use ashlar_sharing::address::{Address, AddressError};
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

/// Something that a worker has, beside what it says of itself: `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Label {
    /// What.
    pub name: String,
    /// Which.
    pub value: String,
}

from_string!(Label);

/// The longest name or value of a label.
const LONGEST_LABEL: usize = 100;
/// What the worker says of itself.
const TAKEN: [&str; 4] = ["os", "arch", "variant", "isolation"];

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_word = |text: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
            (1..=LONGEST_LABEL).contains(&text.len()) && text.chars().all(good)
        };
        match text.split_once('=') {
            Some((name, _)) if TAKEN.contains(&name) => {
                Err(format!("`{name}` is what the worker finds out itself"))
            }
            Some((name, value)) if is_word(name) && is_word(value) => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err(format!(
                "`{}` is no label: write NAME=VALUE, of letters, digits and any of ._-/",
                shown(text)
            )),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// A farm: its address, as servers are named.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Farm(pub Address);

from_string!(Farm);

impl FromStr for Farm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &dyn fmt::Display| {
            format!("{why} (the address of a farm is that of its port for workers)")
        };
        text.parse()
            .map(Self)
            .map_err(|error: AddressError| wrong(&error))
    }
}

impl fmt::Display for Farm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_words() {
        let label: Label = "disk=fast/nvme".parse().unwrap();
        assert_eq!(label.to_string(), "disk=fast/nvme");
        for text in ["", "a", "=b", "a=", "a=b c", "os=linux", "a=\u{e9}"] {
            text.parse::<Label>().expect_err(text);
        }
    }

    #[test]
    fn farms_are_servers() {
        for text in ["grpc://a:1", "grpcs://a:1+b:2", "unix:///run/farm"] {
            assert_eq!(text.parse::<Farm>().unwrap().to_string(), text);
        }
        let error = "http://a".parse::<Farm>().unwrap_err();
        assert!(error.contains("workers"), "{error}");
    }

    #[test]
    fn values_are_shown_as_they_are_written() {
        for text in ["none", "20GB", "1536KB", "1000B"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
        for text in ["none", "30s", "12h", "90s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
    }
}
