//! Bytes that only one can read: HPKE in one message (RFC 9180, section 6.1), mode Base.

use ::hpke::aead::ChaCha20Poly1305;
use ::hpke::kdf::HkdfSha256;
use ::hpke::kem::X25519HkdfSha256;
use ::hpke::{
    Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _, single_shot_open,
    single_shot_seal,
};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::SealError;
use super::keys::{FarmKey, Recipient};

pub(super) type Kem = X25519HkdfSha256;
pub(super) type PrivateKey = <Kem as ::hpke::Kem>::PrivateKey;
pub(super) type PublicKey = <Kem as ::hpke::Kem>::PublicKey;
type EncappedKey = <Kem as ::hpke::Kem>::EncappedKey;

/// Tells these messages from all others that the same keys may be used for.
const INFO: &[u8] = b"ashlar farm secrets v1";

/// Bytes that are sealed to one key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SealedBytes {
    encapsulated: [u8; 32],
    cipher: Vec<u8>,
}

/// A key pair out of the kernel's random numbers.
pub(super) fn generate() -> Result<PrivateKey, SealError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    random(seed.as_mut_slice())?;
    let (private, _) = Kem::derive_keypair(seed.as_slice());
    Ok(private)
}

pub(super) fn public(private: &PrivateKey) -> PublicKey {
    Kem::sk_to_pk(private)
}

pub(super) fn seal(
    recipient: &Recipient,
    plain: &[u8],
    aad: &[u8],
) -> Result<SealedBytes, SealError> {
    // The crate panics where there are no random numbers: better to hear of it here.
    random(&mut [0; 1])?;
    let sealed = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeS::Base,
        recipient.key(),
        INFO,
        plain,
        aad,
    );
    // A public key that no private one belongs to.
    let (encapsulated, cipher) = sealed.map_err(|_| SealError::Broken)?;
    Ok(SealedBytes {
        encapsulated: encapsulated.to_bytes().into(),
        cipher,
    })
}

pub(super) fn open(
    key: &FarmKey,
    sealed: &SealedBytes,
    aad: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let encapsulated =
        EncappedKey::from_bytes(&sealed.encapsulated).map_err(|_| SealError::Broken)?;
    let plain = single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeR::Base,
        key.key(),
        &encapsulated,
        INFO,
        &sealed.cipher,
        aad,
    );
    plain.map(Zeroizing::new).map_err(|_| SealError::Broken)
}

fn random(bytes: &mut [u8]) -> Result<(), SealError> {
    // Up to 256 bytes come whole: getrandom(2).
    let got = getrandom(&mut *bytes, GetRandomFlags::empty());
    let got = got.map_err(|errno| SealError::Random(errno.into()))?;
    if got == bytes.len() {
        return Ok(());
    }
    bytes.zeroize();
    Err(SealError::Random(std::io::ErrorKind::UnexpectedEof.into()))
}
