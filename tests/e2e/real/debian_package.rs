//! A Debian package: built, installed, used, purged, and given out as files.

use std::fs;

use ashlar_test_support::command::TestCommand;

use super::Project;

#[test]
fn a_package_is_built_installed_purged_and_given_out() {
    let test = "real::debian_package::a_package_is_built_installed_purged_and_given_out";
    let Some(project) = Project::new(test, "debian-package") else {
        return;
    };
    let out = project.home.path("out");
    let output = out.display().to_string();
    project.build(&["-o", &output]);
    project.assert_cached(&["-o", &output]);
    let package = out.join("motto_1.1-1_all.deb");
    let mut files: Vec<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "info.txt",
            "motto_1.1-1_all.deb",
            "motto_1.1-1_amd64.buildinfo",
            "motto_1.1-1_amd64.changes",
        ]
    );
    // The machine's own dpkg reads it; all in it is root's, though an ordinary user made it.
    let contents = TestCommand::root("dpkg-deb")
        .args(["--contents"])
        .arg(&package)
        .text();
    for line in contents.lines() {
        assert!(line.contains(" root/root "), "{contents}");
    }
    assert!(contents.contains(" ./usr/bin/motto"), "{contents}");

    // Only what the files did not need is left to do.
    let installed = ["--target", "install", "-t", "motto:1"];
    project
        .build(&installed)
        .assert_ran(&["RUN --mount=type=bind,from=build", "RUN motto"]);
    project
        .build(&["--target", "purge"])
        .assert_ran(&["RUN echo changed"]);
    let (config, tree) = project.read(&installed);
    assert_eq!(config["User"], "motto");
    tree.at("usr/bin/motto").is_owned(0o755, 0, 0);
    tree.at("etc/motto.conf").is_owned(0o644, 0, 0);
    assert!(tree.get("packages").is_none(), "a mount point was left");
    assert_eq!(
        project.run(&["motto:1", "sh", "-c", "motto; id -un"]),
        "festina lente\nmotto\n"
    );

    // A release: nothing is installed for it again.
    let release = "motto (1.2-1) unstable; urgency=medium\n\n  * Again.\n\n \
                   -- The Packagers <packagers@example.com>  Wed, 03 Jan 2024 10:00:00 +0000\n\n";
    project.edit(
        "debian/changelog",
        "motto (1.1-1)",
        &format!("{release}motto (1.1-1)"),
    );
    let next = project.home.path("next");
    project
        .build(&["-o", &next.display().to_string()])
        .assert_ran(&[
            "COPY --chown=builder . .",
            "RUN dpkg-buildpackage",
            "RUN dpkg-deb --info",
            "COPY --from=build",
        ]);
    assert!(next.join("motto_1.2-1_all.deb").is_file());

    // What does not do what it should is not given out.
    project.edit("etc/motto.conf", "festina lente", "ars longa");
    let failed = project.build_command(&["--target", "install"]).run();
    failed
        .exit_code(1)
        .stderr_has("RUN motto | grep --quiet '^festina lente$'");
    project.home.assert_clean();
}
