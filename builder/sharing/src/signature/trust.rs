//! What a reader demands of a result, and why one is passed over.

use std::fmt;

use super::envelope::{Envelope, pre_authentication_encoding};
use super::keys::{KeyId, KeyRing};
use super::statement::{Statement, Subject};

/// What is demanded of the results of a cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// Nothing: whoever may write to the cache is believed.
    #[default]
    Any,
    /// A signature.
    Signed(Signed),
}

/// Which signatures do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signed {
    /// Those of one of these keys.
    pub keys: KeyRing,
    /// Those of builders that call themselves so; empty: any. What a builder calls itself is said
    /// by whoever holds the key.
    pub signers: Vec<String>,
    /// Those made for one of these instances too, beside the one that was asked. `NAME/*` stands
    /// for all below `NAME`, `*` for all.
    pub instances: Vec<String>,
}

/// Why a result is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// It has no signature.
    Unsigned,
    /// What it has is no signature of a result.
    Malformed,
    /// None of the keys has signed it.
    UnknownKey,
    /// The signature of a known key is not right.
    BadSignature,
    /// The signature is that of another step, or of another result of it.
    WrongStep,
    /// The signature was made for another instance.
    WrongInstance,
    /// A builder of another name has signed it.
    WrongSigner,
}

impl Refusal {
    /// The reason as the end of "… results were passed over: 3 …".
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unsigned => "not signed",
            Self::Malformed => "with a signature that is none",
            Self::UnknownKey => "signed by no key that is known",
            Self::BadSignature => "with a wrong signature",
            Self::WrongStep => "with the signature of another step",
            Self::WrongInstance => "signed for another instance",
            Self::WrongSigner => "signed by another builder",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl Trust {
    /// Whether anything is demanded.
    pub const fn demands(&self) -> bool {
        matches!(self, Self::Signed(_))
    }

    /// Whether a result does. Gives the key that has signed it, where that was looked at.
    pub fn check(
        &self,
        subject: &Subject<'_>,
        envelope: Option<&[u8]>,
    ) -> Result<Option<KeyId>, Refusal> {
        match self {
            Self::Any => Ok(None),
            Self::Signed(signed) => signed.check(subject, envelope).map(Some),
        }
    }
}

impl Signed {
    /// Whether a result is signed as is demanded: by one signature that is right in everything.
    fn check(&self, subject: &Subject<'_>, envelope: Option<&[u8]>) -> Result<KeyId, Refusal> {
        let envelope = envelope.ok_or(Refusal::Unsigned)?;
        let envelope = Envelope::read(envelope).map_err(|_| Refusal::Malformed)?;
        let covered = pre_authentication_encoding(&envelope.payload);
        let mut refusal = Refusal::UnknownKey;
        for (id, signature) in &envelope.signatures {
            let Some(key) = self.keys.get(id) else {
                continue;
            };
            match key.verify_strict(&covered, signature) {
                Ok(()) => {
                    // All signatures are on one payload.
                    let statement =
                        Statement::read(&envelope.payload).map_err(|_| Refusal::Malformed)?;
                    return self.judge(subject, &statement).map(|()| *id);
                }
                Err(_) => refusal = Refusal::BadSignature,
            }
        }
        Err(refusal)
    }

    fn judge(&self, subject: &Subject<'_>, statement: &Statement) -> Result<(), Refusal> {
        if !statement.is_of(&subject.key) || statement.record != subject.record {
            return Err(Refusal::WrongStep);
        }
        let is_named = |name: &String| covers(name, &statement.instance);
        if statement.instance != subject.instance && !self.instances.iter().any(is_named) {
            return Err(Refusal::WrongInstance);
        }
        if !self.signers.is_empty() && !self.signers.contains(&statement.builder) {
            return Err(Refusal::WrongSigner);
        }
        Ok(())
    }
}

/// Whether a pattern stands for an instance: a name, `NAME/*` or `*`.
pub(super) fn covers(pattern: &str, instance: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(above) if above.ends_with('/') => instance.starts_with(above),
        _ => pattern == instance,
    }
}

/// For which instance a signature says that it was made.
pub fn instance_of(envelope: &[u8]) -> Option<String> {
    let envelope = Envelope::read(envelope).ok()?;
    Some(Statement::read(&envelope.payload).ok()?.instance)
}

/// The record that an envelope is about, if it is one: whether it was made for these bytes shows
/// without any key.
pub fn is_about(envelope: &[u8], subject: &Subject<'_>) -> bool {
    let envelope = Envelope::read(envelope).ok();
    let statement = envelope.and_then(|envelope| Statement::read(&envelope.payload).ok());
    statement.is_some_and(|one| one.is_of(&subject.key) && one.record == subject.record)
}
