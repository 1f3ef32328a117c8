use std::time::Duration;

use super::*;
use crate::dockerfile::parse;

/// The instruction of a stage that has only this one.
fn kind(text: &str) -> InstructionKind {
    let dockerfile = parse("Dockerfile", format!("FROM a\n{text}\n").as_bytes()).unwrap();
    let [instruction] = dockerfile.stages[0].instructions.as_slice() else {
        panic!("not one instruction: {text}");
    };
    instruction.kind.clone()
}

fn error(text: &str) -> ParseErrorKind {
    let text = format!("FROM a\n{text}\n");
    parse("Dockerfile", text.as_bytes())
        .unwrap_err()
        .kind()
        .clone()
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

macro_rules! parsed {
    ($variant:ident, $text:expr) => {
        match kind($text) {
            InstructionKind::$variant(parsed) => parsed,
            other => panic!("parsed as {other:?}"),
        }
    };
}

#[test]
fn from_takes_an_image_a_platform_and_a_name() {
    let from = |text: &str| {
        let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
        dockerfile.stages[0].from.kind.clone()
    };
    let plain = from("FROM scratch");
    assert_eq!(
        (plain.image.as_str(), plain.platform, plain.name),
        ("scratch", None, None)
    );
    let full = from("from --platform=$P a:1@sha256:b As Web-1.x_y");
    assert_eq!(full.platform.as_deref(), Some("$P"));
    assert_eq!(full.image, "a:1@sha256:b");
    assert_eq!(full.name.as_deref(), Some("web-1.x_y"));
    assert_eq!(
        full.name_as_written,
        Some(("As".to_owned(), "Web-1.x_y".to_owned()))
    );
}

#[test]
fn from_refuses_other_shapes_and_names() {
    for text in [
        "FROM",
        "FROM a b",
        "FROM a b c",
        "FROM a AS",
        "FROM a AS b c",
    ] {
        assert_eq!(error(text), ParseErrorKind::FromArguments, "{text}");
    }
    for name in ["1a", "-a", "a/b", "a$b", "ä"] {
        let expected = ParseErrorKind::StageName {
            name: name.to_owned(),
        };
        assert_eq!(error(&format!("FROM a AS {name}")), expected);
    }
}

#[test]
fn run_has_both_forms() {
    let command = |text| parsed!(Run, text).command;
    assert_eq!(
        command("RUN a  && b "),
        CommandLine::Shell("a  && b".to_owned())
    );
    assert_eq!(
        command("RUN a \\\n  # c\n  b"),
        CommandLine::Shell("a   b".to_owned())
    );
    assert_eq!(
        command("RUN [\"a\", \"b c\"]"),
        CommandLine::Exec(strings(["a", "b c"]))
    );
    assert_eq!(command("RUN"), CommandLine::Shell(String::new()));
    assert_eq!(command("RUN -- --x"), CommandLine::Shell("--x".to_owned()));
    assert_eq!(error("RUN []"), ParseErrorKind::RunWithoutCommand);
}

#[test]
fn run_has_its_flags() {
    let run = parsed!(
        Run,
        "RUN --mount=type=bind,from=x --mount='type=tmpfs,target=/a b' --network=none \
         --security=insecure --device=a/b=c,required x"
    );
    assert_eq!(run.mounts, ["type=bind,from=x", "type=tmpfs,target=/a b"]);
    assert_eq!(run.network, Some(RunNetwork::None));
    assert_eq!(run.security, Some(RunSecurity::Insecure));
    assert_eq!(run.devices, ["a/b=c,required"]);
    assert!(matches!(
        error("RUN --network=bridge x"),
        ParseErrorKind::FlagValue {
            flag: "network",
            possible: ["default", "none", "host"],
            ..
        }
    ));
    assert!(matches!(
        error("RUN --security=x x"),
        ParseErrorKind::FlagValue {
            flag: "security",
            ..
        }
    ));
}

#[test]
fn values_of_run_flags_know_their_names() {
    for network in [RunNetwork::Default, RunNetwork::None, RunNetwork::Host] {
        let text = format!("RUN --network={} x", network.name());
        assert_eq!(parsed!(Run, &text).network, Some(network));
    }
    for security in [RunSecurity::Sandbox, RunSecurity::Insecure] {
        let text = format!("RUN --security={} x", security.name());
        assert_eq!(parsed!(Run, &text).security, Some(security));
    }
}

#[test]
fn a_mount_from_a_variable_is_refused() {
    for text in [
        "RUN --mount=from=$x,target=/a y",
        "RUN --mount=type=bind,From=a${b} y",
    ] {
        let place = "--mount from";
        assert_eq!(
            error(text),
            ParseErrorKind::FromVariable { place },
            "{text}"
        );
    }
    assert_eq!(
        parsed!(Run, "RUN --mount=from=a$,target=$b y").mounts,
        ["from=a$,target=$b"]
    );
}

#[test]
fn run_hands_on_what_its_heredocs_make_of_it() {
    let shell = |text: &str| match parsed!(Run, text).input() {
        RunInput::Shell(text) => text.into_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(shell("RUN a"), "a");
    assert_eq!(shell("RUN <<E\na $x\nb\nE"), "a $x\nb\n");
    assert_eq!(shell("RUN <<-E\n\ta\n\tE"), "a\n");
    assert_eq!(
        shell("RUN cat <<A <<-B | x\n\ta\nA\n\tb\n\tB"),
        "cat <<A <<-B | x\n\ta\nA\n\tb\nB"
    );
    assert_eq!(shell("RUN cat << E\na\nE"), "cat << E\na\nE");
    let run = parsed!(Run, "RUN <<-'E'\n\t#!/bin/sh\n\ta\nE");
    // As the reference implementation: the mark is looked for before tabs are dropped.
    assert!(matches!(run.input(), RunInput::Shell(_)));
    let run = parsed!(Run, "RUN --network=none <<E\n#!/bin/sh\na\nE");
    let body = "#!/bin/sh\na\n".into();
    assert_eq!(run.input(), RunInput::Script { name: "E", body });
    let run = parsed!(Run, "RUN [\"a\", \"<<E\"]");
    assert_eq!(run.input(), RunInput::Exec(&strings(["a", "<<E"])));
}

#[test]
fn commands_have_both_forms() {
    let shell = |text: &str| CommandLine::Shell(text.to_owned());
    assert_eq!(parsed!(Cmd, "CMD a b").command, shell("a b"));
    assert_eq!(parsed!(Cmd, "CMD").command, shell(""));
    assert_eq!(
        parsed!(Cmd, "CMD []").command,
        CommandLine::Exec(Vec::new())
    );
    assert_eq!(parsed!(Cmd, "CMD ['a']").command, shell("['a']"));
    assert_eq!(parsed!(Cmd, "CMD <<E").command, shell("<<E"));
    assert_eq!(parsed!(Entrypoint, "ENTRYPOINT a").command, shell("a"));
    assert_eq!(
        parsed!(Entrypoint, "ENTRYPOINT [\"a\"]").command,
        CommandLine::Exec(strings(["a"]))
    );
    assert_eq!(error("CMD [1]"), ParseErrorKind::JsonNotStrings);
    assert!(matches!(
        error("CMD --a b"),
        ParseErrorKind::UnknownFlag { keyword: "CMD", .. }
    ));
}

#[test]
fn shell_wants_json() {
    assert_eq!(
        parsed!(Shell, "SHELL [\"a\", \"-c\"]").arguments,
        ["a", "-c"]
    );
    let keyword = "SHELL";
    assert_eq!(
        error("SHELL a -c"),
        ParseErrorKind::JsonRequired { keyword }
    );
    assert_eq!(error("SHELL"), ParseErrorKind::NoArguments { keyword });
    assert_eq!(error("SHELL []"), ParseErrorKind::NoArguments { keyword });
}

#[test]
fn env_and_label_have_two_forms() {
    let pair = |name: &str, value: &str| KeyValue {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let env = parsed!(Env, "ENV a=1 \"b c\"='d e' f=g\\ h i=");
    assert!(!env.legacy);
    let expected = [
        pair("a", "1"),
        pair("\"b c\"", "'d e'"),
        pair("f", "g\\ h"),
        pair("i", ""),
    ];
    assert_eq!(env.pairs, expected);
    let env = parsed!(Env, "ENV a  b=c \"d");
    assert!(env.legacy);
    assert_eq!(env.pairs, [pair("a", "b=c \"d")]);
    let label = parsed!(Label, "LABEL a.b/c=$x");
    assert_eq!(
        (label.pairs, label.legacy),
        (vec![pair("a.b/c", "$x")], false)
    );
}

#[test]
fn env_and_label_refuse_other_shapes() {
    let keyword = "ENV";
    assert_eq!(error("ENV"), ParseErrorKind::NoArguments { keyword });
    assert_eq!(error("ENV a"), ParseErrorKind::NameWithoutValue { keyword });
    assert_eq!(error("ENV =a"), ParseErrorKind::BlankName { keyword });
    let word = "b".to_owned();
    assert_eq!(error("ENV a=1 b"), ParseErrorKind::MissingEquals { word });
    let keyword = "LABEL";
    assert_eq!(error("LABEL a=1 =b"), ParseErrorKind::BlankName { keyword });
}

#[test]
fn arg_declares_names_with_and_without_defaults() {
    let arg = parsed!(Arg, "ARG a b= c=\"d e\" f=$g");
    let declarations: Vec<_> = arg
        .declarations
        .iter()
        .map(|declaration| (declaration.name.as_str(), declaration.default.as_deref()))
        .collect();
    let expected = [
        ("a", None),
        ("b", Some("")),
        ("c", Some("\"d e\"")),
        ("f", Some("$g")),
    ];
    assert_eq!(declarations, expected);
    assert_eq!(parsed!(Arg, "ARG ${K}_x=1").declarations[0].name, "${K}_x");
    let keyword = "ARG";
    assert_eq!(error("ARG"), ParseErrorKind::NoArguments { keyword });
    assert_eq!(error("ARG =a"), ParseErrorKind::BlankName { keyword });
}

#[test]
fn copy_has_sources_a_destination_and_flags() {
    let copy = parsed!(
        Copy,
        "COPY --from=b --chown=$u:g --chmod=u+x --link --parents --exclude=*.o --exclude=!a a b/ /c/"
    );
    assert_eq!(copy.from.as_deref(), Some("b"));
    assert_eq!(copy.chown.as_deref(), Some("$u:g"));
    assert_eq!(copy.chmod.as_deref(), Some("u+x"));
    assert!(copy.link && copy.parents);
    assert_eq!(copy.exclude, ["*.o", "!a"]);
    assert_eq!(copy.arguments.paths().collect::<Vec<_>>(), ["a", "b/"]);
    assert_eq!(copy.arguments.destination, "/c/");
    let copy = parsed!(Copy, "COPY [\"a b\", \"<<E\", \"c\"]");
    assert_eq!(copy.arguments.paths().collect::<Vec<_>>(), ["a b", "<<E"]);
    assert!(copy.arguments.json && !copy.link && copy.from.is_none());
    let copy = parsed!(Copy, "COPY \"a b\" c");
    assert_eq!(copy.arguments.paths().collect::<Vec<_>>(), ["\"a", "b\""]);
}

#[test]
fn add_has_flags_of_its_own() {
    let add = parsed!(
        Add,
        "ADD --keep-git-dir --checksum=sha256:x --unpack=false a b"
    );
    assert_eq!(add.keep_git_dir, Some(true));
    assert_eq!(add.checksum.as_deref(), Some("sha256:x"));
    assert_eq!(add.unpack, Some(false));
    assert_eq!(parsed!(Add, "ADD a b").unpack, None);
    assert!(matches!(
        error("ADD --from=x a b"),
        ParseErrorKind::UnknownFlag { .. }
    ));
    assert!(matches!(
        error("COPY --unpack a b"),
        ParseErrorKind::UnknownFlag { .. }
    ));
}

#[test]
fn copy_refuses_other_shapes() {
    for text in ["COPY", "COPY a", "COPY [\"a\"]", "COPY []"] {
        let keyword = "COPY";
        assert_eq!(
            error(text),
            ParseErrorKind::NoDestination { keyword },
            "{text}"
        );
    }
    let place = "--from";
    assert_eq!(
        error("COPY --from=$x a b"),
        ParseErrorKind::FromVariable { place }
    );
    assert_eq!(
        error("COPY --from=a$x a b"),
        ParseErrorKind::FromVariable { place }
    );
    assert_eq!(
        parsed!(Copy, "COPY --from=a$ a b").from.as_deref(),
        Some("a$")
    );
}

#[test]
fn copy_takes_heredocs_as_files() {
    let copy = parsed!(Copy, "COPY <<X a <<-'Y' /d\nY\nX\n\tX\n\tY");
    let heredocs: Vec<_> = copy
        .arguments
        .heredocs()
        .map(|heredoc| {
            (
                heredoc.name.as_str(),
                heredoc.content().into_owned(),
                heredoc.expand,
            )
        })
        .collect();
    let expected = [
        ("X", "Y\n".to_owned(), true),
        ("Y", "X\n".to_owned(), false),
    ];
    assert_eq!(heredocs, expected);
    assert_eq!(copy.arguments.paths().collect::<Vec<_>>(), ["a"]);
    assert!(matches!(
        copy.arguments.sources[0],
        SourceArgument::Heredoc(_)
    ));
    let add = parsed!(Add, "ADD <<f.txt /d\nf.txt");
    assert_eq!(add.arguments.heredocs().next().unwrap().body, "");
}

#[test]
fn heredocs_of_the_same_name_keep_their_own_bodies() {
    let copy = parsed!(Copy, "COPY <<X <<X /d\n1\nX\n2\nX");
    let bodies: Vec<_> = copy.arguments.heredocs().map(|h| h.body.as_str()).collect();
    assert_eq!(bodies, ["1\n", "2\n"]);
}

#[test]
fn copy_refuses_heredocs_that_are_no_words() {
    let name = |name: &str| ParseErrorKind::HeredocNotAWord {
        name: name.to_owned(),
    };
    assert_eq!(error("COPY << EOF /x\nEOF"), name("EOF"));
    assert_eq!(error("COPY <<'a b' /x\na b"), name("a b"));
    let keyword = "COPY";
    assert_eq!(
        error("COPY a <<E\nE"),
        ParseErrorKind::HeredocDestination { keyword }
    );
}

#[test]
fn instructions_of_one_argument_take_the_line() {
    assert_eq!(parsed!(Workdir, "WORKDIR /a b ").path, "/a b");
    assert_eq!(parsed!(User, "USER a b").user, "a b");
    assert_eq!(parsed!(Stopsignal, "STOPSIGNAL $S").signal, "$S");
    assert_eq!(parsed!(Maintainer, "MAINTAINER A B <c>").name, "A B <c>");
    for keyword in ["WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER"] {
        assert_eq!(error(keyword), ParseErrorKind::NotOneArgument { keyword });
        assert!(matches!(
            error(&format!("{keyword} --x y")),
            ParseErrorKind::UnknownFlag { .. }
        ));
    }
}

#[test]
fn expose_takes_words() {
    assert_eq!(
        parsed!(Expose, "EXPOSE 80/tcp  $P 1-2").ports,
        ["80/tcp", "$P", "1-2"]
    );
    assert_eq!(
        error("EXPOSE"),
        ParseErrorKind::NoArguments { keyword: "EXPOSE" }
    );
}

#[test]
fn volume_takes_words_or_json() {
    assert_eq!(parsed!(Volume, "VOLUME /a /b").paths, ["/a", "/b"]);
    assert_eq!(
        parsed!(Volume, "VOLUME [\"/a b\", \" /c \"]").paths,
        ["/a b", "/c"]
    );
    assert_eq!(
        error("VOLUME"),
        ParseErrorKind::NoArguments { keyword: "VOLUME" }
    );
    assert_eq!(
        error("VOLUME []"),
        ParseErrorKind::NoArguments { keyword: "VOLUME" }
    );
    assert_eq!(error("VOLUME [\"a\", \" \"]"), ParseErrorKind::EmptyVolume);
}

#[test]
fn healthcheck_takes_a_command_or_none() {
    assert_eq!(
        parsed!(Healthcheck, "HEALTHCHECK none"),
        HealthcheckInstruction::None
    );
    let HealthcheckInstruction::Command(check) = parsed!(
        Healthcheck,
        "HEALTHCHECK --interval=5s --timeout=1m30s --start-period=0s --start-interval=1ms \
         --retries=3 cmd [\"a\", \"b\"]"
    ) else {
        panic!("no command");
    };
    assert_eq!(check.interval, Some(Duration::from_secs(5)));
    assert_eq!(check.timeout, Some(Duration::from_secs(90)));
    assert_eq!(check.start_period, Some(Duration::ZERO));
    assert_eq!(check.start_interval, Some(Duration::from_millis(1)));
    assert_eq!(check.retries, Some(3));
    assert_eq!(check.command, CommandLine::Exec(strings(["a", "b"])));
    let HealthcheckInstruction::Command(check) = parsed!(Healthcheck, "HEALTHCHECK CMD a  b")
    else {
        panic!("no command");
    };
    assert_eq!(check.command, CommandLine::Shell("a  b".to_owned()));
    assert_eq!((check.interval, check.retries), (None, None));
}

#[test]
fn healthcheck_refuses_other_shapes() {
    let found = "CONNECT".to_owned();
    assert_eq!(
        error("HEALTHCHECK CONNECT TCP"),
        ParseErrorKind::HealthcheckType { found }
    );
    assert_eq!(error("HEALTHCHECK NONE x"), ParseErrorKind::HealthcheckNone);
    for text in ["HEALTHCHECK CMD", "HEALTHCHECK CMD []"] {
        assert_eq!(error(text), ParseErrorKind::HealthcheckWithoutCommand);
    }
    assert_eq!(
        error("HEALTHCHECK"),
        ParseErrorKind::NoArguments {
            keyword: "HEALTHCHECK"
        }
    );
    for (text, part) in [
        ("--interval=1us", "less than 1ms"),
        ("--timeout=x", "invalid duration"),
        ("--start-period=-1s", "less than 1ms"),
        ("--retries=-1", "at least 0"),
        ("--retries=x", "at least 0"),
        ("--retries=99999999999", "at least 0"),
    ] {
        let message = error(&format!("HEALTHCHECK {text} CMD x")).to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn onbuild_keeps_its_instruction_as_it_is() {
    let onbuild = parsed!(Onbuild, "onbuild   run  a \\\n  b");
    assert_eq!(
        (onbuild.keyword.as_str(), onbuild.trigger.as_str()),
        ("RUN", "run  a   b")
    );
    let onbuild = parsed!(Onbuild, "ONBUILD COPY <<-A <<B /x\n\ta\n\tA\nb\nB");
    assert_eq!(onbuild.trigger, "COPY <<-A <<B /x\n\ta\nA\nb\nB");
    // Checked only when it is triggered.
    assert_eq!(
        parsed!(Onbuild, "ONBUILD COPY --what x").trigger,
        "COPY --what x"
    );
    assert_eq!(parsed!(Onbuild, "ONBUILD FROBNICATE").trigger, "FROBNICATE");
}

#[test]
fn onbuild_refuses_some_instructions_at_once() {
    assert_eq!(error("ONBUILD onbuild x"), ParseErrorKind::OnbuildOnbuild);
    for keyword in ["FROM", "MAINTAINER"] {
        let text = format!("ONBUILD {} x", keyword.to_lowercase());
        let keyword = keyword.to_owned();
        assert_eq!(error(&text), ParseErrorKind::OnbuildTrigger { keyword });
    }
    assert_eq!(
        error("ONBUILD"),
        ParseErrorKind::NoArguments { keyword: "ONBUILD" }
    );
}

#[test]
fn every_keyword_is_an_instruction_in_any_case() {
    for keyword in KEYWORDS {
        for spelling in [keyword.to_owned(), keyword.to_lowercase()] {
            if let Err(error) = parse("D", format!("FROM a\n{spelling} a b").as_bytes()) {
                let unknown = matches!(error.kind(), ParseErrorKind::UnknownInstruction { .. });
                assert!(!unknown, "{spelling}");
            }
        }
    }
}
