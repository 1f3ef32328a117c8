//! The directory of a cache mount, made once.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use ashlar_model::layer::Entry;
use ashlar_model::mount::{OptionalOwner, Owner};
use ashlar_model::step::CopySpec;
use serde::{Deserialize, Serialize};

use super::super::clock::now;
use super::super::request::WorkError;
use super::{StoredLayer, failed, home, of_error, view};
use crate::copy::{Digests, LayeredView, SourceFiles, materialise, plan_copy, select};

/// A cache's directory to make.
#[derive(Debug, Serialize, Deserialize)]
pub struct CacheJob {
    /// The store.
    pub home: PathBuf,
    /// Where it belongs; nothing is there.
    pub files: PathBuf,
    /// A directory for what is not finished, on the store's filesystem.
    pub scratch: PathBuf,
    /// Its mode and owner.
    pub owner: OptionalOwner,
    /// What it holds at first: a stack of layers, and a pattern that matches one directory there.
    pub seed: Option<(Vec<StoredLayer>, String)>,
}

/// Makes the directory. Returns warnings.
pub fn make_cache(job: &CacheJob) -> Result<Vec<String>, WorkError> {
    let made = job.scratch.join("cache");
    let mut warnings = Vec::new();
    let otherwise = match &job.seed {
        None => {
            fs::create_dir(&made).map_err(|e| cannot_create(&made, &e))?;
            Owner {
                mode: 0o755,
                uid: 0,
                gid: 0,
            }
        }
        Some((layers, pattern)) => copy_seed(job, layers, pattern, &made, &mut warnings)?,
    };
    let Owner { mode, uid, gid } = job.owner.or(otherwise);
    chown(&made, Some(uid), Some(gid)).map_err(|error| {
        WorkError::input(
            format!("a cache cannot be given to {uid}:{gid}: {error}"),
            None,
        )
    })?;
    fs::set_permissions(&made, Permissions::from_mode(mode))
        .map_err(|e| failed(format_args!("cannot change {}", made.display()), &e))?;
    super::rename(&made, &job.files)?;
    Ok(warnings)
}

/// Copies the seed's files to `made`, for they will be changed. Gives the owner of the directory
/// itself.
fn copy_seed(
    job: &CacheJob,
    layers: &[StoredLayer],
    pattern: &str,
    made: &Path,
    warnings: &mut Vec<String>,
) -> Result<Owner, WorkError> {
    let home = home(&job.home)?;
    let view = view(&home, layers)?;
    let selection =
        select(&view, pattern, Digests::Skip).map_err(|error| super::select::of_select(&error))?;
    let item = selection.selection.items.first();
    let Some(own) = item.and_then(|item| item.entries.first()) else {
        return Err(WorkError::input(format!("{pattern:?}: not found"), None));
    };
    if !own.is_directory() {
        return Err(WorkError::input(
            format!("{pattern:?} is no directory, so no cache can begin with it"),
            None,
        ));
    }
    let owner = owner_of(own);
    let spec = CopySpec {
        sources: Vec::new(),
        destination: "/cache".to_owned(),
        owner: None,
        mode: None,
        unpack: false,
        created: None,
    };
    let source = SourceFiles::Layers {
        view: &view,
        selection: &selection,
    };
    let nothing = LayeredView::open([]).map_err(|error| super::of_view(&error))?;
    let plan = plan_copy(&spec, &[source], &nothing, now()).map_err(|error| of_error(&error))?;
    warnings.extend(plan.warnings.iter().map(ToString::to_string));
    let tree = job.scratch.join("seed");
    fs::create_dir(&tree).map_err(|e| cannot_create(&tree, &e))?;
    let skipped = materialise(&plan.recipe.with_own_files(), &tree, &home.meter())
        .map_err(|error| of_error(&error))?;
    warnings.extend(skipped.iter().map(ToString::to_string));
    super::rename(&tree.join("cache"), made)?;
    Ok(owner)
}

fn owner_of(entry: &Entry) -> Owner {
    let metadata = &entry.metadata;
    Owner {
        mode: u32::from(metadata.mode),
        uid: metadata.uid,
        gid: metadata.gid,
    }
}

fn cannot_create(path: &Path, error: &std::io::Error) -> WorkError {
    failed(format_args!("cannot create {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use ashlar_store::home::Home;

    use super::*;

    fn me() -> (u32, u32) {
        let own = fs::metadata("/proc/self").unwrap();
        (own.uid(), own.gid())
    }

    fn job(home: &Home, scratch: &Path, seed: Option<(Vec<StoredLayer>, String)>) -> CacheJob {
        let (uid, gid) = me();
        CacheJob {
            home: home.root().to_owned(),
            files: home.root().join("made"),
            scratch: scratch.to_owned(),
            owner: OptionalOwner {
                mode: None,
                uid: Some(uid),
                gid: Some(gid),
            },
            seed,
        }
    }

    #[test]
    fn an_empty_cache_has_the_mode_that_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(&directory.path().join("home")).unwrap();
        let scratch = home.scratch().unwrap();
        let mut job = job(&home, scratch.path(), None);
        job.owner.mode = Some(0o1770);
        make_cache(&job).unwrap();
        assert_eq!(fs::metadata(&job.files).unwrap().mode() & 0o7777, 0o1770);
    }

    #[test]
    fn a_seed_is_copied_and_not_shared() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(&directory.path().join("home")).unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("from/sub")).unwrap();
        fs::write(tree.join("from/sub/file"), "seed").unwrap();
        fs::set_permissions(tree.join("from"), Permissions::from_mode(0o750)).unwrap();
        let scratch = home.scratch().unwrap();
        let seed = (vec![StoredLayer::Tree(tree.clone())], "/from".to_owned());
        let job = job(&home, scratch.path(), Some(seed));
        make_cache(&job).unwrap();
        assert_eq!(fs::metadata(&job.files).unwrap().mode() & 0o7777, 0o750);
        let copied = job.files.join("sub/file");
        assert_eq!(fs::read_to_string(&copied).unwrap(), "seed");
        assert_eq!(fs::metadata(&copied).unwrap().nlink(), 1);
        fs::write(&copied, "changed").unwrap();
        let original = fs::read_to_string(tree.join("from/sub/file")).unwrap();
        assert_eq!(original, "seed");
    }

    #[test]
    fn a_file_is_no_seed() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(&directory.path().join("home")).unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("file"), "x").unwrap();
        let scratch = home.scratch().unwrap();
        for (pattern, message) in [("/file", "no directory"), ("/none", "not found")] {
            let seed = (vec![StoredLayer::Tree(tree.clone())], pattern.to_owned());
            let error = make_cache(&job(&home, scratch.path(), Some(seed))).unwrap_err();
            assert!(error.message.contains(message), "{error:?}");
        }
    }
}
