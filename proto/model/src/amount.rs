//! An amount of storage.

use std::str::FromStr;

/// Bytes, written as a number with a unit: `512MB`, `1.5g`, `10GiB`, `1024`. All units are powers
/// of 1024, as in Docker (`go-units`, `RAMInBytes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{}` is no size: write a number with a unit, such as 500MB or 20GB",
                text.chars().take(40).collect::<String>()
            )
        };
        let trimmed = text.trim();
        let digits = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            _ => return Err(bad()),
        };
        // Nine decimals of a unit are enough for everyone, and exact in 128 bits.
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || decimals.is_empty() || decimals.len() > 9 || decimals.contains('.') {
            return Err(bad());
        }
        let whole: u64 = whole.parse().map_err(|_| bad())?;
        let fraction: u64 = format!("{decimals:0<9}").parse().map_err(|_| bad())?;
        let bytes = (u128::from(whole) << shift) + (u128::from(fraction) << shift) / 1_000_000_000;
        u64::try_from(bytes).map(Self).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("1k", 1024),
            ("1.5 KB", 1536),
            ("20GB", 20 << 30),
            ("2GiB", 2 << 30),
            ("0.5t", 1 << 39),
        ] {
            assert_eq!(text.parse::<Size>(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "GB",
            "-1",
            "1x",
            "1.2.3",
            ".5",
            "1.",
            "99999999999999999999",
            "99999999p",
        ] {
            text.parse::<Size>().unwrap_err();
        }
    }
}
