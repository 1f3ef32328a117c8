//! `COPY --link` and `ADD --link`: a layer that knows nothing of what it lies on.

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;

fn context_of(home: &TestHome, dockerfile: &str) -> Context {
    let context = home.context("context");
    context
        .dockerfile(dockerfile)
        .file("a.txt", "a")
        .file("b.txt", "b")
        .file("dir/inner/deep", "deep");
    context
}

/// A Dockerfile whose base can be changed.
fn on_base(rest: &str) -> String {
    let busybox = bases::busybox().reference();
    format!("FROM {busybox} AS tools\nRUN echo tool > /tool\nFROM {busybox}\n{rest}")
}

#[test]
fn a_changed_base_runs_no_linked_copy_again() {
    let home = TestHome::sub();
    let linked = "COPY --link a.txt /a/\nADD --link dir /dir\n\
                  COPY --link --from=tools /tool /tool\nCOPY --link <<EOF /h\ntext\nEOF\n\
                  COPY b.txt /plain\nRUN cat /a/a.txt /dir/inner/deep /tool /h /plain > /all\n";
    let context = context_of(&home, &on_base(linked));
    home.build(&context, &[]).success();
    let changed = format!("RUN echo another > /base\n{linked}");
    context.dockerfile(&on_base(&changed));
    home.build(&context, &[]).success().progress().assert_ran(&[
        "RUN echo another",
        "COPY b.txt /plain",
        "RUN cat",
    ]);
    let tree = home.build_tree(&context, &[]);
    tree.at("all").has_content("adeeptool\ntext\nb");
    tree.at("base").has_content("another\n");
}

#[test]
fn a_changed_file_runs_its_linked_copy_and_what_sees_it() {
    let home = TestHome::sub();
    let context = context_of(
        &home,
        &on_base("COPY --link a.txt /a\nCOPY --link b.txt /b\nRUN cat /a /b > /both\n"),
    );
    home.build(&context, &[]).success();
    context.file("a.txt", "A");
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&["COPY --link a.txt", "RUN cat"]);
    home.build_tree(&context, &[]).at("both").has_content("Ab");
}

#[test]
fn links_of_the_destination_are_not_followed() {
    let home = TestHome::sub();
    let context = context_of(
        &home,
        &on_base(
            "RUN mkdir /real && ln -s real /way && ln -s /real/target /file && mkdir -m 700 /made\n\
             WORKDIR /made\nCOPY --link a.txt /way/\nCOPY --link a.txt /file\n\
             COPY --link b.txt relative/\nRUN cat /way/a.txt > /seen\n",
        ),
    );
    let tree = home.build_tree(&context, &[]);
    tree.at("way").is_directory().is_owned(0o755, 0, 0);
    tree.at("way/a.txt").has_content("a");
    tree.at("file").has_content("a");
    assert!(tree.get("real/a.txt").is_none());
    assert!(tree.get("real/target").is_none());
    tree.at("seen").has_content("a");
    // What is on the way is made in the layer, and hides what was there.
    tree.at("made").is_owned(0o755, 0, 0);
    tree.at("made/relative/b.txt").has_content("b");
}

#[test]
fn names_of_owners_cannot_be_looked_up() {
    let home = TestHome::sub();
    let context = context_of(&home, &on_base("COPY --link --chown=app a.txt /a\n"));
    home.build(&context, &[])
        .exit_code(1)
        .stderr_has("invalid user index: -1");
    context.dockerfile(&on_base("COPY --link --chown=5:6 dir /to/dir\n"));
    let tree = home.build_tree(&context, &[]);
    tree.at("to").is_owned(0o755, 5, 6);
    tree.at("to/dir/inner/deep").is_owned(0o644, 5, 6);
}

#[test]
fn with_chmod_link_means_nothing() {
    let home = TestHome::sub();
    let context = context_of(
        &home,
        &on_base(
            "RUN mkdir -m 700 /real && ln -s real /way\n\
             COPY --link --chmod=600 --chown=app a.txt /way/\n",
        ),
    );
    let tree = home.build_tree(&context, &[]);
    tree.at("way").links_to("real");
    tree.at("real").is_owned(0o700, 0, 0);
    tree.at("real/a.txt").is_owned(0o600, 1000, 1000);
}

#[test]
fn the_same_layer_may_lie_in_a_filesystem_twice() {
    let home = TestHome::sub();
    let context = context_of(
        &home,
        &on_base(
            "COPY --link a.txt /x\nCOPY --link b.txt /x\nCOPY --link a.txt /x\n\
             RUN cat /x > /seen\nCOPY --link b.txt /x\nCOPY --link a.txt /x\nRUN cat /x >> /seen\n",
        ),
    );
    let tree = home.build_tree(&context, &[]);
    tree.at("x").has_content("a");
    tree.at("seen").has_content("aa");
}

#[test]
fn a_linked_copy_is_one_step_with_its_own_layer_and_history() {
    let home = TestHome::sub();
    let context = context_of(
        &home,
        "FROM scratch\nCOPY a.txt /a\nCOPY --link dir /d\nCOPY --link --exclude=* dir /none\n",
    );
    let layout = home.build_layout(&context, &[]);
    let config = layout.config();
    assert_eq!(layout.layers().len(), 3);
    assert_eq!(config["history"][1]["created_by"], "COPY dir /d # buildkit");
    let output = home.build(&context, &["--no-cache"]);
    output.success().progress().assert_ran(&[
        "COPY a.txt",
        "COPY --link dir",
        "COPY --link --exclude",
    ]);
    output.stderr_has("[2/3] COPY --link dir /d");
}

#[test]
fn a_linked_copy_runs_beside_its_base() {
    let home = TestHome::sub();
    // The copy comes after a step that fails, and is made and kept all the same.
    let context = context_of(
        &home,
        &on_base("RUN sleep 3; false\nCOPY --link a.txt /a\n"),
    );
    home.build(&context, &[]).exit_code(1);
    context.dockerfile(&on_base("COPY --link a.txt /a\n"));
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
}
