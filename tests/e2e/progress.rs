//! `--progress`: what is shown, and where.

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;

fn build(mode: &str) -> (TestHome, ashlar_test_support::command::Output) {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(
        &bases::busybox().dockerfile(
            "RUN echo said && echo complained >&2 && printf unended\nCOPY Dockerfile /\n",
        ),
    );
    let output = home
        .ashlar(["build", "-t", "made", "--progress", mode])
        .arg(context.path())
        .run();
    output.success();
    (home, output)
}

#[test]
fn plain_tells_each_step_with_its_output_and_end() {
    let (_home, output) = build("plain");
    let progress = output.progress();
    progress.assert_ran(&["RUN echo said", "COPY Dockerfile"]);
    // Lines of the two streams may come in any order.
    let mut lines = progress.step("RUN echo said").output.clone();
    lines.sort();
    assert_eq!(lines, ["complained", "said", "unended"]);
    assert_eq!(output.stdout(), "");
}

#[test]
fn auto_is_plain_where_there_is_no_terminal() {
    let (_home, output) = build("auto");
    output
        .progress()
        .assert_ran(&["RUN echo said", "COPY Dockerfile"]);
    assert!(!output.stderr().contains('\x1b'), "{output}");
}

#[test]
fn json_is_one_object_a_line() {
    let (_home, output) = build("json");
    let stderr = output.stderr();
    assert!(stderr.lines().count() > 2, "{output}");
    for line in stderr.lines() {
        let value: serde_json::Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{line:?} is not JSON: {error}"));
        assert!(value.is_object(), "{line}");
    }
    assert!(stderr.contains("RUN echo said"), "{output}");
}

#[test]
fn quiet_says_nothing() {
    let (home, output) = build("quiet");
    assert_eq!(output.stderr(), "");
    let listed = home.ashlar(["images", "--format", "json"]).run();
    assert_eq!(listed.json_lines().len(), 1, "{listed}");
}

#[test]
fn a_terminal_is_left_as_it_was() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("RUN echo said; sleep 1\n"));
    let line = format!(
        "{} build --progress tty {}",
        ashlar_test_support::binary::ashlar().display(),
        context.path().display()
    );
    let output = home
        .command("script")
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "xterm")
        .run();
    let shown = output.success().stdout();
    assert!(shown.contains("RUN echo said"), "{output}");
    let hidden = shown.matches("\x1b[?25l").count();
    assert_eq!(
        shown.matches("\x1b[?25h").count().min(1),
        hidden.min(1),
        "the cursor stays hidden"
    );
}

#[test]
fn an_unknown_mode_is_a_usage_error() {
    let home = TestHome::sub();
    home.ashlar(["build", "--progress", "fancy", "."])
        .run()
        .exit_code(2)
        .stderr_has("fancy");
}
