//! The same Dockerfiles built by Debian's buildah and by Ashlar give the same configuration and
//! the same tree.
//!
//! Each directory of `fixtures/compare` is a context. buildah 1.28 differs from BuildKit, which
//! Ashlar follows, in these points, and only these are taken out of the comparison:
//!
//! | point | buildah | BuildKit and Ashlar |
//! |---|---|---|
//! | label | adds `io.buildah.version` | adds none |
//! | empty fields | leaves out or writes `null` | the other way round |
//! | root directory | mode 0555 in its own storage | what the layers say |
//! | `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf` | empty ones stay behind after a RUN | none |
//! | WORKDIR that no RUN follows | makes no directory (the fixtures avoid it) | makes it |
//! | working directory `""` | left out | `/` on scratch |
//! | `--chmod` on directories made on the way | left out (the fixtures avoid it) | applied |
//! | `--chown` of an archive | left out (the fixtures avoid it) | applied |
//! | `PATH` | not set on scratch | set to the default |
//!
//! The fixtures avoid what else it does in ways of its own: a variable that is set again moves to
//! the end; a range of ports stays one entry; SHELL does not reach CMD; a RUN makes the directories
//! of volumes; `${x-y}` without a colon is unknown; a global ARG does not see others.

use std::fs;
use std::path::{Path, PathBuf};

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::judge::{self, Buildah, Reading};
use ashlar_test_support::tree::{Kind, TreeEntry};
use serde_json::{Map, Value};

/// The fields of an image's `config` that say how it is to be run.
const FIELDS: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "ExposedPorts",
    "Volumes",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/compare")
        .join(name)
}

/// The fields to compare, empty ones left out.
fn comparable(config: &Value) -> Map<String, Value> {
    let mut fields = Map::new();
    for name in FIELDS {
        let mut value = config["config"][name].clone();
        if let Some(labels) = value.as_object_mut() {
            labels.remove("io.buildah.version");
        }
        let empty = value.is_null()
            || value == ""
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(Map::is_empty);
        if !empty {
            fields.insert(name.to_owned(), value);
        }
    }
    fields
}

fn by_buildah(home: &TestHome, context: &Path, base: &str) -> Reading {
    let buildah = Buildah::new();
    let base = format!("BASE={base}");
    buildah
        .build(context, "compared", &["--build-arg", &base])
        .success();
    let target = home.path("buildah.tar");
    buildah.push(
        "compared",
        &format!("docker-archive:{}:compared:1", target.display()),
    );
    judge::skopeo_and_tar(&format!("docker-archive:{}", target.display()))
}

fn by_ashlar(
    home: &TestHome,
    context: &ashlar_test_support::context::Context,
    base: &str,
) -> Reading {
    let target = home.path("ashlar.tar");
    let output = format!("type=docker,name=compared:1,dest={}", target.display());
    home.build(
        context,
        &["-o", &output, "--build-arg", &format!("BASE={base}")],
    )
    .success();
    judge::skopeo_and_tar(&format!("docker-archive:{}", target.display()))
}

/// Builds a fixture twice and compares what skopeo and GNU tar read.
fn same(name: &str) {
    let home = TestHome::sub();
    let context = home.context("context");
    context.copy_of(&fixture(name));
    let base = bases::busybox();
    let theirs = by_buildah(&home, context.path(), &base.foreign_reference());
    let own = by_ashlar(&home, &context, &base.reference());
    assert_eq!(
        comparable(&own.config),
        comparable(&theirs.config),
        "left Ashlar, right buildah"
    );
    let theirs = theirs
        .tree
        .clone()
        .without(|path| path.is_empty() || is_mount_point(theirs.tree.at(path), path));
    let own = own.tree.without(str::is_empty);
    own.assert_same("Ashlar", &theirs, "buildah");
}

/// Whether a path is what buildah left where it had mounted a file of its own.
fn is_mount_point(entry: &TreeEntry, path: &str) -> bool {
    let mounted = ["etc/hosts", "etc/hostname", "etc/resolv.conf"].contains(&path);
    mounted && matches!(entry.kind, Kind::File(0, _))
}

/// A test for each fixture, and one that there is a test for each fixture.
macro_rules! fixtures {
    ($($test:ident = $name:literal,)*) => {
        $(#[test]
        fn $test() {
            same($name);
        })*

        #[test]
        fn no_fixture_is_forgotten() {
            let mut found: Vec<String> = fs::read_dir(fixture(""))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            found.sort();
            assert_eq!(found, [$($name),*]);
        }
    };
}

fixtures! {
    configuration = "01-configuration",
    copies = "02-copies",
    copy_owners = "03-copy-owners",
    run_files = "04-run-files",
    deletions = "05-deletions",
    replaced_types = "06-replaced-types",
    stages = "07-stages",
    variables = "08-variables",
    working_directories = "09-working-directories",
    users = "10-users",
    links = "11-links",
    globs = "12-globs",
    entrypoints = "13-entrypoints",
    ignored = "14-ignored",
    onbuild = "15-onbuild",
    arguments = "16-arguments",
    environment = "17-environment",
    working_users = "18-working-users",
    metadata = "19-metadata",
    archives = "20-archives",
    copy_forms = "21-copy-forms",
}
