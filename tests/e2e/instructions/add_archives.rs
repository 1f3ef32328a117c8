//! ADD of local archives.

use std::fs;

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::tree::{Kind, Tree};
use ashlar_test_support::user::TestUser;
use tar::{Builder, EntryType, Header};

/// A tar, entry by entry.
struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// An entry whose name and target are taken as they are, also if they lead outside.
    fn entry(mut self, kind: EntryType, name: &str, target: &str, content: &str) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(if kind == EntryType::Directory {
            0o750
        } else {
            0o640
        });
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        if kind == EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, content.as_bytes()).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", content)
    }

    fn directory(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", "")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, "")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn simple() -> Vec<u8> {
    Tar::new().directory("d/").file("d/f", "content").bytes()
}

/// What a program for compression makes of some bytes.
fn compressed(home: &TestHome, program: &str, bytes: &[u8]) -> Vec<u8> {
    let plain = home.path("to-compress");
    home.file(&plain, bytes);
    let output = home
        .command(program)
        .args(["-c"])
        .arg(&plain)
        .run()
        .success()
        .stdout_bytes()
        .to_vec();
    fs::remove_file(plain).unwrap();
    output
}

fn tree_of(dockerfile: &str, archive: &[u8]) -> Tree {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(dockerfile).file("a.tar", archive);
    home.build_tree(&context, &[])
}

fn refused(archive: &[u8]) -> String {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nADD a.tar /to/\n")
        .file("a.tar", archive);
    let output = home.build(&context, &[]);
    output.exit_code(1).stderr_has("Dockerfile:2");
    output.stderr().into_owned()
}

#[test]
fn archives_of_all_compressions_are_unpacked_whatever_their_names() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(
        "FROM scratch\nADD plain.txt /plain\nADD gzip /gzip/\nADD bzip2.zip /bzip2\n\
         ADD xz* /xz/\nADD zstd.tar /zstd\nADD --unpack=true gzip /again\n",
    );
    context.file("plain.txt", simple());
    for (program, name) in [
        ("gzip", "gzip"),
        ("bzip2", "bzip2.zip"),
        ("xz", "xz.gz"),
        ("zstd", "zstd.tar"),
    ] {
        // Two members each: a tar may be cut anywhere.
        let (start, end) = (&simple()[..700], &simple()[700..]);
        let both = [start, end].map(|part| compressed(&home, program, part));
        context.file(name, both.concat());
    }
    let tree = home.build_tree(&context, &[]);
    for place in ["plain", "gzip", "bzip2", "xz", "zstd", "again"] {
        tree.at(place).is_owned(0o755, 0, 0);
        tree.at(&format!("{place}/d")).is_owned(0o750, 7, 8);
        tree.at(&format!("{place}/d/f"))
            .has_content("content")
            .is_owned(0o640, 7, 8);
    }
}

#[test]
fn what_is_no_tar_and_what_is_not_to_be_unpacked_is_copied() {
    let home = TestHome::sub();
    let context = home.context("context");
    let text = compressed(&home, "gzip", b"not a tar");
    let xz = compressed(&home, "xz", &vec![0; 2048]);
    let archive = compressed(&home, "xz", &simple());
    context
        .dockerfile(
            "FROM scratch\nADD text.gz short zeros.tar.xz /\nADD --unpack=false a.tar.xz /kept\n\
             COPY a.tar.xz /copied\nADD dir /dir\n",
        )
        .file("text.gz", &text)
        .file("short", "BZh9")
        .file("zeros.tar.xz", &xz)
        .file("a.tar.xz", &archive)
        .file("dir/inside.tar.xz", &archive);
    let tree = home.build_tree(&context, &[]);
    tree.at("text.gz").has_content(&text);
    tree.at("short").has_content("BZh9");
    tree.at("zeros.tar.xz").has_content(&xz);
    for kept in ["kept", "copied", "dir/inside.tar.xz"] {
        tree.at(kept).has_content(&archive);
    }
}

#[test]
fn owners_are_those_of_the_archive_unless_chown_says_otherwise() {
    let archive = Tar::new()
        .directory("./")
        .file("implied/f", "1")
        .symlink("l", "implied")
        .bytes();
    let tree = tree_of(
        &bases::busybox().dockerfile(
            "ADD a.tar /kept\nADD --chown=app:33 --chmod=777 a.tar /given\n\
             ADD --link --chown=5 a.tar /linked\n",
        ),
        &archive,
    );
    // Neither the archive's own root nor what it does not name has its owner.
    tree.at("kept").is_owned(0o755, 0, 0);
    tree.at("kept/implied").is_owned(0o755, 0, 0);
    tree.at("kept/implied/f").is_owned(0o640, 7, 8);
    tree.at("given").is_owned(0o755, 1000, 33);
    tree.at("given/implied").is_owned(0o755, 0, 0);
    tree.at("given/implied/f").is_owned(0o640, 1000, 33);
    let link = tree.at("given/l");
    assert_eq!((link.uid, link.gid), (1000, 33));
    tree.at("linked/implied/f").is_owned(0o640, 5, 5);
}

#[test]
fn an_archive_is_laid_over_what_is_there() {
    let archive = Tar::new()
        .directory("bin/")
        .file("bin/new", "new")
        .directory("kept/")
        .file("kept/new", "new")
        .file("was-directory", "file")
        .directory("was-file/")
        .file("was-file/x", "x")
        .symlink("was-linked", "elsewhere")
        .file("implied/x", "x")
        .bytes();
    let tree = tree_of(
        &bases::busybox().dockerfile(
            "RUN mkdir -p /r/usr/bin /r/kept /r/was-directory/x /r/implied && cd /r && \
                 ln -s usr/bin bin && touch usr/bin/old kept/old was-file && \
                 ln -s /usr was-linked && chmod 711 /r /r/implied && chown 3:4 /r/implied && \
                 ln -s r /way\n\
             ADD a.tar /way\n",
        ),
        &archive,
    );
    tree.at("r").is_owned(0o711, 0, 0);
    tree.at("r/bin").links_to("usr/bin");
    tree.at("r/usr/bin").is_owned(0o750, 7, 8);
    tree.at("r/usr/bin/new").has_content("new");
    tree.at("r/usr/bin/old").has_content("");
    tree.at("r/kept").is_owned(0o750, 7, 8);
    tree.at("r/kept/old").has_content("");
    tree.at("r/was-directory").has_content("file");
    assert!(tree.get("r/was-directory/x").is_none());
    tree.at("r/was-file/x").has_content("x");
    tree.at("r/was-linked").links_to("elsewhere");
    tree.at("r/implied").is_owned(0o711, 3, 4);
    tree.at("r/implied/x").has_content("x");
}

#[test]
fn no_entry_gets_outside() {
    let absolute = Tar::new()
        .file("/etc/absolute", "1")
        .file("a/../clean", "2")
        .symlink("up", "../../..")
        .file("up/inside", "3")
        .bytes();
    let tree = tree_of("FROM scratch\nADD a.tar /to\n", &absolute);
    tree.at("to/etc/absolute").has_content("1");
    tree.at("to/clean").has_content("2");
    tree.at("to/up").links_to("../../..");
    tree.at("to/inside").has_content("3");
    for (archive, words) in [
        (Tar::new().file("../out", "1"), "climbs above its root"),
        (Tar::new().file("/../out", "1"), "climbs above its root"),
        (
            Tar::new().entry(EntryType::Link, "l", "../../etc/passwd", ""),
            "climbs above its root",
        ),
        (
            Tar::new().entry(EntryType::Link, "l", "/etc/passwd", ""),
            "hard link `/l` to `/etc/passwd`, which is not in the tar",
        ),
    ] {
        let stderr = refused(&archive.bytes());
        assert!(stderr.contains(words), "{words}: {stderr}");
        assert!(stderr.contains("cannot unpack"), "{stderr}");
    }
}

#[test]
fn links_pipes_and_devices() {
    let archive = Tar::new()
        .file("f", "content")
        .entry(EntryType::Link, "hard", "./f", "")
        .entry(EntryType::Fifo, "pipe", "", "")
        .entry(EntryType::Char, "null", "", "")
        .bytes();
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nADD a.tar /to/\n")
        .file("a.tar", &archive);
    let output = home.build(&context, &[]);
    // A device needs root on this machine; nothing is lost without a word.
    output.success().stderr_has("device node `/null` (1:3)");
    let tree = home.build_tree(&context, &[]);
    assert_eq!(tree.at("to/hard").linked_to.as_deref(), Some("to/f"));
    assert_eq!(tree.at("to/pipe").kind, Kind::Fifo);
}

#[test]
fn long_names_sparse_files_and_all_formats_of_gnu_tar() {
    let home = TestHome::sub();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(140));
    let source = home.directory("source");
    home.file(&source.join(&long), "long");
    home.file(&source.join("\u{fc}n\u{ef}"), "name");
    let sparse = source.join("sparse");
    home.file(&sparse, "start");
    fs::File::options()
        .write(true)
        .open(&sparse)
        .and_then(|file| file.set_len(3 << 20))
        .unwrap();
    let context = home.context("context");
    let mut dockerfile = "FROM scratch\n".to_owned();
    for format in ["gnu", "oldgnu", "pax", "posix"] {
        dockerfile.push_str(&format!("ADD {format}.tar /{format}\n"));
        home.command("tar")
            .args(["--sparse", "--owner=3", "--group=4"])
            .arg(format!("--format={format}"))
            .arg("-C")
            .arg(&source)
            .arg("-cf")
            .arg(context.path().join(format!("{format}.tar")))
            .arg(".")
            .run()
            .success();
    }
    context.dockerfile(&dockerfile);
    let tree = home.build_tree(&context, &[]);
    let mut content = b"start".to_vec();
    content.resize(3 << 20, 0);
    for format in ["gnu", "oldgnu", "pax", "posix"] {
        tree.at(&format!("{format}/{long}"))
            .has_content("long")
            .is_owned(0o644, 3, 4);
        tree.at(&format!("{format}/\u{fc}n\u{ef}"))
            .has_content("name");
        tree.at(&format!("{format}/sparse")).has_content(&content);
    }
}

#[test]
fn a_name_that_layers_cannot_hold_is_an_error_that_says_so() {
    let stderr = refused(&Tar::new().file("d/.wh.x", "1").bytes());
    assert!(stderr.contains(".wh.x"), "{stderr}");
}

#[test]
fn damaged_archives_are_named() {
    let home = TestHome::sub();
    // More than one block of bzip2: a file whose first bytes cannot be had is taken for no tar,
    // as BuildKit does.
    let big: String = (0..200_000).map(|number| format!("{number} ")).collect();
    let plain = Tar::new().file("first", "1").file("big", &big).bytes();
    let mut damaged = plain.clone();
    damaged[1024 + 150] ^= 0x7f;
    let mut cases = vec![("checksum", damaged), ("cut", plain[..40_000].to_vec())];
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let whole = compressed(&home, program, &plain);
        cases.push((program, whole[..whole.len() * 9 / 10].to_vec()));
    }
    for (name, archive) in cases {
        let stderr = refused(&archive);
        assert!(stderr.contains("cannot unpack"), "{name}: {stderr}");
        assert!(stderr.contains("a.tar"), "{name}: {stderr}");
    }
}

#[test]
fn a_changed_archive_is_unpacked_again_and_an_unchanged_one_is_not() {
    let home = TestHome::sub();
    let context = home.context("context");
    let build = |archive: &[u8]| {
        context
            .dockerfile("FROM scratch\nADD a.tar /to\n")
            .file("a.tar", archive);
        home.build(&context, &[]).success().progress()
    };
    build(&simple()).assert_ran(&["ADD a.tar"]);
    build(&simple()).assert_ran(&[]);
    build(&Tar::new().file("d/f", "other").bytes()).assert_ran(&["ADD a.tar"]);
    // The same files in another form make the same layer.
    let gzipped = compressed(&home, "gzip", &simple());
    build(&gzipped).assert_ran(&["ADD a.tar"]);
}

#[test]
fn with_one_id_only_chown_makes_any_archive_roots() {
    let home = TestHome::new(TestUser::One);
    let context = home.context("context");
    let context: &Context = context
        .dockerfile("FROM scratch\nADD --chown=0:0 a.tar /to\n")
        .file("a.tar", simple());
    let tree = home.build_tree(context, &[]);
    tree.at("to/d/f")
        .has_content("content")
        .is_owned(0o640, 0, 0);
    context.dockerfile("FROM scratch\nADD a.tar /to\n");
    home.build(context, &[]).exit_code(1).stderr_has("7:8");
}
