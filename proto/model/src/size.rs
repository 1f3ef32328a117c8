//! Byte counts as Docker shows them: three digits and a decimal unit.

use std::fmt;

/// Shows a number of bytes: `0B`, `512B`, `1.23kB`, `77.8MB`.
#[derive(Debug, Clone, Copy)]
pub struct HumanSize(pub u64);

impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&text(self.0))
    }
}

fn text(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    // Thousandths of the unit, so that three digits need no floating point.
    let mut unit = 0;
    let mut scale = 1_u128;
    while unit + 1 < UNITS.len() && u128::from(bytes) * 1000 >= scale * 999_500 {
        unit += 1;
        scale *= 1000;
    }
    let thousandths = (u128::from(bytes) * 1000 + scale / 2) / scale;
    let name = UNITS[unit];
    if unit == 0 {
        return format!("{bytes}{name}");
    }
    let rounded = |step: u128| (thousandths + step / 2) / step * step;
    let (value, decimals) = if rounded(10) < 10_000 {
        (rounded(10), 2)
    } else if rounded(100) < 100_000 {
        (rounded(100), 1)
    } else {
        (rounded(1000), 0)
    };
    let mut number = format!("{}.{:03}", value / 1000, value % 1000);
    number.truncate(number.len() - 3 + decimals);
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        &number
    };
    format!("{number}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        for (bytes, shown) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (1999, "2kB"),
            (9_996, "10kB"),
            (12_345, "12.3kB"),
            (77_800_000, "77.8MB"),
            (999_400, "999kB"),
            (999_600, "1MB"),
            (100_000_000, "100MB"),
            (1_073_741_824, "1.07GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(HumanSize(bytes).to_string(), shown, "{bytes}");
        }
    }

    #[test]
    fn it_keeps_to_a_column() {
        assert_eq!(format!("{:>8}|", HumanSize(1234)), "  1.23kB|");
    }
}
