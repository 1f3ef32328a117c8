//! `SOURCE_DATE_EPOCH`: the time that all that a build makes is to have.

use ashlar_test_support::bases;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::layout::{Layout, text};
use serde_json::Value;

const NOW: &str = "2023-11-14T22:13:20Z";

fn times(config: &Value) -> Vec<String> {
    let entries = config["history"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| text(&entry["created"]))
        .collect()
}

/// Builds with the variable in the environment.
fn build(home: &TestHome, context: &Context, epoch: &str, options: &[&str]) -> Layout {
    let directory = home.path("dated");
    drop(std::fs::remove_dir_all(&directory));
    let output = format!("type=oci,tar=false,dest={}", directory.display());
    home.build_command(context, &["-o", &output])
        .args(options)
        .env("SOURCE_DATE_EPOCH", epoch)
        .run()
        .success();
    Layout::open(directory)
}

#[test]
fn the_environment_an_argument_or_the_dockerfile_dates_a_build() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("ARG SOURCE_DATE_EPOCH\nFROM scratch\nENV A=1\nWORKDIR /w\nCOPY f /\n");
    context.file("f", "f");
    let config = build(&home, &context, "1700000000", &[]).config();
    assert_eq!(config["created"], NOW);
    assert_eq!(times(&config), [NOW; 3]);
    // The command line goes before the environment, and nothing is none.
    let given = ["--build-arg", "SOURCE_DATE_EPOCH=0"];
    let config = build(&home, &context, "1700000000", &given).config();
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    let nothing = ["--build-arg", "SOURCE_DATE_EPOCH="];
    let config = build(&home, &context, "1700000000", &nothing).config();
    assert_ne!(config["created"], NOW);

    context.dockerfile("ARG SOURCE_DATE_EPOCH=1700000000\nFROM scratch\nWORKDIR /w\n");
    assert_eq!(home.build_layout(&context, &[]).config()["created"], NOW);
    // A directory has no time of its own.
    let of_context = ["--build-arg", "SOURCE_DATE_EPOCH=context"];
    assert_ne!(
        home.build_layout(&context, &of_context).config()["created"],
        NOW
    );
    home.build(&context, &["--build-arg", "SOURCE_DATE_EPOCH=yesterday"])
        .exit_code(1)
        .stderr_has("invalid SOURCE_DATE_EPOCH: yesterday");
}

#[test]
fn commands_see_the_number_where_it_is_declared() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile(
        "RUN echo \"<$SOURCE_DATE_EPOCH>\" > /undeclared\nARG SOURCE_DATE_EPOCH\n\
         RUN echo \"$(cat /undeclared) $SOURCE_DATE_EPOCH\" > /out\n",
    ));
    let options = ["--build-arg", "SOURCE_DATE_EPOCH=7"];
    assert_eq!(home.build_text(&context, "/out", &options), "<> 7\n");
}

#[test]
fn two_stores_make_the_same_image_of_it() {
    let text = "FROM scratch\nWORKDIR /a/b\nCOPY f /g\nENV A=1\nWORKDIR /a/c\n";
    let digests: Vec<String> = (0..2)
        .map(|_| {
            let home = TestHome::sub();
            let context = home.context("context");
            context
                .dockerfile(text)
                .file("f", "f")
                .modified("f", 1_600_000_000);
            build(&home, &context, "1700000000", &[]).manifest_digest()
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn another_epoch_makes_directories_anew() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("FROM scratch\nWORKDIR /w\n");
    let first = build(&home, &context, "1700000000", &[]).layers();
    let second = build(&home, &context, "1700000001", &[]).layers();
    assert_ne!(first, second, "the directory's time is part of the layer");
    assert_eq!(build(&home, &context, "1700000000", &[]).layers(), first);
}

#[test]
fn rewritten_times_make_builds_of_the_same_files_equal() {
    let dockerfile = bases::busybox().dockerfile(
        "RUN mkdir /made && echo made > /made/file && touch -d @1000 /made/old\nCOPY f /made/\n",
    );
    let rewritten = |home: &TestHome, context: &Context| {
        let directory = home.path("rewritten");
        drop(std::fs::remove_dir_all(&directory));
        let output = format!(
            "type=oci,tar=false,rewrite-timestamp=true,dest={}",
            directory.display()
        );
        home.build_command(context, &["-o", &output])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .run()
            .success();
        Layout::open(directory)
    };
    let mut digests = Vec::new();
    for modified in [1_600_000_000, 1_750_000_000] {
        let home = TestHome::sub();
        let context = home.context("context");
        context
            .dockerfile(&dockerfile)
            .file("f", "f")
            .modified("f", modified);
        let layout = rewritten(&home, &context);
        let plain = home.build_layout(&context, &[]);
        assert_eq!(
            layout.layers()[0],
            plain.layers()[0],
            "the base's layer stays as it is"
        );
        assert_ne!(layout.layers()[1], plain.layers()[1]);
        assert_eq!(layout.config()["created"], NOW);
        for (number, digest) in layout.layers().iter().enumerate() {
            let script = "gzip -dc \"$1\" | sha256sum | cut -d' ' -f1";
            let sum = TestCommand::root("sh")
                .args(["-c", script, "sh"])
                .arg(layout.blob_path(digest))
                .text();
            let expected = text(&layout.config()["rootfs"]["diff_ids"][number]);
            assert_eq!(format!("sha256:{}", sum.trim()), expected);
        }
        digests.push((layout.layers()[1].clone(), layout.manifest_digest()));
    }
    assert_eq!(
        digests[0].0, digests[1].0,
        "what RUN makes now is as old as what it made then"
    );
    assert_ne!(digests[0].1, digests[1].1, "earlier times stay");
}

#[test]
fn an_output_may_have_an_epoch_of_its_own_or_none() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nENV A=1\nCOPY f /\n")
        .file("f", "f");
    let created = |epoch: &str| {
        let directory = home.path("own");
        drop(std::fs::remove_dir_all(&directory));
        let output = format!(
            "type=oci,tar=false,source-date-epoch={epoch},dest={}",
            directory.display()
        );
        home.build(&context, &["-o", &output]).success();
        text(&Layout::open(directory).config()["created"])
    };
    assert_eq!(created("1700000000"), NOW);
    assert_ne!(created(""), NOW);
}
