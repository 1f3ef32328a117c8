//! Whatever is damaged in the store, no build gives a wrong image: the damage is found, dropped, and
//! made anew by the build that found it.

use std::cell::Cell;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::judge;
use ashlar_test_support::tree::Tree;

/// A RUN's layer that is mounted, a COPY's that is, one that is not, and files of another stage.
fn mixed() -> String {
    let busybox = bases::busybox().reference();
    format!(
        "FROM {busybox} AS stage\n\
         RUN mkdir /stage && echo from-the-stage > /stage/file\n\
         FROM {busybox}\n\
         RUN mkdir /made && echo made-by-run > /made/run && chmod 4750 /made/run && \
         ln -s run /made/link\n\
         COPY copied /copied\n\
         RUN cat /made/run /copied > /made/both\n\
         COPY --from=stage /stage /stage\n\
         COPY last /last\n"
    )
}

/// Layers that are never mounted, and so are kept as tars.
fn copies() -> String {
    bases::busybox().dockerfile(
        "COPY copied /stage/file\nCOPY copied /made/both\nCOPY last /made/run\nCOPY last /last\n",
    )
}

fn context(home: &TestHome, dockerfile: &str) -> Context {
    let context = home.context("context");
    context
        .dockerfile(dockerfile)
        .file("copied", "copied-content")
        .file("last", "last-content");
    context
}

/// Adds steps that need everything below them, and that never ran before.
fn add_steps(context: &Context, round: u32) {
    let text = fs::read_to_string(context.path().join("Dockerfile")).unwrap();
    context.dockerfile(&format!(
        "{text}RUN : {round}; cat /made/both /stage/file /last /bin/busybox > /longer && \
         stat -c '%n %a %s' /made/* > /listing\n"
    ));
}

/// A file of the store is changed in some way.
type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 4] = [
    ("truncated", truncate),
    ("one byte changed", change_a_byte),
    ("emptied", |path| {
        drop(
            OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(path)
                .unwrap(),
        );
    }),
    ("removed", |path| fs::remove_file(path).unwrap()),
];

fn truncate(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn change_a_byte(path: &Path) {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let length = file.metadata().unwrap().len();
    if length == 0 {
        return;
    }
    let middle = length / 2;
    file.seek(SeekFrom::Start(middle)).unwrap();
    let mut byte = [0];
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.write_all(&[byte[0] ^ 0x20]).unwrap();
}

/// Files directly or anywhere below a directory of the store.
fn files_in(home: &TestHome, directory: &str) -> Vec<PathBuf> {
    let directory = home.store().join(directory);
    let mut files = home.store_paths();
    files.retain(|path| {
        path.starts_with(&directory) && fs::symlink_metadata(path).unwrap().is_file()
    });
    files
}

fn layer_files(home: &TestHome, name: &str) -> Vec<PathBuf> {
    let mut files = files_in(home, "layers");
    files.retain(|path| path.file_name().unwrap() == name);
    files
}

/// A store that is damaged again and again, and what images should be, by a store that is not.
struct Scene {
    home: TestHome,
    context: Context,
    dockerfile: String,
    plain: Tree,
    longer: Tree,
    rounds: Cell<u32>,
}

impl Scene {
    fn new(dockerfile: String) -> Self {
        let fresh = TestHome::sub();
        let context = context(&fresh, &dockerfile);
        let plain = fresh.build_tree(&context, &[]);
        add_steps(&context, 0);
        let longer = fresh.build_tree(&context, &[]);

        let home = TestHome::sub();
        let context = self::context(&home, &dockerfile);
        let scene = Self {
            home,
            context,
            dockerfile,
            plain,
            longer,
            rounds: Cell::new(0),
        };
        // Without an output that needs blobs, tars are kept.
        scene.home.build(&scene.context, &["-t", "image"]).success();
        scene
    }

    /// Builds, and reads the image. A layer of the base is not made again by a step: it is fetched
    /// anew by the next build.
    fn read(&self, options: &[&str]) -> Tree {
        let directory = self.home.path("layout");
        let output = format!("type=oci,tar=false,dest={}", directory.display());
        let build = || {
            if directory.exists() {
                fs::remove_dir_all(&directory).unwrap();
            }
            let options: Vec<&str> = options.iter().copied().chain(["-o", &output]).collect();
            self.home.build(&self.context, &options)
        };
        let first = build();
        if first
            .stderr()
            .contains("of a base image is not in the store")
        {
            first.exit_code(3);
            build().success();
        } else {
            first.success();
        }
        judge::skopeo_and_tar(&format!("oci:{}", directory.display())).tree
    }

    /// Makes some damage, and asserts that images are what they are in a fresh store: this one, and
    /// one with more steps.
    #[track_caller]
    fn survives(&self, what: &str, damage: impl Fn(&TestHome) -> usize) {
        self.rounds.set(self.rounds.get() + 1);
        // Later there may be nothing of the kind left: what was damaged was made in another form.
        assert!(
            damage(&self.home) > 0 || self.rounds.get() > 1,
            "{what}: nothing to damage"
        );
        let plain = self.read(&[]);
        self.plain.assert_same("fresh", &plain, what);
        damage(&self.home);
        add_steps(&self.context, self.rounds.get());
        let longer = self.read(&[]);
        self.longer.assert_same("fresh", &longer, what);
        self.context.dockerfile(&self.dockerfile);
        self.home.assert_clean();
    }
}

/// Damages all of some files. Returns how many.
fn every(files: &[PathBuf], damage: Damage) -> usize {
    files.iter().for_each(|file| damage(file));
    files.len()
}

#[test]
fn damaged_blobs() {
    let scene = Scene::new(mixed());
    for (name, damage) in DAMAGES {
        scene.survives(name, |home| every(&files_in(home, "blobs"), damage));
    }
}

#[test]
fn damaged_tars() {
    let scene = Scene::new(copies());
    for (name, damage) in DAMAGES {
        scene.survives(name, |home| every(&layer_files(home, "tar"), damage));
    }
}

#[test]
fn damaged_records() {
    let scene = Scene::new(mixed());
    for (name, damage) in DAMAGES {
        scene.survives(name, |home| every(&layer_files(home, "record"), damage));
    }
}

#[test]
fn damaged_indexes() {
    let scene = Scene::new(mixed());
    for (name, damage) in DAMAGES {
        scene.survives(name, |home| every(&layer_files(home, "index"), damage));
    }
}

#[test]
fn damaged_results() {
    let scene = Scene::new(mixed());
    for directory in ["results", "content", "images", "hints"] {
        for (name, damage) in DAMAGES {
            scene.survives(&format!("{directory} {name}"), |home| {
                every(&files_in(home, directory), damage)
            });
        }
    }
}

#[test]
fn missing_directories() {
    let scene = Scene::new(mixed());
    for directory in [
        "blobs",
        "layers",
        "trees",
        "results",
        "content",
        "instructions",
        "images",
        "hints",
        "locks",
        "tmp",
        "partial",
    ] {
        scene.survives(directory, |home| {
            let path = home.store().join(directory);
            let exists = path.exists();
            if exists {
                fs::remove_dir_all(path).unwrap();
            }
            usize::from(exists)
        });
    }
}

#[test]
fn damaged_trees() {
    let damages: [(&str, Damage); 6] = [
        ("truncated", truncate),
        ("emptied", DAMAGES[2].1),
        ("one byte changed", change_a_byte),
        ("removed", DAMAGES[3].1),
        ("a directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("another mode", |path| {
            fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        }),
    ];
    let scene = Scene::new(mixed());
    for file in ["made/run", "bin/busybox", "stage/file", "copied"] {
        for (name, damage) in damages {
            scene.survives(&format!("{file} {name}"), |home| {
                restarted(home);
                every(in_tree(home, file).as_slice(), damage)
            });
        }
    }
}

#[test]
fn fsck_finds_all_damage_and_the_next_build_repairs_it() {
    let scene = Scene::new(mixed());
    let home = &scene.home;
    let fsck = |options: &[&str]| {
        home.ashlar(["fsck", "--format", "json"])
            .args(options)
            .run()
    };
    let sound = fsck(&[]);
    sound.success();
    assert_eq!(sound.json()["Damaged"], serde_json::json!([]));
    assert!(sound.json()["Trees"].as_u64().unwrap() >= 6, "{sound}");
    // Neither size nor time tells of it.
    let file = in_tree(home, "made/run").unwrap();
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    change_a_byte(&file);
    let opened = fs::File::open(&file).unwrap();
    opened
        .set_times(fs::FileTimes::new().set_modified(time))
        .unwrap();
    let blob = files_in(home, "blobs").remove(0);
    truncate(&blob);
    for (options, removed) in [(&["--dry-run"][..], false), (&[][..], true)] {
        let found = fsck(options);
        found.exit_code(1);
        let damaged = found.json()["Damaged"].clone();
        let path = |kind| {
            let rows = damaged.as_array().unwrap();
            let row = rows.iter().find(|row| row["Kind"] == kind);
            let row = row.unwrap_or_else(|| panic!("no {kind}: {found}"));
            assert_eq!(row["Removed"], removed);
            PathBuf::from(row["Path"].as_str().unwrap())
        };
        assert_eq!(path("blob"), blob);
        assert!(file.starts_with(path("layer tree")));
        assert_eq!(file.exists(), !removed);
        assert_eq!(blob.exists(), !removed);
    }
    fsck(&[]).success();
    scene
        .plain
        .assert_same("fresh", &scene.read(&[]), "repaired");
    let table = home.ashlar(["fsck"]).run();
    table.success();
    assert!(table.stdout().contains("all are whole"), "{table}");
    home.assert_clean();
}

/// Makes the store what it is after the machine was started again.
fn restarted(home: &TestHome) {
    for path in home.store_paths() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.starts_with(home.store().join("layers")) && name.starts_with("whole-") {
            fs::remove_file(path).unwrap();
        }
    }
}

/// A file of a tree, if a layer with it has one.
fn in_tree(home: &TestHome, path: &str) -> Option<PathBuf> {
    let trees = home.store().join("trees");
    let mut found = home.store_paths().into_iter();
    found.find(|found| found.starts_with(&trees) && found.ends_with(path) && found.is_file())
}
