//! What a failing step shows, and what it takes with it.

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::progress::End;

#[test]
fn the_last_output_the_dockerfile_lines_and_the_exit_code_are_shown() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile(
        "RUN true\n\nRUN for i in 1 2 3; do echo line $i; done; \\\n    echo complaint >&2; \\\n    \
         exit 7\nRUN echo never\n",
    ));
    let output = home.build(&context, &[]);
    output
        .exit_code(1)
        .stderr_has("exit code: 7")
        .stderr_has("Dockerfile:4");
    let stderr = output.stderr();
    let progress = output.progress();
    let lines = &progress.step("for i in 1 2 3").output;
    for line in ["line 1", "line 2", "line 3", "complaint"] {
        assert!(
            lines.iter().any(|own| own == line),
            "{line:?} is missing: {lines:?}"
        );
    }
    // After the steps comes the report: the output again, and the lines of the Dockerfile.
    let report = &stderr[stderr.rfind("ERROR: ").expect("no step failed")..];
    for shown in [
        "line 3",
        "complaint",
        "RUN for i in 1 2 3",
        "exit 7",
        "echo complaint",
    ] {
        assert!(
            report.contains(shown),
            "the report lacks {shown:?}:\n{report}"
        );
    }
    assert!(output.one_error().contains("exit code: 7"));
    assert!(
        progress
            .named("echo never")
            .iter()
            .all(|step| step.end != Some(End::Done))
    );
    home.assert_clean();
}

#[test]
fn a_complaint_is_shown_after_what_was_written_before_it() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(
        &bases::busybox()
            .dockerfile("ARG ROUND\nRUN seq 1 30; seq 31 40; echo complaint >&2; exit 1\n"),
    );
    // Both pipes are full when the builder looks: which comes first must not be left to chance.
    for round in 0..30 {
        let round = format!("ROUND={round}");
        let output = home.build(&context, &["--build-arg", &round]);
        output.exit_code(1).stderr_has(" > complaint\n------");
        let progress = output.progress();
        let lines = &progress.step("complaint").output;
        assert_eq!(lines.last().map(String::as_str), Some("complaint"));
    }
}

#[test]
fn a_signal_and_a_missing_program_are_told_as_such() {
    let cases = [
        ("RUN kill -9 $$\n", "137"),
        ("RUN [\"/no/such/program\"]\n", "/no/such/program"),
        ("RUN nosuchprogram\n", "127"),
        ("RUN [\"/etc/passwd\"]\n", "/etc/passwd"),
    ];
    for (instruction, told) in cases {
        let home = TestHome::sub();
        let context = home.context("context");
        context.dockerfile(&bases::busybox().dockerfile(instruction));
        home.build(&context, &[]).exit_code(1).stderr_has(told);
    }
}

#[test]
fn long_output_does_not_stop_the_step_and_the_last_lines_are_shown() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(
        &bases::busybox().dockerfile("RUN seq 1 200000; printf 'no newline'; exit 1\n"),
    );
    let output = home
        .ashlar(["build", "--progress", "quiet"])
        .arg(context.path())
        .run();
    output
        .exit_code(1)
        .stderr_has("200000")
        .stderr_has("no newline");
    assert!(output.stderr().len() < 20_000, "quiet is not quiet");
}

#[test]
fn a_failure_leaves_other_stages_their_work() {
    let home = TestHome::sub();
    let context = home.context("context");
    let busybox = bases::busybox().reference();
    let text = |command: &str| {
        format!(
            "FROM {busybox} AS good\nRUN sleep 2 && echo good > /good\n\
             FROM {busybox} AS bad\nRUN sleep 1 && {command} && echo > /bad\n\
             FROM {busybox}\nCOPY --from=good /good /\nCOPY --from=bad /bad /\n"
        )
    };
    context.dockerfile(&text("false"));
    home.build(&context, &[])
        .exit_code(1)
        .stderr_has("exit code: 1");
    context.dockerfile(&text("true"));
    let progress = home.build(&context, &[]).success().progress();
    let ran = progress.ran();
    assert!(
        !ran.iter().any(|ran| ran.starts_with("RUN sleep 2")),
        "the good stage ran again"
    );
    assert!(
        ran.iter().any(|ran| ran.starts_with("RUN sleep 1")),
        "{progress:#?}"
    );
}

#[test]
fn a_failure_in_a_stage_that_is_not_needed_is_none() {
    let home = TestHome::sub();
    let context = home.context("context");
    let busybox = bases::busybox().reference();
    context.dockerfile(&format!(
        "FROM {busybox} AS bad\nRUN false\nFROM {busybox}\nRUN true\n"
    ));
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&["RUN true"]);
}

#[test]
fn errors_of_the_dockerfile_show_its_place() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("FROM scratch\n\nCOPPY a b\n");
    let output = home.build(&context, &[]);
    output
        .exit_code(1)
        .stderr_has("Dockerfile:3")
        .stderr_has("COPPY");
    output.stderr_has("COPY");
    output.one_error();
}
