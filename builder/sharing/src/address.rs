//! How a cache is named: `grpc://HOST:PORT`, `grpcs://HOST:PORT` or `unix:///PATH`, and how it is
//! used: `,instance=NAME`, `,mode=read|write|readwrite`, `,token-file=FILE`, `,token-env=VAR`,
//! `,ca=FILE`, `,cert=FILE,key=FILE`, `,mounts=ID+ID`. Several servers with the same stores behind
//! them are one cache: `grpc://HOST:PORT+HOST:PORT`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of an address that gives none.
pub const DEFAULT_PORT: u16 = 8980;
/// The longest instance name.
const LONGEST_INSTANCE: usize = 200;

/// The most servers of one cache that are named.
const MOST_SERVERS: usize = 64;

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    /// Host name or IP address, IPv6 in brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Where a cache is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// `grpc://`: TCP, nothing encrypted. One server at least.
    Plain(Vec<Authority>),
    /// `grpcs://`: TLS. One server at least.
    Tls(Vec<Authority>),
    /// `unix://`: a socket of this machine.
    Unix(PathBuf),
}

impl Address {
    /// Whether nobody on the way reads what is sent there: it is encrypted, or stays on this
    /// machine.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Tls(_) | Self::Unix(_) => true,
            Self::Plain(servers) => servers.iter().all(|Authority { host, .. }| {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let address = bare.parse::<IpAddr>();
                host == "localhost" || address.is_ok_and(|address| address.is_loopback())
            }),
        }
    }
}

/// What may be done with a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Results are looked up, and never sent.
    Read,
    /// Results are sent, and never looked up.
    Write,
    /// Both.
    #[default]
    ReadWrite,
}

/// A cache, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// Where it is.
    pub address: Address,
    /// REAPI's instance name; mostly empty.
    pub instance: String,
    /// What may be done with it.
    pub mode: Mode,
    /// A file that holds the token for it.
    pub token_file: Option<PathBuf>,
    /// An environment variable that holds it.
    pub token_env: Option<String>,
    /// A file with the certificates to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// A file with our certificate, for servers that ask for one.
    pub cert: Option<PathBuf>,
    /// A file with its key.
    pub key: Option<PathBuf>,
    /// Ids of cache mounts whose contents are shared.
    pub mounts: Vec<String>,
}

/// Why a text names no cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It begins with no scheme that is known.
    #[error(
        "`{0}` is no address of a cache: write grpc://HOST:PORT, grpcs://HOST:PORT or unix:///PATH"
    )]
    Scheme(String),
    /// The host is missing or has characters that no host has.
    #[error("`{0}` has no host: write grpc://HOST:PORT")]
    Host(String),
    /// The port is no number of a port.
    #[error("`{0}` is no port")]
    Port(String),
    /// A path of a socket that depends on the current directory.
    #[error("the socket `{0}` must have an absolute path, as in unix:///run/cache.sock")]
    Relative(String),
    /// An option that is not known, or without value.
    #[error(
        "`{0}` is no option of a cache: they are instance=NAME, mode=read|write|readwrite, \
         token-file=FILE, token-env=VAR, ca=FILE, cert=FILE with key=FILE, and mounts=ID+ID"
    )]
    Option(String),
    /// Options that do not go together, or not with the address.
    #[error("{0}")]
    Together(&'static str),
    /// A mode that is not known.
    #[error("`{0}` is no mode: it is read, write or readwrite")]
    Mode(String),
    /// An instance name that no server takes.
    #[error(
        "`{0}` is no instance name: it has at most {LONGEST_INSTANCE} characters, and none of \
             REAPI's reserved words"
    )]
    Instance(String),
    /// A token stands where everybody can read it.
    #[error(
        "a token must not stand on a command line: put it into a file, and name that with \
             token-file=FILE"
    )]
    Token,
}

impl Mode {
    /// Whether results may be looked up.
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether results may be sent.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

impl FromStr for Mode {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "readwrite" => Ok(Self::ReadWrite),
            _ => Err(AddressError::Mode(shown(text))),
        }
    }
}

impl CacheSpec {
    /// A cache that is read and written, without instance name, token and certificates.
    pub const fn new(address: Address) -> Self {
        Self {
            address,
            instance: String::new(),
            mode: Mode::ReadWrite,
            token_file: None,
            token_env: None,
            ca: None,
            cert: None,
            key: None,
            mounts: Vec::new(),
        }
    }

    /// Checks what single options do not show.
    pub fn check(&self) -> Result<(), AddressError> {
        if self.cert.is_some() != self.key.is_some() {
            let why = "a certificate and its key go together: give both cert=FILE and key=FILE";
            return Err(AddressError::Together(why));
        }
        if self.cert.is_some() && !matches!(self.address, Address::Tls(_)) {
            let why = "a certificate is shown over TLS only: write grpcs://";
            return Err(AddressError::Together(why));
        }
        if self.token_file.is_some() && self.token_env.is_some() {
            let why = "a token comes from a file or from a variable: not both token-file and \
                       token-env";
            return Err(AddressError::Together(why));
        }
        Ok(())
    }

    /// The name under which layers are remembered to be there: address and instance name.
    pub fn name(&self) -> String {
        if self.instance.is_empty() {
            self.address.to_string()
        } else {
            format!("{},instance={}", self.address, self.instance)
        }
    }
}

/// Checks an instance name (REAPI: `remote_execution.proto`, "instance names").
pub fn instance_name(text: &str) -> Result<String, AddressError> {
    const RESERVED: [&str; 9] = [
        "blobs",
        "uploads",
        "actions",
        "actionResults",
        "operations",
        "capabilities",
        "compressed-blobs",
        "metadata",
        "executions",
    ];
    let reserved = text.split('/').any(|part| RESERVED.contains(&part));
    let strange = text.chars().any(char::is_control);
    if reserved || strange || text.chars().count() > LONGEST_INSTANCE {
        return Err(AddressError::Instance(shown(text)));
    }
    Ok(text.to_owned())
}

impl FromStr for CacheSpec {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let mut spec = Self::new(parts.next().unwrap_or_default().parse()?);
        for part in parts {
            let bad = || AddressError::Option(shown(part));
            let (name, value) = part.split_once('=').ok_or_else(bad)?;
            match (name, value) {
                ("token", _) => return Err(AddressError::Token),
                ("instance", name) => spec.instance = instance_name(name)?,
                (_, "") => return Err(bad()),
                ("mode", mode) => spec.mode = mode.parse()?,
                ("token-file", path) => spec.token_file = Some(path.into()),
                ("token-env", name) => spec.token_env = Some(name.to_owned()),
                ("ca", path) => spec.ca = Some(path.into()),
                ("cert", path) => spec.cert = Some(path.into()),
                ("key", path) => spec.key = Some(path.into()),
                ("mounts", ids) => spec.mounts = ids.split('+').map(ToOwned::to_owned).collect(),
                _ => return Err(bad()),
            }
        }
        spec.check()?;
        Ok(spec)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| AddressError::Scheme(shown(text)))?;
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => Err(AddressError::Relative(shown(rest))),
            "grpc" => servers(rest).map(Self::Plain),
            "grpcs" => servers(rest).map(Self::Tls),
            _ => Err(AddressError::Scheme(shown(text))),
        }
    }
}

/// `HOST[:PORT]`, or several with `+` between them.
fn servers(text: &str) -> Result<Vec<Authority>, AddressError> {
    if text.split('+').count() > MOST_SERVERS {
        return Err(AddressError::Together("so many servers cannot be named"));
    }
    text.split('+').map(authority).collect()
}

/// `HOST[:PORT]`, with an IPv6 address in brackets.
fn authority(text: &str) -> Result<Authority, AddressError> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let bad_host = || AddressError::Host(shown(text));
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']').ok_or_else(bad_host)? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at_checked(end).ok_or_else(bad_host)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._[]:%".contains(c);
    if host.is_empty() || host == "[]" || !host.chars().all(allowed) {
        return Err(bad_host());
    }
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => DEFAULT_PORT,
        None => return Err(bad_host()),
        Some(port) => port.parse().map_err(|_| AddressError::Port(shown(port)))?,
    };
    let host = host.to_owned();
    Ok(Authority { host, port })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, servers) = match self {
            Self::Plain(servers) => ("grpc", servers),
            Self::Tls(servers) => ("grpcs", servers),
            Self::Unix(path) => return write!(f, "unix://{}", path.display()),
        };
        write!(f, "{scheme}://")?;
        for (number, Authority { host, port }) in servers.iter().enumerate() {
            let between = if number == 0 { "" } else { "+" };
            write!(f, "{between}{host}:{port}")?;
        }
        Ok(())
    }
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> CacheSpec {
        text.parse().unwrap()
    }

    #[test]
    fn what_goes_over_a_network_in_the_clear_is_not_private() {
        for (text, private) in [
            ("grpcs://cache.example.com", true),
            ("unix:///run/cache.sock", true),
            ("grpc://127.0.0.1:1", true),
            ("grpc://[::1]:1", true),
            ("grpc://localhost", true),
            ("grpc://10.0.0.1", false),
            ("grpc://cache.example.com", false),
            ("grpc://localhost.example.com", false),
            ("grpc://localhost+127.0.0.1:2", true),
            ("grpc://localhost+10.0.0.1", false),
        ] {
            assert_eq!(spec(text).address.is_private(), private, "{text}");
        }
    }

    #[test]
    fn addresses_are_read_and_written() {
        for (text, written) in [
            ("grpc://cache", "grpc://cache:8980"),
            ("grpc://cache:9/", "grpc://cache:9"),
            ("grpc://a+b:1+[::1]", "grpc://a:8980+b:1+[::1]:8980"),
            ("grpcs://a:1+b:2", "grpcs://a:1+b:2"),
            ("grpcs://[::1]:443", "grpcs://[::1]:443"),
            ("grpcs://[fe80::1%eth0]", "grpcs://[fe80::1%eth0]:8980"),
            ("unix:///run/a b.sock", "unix:///run/a b.sock"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse(), Ok(address));
        }
    }

    #[test]
    fn options_follow_the_address() {
        let plain = spec("grpc://a:1");
        assert_eq!(
            (plain.mode, plain.name().as_str()),
            (Mode::ReadWrite, "grpc://a:1")
        );
        let full =
            spec("grpcs://a:1,instance=org/main,mode=read,token-file=/t,ca=/c,mounts=apt+cargo");
        assert_eq!(full.name(), "grpcs://a:1,instance=org/main");
        assert!(full.mode.reads() && !full.mode.writes());
        assert_eq!(full.token_file, Some("/t".into()));
        assert_eq!(full.ca, Some("/c".into()));
        assert_eq!(full.mounts, ["apt", "cargo"]);
        assert_eq!(spec("grpc://a,instance=").instance, "");
        let shown = spec("grpcs://a,cert=/c,key=/k,token-env=CI_TOKEN");
        assert_eq!(
            (shown.cert, shown.key),
            (Some("/c".into()), Some("/k".into()))
        );
        assert_eq!(shown.token_env.as_deref(), Some("CI_TOKEN"));
    }

    #[test]
    fn options_go_together_or_not_at_all() {
        for text in [
            "grpcs://a,cert=/c",
            "grpcs://a,key=/k",
            "grpc://a,cert=/c,key=/k",
            "grpc://a,token-file=/t,token-env=T",
        ] {
            let error = text.parse::<CacheSpec>().unwrap_err();
            assert!(matches!(error, AddressError::Together(_)), "{text}");
        }
        let many = format!("grpc://a{}", "+a".repeat(MOST_SERVERS));
        let error = many.parse::<CacheSpec>().unwrap_err();
        assert!(matches!(error, AddressError::Together(_)));
    }

    #[test]
    fn what_names_no_cache_says_why() {
        let error = |text: &str| text.parse::<CacheSpec>().unwrap_err();
        for text in ["", "cache:80", "http://cache", "https://cache"] {
            assert!(matches!(error(text), AddressError::Scheme(_)), "{text}");
        }
        for text in [
            "grpc://",
            "grpc://:80",
            "grpc://a/b",
            "grpc://u@h",
            "grpc://[::1",
            "grpc://[::1]x",
            "grpc://::1",
            "grpc://a+",
            "grpc://+b",
        ] {
            assert!(matches!(error(text), AddressError::Host(_)), "{text}");
        }
        for text in ["grpc://a:", "grpc://a:x", "grpc://a:65536", "grpc://a::1"] {
            assert!(matches!(error(text), AddressError::Port(_)), "{text}");
        }
        assert!(matches!(error("unix://run"), AddressError::Relative(_)));
        for text in ["grpc://a,b", "grpc://a,b=c", "grpc://a,ca=", "grpc://a,"] {
            assert!(matches!(error(text), AddressError::Option(_)), "{text}");
        }
        assert!(matches!(error("grpc://a,mode=rw"), AddressError::Mode(_)));
        assert!(matches!(
            error("grpc://a,instance=x/blobs"),
            AddressError::Instance(_)
        ));
        assert_eq!(error("grpc://a,token=secret"), AddressError::Token);
        assert!(
            !error("grpc://a,token=secret")
                .to_string()
                .contains("secret")
        );
    }
}
