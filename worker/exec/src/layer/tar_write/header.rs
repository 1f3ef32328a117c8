//! The 512 bytes of a ustar header.
//!
//! ```text
//!    0 name 100 │ 100 mode 8 │ 108 uid 8 │ 116 gid 8 │ 124 size 12 │ 136 mtime 12
//!  148 checksum 8 │ 156 type 1 │ 157 link 100 │ 257 magic 6 │ 263 version 2
//!  265 user name 32 │ 297 group name 32 │ 329 major 8 │ 337 minor 8 │ 345 prefix 155 │ 500 … 512
//! ```
//!
//! Numbers are octal digits with leading zeros and a NUL byte after them. What does not fit is
//! zero here and in a PAX record.
//!
//! Source: POSIX.1-2017, `pax`, "ustar Interchange Format".

/// Length of a header, and the unit of a tar.
pub(super) const BLOCK: usize = 512;
const NAME: usize = 100;
const PREFIX: usize = 155;

/// What the `type` byte says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Type {
    File = b'0',
    Hardlink = b'1',
    Symlink = b'2',
    CharDevice = b'3',
    BlockDevice = b'4',
    Directory = b'5',
    Fifo = b'6',
    /// PAX records for the next entry.
    Extended = b'x',
}

/// A header being put together.
#[derive(Debug)]
pub(super) struct Header([u8; BLOCK]);

impl Header {
    pub(super) fn new(kind: Type) -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[156] = kind as u8;
        header.set_text(257, b"ustar\x0000");
        header.set_device(0, 0);
        header
    }

    /// Sets the name; `false` if it does not fit, in which case a legible abbreviation is set.
    pub(super) fn set_name(&mut self, name: &[u8]) -> bool {
        let Some((prefix, name)) = split_name(name).filter(|_| name.is_ascii()) else {
            self.set_text(0, &abbreviation(name));
            return false;
        };
        self.set_text(0, name);
        self.set_text(345, prefix);
        true
    }

    /// Sets the target of a link; `false` as for [`set_name`](Self::set_name).
    pub(super) fn set_link(&mut self, target: &[u8]) -> bool {
        let fits = target.len() <= NAME && target.is_ascii();
        if fits {
            self.set_text(157, target);
        } else {
            self.set_text(157, &abbreviation(target));
        }
        fits
    }

    pub(super) fn set_mode(&mut self, mode: u16) {
        self.set_octal::<8>(100, mode.into());
    }

    /// `false` if the number does not fit.
    pub(super) fn set_uid(&mut self, uid: u32) -> bool {
        self.set_octal::<8>(108, uid.into())
    }

    /// `false` if the number does not fit.
    pub(super) fn set_gid(&mut self, gid: u32) -> bool {
        self.set_octal::<8>(116, gid.into())
    }

    /// `false` if the number does not fit.
    pub(super) fn set_size(&mut self, size: u64) -> bool {
        self.set_octal::<12>(124, size)
    }

    /// `false` if the number does not fit.
    pub(super) fn set_mtime(&mut self, seconds: i64) -> bool {
        match u64::try_from(seconds) {
            Ok(seconds) => self.set_octal::<12>(136, seconds),
            Err(_) => {
                self.set_octal::<12>(136, 0);
                false
            }
        }
    }

    /// `false` if one of the numbers does not fit.
    pub(super) fn set_device(&mut self, major: u32, minor: u32) -> bool {
        self.set_octal::<8>(329, major.into()) & self.set_octal::<8>(337, minor.into())
    }

    /// The bytes, with their checksum: the sum of all bytes, its own field taken as blanks.
    pub(super) fn finish(mut self) -> [u8; BLOCK] {
        self.0[148..156].copy_from_slice(b"        ");
        let sum: u64 = self.0.iter().map(|b| u64::from(*b)).sum();
        // Six digits, a NUL byte, and the blank that is there already.
        self.set_octal::<7>(148, sum);
        self.0
    }

    fn set_text(&mut self, at: usize, text: &[u8]) {
        self.0[at..at + text.len()].copy_from_slice(text);
    }

    /// Sets a field of `N` bytes: digits and a NUL byte.
    fn set_octal<const N: usize>(&mut self, at: usize, number: u64) -> bool {
        let digits = N - 1;
        let fits = number >> (3 * digits) == 0;
        let number = if fits { number } else { 0 };
        for (place, byte) in self.0[at..at + digits].iter_mut().rev().enumerate() {
            let digit = number >> (3 * place) & 7;
            *byte = b"01234567"[usize::from(digit.to_le_bytes()[0])];
        }
        fits
    }
}

/// Splits a name into what goes into `prefix` and `name`: at the slash that leaves as much as
/// possible in `name`.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME {
        return Some((b"", name));
    }
    // The slash of a directory's end is part of its name, never the place to split.
    let end = name.len() - 1;
    let first = name.len() - NAME - 1;
    let slash = first + name[first..end].iter().position(|b| *b == b'/')?;
    (1..=PREFIX)
        .contains(&slash)
        .then(|| (&name[..slash], &name[slash + 1..]))
}

/// What readers that know no PAX records show.
fn abbreviation(text: &[u8]) -> Vec<u8> {
    let shown = |byte: &u8| if byte.is_ascii() { *byte } else { b'_' };
    text.iter().take(NAME).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_at_slashes_as_long_as_they_fit() {
        let long = |prefix: usize, name: usize| [vec![b'p'; prefix], vec![b'n'; name]].join(&b'/');
        assert_eq!(split_name(b"short"), Some((&b""[..], &b"short"[..])));
        assert_eq!(split_name(&[b'n'; 100]), Some((&b""[..], &[b'n'; 100][..])));
        assert_eq!(split_name(&[b'n'; 101]), None);
        let name = long(155, 100);
        let (prefix, rest) = split_name(&name).unwrap();
        assert_eq!((prefix.len(), rest.len()), (155, 100));
        assert_eq!(split_name(&long(156, 100)), None);
        assert_eq!(split_name(&long(155, 101)), None);
        // A directory's name ends with a slash.
        let directory = [long(155, 99), b"/".to_vec()].concat();
        let (_, rest) = split_name(&directory).unwrap();
        assert_eq!(rest.last(), Some(&b'/'));
        let directory = [vec![b'n'; 100], b"/".to_vec()].concat();
        assert_eq!(split_name(&directory), None);
    }

    #[test]
    fn numbers_that_do_not_fit_are_zero() {
        let mut header = Header::new(Type::File);
        assert!(header.set_uid(0o777_7777));
        assert!(!header.set_gid(0o1000_0000));
        assert!(header.set_size(0o777_7777_7777));
        assert!(!header.set_mtime(-1));
        let bytes = header.finish();
        assert_eq!(&bytes[108..116], b"7777777\0");
        assert_eq!(&bytes[116..124], b"0000000\0");
        assert_eq!(&bytes[124..136], b"77777777777\0");
        assert_eq!(&bytes[136..148], b"00000000000\0");
    }
}
