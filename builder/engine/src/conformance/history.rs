//! Histories and whole configurations.

use ashlar_model::config::DateTime;
use ashlar_model::digest::DiffId;

use crate::plan::complete_history;
use crate::plan::testing::{plan_with, planned};

#[test]
fn entries_read_as_buildkits() {
    let planned = planned(concat!(
        "FROM scratch\n",
        "ARG foo=bar2 bar=123\nARG foo\nRUN ls /etc/\n",
        "COPY --chown=1:1 a b /d/\nCOPY <<EOF /x\nEOF\n",
        "ENV k=v w=\"x y\"\nLABEL a=b\nWORKDIR /x\nUSER x\nCMD [\"a\", \"b \\\"c\\\"\"]\n",
        "EXPOSE 2375 1234/udp\nVOLUME [\"/x\"]\nSTOPSIGNAL 9\nSHELL [\"/s\", \"-c\"]\n",
        "ENTRYPOINT e\nHEALTHCHECK --interval=5s --retries=2 CMD true\nHEALTHCHECK NONE\n",
        "MAINTAINER me\nONBUILD RUN x\n",
    ));
    assert_eq!(
        planned.history(),
        [
            "ARG foo=bar2 bar=123",
            "ARG foo",
            "RUN |2 foo=bar2 bar=123 /bin/sh -c ls /etc/ # buildkit",
            "COPY --chown=1:1 a b /d/ # buildkit",
            "COPY <<EOF /x # buildkit",
            "ENV k=v w=x y",
            "LABEL a=b",
            "WORKDIR /x",
            "USER x",
            "CMD [\"a\" \"b \\\"c\\\"\"]",
            "EXPOSE [1234/udp 2375/tcp]",
            "VOLUME [/x]",
            "STOPSIGNAL 9",
            "SHELL [/s -c]",
            "ENTRYPOINT [\"/s\" \"-c\" \"e\"]",
            "HEALTHCHECK {Test:[CMD-SHELL true] Interval:5s Timeout:0s StartPeriod:0s \
             StartInterval:0s Retries:2}",
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s \
             Retries:0}",
            "MAINTAINER me",
        ]
    );
    for entry in &planned.plan.config.history {
        assert_eq!(entry.comment, "buildkit.dockerfile.v0");
    }
}

#[test]
fn what_changes_files_has_a_layer_though_nothing_changes() {
    let planned = planned("FROM img\nRUN true\nCOPY a /\nADD b /\nWORKDIR /w\nENV a=b\n");
    let layers = planned
        .plan
        .config
        .history
        .iter()
        .filter(|entry| !entry.empty_layer);
    assert_eq!(layers.count(), 4);
    assert_eq!(planned.ops().len(), 4);
}

#[test]
fn a_base_keeps_its_history_and_loses_its_time() {
    let planned = planned("FROM old\nENV a=b\n");
    assert_eq!(planned.history(), ["base layer", "ENV a=b"]);
    assert_eq!(planned.plan.config.created, None);
    let mut config = planned.plan.config;
    complete_history(&mut config, &[None], None);
    assert_eq!(config.created, Some(DateTime::new(40, 0)));
}

#[test]
fn a_whole_configuration_is_written_as_buildkit_writes_it() {
    let planned = plan_with(
        concat!(
            "FROM old\n",
            "MAINTAINER me\nARG V=1\nENV A=$V\nEXPOSE 80\nVOLUME /v\nLABEL l=m\nUSER u\n",
            "WORKDIR /w\nSTOPSIGNAL SIGINT\nSHELL [\"/s\", \"-c\"]\nENTRYPOINT [\"e\"]\nCMD c\n",
            "HEALTHCHECK --timeout=2s CMD [\"h\"]\nONBUILD RUN o\n",
        ),
        |options| {
            options
                .build_args
                .insert("SOURCE_DATE_EPOCH".into(), "1700000000".into());
        },
    );
    let mut config = planned.unwrap().plan.config;
    config.rootfs.diff_ids = vec![DiffId::of(b"base"), DiffId::of(b"workdir")];
    let epoch = DateTime::new(1_700_000_000, 0);
    complete_history(&mut config, &[None, Some(DateTime::new(9, 0))], Some(epoch));
    let entry = |text: &str, empty: bool| {
        let created_by = text.replace('"', "\\\"");
        let empty = if empty { ",\"empty_layer\":true" } else { "" };
        format!(
            "{{\"created\":\"2023-11-14T22:13:20Z\",\"created_by\":\"{created_by}\",\
             \"comment\":\"buildkit.dockerfile.v0\"{empty}}}"
        )
    };
    let history = [
        "{\"created\":\"1970-01-01T00:00:40Z\",\"created_by\":\"base layer\"}".to_owned(),
        entry("MAINTAINER me", true),
        entry("ARG V=1", true),
        entry("ENV A=1", true),
        entry("EXPOSE [80/tcp]", true),
        entry("VOLUME [/v]", true),
        entry("LABEL l=m", true),
        entry("USER u", true),
        entry("WORKDIR /w", false),
        entry("STOPSIGNAL SIGINT", true),
        entry("SHELL [/s -c]", true),
        entry("ENTRYPOINT [\"e\"]", true),
        entry("CMD [\"/s\" \"-c\" \"c\"]", true),
        entry(
            "HEALTHCHECK {Test:[CMD h] Interval:0s Timeout:2s StartPeriod:0s StartInterval:0s \
             Retries:0}",
            true,
        ),
    ];
    let expected = format!(
        concat!(
            r#"{{"created":"2023-11-14T22:13:20Z","author":"me","architecture":"amd64","#,
            r#""os":"linux","config":{{"User":"u","ExposedPorts":{{"80/tcp":{{}}}},"#,
            r#""Env":["BASE=1","PATH=/base","A=1"],"Entrypoint":["e"],"Cmd":["/s","-c","c"],"#,
            r#""Volumes":{{"/v":{{}}}},"WorkingDir":"/w","Labels":{{"l":"m"}},"#,
            r#""StopSignal":"SIGINT","ArgsEscaped":true,"#,
            r#""Healthcheck":{{"Test":["CMD","h"],"Timeout":2000000000}},"#,
            r#""OnBuild":["RUN o"],"Shell":["/s","-c"]}},"#,
            r#""rootfs":{{"type":"layers","diff_ids":["{}","{}"]}},"history":[{}]}}"#
        ),
        config.rootfs.diff_ids[0],
        config.rootfs.diff_ids[1],
        history.join(",")
    );
    assert_eq!(String::from_utf8(config.to_vec()).unwrap(), expected);
}
