//! The same layer gives the same bytes, whoever makes it and wherever.

use std::fs;
use std::path::Path;
use std::process::Command;

use ashlar_exec::layer::{
    DiffOptions, OwnerPolicy, UnpackError, UnpackOptions, index_tree, unpack,
};
use ashlar_model::digest::DiffId;

use super::lab::{Lab, find, list, tar_of};

const SCRIPT: &str = "mkdir -p d/e; echo x >d/f; ln d/f d/g; ln -s t d/l; mkfifo d/p; rm below; \
                      chmod 4755 d/f; find . -exec touch -h -d @1000000000.25 {} +";

/// Whether this process is in a user namespace of its own.
pub(crate) fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().last() != Some("4294967295")
}

/// 47, 48
#[test]
fn the_same_step_gives_the_same_bytes_also_at_once() {
    let run = || {
        let mut lab = Lab::new();
        lab.keep("echo y >below");
        let step = lab.run(SCRIPT);
        let (index, _) = lab.index(&step);
        (
            index.content_digest(),
            DiffId::of(&tar_of(&index, &step.upper)),
        )
    };
    let first = run();
    let others: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for other in others {
        assert_eq!(other, first);
    }
}

/// Pins the format: a change here changes the diff ID of every layer.
#[test]
fn the_canonical_tar_is_this_one() {
    let mut lab = Lab::new();
    lab.keep("echo y >below");
    let step = lab.run(SCRIPT);
    let (index, _) = lab.index(&step);
    let expected = [
        "/below whiteout",
        "/d directory",
        "/d/e directory",
        "/d/f file 2",
        "/d/g = /d/f",
        "/d/l -> t",
        "/d/p fifo",
    ];
    assert_eq!(list(&index), expected);
    assert_eq!(
        DiffId::of(&tar_of(&index, &step.upper)).to_string(),
        "sha256:461b4e785449eda2b88da1052946ac4f6a8a56c2e820408132b1ff2e8bc9df49"
    );
}

/// 55: on a tmpfs and on the disk.
#[test]
fn every_filesystem_gives_the_same_bytes() {
    let run = |parent: &Path| {
        let mut lab = Lab::within(parent);
        lab.keep("echo y >below");
        let step = lab.run(SCRIPT);
        let (index, _) = lab.index(&step);
        DiffId::of(&tar_of(&index, &step.upper))
    };
    let disk = run(&std::env::temp_dir());
    let memory = Path::new("/dev/shm");
    assert!(memory.is_dir(), "this test needs a tmpfs on /dev/shm");
    assert_eq!(run(memory), disk);
}

/// 52
#[test]
fn more_layers_than_an_overlay_takes_are_compared() {
    let mut lab = Lab::new();
    for number in 0..600 {
        let layer = lab.path(&format!("layer{number}"));
        fs::create_dir_all(layer.join("common")).unwrap();
        fs::write(layer.join(format!("common/f{number}")), "x").unwrap();
        lab.layers.push(layer);
    }
    let tree = lab.path("tree");
    fs::create_dir_all(tree.join("common")).unwrap();
    fs::write(tree.join("common/new"), "y").unwrap();
    let bottom = lab.layers[1].join("common/f0");
    // The same as in the bottom layer, and other than in the top one.
    fs::copy(&bottom, tree.join("common/f0")).unwrap();
    let time = bottom.metadata().unwrap().modified().unwrap();
    let copy = fs::File::options()
        .write(true)
        .open(tree.join("common/f0"))
        .unwrap();
    copy.set_modified(time).unwrap();
    fs::write(tree.join("common/f599"), "other").unwrap();
    let options = DiffOptions::for_this_process();
    let (index, _) = index_tree(&tree, &lab.layers, &options).unwrap();
    let expected = [
        "/common directory",
        "/common/f599 file 5",
        "/common/new file 1",
    ];
    assert_eq!(list(&index), expected);
}

/// Runs tests of this program again in a user namespace with one id, as an ordinary user if this
/// process is root.
#[test]
fn one_mapped_id_gives_the_same_layers() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.path(), open).unwrap();
    // The user may not be able to reach the directory that this program lies in.
    let program = directory.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        if rustix::process::geteuid().is_root() {
            command = Command::new("setpriv");
            command.args([
                "--reuid=54321",
                "--regid=54321",
                "--clear-groups",
                "unshare",
            ]);
        }
        let output = command
            .args(["--user", "--map-root-user"])
            .arg(&program)
            .args(arguments)
            .env("TMPDIR", "/var/tmp")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{errors}");
        text
    };
    let filters = [
        "changes::",
        "the_canonical_tar_is_this_one",
        "devices_are_made",
    ];
    let text = run(&filters);
    assert!(
        text.contains("; 0 failed;") && !text.contains("ok. 0 passed"),
        "{text}"
    );
    let text = run(&["--exact", "identities::inside_with_one_id", "--ignored"]);
    assert!(text.contains("ok. 1 passed"), "{text}");
}

#[test]
#[ignore = "run by one_mapped_id_gives_the_same_layers in a user namespace"]
fn inside_with_one_id() {
    assert!(rustix::process::geteuid().is_root() && in_user_namespace());

    // The kernel stores capabilities with this namespace's root, and shows them without.
    let lab = Lab::new();
    let step = lab.run("touch f; chmod 755 f");
    super::attributes::make_capable(&step.upper.join("f"));
    let (index, _) = lab.index(&step);
    let (_, unpacked) = lab.unpack(&tar_of(&index, &step.upper));
    for index in [&index, &unpacked.index] {
        let [xattr] = find(index, "f").metadata.xattrs.as_slice() else {
            panic!("{index:?}");
        };
        assert_eq!(xattr.value.len(), 20);
    }

    // An owner from outside of the map.
    let unmapped = DiffOptions::for_this_process().unmapped;
    assert_eq!((unmapped.uid, unmapped.gid), (Some(65534), Some(65534)));

    // Other owners on the way in.
    let mut header = tar::Header::new_gnu();
    header.set_path("f").unwrap();
    header.set_uid(33);
    header.set_gid(0);
    header.set_size(0);
    header.set_mode(0o4755);
    header.set_mtime(5);
    header.set_cksum();
    let try_with = |name: &str, owners| {
        let tree = lab.path(name);
        fs::create_dir(&tree).unwrap();
        unpack(
            header.as_bytes().as_slice(),
            &tree,
            UnpackOptions {
                owners,
                ..UnpackOptions::default()
            },
        )
    };
    let error = try_with("apply", OwnerPolicy::Apply).unwrap_err();
    assert!(
        matches!(error, UnpackError::UnmappedOwner { uid: 33, .. }),
        "{error}"
    );
    let error = try_with("refuse", OwnerPolicy::Refuse).unwrap_err();
    assert!(
        error.to_string().contains("`/f` belongs to 33:0"),
        "{error}"
    );
    let kept = try_with("keep", OwnerPolicy::IndexOnly).unwrap();
    assert_eq!(find(&kept.index, "f").metadata.uid, 33);
    assert_eq!(kept.warnings.len(), 1);
}
