//! ENV and ARG: where they are seen, and what expands them.

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;

/// What the last RUN of a Dockerfile wrote to `/out`.
fn output_of(dockerfile: &str, options: &[&str]) -> String {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(dockerfile);
    home.build_text(&context, "/out", options)
}

#[test]
fn commands_see_env_and_arguments_but_the_image_keeps_only_env() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(
        &bases::busybox()
            .dockerfile("ENV KEPT=env\nARG GONE=arg\nRUN echo \"$KEPT $GONE\" > /out\n"),
    );
    assert_eq!(home.build_text(&context, "/out", &[]), "env arg\n");
    let environment = home.build_layout(&context, &[]).config()["config"]["Env"].to_string();
    assert!(
        environment.contains("KEPT=env") && !environment.contains("GONE"),
        "{environment}"
    );
}

#[test]
fn a_later_argument_beats_env_for_commands() {
    let text = bases::busybox().dockerfile("ENV X=env\nARG X=arg\nRUN echo $X > /out\n");
    assert_eq!(output_of(&text, &[]), "arg\n");
}

#[test]
fn a_global_argument_is_seen_only_where_it_is_declared_again() {
    let busybox = bases::busybox().reference();
    let text = format!(
        "ARG BASE={busybox}\nARG WORD=global\nFROM $BASE AS one\nRUN echo \"<$WORD>\" > /one\n\
         FROM one\nARG WORD\nRUN echo \"$(cat /one) <$WORD>\" > /out\n"
    );
    assert_eq!(output_of(&text, &[]), "<> <global>\n");
    assert_eq!(
        output_of(&text, &["--build-arg", "WORD=line"]),
        "<> <line>\n"
    );
}

#[test]
fn variables_expand_with_the_operators_of_a_shell() {
    let text = bases::busybox().dockerfile(
        "ENV A=aaa-b EMPTY=\n\
         ENV ONE=${A:-x} TWO=${NONE:-default} THREE=${EMPTY:+set} FOUR=${A:+set} FIVE=\\$A \\\n\
         SIX='$A' SEVEN=\"$A\" EIGHT=${A#a*a} NINE=${A%-*} TEN=${A/a/c}\n\
         RUN echo \"$ONE|$TWO|$THREE|$FOUR|$FIVE|$SIX|$SEVEN|$EIGHT|$NINE|$TEN\" > /out\n",
    );
    assert_eq!(
        output_of(&text, &[]),
        "aaa-b|default||set|$A|$A|aaa-b|a-b|aaa|caa-b\n"
    );
}

#[test]
fn platform_arguments_are_there_when_they_are_declared() {
    let text = bases::busybox().dockerfile(
        "RUN echo \"<$TARGETOS>\" > /undeclared\nARG TARGETOS TARGETARCH\n\
         RUN echo \"$(cat /undeclared) $TARGETOS/$TARGETARCH\" > /out\n",
    );
    let out = output_of(&text, &[]);
    assert!(out.starts_with("<> linux/"), "{out}");
}

#[test]
fn an_expanded_variable_stays_one_word_of_copy() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile("FROM scratch\nARG NAME=\"a file\"\nCOPY [\"${NAME}\", \"/there/${NAME}\"]\n")
        .file("a file", "x");
    home.build_tree(&context, &[])
        .at("there/a file")
        .has_content("x");
}
