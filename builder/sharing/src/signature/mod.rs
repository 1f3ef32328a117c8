//! Signatures on results: who says that a step gave this.
//!
//! A builder signs what it made with an Ed25519 key: a [`Statement`] names the step, the instance,
//! and the SHA-256 of the result's record, in a DSSE envelope that travels beside the record as
//! `signature.json`. A reader that [demands](trust) signatures takes over nothing else: the record
//! has the diff ID and the content digest of every layer, against which all that is fetched later
//! is checked. `docs/formats.md` has the format, and says what is left.
//!
//! | module | subject |
//! |---|---|
//! | [`envelope`] | the DSSE envelope, and what its signatures cover |
//! | [`statement`] | what is signed |
//! | [`keys`] | key files, key ids, signing |
//! | [`trust`] | what a reader demands, and why a result is passed over |
//! | [`policy`] | which caches that is demanded of |

pub mod envelope;
pub mod keys;
pub mod policy;
pub mod statement;
pub mod trust;

#[cfg(test)]
mod tests;

pub use keys::{KeyId, KeyRing, Signer};
pub use policy::{Policy, Rule};
pub use statement::{Statement, Subject};
pub use trust::{Refusal, Signed, Trust};

/// Where a result has its signatures.
pub const SIGNATURE_PATH: &str = "signature.json";
