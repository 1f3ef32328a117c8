//! Whom the server trusts with what: the tables `jwt` and `rule` of the settings file.
//!
//! ```toml
//! [[jwt]]
//! issuer = "https://token.actions.githubusercontent.com"
//! audience = "ashlar-cache"
//! jwks = "https://token.actions.githubusercontent.com/.well-known/jwks"
//!
//! [[rule]]
//! claims = { repository = "acme/{repo}", ref = "refs/pull/{pr}/merge" }
//! grants = [{ namespace = "acme/{repo}/pr/{pr}", rights = ["read", "write", "lease"] }]
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use super::value::Span;
use crate::auth::key_url::{KeyUrlError, read_url};
use crate::auth::pattern::{Pattern, Template};
use crate::auth::{Right, Rights};

/// An issuer of JSON Web Tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct JwtTable {
    /// What `iss` of its tokens is.
    pub issuer: String,
    /// What `aud` of its tokens has to name: one of these.
    pub audience: OneOrMore,
    /// Where its keys are: an `https` URL, or a file.
    pub jwks: String,
    /// How often they are fetched.
    #[serde(default = "every_five_minutes", serialize_with = "as_text")]
    pub refresh: Span,
}

fn as_text<S: Serializer>(value: &Span, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn every_five_minutes() -> Span {
    Span::of(300)
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// At a URL.
    Url(String),
    /// In a file.
    File(PathBuf),
}

impl JwtTable {
    /// Where the keys are.
    pub fn place(&self) -> KeyPlace {
        if self.jwks.contains("://") {
            KeyPlace::Url(self.jwks.clone())
        } else {
            KeyPlace::File(PathBuf::from(&self.jwks))
        }
    }
}

/// One text, or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

impl OneOrMore {
    /// All of them.
    pub fn all(&self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::More(all) => all.clone(),
        }
    }
}

/// Who may do what. All that it asks has to be so.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleTable {
    /// What the audit log calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The issuer of the token, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What the token says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Pattern>,
    /// A name of the client's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Pattern>,
    /// A file that the token is in.
    #[serde(alias = "token-file", skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Whether it is for everyone who reaches the server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// What they may do.
    pub grants: Vec<GrantTable>,
}

/// Rights in a namespace and below it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GrantTable {
    /// The namespace, with names that were caught in braces; empty for all.
    pub namespace: Template,
    /// What may be done there.
    pub rights: Vec<Right>,
}

impl GrantTable {
    /// The rights as a set.
    pub fn set(&self) -> Rights {
        self.rights.iter().copied().collect()
    }
}

/// Both tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Trust {
    /// Issuers of tokens.
    #[serde(rename = "jwt", skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<JwtTable>,
    /// Who may do what.
    #[serde(rename = "rule", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleTable>,
}

/// Tables that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// An issuer without a name, or twice.
    #[error("[[jwt]] number {0}: its issuer is empty, or has a table already")]
    Issuer(usize),
    /// Tokens for anybody.
    #[error(
        "[[jwt]] of {0}: audience is empty, so that tokens made for others would be taken: name \
         what tokens for this cache have in `aud`"
    )]
    Audience(String),
    /// Keys from nowhere, or from anybody.
    #[error("[[jwt]] of {issuer}: {reason}")]
    Jwks {
        /// The issuer.
        issuer: String,
        /// What is wrong.
        reason: String,
    },
    /// Never fetched again, or all the time.
    #[error("[[jwt]] of {0}: refresh is none, or shorter than 10s")]
    Refresh(String),
    /// Tokens that are good for nothing.
    #[error("[[jwt]] of {0}: no [[rule]] with claims says what its tokens are good for")]
    Unused(String),
    /// A rule that is not right.
    #[error("[[rule]] {rule}: {problem}")]
    Rule {
        /// Its name or number.
        rule: String,
        /// What is wrong.
        problem: RuleProblem,
    },
}

/// What can be wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleProblem {
    /// It is for nobody or everybody.
    #[error("it says nothing of who it is for: give claims, certificate, token_file or anonymous")]
    Nobody,
    /// It is for everybody and for somebody.
    #[error("anonymous goes with nothing else: everyone who reaches the server may what it grants")]
    Anonymous,
    /// It grants nothing.
    #[error("it grants nothing: each of its grants needs rights, and it needs a grant")]
    NoGrant,
    /// It wants to know what nobody has caught.
    #[error("the namespace `{namespace}` wants {{{name}}}, which none of its patterns catches")]
    Unknown {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// There are no tokens to have claims.
    #[error("it has claims or an issuer, but there is no [[jwt]] table")]
    NoIssuer,
    /// It could be for tokens of either.
    #[error("there are several [[jwt]] tables: say by issuer = \"…\" whose tokens it is for")]
    WhichIssuer,
    /// An issuer without a table.
    #[error("there is no [[jwt]] table of {0}")]
    OtherIssuer(String),
    /// An issuer, and nothing of what it says.
    #[error("it names an issuer, but no claims")]
    NoClaims,
    /// There are no certificates.
    #[error("it is for certificates, but --tls-client-ca is not set")]
    NoAuthority,
}

impl Trust {
    /// What rule number `index`, from 0, is called.
    pub fn name_of(&self, index: usize) -> String {
        let name = self.rules.get(index).and_then(|rule| rule.name.clone());
        name.unwrap_or_else(|| (index + 1).to_string())
    }

    /// Fails if the tables cannot be meant. `has_authority` says whether clients can have
    /// certificates.
    pub fn check(&self, has_authority: bool) -> Result<(), TrustError> {
        let mut issuers = BTreeSet::new();
        for (index, table) in self.issuers.iter().enumerate() {
            if table.issuer.is_empty() || !issuers.insert(table.issuer.as_str()) {
                return Err(TrustError::Issuer(index + 1));
            }
            check_issuer(table)?;
        }
        for (index, rule) in self.rules.iter().enumerate() {
            check_rule(rule, &issuers, has_authority).map_err(|problem| TrustError::Rule {
                rule: self.name_of(index),
                problem,
            })?;
        }
        let is_used = |issuer: &str| {
            self.rules.iter().any(|rule| {
                let named = rule.issuer.as_deref();
                !rule.claims.is_empty() && named.is_none_or(|named| named == issuer)
            })
        };
        match issuers.iter().find(|issuer| !is_used(issuer)) {
            Some(issuer) => Err(TrustError::Unused((*issuer).to_owned())),
            None => Ok(()),
        }
    }
}

fn check_issuer(table: &JwtTable) -> Result<(), TrustError> {
    let issuer = || table.issuer.clone();
    let audience = table.audience.all();
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        return Err(TrustError::Audience(issuer()));
    }
    if table.jwks.is_empty() {
        return Err(TrustError::Jwks {
            issuer: issuer(),
            reason: "jwks is empty: write an https URL, or a path".to_owned(),
        });
    }
    if let KeyPlace::Url(url) = table.place() {
        read_url(&url).map_err(|error: KeyUrlError| TrustError::Jwks {
            issuer: issuer(),
            reason: error.to_string(),
        })?;
    }
    let refresh = table.refresh.given();
    if refresh.is_none_or(|refresh| refresh.as_secs() < 10) {
        return Err(TrustError::Refresh(issuer()));
    }
    Ok(())
}

fn check_rule(
    rule: &RuleTable,
    issuers: &BTreeSet<&str>,
    has_authority: bool,
) -> Result<(), RuleProblem> {
    let is_for_token = !rule.claims.is_empty() || rule.issuer.is_some();
    let is_for_some = is_for_token || rule.certificate.is_some() || rule.token_file.is_some();
    match (rule.anonymous, is_for_some) {
        (true, true) => return Err(RuleProblem::Anonymous),
        (false, false) => return Err(RuleProblem::Nobody),
        _ => {}
    }
    if is_for_token {
        if issuers.is_empty() {
            return Err(RuleProblem::NoIssuer);
        }
        match &rule.issuer {
            Some(issuer) if !issuers.contains(issuer.as_str()) => {
                return Err(RuleProblem::OtherIssuer(issuer.clone()));
            }
            Some(_) if rule.claims.is_empty() => return Err(RuleProblem::NoClaims),
            None if issuers.len() > 1 => return Err(RuleProblem::WhichIssuer),
            _ => {}
        }
    }
    if rule.certificate.is_some() && !has_authority {
        return Err(RuleProblem::NoAuthority);
    }
    if rule.grants.is_empty() || rule.grants.iter().any(|grant| grant.rights.is_empty()) {
        return Err(RuleProblem::NoGrant);
    }
    let patterns = rule.claims.values().chain(&rule.certificate);
    let caught: BTreeSet<&str> = patterns.flat_map(Pattern::names).collect();
    for grant in &rule.grants {
        if let Some(name) = grant.namespace.names().find(|name| !caught.contains(name)) {
            return Err(RuleProblem::Unknown {
                namespace: grant.namespace.to_string(),
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}
