//! Pulling from and pushing to real registries.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ashlar_test_support::bases;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::judge;
use ashlar_test_support::layout::{Layout, text};
use ashlar_test_support::registry::{
    Access, Authority, Fault, PASSWORD, Proxy, Registry, Request, USER,
};

/// A registry that has the busybox base as `base:1`.
fn with_base() -> Registry {
    let registry = Registry::start();
    let target = format!("docker://{}", registry.reference("base:1"));
    judge::skopeo_copy(&bases::busybox().foreign_reference(), &target);
    registry
}

/// A context that adds a file to an image.
fn on_top_of(home: &TestHome, base: &str) -> Context {
    let context = home.context("context");
    context
        .dockerfile(&format!("FROM {base}\nCOPY f /f\n"))
        .file("f", vec![b'f'; 50_000]);
    context
}

/// How many bytes of blobs were sent to a registry.
fn uploaded(requests: &[Request]) -> usize {
    let is_upload = |request: &&Request| request.path.contains("/blobs/uploads/");
    requests
        .iter()
        .filter(is_upload)
        .map(|request| request.received)
        .sum()
}

#[test]
fn a_base_is_pulled_by_tag_and_by_digest() {
    let registry = with_base();
    let manifest = judge::skopeo_manifest(&format!("docker://{}", registry.reference("base:1")));
    let home = TestHome::sub();
    let base = registry.reference("base:1");
    let context = on_top_of(&home, &base);
    let by_tag = home.build_tree(&context, &[]);
    by_tag.at("bin/sh").links_to("busybox");

    let pulled = home.ashlar(["pull", &base]).run();
    pulled.success();
    let inspected = home.ashlar(["inspect", &base]).run().json();
    let layers = inspected[0]["RootFS"]["Layers"].as_array().unwrap().len();
    assert_eq!(layers, manifest["layers"].as_array().unwrap().len());

    let digest = TestCommand::root("skopeo")
        .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"])
        .arg(format!("docker://{base}"))
        .text();
    let by_digest = on_top_of(&home, &registry.reference(&format!("base@{digest}")));
    home.build(&by_digest, &[])
        .success()
        .progress()
        .assert_ran(&[]);
    on_top_of(&home, &registry.reference("base@sha256:0000"));
    home.build(&by_digest, &[]).exit_code(1).one_error();
}

#[test]
fn a_pulled_base_is_not_pulled_again() {
    let registry = with_base();
    let proxy = Proxy::before(registry.port(), Fault::None);
    let home = TestHome::sub();
    let context = on_top_of(&home, &proxy.reference("base:1"));
    home.build_tree(&context, &[]);
    let asked = |proxy: &Proxy| -> Vec<String> {
        let paths = proxy.requests().into_iter().map(|request| request.path);
        paths.filter(|path| path.contains("/blobs/")).collect()
    };
    assert!(
        !asked(&proxy).is_empty(),
        "the base did not come from the registry"
    );
    proxy.forget();
    context.file("f", "changed");
    home.build_tree(&context, &[])
        .at("f")
        .has_content("changed");
    assert_eq!(asked(&proxy), [""; 0]);
}

#[test]
fn pull_asks_for_a_newer_base() {
    let registry = with_base();
    let base = registry.reference("base:1");
    let home = TestHome::sub();
    let context = on_top_of(&home, &base);
    assert!(home.build_tree(&context, &[]).get("newer").is_none());
    let other = TestHome::sub();
    let newer = other.context("newer");
    newer.dockerfile(&bases::busybox().dockerfile("COPY Dockerfile /newer\n"));
    let output = format!("type=image,name={base},push=true");
    other.build(&newer, &["-o", &output]).success();
    assert!(
        home.build_tree(&context, &["--pull"])
            .get("newer")
            .is_some()
    );
}

#[test]
fn images_are_pushed_by_command_and_by_flag() {
    let registry = with_base();
    let home = TestHome::sub();
    let context = on_top_of(&home, &registry.reference("base:1"));
    let (first, second) = (
        registry.reference("team/first:1"),
        registry.reference("second"),
    );
    home.build(&context, &["-t", &first]).success();
    home.ashlar(["push", &first]).run().success();
    home.build(&context, &["-t", &second, "--push"]).success();
    let read = |name: &str| judge::skopeo_and_tar(&format!("docker://{name}"));
    let pushed = read(&first);
    pushed.tree.at("f").has_content(vec![b'f'; 50_000]);
    assert_eq!(pushed, read(&format!("{second}:latest")));
}

#[test]
fn blobs_that_the_registry_has_are_not_sent() {
    let registry = with_base();
    let proxy = Proxy::before(registry.port(), Fault::None);
    let home = TestHome::sub();
    let context = on_top_of(&home, &bases::busybox().reference());
    let name = proxy.reference("target:1");
    home.build(&context, &["-t", &name, "--push"]).success();
    assert!(
        uploaded(&proxy.requests()) > 0,
        "nothing was sent to an empty repository"
    );
    proxy.forget();
    home.build(&context, &["-t", &proxy.reference("target:2"), "--push"])
        .success();
    assert_eq!(uploaded(&proxy.requests()), 0, "{:#?}", proxy.requests());
    judge::skopeo_manifest(&format!("docker://{}", proxy.reference("target:2")));
}

#[test]
fn the_layers_of_a_base_are_mounted_from_its_repository() {
    let registry = with_base();
    let proxy = Proxy::before(registry.port(), Fault::None);
    let home = TestHome::sub();
    let context = on_top_of(&home, &proxy.reference("base:1"));
    proxy.forget();
    home.build(&context, &["-t", &proxy.reference("derived:1"), "--push"])
        .success();
    let requests = proxy.requests();
    let mounted = requests.iter().any(|request| {
        request.method == "POST" && request.path.contains("mount=sha256") && request.status == 201
    });
    assert!(mounted, "{requests:#?}");
    let base_size = fs::metadata("/bin/busybox").unwrap().len() / 4;
    let sent = uploaded(&requests) as u64;
    assert!(
        sent < base_size,
        "{sent} bytes were sent: the base was sent again"
    );
    judge::skopeo_and_tar(&format!("docker://{}", proxy.reference("derived:1")));
}

#[test]
fn what_was_pushed_earlier_is_mounted_into_other_repositories() {
    let registry = with_base();
    let proxy = Proxy::before(registry.port(), Fault::None);
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .file("big", "a line of a file\n".repeat(100_000))
        .dockerfile("FROM scratch\nCOPY big /\n");
    let push = |name: &str| {
        let name = proxy.reference(name);
        let output = "type=image,push=true,compression=uncompressed";
        home.build(&context, &["-t", &name, "-o", output]).success();
    };
    push("one:1");
    for name in ["two:1", "three:1"] {
        proxy.forget();
        push(name);
        let sent = uploaded(&proxy.requests());
        assert!(sent < 10_000, "{sent} bytes were sent to {name}");
    }
    judge::skopeo_and_tar(&format!("docker://{}", proxy.reference("three:1")));
}

#[test]
fn an_interrupted_download_goes_on_where_it_ended() {
    let registry = with_base();
    let proxy = Proxy::before(registry.port(), Fault::HalfBlobOnce);
    let home = TestHome::sub();
    let context = on_top_of(&home, &proxy.reference("base:1"));
    home.build_tree(&context, &[])
        .at("bin/sh")
        .links_to("busybox");
    let resumed = proxy
        .requests()
        .into_iter()
        .find(|request| request.range.is_some());
    let resumed = resumed.expect("no range was asked for");
    assert_eq!(resumed.status, 206, "{resumed:?}");
    assert!(
        !resumed.range.as_deref().unwrap().starts_with("bytes=0-"),
        "{resumed:?}"
    );
}

#[test]
fn passing_troubles_are_tried_again() {
    let registry = with_base();
    for code in [500, 429] {
        let proxy = Proxy::before(registry.port(), Fault::StatusTimes(code, 2));
        let home = TestHome::sub();
        let context = on_top_of(&home, &proxy.reference("base:1"));
        home.build_tree(&context, &[])
            .at("bin/sh")
            .links_to("busybox");
    }
}

/// The content of a `config.json` with the login for a host.
pub(crate) fn login(host: &str, password: &str) -> String {
    // What `base64` of coreutils makes of it.
    let auth = TestCommand::root("base64")
        .arg("--wrap=0")
        .input(format!("{USER}:{password}"))
        .text();
    format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{auth}\"}}}}}}")
}

/// Pushes to and pulls from a host that wants a login, in every way to say the password.
fn logs_in_everywhere(host: &str) {
    let reference = format!("{host}/private/image:1");
    let without = TestHome::sub();
    let context = on_top_of(&without, &bases::busybox().reference());
    let output = without.build(&context, &["-t", &reference, "--push"]);
    output.exit_code(3);
    assert!(output.one_error().contains(host), "{output}");

    let docker = TestHome::sub();
    docker.file(
        &docker.home().join(".docker/config.json"),
        login(host, PASSWORD),
    );
    let context = on_top_of(&docker, &bases::busybox().reference());
    docker
        .build(&context, &["-t", &reference, "--push"])
        .success();

    let variable = TestHome::sub();
    let file = variable.path("auth.json");
    variable.file(&file, login(host, PASSWORD));
    let pull = |home: &TestHome| home.ashlar(["pull", &reference]);
    pull(&variable)
        .env("REGISTRY_AUTH_FILE", &file)
        .run()
        .success();
    let directory = TestHome::sub();
    directory.file(&directory.path("docker/config.json"), login(host, PASSWORD));
    pull(&directory)
        .env("DOCKER_CONFIG", directory.path("docker"))
        .run()
        .success();

    let helped = TestHome::sub();
    let config = format!("{{\"credHelpers\":{{\"{host}\":\"quarry\"}}}}");
    helped.file(&helped.home().join(".docker/config.json"), config);
    let helper = helped.path("bin/docker-credential-quarry");
    let script = format!(
        "#!/bin/sh\nread server\ntest \"$1 $server\" = \"get {host}\" || exit 1\n\
         echo '{{\"ServerURL\":\"{host}\",\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n"
    );
    helped.file(&helper, script);
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", helper.parent().unwrap().display());
    pull(&helped).env("PATH", path).run().success();

    let wrong = TestHome::sub();
    wrong.file(
        &wrong.home().join(".docker/config.json"),
        login(host, "wrong"),
    );
    let output = pull(&wrong).run();
    output.exit_code(3);
    assert!(output.one_error().contains(host), "{output}");
    assert!(
        !output.stderr().contains("wrong\""),
        "a password is shown: {output}"
    );
}

#[test]
fn a_password_is_found_wherever_docker_and_podman_keep_it() {
    let registry = Registry::start_with(Access::Password);
    logs_in_everywhere(&registry.host());
}

#[test]
fn a_token_is_fetched_for_the_password() {
    let registry = Registry::start();
    let proxy = Proxy::before(registry.port(), Fault::Token);
    logs_in_everywhere(&proxy.host());
    let token = proxy
        .requests()
        .into_iter()
        .find(|request| request.path.starts_with("/token"));
    let token = token.expect("no token was asked for").path;
    assert!(
        token.contains("service=test") && token.contains("scope=repository"),
        "{token}"
    );
}

#[test]
fn a_certificate_of_an_own_authority_is_trusted_when_told_so_or_not_looked_at() {
    let authority = Authority::new();
    let registry = Registry::start_with(Access::Tls(&authority));
    let reference = format!("localhost:{}/image:1", registry.port());
    let home = TestHome::sub();
    let context = on_top_of(&home, &bases::busybox().reference());
    home.build(&context, &["-t", &reference]).success();
    let push = || home.ashlar(["push", &reference]);
    let output = push().run();
    output.exit_code(3).stderr_has("certificate");
    output.stderr_has("--tls-verify=false");
    output.one_error();
    push().arg("--tls-verify=false").run().success();
    home.ashlar(["pull", &reference]).run().exit_code(3);
    let trusting = home.ashlar(["pull", "--tls-verify=false", &reference]);
    trusting.run().success();

    let file = home.path("ca.pem");
    home.file(&file, authority.certificate());
    push().env("SSL_CERT_FILE", &file).run().success();

    let directory = format!(
        ".config/containers/certs.d/localhost:{}/ca.crt",
        registry.port()
    );
    home.file(&home.home().join(directory), authority.certificate());
    let fresh = home.ashlar(["pull", &reference]);
    fresh.run().success();
}

/// Makes a layout with an index of images for two platforms, and gives it to a registry.
fn push_index(registry: &Registry, name: &str) {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile("FROM scratch\nARG TARGETARCH\nLABEL for=$TARGETARCH\nCOPY . /\n");
    let merged = home.directory("merged");
    let mut manifests = Vec::new();
    for architecture in ["amd64", "arm64"] {
        context.file("architecture", architecture);
        let platform = format!("linux/{architecture}");
        let layout = home.build_layout(&context, &["--platform", &platform]);
        let digest = layout.manifest_digest();
        let size = fs::metadata(layout.blob_path(&digest)).unwrap().len();
        manifests.push(serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": size,
            "platform": {"os": "linux", "architecture": architecture},
        }));
        copy_all(&home.path("build-layout"), &merged);
    }
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    fs::write(merged.join("index.json"), index.to_string()).unwrap();
    // An index of a layout cannot be named: the registry gets it and its images one by one.
    for manifest in &manifests {
        let digest = text(&manifest["digest"]);
        TestCommand::root("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--dest-tls-verify=false",
                "--preserve-digests",
            ])
            .arg(single(&home, &merged, &digest))
            .arg(format!(
                "docker://{}",
                registry.reference(&format!("{name}:{}", &digest[7..20]))
            ))
            .run()
            .success();
    }
    TestCommand::root("curl")
        .args([
            "--fail",
            "--silent",
            "--show-error",
            "--request",
            "PUT",
            "--data-binary",
        ])
        .arg(format!("@{}", merged.join("index.json").display()))
        .args([
            "--header",
            "Content-Type: application/vnd.oci.image.index.v1+json",
        ])
        .arg(format!("http://{}/v2/{name}/manifests/1", registry.host()))
        .run()
        .success();
}

/// A layout of one of the images of another.
fn single(home: &TestHome, merged: &Path, digest: &str) -> String {
    let directory = home.path(&format!("single-{}", &digest[7..20]));
    copy_all(merged, &directory);
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(merged.join("index.json")).unwrap()).unwrap();
    let mut index = index;
    let manifests = index["manifests"].as_array_mut().unwrap();
    manifests.retain(|manifest| manifest["digest"] == digest);
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    assert_eq!(Layout::open(&directory).manifest_digest(), digest);
    format!("oci:{}", directory.display())
}

fn copy_all(from: &Path, to: &Path) {
    TestCommand::root("cp")
        .args(["-rT"])
        .args([from, to])
        .run()
        .success();
}

#[test]
fn an_index_chooses_the_platform() {
    let registry = Registry::start();
    push_index(&registry, "many");
    let reference = registry.reference("many:1");
    for architecture in ["amd64", "arm64"] {
        let home = TestHome::sub();
        let context = home.context("context");
        context.dockerfile(&format!("FROM {reference}\nLABEL more=1\n"));
        let platform = format!("linux/{architecture}");
        let layout = home.build_layout(&context, &["--platform", &platform]);
        assert_eq!(layout.config()["architecture"], architecture);
        assert_eq!(layout.config()["config"]["Labels"]["for"], architecture);
        let tree = home.build_tree(&context, &["--platform", &platform]);
        tree.at("architecture").has_content(architecture);
    }
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&format!("FROM {reference}\n"));
    let output = home.build(&context, &["--platform", "linux/s390x"]);
    output.stderr_has("linux/s390x");
    assert!(matches!(output.code(), Some(1 | 3)), "{output}");
}

#[test]
fn a_registry_may_be_asked_by_many_builds_at_once() {
    let registry = with_base();
    let home = TestHome::sub();
    let base = registry.reference("base:1");
    let builds: Vec<_> = (0..5)
        .map(|number| {
            let context = home.context(&format!("context{number}"));
            context.dockerfile(&format!(
                "FROM {base}\nLABEL n={number}\nWORKDIR /w{number}\n"
            ));
            let name = registry.reference(&format!("made{number}"));
            home.build_command(&context, &["-t", &name, "--push"])
                .start()
        })
        .collect();
    for build in builds {
        build.wait().success();
    }
    for number in 0..5 {
        judge::skopeo_manifest(&format!(
            "docker://{}",
            registry.reference(&format!("made{number}"))
        ));
    }
    home.assert_clean();
}
