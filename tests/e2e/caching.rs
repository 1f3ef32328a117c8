//! What is run again and what is not.

use std::fs;
use std::path::{Path, PathBuf};

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::trace::Trace;

/// Two branches and what joins them, so that "exactly what depends on it" means something.
fn branches(home: &TestHome) -> Context {
    let context = home.context("context");
    let busybox = bases::busybox().reference();
    context
        .dockerfile(&format!(
            "FROM {busybox} AS left\nCOPY left.txt /l\nRUN cat /l > /left\n\
             FROM {busybox} AS right\nCOPY right /r\nRUN cat /r/inner/text > /right\n\
             FROM {busybox}\nRUN echo alone > /alone\nCOPY --from=left /left /\n\
             COPY --from=right /right /\nRUN cat /left /right > /both\n"
        ))
        .file("left.txt", "left")
        .file("right/inner/text", "right")
        .file("unused", "unused");
    context
}

const EVERYTHING: [&str; 8] = [
    "COPY left.txt",
    "RUN cat /l ",
    "COPY right",
    "RUN cat /r/",
    "RUN echo alone",
    "COPY --from=left",
    "COPY --from=right",
    "RUN cat /left",
];

#[test]
fn nothing_changed_means_nothing_is_run() {
    let home = TestHome::sub();
    let context = branches(&home);
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&EVERYTHING);
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
}

#[test]
fn times_and_unused_files_change_nothing() {
    let home = TestHome::sub();
    let context = branches(&home);
    home.build(&context, &[]).success();
    context
        .modified("left.txt", 1_000_000_000)
        .modified("right/inner/text", 2_000_000_000)
        .modified("right/inner", 1)
        .file("unused", "changed")
        .file("new", "");
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
    // The same bytes in a new inode.
    context.remove("left.txt").file("left.txt", "left");
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
}

#[test]
fn changed_content_runs_exactly_what_depends_on_it() {
    let home = TestHome::sub();
    let context = branches(&home);
    home.build(&context, &[]).success();
    context.file("left.txt", "LEFT");
    let changed = [
        "COPY left.txt",
        "RUN cat /l ",
        "COPY --from=left",
        "RUN cat /left",
    ];
    let progress = home.build(&context, &[]).success().progress();
    // What only a changed step needs may be cached without a word; nothing else may have run.
    for wanted in changed {
        assert!(
            progress.ran().iter().any(|ran| ran.starts_with(wanted)),
            "{wanted}: {progress:#?}"
        );
    }
    for other in ["COPY right", "RUN cat /r/", "RUN echo alone"] {
        assert!(
            !progress.ran().iter().any(|ran| ran.starts_with(other)),
            "{other}: {progress:#?}"
        );
    }
    assert_eq!(home.build_text(&context, "/both", &[]), "LEFTright");
}

#[test]
fn changed_content_of_equal_size_and_time_is_seen() {
    let home = TestHome::sub();
    let context = branches(&home);
    context.modified("left.txt", 1_600_000_000);
    home.build(&context, &[]).success();
    context
        .file("left.txt", "LEFT")
        .modified("left.txt", 1_600_000_000);
    assert_eq!(home.build_text(&context, "/both", &[]), "LEFTright");
}

#[test]
fn a_changed_mode_is_a_change() {
    let home = TestHome::sub();
    let context = branches(&home);
    home.build(&context, &[]).success();
    context.mode("left.txt", 0o755);
    let progress = home.build(&context, &[]).success().progress();
    assert!(
        progress
            .ran()
            .iter()
            .any(|ran| ran.starts_with("COPY left.txt")),
        "{progress:#?}"
    );
    home.build_tree(&context, &["--target", "left"])
        .at("l")
        .is_owned(0o755, 0, 0);
}

#[test]
fn a_stage_that_takes_what_did_not_change_stays_cached() {
    let home = TestHome::sub();
    let context = home.context("context");
    let busybox = bases::busybox().reference();
    context
        .dockerfile(&format!(
            "FROM {busybox} AS made\nCOPY source /source\nRUN grep -v comment /source > /made\n\
             FROM {busybox}\nCOPY --from=made /made /\nRUN cat /made > /later\nRUN echo last\n"
        ))
        .file("source", "code\ncomment 1\n");
    home.build(&context, &[]).success();
    context.file("source", "code\ncomment 2\n");
    let again = home.build(&context, &[]);
    again
        .success()
        .progress()
        .assert_ran(&["COPY source", "RUN grep"]);
}

#[test]
fn a_changed_command_that_makes_the_same_files_keeps_later_steps() {
    let home = TestHome::sub();
    let context = home.context("context");
    let text = |word: &str| {
        bases::busybox().dockerfile(&format!(
            "RUN : {word} && echo made > /made\nRUN cat /made > /later\nCOPY f /f\nRUN echo last\n"
        ))
    };
    context.dockerfile(&text("one")).file("f", "f");
    home.build(&context, &[]).success();
    context.dockerfile(&text("two"));
    let again = home.build(&context, &[]);
    again.success().progress().assert_ran(&["RUN : two"]);
    // And from then on both are known.
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
    context.dockerfile(&text("one"));
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
}

#[test]
fn no_cache_runs_everything_again() {
    let home = TestHome::sub();
    let context = branches(&home);
    home.build(&context, &[]).success();
    home.build(&context, &["--no-cache"])
        .success()
        .progress()
        .assert_ran(&EVERYTHING);
}

#[test]
fn failures_are_not_cached() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("RUN echo first\nRUN test -e /nothing\n"));
    for _ in 0..2 {
        let output = home.build(&context, &[]);
        output.exit_code(1);
        assert!(output.progress().step("RUN test").end.is_some());
    }
    assert_eq!(home.build(&context, &[]).progress().ran(), [""; 0]);
}

#[test]
fn arguments_enter_the_keys_of_the_commands_that_see_them() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile(
            &bases::busybox().dockerfile("RUN echo before\nARG A\nCOPY f /\nRUN echo after\n"),
        )
        .file("f", "");
    home.build(&context, &["--build-arg", "A=1"]).success();
    let again = home.build(&context, &["--build-arg", "A=2"]);
    // Its output is the same as before, and so only the command itself is run.
    again.success().progress().assert_ran(&["RUN echo after"]);
    home.build(&context, &["--build-arg", "A=1"])
        .success()
        .progress()
        .assert_ran(&[]);
}

#[test]
fn the_cache_outlives_a_prune_of_what_is_tagged() {
    let home = TestHome::sub();
    let context = branches(&home);
    home.build(&context, &["-t", "kept"]).success();
    home.ashlar(["prune", "--force"]).run().success();
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
}

#[test]
fn damage_in_the_store_is_found_and_repaired() {
    let home = TestHome::sub();
    let context = branches(&home);
    home.build(&context, &["-t", "image"]).success();
    let whole = home.build_tree(&context, &[]);
    // Every regular file of the store in turn would take too long: cut off every third.
    let files: Vec<PathBuf> = home
        .store_paths()
        .into_iter()
        .filter(|path| fs::symlink_metadata(path).unwrap().is_file())
        .collect();
    for path in files.iter().step_by(3) {
        let length = fs::metadata(path).unwrap().len();
        // What marks the directory as a store is no entry: without it there is no store.
        let is_marker = path.file_name().is_some_and(|name| name == "FORMAT");
        if !is_layer_content(path) && !is_marker && length > 1 {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(length / 2)
                .unwrap();
        }
    }
    let repaired = home.build_tree(&context, &[]);
    whole.assert_same("before", &repaired, "after the damage");
}

/// Whether a file of the store is a file of an image, whose damage only a full check could find.
fn is_layer_content(path: &Path) -> bool {
    [
        "left", "right", "both", "alone", "l", "text", "busybox", "passwd", "group",
    ]
    .iter()
    .any(|name| path.file_name().is_some_and(|own| own == *name))
}

#[test]
fn a_cached_build_enters_no_namespace_mounts_nothing_and_opens_no_layer() {
    let home = TestHome::sub();
    let context = branches(&home);
    let first = Trace::of_build(&home, &context, &[]);
    assert!(
        !first.of_namespaces().is_empty(),
        "strace sees nothing of the first build"
    );

    // Where the store keeps the files of layers: what lies around the one that a step made.
    let trees: Vec<PathBuf> = home
        .store_paths_named("both")
        .into_iter()
        .filter_map(|path| path.parent().map(Path::to_owned))
        .collect();
    assert!(
        !trees.is_empty(),
        "no layer has the file that the last step made"
    );

    let again = Trace::of_build(&home, &context, &[]);
    assert_eq!(again.of_namespaces(), [""; 0]);
    for line in again.calls() {
        let tree = trees
            .iter()
            .find(|tree| line.contains(&tree.display().to_string()));
        assert!(tree.is_none(), "a layer was opened: {line}");
    }
    assert_eq!(
        again.programs().len(),
        1,
        "a cached build starts other programs"
    );
    home.assert_clean();
}
