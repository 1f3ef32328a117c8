//! PAX records: `LENGTH KEY=VALUE\n`, where the length counts the whole record, its own digits
//! included.
//!
//! Source: POSIX.1-2017, `pax`, "pax Extended Header". Extended attributes go under
//! `SCHILY.xattr.`, which GNU tar, libarchive and all container engines read.

use ashlar_model::layer::{Timestamp, Xattr};

/// The records of one entry.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    pub(super) fn add(&mut self, key: &str, value: &[u8]) {
        self.0.push((key.into(), value.to_vec()));
    }

    pub(super) fn add_number(&mut self, key: &str, number: u64) {
        self.add(key, number.to_string().as_bytes());
    }

    pub(super) fn add_time(&mut self, time: Timestamp) {
        self.add("mtime", decimal(time).as_bytes());
    }

    pub(super) fn add_xattrs(&mut self, xattrs: &[Xattr]) {
        for Xattr { name, value } in xattrs {
            self.0
                .push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, sorted by key.
    pub(super) fn encode(mut self) -> Vec<u8> {
        self.0.sort();
        let mut bytes = Vec::new();
        for (key, value) in self.0 {
            // Blank, `=` and newline.
            let length = full_length(key.len() + value.len() + 3);
            bytes.extend_from_slice(length.to_string().as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(&key);
            bytes.push(b'=');
            bytes.extend_from_slice(&value);
            bytes.push(b'\n');
        }
        bytes
    }
}

/// A length that counts its own digits.
fn full_length(rest: usize) -> usize {
    let digits = |number: usize| number.to_string().len();
    let guess = rest + digits(rest);
    // The digits themselves may carry into one more.
    rest + digits(guess)
}

/// Seconds with as many decimals as needed.
fn decimal(time: Timestamp) -> String {
    let Timestamp {
        seconds,
        nanoseconds,
    } = time;
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    // Nanoseconds count forward from the second, also before 1970: -1 s and 0.25 s is -0.75 s.
    let (sign, whole, nanoseconds) = if seconds < 0 {
        ("-", seconds.unsigned_abs() - 1, 1_000_000_000 - nanoseconds)
    } else {
        ("", seconds.unsigned_abs(), nanoseconds)
    };
    let decimals = format!("{nanoseconds:09}");
    format!("{sign}{whole}.{}", decimals.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_digits() {
        let encode = |value: usize| {
            let mut records = Records::default();
            records.add("path", &vec![b'v'; value]);
            records.encode()
        };
        assert_eq!(encode(1), b"9 path=v\n");
        for length in 1..1200 {
            let record = encode(length);
            let text = String::from_utf8(record.clone()).unwrap();
            let (digits, _) = text.split_once(' ').unwrap();
            assert_eq!(digits.parse::<usize>().unwrap(), record.len(), "{length}");
        }
    }

    #[test]
    fn times_are_decimal() {
        let text = |seconds, nanoseconds| {
            decimal(Timestamp {
                seconds,
                nanoseconds,
            })
        };
        assert_eq!(text(5, 0), "5");
        assert_eq!(text(5, 1), "5.000000001");
        assert_eq!(text(5, 250_000_000), "5.25");
        assert_eq!(text(-5, 0), "-5");
        assert_eq!(text(-1, 250_000_000), "-0.75");
        assert_eq!(text(-2, 750_000_000), "-1.25");
        assert_eq!(text(i64::MIN, 1), "-9223372036854775807.999999999");
    }
}
