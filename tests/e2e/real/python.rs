//! A service in Python: wheels in one stage, a virtual environment in another.

use ashlar_test_support::command::TestCommand;
use ashlar_test_support::service::Service;
use serde_json::{Value, json};

use super::Project;

#[test]
fn a_service_of_two_wheels_is_built_tested_and_served() {
    let test = "real::python::a_service_of_two_wheels_is_built_tested_and_served";
    let Some(project) = Project::new(test, "python") else {
        return;
    };
    let password = format!("swordfish-{}", std::process::id());
    let secret = project.home.path("pip.conf");
    let index = format!("[global]\nno-index = true\nfind-links = /wheels\n# {password}\n");
    project.home.file(&secret, index);
    let secret = format!("id=pip-conf,src={}", secret.display());
    let version = ["--build-arg", "VERSION=0.3.0", "--secret", &secret];
    let options = [&version[..], &["-t", "greeter:1"]].concat();
    let refused = project.build_command(&version[..2]).run();
    refused.exit_code(1).stderr_has("pip-conf");
    project.build(&options);
    project.assert_cached(&options);
    serves(&project, "greeter:1", "hello, Ada!");

    // A service that changed: its wheel is made again, that of its library is not.
    project.edit("src/greeter/server.py", "no such path", "nothing here");
    project.build(&options).assert_ran(&[
        "COPY src/",
        "RUN --mount=type=cache,target=/root/.cache/pip pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .",
        "RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind",
        "COPY --link --from=venv",
        // --link means nothing beside --chmod, as in BuildKit; the settings after it are linked.
        "COPY --link --chmod=755",
    ]);
    // Settings are no source.
    project.edit("Dockerfile", "\"hello\"", "\"good day\"");
    let settings = [&version[..], &["-t", "greeter:2"]].concat();
    project
        .build(&settings)
        .assert_ran(&["COPY --link --chown=${UID}:${UID}"]);
    serves(&project, "greeter:2", "good day, Ada!");

    // What is ignored is not seen: neither compiled files nor environments of the developer.
    project
        .context
        .file("src/greeter/__pycache__/server.cpython-311.pyc", "x")
        .file("libs/phrases/phrases.egg-info/PKG-INFO", "x")
        .file(".env.local", "x");
    project.assert_cached(&settings);

    let tested = project.build(&[&version[..], &["--target", "test"]].concat());
    let output = &tested.step("RUN [\"/opt/venv").output;
    assert!(output.iter().any(|line| line == "OK"), "{tested:#?}");

    let (config, tree) = project.read(&options);
    assert_eq!(config["User"], "appuser");
    assert_eq!(config["WorkingDir"], "/app");
    assert_eq!(config["Entrypoint"], json!(["docker-entrypoint.sh"]));
    assert_eq!(
        config["Cmd"],
        json!(["greeter", "--settings", "settings.json"])
    );
    assert_eq!(config["Healthcheck"]["StartPeriod"], 5_000_000_000_u64);
    let path = "PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let environment = config["Env"].as_array().unwrap();
    assert!(environment.contains(&json!(path)), "{config:#}");
    assert!(environment.contains(&json!("PYTHONUNBUFFERED=1")));
    tree.at("app/settings.json").is_owned(0o644, 10001, 10001);
    tree.at("usr/local/bin/docker-entrypoint.sh")
        .is_owned(0o755, 0, 0);
    assert!(
        tree.get("src").is_none() && tree.get("wheels").is_none(),
        "what only building needs is in the image"
    );
    // The secret was there for one command, and is nowhere else.
    let search = TestCommand::root("grep")
        .args(["--recursive", "--files-with-matches", &password])
        .arg(project.home.store())
        .run();
    search.exit_code(1);
    project.home.assert_clean();
}

/// Runs an image, and looks at it as a client and as HEALTHCHECK do.
fn serves(project: &Project, image: &str, greeting: &str) {
    let service = Service::start(&project.home, image, &[]);
    let json = |path: &str| -> Value {
        let (status, body) = service.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    };
    assert_eq!(json("/greet?name=Ada"), json!({ "text": greeting }));
    let about = json("/about");
    assert_eq!(about["version"], "0.3.0");
    assert_eq!(about["uid"], 10001, "{about}");
    let port = format!("PORT={}", service.port());
    project.run(&["-e", &port, image, "greeter-health"]);
    // Python does not heed the signal, and as process 1 it need not: whoever stops it kills it.
    drop(service);
}
