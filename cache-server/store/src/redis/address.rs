//! Where Redis is: addresses as the settings have them.
//!
//! ```text
//! redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]                    one server
//! unix:///PATH                                                      one server, on a Unix socket
//! redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/MASTER[?db=N]      the master that Sentinels name
//! redis+cluster://[USER:PASSWORD@]HOST[:PORT],…                     a cluster that these are of
//! ```
//!
//! `rediss` instead of `redis` is TLS, for Sentinels as well as for servers. Users and passwords are
//! percent-encoded.

use std::fmt;
use std::path::PathBuf;

use crate::fault::Fault;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;

/// A server's host and port.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

impl Host {
    pub(super) fn new(name: &str, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            port,
        }
    }

    /// `HOST`, `HOST:PORT`, `[IPV6]:PORT`.
    fn parse(text: &str, port: u16) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (name, rest) = rest.split_once(']')?;
            let port = match rest.strip_prefix(':') {
                Some(port) => port.parse().ok()?,
                None if rest.is_empty() => port,
                None => return None,
            };
            return Some(Self::new(name, port));
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, port.parse().ok()?),
            None => (text, port),
        };
        (!name.is_empty()).then(|| Self::new(name, port))
    }

    /// As servers name others: an IPv6 address has no brackets, and no name means `own`.
    pub(super) fn parse_redirect(text: &str, own: &Self) -> Option<Self> {
        let (name, port) = text.rsplit_once(':')?;
        let name = if name.is_empty() { &own.name } else { name };
        Some(Self::new(name, port.parse().ok()?))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How the servers are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Layout {
    /// There is one.
    Single(Host),
    /// There is one, on this machine.
    Unix(PathBuf),
    /// The master of this name, which these Sentinels know.
    Sentinel(Vec<Host>, String),
    /// A cluster; these are of its nodes.
    Cluster(Vec<Host>),
}

/// An address, taken apart. Its password is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) layout: Layout,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("layout", &self.layout)
            .field("tls", &self.tls)
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |hosts: &[Host]| {
            let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
            hosts.join(",")
        };
        match &self.layout {
            Layout::Single(host) => write!(f, "{host}"),
            Layout::Unix(path) => write!(f, "{}", path.display()),
            Layout::Sentinel(hosts, master) => {
                write!(f, "the master {master} of the Sentinels {}", list(hosts))
            }
            Layout::Cluster(hosts) => write!(f, "the cluster of {}", list(hosts)),
        }
    }
}

impl Address {
    /// Takes an address apart. What is wrong with it is said without its password.
    pub(super) fn parse(url: &str) -> Result<Self, Fault> {
        parse(url).map_err(|what| {
            Fault::invalid(format!(
                "the address of Redis {what}; it is to be like redis://HOST:6379/0, \
                 unix:///PATH, redis+sentinel://HOST:26379,HOST:26379/MASTER or \
                 redis+cluster://HOST:6379,HOST:6379, and with TLS rediss"
            ))
        })
    }
}

fn parse(url: &str) -> Result<Address, &'static str> {
    let (scheme, rest) = url.split_once(':').ok_or("has no scheme")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut database = 0;
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        if name != "db" {
            return Err("has an option that nobody knows");
        }
        database = value.parse().map_err(|_| "has no number as its db")?;
    }
    let mut address = Address {
        layout: Layout::Unix(PathBuf::new()),
        tls: scheme.starts_with("rediss"),
        user: None,
        password: None,
        database,
    };
    if scheme == "unix" {
        let path = rest.strip_prefix("//").unwrap_or(rest);
        if !path.starts_with('/') {
            return Err("names no absolute path");
        }
        address.layout = Layout::Unix(path.into());
        return Ok(address);
    }
    let rest = rest
        .strip_prefix("//")
        .ok_or("has no // behind its scheme")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // A password may have any character but this, if it is not encoded.
    let hosts = match authority.rsplit_once('@') {
        Some((who, hosts)) => {
            let (user, password) = who.split_once(':').unwrap_or(("", who));
            address.user = Some(decode(user)?).filter(|user| !user.is_empty());
            address.password = Some(decode(password)?);
            hosts
        }
        None => authority,
    };
    let hosts = |port| -> Result<Vec<Host>, &'static str> {
        let hosts = hosts.split(',').map(|host| Host::parse(host, port));
        hosts
            .collect::<Option<Vec<_>>>()
            .ok_or("has a host that is none")
    };
    match scheme {
        "redis" | "rediss" => {
            if !path.is_empty() {
                address.database = path.parse().map_err(|_| "has no number as its database")?;
            }
            let [host] = <[Host; 1]>::try_from(hosts(PORT)?)
                .map_err(|_| "has several hosts, and is not that of a cluster or of Sentinels")?;
            address.layout = Layout::Single(host);
        }
        "redis+sentinel" | "rediss+sentinel" => {
            if path.is_empty() || path.contains('/') {
                return Err("does not name the master behind the Sentinels");
            }
            address.layout = Layout::Sentinel(hosts(SENTINEL_PORT)?, decode(path)?);
        }
        "redis+cluster" | "rediss+cluster" => {
            if !path.is_empty() || address.database != 0 {
                return Err("names a database, and a cluster has only one");
            }
            address.layout = Layout::Cluster(hosts(PORT)?);
        }
        _ => return Err("has a scheme that nobody knows"),
    }
    Ok(address)
}

/// Takes percent-encoding away.
fn decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail
            .split_first_chunk::<2>()
            .ok_or("has a broken percent-encoding")?;
        let byte = hex::decode(digits).map_err(|_| "has a broken percent-encoding")?;
        bytes.extend(byte);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| "has a name that is no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let one = Address::parse("redis://example:7000/3").unwrap();
        assert_eq!(one.layout, Layout::Single(Host::new("example", 7000)));
        assert_eq!((one.database, one.tls, one.user), (3, false, None));
        let one = Address::parse("rediss://anna:p%40ss@[fd00::1]").unwrap();
        assert_eq!(one.layout, Layout::Single(Host::new("fd00::1", 6379)));
        assert_eq!((one.user.as_deref(), one.tls), (Some("anna"), true));
        assert_eq!(one.password.as_deref(), Some("p@ss"));
        let one = Address::parse("unix:///run/redis?db=2").unwrap();
        assert_eq!(one.layout, Layout::Unix("/run/redis".into()));
        assert_eq!(one.database, 2);
        let one = Address::parse("redis+sentinel://:pass@a,b:1/main?db=1").unwrap();
        let hosts = vec![Host::new("a", 26_379), Host::new("b", 1)];
        assert_eq!(one.layout, Layout::Sentinel(hosts, "main".to_owned()));
        assert_eq!((one.database, one.user), (1, None));
        let one = Address::parse("rediss+cluster://a:1,b").unwrap();
        let hosts = vec![Host::new("a", 1), Host::new("b", 6379)];
        assert_eq!((one.layout, one.tls), (Layout::Cluster(hosts), true));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in [
            "",
            "example:6379",
            "http://:secret@example",
            "redis://:secret@a,b",
            "redis://:secret@a:port",
            "redis://:secret@a/zero",
            "redis://:secret%2@a",
            "redis://:secret@a?option=1",
            "redis+sentinel://:secret@a",
            "redis+cluster://:secret@a/1",
            "unix:socket",
        ] {
            let fault = Address::parse(url).unwrap_err();
            assert!(!fault.message.contains("secret"), "{fault}");
        }
        let address = Address::parse("redis://:secret@a").unwrap();
        assert!(!format!("{address:?} {address}").contains("secret"));
    }
}
