//! COPY and ADD.

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::tree::{Kind, Tree};

/// The tree that a Dockerfile makes of a context with files of all kinds.
fn tree_of(dockerfile: &str) -> Tree {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile(dockerfile)
        .file("a.txt", "a")
        .file("b.txt", "b")
        .mode("b.txt", 0o4750)
        .file("dir/inner/deep", "deep")
        .file("dir/one", "one")
        .mode("dir/inner", 0o700)
        .directory("dir/empty")
        .symlink("dir/link", "one")
        .symlink("link-to-dir", "dir")
        .symlink("outside", "/etc/hostname")
        .hardlink("dir/second-name", "dir/one");
    home.build_tree(&context, &[])
}

#[test]
fn files_go_where_the_destination_says() {
    let tree = tree_of(
        "FROM scratch\nCOPY a.txt /plain\nCOPY a.txt /into/\nCOPY a.txt b.txt /both/\n\
         WORKDIR /work\nCOPY a.txt relative\nCOPY *.txt ./glob/\nCOPY ?.tx[t] /glob2/\n\
         COPY none* a.txt /some/\n",
    );
    for path in [
        "plain",
        "into/a.txt",
        "both/a.txt",
        "work/relative",
        "work/glob/a.txt",
    ] {
        tree.at(path).has_content("a").is_owned(0o644, 0, 0);
    }
    tree.at("work/glob/b.txt")
        .has_content("b")
        .is_owned(0o4750, 0, 0);
    tree.at("glob2/b.txt").has_content("b");
    tree.at("some/a.txt").has_content("a");
}

#[test]
fn a_directory_stands_for_its_content() {
    let tree = tree_of("FROM scratch\nCOPY dir /to\nCOPY dir/inner dir/empty /merged/\n");
    tree.at("to").is_owned(0o755, 0, 0);
    tree.at("to/inner").is_directory().is_owned(0o700, 0, 0);
    tree.at("to/inner/deep").has_content("deep");
    tree.at("to/empty").is_directory();
    tree.at("to/link").links_to("one");
    assert_eq!(
        tree.at("to/second-name").linked_to.as_deref(),
        Some("to/one")
    );
    tree.at("merged/deep").has_content("deep");
}

#[test]
fn links_that_are_named_are_followed_inside_the_context() {
    let tree = tree_of("FROM scratch\nCOPY link-to-dir /to/\nCOPY dir/link /file\n");
    tree.at("to/one").has_content("one");
    tree.at("file").has_content("one");
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY outside /x\n")
        .symlink("outside", "/etc/passwd");
    let output = home.build(&context, &[]);
    output
        .exit_code(1)
        .stderr_has("outside")
        .stderr_has("not found");
}

#[test]
fn owner_and_mode_are_set() {
    let rest = "COPY --chown=5:6 a.txt /numbers\nCOPY --chown=7 a.txt /one-number\n\
                COPY --chown=app:www-data dir /new/names\nCOPY --chown=app a.txt /name\n\
                COPY --chmod=0604 b.txt /mode\nCOPY --chmod=755 --chown=33:33 dir /all\n\
                USER app\nCOPY a.txt /not-the-users\n";
    let tree = tree_of(&bases::busybox().dockerfile(rest));
    tree.at("numbers").is_owned(0o644, 5, 6);
    tree.at("one-number").is_owned(0o644, 7, 7);
    tree.at("new").is_owned(0o755, 1000, 33);
    tree.at("new/names/inner/deep").is_owned(0o644, 1000, 33);
    tree.at("name").is_owned(0o644, 1000, 1000);
    tree.at("mode").is_owned(0o604, 0, 0);
    tree.at("all/inner").is_owned(0o755, 33, 33);
    tree.at("all/one").is_owned(0o755, 33, 33);
    tree.at("not-the-users").is_owned(0o644, 0, 0);
}

#[test]
fn an_existing_destination_keeps_what_is_its_own() {
    let tree = tree_of(&bases::busybox().dockerfile(
        "RUN mkdir -m 2770 /there && chown 3:4 /there && echo old > /there/old && \
             echo old > /there/one && ln -s there /link-to-there\n\
         COPY dir /there/\nCOPY a.txt /link-to-there/\n",
    ));
    tree.at("there").is_owned(0o2770, 3, 4);
    tree.at("there/old").has_content("old\n");
    tree.at("there/one").has_content("one");
    tree.at("there/a.txt").has_content("a");
    tree.at("link-to-there").links_to("there");
}

#[test]
fn other_stages_and_images_are_sources_too() {
    let busybox = bases::busybox().reference();
    let tree = tree_of(&format!(
        "FROM {busybox} AS made\nRUN mkdir -p /out && echo x > /out/x && chown 8:9 /out/x && \
             chmod 4711 /out/x && ln /out/x /out/y && ln -s /out/x /out/absolute && mkfifo /out/p\n\
         FROM scratch\nCOPY --from=made /out /by-name\nCOPY --from=0 /out/x /by-number\n\
         COPY --from={busybox} /etc/passwd /from-an-image\nCOPY --from=made /out/absolute /through\n\
         COPY --from=made --chown=1:2 /out/* /globbed/\n"
    ));
    tree.at("by-name/x")
        .has_content("x\n")
        .is_owned(0o4711, 8, 9);
    assert_eq!(tree.at("by-name/y").linked_to.as_deref(), Some("by-name/x"));
    tree.at("by-name/absolute").links_to("/out/x");
    assert_eq!(tree.at("by-name/p").kind, Kind::Fifo);
    tree.at("by-number").is_owned(0o4711, 8, 9);
    assert!(matches!(tree.at("from-an-image").kind, Kind::File(..)));
    tree.at("through").has_content("x\n");
    tree.at("globbed/x").is_owned(0o4711, 1, 2);
}

#[test]
fn heredocs_are_files() {
    let tree = tree_of(
        "FROM scratch\nENV NAME=you\nCOPY <<one <<\"two\" /texts/\nhello $NAME\none\n$NAME\ntwo\n\
         COPY --chmod=700 <<EOF /script\n#!/bin/sh\nEOF\n",
    );
    tree.at("texts/one").has_content("hello you\n");
    tree.at("texts/two").has_content("$NAME\n");
    tree.at("script")
        .has_content("#!/bin/sh\n")
        .is_owned(0o700, 0, 0);
}

#[test]
fn later_sources_replace_earlier_ones() {
    let tree = tree_of("FROM scratch\nCOPY a.txt /x\nCOPY b.txt /x\n");
    tree.at("x").has_content("b").is_owned(0o4750, 0, 0);
}

#[test]
fn what_cannot_be_replaced_is_an_error() {
    let cases = [
        (
            "COPY a.txt /etc\nCOPY dir /bin/busybox\n",
            "cannot copy to non-directory",
        ),
        (
            "COPY a.txt /new/passwd\nRUN mkdir -p /d/a.txt\nCOPY a.txt /d/\n",
            "cannot replace",
        ),
    ];
    for (rest, words) in cases {
        let home = TestHome::sub();
        let context = home.context("context");
        context
            .dockerfile(&bases::busybox().dockerfile(rest))
            .file("a.txt", "a")
            .file("dir/f", "f");
        home.build(&context, &[]).exit_code(1).stderr_has(words);
    }
}

#[test]
fn add_copies_local_files_as_copy_does() {
    let tree = tree_of("FROM scratch\nADD --chown=3:4 a.txt dir /to/\nADD *.txt /all/\n");
    tree.at("to/a.txt").has_content("a").is_owned(0o644, 3, 4);
    tree.at("to/inner/deep")
        .has_content("deep")
        .is_owned(0o644, 3, 4);
    tree.at("all/b.txt").has_content("b");
}

#[test]
fn extended_attributes_of_the_context_are_kept() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY noted /noted\n")
        .file("noted", "x");
    home.command("setfattr")
        .args(["-n", "user.note", "-v", "kept"])
        .arg(context.path().join("noted"))
        .run()
        .success();
    let tree = home.build_tree(&context, &[]);
    tree.at("noted").has_xattr("user.note", b"kept");
}

#[test]
fn a_file_that_changes_during_the_build_never_gives_a_wrong_image() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile(&bases::busybox().dockerfile("RUN sleep 2\nCOPY big /big\n"))
        .file("big", vec![b'a'; 1 << 20]);
    let tar = home.path("out.tar");
    let output = format!("type=tar,dest={}", tar.display());
    let mut running = home.build_command(&context, &["-o", &output]).start();
    running.wait_for_stderr("RUN sleep 2");
    std::thread::sleep(std::time::Duration::from_millis(500));
    context.file("big", vec![b'b'; 1 << 20]);
    let output = running.wait();
    if output.code() == Some(0) {
        // Whichever content the build saw: it must be that, and no mix.
        let tree = ashlar_test_support::judge::gnu_tar::read(&tar);
        let whole =
            |byte| std::panic::catch_unwind(|| tree.at("big").has_content(vec![byte; 1 << 20]));
        assert!(
            whole(b'a').is_ok() || whole(b'b').is_ok(),
            "the file is a mix"
        );
    } else {
        output.exit_code(1).stderr_has("big").stderr_has("changed");
    }
}
