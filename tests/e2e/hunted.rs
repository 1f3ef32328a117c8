//! Bugs that were found by trying what users might do, and must not come back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixListener;

use ashlar_test_support::bases;
use ashlar_test_support::binary;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::user::TestUser;

/// A context whose Dockerfile goes on from busybox with some text.
fn context(home: &TestHome, rest: &str) -> Context {
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile(rest));
    context
}

/// A build with limits of `prlimit`.
fn limited(home: &TestHome, limit: &str, context: &Context, options: &[&str]) -> TestCommand {
    home.command("prlimit")
        .args([limit, "--"])
        .arg(binary::ashlar())
        .args(["build", "--progress", "plain"])
        .args(options)
        .arg(context.path())
}

#[test]
fn a_socket_is_copied_as_an_empty_file() {
    let home = TestHome::sub();
    // Into a tar, and into a tree.
    for rest in [
        "COPY . /copied\n",
        "COPY . /copied\nRUN test -f /copied/socket\n",
    ] {
        let context = context(&home, rest);
        let path = context.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        home.build_tree(&context, &[])
            .at("copied/socket")
            .has_content("");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn the_longest_names_are_good_for_images() {
    let home = TestHome::sub();
    let context = context(&home, "LABEL a=b\n");
    let name = format!("localhost/{}:{}", "n".repeat(240), "t".repeat(128));
    home.build(&context, &["-t", &name]).success();
    let listed = home.ashlar(["images", "--format", "json"]).run();
    assert!(listed.stdout().contains(&"t".repeat(128)), "{listed}");
    home.ashlar(["tag", &name, "short"]).run().success();
    home.ashlar(["rmi", &name]).run().success();
}

#[test]
fn two_outputs_to_one_place_are_refused() {
    let home = TestHome::sub();
    let context = context(&home, "LABEL a=b\n");
    let (one, other) = ("type=oci,dest=x.tar", "type=docker,dest=./x.tar");
    let output = home.build(&context, &["-o", one, "-o", other]);
    output.exit_code(2);
    assert!(output.one_error().contains("two outputs go to"), "{output}");
    let both = [
        "-o",
        "type=oci,dest=/dev/null",
        "-o",
        "type=tar,dest=/dev/null",
    ];
    home.build(&context, &both).success();
}

#[test]
fn a_limit_of_file_sizes_is_an_error_of_the_write() {
    let home = TestHome::sub();
    let context = context(&home, "RUN [\"cp\", \"/proc/self/status\", \"/status\"]\n");
    let output = limited(
        &home,
        "--fsize=500000",
        &context,
        &["-o", "type=oci,dest=x.tar"],
    )
    .run();
    output.exit_code(3).stderr_has("File too large");
    output.one_error();
    home.assert_clean();
    // And none of a step's affair.
    let status = home.build_text(&context, "/status", &[]);
    let ignored = status.lines().find(|line| line.starts_with("SigIgn"));
    assert_eq!(ignored, Some("SigIgn:\t0000000000000000"));
}

#[test]
fn a_limit_of_processes_is_told_in_one_error() {
    let home = TestHome::sub();
    let context = context(&home, "RUN true\n");
    let output = limited(&home, "--nproc=1", &context, &[]).run();
    output.exit_code(3).stderr_has("ulimit -u");
    output.one_error();
    home.assert_clean();
}

#[test]
fn no_other_user_reaches_files_of_images() {
    let home = TestHome::sub();
    let context = context(&home, "RUN cp /bin/busybox /su && chmod 4755 /su\n");
    home.build(&context, &[]).success();
    let su = home.store_paths_named("su").into_iter().find(|path| {
        let trees = home.store().join("trees");
        path.starts_with(trees) && !path.ends_with("bin/su")
    });
    let su = su.expect("the step's tree has the file");
    let script = format!("exec {} true", su.display());
    let tried = TestCommand::new(TestUser::One, "sh")
        .args(["-c", &script])
        .run();
    assert_eq!(tried.code(), Some(126), "{tried}");
}

#[test]
fn a_context_whose_path_is_no_text_is_copied_or_refused_in_words() {
    let home = TestHome::sub();
    let context = context(&home, "COPY Dockerfile /\nRUN true\n");
    let other = home
        .path("x")
        .with_file_name(OsStr::from_bytes(b"no-\xff-text"));
    std::fs::rename(context.path(), &other).unwrap();
    let output = home.ashlar(["build"]).arg(&other).run();
    if output.code() != Some(0) {
        output.exit_code(3).stderr_has("is not UTF-8");
        output.one_error();
    }
}

#[test]
fn errors_do_not_command_the_terminal() {
    let home = TestHome::sub();
    let context = context(&home, "COPY \u{1b}[31mred\0 /\n");
    let output = home.build(&context, &[]);
    output.exit_code(1);
    let is_control = |c: char| c.is_control() && c != '\n';
    assert!(!output.one_error().contains(is_control), "{output}");
}

/// Adds a layer to an image: a tar that a script makes.
fn add_layer(home: &TestHome, layout: &std::path::Path, script: &str) {
    home.command("sh").args(["-ec", script]).run().success();
    TestCommand::root("umoci")
        .args(["raw", "add-layer", "--image"])
        .arg(format!("{}:latest", layout.display()))
        .arg(home.path("layer.tar"))
        .run()
        .success();
    TestCommand::root("chmod")
        .args(["-R", "a+rX"])
        .arg(layout)
        .run()
        .success();
}

#[test]
fn a_layer_may_hide_all_that_is_below_it() {
    let home = TestHome::sub();
    let layout = home.path("layout");
    let base = context(&home, "LABEL a=b\n");
    let output = format!("type=oci,tar=false,name=x:latest,dest={}", layout.display());
    home.build(&base, &["-o", &output]).success();
    // And it has what AUFS left in layers, which is no part of them.
    let script = "mkdir -p l/bin l/.wh..wh.plnk && touch l/.wh..wh..opq l/only l/.wh..wh.plnk/1.2 \
                  && cp /bin/busybox l/bin/sh && tar -C l -cf layer.tar --owner 0 --group 0 \
                  .wh..wh..opq .wh..wh.plnk bin/sh only";
    add_layer(&home, &layout, script);
    let from = format!("FROM oci-layout://{}:latest\n", layout.display());
    let names = |dockerfile: &str| -> Vec<String> {
        base.dockerfile(dockerfile);
        let tree = home.build_tree(&base, &[]);
        let names = tree.names().into_iter().filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    let expected = ["bin", "bin/sh", "only"];
    assert_eq!(names(&from), expected);
    assert_eq!(
        names(&format!("{from}RUN test ! -e /etc/passwd\n")),
        expected
    );
    assert_eq!(
        names(&format!("{from}FROM scratch\nCOPY --from=0 / /\n")),
        expected
    );
}

/// A layer as Bazel makes them: its tar has files, and not the directories that they are in.
fn add_layer_without_directories(home: &TestHome, layout: &std::path::Path) {
    let script = "mkdir files; mkdir -p files/tmp files/home/app/new files/root; \
                  for f in tmp home/app home/app/new root; do echo x > files/$f/file; done; \
                  tar -C files -cf layer.tar --owner 0 --group 0 \
                  tmp/file home/app/file home/app/new/file root/file";
    add_layer(home, layout, script);
}

#[test]
fn directories_that_a_layer_does_not_name_are_what_is_below() {
    let home = TestHome::sub();
    let layout = home.path("layout");
    let base = home.context("base");
    base.dockerfile(&bases::busybox().dockerfile("RUN chmod 700 /root && chown 1000:7 /tmp\n"));
    let output = format!("type=oci,tar=false,name=x:latest,dest={}", layout.display());
    home.build(&base, &["-o", &output]).success();
    add_layer_without_directories(&home, &layout);
    let context = home.context("context");
    let from = format!("FROM oci-layout://{}:latest\n", layout.display());
    let check = |tree: &ashlar_test_support::tree::Tree| {
        tree.at("tmp").is_owned(0o1777, 1000, 7);
        tree.at("root").is_owned(0o700, 0, 0);
        tree.at("home/app").is_owned(0o755, 1000, 1000);
        tree.at("home/app/new").is_owned(0o755, 0, 0);
    };
    // As its own, below a RUN, and as the source of a copy.
    context.dockerfile(&from);
    check(&home.build_tree(&context, &[]));
    context.dockerfile(&format!(
        "{from}RUN touch /tmp/x /root/x /home/app/new/x && \
         stat -c '%a %u %g' /tmp /root /home/app > /seen\n"
    ));
    let tree = home.build_tree(&context, &[]);
    check(&tree);
    tree.at("seen")
        .has_content("1777 1000 7\n700 0 0\n755 1000 1000\n");
    context.dockerfile(&format!("{from}FROM scratch\nCOPY --from=0 / /\n"));
    check(&home.build_tree(&context, &[]));
    // And onto it, without a tree.
    context.dockerfile(&format!("{from}COPY Dockerfile /tmp/\n"));
    check(&home.build_tree(&context, &[]));
}

#[test]
fn an_archive_leaves_directories_alone_that_it_does_not_name() {
    let home = TestHome::sub();
    let context = context(&home, "ADD archive.tar /\nADD archive.tar /root/\n");
    let script = "mkdir tmp root new && touch tmp/f root/f new/f && \
                  tar cf archive.tar tmp/f root/f new/f && rm -r tmp root new";
    home.command("sh")
        .args(["-c", script])
        .directory(context.path())
        .run()
        .success();
    let tree = home.build_tree(&context, &[]);
    tree.at("tmp").is_owned(0o1777, 0, 0);
    tree.at("root").is_owned(0o700, 0, 0);
    tree.at("new").is_owned(0o755, 0, 0);
}

#[test]
fn subordinate_ids_that_cannot_be_used_are_told_of_once() {
    let home = TestHome::sub();
    let context = context(&home, "RUN true\n");
    // What a container that forbids new privileges does to newuidmap.
    let output = home
        .command("setpriv")
        .args(["--no-new-privs", "--"])
        .arg(binary::ashlar())
        .args(["build", "--progress", "plain"])
        .arg(context.path())
        .run();
    // The base has files of another user.
    output
        .exit_code(1)
        .stderr_has("only one user id is available");
    let told = output
        .stderr()
        .matches("although there are subordinate ids")
        .count();
    assert_eq!(told, 1, "{output}");
    output.stderr_has("newuidmap").stderr_has("new privileges");
    let usual = home.build(&context, &["--no-cache"]);
    usual.success().stderr_lacks("subordinate ids");
}

#[test]
fn an_id_outside_of_the_ranges_is_explained() {
    let home = TestHome::sub();
    for instructions in [
        "COPY --chown=1000660000:0 Dockerfile /x\nRUN true\n",
        "USER 1000660000\nWORKDIR /x\nRUN true\n",
        "USER 1000660000\nRUN true\n",
    ] {
        home.build(&context(&home, instructions), &[])
            .exit_code(1)
            .stderr_has("1000660000")
            .stderr_has("hint: ")
            .stderr_has("a larger range of subordinate ids");
    }
    home.assert_clean();
}
