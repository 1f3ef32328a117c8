//! Digests, digest functions and times, from the wire and to it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_model::cas::{CasDigest, DigestFunction};
use prost_types::Timestamp;

use crate::wire::reapi;
use crate::wire::reapi::digest_function::Value;

/// A digest or a function that cannot be what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field that has to be there is not.
    #[error("{0} is not set")]
    Unset(&'static str),
    /// The hash has other characters than digits and small letters up to f, or another length.
    #[error("`{0}` is no hash of 64 lower-case hexadecimal digits")]
    Hash(String),
    /// The size is negative.
    #[error("{0} is no size")]
    Size(i64),
    /// The hash function is none that is known here.
    #[error("the digest function {0} is not known here; SHA256 and BLAKE3 are")]
    Function(String),
}

/// A digest as the wire has it. What function it is of is said beside it.
pub fn digest_to_wire(digest: &CasDigest) -> reapi::Digest {
    reapi::Digest {
        hash: digest.hash_hex(),
        // No blob is longer than the largest number of the wire.
        size_bytes: i64::try_from(digest.size).unwrap_or(i64::MAX),
    }
}

/// A digest of the wire, checked.
pub fn digest_from_wire(
    digest: &reapi::Digest,
    function: DigestFunction,
) -> Result<CasDigest, ConvertError> {
    Ok(CasDigest {
        function,
        hash: hash_from_hex(&digest.hash)?,
        size: u64::try_from(digest.size_bytes)
            .map_err(|_| ConvertError::Size(digest.size_bytes))?,
    })
}

/// A digest that has to be there; `field` names it in the error.
pub fn required_digest(
    digest: Option<&reapi::Digest>,
    function: DigestFunction,
    field: &'static str,
) -> Result<CasDigest, ConvertError> {
    digest_from_wire(digest.ok_or(ConvertError::Unset(field))?, function)
}

/// The bytes of a hash that is written as REAPI wants it: 64 digits, none of them a capital.
pub(crate) fn hash_from_hex(text: &str) -> Result<[u8; 32], ConvertError> {
    let mut hash = [0; 32];
    if text.bytes().any(|byte| byte.is_ascii_uppercase())
        || hex::decode_to_slice(text, &mut hash).is_err()
    {
        // A name may be of any length; what is said of it is not.
        let shown: String = text.chars().take(80).collect();
        return Err(ConvertError::Hash(shown));
    }
    Ok(hash)
}

/// A function as the wire has it.
pub const fn function_to_wire(function: DigestFunction) -> Value {
    match function {
        DigestFunction::Sha256 => Value::Sha256,
        DigestFunction::Blake3 => Value::Blake3,
    }
}

/// The function that a request names. One that names none has hashes of SHA-256: REAPI lets both
/// sides tell SHA-256 by its length, and wants BLAKE3, of the same length, said.
pub fn function_from_wire(value: i32) -> Result<DigestFunction, ConvertError> {
    match Value::try_from(value) {
        Ok(Value::Unknown | Value::Sha256) => Ok(DigestFunction::Sha256),
        Ok(Value::Blake3) => Ok(DigestFunction::Blake3),
        Ok(other) => Err(ConvertError::Function(other.as_str_name().to_owned())),
        Err(_) => Err(ConvertError::Function(format!("number {value}"))),
    }
}

/// The function to use with a server that says it has these: BLAKE3 if it can be, else SHA-256.
/// `None` if it has neither.
pub fn negotiate(offered: &[i32]) -> Option<DigestFunction> {
    [DigestFunction::Blake3, DigestFunction::Sha256]
        .into_iter()
        .find(|function| offered.contains(&i32::from(function_to_wire(*function))))
}

/// A time as the wire has it; times before 1970 become 1970.
pub fn time_to_wire(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

/// A time of the wire; `None` for one before 1970 or that no clock can show.
pub fn time_from_wire(time: &Timestamp) -> Option<SystemTime> {
    let seconds = u64::try_from(time.seconds).ok()?;
    let nanos = u32::try_from(time.nanos).ok()?;
    if nanos >= 1_000_000_000 {
        return None;
    }
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// A length of time as the wire has it.
pub fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// A length of time of the wire; `None` for a negative one.
pub fn duration_from_wire(duration: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u32::try_from(duration.nanos).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digests_come_back_as_they_went() {
        for function in [DigestFunction::Sha256, DigestFunction::Blake3] {
            let digest = CasDigest::of(function, b"stone");
            let wire = digest_to_wire(&digest);
            assert_eq!(digest_from_wire(&wire, function), Ok(digest));
        }
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let good = digest_to_wire(&CasDigest::of(DigestFunction::Sha256, b"stone"));
        let with_hash = |hash: String| reapi::Digest {
            hash,
            ..good.clone()
        };
        for hash in [
            String::new(),
            good.hash[..62].to_owned(),
            format!("{}00", good.hash),
            good.hash.to_uppercase(),
            "g".repeat(64),
            "é".repeat(32),
        ] {
            assert_eq!(
                digest_from_wire(&with_hash(hash.clone()), DigestFunction::Sha256),
                Err(ConvertError::Hash(hash))
            );
        }
        let negative = reapi::Digest {
            size_bytes: -1,
            ..good.clone()
        };
        assert_eq!(
            digest_from_wire(&negative, DigestFunction::Sha256),
            Err(ConvertError::Size(-1))
        );
    }

    #[test]
    fn blake3_is_never_inferred() {
        assert_eq!(
            function_from_wire(Value::Unknown.into()),
            Ok(DigestFunction::Sha256)
        );
        assert_eq!(
            function_from_wire(Value::Blake3.into()),
            Ok(DigestFunction::Blake3)
        );
        for value in [
            Value::Md5,
            Value::Sha1,
            Value::Sha512,
            Value::Sha256tree,
            Value::Vso,
        ] {
            assert_eq!(
                function_from_wire(value.into()),
                Err(ConvertError::Function(value.as_str_name().to_owned()))
            );
        }
        assert_eq!(
            function_from_wire(-4),
            Err(ConvertError::Function("number -4".to_owned()))
        );
    }

    #[test]
    fn blake3_is_taken_where_it_is() {
        let sha256 = i32::from(Value::Sha256);
        let blake3 = i32::from(Value::Blake3);
        assert_eq!(negotiate(&[sha256, blake3]), Some(DigestFunction::Blake3));
        assert_eq!(negotiate(&[sha256, 77]), Some(DigestFunction::Sha256));
        assert_eq!(negotiate(&[Value::Md5.into()]), None);
        assert_eq!(negotiate(&[]), None);
    }

    proptest! {
        #[test]
        fn no_digest_of_the_wire_panics(hash in ".{0,70}", size_bytes: i64) {
            let wire = reapi::Digest { hash, size_bytes };
            if let Ok(digest) = digest_from_wire(&wire, DigestFunction::Blake3) {
                prop_assert_eq!(digest_to_wire(&digest), wire);
            }
        }

        #[test]
        fn times_come_back_as_they_went(seconds in 0_i64..4_000_000_000, nanos in 0_i32..1_000_000_000) {
            let wire = Timestamp { seconds, nanos };
            let time = time_from_wire(&wire);
            prop_assert_eq!(time.map(time_to_wire), Some(wire));
        }

        #[test]
        fn no_time_of_the_wire_panics(seconds: i64, nanos: i32) {
            let _ = time_from_wire(&Timestamp { seconds, nanos });
            let _ = duration_from_wire(&prost_types::Duration { seconds, nanos });
        }
    }
}
