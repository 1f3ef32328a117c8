//! The linter: warnings of a build, `--check`, and what else `--call` tells of a build without
//! running it.

use ashlar_test_support::bases;
use ashlar_test_support::command::Output;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::registry::free_port;

/// Breaks three rules; builds nothing but a file.
const DUBIOUS: &str = "FROM scratch as base\ncopy f /\nENV name value\n";

fn context(home: &TestHome, dockerfile: &str) -> Context {
    let context = home.context("context");
    context.dockerfile(dockerfile).file("f", "f");
    context
}

/// The names of rules and lines in the JSON of a check.
fn warnings(output: &Output) -> Vec<String> {
    let json = output.json();
    let warnings = json["warnings"].as_array().unwrap().iter();
    warnings
        .map(|warning| {
            let line = &warning["location"]["ranges"][0]["start"]["line"];
            format!("{} {line}", warning["ruleName"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn a_build_says_at_its_end_what_is_dubious() {
    let home = TestHome::sub();
    let context = context(&home, DUBIOUS);
    for mode in ["plain", "tty"] {
        let output = home.build(&context, &["--progress", mode]);
        output
            .success()
            .stderr_has(" 3 warnings found (use --check to expand):\n")
            .stderr_has(
                " - FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)\n",
            );
        let stderr = output.stderr();
        assert!(stderr.ends_with("(line 3)\n"), "{output}");
    }
    let output = home.build(&context, &["--progress", "json"]);
    output.success();
    let found = output
        .stderr()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["event"] == "warning")
        .map(|line| (line["rule"].clone(), line["line"].clone()))
        .collect::<Vec<_>>();
    assert!(
        found.contains(&("LegacyKeyValueFormat".into(), 3.into())),
        "{found:?}"
    );
    assert_eq!(found.len(), 3);
    let output = home.build(&context, &["-q"]);
    assert_eq!(output.success().stderr(), "");
    home.assert_clean();
}

#[test]
fn only_what_is_built_is_warned_of() {
    let home = TestHome::sub();
    let text = "FROM scratch AS other\nENV name value\nFROM scratch\nCOPY f /\n";
    let context = context(&home, text);
    let output = home.build(&context, &[]);
    output.success().stderr_lacks("warning");
    let output = home.build(&context, &["--check"]);
    output.exit_code(1);
    assert!(output.stdout().contains("LegacyKeyValueFormat"), "{output}");
}

#[test]
fn broken_rules_fail_a_build_that_says_so_before_any_step() {
    let home = TestHome::sub();
    let text = bases::busybox().dockerfile("RUN echo ran\nENV name value\n");
    let strict = context(&home, &format!("# check=error=true\n{text}"));
    let output = home.build(&strict, &[]);
    output.exit_code(1).one_error();
    output
        .stderr_has("error: lint violation found for rules: LegacyKeyValueFormat")
        .stderr_has(" 1 warning found")
        .stderr_lacks("echo ran");
    // The command line has the last word.
    let skip = "BUILDKIT_DOCKERFILE_CHECK=skip=all";
    let output = home.build(&strict, &["--build-arg", skip]);
    output.success().stderr_lacks("warning");
    let error = "BUILDKIT_DOCKERFILE_CHECK=skip=LegacyKeyValueFormat;error=true";
    home.build(&strict, &["--build-arg", error]).success();
    let wrong = home.build(
        &strict,
        &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=nonsense"],
    );
    wrong.exit_code(1).one_error();
    wrong.stderr_has("invalid check option \"nonsense\"");
    home.assert_clean();
}

#[test]
fn a_check_shows_the_lines_and_fails() {
    let home = TestHome::sub();
    let dubious = context(&home, DUBIOUS);
    let output = home.build(&dubious, &["--check"]);
    output.exit_code(1);
    let stdout = output.stdout();
    assert!(
        stdout.starts_with("Check complete, 3 warnings have been found!\n\nWARNING: FromAsCasing"),
        "{output}"
    );
    assert!(stdout.contains("   2 | >>> copy f /\n"), "{output}");
    assert_eq!(output.stderr(), "");
    let output = home.build(&dubious, &["--call=lint,ignorestatus=true"]);
    output.success();
    let clean = context(&home, "FROM scratch\nCOPY f /\n");
    let output = home.build(&clean, &["--check"]);
    assert_eq!(
        output.success().stdout(),
        "Check complete, no warnings found.\n"
    );
}

#[test]
fn a_check_needs_no_store_and_no_steps() {
    let home = TestHome::sub();
    let text = bases::busybox().dockerfile("RUN exit 1\nCOPY absent /\nCMD x\n");
    let dubious = context(&home, &text);
    let output = home.build(&dubious, &["--call=check,format=json"]);
    output.exit_code(1);
    assert_eq!(warnings(&output), ["JSONArgsRecommended 4"]);
    assert!(
        !home.store().join("FORMAT").exists(),
        "a check has made a store"
    );
    let left = std::fs::read_dir(home.temporary()).unwrap().count();
    assert_eq!(left, 0, "a check leaves files");
    // A Dockerfile alone has no files, and need not have any.
    let alone = home
        .ashlar(["build", "--check", "-"])
        .input("FROM scratch\nCOPY f /\n");
    alone.run().success();
}

#[test]
fn programs_get_the_json_of_buildx() {
    let home = TestHome::sub();
    let text = "FROM scratch\nCOPY \\\n  $nowhere /\n";
    let dubious = context(&home, text);
    let output = home.build(&dubious, &["--call=check,format=json"]);
    output.exit_code(1);
    let json = output.json();
    let line = |line: u32| serde_json::json!({"start": {"line": line}, "end": {"line": line}});
    assert_eq!(
        json["warnings"],
        serde_json::json!([{
            "ruleName": "UndefinedVar",
            "description": "Variables should be defined before their use",
            "url": "https://docs.docker.com/go/dockerfile/rule/undefined-var/",
            "detail": "Usage of undefined variable '$nowhere'",
            "location": {"sourceIndex": 0, "ranges": [line(2), line(3)]},
        }])
    );
    assert_eq!(json["sources"][0]["filename"], "Dockerfile");
    assert_eq!(json["sources"][0]["language"], "Dockerfile");
    assert_eq!(json["buildError"], serde_json::Value::Null);
}

#[test]
fn what_would_fail_is_part_of_a_check() {
    let home = TestHome::sub();
    // What is found up to the mistake counts too.
    let broken = context(&home, "FROM scratch as base\nMAINTAINER me\nBADCMD\n");
    let output = home.build(&broken, &[]);
    output.exit_code(1).one_error();
    output.stderr_has(" 2 warnings found");
    let output = home.build(&broken, &["--call=check,format=json"]);
    output.exit_code(1).one_error();
    assert_eq!(
        warnings(&output),
        ["FromAsCasing 1", "MaintainerDeprecated 2"]
    );
    let json = output.json();
    let message = "dockerfile parse error on line 3: unknown instruction: BADCMD";
    assert_eq!(json["buildError"]["message"], message);
    assert_eq!(
        json["buildError"]["location"]["ranges"][0]["start"]["line"],
        3
    );

    let text = "# check=error=true\nFROM scratch as base\n";
    let output = home.build(&context(&home, text), &["--call=check,format=json"]);
    output.exit_code(1).one_error();
    let message = "lint violation found for rules: FromAsCasing";
    assert_eq!(output.json()["buildError"]["message"], message);

    // An image that cannot be had, for its variables are not known then.
    let image = format!("localhost:{}/none", free_port());
    let output = home.build(&context(&home, &format!("FROM {image}\n")), &["--check"]);
    output.exit_code(3).one_error();
    output.stderr_has(&image);
}

#[test]
fn an_ignored_source_is_found_if_asked_for() {
    let home = TestHome::sub();
    let dubious = context(
        &home,
        "# check=experimental=CopyIgnoredFile\nFROM scratch\nCOPY f /\nADD ./f /g\n",
    );
    dubious.file(".dockerignore", "f\n");
    let output = home.build(&dubious, &["--call=check,format=json"]);
    output.exit_code(1);
    assert_eq!(
        warnings(&output),
        ["CopyIgnoredFile 3", "CopyIgnoredFile 4"]
    );
}

#[test]
fn variables_of_base_images_are_defined() {
    let home = TestHome::sub();
    let base = context(
        &home,
        "FROM scratch\nENV FROM_BASE=1\nCOPY f /\nSHELL [\"/sh\"]\n",
    );
    home.build(&base, &["-t", "base:1"]).success();
    let derived = context(&home, "FROM base:1\nCOPY f /$FROM_BASE\nCMD run\n");
    home.build(&derived, &["--check"]).success();
}

#[test]
fn stages_and_arguments_are_listed() {
    let home = TestHome::sub();
    let listed = context(
        &home,
        "# VERSION is what is built\nARG VERSION=1.2\n# build makes it\nFROM scratch AS build\n\
         ARG VERSION\nARG MODE=fast\nCOPY f /\n# out is shipped\nFROM scratch AS out\n\
         COPY --from=build /f /\n",
    );
    let output = home.build(&listed, &["--call", "targets"]);
    assert_eq!(
        output.success().stdout(),
        "TARGET        DESCRIPTION\nbuild         makes it\nout (default) is shipped\n"
    );
    let output = home.build(&listed, &["--call", "outline", "--build-arg", "MODE=slow"]);
    assert_eq!(
        output.success().stdout(),
        "TARGET:      out\nDESCRIPTION: is shipped\n\n\
         BUILD ARG   VALUE   DESCRIPTION\nVERSION     1.2     is what is built\n\
         MODE        slow\n\n"
    );
    let busybox = bases::busybox()
        .dockerfile("RUN --mount=type=secret,id=token,required=true --mount=type=ssh true\n");
    let other = home.context("other");
    other.dockerfile(&busybox);
    let output = home.build(&other, &["--call", "outline"]);
    assert_eq!(
        output.success().stdout(),
        "SECRET   REQUIRED\ntoken    true\n\nSSH       REQUIRED\ndefault\n\n"
    );
    let output = home.build(&listed, &["--call=outline,format=json", "--target=build"]);
    let json = output.success().json();
    assert_eq!(json["name"], "build");
    assert_eq!(json["args"][0]["name"], "VERSION");
    assert_eq!(json["args"][0]["location"]["ranges"][0]["start"]["line"], 2);
    let output = home.build(&listed, &["--call=targets,format=json"]);
    assert_eq!(output.success().json()["targets"][1]["default"], true);
    let output = home.build(&listed, &["--call=subrequests.describe"]);
    assert!(
        output
            .success()
            .stdout()
            .starts_with("NAME                 VERSION")
    );
    assert!(
        !home.store().join("FORMAT").exists(),
        "looking has made a store"
    );
}
