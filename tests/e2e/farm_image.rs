//! The image of the server, as `examples/farm/Dockerfile` makes it: built by Ashlar itself, with
//! other images in place of those that the network has.

use std::fs;
use std::path::Path;

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;

/// Where the Dockerfile finds its tools, and what it stands on in the end.
const TOOLS: &str = "docker.io/library/rust:1-slim-bookworm";
const BASE: &str = "gcr.io/distroless/cc-debian12:nonroot";

/// A compiler that compiles nothing.
const CARGO: &str = "#!/bin/sh\nset -e\n[ \"$1 $2 $3\" = 'build --release --locked' ]\n\
                     [ -e Cargo.lock ] && [ -e cache-server/src ]\n\
                     mkdir -p target/release\necho server > target/release/ashlar-cache\n";

/// The repository, as far as the Dockerfile knows it.
fn repository(home: &TestHome) -> Context {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("examples/farm/Dockerfile")).expect("a Dockerfile");
    let context = home.context("repository");
    context
        .dockerfile(&text)
        .file("Cargo.toml", "")
        .file("Cargo.lock", "");
    for part in ["proto", "builder", "worker", "cache-server", "tests"] {
        context.file(&format!("{part}/src/lib.rs"), "");
    }
    context
}

/// The options that put images of this machine in place of those of the Dockerfile.
fn offline(home: &TestHome) -> Vec<String> {
    let tools = home.context("tools");
    let text = "COPY cargo /usr/local/bin/cargo\nRUN mkdir -p /usr/local/cargo\n";
    tools
        .dockerfile(&bases::busybox().dockerfile(text))
        .file("cargo", CARGO)
        .mode("cargo", 0o755);
    let layout = home.path("tools-layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    home.build(&tools, &["-o", &output]).success();
    let base = bases::busybox();
    vec![
        "--build-context".to_owned(),
        format!("{TOOLS}=oci-layout://{}", layout.display()),
        "--build-context".to_owned(),
        format!("{BASE}=oci-layout://{}", base.layout().display()),
    ]
}

#[test]
fn the_servers_image_is_built_by_ashlar() {
    let home = TestHome::sub();
    let repository = repository(&home);
    let offline = offline(&home);
    let options: Vec<&str> = offline.iter().map(String::as_str).collect();
    let config = home.build_layout(&repository, &options).config();
    let config = &config["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"][0], "/usr/local/bin/ashlar-cache");
    assert_eq!(config["Cmd"][0], "serve");
    for port in ["8980/tcp", "8981/tcp", "8982/tcp", "8983/tcp"] {
        assert!(config["ExposedPorts"].get(port).is_some(), "{config}");
    }
    let tree = home.build_tree(&repository, &options);
    tree.at("usr/local/bin/ashlar-cache")
        .has_content("server\n");
    // What a volume begins with there.
    tree.at("var/cache/ashlar").is_owned(0o755, 65532, 65532);
}

#[test]
fn nothing_is_to_be_said_of_the_servers_dockerfile() {
    let home = TestHome::sub();
    let repository = repository(&home);
    let mut options = offline(&home);
    options.push("--check".to_owned());
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    home.build_command(&repository, &options).run().success();
}
