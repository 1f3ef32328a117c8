//! PAX records: `LENGTH KEY=VALUE\n`.

use ashlar_model::layer::{Timestamp, Xattr};

use super::Damage;
use super::sparse::Piece;

/// Key and value.
pub(in crate::layer) type Record<'a> = (&'a [u8], &'a [u8]);

/// What the records of one entry say.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: SparseRecords,
}

/// What `GNU.sparse.*` records say.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    /// The file's own name; `path` is made up then.
    pub(super) name: Option<Vec<u8>>,
    /// Length with holes. Set if the file is sparse.
    pub(super) size: Option<u64>,
    /// Stored pieces: offset and length (versions 0.0 and 0.1).
    pub(super) pairs: Vec<Piece>,
    /// Whether the pieces are listed before the data (version 1.0).
    pub(super) map_in_data: bool,
}

impl Records {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, Damage> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let ((key, value), rest) = split_record(bytes).ok_or(Damage::Record)?;
            records.set(key, value)?;
            bytes = rest;
        }
        Ok(records)
    }

    /// Later records replace earlier ones; an empty value takes them away.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damage> {
        let name = || {
            if value.contains(&0) {
                return Err(Damage::Record);
            }
            Ok((!value.is_empty()).then(|| value.to_vec()))
        };
        match key {
            b"path" => self.path = name()?,
            b"linkpath" => self.linkpath = name()?,
            b"size" => self.size = number(value, "size")?,
            b"uid" => self.uid = id(value, "owner")?,
            b"gid" => self.gid = id(value, "group")?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value).ok_or(Damage::Number("time"))?),
            b"GNU.sparse.name" => self.sparse.name = name()?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse.size = number(value, "size")?;
            }
            b"GNU.sparse.major" => self.sparse.map_in_data = value == b"1",
            b"GNU.sparse.map" => self.sparse.pairs = pairs(value)?,
            b"GNU.sparse.offset" => {
                let offset = number(value, "offset")?.ok_or(Damage::SparseMap)?;
                self.sparse.pairs.push((offset, 0));
            }
            b"GNU.sparse.numbytes" => {
                let length = number(value, "size")?.ok_or(Damage::SparseMap)?;
                self.sparse.pairs.last_mut().ok_or(Damage::SparseMap)?.1 = length;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.set_xattr(name, value)?;
                }
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), Damage> {
        if name.is_empty() || name.contains(&0) {
            return Err(Damage::Record);
        }
        self.xattrs.retain(|xattr| xattr.name != name);
        self.xattrs.push(Xattr {
            name: name.to_vec(),
            value: value.to_vec(),
        });
        Ok(())
    }
}

/// Splits the first record off: its key and value, and what follows it.
pub(in crate::layer) fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let blank = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty() && !key.contains(&0)).then_some(((key, value), rest))
}

/// Decimal digits and nothing else.
pub(in crate::layer) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

fn number(value: &[u8], what: &'static str) -> Result<Option<u64>, Damage> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value).map(Some).ok_or(Damage::Number(what))
}

fn id(value: &[u8], what: &'static str) -> Result<Option<u32>, Damage> {
    number(value, what)?
        .map(|id| u32::try_from(id).map_err(|_| Damage::Number(what)))
        .transpose()
}

/// Numbers between commas: offset, length, offset, length...
fn pairs(value: &[u8]) -> Result<Vec<Piece>, Damage> {
    let numbers = value
        .split(|b| *b == b',')
        .map(|number| decimal(number).ok_or(Damage::SparseMap))
        .collect::<Result<Vec<_>, _>>()?;
    let pairs = numbers.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(Damage::SparseMap);
    }
    Ok(pairs.map(|pair| (pair[0], pair[1])).collect())
}

/// A decimal fraction of seconds, possibly negative. Digits beyond nanoseconds are dropped
/// towards the past.
fn time(value: &[u8]) -> Option<Timestamp> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |b| *b == b'.');
    let whole = decimal(parts.next()?)?;
    let decimals = parts.next().unwrap_or_default();
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds = 0;
    for place in 0..9 {
        let digit = decimals.get(place).map_or(0, |digit| digit - b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    let beyond = decimals.iter().skip(9).any(|digit| *digit != b'0');
    let whole = i64::try_from(whole).ok()?;
    if !negative {
        return Some(Timestamp {
            seconds: whole,
            nanoseconds,
        });
    }
    // Nanoseconds count forward from the second.
    let fraction = nanoseconds + u32::from(beyond);
    let (seconds, nanoseconds) = match fraction {
        0 => (-whole, 0),
        fraction => ((-whole).checked_sub(1)?, 1_000_000_000 - fraction),
    };
    Some(Timestamp {
        seconds,
        nanoseconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_by_their_lengths() {
        let records = Records::parse(b"11 path=ab\n9 size=7\n8 path=\n").unwrap();
        assert_eq!(records.path, None);
        assert_eq!(records.size, Some(7));
        // A value may have newlines and equals signs.
        let records = Records::parse(b"16 path=a\n9 x=y\n").unwrap();
        assert_eq!(records.path.unwrap(), b"a\n9 x=y");
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"path=a\n"[..],
            b"8 path=a\n",
            b"11 path=a\n",
            b"9 path=ab",
            b"5 a=\n9",
            b"99999999999999999999999 path=a\n",
            b"-9 path=a\n",
            b" 9 path=a\n",
            b"7 path\n",
            b"5 =a\n",
            b"11 path=a\0\n",
            b"9 size=a\n",
            b"11 size=-1\n",
            b"18 uid=4294967296\n",
            b"0 \n",
            b"\0",
        ] {
            assert!(Records::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn times_count_forward_from_the_second() {
        let read = |text: &str| time(text.as_bytes()).map(|t| (t.seconds, t.nanoseconds));
        assert_eq!(read("5"), Some((5, 0)));
        assert_eq!(read("5.25"), Some((5, 250_000_000)));
        assert_eq!(read("5.0000000019"), Some((5, 1)));
        assert_eq!(read("-0.75"), Some((-1, 250_000_000)));
        assert_eq!(read("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(read("-5"), Some((-5, 0)));
        assert_eq!(read("-0.0000000001"), Some((-1, 999_999_999)));
        for bad in ["", "-", "x", "1.x", "1e5", "99999999999999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
