//! `ashlar run`.

use std::fs;

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::judge;
use ashlar_test_support::registry::Registry;

/// A home with an image `tool` whose configuration says everything that `run` heeds.
fn with_image() -> TestHome {
    let home = TestHome::sub();
    let context = home.context("image");
    context.dockerfile(&bases::busybox().dockerfile(
        "ENV GREETING=hello\nWORKDIR /srv\nRUN chown app /srv\nUSER app\n\
         ENTRYPOINT [\"/bin/sh\", \"-c\"]\n\
         CMD [\"echo $GREETING from $(id -un) in $(pwd)\"]\n",
    ));
    home.build(&context, &["-t", "tool:1"]).success();
    home
}

#[test]
fn the_configuration_is_heeded() {
    let home = with_image();
    let output = home.ashlar(["run", "--rm", "tool:1"]).run();
    assert_eq!(output.success().stdout(), "hello from app in /srv\n");
    home.assert_clean();
}

#[test]
fn flags_and_a_command_change_it() {
    let home = with_image();
    let output = home
        .ashlar([
            "run",
            "--rm",
            "-e",
            "GREETING=bye",
            "-e",
            "FROM_HOST",
            "-w",
            "/etc",
            "-u",
            "33:33",
        ])
        .args([
            "tool:1",
            "echo $GREETING $FROM_HOST $(id -u):$(id -g) $(pwd)",
        ])
        .env("FROM_HOST", "passed")
        .run();
    assert_eq!(output.success().stdout(), "bye passed 33:33 /etc\n");
}

#[test]
fn the_exit_code_is_the_commands() {
    let home = with_image();
    for code in [0, 1, 2, 3, 42, 130, 255] {
        let command = format!("exit {code}");
        home.ashlar(["run", "--rm", "tool:1", &command])
            .run()
            .exit_code(code);
    }
    home.ashlar(["run", "--rm", "tool:1", "kill -TERM $$"])
        .run()
        .exit_code(143);
}

#[test]
fn input_and_both_outputs_are_passed_on() {
    let home = with_image();
    let output = home
        .ashlar(["run", "--rm", "-i", "tool:1", "cat; echo trouble >&2"])
        .input("some\0bytes\n")
        .run();
    assert_eq!(output.success().stdout_bytes(), b"some\0bytes\n");
    assert_eq!(output.stderr(), "trouble\n");
    let without = home
        .ashlar(["run", "--rm", "tool:1", "cat"])
        .input("for nobody")
        .run();
    assert_eq!(without.success().stdout(), "");
}

#[test]
fn directories_are_bound_and_may_be_read_only() {
    let home = with_image();
    let shared = home.directory("shared");
    home.file(&shared.join("in"), "from the host");
    let volume = format!("{}:/mnt", shared.display());
    let script = "cat /mnt/in > /mnt/out && cat /mnt/out";
    let output = home
        .ashlar(["run", "--rm", "-u", "0", "-v", &volume, "tool:1", script])
        .run();
    assert_eq!(output.success().stdout(), "from the host");
    assert_eq!(
        fs::read_to_string(shared.join("out")).unwrap(),
        "from the host"
    );
    let read_only = format!("{volume}:ro");
    let output = home
        .ashlar(["run", "--rm", "-u", "0", "-v", &read_only, "tool:1"])
        .arg("cat /mnt/in && ! touch /mnt/new && echo kept")
        .run();
    assert!(output.success().stdout().ends_with("kept\n"), "{output}");
    assert!(!shared.join("new").exists());
}

#[test]
fn an_image_is_not_changed_by_its_runs() {
    let home = with_image();
    home.ashlar(["run", "--rm", "-u", "0", "tool:1", "rm -r /srv; touch /new"])
        .run()
        .success();
    let output = home
        .ashlar(["run", "--rm", "tool:1", "ls -d /srv /new"])
        .run();
    assert_eq!(output.stdout(), "/srv\n");
}

#[test]
fn layouts_and_registries_are_run_from_directly() {
    let home = TestHome::sub();
    let registry = Registry::start();
    let base = bases::busybox();
    let reference = registry.reference("base:1");
    judge::skopeo_copy(&base.foreign_reference(), &format!("docker://{reference}"));
    for image in [base.reference(), reference] {
        let output = home.ashlar(["run", "--rm", &image, "echo", "here"]).run();
        assert_eq!(output.success().stdout(), "here\n");
    }
}

#[test]
fn what_is_not_there_is_an_error() {
    let home = with_image();
    home.ashlar(["run", "--rm", "tool:1", "nosuchprogram"])
        .run()
        .exit_code(127);
    let output = home
        .ashlar(["run", "--rm", &bases::busybox().reference(), "/no/such"])
        .run();
    output.stderr_has("/no/such");
    assert!(matches!(output.code(), Some(126 | 127)), "{output}");
    let output = home.ashlar(["run", "--rm", "127.0.0.1:1/nothing:1"]).run();
    output.exit_code(3).one_error();
    home.ashlar(["run"]).run().exit_code(2);
    home.assert_clean();
}

#[test]
fn a_terminal_is_given_when_asked_for() {
    let home = with_image();
    // `script` gives the command a terminal of its own.
    let line = format!(
        "{} run --rm -it tool:1 'test -t 0 && test -t 1 && echo on $(tty)'",
        ashlar_test_support::binary::ashlar().display()
    );
    let output = home
        .command("script")
        .args(["-qec", &line, "/dev/null"])
        .run();
    assert!(output.success().stdout().contains("on /dev/"), "{output}");
}
