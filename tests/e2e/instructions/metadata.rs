//! Instructions that only change the image's configuration.

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::judge;
use ashlar_test_support::layout::text;
use serde_json::{Value, json};

/// The `config` of the image of a Dockerfile.
fn config_of(dockerfile: &str) -> Value {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(dockerfile);
    home.build_layout(&context, &[]).config()["config"].clone()
}

#[test]
fn all_of_them_reach_the_configuration() {
    let config = config_of(
        "FROM scratch\n\
         ENV A=1 B=\"two words\"\nENV C three words here\n\
         LABEL maintainer=\"some one\" \"with space\"=x\n\
         EXPOSE 80 443/tcp 53/udp 8000-8002\n\
         VOLUME /data /more\nVOLUME [\"/log\"]\n\
         USER 1000:33\n\
         WORKDIR /srv\nWORKDIR app\n\
         STOPSIGNAL SIGQUIT\n\
         SHELL [\"/bin/ash\", \"-ec\"]\n\
         HEALTHCHECK --interval=5s --timeout=3s --start-period=1m --retries=4 CMD test -e /ok\n\
         ENTRYPOINT [\"/bin/app\", \"--serve\"]\nCMD [\"--port\", \"80\"]\n",
    );
    assert_eq!(config["User"], "1000:33");
    assert_eq!(config["WorkingDir"], "/srv/app");
    assert_eq!(config["StopSignal"], "SIGQUIT");
    assert_eq!(config["Entrypoint"], json!(["/bin/app", "--serve"]));
    assert_eq!(config["Cmd"], json!(["--port", "80"]));
    assert_eq!(config["Shell"], json!(["/bin/ash", "-ec"]));
    assert_eq!(
        config["Labels"],
        json!({"maintainer": "some one", "with space": "x"})
    );
    let environment = config["Env"].as_array().unwrap();
    assert_eq!(
        environment[1..],
        [
            json!("A=1"),
            json!("B=two words"),
            json!("C=three words here")
        ]
    );
    let ports: Vec<&String> = config["ExposedPorts"].as_object().unwrap().keys().collect();
    assert_eq!(
        ports,
        [
            "443/tcp", "53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"
        ]
    );
    let volumes: Vec<&String> = config["Volumes"].as_object().unwrap().keys().collect();
    assert_eq!(volumes, ["/data", "/log", "/more"]);
    assert_eq!(
        config["Healthcheck"],
        json!({
            "Test": ["CMD-SHELL", "test -e /ok"],
            "Interval": 5_000_000_000_u64,
            "Timeout": 3_000_000_000_u64,
            "StartPeriod": 60_000_000_000_u64,
            "Retries": 4,
        })
    );
}

#[test]
fn shell_forms_are_wrapped_in_the_shell_of_their_place() {
    let config = config_of("FROM scratch\nCMD echo $HOME\n");
    assert_eq!(config["Cmd"], json!(["/bin/sh", "-c", "echo $HOME"]));
    let config = config_of("FROM scratch\nSHELL [\"/s\"]\nENTRYPOINT run me\n");
    assert_eq!(config["Entrypoint"], json!(["/s", "run me"]));
}

#[test]
fn an_entrypoint_clears_only_an_inherited_command() {
    let config = config_of("FROM scratch AS base\nCMD [\"a\"]\nFROM base\nENTRYPOINT [\"e\"]\n");
    assert_eq!(
        config.get("Cmd").cloned().unwrap_or(Value::Null),
        Value::Null
    );
    let config = config_of(
        "FROM scratch AS base\nCMD [\"a\"]\nFROM base\nCMD [\"own\"]\nENTRYPOINT [\"e\"]\n",
    );
    assert_eq!(config["Cmd"], json!(["own"]));
}

#[test]
fn a_health_check_may_be_switched_off() {
    let config = config_of("FROM scratch\nHEALTHCHECK CMD [\"/x\"]\nHEALTHCHECK NONE\n");
    assert_eq!(config["Healthcheck"]["Test"], json!(["NONE"]));
}

#[test]
fn a_stage_inherits_the_configuration_of_the_one_it_starts_from() {
    let config = config_of(
        "FROM scratch AS base\nENV A=1\nLABEL l=1\nUSER 5\nWORKDIR /w\nEXPOSE 1\n\
         FROM base\nENV B=$A-2\nWORKDIR x\n",
    );
    assert_eq!(config["Labels"]["l"], "1");
    assert_eq!(config["User"], "5");
    assert_eq!(config["WorkingDir"], "/w/x");
    assert!(config["Env"].as_array().unwrap().contains(&json!("B=1-2")));
}

#[test]
fn history_tells_each_instruction_and_which_made_a_layer() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nCOPY f /\nENV A=1\nWORKDIR /w\nCMD [\"x\"]\nMAINTAINER me\n")
        .file("f", "");
    let config = home.build_layout(&context, &[]).config();
    let history: Vec<(String, bool)> = config["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (text(&entry["created_by"]), entry["empty_layer"] == true))
        .collect();
    let expected = [
        ("COPY f / # buildkit", false),
        ("ENV A=1", true),
        ("WORKDIR /w", false),
        ("CMD [\"x\"]", true),
        ("MAINTAINER me", true),
    ];
    let expected = expected.map(|(text, empty)| (text.to_owned(), empty));
    assert_eq!(history, expected);
    assert_eq!(config["author"], "me");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
}

#[test]
fn workdir_makes_its_directories_for_the_user_and_leaves_others_alone() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile(
        "RUN mkdir -m 700 /there && chown 5:6 /there\nUSER app\nWORKDIR /new/one\nWORKDIR two\n\
         WORKDIR /there\nUSER 33:10\nWORKDIR in\n",
    ));
    let tree = home.build_tree(&context, &[]);
    for path in ["new", "new/one", "new/one/two"] {
        tree.at(path).is_owned(0o755, 1000, 1000);
    }
    tree.at("there").is_owned(0o700, 5, 6);
    tree.at("there/in").is_owned(0o755, 33, 10);
    let config = home.build_layout(&context, &[]).config();
    assert_eq!(config["config"]["WorkingDir"], "/there/in");
    assert_eq!(
        config["rootfs"]["diff_ids"].as_array().unwrap().len(),
        1 + 5
    );
}

#[test]
fn every_format_carries_what_only_docker_knows() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(
        "FROM scratch\nCOPY f /\nHEALTHCHECK --interval=1s CMD [\"/f\"]\nSHELL [\"/s\"]\n\
         ONBUILD RUN x\nCMD [\"c\"]\n",
    );
    context.file("f", "");
    let oci = home.build_layout(&context, &[]).config();
    let archive = home.path("docker.tar");
    let output = format!("type=docker,name=extra:1,dest={}", archive.display());
    home.build(&context, &["-o", &output]).success();
    let docker = judge::skopeo_and_tar(&format!("docker-archive:{}", archive.display())).config;
    for config in [&oci, &docker] {
        assert_eq!(
            config["config"]["Healthcheck"]["Test"],
            json!(["CMD", "/f"])
        );
        assert_eq!(config["config"]["Shell"], json!(["/s"]));
        assert_eq!(config["config"]["OnBuild"], json!(["RUN x"]));
        assert_eq!(config["config"]["ArgsEscaped"], true);
    }
}
