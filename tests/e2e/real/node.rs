//! A service in Node, on a base image of its company whose ONBUILD instructions do most of the work.

use ashlar_test_support::command::TestCommand;
use ashlar_test_support::service::Service;
use serde_json::{Value, json};

use super::Project;

/// The base image, as services name it.
const BASE: &str = "acme/node:18-onbuild";

/// Packs a workspace package as `npm pack` does, into `vendor`.
fn pack(project: &Project) {
    let packages = project.context.path().join("packages");
    let tarball = project.home.path("packed.tgz");
    TestCommand::root("tar")
        .args(["--create", "--gzip", "--transform=s,^router,package,"])
        .args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--mtime=@499162500",
        ])
        .arg("--file")
        .arg(&tarball)
        .arg("--directory")
        .arg(&packages)
        .arg("router")
        .run()
        .success();
    let bytes = std::fs::read(&tarball).unwrap();
    project.context.file("vendor/acme-router-1.0.0.tgz", bytes);
}

#[test]
fn a_service_stands_on_a_base_whose_triggers_install_it() {
    let test = "real::node::a_service_stands_on_a_base_whose_triggers_install_it";
    let Some(project) = Project::new(test, "node") else {
        return;
    };
    pack(&project);
    let base = project.context.path().join("onbuild/Dockerfile");
    let base = ["-t", BASE, "-f", &base.display().to_string()];
    project.build(&base);
    let (config, _) = project.read(&base);
    let triggers = config["OnBuild"].as_array().unwrap();
    assert_eq!(triggers.len(), 4, "{config:#}");
    assert_eq!(triggers[0], "COPY --chown=node:node package.json ./");

    let options = ["-t", "orders:1", "--build-arg", "VERSION=2.1.0"];
    project.build(&options).assert_ran(&[
        "COPY --chown=node:node package.json",
        "COPY --chown=node:node vendor/",
        "RUN install-packages",
        "COPY --chown=node:node src/",
    ]);
    project.assert_cached(&options);
    serves(&project, "orders:1", 200);

    // Only the last trigger sees the sources. The unit tests stand on the same base, and on the
    // same triggers.
    project.edit("src/orders.js", "price: 80", "price: 100");
    project
        .build(&options)
        .assert_ran(&["COPY --chown=node:node src/"]);
    serves(&project, "orders:1", 220);
    let failed = project.build_command(&["--target", "test"]).run();
    failed.exit_code(1).stderr_has("220 !== 200");
    project.edit("test/orders.test.js", "200", "220");
    project
        .build(&["--target", "test"])
        .assert_ran(&["COPY --chown=node:node test/", "RUN [\"node\""]);

    // A dependency that changed is installed again.
    project.edit("packages/router/lib/index.js", "no such path", "nothing");
    project.assert_cached(&options);
    pack(&project);
    project.build(&options).assert_ran(&[
        "COPY --chown=node:node vendor/",
        "RUN install-packages",
        "COPY --chown=node:node src/",
    ]);

    let (config, tree) = project.read(&options);
    assert_eq!(config["OnBuild"], Value::Null, "triggers fire once");
    assert_eq!(config["User"], "node");
    assert_eq!(config["Cmd"], json!(["node", "src/server.js"]));
    assert_eq!(config["Healthcheck"]["Test"][0], "CMD-SHELL");
    let label = &config["Labels"]["org.opencontainers.image.version"];
    assert_eq!(label, "2.1.0");
    tree.at("usr/src/app/node_modules/@acme/router/package.json")
        .is_owned(0o644, 1000, 1000);
    project.home.assert_clean();
}

/// Runs an image, and looks at it as a client and as HEALTHCHECK do.
fn serves(project: &Project, image: &str, total: u64) {
    let service = Service::start(&project.home, image, &[]);
    let json = |path: &str| -> Value { serde_json::from_str(&service.get(path).1).unwrap() };
    assert_eq!(json("/total"), json!({ "total": total }));
    let about = json!({"version": "2.1.0", "env": "production", "uid": 1000});
    assert_eq!(json("/about"), about);
    let config = project.home.ashlar(["inspect", image]).run().json();
    let check = config[0]["Config"]["Healthcheck"]["Test"][1]
        .as_str()
        .unwrap();
    let port = format!("PORT={}", service.port());
    project.run(&["-e", &port, image, "sh", "-c", check]);
    service.stop().success();
}
