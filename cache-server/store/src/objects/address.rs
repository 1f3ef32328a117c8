//! Where an object store is, and how it is used: an address and options.
//!
//! | address | store |
//! |---|---|
//! | `s3://BUCKET/PREFIX` | S3 and all that speak as it does |
//! | `gs://BUCKET/PREFIX` | Google Cloud Storage |
//! | `az://CONTAINER/PREFIX` | Azure Blob Storage |
//! | `file:///DIRECTORY` | files, for one machine or a shared file system |
//!
//! Options are those of the crate `object_store`: `endpoint`, `region`, `access_key_id`,
//! `secret_access_key`, `allow_http`, `virtual_hosted_style_request`… The environment gives them
//! with the usual prefix (`AWS_`, `GOOGLE_`, `AZURE_`); options that are given win. Without keys, the
//! machine's own identity is asked for (of an instance, a pod, a workload).

use std::collections::BTreeMap;
use std::sync::{Arc, Once};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

/// So long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);

/// So long a request may take, its body included.
const REQUEST: Duration = Duration::from_secs(30);

/// So long nothing may come while something should.
const STALL: Duration = Duration::from_secs(10);

/// A request is made again so often.
const RETRIES: usize = 6;

/// But not later than this.
const RETRY_UNTIL: Duration = Duration::from_secs(10);

/// Options by their names.
pub type ObjectOptions = BTreeMap<String, String>;

/// An address or an option that does not say what it should.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is no address of an object store.
    #[error(
        "`{0}` is no object store: write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, \
         az://CONTAINER/PREFIX or file:///DIRECTORY"
    )]
    Address(String),
    /// The store has no such option.
    #[error("{scheme}:// has no option `{name}`")]
    Option {
        /// What the address begins with.
        scheme: &'static str,
        /// The option.
        name: String,
    },
    /// The options do not go together, or one is missing.
    #[error("the object store {address} cannot be set up")]
    Build {
        /// The address.
        address: String,
        /// Why.
        source: object_store::Error,
    },
    /// The directory cannot be used.
    #[error("the directory {directory} cannot be used as an object store")]
    Directory {
        /// The directory.
        directory: String,
        /// Why.
        source: std::io::Error,
    },
}

/// An address that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address<'a> {
    scheme: &'static str,
    /// The bucket or the container; the directory of files.
    place: &'a str,
    prefix: &'a str,
}

fn parse(address: &str) -> Result<Address<'_>, AddressError> {
    let wrong = || AddressError::Address(address.chars().take(100).collect());
    let (scheme, rest) = address.split_once("://").ok_or_else(wrong)?;
    if scheme == "file" {
        let is_absolute = rest.starts_with('/');
        return if is_absolute {
            Ok(Address {
                scheme: "file",
                place: rest,
                prefix: "",
            })
        } else {
            Err(wrong())
        };
    }
    let scheme = ["s3", "gs", "az"]
        .into_iter()
        .find(|known| *known == scheme);
    let scheme = scheme.ok_or_else(wrong)?;
    let (place, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if place.is_empty() || !place.chars().all(is_name) {
        return Err(wrong());
    }
    Ok(Address {
        scheme,
        place,
        prefix: prefix.trim_matches('/'),
    })
}

/// A store at an address. `environment` are variables of which those with the store's prefix count.
/// Nothing is asked of the store yet, but a directory is made if there is none.
pub fn open<'e>(
    address: &str,
    options: &ObjectOptions,
    environment: impl IntoIterator<Item = (&'e str, &'e str)>,
) -> Result<Arc<dyn ObjectStore>, AddressError> {
    let parsed = parse(address)?;
    let scheme = parsed.scheme;
    let given = Given {
        scheme,
        options,
        environment: environment.into_iter().collect(),
    };
    let build = |source| AddressError::Build {
        address: address.to_owned(),
        source,
    };
    let store: Arc<dyn ObjectStore> = match scheme {
        "s3" => {
            provide_tls();
            let mut builder = AmazonS3Builder::new()
                .with_client_options(client())
                .with_retry(retry());
            for (key, value) in given.read::<AmazonS3ConfigKey>("AWS_")? {
                builder = builder.with_config(key, value);
            }
            let store = builder.with_bucket_name(parsed.place).build();
            Arc::new(store.map_err(build)?)
        }
        "gs" => {
            provide_tls();
            let mut builder = GoogleCloudStorageBuilder::new()
                .with_client_options(client())
                .with_retry(retry());
            for (key, value) in given.read::<GoogleConfigKey>("GOOGLE_")? {
                builder = builder.with_config(key, value);
            }
            let store = builder.with_bucket_name(parsed.place).build();
            Arc::new(store.map_err(build)?)
        }
        "az" => {
            provide_tls();
            let mut builder = MicrosoftAzureBuilder::new()
                .with_client_options(client())
                .with_retry(retry());
            for (key, value) in given.read::<AzureConfigKey>("AZURE_")? {
                builder = builder.with_config(key, value);
            }
            let store = builder.with_container_name(parsed.place).build();
            Arc::new(store.map_err(build)?)
        }
        _ => {
            if let Some(name) = options.keys().next() {
                let name = name.clone();
                return Err(AddressError::Option { scheme, name });
            }
            let directory = parsed.place.to_owned();
            std::fs::create_dir_all(&directory)
                .map_err(|source| AddressError::Directory { directory, source })?;
            let store = LocalFileSystem::new_with_prefix(parsed.place).map_err(build)?;
            Arc::new(store.with_automatic_cleanup(false).with_fsync(true))
        }
    };
    if parsed.prefix.is_empty() {
        return Ok(store);
    }
    Ok(Arc::new(PrefixStore::new(store, Path::from(parsed.prefix))))
}

/// What sets a store.
struct Given<'a> {
    scheme: &'static str,
    options: &'a ObjectOptions,
    environment: Vec<(&'a str, &'a str)>,
}

impl Given<'_> {
    /// All that is set, in the order in which the later wins. Variables that mean nothing to the
    /// store are somebody else's.
    fn read<K: std::str::FromStr>(&self, prefix: &str) -> Result<Vec<(K, String)>, AddressError> {
        let mut read = Vec::new();
        for (name, value) in &self.environment {
            if name.starts_with(prefix)
                && !value.is_empty()
                && let Ok(key) = name.to_ascii_lowercase().parse()
            {
                read.push((key, (*value).to_owned()));
            }
        }
        for (name, value) in self.options {
            let key = name.to_ascii_lowercase().parse();
            let key = key.map_err(|_| AddressError::Option {
                scheme: self.scheme,
                name: name.clone(),
            })?;
            read.push((key, value.clone()));
        }
        Ok(read)
    }
}

fn client() -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(CONNECT)
        .with_timeout(REQUEST)
        .with_read_timeout(STALL)
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: RETRY_UNTIL,
    }
}

/// The clients of object stores bring no cryptography for TLS: they take the process's.
fn provide_tls() {
    static PROVIDED: Once = Once::new();
    PROVIDED.call_once(|| {
        // That another part of the program was first is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> ObjectOptions {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn addresses_are_read() {
        let address = |scheme, place, prefix| Address {
            scheme,
            place,
            prefix,
        };
        assert_eq!(
            parse("s3://bucket/some/where/").expect("good"),
            address("s3", "bucket", "some/where")
        );
        assert_eq!(parse("gs://b-1").expect("good"), address("gs", "b-1", ""));
        assert_eq!(parse("az://c/p").expect("good"), address("az", "c", "p"));
        assert_eq!(
            parse("file:///srv/objects").expect("good"),
            address("file", "/srv/objects", "")
        );
        for wrong in [
            "",
            "bucket",
            "http://host/b",
            "s3://",
            "s3://a b/c",
            "file://x",
            "s3:/b",
        ] {
            parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn options_win_over_the_environment_and_unknown_ones_are_refused() {
        let set = options(&[("endpoint", "http://127.0.0.1:1"), ("allow_http", "true")]);
        let environment = [
            ("AWS_ENDPOINT", "not a url"),
            ("AWS_REGION", "eu-north-1"),
            ("AWS_NONSENSE", "1"),
            ("HOME", "/root"),
        ];
        let store = open("s3://bucket", &set, environment).expect("a store");
        assert!(store.to_string().contains("bucket"), "{store}");
        let wrong = options(&[("endpiont", "x")]);
        let error = open("s3://bucket", &wrong, []).expect_err("unknown");
        assert_eq!(error.to_string(), "s3:// has no option `endpiont`");
        open("file:///tmp", &set, []).expect_err("files have no options");
    }

    #[test]
    fn a_directory_is_made() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("a/b");
        let address = format!("file://{}", directory.display());
        open(&address, &ObjectOptions::new(), []).expect("a store");
        assert!(directory.is_dir());
    }
}
