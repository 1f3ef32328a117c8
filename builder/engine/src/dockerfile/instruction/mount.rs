//! The value of `RUN --mount`.
//!
//! Keys and words of errors are BuildKit's (`instructions/commands_runmount.go`). All values but
//! `from` are expanded, so a mount is read when its stage is planned; only where its files come
//! from is known before ([`source_name`]).

use ashlar_model::amount::Size;
use ashlar_model::csv::{self, CsvError};
use ashlar_model::mount::CacheSharing;

use crate::dockerfile::suggest::suggest;

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountType {
    /// Files of the context, a stage or an image.
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// A directory in memory.
    Tmpfs,
    /// A secret.
    Secret,
    /// The socket of an SSH agent.
    Ssh,
}

/// One `--mount`, expanded and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is the key that it is named for, in its longest spelling"
)]
pub struct Mount {
    pub kind: MountType,
    pub from: String,
    pub source: String,
    pub target: String,
    /// The default of the type where nothing is said.
    pub read_only: bool,
    pub id: String,
    pub sharing: CacheSharing,
    pub required: bool,
    pub size: Option<u64>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub env: Option<String>,
}

/// Why a text is no mount. The words are BuildKit's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The fields cannot be told apart.
    #[error("failed to parse csv mounts: {0}")]
    Csv(#[from] CsvError),
    /// A key that needs a value has none.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// There is no such key.
    #[error("unexpected key '{key}' in '{field}'")]
    Key {
        /// The key.
        key: String,
        /// The whole field.
        field: String,
        /// What was meant, perhaps.
        suggestion: Option<&'static str>,
    },
    /// The key belongs to other types.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfOther {
        /// The key.
        key: String,
        /// This mount's type.
        kind: &'static str,
    },
    /// There is no such type.
    #[error("unsupported mount type {word:?}")]
    Type {
        /// As written.
        word: String,
        /// What was meant, perhaps.
        suggestion: Option<&'static str>,
    },
    /// There is no such way of sharing.
    #[error("unsupported sharing value {word:?}")]
    Sharing {
        /// As written.
        word: String,
        /// What was meant, perhaps.
        suggestion: Option<&'static str>,
    },
    /// A value is not of its key's kind.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Something that the type does not have.
    #[error("{key} not allowed for {kind:?} type mounts")]
    NotAllowed {
        /// The key.
        key: &'static str,
        /// This mount's type.
        kind: &'static str,
    },
    /// Only caches are shared.
    #[error("invalid cache sharing set for {0} mount")]
    SharingOfOther(&'static str),
    /// A secret comes from no filesystem.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// Nothing says which secret.
    #[error("invalid secret mount. one of source, target required")]
    SecretUnnamed,
    /// Two names for one secret.
    #[error("both source and id can't be set")]
    SecretNamedTwice,
    /// An agent has no source.
    #[error("ssh does not support source")]
    SshSource,
}

impl MountError {
    /// What to do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        let did_you_mean = |word: &&str| format!("did you mean {word}?");
        match self {
            Self::Key { suggestion, .. } => suggestion
                .as_ref()
                .map(did_you_mean)
                .or_else(|| Some(format!("the keys are: {}", KEYS.join(", ")))),
            Self::Type { suggestion, .. } => suggestion
                .as_ref()
                .map(did_you_mean)
                .or_else(|| Some(format!("the types are: {}", MountType::NAMES.join(", ")))),
            Self::Sharing { suggestion, .. } => suggestion
                .as_ref()
                .map(did_you_mean)
                .or_else(|| Some("it is shared, private or locked".to_owned())),
            Self::Value { key, .. } => match key.as_str() {
                "mode" => Some("write it as chmod has it, in octal digits: mode=0755".to_owned()),
                "size" => Some("write a number with a unit: size=64m".to_owned()),
                "uid" | "gid" => Some("write a number".to_owned()),
                _ => Some("write true or false".to_owned()),
            },
            _ => None,
        }
    }
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountType {
    const VALUES: [Self; 5] = [
        Self::Bind,
        Self::Cache,
        Self::Tmpfs,
        Self::Secret,
        Self::Ssh,
    ];
    const NAMES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// The stage, image or context that a mount's files come from, as written. Never expanded.
pub fn source_name(mount: &str) -> Option<String> {
    let fields = csv::fields(mount).ok()?;
    let from = fields.iter().rev().find_map(|field| {
        let (key, value) = field.split_once('=')?;
        key.eq_ignore_ascii_case("from").then(|| value.to_owned())
    });
    from.filter(|name| !name.is_empty())
}

impl Mount {
    /// Reads a mount as written; `expand` gives the values of variables in a word.
    pub fn parse<E: From<MountError>>(
        text: &str,
        mut expand: impl FnMut(&str) -> Result<String, E>,
    ) -> Result<Self, E> {
        let fields = csv::fields(text).map_err(MountError::from)?;
        let mut mount = Self {
            kind: MountType::Bind,
            from: String::new(),
            source: String::new(),
            target: String::new(),
            read_only: false,
            id: String::new(),
            sharing: CacheSharing::Shared,
            required: false,
            size: None,
            mode: None,
            uid: None,
            gid: None,
            env: None,
        };
        let mut given = Given::default();
        for field in &fields {
            match field.split_once('=') {
                Some((key, value)) => {
                    let key = key.to_ascii_lowercase();
                    let value = if key == "from" {
                        value.to_owned()
                    } else {
                        expand(value)?
                    };
                    mount.set(&key, value, field, &mut given)?;
                }
                None => mount.set_flag(field, &mut given)?,
            }
        }
        mount.check(&given)?;
        Ok(mount)
    }

    /// A key without a value.
    fn set_flag(&mut self, field: &str, given: &mut Given) -> Result<(), MountError> {
        match field.to_ascii_lowercase().as_str() {
            "readonly" | "ro" => given.read_only = Some(true),
            "readwrite" | "rw" => given.read_only = Some(false),
            "required" => {
                self.only_for("required", &[MountType::Secret, MountType::Ssh])?;
                self.required = true;
            }
            _ => return Err(MountError::NoValue(field.to_owned())),
        }
        Ok(())
    }

    fn set(
        &mut self,
        key: &str,
        value: String,
        field: &str,
        given: &mut Given,
    ) -> Result<(), MountError> {
        let bad = |value: String| MountError::Value {
            key: key.to_owned(),
            value,
        };
        let number = |value: String, radix| match u32::from_str_radix(&value, radix) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(bad(value)),
        };
        match key {
            "type" => self.kind = mount_type(value)?,
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => given.read_only = Some(boolean(key, value)?),
            "readwrite" | "rw" => given.read_only = Some(!boolean(key, value)?),
            "required" => {
                self.only_for(key, &[MountType::Secret, MountType::Ssh])?;
                self.required = boolean(key, value)?;
            }
            "size" => {
                self.only_for(key, &[MountType::Tmpfs])?;
                let Size(bytes) = value.parse().map_err(|_| bad(value))?;
                // As with mount(8), no bytes at all mean no limit.
                self.size = Some(bytes).filter(|bytes| *bytes > 0);
            }
            "id" => self.id = value,
            "sharing" => {
                self.sharing = sharing(value)?;
                given.sharing = true;
            }
            "mode" => self.mode = number(value, 8)?,
            "uid" => self.uid = number(value, 10)?,
            "gid" => self.gid = number(value, 10)?,
            "env" => self.env = Some(value),
            _ => {
                return Err(MountError::Key {
                    key: key.to_owned(),
                    field: field.to_owned(),
                    suggestion: suggest(key, KEYS),
                });
            }
        }
        Ok(())
    }

    /// Refuses a key unless the type, which must have been given before, has it.
    fn only_for(&self, key: &str, kinds: &[MountType]) -> Result<(), MountError> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        Err(MountError::KeyOfOther {
            key: key.to_owned(),
            kind: self.kind.name(),
        })
    }

    /// What can be said only when all keys are known.
    fn check(&mut self, given: &Given) -> Result<(), MountError> {
        let kind = self.kind.name();
        let owned = matches!(
            self.kind,
            MountType::Secret | MountType::Ssh | MountType::Cache
        );
        for (key, value) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
            if value.is_some() && !owned {
                return Err(MountError::NotAllowed { key, kind });
            }
        }
        let writable = matches!(self.kind, MountType::Cache | MountType::Tmpfs);
        self.read_only = given.read_only.unwrap_or(!writable);
        if given.sharing && self.kind != MountType::Cache {
            return Err(MountError::SharingOfOther(kind));
        }
        match self.kind {
            MountType::Secret => {
                if !self.from.is_empty() {
                    return Err(MountError::SecretFrom);
                }
                if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                    return Err(MountError::SecretUnnamed);
                }
                if !self.source.is_empty() && !self.id.is_empty() {
                    return Err(MountError::SecretNamedTwice);
                }
            }
            MountType::Ssh if !self.source.is_empty() => return Err(MountError::SshSource),
            _ => {}
        }
        // The type may come after what it does not have.
        if self.env.is_some() && self.kind != MountType::Secret {
            return Err(MountError::KeyOfOther {
                key: "env".to_owned(),
                kind,
            });
        }
        Ok(())
    }
}

/// What was said, where silence means something else than the default.
#[derive(Debug, Default)]
struct Given {
    read_only: Option<bool>,
    sharing: bool,
}

fn mount_type(word: String) -> Result<MountType, MountError> {
    let found = MountType::VALUES.iter().find(|kind| kind.name() == word);
    found.copied().ok_or_else(|| MountError::Type {
        suggestion: suggest(&word, MountType::NAMES),
        word,
    })
}

fn sharing(word: String) -> Result<CacheSharing, MountError> {
    match word.to_ascii_lowercase().as_str() {
        "shared" => Ok(CacheSharing::Shared),
        "private" => Ok(CacheSharing::Private),
        "locked" => Ok(CacheSharing::Locked),
        _ => Err(MountError::Sharing {
            suggestion: suggest(&word, ["shared", "private", "locked"]),
            word,
        }),
    }
}

/// Go's `strconv.ParseBool`.
fn boolean(key: &str, value: String) -> Result<bool, MountError> {
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(MountError::Value {
            key: key.to_owned(),
            value,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Mount, MountError> {
        Mount::parse(text, |word| Ok(word.replace("$V", "value")))
    }

    #[test]
    fn all_spellings_of_keys_are_known() {
        let one = parse("type=bind,from=x,source=/a,target=/b,readwrite").unwrap();
        for text in [
            "from=x,src=/a,dst=/b,rw",
            "From=x,SOURCE=/a,Destination=/b,rw=true",
            "src=/a,dst=/b,from=x,readonly=false",
            "src=/z,src=/a,dst=/b,from=x,ro=F",
            "\"src=/a\",dst=/b,from=x,ro=0",
        ] {
            assert_eq!(parse(text), Ok(one.clone()), "{text}");
        }
    }

    #[test]
    fn what_may_be_written_depends_on_the_type() {
        assert!(parse("target=/x").unwrap().read_only);
        assert!(!parse("type=cache,target=/x").unwrap().read_only);
        assert!(!parse("type=tmpfs,target=/x").unwrap().read_only);
        assert!(parse("type=cache,target=/x,ro").unwrap().read_only);
    }

    #[test]
    fn values_are_expanded_but_for_from() {
        let mount = parse("from=$V,target=/$V,source=$V").unwrap();
        assert_eq!(mount.target, "/value");
        assert_eq!(mount.source, "value");
        assert_eq!(mount.from, "$V");
    }

    #[test]
    fn every_key_is_read() {
        let cache =
            parse("type=cache,target=/c,id=i,sharing=LOCKED,mode=0700,uid=1,gid=2").unwrap();
        assert_eq!(cache.id, "i");
        assert_eq!(cache.sharing, CacheSharing::Locked);
        assert_eq!(
            (cache.mode, cache.uid, cache.gid),
            (Some(0o700), Some(1), Some(2))
        );
        assert_eq!(
            parse("type=tmpfs,target=/t,size=64m").unwrap().size,
            Some(64 << 20)
        );
        let secret = parse("type=secret,id=s,env=S,required").unwrap();
        assert_eq!(secret.env.as_deref(), Some("S"));
        assert!(secret.required);
        assert!(!parse("type=secret,id=s,required=false").unwrap().required);
        assert!(parse("type=ssh,required=true").unwrap().required);
    }

    #[test]
    fn mistakes_have_buildkits_words() {
        for (text, message) in [
            ("type=nosuch", "unsupported mount type \"nosuch\""),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("a=b", "unexpected key 'a' in 'a=b'"),
            (
                "required",
                "unexpected key 'required' for mount type 'bind'",
            ),
            (
                "type=cache,size=1",
                "unexpected key 'size' for mount type 'cache'",
            ),
            ("type=tmpfs,size=x", "invalid value for size: x"),
            ("ro=maybe", "invalid value for ro: maybe"),
            (
                "type=cache,target=/c,sharing=none",
                "unsupported sharing value \"none\"",
            ),
            (
                "target=/x,sharing=shared",
                "invalid cache sharing set for bind mount",
            ),
            (
                "target=/x,mode=1",
                "mode not allowed for \"bind\" type mounts",
            ),
            (
                "type=tmpfs,uid=1",
                "uid not allowed for \"tmpfs\" type mounts",
            ),
            ("type=cache,mode=9", "invalid value for mode: 9"),
            (
                "type=secret,id=a,from=b",
                "secret mount should not have a from",
            ),
            (
                "type=secret",
                "invalid secret mount. one of source, target required",
            ),
            ("type=secret,id=a,src=b", "both source and id can't be set"),
            ("type=ssh,src=b", "ssh does not support source"),
            ("\"a", "failed to parse csv mounts"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(message), "{text}: {error}");
        }
        let hint = |text| parse(text).unwrap_err().hint().unwrap();
        assert_eq!(hint("type=secrets"), "did you mean secret?");
        assert_eq!(hint("tarket=/x"), "did you mean target?");
        assert_eq!(
            hint("type=cache,target=/x,sharing=none"),
            "it is shared, private or locked"
        );
    }

    #[test]
    fn a_source_is_named_without_reading_the_rest() {
        assert_eq!(source_name("from=a,x"), Some("a".to_owned()));
        assert_eq!(source_name("from=a,From=b"), Some("b".to_owned()));
        assert_eq!(source_name("from=,target=/x"), None);
        assert_eq!(source_name("target=/x"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[a-z=,\"$/0-9]{0,60}") {
            drop(parse(&text));
            drop(source_name(&text));
        }
    }
}
