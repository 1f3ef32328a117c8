//! `ashlar build`: its inputs, its options, what it prints.

use std::fs;

use ashlar_test_support::bases;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::layout::{Layout, text};

const ANY_DIGEST: usize = "sha256:".len() + 64;

fn is_digest(text: &str) -> bool {
    text.len() == ANY_DIGEST
        && text.starts_with("sha256:")
        && text[7..]
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[test]
fn a_scratch_image_has_a_sound_configuration() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY greeting /etc/greeting\n")
        .file("greeting", "hello");
    let layout = home.build_layout(&context, &[]);
    let manifest = layout.manifest();
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.oci.image.config.v1+json"
    );
    let config = layout.config();
    assert_eq!(config["os"], "linux");
    let machine = TestCommand::root("uname").arg("-m").text();
    let architecture = match machine.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    assert_eq!(config["architecture"], architecture);
    assert_eq!(config["config"]["WorkingDir"], "/");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(config["config"]["Env"], serde_json::json!([path]));
    assert_eq!(config["rootfs"]["type"], "layers");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    assert_eq!(config["history"].as_array().unwrap().len(), 1);
    let created_by = text(&config["history"][0]["created_by"]);
    assert!(
        created_by.starts_with("COPY greeting /etc/greeting"),
        "{created_by}"
    );
}

#[test]
fn a_build_without_output_stays_in_the_store_under_its_tags() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY f /\n")
        .file("f", "x");
    home.build(&context, &["-t", "one:1", "-t", "localhost:5000/two"])
        .success();
    let images = home.ashlar(["images", "--format", "json"]).run();
    images.success();
    let listed: String = images
        .json_lines()
        .iter()
        .map(ToString::to_string)
        .collect();
    for name in ["one", "localhost:5000/two", "latest"] {
        assert!(listed.contains(name), "{name} is not in {listed}");
    }
}

#[test]
fn quiet_prints_the_digest_and_nothing_else() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY f /\n")
        .file("f", "x");
    let output = home.ashlar(["build", "-q"]).arg(context.path()).run();
    output.success();
    assert!(is_digest(output.stdout().trim_end()), "{output}");
    assert_eq!(output.stderr(), "");
}

#[test]
fn the_image_id_and_the_metadata_are_written_to_files() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY f /\n")
        .file("f", "x");
    let (id, metadata) = (home.path("id"), home.path("metadata.json"));
    let layout = home.path("layout");
    home.build_command(&context, &["-t", "named:1"])
        .args([
            "-o",
            &format!("type=oci,tar=false,dest={}", layout.display()),
        ])
        .args(["--iidfile".as_ref(), id.as_os_str()])
        .args(["--metadata-file".as_ref(), metadata.as_os_str()])
        .run()
        .success();
    let layout = Layout::open(layout);
    let config = text(&layout.manifest()["config"]["digest"]);
    assert_eq!(fs::read_to_string(id).unwrap(), config);
    let metadata: serde_json::Value = serde_json::from_slice(&fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], config);
    assert_eq!(metadata["containerimage.digest"], layout.manifest_digest());
    assert!(
        metadata["image.name"].as_str().unwrap().contains("named:1"),
        "{metadata}"
    );
}

#[test]
fn the_same_input_gives_the_same_image_in_another_store() {
    let build = || {
        let home = TestHome::sub();
        let context = home.context("context");
        context
            .dockerfile(&bases::busybox().dockerfile("COPY f /f\nRUN echo made > /made\n"))
            .file("f", "x")
            .modified("f", 1_500_000_000);
        let config = home.build_layout(&context, &[]).config();
        (
            config["rootfs"]["diff_ids"][1].clone(),
            config["config"].clone(),
        )
    };
    assert_eq!(build(), build());
}

#[test]
fn a_dockerfile_may_come_from_standard_input() {
    let home = TestHome::sub();
    let output = home
        .ashlar(["build", "--progress", "plain", "-t", "stdin:1", "-"])
        .input("FROM scratch\nLABEL from=stdin\nWORKDIR /made\n")
        .run();
    output.success();
    let inspected = home.ashlar(["inspect", "stdin:1"]).run();
    assert_eq!(
        inspected.success().json()[0]["Config"]["Labels"]["from"],
        "stdin"
    );
}

#[test]
fn a_context_may_come_from_standard_input_as_a_tar() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY --chmod=640 d /d\n")
        .file("d/f", "in a tar")
        // As in BuildKit, nobody heeds it in an archive.
        .file(".dockerignore", "d\n");
    for compression in ["--no-auto-compress", "--gzip"] {
        let tar = home.path("context.tar");
        TestCommand::root("tar")
            .args(["--create", compression, "--file"])
            .arg(&tar)
            .arg("--directory")
            .arg(context.path())
            .arg(".")
            .run()
            .success();
        let output = home.path("out.tar");
        home.ashlar(["build", "--progress", "plain", "-o"])
            .arg(format!("type=tar,dest={}", output.display()))
            .arg("-")
            .input_file(&tar)
            .run()
            .success();
        let tree = ashlar_test_support::judge::gnu_tar::read(&output);
        tree.at("d/f").has_content("in a tar").is_owned(0o640, 0, 0);
    }
}

#[test]
fn another_dockerfile_may_be_named_inside_and_outside_of_the_context() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .file(
            "docker/Other",
            "FROM scratch\nLABEL which=inside\nCOPY f /\n",
        )
        .file("f", "x");
    let inside = context.path().join("docker/Other").display().to_string();
    let labels = home.build_layout(&context, &["-f", &inside]).config();
    assert_eq!(labels["config"]["Labels"]["which"], "inside");
    let outside = home.path("Elsewhere");
    home.file(&outside, "FROM scratch\nLABEL which=outside\nCOPY f /\n");
    let labels = home
        .build_layout(&context, &["-f", &outside.display().to_string()])
        .config();
    assert_eq!(labels["config"]["Labels"]["which"], "outside");
}

#[test]
fn a_target_is_built_and_what_it_does_not_need_is_not() {
    let home = TestHome::sub();
    let context = home.context("context");
    let busybox = bases::busybox().reference();
    context.dockerfile(&format!(
        "FROM {busybox} AS wanted\nRUN echo wanted\n\
         FROM {busybox} AS unneeded\nRUN echo unneeded && false\n\
         FROM wanted\nRUN echo last\n"
    ));
    let output = home.build(&context, &["--target", "wanted"]);
    output.success().progress().assert_ran(&["RUN echo wanted"]);
    let output = home.build(&context, &[]);
    output.success().progress().assert_ran(&["RUN echo last"]);
    let output = home.build(&context, &["--target", "wnated"]);
    output.exit_code(1).stderr_has("wnated");
}

#[test]
fn build_arguments_come_from_the_command_line_and_the_environment() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(
        "ARG VERSION=none\nFROM scratch\nARG VERSION\nARG TOKEN=default\nARG KEPT=kept\n\
         LABEL version=$VERSION token=$TOKEN kept=$KEPT\n",
    );
    let directory = home.path("out");
    home.build_command(
        &context,
        &["--build-arg", "VERSION=2", "--build-arg", "TOKEN"],
    )
    .args([
        "-o",
        &format!("type=oci,tar=false,dest={}", directory.display()),
    ])
    .env("TOKEN", "from the environment")
    .run()
    .success();
    assert_eq!(
        Layout::open(directory).config()["config"]["Labels"],
        serde_json::json!({
            "version": "2", "token": "from the environment", "kept": "kept"
        })
    );
}

#[test]
fn labels_of_the_command_line_win() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("FROM scratch\nLABEL a=file b=file\n");
    let layout = home.build_layout(&context, &["--label", "b=line", "--label", "c=line=x"]);
    assert_eq!(
        layout.config()["config"]["Labels"],
        serde_json::json!({"a": "file", "b": "line", "c": "line=x"})
    );
}

#[test]
fn a_platform_may_be_asked_for() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("FROM scratch\nARG TARGETPLATFORM\nLABEL for=$TARGETPLATFORM\n");
    let config = home
        .build_layout(&context, &["--platform", "linux/arm64"])
        .config();
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(config["config"]["Labels"]["for"], "linux/arm64");
}

#[test]
fn named_contexts_are_directories_layouts_and_replacements_of_stages() {
    let home = TestHome::sub();
    let context = home.context("context");
    let more = home.context("more");
    more.file("from-more", "more");
    context.dockerfile(
        "FROM base AS start\nCOPY --from=more from-more /from-more\n\
         FROM start\nCOPY --from=replaced / /replaced/\n",
    );
    let options = [
        "--build-context".to_owned(),
        format!("base=oci-layout://{}", bases::busybox().layout().display()),
        "--build-context".to_owned(),
        format!("more={}", more.path().display()),
        "--build-context".to_owned(),
        format!("replaced={}", more.path().display()),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let tree = home.build_tree(&context, &options);
    tree.at("bin/sh").links_to("busybox");
    tree.at("from-more").has_content("more");
    tree.at("replaced/from-more").has_content("more");
}

#[test]
fn ignored_files_are_not_copied() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY . /all/\n")
        .file(
            ".dockerignore",
            "# nothing of these\n*.log\nnode_modules\n!keep.log\n**/*.tmp\n",
        )
        .file("a.log", "")
        .file("keep.log", "")
        .file("node_modules/x/y", "")
        .file("deep/er/b.tmp", "")
        .file("deep/er/c.log", "");
    let tree = home.build_tree(&context, &[]);
    let names: Vec<&str> = tree
        .names()
        .into_iter()
        .filter_map(|name| name.strip_prefix("all/"))
        .collect();
    let expected = [
        ".dockerignore",
        "Dockerfile",
        "deep",
        "deep/er",
        "deep/er/c.log",
        "keep.log",
    ];
    assert_eq!(names, expected);

    // One that belongs to the Dockerfile is used instead.
    context.file("Dockerfile.dockerignore", "deep\n");
    let tree = home.build_tree(&context, &[]);
    assert!(tree.get("all/a.log").is_some() && tree.get("all/deep").is_none());
}

#[test]
fn a_context_with_an_unreadable_file_that_nobody_asks_for_builds() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY readable /\n")
        .file("readable", "x")
        .file("secret/key", "x")
        .mode("secret", 0o000);
    home.build_tree(&context, &[])
        .at("readable")
        .has_content("x");
}

#[test]
fn legacy_flags_of_docker_are_accepted() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("FROM scratch\nLABEL a=b\n");
    let config = home
        .build_layout(&context, &["--rm", "--force-rm", "--compress"])
        .config();
    assert_eq!(config["config"]["Labels"]["a"], "b");
}
