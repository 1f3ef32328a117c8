//! A service in C, linked statically, alone on scratch.

use ashlar_test_support::service::Service;
use serde_json::json;

use super::Project;

#[test]
fn a_static_binary_serves_on_scratch() {
    let test = "real::c_static::a_static_binary_serves_on_scratch";
    let Some(project) = Project::new(test, "c-static") else {
        return;
    };
    let version = ["--build-arg", "VERSION=1.4.2"];
    let tagged = ["--build-arg", "VERSION=1.4.2", "-t", "clockd:1"];
    let first = project.build_command(&tagged).run();
    first.success().stderr_lacks("warning");
    project.assert_cached(&tagged);

    let (config, tree) = project.read(&version);
    assert_eq!(config["User"], "clock:clock");
    assert_eq!(config["Entrypoint"], json!(["/clockd"]));
    assert_eq!(config["ExposedPorts"], json!({"8080/tcp": {}}));
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(
        config["Labels"]["org.opencontainers.image.version"],
        "1.4.2"
    );
    assert_eq!(
        config["Healthcheck"]["Test"],
        json!(["CMD", "/clockd", "--health"])
    );
    let names: Vec<&str> = tree.names().into_iter().collect();
    assert_eq!(names, ["", "clockd", "etc", "etc/group", "etc/passwd"]);
    tree.at("clockd").is_owned(0o555, 0, 0);
    tree.at("etc/group")
        .has_content("root:x:0:\nclock:x:65532:\n");

    let service = Service::start(&project.home, "clockd:1", &[]);
    let port = format!("PORT={}", service.port());
    assert_eq!(service.get("/healthz"), (200, "ok\n".to_owned()));
    let version = "clockd 1.4.2 uid 65532\n".to_owned();
    assert_eq!(service.get("/version"), (200, version));
    assert_eq!(service.get("/nothing").0, 404);
    // What the HEALTHCHECK says, beside it.
    project.run(&["-e", &port, "clockd:1", "--health"]);
    service.stop().success();

    project.home.assert_clean();
}

#[test]
fn a_change_compiles_again_and_installs_nothing() {
    let test = "real::c_static::a_change_compiles_again_and_installs_nothing";
    let Some(project) = Project::new(test, "c-static") else {
        return;
    };
    project.build(&["-t", "clockd:1"]);
    project.edit("src/main.c", "clockd %s uid", "clockd %s, uid");
    project.build(&["-t", "clockd:2"]).assert_ran(&[
        "COPY src/",
        "RUN make",
        "COPY --link --from=build",
    ]);

    // A new version is a new binary of the same sources.
    let version = ["--build-arg", "VERSION=2.0.0", "-t", "clockd:3"];
    project
        .build(&version)
        .assert_ran(&["RUN make", "COPY --link --from=build"]);
    assert_eq!(project.run(&["clockd:3", "--version"]), "clockd 2.0.0\n");
    assert_eq!(project.run(&["clockd:2", "--version"]), "clockd 0.0.0\n");

    // A comment changes no binary, and so not the image.
    project.edit("include/http.h", "/* Asks", "/* It asks");
    project
        .build(&version)
        .assert_ran(&["COPY include/", "COPY src/", "RUN make"]);

    // One package more: those that are there are not asked for again.
    project.edit(
        "Dockerfile",
        "        make\n",
        "        make \\\n        patch\n",
    );
    let more = project.build(&version);
    let installed = &more.step("apt-get install").output;
    let asked = installed
        .iter()
        .find(|line| line.starts_with("Need to get"));
    assert!(asked.is_some_and(|line| line.contains("kB/")), "{more:#?}");

    // The unit test needs what the image needs not.
    let tested = project.build(&["--target", "test"]);
    assert!(tested.has_output("self-test passed"), "{tested:#?}");
    project.edit("src/main.c", "1970-01-01", "1971-01-01");
    let failed = project.build_command(&["--target", "test"]).run();
    failed.exit_code(1);
    assert!(failed.progress().has_output("self-test failed"), "{failed}");
    project.home.assert_clean();
}
