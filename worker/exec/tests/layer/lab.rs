//! A stack of layers, and overlays over it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ashlar_exec::layer::tar_write::{TarOptions, write_tar};
use ashlar_exec::layer::{
    DiffError, DiffOptions, TreeContents, UnpackOptions, Unpacked, Warning, index_only, index_tree,
    unpack,
};
use ashlar_model::layer::{Entry, EntryKind, LayerIndex, Metadata, Timestamp};
use tempfile::TempDir;

/// A directory with layers in it.
pub(crate) struct Lab {
    directory: TempDir,
    /// Their trees, bottom first.
    pub(crate) layers: Vec<PathBuf>,
}

/// A layer that a script made.
pub(crate) struct Step {
    /// The tree: the overlay's upper directory.
    pub(crate) upper: PathBuf,
    /// All that the merged filesystem had before and has after the script, as a later step sees
    /// it: in a user namespace, an overlay may show links of files that it has copied up itself as
    /// different inodes until it is mounted anew.
    pub(crate) before: LayerIndex,
    pub(crate) after: LayerIndex,
    /// A tar of all that it had before.
    before_tar: PathBuf,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// On another filesystem.
    pub(crate) fn within(parent: &Path) -> Self {
        let directory = tempfile::tempdir_in(parent).unwrap();
        let empty = directory.path().join("empty");
        fs::create_dir(&empty).unwrap();
        Self {
            directory,
            layers: vec![empty],
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a shell script in the root of an overlay over all layers.
    pub(crate) fn run(&self, script: &str) -> Step {
        let tar = "tar --xattrs '--xattrs-include=*' --xattrs-exclude='security.selinux' \
                   --format=posix --sort=name --numeric-owner -C merged -cf";
        // A socket is no part of a layer, so that tar leaves it out is right.
        let base = self.run_around(
            &format!("{tar} before.tar . 2>/dev/null || test $? = 1"),
            script,
            &format!(
                "umount merged
                 mount -t overlay overlay merged -o userxattr,lowerdir=upper:{}
                 {tar} after.tar . 2>/dev/null || test $? = 1",
                self.lowers()
            ),
        );
        let read = |name: &str| {
            let file = File::open(base.join(name)).unwrap();
            index_only(file).unwrap().index
        };
        Step {
            upper: base.join("upper"),
            before: read("before.tar"),
            after: read("after.tar"),
            before_tar: base.join("before.tar"),
        }
    }

    /// Runs a shell script in the root of an overlay over all layers; returns its layer's tree.
    pub(crate) fn run_only(&self, script: &str) -> PathBuf {
        self.run_around("", script, "").join("upper")
    }

    /// Runs `script` in the root of the overlay, `before` and `after` in the directory that has
    /// it as `merged`, and returns that directory.
    fn run_around(&self, before: &str, script: &str, after: &str) -> PathBuf {
        let number = fs::read_dir(self.directory.path()).unwrap().count();
        let base = self.path(&format!("step{number}"));
        for name in ["upper", "work", "merged"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        // An overlay shows its upper directory's root, so whoever makes one hands down what is
        // below.
        let below = self.layers.last().unwrap().metadata().unwrap();
        fs::set_permissions(base.join("upper"), below.permissions()).unwrap();
        in_namespace(&format!(
            "umask 022; cd {base}
             mount -t overlay overlay merged -o \
                 userxattr,lowerdir={lowers},upperdir=upper,workdir=work
             {before}
             (cd merged; {script})
             {after}",
            base = base.display(),
            lowers = self.lowers(),
        ));
        base
    }

    /// The layers as mount(8) takes them, topmost first.
    fn lowers(&self) -> String {
        let mut lowers: Vec<_> = self.layers.iter().map(|l| l.to_str().unwrap()).collect();
        lowers.reverse();
        lowers.join(":")
    }

    /// Runs a script and keeps its layer.
    pub(crate) fn keep(&mut self, script: &str) -> &mut Self {
        let layer = self.run_only(script);
        self.layers.push(layer);
        self
    }

    pub(crate) fn index(&self, step: &Step) -> (LayerIndex, Vec<Warning>) {
        self.try_index(step).unwrap()
    }

    pub(crate) fn try_index(&self, step: &Step) -> Result<(LayerIndex, Vec<Warning>), DiffError> {
        self.index_of(&step.upper)
    }

    pub(crate) fn index_of(&self, tree: &Path) -> Result<(LayerIndex, Vec<Warning>), DiffError> {
        index_tree(tree, &self.layers, &DiffOptions::for_this_process())
    }

    /// Runs a script and checks what its layer lists, and that applying the layer gives what the
    /// script left, with our own applier as with GNU tar.
    #[track_caller]
    pub(crate) fn check(&self, script: &str, expected: &[&str]) {
        let step = self.run(script);
        let (index, _) = self.index(&step);
        assert_eq!(list(&index), expected, "after `{script}`");
        self.check_apply(&step, &index);
    }

    #[track_caller]
    pub(crate) fn check_apply(&self, step: &Step, index: &LayerIndex) {
        let tar = tar_of(index, &step.upper);
        let (tree, unpacked) = self.unpack(&tar);
        assert_eq!(without_fractions(index), unpacked.index, "read back");
        let over = Self {
            directory: tempfile::tempdir_in(self.directory.path()).unwrap(),
            layers: [self.layers.as_slice(), &[tree]].concat(),
        };
        let merged = over.run("true").before;
        assert_same(&step.after, &merged, "our applier");
        self.check_gnu_apply(step, index, &tar);
    }

    pub(crate) fn unpack(&self, tar: &[u8]) -> (PathBuf, Unpacked) {
        let number = fs::read_dir(self.directory.path()).unwrap().count();
        let tree = self.path(&format!("tree{number}"));
        fs::create_dir(&tree).unwrap();
        let unpacked = unpack(tar, &tree, UnpackOptions::default()).unwrap();
        (tree, unpacked)
    }

    /// Applies whiteouts by hand and the rest with GNU tar.
    #[track_caller]
    fn check_gnu_apply(&self, step: &Step, index: &LayerIndex, tar: &[u8]) {
        let directory = tempfile::tempdir_in(self.directory.path()).unwrap();
        let target = directory.path();
        let flags = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-p"];
        let extract = |tar: &mut Command| {
            tar.arg("-x").args(flags).arg("-C").arg(target);
            tar.stdin(Stdio::piped()).spawn().unwrap()
        };
        let status = Command::new("tar")
            .args(["-x", "-f"])
            .arg(&step.before_tar)
            .args(flags)
            .arg("-C")
            .arg(target)
            .status()
            .unwrap();
        assert!(status.success());
        for entry in &index.entries {
            let path = target.join(entry.path.as_path());
            // A directory in another's place stays; all else goes, as engines do.
            let is_kept = entry.is_directory() && path.symlink_metadata().is_ok_and(|m| m.is_dir());
            if is_kept || entry.path.is_root() {
                continue;
            }
            match path.symlink_metadata() {
                Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path).unwrap(),
                Ok(_) => fs::remove_file(&path).unwrap(),
                Err(_) => {}
            }
        }
        let mut command = Command::new("tar");
        command.arg("--exclude=.wh.*");
        let mut child = extract(&mut command);
        child.stdin.take().unwrap().write_all(tar).unwrap();
        assert!(child.wait().unwrap().success(), "GNU tar");
        let mut command = Command::new("tar");
        let output = command
            .args([
                "--xattrs",
                "--xattrs-include=*",
                "--format=posix",
                "--sort=name",
            ])
            .args(["--numeric-owner", "-c", "-C"])
            .arg(target)
            .arg(".")
            .output()
            .unwrap();
        let applied = index_only(output.stdout.as_slice()).unwrap().index;
        assert_same(&step.after, &applied, "GNU tar");
    }
}

/// Runs a shell script in a mount namespace of its own, as root of it.
pub(crate) fn in_namespace(script: &str) {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let output = unshare
        .args(["--mount", "sh", "-ec", script])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{errors}");
}

/// The tar of a tree.
pub(crate) fn tar_of(index: &LayerIndex, tree: &Path) -> Vec<u8> {
    write(index, tree, false)
}

/// The tar of a tree, with fractions of seconds.
pub(crate) fn exact_tar_of(index: &LayerIndex, tree: &Path) -> Vec<u8> {
    write(index, tree, true)
}

fn write(index: &LayerIndex, tree: &Path, subsecond: bool) -> Vec<u8> {
    let contents = TreeContents::open(tree).unwrap();
    let mut tar = Vec::new();
    let options = TarOptions {
        subsecond,
        verify: true,
    };
    let length = write_tar(index, &contents, options, &mut tar).unwrap();
    assert_eq!(length, tar.len() as u64);
    tar
}

/// One line for each entry: its path and what it is.
pub(crate) fn list(index: &LayerIndex) -> Vec<String> {
    let show = |entry: &Entry| {
        let kind = match &entry.kind {
            EntryKind::File { size, .. } => format!("file {size}"),
            EntryKind::Directory { opaque: false } => "directory".to_owned(),
            EntryKind::Directory { opaque: true } => "opaque".to_owned(),
            EntryKind::Symlink(target) => format!("-> {}", target.escape_ascii()),
            EntryKind::Hardlink(target) => format!("= {target}"),
            EntryKind::CharDevice(major, minor) => format!("char {major}:{minor}"),
            EntryKind::BlockDevice(major, minor) => format!("block {major}:{minor}"),
            EntryKind::Fifo => "fifo".to_owned(),
            EntryKind::Whiteout => "whiteout".to_owned(),
        };
        format!("{} {kind}", entry.path)
    };
    index.entries.iter().map(show).collect()
}

/// The entry at a path.
#[track_caller]
pub(crate) fn find<'i>(index: &'i LayerIndex, path: &str) -> &'i Entry {
    let wanted = format!("/{path}");
    let found = index.entries.iter().find(|e| e.path.to_string() == wanted);
    found.unwrap_or_else(|| panic!("{wanted} is not in {:?}", list(index)))
}

/// The metadata of the entry at a path.
#[track_caller]
pub(crate) fn metadata<'i>(index: &'i LayerIndex, path: &str) -> &'i Metadata {
    &find(index, path).metadata
}

/// The bytes of a layer's file, as a container sees it.
pub(crate) fn content(tree: &Path, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = File::open(tree.join(path)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn without_fractions(index: &LayerIndex) -> LayerIndex {
    let mut index = index.clone();
    for entry in &mut index.entries {
        entry.metadata.mtime.nanoseconds = 0;
    }
    index
}

/// Compares two whole filesystems. Times of directories are left out, for a layer lists no
/// directory whose time alone has changed; fractions of a second too, for tars have none.
#[track_caller]
fn assert_same(expected: &LayerIndex, found: &LayerIndex, applier: &str) {
    let show = |index: &LayerIndex| -> BTreeMap<String, Entry> {
        let mut entries = index.entries.clone();
        for entry in &mut entries {
            entry.metadata.mtime.nanoseconds = 0;
            if entry.is_directory() {
                entry.metadata.mtime = Timestamp::default();
            }
        }
        entries
            .into_iter()
            .map(|e| (e.path.to_string(), e))
            .collect()
    };
    let (expected, found) = (show(expected), show(found));
    for (path, entry) in &expected {
        assert_eq!(found.get(path), Some(entry), "{applier}: {path}");
    }
    for path in found.keys() {
        assert!(expected.contains_key(path), "{applier}: {path} is too much");
    }
}
