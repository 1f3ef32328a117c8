//! A user without subordinate ids: builds with one owner work, and what needs others says so.

use std::fs;

use ashlar_test_support::bases;
use ashlar_test_support::command::Output;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::judge;
use ashlar_test_support::user::TestUser;

/// The start of a Dockerfile whose every file belongs to root: the busybox of the tests has an
/// owner more.
const START: &str = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";

fn context(home: &TestHome, rest: &str) -> Context {
    let context = home.context("context");
    let busybox = fs::read("/bin/busybox").unwrap();
    context
        .dockerfile(&format!("{START}{rest}"))
        .file("busybox", busybox)
        .mode("busybox", 0o755)
        .file("f", "content");
    context
}

/// Asserts that an error says why other owners cannot be had, and what to do.
fn explains(output: &Output) {
    assert!(matches!(output.code(), Some(1 | 3)), "{output}");
    let stderr = output.stderr().to_lowercase();
    for told in ["uidmap", "subordinate", "one user id"] {
        assert!(
            stderr.contains(told),
            "it does not tell of {told}: {output}"
        );
    }
}

#[test]
fn builds_that_need_one_owner_work() {
    let home = TestHome::new(TestUser::One);
    let context = context(
        &home,
        "COPY f /f\nRUN id -u > /id && mkdir -p /d && cat /f > /d/f && rm /f && ln -s x /l\n\
         FROM scratch\nCOPY --from=0 /id /d /\nCMD [\"x\"]\n",
    );
    let tree = home.build_tree(&context, &[]);
    tree.at("id").has_content("0\n").is_owned(0o644, 0, 0);
    tree.at("f").has_content("content");
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
    home.assert_clean();
}

#[test]
fn images_run() {
    let home = TestHome::new(TestUser::One);
    let context = context(&home, "WORKDIR /srv\n");
    home.build(&context, &["-t", "one:1"]).success();
    let output = home
        .ashlar(["run", "--rm", "one:1", "sh", "-c", "id -u; pwd; exit 4"])
        .run();
    output.exit_code(4);
    assert_eq!(output.stdout(), "0\n/srv\n");
    home.assert_clean();
}

#[test]
fn what_needs_another_owner_fails_and_says_why_and_what_to_do() {
    let home = TestHome::new(TestUser::One);
    let instructions = [
        "RUN touch /f && chown 33:33 /f\n",
        "USER 1000\nRUN true\n",
        "COPY --chown=5:6 f /f\nRUN true\n",
    ];
    for instruction in instructions {
        explains(&home.build(&context(&home, instruction), &[]));
    }
    home.assert_clean();
}

#[test]
fn owners_of_a_base_are_never_dropped_silently() {
    let home = TestHome::new(TestUser::One);
    let context = home.context("with-a-base");
    let layout = home.path("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());

    // Without a command nothing has to be unpacked, and the image has every owner.
    context.dockerfile(&bases::busybox().dockerfile("COPY Dockerfile /y\n"));
    home.build(&context, &["-o", &output]).success();
    let image = format!("oci:{}", layout.display());
    let owner = || judge::skopeo_and_tar(&image).tree.at("home/app").uid;
    assert_eq!(owner(), 1000);

    // A command cannot see them: that is said, as a refusal or as a warning.
    context.dockerfile(&bases::busybox().dockerfile("RUN echo x > /x\n"));
    fs::remove_dir_all(&layout).unwrap();
    let built = home.build(&context, &["-o", &output]);
    built
        .stderr_has("/home/app")
        .stderr_has("1000:1000")
        .stderr_has("one user id");
    if built.code() == Some(0) {
        built.stderr_has("warning: ");
        assert_eq!(owner(), 1000);
    } else {
        explains(&built);
    }
    home.assert_clean();
}
