//! A policy from settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_http::HttpEnvironment;

use super::access::{Policy, Writers};
use super::caller::{Grant, Right};
use super::issuer::{Issuer, IssuerTerms, KeyFile, KeySource};
use super::jwks::{KeySet, KeySetError};
use super::key_url::{KeyUrl, KeyUrlError};
use super::pattern::Captures;
use super::rules::Rule;
use super::tokens::{TokenFileError, Tokens};
use crate::settings::Settings;
use crate::settings::trust::{JwtTable, KeyPlace, RuleTable};

/// A policy that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file of tokens is no good.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// A file of keys cannot be read.
    #[error("cannot read the keys in {}", path.display())]
    ReadKeys {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of keys is no good.
    #[error("{} cannot be used", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeySetError,
    },
    /// A URL of keys is no good.
    #[error(transparent)]
    Url(#[from] KeyUrlError),
    /// Everyone could write.
    #[error("{0} can be reached from other machines, and nothing keeps anyone from writing")]
    Open(String),
    /// Nobody can work.
    #[error("--worker-listen is set, and nobody may work")]
    NoWorkers,
}

impl PolicyError {
    /// What to do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open(_) => Some(
                "name a file with tokens by --write-token-file, listen on a loopback address or \
                 a Unix socket, or give --read-only",
            ),
            Self::NoWorkers => Some(
                "name a file with tokens of workers by --worker-token-file, or write a [[rule]] \
                 that grants the right \"work\"",
            ),
            _ => None,
        }
    }
}

/// The files that a policy is made of, but for the settings file.
pub fn files(settings: &Settings) -> Vec<PathBuf> {
    let issuers = settings.trust.issuers.iter();
    let keys = issuers.filter_map(|table| match table.place() {
        KeyPlace::File(path) => Some(path),
        KeyPlace::Url(_) => None,
    });
    let rules = settings.trust.rules.iter();
    let tokens = rules.filter_map(|rule| rule.token_file.clone());
    let named = [
        &settings.write_token_file,
        &settings.read_token_file,
        &settings.queue_token_file,
        &settings.worker_token_file,
    ];
    let named = named.into_iter().flatten().cloned();
    named.chain(tokens).chain(keys).collect()
}

/// Makes policies.
#[derive(Debug, Clone)]
pub struct Loader {
    /// Whether only this machine can come in.
    pub is_local: bool,
    /// Proxies and certificate authorities for those who serve keys.
    pub http: HttpEnvironment,
}

impl Loader {
    /// Fails if settings make no policy. Does not fetch anything.
    pub fn check(&self, settings: &Settings) -> Result<(), PolicyError> {
        self.rules(settings)?;
        for table in &settings.trust.issuers {
            self.source(table)?;
        }
        Ok(())
    }

    /// The policy that settings make. Issuers of the old one, if they are the same, go on with
    /// the keys that they have. Has to be called within a runtime.
    pub fn load(&self, settings: &Settings, old: Option<&Policy>) -> Result<Policy, PolicyError> {
        let mut policy = self.rules(settings)?;
        for table in &settings.trust.issuers {
            let terms = terms(table);
            let same = old.and_then(|old| {
                let mut issuers = old.issuers.iter();
                issuers.find(|issuer| *issuer.terms() == terms)
            });
            let issuer = match same {
                Some(same) => {
                    same.refresh();
                    same.clone()
                }
                None => Arc::new(Issuer::start(terms, self.source(table)?)),
            };
            policy.issuers.push(issuer);
        }
        Ok(policy)
    }

    /// All but the issuers.
    fn rules(&self, settings: &Settings) -> Result<Policy, PolicyError> {
        let read = |path: &PathBuf| Tokens::read(path);
        let has_rules = !settings.trust.rules.is_empty();
        // Whoever says who may queue or work does not mean everybody.
        let has_tokens =
            settings.queue_token_file.is_some() || settings.worker_token_file.is_some();
        let writers = match &settings.write_token_file {
            Some(path) => Writers::With(read(path)?),
            None if settings.read_only || has_rules || has_tokens => Writers::Nobody,
            None if self.is_local => Writers::Everyone,
            None => {
                let listens = [Some(&settings.listen), settings.worker_listen.as_ref()];
                let listens = listens.into_iter().flatten().map(ToString::to_string);
                return Err(PolicyError::Open(listens.collect::<Vec<_>>().join(", ")));
            }
        };
        let readers = settings.read_token_file.as_ref().map(read).transpose()?;
        let mut policy = Policy::of_files(writers, readers);
        policy.queuers = settings.queue_token_file.as_ref().map(read).transpose()?;
        policy.workers = settings.worker_token_file.as_ref().map(read).transpose()?;
        policy.is_read_only = settings.read_only;
        for (index, table) in settings.trust.rules.iter().enumerate() {
            let name = settings.trust.name_of(index);
            if table.anonymous {
                let grants = table.grants.iter();
                let grants = grants.filter_map(|grant| {
                    let namespace = grant.namespace.fill(&Captures::new())?;
                    let rights = grant.set();
                    Some((name.clone(), Grant { namespace, rights }))
                });
                policy.everyone.extend(grants);
            } else {
                policy.rules.push(rule(name, table)?);
            }
        }
        let tables = settings.trust.rules.iter().flat_map(|table| &table.grants);
        let may_work = policy.workers.is_some()
            || matches!(policy.writers, Writers::Everyone)
            || tables.clone().any(|grant| grant.set().has(Right::Work));
        if settings.worker_listen.is_some() && !may_work {
            return Err(PolicyError::NoWorkers);
        }
        Ok(policy)
    }

    /// Where an issuer's keys come from. A file has to be good.
    fn source(&self, table: &JwtTable) -> Result<Box<dyn KeySource>, PolicyError> {
        match table.place() {
            KeyPlace::Url(url) => Ok(Box::new(KeyUrl::new(&url, &self.http)?)),
            KeyPlace::File(path) => {
                check_keys(&path)?;
                Ok(Box::new(KeyFile(path)))
            }
        }
    }
}

fn check_keys(path: &Path) -> Result<(), PolicyError> {
    let bytes = std::fs::read(path).map_err(|source| PolicyError::ReadKeys {
        path: path.to_owned(),
        source,
    })?;
    let keys = KeySet::read(&bytes).map_err(|source| PolicyError::Keys {
        path: path.to_owned(),
        source,
    })?;
    tracing::debug!(path = %path.display(), keys = keys.count(), "keys of an issuer");
    Ok(())
}

fn terms(table: &JwtTable) -> IssuerTerms {
    IssuerTerms {
        issuer: table.issuer.clone(),
        audience: table.audience.all(),
        place: table.jwks.clone(),
        every: table.refresh.given().unwrap_or_default(),
    }
}

fn rule(name: String, table: &RuleTable) -> Result<Rule, PolicyError> {
    let tokens = table.token_file.as_deref().map(Tokens::read).transpose()?;
    let claims = table.claims.iter();
    let claims = claims.map(|(name, pattern)| (name.clone(), pattern.clone()));
    let grants = table.grants.iter();
    let grants = grants.map(|grant| (grant.namespace.clone(), grant.set()));
    Ok(Rule {
        name,
        issuer: table.issuer.clone(),
        claims: claims.collect(),
        certificate: table.certificate.clone(),
        tokens,
        grants: grants.collect(),
    })
}
