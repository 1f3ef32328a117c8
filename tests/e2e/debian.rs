//! Real work: a Debian root filesystem that apt installs packages in.

use std::time::Duration;

use ashlar_test_support::bases::{self, Base};
use ashlar_test_support::home::TestHome;
use ashlar_test_support::judge;
use ashlar_test_support::skip::skip;

/// The Debian base; without it the test says that it is skipped.
fn base_for(test: &str) -> Option<Base> {
    let base = bases::debian();
    if base.is_none() {
        skip(
            test,
            "there is no Debian base: mmdebstrap found no package source",
        );
    }
    base
}

#[test]
fn python_is_installed_by_apt_and_runs_a_program() {
    let test = "debian::python_is_installed_by_apt_and_runs_a_program";
    let Some(base) = bases::debian_with_packages(test) else {
        return;
    };
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile(&base.dockerfile(
            "RUN apt-get update && apt-get install -y --no-install-recommends python3\n\
             WORKDIR /app\nCOPY --chmod=755 program.py .\nCMD [\"python3\", \"program.py\"]\n",
        ))
        .file(
            "program.py",
            "import os, sqlite3, sys\nprint('python', sys.version_info[0], os.getcwd())\n",
        );
    let slow = Duration::from_secs(500);
    let layout = home.path("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    home.build_command(&context, &["-o", &output])
        .timeout(slow)
        .run()
        .success();
    home.build(&context, &["-t", "python:1"])
        .success()
        .progress()
        .assert_ran(&[]);

    let output = home.ashlar(["run", "--rm", "python:1"]).run();
    assert_eq!(output.success().stdout(), "python 3 /app\n");

    // apt's own user owns what apt gave it, and dpkg's database is whole.
    let reading = judge::everyone(&format!("oci:{}", layout.display()));
    assert!(reading.tree.get("usr/bin/python3").is_some());
    let partial = reading.tree.at("var/lib/apt/lists/partial");
    assert_eq!(partial.mode, 0o700);
    assert_ne!(partial.uid, 0, "the owner of apt's directory is lost");
    let audit = home
        .ashlar(["run", "--rm", "python:1", "dpkg", "--audit"])
        .run();
    assert_eq!(audit.success().stdout(), "");

    home.assert_clean();
}

#[test]
fn the_base_is_read_as_mmdebstrap_wrote_it() {
    let Some(base) = base_for("debian::the_base_is_read_as_mmdebstrap_wrote_it") else {
        return;
    };
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&base.dockerfile("LABEL nothing=changed\n"));
    let tree = home.build_tree(&context, &[]);
    let original = judge::skopeo_and_tar(&base.foreign_reference()).tree;
    original.assert_same("the base", &tree, "Ashlar's output of it");
}

#[test]
fn attributes_capabilities_and_acls_survive() {
    let Some(base) = base_for("debian::attributes_capabilities_and_acls_survive") else {
        return;
    };
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&base.dockerfile(
        "RUN cp /bin/true /t && setcap cap_net_raw+ep /t && setfattr -n user.note -v x /t && \
             mkdir /d && setfattr -n user.dir -v y /d\n\
         RUN getcap /t > /seen && getfattr -n user.note /t >> /seen && cp -a /t /u\n\
         RUN setfattr -n user.note -v changed /t && chmod 700 /u\n",
    ));
    let layout = home.path("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    home.build(&context, &["-o", &output]).success();
    let tree = judge::everyone(&format!("oci:{}", layout.display())).tree;
    // Version 2, cap_net_raw, effective: the form that has no user namespace in it.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    tree.at("t").has_xattr("security.capability", capability);
    tree.at("t").has_xattr("user.note", b"changed");
    tree.at("d").has_xattr("user.dir", b"y");
    tree.at("u").has_xattr("user.note", b"x");
}

#[test]
fn set_user_id_programs_raise_their_user() {
    let Some(base) = base_for("debian::set_user_id_programs_raise_their_user") else {
        return;
    };
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&base.dockerfile(
        "RUN cp /usr/bin/id /usr/bin/id-of-root && chmod 4755 /usr/bin/id-of-root\n\
         USER nobody\nRUN id-of-root -u > /tmp/effective\n",
    ));
    assert_eq!(home.build_text(&context, "/tmp/effective", &[]), "0\n");
}

#[test]
fn a_large_tree_is_copied_between_stages() {
    let Some(base) = base_for("debian::a_large_tree_is_copied_between_stages") else {
        return;
    };
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&format!(
        "FROM {} AS debian\nFROM scratch\nCOPY --from=debian /usr /copy\n",
        base.reference()
    ));
    let copy = home.build_tree(&context, &[]);
    let original = judge::skopeo_and_tar(&base.foreign_reference()).tree;
    let below = |tree: &ashlar_test_support::tree::Tree, prefix: &str| {
        tree.names()
            .iter()
            .filter(|name| name.starts_with(prefix))
            .count()
    };
    assert!(below(&copy, "copy/") > 1000);
    assert_eq!(below(&copy, "copy/"), below(&original, "usr/"));
    assert_eq!(
        copy.at("copy/bin/chfn").mode,
        original.at("usr/bin/chfn").mode
    );
}

#[test]
fn what_apt_keeps_in_cache_mounts_installs_again_without_a_network() {
    let test = "debian::what_apt_keeps_in_cache_mounts_installs_again_without_a_network";
    let Some(base) = bases::debian_with_packages(test) else {
        return;
    };
    let home = TestHome::sub();
    let context = home.context("context");
    let build = |run: &str| {
        let flags = "--mount=type=cache,target=/var/cache/apt,sharing=locked \
                     --mount=type=cache,target=/var/lib/apt,sharing=locked";
        let keep = "rm -f /etc/apt/apt.conf.d/docker-clean && \
                    echo 'Binary::apt::APT::Keep-Downloaded-Packages \"true\";' \
                    > /etc/apt/apt.conf.d/keep";
        let install = "apt-get install -y --no-install-recommends";
        let text = format!(
            "RUN {keep}\n{}",
            run.replace("FLAGS", flags).replace("INSTALL", install)
        );
        context.dockerfile(&base.dockerfile(&text));
        home.build_command(&context, &[])
            .timeout(Duration::from_secs(500))
            .run()
            .success();
    };
    build("RUN FLAGS apt-get update && INSTALL bc\n");
    build("RUN FLAGS --network=none INSTALL --no-download bc && [ \"$(echo 6*7 | bc)\" = 42 ]\n");
    home.assert_clean();
}
