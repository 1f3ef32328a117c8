//! Every output, with every compression, says the same to every reader.

use std::fs;
use std::path::Path;

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::judge::{self, gnu_tar};
use ashlar_test_support::layout::{Layout, text};
use ashlar_test_support::registry::Registry;
use ashlar_test_support::tree::Tree;

/// An image with layers of every kind: files, links, special files, owners, whiteouts, replaced
/// directories, attributes, long names.
fn rich(home: &TestHome) -> Context {
    let context = home.context("rich");
    context
        .dockerfile(&bases::busybox().dockerfile(
            "ENV A=1\nLABEL l=1\n\
             RUN mkdir -p /x/gone /x/opaque /x/y && cd /x && echo data > file && ln file hard && \
                 ln -s file soft && mkfifo fifo && mkdir -m 1777 sticky && \
                 echo s > setuid && chown 33:10 setuid && chmod 6755 setuid && \
                 touch gone/1 opaque/old && chown -h 1:2 soft && touch -d @1234567890 file && \
                 mkdir -p $(for i in 1 2 3; do printf 'a%0100d/' $i; done) && touch 'ünï cöde'\n\
             RUN cd /x && rm -r gone && rm -r opaque && mkdir opaque && touch opaque/new && \
                 rm soft && mkdir soft && rm -r y && touch y && chmod 711 sticky && rm /bin/yes\n\
             COPY --chown=5:6 tree /tree\nCOPY noted /\nCMD [\"sh\"]\n",
        ))
        .file("tree/a", "a")
        .file("tree/b/c", vec![b'c'; 300_000])
        .mode("tree/b", 0o2750)
        .symlink("tree/l", "a")
        .hardlink("tree/second", "tree/a")
        .file("noted", "x");
    home.command("setfattr")
        .args(["-n", "user.note", "-v", "kept"])
        .arg(context.path().join("noted"))
        .run()
        .success();
    context
}

/// What must be in the rich image, whoever reads it.
fn assert_rich(tree: &Tree) {
    assert_eq!(tree.at("x/hard").linked_to.as_deref(), Some("x/file"));
    tree.at("x/setuid").is_owned(0o6755, 33, 10);
    tree.at("x/sticky").is_owned(0o711, 0, 0);
    tree.at("x/soft").is_directory();
    tree.at("x/y").has_content("");
    tree.at("x/opaque/new").has_content("");
    tree.at("tree/b").is_owned(0o2750, 5, 6);
    tree.at("tree/second")
        .has_content("a")
        .is_owned(0o644, 5, 6);
    for gone in ["x/gone", "x/opaque/old", "bin/yes"] {
        assert!(tree.get(gone).is_none(), "{gone} is still there");
    }
    tree.at("noted").has_xattr("user.note", b"kept");
}

/// The bytes that a file or blob of some compression starts with.
fn magic(compression: &str) -> &'static [u8] {
    match compression {
        "gzip" => &[0x1f, 0x8b],
        "zstd" => &[0x28, 0xb5, 0x2f, 0xfd],
        _ => &[],
    }
}

fn assert_compressed(layout: &Path, compression: &str) {
    let layout = Layout::open(layout);
    let manifest = layout.manifest();
    let layers = manifest["layers"].as_array().unwrap();
    // The base's own layer keeps its form: it is gzip. The others were made here.
    for layer in &layers[1..] {
        let suffix = match compression {
            "uncompressed" => "tar".to_owned(),
            other => format!("tar+{other}"),
        };
        assert_eq!(
            layer["mediaType"],
            format!("application/vnd.oci.image.layer.v1.{suffix}")
        );
        let path = layout.blob_path(&text(&layer["digest"]));
        let bytes = fs::read(&path).unwrap();
        assert_eq!(layer["size"], bytes.len());
        assert!(
            bytes.starts_with(magic(compression)),
            "{layer} is not {compression}"
        );
    }
}

/// Builds the rich image with one output in all three compressions, and has each read by everyone.
fn all_compressions(
    kind: &str,
    image_of: impl Fn(&TestHome, &str) -> (String, String),
) -> Vec<Tree> {
    let home = TestHome::sub();
    let context = rich(&home);
    let compressions = ["gzip", "zstd", "uncompressed"];
    let outputs: Vec<(String, String)> = compressions
        .iter()
        .map(|compression| image_of(&home, compression))
        .collect();
    let mut command = home.build_command(&context, &[]);
    for ((output, _), compression) in outputs.iter().zip(compressions) {
        command = command.args([
            "-o",
            &format!("type={kind},{output},compression={compression}"),
        ]);
    }
    command.run().success();
    let trees: Vec<Tree> = outputs
        .iter()
        .map(|(_, image)| judge::everyone(image).tree)
        .collect();
    for (tree, compression) in trees.iter().zip(compressions) {
        assert_rich(tree);
        trees[0].assert_same("gzip", tree, compression);
    }
    trees
}

#[test]
fn oci_directories_are_read_by_everyone() {
    all_compressions("oci", |home, compression| {
        let path = home.path(compression).display().to_string();
        (format!("tar=false,dest={path}"), format!("oci:{path}"))
    });
}

#[test]
fn oci_directories_have_the_compression_that_was_asked_for() {
    let home = TestHome::sub();
    let context = rich(&home);
    for compression in ["gzip", "zstd", "uncompressed"] {
        let path = home.path(compression);
        let output = format!(
            "type=oci,tar=false,dest={},compression={compression}",
            path.display()
        );
        home.build(&context, &["-o", &output]).success();
        assert_compressed(&path, compression);
    }
}

#[test]
fn a_higher_level_compresses_better() {
    let home = TestHome::sub();
    let context = home.context("context");
    let words: String = (0..200_000)
        .map(|n: u32| format!("{:x} ", n.wrapping_mul(97) % 5003))
        .collect();
    context
        .dockerfile("FROM scratch\nCOPY words /\n")
        .file("words", words);
    for (compression, low, high) in [("gzip", 1, 9), ("zstd", 1, 19)] {
        let size = |level: i32| {
            let path = home.path(&format!("{compression}-{level}"));
            let output = format!(
                "type=oci,tar=false,dest={},compression={compression},compression-level={level},\
                 force-compression=true",
                path.display()
            );
            home.build(&context, &["-o", &output]).success();
            Layout::open(&path).manifest()["layers"][0]["size"]
                .as_u64()
                .unwrap()
        };
        let (low, high) = (size(low), size(high));
        assert!(high < low, "{compression}: {high} is not less than {low}");
    }
}

#[test]
fn oci_archives_are_read_by_everyone() {
    all_compressions("oci", |home, compression| {
        let path = home
            .path(&format!("{compression}.tar"))
            .display()
            .to_string();
        (format!("dest={path}"), format!("oci-archive:{path}"))
    });
}

#[test]
fn docker_archives_are_read_by_everyone_and_carry_their_name() {
    all_compressions("docker", |home, compression| {
        let path = home
            .path(&format!("{compression}.tar"))
            .display()
            .to_string();
        let name = format!("name=example.com/rich:{compression}");
        (
            format!("{name},dest={path}"),
            format!("docker-archive:{path}"),
        )
    });
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let path = home.path("named.tar");
    let output = format!("type=docker,dest={}", path.display());
    home.build(&context, &["-o", &output, "-t", "example.com/a/name:1"])
        .success();
    judge::skopeo_config(&format!(
        "docker-archive:{}:example.com/a/name:1",
        path.display()
    ));
}

#[test]
fn pushed_images_are_read_by_everyone() {
    let registry = Registry::start();
    all_compressions("image", |_, compression| {
        let name = registry.reference(&format!("rich:{compression}"));
        (format!("name={name},push=true"), format!("docker://{name}"))
    });
}

#[test]
fn a_tar_is_the_whole_root_filesystem() {
    let home = TestHome::sub();
    let context = rich(&home);
    let tree = home.build_tree(&context, &[]);
    assert_rich(&tree);
    let layout = home.path("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    home.build(&context, &["-o", &output]).success();
    let reading = judge::everyone(&format!("oci:{}", layout.display()));
    reading.tree.assert_same("the layers", &tree, "the tar");
}

#[test]
fn a_directory_has_the_files_as_the_users_own() {
    let home = TestHome::sub();
    let context = rich(&home);
    let directory = home.path("local");
    let output = format!("type=local,dest={}", directory.display());
    home.build(&context, &["-o", &output]).success();
    let (uid, gid) = home.user().ids();
    let as_exported = Tree::read(&directory);
    let owners: Vec<&str> = as_exported
        .names()
        .into_iter()
        .filter(|name| (as_exported.at(name).uid, as_exported.at(name).gid) != (uid, gid))
        .collect();
    assert!(owners.is_empty(), "not the user's: {owners:?}");
    let forget = |_: &str, entry: &mut ashlar_test_support::tree::TreeEntry| {
        (entry.uid, entry.gid) = (0, 0);
        // Whoever may not own a file may not make it set-id for its owner either.
        entry.mode &= 0o1777;
    };
    let exported = as_exported.without(str::is_empty).map(forget);
    let whole = home
        .build_tree(&context, &[])
        .without(str::is_empty)
        .map(forget);
    whole.assert_same("the tar", &exported, "the directory");
}

#[test]
fn a_plain_path_is_a_directory_and_a_dash_is_a_tar_on_standard_output() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY f /d/f\n")
        .file("f", "content");
    let directory = home.path("plain");
    home.build(&context, &["-o", &directory.display().to_string()])
        .success();
    assert_eq!(fs::read(directory.join("d/f")).unwrap(), b"content");
    let output = home.build(&context, &["-o", "-"]);
    output.success();
    let tar = home.path("stdout.tar");
    fs::write(&tar, output.stdout_bytes()).unwrap();
    gnu_tar::read(&tar).at("d/f").has_content("content");
}

#[test]
fn several_outputs_are_written_at_once() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY f /\n")
        .file("f", "x");
    let path = |name: &str| home.path(name).display().to_string();
    let outputs = [
        format!("type=oci,dest={}", path("a.tar")),
        format!("type=docker,dest={}", path("b.tar")),
        format!("type=local,dest={}", path("c")),
        format!("type=tar,dest={}", path("d.tar")),
    ];
    let options: Vec<&str> = outputs.iter().flat_map(|output| ["-o", output]).collect();
    home.build(&context, &options).success();
    for name in ["a.tar", "b.tar", "c/f", "d.tar"] {
        assert!(home.path(name).is_file(), "{name} is missing");
    }
}

#[test]
fn archives_are_the_same_bytes_every_time() {
    let home = TestHome::sub();
    let context = rich(&home);
    let write = |name: &str| {
        let path = home.path(name);
        let output = format!("type=oci,dest={}", path.display());
        home.build(&context, &["-o", &output]).success();
        fs::read(path).unwrap()
    };
    assert!(
        write("one.tar") == write("two.tar"),
        "two archives of one image differ"
    );
}

#[test]
fn an_interrupted_output_does_not_replace_a_good_one() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY f /\n")
        .file("f", "x");
    let target = home.path("out.tar");
    let output = format!("type=oci,dest={}", target.display());
    home.build(&context, &["-o", &output]).success();
    let before = fs::read(&target).unwrap();
    context.dockerfile("FROM scratch\nCOPY missing /\n");
    home.build(&context, &["-o", &output]).exit_code(1);
    assert!(
        fs::read(&target).unwrap() == before,
        "a failed build touched the output"
    );
}
