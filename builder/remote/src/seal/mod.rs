//! Secrets on their way to workers: sealed, so that no server reads them.
//!
//! A build's secrets and logins are one [`Secrets`]; it is sealed to the public keys of workers with
//! HPKE (RFC 9180: X25519 and HKDF-SHA256, HKDF-SHA256, ChaCha20-Poly1305). Servers keep what is
//! sealed in memory as long as the build goes on, and hand it to workers.
//!
//! ```text
//! sealed = postcard of (version, body, wraps)
//! body   = HPKE, to a key pair that is made for this and nothing else, of a SecretBundle message
//! wraps  = for each recipient: HPKE of that key pair's private key
//! ```
//!
//! All of it is bound to the build's name: what was sealed for one build cannot be opened as that
//! of another. It says nothing of who sealed it: whoever may queue work may give secrets to it.
//!
//! | module | subject |
//! |---|---|
//! | [`keys`] | keys of workers, and how they are written |
//! | `hpke` | sealing and opening bytes |
//! | `secrets` | what is in it |

mod hpke;
pub mod keys;
mod secrets;

use ashlar_proto::wire::farm::SecretBundle;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use self::hpke::SealedBytes;
pub use keys::{FarmKey, KeyError, Recipient};
pub use secrets::Secrets;

/// The version that is written. Readers know no other.
const VERSION: u32 = 1;

/// Secrets have no more bytes, all together, so that servers take what is sealed: 1 MiB with the
/// keys. BuildKit takes 500 KiB for each.
pub const MOST_BYTES: usize = 960 << 10;

/// Workers of a farm mostly share a key. Of more than this a client takes the first ones.
pub const MOST_RECIPIENTS: usize = 256;

/// Why secrets were not sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// There is nobody to seal them to.
    #[error("no worker of the farm has a key to seal secrets to")]
    NoRecipient,
    /// They are too many, or too long.
    #[error("the secrets of a build have more than {MOST_BYTES} bytes together")]
    TooLarge,
    /// The kernel gives no random numbers.
    #[error("cannot seal the secrets: the kernel gives no random numbers")]
    Random(#[source] std::io::Error),
    /// They were sealed to others.
    #[error("the build's secrets are not sealed to this worker's key")]
    NotForUs,
    /// They were changed on their way, or are those of another build.
    #[error("the build's secrets cannot be opened: they were changed, or are another build's")]
    Broken,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    version: u32,
    body: SealedBytes,
    wraps: Vec<Wrap>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Wrap {
    /// The public key that it is for.
    recipient: [u8; 32],
    sealed: SealedBytes,
}

/// Seals the secrets of a build to some recipients.
pub fn seal(
    secrets: &Secrets,
    build: &str,
    recipients: &[Recipient],
) -> Result<Vec<u8>, SealError> {
    if recipients.is_empty() {
        return Err(SealError::NoRecipient);
    }
    let message = secrets.to_wire(build);
    let plain = Zeroizing::new(message.encode_to_vec());
    secrets::wipe(message);
    if plain.len() > MOST_BYTES {
        return Err(SealError::TooLarge);
    }
    let own = FarmKey::generate()?;
    let aad = build.as_bytes();
    let body = hpke::seal(&own.recipient(), &plain, aad)?;
    let private = own.to_bytes();
    let wraps = recipients.iter().take(MOST_RECIPIENTS).map(|recipient| {
        Ok(Wrap {
            recipient: *recipient.as_bytes(),
            sealed: hpke::seal(recipient, private.as_slice(), aad)?,
        })
    });
    let sealed = Sealed {
        version: VERSION,
        body,
        wraps: wraps.collect::<Result<_, SealError>>()?,
    };
    postcard::to_stdvec(&sealed).map_err(|_| SealError::TooLarge)
}

/// Opens what was sealed for a build.
pub fn open(sealed: &[u8], build: &str, key: &FarmKey) -> Result<Secrets, SealError> {
    let (sealed, rest) =
        postcard::take_from_bytes::<Sealed>(sealed).map_err(|_| SealError::Broken)?;
    if sealed.version != VERSION || !rest.is_empty() {
        return Err(SealError::Broken);
    }
    let ours = *key.recipient().as_bytes();
    let wrap = sealed.wraps.iter().find(|wrap| wrap.recipient == ours);
    let wrap = wrap.ok_or(SealError::NotForUs)?;
    let aad = build.as_bytes();
    let private = hpke::open(key, &wrap.sealed, aad)?;
    let own = FarmKey::from_bytes(&private).map_err(|_| SealError::Broken)?;
    let plain = hpke::open(&own, &sealed.body, aad)?;
    // From a slice, so that nothing of the message is a part of what is wiped.
    let message = SecretBundle::decode(plain.as_slice()).map_err(|_| SealError::Broken)?;
    let is_same = message.build == build;
    let secrets = Secrets::from_wire(message);
    if is_same {
        Ok(secrets)
    } else {
        Err(SealError::Broken)
    }
}

#[cfg(test)]
mod tests;
