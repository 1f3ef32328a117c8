//! USER, WORKDIR, and the instructions that change nothing but the configuration.

use ashlar_model::config::ContainerConfig;
use ashlar_model::step::MakeDirectorySpec;

use super::refused;
use crate::graph::PlannedOp;
use crate::plan::testing::{Planned, plan_with, planned};

fn config(text: &str) -> ContainerConfig {
    planned(text).plan.config.config
}

fn refusal(instruction: &str) -> String {
    let text = format!("FROM scratch\n{instruction}\n");
    let planned = plan_with(&text, |_| {}).map(|planned| planned.names);
    planned.unwrap_err().to_string()
}

fn directories(planned: &Planned) -> Vec<MakeDirectorySpec> {
    let made = planned.ops().into_iter().filter_map(|op| match op {
        PlannedOp::MakeDirectory(spec) => Some(spec.clone()),
        _ => None,
    });
    made.collect()
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn user_is_kept_as_written_and_reaches_later_runs_only() {
    let planned = planned("FROM scratch\nRUN a\nUSER 1000:33\nRUN b\nUSER a b\nRUN c\n");
    let users: Vec<_> = (0..3)
        .map(|number| planned.run(number).user.clone())
        .collect();
    assert_eq!(users, ["", "1000:33", "a b"]);
    assert_eq!(planned.plan.config.config.user, "a b");
}

#[test]
fn workdir_joins_relative_paths_and_keeps_absolute_ones() {
    for (paths, expected) in [
        (&["a"][..], "/base/a"),
        (&["/w", "b/../c"], "/w/c"),
        (&["/a//b/./c/../d/"], "/a//b/./c/../d/"),
        (&["/a/x/", "y"], "/a/x/y"),
        (&["/w", ".."], "/"),
    ] {
        let text: String = paths
            .iter()
            .map(|path| format!("WORKDIR {path}\n"))
            .collect();
        let config = config(&format!("FROM img\n{text}"));
        assert_eq!(config.working_dir, expected);
    }
}

#[test]
fn workdir_makes_a_layer_of_its_own_for_its_user_unless_it_is_the_root() {
    let planned = planned("FROM scratch\nUSER u:g\nWORKDIR /w\nWORKDIR /\nWORKDIR /w\n");
    let made = directories(&planned);
    assert_eq!(made.len(), 2);
    assert_eq!(
        (made[0].path.as_str(), made[0].user.as_str()),
        ("/w", "u:g")
    );
    assert_eq!(made[0].created, None);
    let layers: Vec<_> = planned
        .plan
        .config
        .history
        .iter()
        .map(|h| !h.empty_layer)
        .collect();
    assert_eq!(layers, [false, true, false, true]);
    assert_eq!(
        planned.history()[1..],
        ["WORKDIR /w", "WORKDIR /", "WORKDIR /w"]
    );
}

#[test]
fn the_epoch_dates_directories_of_workdir_and_not_copies() {
    let planned = plan_with("FROM scratch\nWORKDIR /w\nCOPY a /b/c/\n", |options| {
        options
            .build_args
            .insert("SOURCE_DATE_EPOCH".into(), "9".into());
    });
    let made = directories(&planned.unwrap());
    assert_eq!(made[0].created.map(|time| time.seconds), Some(9));
}

#[test]
fn cmd_is_wrapped_in_the_shell_of_its_place() {
    let both = config("FROM scratch\nSHELL [\"/s\", \"-e\"]\nCMD a  b\nSHELL [\"/t\"]\n");
    assert_eq!(both.cmd, words(&["/s", "-e", "a  b"]));
    assert_eq!(both.shell, ["/t"]);
    assert!(both.args_escaped);
    assert_eq!(
        config("FROM scratch\nCMD\n").cmd,
        words(&["/bin/sh", "-c", ""])
    );
}

#[test]
fn an_empty_cmd_or_entrypoint_leaves_no_key() {
    let planned = planned("FROM img\nCMD []\nENTRYPOINT []\n");
    assert_eq!(planned.history(), ["CMD []", "ENTRYPOINT []"]);
    let json = serde_json::to_value(&planned.plan.config.config).unwrap();
    assert_eq!((json.get("Cmd"), json.get("Entrypoint")), (None, None));
    assert_eq!(json["ArgsEscaped"], true);
}

#[test]
fn entrypoint_clears_an_inherited_cmd_unless_one_was_set_in_the_stage() {
    assert_eq!(config("FROM img\nENTRYPOINT [\"e\"]\n").cmd, None);
    assert_eq!(
        config("FROM img\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n").cmd,
        words(&["c"])
    );
    assert_eq!(
        config("FROM img AS a\nCMD [\"c\"]\nFROM a\nENTRYPOINT [\"e\"]\n").cmd,
        None
    );
    assert_eq!(
        config("FROM img\nENTRYPOINT [\"e\"]\nCMD [\"c\"]\n").cmd,
        words(&["c"])
    );
}

#[test]
fn of_two_the_last_wins() {
    let config =
        config("FROM scratch\nCMD [\"a\"]\nCMD [\"b\"]\nENTRYPOINT [\"c\"]\nENTRYPOINT [\"d\"]\n");
    assert_eq!(
        (config.cmd, config.entrypoint),
        (words(&["b"]), words(&["d"]))
    );
}

#[test]
fn healthcheck_has_three_forms_and_durations_of_at_least_a_millisecond() {
    let test = |text: &str| {
        config(&format!("FROM scratch\n{text}\n"))
            .healthcheck
            .unwrap()
    };
    assert_eq!(test("HEALTHCHECK NONE").test, ["NONE"]);
    assert_eq!(
        test("HEALTHCHECK cmd [\"a\", \"b\"]").test,
        ["CMD", "a", "b"]
    );
    let check = test(
        "HEALTHCHECK --interval=1m30s --timeout=1ms --start-period=0 --start-interval=1.5h \
         --retries=3 CMD a  b",
    );
    assert_eq!(check.test, ["CMD-SHELL", "a  b"]);
    assert_eq!((check.interval, check.timeout), (90_000_000_000, 1_000_000));
    assert_eq!(
        (check.start_period, check.start_interval),
        (0, 5_400_000_000_000)
    );
    assert_eq!(check.retries, 3);
    for (text, message) in [
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        (
            "HEALTHCHECK curl x",
            "Unknown type \"CURL\" in HEALTHCHECK (try CMD)",
        ),
        ("HEALTHCHECK --interval=1us CMD x", "less than 1ms"),
        ("HEALTHCHECK --interval=5 CMD x", "missing unit"),
        ("HEALTHCHECK --retries=-1 CMD x", "at least 0"),
    ] {
        let error = refused(&format!("FROM a\n{text}"));
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn expose_sorts_before_it_expands_and_knows_ranges_and_protocols() {
    let planned =
        planned("FROM scratch\nARG P=99\nEXPOSE 8000-8002 80/UDP $P 127.0.0.1:1:443 2/sctp\n");
    assert_eq!(
        planned.history()[1],
        "EXPOSE [99/tcp 443/tcp 2/sctp 80/udp 8000/tcp 8001/tcp 8002/tcp]"
    );
    assert_eq!(planned.plan.config.config.exposed_ports.len(), 7);
    for (word, message) in [
        ("65536", "invalid containerPort: 65536"),
        ("3-1", "invalid containerPort: 3-1"),
        ("1/icmp", "invalid proto: icmp"),
        ("nohost:1:1", "invalid IP address: nohost"),
    ] {
        assert_eq!(refusal(&format!("EXPOSE {word}")), message);
    }
}

#[test]
fn volumes_are_trimmed_and_not_empty() {
    let volumes = config("FROM scratch\nVOLUME [\" /a \", \"/b\"]\n").volumes;
    assert_eq!(volumes.into_iter().collect::<Vec<_>>(), ["/a", "/b"]);
    let message = "VOLUME specified can not be an empty string";
    assert_eq!(refused("FROM a\nVOLUME [\"\"]"), message);
    assert_eq!(refusal("VOLUME $NONE"), message);
    assert_eq!(
        refused("FROM a\nVOLUME []"),
        "VOLUME requires at least one argument"
    );
}

#[test]
fn a_stop_signal_is_a_name_or_a_number_but_zero() {
    for signal in ["SIGKILL", "kill", "9", "SIGRTMIN+3"] {
        assert_eq!(
            config(&format!("FROM scratch\nSTOPSIGNAL {signal}\n")).stop_signal,
            signal
        );
    }
    for signal in ["0", "SIGWHAT"] {
        assert_eq!(
            refusal(&format!("STOPSIGNAL {signal}")),
            format!("invalid signal: {signal}")
        );
    }
}

#[test]
fn the_old_form_of_label_and_env_takes_the_rest_of_the_line() {
    let config = config("FROM scratch\nENV A b  c=\"d\"\nLABEL x y z \n");
    assert_eq!(config.env[1], "A=b  c=d");
    assert_eq!(config.labels["x"], "y z");
}

#[test]
fn a_maintainer_is_the_author() {
    let planned = planned("FROM scratch\nMAINTAINER Some One <one@example.com>\n");
    assert_eq!(planned.plan.config.author, "Some One <one@example.com>");
    assert_eq!(planned.history(), ["MAINTAINER Some One <one@example.com>"]);
}

#[test]
fn onbuild_is_kept_raw_in_the_configuration_and_leaves_no_history() {
    let planned = planned("FROM scratch\nONBUILD   run  x \\\n  y \nONBUILD COPY --what\n");
    assert_eq!(
        planned.plan.config.config.on_build,
        ["run  x   y ", "COPY --what"]
    );
    assert_eq!(planned.history(), [""; 0]);
}

#[test]
fn a_variable_is_set_where_it_stands() {
    let config = config("FROM img\nENV NEW=1\nENV BASE=2\n");
    assert_eq!(config.env, ["BASE=2", "PATH=/base", "NEW=1"]);
}
