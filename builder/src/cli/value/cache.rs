//! `--cache`, `--cache-wait`.

use std::str::FromStr;
use std::time::Duration;

use ashlar_sharing::address::{AddressError, CacheSpec};

/// A shared cache, or none at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheArg {
    /// No cache, whatever the environment and the configuration say.
    None,
    /// This one.
    Cache(Box<CacheSpec>),
}

impl FromStr for CacheArg {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            text => text.parse().map(|spec| Self::Cache(Box::new(spec))),
        }
    }
}

/// A length of time: a number of seconds, or one with `ms`, `s`, `m` or `h`.
pub(in super::super) fn wait(text: &str) -> Result<Duration, String> {
    let bad = || {
        let shown: String = text.chars().take(40).collect();
        format!("`{shown}` is no length of time: write seconds, or 500ms, 30s, 2m")
    };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let (per, is_seconds) = match unit {
        "" | "s" => (1, true),
        "m" => (60, true),
        "h" => (3600, true),
        "ms" => (1, false),
        _ => return Err(bad()),
    };
    let amount = number.checked_mul(per).ok_or_else(bad)?;
    // A year is for ever, and no clock overflows.
    let seconds = |amount: u64| Duration::from_secs(amount.min(365 * 86_400));
    Ok(if is_seconds {
        seconds(amount)
    } else {
        seconds(amount / 1000) + Duration::from_millis(amount % 1000)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cache_is_a_cache_too() {
        assert_eq!("none".parse(), Ok(CacheArg::None));
        let cache: CacheArg = "grpc://a:1,mode=read".parse().unwrap();
        assert!(matches!(cache, CacheArg::Cache(_)));
        "somewhere".parse::<CacheArg>().unwrap_err();
    }

    #[test]
    fn lengths_of_time_have_units() {
        assert_eq!(wait("0"), Ok(Duration::ZERO));
        assert_eq!(wait("30"), Ok(Duration::from_secs(30)));
        assert_eq!(wait("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(wait("2m"), Ok(Duration::from_secs(120)));
        wait("99999999999h").unwrap();
        for wrong in ["", "s", "-1", "1d", "1.5s", "99999999999999999999"] {
            wait(wrong).unwrap_err();
        }
    }
}
