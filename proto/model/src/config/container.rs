//! The `config` part: what containers of the image are started with.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::lenient;

/// Execution parameters. Field names on the wire are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `user[:group]`, names or numbers; empty for root.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// `port/protocol`.
    #[serde(
        default,
        with = "lenient::name_set",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in the order of their first setting.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// What comes before the command.
    #[serde(default, skip_serializing_if = "no_words")]
    pub entrypoint: Option<Vec<String>>,
    /// The command, or the arguments of the entrypoint.
    #[serde(default, skip_serializing_if = "no_words")]
    pub cmd: Option<Vec<String>>,
    /// Directories that are volumes.
    #[serde(
        default,
        with = "lenient::name_set",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub volumes: BTreeSet<String>,
    /// Working directory; empty for `/`.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Labels.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops a container.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Whether the command's arguments are escaped already; means something on Windows only.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub args_escaped: bool,
    /// How to find out whether a container is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for images that are built on this one.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// The shell of the shell form of instructions; empty for the default.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub shell: Vec<String>,
}

/// BuildKit leaves `CMD []` out (reference section 0, point 7).
#[expect(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
fn no_words(words: &Option<Vec<String>>) -> bool {
    words.as_ref().is_none_or(Vec::is_empty)
}

/// A health check. Durations are in nanoseconds; 0 inherits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, `CMD` with arguments, or `CMD-SHELL` with a line.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub interval: i64,
    /// Until a check counts as failed.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub timeout: i64,
    /// Time to start in which failures do not count.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub start_period: i64,
    /// Between two checks while starting.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub start_interval: i64,
    /// How many failures in a row make a container unwell.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "is_zero"
    )]
    pub retries: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference to the field"
)]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fields_have_dockers_names_and_buildkits_order() {
        let config = ContainerConfig {
            user: "u".into(),
            exposed_ports: ["2/udp".into(), "1/tcp".into()].into(),
            env: vec!["B=1".into(), "A=2".into()],
            entrypoint: Some(vec!["e".into()]),
            cmd: Some(vec!["c".into()]),
            volumes: ["/v".into()].into(),
            working_dir: "/w".into(),
            labels: [("b".into(), "1".into()), ("a".into(), "2".into())].into(),
            stop_signal: "SIGINT".into(),
            args_escaped: true,
            healthcheck: Some(Healthcheck {
                test: vec!["CMD".into(), "true".into()],
                interval: 5_000_000_000,
                timeout: 1,
                start_period: 2,
                start_interval: 3,
                retries: 4,
            }),
            on_build: vec!["RUN x".into()],
            shell: vec!["/bin/bash".into()],
        };
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            concat!(
                r#"{"User":"u","ExposedPorts":{"1/tcp":{},"2/udp":{}},"Env":["B=1","A=2"],"#,
                r#""Entrypoint":["e"],"Cmd":["c"],"Volumes":{"/v":{}},"WorkingDir":"/w","#,
                r#""Labels":{"a":"2","b":"1"},"StopSignal":"SIGINT","ArgsEscaped":true,"#,
                r#""Healthcheck":{"Test":["CMD","true"],"Interval":5000000000,"Timeout":1,"#,
                r#""StartPeriod":2,"StartInterval":3,"Retries":4},"OnBuild":["RUN x"],"#,
                r#""Shell":["/bin/bash"]}"#
            )
        );
    }

    #[test]
    fn an_empty_command_is_left_out() {
        let config = ContainerConfig {
            cmd: Some(Vec::new()),
            args_escaped: true,
            ..ContainerConfig::default()
        };
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"ArgsEscaped":true}"#
        );
    }
}
