//! JSON Web Tokens (RFC 7519): who issued one, for whom, for how long, and what it says.
//!
//! ```text
//! token ─▶ size, form ─▶ issuer ─▶ key by `kid`, algorithm by the key ─▶ signature
//!       ─▶ `iss`, `aud` ─▶ `exp`, `nbf` with a leeway of a minute
//! ```
//!
//! The times are asked of every request anew; the rest of a token that was good once stays good
//! for as long as the issuer's keys are the same.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::jwks::{Checked, KeySet, algorithm};

/// Longer tokens are refused. Those of CI services have 1 to 3 KiB.
pub const LONGEST: usize = 8 << 10;

/// Clocks may differ by so much.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// A token that is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// It is too long.
    #[error("the token is longer than 8 KiB")]
    Long,
    /// It is none.
    #[error("the token is no JSON Web Token: {0}")]
    Form(&'static str),
    /// Its issuer is not trusted.
    #[error("the token is of an issuer that this cache does not trust")]
    Issuer,
    /// It is signed in a way that is never taken, such as none at all.
    #[error("the token's signature is of a kind that this cache does not take")]
    Algorithm,
    /// It names a key that the issuer does not have.
    #[error("the token is signed with a key that its issuer does not publish")]
    UnknownKey,
    /// Somebody else made it, or changed it.
    #[error("the token's signature is wrong")]
    Signature,
    /// It is for somebody else.
    #[error("the token is for another audience than this cache")]
    Audience,
    /// It is over.
    #[error("the token expired {0} seconds ago")]
    Expired(u64),
    /// It has no end.
    #[error("the token does not say when it expires")]
    Endless,
    /// It has not begun.
    #[error("the token is not valid yet")]
    Early,
    /// The issuer's keys are not there.
    #[error(
        "the keys of the token's issuer could not be fetched so far; the server's log says why"
    )]
    NoKeys,
}

/// What a token says, once its signature was found good.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// All of it.
    pub all: Map<String, Value>,
    from: f64,
    until: f64,
}

/// A token taken apart, of which nothing is proven yet.
#[derive(Debug)]
pub struct Parts<'a> {
    /// What is signed: all but the signature.
    signed: &'a str,
    signature: &'a str,
    header: Header,
    claims: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// Whether a token has the form of one. Static tokens may have it, too.
pub fn looks_like_one(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

fn decoded<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

impl<'a> Parts<'a> {
    /// Takes a token apart.
    pub fn of(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > LONGEST {
            return Err(JwtError::Long);
        }
        let (signed, signature) = token
            .rsplit_once('.')
            .ok_or(JwtError::Form("it has no three parts"))?;
        let (header, claims) = signed
            .split_once('.')
            .ok_or(JwtError::Form("it has no three parts"))?;
        Ok(Self {
            signed,
            signature,
            header: decoded(header).ok_or(JwtError::Form("its header cannot be read"))?,
            claims: decoded(claims).ok_or(JwtError::Form("its claims cannot be read"))?,
        })
    }

    /// Who it says that it is of.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Its claims, if one of the keys signed it for this audience and it is neither over nor yet
    /// to begin. The caller has chosen the keys by the issuer.
    pub fn check(
        &self,
        keys: &KeySet,
        audience: &[String],
        now: SystemTime,
    ) -> Result<Arc<Claims>, JwtError> {
        // What has to be understood is not.
        if self.header.crit.is_some() {
            return Err(JwtError::Algorithm);
        }
        let algorithm = algorithm(&self.header.alg).ok_or(JwtError::Algorithm)?;
        let name = self.header.kid.as_deref();
        match keys.check(self.signed, self.signature, name, algorithm) {
            Checked::Good => {}
            Checked::Wrong => return Err(JwtError::Signature),
            Checked::UnknownKey => return Err(JwtError::UnknownKey),
            Checked::OtherAlgorithm => return Err(JwtError::Algorithm),
        }
        if !is_for(self.claims.get("aud"), audience) {
            return Err(JwtError::Audience);
        }
        let time = |name: &'static str, absent: f64| match self.claims.get(name) {
            None => Ok(absent),
            Some(value) => value
                .as_f64()
                .ok_or(JwtError::Form("one of its times is no number")),
        };
        let (from, until) = (time("nbf", 0.0)?, time("exp", f64::INFINITY)?);
        if until.is_infinite() {
            return Err(JwtError::Endless);
        }
        let claims = Arc::new(Claims {
            all: self.claims.clone(),
            from,
            until,
        });
        claims.check_times(now)?;
        Ok(claims)
    }
}

fn is_for(claim: Option<&Value>, audience: &[String]) -> bool {
    let is_ours = |value: &Value| {
        let named = value.as_str();
        named.is_some_and(|named| audience.iter().any(|ours| ours == named))
    };
    match claim {
        Some(Value::Array(all)) => all.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    }
}

impl Claims {
    /// Whom the token is about.
    pub fn subject(&self) -> &str {
        let subject = self.all.get("sub").and_then(Value::as_str);
        subject.unwrap_or("without a subject")
    }

    /// Fails if the token is over, or yet to begin.
    pub fn check_times(&self, now: SystemTime) -> Result<(), JwtError> {
        let now = now
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let leeway = LEEWAY.as_secs_f64();
        if now > self.until + leeway {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "such a conversion ends at the largest number"
            )]
            let ago = (now - self.until) as u64;
            return Err(JwtError::Expired(ago));
        }
        if now + leeway < self.from {
            return Err(JwtError::Early);
        }
        Ok(())
    }
}
