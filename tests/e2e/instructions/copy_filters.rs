//! `COPY --exclude` and `COPY --parents`.

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::tree::Tree;

/// Directories of files of some types.
fn files(home: &TestHome, dockerfile: &str) -> Context {
    let context = home.context("context");
    context
        .dockerfile(dockerfile)
        .file("one/a.png", "1")
        .file("one/b.txt", "2")
        .file("two/c.pdf", "3")
        .file("two/d.png", "4")
        .file("three/e.mp3", "5")
        .file("three/f.mpeg", "6")
        .file("deep/er/est/g.txt", "7")
        .file("deep/er/h.txt", "8")
        .mode("deep", 0o700)
        .mode("deep/er", 0o1777);
    context
}

fn tree_of(dockerfile: &str) -> Tree {
    let home = TestHome::sub();
    let context = files(&home, dockerfile);
    home.build_tree(&context, &[])
}

/// The files of a tree, directories left out.
fn files_of(tree: &Tree) -> Vec<&str> {
    let names = tree.names().into_iter();
    names
        .filter(|path| tree.at(path).kind != ashlar_test_support::tree::Kind::Directory)
        .collect()
}

#[test]
fn exclude_leaves_out_what_matches_below_each_source() {
    let tree = tree_of(
        "FROM scratch\n\
         COPY --exclude=*/*.png --exclude=*/*.mp* --exclude=deep . /1/\n\
         ADD --exclude=*.mp3 three/ /3/\n\
         COPY --exclude=*.png --exclude=*.txt --exclude=*.mp* --exclude=er o* t* /4/\n\
         ADD --exclude=* one two /6/\n\
         COPY --exclude=**/*.txt deep /7/\n\
         COPY --exclude=** --exclude=!er/est deep /8/\n",
    );
    assert_eq!(
        files_of(&tree),
        [
            "1/Dockerfile",
            "1/one/b.txt",
            "1/two/c.pdf",
            "3/f.mpeg",
            "4/c.pdf",
            "8/er/est/g.txt"
        ]
    );
    tree.at("1/three").is_directory();
    tree.at("6").is_directory();
    tree.at("7/er/est").is_directory();
    tree.at("8/er").is_owned(0o1777, 0, 0);
}

#[test]
fn exclude_leaves_out_files_that_a_source_names_or_matches() {
    let tree = tree_of(
        "FROM scratch AS made\nCOPY --exclude=*.txt one/* three/e.mp3 deep/er/h.txt /all/\n\
         FROM scratch\nCOPY --from=made --exclude=a* /all/* /all/e.mp3 /2/\n\
         COPY --exclude=b.txt one/b.txt /3\n\
         COPY --from=made / /1/\n",
    );
    assert_eq!(files_of(&tree), ["1/all/a.png", "1/all/e.mp3", "2/e.mp3"]);
    assert!(!tree.names().contains(&"3"));
}

#[test]
fn exclude_works_for_stages_and_images() {
    let busybox = bases::busybox().reference();
    let tree = tree_of(&format!(
        "FROM scratch AS made\nCOPY . /all\n\
         FROM scratch\nCOPY --from=made --exclude=all/t* --exclude=**/Dockerfile / /stage/\n\
         COPY --from={busybox} --exclude=* --exclude=!passwd /etc /image/\n"
    ));
    assert_eq!(
        files_of(&tree),
        [
            "image/passwd",
            "stage/all/deep/er/est/g.txt",
            "stage/all/deep/er/h.txt",
            "stage/all/one/a.png",
            "stage/all/one/b.txt",
        ]
    );
}

#[test]
fn exclude_is_not_expanded_and_a_bad_pattern_is_an_error() {
    let home = TestHome::sub();
    let context = files(
        &home,
        "FROM scratch\nENV x=a.png\nCOPY --exclude=$x one /one/\n",
    );
    let tree = home.build_tree(&context, &[]);
    tree.at("one/a.png").has_content("1");
    context.dockerfile("FROM scratch\nCOPY --exclude=a[ one /one/\n");
    home.build(&context, &[])
        .exit_code(1)
        .stderr_has("`a[` is no pattern")
        .stderr_has("Dockerfile:2");
}

#[test]
fn what_is_excluded_is_not_read_and_changes_nothing() {
    let home = TestHome::sub();
    let context = files(
        &home,
        "FROM scratch\nCOPY --exclude=two --exclude=three . /a/\nCOPY --parents one/*.txt deep/er /b/\n",
    );
    context.mode("three", 0);
    home.build(&context, &[]).success();
    context.mode("three", 0o755);
    context.file("two/c.pdf", "changed").file("three/new", "");
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
    context.file("deep/er/h.txt", "changed");
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&["COPY --exclude", "COPY --parents"]);
}

#[test]
fn parents_keeps_directories_with_their_modes() {
    let tree = tree_of(
        "FROM scratch\nWORKDIR /w\nCOPY --parents deep/er/h.txt one/*.txt .\n\
         COPY --parents --chown=5:6 --chmod=750 deep/er/est /all/\n\
         COPY --parents **/*.txt /txt\n",
    );
    assert_eq!(
        files_of(&tree),
        [
            "all/deep/er/est/g.txt",
            "txt/deep/er/est/g.txt",
            "txt/deep/er/h.txt",
            "txt/one/b.txt",
            "w/deep/er/h.txt",
            "w/one/b.txt",
        ]
    );
    tree.at("w/deep").is_owned(0o700, 0, 0);
    tree.at("w/deep/er").is_owned(0o1777, 0, 0);
    tree.at("all/deep").is_owned(0o750, 5, 6);
    tree.at("all/deep/er/est/g.txt").is_owned(0o750, 5, 6);
}

#[test]
fn parents_leaves_out_what_is_before_the_pivot() {
    let base = "FROM scratch AS base\nCOPY deep /test/a/b\nCOPY deep /test/a/b2\n";
    let rows: [(&str, &[&str]); 8] = [
        ("/test/a/b/./er", &["er/est/g.txt", "er/h.txt"]),
        (
            "/test/a/b/.",
            &["test/a/b/er/est/g.txt", "test/a/b/er/h.txt"],
        ),
        ("./test/a/b/er/est", &["test/a/b/er/est/g.txt"]),
        ("/test/a/./b/./er/h.txt", &["b/er/h.txt"]),
        ("/test/a/./*/er/est", &["b/er/est/g.txt", "b2/er/est/g.txt"]),
        ("/test/a/b*/./er/**/g.txt", &["er/est/g.txt"]),
        ("/test/a/b2/./", &["er/est/g.txt", "er/h.txt"]),
        ("/test/none*/**", &[]),
    ];
    let home = TestHome::sub();
    for (source, expected) in rows {
        let dockerfile = format!("{base}FROM scratch\nCOPY --from=base --parents {source} /out/\n");
        let context = files(&home, &dockerfile);
        let tree = home.build_tree(&context, &[]);
        let expected: Vec<String> = expected.iter().map(|path| format!("out/{path}")).collect();
        assert_eq!(files_of(&tree), expected, "{source}");
    }
}

#[test]
fn parents_of_a_path_that_is_not_there_is_an_error() {
    let home = TestHome::sub();
    for (source, named) in [
        ("one/none", "/one/none"),
        ("one/./none", "/one/none"),
        ("--from=base /x/none", "/x/none"),
    ] {
        let dockerfile =
            format!("FROM scratch AS base\nCOPY one /x\nFROM scratch\nCOPY --parents {source} /\n");
        let context = files(&home, &dockerfile);
        home.build(&context, &[])
            .exit_code(1)
            .stderr_has(&format!("\"{named}\": not found"))
            .stderr_has("Dockerfile:4");
    }
}

#[test]
fn history_shows_parents_and_not_exclude() {
    let home = TestHome::sub();
    let context = files(
        &home,
        "FROM scratch\nCOPY --parents --exclude=x --chown=1 one/b.txt /d/\n",
    );
    let layout = home.build_layout(&context, &[]);
    let created_by = &layout.config()["history"][0]["created_by"];
    assert_eq!(
        created_by,
        "COPY --parents --chown=1 one/b.txt /d/ # buildkit"
    );
}
