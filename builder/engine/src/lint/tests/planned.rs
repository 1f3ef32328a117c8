//! The rules that planning tells of what it knows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ashlar_model::config::ImageConfig;
use ashlar_model::digest::{BlobDigest, DiffId, LayerId};
use ashlar_model::executor::BoxFuture;
use ashlar_model::platform::Platform;
use ashlar_model::step::Selection;
use proptest::prelude::*;

use super::Findings;
use crate::dockerfile::corpus::cases;
use crate::dockerfile::parse;
use crate::plan::testing::{Remotes, options};
use crate::plan::{
    BaseImage, ContextSource, ImageSource, NamedContext, PlanError, PlanOptions, PlanSources,
    SourceError, check, plan,
};
use ashlar_model::select::{PathRules, SourceQuery};

/// Knows every image. They are for amd64, whatever is asked for; `shell` has a SHELL.
struct Images;

impl ImageSource for Images {
    fn image<'a>(
        &'a self,
        context: &'a NamedContext,
        _platform: &'a Platform,
    ) -> BoxFuture<'a, Result<BaseImage, SourceError>> {
        let name = match context {
            NamedContext::Image(reference) => reference.familiar(),
            other => format!("{other:?}"),
        };
        Box::pin(async move {
            let mut config = ImageConfig::new(&Platform::new("linux", "amd64", None));
            config.config.env = vec!["PATH=/bin".into(), "FROM_IMAGE=1".into()];
            if name.starts_with("shell") {
                config.config.shell = vec!["/bin/bash".into()];
            }
            if name.starts_with("triggers") {
                config.config.on_build = vec!["WORKDIR sub".into(), "CMD x".into()];
            }
            let layer = LayerId::of_diff_id(&DiffId::of(name.as_bytes()));
            let digest = BlobDigest::of(name.as_bytes());
            Ok(BaseImage {
                name,
                digest,
                config,
                layers: vec![layer],
            })
        })
    }
}

struct Files(PathRules);

impl ContextSource for Files {
    fn root(&self) -> &Path {
        Path::new("/context")
    }

    fn select(&self, sources: &[SourceQuery]) -> Result<Vec<Arc<Selection>>, SourceError> {
        Ok(sources.iter().map(|_| Arc::default()).collect())
    }

    fn left_out(&self, pattern: &str) -> Option<String> {
        let path = self.0.match_for_certain(pattern.as_bytes())?;
        Some(String::from_utf8(path).unwrap())
    }
}

/// What a build is given.
#[derive(Default)]
pub(super) struct Given<'a> {
    build_args: &'a [(&'a str, &'a str)],
    ignore: &'a [&'a str],
    target: Option<&'a str>,
    platform: Option<Platform>,
    contexts: &'a [(&'a str, &'a str)],
    /// Whether it is built, not only checked.
    build: bool,
}

/// What is found, sorted by line, and how planning ends.
pub(super) fn look(text: &str, given: &Given<'_>) -> (Vec<String>, Result<(), PlanError>) {
    let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
    let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    };
    let contexts = owned(given.contexts).into_iter();
    let amd64 = Platform::new("linux", "amd64", None);
    let options = PlanOptions {
        target: given.target.map(str::to_owned),
        build_args: owned(given.build_args),
        platform: given.platform.clone().unwrap_or_else(|| amd64.clone()),
        build_platform: amd64,
        contexts: contexts
            .map(|(name, image)| (name, NamedContext::Image(image.parse().unwrap())))
            .collect(),
        ..options()
    };
    let rules = PathRules::new(given.ignore.iter().map(|rule| rule.as_bytes())).unwrap();
    let files = |rules| Arc::new(Files(rules)) as Arc<dyn ContextSource>;
    let findings = Arc::new(Findings::default());
    let sources = PlanSources {
        images: Arc::new(Images),
        remotes: Arc::new(Remotes::default()),
        vertices: 0,
        context: Some(files(rules)),
        named: Arc::new(move |_: &Path| Ok(files(PathRules::default()))),
        events: findings.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let outcome = runtime.block_on(async {
        if given.build {
            plan(&dockerfile, &options, &sources).await.map(drop)
        } else {
            check(&dockerfile, &options, &sources).await
        }
    });
    (findings.take(), outcome)
}

#[track_caller]
fn assert_given(text: &str, given: &Given<'_>, expected: &[&str]) {
    let (findings, outcome) = look(text, given);
    assert_eq!(findings, expected, "{text}");
    outcome.unwrap();
}

#[track_caller]
fn assert_found(text: &str, expected: &[&str]) {
    assert_given(text, &Given::default(), expected);
}

/// Asserts what is found before planning fails.
#[track_caller]
fn assert_fails(text: &str, expected: &[&str]) {
    let (findings, outcome) = look(text, &Given::default());
    assert_eq!(findings, expected, "{text}");
    outcome.unwrap_err();
}

#[test]
fn undefined_arg_in_from() {
    for good in [
        "ARG base=scratch\nFROM $base\n",
        "ARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM scratch\n",
        "FROM --platform=$BUILDPLATFORM scratch\n",
        "ARG DEBUG\nFROM scratch${DEBUG}\n",
        "ARG DEBUG\nFROM scra${DEBUG:-tch}\n",
        "ARG DEBUG=\"\"\nFROM scratch${DEBUG-@bogus}\n",
    ] {
        assert_found(good, &[]);
    }
    assert_fails(
        "FROM --platform=$BULIDPLATFORM scratch\n",
        &[
            "UndefinedArgInFrom: FROM argument 'BULIDPLATFORM' is not declared (did you mean \
             BUILDPLATFORM?) (line 1)",
        ],
    );
    assert_fails(
        "ARG MY_OS=linux\nARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH} busybox\n",
        &[
            "UndefinedArgInFrom: FROM argument 'MYARCH' is not declared (did you mean MY_ARCH?) (line 3)",
        ],
    );
    assert_found(
        "ARG tag=latest\nFROM busybox:${tag}${version} AS b\n",
        &["UndefinedArgInFrom: FROM argument 'version' is not declared (line 2)"],
    );
    assert_found(
        "# check=skip=MaintainerDeprecated\n#\n# check=skip=UndefinedArgInFrom\nFROM busybox${x}\n",
        &[],
    );
}

#[test]
fn workdir_relative_path() {
    let relative = |path: &str, line: u32| {
        format!(
            "WorkdirRelativePath: Relative workdir {path:?} can have unexpected results if the base \
             image changes (line {line})"
        )
    };
    assert_found(
        "FROM scratch\nWORKDIR app/\nWORKDIR b\n",
        &[&relative("app/", 2)],
    );
    assert_found(
        "FROM scratch AS a\nWORKDIR /app\nFROM a AS b\nWORKDIR sub/\n",
        &[],
    );
    // What the variable holds is what counts.
    assert_found("FROM scratch\nENV D=/d\nWORKDIR $D\nWORKDIR x\n", &[]);
    // A trigger of an image is shown where the image is named.
    assert_found(
        "ARG A\nFROM triggers\nSHELL [\"x\"]\n",
        &[
            &relative("sub", 2),
            "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended \
             behavior related to OS signals (line 2)",
        ],
    );
}

#[test]
fn undefined_var() {
    for good in [
        "FROM scratch\nARG foo\nCOPY Dockerfile${foo} .\n",
        "FROM busybox AS base\nARG foo=Dockerfile\nFROM base\nCOPY $foo .\n",
        "FROM busybox\nRUN echo $PATH $nothing\n",
        "FROM busybox\nWORKDIR /$FROM_IMAGE\n",
        "FROM scratch\nEXPOSE $nothing\nCMD [\"$nothing\"]\n",
        "FROM scratch\nCOPY <<'EOF' /f\n$nothing\nEOF\n",
        "FROM scratch\nARG a=1\nENV b=$a c=${BUILDKIT_SBOM_SCAN_STAGE}\n",
    ] {
        assert_found(good, &[]);
    }
    let undefined = |name: &str, line: u32| {
        format!("UndefinedVar: Usage of undefined variable '${name}' (line {line})")
    };
    for (bad, name, line) in [
        (
            "FROM busybox\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n",
            "foo",
            2,
        ),
        ("FROM scratch\nCOPY --chown=$who a /\n", "who", 2),
        ("FROM scratch\nCOPY <<EOF /f\n$what\nEOF\n", "what", 2),
        ("FROM scratch\nLABEL a=$b\n", "b", 2),
        ("FROM scratch\nARG a=$b\n", "b", 2),
        ("FROM scratch\nENV a=1 b=$a\n", "a", 2),
        ("FROM scratch\nVOLUME /$v\n", "v", 2),
        ("FROM scratch\nUSER root$v\n", "v", 2),
        ("FROM scratch\nSTOPSIGNAL ${v:-9}\n", "v", 2),
        // Of a global ARG a stage knows nothing until it declares it.
        ("ARG v=1\nFROM scratch\nWORKDIR /$v\n", "v", 3),
    ] {
        assert_found(bad, &[&undefined(name, line)]);
    }
    assert_found(
        "FROM scratch\nARG DIR_BINARIES=b\nARG DIR_ASSETS=a\nCOPY $DIR_ASSET .\n",
        &[
            "UndefinedVar: Usage of undefined variable '$DIR_ASSET' (did you mean $DIR_ASSETS?) (line 4)",
        ],
    );
    assert_found(
        "FROM busybox\nENV PATH=$PAHT:/tmp/bin\n",
        &["UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?) (line 2)"],
    );
    // The value of a build argument takes the default's place.
    let given = Given {
        build_args: &[("a", "1")],
        ..Given::default()
    };
    assert_given("FROM scratch\nARG a=$b\n", &given, &[]);
}

#[test]
fn json_args_recommended() {
    let recommended = |keyword: &str| {
        format!(
            "JSONArgsRecommended: JSON arguments recommended for {keyword} to prevent unintended \
             behavior related to OS signals (line 2)"
        )
    };
    for keyword in ["CMD", "ENTRYPOINT"] {
        assert_found(
            &format!("FROM scratch\n{keyword} mycommand\n"),
            &[&recommended(keyword)],
        );
        for good in [
            format!("FROM scratch\n{keyword} [\"mycommand\"]\n"),
            format!("FROM scratch\nSHELL [\"/sh\"]\n{keyword} mycommand\n"),
            format!("FROM scratch AS base\nSHELL [\"/sh\"]\nFROM base\n{keyword} mycommand\n"),
            format!("FROM shell\n{keyword} mycommand\n"),
        ] {
            assert_found(&good, &[]);
        }
    }
}

#[test]
fn multiple_instructions_disallowed() {
    let multiple = |keyword: &str, line: u32| {
        format!(
            "MultipleInstructionsDisallowed: Multiple {keyword} instructions should not be used in \
             the same stage because only the last one will be used (line {line})"
        )
    };
    assert_found(
        "FROM scratch\nENTRYPOINT [\"/a\"]\nENTRYPOINT [\"/b\"]\nCMD [\"/a\"]\nCMD [\"/b\"]\n\
         HEALTHCHECK CMD [\"/a\"]\nHEALTHCHECK CMD [\"/b\"]\n",
        &[
            &multiple("ENTRYPOINT", 2),
            &multiple("CMD", 4),
            &multiple("HEALTHCHECK", 6),
        ],
    );
    assert_found(
        "FROM scratch\nCMD [\"/a\"]\nCOPY <<EOF /a\nx\nEOF\nCMD [\"/b\"]\nCMD [\"/c\"]\n",
        &[&multiple("CMD", 2), &multiple("CMD", 6)],
    );
    assert_found(
        "FROM scratch AS a\nCMD [\"/a\"]\nENTRYPOINT [\"/a\"]\nHEALTHCHECK NONE\n\
         FROM a\nCMD [\"/b\"]\nENTRYPOINT [\"/b\"]\nHEALTHCHECK NONE\n",
        &[],
    );
}

#[test]
fn legacy_key_value_format() {
    let text = "FROM scratch\nENV testkey value\nLABEL key value\n";
    let expected = [
        "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" \
         format (line 2)",
        "LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key \
         value\" format (line 3)",
    ];
    assert_found(text, &expected);
    assert_found("FROM scratch\nENV testkey=value\nLABEL key=value\n", &[]);
    // A stage that is not built is checked, but a build says nothing of it.
    let unreachable = format!("{text}FROM scratch\n");
    assert_found(&unreachable, &expected);
    let built = Given {
        build: true,
        ..Given::default()
    };
    assert_given(&unreachable, &built, &[]);
    let no_name = Given {
        target: Some(""),
        ..Given::default()
    };
    assert_given(&unreachable, &no_name, &expected);
    let other = Given {
        target: Some("b"),
        ..Given::default()
    };
    assert_given(&format!("{text}FROM scratch AS b\n"), &other, &[]);
}

#[test]
fn invalid_base_image_platform() {
    let mismatch = |image: &str, line: u32| {
        format!(
            "InvalidBaseImagePlatform: Base image {image} was pulled with platform \"linux/amd64\", \
             expected \"linux/arm64\" for current build (line {line})"
        )
    };
    let arm = || Given {
        platform: Some(Platform::new("linux", "arm64", None)),
        ..Given::default()
    };
    assert_found("FROM busybox\n", &[]);
    assert_given("FROM busybox\n", &arm(), &[&mismatch("busybox", 1)]);
    assert_given(
        "FROM scratch\nCOPY --from=alpine:3 /a /\n",
        &arm(),
        &[&mismatch("alpine:3", 2)],
    );
    assert_given("FROM scratch\n", &arm(), &[]);
    // Who gives an image in place of another knows which.
    let replaced = Given {
        contexts: &[("busybox", "mine")],
        ..arm()
    };
    assert_given("FROM busybox\n", &replaced, &[]);
    assert_given(
        "# check=skip=InvalidBaseImagePlatform\nFROM busybox\n",
        &arm(),
        &[],
    );
}

#[test]
fn redundant_target_platform() {
    for written in ["$TARGETPLATFORM", "${TARGETPLATFORM}"] {
        assert_found(
            &format!("FROM --platform={written} scratch\n"),
            &[&format!(
                "RedundantTargetPlatform: Setting platform to predefined {written} in FROM is \
                 redundant as this is the default behavior (line 1)"
            )],
        );
    }
    assert_found("FROM --platform=$BUILDPLATFORM scratch\n", &[]);
    assert_found("FROM --platform=$TARGETOS/$TARGETARCH scratch\n", &[]);
}

#[test]
fn secrets_used_in_arg_or_env() {
    let secret = |what: &str, line: u32| {
        format!(
            "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data ({what}) \
             (line {line})"
        )
    };
    assert_found(
        "FROM scratch\nARG SECRET_PASSPHRASE\nENV SUPER_Secret=foo\nENV password=bar secret=baz\n\
         ARG super_duper_secret_token=foo auth=bar\nENV apikey=bar sunflower=foo\nENV git_key=\n\
         ENV PUBLIC_KEY= TOKEN_FILE=/f MONKEY=1\nARG public_token\n",
        &[
            &secret("ARG \"SECRET_PASSPHRASE\"", 2),
            &secret("ENV \"SUPER_Secret\"", 3),
            &secret("ENV \"password\"", 4),
            &secret("ENV \"secret\"", 4),
            &secret("ARG \"super_duper_secret_token\"", 5),
            &secret("ARG \"auth\"", 5),
            &secret("ENV \"apikey\"", 6),
            &secret("ENV \"git_key\"", 7),
        ],
    );
}

#[test]
fn invalid_default_arg_in_from() {
    let invalid = |image: &str, line: u32| {
        format!(
            "InvalidDefaultArgInFrom: Default value for ARG {image} results in empty or invalid base \
             image name (line {line})"
        )
    };
    for (text, argument, image) in [
        (
            "ARG VERSION\nFROM busybox:$VERSION\n",
            ("VERSION", "latest"),
            "busybox:$VERSION",
        ),
        (
            "ARG IMAGE\nFROM $IMAGE\n",
            ("IMAGE", "busybox:latest"),
            "$IMAGE",
        ),
        (
            "ARG SFX=\"box:\"\nFROM busy${SFX}\n",
            ("SFX", "box:latest"),
            "busy${SFX}",
        ),
    ] {
        let given = Given {
            build_args: &[argument],
            ..Given::default()
        };
        assert_given(text, &given, &[&invalid(image, 2)]);
    }
    for (text, argument) in [
        (
            "ARG VERSION=\"latest\"\nFROM busybox:${VERSION}\n",
            ("VERSION", "latest"),
        ),
        (
            "ARG VARIANT=\"\"\nFROM busybox:stable${VARIANT}\n",
            ("VARIANT", "-musl"),
        ),
        (
            "ARG VARIANT\nFROM busybox:stable${VARIANT}\n",
            ("VARIANT", "-musl"),
        ),
    ] {
        let given = Given {
            build_args: &[argument],
            ..Given::default()
        };
        assert_given(text, &given, &[]);
    }
}

#[test]
fn from_platform_flag_const_disallowed() {
    assert_found(
        "FROM --platform=linux/amd64 scratch\n",
        &[
            "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \
           \"linux/amd64\" (line 1)",
        ],
    );
    for name in ["my_amd64_stage", "linux"] {
        assert_found(
            &format!("FROM --platform=linux/amd64 scratch AS {name}\n"),
            &[],
        );
    }
}

#[test]
fn copy_ignored_file() {
    let text = "FROM scratch\nCOPY ./Dockerfile .\nADD Dockerfile other /windy\n";
    let ignored = |verb: &str, line: u32| {
        format!(
            "CopyIgnoredFile: Attempting to {verb} file \"Dockerfile\" that is excluded by \
             .dockerignore (line {line})"
        )
    };
    let given = Given {
        ignore: &["Dockerfile"],
        ..Given::default()
    };
    // Off by itself.
    assert_eq!(look(text, &given).0, [""; 0]);
    for check in ["experimental=CopyIgnoredFile", "skip=all;experimental=all"] {
        let (found, _) = look(&format!("# check={check}\n{text}"), &given);
        assert_eq!(found, [ignored("Copy", 3), ignored("Add", 4)]);
    }
    // Not what comes from elsewhere, and not where something is taken back in.
    let text = "# check=experimental=all\nFROM scratch AS a\nCOPY f /Dockerfile\n\
                FROM a\nCOPY --from=a /Dockerfile Dockerfile /\n";
    assert_given(text, &given, &[]);
    let exception = Given {
        ignore: &["Dockerfile", "!other"],
        ..Given::default()
    };
    assert_given(
        "# check=experimental=all\nFROM scratch\nCOPY Dockerfile /\n",
        &exception,
        &[],
    );
}

#[test]
fn expose_proto_casing() {
    assert_found(
        "FROM scratch\nEXPOSE 80/TcP 80/UDP 8080/udp 80\n",
        &[
            "ExposeProtoCasing: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase \
             (line 2)",
            "ExposeProtoCasing: Defined protocol '80/UDP' in EXPOSE instruction should be lowercase \
             (line 2)",
        ],
    );
}

#[test]
fn expose_invalid_format() {
    let invalid = |port: &str| {
        format!(
            "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port \
             mapping, found '{port}' (line 2)"
        )
    };
    for port in ["127.0.0.1:80:80", "[::1]:80:80", "5000:5000"] {
        assert_found(&format!("FROM scratch\nEXPOSE {port}\n"), &[&invalid(port)]);
    }
    assert_found("FROM scratch\nARG p=80\nEXPOSE $p 8000-8010/tcp\n", &[]);
}

#[test]
fn broken_rules_fail_what_says_so() {
    let text = "# check=error=true\nFROM scratch as base\ncopy a /\n";
    for build in [true, false] {
        let given = Given {
            build,
            ..Given::default()
        };
        let (found, outcome) = look(text, &given);
        assert_eq!(found.len(), 2);
        let message = "lint violation found for rules: FromAsCasing, ConsistentInstructionCasing";
        assert_eq!(outcome.unwrap_err().message, message);
    }
    for quiet in [
        "# check=skip=all;error=true\nFROM scratch as base\n",
        "# check=skip=FromAsCasing;error=true\nFROM scratch as base\n",
        // Off for all that breaks it, so not broken; `error` above an instruction means nothing.
        "# check=error=true\n#\n# check=skip=FromAsCasing\nFROM scratch as base\n",
        "#\n# check=error=true\nFROM scratch AS base\nENV a b\n",
    ] {
        let (_, outcome) = look(quiet, &Given::default());
        outcome.unwrap();
    }
}

#[test]
fn a_build_argument_takes_the_directives_place() {
    let argument = |text: &'static str| Given {
        build_args: match text {
            "all" => &[("BUILDKIT_DOCKERFILE_CHECK", "skip=all")],
            "some" => &[(
                "BUILDKIT_DOCKERFILE_CHECK",
                "skip=ConsistentInstructionCasing;error=true",
            )],
            _ => &[("BUILDKIT_DOCKERFILE_CHECK", "skip")],
        },
        ..Given::default()
    };
    let text = "# check=error=true\nFROM scratch as base\ncopy a /\n";
    assert_given(text, &argument("all"), &[]);
    let (found, outcome) = look(&text.replace("error=true", "skip=all"), &argument("some"));
    assert_eq!(found.len(), 1);
    let error = outcome.unwrap_err();
    assert_eq!(
        error.message,
        "lint violation found for rules: FromAsCasing"
    );
    let (_, outcome) = look(text, &argument("none"));
    let message =
        "failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: invalid check option \"skip\"";
    assert_eq!(outcome.unwrap_err().message, message);
}

#[test]
fn a_directive_that_cannot_be_read_is_an_error_at_its_place() {
    let (_, outcome) = look("# check=nonsense\nFROM scratch\n", &Given::default());
    let error = outcome.unwrap_err();
    let message = "failed to parse check options: invalid check option \"nonsense\"";
    assert_eq!(error.message, message);
    assert_eq!(error.place.unwrap().range.start.line, 1);
}

#[test]
fn a_comment_above_an_instruction_is_for_it_alone() {
    assert_found(
        "FROM scratch\n# check=skip=UndefinedVar set elsewhere\nLABEL a=$x\nLABEL b=$y\n",
        &["UndefinedVar: Usage of undefined variable '$y' (line 4)"],
    );
    assert_found(
        "FROM scratch\n# check=experimental=all\n# a is it\nARG b\n",
        &[
            "InvalidDefinitionDescription: Comment for ARG should follow the format: `# b \
           <description>` (line 4)",
        ],
    );
}

/// Some of them cannot be planned; what there is to say is said all the same.
#[test]
fn the_dockerfiles_of_the_corpus_are_checked() {
    let mut found = 0;
    let cases = cases("parse");
    for case in &cases {
        let text = std::fs::read_to_string(case.join("Dockerfile")).unwrap_or_default();
        if parse("Dockerfile", text.as_bytes()).is_ok() {
            found += look(&text, &Given::default()).0.len();
        }
    }
    // They are as people wrote them ten years ago.
    assert!(cases.is_empty() || found > 20, "{found} findings");
}

/// Lines as people write them, and as they do not.
fn line() -> impl Strategy<Value = String> {
    let keyword = "FROM|from|ARG|Env|COPY|ADD|run|CMD|LABEL|EXPOSE|WORKDIR|USER|VOLUME|HEALTHCHECK";
    let word =
        "[a-z$\\{\\}:/=\"'\\\\,_#<-]{0,10}|scratch|AS|--platform=x|\\$\\{X:-y\\}|key|1:2/TCP";
    prop_oneof![
        6 => (keyword, proptest::collection::vec(word, 0..4))
            .prop_map(|(keyword, words)| format!("{keyword} {}", words.join(" "))),
        1 => "# ?check=(skip|error|experimental)=[a-zA-Z,;=]{0,20}",
    ]
}

proptest! {
    #[test]
    fn no_dockerfile_makes_a_check_panic(lines in proptest::collection::vec(line(), 0..10)) {
        let text = format!("# check=experimental=all\nFROM scratch AS a\n{}\n", lines.join("\n"));
        if parse("Dockerfile", text.as_bytes()).is_ok() {
            let given = Given {
                ignore: &["a*"],
                ..Given::default()
            };
            drop(look(&text, &given));
        }
    }
}
