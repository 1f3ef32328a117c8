//! What a container leaves in its layer, and what it sees of the layers below.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ashlar_exec::sandbox::{RunError, SetupError};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::rig::{ALL, Rig};
use crate::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test!(ALL, layers::only_what_the_command_did_is_in_the_layer),
    test!(ALL, layers::a_failed_command_leaves_its_layer_too),
    test!(
        ALL,
        layers::mount_points_leave_no_trace_where_earlier_layers_removed_them
    ),
    test!(ALL, layers::what_a_command_puts_beside_a_mount_point_stays),
    test!(ALL, layers::removed_and_remade_directories_are_opaque),
    test!(ALL, layers::links_in_the_image_do_not_lead_out_of_it),
    test!(ALL, layers::six_hundred_layers_are_one_root),
    test!(ALL, layers::too_many_layers_are_refused),
    test!(ALL, layers::a_read_only_root_cannot_be_changed),
    test!(ALL, layers::a_missing_layer_is_named),
];

pub(crate) fn only_what_the_command_did_is_in_the_layer(rig: &Rig) {
    let finished =
        rig.run_shell("mkdir /a; echo x >/a/b; ls / /etc /dev /proc /sys >/dev/null; rm /bin/true");
    finished.stdout();
    assert_eq!(
        finished.layer(),
        ["a", "a/b", "bin", "bin/true"].map(String::from).into()
    );
    let whiteout = fs::symlink_metadata(finished.upper.join("bin/true")).unwrap();
    assert_eq!(
        (whiteout.mode() & 0o170_000, whiteout.rdev()),
        (0o020_000, 0)
    );

    // A layer can be used below the next one.
    let mut spec = rig.shell("cat /a/b; test -e /bin/true || echo gone");
    spec.root.lowers.push(finished.upper);
    assert_eq!(rig.run(spec).stdout(), "x\ngone\n");
}

pub(crate) fn a_failed_command_leaves_its_layer_too(rig: &Rig) {
    let finished = rig.run_shell("touch /done; exit 1");
    assert_eq!(finished.layer(), ["done".to_owned()].into());
}

/// Makes a whiteout as overlayfs does.
fn whiteout(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

pub(crate) fn mount_points_leave_no_trace_where_earlier_layers_removed_them(rig: &Rig) {
    let below = rig.layer_with(
        "with-etc",
        &[
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
            ("etc/hosts", "old"),
        ],
    );
    let gone = rig.layer_with("without-hosts", &[("etc/", "")]);
    whiteout(&gone.join("etc/hosts"));
    whiteout(&gone.join("etc/resolv.conf"));
    whiteout(&gone.join("proc"));
    whiteout(&gone.join("sys"));
    let mut spec =
        rig.shell("cat /etc/hosts; ls /proc/self/stat /sys/kernel >/dev/null && stat -c %Y /etc");
    spec.root.lowers.extend([below, gone.clone()]);
    let time = fs::metadata(gone.join("etc")).unwrap().mtime();
    let finished = rig.run(spec.clone());
    let stdout = finished.stdout();
    assert!(stdout.starts_with("127.0.0.1\tlocalhost box\n"), "{stdout}");
    assert!(stdout.ends_with(&format!("\n{time}\n")), "{stdout} {time}");
    assert_eq!(finished.layer(), [].into());
    assert!(!finished.upper.join("etc").exists());
}

pub(crate) fn what_a_command_puts_beside_a_mount_point_stays(rig: &Rig) {
    let gone = rig.layer_with("no-hosts", &[("etc/other", "")]);
    whiteout(&gone.join("etc/hosts"));
    let mut spec = rig.shell("echo mine >/etc/mine");
    spec.root.lowers.push(gone.clone());
    let finished = rig.run(spec);
    finished.stdout();
    assert_eq!(
        finished.layer(),
        ["etc", "etc/mine"].map(String::from).into()
    );

    // A change of the directory itself stays too.
    let mut spec = rig.shell("chmod 700 /etc");
    spec.root.lowers.push(gone);
    let finished = rig.run(spec);
    assert_eq!(finished.layer(), ["etc".to_owned()].into());
    assert_eq!(
        fs::metadata(finished.upper.join("etc")).unwrap().mode() & 0o777,
        0o700
    );
}

pub(crate) fn removed_and_remade_directories_are_opaque(rig: &Rig) {
    let layer = rig.layer_with("dir", &[("d/old", "")]);
    let mut spec = rig.shell("rm -r /d && mkdir /d && touch /d/new && ls /d");
    spec.root.lowers.push(layer);
    let finished = rig.run(spec);
    assert_eq!(finished.stdout(), "new\n");
    let mut value = [0; 8];
    let length =
        rustix::fs::lgetxattr(finished.upper.join("d"), "user.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..length], b"y");
}

pub(crate) fn links_in_the_image_do_not_lead_out_of_it(rig: &Rig) {
    let victim = rig.layer_with("victim", &[("file", "outside")]);
    let layer = rig.layer("links");
    std::os::unix::fs::symlink(&victim, layer.join("etc")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../..", layer.join("up")).unwrap();
    let mut spec = rig.shell("cat /etc/hosts | head -n 1; pwd; echo x >/etc/file");
    spec.root.lowers.push(layer);
    spec.cwd = format!("/up{}/made", victim.display());
    let finished = rig.run(spec);
    assert_eq!(
        finished.stdout(),
        format!("127.0.0.1\tlocalhost box\n{}/made\n", victim.display())
    );
    assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "outside");
    assert!(!victim.join("made").exists());
    // The link's target was made in the layer, by us for the mount and by the command to write.
    let relative = victim.strip_prefix("/").unwrap();
    assert!(finished.upper.join(relative).join("file").exists());
    assert!(!finished.upper.join(relative).join("hosts").exists());
}

pub(crate) fn six_hundred_layers_are_one_root(rig: &Rig) {
    let mut spec =
        rig.shell("ls /files | wc -l; cat /files/0 /files/599 /same; test ! -e /files/7");
    for number in 0..600 {
        let (name, text) = (format!("many/{number}"), format!("{number}\n"));
        let layer = rig.layer_with(
            &name,
            &[(&format!("files/{number}"), &text), ("same", &text)],
        );
        // Hides across the seam between the two overlays.
        if number == 550 {
            whiteout(&layer.join("files/7"));
        }
        spec.root.lowers.push(layer);
    }
    assert_eq!(rig.run(spec).stdout(), "599\n0\n599\n599\n");
}

pub(crate) fn too_many_layers_are_refused(rig: &Rig) {
    let layer = rig.layer("many");
    let mut spec = rig.shell("true");
    spec.root.lowers = (0..2000)
        .map(|number| layer.join(number.to_string()))
        .collect();
    let error = rig.run(spec).result.unwrap_err();
    assert!(
        matches!(
            error,
            RunError::Setup(SetupError::TooManyLayers { count: 2000, .. })
        ),
        "{error:?}"
    );
}

pub(crate) fn a_read_only_root_cannot_be_changed(rig: &Rig) {
    let mut spec = rig.shell("echo x >/file; echo y >/dev/shm/z && cat /dev/shm/z");
    spec.root.writable = None;
    let finished = rig.run(spec);
    assert_eq!(finished.stdout(), "y\n");
    assert!(finished.written.stderr().contains("Read-only file system"));

    let mut spec = rig.shell("true");
    spec.root.writable = None;
    spec.root.lowers.clear();
    let error = rig.run(spec).result.unwrap_err();
    assert!(
        matches!(
            error,
            RunError::Setup(SetupError::CommandNotExecutable { .. })
        ),
        "{error:?}"
    );
}

pub(crate) fn a_missing_layer_is_named(rig: &Rig) {
    let mut spec = rig.shell("true");
    spec.root.lowers.push(rig.directory.join("no-such-layer"));
    let RunError::Setup(error) = rig.run(spec).result.unwrap_err() else {
        panic!()
    };
    assert!(
        error
            .to_string()
            .ends_with("no-such-layer cannot be opened"),
        "{error}"
    );
}
