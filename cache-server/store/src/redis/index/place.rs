//! Where a blob lies, in few bytes: there is one of these for each blob.
//!
//! The object, then the offset as a [number](super::super::keys). Names of objects that this project
//! writes are shortened to what is random in them; what is in them besides follows from the blob.
//!
//! | first byte | object |
//! |---|---|
//! | 0 | the length of its name, its name |
//! | 1 | `packs/ab/…`: the 16 bytes that the 32 digits stand for |
//! | 2 | `blobs/FUNCTION/ab/HASH-SIZE-…` with the blob's own hash and size: the last 8 bytes |

use ashlar_model::cas::CasDigest;

use super::super::keys::{number, take_number};
use crate::objects::index::Place;
use crate::objects::name::{BLOBS, PACKS};

/// What comes before the random digits in the name of an object that has one blob alone.
fn alone(blob: &CasDigest) -> String {
    let hash = blob.hash_hex();
    let fan = hash.get(..2).unwrap_or_default();
    format!("{BLOBS}/{}/{fan}/{hash}-{}-", blob.function, blob.size)
}

/// The bytes that hexadecimal digits stand for, if they are written as this project writes them.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (hex::encode(bytes) == text).then_some(bytes)
}

/// An object as the place of a blob has it. No object's is the beginning of another's.
pub(super) fn object(blob: &CasDigest, name: &str) -> Vec<u8> {
    let pack = name.strip_prefix(PACKS).and_then(|rest| {
        let (fan, id) = rest.strip_prefix('/')?.split_once('/')?;
        digits::<16>(id).filter(|_| id.get(..2) == Some(fan))
    });
    if let Some(id) = pack {
        let mut bytes = vec![1];
        bytes.extend(id);
        return bytes;
    }
    if name.starts_with(BLOBS)
        && let Some(id) = name.strip_prefix(&alone(blob)).and_then(digits::<8>)
    {
        let mut bytes = vec![2];
        bytes.extend(id);
        return bytes;
    }
    let mut bytes = vec![0];
    bytes.extend(number(name.len() as u128));
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// A place.
pub(super) fn encode(blob: &CasDigest, name: &str, offset: u64) -> Vec<u8> {
    let mut bytes = object(blob, name);
    bytes.extend(number(u128::from(offset)));
    bytes
}

/// The place that was encoded.
pub(super) fn decode(blob: &CasDigest, bytes: &[u8]) -> Option<Place> {
    let (kind, rest) = bytes.split_first()?;
    let (object, rest) = match kind {
        0 => {
            let (length, rest) = take_number(rest)?;
            let (name, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (String::from_utf8(name.to_vec()).ok()?, rest)
        }
        1 => {
            let (id, rest) = rest.split_first_chunk::<16>()?;
            let id = hex::encode(id);
            let fan = id.get(..2)?;
            (format!("{PACKS}/{fan}/{id}"), rest)
        }
        2 => {
            let (id, rest) = rest.split_first_chunk::<8>()?;
            (format!("{}{}", alone(blob), hex::encode(id)), rest)
        }
        _ => return None,
    };
    let (offset, rest) = take_number(rest)?;
    rest.is_empty().then_some(Place {
        object,
        offset: u64::try_from(offset).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;

    use super::*;
    use crate::objects::name::{new_blob, new_pack};

    #[test]
    fn names_of_our_own_are_short_and_all_are_read_back() {
        let blob = CasDigest::of(DigestFunction::Sha256, b"blob");
        let other = CasDigest::of(DigestFunction::Sha256, b"other");
        let names = [
            (new_pack().unwrap(), 17),
            (new_blob(&blob).unwrap(), 9),
            (new_blob(&other).unwrap(), 110),
            ("packs/ab/cdef".to_owned(), 15),
            ("packs/AB/ABCDEFABCDEFABCDEFABCDEFABCDEFAB".to_owned(), 43),
            ("packs/00/abcdefabcdefabcdefabcdefabcdefab".to_owned(), 43),
            (String::new(), 2),
        ];
        for (name, length) in names {
            let bytes = object(&blob, &name);
            assert!(bytes.len() <= length, "{name}: {} bytes", bytes.len());
            for offset in [0, 127, 128, 1 << 40, u64::MAX] {
                let bytes = encode(&blob, &name, offset);
                let place = decode(&blob, &bytes).unwrap();
                assert_eq!((place.object.as_str(), place.offset), (&*name, offset));
                for end in 0..bytes.len() {
                    assert_ne!(decode(&blob, &bytes[..end]), Some(place.clone()));
                }
            }
        }
        assert_eq!(decode(&blob, &[3, 0]), None);
    }
}
