//! Who a request comes from, and what that caller may do where.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tonic::{Request, Status};

/// What somebody may do in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Look results and blobs up.
    Read,
    /// Store them.
    Write,
    /// Hold leases.
    Lease,
    /// Invalidate results, pin them, see what others do.
    Admin,
    /// Have work done by the farm's workers, and upload what it needs.
    Queue,
    /// Do such work, and store what comes of it. Only on the port of the workers.
    Work,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::Lease,
        Self::Admin,
        Self::Queue,
        Self::Work,
    ];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Lease => "lease",
            Self::Admin => "admin",
            Self::Queue => "queue",
            Self::Work => "work",
        })
    }
}

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

impl Rights {
    /// Every right.
    pub const ALL: Self = Self(0b11_1111);

    /// All that clients may have: no client takes work.
    pub const OF_CLIENTS: Self = Self(0b01_1111);

    /// What a worker needs, to do what it is given. A whole build has other work done.
    const OF_WORKERS: Self = Self(
        Right::Read.bit()
            | Right::Write.bit()
            | Right::Lease.bit()
            | Right::Queue.bit()
            | Right::Work.bit(),
    );

    /// Whether a right is among them.
    pub const fn has(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// These, and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What they are worth on a port. Work is there for workers alone, who may do all that it takes.
    #[must_use]
    pub const fn on(self, port: Port) -> Self {
        match port {
            Port::Clients => self.among(Self::OF_CLIENTS),
            Port::Workers if self.has(Right::Work) => self.and(Self::OF_WORKERS),
            Port::Workers => self,
        }
    }

    /// Those of them that are among others.
    #[must_use]
    pub const fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        let bits = rights.into_iter().map(Right::bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Port {
    /// Where everybody comes in.
    #[default]
    Clients,
    /// Where workers come in.
    Workers,
}

/// Rights in a namespace and in all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The namespace; empty for all.
    pub namespace: String,
    /// What may be done there.
    pub rights: Rights,
}

/// Whether a namespace is `top`, or below it.
pub fn is_within(namespace: &str, top: &str) -> bool {
    let Some(rest) = namespace.strip_prefix(top) else {
        return false;
    };
    top.is_empty() || rest.is_empty() || rest.starts_with('/')
}

/// The name of one who has shown nothing. Other names begin with how they are known.
pub const ANONYMOUS: &str = "anonymous";

/// The name of one whom nobody has let in.
const NOBODY: &str = "nobody";

/// Who a request comes from. Every request that is let in carries one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    name: Arc<str>,
    rules: Arc<str>,
    grants: Arc<[Grant]>,
}

impl Caller {
    /// A caller with a name for people.
    pub fn new(name: impl Into<Arc<str>>, grants: impl Into<Arc<[Grant]>>) -> Self {
        Self::known(name, "", grants)
    }

    /// A caller that rules gave its rights.
    pub fn known(
        name: impl Into<Arc<str>>,
        rules: impl Into<Arc<str>>,
        grants: impl Into<Arc<[Grant]>>,
    ) -> Self {
        Self {
            name: name.into(),
            rules: rules.into(),
            grants: grants.into(),
        }
    }

    /// The caller of a request; one who may do nothing if the request was let in by nobody.
    pub fn of<T>(request: &Request<T>) -> Self {
        let caller = request.extensions().get::<Self>();
        caller.cloned().unwrap_or_else(|| Self::new(NOBODY, []))
    }

    /// Whether nothing says who it is.
    pub fn is_anonymous(&self) -> bool {
        matches!(&*self.name, ANONYMOUS | NOBODY)
    }

    /// Its name, as the audit log has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name, for those who keep it.
    pub fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// The names of the rules that gave it its rights; empty if there are no rules.
    pub fn rules(&self) -> Arc<str> {
        self.rules.clone()
    }

    /// What it may do in a namespace.
    pub fn rights(&self, namespace: &str) -> Rights {
        let grants = self.grants.iter();
        grants
            .filter(|grant| is_within(namespace, &grant.namespace))
            .fold(Rights::default(), |all, grant| all.and(grant.rights))
    }

    /// Whether it may do something in a namespace.
    pub fn may(&self, right: Right, namespace: &str) -> bool {
        self.rights(namespace).has(right)
    }

    /// The same, with what its rights are worth on a port.
    #[must_use]
    pub fn on(self, port: Port) -> Self {
        let grants = self.grants.iter().map(|grant| Grant {
            namespace: grant.namespace.clone(),
            rights: grant.rights.on(port),
        });
        Self {
            grants: grants.collect(),
            ..self
        }
    }

    /// What it may do where.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Whether it may do something anywhere.
    pub fn may_somewhere(&self, right: Right) -> bool {
        self.grants.iter().any(|grant| grant.rights.has(right))
    }
}

/// Fails unless the sender of a request may do something in a namespace.
pub fn require<T>(request: &Request<T>, right: Right, namespace: &str) -> Result<(), Status> {
    check(&Caller::of(request), right, namespace)
}

/// Fails unless somebody may do something in a namespace.
pub fn check(caller: &Caller, right: Right, namespace: &str) -> Result<(), Status> {
    if caller.may(right, namespace) {
        return Ok(());
    }
    let what = match right {
        Right::Read => "read",
        Right::Write => "write",
        Right::Lease => "hold leases",
        Right::Admin => "look after the cache",
        Right::Queue => "have work done by workers",
        Right::Work => "work",
    };
    let place = if namespace.is_empty() {
        String::new()
    } else {
        format!(" in `{namespace}`")
    };
    if !caller.is_anonymous() {
        return Err(Status::permission_denied(format!(
            "this cache does not let you {what}{place}: the token or certificate is not for that, \
             or nobody may"
        )));
    }
    Err(Status::unauthenticated(format!(
        "this cache wants a token from those who {what}{place}, and none was sent"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_reaches_down_but_not_beside() {
        assert!(is_within("org/repo", "org/repo"));
        assert!(is_within("org/repo/pr/17", "org/repo"));
        assert!(!is_within("org/repository", "org/repo"));
        assert!(!is_within("org", "org/repo"));
        assert!(is_within("", "") && is_within("a", ""));
    }

    #[test]
    fn rights_of_all_grants_add_up() {
        let grant = |namespace: &str, rights: &[Right]| Grant {
            namespace: namespace.to_owned(),
            rights: rights.iter().copied().collect(),
        };
        let caller = Caller::new(
            "ci",
            [
                grant("org/repo", &[Right::Read]),
                grant("org/repo/pr/17", &[Right::Write, Right::Lease]),
            ],
        );
        assert!(caller.may(Right::Read, "org/repo/pr/17"));
        assert!(caller.may(Right::Write, "org/repo/pr/17"));
        assert!(!caller.may(Right::Write, "org/repo/main"));
        assert!(!caller.may(Right::Write, "org/repo/pr/170"));
        assert!(!caller.may(Right::Admin, "org/repo/pr/17"));
        assert!(!caller.may(Right::Read, "org"));
        assert!(caller.may_somewhere(Right::Lease) && !caller.may_somewhere(Right::Admin));
    }

    #[test]
    fn work_is_worth_something_on_the_port_of_the_workers_alone() {
        let work: Rights = [Right::Work].into_iter().collect();
        assert_eq!(work.on(Port::Clients), Rights::default());
        let there = work.on(Port::Workers);
        for (right, is_there) in [
            (Right::Read, true),
            (Right::Write, true),
            (Right::Lease, true),
            (Right::Work, true),
            (Right::Queue, true),
            (Right::Admin, false),
        ] {
            assert_eq!(there.has(right), is_there, "{right}");
        }
        let client: Rights = [Right::Read, Right::Queue].into_iter().collect();
        assert_eq!(client.on(Port::Workers), client);
        assert_eq!(Rights::ALL.on(Port::Clients), Rights::OF_CLIENTS);
        let all: Rights = Right::ALL.into_iter().collect();
        assert_eq!(all, Rights::ALL);
    }
}
