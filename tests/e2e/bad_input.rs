//! Bad input and bad machines: one clear error, an exit code by class, nothing lost in the store.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ashlar_test_support::bases;
use ashlar_test_support::command::{Output, TestCommand};
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::judge;
use ashlar_test_support::layout::Layout;
use ashlar_test_support::registry::{Fault, Proxy, Registry, free_port};

/// The build failed: the Dockerfile or the context is wrong.
const FAILED: i32 = 1;
/// The command line is wrong.
const USAGE: i32 = 2;
/// The machine or a server does not play along.
const ENVIRONMENT: i32 = 3;

/// A home in which a good image was built, which must stay as it is.
struct Guarded {
    home: TestHome,
    good: Context,
}

impl Guarded {
    fn new() -> Self {
        let home = TestHome::sub();
        let good = home.context("good");
        good.dockerfile(&bases::busybox().dockerfile("RUN echo good > /good\nCOPY f /f\n"))
            .file("f", "good");
        home.build(&good, &["-t", "good:1"]).success();
        Self { home, good }
    }

    /// Asserts that nothing was lost and nothing is left.
    #[track_caller]
    fn assert_whole(&self) {
        let again = self.home.build(&self.good, &["-t", "good:1"]);
        again.success().progress().assert_ran(&[]);
        let output = self
            .home
            .ashlar(["run", "--rm", "good:1", "cat", "/good"])
            .run();
        assert_eq!(output.success().stdout(), "good\n");
        self.home.assert_clean();
    }

    /// Builds a Dockerfile that must fail with one error that has some words.
    #[track_caller]
    fn refuses(&self, dockerfile: &str, code: i32, words: &[&str]) {
        let context = self.home.context("bad");
        context
            .dockerfile(dockerfile)
            .file("f", "f")
            .file("d/f", "f");
        let output = self.home.build(&context, &[]);
        refused(&output, code, words);
    }
}

/// Asserts that a command failed in its class, with one error and words that help.
#[track_caller]
fn refused(output: &Output, code: i32, words: &[&str]) {
    output.exit_code(code).one_error();
    for word in words {
        output.stderr_has(word);
    }
}

#[test]
fn dockerfiles_that_are_none() {
    let guarded = Guarded::new();
    let busybox = bases::busybox().reference();
    let cases: Vec<(String, &[&str])> = vec![
        (String::new(), &["empty"]),
        ("# nothing\n\n".into(), &["no instructions"]),
        ("ARG A=1\n".into(), &["stage"]),
        ("RUN true\n".into(), &["FROM"]),
        ("FROM scratch\nFORM x\n".into(), &["FORM", "Dockerfile:2"]),
        ("FROM scratch\nCOPY f\n".into(), &["COPY", "Dockerfile:2"]),
        ("FROM scratch\nENV\n".into(), &["ENV", "Dockerfile:2"]),
        ("FROM scratch\nCOPY --nosuch=1 f /\n".into(), &["nosuch"]),
        ("FROM scratch\nCOPY --chmod=9 f /\n".into(), &["chmod"]),
        ("FROM scratch\nEXPOSE 99999999\n".into(), &["99999999"]),
        (
            "FROM scratch\nSTOPSIGNAL SIGNOTHING\n".into(),
            &["SIGNOTHING"],
        ),
        (
            "FROM scratch\nHEALTHCHECK --interval=x CMD y\n".into(),
            &["interval"],
        ),
        ("FROM scratch\nSHELL not json\n".into(), &["SHELL"]),
        ("FROM scratch\nCOPY <<EOF /x\nnever ends\n".into(), &["EOF"]),
        (
            "FROM scratch\nLABEL a=${b\n".into(),
            &["${b", "missing '}'"],
        ),
        ("FROM scratch AS a b\n".into(), &["FROM"]),
        ("FROM ${NOTHING}\n".into(), &["FROM"]),
        ("FROM lower/Case\n".into(), &["lower/Case"]),
        (
            format!("FROM {busybox}\nRUN --mount=type=nosuch true\n"),
            &["nosuch"],
        ),
        (format!("FROM {busybox}\nRUN []\n"), &["RUN"]),
    ];
    for (dockerfile, words) in &cases {
        guarded.refuses(dockerfile, FAILED, words);
    }
    guarded.assert_whole();
}

#[test]
fn files_and_stages_that_are_not_there() {
    let guarded = Guarded::new();
    let busybox = bases::busybox().reference();
    let cases: Vec<(String, &[&str])> = vec![
        (
            "FROM scratch\nCOPY missing /\n".into(),
            &["missing", "not found", "Dockerfile:2"],
        ),
        (
            "FROM scratch\nCOPY d/missing f /x/\n".into(),
            &["d/missing", "not found"],
        ),
        (
            "FROM scratch\nADD missing /\n".into(),
            &["missing", "not found"],
        ),
        ("FROM scratch\nCOPY --from=7 f /\n".into(), &["7"]),
        ("FROM scratch\nCOPY --from=0 f /\n".into(), &["0"]),
        (
            "FROM scratch AS a\nCOPY --from=b f /\nFROM scratch AS b\nCOPY f /\nFROM a\n".into(),
            &["b"],
        ),
        (
            format!("FROM {busybox} AS a\nFROM scratch\nCOPY --from=a /none /\n"),
            &["none"],
        ),
        (
            "FROM oci-layout:///no/such/layout:1\n".into(),
            &["/no/such/layout"],
        ),
        (
            format!("FROM {busybox}\nCOPY --chown=nosuch f /\nUSER nosuch\nRUN true\n"),
            &["nosuch"],
        ),
    ];
    for (dockerfile, words) in &cases {
        guarded.refuses(dockerfile, FAILED, words);
    }
    guarded.assert_whole();
}

#[test]
fn a_server_that_does_not_answer_is_no_mistake_of_the_dockerfile() {
    let guarded = Guarded::new();
    guarded.refuses(
        "FROM scratch\nADD http://127.0.0.1:1/x /\n",
        ENVIRONMENT,
        &["ADD", "http://127.0.0.1:1/x"],
    );
    guarded.assert_whole();
}

#[test]
fn command_lines_that_make_no_sense() {
    let guarded = Guarded::new();
    let build = |arguments: &[&str]| {
        guarded
            .home
            .ashlar(["build"])
            .args(arguments)
            .arg(guarded.good.path())
            .run()
    };
    let cases: [(&[&str], &str); 8] = [
        (&["--nosuch"], "--nosuch"),
        (&["-t", "Not A Name"], "Not A Name"),
        (&["-o", "type=nosuch"], "nosuch"),
        (&["-o", "type=oci,tar=false"], "dest"),
        (&["-o", "type=oci,dest=x,compression=nosuch"], "nosuch"),
        (&["--platform", "not/a/plat/form"], "not/a/plat/form"),
        (&["--jobs", "many"], "many"),
        (&["--build-context", "nameonly"], "nameonly"),
    ];
    for (arguments, word) in cases {
        refused(&build(arguments), USAGE, &[word]);
    }
    let output = guarded.home.ashlar(["build", "/no/such/context"]).run();
    output.stderr_has("/no/such/context").one_error();
    assert!(matches!(output.code(), Some(FAILED | USAGE)), "{output}");
    let output = build(&["-f", "/no/such/Dockerfile"]);
    output.stderr_has("/no/such/Dockerfile").one_error();
    assert!(matches!(output.code(), Some(FAILED | USAGE)), "{output}");
    guarded.assert_whole();
}

#[test]
fn files_of_the_context_that_may_not_be_read() {
    let guarded = Guarded::new();
    let context = guarded.home.context("closed");
    context
        .dockerfile("FROM scratch\nCOPY f /\n")
        .file("f", "f")
        .mode("f", 0o000);
    refused(
        &guarded.home.build(&context, &[]),
        FAILED,
        &["f", "ermission denied"],
    );
    guarded.assert_whole();
}

#[test]
fn registries_that_misbehave() {
    let registry = Registry::start();
    let target = format!("docker://{}", registry.reference("base:1"));
    judge::skopeo_copy(&bases::busybox().foreign_reference(), &target);
    for (fault, words) in [
        (Fault::Status(401), &["login"][..]),
        (Fault::Status(403), &["denies", "login"]),
        (Fault::Status(404), &["base:1"]),
        (Fault::Status(500), &["500"]),
        (Fault::HalfBlob, &["sha256:"]),
        (Fault::WrongDigest, &["digest", "sha256:"]),
    ] {
        let proxy = Proxy::before(registry.port(), fault);
        // A store with nothing in it: what is there is not asked of a registry.
        let home = TestHome::sub();
        let context = home.context("context");
        context.dockerfile(&format!("FROM {}\nRUN true\n", proxy.reference("base:1")));
        let output = home.build(&context, &[]);
        // That there is no such image is the Dockerfile's fault; all else is the registry's.
        let code = if fault == Fault::Status(404) {
            FAILED
        } else {
            ENVIRONMENT
        };
        refused(&output, code, words);
        output.stderr_has(&proxy.host());
        assert!(
            output.elapsed().as_secs() < 60,
            "{fault:?} took {:?}",
            output.elapsed()
        );
        context.dockerfile(&format!(
            "FROM {}\nRUN true\n",
            registry.reference("base:1")
        ));
        home.build_tree(&context, &[])
            .at("bin/sh")
            .links_to("busybox");
        home.assert_clean();
    }
}

#[test]
fn a_registry_that_is_down() {
    let guarded = Guarded::new();
    let nobody = format!("127.0.0.1:{}", free_port());
    guarded.refuses(&format!("FROM {nobody}/base:1\n"), ENVIRONMENT, &[&nobody]);
    guarded.assert_whole();
}

#[test]
fn a_registry_that_takes_nothing_fails_the_push_and_keeps_the_image() {
    let guarded = Guarded::new();
    let registry = Registry::start();
    for fault in [Fault::Status(401), Fault::Status(500)] {
        let proxy = Proxy::before(registry.port(), fault);
        let name = proxy.reference("target:1");
        let output = guarded.home.build(&guarded.good, &["-t", &name, "--push"]);
        refused(&output, ENVIRONMENT, &[&proxy.host()]);
    }
    guarded.assert_whole();
}

/// Something that befalls a layout.
type Damage = fn(&Path);

#[test]
fn layouts_that_are_damaged() {
    let guarded = Guarded::new();
    let damage: [(&str, Damage); 4] = [
        ("half a layer", |layout| {
            let path = layer_of(layout);
            let length = fs::metadata(&path).unwrap().len();
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(length / 2)
                .unwrap();
        }),
        ("another layer", |layout| {
            let path = layer_of(layout);
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("no layer", |layout| {
            fs::remove_file(layer_of(layout)).unwrap();
        }),
        ("no index", |layout| {
            fs::write(layout.join("index.json"), "{").unwrap();
        }),
    ];
    for (name, damage) in damage {
        let layout = guarded.home.path(&name.replace(' ', "-"));
        TestCommand::root("cp")
            .arg("-r")
            .args([bases::busybox().layout(), &layout])
            .run()
            .success();
        damage(&layout);
        // Another name than the good base has, and nothing of that is in the store yet.
        let fresh = TestHome::sub();
        let context = fresh.context("bad");
        context.dockerfile(&format!(
            "FROM oci-layout://{}:latest\nRUN true\n",
            layout.display()
        ));
        let output = fresh.build(&context, &[]);
        assert!(
            matches!(output.code(), Some(FAILED | ENVIRONMENT)),
            "{name}: {output}"
        );
        output.one_error();
        let shown = layout.display().to_string();
        assert!(
            output.stderr().contains(&shown) || output.stderr().contains("sha256:"),
            "{output}"
        );
        // And what is whole works in the same store.
        context.dockerfile(&bases::busybox().dockerfile("RUN true\n"));
        fresh.build(&context, &[]).success();
        fresh.assert_clean();
    }
    guarded.assert_whole();
}

fn layer_of(layout: &Path) -> std::path::PathBuf {
    let layout = Layout::open(layout);
    layout.blob_path(&layout.layers()[0])
}

/// Mounts a small file system as a store; it is unmounted with the home.
fn small_store(home: &TestHome, megabytes: u32) {
    let (uid, gid) = home.user().ids();
    TestCommand::root("mount")
        .args(["-t", "tmpfs", "-o"])
        .arg(format!("size={megabytes}m,mode=0755,uid={uid},gid={gid}"))
        .arg("none")
        .arg(home.store())
        .run()
        .success();
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let home = TestHome::sub();
    small_store(&home, 40);
    let good = home.context("good");
    good.dockerfile(&bases::busybox().dockerfile("RUN echo good > /good\n"));
    home.build(&good, &["-t", "good:1"]).success();
    let big = home.context("big");
    big.file("big", vec![7; 60 << 20]);
    let cases = [
        // Read by a later step, so it must be in the store.
        ("COPY big /big\nRUN wc -c /big\n", ENVIRONMENT),
        // Filled by the command: it fails, as it may.
        ("RUN dd if=/dev/zero of=/big bs=1M count=60\n", FAILED),
    ];
    for (instructions, code) in cases {
        big.dockerfile(&bases::busybox().dockerfile(instructions));
        let output = home.build(&big, &[]);
        refused(&output, code, &["o space left"]);
        home.build(&good, &["-t", "good:1"])
            .success()
            .progress()
            .assert_ran(&[]);
        let other = home.context("other");
        other.dockerfile(&bases::busybox().dockerfile(&format!("RUN echo {code} > /other\n")));
        home.build(&other, &[]).success();
    }
    let output = home.ashlar(["run", "--rm", "good:1", "cat", "/good"]).run();
    assert_eq!(output.success().stdout(), "good\n");
}

#[test]
fn a_full_disk_for_the_output_is_told() {
    let home = TestHome::sub();
    let small = home.directory("small");
    let (uid, gid) = home.user().ids();
    TestCommand::root("mount")
        .args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size=1m,mode=0755,uid={uid},gid={gid}"),
            "none",
        ])
        .arg(&small)
        .run()
        .success();
    let context = home.context("context");
    // Noise, which no compression makes small.
    let noise: Vec<u8> = (0..1_000_000_u32)
        .flat_map(|n| {
            n.wrapping_mul(2_654_435_761)
                .rotate_left(n % 31)
                .to_le_bytes()
        })
        .collect();
    context
        .dockerfile("FROM scratch\nCOPY noise /\n")
        .file("noise", noise);
    for output in ["type=oci,dest=", "type=tar,dest=", "type=docker,dest="] {
        let spec = format!("{output}{}", small.join("out.tar").display());
        refused(
            &home.build(&context, &["-o", &spec]),
            ENVIRONMENT,
            &["o space left", "out.tar"],
        );
        assert_eq!(
            fs::read_dir(&small).unwrap().count(),
            0,
            "half an output is left"
        );
    }
}

#[test]
fn a_store_that_cannot_be_written() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let build = |store: &Path| {
        home.build_command(&context, &[])
            .env("ASHLAR_HOME", store)
            .run()
    };
    let closed = home.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    refused(
        &build(&closed),
        ENVIRONMENT,
        &["closed", "ermission denied"],
    );
    let file = home.path("file");
    home.file(&file, "");
    refused(&build(&file), ENVIRONMENT, &["file"]);
    refused(
        &build(Path::new("/proc/store")),
        ENVIRONMENT,
        &["/proc/store"],
    );
    home.build(&context, &[]).success();
}

#[test]
fn an_output_that_cannot_be_written() {
    let guarded = Guarded::new();
    let output = guarded
        .home
        .build(&guarded.good, &["-o", "type=oci,dest=/no/such/place/x.tar"]);
    output.stderr_has("/no/such/place").one_error();
    assert!(
        matches!(output.code(), Some(ENVIRONMENT | USAGE | FAILED)),
        "{output}"
    );
    guarded.assert_whole();
}
