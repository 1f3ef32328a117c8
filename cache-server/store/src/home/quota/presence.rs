//! A running process's note of what it uses: `quota/users/<random>`, locked as long as it lives.
//!
//! ```text
//! \n L <layer id> ;        it uses this layer
//! \n B <blob digest> ;     it uses this blob
//! \n S <class>/<key> ;      it uses this source
//! \n R <number> ;          so many bytes more (or less) were admitted for it and are perhaps not
//!                          written yet
//! ```
//!
//! (without the spaces). Records are only ever appended, each with one write, so that a process
//! and its sandbox's file worker can share a note. One that was torn by a crash or a full disk is
//! no record, and does no harm to the next.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ashlar_model::digest::{BlobDigest, LayerId};

use super::super::StoreError;
use super::super::layers::list_names;
use super::super::scratch::try_lock;

/// Something that a process uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Claim {
    /// A layer, with all that belongs to it.
    Layer(LayerId),
    /// A blob.
    Blob(BlobDigest),
    /// A source, by its directory below `sources/`.
    Source(String),
}

/// What running processes use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Claims {
    pub(in super::super) layers: BTreeSet<LayerId>,
    pub(in super::super) blobs: BTreeSet<BlobDigest>,
    pub(in super::super) sources: BTreeSet<String>,
    /// Bytes that were admitted and are perhaps not written yet.
    pub(in super::super) outstanding: u64,
    /// How many processes there are.
    pub(in super::super) users: usize,
}

/// A process's note.
#[derive(Debug)]
pub(super) struct Presence {
    path: PathBuf,
    file: File,
    /// Whether it is this process's own, and goes with it.
    own: bool,
}

impl Presence {
    /// Makes a note for this process.
    pub(super) fn enter(root: &Path) -> Result<Self, StoreError> {
        loop {
            let path = directory(root).join(super::super::record::unique_name()?);
            let error = |e| StoreError::io("create", &path, e);
            let file = OpenOptions::new()
                .append(true)
                .create_new(true)
                .open(&path)
                .map_err(error)?;
            // Between the two somebody may take it for a dead process's.
            if try_lock(&file).map_err(error)? && file.metadata().map_err(error)?.nlink() > 0 {
                let own = true;
                return Ok(Self { path, file, own });
            }
        }
    }

    /// Writes to another process's note, as part of it.
    pub(super) fn join(root: &Path, name: &str) -> Result<Self, StoreError> {
        let path = directory(root).join(name);
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|e| StoreError::io("open", &path, e))?;
        let own = false;
        Ok(Self { path, file, own })
    }

    /// The name that others can [join](Self::join).
    pub(super) fn name(&self) -> Option<&str> {
        self.path.file_name()?.to_str()
    }

    /// Notes what is used.
    pub(super) fn claim(&self, claims: &[Claim]) -> Result<(), StoreError> {
        let mut text = String::with_capacity(claims.len() * 68);
        for claim in claims {
            match claim {
                Claim::Layer(id) => text.push_str(&format!("\nL{};", id.to_hex())),
                Claim::Blob(digest) => text.push_str(&format!("\nB{};", digest.to_hex())),
                Claim::Source(source) => text.push_str(&format!("\nS{source};")),
            }
        }
        self.append(&text)
    }

    /// Notes that so many bytes more are admitted and perhaps not written.
    pub(super) fn reserve(&self, bytes: i64) -> Result<(), StoreError> {
        self.append(&format!("\nR{bytes};"))
    }

    fn append(&self, text: &str) -> Result<(), StoreError> {
        (&self.file)
            .write_all(text.as_bytes())
            .map_err(|e| StoreError::io("write", &self.path, e))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.own {
            // Before the lock goes with the file. If it fails, the next who looks removes it.
            let _ignored = fs::remove_file(&self.path);
        }
    }
}

fn directory(root: &Path) -> PathBuf {
    root.join("quota/users")
}

/// What all running processes use. Notes of dead ones are removed.
pub(in super::super) fn claims(root: &Path) -> Result<Claims, StoreError> {
    let mut claims = Claims::default();
    let directory = directory(root);
    for name in list_names(&directory, |name| Some(name.to_owned()))? {
        let path = directory.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        if try_lock(&file).map_err(|e| StoreError::io("lock", &path, e))? {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path, error));
                }
                _ => continue,
            }
        }
        let text = fs::read(&path);
        match text {
            Ok(text) => add(&mut claims, &text),
            // It has just ended.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("read", &path, error)),
        }
    }
    Ok(claims)
}

/// Adds what one process's note says.
fn add(claims: &mut Claims, text: &[u8]) {
    let mut outstanding = 0_i64;
    for line in text.split(|b| *b == b'\n') {
        let Some(line) = line.strip_suffix(b";") else {
            continue;
        };
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        if let Some(id) = line.strip_prefix('L') {
            claims.layers.extend(LayerId::from_hex(id));
        } else if let Some(digest) = line.strip_prefix('B') {
            claims.blobs.extend(BlobDigest::from_hex(digest));
        } else if let Some(source) = line.strip_prefix('S') {
            claims.sources.insert(source.to_owned());
        } else if let Some(bytes) = line.strip_prefix('R') {
            outstanding = outstanding.saturating_add(bytes.parse().unwrap_or(0));
        }
    }
    claims.outstanding += u64::try_from(outstanding).unwrap_or(0);
    claims.users += 1;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn store() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(super::directory(directory.path())).unwrap();
        directory
    }

    fn layer(number: u8) -> LayerId {
        LayerId::from_bytes([number; 16])
    }

    #[test]
    fn what_the_living_use_is_known_and_what_the_dead_used_is_forgotten() {
        let store = store();
        let blob = BlobDigest::of(b"blob");
        let first = Presence::enter(store.path()).unwrap();
        first
            .claim(&[Claim::Layer(layer(1)), Claim::Blob(blob)])
            .unwrap();
        first.reserve(500).unwrap();
        let worker = Presence::join(store.path(), first.name().unwrap()).unwrap();
        worker.claim(&[Claim::Layer(layer(2))]).unwrap();
        worker.reserve(-200).unwrap();
        drop(worker);
        let second = Presence::enter(store.path()).unwrap();
        second.reserve(-7).unwrap();
        fs::write(directory(store.path()).join("dead"), "\nR1000;").unwrap();

        let claims = claims(store.path()).unwrap();
        assert_eq!(claims.layers, BTreeSet::from([layer(1), layer(2)]));
        assert_eq!(claims.blobs, BTreeSet::from([blob]));
        assert_eq!((claims.outstanding, claims.users), (300, 2));
        drop((first, second));
        assert_eq!(super::claims(store.path()).unwrap(), Claims::default());
        assert_eq!(fs::read_dir(directory(store.path())).unwrap().count(), 0);
    }

    proptest! {
        /// A record that was cut off costs no other.
        #[test]
        fn a_torn_record_is_no_record(cut in 1..34_usize) {
            let torn = format!("\nL{};", layer(1).to_hex());
            let whole = format!("\nL{};\nR9;", layer(2).to_hex());
            let mut claims = Claims::default();
            add(&mut claims, format!("{}{whole}", &torn[..cut]).as_bytes());
            prop_assert_eq!(claims.layers, BTreeSet::from([layer(2)]));
            prop_assert_eq!(claims.outstanding, 9);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            add(&mut Claims::default(), &bytes);
        }
    }
}
