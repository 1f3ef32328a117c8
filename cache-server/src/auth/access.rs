//! Who a request comes from, and what that one may do.
//!
//! | there are | the sender shows | then |
//! |---|---|---|
//! | no rules | nothing | reads, if no file of tokens for reading is set; writes on servers of this machine |
//! | | a token of a file | what the file is for, and what those may who show nothing |
//! | rules | nothing | what rules for everyone grant |
//! | | a token, a certificate, or both | what all rules grant that are about it, and those for everyone |
//!
//! A token that is not known is always refused: its user should learn of the mistake. All of it is
//! asked of each request anew.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use ashlar_store::clock::{self, Clock};
use tonic::Status;

use super::caller::{ANONYMOUS, Caller, Grant, Right, Rights};
use super::issuer::Issuer;
use super::jwt::{self, Claims, JwtError, Parts};
use super::rules::{Proven, Rule, Signed};
use super::tokens::Tokens;
use crate::tls::Peer;

/// Who may write, without rules.
#[derive(Debug, Clone)]
pub enum Writers {
    /// Nobody.
    Nobody,
    /// Everyone.
    Everyone,
    /// Those who have one of these tokens.
    With(Tokens),
}

/// What a server lets its clients do.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Who may write. They may read, too.
    pub writers: Writers,
    /// Who may read; `None`: everyone, if there are no rules.
    pub readers: Option<Tokens>,
    /// Who may have work done, and read.
    pub queuers: Option<Tokens>,
    /// Who may do work; `None`, where there are no rules: whoever may write, if that is everyone.
    pub workers: Option<Tokens>,
    /// Rules. As soon as there is one, nobody may do anything that nothing says.
    pub rules: Vec<Rule>,
    /// Grants for everyone who reaches the server, by the names of their rules.
    pub everyone: Vec<(String, Grant)>,
    /// Those whose tokens are taken.
    pub issuers: Vec<Arc<Issuer>>,
    /// Whether nobody may write, whatever rules say.
    pub is_read_only: bool,
}

impl Policy {
    /// Everyone may do everything: for servers that only this machine reaches.
    pub const fn open() -> Self {
        Self::of_files(Writers::Everyone, None)
    }

    /// One without rules.
    pub const fn of_files(writers: Writers, readers: Option<Tokens>) -> Self {
        Self {
            writers,
            readers,
            queuers: None,
            workers: None,
            rules: Vec::new(),
            everyone: Vec::new(),
            issuers: Vec::new(),
            is_read_only: false,
        }
    }

    fn has_rules(&self) -> bool {
        !self.rules.is_empty() || !self.everyone.is_empty()
    }
}

/// What a request shows of its sender.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// The header `authorization`.
    pub authorization: Option<&'a str>,
    /// The other end of the connection.
    pub peer: Option<&'a Peer>,
}

/// Decides who may do what. Cheap to clone; all clones follow a new policy at once.
#[derive(Clone)]
pub struct Access {
    policy: Arc<ArcSwap<Policy>>,
    clock: Clock,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Access").field(&self.policy.load()).finish()
    }
}

/// A token that was found good.
enum Token {
    /// It is in a file, under this name.
    Known(String),
    /// An issuer signed it.
    Signed(String, Arc<Claims>),
}

impl Access {
    /// Decides by a policy.
    pub fn new(policy: Policy, clock: Clock) -> Self {
        Self {
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            clock,
        }
    }

    /// Everyone may do everything.
    pub fn open() -> Self {
        Self::new(Policy::open(), clock::system())
    }

    /// Decides by another policy from now on.
    pub fn replace(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// What it decides by.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Whether there are rules, so that callers do not trust one another.
    pub fn has_rules(&self) -> bool {
        self.policy.load().has_rules()
    }

    /// Issuers of tokens, and since when their keys were not fetched.
    pub fn jwks_ages(&self) -> Vec<(String, Duration)> {
        let policy = self.policy.load();
        let age = |issuer: &Arc<Issuer>| (issuer.terms().issuer.clone(), issuer.age());
        policy.issuers.iter().map(age).collect()
    }

    /// Who the sender of a request is.
    pub async fn caller(&self, shown: Shown<'_>) -> Result<Caller, Status> {
        let policy = self.policy.load_full();
        let now = (self.clock)();
        let certificate = shown.peer.and_then(|peer| peer.certificate.as_deref());
        if let Some(certificate) = certificate {
            let checked = certificate.check(now);
            checked.map_err(|error| Status::unauthenticated(error.to_string()))?;
        }
        let token = shown.authorization.map(bearer).transpose()?;
        if !policy.has_rules() {
            return policy.caller_of_files(
                token,
                certificate.map(super::certificates::ClientCertificate::name),
            );
        }
        let found = match token {
            Some(token) => Some(policy.token(token, now).await?),
            None => None,
        };
        let proven = Proven {
            token: token.filter(|_| matches!(found, Some(Token::Known(_)))),
            signed: match &found {
                Some(Token::Signed(issuer, claims)) => Some(Signed {
                    issuer,
                    claims: &claims.all,
                }),
                _ => None,
            },
            certificate: certificate.map_or(&[], |one| one.names()),
        };
        let names = [
            found.as_ref().map(|found| match found {
                Token::Known(name) => name.clone(),
                Token::Signed(_, claims) => format!("jwt {}", short(claims.subject())),
            }),
            certificate.map(|one| format!("certificate {}", short(one.name()))),
        ];
        let names: Vec<_> = names.into_iter().flatten().collect();
        policy.caller_of_rules(&proven, &names.join(", "))
    }
}

/// As much of a name as people read.
fn short(name: &str) -> String {
    name.chars().take(200).collect()
}

/// The token of a header.
fn bearer(header: &str) -> Result<&str, Status> {
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Status::unauthenticated(
            "the authorization header is not of the form `Bearer TOKEN`",
        )),
    }
}

fn unknown() -> Status {
    Status::unauthenticated("the token that was sent is not one that this cache knows")
}

/// A token's name in each file that it is in.
#[derive(Debug, Default)]
struct Names {
    writer: Option<String>,
    reader: Option<String>,
    queuer: Option<String>,
    worker: Option<String>,
}

impl Names {
    /// What the files are for.
    fn rights(&self) -> Rights {
        let queuer: Rights = [Right::Read, Right::Queue].into_iter().collect();
        let given = [
            (&self.writer, Rights::OF_CLIENTS),
            (&self.reader, [Right::Read].into_iter().collect()),
            (&self.queuer, queuer),
            (&self.worker, [Right::Work].into_iter().collect()),
        ];
        let given = given.into_iter().filter(|(name, _)| name.is_some());
        given.fold(Rights::default(), |all, (_, rights)| all.and(rights))
    }

    /// The name of the first.
    fn first(self) -> Option<String> {
        let rest = self.queuer.or(self.reader).or(self.worker);
        self.writer.or(rest)
    }
}

/// Rights in all namespaces.
const fn everywhere(rights: Rights) -> Grant {
    let namespace = String::new();
    Grant { namespace, rights }
}

impl Policy {
    /// The names of a token. All files are always gone through, so that the time says nothing of
    /// them.
    fn names_of(&self, token: &str) -> Names {
        let name = |tokens: &Option<Tokens>| tokens.as_ref().and_then(|all| all.name_of(token));
        Names {
            writer: match &self.writers {
                Writers::With(tokens) => tokens.name_of(token),
                Writers::Everyone | Writers::Nobody => None,
            },
            reader: name(&self.readers),
            queuer: name(&self.queuers),
            worker: name(&self.workers),
        }
    }

    /// Whether a token may be wrong: it is not where nobody has to know any.
    const fn knows_tokens(&self) -> bool {
        match self.writers {
            Writers::Everyone => false,
            Writers::With(_) => true,
            Writers::Nobody => {
                self.readers.is_some() || self.queuers.is_some() || self.workers.is_some()
            }
        }
    }

    /// What everyone may do where there are no rules.
    fn of_everyone(&self) -> Rights {
        match (&self.writers, &self.readers, &self.workers) {
            (Writers::Everyone, _, None) => Rights::ALL,
            (Writers::Everyone, _, Some(_)) => Rights::OF_CLIENTS,
            (_, None, _) => [Right::Read].into_iter().collect(),
            (_, Some(_), _) => Rights::default(),
        }
    }

    /// Who somebody is where there are no rules. A certificate lets nobody do more here.
    fn caller_of_files(
        &self,
        token: Option<&str>,
        certificate: Option<&str>,
    ) -> Result<Caller, Status> {
        let Some(token) = token else {
            if self.readers.is_some() {
                return Err(Status::unauthenticated(
                    "this cache wants a token, and none was sent",
                ));
            }
            let name = certificate.map(|name| format!("certificate {name}"));
            let name = name.unwrap_or_else(|| ANONYMOUS.to_owned());
            return Ok(Caller::new(name, [everywhere(self.of_everyone())]));
        };
        let names = self.names_of(token);
        let rights = names.rights().and(self.of_everyone());
        let name = names.first();
        if name.is_none() && self.knows_tokens() {
            return Err(unknown());
        }
        let name = name.unwrap_or_else(|| "token".to_owned());
        Ok(Caller::new(name, [everywhere(rights)]))
    }

    /// Finds out about a token, where there are rules.
    async fn token(&self, token: &str, now: SystemTime) -> Result<Token, Status> {
        let mut known = self.names_of(token).first();
        for tokens in self.rules.iter().filter_map(|rule| rule.tokens.as_ref()) {
            // Each is asked, so that the time says nothing of them.
            let name = tokens.name_of(token);
            known = known.or(name);
        }
        if let Some(name) = known {
            return Ok(Token::Known(name));
        }
        if self.issuers.is_empty() || !jwt::looks_like_one(token) {
            return Err(unknown());
        }
        self.signed(token, now).await.map_err(|error| match error {
            JwtError::NoKeys => Status::unavailable(error.to_string()),
            _ => Status::unauthenticated(error.to_string()),
        })
    }

    /// A token that an issuer signed.
    async fn signed(&self, token: &str, now: SystemTime) -> Result<Token, JwtError> {
        let hash = blake3::hash(token.as_bytes());
        let name = |issuer: &Issuer| issuer.terms().issuer.clone();
        for issuer in &self.issuers {
            if let Some(claims) = issuer.remembered(&hash) {
                claims.check_times(now)?;
                return Ok(Token::Signed(name(issuer), claims));
            }
        }
        let parts = Parts::of(token)?;
        let is_of = |issuer: &&Arc<Issuer>| parts.issuer() == Some(&issuer.terms().issuer);
        let issuer = self.issuers.iter().find(is_of).ok_or(JwtError::Issuer)?;
        let claims = issuer.check(&parts, hash, now).await?;
        Ok(Token::Signed(name(issuer), claims))
    }

    /// Who somebody is of whom something is proven, or nothing.
    fn caller_of_rules(&self, proven: &Proven<'_>, name: &str) -> Result<Caller, Status> {
        let mut grants = Vec::new();
        let mut rules = Vec::new();
        if let Some(token) = proven.token {
            let rights = self.names_of(token).rights();
            if rights != Rights::default() {
                grants.push(everywhere(rights));
            }
        }
        for rule in &self.rules {
            let given = rule.grants(proven);
            if !given.is_empty() {
                rules.push(rule.name.as_str());
                grants.extend(given);
            }
        }
        for (rule, grant) in &self.everyone {
            if !rules.contains(&rule.as_str()) {
                rules.push(rule);
            }
            grants.push(grant.clone());
        }
        if self.is_read_only {
            let reading = [Right::Read].into_iter().collect();
            for grant in &mut grants {
                grant.rights = grant.rights.among(reading);
            }
        }
        if !grants.is_empty() {
            let name = if name.is_empty() { ANONYMOUS } else { name };
            return Ok(Caller::known(name, rules.join(", "), grants));
        }
        Err(if name.is_empty() {
            Status::unauthenticated("this cache wants a token or a certificate, and none was sent")
        } else {
            Status::permission_denied(format!("no rule of this cache lets `{name}` do anything"))
        })
    }
}
