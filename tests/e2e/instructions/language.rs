//! The language around instructions: frontends, targets, platforms, triggers and contexts by name.

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;
use serde_json::json;

#[test]
fn frontends_of_the_language_are_built_in_and_others_refused() {
    let home = TestHome::sub();
    let context = home.context("context");
    for image in [
        "docker/dockerfile:1",
        "docker.io/docker/dockerfile-upstream:master-labs",
    ] {
        context.dockerfile(&format!("# syntax={image}\nFROM scratch\nENV A=1\n"));
        home.build(&context, &[]).success();
    }
    let text = "# check=skip=all\n# syntax=hub.example.com/other:2 --x\nthis is no Dockerfile\n";
    context.dockerfile(text);
    let refused = home.build(&context, &[]);
    refused.exit_code(1);
    let error = refused.one_error();
    assert!(
        error.contains("the frontend hub.example.com/other:2 is not supported"),
        "{error}"
    );
    refused.stderr_has("   2 | >>> # syntax=hub.example.com/other:2 --x");
    context.dockerfile("# syntax=other/frontend\nFROM scratch\nENV A=1\n");
    home.build(&context, &["--build-arg", "BUILDKIT_SYNTAX=dockerfile.v0"])
        .success();
    context.dockerfile("FROM scratch\nENV A=1\n");
    home.build(
        &context,
        &["--build-arg", "BUILDKIT_SYNTAX=other/frontend:1"],
    )
    .exit_code(1)
    .stderr_has("the frontend other/frontend:1 is not supported");
}

#[test]
fn the_escape_directive_holds_for_the_whole_file() {
    let home = TestHome::sub();
    let context = home.context("context");
    let busybox = bases::busybox().dockerfile(
        "ENV P=C:\\dir Q=`$P\nCOPY <<E /f\n$P `x \\$P\nE\nRUN echo \"$P $Q\" `\n  > /out\n",
    );
    context.dockerfile(&format!("# escape=`\n{busybox}"));
    assert_eq!(home.build_text(&context, "/out", &[]), "C:\\dir $P\n");
    assert_eq!(home.build_text(&context, "/f", &[]), "C:\\dir `x $P\n");
}

#[test]
fn a_byte_order_mark_and_crlf_do_no_harm() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("\u{feff}# escape=`\r\nFROM scratch\r\nENV A=1 `\r\n  B=2\r\n");
    let config = home.build_layout(&context, &[]).config();
    let variables = config["config"]["Env"].as_array().unwrap();
    assert_eq!(variables[1..], [json!("A=1"), json!("B=2")]);
}

#[test]
fn a_step_has_the_host_name_that_is_asked_for() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("RUN hostname > /out\n"));
    assert_eq!(home.build_text(&context, "/out", &[]), "buildkitsandbox\n");
    let options = ["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=builder.example"];
    assert_eq!(
        home.build_text(&context, "/out", &options),
        "builder.example\n"
    );
}

#[test]
fn arguments_that_cannot_be_done_are_refused_and_those_without_meaning_warned_of() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("FROM scratch\nENV A=1\n");
    let with = |argument: &str| home.build(&context, &["--build-arg", argument]);
    with("BUILDKIT_DISABLE_FILEOP=1")
        .exit_code(1)
        .stderr_has("support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed");
    with("BUILDKIT_MULTI_PLATFORM=1")
        .exit_code(1)
        .stderr_has("BUILDKIT_MULTI_PLATFORM");
    with("BUILDKIT_INLINE_CACHE=1")
        .success()
        .stderr_has("BUILDKIT_INLINE_CACHE has no effect");
    with("BUILDKIT_BUILD_NAME=x").success();
}

#[test]
fn the_image_says_the_platform_that_was_asked_for() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(
        "FROM --platform=$BUILDPLATFORM scratch\nARG TARGETPLATFORM\nLABEL p=$TARGETPLATFORM\n",
    );
    let config = home
        .build_layout(&context, &["--platform", "linux/arm/v7"])
        .config();
    assert_eq!(config["os"], "linux");
    assert_eq!(config["architecture"], "arm");
    assert_eq!(config["variant"], "v7");
    assert_eq!(config["config"]["Labels"]["p"], "linux/arm/v7");
    let several = home.build(&context, &["--platform", "linux/amd64,linux/arm64"]);
    several.exit_code(2).stderr_has("one platform at a time");
}

#[test]
fn a_context_may_be_for_one_platform_only() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("FROM scratch\nCOPY --from=files /which /out\n");
    for name in ["arm", "all"] {
        home.context(name).file("which", name);
    }
    let options = |platform: &'static str| {
        [
            "--platform".to_owned(),
            platform.to_owned(),
            "--build-context".to_owned(),
            format!(
                "files::linux/arm64={}",
                home.context("arm").path().display()
            ),
            "--build-context".to_owned(),
            format!("files={}", home.context("all").path().display()),
        ]
    };
    for (platform, expected) in [("linux/arm64", "arm"), ("linux/amd64", "all")] {
        let options = options(platform);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        assert_eq!(home.build_text(&context, "/out", &options), expected);
    }
}

#[test]
fn triggers_of_an_image_may_copy_from_stages_and_hold_heredocs() {
    let home = TestHome::sub();
    let base = home.context("base");
    base.dockerfile(&bases::busybox().dockerfile(
        "ONBUILD COPY --from=tools /tool /tool\nONBUILD COPY <<E /text\n$WORD\nE\n\
             ONBUILD RUN <<E\ncat /tool /text > /out\nE\n",
    ));
    home.build(&base, &["-t", "parent:1"]).success();
    let context = home.context("context");
    context.dockerfile(
        "FROM scratch AS tools\nCOPY tool /\nFROM parent:1\nARG WORD=late\nRUN cat /out > /again\n",
    );
    context.file("tool", "the tool\n");
    // The trigger runs before WORD is declared.
    assert_eq!(home.build_text(&context, "/again", &[]), "the tool\n\n");
    let config = home.build_layout(&context, &[]).config();
    assert_eq!(config["config"].get("OnBuild"), None);
}

#[test]
fn mistakes_between_stages_are_told_with_buildkits_words() {
    let home = TestHome::sub();
    let context = home.context("context");
    for (text, message) in [
        (
            "FROM scratch AS Build\nFROM Build\n",
            "failed to parse stage name \"Build\"",
        ),
        (
            "FROM scratch AS a\nCOPY --from=b /x /x\nFROM scratch AS b\nCOPY --from=a /x /x\n",
            "circular dependency detected on stage: a",
        ),
        (
            "FROM scratch\nCOPY --from=3 /x /x\n",
            "invalid stage index 3",
        ),
        (
            "FROM scratch AS a\nCOPY --from=b /x /x\nFROM scratch AS b\nFROM a\n",
            "cannot copy from stage \"b\", it needs to be defined before current stage \"a\"",
        ),
    ] {
        context.dockerfile(text);
        let output = home.build(&context, &[]);
        output.exit_code(1);
        let error = output.one_error();
        assert!(error.contains(message), "{error}");
    }
    context.dockerfile("FROM scratch AS final\nENV A=1\n");
    home.build(&context, &["--target", "finale"])
        .exit_code(1)
        .stderr_has("target stage \"finale\" could not be found")
        .stderr_has("did you mean final?");
}
