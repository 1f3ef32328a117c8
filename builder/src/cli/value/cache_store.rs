//! `--cache-to` and `--cache-from`: caches without a server.

use std::fmt;
use std::path::PathBuf;

use ashlar_model::reference::Reference;

use super::tag;

/// Options of buildx that change nothing here: all steps are in the cache, in the one format that
/// it has, and no cache fails a build.
const IGNORED: [&str; 8] = [
    "mode",
    "ignore-error",
    "image-manifest",
    "oci-mediatypes",
    "compression",
    "compression-level",
    "force-compression",
    "reset",
];

/// A cache without a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheStore {
    /// An artifact in a registry.
    Registry {
        /// Its name.
        reference: Reference,
        /// Whether the registry may speak plain HTTP.
        insecure: bool,
    },
    /// An OCI image layout.
    Directory {
        /// Where.
        path: PathBuf,
        /// Its name in there.
        tag: String,
    },
}

/// Reads `type=registry,ref=REF` or `type=local,dest=DIR`, `src=DIR`.
fn parse(text: &str, directory: &str) -> Result<CacheStore, String> {
    let (mut kind, mut reference, mut path) = (None, None, None);
    let (mut name, mut insecure) = ("latest".to_owned(), false);
    if !text.contains('=') && !text.is_empty() {
        // As with Docker: a name alone.
        kind = Some("registry");
        reference = Some(text);
    } else {
        for part in text.split(',') {
            let (option, value) = part
                .split_once('=')
                .ok_or_else(|| format!("`{}` is no option: write NAME=VALUE", shown(part)))?;
            match option {
                "type" => kind = Some(value),
                "ref" => reference = Some(value),
                "registry.insecure" => insecure = value == "true",
                "src" | "dest" | "path" if option == directory || option == "path" => {
                    path = Some(value);
                }
                "tag" => name = value.to_owned(),
                _ if IGNORED.contains(&option) => {}
                _ => {
                    return Err(format!(
                        "there is no option `{}`: they are type, ref, {directory} and tag",
                        shown(option)
                    ));
                }
            }
        }
    }
    match kind {
        Some("registry") => {
            let text = reference
                .filter(|text| !text.is_empty())
                .ok_or("type=registry needs ref=NAME")?;
            Ok(CacheStore::Registry {
                reference: tag(text)?,
                insecure,
            })
        }
        Some("local") => {
            let path = path
                .filter(|path| !path.is_empty())
                .ok_or_else(|| format!("type=local needs {directory}=DIR"))?;
            let path = std::path::absolute(path).map_err(|error| error.to_string())?;
            Ok(CacheStore::Directory { path, tag: name })
        }
        Some(other) => Err(format!(
            "there is no type `{}`: it is type=registry or type=local; servers are named with \
             --cache",
            shown(other)
        )),
        None => Err("the type is missing: write type=registry or type=local".to_owned()),
    }
}

/// Where a cache is written to.
pub(in super::super) fn cache_to(text: &str) -> Result<CacheStore, String> {
    parse(text, "dest")
}

/// Where a cache is read from.
pub(in super::super) fn cache_from(text: &str) -> Result<CacheStore, String> {
    parse(text, "src")
}

impl CacheStore {
    /// The store that [`Display`](fmt::Display) has written.
    pub fn of_name(name: &str) -> Option<Self> {
        parse(name, "path").ok()
    }
}

/// The name under which layers are remembered to be there.
impl fmt::Display for CacheStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry {
                reference,
                insecure,
            } => {
                write!(f, "type=registry,ref={reference}")?;
                if *insecure {
                    f.write_str(",registry.insecure=true")?;
                }
                Ok(())
            }
            Self::Directory { path, tag } => {
                write!(f, "type=local,path={},tag={tag}", path.display())
            }
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_read_and_named() {
        let registry = cache_to("type=registry,ref=localhost:5000/c:main,mode=max").unwrap();
        assert_eq!(
            registry.to_string(),
            "type=registry,ref=localhost:5000/c:main"
        );
        assert_eq!(cache_from("localhost:5000/c:main").unwrap(), registry);
        let local = cache_to("type=local,dest=/c,tag=x").unwrap();
        assert_eq!(local, cache_from("type=local,src=/c,tag=x").unwrap());
        for store in [registry, local] {
            assert_eq!(CacheStore::of_name(&store.to_string()), Some(store));
        }
        let insecure = cache_to("type=registry,ref=r.example.com/c,registry.insecure=true");
        let insecure = insecure.unwrap();
        assert_eq!(CacheStore::of_name(&insecure.to_string()), Some(insecure));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            ("", "NAME=VALUE"),
            ("type=gha", "type=registry"),
            ("type=registry", "ref"),
            ("type=registry,ref=", "ref"),
            ("type=registry,ref=UPPER", "lowercase"),
            ("type=local", "dest"),
            ("type=local,src=/c", "src"),
            ("type=local,dest=/c,more=1", "more"),
            ("ref=x", "type"),
        ] {
            let error = cache_to(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
        assert!(cache_from("type=local").unwrap_err().contains("src"));
    }
}
