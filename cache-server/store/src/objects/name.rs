//! The names of objects.
//!
//! ```text
//! packs/7f/7f3a…                             32 random hexadecimal digits
//! blobs/blake3/ab/abcd…-1048577-0c1d…        hash, size, 16 random hexadecimal digits
//! ```
//!
//! Stores spread their load over the first characters that names differ in: hence the directories.
//! No name is used twice. So an object is never overwritten, and one that is to be deleted is never
//! written again meanwhile.

use ashlar_model::cas::{CasDigest, DigestFunction};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::fault::{Fault, FaultKind};

/// Where packs are.
pub const PACKS: &str = "packs";

/// Where blobs are that are objects of their own.
pub const BLOBS: &str = "blobs";

/// What an object is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pack.
    Pack,
    /// One blob.
    Blob(CasDigest),
}

/// A name for a new pack.
pub fn new_pack() -> Result<String, Fault> {
    let id = random::<16>()?;
    let fan = id.get(..2).unwrap_or_default();
    Ok(format!("{PACKS}/{fan}/{id}"))
}

/// A name for a new object with one blob.
pub fn new_blob(blob: &CasDigest) -> Result<String, Fault> {
    let hash = blob.hash_hex();
    let fan = hash.get(..2).unwrap_or_default();
    let (function, size, id) = (blob.function, blob.size, random::<8>()?);
    Ok(format!("{BLOBS}/{function}/{fan}/{hash}-{size}-{id}"))
}

/// What is in an object; `None` for one that no server of ours wrote.
pub fn parse(name: &str) -> Option<Kind> {
    let mut parts = name.split('/');
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        (PACKS, fan, id, None) => {
            let is_ours = id.len() == 32 && is_hex(id) && id.starts_with(fan);
            is_ours.then_some(Kind::Pack)
        }
        (BLOBS, function, _, Some(name)) if parts.next().is_none() => {
            let function = [DigestFunction::Sha256, DigestFunction::Blake3]
                .into_iter()
                .find(|known| known.name() == function)?;
            let mut parts = name.split('-');
            let (hash, size, id) = (parts.next()?, parts.next()?, parts.next()?);
            let mut bytes = [0; 32];
            hex::decode_to_slice(hash, &mut bytes).ok()?;
            let is_ours = parts.next().is_none() && id.len() == 16 && is_hex(id);
            is_ours.then_some(Kind::Blob(CasDigest {
                function,
                hash: bytes,
                size: size.parse().ok()?,
            }))
        }
        _ => None,
    }
}

fn is_hex(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.bytes().all(is_digit)
}

fn random<const N: usize>() -> Result<String, Fault> {
    let mut bytes = [0; N];
    let got = getrandom(&mut bytes[..], GetRandomFlags::empty()).map_err(|errno| {
        Fault::new(FaultKind::Internal, "the kernel gives no random numbers").caused_by(errno)
    })?;
    debug_assert_eq!(got, N, "getrandom(2): up to 256 bytes come whole");
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_in_the_object() {
        let blob = CasDigest::of(DigestFunction::Sha256, b"a stone");
        let name = new_blob(&blob).expect("a name");
        assert_eq!(parse(&name), Some(Kind::Blob(blob)));
        assert_ne!(name, new_blob(&blob).expect("another"));
        let name = new_pack().expect("a name");
        assert_eq!(parse(&name), Some(Kind::Pack));
        assert_ne!(name, new_pack().expect("another"));
    }

    #[test]
    fn names_of_others_are_left_alone() {
        for name in [
            "",
            "packs",
            "packs/ab/xy",
            "packs/ab/0123456789abcdef0123456789abcdef",
            "blobs/blake3/ab/abc-1-0123456789abcdef",
            "blobs/md5/ab/abc-1-0123456789abcdef",
            "readiness",
            "backup/packs/01/0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
