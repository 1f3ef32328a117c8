//! How much the local store may take.

use std::str::FromStr;

use ashlar_store::home::quota::SMALLEST_QUOTA;

use super::Size;

/// A quota as it is written: `20GB`, `10%` of the store's filesystem, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// No limit.
    None,
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the filesystem that the store is on, 1 to 100.
    Percent(u8),
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "none" {
            return Ok(Self::None);
        }
        if let Some(number) = text.strip_suffix('%') {
            return match number.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(format!(
                    "`{text}` is no part of a filesystem: write 1% to 100%"
                )),
            };
        }
        let Size(bytes) = text
            .parse()
            .map_err(|error| format!("{error}, a part of the filesystem such as 10%, or none"))?;
        if bytes < SMALLEST_QUOTA {
            return Err(format!(
                "`{text}` is too small for a store: it needs 1MB at least"
            ));
        }
        Ok(Self::Bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parts_and_none() {
        for (text, quota) in [
            ("none", Quota::None),
            ("20GB", Quota::Bytes(20 << 30)),
            (" 500MiB ", Quota::Bytes(500 << 20)),
            ("10%", Quota::Percent(10)),
            ("100 %", Quota::Percent(100)),
        ] {
            assert_eq!(text.parse(), Ok(quota), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "0", "1k", "0%", "101%", "x%", "-5GB", "all"] {
            let error = text.parse::<Quota>().unwrap_err();
            assert!(error.starts_with('`'), "{error}");
        }
    }
}
