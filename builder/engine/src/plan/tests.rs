use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ashlar_model::digest::BlobDigest;
use ashlar_model::remote::{RemoteFiles, RemoteSource};
use ashlar_model::select::SourceQuery;
use ashlar_model::step::Selection;

use super::testing::{Files, Images, Names, Remotes, options, plan_with, planned, refused};
use super::*;
use crate::dockerfile::parse;
use crate::graph::{PlannedCopy, PlannedSource};

#[test]
fn only_what_the_target_needs_is_planned() {
    let text = "FROM a AS one\nRUN one\nFROM b AS two\nRUN two\nFROM c\nCOPY --from=one /x /x\n";
    let all = planned(text);
    assert_eq!(all.images, ["a:latest", "c:latest"]);
    assert_eq!(
        all.names,
        [
            "[internal] load metadata for docker.io/library/a:latest",
            "[internal] load metadata for docker.io/library/c:latest",
            "[one 2/2] RUN one",
            "[stage-2 2/2] COPY --from=one /x /x",
        ]
    );
    let two = plan_with(text, |options| options.target = Some("TWO".into())).unwrap();
    assert_eq!(two.images, ["b:latest"]);
    assert_eq!(two.ops().len(), 1);
}

#[test]
fn an_unknown_target_is_refused_with_a_suggestion() {
    let error = plan_with("FROM a AS build\n", |o| o.target = Some("biuld".into()))
        .map(|p| p.names)
        .unwrap_err();
    assert!(error.message.contains("biuld"), "{error}");
    assert_eq!(error.hint.as_deref(), Some("did you mean build?"));
}

#[test]
fn a_later_arg_beats_env_in_run_but_not_in_the_image() {
    let planned = planned("FROM scratch\nENV X=env\nARG X=arg\nRUN x\nENV Y=$X\n");
    assert_eq!(planned.env(0).last().unwrap(), "X=arg");
    assert!(planned.plan.config.config.env.contains(&"X=env".to_owned()));
    assert!(planned.plan.config.config.env.contains(&"Y=arg".to_owned()));
}

#[test]
fn global_args_reach_from_and_stages_that_declare_them() {
    let planned = plan_with(
        "ARG BASE=a\nARG V=1\nFROM $BASE:$V\nARG V\nRUN x\nFROM a:1\nRUN y\nARG TARGETARCH\nRUN z\n",
        |options| {
            options.target = Some("0".into());
            options.build_args.insert("BASE".into(), "b".into());
        },
    )
    .unwrap();
    assert_eq!(planned.images, ["b:1"]);
    assert!(planned.env(0).contains(&"V=1".to_owned()));
    assert!(
        planned
            .history()
            .contains(&"RUN |1 V=1 /bin/sh -c x # buildkit")
    );
}

#[test]
fn platform_args_must_be_declared() {
    let planned = planned("FROM scratch\nRUN y\nARG TARGETARCH BUILDARCH\nRUN z\n");
    assert_eq!(planned.env(0).len(), 1);
    assert_eq!(planned.env(1)[1..], ["TARGETARCH=amd64", "BUILDARCH=arm64"]);
}

#[test]
fn proxies_reach_run_without_key_and_history() {
    let planned = plan_with("FROM scratch\nRUN x\n", |options| {
        options.build_args.insert("http_proxy".into(), "p".into());
    })
    .unwrap();
    let run = planned.run(0);
    assert_eq!(
        run.unkeyed_env,
        [
            ("HTTP_PROXY".to_owned(), "p".to_owned()),
            ("http_proxy".to_owned(), "p".to_owned())
        ]
    );
    assert!(!run.env.iter().any(|(name, _)| name.contains("proxy")));
    assert_eq!(planned.history(), ["RUN /bin/sh -c x # buildkit"]);
}

#[test]
fn histories_read_as_buildkits() {
    let planned = planned(concat!(
        "FROM scratch\n",
        "ARG A=1\nENV K=v W=$A\nLABEL l=m\nWORKDIR /w\nWORKDIR sub\nUSER u\n",
        "COPY --chown=1:1 a b /d/\nCOPY <<EOF /x\nhi\nEOF\n",
        "EXPOSE 2375 1234/udp\nVOLUME /v /u\nSTOPSIGNAL SIGINT\n",
        "SHELL [\"/bin/bash\", \"-c\"]\nHEALTHCHECK --interval=5s CMD true\n",
        "CMD [\"a\", \"b\"]\nENTRYPOINT e\n",
    ));
    assert_eq!(
        planned.history(),
        [
            "ARG A=1",
            "ENV K=v W=1",
            "LABEL l=m",
            "WORKDIR /w",
            "WORKDIR /w/sub",
            "USER u",
            "COPY --chown=1:1 a b /d/ # buildkit",
            "COPY <<EOF /x # buildkit",
            "EXPOSE [1234/udp 2375/tcp]",
            "VOLUME [/v /u]",
            "STOPSIGNAL SIGINT",
            "SHELL [/bin/bash -c]",
            "HEALTHCHECK {Test:[CMD-SHELL true] Interval:5s Timeout:0s StartPeriod:0s \
             StartInterval:0s Retries:0}",
            "CMD [\"a\" \"b\"]",
            "ENTRYPOINT [\"/bin/bash\" \"-c\" \"e\"]",
        ]
    );
    let config = &planned.plan.config.config;
    assert_eq!(
        config.cmd.as_deref(),
        Some(&["a".to_owned(), "b".to_owned()][..])
    );
    assert_eq!(config.working_dir, "/w/sub");
    let layers = planned
        .plan
        .config
        .history
        .iter()
        .filter(|entry| !entry.empty_layer)
        .count();
    assert_eq!(layers, planned.ops().len());
}

#[test]
fn an_entrypoint_clears_an_inherited_command_only() {
    let inherited = planned("FROM a\nENTRYPOINT [\"e\"]\n");
    assert_eq!(inherited.plan.config.config.cmd, None);
    let own = planned("FROM a\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n");
    assert_eq!(
        own.plan.config.config.cmd.as_deref(),
        Some(&["c".to_owned()][..])
    );
    let stage = planned("FROM a AS x\nCMD [\"c\"]\nFROM x\nENTRYPOINT [\"e\"]\n");
    assert_eq!(stage.plan.config.config.cmd, None);
}

#[test]
fn a_stage_inherits_its_bases_environment_and_arguments() {
    let planned = planned("FROM a AS x\nARG P=1\nWORKDIR /q\nFROM x\nRUN y\n");
    assert_eq!(planned.env(0), ["BASE=1", "PATH=/base", "P=1"]);
    assert_eq!(planned.run(0).cwd, "/q");
}

#[test]
fn triggers_run_before_the_stages_own_instructions() {
    let planned = planned("ARG X\nFROM onbuild\nRUN own\n");
    assert_eq!(planned.run(0).args[2], "triggered");
    assert!(planned.env(1).contains(&"T=1".to_owned()));
    assert_eq!(
        planned.history(),
        [
            "RUN /bin/sh -c triggered # buildkit",
            "ENV T=1",
            "RUN /bin/sh -c own # buildkit"
        ]
    );
    assert!(planned.plan.config.config.on_build.is_empty());
    assert_eq!(planned.names[1], "[2/3] ONBUILD RUN triggered");
    let nodes = planned.plan.graph.nodes();
    let lines: Vec<u32> = nodes
        .filter_map(|(_, node)| Some(node.range?.start.line))
        .collect();
    assert_eq!(
        lines,
        [2, 2, 3],
        "a trigger stands at the FROM that pulls it"
    );
}

#[test]
fn triggers_may_copy_from_stages_that_nothing_else_needs() {
    let text = "FROM a AS base\nRUN b\nFROM base AS tools\nRUN t\nFROM onbuild-copy\n";
    let planned = planned(text);
    assert_eq!(planned.ops().len(), 3);
    assert!(matches!(
        planned.copy(0).sources[0],
        PlannedSource::Node { .. }
    ));
    let inherited =
        "FROM a AS tools\nFROM scratch AS on\nONBUILD COPY --from=tools /t /t\nFROM on\n";
    assert_eq!(self::planned(inherited).ops().len(), 1);
}

#[test]
fn what_is_wrong_with_a_trigger_is_said_at_its_from() {
    for (text, message) in [
        ("FROM scratch\nFROM onbuild-copy\n", "not found"),
        (
            "FROM scratch\nFROM onbuild-bad\n",
            "trigger `ONBUILD WHAT is this`: unknown instruction: WHAT",
        ),
    ] {
        let error = plan_with(text, |options| {
            let missing = NamedContext::Image("missing".parse().unwrap());
            options.contexts.insert("tools".into(), missing);
        });
        let error = error.map(|p| p.names).unwrap_err();
        let line = error.place.as_ref().map(|place| place.range.start.line);
        assert_eq!(line, Some(2), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn a_stage_has_its_bases_platform_and_other_images_that_of_the_target() {
    let planned = planned(concat!(
        "FROM --platform=linux/s390x a AS x\n",
        "FROM --platform=linux/386 x\nCOPY --from=b /b /b\n",
    ));
    assert_eq!(planned.images, ["a:latest", "b:latest"]);
    assert_eq!(planned.platforms, ["linux/s390x", "linux/amd64"]);
    assert_eq!(planned.plan.platform.to_string(), "linux/s390x");
}

#[test]
fn a_named_context_is_found_however_the_image_is_written() {
    for written in ["x", "x:latest", "docker.io/library/x", "docker.io/x:latest"] {
        let text = format!("FROM {written}\nCOPY --from={written} /a /b\n");
        let planned = plan_with(&text, |options| {
            let other = NamedContext::Image("other".parse().unwrap());
            options.contexts.insert("x".into(), other);
        });
        assert_eq!(planned.unwrap().images, ["other:latest"], "{written}");
    }
    let other_tag = plan_with("FROM x:1\n", |options| {
        let other = NamedContext::Image("other".parse().unwrap());
        options.contexts.insert("x".into(), other);
    });
    assert_eq!(other_tag.unwrap().images, ["x:1"]);
}

/// A context that takes long to read: until somebody says that it is enough.
struct Slow(Mutex<std::sync::mpsc::Receiver<()>>);

impl ContextSource for Slow {
    fn root(&self) -> &Path {
        Path::new("/slow")
    }

    fn select(&self, sources: &[SourceQuery]) -> Result<Vec<Arc<Selection>>, SourceError> {
        let patience = std::time::Duration::from_secs(5);
        self.0.lock().unwrap().recv_timeout(patience).unwrap();
        Files.select(sources)
    }
}

#[tokio::test]
async fn reading_a_context_leaves_the_runtime_free() {
    let (enough, wait) = std::sync::mpsc::channel();
    let sources = PlanSources {
        images: Arc::new(Images::default()),
        remotes: Arc::new(Remotes::default()),
        vertices: 0,
        context: Some(Arc::new(Slow(Mutex::new(wait)))),
        named: Arc::new(|_: &Path| unreachable!()),
        events: Arc::new(Names::default()),
    };
    let dockerfile = parse("Dockerfile", b"FROM scratch\nCOPY a b\n").unwrap();
    let options = options();
    let (planned, sent) = tokio::join!(plan(&dockerfile, &options, &sources), async {
        enough.send(())
    });
    sent.unwrap();
    planned.unwrap();
}

#[test]
fn copies_know_where_their_files_come_from() {
    let planned = plan_with(
        concat!(
            "FROM a AS s\nFROM scratch\nWORKDIR /w\n",
            "COPY x y .\nCOPY --from=s /p /q\nCOPY --from=0 /p /r\nCOPY --from=img /p /s\n",
            "COPY --from=dir f /t\nADD <<'E' /h/\n$A\nE\n",
        ),
        |options| {
            options.contexts.insert(
                "dir".into(),
                NamedContext::Directory(PathBuf::from("/elsewhere")),
            );
        },
    )
    .unwrap();
    assert_eq!(planned.copy(0).destination, "/w/");
    assert!(matches!(
        &planned.copy(0).sources[..],
        [PlannedSource::Directory { root, .. }, PlannedSource::Directory { .. }]
            if root == Path::new("/context")
    ));
    let node = |number: usize| match &planned.copy(number).sources[0] {
        PlannedSource::Node { node, .. } => *node,
        other => panic!("{other:?}"),
    };
    assert_eq!(node(1), node(2));
    assert_ne!(node(1), node(3));
    assert_eq!(planned.images, ["a:latest", "img:latest"]);
    assert!(matches!(
        planned.copy(4).sources[0],
        PlannedSource::Directory { .. }
    ));
    assert!(matches!(
        &planned.copy(5).sources[0],
        PlannedSource::Inline { name, data } if name == "E" && data == b"$A\n"
    ));
    assert!(planned.copy(5).unpack);
}

#[test]
fn a_named_context_replaces_a_stage_or_an_image() {
    let named = |options: &mut PlanOptions| {
        let other = NamedContext::Image("other".parse().unwrap());
        options.contexts.insert("x".into(), other);
    };
    let planned = plan_with("FROM a AS x\nRUN never\nFROM x\nRUN y\n", named).unwrap();
    assert_eq!(planned.images, ["other:latest"]);
    assert_eq!(planned.ops().len(), 1);
    let planned = plan_with("FROM x\nRUN y\n", named).unwrap();
    assert_eq!(planned.images, ["other:latest"]);
}

#[test]
fn what_is_wrong_is_said_where_it_is_wrong() {
    for (text, line, message) in [
        ("FROM scratch\nCOPY absent /x\n", 2, "not found"),
        (
            "FROM scratch\nCOPY --from=later x /x\nFROM a AS later\n",
            2,
            "needs to be defined before",
        ),
        (
            "FROM scratch AS me\nCOPY --from=me x /x\n",
            2,
            "circular dependency",
        ),
        (
            "FROM scratch\nCOPY --from=7 x /x\n",
            2,
            "invalid stage index 7",
        ),
        ("FROM missing\n", 1, "not found"),
        ("FROM $NOTHING\n", 1, "should not be blank"),
        ("FROM Upper/Case\n", 1, "lowercase"),
        ("FROM --platform=$NOTHING a\n", 1, "empty platform"),
        (
            "FROM scratch\nRUN --mount=type=cash,target=/c x\n",
            2,
            "unsupported mount type",
        ),
        (
            "FROM scratch\nCOPY git@x:y /z\n",
            2,
            "source can't be a git ref",
        ),
        ("FROM scratch\nADD a https://missing/y /z\n", 2, "not found"),
        (
            "FROM scratch\nADD https://x/y.git?ref=a#b /z\n",
            2,
            "ref conflicts",
        ),
        (
            "FROM scratch\nADD --checksum=sha256:12 https://x/y /z\n",
            2,
            "invalid checksum",
        ),
        (
            "FROM scratch\nADD --checksum=xyz https://x/y.git /z\n",
            2,
            "expected hex commit hash",
        ),
        (
            "FROM scratch\nADD --checksum=aa https://x/y.git?checksum=bb /z\n",
            2,
            "checksum mismatch",
        ),
        (
            "FROM scratch\nADD --checksum=aa x /z\n",
            2,
            "checksum requires HTTP(S) or Git sources",
        ),
        (
            "FROM scratch\nADD --checksum=aa https://x/y https://x/z /z/\n",
            2,
            "checksum can't be specified for multiple sources",
        ),
        (
            "FROM scratch\nADD --keep-git-dir=true https://x/y.git?keep-git-dir=0 /z\n",
            2,
            "inconsistent keep-git-dir configuration",
        ),
        (
            "FROM scratch\nCOPY https://x/y /z\n",
            2,
            "source can't be a URL",
        ),
        ("FROM scratch\nENV A=${X:?needed}\n", 2, "needed"),
        ("FROM scratch\nSTOPSIGNAL WHAT\n", 2, "invalid signal"),
        ("FROM scratch\nEXPOSE x\n", 2, "invalid containerPort"),
    ] {
        let text = format!("{text}FROM scratch AS end\n");
        let first = plan_with(&text, |options| options.target = Some("0".into()));
        let error = match first {
            Err(error) => error,
            Ok(_) => refused(&text),
        };
        let place = error.place.as_ref().map(|place| place.range.start.line);
        assert_eq!(place, Some(line), "{text}: {error}");
        assert!(error.to_string().contains(message), "{text}: {error}");
    }
}

#[test]
fn errors_point_to_the_word_at_fault() {
    for (text, columns) in [
        ("FROM scratch\nCOPY here absent /x\n", Some((11, 17))),
        ("FROM scratch\nCOPY --from=7 x /x\n", Some((13, 14))),
        ("FROM scratch\nENV A=b C=${X:?needed}\n", Some((11, 23))),
        ("FROM scratch\nEXPOSE 80 x\n", Some((11, 12))),
        (
            "FROM scratch\nRUN --mount=type=tmpfs,target=/ x\n",
            Some((13, 32)),
        ),
        // The word stands in the base image, not here.
        ("FROM scratch\nFROM onbuild-copy\n", None),
    ] {
        let error = plan_with(text, |options| {
            let missing = NamedContext::Image("missing".parse().unwrap());
            options.contexts.insert("tools".into(), missing);
        });
        let place = error.map(|p| p.names).unwrap_err().place.unwrap();
        let found = place
            .caret
            .map(|caret| (caret.start.column, caret.end.column));
        assert_eq!(found, columns, "{}", place.snippet());
        assert_eq!(place.range.start.line, 2);
    }
    let error = refused("FROM $NOTHING\n");
    assert!(error.place.unwrap().snippet().contains("^^^^^^^^"));
}

#[test]
fn labels_of_the_command_line_come_last_and_leave_no_history() {
    let planned = plan_with("FROM scratch\nLABEL a=1\n", |options| {
        options.labels.push(("a".into(), "2".into()));
    })
    .unwrap();
    assert_eq!(planned.plan.config.config.labels["a"], "2");
    assert_eq!(planned.history(), ["LABEL a=1"]);
}

#[test]
fn scratch_has_a_path_and_a_working_directory() {
    let planned = planned("FROM scratch\nCOPY a /\n");
    assert_eq!(planned.plan.config.config.working_dir, "/");
    assert_eq!(planned.plan.config.config.env.len(), 1);
    assert!(planned.plan.config.config.env[0].starts_with("PATH=/usr/local/sbin"));
}

/// What the sources of a copy are: the number of a source from elsewhere with the pattern in it and
/// whether it is unpacked, or a word.
fn kinds(copy: &PlannedCopy) -> Vec<String> {
    let kind = |source: &PlannedSource| match source {
        PlannedSource::Remote {
            remote,
            query,
            unpack,
        } => {
            let unpacked = if *unpack { " unpacked" } else { "" };
            format!("{} {}{unpacked}", remote.index(), query.path)
        }
        PlannedSource::Directory { .. } => "local".to_owned(),
        other => format!("{other:?}"),
    };
    copy.sources.iter().map(kind).collect()
}

#[test]
fn add_takes_sources_from_elsewhere() {
    let planned = planned(
        "FROM scratch\nARG V=v1\n\
         ADD https://h/a[1].txt local https://h/x.git#$V:sub /d/\n\
         ADD --unpack=true https://h/a[1].txt /e/\n\
         ADD git@h:x /f/\n",
    );
    // The same one is asked for once.
    assert_eq!(
        planned.remotes,
        ["https://h/a[1].txt", "https://h/x.git#v1:sub", "git@h:x"]
    );
    assert_eq!(kinds(planned.copy(0)), ["0 /a\\[1].txt", "local", "1 /"]);
    assert!(planned.copy(0).unpack);
    assert_eq!(kinds(planned.copy(1)), ["0 /a\\[1].txt unpacked"]);
    assert_eq!(kinds(planned.copy(2)), ["2 /"]);
    assert_eq!(planned.plan.graph.remotes().len(), 3);
    let history = &planned.plan.config.history[1];
    assert_eq!(
        history.created_by,
        "ADD https://h/a[1].txt local https://h/x.git#v1:sub /d/ # buildkit"
    );
}

#[test]
fn flags_of_add_say_what_is_to_be_fetched() {
    let sum = BlobDigest::of(b"x");
    let planned = planned(&format!(
        "FROM scratch\nARG SUM={sum}\n\
         ADD --checksum=$SUM https://h/a /d/\n\
         ADD --keep-git-dir=true --checksum=abc https://h/x.git /d/\n\
         ADD --keep-git-dir=true https://h/x.git /d/\n"
    ));
    let remotes = planned.plan.graph.remotes();
    match &remotes[0] {
        RemoteFiles::Http(file) => assert_eq!(file.digest, sum),
        other => panic!("{other:?}"),
    }
    match (&remotes[1], &remotes[2]) {
        (RemoteFiles::Git(one), RemoteFiles::Git(other)) => {
            assert!(one.source.keeps_git_dir() && other.source.keeps_git_dir());
            assert_eq!(one.source.checksum.as_deref(), Some("abc"));
            // It only checks, and chooses nothing.
            assert_eq!(one.source.reference, None);
            assert_eq!(other.source.checksum, None);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn contexts_from_elsewhere_are_bases_and_sources() {
    let context = |text: &str| {
        let source = RemoteSource::parse_context(text).unwrap().unwrap();
        NamedContext::Remote(source)
    };
    let planned = plan_with(
        "FROM code AS c\nCOPY --from=data context /x\nFROM alpine\nCOPY --from=code /a /b\n\
         COPY --from=c / /c/\n",
        |options| {
            options.contexts = BTreeMap::from([
                ("code".to_owned(), context("https://h/x.git#v1")),
                ("data".to_owned(), context("https://h/data")),
            ]);
        },
    )
    .unwrap();
    assert_eq!(planned.remotes, ["https://h/x.git#v1", "https://h/data"]);
    assert_eq!(planned.images, ["alpine:latest"]);
    assert_eq!(kinds(planned.copy(0)), ["0 /"]);
    assert_eq!(kinds(planned.copy(1)), ["1 context"]);
    assert_eq!(kinds(planned.copy(2)), ["0 /a"]);
}

#[test]
fn the_epoch_may_be_that_of_a_source_from_elsewhere() {
    let epoch = |text: &str, given: &str| {
        plan_with(text, |options| {
            options
                .build_args
                .insert("SOURCE_DATE_EPOCH".into(), given.into());
            let source = RemoteSource::parse_context("https://h/x.git").unwrap();
            let context = NamedContext::Remote(source.unwrap());
            options.contexts = BTreeMap::from([("code".to_owned(), context)]);
        })
        .unwrap()
        .plan
        .epoch
    };
    let dockerfile = "FROM scratch AS src\nADD https://h/y.git#v1 /\nFROM scratch\nCOPY a /\n";
    assert_eq!(epoch(dockerfile, "src"), Some(1_000_000_000));
    assert_eq!(epoch(dockerfile, "code"), Some(1_000_000_000));
    assert_eq!(epoch(dockerfile, "7"), Some(7));
}
